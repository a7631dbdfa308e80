"""Ranges are half-open, and calendar windows tile them."""

import calendar
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.errors import RangeBackwardsError, TimeFormatError, UsageError
from lakehouse.model.timerange import TimeRange, day_range, month_range, parse_instant, shift_month
from lakehouse_tests.making import MICRO, at

instants = st.datetimes(datetime(2017, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))
months = st.tuples(st.integers(1970, 2100), st.integers(1, 12)).map(lambda parts: f"{parts[0]:04d}-{parts[1]:02d}")
spans = st.tuples(instants, st.timedeltas(MICRO, timedelta(days=120))).map(lambda parts: TimeRange(parts[0], parts[0] + parts[1]))


@given(spans)
def test_months_and_days_tile_a_range_without_holes_or_spare_windows(span: TimeRange) -> None:
    for windows in ([month_range(month) for month in span.months()], [day_range(day) for day in span.days()]):
        assert windows[0].start <= span.start < windows[0].end
        assert windows[-1].start < span.end <= windows[-1].end
        assert all(before.end == after.start for before, after in pairwise(windows))


@given(months, st.integers(-600, 600), st.integers(-600, 600))
def test_shifting_months_adds_up_and_goes_back(month: str, one: int, other: int) -> None:
    assert shift_month(shift_month(month, one), other) == shift_month(month, one + other)
    assert shift_month(shift_month(month, one), -one) == month


@given(months)
def test_a_month_has_its_calendar_length_and_ends_where_the_next_begins(month: str) -> None:
    window = month_range(month)
    assert window.end - window.start == timedelta(days=calendar.monthrange(int(month[:4]), int(month[5:]))[1])
    assert window.end == month_range(shift_month(month, 1)).start
    assert TimeRange(window.start, window.end).months() == [month]


@given(spans, instants)
def test_clip_moves_an_instant_to_the_nearer_end_and_leaves_those_inside(span: TimeRange, instant: datetime) -> None:
    clipped = span.clip(instant)
    assert span.start <= clipped <= span.end
    assert clipped == instant if span.start <= instant <= span.end else clipped in (span.start, span.end)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-02", "2024-02-01"),
        ("2024-02-05", "2024-02-05"),
        ("2024-02-05T06:30", "2024-02-05T06:30"),
        ("2024-02-05T06:30:00+02:00", "2024-02-05T04:30"),
        ("2024-02-05T06:30:00Z", "2024-02-05T06:30"),
        (date(2024, 2, 5), "2024-02-05"),
        (datetime(2024, 2, 5, 6), "2024-02-05T06:00"),
    ],
)
def test_dates_are_read_as_utc(text: str | date, meant: str) -> None:
    assert parse_instant(text) == at(meant)
    assert parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13", "2024-1", "2024-02-30", "20240", "2024-02-05 25:00", None, 2024])
def test_other_text_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(TimeFormatError, match="Expected YYYY-MM-DD"):
        parse_instant(text)
    assert issubclass(TimeFormatError, UsageError)


@pytest.mark.parametrize("end", ["2024-02-01", "2024-01-31"])
def test_an_empty_or_backward_range_is_refused(end: str) -> None:
    with pytest.raises(RangeBackwardsError, match="half-open"):
        TimeRange.parse("2024-02-01", end)


def test_a_range_prints_as_half_open() -> None:
    assert str(TimeRange.parse("2024-02", "2024-03")) == "[2024-02-01T00:00:00Z, 2024-03-01T00:00:00Z)"
