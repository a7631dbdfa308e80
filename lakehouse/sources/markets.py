"""What is known of a market: asked from the exchange where it answers, else derived from its archive and its
symbol.
"""

import contextlib
import difflib
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from lakehouse.datasets.candle import CandleApi
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.api import ExchangeInfo, MarketInfo
from lakehouse.exchanges.exchange import Exchange, period_range
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
from lakehouse.model.market import Market, MarketType, symbol_fault
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.files.listing import ListedFiles, MarketListing
from lakehouse.sources.files.reader import ArchiveReader
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.describing import describe
from lakehouse.sources.rest.rows import RowReader
from lakehouse.storage.landing import Landing
from lakehouse.storage.objects import LakeObjects

_ENDED_AFTER = timedelta(days=45)  # a market whose newest file is older than this has ended
_LAST_INSTANT = timedelta(microseconds=1)

_log = logging.getLogger(__name__)


def discover(
    exchange: Exchange,
    table: str,
    markets: Iterable[Market],
    objects: LakeObjects,
    clients: RestClients,
    clock: Callable[[], datetime],
) -> tuple[dict[Market, MarketFacts], dict[Market, LakehouseError]]:
    """Find out about markets of one exchange.

    One exchangeInfo request per market type, listings per market, and the first published files (of a market
    that has ended, the last ones too). A market whose entry in exchangeInfo cannot be read is named in a
    warning, and is known by its archive and symbol alone.

    Returns:
        What was found, and why nothing was of the other markets: `UnknownMarketError` where the archive has
        no file, `FetchError` where one is out of reach.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    client, info = ArchiveClient(exchange.archive_url, exchange.bucket), _InfoCache(exchange)
    found: dict[Market, MarketFacts] = {}
    failed: dict[Market, LakehouseError] = {}
    with ArchiveReader(exchange, table, Landing(objects, exchange.name), clock) as reader:
        for market in markets:
            try:
                found[market] = _facts(
                    exchange,
                    clients,
                    reader,
                    _all_files(client, exchange, table, market, clock()),
                    *info.of(market),
                )
            except (UnknownMarketError, FetchError) as error:
                failed[market] = error
    return found, failed


def _facts(
    exchange: Exchange,
    clients: RestClients,
    reader: ArchiveReader,
    listing: MarketListing,
    origin: str,
    described: MarketInfo,
) -> MarketFacts:
    newest, first = (
        max(period_range(period).end for period in listing.files),
        _first_instant(clients, reader, listing),
    )
    # What is published after an end that was stated is no trade; one before the first row was not meant for
    # this listing. Until it comes, an end may be moved.
    ends = [described.ends, exchange.infer_info(listing.market).ends]
    stated = min((end for end in ends if end and first < end <= listing.listed_at), default=None)
    # Files lag by months at times: of a market that trades by the exchange's word, their end is not its end.
    has_ended = stated is None and newest < listing.listed_at - _ENDED_AFTER and not described.trades
    delisted = _last_instant(reader, listing) if has_ended else stated
    return MarketFacts(
        listing.market,
        described.base,
        described.quote,
        described.settle,
        described.contract_size,
        first,
        delisted,
        origin,
    )


class _InfoCache:
    """exchangeInfo, asked once per market type; an API out of reach is not asked again."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[MarketType, ExchangeInfo] = {}

    def of(self, market: Market) -> tuple[str, MarketInfo]:
        if market.market_type not in self._known:
            try:
                self._known[market.market_type] = describe(self._exchange.rest_api(market.market_type))
            except (OSError, RestUnreachableError):
                self._known[market.market_type] = ExchangeInfo({}, {})  # the row will say `derived`
        info = self._known[market.market_type]
        if why := info.skipped.get(market.symbol):
            _log.warning(
                "exchangeInfo has an entry of %s that cannot be read, and was skipped: %s.", market.key, why
            )
        if described := info.markets.get(market.symbol):
            return "exchange_info", described
        if why := info.skipped.get(""):
            _log.warning("exchangeInfo has no entry of %s that can be read, and %s.", market.key, why)
        return "derived", self._exchange.infer_info(market)


def _all_files(
    client: ArchiveClient, exchange: Exchange, table: str, market: Market, at: datetime
) -> MarketListing:
    """All months, the first days and the newest days of a market: enough to know both ends of its life."""
    found = ListedFiles(exchange, table, market)

    def take(listed: Listed) -> bool:
        own = found.period_of(listed)
        found.take(listed, own)
        return own is not None

    for listed in client.objects(exchange.archive_prefix(table, market, "monthly")):
        take(listed)
    months = sorted(found.files)
    daily, first_days = exchange.archive_prefix(table, market, "daily"), 0
    for listed in client.objects(daily):
        first_days += take(listed)
        if first_days > 3 and months:
            break
    if months:
        for listed in client.objects(
            daily, after=exchange.archive_key(table, market, f"{months[-1]}-01")[:-1]
        ):
            take(listed)
    if not found.files:
        folder = exchange.archive_prefix(table, market, "daily").split(f"/{market.symbol}/")[0] + "/"
        similar: list[str] = []
        # a hint, and no reason to fail the markets that are known
        with contextlib.suppress(ListingUnreachableError, FetchError):
            names = [name for name in client.folders(folder) if not symbol_fault(name)]
            similar = difflib.get_close_matches(market.symbol.upper(), names, 3)
        raise UnknownMarketError(
            market.key,
            folder,
            [Market(market.exchange, market.market_type, symbol).key for symbol in similar],
        )
    return found.listing(at)


def _first_instant(clients: RestClients, reader: ArchiveReader, listing: MarketListing) -> datetime:
    """Open time of the first published row: the earlier of what the first month and the first day say."""
    firsts = [min(periods, key=lambda period: period_range(period).start) for periods in _by_length(listing)]
    earliest = min(period_range(period).start for period in firsts)
    found: list[datetime] = []
    # the day first: if it begins where all files do, the month cannot be earlier
    for period in sorted(firsts, key=len, reverse=True):
        if earliest not in found:
            found.append(
                _read_edge(reader, listing, period, first=True)
                or _first_by_rest(clients, listing.market, period_range(period))
            )
    return min(found)


def _first_by_rest(clients: RestClients, market: Market, window: TimeRange) -> datetime:
    """When the first candle opens in the period of a file that cannot be read; the start of it where REST
    does not say, so that nothing is ruled out on the file's account.
    """
    try:
        return (
            RowReader(clients.of(market), CandleApi, clients.pages_of(market, CandleApi.name), market).first(
                window
            )
            or window.start
        )
    except (RestUnreachableError, RestQuestionError, UnknownSymbolError):
        return window.start


def _last_instant(reader: ArchiveReader, listing: MarketListing) -> datetime:
    """End of the last published row: the later of what the last month and the last day say."""
    lasts = [max(periods, key=lambda period: period_range(period).end) for periods in _by_length(listing)]
    latest = max(period_range(period).end for period in lasts)
    found: list[datetime] = []
    for period in sorted(lasts, key=len, reverse=True):
        if latest not in found:
            found.append(_read_edge(reader, listing, period, first=False) or period_range(period).end)
    return max(found)


def _by_length(listing: MarketListing) -> list[list[str]]:
    """The listed months and the listed days, without the empty one."""
    return [
        periods
        for length in (7, 10)
        if (periods := [period for period in listing.files if len(period) == length])
    ]


def _read_edge(reader: ArchiveReader, listing: MarketListing, period: str, first: bool) -> datetime | None:
    """Where a file's rows begin or end; None where it has none, or cannot be read."""
    try:
        frame = reader.read(listing, period).frame
    except ArchiveFileError:
        return None
    if not frame.height:
        return None
    edge: datetime = frame["open_time"].min() if first else frame["close_time"].max()  # type: ignore[assignment]
    return edge if first else period_range(period).clip(edge + _LAST_INSTANT)
