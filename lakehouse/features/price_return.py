"""`gold/return`: what the price did over the last minute, hour and day."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.windows import with_runs

_SPANS = {name: Interval.parse(name) for name in ("1m", "1h", "1d")}


class Return(Feature):
    """Returns of the price at each 1m candle, over the minute, the hour and the day that end with it.

    From the close of the candle that lies the span before to the close of this one: the simple return is
    their quotient less one, the log return the natural logarithm of the quotient. Null where one of the
    minutes between has no candle, so no return crosses a gap or a listing break, and none is that of a
    shorter span.
    """

    name = "gold/return"
    most_per_minute = 4
    key = ("open_time",)
    time = "open_time"
    inputs = (Input(Candle, lookback=timedelta(days=1, minutes=1)),)

    open_time = Column(UTC_TIME, "Start of the 1m candle that ends the spans", "UTC")
    simple_return_1m = Column(pl.Float64, "Over the minute", "share", nullable=True, above=-1)
    log_return_1m = Column(pl.Float64, "Over the minute, logarithmic", "log", nullable=True)
    simple_return_1h = Column(pl.Float64, "Over 60 minutes", "share", nullable=True, above=-1)
    log_return_1h = Column(pl.Float64, "Over 60 minutes, logarithmic", "log", nullable=True)
    simple_return_1d = Column(pl.Float64, "Over 1,440 minutes", "share", nullable=True, above=-1)
    log_return_1d = Column(pl.Float64, "Over 1,440 minutes, logarithmic", "log", nullable=True)
    knowable_at = Column(UTC_TIME, "From when on the row could have been known: the candle's end", "UTC")

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        times = pl.col("open_time")
        rows = with_runs(cls.inputs[0].rows(inputs, window).select("open_time", "close"), MINUTE)
        quotients = {
            name: pl.when(pl.col("run_length") > span.minutes).then(
                pl.col("close") / pl.col("close").shift(span.minutes)
            )
            for name, span in _SPANS.items()
        }
        return (
            rows.with_columns(
                *((quotient - 1).alias(f"simple_return_{name}") for name, quotient in quotients.items()),
                *(quotient.log().alias(f"log_return_{name}") for name, quotient in quotients.items()),
                knowable_at=times + MINUTE.delta,
            )
            .filter(times >= window.start)
            .select(cls.names())
        )
