"""The Dagster instance that the UI, the sensors and every command share."""

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from dagster import DagsterInstance
from filelock import FileLock

from lakehouse.model.errors import DagsterHomeError, PortError
from lakehouse.settings import Settings

CONFIG, WORKSPACE = "dagster.yaml", "workspace.yaml"
# Said of `dagster dev` at every start; the version is pinned.
_HUSHED = "ignore:Function `dev_command` is superseded"


def prepare_home(settings: Settings) -> Path:
    """Make Dagster's home, with a link to the instance file of the working folder or the checkout."""
    home = settings.dagster_home.expanduser().absolute()
    home.mkdir(mode=0o750, parents=True, exist_ok=True)  # events and settings say addresses
    link = home / CONFIG
    if not link.exists():
        link.unlink(missing_ok=True)  # a dangling link
        source = _project_file(CONFIG)
        link.symlink_to(source) if source else link.touch()
    return home


def _project_file(name: str) -> Path | None:
    """A file of the working folder or, failing that, of the checkout."""
    return next((path for path in (Path.cwd() / name, Path(__file__).parents[2] / name) if path.exists()), None)


def check_port(port: int) -> None:
    """Refuse a port that cannot be opened: Dagster's webserver would end on it, and its daemon run on without a UI.

    Raises:
        PortError: It is taken, or not this user's to open.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the webserver does: connections that have just ended are in nobody's way
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortError(port, error.strerror or str(error)) from error


def run_ui(settings: Settings, port: int) -> int:
    """Run Dagster's webserver and daemon until they are ended; returns their exit code."""
    open_instance(settings).dispose()  # makes the databases of a new home, before webserver and daemon do at once
    home = prepare_home(settings)
    workspace = _project_file(WORKSPACE)  # names the code location, and with the name goes what was switched on or off in the UI
    code = ["--workspace", str(workspace)] if workspace else ["--module-name", "lakehouse.definitions"]
    command = [sys.executable, "-m", "dagster", "dev", *code, "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(command, env={**os.environ, **settings.environment(), "DAGSTER_HOME": str(home), "PYTHONWARNINGS": _HUSHED})
    forward = {signal.SIGTERM, signal.SIGINT}
    for number in forward:
        signal.signal(number, lambda received, _: child.send_signal(received))
    return child.wait()


def open_instance(settings: Settings) -> DagsterInstance:
    """Open the instance; its log goes to Dagster's event log, not to the terminal.

    One process after another: Dagster makes the databases of a new home without looking whether somebody else does.

    Raises:
        DagsterHomeError: Its home cannot be written.
    """
    for name in ("dagster", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    place = settings.dagster_home.expanduser().absolute()
    try:
        place.mkdir(mode=0o750, parents=True, exist_ok=True)
        with FileLock(place / ".lock"):
            home = str(prepare_home(settings))
            os.environ["DAGSTER_HOME"] = home  # the instance file names it
            return DagsterInstance.from_config(home)
    except OSError as error:
        raise DagsterHomeError(str(place), error.strerror or str(error)) from error
