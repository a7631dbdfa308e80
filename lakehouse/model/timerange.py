"""Half-open ranges of UTC time, and the calendar windows cells are cut along."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, overload

from lakehouse.model.errors import RangeBackwardsError, TimeFormatError

FIRST = datetime.min.replace(tzinfo=UTC)
"""The first instant that there is: where a range begins that has no start."""

LAST = datetime.max.replace(tzinfo=UTC)
"""The last instant that there is: where a range ends that has no end, and the last month of the calendar."""

# Python reads six digits of a second and drops the others in silence
_FINER = re.compile(r"[.,]\d{6}(?=\d*[1-9])")
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)


def parse_instant(value: str | date | datetime) -> datetime:
    """Read an ISO date, an ISO date-time or `YYYY-MM` as an instant in UTC; input without an offset is taken
    as UTC.

    What pandas and numpy have for a date or an instant is read as well. The result is a plain `datetime`,
    whatever subclass of it is given.

    Raises:
        TimeFormatError: It is no date or date-time, such as a number or NaT; or it is finer than a
            microsecond; or it lies outside the years 1 to 9999.
    """
    try:
        read = _out_of_numpy(value) if _is_numpy(value) else value
        if isinstance(read, datetime):
            return _plain(read)
        if isinstance(read, date):
            return datetime(read.year, read.month, read.day, tzinfo=UTC)
        if isinstance(read, str) and not _FINER.search(read):
            return _plain(datetime.fromisoformat(f"{read}-01" if is_month(read) else read))
    except (ValueError, TypeError, OverflowError):  # of a field that is none, as those of pandas' NaT are
        raise TimeFormatError(value) from None
    raise TimeFormatError(value)


def _is_numpy(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", None) == "M" and getattr(value, "ndim", None) == 0


def _out_of_numpy(value: Any) -> date | str:
    """A `datetime64` of any unit; as text where Python's dates do not reach or are too coarse."""
    plain = value.item()
    return plain if isinstance(plain, date) else str(value)


def _plain(value: datetime) -> datetime:
    """An instant of any subclass of `datetime`, field by field."""
    if getattr(value, "nanosecond", 0):
        raise ValueError("finer than a microsecond")
    fields = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return datetime(*fields, tzinfo=UTC) - (value.utcoffset() or timedelta())


@dataclass(frozen=True, slots=True)
class Months(Sequence[str]):
    """Calendar months in succession, each as `YYYY-MM`: as cheap for all of time as for one.

    Attributes:
        first: The number of the first month, see `month_number`.
        end: The number of the month after the last one.
    """

    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[str]:
        return map(month_text, range(self.first, self.end))

    def __contains__(self, month: object) -> bool:
        return isinstance(month, str) and is_month(month) and self.first <= month_number(month) < self.end

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        chosen = range(self.first, self.end)[index]
        return month_text(chosen) if isinstance(chosen, int) else [month_text(number) for number in chosen]


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """A half-open range `[start, end)` of UTC time.

    Raises:
        RangeBackwardsError: `end` is not after `start`.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise RangeBackwardsError(self.start, self.end)

    @classmethod
    def parse(cls, start: str | date | datetime | None, end: str | date | datetime | None) -> "TimeRange":
        """Read both ends with `parse_instant`; None is an open end, which lies where the calendar does."""
        return cls(
            FIRST if start is None else parse_instant(start), LAST if end is None else parse_instant(end)
        )

    def months(self) -> Months:
        """Every calendar month that the range touches, as `YYYY-MM`, in order."""
        last = self.end - timedelta(microseconds=1)  # which is in the range
        return Months(_number(self.start), _number(last) + 1)

    def days(self) -> list[str]:
        """Every UTC day that the range touches, as `YYYY-MM-DD`, in order."""
        first = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        count = -((first - self.end) // timedelta(days=1))
        return [(first + timedelta(days=n)).date().isoformat() for n in range(count)]

    def overlap(self, start: datetime, end: datetime) -> "TimeRange | None":
        """The part of `[start, end)` that lies in the range; None if there is none."""
        first, last = max(start, self.start), min(end, self.end)
        return TimeRange(first, last) if first < last else None

    def clip(self, instant: datetime) -> datetime:
        """The instant, moved to the nearer end when it lies outside."""
        return min(max(instant, self.start), self.end)

    def __str__(self) -> str:
        return f"[{_iso(self.start)}, {_iso(self.end)})"


def _iso(instant: datetime) -> str:
    """An instant in UTC to the second, `2024-02-05T06:30:00Z`; the year has four digits, which `strftime`
    does not promise.
    """
    return f"{instant.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _number(instant: datetime) -> int:
    return instant.year * 12 + instant.month - 1


def is_month(text: str) -> bool:
    """Whether a text is a month as `YYYY-MM`."""
    return _MONTH.fullmatch(text) is not None


def month_of(instant: datetime) -> str:
    """The month of an instant in UTC, as `YYYY-MM`."""
    return month_text(_number(instant))


def month_number(month: str) -> int:
    """The months from January of the year 0 to the month `YYYY-MM`, so that successive months have successive
    numbers.
    """
    return int(month[:4]) * 12 + int(month[5:7]) - 1


def month_text(number: int) -> str:
    """The month of a number, as `YYYY-MM`."""
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def shift_month(month: str, by: int) -> str:
    """The month `by` months later (earlier if negative), as `YYYY-MM`."""
    return month_text(month_number(month) + by)


def month_range(month: str) -> TimeRange:
    """The calendar month `YYYY-MM` as a range; the last one that there is ends with the last instant."""
    return TimeRange(
        parse_instant(month), LAST if month == month_of(LAST) else parse_instant(shift_month(month, 1))
    )


def day_range(day: str) -> TimeRange:
    """The UTC day `YYYY-MM-DD` as a range; the last one that there is ends with the last instant."""
    start = parse_instant(day)
    return TimeRange(start, LAST if start.date() == date.max else start + timedelta(days=1))
