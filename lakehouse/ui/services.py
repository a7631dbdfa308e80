"""The processes behind `lakehouse ui`: code server, webserver and daemon, of which none believes the folder
it was started in.

`dagster dev` starts the same three, but a webserver without a guard, and everything with what lies in the
working folder: its modules, `.env`, `pyproject.toml` and `workspace.yaml`.
"""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import grpc

import lakehouse
from lakehouse.model.errors import UiServiceError
from lakehouse.ui.door import Door

# with the location's name goes what was switched on or off in the UI
MODULE, LOCATION = "lakehouse.definitions", "lakehouse"
_NOWHERE = "/"  # a folder in which only root can put something
_STARTS_IN, _ENDS_IN = 180.0, 20.0  # seconds
_LOOKS_EVERY = 0.5


def run_services(door: Door, environment: Mapping[str, str]) -> int:
    """Run the UI with its daemon until it is ended, or one of its processes ends by itself; returns the exit
    code.

    Args:
        door: Where it listens and whom it lets in.
        environment: Of its processes. The token is for the webserver alone.

    Raises:
        UiServiceError: The code server does not start.
    """
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    # Only its owner enters this folder: whoever reaches the socket within starts runs without asking the
    # webserver.
    with tempfile.TemporaryDirectory(prefix="lakehouse-ui-") as folder, contextlib.ExitStack() as running:
        socket, workspace = Path(folder, "code.sock"), Path(folder, "workspace.yaml")
        # JSON is YAML
        workspace.write_text(
            json.dumps({"load_from": [{"grpc_server": {"socket": str(socket), "location_name": LOCATION}}]}),
            encoding="utf-8",
        )
        within = {**environment, "PYTHONSAFEPATH": "1", "TMPDIR": folder}
        beside = Path(lakehouse.__file__).parents[1]

        def start(*words: str, **more: str) -> subprocess.Popen[bytes]:
            # In a group of its own, so that Ctrl-C reaches it through us, once.
            child = subprocess.Popen(
                [sys.executable, "-m", *words], env=within | more, cwd=_NOWHERE, process_group=0
            )
            running.callback(_end, child)
            return child

        code = start(
            *(
                "dagster",
                "code-server",
                "start",
                "--socket",
                str(socket),
                "--module-name",
                MODULE,
                "--location-name",
                LOCATION,
            ),
            *("--working-directory", str(beside), "--log-level", "warning"),
        )
        _await(code, socket, asked)
        daemon = start("dagster._daemon", "run", "--workspace", str(workspace))
        web = start(
            "lakehouse",
            "webserver",
            "--workspace",
            str(workspace),
            *_words(door),
            **({"LAKEHOUSE_UI_TOKEN": door.token} if door.token else {}),
        )
        while not asked.wait(_LOOKS_EVERY):
            if any(child.poll() is not None for child in (code, daemon, web)):
                return 1
    return 0


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


def _await(code: subprocess.Popen[bytes], socket: Path, asked: threading.Event) -> None:
    """Wait until the code server answers, or everything is to end."""
    deadline = time.monotonic() + _STARTS_IN
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ready = grpc.channel_ready_future(channel)
        while not asked.is_set():
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=_LOOKS_EVERY)
                return
            if code.poll() is not None or time.monotonic() > deadline:
                raise UiServiceError("the code server", code.poll(), _STARTS_IN)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_ENDS_IN)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
