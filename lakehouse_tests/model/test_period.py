"""Months and days are periods: they tile time, shift by whole periods, and are ordered as time is."""

import pickle
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.model.cell import Cell
from lakehouse.model.errors import TimeFormatError
from lakehouse.model.market import Market
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.timerange import LAST, TimeRange
from lakehouse_tests.making import MICRO, at

kinds = st.sampled_from(["month", "day"])
instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))
periods = st.builds(Period.of, instants, kinds)
steps = st.integers(-3000, 3000)


@given(periods)
@example(Period.parse("0001-01"))
@example(Period.parse("9999-12"))
@example(Period.parse("9999-12-31"))
def test_a_period_reads_back_from_its_text(period: Period) -> None:
    assert Period.parse(period.text) == period
    assert str(period) == period.text
    assert Period.parse(period.text).kind == period.kind


@given(instants, kinds)
def test_an_instant_lies_in_the_window_of_its_period_and_of_no_other(
    instant: datetime, kind: PeriodKind
) -> None:
    period = Period.of(instant, kind)
    assert period.window.start <= instant < period.window.end
    assert period.contains(instant)
    assert not period.shift(1).contains(instant) if period.window.end < LAST else True
    assert period.text == instant.date().isoformat()[: 7 if kind == "month" else 10]


@given(st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)), kinds, steps, steps)
def test_a_shift_goes_from_window_to_window_adds_up_and_goes_back(
    instant: datetime, kind: PeriodKind, one: int, other: int
) -> None:
    period = Period.of(instant, kind)
    assert period.shift(1).window.start == period.window.end
    assert period.shift(one).shift(other) == period.shift(one + other)
    assert period.shift(one).shift(-one) == period
    assert period.shift(one).kind == kind
    assert period.shift(one).number - period.number == one
    assert (period.shift(one) < period) == (one < 0)


@given(st.integers(-4_000_000, 4_000_000), kinds, steps)
def test_a_shift_beyond_the_calendar_has_a_text_and_comes_back(
    number: int, kind: PeriodKind, by: int
) -> None:
    period = Period(kind, number)
    assert period.shift(by).shift(-by).text == period.text
    assert (period.shift(by).text == period.text) == (by == 0)


@pytest.mark.parametrize("beyond", [Period.parse("9999-12-31").shift(1), Period.parse("0001-01").shift(-1)])
def test_a_period_beyond_the_calendar_has_no_window(beyond: Period) -> None:
    with pytest.raises(TimeFormatError):
        beyond.window.start.isoformat()


@given(instants, instants, kinds)
def test_covering_periods_tile_a_range_without_holes_or_spare_periods(
    one: datetime, other: datetime, kind: PeriodKind
) -> None:
    start = min(one, other)
    span = TimeRange(start, min(max(one, other), start.replace(year=min(start.year + 3, 9999))) + MICRO)
    windows = [period.window for period in Period.covering(span, kind)]
    assert windows[0].start <= span.start < windows[0].end
    assert windows[-1].start < span.end <= windows[-1].end
    assert all(before.end == after.start for before, after in pairwise(windows))
    texts = [period.text for period in Period.covering(span, kind)]
    assert texts == list(span.months() if kind == "month" else span.days())


@given(periods, periods)
def test_periods_are_ordered_by_their_start_and_a_month_before_its_first_day(
    one: Period, other: Period
) -> None:
    assert (one < other) == (one.text < other.text)
    if one.window.start != other.window.start:
        assert (one < other) == (one.window.start < other.window.start)
    elif one.kind != other.kind:
        assert (one < other) == (one.kind == "month")
    assert (one <= other, one > other) == (one < other or one == other, other < one)


@given(periods, periods)
def test_a_period_contains_another_exactly_where_its_window_does(one: Period, other: Period) -> None:
    inside = one.window.start <= other.window.start and other.window.end <= one.window.end
    assert one.contains(other) == inside
    assert one.contains(one)
    assert one.month.contains(one)
    assert one.month.kind == "month"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-1",
        "2024-13",
        "2024-00",
        "0000-01",
        "2024-02-30",
        "20240205",
        "2024-W05-1",
        "2024-02-05T00",
        "２０２４-01",
        "2024-01 ",
        "10000-01",
        "10000-01-01",
    ],
)
def test_what_is_neither_a_month_nor_a_day_is_refused(text: str) -> None:
    with pytest.raises(TimeFormatError):
        Period.parse(text)
    with pytest.raises(TimeFormatError):
        Cell(text).window.start.isoformat()


@given(periods, steps)
def test_a_cell_shifts_by_its_own_windows_and_keeps_its_market(period: Period, by: int) -> None:
    cell = Cell(period.text, Market("binance", "spot", "BTCUSDT"))
    assert cell.shift(by) == Cell(period.shift(by).text, cell.market)
    assert (cell.period, cell.grain, cell.window) == (period, period.kind, period.window)


def test_the_cell_after_a_day_is_the_next_day() -> None:
    assert Cell("2024-02-29").shift(1) == Cell("2024-03-01")
    assert Cell("2024-03-01").shift(-1) == Cell("2024-02-29")
    assert Cell("2024-02-29").window == TimeRange(at("2024-02-29"), at("2024-03-01"))


def test_a_cell_that_was_carried_to_another_process_is_the_same_cell_there() -> None:
    cell = Cell("2024-02", Market("binance", "spot", "BTCUSDT"))
    program = (
        "import pickle, sys; from lakehouse.model.cell import Cell; from lakehouse.model.market import "
        "Market; "
        "print({Cell('2024-02', Market('binance', 'spot', 'BTCUSDT')): 1}[pickle.loads(sys.stdin.buffer.read())])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(cell), capture_output=True, check=True
    )
    assert done.stdout.split() == [b"1"]
