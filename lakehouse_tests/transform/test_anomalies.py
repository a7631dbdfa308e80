"""Candles that look wrong are flagged where they are, and what markets do every day is not."""

import gzip
import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.exchanges.binance.klines import parse_klines
from lakehouse.sources.files.zips import extract_csv
from lakehouse.transform.anomalies import KINDS, SCHEMA, Sensitivity, find_anomalies
from lakehouse_tests.making import candles, minutes

SIZE = 600
TIMES = minutes("2024-02-05", SIZE)
seeds = st.integers(0, 2**32)
scales = st.sampled_from([2.0**-40, 0.00001234, 0.1, 1.0, 3.7, 60_000.0, 2.0**30])


def wave(seed: int, n: int) -> float:
    """A draw from a standard normal distribution, the same for the same seed and number."""
    first, second = (
        ((seed + 1) * 2654435761 + (2 * n + k) * 40503 * 65537) * 2246822519 % 2**32 / 2**32 for k in (1, 2)
    )
    return math.sqrt(-2 * math.log(first + 1e-12)) * math.cos(2 * math.pi * second)


def walk(seed: int, step: float = 0.001, price: float = 100.0) -> list[float]:
    """A random walk with normal steps, relative to the price."""
    prices = [price]
    for n in range(SIZE - 1):
        prices.append(prices[-1] * math.exp(step * wave(seed, n)))
    return prices


def market(closes: list[float], volumes: list[float] | float = 10.0) -> pl.DataFrame:
    """Candles that open where the one before closed and go no further than that."""
    opens = [closes[0], *closes[:-1]]
    return candles(
        TIMES,
        open=opens,
        close=closes,
        high=list(map(max, opens, closes)),
        low=list(map(min, opens, closes)),
        volume=volumes,
    )


def kinds(rows: pl.DataFrame) -> dict[str, int]:
    return dict(Counter(find_anomalies(rows)["kind"]))


def replaced(rows: pl.DataFrame, n: int, **values: float) -> pl.DataFrame:
    return rows.with_columns(
        pl.when(pl.int_range(pl.len()) == n).then(value).otherwise(name).alias(name)
        for name, value in values.items()
    )


# --- spikes ---------------------------------------------------------------------------------------


@given(seeds, st.integers(1, SIZE - 2), st.sampled_from([-0.5, -0.05, 0.05, 0.5, 9.0]), st.booleans(), scales)
def test_a_planted_spike_is_found_at_its_instant_and_nothing_else_is(
    seed: int, n: int, size: float, is_wick: bool, scale: float
) -> None:
    """A bad print that the close keeps, or one within its candle."""
    closes = [price * scale for price in walk(seed)]
    bad = closes[n] * (1 + size)
    planted = {"high" if size > 0 else "low": bad} | ({} if is_wick else {"close": bad})
    found = find_anomalies(replaced(market(closes), n, **planted))
    assert found.select("open_time", "kind", "value").rows() == [(TIMES[n], "spike", bad)]
    assert abs(found["expected"].item() / closes[n] - 1) < 0.02


trends: dict[str, Callable[[int, float], float]] = {
    "linear": lambda n, rate: 100 * (1 + abs(rate) * n),
    "exponential": lambda n, rate: 100 * math.exp(rate * n),
    "falling": lambda n, rate: 100 / (1 + abs(rate) * n),
}


@given(st.sampled_from(sorted(trends)), st.floats(1e-4, 0.05) | st.floats(-0.05, -1e-4), scales)
def test_a_trend_is_no_anomaly(name: str, rate: float, scale: float) -> None:
    assert kinds(market([trends[name](n, rate) * scale for n in range(SIZE)])) == {}


@given(seeds, st.floats(1e-4, 0.03))
def test_a_random_walk_is_no_anomaly(seed: int, step: float) -> None:
    assert kinds(market(walk(seed, step))) == {}


@given(seeds, st.integers(1, SIZE - 1), st.sampled_from([0.01, 0.5, 2.0, 100.0]))
def test_a_jump_that_lasts_is_no_anomaly(seed: int, n: int, factor: float) -> None:
    assert kinds(market([price * (factor if m >= n else 1) for m, price in enumerate(walk(seed))])) == {}


def test_a_crash_whose_neighbours_are_wide_too_is_no_anomaly() -> None:
    closes = walk(7)
    rows = market(closes)
    lone = replaced(rows, 300, low=closes[300] * 0.9)
    crash = replaced(replaced(lone, 299, low=closes[299] * 0.95), 301, low=closes[301] * 0.93)
    assert (kinds(lone), kinds(crash)) == ({"spike": 1}, {})


@given(seeds, scales)
def test_scaling_all_prices_changes_nothing(seed: int, scale: float) -> None:
    """By a power of two to the last bit, by anything else but for rounding."""
    rows = replaced(market(walk(seed)), 200, high=150.0)
    scaled = rows.with_columns(pl.col("open", "high", "low", "close") * scale)
    found, again = find_anomalies(rows), find_anomalies(scaled)
    assert again.select("open_time", "kind").equals(found.select("open_time", "kind"))
    assert found["kind"].to_list() == ["spike"]
    rounding = 0 if math.frexp(scale)[0] == 0.5 else 1e-9
    for name, factor in (("score", 1.0), ("value", scale), ("expected", scale)):
        assert ((again[name] / (found[name] * factor) - 1).abs() <= rounding).all(), name


# --- stale prices ---------------------------------------------------------------------------------


@given(seeds, st.integers(61, 250))
def test_a_price_that_stands_still_while_it_trades_is_flagged_once(seed: int, count: int) -> None:
    closes = walk(seed)
    closes[100 : 100 + count] = [closes[100]] * count
    (flag,) = find_anomalies(market(closes)).rows()
    assert flag[:4] == (TIMES[100], "stale_price", count, 60)


@given(seeds, st.integers(2, 200))
def test_quiet_minutes_are_not_stale(seed: int, count: int) -> None:
    closes, volumes = walk(seed), [10.0] * SIZE
    closes[100 : 100 + count], volumes[101 : 100 + count] = [closes[100]] * count, [0.0] * (count - 1)
    assert kinds(market(closes, volumes)) == {}


def test_a_stop_is_held_against_what_the_market_usually_does() -> None:
    """Four hours and more without a trade: in a busy market that is no habit, in one that trades every half
    hour it is.
    """
    closes, volumes = walk(1), [10.0] * SIZE
    closes[100:400], volumes[101:400] = [closes[100]] * 300, [0.0] * 299
    assert kinds(market(closes, volumes)) == {"stale_price": 1}
    rare = [100 + n // 30 * 0.1 for n in range(SIZE)]
    assert kinds(market(rare, [10.0 if n % 30 == 0 else 0.0 for n in range(SIZE)])) == {}
    rare[100:420] = [rare[100]] * 320
    assert (
        kinds(market(rare, [10.0 if n % 30 == 0 and not 100 <= n < 420 else 0.0 for n in range(SIZE)])) == {}
    )


def test_a_market_that_always_stands_still_is_not_stale() -> None:
    """A stablecoin: runs of half an hour are its habit, and an hour is not far longer."""
    closes = [1.0 + n // 30 % 2 * 1e-4 for n in range(SIZE)]
    closes[90:180] = [closes[90]] * 90
    assert kinds(market(closes)) == {}


# --- volumes --------------------------------------------------------------------------------------


@given(seeds, st.integers(0, SIZE - 1), st.sampled_from([1e-8, 1.0, 1e9]))
def test_a_volume_far_above_its_neighbourhood_is_flagged(seed: int, n: int, unit: float) -> None:
    volumes = [unit * math.exp(0.5 * wave(seed + 1, m)) for m in range(SIZE)]
    assert kinds(market(walk(seed), volumes)) == {}
    volumes[n] = unit * 1000
    found = find_anomalies(market(walk(seed), volumes))
    assert found.select("open_time", "kind", "value").rows() == [(TIMES[n], "volume_outlier", unit * 1000)]
    assert 0.5 * unit < found["expected"].item() < 2 * unit


def test_volumes_that_are_all_alike_have_no_deviation_and_still_an_outlier() -> None:
    volumes = [10.0] * SIZE
    volumes[50], volumes[60] = 60.0, 80.0
    assert find_anomalies(market(walk(3), volumes))["open_time"].to_list() == [TIMES[60]]


# --- all of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_candles_are_judged_by_nothing(count: int) -> None:
    found = find_anomalies(candles(TIMES[:count]))
    assert (found.height, found.schema) == (0, SCHEMA)


def test_a_market_that_never_trades_is_judged_by_nothing() -> None:
    assert kinds(market([100.0] * SIZE, 0.0)) == {}


def test_absent_candles_are_no_anomaly_and_hide_none() -> None:
    rows = replaced(market(walk(5)), 300, high=150.0)
    assert find_anomalies(rows.filter(~pl.col("open_time").is_between(TIMES[310], TIMES[450])))[
        "open_time"
    ].to_list() == [TIMES[300]]


def recorded(folder: Path) -> dict[str, pl.DataFrame]:
    """1m candles as exchanges publish them: months of three USD-M markets' files, thirty days of Bybit,
    single days of spot.
    """
    found = {
        path.name[:-7]: parse_klines(path.name, gzip.decompress(path.read_bytes()), "linear")
        for path in sorted((folder / "isda_um_1m").glob("*.gz"))
    }
    for symbol in ("BTCUSDT", "DOGEUSDT"):
        raw = pl.read_csv(
            gzip.decompress((folder / "bybit_linear_rest" / f"{symbol}_1m.csv.gz").read_bytes())
        )
        opened = (
            pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%:z", time_unit="us").alias("open_time")
        )
        found[f"bybit {symbol}"] = raw.select(
            opened, *(pl.col(name).cast(pl.Float64) for name in ("open", "high", "low", "close", "volume"))
        )
    for path in sorted((folder / "binance_archive/data/spot/daily/klines/BTCUSDT/1m").glob("*.zip")):
        found[path.stem] = parse_klines(path.name, extract_csv(path.name, path.read_bytes()), "spot")
    found["ADABTC"] = parse_klines(
        "ADABTC", (folder / "nautilus_trader/ADABTC-1m-2021-11-27.csv").read_bytes(), "spot"
    )
    return {name: rows.sort("open_time") for name, rows in found.items()}


def test_real_months_raise_nothing_a_few_flags_when_asked_sharply_and_a_planted_print(
    real_data: Path,
) -> None:
    sharp = Sensitivity(spike=3, least_spike=0.002, stale=5, least_stale=5, volume=5)
    counts = {}
    for name, rows in recorded(real_data).items():
        assert kinds(rows) == {}, name
        flags = Counter(find_anomalies(rows, sharp)["kind"])
        counts[name] = tuple(flags[kind] for kind in KINDS)
        n = rows.height // 2
        planted = replaced(rows, n, low=rows["low"][n] * 0.97)
        assert find_anomalies(planted).select("open_time", "kind").rows() == [
            (rows["open_time"][n], "spike")
        ], name
    assert counts == {
        "LTCUSDT-1m-2026-02": (1, 1, 14),
        "NEARUSDT-1m-2024-02": (1, 2, 13),
        "NEARUSDT-1m-2025-02": (0, 1, 9),
        "bybit BTCUSDT": (0, 10, 2),
        "bybit DOGEUSDT": (1, 0, 5),
        "BTCUSDT-1m-2020-01-01": (0, 0, 0),
        "BTCUSDT-1m-2020-01-02": (0, 0, 3),
        "ADABTC": (0, 3, 0),
    }


def test_flags_are_in_order(real_data: Path) -> None:
    rows = next(iter(recorded(real_data).values()))
    found = find_anomalies(rows, Sensitivity(spike=1, least_spike=0.001, stale=2, least_stale=3, volume=3))
    keys: list[tuple[datetime, str]] = found.select("open_time", "kind").rows()
    assert len(keys) > 100
    assert keys == sorted(set(keys))
    assert set(found["kind"]) == set(KINDS)
    assert (found["score"] >= 1).all()
