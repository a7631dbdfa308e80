"""What an archive has for one market and table, at one instant."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from lakehouse.exchanges.exchange import Exchange, Files
from lakehouse.model.cell import Cell
from lakehouse.model.errors import TimeFormatError
from lakehouse.model.market import Market
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.result import NONE
from lakehouse.model.timerange import LAST, TimeRange
from lakehouse.sources.files.batch import CHECKSUM
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.tables import CellRecord

_STATE = re.compile(r".*:[0-9]+:[^:]*")  # as `MarketListing.state` makes it
_LOOK_AHEAD = timedelta(days=10)  # a file after the range shows that the range itself was due for publication


@dataclass(frozen=True)
class MarketListing:
    """The listed files of one market for one bronze table.

    Attributes:
        market: The market.
        files: Zips by the text of their period, as cells record it.
        checksums: CHECKSUM files by the same.
        listed_at: When the archive was asked.
        grace: How late a file may be before its absence means something.
        foreign: Other keys that were met in the folders of this market, CHECKSUMs left out, each with the
            month it is told with; they are never read.
        shortest: The shortest kind of periods that there are files for.
    """

    market: Market
    files: Mapping[str, Listed]
    checksums: Mapping[str, Listed]
    listed_at: datetime
    grace: timedelta
    foreign: Mapping[str, str] = field(default_factory=dict)
    shortest: PeriodKind = "day"

    def state(self, period: str) -> str:
        """What stands for the version of a file: etag and size of the zip, etag of its CHECKSUM; `none` where
        it is not listed.
        """
        file, checksum = self.files.get(period), self.checksums.get(period)
        return version_state(file.etag, file.size, checksum.etag if checksum else None) if file else NONE

    def file(self, period: str) -> "ArchiveFile":
        """The file of a period, listed or not."""
        return ArchiveFile(self, Period.parse(period))

    def days(self, cell: Cell) -> list[str]:
        """The days of a longer cell that have a daily file."""
        return [day for day in cell.window.days() if day in self.files and day != cell.date]

    def primary(self, cell: Cell) -> list[str]:
        """The periods a cell is made from first: its month if published, else its listed days."""
        return [cell.date] if cell.date in self.files else self.days(cell)

    def foreign_to(self, cell: Cell) -> list[str]:
        """The foreign keys that a cell tells of."""
        return [key for key, month in self.foreign.items() if month == cell.month]

    def asked_until(self, cell: Cell) -> datetime:
        """Until when the archive has answered for a cell: the end of its newest file, or a grace period
        before the listing, whichever is later.

        Counted in whole periods of the shortest files: of a month that has only begun to be over, a file by
        month says nothing yet, and asking again within a period changes nothing.
        """
        return cell.window.clip(self._answered_until)

    @cached_property
    def _answered_until(self) -> datetime:
        settled = Period.of(self.listed_at - self.grace, self.shortest).window.start
        return max([settled, *(Period.parse(period).window.end for period in self.files)])

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


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file of a market for one bronze table.

    Attributes:
        listing: What the archive has of the market.
        period: What the file is of.
    """

    listing: MarketListing
    period: Period

    @property
    def market(self) -> Market:
        """Whose file."""
        return self.listing.market

    @property
    def listed(self) -> Listed:
        """The zip as it is listed.

        Raises:
            KeyError: It is not.
        """
        return self.listing.files[self.period.text]

    @property
    def key(self) -> str:
        """Key of the listed zip."""
        return self.listed.key

    @property
    def checksum(self) -> Listed | None:
        """The CHECKSUM beside the zip; None where none is listed."""
        return self.listing.checksums.get(self.period.text)

    @property
    def parts(self) -> list[Listed]:
        """What is fetched: the zip, and its CHECKSUM where one is listed."""
        return [self.listed, *([self.checksum] if self.checksum else [])]

    @property
    def state(self) -> str:
        """The version that is listed, as cells record it."""
        return self.listing.state(self.period.text)


def version_state(etag: str, size: int, checksum: str | None) -> str:
    """What stands for a version of a file: its ETag and size, and the ETag of its CHECKSUM, None where there
    is none.
    """
    return f"{etag}:{size}:{checksum if checksum is not None else NONE}"


def list_market(
    client: ArchiveClient,
    exchange: Exchange,
    table: str,
    market: Market,
    span: TimeRange,
    at: datetime,
    made_from: Collection[str] | None = None,
) -> MarketListing:
    """Ask the archive which files of a market touch a range of time.

    Args:
        client: Asks the archive.
        exchange: Whose archive.
        table: Name of the bronze table.
        market: The market.
        span: The range.
        at: The current instant.
        made_from: Periods that the stored cells were made from. Where they are given, daily files are listed
            only from the first month on of which no monthly file, or a stored cell, leaves anything to a
            daily one: enough to tell which cells are due, and not to make them.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    files, found = exchange.files[table], ListedFiles(exchange, table, market, span.months()[-1])
    until = span.end + _LOOK_AHEAD
    for kind in files.kinds:
        first: Period | None = Period.of(span.start, "month")
        if kind == "day" and made_from is not None and "month" in files.kinds:
            first = _first_of_days(span, found.files, made_from)
        if first is None:
            continue
        first_key = files.key(market, Period.of(first.window.start, kind))
        for listed in client.objects(files.prefix(market, kind), after=first_key[:-1]):
            own = found.period_of(listed)
            if own and own.window.start >= until:
                break  # the order of foreign keys says nothing
            found.take(listed, own)
    return found.listing(at)


def _first_of_days(span: TimeRange, listed: Collection[str], made_from: Collection[str]) -> Period | None:
    """The first month of a range that daily files decide about; None if there is none."""
    periods = [Period.parse(text) for text in made_from if "/" not in text]  # else another table's version
    of_days = {period.month.text for period in periods if period.kind == "day"}
    return next(
        (Period.parse(month) for month in span.months() if month not in listed or month in of_days), None
    )


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
        self._files, self._grace = exchange.files[table], exchange.grace
        self._market, self._month = market, month
        self.files: dict[str, Listed] = {}
        self.checksums: dict[str, Listed] = {}
        self.foreign: dict[str, str] = {}

    def period_of(self, listed: Listed) -> Period | None:
        """The period of a file or CHECKSUM of the market; None for a foreign key."""
        key = listed.key.removesuffix(CHECKSUM)
        period = period_of(self._files, key)
        return period if period and key == self._files.key(self._market, period) else None

    def take(self, listed: Listed, own: Period | None) -> None:
        """Keep a listed object under what `period_of` said of it."""
        if own is not None:
            (self.checksums if listed.key.endswith(CHECKSUM) else self.files)[own.text] = listed
        elif not any(
            self._files.prefix(self._market, kind).startswith(listed.key) for kind in self._files.kinds
        ):  # such an object marks the folder
            key = listed.key.removesuffix(CHECKSUM)
            named = _real((self._files.period_text(key) or "")[:7])
            self.foreign[key] = named.text if named else self._month

    def listing(self, at: datetime) -> MarketListing:
        """All that was taken, as listed at an instant."""
        shortest = self._files.kinds[-1]
        return MarketListing(
            self._market, self.files, self.checksums, at, self._grace, self.foreign, shortest
        )


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
    files = exchange.files[table]
    for kind in files.kinds:
        for key, paths in landing.receipts(files.prefix(market, kind)).items():
            own = period_of(files, key)
            if own is None or key != files.key(market, own):
                continue
            period = own.text
            if periods is not None and period not in periods:
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
            found.take(listed, Period.parse(period))
    return found.listing(listed_at)


def _as_listed(receipt: Receipt) -> list[Listed]:
    """A file and its CHECKSUM as the listing described them when they were fetched; the inverse of
    `MarketListing.state`.
    """
    etag, size, beside = receipt.state.rsplit(":", 2)
    files = [Listed(receipt.key, etag, int(size), receipt.last_modified)]
    if beside != NONE:
        files.append(
            Listed(f"{receipt.key}{CHECKSUM}", beside, len(receipt.published_checksum), receipt.last_modified)
        )
    return files


def period_of(files: Files, key: str) -> Period | None:
    """The period of an archive file; None for a key that is none, or names a period that there is not."""
    return _real(files.period_text(key) or "")


@lru_cache(maxsize=8192)
def _real(text: str) -> Period | None:
    """A period that the calendar has, unlike the 30th of February or month 13; None for any other text."""
    try:
        period = Period.parse(text)
        # the end of the calendar is where no file can be followed by another
        return period if period.window.end < LAST else None
    except (TimeFormatError, OverflowError):
        return None
