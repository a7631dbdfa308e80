"""The archive's keys of kline files: which exist when, and what each covers."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from types import MappingProxyType
from typing import Literal, get_args

from lakehouse.model.timerange import month_number, month_of, month_range, month_text
from lakehouse.simulator.markets import SimulatedMarket, draw, minute_of

Frequency = Literal["daily", "monthly"]
INTERVAL_MINUTES: Mapping[str, int] = MappingProxyType({"1m": 1, "1h": 60, "1d": 1440})
"""Intervals that have archive files."""

_CHECKSUM_NEWLINE_SINCE = date(2021, 1, 1)
_LAST_INSTANT = timedelta(microseconds=1)
_NAME = re.compile(r"(?P<date>\d{4}-\d{2}(?P<day>-\d{2})?)\.zip(\.CHECKSUM)?")


def zip_key(key: str) -> str:
    """The key of the zip that a key belongs to: itself, or the one a CHECKSUM is of."""
    return key.removesuffix(".CHECKSUM")


@dataclass(frozen=True, slots=True)
class KlineFolder:
    """The files of one market, frequency and interval."""

    market: SimulatedMarket
    frequency: Frequency
    interval: str

    @property
    def prefix(self) -> str:
        """The part of the keys that its files share, ending in a slash."""
        place = f"data/{self.market.place}/{self.frequency}/klines"
        return f"{place}/{self.market.symbol}/{self.interval}/"

    def file(self, period: str) -> "KlineFile":
        """The file of a day or month."""
        return KlineFile(self, period)

    def files(self, now: datetime, after: str = "") -> Iterator["KlineFile"]:
        """The files published at `now`, oldest first; those whose CHECKSUM sorts behind `after`."""
        begin = 0
        for life in self.market.lives:
            end = now if life.delisted is None else min(now, life.delisted)
            if life.listed >= end:
                continue
            # The month in which a symbol is reused may be the one in which it was given up.
            numbers = range(max(begin, self._number(life.listed)), self._number(end - _LAST_INSTANT) + 1)
            begin = numbers.stop
            first = bisect_right(numbers, after, key=lambda number: f"{self._file(number).key}.CHECKSUM")
            yield from takewhile(lambda file: file.published <= now, map(self._file, numbers[first:]))

    def _number(self, instant: datetime) -> int:
        """The day or month of an instant, counted so that the next one is one more."""
        return instant.toordinal() if self.frequency == "daily" else month_number(month_of(instant))

    def _file(self, number: int) -> "KlineFile":
        if self.frequency == "daily":
            return self.file(date.fromordinal(number).isoformat())
        return self.file(month_text(number))

    def find(self, name: str, now: datetime) -> "KlineFile | None":
        """The published file whose zip or CHECKSUM has the name."""
        found = _NAME.fullmatch(name.removeprefix(f"{self.market.symbol}-{self.interval}-"))
        if found is None:
            return None
        try:
            file = self.file(found["date"])
            known = (
                file.zip_name == zip_key(name)
                and (self.frequency == "daily") == (found["day"] is not None)
                and file.rows > 0
            )
        except ValueError:
            return None
        return file if known and file.published <= now else None


@dataclass(frozen=True, slots=True)
class KlineFile:
    """One zip of the archive, and the CHECKSUM beside it."""

    folder: KlineFolder
    period: str

    @property
    def zip_name(self) -> str:
        """Base name of the zip."""
        return f"{self.folder.market.symbol}-{self.folder.interval}-{self.period}.zip"

    @property
    def csv_name(self) -> str:
        """Name of the zip's only member."""
        return f"{self.folder.market.symbol}-{self.folder.interval}-{self.period}.csv"

    @property
    def key(self) -> str:
        """Key of the zip."""
        return self.folder.prefix + self.zip_name

    @property
    def interval(self) -> int:
        """Length of a candle in minutes."""
        return INTERVAL_MINUTES[self.folder.interval]

    @property
    def start(self) -> datetime:
        """Start of the day or month."""
        return datetime(int(self.period[:4]), int(self.period[5:7]), int(self.period[8:] or 1), tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """End of the day or month."""
        return (
            month_range(self.period).end
            if self.folder.frequency == "monthly"
            else self.start + timedelta(days=1)
        )

    @property
    def minutes(self) -> tuple[int, int]:
        """First minute, and the minute after the last."""
        return minute_of(self.start), minute_of(self.end)

    @property
    def rows(self) -> int:
        """About how many rows the file has when no fault changes them, never fewer than it has; 0 outside the
        market's life.
        """
        minutes, lives = self.folder.market.traded(*self.minutes), len(self.folder.market.lives)
        return minutes and min(minutes, minutes // self.interval + 2 * lives)

    @property
    def published(self) -> datetime:
        """When the file appeared: from 06:00 on the next day, or from 08:00 on the first of the next month;
        within ten minutes.
        """
        hour = 6 if self.folder.frequency == "daily" else 8
        return self.end + timedelta(hours=hour, seconds=draw("published", self.key) % 600)

    def checksum_text(self, digest: str) -> bytes:
        """Content of the CHECKSUM; the oldest files lack the newline."""
        return f"{digest}  {self.zip_name}".encode() + (
            b"\n" if self.start.date() >= _CHECKSUM_NEWLINE_SINCE else b""
        )

    @property
    def checksum_size(self) -> int:
        """Size of the CHECKSUM."""
        return len(self.checksum_text("0" * 64))


def kline_folders(markets: tuple[SimulatedMarket, ...]) -> Iterator[KlineFolder]:
    """Every folder of the markets."""
    frequencies: tuple[Frequency, ...] = get_args(Frequency)
    for market in markets:
        for frequency in frequencies:
            for interval in INTERVAL_MINUTES:
                yield KlineFolder(market, frequency, interval)
