"""Runs put into an instance's queue: whatever launches runs there takes them from it, on this machine or
many.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import dagster as dg
from dagster._core.execution.api import create_execution_plan
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.snap import snapshot_from_execution_plan
from dagster._core.utils import make_new_run_id

from lakehouse.defs.describe import asset_key
from lakehouse.model.errors import NoQueueError
from lakehouse.model.table import Table

_DAEMON = "QUEUED_RUN_COORDINATOR"


def submit(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    tables: Collection[type[Table]],
    tags: Mapping[str, str],
    origin: Mapping[str, Any],
) -> str:
    """Queue a run of some tables, without their checks: these are asked for by news, over all cells.

    Args:
        instance: The instance.
        job: The job of all assets.
        tables: What the run makes; all of one kind of partitions.
        tags: Of the run, its range among them.
        origin: Where its code is, as `create_run` takes it.

    Returns:
        The run's id.

    Raises:
        NoQueueError: The instance has no queue.
    """
    if not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        raise NoQueueError(type(instance.run_coordinator).__name__)
    keys, checks = frozenset(map(asset_key, tables)), frozenset[dg.AssetCheckKey]()
    subset = job.get_subset(asset_selection=keys, asset_check_selection=checks)
    reference = instance.get_ref() if instance.is_persistent else None
    plan = create_execution_plan(subset, tags=tags, instance_ref=reference)
    run = instance.create_run(
        job_name=subset.name,
        run_id=make_new_run_id(),
        run_config={},
        status=None,
        tags=tags,
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=plan.step_keys_to_execute,
        execution_plan_snapshot=snapshot_from_execution_plan(plan, subset.get_job_snapshot_id()),
        job_snapshot=subset.get_job_snapshot(),
        parent_job_snapshot=subset.get_parent_job_snapshot(),
        asset_selection=keys,
        asset_check_selection=checks,
        resolved_op_selection=None,
        op_selection=None,
        asset_graph=subset.asset_layer.asset_graph,
        **origin,
    )
    # a queue asks no code location: who takes a run from it does
    instance.submit_run(run.run_id, cast("Any", None))
    return run.run_id


def is_taken_from(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon takes runs from the queue now."""
    return instance.get_daemon_statuses([_DAEMON])[_DAEMON].healthy or False
