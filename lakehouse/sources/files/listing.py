"""What an archive has for one market and table, at one instant."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from lakehouse.exchanges.exchange import Exchange, period_range
from lakehouse.model.cell import Cell
from lakehouse.model.errors import TimeFormatError
from lakehouse.model.market import Market
from lakehouse.model.result import NONE
from lakehouse.model.timerange import LAST, TimeRange
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.tables import CellRecord

_CHECKSUM = ".CHECKSUM"
_STATE = re.compile(r".*:[0-9]+:[^:]*")  # as `MarketListing.state` makes it
_LOOK_AHEAD = timedelta(days=10)  # a file after the range shows that the range itself was due for publication


@dataclass(frozen=True)
class MarketListing:
    """The listed files of one market for one bronze table.

    Attributes:
        market: The market.
        files: Zips by period.
        checksums: CHECKSUM files by period.
        listed_at: When the archive was asked.
        grace: How late a file may be before its absence means something.
        foreign: Other keys that were met in the folders of this market, CHECKSUMs left out, each with the
            month it is told with; they are never read.
    """

    market: Market
    files: Mapping[str, Listed]
    checksums: Mapping[str, Listed]
    listed_at: datetime
    grace: timedelta
    foreign: Mapping[str, str] = field(default_factory=dict)

    def state(self, period: str) -> str:
        """What stands for the version of a file: etag and size of the zip, etag of its CHECKSUM; `none` where
        it is not listed.
        """
        file, checksum = self.files.get(period), self.checksums.get(period)
        return version_state(file.etag, file.size, checksum.etag if checksum else None) if file else NONE

    def days(self, cell: Cell) -> list[str]:
        """The cell's days that have a daily file."""
        return [day for day in cell.window.days() if day in self.files]

    def primary(self, cell: Cell) -> list[str]:
        """The periods a cell is made from first: its month if published, else its listed days."""
        return [cell.date] if cell.date in self.files else self.days(cell)

    def foreign_to(self, cell: Cell) -> list[str]:
        """The foreign keys that a cell tells of."""
        return [key for key, month in self.foreign.items() if month == cell.date[:7]]

    def asked_until(self, cell: Cell) -> datetime:
        """Until when the archive has answered for a cell: the end of its newest file, or a grace period
        before the listing, whichever is later.

        Counted in whole days, so that asking again within a day changes nothing.
        """
        return cell.window.clip(self._answered_until)

    @cached_property
    def _answered_until(self) -> datetime:
        settled = (self.listed_at - self.grace).replace(hour=0, minute=0, second=0, microsecond=0)
        return max([settled, *(period_range(period).end for period in self.files)])

    def is_due(self, cell: Cell, record: CellRecord | None) -> bool:
        """Whether a bronze cell has to be read again: never stored, made from other files than are listed
        now, or asked about less of its window.

        Args:
            cell: The cell.
            record: What is stored of it; its inputs are states by period.
        """
        asked_until = self.asked_until(cell)
        if record is None:
            return asked_until > cell.window.start  # before that there is nobody to ask
        # beside files stand other tables' versions
        changed = any(
            self.state(period) != state for period, state in record.inputs.items() if "/" not in period
        )
        added = any(period not in record.inputs for period in self.primary(cell))
        return changed or added or (record.facts.asked_until or cell.window.start) < asked_until


def version_state(etag: str, size: int, checksum: str | None) -> str:
    """What stands for a version of a file: its ETag and size, and the ETag of its CHECKSUM, None where there
    is none.
    """
    return f"{etag}:{size}:{checksum if checksum is not None else NONE}"


def list_market(
    client: ArchiveClient, exchange: Exchange, table: str, market: Market, span: TimeRange, at: datetime
) -> MarketListing:
    """Ask the archive which files of a market touch a range of time.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    found = ListedFiles(exchange, table, market, span.months()[-1])
    first, until = span.months()[0], span.end + _LOOK_AHEAD
    for frequency, start in (("monthly", first), ("daily", f"{first}-01")):
        first_key = exchange.archive_key(table, market, start)
        for listed in client.objects(exchange.archive_prefix(table, market, frequency), after=first_key[:-1]):
            own = found.period_of(listed)
            if own and (window := _real_range(own)) and window.start >= until:
                break  # the order of foreign keys says nothing
            found.take(listed, own)
    return found.listing(at)


class ListedFiles:
    """Parts what is listed in the folders of a market: its files, their CHECKSUMs, and foreign keys.

    A key counts only if it is exactly the one that this market, table and period have. Whatever else lies
    there may be another market's.

    Args:
        exchange: The exchange.
        table: Name of the bronze table.
        market: The market.
        month: The month with which foreign keys are told that name none.
    """

    def __init__(self, exchange: Exchange, table: str, market: Market, month: str = "") -> None:
        self._exchange, self._table, self._market, self._month = exchange, table, market, month
        self.files: dict[str, Listed] = {}
        self.checksums: dict[str, Listed] = {}
        self.foreign: dict[str, str] = {}

    def period_of(self, listed: Listed) -> str | None:
        """The period of a file or CHECKSUM of the market; None for a foreign key."""
        key = listed.key.removesuffix(_CHECKSUM)
        period = self._exchange.archive_period(key)
        if (
            period is None
            or _real_range(period) is None
            or key != self._exchange.archive_key(self._table, self._market, period)
        ):
            return None
        return period

    def take(self, listed: Listed, own: str | None) -> None:
        """Keep a listed object under what `period_of` said of it."""
        if own is not None:
            (self.checksums if listed.key.endswith(_CHECKSUM) else self.files)[own] = listed
        elif not any(
            self._prefix(frequency).startswith(listed.key) for frequency in ("monthly", "daily")
        ):  # such an object marks the folder
            key = listed.key.removesuffix(_CHECKSUM)
            named = (self._exchange.archive_period(key) or "")[:7]
            self.foreign[key] = named if named and _real_range(named) else self._month

    def listing(self, at: datetime) -> MarketListing:
        """All that was taken, as listed at an instant."""
        return MarketListing(self._market, self.files, self.checksums, at, self._exchange.grace, self.foreign)

    def _prefix(self, frequency: str) -> str:
        return self._exchange.archive_prefix(self._table, self._market, frequency)


@dataclass(frozen=True, slots=True)
class LandedFiles:
    """What landing has of the files of one market for one bronze table.

    Attributes:
        receipts: Sound receipts by period, oldest first.
        unsound: Keys of which a receipt does not read, by period: which version is their newest is not known.
    """

    receipts: Mapping[str, Sequence[Receipt]]
    unsound: Mapping[str, str]


def landed_files(
    landing: Landing, exchange: Exchange, table: str, market: Market, periods: Collection[str] | None = None
) -> LandedFiles:
    """Read the receipts of a market's files, or of some periods alone."""
    receipts: dict[str, list[Receipt]] = {}
    unsound: dict[str, str] = {}
    for frequency in ("monthly", "daily"):
        for key, paths in landing.receipts(exchange.archive_prefix(table, market, frequency)).items():
            period = exchange.archive_period(key)
            if (
                period is None
                or (periods is not None and period not in periods)
                or key != exchange.archive_key(table, market, period)
            ):
                continue
            if found := [receipt for receipt in landing.history(paths) if _STATE.fullmatch(receipt.state)]:
                receipts[period] = found
            if len(found) < len(paths):
                unsound[period] = key
    return LandedFiles(receipts, unsound)


def listing_from_landing(
    exchange: Exchange,
    table: str,
    market: Market,
    landed: Mapping[str, Sequence[Receipt]],
    listed_at: datetime,
) -> MarketListing:
    """What the archive had of a market, as far as landing knows: each file in its newest version, with the
    state it was listed with.

    Args:
        exchange: The exchange.
        table: Name of the bronze table.
        market: The market.
        landed: Receipts by period, oldest first.
        listed_at: When the archive is taken to have been asked: `asked_until` comes from it.
    """
    found = ListedFiles(exchange, table, market)
    for period, receipts in landed.items():
        for listed in _as_listed(receipts[-1]):
            found.take(listed, period)
    return found.listing(listed_at)


def _as_listed(receipt: Receipt) -> list[Listed]:
    """A file and its CHECKSUM as the listing described them when they were fetched; the inverse of
    `MarketListing.state`.
    """
    etag, size, beside = receipt.state.rsplit(":", 2)
    files = [Listed(receipt.key, etag, int(size), receipt.last_modified)]
    if beside != NONE:
        files.append(
            Listed(
                f"{receipt.key}{_CHECKSUM}", beside, len(receipt.published_checksum), receipt.last_modified
            )
        )
    return files


@lru_cache(maxsize=8192)
def _real_range(period: str) -> TimeRange | None:
    """The range of a period; None for one that the calendar does not have, such as the 30th of February or
    month 13.
    """
    try:
        window = period_range(period)
        # the end of the calendar is where no file can be followed by another
        return window if window.end < LAST else None
    except (TimeFormatError, OverflowError):
        return None
