"""What candles tell of liquidity: who took, what a trade moved, and how one-sided the volume was."""

from datetime import timedelta

import polars as pl

from lakehouse.transform.resample import exact
from lakehouse.transform.windows import where_full, window_sum

BUCKETS = 50
"""Buckets of VPIN: each holds this part of the volume of the day before."""

_MILLION = 1e6
_DAY = timedelta(days=1)
# of the mean square: a variance below it is what was rounded
_LEAST_VARIANCE = 1e-9


def signed_volume(candles: pl.DataFrame) -> pl.Series:
    """Size bought by takers less size sold by them."""
    return 2 * candles["taker_buy_volume"] - candles["volume"]


def of_candle(candles: pl.DataFrame) -> dict[str, pl.Series]:
    """What each candle tells by itself: `signed_volume`, its share of the volume as `taker_imbalance`, and
    `average_trade_size`; the last two null where nothing was traded.
    """
    volume, trades, signed = candles["volume"], candles["trade_count"], signed_volume(candles)
    return {
        "signed_volume": signed,
        "taker_imbalance": (signed / volume).set(volume <= 0, None),
        "average_trade_size": (volume / trades).set(trades <= 0, None),
    }


def of_window(candles: pl.DataFrame, count: int) -> dict[str, pl.Series]:
    """What the last `count` candles of a run tell.

    `amihud` (2002): the mean of the absolute return over the quote volume in millions, of those candles that
    traded. `roll_spread` (1984): twice the root of the negative covariance of successive log returns; null
    where it is positive, for there it says nothing. `kyle_lambda` (1985): the slope of changes of the close
    on signed volume; null where the signed volume does not vary.
    """
    closes, run_length = candles["close"], candles["run_length"]
    before = where_full(closes.shift(1), run_length, 2)
    value = candles["quote_volume"] / _MILLION
    price = ((closes / before - 1).abs() / value).set(value <= 0, 0.0)
    traded = window_sum((value > 0).cast(pl.Float64), count)
    returns = (closes / before).log()
    lagged = where_full(returns.shift(1), run_length, 3)
    covariance = window_sum(returns * lagged, count) / count
    covariance -= window_sum(returns, count) * window_sum(lagged, count) / count**2
    signed, change = signed_volume(candles), closes - before
    of_signed, squares = window_sum(signed, count), window_sum(signed * signed, count)
    variance = squares - of_signed * of_signed / count
    together = window_sum(change * signed, count) - window_sum(change, count) * of_signed / count
    return {
        "amihud": where_full(
            (window_sum(price, count) / traded).set(traded <= 0, None), run_length, count + 1
        ),
        "roll_spread": where_full(
            (2 * (-covariance).sqrt()).set(covariance > 0, None), run_length, count + 2
        ),
        "kyle_lambda": where_full(
            (together / variance).set(variance <= _LEAST_VARIANCE * squares, None), run_length, count + 1
        ),
    }


def vpin(minutes: pl.DataFrame) -> pl.Series:
    """The share of the volume that was one-sided, over the last buckets of equal volume that are full.

    After Easley, López de Prado and O'Hara (2012), with the takers that are known in place of a guess at
    them. A bucket holds a fiftieth of the volume of the UTC day before. Buckets are laid from midnight on,
    and backwards from there over the day before, which so has fifty of them. A candle's volume counts as
    evenly spread over it. Null until the run has the whole day before, and where nothing was traded on it.

    Args:
        minutes: 1m candles with `run_length`, in order.
    """
    rows = minutes.select(
        "open_time",
        "run_length",
        exact(pl.col("volume")).alias("size"),
        exact((2 * pl.col("taker_buy_volume") - pl.col("volume")).fill_null(0.0)).alias("signed_size"),
        pl.col("open_time").dt.truncate("1d").alias("day"),
        pl.col("taker_buy_volume").is_null().cast(pl.Int32).alias("is_unknown"),
    ).with_columns(
        pl.col("size").cum_sum().alias("total"),
        pl.col("signed_size").cum_sum().alias("signed"),
        pl.col("is_unknown").cum_sum().alias("unknown"),
    )
    days = _days(rows)
    reached = _buckets_reached(rows, days)
    ends = _sums_at(_edges(reached), rows, days).with_columns(
        one_sided=pl.when(pl.col("edge").diff() == 1, pl.col("day").diff() == timedelta()).then(
            (pl.col("passed") - pl.col("passed").shift(1)).abs()
        )
    )
    shares = ends.select(
        "day",
        pl.col("edge").alias("full"),
        vpin=window_sum(ends["one_sided"] / ends["bucket"], BUCKETS) / BUCKETS,
    )
    return reached.join(shares, on=["day", "full"], how="left", maintain_order="left")["vpin"]


def _days(rows: pl.DataFrame) -> pl.DataFrame:
    """Where each day begins that the buckets of the day before can be laid from: what was traded until then,
    and the size of a bucket.
    """
    first = rows.group_by("day", maintain_order=True).first()
    began = first.select(
        "day",
        total_before=pl.col("total") - pl.col("size"),
        signed_before=pl.col("signed") - pl.col("signed_size"),
    )
    day_before = first.select(
        pl.col("day") + _DAY,
        # the first candle of the day before, up to whose begin the oldest bucket reaches
        first_total=pl.col("total"),
        first_signed=pl.col("signed"),
        first_size="size",
        first_signed_size="signed_size",
        unknown_before=pl.col("unknown") - pl.col("is_unknown"),
    )
    volume = pl.col("total_before") - pl.col("first_total") + pl.col("first_size")
    return (
        began.join(day_before, on="day", maintain_order="left")
        .with_columns(volume=volume.cast(pl.Float64))
        .filter(pl.col("volume") > 0)
        .with_columns(bucket=pl.col("volume") / BUCKETS)
    )


def _buckets_reached(rows: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """How many buckets since midnight are full at each candle; null where its run lacks a part of the day
    before, or takers are not known.
    """
    minutes = (pl.col("open_time") - pl.col("day") + _DAY).dt.total_minutes() + 1
    full = (pl.col("level") / pl.col("bucket")).floor()
    return (
        rows.select("open_time", "day", "run_length", "total", "unknown")
        .join(days, on="day", how="left", maintain_order="left")
        .with_columns(level=(pl.col("total") - pl.col("total_before")).cast(pl.Float64))
        # a quotient that was rounded up must not reach into the next candle
        .with_columns(full=full - (full * pl.col("bucket") > pl.col("level")).cast(pl.Float64))
        .select(
            "day",
            "bucket",
            "volume",
            full=pl.when(pl.col("run_length") >= minutes, pl.col("unknown") == pl.col("unknown_before")).then(
                "full"
            ),
        )
    )


def _edges(reached: pl.DataFrame) -> pl.DataFrame:
    """The bounds of all buckets that are wanted, in order: their number from midnight on, and their level."""
    return (
        reached.drop_nulls()
        .unique(["day", "full"])
        .with_columns(edge=pl.int_ranges(-BUCKETS, 1))
        .explode("edge")
        .select("day", "bucket", "volume", edge=pl.col("full") + pl.col("edge"))
        .unique(["day", "edge"])
        .with_columns(level=pl.max_horizontal(pl.col("edge") * pl.col("bucket"), -pl.col("volume")))
        .sort("day", "edge")
    )


def _sums_at(edges: pl.DataFrame, rows: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """The bounds with `passed`: the signed volume from midnight to there, negative times before it."""
    ended = rows.select(
        "total",
        "signed",
        "day",
        next_size=pl.col("size").shift(-1),
        next_signed=pl.col("signed_size").shift(-1),
    )
    of_days = pl.concat([ended, ended.with_columns(pl.col("day") + _DAY)]).join(days, on="day")
    begins = days.with_columns(
        total=pl.col("first_total") - pl.col("first_size"),
        signed=pl.col("first_signed") - pl.col("first_signed_size"),
        next_size="first_size",
        next_signed="first_signed_size",
    )
    places = (
        pl.concat([begins, of_days], how="diagonal")
        .select(
            "day",
            level=(pl.col("total") - pl.col("total_before")).cast(pl.Float64),
            signed=(pl.col("signed") - pl.col("signed_before")).cast(pl.Float64),
            next_size=pl.col("next_size").cast(pl.Float64),
            next_signed=pl.col("next_signed").cast(pl.Float64),
        )
        .with_columns(place=pl.col("level"))
        .sort("day", "level", maintain_order=True)
    )
    beyond = pl.col("level") - pl.col("place")
    # on a place itself nothing of the next candle is wanted, which may not be there yet
    passed = (
        pl.when(beyond == 0)
        .then("signed")
        .otherwise(pl.col("signed") + beyond / pl.col("next_size") * pl.col("next_signed"))
    )
    return edges.join_asof(places, on="level", by="day", check_sortedness=False).with_columns(passed=passed)
