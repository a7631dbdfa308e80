"""What an archive has for one market and table, at one instant."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from lakehouse.exchanges.archive import ArchiveClient, Listed
from lakehouse.exchanges.exchange import Exchange, period_range
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import NONE
from lakehouse.model.timerange import TimeRange
from lakehouse.storage.tables import CellRecord

_CHECKSUM = ".CHECKSUM"
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
    """

    market: Market
    files: Mapping[str, Listed]
    checksums: Mapping[str, Listed]
    listed_at: datetime
    grace: timedelta

    def state(self, period: str) -> str:
        """What stands for the version of a file: etag and size of the zip, etag of its CHECKSUM; `none` where it is not listed."""
        file, checksum = self.files.get(period), self.checksums.get(period)
        return f"{file.etag}:{file.size}:{checksum.etag if checksum else NONE}" if file else NONE

    def days(self, cell: Cell) -> list[str]:
        """The cell's days that have a daily file."""
        return [day for day in cell.window.days() if day in self.files]

    def primary(self, cell: Cell) -> list[str]:
        """The periods a cell is made from first: its month if published, else its listed days."""
        return [cell.date] if cell.date in self.files else self.days(cell)

    def asked_until(self, cell: Cell) -> datetime:
        """Until when the archive has answered for a cell: the end of its newest file, or a grace period before the listing, whichever is later.

        Counted in whole days, so that asking again within a day changes nothing.
        """
        return cell.window.clip(self._answered_until)

    @cached_property
    def _answered_until(self) -> datetime:
        settled = (self.listed_at - self.grace).replace(hour=0, minute=0, second=0, microsecond=0)
        return max([settled, *(period_range(period).end for period in self.files)])

    def is_due(self, cell: Cell, record: CellRecord | None) -> bool:
        """Whether a bronze cell has to be read again: never stored, made from other files than are listed now, or asked about less of its window.

        Args:
            cell: The cell.
            record: What is stored of it; its inputs are states by period.
        """
        asked_until = self.asked_until(cell)
        if record is None:
            return asked_until > cell.window.start  # before that there is nobody to ask
        changed = any(self.state(period) != state for period, state in record.inputs.items() if "/" not in period)  # beside files stand other tables' versions
        added = any(period not in record.inputs for period in self.primary(cell))
        return changed or added or (record.facts.asked_until or cell.window.start) < asked_until


def list_market(client: ArchiveClient, exchange: Exchange, table: str, market: Market, span: TimeRange, at: datetime) -> MarketListing:
    """Ask the archive which files of a market touch a range of time.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    files: dict[str, Listed] = {}
    checksums: dict[str, Listed] = {}
    first, until = span.months()[0], span.end + _LOOK_AHEAD
    for frequency, start in (("monthly", first), ("daily", f"{first}-01")):
        first_key = exchange.archive_key(table, market, start)
        for listed in client.objects(exchange.archive_prefix(table, market, frequency), after=first_key[:-1]):
            period = exchange.archive_period(listed.key.removesuffix(_CHECKSUM))
            if period is None:
                continue
            if period_range(period).start >= until:
                break
            (checksums if listed.key.endswith(_CHECKSUM) else files)[period] = listed
    return MarketListing(market, files, checksums, at, exchange.grace)
