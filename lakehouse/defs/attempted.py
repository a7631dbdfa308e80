"""What was tried already: cells that are due, but that nothing was written for since they were tried last.

Propagation carries news. What failed, or came to nothing, is repeated by who counts attempts and waits (the
sensor `failed_cells`), or by whoever asks.
"""

from collections.abc import Collection
from typing import Any

import dagster as dg

from lakehouse.model.result import NONE

_VERSION = "dagster/data_version"


def tried_in_vain(context: Any, keys: Collection[str]) -> set[str]:
    """Those of some partitions that failed, or came to nothing, though everything they are made from was
    written before, or in the very run that tried them: a step comes after those above it.

    Args:
        context: The context of a condition's evaluation.
        keys: Partitions of the condition's asset.
    """
    view, key = context.asset_graph_view, context.key
    parents = context.asset_graph.get(key).parent_keys
    found = set()
    for partition, (run_id, planned) in _tries(view.instance, key, keys).items():
        subset = view.get_subset_from_partition_keys(key, context.partitions_def, {partition})
        above = ((parent, view.compute_parent_subset(parent, subset)) for parent in parents)
        if not any(_was_written(view.instance, *one, run_id, planned) for one in above):
            found.add(partition)
    return found


def _tries(
    instance: dg.DagsterInstance, key: dg.AssetKey, keys: Collection[str]
) -> dict[str, tuple[str, int]]:
    """The runs that tried partitions in vain, each with the event that announced it. A run that ended before
    it came to them has not tried.
    """
    log, wanted = instance.event_log_storage, set(keys)
    unmade = log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
    found = {partition: unmade[partition] for partition in wanted & unmade.keys()}
    step, has_failed = key.to_python_identifier(), dict[str, bool]()
    for run_id in {run_id for run_id, _ in found.values()}:
        stats = instance.get_run_step_stats(run_id, [step])
        has_failed[run_id] = any(one.status is not None and one.status.value == "FAILURE" for one in stats)
    found = {partition: one for partition, one in found.items() if has_failed[one[0]]}
    versions = log.get_latest_tags_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, [_VERSION], list(wanted - unmade.keys())
    )
    for partition in (name for name, tags in versions.items() if tags.get(_VERSION) == NONE):
        announced = dg.EventRecordsFilter(
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=key, asset_partitions=[partition]
        )
        for record in instance.get_event_records(announced, limit=1):
            found[partition] = record.run_id, record.storage_id
    return found


def _was_written(
    instance: dg.DagsterInstance, key: dg.AssetKey, subset: Any, run_id: str, after: int
) -> bool:
    """Whether another run than one has written some of a subset since an event."""
    partitions = list(subset.expensively_compute_partition_keys()) if subset.is_partitioned else None
    if partitions == []:
        return False
    asked = dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions, after_storage_id=after)
    return any(
        record.run_id != run_id for record in instance.fetch_materializations(asked, limit=100).records
    )
