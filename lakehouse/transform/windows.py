"""Windows of candles: how long a run without a gap each candle ends, and sums over the last candles of one.

A window is full where the run that ends with its last candle has all of its candles. A listing break (seven
days or more without a row) is the longest of gaps, so it ends a run as every other gap does, and no value of
a full window crosses it.
"""

import polars as pl

from lakehouse.model.interval import MINUTE, Interval


def with_runs(candles: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Candles with the run that each one is in.

    A run ends where a candle does not open just the interval after the one before: where one is absent, where
    two share a slot, and where candles begin to open late, or on time again. One that lacks minutes is in no
    run.

    Args:
        candles: Rows with `open_time`, in order; coarser than 1m with `candle_count`.
        interval: Their length.

    Returns:
        The rows with `run`, which numbers the runs, and `run_length`: how many candles the run has up to this
        one, itself included; 0 for a candle that lacks minutes.
    """
    is_whole = pl.lit(True) if interval == MINUTE else pl.col("candle_count") == interval.minutes
    is_next = pl.col("open_time").diff() == interval.delta
    goes_on = (is_next & is_whole & is_whole.shift(1, fill_value=True)).fill_null(False)
    return (
        candles.with_columns(run=(~goes_on).cum_sum(), is_whole=is_whole)
        .with_columns(
            run_length=pl.when("is_whole")
            .then(pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("run"))
            .otherwise(0)
        )
        .drop("is_whole")
    )


def window_sum(values: pl.Series, count: int) -> pl.Series:
    """The sum of each value and the ones before it, `count` in all; null where one of them is null or lacks.

    The terms are added as a tree whose shape follows from `count` alone. So rows outside the window cannot
    change a bit of it, as they do in a float total that runs along, and neither can threads.
    """
    total: pl.Series | None = None
    block, length, place = values, 1, 0
    while True:
        if count & length:
            part = block.shift(place)
            total = part if total is None else total + part
            place += length
        if 2 * length > count:
            assert total is not None, "a window has a candle"
            return total
        block, length = block + block.shift(length), 2 * length


def where_full(values: pl.Series, run_length: pl.Series, count: int) -> pl.Series:
    """Values, null where the run up to a candle has fewer than `count` candles."""
    return values.set(run_length < count, None)
