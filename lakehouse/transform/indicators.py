"""Technical indicators over runs of candles: a value stands only where no history that it was not shown could
change it.

Averages that remember for ever (EMA, Wilder's) come from TA-Lib, and so do extremes and what is made of them.
They are begun where the rows begin, so a value needs so many candles before it that what lies further back
weighs less than 1e-9: of the price, or of the full scale of what has one. This holds as long as no earlier
price was more than `RISE` times the price now. What is a ratio of two such averages (RSI, ADX) needs a
denominator, too, against which the oldest rows weigh as little: in a flat market it fades, while their share
in the ratio does not, so the value is null.

Sums over a window are `window_sum`'s, for TA-Lib takes them as a total that runs along, in which prices of
long ago leave what was rounded: after a fall to a thousandth, its Bollinger bands are noise.
"""

from functools import reduce
from math import ceil, log
from operator import add

import polars as pl
import polars_talib as ta

from lakehouse.transform.windows import where_full, window_sum

EFFECT = 1e-9
"""What history before the rows that are needed can change at most, as a share of price or scale."""

RISE = 1000
"""How many times the price now the highest price before may have been."""

SMA = (20, 50)
EMA = (12, 20, 26, 50)
_FAST, _SLOW, _SIGNAL = 12, 26, 9
_WILDER, _MEAN, _EXTREMES, _SMOOTHING, _CHANGE = 14, 20, 14, 3, 10
_DEVIATIONS = 2
_UNTOUCHED = 330  # candles behind which a term of ADX weighs less than 1e-10, whatever it is
_LEAST_DEVIATION = 1e-6  # of the price: below it, the quotient of CCI is of what was rounded
# TA-Lib takes what is below 1e-14 for zero, and prices of some markets come near: a power of two is exact
_SCALE = 2.0**40


def needed(flat: float) -> dict[str, int]:
    """How many candles of a run each indicator needs, the one it stands at included.

    Args:
        flat: Average move of a candle as a share of the price, below which the market counts as flat.
    """
    wilder = 1 - 1 / _WILDER
    slow = _faded(1 - 2 / (_SLOW + 1), EFFECT / RISE)
    ratio = EFFECT / RISE * flat
    return {
        **{f"sma_{length}": length for length in SMA},
        **{f"ema_{length}": length + _faded(1 - 2 / (length + 1), EFFECT / RISE) for length in EMA},
        "rsi_14": 1 + _WILDER + _faded(wilder, ratio),
        "macd": _SLOW + slow,
        # the average of an average: what one forgets, the other still has
        "macd_signal": _SLOW + _SIGNAL + slow + _SIGNAL,
        "macd_histogram": _SLOW + _SIGNAL + slow + _SIGNAL,
        "bollinger_upper_20": _MEAN,
        "bollinger_lower_20": _MEAN,
        "atr_14": 1 + _WILDER + _faded(wilder, EFFECT / RISE),
        # of each term the oldest rows have their share, so that it counts once for each
        "adx_14": 2 * _WILDER + _faded(wilder, ratio / (1 + _UNTOUCHED / _WILDER)),
        # TA-Lib tells %K where it can tell %D
        "stochastic_k_14": _EXTREMES + 2 * (_SMOOTHING - 1),
        "stochastic_d_14": _EXTREMES + 2 * (_SMOOTHING - 1),
        "cci_20": _MEAN,
        "williams_r_14": _EXTREMES,
        "mfi_14": 1 + _WILDER,
        "roc_10": 1 + _CHANGE,
        "obv_20": 1 + _MEAN,
    }


def indicators(candles: pl.DataFrame, flat: float) -> pl.DataFrame:
    """The indicators at each candle, by the names of `needed`.

    Args:
        candles: `open_time`, prices and `volume` with `run` and `run_length`, in order.
        flat: As of `needed`.
    """
    scaled = candles.with_columns(pl.col("open", "high", "low", "close") * _SCALE)
    found = scaled.select(
        *(ta.ema(pl.col("close"), length).over("run").alias(f"ema_{length}") for length in EMA),
        ta.rsi(pl.col("close"), _WILDER).over("run").alias("rsi_14"),
        ta.macd(pl.col("close"), _FAST, _SLOW, _SIGNAL).over("run").alias("of_macd"),
        *(
            function(pl.col("high"), pl.col("low"), pl.col("close"), length).over("run").alias(name)
            for name, function, length in (
                ("atr_14", ta.atr, _WILDER),
                ("adx_14", ta.adx, _WILDER),
                ("cci_20", ta.cci, _MEAN),
                ("williams_r_14", ta.willr, _EXTREMES),
            )
        ),
        ta.stoch(pl.col("high"), pl.col("low"), pl.col("close"), _EXTREMES, _SMOOTHING, 0, _SMOOTHING, 0)
        .over("run")
        .alias("of_stochastic"),
        ta.roc(pl.col("close"), _CHANGE).over("run").alias("roc_10"),
    )
    of_macd, of_stochastic = found["of_macd"].struct, found["of_stochastic"].struct
    found = found.with_columns(
        of_macd.field("macd"),
        of_macd.field("macdsignal").alias("macd_signal"),
        of_macd.field("macdhist").alias("macd_histogram"),
        of_stochastic.field("slowk").alias("stochastic_k_14"),
        of_stochastic.field("slowd").alias("stochastic_d_14"),
    ).with_columns(
        pl.col("^(ema_.*|macd.*|atr_14)$") / _SCALE,
        *(values.alias(name) for name, values in _of_windows(candles).items()),
    )
    moves = _denominators(candles)
    is_told = {
        "rsi_14": moves["move"] >= flat,
        "adx_14": moves["least_directed_move"] >= flat,
        "cci_20": moves["deviation"] >= _LEAST_DEVIATION,
        "williams_r_14": moves["reach"] > 0,
        "stochastic_k_14": moves["reach"].rolling_min(_SMOOTHING) > 0,
        "stochastic_d_14": moves["reach"].rolling_min(2 * _SMOOTHING - 1) > 0,
    }
    length = candles["run_length"]
    return pl.DataFrame(
        {
            name: where_full(
                found[name].set(~is_told[name].fill_null(False), None) if name in is_told else found[name],
                length,
                count,
            )
            for name, count in needed(flat).items()
        }
    ).fill_nan(None)


def _faded(left: float, share: float) -> int:
    """How many candles it takes until a weight of which each one leaves a part is below a share."""
    return ceil(log(share) / log(left))


def _of_windows(candles: pl.DataFrame) -> dict[str, pl.Series]:
    """What is a sum over a window, whole."""
    closes, volumes = candles["close"], candles["volume"]
    means = {length: window_sum(closes, length) / length for length in SMA}
    squares = [each * each for each in _about(closes, means[_MEAN])]
    width = _DEVIATIONS * (_added(squares) / _MEAN).sqrt()
    direction = closes.diff().sign()
    typical = (candles["high"] + candles["low"] + closes) / 3
    rises, flow = typical.diff(), typical * volumes
    gained, lost = (
        window_sum(flow * is_counted.cast(pl.Float64), _WILDER) for is_counted in (rises > 0, rises < 0)
    )
    both = gained + lost
    return {
        **{f"sma_{length}": mean for length, mean in means.items()},
        "bollinger_upper_20": means[_MEAN] + width,
        "bollinger_lower_20": means[_MEAN] - width,
        "mfi_14": (100 * gained / both).set(both <= 0, None),
        "obv_20": window_sum(direction * volumes, _MEAN),
    }


def _about(values: pl.Series, mean: pl.Series) -> list[pl.Series]:
    """How far each of the last values lies from their mean."""
    return [values.shift(n) - mean for n in range(_MEAN)]


def _added(terms: list[pl.Series]) -> pl.Series:
    return reduce(add, terms)


def _denominators(candles: pl.DataFrame) -> pl.DataFrame:
    """What ratios divide by, as shares of the price: Wilder's averages of moves and of directed moves (the
    least of those that still weigh in ADX), the mean deviation of CCI, and the reach of extremes.
    """
    highs, lows, closes = pl.col("high"), pl.col("low"), pl.col("close")
    up, down = highs.diff(), -lows.diff()
    directed = pl.when(up != down).then(pl.max_horizontal(up, down, 0.0)).otherwise(0.0)

    def averaged(moves: pl.Expr) -> pl.Expr:
        within = pl.when(pl.col("run_length") > 1).then(moves).otherwise(0.0)
        return within.ewm_mean(alpha=1 / _WILDER, adjust=False).over("run") / closes

    typical = (candles["high"] + candles["low"] + candles["close"]) / 3
    deviations = _about(typical, window_sum(typical, _MEAN) / _MEAN)
    return candles.select(
        move=averaged(closes.diff().abs()),
        least_directed_move=averaged(directed).rolling_min(_UNTOUCHED),
        reach=highs.rolling_max(_EXTREMES) - lows.rolling_min(_EXTREMES),
        deviation=_added([each.abs() for each in deviations]) / _MEAN / candles["close"],
    )
