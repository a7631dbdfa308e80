"""Candles in the dialects of the archive's files and of the REST answers."""

from datetime import date, datetime
from decimal import Decimal

import polars as pl

from lakehouse.simulator.candles import CANDLE_COLUMNS
from lakehouse.simulator.markets import SimulatedMarket

MILLISECOND, MICROSECOND = 1_000, 1_000_000
"""Units of a timestamp, per second."""

_HEADER = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
_SPOT_MICROSECONDS_SINCE = date(2025, 1, 1)
_LINEAR_HEADER_SINCE = date(2022, 6, 1)


def time_unit(market: SimulatedMarket, period_start: datetime) -> int:
    """Unit of the timestamps of the file that covers a period."""
    return (
        MICROSECOND
        if market.market_type == "spot" and period_start.date() >= _SPOT_MICROSECONDS_SINCE
        else MILLISECOND
    )


def has_header(market: SimulatedMarket, period_start: datetime, coin: int) -> bool:
    """Whether the file that covers a period has a header; in inverse files the parity of `coin` decides,
    there is no rule.
    """
    if market.market_type == "inverse":
        return coin % 2 == 0
    return market.market_type == "linear" and period_start.date() >= _LINEAR_HEADER_SINCE


def to_csv(market: SimulatedMarket, candles: pl.DataFrame, interval: int, unit: int, header: bool) -> bytes:
    """Print candles as the archive does."""
    return printed(market, candles, interval, unit).write_csv(include_header=header).encode()


def to_rest(
    market: SimulatedMarket, candles: pl.DataFrame, interval: int, unit: int
) -> list[list[int | str]]:
    """Candles as the REST endpoint answers them: instants and counts are numbers, the rest text."""
    frame = printed(market, candles, interval, unit).with_columns(pl.lit("0").alias("ignore"))
    decimals = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal)]
    return [list(row) for row in frame.with_columns(pl.col(decimals).cast(pl.String)).iter_rows()]


def printed(market: SimulatedMarket, candles: pl.DataFrame, interval: int, unit: int) -> pl.DataFrame:
    """The twelve columns of a kline, numbers as decimals of the width that is printed.

    Args:
        market: The market, for its decimals.
        candles: Rows of `candles.CANDLE_COLUMNS`.
        interval: Length of a candle in minutes.
        unit: Unit of the timestamps, per second.
    """
    opened = pl.col("minute") * (60 * unit) + pl.col("late") * (unit // 1000)
    closed = opened + interval * 60 * unit - pl.col("short") * (unit // 1000) - 1
    decimals = [
        (pl.col(name).cast(pl.Decimal(38, 0)) * pl.lit(Decimal(1).scaleb(-scale)))
        .cast(pl.Decimal(38, shown))
        .alias(name)
        for name, (scale, shown) in market.decimals.items()
    ]
    frame = candles.select(CANDLE_COLUMNS).with_columns(
        *decimals, opened.alias("open_time"), closed.alias("close_time"), pl.lit(0).alias("ignore")
    )
    return frame.select(_HEADER)
