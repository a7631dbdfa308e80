"""Ranges are half-open, and calendar windows tile them."""

import calendar
import contextlib
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.errors import RangeBackwardsError, TimeFormatError, UsageError
from lakehouse.model.timerange import (
    FIRST,
    LAST,
    TimeRange,
    day_range,
    month_range,
    parse_instant,
    shift_month,
)
from lakehouse_tests.making import MICRO, at

instants = st.datetimes(datetime(2017, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))
anywhen = st.datetimes(timezones=st.just(UTC))
months = st.tuples(st.integers(1, 9998), st.integers(1, 12)).map(
    lambda parts: f"{parts[0]:04d}-{parts[1]:02d}"
)
spans = st.tuples(instants, st.timedeltas(MICRO, timedelta(days=120))).map(
    lambda parts: TimeRange(parts[0], parts[0] + parts[1])
)


@given(spans)
def test_months_and_days_tile_a_range_without_holes_or_spare_windows(span: TimeRange) -> None:
    for windows in ([month_range(month) for month in span.months()], [day_range(day) for day in span.days()]):
        assert windows[0].start <= span.start < windows[0].end
        assert windows[-1].start < span.end <= windows[-1].end
        assert all(before.end == after.start for before, after in pairwise(windows))


@given(months.filter(lambda month: "0101" < month < "9898"), st.integers(-600, 600), st.integers(-600, 600))
def test_shifting_months_adds_up_and_goes_back(month: str, one: int, other: int) -> None:
    assert shift_month(shift_month(month, one), other) == shift_month(month, one + other)
    assert shift_month(shift_month(month, one), -one) == month


@given(months)
def test_a_month_has_its_calendar_length_and_ends_where_the_next_begins(month: str) -> None:
    window = month_range(month)
    assert window.end - window.start == timedelta(days=calendar.monthrange(int(month[:4]), int(month[5:]))[1])
    assert window.end == month_range(shift_month(month, 1)).start
    assert TimeRange(window.start, window.end).months()[:] == [month]


@given(anywhen, anywhen)
def test_the_months_of_any_range_are_those_that_it_touches(one: datetime, other: datetime) -> None:
    span = (
        TimeRange(min(one, other), max(one, other) + MICRO)
        if max(one, other) < LAST
        else TimeRange(FIRST, LAST)
    )
    months = span.months()
    assert span.overlap(*ends(months[0])) is not None
    assert span.overlap(*ends(months[-1])) is not None
    assert months[0] == span.start.date().isoformat()[:7]
    for instant in (one, other):
        assert (instant.date().isoformat()[:7] in months) == (span.start <= instant < span.end)
    assert shift_month(months[0], -1) not in months
    assert months[:30] == list(dict.fromkeys(months[:30]))
    assert not any(
        odd in months
        for odd in ("", "2024", "2024-00", "2024-13", "2024-1", "2024-01-01", "２０２４-01", None, 2024)
    )


def ends(month: str) -> tuple[datetime, datetime]:
    window = month_range(month)
    return window.start, window.end


def test_the_last_month_and_day_of_the_calendar_end_with_it() -> None:
    assert month_range("9999-12") == TimeRange(at("9999-12-01"), LAST)
    assert day_range("9999-12-31") == TimeRange(at("9999-12-31"), LAST)
    always = TimeRange.parse(None, None)
    assert (always.start, always.end, len(always.months())) == (FIRST, LAST, 12 * 9999)
    assert (always.months()[0], always.months()[-1]) == ("0001-01", "9999-12")
    assert TimeRange(FIRST, FIRST + timedelta(days=2)).days() == ["0001-01-01", "0001-01-02"]
    assert TimeRange(at("9999-12-30T12:00"), LAST).days() == ["9999-12-30", "9999-12-31"]
    assert str(always) == "[0001-01-01T00:00:00Z, 9999-12-31T23:59:59Z)"


@given(spans, instants)
def test_clip_moves_an_instant_to_the_nearer_end_and_leaves_those_inside(
    span: TimeRange, instant: datetime
) -> None:
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


class Timestamp(datetime):
    """As pandas has it: an instant with three more digits, whose arithmetic stays in its own type."""

    nanosecond = 0

    def astimezone(self, tz: object = None) -> "Timestamp":
        return self


class NotATime(datetime):
    """As pandas' NaT: a datetime of which every field is not-a-number, and which is neither before nor after
    any other.
    """

    year = month = day = hour = minute = second = microsecond = property(lambda self: float("nan"))  # type: ignore[assignment]

    def utcoffset(self) -> None:
        return None

    def __le__(self, other: object) -> bool:
        return False

    __lt__ = __ge__ = __gt__ = __le__


class Datetime64:
    """As numpy's `datetime64` of any unit: `item` is a date, a datetime, None for NaT, or a number where
    Python has none.
    """

    ndim = 0

    def __init__(self, item: object, text: str) -> None:
        self.dtype, self._item, self._text = type("dtype", (), {"kind": "M"}), item, text

    def item(self) -> object:
        return self._item

    def __str__(self) -> str:
        return self._text


def stamp(nanosecond: int) -> Timestamp:
    made = Timestamp(2024, 2, 5, 6, 30, tzinfo=timezone(timedelta(hours=2)))
    made.nanosecond = nanosecond
    return made


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (stamp(0), "2024-02-05T04:30"),
        (Datetime64(date(2024, 1, 1), "2024"), "2024-01-01"),
        (Datetime64(datetime(2024, 2, 5, 6), "2024-02-05T06"), "2024-02-05T06:00"),
        (Datetime64(1707112800000000000, "2024-02-05T06:00:00.000000000"), "2024-02-05T06:00"),
        ("2024-02-05T06:30:00.120000000", "2024-02-05T06:30:00.12"),
        (date.max, "9999-12-31"),
        (datetime.max, "9999-12-31T23:59:59.999999"),
        ("0001-01-01", "0001-01-01"),
        ("0001-01-01T02:00+02:00", "0001-01-01"),
    ],
)
def test_an_instant_is_plain_whatever_it_is_read_from(value: datetime, meant: str) -> None:
    read = parse_instant(value)
    assert (type(read), read.tzinfo, read) == (datetime, UTC, at(meant))


def test_what_numpy_and_pandas_make_is_read() -> None:
    """Where they are installed; the look-alikes above stand in for them elsewhere."""
    made: list[tuple[object, str | None]] = []
    with contextlib.suppress(ImportError):
        import numpy as np

        units = [
            (np.datetime64("2024-02-05", unit), "2024-02-05")
            for unit in ("D", "h", "m", "s", "ms", "us", "ns")
        ]
        made += [
            *units,
            (np.datetime64("NaT"), None),
            (np.datetime64(10**15, "s"), None),
            (np.datetime64("2024-02-05T00:00:00.000000001"), None),
        ]
    with contextlib.suppress(ImportError):
        import pandas as pd

        made += [
            (pd.Timestamp("2024-02-05T09:00+09:00"), "2024-02-05"),
            (pd.NaT, None),
            (pd.Timestamp.max, None),
        ]
    for value, meant in [*made, (stamp(0), "2024-02-05T04:30"), (NotATime(1, 1, 1), None)]:
        if meant is None:
            with pytest.raises(TimeFormatError):
                parse_instant(value)  # type: ignore[arg-type]
        else:
            assert (type(parse_instant(value)), parse_instant(value)) == (datetime, at(meant))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        *[
            "",
            " ",
            "yesterday",
            "2024-13",
            "2024-1",
            "2024-02-30",
            "20240",
            "2024-02-05 25:00",
            "NaT",
            "infinity",
            "10000-01",
            "10000-01-01",
            "0000-01-01",
            "1234567",
        ],
        *[None, 2024, 1.5, float("nan"), float("inf"), True, b"2024-02-05", ["2024-02-05"]],
        *[
            NotATime(1, 1, 1),
            Datetime64(None, "NaT"),
            Datetime64(20_000, "21970"),
            Datetime64(10**18, "31688740476-10-23T01:46:40"),
            Datetime64(1, "1234567"),
        ],
        *[
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime.max.replace(tzinfo=timezone(-timedelta(hours=2))),
            "9999-12-31T23:00-02:00",
        ],
        *[
            stamp(1),
            "2024-02-05T06:30:00.1234567",
            "2024-02-05T06:30:00,000000001Z",
            Datetime64(1, "2024-02-05T00:00:00.000000000001"),
        ],
    ],
)
def test_what_is_no_instant_or_finer_than_a_microsecond_is_refused_with_what_was_expected(value: str) -> None:
    with pytest.raises(TimeFormatError, match=r"Expected YYYY-MM-DD.* no finer than a microsecond"):
        parse_instant(value)
    with pytest.raises(TimeFormatError):
        TimeRange.parse("2024-01-01", value) if value is not None else parse_instant(value)
    assert issubclass(TimeFormatError, UsageError)


def test_a_range_of_ends_that_cannot_be_compared_is_none() -> None:
    with pytest.raises(RangeBackwardsError):
        TimeRange(NotATime(1, 1, 1), at("2024-01-01"))


@pytest.mark.parametrize("end", ["2024-02-01", "2024-01-31"])
def test_an_empty_or_backward_range_is_refused(end: str) -> None:
    with pytest.raises(RangeBackwardsError, match="half-open"):
        TimeRange.parse("2024-02-01", end)


def test_a_range_prints_as_half_open() -> None:
    assert str(TimeRange.parse("2024-02", "2024-03")) == "[2024-02-01T00:00:00Z, 2024-03-01T00:00:00Z)"
