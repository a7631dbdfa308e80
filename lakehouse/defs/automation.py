"""How news travels by itself: a cell whose upstream data changed is requested, and nothing else is.

The usual conditions lose updates. `eager` ignores all but the newest window; `since_last_handled` applies its
reset after its trigger, so a change that arrives between the tick that requests and the next one is dropped
for good. Here the reset is `newly_requested` only where nothing changed in the same tick, so such a change is
kept and requested next.

Tables of one dataset lie both beside and below each other (witness → archive → api, and all three → silver).
So a cell also waits for what is requested in the same tick: news passes one table after another, each is made
once, and one that fails stops nobody's run but its own.
"""

from typing import Any

import dagster as dg
from dagster import AutomationCondition as When


def _lossless(changed: Any) -> Any:
    news = changed.since(When.newly_requested() & ~changed)
    return (
        news
        & ~When.any_deps_match(When.will_be_requested())
        & ~When.any_deps_in_progress()
        & ~When.in_progress()
    )


# Same bytes, same version, nothing runs: the version is what counts, not that something was written.
ON_CHANGE = _lossless(When.any_deps_match(When.data_version_changed())).with_label("upstream content changed")
# For what reads footers: their news (gaps, evidence) may come without a new version.
ON_UPDATE = _lossless(When.any_deps_match(When.newly_updated())).with_label("upstream was written")

# For what also holds data against the clock: rows grow old, and files late, above all where nothing is
# written any more.
ON_UPDATE_AND_DAILY = (ON_UPDATE | When.cron_tick_passed("0 6 * * *")).with_label(
    "upstream was written, or daily"
)


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of all tables and checks; it runs unless switched off in the
    UI.
    """
    return dg.AutomationConditionSensorDefinition(
        "propagation",
        target=dg.AssetSelection.all() | dg.AssetSelection.all_asset_checks(),
        description="Carries news downstream: requests the cells whose upstream data changed, and the checks "
        "of tables that were written.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,  # news passes three tables; an idle tick costs some 20 ms
    )
