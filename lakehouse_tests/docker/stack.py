"""The services of `infra/docker/compose.yaml` on this machine, by the commands, variables and health checks
that stand there: as processes of this interpreter, or as containers of the image.

What differs from `docker compose` is all here: services share this machine's addresses, so names of hosts are
its own and ports are free ones; Postgres is the machine's own server. Trino has no command: its server is
started, with the same files, by the tests of Trino.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lakehouse.cli.local_trino import free_ports
from lakehouse_tests.clone import ROOT
from lakehouse_tests.docker.composed import FOLDER, environment, services

PORTS = ("3000", "3001", "4000", "5000")
FILES = ("workspace.yaml", "bucket.py")
ONCE = ("bucket", "migrate")
STAYING = ("code", "daemon", "webserver", "viewer")
_PATIENCE = 120.0  # seconds


class Runner(Protocol):
    """How a service is started."""

    def start(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> None:
        """Start it; it stays."""

    def run(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
        """Start it and wait for its end: exit code, and what it said."""

    def ask(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> int:
        """Run its health check beside it: the exit code."""

    def said(self, name: str) -> str:
        """What it said so far."""

    def has_ended(self, name: str) -> bool:
        """Whether it ended by itself."""

    def stop(self, name: str) -> None:
        """End it."""


class Processes:
    """Services as processes of this interpreter, each with a Dagster home of its own.

    Args:
        folder: For logs and homes.
        files: The files that compose mounts or the image has, by this machine's ports.
    """

    def __init__(self, folder: Path, files: Path) -> None:
        self._folder, self._files = folder, files
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as sink:
            self._running[name] = subprocess.Popen(
                self._words(words),
                env=self._env(name, env),
                cwd=self._files,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def run(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
        ended = self._ended(name, words, env)
        return ended.returncode, ended.stdout + ended.stderr

    def ask(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> int:
        return self._ended(name, words, env).returncode

    def said(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8", "replace")

    def has_ended(self, name: str) -> bool:
        return self._running[name].poll() is not None

    def stop(self, name: str) -> None:
        process = self._running.pop(name)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)  # a code server waits a minute for who asks it

    def _ended(
        self, name: str, words: Sequence[str], env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._words(words),
            env=self._env(name, env),
            cwd=self._files,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )

    def _words(self, words: Sequence[str]) -> list[str]:
        return [word.replace("/srv/lakehouse/", f"{self._files}/") for word in words]

    def _env(self, name: str, env: Mapping[str, str]) -> dict[str, str]:
        home = self._folder / f"home of {name}"
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return os.environ | {"PATH": beside, "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(home)} | env


class Stack:
    """The services that compose starts by a command, beside Postgres.

    Args:
        runner: How they are started.
        env: Variables over those of compose.
        ports: Those of compose, and this machine's in their place.
    """

    def __init__(self, runner: Runner, env: Mapping[str, str], ports: Mapping[str, str]) -> None:
        self.runner, self.ports = runner, ports
        self._env, self._services = env, services()

    def start(self, name: str) -> None:
        """Start a service that stays."""
        self.runner.start(name, self._command(name), self.variables(name))

    def run(self, name: str) -> tuple[int, str]:
        """Run a service that ends."""
        return self.runner.run(name, self._command(name), self.variables(name))

    def ask(self, name: str) -> int:
        """Run a service's health check; 0 if it is healthy."""
        how, *words = self._services[name]["healthcheck"]["test"]
        assert how == "CMD"
        return self.runner.ask(name, here(words, self.ports), self.variables(name))

    def await_health(self, *names: str) -> None:
        """Wait until services are healthy, by their own checks."""
        deadline = time.monotonic() + _PATIENCE
        for name in names:
            while self.ask(name):
                is_hopeless = time.monotonic() > deadline or self.runner.has_ended(name)
                assert not is_hopeless, f"{name} is not healthy:\n{self.runner.said(name)[-3000:]}"
                time.sleep(1)

    def stop_all(self) -> None:
        """End what was started, the last first."""
        for name in reversed(["aws", *STAYING]):
            with contextlib.suppress(KeyError):
                self.runner.stop(name)

    def _command(self, name: str) -> list[str]:
        one = self._services[name]
        return here([*one.get("entrypoint", []), *one["command"]], self.ports)

    def variables(self, name: str) -> dict[str, str]:
        """The variables of a service, with this machine's addresses."""
        found = environment(self._services[name])
        stated = ["127.0.0.1" if value == "code" else value for value in found.values()]
        return dict(zip(found, here(stated, self.ports), strict=True)) | self._env


def here(words: Sequence[str], ports: Mapping[str, str]) -> list[str]:
    """Words of compose, with this machine's addresses."""
    found = []
    for word in words:
        host = "127.0.0.1" if word == "0.0.0.0" else word.replace("//aws:", "//127.0.0.1:")
        found.append(re.sub(r"(?<![\d.])(\d{4})(?!\d)", lambda port: ports.get(port[1], port[1]), host))
    return found


def files_of(place: Path, ports: Mapping[str, str]) -> Path:
    """The files of the image and of compose with this machine's ports, in a folder."""
    place.mkdir()
    for name in FILES:
        text = (FOLDER / name).read_text("utf-8")
        for port, free in ports.items():
            text = re.sub(rf"port: {port}\b", f"port: {free}", text)
        (place / name).write_text(text, encoding="utf-8")
    return place


def ports_of_services() -> dict[str, str]:
    """A free port for each of compose's."""
    return dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
