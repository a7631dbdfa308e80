"""Candles as a pure function of market and minute.

Every number is an integer (ticks, lots, contracts) drawn from hashes of the absolute minute, so that a minute comes out the same
whether it is asked for within a day, a month or a REST page, and prints exactly.
"""

from functools import lru_cache

import polars as pl

from lakehouse.simulator.markets import BASE_VOLUME_DECIMALS, SimulatedMarket, draw

CANDLE_COLUMNS = ("minute", "open", "high", "low", "close", "volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
"""`minute` is the candle's start, counted in minutes from the epoch. Inverse markets: `volume` counts contracts, `quote_volume` is in the base asset, as the archive has it."""

_GOLDEN = 0x9E3779B97F4A7C15
_OCTAVES = 11
"""Noise of 1, 4, 16, ... minutes, each twice as high as the one before: the slope of a random walk, up to two years long."""
_BLOCK = 30 * 1440
_FEWEST = 100
"""Least volume of a traded minute, in lots: leaves room for four trades, and makes rounding of inverse base volumes smaller than a tick."""


def candles(market: SimulatedMarket, interval: int, first: int, end: int) -> pl.DataFrame:
    """The candles of `interval` minutes that start in `[first, end)`, cut to the market's life.

    Args:
        market: The market.
        interval: Length in minutes; a divisor of a day.
        first: First minute, a multiple of the interval.
        end: Minute after the last, a multiple of the interval.

    Returns:
        `CANDLE_COLUMNS`, all Int64, sorted. Coarse candles are the sums and extremes of the 1m ones.
    """
    numbers = range(first // _BLOCK, -(-end // _BLOCK)) if first < end else range(0)
    blocks = (_block(market, number).filter(pl.col("minute").is_between(first, end - 1)) for number in numbers)
    return pl.concat([_empty(), *(minutes if interval == 1 else coarsen(minutes, interval) for minutes in blocks)])


@lru_cache(maxsize=16)
def _block(market: SimulatedMarket, number: int) -> pl.DataFrame:
    """Thirty days of minutes: a client that wants one day's file soon wants the next, and the same days' hours."""
    return minute_candles(market, number * _BLOCK, (number + 1) * _BLOCK)


def coarsen(minutes: pl.DataFrame, interval: int) -> pl.DataFrame:
    """Sum 1m candles up to candles of `interval` minutes."""
    sums = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
    grouped = minutes.group_by((pl.col("minute") // interval * interval).alias("start"), maintain_order=True)
    return grouped.agg(pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close"), pl.sum(*sums)).rename({"start": "minute"}).select(CANDLE_COLUMNS)


def minute_candles(market: SimulatedMarket, first: int, end: int) -> pl.DataFrame:
    """The 1m candles that start in `[first, end)`, cut to the market's life."""
    first = max(first, market.first_minute)
    end = end if market.end_minute is None else min(end, market.end_minute)
    if end <= first:
        return _empty()
    inverse = market.market_type == "inverse"
    seed = draw(market.market_type, market.symbol)
    ticks = int(market.price.scaleb(market.price_decimals))
    lots = market.volume * 10**market.volume_decimals
    # An inverse candle always has a range: its base volume is rounded, and the price it implies must still lie inside.
    margin = 1 if inverse else 0

    price = pl.when("quiet").then("previous")
    dice, more, flat = pl.col("dice"), pl.col("more"), pl.col("quiet")
    wick = ticks * (pl.col("size") * pl.col("size") // 2**16) // 2**27
    traded = pl.when(~flat)
    minutes = (
        _settled_prices(market, seed, ticks, first, end)
        .with_columns(*_fields(_hashes(seed + 1, first, end), "dice", "size", "spread", "turn"))
        .with_columns(*_fields(_hashes(seed + 2, first, end), "more", "taker", "trades", "vwap"), _noise(seed + 3, first, end, 256).alias("activity"))
        .with_columns(price.otherwise(pl.col("previous") + (dice % 32 == 0).cast(pl.Int64) - (dice % 32 == 1).cast(pl.Int64)).alias("open"))
        .with_columns(
            price.otherwise(pl.max_horizontal("open", "close") + wick + pl.col("spread") % 2 + margin).alias("high"),
            price.otherwise(pl.min_horizontal("open", "close") - wick * (more % 256) // 256 - pl.col("turn") % 2 - margin).alias("low"),
            traded.then(_FEWEST + lots * (2**16 + pl.col("activity")) // 2**17 * (more * more // 2**16) // 2**16).otherwise(0).alias("volume"),
        )
        .with_columns(
            (pl.col("low") + margin + pl.col("vwap") % (pl.col("high") - pl.col("low") + 1 - 2 * margin).clip(1)).alias("average"),
            (pl.col("volume") * pl.col("taker") // 2**16).alias("taker_buy_volume"),
            traded.then(4 + (pl.col("volume") - 4) * (2**15 + pl.col("trades")) // 2**17 * 400 // (lots + 400)).otherwise(0).alias("count"),
        )
    )
    return minutes.with_columns(_turnover(market, "volume").alias("quote_volume"), _turnover(market, "taker_buy_volume").alias("taker_buy_quote_volume")).select(CANDLE_COLUMNS)


def quiet_candle(last: pl.DataFrame) -> pl.DataFrame:
    """A minute in which nothing has traded yet, in place of the one candle given."""
    volumes = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
    return last.with_columns(pl.col("open").alias("high"), pl.col("open").alias("low"), pl.col("open").alias("close"), *(pl.lit(0, dtype=pl.Int64).alias(name) for name in volumes))


def _turnover(market: SimulatedMarket, volume: str) -> pl.Expr:
    """Value of a volume at the minute's average price: exact, or (inverse) to the nearest unit of the base volume."""
    if market.market_type != "inverse":
        return pl.col(volume) * pl.col("average")
    unit: int = market.contract_size * 10 ** (BASE_VOLUME_DECIMALS + market.price_decimals)
    return (pl.col(volume) * unit + pl.col("average") // 2).floordiv(pl.col("average"))


def _settled_prices(market: SimulatedMarket, seed: int, ticks: int, first: int, end: int) -> pl.DataFrame:
    """Per minute: `previous` (close of the minute before), `close` and `quiet` (no trade). A quiet minute never follows a quiet one, so one look back is enough."""
    raw = _hashes(seed, first - 2, end) % 512 == 0
    quiet = raw[1:] & ~raw[:-1]
    edge = _edge_prices(market, seed, ticks, first - 1, end + 1)
    close = pl.DataFrame({"quiet": quiet, "before": edge[:-1], "after": edge[1:]}).select(pl.when("quiet").then("before").otherwise("after")).to_series()
    return pl.DataFrame({"minute": pl.int_range(first, end, eager=True), "previous": close[:-1], "close": close[1:], "quiet": quiet[1:]})


def _edge_prices(market: SimulatedMarket, seed: int, ticks: int, first: int, end: int) -> pl.Series:
    """The price in ticks on the edge before each minute: the base asset's path, and a premium of the market's own."""
    path = draw("path", market.base)
    swing = sum((_noise(path + octave, first, end, 4**octave) * 2**octave for octave in range(1, _OCTAVES)), start=_noise(path, first, end, 1))
    premium = _noise(seed + 4, first, end, 64) * 4
    return ticks + ticks * (swing + premium) // 2**28


def _noise(seed: int, first: int, end: int, scale: int) -> pl.Series:
    """Noise in [-2**16, 2**16): hashed knots every `scale` minutes, straight lines between them."""
    lowest = first // scale
    knots = (_hashes(seed, lowest, (end - 1) // scale + 2) % 2**17).cast(pl.Int64) - 2**16
    if scale == 1:
        return knots[: end - first]
    minute = pl.int_range(first, end, eager=True)
    left, step = minute // scale - lowest, minute % scale
    return (knots.gather(left) * (scale - step) + knots.gather(left + 1) * step) // scale


def _hashes(seed: int, first: int, end: int) -> pl.Series:
    """splitmix64 of each index in `[first, end)`; polars wraps unsigned integers on overflow, which is what it needs."""
    x = pl.col("x")
    frame = pl.DataFrame({"x": pl.int_range(first, end, dtype=pl.UInt64, eager=True)}).select(x * _u64(_GOLDEN) + _u64(seed))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        frame = frame.select((x ^ (x // _u64(2**shift))) * _u64(factor))
    return frame.select(x ^ (x // _u64(2**31))).to_series()


def _fields(hashes: pl.Series, *names: str) -> list[pl.Series]:
    """Cut each 64-bit hash into independent 16-bit numbers."""
    return [(hashes // 2 ** (16 * n) % 2**16).cast(pl.Int64).alias(name) for n, name in enumerate(names)]


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(CANDLE_COLUMNS, pl.Int64))
