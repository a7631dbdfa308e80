"""How news travels by itself: a cell whose input was written is requested where the lake says that it is due.

Events say when to look, the ledger says whether there is anything to do: what a backfill, a command or an
earlier run has made already is requested by nobody. Nothing is lost, for a cell is stored before its event is
logged, and one that turns out not to be due becomes so only by another event.

The usual conditions lose updates. `eager` ignores all but the newest window; `since_last_handled` applies its
reset after its trigger, so a change that arrives between the tick that requests and the next one is dropped
for good.

Tables of one dataset lie both beside and below each other (witness → archive → api, and all three → silver).
So a cell also waits for what is requested in the same tick: news passes one table after another, each is made
once, and one that fails stops nobody's run but its own.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import dagster as dg
from dagster import AutomationCondition as When
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from lakehouse.defs.attempted import tried_in_vain
from lakehouse.defs.under_way import CARRIED_ON, PRIORITY_TAG, WHY_TAG
from lakehouse.model.errors import LakehouseError

Due = Callable[[Collection[str]], Collection[str]]
"""Of some partition keys, those that must be made."""


class WhenDue(dg.AutomationCondition):  # type: ignore[type-arg]
    """True of what there was news of since it was last requested, as long as it is due.

    A lake that cannot be asked keeps its news for the next tick, and the news of other tables travel on.

    Args:
        news: What makes it look.
        due: Which of the cells there is news of are due; asked only if there are some.
        says: What the condition is called.
    """

    def __init__(self, news: Any, due: Callable[[Any, Collection[str]], Collection[str]], says: str) -> None:
        self._news, self._due, self._says = news, due, says

    @property
    def name(self) -> str:
        return self._says

    @property
    def description(self) -> str:
        return self._says

    @property
    def children(self) -> Sequence[Any]:
        return [self._news]

    async def evaluate(self, context: Any) -> Any:  # type: ignore[override]
        view = context.asset_graph_view
        child = context.for_child_condition(
            self._news, child_indices=[0], candidate_subset=view.get_full_subset(key=context.key)
        )
        news, empty = await child.evaluate_async(), context.get_empty_subset()
        requested = context.get_previous_requested_subset(context.key) or empty
        waiting = (context.previous_true_subset or empty).compute_difference(requested)
        if context.cursor:  # the lake could not be asked about these
            waiting = waiting.compute_union(_read(context, context.cursor))
        found = waiting.compute_union(news.true_subset)
        unasked = None
        if not found.is_empty:
            keys = found.expensively_compute_partition_keys() if found.is_partitioned else ()
            try:
                due = self._due(context, keys)
            except LakehouseError as error:
                context.log.warning(f"{context.key.to_user_string()} waits for the next tick: {error}")
                found, unasked = empty, found
            else:
                found = (
                    found.compute_intersection_with_partition_keys(set(due))
                    if found.is_partitioned
                    else (found if due else empty)
                )
        return dg.AutomationResult(
            context, found, cursor=_written(unasked) if unasked else None, child_results=[news]
        )


def _written(subset: Any) -> str:
    """A subset as a cursor: its partition keys, one a line."""
    return "\n".join(sorted(subset.expensively_compute_partition_keys())) if subset.is_partitioned else "all"


def _read(context: Any, cursor: str) -> Any:
    """The subset that a cursor holds, without what is no partition any more."""
    everything = context.asset_graph_view.get_full_subset(key=context.key)
    if not everything.is_partitioned:
        return everything
    return everything.compute_intersection_with_partition_keys(set(cursor.split("\n")))


def _idle(condition: Any) -> Any:
    """A condition that waits for what is under way or about to be."""
    return (
        condition
        & ~When.any_deps_match(When.will_be_requested()).with_label("an input is requested in this tick")
        & ~When.any_deps_in_progress().with_label("an input is under way")
        & ~When.in_progress().with_label("it is under way itself")
    )


_WRITTEN = When.any_deps_match(When.newly_updated().with_label("written since the last tick")).with_label(
    "an input was written"
)


def when_due(due: Due, by_version: dg.AssetSelection | None = None) -> Any:
    """The condition of a table with cells: its inputs were written, and the ledger says that it is due.

    Args:
        due: Asks the ledger.
        by_version: Inputs that count as written only with another version: where one of them is written, all
            cells have to be looked at.
    """
    news = _WRITTEN
    if by_version is not None:
        changed = When.any_deps_match(When.data_version_changed().with_label("another version"))
        news = (
            _written_but(by_version) | changed.allow(by_version).with_label("market facts changed")
        ).with_label("an input was written")

    def ask(context: Any, keys: Collection[str]) -> Collection[str]:
        wanted = set(due(keys))
        return wanted - tried_in_vain(context, wanted)

    return _idle(WhenDue(news, ask, "the ledger says it is due")).with_label(
        "made from other inputs than today's"
    )


def _written_but(selection: dg.AssetSelection) -> Any:
    return When.any_deps_match(When.newly_updated().with_label("written since the last tick")).ignore(
        selection
    )


def _is_unchecked(context: Any, _: Collection[str]) -> Collection[str]:
    """Whether a check has not looked at what was written last."""
    instance, key = context.asset_graph_view.instance, context.key
    written = next(iter(instance.get_asset_records([key.asset_key])), None)
    newest = written.asset_entry.last_materialization_storage_id if written else None
    last = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    # what is planned has looked at nothing yet
    has_looked = last is not None and last.status != AssetCheckExecutionRecordStatus.PLANNED
    seen = last.evaluation.target_materialization_data if has_looked else None
    return ["it"] if newest is not None and (seen is None or seen.storage_id < newest) else []


# For what has no ledger of its own: same bytes, same version, nothing runs. The reset is `newly_requested`
# only where nothing changed in the same tick, so that such a change is kept.
_CHANGED = When.any_deps_match(When.data_version_changed().with_label("another version")).with_label(
    "an input changed"
)
ON_CHANGE = _idle(
    _CHANGED.since(
        (When.newly_requested().with_label("requested") & ~_CHANGED).with_label("and nothing since")
    )
).with_label("upstream content changed")

ON_UPDATE = _idle(WhenDue(_WRITTEN, _is_unchecked, "it has not looked at what was written last")).with_label(
    "not checked since it was written"
)

# For what also holds data against the clock: rows grow old, and files late, above all where nothing is
# written any more.
ON_UPDATE_AND_DAILY = (ON_UPDATE | When.cron_tick_passed("0 6 * * *").with_label("06:00 UTC")).with_label(
    "not checked since it was written, or daily"
)


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of all tables and checks; it runs unless switched off in the
    UI.
    """
    return dg.AutomationConditionSensorDefinition(
        "propagation",
        target=dg.AssetSelection.all(),  # and their checks
        description="Carries news downstream: requests the cells that the ledger says are due once something "
        "they are made from was written, and the checks of tables that were written.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,  # news passes three tables; an idle tick costs some 30 ms
        use_user_code_server=True,  # the conditions read the lake
        run_tags={WHY_TAG: "an input was written", PRIORITY_TAG: CARRIED_ON},
    )
