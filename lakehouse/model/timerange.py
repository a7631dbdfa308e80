"""Half-open ranges of UTC time, and the calendar windows cells are cut along."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lakehouse.model.errors import RangeBackwardsError, TimeFormatError


def parse_instant(text: str | date | datetime) -> datetime:
    """Read an ISO date, an ISO date-time or `YYYY-MM` as an instant in UTC; naive input is taken as UTC.

    Raises:
        TimeFormatError: It is no ISO date or date-time.
    """
    if isinstance(text, datetime):
        return text.replace(tzinfo=UTC) if text.tzinfo is None else text.astimezone(UTC)
    if isinstance(text, date):
        return datetime(text.year, text.month, text.day, tzinfo=UTC)
    if not isinstance(text, str):
        raise TimeFormatError(text)  # a caller without a type checker, most often with None for an open end
    try:
        return parse_instant(datetime.fromisoformat(f"{text}-01" if len(text) == 7 else text))
    except ValueError:
        raise TimeFormatError(text) from None


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """A half-open range `[start, end)` of UTC time.

    Raises:
        RangeBackwardsError: `end` is not after `start`.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise RangeBackwardsError(self.start, self.end)

    @classmethod
    def parse(cls, start: str | date | datetime, end: str | date | datetime) -> "TimeRange":
        """Read both ends with `parse_instant`."""
        return cls(parse_instant(start), parse_instant(end))

    def months(self) -> list[str]:
        """Every calendar month that the range touches, as `YYYY-MM`, in order."""
        return list(self._windows(month_range(f"{self.start:%Y-%m}")))

    def _windows(self, window: "TimeRange") -> Iterator[str]:
        while window.start < self.end:
            yield f"{window.start:%Y-%m}"
            window = month_range(shift_month(f"{window.start:%Y-%m}", 1))

    def days(self) -> list[str]:
        """Every UTC day that the range touches, as `YYYY-MM-DD`, in order."""
        first = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        count = -((first - self.end) // timedelta(days=1))
        return [f"{first + timedelta(days=n):%Y-%m-%d}" for n in range(count)]

    def overlap(self, start: datetime, end: datetime) -> "TimeRange | None":
        """The part of `[start, end)` that lies in the range; None if there is none."""
        first, last = max(start, self.start), min(end, self.end)
        return TimeRange(first, last) if first < last else None

    def clip(self, instant: datetime) -> datetime:
        """The instant, moved to the nearer end when it lies outside."""
        return min(max(instant, self.start), self.end)

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%dT%H:%M:%SZ}, {self.end:%Y-%m-%dT%H:%M:%SZ})"


def shift_month(month: str, by: int) -> str:
    """The month `by` months later (earlier if negative), as `YYYY-MM`."""
    index = int(month[:4]) * 12 + int(month[5:7]) - 1 + by
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def month_range(month: str) -> TimeRange:
    """The calendar month `YYYY-MM` as a range."""
    return TimeRange(parse_instant(month), parse_instant(shift_month(month, 1)))


def day_range(day: str) -> TimeRange:
    """The UTC day `YYYY-MM-DD` as a range."""
    start = parse_instant(day)
    return TimeRange(start, start + timedelta(days=1))
