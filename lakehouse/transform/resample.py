"""Coarser candles from finer ones, with one result for every order and thread count."""

from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.model.interval import MINUTE, Interval

# sums are taken here and cast once at the end: float sums differ with order and threads
EXACT = pl.Decimal(38, 10)
TEN_DECIMALS_BELOW = 100_000
_MICRO = timedelta(microseconds=1)
PRICES = ("open", "high", "low", "close")
SUMS = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume", "contracts")
Totals = tuple[Any, ...]
"""How many minutes a cell has, its highest and lowest price, and its `SUMS`."""


def exact(value: pl.Expr) -> pl.Expr:
    """A Float64 as the decimal it was published as.

    The cast multiplies the float by 10 to the scale, which is exact only while the product has fewer than 53
    bits: above that, ten decimals would keep digits that no file ever stated. Exact for up to ten decimals
    below 100,000 and up to eight below 40 million.
    """
    return (
        pl.when(value.abs() < TEN_DECIMALS_BELOW)
        .then(value.cast(EXACT))
        .otherwise(value.cast(pl.Decimal(38, 8)).cast(EXACT))
    )


def exact_sum(column: str) -> pl.Expr:
    """The sum of a Float64 column as Decimal, null where a value is null."""
    return _known(column, exact(pl.col(column)).sum())


def _known(column: str, total: pl.Expr) -> pl.Expr:
    """A total, or null where a value was not published: that is not zero, and the rest is no total."""
    return pl.when(pl.col(column).is_not_null().all()).then(total)


def resample(candles: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Aggregate 1m candles to a coarser interval, from 00:00 UTC.

    Args:
        candles: Rows with the value columns of `silver/candle`, any order.
        interval: The interval to make.

    Returns:
        One row per bucket that has at least one candle, in order: first open, highest high, lowest low, last
        close, sums of the rest (null where a candle lacks the value), `close_time` of the last candle, and
        `candle_count`, the minutes of the bucket in which a candle opens. A short bucket is therefore never
        silent: it counts fewer than `interval.minutes`. `knowable_at` is the bucket's end, or that of its
        last candle, where it opened late and reaches beyond.
    """
    times = pl.col("open_time")
    bucket = times.dt.truncate(interval.name).alias("bucket")
    minute = times.dt.truncate(MINUTE.name)
    sums = [
        exact_sum(name).cast(pl.Float64).alias(name)
        if candles.schema[name] == pl.Float64
        else _known(name, pl.col(name).sum()).alias(name)
        for name in SUMS
        if name in candles.columns
    ]
    return (
        candles.sort("open_time")
        .with_columns(is_next_minute=(minute.diff() > timedelta()).fill_null(True))
        .group_by(bucket, maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("close_time").last(),
            *sums,
            pl.col("is_next_minute").sum().cast(pl.Int32).alias("candle_count"),
            pl.col("close_time").max().alias("last_covered"),
        )
        .rename({"bucket": "open_time"})
        .with_columns(knowable_at=pl.max_horizontal(times + interval.delta, pl.col("last_covered") + _MICRO))
        .drop("last_covered")
    )
