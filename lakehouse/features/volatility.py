"""`gold/volatility`: how much the price moves, by six estimators over an hour and a day."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import KNOWABLE
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import resample
from lakehouse.transform.volatility import estimates, log_returns, realized
from lakehouse.transform.windows import with_runs

_HOUR = Interval.parse("1h")
_UNITS = {"1h": "log return of an hour", "1d": "log return of a day"}


def _column(of: str, window: str) -> Column:
    return Column(pl.Float64, of, _UNITS[window], nullable=True, at_least=0)


class Volatility(Feature):
    """Volatility at the end of each hour, over this hour and over the 24 hours that end with it.

    Each value is the standard deviation of the log return over its window: of an hour, or of a day. None is
    annualised; for a year of 365 days, multiply that of a day by the root of 365. The hour is made of its 60
    candles of 1m, the day of 24 candles of 1h, and `realized_1d` of 1,440 candles of 1m. Close to close and
    realised want the close before the window as well, and so does Yang-Zhang, whose steps between candles are
    small in a market that never closes. Null where a minute of the window has no candle, and over an hour
    whose candles opened late.
    """

    name = "gold/volatility"
    most_per_minute = 1
    key = ("open_time",)
    time = "open_time"
    inputs = (Input(Candle, lookback=timedelta(days=1, hours=1)),)
    code_version = 2

    open_time = Column(UTC_TIME, "Start of the hour that ends the windows", "UTC")
    realized_1h = _column("Root of the sum of squared 1m returns of the hour", "1h")
    close_to_close_1h = _column("Standard deviation of the 1m returns", "1h")
    parkinson_1h = _column("Parkinson's, by ranges of 1m candles", "1h")
    garman_klass_1h = _column("Garman and Klass's, by 1m candles", "1h")
    rogers_satchell_1h = _column("Rogers and Satchell's, by 1m candles", "1h")
    yang_zhang_1h = _column("Yang and Zhang's, by 1m candles", "1h")
    realized_1d = _column("Root of the sum of squared 1m returns of the day", "1d")
    close_to_close_1d = _column("Standard deviation of the 1h returns", "1d")
    parkinson_1d = _column("Parkinson's, by ranges of 1h candles", "1d")
    garman_klass_1d = _column("Garman and Klass's, by 1h candles", "1d")
    rogers_satchell_1d = _column("Rogers and Satchell's, by 1h candles", "1d")
    yang_zhang_1d = _column("Yang and Zhang's, by 1h candles", "1d")
    knowable_at = Column(UTC_TIME, KNOWABLE, "UTC")

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        times = pl.col("open_time")
        prices = cls.inputs[0].rows(inputs, window)
        prices = prices.select("open_time", "close_time", "open", "high", "low", "close")
        minutes = with_runs(prices, MINUTE)
        returns = log_returns(minutes)
        of_minutes = estimates(minutes, 60) | {"realized": realized(returns, 60)}
        last_minutes = (
            minutes.select(
                times,
                *(values.alias(f"{name}_1h") for name, values in of_minutes.items()),
                realized(returns, 1440).alias("realized_1d"),
            )
            .filter(times.dt.minute() == 59, times.dt.truncate("1m") == times)
            .with_columns(times.dt.truncate("1h"))
        )
        hours = with_runs(resample(prices, _HOUR), _HOUR)
        of_hours = estimates(hours, 24)
        return (
            hours.with_columns(values.alias(f"{name}_1d") for name, values in of_hours.items())
            .join(last_minutes, on="open_time", how="left", maintain_order="left")
            .filter(times >= window.start)
            .select(cls.names())
        )
