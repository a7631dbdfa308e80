"""The Dagster instance that the UI, the sensors and every command share."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from dagster import DagsterInstance

from lakehouse.settings import Settings

CONFIG = "dagster.yaml"


def prepare_home(settings: Settings) -> Path:
    """Make Dagster's home, with a link to the instance file of the working folder or the checkout."""
    home = settings.dagster_home.expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True)
    link = home / CONFIG
    if not link.exists():
        link.unlink(missing_ok=True)  # a dangling link
        source = next((path for path in (Path.cwd() / CONFIG, Path(__file__).parents[2] / CONFIG) if path.exists()), None)
        link.symlink_to(source) if source else link.touch()
    return home


def run_ui(settings: Settings, port: int) -> int:
    """Run Dagster's webserver and daemon until they are ended; returns their exit code."""
    home = prepare_home(settings)
    command = [sys.executable, "-m", "dagster", "dev", "--module-name", "lakehouse.definitions", "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(command, env={**os.environ, **settings.environment(), "DAGSTER_HOME": str(home)})
    forward = {signal.SIGTERM, signal.SIGINT}
    for number in forward:
        signal.signal(number, lambda received, _: child.send_signal(received))
    return child.wait()


def open_instance(settings: Settings) -> DagsterInstance:
    """Open the instance; its log goes to Dagster's event log, not to the terminal."""
    for name in ("dagster", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return DagsterInstance.from_config(str(prepare_home(settings)))
