"""`ops/quality`: what is known of every market and month of silver, as an asset without rows whose metadata
is the report.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import dagster as dg

from lakehouse.defs.describe import asset_key
from lakehouse.model.errors import NoLakeError
from lakehouse.ops.quality import STATES, CellQuality, State, lake_quality, stretches, summary
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.registry import Registry

KEY = dg.AssetKey(["ops", "quality"])
_DAILY = "30 6 * * *"  # when the checks of the day are done
_MARKETS_SHOWN, _YEARS_SHOWN, _WORDS_SHOWN = 40, 3, 50
# of any font, and not told apart by colour alone
_MARK: dict[State | None, str] = {"good": "■", "pending": "…", "warn": "!", "error": "×", None: "·"}


def quality_asset(registry: Registry) -> dg.AssetsDefinition:
    """The asset `ops/quality` over the silver tables of a registry."""
    tables = [dataset.silver for dataset in registry.datasets]

    @dg.asset(
        key=KEY,
        deps=[asset_key(table) for table in tables],
        group_name="ops",
        description="What is known of every market and month of silver, a map for each table, and what is "
        "not good in words. `lakehouse quality` is the same in a terminal, `--html` as a page.",
        kinds={"quality"},
        tags={"zone": "ops"},
        config_schema={},
    )
    def quality(lake: dg.ResourceParam[LakeServices]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """Reads footers alone, no cell's rows."""
        reader, now = Lake(lake.objects.root, lake.registry), lake.clock()
        reports = {}
        for table in tables:
            try:
                reports[table.name] = lake_quality(reader, table, [], now)
            except NoLakeError:
                reports[table.name] = []
        return dg.MaterializeResult(metadata=quality_metadata(reports, now))

    return quality


def quality_metadata(reports: Mapping[str, Sequence[CellQuality]], now: datetime) -> dict[str, Any]:
    """Reports as metadata.

    Args:
        reports: By table, a record per market and month.
        now: The instant of the reports.
    """
    words = [
        {
            "state": one.state,
            "table": table,
            "what": str(one),
            "markets": ", ".join(one.markets[:_MARKETS_SHOWN]),
        }
        for table, report in reports.items()
        for one in stretches(report)
    ]
    words.sort(key=lambda one: STATES.index(one["state"]), reverse=True)  # the worst first, else as they are
    maps = [f"**{table}**\n\n{heat_map(report)}" for table, report in reports.items() if report]
    metadata: dict[str, Any] = {
        "map": dg.MetadataValue.md("\n\n".join(maps) or "Nothing is stored of silver yet."),
        "as_of": dg.MetadataValue.timestamp(now),
        **{str(state): count for state, count in summary(chain(*reports.values())).items()},
    }
    shown = [dg.TableRecord(one) for one in words[:_WORDS_SHOWN]]
    return metadata | ({"not_good": dg.MetadataValue.table(shown)} if shown else {})


def heat_map(report: Sequence[CellQuality]) -> str:
    """A report as a table of Markdown: a row per market, the worst first, and a mark per month."""
    by_market: dict[str, dict[str, State]] = {}
    for one in report:
        by_market.setdefault(one.cell.own_market.key, {})[one.cell.date] = one.state
    newest = max(int(one.cell.date[:4]) for one in report)
    oldest = max(min(int(one.cell.date[:4]) for one in report), newest - _YEARS_SHOWN + 1)
    years = range(oldest, newest + 1)
    worst = sorted(
        by_market.items(),
        key=lambda of: (-sum(state == "error" for state in of[1].values()), -_worst(of[1]), of[0]),
    )
    rows = [
        f"| {market} | " + " | ".join(_year(year, states) for year in years) + " |"
        for market, states in worst[:_MARKETS_SHOWN]
    ]
    left = len(worst) - len(rows)
    ends = ", ".join(f"`{_MARK[state]}` {state}" for state in STATES)
    more = f", and {left:,} further markets that are no worse" if left else ""
    head = ["| market | " + " | ".join(map(str, years)) + " |", "|---" * (len(years) + 1) + "|"]
    return "\n".join(
        [
            *head,
            *rows,
            "",
            f"January to December of each year: {ends}, `{_MARK[None]}` nothing is stored{more}.",
        ]
    )


def _worst(states: dict[str, State]) -> int:
    return max(STATES.index(state) for state in states.values())


def _year(year: int, states: dict[str, State]) -> str:
    marks = "".join(_MARK[states.get(f"{year}-{month:02}")] for month in range(1, 13))
    return f"`{marks}`"  # on one line


def quality_schedule() -> dg.ScheduleDefinition:
    """Makes the report anew each day; it runs unless switched off in the UI."""
    return dg.ScheduleDefinition(
        "quality_daily",
        job=dg.define_asset_job(
            "quality", dg.AssetSelection.assets(KEY), description="Makes the report on quality anew."
        ),
        cron_schedule=_DAILY,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Makes ops/quality anew each day: gaps grow old where nothing is written, too.",
    )
