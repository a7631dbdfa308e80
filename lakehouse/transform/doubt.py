"""Which days of a source to doubt, so that another one is asked."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from lakehouse.model.cadence import Grid
from lakehouse.model.life import UNKNOWN, Life
from lakehouse.model.timerange import TimeRange, day_range
from lakehouse.model.words import count_of
from lakehouse.transform.witness import HOUR, judge

_MICRO = timedelta(microseconds=1)


class Doubt(NamedTuple):
    """Why a day is in doubt.

    Attributes:
        kind: `variants` (a key has two values), `short` (fewer or more rows than slots), `rules` (rows break
            a row rule), `witness` (an hour disagrees with the witness) or `edges` (rows are truncated or
            misaligned); the first that applies.
        reason: In words, with figures.
    """

    kind: str
    reason: str


def days_in_doubt(
    rows: pl.DataFrame,
    window: TimeRange,
    step: timedelta,
    broken: pl.Series,
    life: Life = UNKNOWN,
    witness: pl.DataFrame | None = None,
    length: timedelta = HOUR,
    answered: Sequence[TimeRange] = (),
    explained: pl.Series | None = None,
    confirmed: pl.Series | None = None,
) -> dict[str, Doubt]:
    """Days of rows that a second source should be asked about, with the reason.

    A short day stays in doubt where the witness agrees, against the plan: the count shows that no trade is
    missing, but a minute without trades may be, which another source heals, and a halt has to be proven by
    asking for the candles around it.

    The same judgement says later whether a day is healed: then of the rows that are served, with what was
    proven of them.

    Args:
        rows: Rows with `open_time` and `close_time`; of one source, exact duplicates removed, or those that
            are served.
        window: The cell's window.
        step: Length of a slot.
        broken: `open_time` of rows that break a row rule.
        life: Rows are expected from the slot that holds the listing until the delisting.
        witness: Coarser candles stated independently, see `judge`.
        length: Length of a witness candle.
        answered: Ranges that the witness answered.
        explained: Slots that are proven to have no candle.
        confirmed: `open_time` of rows that are right though they are truncated or misaligned.
    """
    is_odd = (pl.col("open_time").dt.truncate(step) != pl.col("open_time")) | (
        pl.col("close_time") < pl.col("open_time") + step - _MICRO
    )
    odd = rows.select(pl.col("open_time").filter(is_odd))["open_time"]
    sure = confirmed if confirmed is not None else odd.clear()
    disagreeing = _disagreeing(rows, witness, length, answered) if witness is not None else {}
    if (life.listed is None or life.listed <= window.start) and not (
        broken.len() or odd.len() or disagreeing
    ):
        complete = Grid(step).slots(window)
        if rows.height == complete.len() and (rows["open_time"] == complete).all():
            return {}
    days = rows.select(Grid(step).slots_of(rows["open_time"]).alias("slot"), "open_time").group_by(
        pl.col("slot").dt.strftime("%Y-%m-%d").alias("day")
    )
    # two rows may share a slot
    extra = (
        odd.filter(odd.is_in(sure.implode())).dt.strftime("%Y-%m-%d").value_counts() if sure.len() else None
    )
    counted = {
        day: (slots, keys, n)
        for day, slots, keys, n in days.agg(
            pl.col("slot").n_unique(), pl.col("open_time").n_unique().alias("keys"), pl.len().alias("n")
        ).iter_rows()
    }
    breaking = set(broken.dt.strftime("%Y-%m-%d"))
    edged = Counter(
        day
        for start in odd.filter(~odd.is_in(sure.implode()))
        for day in TimeRange(start, start + step).days()
    )
    proven = Counter(explained.dt.strftime("%Y-%m-%d")) if explained is not None else Counter[str]()
    sharing = dict(extra.iter_rows()) if extra is not None else {}
    doubts: dict[str, Doubt] = {}
    for day in window.days():
        slots, keys, n = counted.get(day, (0, 0, 0))
        whole = day_range(day)
        first, last = whole.clip(life.listed or whole.start), whole.clip(life.delisted or whole.end)
        due = max(0, -((first - last) // step)) - proven[day]
        if n > keys:
            doubts[day] = Doubt("variants", f"{count_of(n - keys, 'key')} with two values")
        elif slots != due or not due <= keys <= due + sharing.get(day, 0):
            doubts[day] = Doubt("short", f"{keys} rows where {due} are expected")
        elif day in breaking:
            doubts[day] = Doubt("rules", "rows break a row rule")
        elif day in disagreeing:
            doubts[day] = Doubt("witness", disagreeing[day])
        elif day in edged:
            doubts[day] = Doubt("edges", f"{edged[day]} rows are truncated or misaligned")
    return doubts


def _disagreeing(
    rows: pl.DataFrame, witness: pl.DataFrame, length: timedelta, answered: Sequence[TimeRange]
) -> dict[str, str]:
    """Days that an hour which disagrees touches, with the first such hour in words."""
    found: dict[str, str] = {}
    for hour, differs in (
        judge(rows, witness, length, answered).filter(agrees=False).select("open_time", "differs").iter_rows()
    ):
        for day in TimeRange(hour, hour + length).days():
            found.setdefault(day, f"from {hour:%H:%M} rows and witness differ in {', '.join(differs)}")
    return found
