"""`gold/vwap`: the volume-weighted average price over rolling windows and over the day."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import exact

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class Vwap(Feature):
    """Volume-weighted average price at each 1m candle, over the last hour, the last day and the day so far.

    Quote volume over base volume of the candles whose open time lies in the window that ends with this
    candle; for inverse markets the quote volume is contracts x contract size. Null where nothing was traded
    in the window. The counts say how many of its minutes each window has, so a window over a gap, or at the
    start of a listing, is never silently short.
    """

    name = "gold/vwap"
    most_per_minute = 4
    key = ("open_time",)
    time = "open_time"
    inputs = (Input(Candle, lookback=_DAY),)
    code_version = 2

    open_time = Column(UTC_TIME, "Start of the 1m candle that ends the windows", "UTC")
    vwap_1h = Column(
        pl.Float64,
        "Average price over the 60 minutes that end with this candle",
        "quote",
        nullable=True,
        at_least=0,
    )
    vwap_1d = Column(
        pl.Float64,
        "Average price over the 24 hours that end with this candle",
        "quote",
        nullable=True,
        at_least=0,
    )
    vwap_session = Column(
        pl.Float64, "Average price since 00:00 UTC, this candle included", "quote", nullable=True, at_least=0
    )
    candle_count_1h = Column(
        pl.Int32, "Minutes of the hour that have a candle, 60 when complete", "count", above=0
    )
    candle_count_1d = Column(
        pl.Int32, "Minutes of the day that have a candle, 1440 when complete", "count", above=0
    )
    knowable_at = Column(UTC_TIME, "From when on the row could have been known: the candle's end", "UTC")
    # appended: catalogs and cells of earlier releases have the columns before it
    candle_count_session = Column(
        pl.Int32,
        "Minutes since 00:00 UTC that have a candle, this one included: all, when complete",
        "count",
        above=0,
    )

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        # Differences of exact running totals: the same for every starting point, where a float rolling sum is
        # not.
        minute = pl.col("open_time").dt.truncate("1m")
        totals = (
            cls.inputs[0]
            .rows(inputs, window)
            .select(
                "open_time",
                exact(pl.col("quote_volume").fill_null(0)).cum_sum().alias("quote"),
                # without its value, a size has no price
                exact(pl.when(pl.col("quote_volume").is_not_null()).then("volume").otherwise(0.0))
                .cum_sum()
                .alias("base"),
                # two candles may open in one minute
                (minute.diff() > timedelta()).fill_null(True).cast(pl.Int32).cum_sum().alias("count"),
            )
        )
        since = {
            "1h": pl.col("open_time") - _HOUR,
            "1d": pl.col("open_time") - _DAY,
            "session": pl.col("open_time").dt.truncate("1d") - timedelta(microseconds=1),
        }
        rows = totals.filter(pl.col("open_time") >= window.start)
        for name, edge in since.items():
            before = totals.rename({column: f"{column}_{name}" for column in totals.columns})
            rows = rows.with_columns(edge.alias("edge")).join_asof(
                before,
                left_on="edge",
                right_on=f"open_time_{name}",
                strategy="backward",
                check_sortedness=False,
            )
        return rows.select(
            "open_time",
            *(_price(name).alias(f"vwap_{name}") for name in since),
            *(
                (pl.col("count") - pl.col(f"count_{name}").fill_null(0)).alias(f"candle_count_{name}")
                for name in since
            ),
            (pl.col("open_time") + timedelta(minutes=1)).alias("knowable_at"),
        ).select(cls.names())


def _price(name: str) -> pl.Expr:
    quote = (pl.col("quote") - pl.col(f"quote_{name}").fill_null(0)).cast(pl.Float64)
    base = (pl.col("base") - pl.col(f"base_{name}").fill_null(0)).cast(pl.Float64)
    return pl.when(base > 0).then(quote / base)
