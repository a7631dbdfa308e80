"""Which expected rows are absent, and why."""

from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from lakehouse.model.result import GapClass, GapRun
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange, day_range


class Doubt(NamedTuple):
    """Why a day is in doubt.

    Attributes:
        kind: `variants`, `short` or `rules`.
        reason: In words, with figures.
    """

    kind: str
    reason: str


def slots_of(times: pl.Series, step: timedelta) -> pl.Series:
    """The slot each instant falls in: its floor. A misaligned row covers the slot it opens in and keeps its own time."""
    return times.dt.truncate(step)


def expected_slots(window: TimeRange, step: timedelta) -> pl.Series:
    """Every slot of a window, in order."""
    return pl.datetime_range(window.start, window.end, step, closed="left", time_unit="us", eager=True).cast(UTC_TIME).alias("slot")


def find_gaps(
    times: pl.Series, window: TimeRange, step: timedelta, asked_until: datetime, listed: datetime | None = None, delisted: datetime | None = None, disputed: pl.Series | None = None
) -> tuple[GapRun, ...]:
    """Every expected slot that no row covers, as runs of one class.

    Args:
        times: `open_time` of the rows.
        window: The cell's window.
        step: Length of a slot.
        asked_until: Only slots before this instant are expected: nobody was asked about later ones.
        listed: Slots before the one that holds this instant are `not_listed`.
        delisted: Slots from this instant on are `not_listed`.
        disputed: Times of keys for which no value could be served; their slots are `conflict`.

    Returns:
        Runs in order. Together with the covered slots they make up every slot of the window before `asked_until`, each exactly once.
    """
    end = window.clip(asked_until)
    slots = expected_slots(window, step).to_frame().filter(pl.col("slot") < end)
    covered = slots_of(times, step)
    missing = slots.filter(~pl.col("slot").is_in(covered.unique().implode()))
    if not missing.height:
        return ()
    gap_class = pl.lit("absent")
    if disputed is not None and disputed.len():
        gap_class = pl.when(pl.col("slot").is_in(slots_of(disputed, step).unique().implode())).then(pl.lit("conflict")).otherwise(gap_class)
    outside = pl.lit(False)
    if listed is not None:
        outside = outside | (pl.col("slot") + step <= listed)
    if delisted is not None:
        outside = outside | (pl.col("slot") >= delisted)
    classed = missing.with_columns(pl.when(outside).then(pl.lit("not_listed")).otherwise(gap_class).alias("gap_class"))
    breaks = (pl.col("slot").diff() != step).fill_null(True) | (pl.col("gap_class") != pl.col("gap_class").shift()).fill_null(True)
    runs = (
        classed.with_columns(breaks.cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(pl.col("gap_class").first(), pl.col("slot").first().alias("start"), pl.len().alias("n"))
    )
    return tuple(GapRun(_gap_class(row["gap_class"]), row["start"], row["start"] + row["n"] * step, row["n"]) for row in runs.iter_rows(named=True))


def _gap_class(name: str) -> GapClass:
    return name  # type: ignore[return-value]


def days_in_doubt(rows: pl.DataFrame, window: TimeRange, step: timedelta, broken: pl.Series, listed: datetime | None = None, delisted: datetime | None = None) -> dict[str, Doubt]:
    """Days of a month file that a second source should be asked about, with the reason.

    A day is in doubt if it covers fewer or more slots than it has, if a key has two values, or if a row breaks a row rule.

    Args:
        rows: The rows of one source, exact duplicates removed, with `open_time`.
        window: The cell's window.
        step: Length of a slot.
        broken: `open_time` of rows that break a row rule.
        listed: Rows are expected from the slot that holds this instant on.
        delisted: Rows are expected before this instant.
    """
    if listed is None or listed <= window.start:
        complete = expected_slots(window, step)
        if rows.height == complete.len() and not broken.len() and (rows["open_time"] == complete).all():
            return {}
    days = rows.select(slots_of(rows["open_time"], step).alias("slot"), "open_time").group_by(pl.col("slot").dt.strftime("%Y-%m-%d").alias("day"))
    counted = {day: (slots, keys, n) for day, slots, keys, n in days.agg(pl.col("slot").n_unique(), pl.col("open_time").n_unique().alias("keys"), pl.len().alias("n")).iter_rows()}
    breaking = set(broken.dt.strftime("%Y-%m-%d"))
    doubts: dict[str, Doubt] = {}
    for day in window.days():
        slots, keys, n = counted.get(day, (0, 0, 0))
        whole = day_range(day)
        first = whole.clip(listed) if listed else whole.start
        last = whole.clip(delisted) if delisted else whole.end
        due = max(0, -((first - last) // step))
        if n > keys:
            doubts[day] = Doubt("variants", f"{n - keys} keys with two values")
        elif slots != due or keys != due:
            doubts[day] = Doubt("short", f"{keys} rows where {due} are expected")
        elif day in breaking:
            doubts[day] = Doubt("rules", "rows break a row rule")
    return doubts
