"""Candles for every slot, where a reader asks for them: filled rows say so, and none is ever stored."""

from collections.abc import Sequence
from typing import Literal, get_args

import polars as pl

from lakehouse.model.cadence import Grid
from lakehouse.model.interval import Interval
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import PRICES, SUMS

Fill = Literal["flat", "null"]
FILLS: tuple[Fill, ...] = get_args(Fill)
_COUNTED = (*SUMS, "candle_count")
_LAST = pl.duration(microseconds=1)


def fill_candles(
    candles: pl.DataFrame,
    interval: Interval,
    window: TimeRange | None,
    how: Fill,
    breaks: Sequence[TimeRange] = (),
) -> pl.DataFrame:
    """Add a row for every slot of a window that no candle covers.

    Args:
        candles: Candles of one market and interval, in order; those outside the window stay, and one before
            it gives the price to carry into it.
        interval: Their interval.
        window: Where every slot gets a row, widened to whole slots; None for nowhere. It should end with the
            market's newest candle and not begin before its first.
        how: `null`: the row has its `open_time` only. `flat`: nothing happened, so it has the last close for
            its four prices, zero for what is counted (null for what the exchange does not publish), and ends
            where its slot does; after a break and before any candle there is no price to carry, and it is as
            with `null`.
        breaks: When the market was not listed; slots that touch one get no row.

    Returns:
        The candles, unchanged, and the added rows, in order, with `is_filled`.
    """
    real = candles.with_columns(is_filled=pl.lit(False))
    if window is None:
        return real
    grid, times = Grid(interval.delta), candles["open_time"]
    first, end = grid.slots_of(pl.Series([window.start, window.end], dtype=times.dtype))
    whole = TimeRange(first, end if end == window.end else end + interval.delta)
    absent = grid.absent(times, whole).to_frame("open_time")
    for gone in breaks:
        absent = absent.filter(
            (pl.col("open_time") >= gone.end) | (pl.col("open_time") + interval.delta <= gone.start)
        )
    if not absent.height:
        return real
    rows = pl.concat([real, absent.with_columns(is_filled=pl.lit(True))], how="diagonal").sort("open_time")
    return rows.with_columns(_flat(rows, interval, breaks)) if how == "flat" else rows


def _flat(rows: pl.DataFrame, interval: Interval, breaks: Sequence[TimeRange]) -> list[pl.Expr]:
    """The values of filled rows; the others keep theirs."""
    stretch = pl.sum_horizontal(pl.lit(0), *(pl.col("open_time") >= gone.end for gone in breaks))
    price = pl.col("close").forward_fill().over(stretch)
    end = pl.col("open_time") + interval.delta
    values = dict.fromkeys(PRICES, price)
    values |= {
        name: pl.when(pl.col(name).forward_fill().over(stretch).is_not_null()).then(
            pl.lit(0, rows.schema[name])
        )
        for name in _COUNTED
        if name in rows.columns
    }
    values |= {
        "close_time": pl.when(price.is_not_null()).then(end - _LAST),
        "knowable_at": pl.when(price.is_not_null()).then(end),
    }
    values |= {
        name: pl.when(price.is_not_null()).then(pl.lit(False)) for name in ("is_truncated", "is_misaligned")
    }
    return [
        pl.when("is_filled").then(value).otherwise(name).alias(name)
        for name, value in values.items()
        if name in rows.columns
    ]
