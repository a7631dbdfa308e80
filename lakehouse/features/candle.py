"""`gold/candle_5m` to `gold/candle_1d`: coarser candles, all from 1m, by one declaration."""

from collections.abc import Mapping

import polars as pl

from lakehouse.datasets.candle import Candle, CandleColumns
from lakehouse.model.check import SCHEMA, Check
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import COARSE, Interval
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import resample

KNOWABLE = (
    "From when on the row could have been known: the candle's end, or that of a 1m candle in it that opened "
    "late and reaches beyond"
)


def candle_table(interval: Interval) -> type[Feature]:
    """Declare the candle table of an interval."""

    class CoarseCandle(CandleColumns, Feature):
        __doc__ = f"""{interval} candles, summed from `silver/candle`; buckets start at 00:00 UTC.

        `candle_count` says how many of the {interval.minutes:,} minutes a bucket has, so a short bucket is
        never silent; a bucket without any has no row. Of an exchange that has no candle of a minute without
        trade (`is_sparse` in `silver/market`) a count says no more than that. Sums are taken as decimals, so
        the same candles give the same row in any order; one is null where a candle lacks the value. Joins
        take `knowable_at`.
        """

        name = f"gold/candle_{interval}"
        inputs = (Input(Candle),)
        checks = (SCHEMA, Check("resample", {"of": Candle}))
        code_version = 2

        candle_count = Column(
            pl.Int32,
            f"Minutes of the bucket that have a candle, {interval.minutes} when complete",
            "count",
            above=0,
        )
        knowable_at = Column(UTC_TIME, KNOWABLE, "UTC")

        @classmethod
        def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
            return resample(inputs[Candle.name], interval).select(cls.names())

    CoarseCandle.__name__ = CoarseCandle.__qualname__ = f"Candle{interval}"
    return CoarseCandle


OF_INTERVAL: Mapping[Interval, type[Feature]] = {interval: candle_table(interval) for interval in COARSE}
CANDLES = tuple(OF_INTERVAL.values())
