"""VWAP: a cell computed alone equals one computation over everything, and both equal plain Decimals."""

from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.input import Input
from lakehouse.model.timerange import TimeRange
from lakehouse_tests.making import BTC, MINUTE, at, candles, minutes

MARCH = Cell("2024-03", BTC)
START = at("2024-02-28T20:00")  # a leap day before the edge between the cells, and a day and a bit behind it
WINDOWS = {"vwap_1h": timedelta(hours=1), "vwap_1d": timedelta(days=1)}
sizes = st.sampled_from([0, 0, 1, 33_333_333, 10**12])
drawn = st.dictionaries(
    st.integers(0, 52 * 60), st.tuples(sizes, st.integers(1, 10**7)), min_size=1, max_size=40
)


def frame(rows: dict[int, tuple[int, int]]) -> pl.DataFrame:
    times = [START + n * MINUTE for n in sorted(rows)]
    volumes = [Decimal(rows[n][0]).scaleb(-8) for n in sorted(rows)]
    quotes = [
        volume * Decimal(rows[n][1]).scaleb(-2) for n, volume in zip(sorted(rows), volumes, strict=True)
    ]
    return candles(times, volume=[float(v) for v in volumes], quote_volume=[float(q) for q in quotes])


def compute(rows: pl.DataFrame, window: TimeRange) -> pl.DataFrame:
    return Vwap.conform(Vwap.compute({"silver/candle": rows}, window), None)


def naive(rows: pl.DataFrame) -> dict[datetime, dict[str, object]]:
    exact = [
        (row["open_time"], Decimal(repr(row["volume"])), Decimal(repr(row["quote_volume"])))
        for row in rows.iter_rows(named=True)
    ]

    def price(inside: list[tuple[datetime, Decimal, Decimal]]) -> float | None:
        base = sum((volume for _, volume, _ in inside), Decimal(0))
        return float(sum((quote for _, _, quote in inside), Decimal(0)) / base) if base else None

    out = {}
    for time, _, _ in exact:
        inside = {
            name: [row for row in exact if time - length < row[0] <= time] for name, length in WINDOWS.items()
        }
        inside["vwap_session"] = [row for row in exact if time.replace(hour=0, minute=0) <= row[0] <= time]
        counts = {name.replace("vwap", "candle_count"): len(rows) for name, rows in inside.items()}
        out[time] = (
            {name: price(found) for name, found in inside.items()} | counts | {"knowable_at": time + MINUTE}
        )
    return out


@settings(max_examples=30)
@given(drawn)
def test_it_equals_plain_decimals_over_gaps_and_quiet_minutes(rows: dict[int, tuple[int, int]]) -> None:
    fine = frame(rows)
    found = compute(fine, TimeRange(START, START + timedelta(days=3)))
    expected = naive(fine)
    assert found["open_time"].to_list() == list(expected)
    for row in found.iter_rows(named=True):
        wanted = expected[row.pop("open_time")]
        assert {name: row[name] is None for name in row} == {
            name: value is None for name, value in wanted.items()
        }
        assert all(row[name] == wanted[name] for name in wanted if not name.startswith("vwap"))
        assert all(
            row[name] == pytest.approx(wanted[name], rel=1e-14)
            for name in ("vwap_1h", "vwap_1d", "vwap_session")
            if wanted[name] is not None
        )


@settings(max_examples=30)
@given(drawn, st.randoms(use_true_random=False))
def test_a_month_alone_with_its_lookback_equals_everything_at_once(
    rows: dict[int, tuple[int, int]], random: object
) -> None:
    fine = frame(rows)
    assert Vwap.inputs == (Input(Candle, lookback=timedelta(days=1)),)
    window = MARCH.window
    lookback = fine.filter(
        pl.col("open_time").is_between(MARCH.shift(-1).window.start, window.end, closed="left")
    )
    alone = compute(lookback, window)
    everything = compute(fine, TimeRange(START, window.end)).filter(pl.col("open_time") >= window.start)
    assert alone.equals(everything)
    seed = random.randrange(99)  # type: ignore[attr-defined]
    assert compute(fine.sample(fraction=1, shuffle=True, seed=seed), window).equals(alone), "in any order"


def test_no_trade_in_a_window_is_no_price() -> None:
    found = compute(
        candles(minutes("2024-03-01", 3), volume=[0.0, 0.0, 2.0], quote_volume=[0.0, 0.0, 30.0]), MARCH.window
    )
    assert found.select("vwap_1h", "vwap_session", "candle_count_1h").rows() == [
        (None, None, 1),
        (None, None, 2),
        (15.0, 15.0, 3),
    ]


def test_a_quote_volume_that_is_not_published_makes_no_price_and_no_part_of_one() -> None:
    """A size whose value is unknown must not pull the price towards zero."""
    times = minutes("2024-03-01", 4)
    found = compute(candles(times, volume=2.0, quote_volume=[None, None, 30.0, None]), MARCH.window)
    assert found["vwap_1h"].to_list() == [None, None, 15.0, 15.0]
    assert found["candle_count_1h"].to_list() == [1, 2, 3, 4]
    assert Vwap.split(found)[1].height == 0


def test_windows_end_with_the_candle_and_the_session_starts_at_midnight() -> None:
    fine = candles(minutes("2024-02-29T23:00", 121), volume=1.0, quote_volume=[float(n) for n in range(121)])
    found = {row["open_time"]: row for row in compute(fine, MARCH.window).iter_rows(named=True)}
    assert len(found) == 61
    first, last = found[at("2024-03-01T00:00")], found[at("2024-03-01T01:00")]
    assert (first["vwap_session"], first["candle_count_1h"], first["vwap_1h"]) == (
        60.0,
        60,
        sum(range(1, 61)) / 60,
    )
    assert (last["vwap_session"], last["candle_count_1d"], last["vwap_1d"]) == (90.0, 121, 60.0)
    assert last["vwap_1h"] == sum(range(61, 121)) / 60
    assert (first["candle_count_session"], last["candle_count_session"]) == (1, 61)


def test_a_minute_with_two_candles_counts_once_in_every_window() -> None:
    times = minutes("2024-03-01", 10)
    fine = candles(sorted([*times[:4], times[3] + timedelta(seconds=40), *times[5:]]))
    last = compute(fine, MARCH.window).row(-1, named=True)
    assert [last[f"candle_count_{name}"] for name in ("1h", "1d", "session")] == [9, 9, 9]
