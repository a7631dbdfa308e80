"""What is known of a market: asked from the exchange where it answers, else derived from its archive and its symbol."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.archive import ArchiveClient, Listed
from lakehouse.exchanges.exchange import Exchange, MarketInfo, period_range
from lakehouse.exchanges.listing import MarketListing
from lakehouse.exchanges.reader import ArchiveReader
from lakehouse.model.errors import ArchiveFileError, UnknownMarketError
from lakehouse.model.market import Market, MarketType
from lakehouse.storage.landing import Landing
from lakehouse.storage.objects import LakeObjects

_ENDED_AFTER = timedelta(days=45)  # a market whose newest file is older than this has ended
_LAST_INSTANT = timedelta(microseconds=1)


def discover(exchange: Exchange, table: str, markets: Iterable[Market], objects: LakeObjects, clock: Callable[[], datetime]) -> dict[Market, MarketFacts]:
    """Find out about markets of one exchange.

    One exchangeInfo request per market type, two listings per market, and the first published file (of a market that has ended, the last one too).

    Raises:
        UnknownMarketError: The archive has no file of a market.
        ListingUnreachableError: The archive does not answer.
    """
    client, info = ArchiveClient(exchange.archive_url, exchange.bucket), _InfoCache(exchange)
    found = {}
    with ArchiveReader(exchange, table, Landing(objects, exchange.name), clock) as reader:
        for market in markets:
            listing = _all_files(client, exchange, table, market, clock())
            origin, described = info.of(market)
            listed = _edge(reader, listing, first=True)
            newest = max(period_range(period).end for period in listing.files)
            ended = _edge(reader, listing, first=False) if newest < listing.listed_at - _ENDED_AFTER else None
            found[market] = MarketFacts(market, described.base, described.quote, described.settle, described.contract_size, listed, described.delisted or ended, origin)
    return found


class _InfoCache:
    """exchangeInfo, asked once per market type; an API out of reach is not asked again."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[MarketType, Mapping[str, MarketInfo]] = {}

    def of(self, market: Market) -> tuple[str, MarketInfo]:
        if market.market_type not in self._known:
            try:
                self._known[market.market_type] = self._exchange.ask_info(market.market_type)
            except OSError:
                self._known[market.market_type] = {}  # the row will say `derived`
        described = self._known[market.market_type].get(market.symbol)
        return ("exchange_info", described) if described else ("derived", self._exchange.infer_info(market))


def _all_files(client: ArchiveClient, exchange: Exchange, table: str, market: Market, at: datetime) -> MarketListing:
    """All months, the first days and the newest days of a market: enough to know both ends of its life."""
    files: dict[str, Listed] = {}
    checksums: dict[str, Listed] = {}

    def take(listed: Listed) -> None:
        period = exchange.archive_period(listed.key.removesuffix(".CHECKSUM"))
        if period:
            (checksums if listed.key.endswith(".CHECKSUM") else files)[period] = listed

    for listed in client.objects(exchange.archive_prefix(table, market, "monthly")):
        take(listed)
    months = sorted(files)
    daily = exchange.archive_prefix(table, market, "daily")
    for count, listed in enumerate(client.objects(daily)):
        take(listed)
        if count > 2 and months:
            break
    if months:
        for listed in client.objects(daily, after=exchange.archive_key(table, market, f"{months[-1]}-01")[:-1]):
            take(listed)
    if not files:
        folder = exchange.archive_prefix(table, market, "daily").split(f"/{market.symbol}/")[0] + "/"
        raise UnknownMarketError(market.key, folder, difflib.get_close_matches(market.symbol, client.folders(folder), 3))
    return MarketListing(market, files, checksums, at, exchange.grace)


def _edge(reader: ArchiveReader, listing: MarketListing, first: bool) -> datetime:
    """Open time of the first row of the first readable file, or the end of the last row of the last one; the file's period where none is readable."""
    periods = sorted(listing.files, key=lambda period: (period_range(period).start, -len(period)) if first else (-period_range(period).end.timestamp(), -len(period)))
    for period in periods[:2]:
        try:
            frame = reader.read(listing, period).frame
        except ArchiveFileError:
            continue  # its receipt says what is wrong with it
        found: datetime = frame["open_time"].min() if first else frame["close_time"].max()  # type: ignore[assignment]
        return found if first else found + _LAST_INSTANT
    window = period_range(periods[0])
    return window.start if first else window.end
