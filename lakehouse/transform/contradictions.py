"""What contradicts the rows that are served."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from lakehouse.model.result import Contradiction
from lakehouse.model.timerange import day_range
from lakehouse.transform.resample import PRICES
from lakehouse.transform.witness import HOUR

_FEW_HOURS = 3  # with other prices: too few to speak of another market's


def find_contradictions(
    judged: pl.DataFrame | None,
    asked_until: datetime,
    wholesale: Sequence[str],
    columns: Sequence[str],
    length: timedelta = HOUR,
) -> tuple[Contradiction, ...]:
    """Hours of a witness that differ from the rows in them, and days on which an API states other candles
    wholesale.

    Args:
        judged: The served rows held against the witness, see `judge`; None without one.
        asked_until: Later hours are left out: their rows were asked of nobody yet.
        wholesale: Days on which the API differs from what is served in most candles.
        columns: What it differs in.
        length: Length of a witness candle.

    Returns:
        Neighbours that say the same of the same source made one, in order of time within each source.
    """
    found: list[Contradiction] = []
    if judged is not None:
        wrong = judged.filter(~pl.col("agrees"), pl.col("open_time") + length <= asked_until)
        alien = _alien_days(judged) if wrong.height else frozenset[str]()
        found = [
            Contradiction(start, start + length, "witness", tuple(differs), f"{start:%Y-%m-%d}" in alien)
            for start, differs in wrong.select("open_time", "differs").iter_rows()
        ]
    found += [
        Contradiction(day.start, day.end, "api", tuple(columns), True) for day in map(day_range, wholesale)
    ]
    return tuple(_joined(found))


def _alien_days(judged: pl.DataFrame) -> frozenset[str]:
    """Days on which most hours differ in every price."""
    is_alien = ~pl.col("agrees") & (
        pl.col("differs").list.set_intersection(list(PRICES)).list.len() == len(PRICES)
    )
    day = pl.col("open_time").dt.strftime("%Y-%m-%d").alias("day")
    per_day = (
        judged.filter(pl.col("agrees").is_not_null())
        .group_by(day)
        .agg(pl.len().alias("hours"), is_alien.sum().alias("alien"))
    )
    return frozenset(
        per_day.filter((pl.col("alien") >= _FEW_HOURS) & (2 * pl.col("alien") > pl.col("hours")))["day"]
    )


def _joined(found: Iterable[Contradiction]) -> list[Contradiction]:
    runs: list[Contradiction] = []
    for one in found:
        last = runs[-1] if runs else None
        if last and (last.end, last.source, last.is_wholesale) == (one.start, one.source, one.is_wholesale):
            runs[-1] = replace(last, end=one.end, columns=tuple(dict.fromkeys((*last.columns, *one.columns))))
        else:
            runs.append(one)
    return runs
