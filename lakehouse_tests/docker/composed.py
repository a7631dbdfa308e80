"""`infra/docker/compose.yaml`, read as `docker compose` reads it: with the values of variables, and with the
files of variables that a service names.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from lakehouse_tests.clone import ROOT

FOLDER = ROOT / "infra" / "docker"
COMPOSE = FOLDER / "compose.yaml"
SECRETS = {
    "DAGSTER_POSTGRES_PASSWORD": "dagster-of-the-tests",
    "LAKEHOUSE_UI_TOKEN": "0123456789abcdef-operator",
    "LAKEHOUSE_VIEWER_TOKEN": "0123456789abcdef-viewer",
}
"""What `.env` has to state, as the tests state it."""
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:-|:\?)(?P<what>[^}]*))?\}")


class VariableMissingError(ValueError):
    """A variable that has no default and is not set."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A text with the values of variables: `${NAME}`, `${NAME:-default}`, `${NAME:?why}`; `$$` is a `$`.

    Raises:
        VariableMissingError: One of the last kind is empty.
    """

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if stated := variables.get(found["name"]):
            return stated
        if found["how"] == ":?":
            raise VariableMissingError(f"{found['name']}: {found['what']}")
        return found["what"] or ""

    return _VARIABLE.sub(value, text)


def composed(variables: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    """The whole file, with variables as `.env` states them."""
    found: dict[str, Any] = _filled_in(yaml.safe_load(COMPOSE.read_text("utf-8")), variables)
    return found


def _filled_in(part: Any, variables: Mapping[str, str]) -> Any:
    """A part of the file with the values of variables, which are texts whatever they look like."""
    if isinstance(part, dict):
        return {name: _filled_in(one, variables) for name, one in part.items()}
    if isinstance(part, list):
        return [_filled_in(one, variables) for one in part]
    return interpolated(part, variables) if isinstance(part, str) else part


def services(variables: Mapping[str, str] = SECRETS) -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = composed(variables)["services"]
    return found


def environment(service: Mapping[str, Any], folder: Path = FOLDER) -> dict[str, str]:
    """The variables of a service: those of its files, and over them its own."""
    files = [dotenv_values(folder / name) for name in service.get("env_file", ())]
    found = {name: value or "" for file in files for name, value in file.items()}
    return found | service.get("environment", {})
