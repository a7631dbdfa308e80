"""`gold/indicator_1h` and `gold/indicator_1d`: technical indicators, by one declaration."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.features.candle import KNOWABLE, OF_INTERVAL
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import Interval
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.indicators import indicators, needed
from lakehouse.transform.windows import with_runs

_OF_SCALE = "0 to 100"
_MEANT: Mapping[str, tuple[str, str]] = {
    "sma_20": ("Mean of 20 closes", "quote"),
    "sma_50": ("Mean of 50 closes", "quote"),
    "ema_12": ("Exponential average of closes, 12", "quote"),
    "ema_20": ("Exponential average of closes, 20", "quote"),
    "ema_26": ("Exponential average of closes, 26", "quote"),
    "ema_50": ("Exponential average of closes, 50", "quote"),
    "rsi_14": ("Relative strength by Wilder's averages, 14", _OF_SCALE),
    "macd": ("EMA of 12 less EMA of 26", "quote"),
    "macd_signal": ("EMA of 9 of macd", "quote"),
    "macd_histogram": ("macd less its signal", "quote"),
    "bollinger_upper_20": ("sma_20 and two standard deviations of the 20 closes", "quote"),
    "bollinger_lower_20": ("sma_20 less two standard deviations of the 20 closes", "quote"),
    "atr_14": ("Wilder's average of the true range, 14", "quote"),
    "adx_14": ("Wilder's directional index, 14, of high, low and close", _OF_SCALE),
    "stochastic_k_14": ("Slow %K: where the close stands in the reach of 14, mean of 3", _OF_SCALE),
    "stochastic_d_14": ("%D: mean of 3 of %K", _OF_SCALE),
    "cci_20": ("Commodity channel index of 20", "mean deviations / 0.015"),
    "williams_r_14": ("Williams' %R of 14", "-100 to 0"),
    "mfi_14": ("Money flow index of 14, by volume in base", _OF_SCALE),
    "roc_10": ("Change of the close over 10", "percent"),
    "obv_20": ("Volume of candles that rose less that of those that fell, of the last 20", "base"),
}


def indicator_table(interval: Interval, flat: float, lookback: timedelta) -> type[Feature]:
    """Declare the indicators of an interval.

    Args:
        interval: Of the candles.
        flat: Average move of a candle, as a share of the price, below which RSI and ADX are null.
        lookback: How far the candles go back; what needs more is left out.
    """
    source = Input(OF_INTERVAL[interval], lookback=lookback)
    counts, most = needed(flat), 1 + lookback // interval.delta

    class Indicators(Feature):
        __doc__ = f"""Technical indicators at the end of each {interval} candle.

        TA-Lib computes what has a memory, extremes and CCI; sums over a window are added whole. Null until
        the run of candles without a gap has as many as the column says: an absent minute, and so a listing
        break, begins it anew.

        EMA, MACD, RSI, ATR and ADX never forget. They are begun {lookback.days} days before the month, and a
        value wants so many candles that what lies before them changes it by less than 1e-9 of the price, or
        of the scale of 100, as long as no earlier price was more than a thousand times this one. RSI and ADX
        are null where the average move is below {flat:g} of the price: there, what was before would still
        count. Where extremes do not differ, %K, %D and %R are null; without flow MFI; with a mean deviation
        below 1e-6 of the price CCI. Volumes are in base units for inverse markets, too.
        """

        name = f"gold/indicator_{interval}"
        most_per_minute = 1
        key = ("open_time",)
        time = "open_time"
        inputs = (source,)

        open_time = Column(UTC_TIME, f"Start of the {interval} candle that ends the windows", "UTC")
        locals().update(
            {
                name: Column(pl.Float64, f"{meant}; of {counts[name]} candles", unit, nullable=True)
                for name, (meant, unit) in _MEANT.items()
                if counts[name] <= most
            }
        )
        knowable_at = Column(UTC_TIME, KNOWABLE, "UTC")

        @classmethod
        def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
            times = pl.col("open_time")
            runs = with_runs(source.rows(inputs, window), interval)
            return (
                runs.select("open_time", "knowable_at")
                .hstack(indicators(runs, flat))
                .filter(times >= window.start)
                .select(cls.names())
            )

    Indicators.__name__ = Indicators.__qualname__ = f"Indicator{interval}"
    return Indicators


INDICATORS = (
    indicator_table(Interval.parse("1h"), 1e-8, timedelta(days=31)),
    indicator_table(Interval.parse("1d"), 1e-5, timedelta(days=600)),
)
