"""`gold/microstructure_1m` and `gold/microstructure_1h`: liquidity by candles, by one declaration."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import KNOWABLE, OF_INTERVAL
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.microstructure import of_candle, of_window, vpin
from lakehouse.transform.windows import with_runs

_HOUR = Interval.parse("1h")
_DAY = timedelta(days=1)
_HOURLY = OF_INTERVAL[_HOUR]


def microstructure_table(
    interval: Interval, count: int, span: str, made_from: tuple[Input, ...]
) -> type[Feature]:
    """Declare the table of an interval.

    Args:
        interval: Of the candles.
        count: How many of them a window has.
        span: How long that is, in words.
        made_from: The candles; and the table by 1m, whose `vpin` at the end of an hour is the hour's.
    """
    source, *finer = made_from

    class Microstructure(Feature):
        __doc__ = f"""Liquidity by {interval} candles: who took, what a trade moved, how one-sided volume was.

        `signed_volume`, `taker_imbalance` and `average_trade_size` are of the candle alone, `amihud`,
        `roll_spread` and `kyle_lambda` of the {count} candles that end with it ({span}), `vpin` of the last
        fifty volume buckets. Null where a minute of the window has no candle, where the exchange does not
        publish what is needed, and where there is nothing to divide by. Volumes are in base units for
        inverse markets, too; their quote volume is contracts x contract size, and null where that is not
        known, and `amihud` with it.
        """

        name = f"gold/microstructure_{interval}"
        most_per_minute = 4
        key = ("open_time",)
        time = "open_time"
        inputs = made_from
        code_version = 2

        open_time = Column(UTC_TIME, f"Start of the {interval} candle that ends the windows", "UTC")
        signed_volume = Column(
            pl.Float64, "Size bought by takers less size sold by them", "base", nullable=True
        )
        taker_imbalance = Column(
            pl.Float64, "Signed volume over volume", "-1 to 1", nullable=True, at_least=-1
        )
        average_trade_size = Column(pl.Float64, "Volume over trades", "base", nullable=True, at_least=0)
        amihud = Column(
            pl.Float64,
            "Amihud's illiquidity: mean of the absolute return over the quote volume, where there was any",
            "share / million quote",
            nullable=True,
            at_least=0,
        )
        roll_spread = Column(
            pl.Float64,
            "Roll's spread: twice the root of the negative covariance of successive log returns; null where "
            "it is positive",
            "share",
            nullable=True,
            at_least=0,
        )
        kyle_lambda = Column(
            pl.Float64,
            "Kyle's lambda: slope of the change of the close on the signed volume",
            "quote / base",
            nullable=True,
        )
        vpin = Column(
            pl.Float64,
            "Share of the volume that was one-sided, in the last 50 buckets of a fiftieth of the volume of "
            "the UTC day before",
            "0 to 1",
            nullable=True,
            at_least=0,
        )
        knowable_at = Column(UTC_TIME, KNOWABLE, "UTC")

        @classmethod
        def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
            times = pl.col("open_time")
            candles = with_runs(source.rows(inputs, window), interval)
            if finer:
                is_last = times.dt.truncate(interval.name) + interval.delta - MINUTE.delta == times
                ends = inputs[finer[0].name].filter(is_last, times >= window.start)
                last = ends.select(times.dt.truncate(interval.name), "vpin")
            else:
                candles = candles.with_columns(knowable_at=times + interval.delta)
                last = candles.select("open_time", vpin=vpin(candles))
            found = of_candle(candles) | of_window(candles, count)
            is_whole = pl.col("run_length") > 0
            return (
                candles.select("open_time", "run_length", "knowable_at", **found)
                .join(last, on="open_time", how="left", maintain_order="left")
                .filter(times >= window.start)
                .select(
                    "open_time",
                    *(pl.when(is_whole).then(name).alias(name) for name in (*found, "vpin")),
                    "knowable_at",
                )
                .select(cls.names())
            )

    Microstructure.__name__ = Microstructure.__qualname__ = f"Microstructure{interval}"
    return Microstructure


_BY_MINUTE = microstructure_table(MINUTE, 60, "an hour", (Input(Candle, lookback=_DAY),))
MICROSTRUCTURES = (
    _BY_MINUTE,
    microstructure_table(
        _HOUR, 24, "a day", (Input(_HOURLY, lookback=_DAY + 2 * _HOUR.delta), Input(_BY_MINUTE))
    ),
)
