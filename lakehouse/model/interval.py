"""The length of a candle."""

from dataclasses import dataclass
from datetime import timedelta

from lakehouse.model.errors import UnknownIntervalError


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of a candle, named as the exchanges name it.

    Attributes:
        name: `1m`, `5m`, `15m`, `1h`, `4h` or `1d`; also a valid Polars duration string.
        minutes: Length in minutes; the number of 1m candles a full bucket holds.
    """

    name: str
    minutes: int

    @property
    def delta(self) -> timedelta:
        """The length as a `timedelta`."""
        return timedelta(minutes=self.minutes)

    @classmethod
    def parse(cls, name: str) -> "Interval":
        """Find an interval by name.

        Raises:
            UnknownIntervalError: The name is none of `INTERVALS`.
        """
        for interval in INTERVALS:
            if interval.name == name:
                return interval
        raise UnknownIntervalError(name, [interval.name for interval in INTERVALS])

    def __str__(self) -> str:
        return self.name


MINUTE = Interval("1m", 1)
COARSE = (
    Interval("5m", 5),
    Interval("15m", 15),
    Interval("1h", 60),
    Interval("4h", 240),
    Interval("1d", 1440),
)
INTERVALS = (MINUTE, *COARSE)
