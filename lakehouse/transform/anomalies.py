"""1m candles that look wrong. Flags only: nothing is ever mended, left out or weighed by them."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse.model.table import UTC_TIME

KINDS = ("spike", "stale_price", "volume_outlier")
SCHEMA: dict[str, Any] = {
    "open_time": UTC_TIME,
    "kind": pl.String,
    "value": pl.Float64,
    "expected": pl.Float64,
    "score": pl.Float64,
}
_TO_SIGMA = 1.4826  # of a normal distribution, the standard deviation is so many times the MAD


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """From where on a candle is flagged. Everything is a ratio, so that it holds for every price and size.

    The defaults flag nothing in months of liquid markets without a bad print: a flag that is always there is
    read by nobody.

    Attributes:
        window_hours: Length of the centred window that says what is usual, in hours; odd.
        spike: How many times the usual movement a spike sticks out.
        least_spike: What share of the price it sticks out at least.
        stale: How many times the usual run a run of equal closes is long.
        least_stale: How many candles with trades it has at least.
        least_quiet: How many candles without trades it has at least.
        volume: How many standard deviations above the median the logarithm of a volume is.
        least_deviation: What that deviation is at least, for a market whose volumes are all alike.
    """

    window_hours: int = 5
    spike: float = 5.0
    least_spike: float = 0.005
    stale: float = 20.0
    least_stale: int = 60
    least_quiet: int = 240
    volume: float = 8.0
    least_deviation: float = 0.25


DEFAULT = Sensitivity()


def find_anomalies(candles: pl.DataFrame, sensitivity: Sensitivity = DEFAULT) -> pl.DataFrame:
    """Flag candles of one market that look wrong.

    - `spike`: the high (or the low) leaves the highs (lows) of both neighbours and the price comes back: what
      a trend or a lasting jump does not do. It is held against the window's median movement from close to
      close (of candles with trades) and against the neighbours' own ranges, for in a real crash those are
      wide too. `value` is the price, `expected` the nearer neighbour's, `score` how many times that scale it
      sticks out.
    - `stale_price`: a run of equal closes with trades, or without any, that is far longer than the run the
      market's median minute is in. One row per run, at its first candle; `value` is its candles, `expected`
      the longest run that would not be flagged, `score` the one by the other.
    - `volume_outlier`: a volume whose logarithm is far above the window's median, in deviations by the MAD.
      `value` is the volume, `expected` the median.

    Args:
        candles: `open_time` (UTC), `high`, `low`, `close`, `volume` of 1m candles of one market, in order; a
            month, as a cell holds it.
        sensitivity: From where on a candle is flagged.

    Returns:
        `open_time`, `kind`, `value`, `expected`, `score`, in order of time and kind; the same candles always
        give the same rows.
    """
    found = (
        [_spikes(candles, sensitivity), _stale(candles, sensitivity), _volumes(candles, sensitivity)]
        if candles.height
        else []
    )
    return pl.concat([pl.DataFrame(schema=SCHEMA), *found]).sort("open_time", "kind")


def _spikes(candles: pl.DataFrame, s: Sensitivity) -> pl.DataFrame:
    high, low, close = pl.col("high"), pl.col("low"), pl.col("close")
    above, below = _widest(high), -_widest(-low)
    wide = high / low - 1
    judged = candles.select(
        "open_time",
        # where few trade, each trade moves the price by the spread
        pl.when(pl.col("volume") > 0).then((close / close.shift() - 1).abs()).alias("moved"),
        pl.max_horizontal(wide.shift(), wide.shift(-1)).alias("wide"),
        pl.when(high / above > below / low)
        .then(pl.struct(high.alias("value"), above.alias("expected")))
        .otherwise(pl.struct(low.alias("value"), below.alias("expected")))
        .alias("side"),
        (pl.max_horizontal(high / above, below / low) - 1).alias("out"),
    )
    judged = judged.with_columns(_usual(judged, "moved", s).alias("usual"))
    score = pl.col("out") / pl.max_horizontal(_TO_SIGMA * pl.col("usual"), "wide", s.least_spike / s.spike)
    return _flags(
        judged.with_columns(score.alias("score")).filter(pl.col("score") >= s.spike).unnest("side"), "spike"
    )


def _widest(extreme: pl.Expr) -> pl.Expr:
    """The larger of both neighbours; null at the ends, where one is unknown."""
    before, after = extreme.shift(), extreme.shift(-1)
    return pl.when(before.is_not_null() & after.is_not_null()).then(pl.max_horizontal(before, after))


def _stale(candles: pl.DataFrame, s: Sensitivity) -> pl.DataFrame:
    runs = candles.select(
        "open_time",
        (pl.col("volume") > 0).alias("traded"),
        pl.struct("close", pl.col("volume") > 0).rle_id().alias("run"),
    )
    runs = runs.group_by("run", maintain_order=True).agg(
        pl.col("open_time", "traded").first(), pl.len().alias("n")
    )
    flags = []
    for traded, least in ((True, s.least_stale), (False, s.least_quiet)):
        # The run that the median candle is in: a candle of the other sort is in none, so that one long stop
        # of a busy market does not become its habit.
        lengths = runs.select(
            pl.when(traded=traded).then("n").otherwise(0).repeat_by("n").explode(empty_as_null=False)
        )
        usual = float(lengths.to_series().median() or 0)  # type: ignore[arg-type]
        longest = max(float(least), s.stale * usual)
        stale = runs.filter(pl.col("traded") == traded, pl.col("n") > longest)
        flags.append(
            stale.select(
                "open_time",
                pl.col("n").cast(pl.Float64).alias("value"),
                pl.lit(longest).alias("expected"),
                (pl.col("n") / longest).alias("score"),
            )
        )
    return _flags(pl.concat(flags), "stale_price")


def _volumes(candles: pl.DataFrame, s: Sensitivity) -> pl.DataFrame:
    logs = candles.filter(pl.col("volume") > 0).select(
        "open_time", pl.col("volume").alias("value"), pl.col("volume").log().alias("log")
    )
    logs = logs.with_columns(_usual(logs, "log", s).alias("median"))
    logs = logs.with_columns(
        (pl.col("log") - pl.col("median")).alias("out"),
        (pl.col("log") - pl.col("median")).abs().alias("away"),
    )
    deviation = pl.max_horizontal(_TO_SIGMA * _usual(logs, "away", s), s.least_deviation)
    judged = logs.with_columns(
        (pl.col("out") / deviation).alias("score"), pl.col("median").exp().alias("expected")
    )
    return _flags(judged.filter(pl.col("score") >= s.volume), "volume_outlier")


def _usual(rows: pl.DataFrame, column: str, s: Sensitivity) -> pl.Series:
    """The centred window's median of a column, per row: that of the medians of its hours, for a rolling one
    over rows takes ten times as long.
    """
    hours = rows.group_by(pl.col("open_time").dt.truncate("1h").alias("hour"), maintain_order=True).agg(
        pl.col(column).median(), pl.len().alias("n")
    )
    usual = hours.select(
        pl.col(column)
        .rolling_median(s.window_hours, min_samples=1, center=True)
        .repeat_by("n")
        .explode(empty_as_null=False)
    )
    return usual.to_series()


def _flags(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    return rows.with_columns(pl.lit(kind).alias("kind")).select(*SCHEMA)
