"""What one dataset says of a market's life: in the files that are published of it, else by its REST API."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import Precision
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import (
    ArchiveFileError,
    FetchError,
    RestQuestionError,
    RestUnreachableError,
    UnknownSymbolError,
)
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.files.listing import ArchiveFile, ListedFiles, MarketListing
from lakehouse.sources.files.reader import ArchiveReader
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.rows import RowReader
from lakehouse.storage.landing import Landing
from lakehouse.storage.objects import LakeObjects

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_FEW = 16  # keys of the first short files and their CHECKSUMs, and a few foreign ones
_LAST_INSTANT = timedelta(microseconds=1)
_NOT_TOLD = (RestUnreachableError, RestQuestionError, UnknownSymbolError)


End = tuple[datetime, Precision]
"""An end of a life, and how well it is told."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one dataset says of a market's life.

    Attributes:
        first: When its first row begins, and how well that is told.
        newest: Until when it is known that there may be rows.
        last: Finds when its last row ends; only asked of a market that has ended.
        is_of_files: Whether files say so.
    """

    first: End
    newest: datetime
    last: Callable[[], End]
    is_of_files: bool


def end_of(listing: MarketListing) -> datetime:
    """The end of the newest of listed files."""
    return max(Period.parse(text).window.end for text in listing.files)


class Search:
    """Looks for markets in what an exchange has of one dataset.

    Args:
        exchange: The exchange.
        dataset: The dataset.
        objects: The lake.
        clients: Clients of the REST APIs.
        clock: Tells the current instant.
        stack: Ends what is opened.
    """

    def __init__(
        self,
        exchange: Exchange,
        dataset: Dataset,
        objects: LakeObjects,
        clients: RestClients,
        clock: Callable[[], datetime],
        stack: contextlib.ExitStack,
    ) -> None:
        self._exchange, self._dataset, self._clients, self._clock = exchange, dataset, clients, clock
        self._files = exchange.files.get(dataset.archive.name)
        self._client = ArchiveClient.of(exchange)
        by_rest = [table for table in (dataset.api, dataset.witness) if table is not None]
        self._by_rest = next((table for table in by_rest if table.name in exchange.pages), None)
        if self._files is not None:
            landing = Landing(objects, exchange.name)
            reader = ArchiveReader(exchange, dataset.archive, landing, clock)
            self._reader = stack.enter_context(reader)

    def is_of_instants(self, market: Market) -> bool | None:
        """Whether the dataset's rows are of instants, by its files, else by its pages; None where the market
        cannot have it.
        """
        if not self._exchange.has(self._dataset.silver, market):
            return None
        if self._files is not None:
            return self._files.until is None
        return self._by_rest is not None and self._exchange.pages[self._by_rest.name].step is None

    def folder(self, market: Market) -> str | None:
        """The folder of the archive in which markets of this type have theirs; None if it has none."""
        if self._files is None or not self._exchange.has(self._dataset.silver, market):
            return None
        return self._files.prefix(market, self._files.kinds[-1]).split(f"/{market.symbol}/")[0] + "/"

    def look(self, market: Market, listing: MarketListing | None) -> Sight | None:
        """What the dataset says of a market, of which its archive has these files; None if it has nothing of
        it.
        """
        return self._in_files(listing) if listing and listing.files else self._by_api(market)

    def listing(self, market: Market) -> MarketListing | None:
        """All files for long periods, the first short ones and the newest short ones: enough to know both
        ends of a market's life; None if there is no archive.
        """
        if self._files is None:
            return None
        found = ListedFiles(self._exchange, self._dataset.archive.name, market)

        def take(listed: Listed) -> bool:
            own = found.period_of(listed)
            found.take(listed, own)
            return own is not None

        *longer, shortest = self._files.kinds
        for kind in longer:
            for listed in self._client.objects(self._files.prefix(market, kind)):
                take(listed)
        long_ones, count = sorted(found.files), 0
        at_first = _FEW if long_ones else 0
        for listed in self._client.objects(self._files.prefix(market, shortest), at_first=at_first):
            count += take(listed)
            if count > 3 and long_ones:
                break
        if long_ones:
            begin = Period.of(Period.parse(long_ones[-1]).window.start, shortest)
            after = self._files.key(market, begin)[:-1]
            for listed in self._client.objects(self._files.prefix(market, shortest), after=after):
                take(listed)
        return found.listing(self._clock())

    def _in_files(self, listing: MarketListing) -> Sight:
        """What files say."""
        return Sight(self._first_instant(listing), end_of(listing), lambda: self._last_instant(listing), True)

    def _by_api(self, market: Market) -> Sight | None:
        """What a REST API says: nothing of a market that it does not know, nor where it does not answer and
        an archive does.

        Raises:
            FetchError: There is no archive, and the API does not answer.
        """
        if self._by_rest is None:
            return None
        try:
            rows = self._rows(market)
            life = TimeRange(self._clients.of(market).api.began, self._clock())
            if (first := rows.first(life)) is None or (last := rows.last(life.end)) is None:
                return None
        except UnknownSymbolError:
            return None
        except _NOT_TOLD as error:
            if self._files is None:  # nobody else tells anything of it, nor that there is no such market
                raise FetchError(market.key, str(error)) from error
            return None
        return Sight((first, "minute"), last, lambda: (last, "minute"), False)

    def last_by_rest(self, market: Market) -> datetime | None:
        """When the newest row of a market ends that its REST API has; long ago if that does not know the
        market, None where it does not say: that it has no row at all of a market that it knows may be the
        answer's fault.
        """
        if self._by_rest is None:
            return None
        try:
            return self._rows(market).last(self._clock())
        except UnknownSymbolError:
            return LONG_AGO
        except _NOT_TOLD:
            return None

    def _rows(self, market: Market) -> RowReader:
        assert self._by_rest is not None, "asked where a REST API has rows"
        pages = self._clients.pages_of(market, self._by_rest.name)
        return RowReader(self._clients.of(market), self._by_rest, pages, market)

    def _first_instant(self, listing: MarketListing) -> End:
        """Time of the first published row: the earlier of what the first long and the first short file
        say.
        """
        firsts = [min(files, key=lambda file: file.period.window.start) for files in self._by_kind(listing)]
        earliest = min(file.period.window.start for file in firsts)
        found: list[End] = []
        # the short one first: if it begins where all files do, the long one cannot be earlier
        for file in reversed(firsts):
            if earliest not in (instant for instant, _ in found):
                edges = self._edges(file)
                found.append(
                    (edges[0], "minute") if edges else self._first_by_rest(listing.market, file.period)
                )
        return min(found)

    def _first_by_rest(self, market: Market, period: Period) -> End:
        """The time of the first row in the period of a file that cannot be read; the start of it where REST
        does not say, so that nothing is ruled out on the file's account.
        """
        window = period.window
        if self._by_rest is None:
            return window.start, period.kind
        try:
            first = self._rows(market).first(window)
        except _NOT_TOLD:
            first = None
        return (first, "minute") if first else (window.start, period.kind)

    def _last_instant(self, listing: MarketListing) -> End:
        """End of the last published row: the later of what the last long and the last short file say."""
        lasts = [max(files, key=lambda file: file.period.window.end) for files in self._by_kind(listing)]
        latest = max(file.period.window.end for file in lasts)
        found: list[End] = []
        for file in reversed(lasts):
            if latest not in (instant for instant, _ in found):
                edges = self._edges(file)
                found.append((edges[1], "minute") if edges else (file.period.window.end, file.period.kind))
        return max(found)

    def _by_kind(self, listing: MarketListing) -> list[list[ArchiveFile]]:
        """The listed files by length, the longest first, without kinds that have none."""
        assert self._files is not None, "asked of what is listed"
        files = [listing.file(text) for text in listing.files]
        by_kind = [[file for file in files if file.period.kind == kind] for kind in self._files.kinds]
        return [of_kind for of_kind in by_kind if of_kind]

    def _edges(self, file: ArchiveFile) -> tuple[datetime, datetime] | None:
        """Where a file's rows begin and end; None where it has none, or cannot be read."""
        assert self._files is not None, "asked of what is listed"
        try:
            frame = self._reader.read(file).frame
        except ArchiveFileError:
            return None
        if not frame.height:
            return None
        begins = pl.col(self._dataset.archive.time)
        ends = begins + _LAST_INSTANT if self._files.until is None else self._files.until
        first, last = frame.select(begins.min().alias("first"), ends.max().alias("last")).row(0)
        return first, file.period.window.clip(last)
