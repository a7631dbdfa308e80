"""What runs and backfills are going to write, and runs of commands whose process is gone."""

import contextlib
import os
import socket
from collections.abc import Iterable, Sequence

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, DagsterRunStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from lakehouse.defs.partitions import MARKETS, cells_between
from lakehouse.model.cell import Cell

PROCESS_TAG = "lakehouse/process"
"""Of a run of a command: its machine and process, so that one that was killed is known to be over."""

WHY_TAG = "lakehouse/why"
"""Of any run that was not started by hand: why it is."""

PRIORITY_TAG = "dagster/priority"
REFRESHED, CARRIED_ON = "10", "5"
"""Priorities in the queue: new candles come first, then what follows from any news, then backfills."""

Cells = dict[str, set[Cell]]
"""Cells by table."""


def under_way(context: dg.SensorEvaluationContext) -> Cells:
    """The cells that queued and running runs, and backfills that have not started all of theirs, are going to
    write.
    """
    instance, found = context.instance, Cells()
    order = instance.get_dynamic_partitions(str(MARKETS.name))
    for cells in running(instance, queued=True).values():
        for table, theirs in cells.items():
            found.setdefault(table, set()).update(theirs)
    assert context.repository_def is not None, "the daemon has one"
    for backfill in instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        if backfill.is_asset_backfill:
            data = backfill.get_asset_backfill_data(context.repository_def.asset_graph)
            for part in (
                data.target_subset - (data.materialized_subset | data.failed_and_downstream_subset)
            ).iterate_asset_partitions():
                _note(
                    found,
                    [part.asset_key],
                    cells_between(part.partition_key, part.partition_key, order)
                    if part.partition_key
                    else [],
                )
    return found


def running(instance: dg.DagsterInstance, queued: bool = False) -> dict[str, Cells]:
    """The cells that runs in progress are going to write, by run.

    Args:
        instance: The instance.
        queued: Whether runs that wait in the queue count as well.
    """
    order = instance.get_dynamic_partitions(str(MARKETS.name))
    statuses = [*([DagsterRunStatus.QUEUED] if queued else []), *IN_PROGRESS_RUN_STATUSES]
    return {run.run_id: cells_of_run(instance, run, order) for run in end_of_killed(instance, statuses)}


def this_process() -> str:
    """The value of `PROCESS_TAG` for runs of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def end_of_killed(instance: dg.DagsterInstance, statuses: list[DagsterRunStatus]) -> list[dg.DagsterRun]:
    """The runs in some state, without those of commands whose process on this machine is gone: these are
    marked as failed, for nobody else would, and others wait for them.
    """
    alive = []
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        if _is_gone(run.tags.get(PROCESS_TAG, "")):
            instance.report_run_failed(run, "The command that ran this was killed. What it stored stands.")
        else:
            alive.append(run)
    return alive


def _is_gone(process: str) -> bool:
    host, _, number = process.rpartition(":")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    with contextlib.suppress(PermissionError):  # somebody else's, so it is there
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
    return False


def cells_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, order: Sequence[str]) -> Cells:
    """The cells that a run is going to write; none of a run of assets without partitions.

    Args:
        instance: The instance.
        run: The run.
        order: Market keys in insertion order.
    """
    found = Cells()
    first, last = (
        run.tags.get(ASSET_PARTITION_RANGE_START_TAG),
        run.tags.get(ASSET_PARTITION_RANGE_END_TAG),
    )
    if (key := run.tags.get(PARTITION_NAME_TAG)) and not first:
        first = last = key
    if first and last:
        _note(found, run.asset_selection or _steps(instance, run), cells_between(first, last, order))
    return found


def _steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.AssetKey]:
    """The assets of a run of a job, which says no selection; a step is called as its asset is."""
    plan = run.execution_plan_snapshot_id and instance.get_execution_plan_snapshot(
        run.execution_plan_snapshot_id
    )
    steps = plan.step_keys_to_execute if plan else ()
    return [dg.AssetKey(step.split("__")) for step in steps if "__" in step]  # the others are checks


def _note(found: Cells, assets: Iterable[dg.AssetKey], cells: Iterable[Cell]) -> None:
    cells = list(cells)
    for key in assets:
        found.setdefault("/".join(key.path), set()).update(cells)
