"""The processes behind `lakehouse ui`: code server, webserver and daemon, of which none believes the folder
it was started in.

`dagster dev` starts the same three, but a webserver without a guard, and everything with what lies in the
working folder: its modules, `.env`, `pyproject.toml` and `workspace.yaml`.
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc

import lakehouse
from lakehouse.logs import LogFormat
from lakehouse.model.errors import UiServiceError
from lakehouse.ui.door import Door

# with the location's name goes what was switched on or off in the UI
MODULE, LOCATION = "lakehouse.definitions", "lakehouse"
_NOWHERE = "/"  # a folder in which only root can put something
_STARTS_IN, _ENDS_IN = 180.0, 20.0  # seconds
_LOOKS_EVERY = 0.5


def run_services(
    door: Door,
    environment: Mapping[str, str],
    log: Path | None = None,
    on_open: Callable[[], object] = lambda: None,
    log_format: LogFormat = "text",
) -> None:
    """Run the UI with its daemon until it is ended.

    Args:
        door: Where it listens and whom it lets in.
        environment: Of its processes. The token is for the webserver alone.
        log: Where what they say goes, and what their runs say, anew each time; to the terminal if left out.
        on_open: Called once when it answers.
        log_format: How its processes log.

    Raises:
        UiServiceError: The code server does not start, or one of the processes ends by itself.
    """
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    # Only its owner enters this folder: whoever reaches the socket within starts runs without asking the
    # webserver.
    with tempfile.TemporaryDirectory(prefix="lakehouse-ui-") as folder, contextlib.ExitStack() as running:
        address, workspace = Path(folder, "code.sock"), Path(folder, "workspace.yaml")
        # JSON is YAML
        workspace.write_text(
            json.dumps({"load_from": [{"grpc_server": {"socket": str(address), "location_name": LOCATION}}]}),
            encoding="utf-8",
        )
        said = running.enter_context(log.open("wb")) if log else None
        within = {**environment, "PYTHONSAFEPATH": "1", "TMPDIR": folder}
        beside = Path(lakehouse.__file__).parents[1]

        def start(*words: str, **more: str) -> subprocess.Popen[bytes]:
            # In a group of its own, so that Ctrl-C reaches it through us, once.
            child = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=within | more,
                cwd=_NOWHERE,
                process_group=0,
                stdout=said,
                stderr=said and subprocess.STDOUT,
            )
            running.callback(_end, child)
            return child

        of_dagster = ("lakehouse.ui.process", log_format)
        code = start(
            *of_dagster,
            *(
                "dagster",
                "code-server",
                "start",
                "--socket",
                str(address),
                "--module-name",
                MODULE,
                "--location-name",
                LOCATION,
            ),
            *("--working-directory", str(beside), "--log-level", "warning"),
        )
        _await(code, address, asked, log)
        daemon = start(*of_dagster, "dagster._daemon", "run", "--workspace", str(workspace))
        web = start(
            "lakehouse",
            "webserver",
            "--workspace",
            str(workspace),
            *_words(door),
            **({"LAKEHOUSE_UI_TOKEN": door.token} if door.token else {}),
        )
        services = {"the code server": code, "the daemon": daemon, "the webserver": web}
        is_open = False
        while not asked.wait(_LOOKS_EVERY):
            for name, child in services.items():
                if (ended := child.poll()) is not None:
                    raise UiServiceError(name, ended, _STARTS_IN, str(log) if log else None)
            if not is_open and (is_open := _answers(door)):
                on_open()


def _answers(door: Door) -> bool:
    with contextlib.suppress(OSError):
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(door.host.strip("[]"), door.host.strip("[]"))  # noqa: S104
        socket.create_connection((host, door.port), _LOOKS_EVERY).close()
        return True
    return False


def _words(door: Door) -> list[str]:
    """A door as options of `lakehouse webserver`, without its token: anybody can read a command line."""
    names = [word for name in door.names for word in ("--name", name)]
    return [
        "--host",
        door.host,
        "--port",
        str(door.port),
        *names,
        *(["--behind-proxy"] if door.is_proxied else []),
    ]


def _await(code: subprocess.Popen[bytes], address: Path, asked: threading.Event, log: Path | None) -> None:
    """Wait until the code server answers, or everything is to end."""
    deadline = time.monotonic() + _STARTS_IN
    with grpc.insecure_channel(f"unix:{address}") as channel:
        ready = grpc.channel_ready_future(channel)
        while not asked.is_set():
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=_LOOKS_EVERY)
                return
            if code.poll() is not None or time.monotonic() > deadline:
                raise UiServiceError("the code server", code.poll(), _STARTS_IN, str(log) if log else None)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_ENDS_IN)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
