"""`ops/quality`: what is known of every market and month of silver/candle, as an asset without rows whose
metadata is the report.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from lakehouse.datasets.candle import Candle
from lakehouse.defs.describe import asset_key
from lakehouse.model.errors import NoLakeError
from lakehouse.ops.quality import STATES, CellQuality, State, lake_quality, stretches, summary
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake

KEY = dg.AssetKey(["ops", "quality"])
_DAILY = "30 6 * * *"  # when the checks of the day are done
_MARKETS_SHOWN, _YEARS_SHOWN, _WORDS_SHOWN = 40, 3, 50
# of any font, and not told apart by colour alone
_MARK: dict[State | None, str] = {"good": "■", "pending": "…", "warn": "!", "error": "×", None: "·"}


@dg.asset(
    key=KEY,
    deps=[asset_key(Candle)],
    group_name="ops",
    description="What is known of every market and month of silver/candle: a map of them, and what is not "
    "good in words. `lakehouse quality` is the same in a terminal, `--html` as a page.",
    kinds={"quality"},
    tags={"zone": "ops"},
    config_schema={},
)
def quality(lake: dg.ResourceParam[LakeServices]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Reads footers alone, no cell's rows."""
    try:
        report = lake_quality(Lake(lake.objects.root, lake.registry), Candle, [], lake.clock())
    except NoLakeError:
        report = []
    return dg.MaterializeResult(metadata=quality_metadata(report, lake.clock()))


def quality_metadata(report: Sequence[CellQuality], now: datetime) -> dict[str, Any]:
    """A report as metadata.

    Args:
        report: A record per market and month.
        now: The instant of the report.
    """
    found = stretches(report)
    words = [
        dg.TableRecord(
            {"state": one.state, "what": str(one), "markets": ", ".join(one.markets[:_MARKETS_SHOWN])}
        )
        for one in found[:_WORDS_SHOWN]
    ]
    metadata: dict[str, Any] = {
        "map": dg.MetadataValue.md(heat_map(report)),
        "as_of": dg.MetadataValue.timestamp(now),
        **{str(state): count for state, count in summary(report).items()},
    }
    return metadata | ({"not_good": dg.MetadataValue.table(words)} if words else {})


def heat_map(report: Sequence[CellQuality]) -> str:
    """A report as a table of Markdown: a row per market, the worst first, and a mark per month."""
    if not report:
        return "Nothing is stored of silver/candle yet."
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
