"""A period: one calendar month or one UTC day, the window that cells and published files are named by."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache, total_ordering
from typing import Literal

from lakehouse.model.errors import TimeFormatError
from lakehouse.model.timerange import (
    TimeRange,
    day_range,
    is_month,
    month_number,
    month_of,
    month_range,
    month_text,
)

PeriodKind = Literal["month", "day"]

_MICRO = timedelta(microseconds=1)
_DAYS_IN_400_YEARS = 146_097


@total_ordering
@dataclass(frozen=True, slots=True)
class Period:
    """One calendar month or one UTC day.

    Periods are ordered as their texts are: by their start, and a month before its own first day. A period
    beyond the years 1 to 9999 has a text and a number, and no window.

    Attributes:
        kind: `month` or `day`.
        number: Successive periods of one kind have successive numbers.
    """

    kind: PeriodKind
    number: int

    @classmethod
    def parse(cls, text: str) -> "Period":
        """Read `YYYY-MM` as a month and `YYYY-MM-DD` as a day.

        Raises:
            TimeFormatError: The text is neither, or no such day exists.
        """
        return _parsed(text)

    @classmethod
    def of(cls, instant: datetime, kind: PeriodKind) -> "Period":
        """The period of a kind that an instant lies in; the instant is in UTC."""
        return cls(kind, month_number(month_of(instant)) if kind == "month" else instant.toordinal())

    @classmethod
    def covering(cls, span: TimeRange, kind: PeriodKind) -> "Iterator[Period]":
        """Every period of a kind that a range touches, in order."""
        first, last = cls.of(span.start, kind), cls.of(span.end - _MICRO, kind)
        return (cls(kind, number) for number in range(first.number, last.number + 1))

    @property
    def text(self) -> str:
        """`YYYY-MM` or `YYYY-MM-DD`, as keys, paths and footers have it."""
        if self.kind == "month":
            return month_text(self.number)
        cycle, within = divmod(self.number - 1, _DAYS_IN_400_YEARS)
        day = date.fromordinal(within + 1)
        return f"{day.year + 400 * cycle:04d}-{day:%m-%d}"

    @property
    def window(self) -> TimeRange:
        """The period as a half-open range.

        Raises:
            TimeFormatError: The period lies beyond the years 1 to 9999.
        """
        return _window(self)

    @property
    def month(self) -> "Period":
        """The month that the period lies in: a month is its own."""
        return self if self.kind == "month" else Period("month", month_number(self.text))

    def shift(self, by: int) -> "Period":
        """The period of the same kind `by` periods later (earlier if negative)."""
        return Period(self.kind, self.number + by)

    def contains(self, other: "Period | datetime") -> bool:
        """Whether an instant, or the whole of another period, lies in this one."""
        if isinstance(other, Period):
            return other == self or other.month == self
        return self.window.start <= other < self.window.end

    def __lt__(self, other: "Period") -> bool:
        return self.text < other.text

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=65536)  # the same few months and days are met in every path and every key
def _parsed(text: str) -> Period:
    if is_month(text):
        month = Period("month", month_number(text))
        _window(month)
        return month
    try:
        day = date.fromisoformat(text)
    except (ValueError, TypeError):
        raise TimeFormatError(text) from None
    if day.isoformat() != text:  # Python reads 20240105 and 2024-W01-5 as well
        raise TimeFormatError(text)
    return Period("day", day.toordinal())


@lru_cache(maxsize=65536)
def _window(period: Period) -> TimeRange:
    return month_range(period.text) if period.kind == "month" else day_range(period.text)
