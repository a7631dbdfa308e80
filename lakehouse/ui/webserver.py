"""Dagster's webserver with the guard around it: the only way in which this project starts one."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from lakehouse.ui.door import Door
from lakehouse.ui.guard import App, Guard, Receive, Send

_STATEMENT_MS, _RECYCLE_SECONDS, _OVERFLOW = 15_000, 3_600, 20  # as Dagster's own command has it
_POLL_MS = 2_000


def guarded(context: WorkspaceProcessContext, door: Door, metrics: Callable[[], bytes] | None = None) -> App:
    """Dagster's webserver as an ASGI app that lets in only whom the door does.

    Args:
        context: What it serves.
        door: Whom it lets in.
        metrics: The text of `/metrics`; without it there is none.
    """
    app: App = create_app_from_workspace_process_context(context, live_data_poll_rate=_POLL_MS)
    return Guard(with_metrics(app, metrics) if metrics else app, door)


def with_metrics(app: App, metrics: Callable[[], bytes]) -> App:
    """An ASGI app with a page `/metrics` beside it, made in a thread, for it may take seconds."""

    async def either(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/metrics" or scope["method"] != "GET":
            await app(scope, receive, send)
            return
        body = await asyncio.to_thread(metrics)
        headers = [
            (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return either


def serve(
    instance: DagsterInstance,
    workspace: Sequence[Path],
    door: Door,
    is_read_only: bool = False,
    metrics: Callable[[], bytes] | None = None,
) -> None:
    """Serve the UI until the process is ended.

    Args:
        instance: Dagster's instance.
        workspace: Workspace files, which name the code servers.
        door: Where it listens and whom it lets in.
        is_read_only: Whether it shows and changes nothing.
        metrics: The text of `/metrics`; without it there is none.
    """
    logging.getLogger("dagster-webserver").setLevel(logging.WARNING)
    instance.optimize_for_webserver(_STATEMENT_MS, _RECYCLE_SECONDS, _OVERFLOW)
    target = WorkspaceFileTarget(paths=[str(path) for path in workspace])
    with WorkspaceProcessContext(
        instance,
        version=__version__,
        read_only=is_read_only,
        workspace_load_target=target,
        code_server_log_level="warning",
    ) as context:
        # What a proxy says of who asks is not believed: anybody can say it.
        uvicorn.run(
            guarded(context, door, metrics),
            host=door.host.strip("[]"),
            port=door.port,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
        )
