"""Windows of candles: what ends a run, and sums that nothing outside a window can change by a bit."""

import math
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.interval import MINUTE, Interval
from lakehouse.transform.windows import where_full, window_sum, with_runs
from lakehouse_tests.making import at, minutes, series

HOUR = Interval.parse("1h")


def lengths(times: list[datetime], interval: Interval = MINUTE, counts: list[int] | None = None) -> list[int]:
    frame = pl.DataFrame([series(times)])
    if counts is not None:
        frame = frame.with_columns(pl.Series("candle_count", counts, pl.Int32))
    found = with_runs(frame, interval)
    assert found.columns[-2:] == ["run", "run_length"]
    return found["run_length"].to_list()


def test_an_absent_candle_ends_a_run_and_so_does_one_that_lacks_minutes() -> None:
    times = minutes("2024-02-01", 6)
    assert lengths(times) == [1, 2, 3, 4, 5, 6]
    assert lengths(times[:2] + times[3:]) == [1, 2, 1, 2, 3]
    hours = [at("2024-02-01") + n * HOUR.delta for n in range(6)]
    assert lengths(hours, HOUR, [60, 60, 59, 60, 60, 60]) == [1, 2, 0, 1, 2, 3]
    assert lengths(hours, HOUR, [1, 60, 60, 60, 60, 7]) == [0, 1, 2, 3, 4, 0]
    assert lengths(hours, HOUR, [60, 3, 4, 60, 60, 60]) == [1, 0, 0, 1, 2, 3]
    assert lengths([]) == lengths([], HOUR, []) == []


def test_two_candles_of_a_slot_and_one_off_the_grid_end_a_run() -> None:
    first = at("2024-02-01")
    off = [first, first + MINUTE.delta, first + timedelta(seconds=90), first + 3 * MINUTE.delta]
    assert lengths(off) == [1, 2, 1, 1]


def test_a_listing_break_ends_a_run_at_every_length_of_candle() -> None:
    """Seven days without a row: whatever the candles, at least six whole days of them are absent."""
    for name in ("1m", "1h", "1d"):
        interval = Interval.parse(name)
        gone, back = at("2024-02-01T12:00"), at("2024-02-08T12:00")
        first, last = (moment.replace(hour=0) if name == "1d" else moment for moment in (gone, back))
        times = [first - interval.delta, first, last, last + interval.delta]
        assert lengths(times, interval, [interval.minutes] * 4) == [1, 2, 1, 2]


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=80), st.integers(1, 70), st.floats(-1e18, 1e18))
def test_a_sum_is_that_of_its_window_and_no_row_before_changes_a_bit(
    values: list[float], count: int, before: float
) -> None:
    found = window_sum(pl.Series(values), count).to_list()
    assert found[: count - 1] == [None] * min(count - 1, len(values))
    for place, total in enumerate(found[count - 1 :]):
        exact = math.fsum(values[place : place + count])
        assert total == pytest.approx(exact, rel=1e-13, abs=1e-3), "1e-3 of 1e12: the bits that a float has"
    others = window_sum(pl.Series([before] * 3 + values), count).to_list()
    assert others[3 + count - 1 :] == found[count - 1 :]


def test_a_null_in_a_window_leaves_no_sum() -> None:
    values = pl.Series([1.0, None, 2.0, 3.0, 4.0])
    assert window_sum(values, 1).to_list() == values.to_list()
    assert window_sum(values, 2).to_list() == [None, None, None, 5.0, 7.0]
    assert where_full(pl.Series([1.0, 2.0, 3.0]), pl.Series([0, 1, 2]), 2).to_list() == [None, None, 3.0]
