"""Filling adds a marked row for every slot that no candle covers, and touches no other."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.features.candle import CANDLES
from lakehouse.model.interval import INTERVALS, MINUTE, Interval
from lakehouse.model.timerange import TimeRange
from lakehouse.registry import REGISTRY
from lakehouse.transform.fill import FILLS, Fill, fill_candles
from lakehouse_tests.making import MICRO, at, candles

START = at("2024-02-05")
PRICES = ("open", "high", "low", "close")
COUNTED = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")
intervals = st.sampled_from(INTERVALS)
offsets = st.sets(st.integers(0, 60), max_size=40)
ways = st.sampled_from(FILLS)


def made(interval: Interval, numbers: set[int], off: timedelta = timedelta()) -> pl.DataFrame:
    """A candle of each numbered slot, whose close tells the number."""
    times = [START + n * interval.delta + off for n in sorted(numbers)]
    rows = candles(
        times,
        close=[100.0 + n for n in sorted(numbers)],
        close_time=[time + interval.delta - off - MICRO for time in times],
    )
    if interval == MINUTE:
        return rows
    coarse = next(table for table in CANDLES if table.name == f"gold/candle_{interval}")
    return rows.with_columns(
        pl.lit(1, pl.Int32).alias("candle_count"), (pl.col("open_time") + interval.delta).alias("knowable_at")
    ).select(coarse.names())


def window(interval: Interval, first: int, end: int) -> TimeRange:
    return TimeRange(START + first * interval.delta, START + end * interval.delta)


def slots(interval: Interval, numbers: range) -> list[datetime]:
    return [START + n * interval.delta for n in numbers]


@given(intervals, offsets, st.integers(0, 30), st.integers(31, 61), ways)
def test_every_slot_of_the_window_stands_once_and_real_rows_are_unchanged(
    interval: Interval, numbers: set[int], first: int, end: int, how: Fill
) -> None:
    rows = made(interval, numbers)
    filled = fill_candles(rows, interval, window(interval, first, end), how)
    assert filled.filter(~pl.col("is_filled")).drop("is_filled").equals(rows)
    inside = filled.filter(
        pl.col("open_time").is_between(*slots(interval, range(first, end))[:: end - first - 1], closed="both")
    )
    assert inside["open_time"].to_list() == slots(interval, range(first, end))
    assert filled.height == len(numbers | set(range(first, end)))
    assert filled["open_time"].is_sorted()
    assert (
        filled.drop("is_filled").schema
        == REGISTRY.table(
            "silver/candle" if interval == MINUTE else f"gold/candle_{interval}"
        ).polars_schema()
    )


@given(intervals, offsets, ways)
def test_a_window_within_slots_is_widened_to_them(interval: Interval, numbers: set[int], how: Fill) -> None:
    rows, inner = made(interval, numbers), window(interval, 10, 20)
    odd = TimeRange(inner.start + timedelta(seconds=20), inner.end - timedelta(seconds=30))
    assert fill_candles(rows, interval, odd, how).equals(fill_candles(rows, interval, inner, how))


@given(intervals, offsets.filter(bool))
def test_a_flat_row_has_the_last_close_and_nothing_traded(interval: Interval, numbers: set[int]) -> None:
    filled = fill_candles(made(interval, numbers), interval, window(interval, 0, 61), "flat").filter(
        "is_filled"
    )
    for row in filled.iter_rows(named=True):
        n = (row["open_time"] - START) // interval.delta
        last = max((number for number in numbers if number < n), default=None)
        assert {row[name] for name in PRICES} == {100.0 + last if last is not None else None}
        assert {row[name] for name in COUNTED} == {0 if last is not None else None}
        assert row["contracts"] is None, "what is not published is null, never zero"
        assert row["close_time"] == (row["open_time"] + interval.delta - MICRO if last is not None else None)
        if interval == MINUTE:
            assert (row["source"], row["is_truncated"], row["is_misaligned"]) == (
                None,
                *((False, False) if last is not None else (None, None)),
            )
        else:
            assert (row["candle_count"], row["knowable_at"]) == (
                (0, row["open_time"] + interval.delta) if last is not None else (None, None)
            )


@given(intervals, offsets)
def test_a_null_row_has_its_time_and_nothing_else(interval: Interval, numbers: set[int]) -> None:
    filled = (
        fill_candles(made(interval, numbers), interval, window(interval, 0, 61), "null")
        .filter("is_filled")
        .drop("open_time", "is_filled")
    )
    assert filled.select(pl.all().is_null().all()).row(0) == (True,) * filled.width


@given(intervals, offsets, st.integers(0, 60), st.integers(1, 20), ways)
def test_no_row_is_added_where_the_market_was_not_listed_and_no_price_crosses_it(
    interval: Interval, numbers: set[int], start: int, length: int, how: Fill
) -> None:
    """Also where the break begins or ends within a slot."""
    gone = TimeRange(
        START + start * interval.delta + interval.delta / 4,
        START + (start + length) * interval.delta - interval.delta / 4,
    )
    numbers = numbers - set(range(start, start + length))
    filled = fill_candles(made(interval, numbers), interval, window(interval, 0, 61), how, [gone])
    assert filled["open_time"].to_list() == slots(interval, range(start)) + slots(
        interval, range(start + length, 61)
    )
    after = filled.filter(pl.col("open_time") >= gone.end)
    first = min((number for number in numbers if number >= start + length), default=61)
    assert after["close"].null_count() == (
        max(0, first - start - length) if how == "flat" else after["is_filled"].sum()
    )


def test_a_misaligned_candle_covers_its_slot_and_keeps_its_time() -> None:
    rows = made(MINUTE, {0, 1, 3}, timedelta(seconds=17))
    filled = fill_candles(rows, MINUTE, window(MINUTE, 0, 4), "flat")
    assert filled.select("open_time", "close", "is_filled").rows() == [
        (START + timedelta(seconds=17), 100.0, False),
        (START + timedelta(seconds=77), 101.0, False),
        (START + timedelta(minutes=2), 101.0, True),
        (START + timedelta(seconds=197), 103.0, False),
    ]


def test_contracts_of_an_inverse_market_are_zero() -> None:
    rows = made(MINUTE, {0, 2}).with_columns(contracts=pl.lit(5.0))
    assert fill_candles(rows, MINUTE, window(MINUTE, 0, 3), "flat")["contracts"].to_list() == [5.0, 0.0, 5.0]


@pytest.mark.parametrize("how", FILLS)
def test_nothing_is_filled_where_nothing_is_known(how: Fill) -> None:
    rows = made(MINUTE, {0, 5})
    assert fill_candles(rows, MINUTE, None, how).equals(rows.with_columns(is_filled=pl.lit(False)))
