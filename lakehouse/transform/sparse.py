"""Slots without a row, of an exchange that has no candle of a minute in which nothing was traded.

A source that was read whole says of each that it has no row: nothing was traded, or nothing is told of it.
Which of the two another statement tells: an hour that equals the rows that are there leaves no trade for the
other minutes.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from lakehouse.model.cadence import Grid
from lakehouse.model.life import Life
from lakehouse.model.result import Asked
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.gaps import is_bracketed
from lakehouse.transform.witness import HOUR


class LeftOut(NamedTuple):
    """Slots that a source which was read whole has no row of.

    Attributes:
        slots: The slots, in order: in none of them is a row expected.
        quiet_count: Those of them that are proven to be without trade.
        silent_count: The others.
    """

    slots: pl.Series
    quiet_count: int
    silent_count: int


def left_out(
    stated: pl.Series,
    span: TimeRange,
    step: timedelta,
    life: Life,
    files: Sequence[TimeRange],
    asked: Sequence[Asked],
    api_times: pl.Series,
    confirmed: pl.Series,
    denied: pl.Series,
) -> LeftOut:
    """The slots of a range that have no row because a source was read whole and has none of them.

    A file states its whole period. An answer of a REST API is whole between candles that it knows: what lies
    before the first and behind the last of them may be more than the API still has, or has yet. In an hour of
    which the witness says otherwise than the rows, trades are missing, and every slot without a row may be
    one of theirs.

    Args:
        stated: Times of every row that any source states, served or not.
        span: The range.
        step: Length of a slot.
        life: Rows are expected within it alone.
        files: The periods of the files that were read.
        asked: What a REST API was asked for.
        api_times: Time of every row that it answered with.
        confirmed: Hours of which a witness says the same as the rows, see `confirmed_hours`.
        denied: Hours of which it says otherwise, see `denied_hours`.
    """
    slot, hour = pl.col("slot"), pl.col("slot").dt.truncate(HOUR)
    whole = [(slot >= file.start) & (slot + step <= file.end) for file in files]
    whole += [is_bracketed(asking, api_times, step) for asking in asked if asking.is_of_rows]
    found = (
        Grid(step)
        .absent(stated, span)
        .to_frame("slot")
        .filter(pl.any_horizontal(pl.lit(False), *whole), ~life.outside(slot, slot + step))
        .filter(~hour.is_in(denied.implode()))
    )
    quiet = found.filter(hour.is_in(confirmed.implode())).height
    return LeftOut(found["slot"], quiet, found.height - quiet)
