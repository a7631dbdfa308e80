"""Estimators of volatility over the last candles of a run, each as the standard deviation of the log return
over the whole window.
"""

from math import log

import polars as pl

from lakehouse.transform.windows import where_full, window_sum

_YANG_ZHANG = 0.34
"""The weight that Yang and Zhang (2000) give for the least variance."""


def log_returns(candles: pl.DataFrame) -> pl.Series:
    """The log return of each candle's close on that of the candle before it in the run; null for the first of
    a run.
    """
    quotient = candles["close"] / candles["close"].shift(1)
    return where_full(quotient.log(), candles["run_length"], 2)


def realized(returns: pl.Series, count: int) -> pl.Series:
    """The root of the sum of the squares of the last returns."""
    return window_sum(returns * returns, count).sqrt()


def estimates(candles: pl.DataFrame, count: int) -> dict[str, pl.Series]:
    """Five estimators over the last `count` candles of a run.

    The variance of one candle, times their number: `close_to_close` (of the returns, with their mean taken
    off, as a sample), `parkinson` (1980, of the range), `garman_klass` (1980, of range and body, without
    drift), `rogers_satchell` (1991, whatever the drift), `yang_zhang` (2000, with the step between a close
    and the next open). Those that look at steps between candles want one candle more before the window.

    Args:
        candles: Prices with `run_length`, in order.
        count: The candles of the window.
    """
    opens, highs, lows, closes = (candles[name] for name in ("open", "high", "low", "close"))
    length = candles["run_length"]
    step = where_full((opens / closes.shift(1)).log(), length, 2)
    body, height = (closes / opens).log(), (highs / lows).log()
    satchell = (highs / closes).log() * (highs / opens).log() + (lows / closes).log() * (lows / opens).log()
    weight = _YANG_ZHANG / (1 + _YANG_ZHANG + (count + 1) / (count - 1))
    of_range = window_sum(height * height, count)
    of_body = window_sum(body * body, count)
    drift_free = window_sum(satchell, count)
    # shares of a price: from one candle to the next, and within a candle
    overnight, within = _sample_variance(step, count), _sample_variance(body, count)
    totals = {
        "close_to_close": count * _sample_variance(log_returns(candles), count),
        "parkinson": of_range / (4 * log(2)),
        "garman_klass": of_range / 2 - (2 * log(2) - 1) * of_body,
        "rogers_satchell": drift_free,
        "yang_zhang": count * (overnight + weight * within) + (1 - weight) * drift_free,
    }
    looks_back = {"close_to_close", "yang_zhang"}
    return {
        name: where_full(total.clip(0).sqrt(), length, count + (name in looks_back))
        for name, total in totals.items()
    }


def _sample_variance(values: pl.Series, count: int) -> pl.Series:
    """The variance of the last values about their mean, as that of a sample."""
    total = window_sum(values, count)
    return ((window_sum(values * values, count) - total * total / count) / (count - 1)).clip(0)
