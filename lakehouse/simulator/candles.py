"""1m candles as a pure function of market and minute, and the coarser ones made from them.

Every number is an integer (ticks, lots, contracts) drawn from hashes of the absolute minute, so that a minute
comes out the same whether it is asked for within a day, a month or a REST page, and prints exactly.
"""

import polars as pl

from lakehouse.simulator.markets import BASE_VOLUME_DECIMALS, SimulatedMarket, draw

CANDLE_COLUMNS = (
    "minute",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "late",
    "short",
)
"""`minute` is the candle's start, counted in minutes from the epoch; it opens `late` and ends `short`
milliseconds after and before it should (0 but for halts). Inverse markets: `volume` counts contracts,
`quote_volume` is in the base asset, as the archive has it.
"""

_GOLDEN = 0x9E3779B97F4A7C15
_OCTAVES = 11
"""Noise of 1, 4, 16, ... minutes, each twice as high as the one before: the slope of a random walk, up to two
years long.
"""
_FEWEST = 100
"""Least volume of a traded minute, in lots: leaves room for four trades, and makes rounding of inverse base
volumes smaller than a tick.
"""


def coarsen(minutes: pl.DataFrame, interval: int) -> pl.DataFrame:
    """Sum 1m candles up to candles of `interval` minutes. They open on time, and end short where the last
    minute in them did.
    """
    if interval == 1:
        return minutes
    sums = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
    grouped = minutes.group_by((pl.col("minute") // interval * interval).alias("start"), maintain_order=True)
    behind = (pl.col("start") + interval - 1 - pl.col("minute")) * 60_000
    return (
        grouped.agg(
            pl.first("open"),
            pl.max("high"),
            pl.min("low"),
            pl.last("close"),
            pl.sum(*sums),
            pl.last("minute", "short"),
        )
        .with_columns(
            pl.lit(0, dtype=pl.Int64).alias("late"),
            pl.when(pl.col("short") > 0).then(behind + pl.col("short")).otherwise(0).alias("short"),
        )
        .select(pl.col("start").alias("minute"), *CANDLE_COLUMNS[1:])
    )


def minute_candles(market: SimulatedMarket, first: int, end: int) -> pl.DataFrame:
    """The 1m candles that start in `[first, end)`, cut to the market's life, as `CANDLE_COLUMNS`, all Int64,
    sorted.
    """
    spans = (
        (life, max(first, life.first_minute), end if life.end_minute is None else min(end, life.end_minute))
        for life in market.lives
    )
    return pl.concat([_empty(), *(_traded_minutes(*span) for span in spans if span[1] < span[2])])


def _traded_minutes(market: SimulatedMarket, first: int, end: int) -> pl.DataFrame:
    inverse = market.market_type == "inverse"
    seed = draw(*market.words)
    ticks = int(market.price.scaleb(market.price_decimals))
    lots = market.volume * 10**market.volume_decimals
    # An inverse candle always has a range: its base volume is rounded, and the price it implies must still
    # lie inside.
    margin = 1 if inverse else 0

    price = pl.when("quiet").then("previous")
    dice, more, flat = pl.col("dice"), pl.col("more"), pl.col("quiet")
    wick = ticks * (pl.col("size") * pl.col("size") // 2**16) // 2**27
    traded = pl.when(~flat)
    minutes = (
        _settled_prices(market, seed, ticks, first, end)
        .with_columns(*_fields(_hashes(seed + 1, first, end), "dice", "size", "spread", "turn"))
        .with_columns(
            *_fields(_hashes(seed + 2, first, end), "more", "taker", "trades", "vwap"),
            _noise(seed + 3, first, end, 256).alias("activity"),
        )
        .with_columns(
            price.when("rested")
            .then("previous")
            .otherwise(pl.col("previous") + (dice % 32 == 0).cast(pl.Int64) - (dice % 32 == 1).cast(pl.Int64))
            .alias("open")
        )
        .with_columns(
            price.otherwise(pl.max_horizontal("open", "close") + wick + pl.col("spread") % 2 + margin).alias(
                "high"
            ),
            price.otherwise(
                pl.min_horizontal("open", "close") - wick * (more % 256) // 256 - pl.col("turn") % 2 - margin
            ).alias("low"),
            traded.then(
                _FEWEST + lots * (2**16 + pl.col("activity")) // 2**17 * (more * more // 2**16) // 2**16
            )
            .otherwise(0)
            .alias("volume"),
        )
        .with_columns(
            (
                pl.col("low")
                + margin
                + pl.col("vwap") % (pl.col("high") - pl.col("low") + 1 - 2 * margin).clip(1)
            ).alias("average"),
            (pl.col("volume") * pl.col("taker") // 2**16).alias("taker_buy_volume"),
            traded.then(
                4 + (pl.col("volume") - 4) * (2**15 + pl.col("trades")) // 2**17 * 400 // (lots + 400)
            )
            .otherwise(0)
            .alias("count"),
        )
    )
    return minutes.with_columns(
        _turnover(market, "volume").alias("quote_volume"),
        _turnover(market, "taker_buy_volume").alias("taker_buy_quote_volume"),
        pl.lit(0, dtype=pl.Int64).alias("late"),
        pl.lit(0, dtype=pl.Int64).alias("short"),
    ).select(CANDLE_COLUMNS)


def quiet(candles: pl.DataFrame) -> pl.DataFrame:
    """The same candles as if nothing had traded in them: flat at their open."""
    volumes = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
    return candles.with_columns(
        *(pl.col("open").alias(name) for name in ("high", "low", "close")),
        *(pl.lit(0, dtype=pl.Int64).alias(name) for name in volumes),
    )


def _turnover(market: SimulatedMarket, volume: str) -> pl.Expr:
    """Value of a volume at the minute's average price: exact, or (inverse) to the nearest unit of the base
    volume.
    """
    if market.market_type != "inverse":
        return pl.col(volume) * pl.col("average")
    unit: int = market.contract_size * 10 ** (BASE_VOLUME_DECIMALS + market.price_decimals)
    return (pl.col(volume) * unit + pl.col("average") // 2).floordiv(pl.col("average"))


def _settled_prices(market: SimulatedMarket, seed: int, ticks: int, first: int, end: int) -> pl.DataFrame:
    """Per minute: `previous` (close of the minute before), `close`, `quiet` (no trade) and `rested` (none in
    the minute before: trade goes on at its price, so that an hour opens at the same price whether or not its
    quiet minutes count). A quiet minute never follows a quiet one, so one look back is enough.
    """
    raw = _hashes(seed, first - 2, end) % 512 == 0
    quiet = raw[1:] & ~raw[:-1]
    edge = _edge_prices(market, seed, ticks, first - 1, end + 1)
    close = (
        pl.DataFrame({"quiet": quiet, "before": edge[:-1], "after": edge[1:]})
        .select(pl.when("quiet").then("before").otherwise("after"))
        .to_series()
    )
    return pl.DataFrame(
        {
            "minute": pl.int_range(first, end, eager=True),
            "previous": close[:-1],
            "close": close[1:],
            "quiet": quiet[1:],
            "rested": quiet[:-1],
        }
    )


def _edge_prices(market: SimulatedMarket, seed: int, ticks: int, first: int, end: int) -> pl.Series:
    """The price in ticks on the edge before each minute: the coin's path, and a premium of the market's
    own.
    """
    path = draw("path", market.coin or market.base)
    swing = sum(
        (_noise(path + octave, first, end, 4**octave) * 2**octave for octave in range(1, _OCTAVES)),
        start=_noise(path, first, end, 1),
    )
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
    """splitmix64 of each index in `[first, end)`; polars wraps unsigned integers on overflow, which is what
    it needs.
    """
    x = pl.col("x")
    frame = pl.DataFrame({"x": pl.int_range(first, end, dtype=pl.UInt64, eager=True)}).select(
        x * _u64(_GOLDEN) + _u64(seed)
    )
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
