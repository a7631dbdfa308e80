"""Funding rates of perpetuals: settlements as a pure function of market and time, their monthly files, and
what REST answers of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from lakehouse.model.timerange import month_range, shift_month
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.keys import KlineFile, KlineFolder
from lakehouse.simulator.markets import SimulatedMarket, draw

HEADER = "calc_time,funding_interval_hours,last_funding_rate"
FUNDING_FAULTS = (
    "funding_lost",
    "funding_lost_at_change",
    "funding_hole",
    "funding_rest_hole",
    "funding_restated",
)
_SILENT = "funding_rest_silent"
_OF_FILE, _OF_REST = frozenset({"funding_hole"}), frozenset({"funding_rest_hole", "funding_restated"})
_DELIVERY = re.compile(r".+_\d{6}")
_HOUR, _DAY, _MILLI = timedelta(hours=1), timedelta(days=1), timedelta(milliseconds=1)
_EIGHT, _MOST_LATE, _PRICED_SINCE = 8, 9_000, 2023
_LIMIT, _MOST = 100, 1000


@dataclass(frozen=True, slots=True)
class Settlement:
    """One payment of funding.

    Attributes:
        due: The instant it is for.
        late: Milliseconds after which it is stamped.
        hours: The interval that ends with it.
        rate: In hundred-millionths.
        price: Mark price.
    """

    due: datetime
    late: int
    hours: int
    rate: int
    price: Decimal

    @property
    def stamp(self) -> int:
        """Milliseconds since 1970 as published."""
        return int(self.due.timestamp()) * 1000 + self.late

    @property
    def text(self) -> str:
        """The rate as published."""
        return f"{Decimal(self.rate).scaleb(-8):.8f}"


@dataclass(frozen=True, slots=True)
class FundingFolder(KlineFolder):
    """The monthly files of funding rates of one market."""

    @property
    def prefix(self) -> str:
        """The part of the keys that its files share, ending in a slash."""
        return f"data/{self.market.place}/{self.frequency}/{self.interval}/{self.market.symbol}/"

    def file(self, period: str) -> "FundingFile":
        """The file of a month."""
        return FundingFile(self, period)


@dataclass(frozen=True, slots=True)
class FundingFile(KlineFile):
    """One zip of funding rates, and the CHECKSUM beside it."""

    @property
    def rows(self) -> int:
        """About how many rows the file has, never fewer than it has; 0 outside the market's life."""
        count = len(settlements(self.folder.market, self.period))
        return count and count + 10


def pays_funding(market: SimulatedMarket) -> bool:
    """Whether a market is a perpetual."""
    return market.market_type != "spot" and not _DELIVERY.fullmatch(market.symbol)


def folder_of(market: SimulatedMarket) -> FundingFolder:
    """The folder of a perpetual."""
    return FundingFolder(market, "monthly", "fundingRate")


@lru_cache(maxsize=4096)
def settlements(market: SimulatedMarket, month: str) -> tuple[Settlement, ...]:
    """The settlements of a month, in order."""
    window = month_range(month)
    found = []
    due = window.start
    while due < window.end:
        hours = interval(market, due)
        if due.hour % hours == 0 and any(
            life.listed < due and (life.delisted is None or due < life.delisted) for life in market.lives
        ):
            chance = draw("funding", *market.words, due.isoformat())
            late = 0 if chance % 5 < 2 else chance % (_MOST_LATE if chance % 97 == 0 else 20)
            swing = Decimal(chance % 40_001 - 20_000).scaleb(-6)
            price = (market.price * (1 + swing)).quantize(Decimal("1e-8"))
            found.append(Settlement(due, late, hours, chance % 150_001 - 75_000, price))
        due += _HOUR
    return tuple(found)


def interval(market: SimulatedMarket, due: datetime) -> int:
    """Hours between settlements, at one of them: the one at which a change begins still ends the old one."""
    return next((hours for since, hours in reversed(market.funding) if since < due), _EIGHT)


def told(market: SimulatedMarket, month: str, faults: FaultPlan, by_rest: bool) -> list[Settlement]:
    """The settlements of a month as a source tells of them."""
    rows, key = list(settlements(market, month)), folder_of(market).file(month).key
    for name in FUNDING_FAULTS:
        if rows and faults.hits(name, key) and name not in (_OF_FILE if by_rest else _OF_REST):
            faults.show(name, key)
            rows = _befallen(name, market, rows, draw("rows", name, key))
    return rows


def _befallen(name: str, market: SimulatedMarket, rows: list[Settlement], chance: int) -> list[Settlement]:
    place = 1 + chance % max(1, len(rows) - 2)
    if name == "funding_lost_at_change":
        changes = [since for since, _ in market.funding]
        return [row for row in rows if row.due not in changes]
    if place >= len(rows):
        return rows
    if name == "funding_restated":
        other = replace(rows[place], rate=rows[place].rate + 1_234)
        return [*rows[:place], other, *rows[place + 1 :]]
    return [*rows[:place], *rows[place + 1 :]]


def to_csv(file: KlineFile, variant: tuple[str, ...], faults: FaultPlan) -> bytes:
    """The content of a file, as faults leave it.

    Args:
        file: Which file.
        variant: Faults of the rows of files that are in force for it.
        faults: All faults in force.
    """
    rows = told(file.folder.market, file.period, faults, by_rest=False)
    for fault in variant:
        if fault in _EFFECTS:
            rows = _EFFECTS[fault](rows, draw("rows", fault, file.key))
    lines = [f"{row.stamp},{row.hours},{row.text}" for row in rows]
    return "".join(f"{line}\n" for line in (HEADER, *lines)).encode()


def _without_a_day(rows: list[Settlement], chance: int) -> list[Settlement]:
    days = sorted({row.due.date() for row in rows})
    return [row for row in rows if row.due.date() != days[chance % len(days)]] if len(days) > 1 else rows


def _twice(rows: list[Settlement], chance: int, off: int = 0) -> list[Settlement]:
    at = chance % max(1, len(rows))
    return [
        *rows[: at + 1],
        *(replace(row, rate=row.rate + off) for row in rows[at : at + 1]),
        *rows[at + 1 :],
    ]


def _restated(rows: list[Settlement], chance: int) -> list[Settlement]:
    at = chance % max(1, len(rows))
    return [replace(row, rate=row.rate - 777) if n == at else row for n, row in enumerate(rows)]


_EFFECTS: Mapping[str, Any] = MappingProxyType(
    {
        "day_absent": _without_a_day,
        "conflicting_rows": lambda rows, chance: _twice(rows, chance, 555),
        "duplicated_rows": _twice,
        "reupload": _restated,
        "interleaved_rows": lambda rows, chance: [*rows[1::2], *rows[::2]],
    }
)


def to_rest(
    market: SimulatedMarket,
    start: int | None,
    end: int | None,
    limit: int | None,
    now: datetime,
    faults: FaultPlan,
) -> list[dict[str, Any]]:
    """What REST answers: the oldest rows from a start on, else the newest.

    Args:
        market: The market.
        start: First stamp in milliseconds, inclusive.
        end: Last stamp, inclusive.
        limit: Most rows.
        now: The exchange's time.
        faults: All faults in force.
    """
    most, latest = min(limit or _LIMIT, _MOST), int(now.timestamp() * 1000)
    until = latest if end is None else min(end, latest)
    months = list(_months(market, start, until, now))
    if start is not None and end is not None:
        keys = (folder_of(market).file(month).key for month in months)
        silent = [key for key in keys if faults.first_requests(_SILENT, key, 1)]
        for key in silent:
            faults.show(_SILENT, key)
        if silent:
            return []
    rows = [
        row
        for month in months
        for row in told(market, month, faults, by_rest=True)
        if (start is None or start <= row.stamp) and row.stamp <= until
    ]
    kept = rows[-most:] if start is None else rows[:most]
    return [_answered(market, row) for row in kept]


def newest(
    market: SimulatedMarket, start: datetime | None, until: datetime, limit: int, faults: FaultPlan
) -> list[Settlement]:
    """The newest settlements of a range, newest first.

    Args:
        market: The market.
        start: First instant; None for no bound.
        until: The last one.
        limit: Most settlements.
        faults: All faults in force.
    """
    found: list[Settlement] = []
    since = max(market.listed, start) if start else market.listed
    month = f"{until:%Y-%m}"
    while pays_funding(market) and month >= f"{since:%Y-%m}" and len(found) < limit:
        own = told(market, month, faults, by_rest=True)
        found += [row for row in reversed(own) if since <= row.due <= until]
        month = shift_month(month, -1)
    return found[:limit]


def _months(market: SimulatedMarket, start: int | None, until: int, now: datetime) -> Iterator[str]:
    since = (
        market.listed.timestamp() * 1000 if start is None else max(start, market.listed.timestamp() * 1000)
    )
    first = datetime.fromtimestamp(since / 1000, now.tzinfo) - _DAY
    last = datetime.fromtimestamp(until / 1000, now.tzinfo) + _DAY if until > 0 else first - _DAY
    month = f"{first:%Y-%m}"
    while month <= f"{last:%Y-%m}":
        yield month
        month = shift_month(month, 1)


def _answered(market: SimulatedMarket, row: Settlement) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "symbol": market.symbol,
        "fundingTime": row.stamp,
        "fundingRate": row.text,
    }
    if market.market_type == "linear":
        answer["markPrice"] = f"{row.price:.8f}" if row.due.year > _PRICED_SINCE - 1 else ""
    return answer


def info(markets: list[SimulatedMarket], now: datetime) -> list[dict[str, Any]]:
    """The answer of fundingInfo: the markets whose interval is not the usual one."""
    return [
        {"symbol": market.symbol, "fundingIntervalHours": hours, "disclaimer": False}
        for market in markets
        if pays_funding(market) and (hours := interval(market, now)) != _EIGHT
    ]
