"""Dagster's webserver with the guard around it: the only way in which this project starts one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from lakehouse.ui.door import Door
from lakehouse.ui.guard import App, Guard

_STATEMENT_MS, _RECYCLE_SECONDS, _OVERFLOW = 15_000, 3_600, 20  # as Dagster's own command has it
_POLL_MS = 2_000


def guarded(context: WorkspaceProcessContext, door: Door) -> App:
    """Dagster's webserver as an ASGI app that lets in only whom the door does."""
    return Guard(create_app_from_workspace_process_context(context, live_data_poll_rate=_POLL_MS), door)


def serve(
    instance: DagsterInstance, workspace: Sequence[Path], door: Door, is_read_only: bool = False
) -> None:
    """Serve the UI until the process is ended.

    Args:
        instance: Dagster's instance.
        workspace: Workspace files, which name the code servers.
        door: Where it listens and whom it lets in.
        is_read_only: Whether it shows and changes nothing.
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
            guarded(context, door),
            host=door.host.strip("[]"),
            port=door.port,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
        )
