"""What is known of a market: asked from the exchange where it answers, else derived from what is published of
it and its symbol.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import islice

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.api import MarketInfo
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import (
    FetchError,
    LakehouseError,
    ListingUnreachableError,
    UnknownMarketError,
)
from lakehouse.model.market import Market, MarketType, symbol_fault
from lakehouse.sources.files.listing import MarketListing
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.lives import LONG_AGO, End, Search, Sight, end_of
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.describing import Described
from lakehouse.storage.objects import LakeObjects
from lakehouse.transform.gaps import LISTING_BREAK

_ENDED_AFTER = timedelta(days=45)  # a market of which nothing newer than this is published has ended
_GAUGES = 3
_LISTED_AT_ONCE = 16


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
        searches = [Search(exchange, dataset, objects, clients, clock, stack) for dataset in datasets]
        pool = ThreadPoolExecutor(_LISTED_AT_ONCE)  # the time is the network's
        stack.callback(pool.shutdown, cancel_futures=True)

        def listed(market: Market, is_of_instants: bool) -> _Listed:
            asked = [search for search in searches if search.is_of_instants(market) == is_of_instants]
            return [(search, search.listing(market)) for search in asked]

        asked = {market: pool.submit(listed, market, False) for market in markets}
        seen: dict[Market, list[Sight]] = {}
        for market in list(asked):
            try:
                lasting = asked.pop(market).result()
                seen[market] = _looked(market, lasting) or _looked(market, listed(market, True))
                if not seen[market]:
                    raise _unknown(exchange, searches, market)
            except (UnknownMarketError, FetchError) as error:
                failed[market] = error
        gauge = _Gauge(info, searches, {market: seen[market] for market in seen if market not in failed})
        for market, sights in gauge.seen.items():
            try:
                origin, described = info.of(market)
                found[market] = _facts(exchange, market, sights, origin, described, clock(), gauge)
            except FetchError as error:
                failed[market] = error
    return found, failed


_Listed = list[tuple[Search, MarketListing | None]]


def _looked(market: Market, listed: _Listed) -> list[Sight]:
    """What datasets say of a market, given what their archives list of it."""
    return [sight for search, own in listed if (sight := search.look(market, own)) is not None]


def _facts(
    exchange: Exchange,
    market: Market,
    seen: Sequence[Sight],
    origin: str,
    described: MarketInfo,
    at: datetime,
    gauge: "_Gauge",
) -> MarketFacts:
    """A market's facts.

    A market of which nothing new is published has ended: after 45 days, unless the exchange says that it
    trades; after the time that files may be late, where three say so: the exchange, which was asked and says
    that it does not trade, or does not name it; the archive, in which others of its type go on; and its REST
    API, which knows no such market, or has no newer row. No status names the instant: the end is that of the
    last row that anybody has.

    Args:
        exchange: Its exchange.
        market: The market.
        seen: What datasets say of its life.
        origin: Where its description is from.
        described: Its description.
        at: The current instant.
        gauge: How far the archive has come.
    """
    (first, first_told), newest = min(sight.first for sight in seen), max(sight.newest for sight in seen)
    # What is published after an end that was stated is no trade; one before the first row was not meant for
    # this listing. Until it comes, an end may be moved.
    ends = [described.ends, exchange.infer_info(market).ends]
    stated = min((end for end in ends if end and first < end <= at), default=None)
    # Files lag by months at times: of a market that trades by the exchange's word, their end is not its end.
    ended: End | None = (stated, "instant") if stated else None
    late, silent_since = max(exchange.grace, LISTING_BREAK), None
    if stated is None and newest <= at - late and not described.trades:
        by_rest = gauge.last_by_rest(market) if described.terms.is_trading is False else None
        is_old = newest < at - _ENDED_AFTER
        if by_rest is None and is_old:
            ended = max(sight.last() for sight in seen)
        elif by_rest and by_rest <= at - late and (is_old or newest <= gauge.newest(market) - late):
            ended = max([*(sight.last() for sight in seen), (by_rest, "minute")])
        elif by_rest is None:
            silent_since = max(sight.last() for sight in seen)[0]
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
        silent_since,
        exchange.sparse,
    )


class _Gauge:
    """How far the archive has come with markets of a type, and REST with one market: what a market that is
    told of no more is held against.

    Args:
        info: What the exchange says of its markets.
        searches: One per dataset.
        seen: What is seen of the markets that were asked about.
    """

    def __init__(
        self,
        info: Described,
        searches: Sequence[Search],
        seen: Mapping[Market, Sequence[Sight]],
    ) -> None:
        self.seen = seen
        self._info, self._searches = info, searches
        self._newest: dict[MarketType, datetime] = {}

    def newest(self, market: Market) -> datetime:
        """The end of the newest file of any market of a market's type, its own included: of those that were
        asked about, and of a few others that trade.

        Raises:
            ListingUnreachableError: The archive does not answer.
        """
        kind = market.market_type
        if kind not in self._newest:
            ends = [
                sight.newest
                for other, sights in self.seen.items()
                for sight in sights
                if other.market_type == kind and sight.is_of_files
            ]
            info = self._info.all(kind)
            trading = sorted(symbol for symbol, one in info.markets.items() if one.trades) if info else ()
            others = (Market(market.exchange, kind, symbol) for symbol in trading)
            for other in islice((each for each in others if each not in self.seen), _GAUGES):
                listings = (search.listing(other) for search in self._searches if self._tells(search, other))
                ends += [end_of(each) for each in listings if each and each.files]
            self._newest[kind] = max(ends, default=LONG_AGO)
        return self._newest[kind]

    def last_by_rest(self, market: Market) -> datetime | None:
        """When the newest row of a market ends that REST has; long ago if REST does not know the market, and
        None where it does not say.
        """
        said = [search.last_by_rest(market) for search in self._searches if self._tells(search, market)]
        known = [each for each in said if each is not None]
        return max(known) if known and len(known) == len(said) else None

    @staticmethod
    def _tells(search: Search, market: Market) -> bool:
        return search.is_of_instants(market) is False


def _unknown(exchange: Exchange, searches: Sequence[Search], market: Market) -> UnknownMarketError:
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
