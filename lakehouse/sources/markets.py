"""What is known of a market: asked from the exchange where it answers, else derived from what is published of
it and its symbol.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketFacts, Precision
from lakehouse.exchanges.api import MarketInfo
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import (
    ArchiveFileError,
    FetchError,
    LakehouseError,
    ListingUnreachableError,
    RestQuestionError,
    RestUnreachableError,
    UnknownMarketError,
    UnknownSymbolError,
)
from lakehouse.model.market import Market, symbol_fault
from lakehouse.model.period import Period
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.files.listing import ArchiveFile, ListedFiles, MarketListing
from lakehouse.sources.files.reader import ArchiveReader
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.describing import Described
from lakehouse.sources.rest.rows import RowReader
from lakehouse.storage.landing import Landing
from lakehouse.storage.objects import LakeObjects

_ENDED_AFTER = timedelta(days=45)  # a market of which nothing newer than this is published has ended
_MARGIN = timedelta(days=1)  # whether it has ended is decided a moment after it was listed
_LISTED_AT_ONCE = 16
_FEW = 16  # keys of the first short files and their CHECKSUMs, and a few foreign ones
_LAST_INSTANT = timedelta(microseconds=1)
_NOT_TOLD = (RestUnreachableError, RestQuestionError, UnknownSymbolError)


def discover(
    exchange: Exchange,
    datasets: Iterable[Dataset],
    markets: Iterable[Market],
    objects: LakeObjects,
    clients: RestClients,
    clock: Callable[[], datetime],
) -> tuple[dict[Market, MarketFacts], dict[Market, LakehouseError]]:
    """Find out about markets of one exchange.

    A market's life is what any dataset says of it: its archive files, or, of a dataset without files of the
    market, the rows of its REST API. Datasets whose rows are of instants are asked only where no other knows
    the market: an instant says neither when trade began nor when it ended.

    One exchangeInfo request per market type, listings per market and dataset, and the first published files
    (of a market that has ended, the last ones too). A market whose entry in exchangeInfo cannot be read is
    named in a warning, and is known by its rows and symbol alone.

    Args:
        exchange: The exchange.
        datasets: The datasets of the lake, in any order.
        markets: Which markets.
        objects: The lake.
        clients: Clients of the REST APIs.
        clock: Tells the current instant.

    Returns:
        What was found, and why nothing was of the other markets: `UnknownMarketError` where nothing is
        published of one, `FetchError` where one is out of reach.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    info = Described(exchange)
    found: dict[Market, MarketFacts] = {}
    failed: dict[Market, LakehouseError] = {}
    with contextlib.ExitStack() as stack:
        searches = [_Search(exchange, dataset, objects, clients, clock, stack) for dataset in datasets]
        pool = ThreadPoolExecutor(_LISTED_AT_ONCE)  # the time is the network's
        stack.callback(pool.shutdown, cancel_futures=True)

        def listed(market: Market, is_of_instants: bool) -> _Listed:
            asked = [search for search in searches if search.is_of_instants(market) == is_of_instants]
            return [(search, search.listing(market)) for search in asked]

        asked = {market: pool.submit(listed, market, False) for market in markets}
        for market in list(asked):
            try:
                lasting = asked.pop(market).result()
                seen = _looked(market, lasting) or _looked(market, listed(market, True))
                if not seen:
                    raise _unknown(exchange, searches, market)
                origin, described = info.of(market)
                found[market] = _facts(exchange, market, seen, origin, described, clock())
            except (UnknownMarketError, FetchError) as error:
                failed[market] = error
    return found, failed


_Listed = list[tuple["_Search", MarketListing | None]]


def _looked(market: Market, listed: _Listed) -> list["_Sight"]:
    """What datasets say of a market, given what their archives list of it."""
    return [sight for search, own in listed if (sight := search.look(market, own)) is not None]


@dataclass(frozen=True, slots=True)
class _Sight:
    """What one dataset says of a market's life.

    Attributes:
        first: When its first row begins, and how well that is told.
        newest: Until when it is known that there may be rows; later ones of a market that has not ended may
            not have been looked for.
        last: Finds when its last row ends; only asked of a market that has ended.
    """

    first: "_End"
    newest: datetime
    last: Callable[[], "_End"]


_End = tuple[datetime, Precision]
"""An end of a life, and how well it is told."""


def _facts(
    exchange: Exchange,
    market: Market,
    seen: Sequence[_Sight],
    origin: str,
    described: MarketInfo,
    at: datetime,
) -> MarketFacts:
    """A market's facts.

    Args:
        exchange: Its exchange.
        market: The market.
        seen: What datasets say of its life.
        origin: Where its description is from.
        described: Its description.
        at: The current instant.
    """
    (first, first_told), newest = min(sight.first for sight in seen), max(sight.newest for sight in seen)
    # What is published after an end that was stated is no trade; one before the first row was not meant for
    # this listing. Until it comes, an end may be moved.
    ends = [described.ends, exchange.infer_info(market).ends]
    stated = min((end for end in ends if end and first < end <= at), default=None)
    # Files lag by months at times: of a market that trades by the exchange's word, their end is not its end.
    has_ended = stated is None and newest < at - _ENDED_AFTER and not described.trades
    ended: _End | None = (
        max(sight.last() for sight in seen) if has_ended else (stated, "instant") if stated else None
    )
    return MarketFacts(
        market,
        described.base,
        described.quote,
        described.settle,
        described.contract_size,
        first,
        ended[0] if ended else None,
        origin,
        first_told,
        ended[1] if ended else None,
        described.terms,
    )


def _unknown(exchange: Exchange, searches: Sequence["_Search"], market: Market) -> UnknownMarketError:
    """That nothing is published of a market, with markets that have similar names."""
    folders = sorted(folder for search in searches if (folder := search.folder(market)))
    similar: set[str] = set()
    client = ArchiveClient.of(exchange)
    for folder in folders:
        # a hint, and no reason to fail the markets that are known
        with contextlib.suppress(ListingUnreachableError, FetchError):
            similar.update(name for name in client.folders(folder) if not symbol_fault(name))
    close = difflib.get_close_matches(market.symbol.upper(), sorted(similar), 3)
    keys = [Market(market.exchange, market.market_type, symbol).key for symbol in close]
    return UnknownMarketError(market.key, " or ".join(folders) or "its REST API", keys)


class _Search:
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

    def look(self, market: Market, listing: MarketListing | None) -> _Sight | None:
        """What the dataset says of a market, of which its archive has these files; None if it has nothing of
        it.
        """
        return self._in_files(listing) if listing and listing.files else self._by_api(market)

    def listing(self, market: Market) -> MarketListing | None:
        """All files for long periods and the first short ones, and, where the long ones end so long ago that
        the market may have ended, the newest short ones: enough to know both ends of its life; None if there
        is no archive.
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
        last = Period.parse(long_ones[-1]).window if long_ones else None
        if last is not None and last.end < self._clock() - _ENDED_AFTER + _MARGIN:
            after = self._files.key(market, Period.of(last.start, shortest))[:-1]
            for listed in self._client.objects(self._files.prefix(market, shortest), after=after):
                take(listed)
        return found.listing(self._clock())

    def _in_files(self, listing: MarketListing) -> _Sight:
        """What files say."""
        newest = max(Period.parse(text).window.end for text in listing.files)
        return _Sight(self._first_instant(listing), newest, lambda: self._last_instant(listing))

    def _by_api(self, market: Market) -> _Sight | None:
        """What a REST API says: nothing of a market that it does not know, nor where it does not answer and an
        archive does.

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
        return _Sight((first, "minute"), last, lambda: (last, "minute"))

    def _rows(self, market: Market) -> RowReader:
        assert self._by_rest is not None, "asked where a REST API has rows"
        pages = self._clients.pages_of(market, self._by_rest.name)
        return RowReader(self._clients.of(market), self._by_rest, pages, market)

    def _first_instant(self, listing: MarketListing) -> _End:
        """Time of the first published row: the earlier of what the first long and the first short file
        say.
        """
        firsts = [min(files, key=lambda file: file.period.window.start) for files in self._by_kind(listing)]
        earliest = min(file.period.window.start for file in firsts)
        found: list[_End] = []
        # the short one first: if it begins where all files do, the long one cannot be earlier
        for file in reversed(firsts):
            if earliest not in (instant for instant, _ in found):
                edges = self._edges(file)
                found.append(
                    (edges[0], "minute") if edges else self._first_by_rest(listing.market, file.period)
                )
        return min(found)

    def _first_by_rest(self, market: Market, period: Period) -> _End:
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

    def _last_instant(self, listing: MarketListing) -> _End:
        """End of the last published row: the later of what the last long and the last short file say."""
        lasts = [max(files, key=lambda file: file.period.window.end) for files in self._by_kind(listing)]
        latest = max(file.period.window.end for file in lasts)
        found: list[_End] = []
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
