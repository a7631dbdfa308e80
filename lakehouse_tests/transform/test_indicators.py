"""Indicators: against two other implementations, and that no history before the rows that are needed counts.

`GOLDEN=write pytest lakehouse_tests/transform/test_indicators.py` writes `docs/indicators.md` anew.
"""

import gzip
import json
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from statistics import pstdev

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.transform.indicators import EFFECT, indicators, needed

PAGE = Path(__file__).parents[2] / "docs" / "indicators.md"
HOUR, DAY = 1e-8, 1e-5
WORST, LEAST = 1e-11, 1e-14  # what is below the second differs between processors
PRICES = ("open", "high", "low", "close", "volume")
OF_TALIB = {
    "sma_20": "SMA_20",
    "ema_20": "EMA_20",
    "rsi_14": "RSI_14",
    "macd": "MACD",
    "macd_signal": "MACD_signal",
    "macd_histogram": "MACD_hist",
    "bollinger_upper_20": "BB_upper",
    "bollinger_lower_20": "BB_lower",
    "atr_14": "ATR_14",
    "adx_14": "ADX_14",
    "stochastic_k_14": "STOCH_k_14_3_3",
    "stochastic_d_14": "STOCH_d",
    "cci_20": "CCI_20",
    "williams_r_14": "WILLR_14",
    "mfi_14": "MFI_14",
    "roc_10": "ROC_10",
    "obv_20": "OBV",
}
OF_STOCK_INDICATORS = {
    "sma_20": "sma.sma",
    "ema_20": "ema.ema",
    "macd": "macd.macd",
    "macd_signal": "macd.signal",
    "macd_histogram": "macd.histogram",
    "atr_14": "atr.atr",
    "obv_20": "obv.obv",
    "bollinger_upper_20": "bb.upperBand",
    "bollinger_lower_20": "bb.lowerBand",
    "stochastic_k_14": "stoch.oscillator",
    "stochastic_d_14": "stoch.signal",
}
# by which an error is measured: of its own size, or of the scale that it has
SCALES = {
    "rsi_14": 100.0,
    "adx_14": 100.0,
    "stochastic_k_14": 100.0,
    "stochastic_d_14": 100.0,
    "mfi_14": 100.0,
}
SCALES |= {"williams_r_14": 100.0, "cci_20": 100.0, "roc_10": 100.0}


def one_run(prices: pl.DataFrame) -> pl.DataFrame:
    return prices.select(
        *(pl.col(name).cast(pl.Float64) for name in PRICES),
        run=pl.lit(0),
        run_length=pl.int_range(1, pl.len() + 1, dtype=pl.Int32),
    )


def drawn(seed: int, count: int, price: float, step: float) -> list[tuple[float, ...]]:
    """Prices of candles that go at random, to eight digits or so; with a step of 0 they stand still."""
    chance, rows = random.Random(seed), []
    for _ in range(count):
        close = price * math.exp(chance.gauss(0, step))
        reach = price * step * chance.random()
        rows.append(
            (price, max(price, close) + reach, min(price, close) - reach, close, chance.expovariate(0.1))
        )
        price = close
    return rows


def frame(rows: list[tuple[float, ...]]) -> pl.DataFrame:
    return one_run(pl.DataFrame(rows, dict.fromkeys(PRICES, pl.Float64), orient="row"))


# --- against others -------------------------------------------------------------------------------


def compared(found: pl.DataFrame, stated: Mapping[str, pl.Series]) -> dict[str, tuple[int, float]]:
    """Rows that both have, and the greatest error, relative to the stated value, by column."""
    errors = {}
    for name, series in stated.items():
        both = pl.DataFrame({"ours": found[name], "theirs": series.cast(pl.Float64)}).drop_nulls().drop_nans()
        theirs = both["theirs"] - both["theirs"].shift(20) if name == "obv_20" else both["theirs"]
        far = (both["ours"] - theirs).abs() / theirs.abs()
        errors[name] = (both.height, float(far.max() or 0))  # type: ignore[arg-type]
    return errors


def talib(real_data: Path) -> dict[str, tuple[int, float]]:
    prices = pl.read_csv(real_data / "intabyu_spot_1h" / "BTCUSDT-1h-2023-01.csv")
    stated = pl.read_csv(
        real_data / "talib_reference" / "BTCUSDT-1h-2023-01_talib.csv",
        null_values="NaN",
        infer_schema_length=None,
    )
    stated = stated.with_columns(OBV=pl.col("OBV"))
    return compared(
        indicators(one_run(prices), HOUR), {ours: stated[name] for ours, name in OF_TALIB.items()}
    )


def stock_indicators(real_data: Path) -> dict[str, tuple[int, float]]:
    folder = real_data / "stock_indicators_reference"
    stated = {}
    for ours, place in OF_STOCK_INDICATORS.items():
        file, field = place.split(".")
        rows = json.loads(gzip.decompress((folder / f"results_{file}.standard.json.gz").read_bytes()))
        stated[ours] = pl.Series([row[field] for row in rows], dtype=pl.Float64)
    return compared(indicators(one_run(pl.read_csv(folder / "quotes_default.csv")), DAY), stated)


def told(errors: Mapping[str, tuple[int, float]], name: str) -> str:
    if name not in errors:
        return " | "
    rows, worst = errors[name]
    return f"{rows} | 1e-{math.floor(-math.log10(max(worst, LEAST))):02d}"


def test_every_column_is_that_of_two_other_implementations(real_data: Path) -> None:
    first, second = talib(real_data), stock_indicators(real_data)
    assert first.keys() == OF_TALIB.keys()
    for name, (rows, worst) in (*first.items(), *second.items()):
        assert rows > 50, name
        assert worst < WORST, name
    text = PAGE.read_text(encoding="utf-8")
    begin = text.index("| column |")
    lines = [
        "| column | candles needed, 1h | 1d | rows by TA-Lib | error at most "
        "| rows by Stock.Indicators | error at most |",
        "|---|---|---|---|---|---|---|",
    ]
    of_hour, of_day = needed(HOUR), needed(DAY)
    for name in of_hour:
        day = of_day[name] if name != "ema_50" else ""
        lines.append(f"| `{name}` | {of_hour[name]} | {day} | {told(first, name)} | {told(second, name)} |")
    table = "".join(f"{' '.join(line.split())}\n" for line in lines)
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(text[:begin] + table, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8")[begin:] == table


# --- nothing before what is needed ----------------------------------------------------------------


def effect(
    old: list[tuple[float, ...]], rows: list[tuple[float, ...]], flat: float, price: float, most: int
) -> dict[str, float]:
    """What the old rows change at most in any value that stands, as a share of price or scale, by indicator:
    each with just the candles that it needs before the last ones of `rows`, which `most` others precede.
    """
    worst = {}
    of_count: dict[int, list[str]] = {}
    for name, count in needed(flat).items():
        of_count.setdefault(count, []).append(name)
    for count, names in of_count.items():
        known = rows[most - count :]
        alone, behind = indicators(frame(known), flat), indicators(frame(old + known), flat)
        for name in names:
            mine, theirs = alone[name], behind[name][len(old) :]
            assert mine[: count - 1].null_count() == count - 1
            assert (theirs.is_null() & mine.is_not_null()).sum() == 0
            scale = SCALES.get(name) or (200 if name == "obv_20" else price)
            worst[name] = float((mine - theirs).abs().max() or 0) / scale  # type: ignore[arg-type]
    return worst


def wild_history(seed: int, price: float, step: float, is_wild: bool) -> list[tuple[float, ...]]:
    """Prices that go at random about half of one; or that are halved and doubled in every candle."""
    rows = drawn(seed, 400, price / 2, step)
    return [tuple(value * (1 + n % 2) for value in row) for n, row in enumerate(rows)] if is_wild else rows


@pytest.mark.slow
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    flat=st.sampled_from([HOUR, DAY]),
    before=st.sampled_from([1e-3, 0.5, 1.0, 3.0, 900.0]),
    is_wild=st.booleans(),
    step=st.sampled_from([0.0, 1e-7, 1e-5, 1e-2]),
    still=st.integers(0, 250),
    price=st.sampled_from([1e-8, 0.07, 65_432.1]),
)
@example(seed=1, flat=HOUR, before=900.0, is_wild=True, step=1e-5, still=250, price=1e-8)
@example(seed=1, flat=DAY, before=900.0, is_wild=True, step=1e-5, still=0, price=65_432.1)
@example(seed=2, flat=DAY, before=900.0, is_wild=True, step=0.0, still=0, price=1.0)
def test_history_before_the_candles_that_are_needed_changes_nothing(
    seed: int, flat: float, before: float, is_wild: bool, step: float, still: int, price: float
) -> None:
    """Whatever it was: up to 900 times the price, or a thousandth of it, wild or calm; and where the market
    stands still since, so that what is old fades no faster than what is new.
    """
    most = max(needed(flat).values())
    rows = drawn(seed, most - still, price, step)
    rows += drawn(seed + 1, still, rows[-1][3], 0.0) + drawn(seed + 2, 30, rows[-1][3], step)
    lowest = min(row[2] for row in rows)
    found = effect(wild_history(seed + 3, lowest * before, 1e-3, is_wild), rows, flat, lowest, most)
    assert {name: share for name, share in found.items() if share >= EFFECT} == {}


def test_history_shows_where_fewer_candles_are_thought_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: with a thousandth of the weight, every indicator with a memory does."""
    rows = drawn(1, 800, 10.0, 1e-3)
    old = wild_history(3, 9000.0, 1e-3, True)
    assert max(effect(old, rows, DAY, 9.0, 770).values()) < EFFECT
    monkeypatch.setattr("lakehouse.transform.indicators.RISE", 1e-3)
    shows = {name for name, share in effect(old, rows, DAY, 9.0, 770).items() if share >= EFFECT}
    with_memory = {name for name in needed(DAY) if name.startswith(("ema", "macd", "rsi", "atr", "adx"))}
    assert shows == with_memory


def test_a_market_that_stands_still_has_no_ratio_and_no_guess_at_one() -> None:
    found = indicators(frame(drawn(1, 800, 100.0, 1e-2) + [(5.0, 5.0, 5.0, 5.0, 1.0)] * 700), HOUR)
    last = found.row(-1, named=True)
    ratios = {"rsi_14", "adx_14", "stochastic_k_14", "stochastic_d_14", "cci_20", "williams_r_14", "mfi_14"}
    assert {name for name, value in last.items() if value is None} == ratios
    assert last["sma_50"] == last["bollinger_upper_20"] == 5
    assert (last["roc_10"], last["obv_20"]) == (0, 0)
    assert found.row(799, named=True)["rsi_14"] is not None


def test_bands_after_a_fall_to_a_thousandth_are_those_of_the_window() -> None:
    rows = drawn(1, 600, 80_000.0, 1e-2) + drawn(2, 60, 0.08, 1e-4)
    found = indicators(frame(rows), HOUR)
    closes = [row[3] for row in rows[-20:]]
    width = found["bollinger_upper_20"][-1] - found["sma_20"][-1]
    assert width == pytest.approx(2 * pstdev(closes), rel=1e-9)


@pytest.mark.parametrize("power", [-26, 10])
def test_the_size_of_prices_changes_no_digit(power: int) -> None:
    """TA-Lib takes what is below 1e-14 for zero: prices of 1e-8 must not come near."""
    rows = drawn(1, 760, 1.0, 1e-2)
    small = [(*(value * 2.0**power for value in row[:4]), row[4]) for row in rows]
    plain, scaled = indicators(frame(rows), HOUR), indicators(frame(small), HOUR)
    for name in plain.columns:
        factor = 2.0**power if name.startswith(("sma", "ema", "macd", "boll", "atr")) else 1
        assert (plain[name] * factor).equals(scaled[name]), name
