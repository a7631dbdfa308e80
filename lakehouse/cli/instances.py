"""`lakehouse instance`: the files of a Dagster instance, out of the one template that all of them share."""

import json
from pathlib import Path
from typing import Any

import yaml

import lakehouse
from lakehouse.model.errors import DagsterHomeError, UnknownInstanceError

TEMPLATE = Path(lakehouse.__file__).with_name("instances.yaml")
LOCATION, PORT = "lakehouse", 4000
_ORIGIN = "# Written by `lakehouse instance {}` out of lakehouse/instances.yaml: change that.\n"


def instance_settings(name: str) -> dict[str, Any]:
    """What `dagster.yaml` of an instance says.

    Args:
        name: The part of the template that makes the difference.

    Raises:
        UnknownInstanceError: There is no such part.
    """
    template = yaml.safe_load(TEMPLATE.read_text("utf-8"))
    every = template.pop("every")
    if name not in template:
        raise UnknownInstanceError(name, template)
    # by JSON, so that what is named twice is written twice, not as a reference
    settings: dict[str, Any] = json.loads(json.dumps({**template[name], **every}))
    return settings


def workspace() -> dict[str, Any]:
    """What `workspace.yaml` of an instance says whose code location is a server of its own."""
    server = {"host": {"env": "DAGSTER_CODE_HOST"}, "port": PORT, "location_name": LOCATION}
    return {"load_from": [{"grpc_server": server}]}


def write_instance(name: str, home: Path) -> list[Path]:
    """Write the files of an instance into its home, in place of those that are there.

    Args:
        name: As for `instance_settings`.
        home: Dagster's home.

    Returns:
        What was written.

    Raises:
        UnknownInstanceError: There is no such instance.
        DagsterHomeError: The home cannot be written.
    """
    files = {"dagster.yaml": instance_settings(name)}
    if name != "machine":  # there `lakehouse ui` starts the code location, and names it
        files["workspace.yaml"] = workspace()
    try:
        home.mkdir(mode=0o750, parents=True, exist_ok=True)
        for file, said in files.items():
            # a link to the package's own file would be written through
            (home / file).unlink(missing_ok=True)
            text = yaml.safe_dump(said, sort_keys=False, width=110)
            (home / file).write_text(_ORIGIN.format(name) + text, encoding="utf-8")
    except OSError as error:
        raise DagsterHomeError(str(home), error.strerror or str(error)) from error
    return [home / file for file in files]
