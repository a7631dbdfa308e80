"""Every listing of an exchange, delisted ones too: what exchangeInfo names, and the folders of its archive.

No file is fetched: both ends of a life are told by the names of files. A market takes three LISTs the first
time, and none as long as it trades, or once it has ended.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import islice

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import Listing, Precision
from lakehouse.exchanges.api import MarketInfo
from lakehouse.exchanges.exchange import Exchange, Files
from lakehouse.model.errors import FetchError, ListingBoundsError
from lakehouse.model.market import MARKET_TYPES, Market, MarketType, symbol_fault
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.terms import NOT_NAMED
from lakehouse.model.text import plain
from lakehouse.model.timerange import shift_month
from lakehouse.model.words import count_of
from lakehouse.sources.files.listing import period_of
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.rest.describing import Described

_ENDED_AFTER = timedelta(days=45)
_GAUGES = 3
_FEW_KEYS = 8  # the first file and its CHECKSUM, and what else may lie before them
_EXAMPLE = "EXAMPLE"


@dataclass
class Overview:
    """What an exchange lists.

    Attributes:
        listings: By market.
        problems: What could not be seen, in words.
    """

    listings: dict[Market, Listing] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Named:
    """What the names of a market's files tell: the first and the last period, and months without any."""

    first: Period
    last: Period
    unpublished: str


def look_over(
    exchange: Exchange, datasets: Iterable[Dataset], known: Mapping[Market, Listing], at: datetime
) -> Overview:
    """Find every listing of an exchange.

    A market has ended where its contract states an end that is past, or where its files stopped, and the
    exchange does not say that it trades: for longer than files may be late where the exchange, asked for
    all it lists, does not name it, else for 45 days. Files stopped by the measure of the newest file of
    any market of the type: an archive that stands still ends nobody.

    Args:
        exchange: The exchange.
        datasets: The datasets of the lake, the one whose files tell the most of lives first.
        known: What is known of its markets.
        at: The current instant.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    described, found, client = Described(exchange), Overview(), ArchiveClient.of(exchange)
    for market_type, places in _places(exchange, datasets).items():
        info = described.all(market_type)
        if info is None and exchange.has_rest and market_type in exchange.rest_types:
            found.problems.append(
                f"The REST API of {exchange.name} ({market_type}) did not say what it lists."
            )
        for why in (info.skipped.get(""),) if info else ():
            found.problems += [f"What {exchange.name}-{market_type} lists: {why}."] if why else []
        folders = {
            Market(exchange.name, market_type, symbol): files
            for symbol, files in sorted(_folders(client, exchange, places, found.problems).items())
        }
        named_by_rest = (
            Market(exchange.name, market_type, symbol) for symbol in (info.symbols if info else ())
        )
        told = {market: described.of(market) for market in sorted({*folders, *named_by_rest})}
        about = {market: description for market, (_, description) in told.items()}
        named = _look_at_names(client, folders, about, known, found.problems)
        newest = max((one.last.window.end for one in named.values()), default=None)
        by, intervals = (newest, exchange.grace, at), described.intervals(market_type)
        for market, (origin, description) in told.items():
            if hours := intervals.get(market.symbol):
                terms = replace(description.terms, funding_interval_hours=hours)
                description = replace(description, terms=terms)
            listing = _listing(market, origin, description, named.get(market), known.get(market), by)
            # of an exchange without files there is none to look at
            unpublished = listing.unpublished if places else ""
            found.listings[market] = replace(listing, unpublished=unpublished, is_sparse=exchange.sparse)
    _tell_successors(exchange, found.listings)
    return found


def names_of(exchange: Exchange, datasets: Iterable[Dataset]) -> Overview:
    """Every listing of an exchange by name and description alone: no life is looked for.

    Args:
        exchange: The exchange.
        datasets: The datasets of the lake.

    Raises:
        ListingUnreachableError: The archive does not answer.
    """
    described, found, client = Described(exchange), Overview(), ArchiveClient.of(exchange)
    for market_type, places in _places(exchange, datasets).items():
        info = described.all(market_type)
        symbols = (info.symbols if info else set()) | {*_folders(client, exchange, places, found.problems)}
        for symbol in sorted(symbols):
            market = Market(exchange.name, market_type, symbol)
            origin, about = described.of(market)
            listing = _listing(market, origin, about, None, None, None)
            found.listings[market] = replace(listing, is_sparse=exchange.sparse)
    return found


def _listing(
    market: Market,
    origin: str,
    about: MarketInfo,
    named: _Named | None,
    known: Listing | None,
    by: tuple[datetime | None, timedelta, datetime] | None,
) -> Listing:
    """What is told of a market.

    Args:
        market: The market.
        origin: Where its description is from.
        about: Its description.
        named: What the names of its files tell; None where nobody looked, or there is none.
        known: What was known of it.
        by: The end of the newest file of any market of the type, how late files may be, and the current
            instant; None where its life is not looked for.
    """
    first: tuple[datetime | None, Precision | None] = (None, None)
    if named is not None:
        first = named.first.window.start, named.first.kind
    elif known is not None and known.life_source == "names":
        first = known.listed, known.listed_precision
    ended: tuple[datetime | None, Precision | None] = (None, None)
    if by is not None:
        ended = _end(about, named, first[0], *by)
        if ended[0] is None and named is None and known is not None and not about.trades:
            ended = known.delisted, known.delisted_precision
    return Listing(
        market,
        origin,
        "names" if first[0] else "exchange",
        about.base,
        about.quote,
        about.settle,
        about.contract_size,
        listed=first[0],
        listed_precision=first[1],
        delisted=ended[0],
        delisted_precision=ended[1],
        terms=about.terms,
        unpublished=named.unpublished if named else None,
    )


def _tell_successors(exchange: Exchange, listings: dict[Market, Listing]) -> None:
    """Name what took the place of markets whose coin went on under another name: a market that states the new
    name, and has the old one's symbol otherwise.
    """
    old_names = {new: (old, ratio) for old, (new, ratio) in exchange.renamed.items()}
    for market, listing in list(listings.items()):
        base = listing.base or ""
        if base not in old_names or not market.symbol.startswith(base):
            continue
        old, ratio = old_names[base]
        symbol = old + market.symbol.removeprefix(base)
        before = listings.get(ended := Market(market.exchange, market.market_type, symbol))
        if before is not None and before.terms.is_trading is False:
            listings[ended] = replace(before, successor=market.symbol, successor_ratio=ratio)


def _end(
    about: MarketInfo,
    named: _Named | None,
    first: datetime | None,
    newest: datetime | None,
    grace: timedelta,
    at: datetime,
) -> tuple[datetime | None, Precision | None]:
    """The end of a life where it is shown to have one, and how well it is told."""
    begun = first or about.terms.onboarded
    stated = min((end for end in (about.ends, about.terms.expires) if end and end <= at), default=None)
    if stated and begun and stated > begun:
        return stated, "instant"
    if named is None or newest is None or about.trades:
        return None, None
    last = named.last.window.end
    late = grace if about.terms.status == NOT_NAMED else _ENDED_AFTER
    return (last, named.last.kind) if last < newest - late else (None, None)


# --- folders and names ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """What the archive publishes of one table, and the folders with a folder for each market."""

    files: Files
    roots: tuple[str, ...]


def _places(exchange: Exchange, datasets: Iterable[Dataset]) -> dict[MarketType, list[_Place]]:
    """What the archive has of each market type that the exchange has. Where the folders of two types are the
    same, their markets are of the first that has a REST API.
    """
    tables = [files for each in datasets if (files := exchange.files.get(each.archive.name))]
    first = [kind for kind in exchange.rest_types if exchange.has_rest]
    found: dict[MarketType, list[_Place]] = {}
    seen = set[str]()
    for market_type in (*first, *(kind for kind in MARKET_TYPES if kind not in first)):
        example = Market(exchange.name, market_type, _EXAMPLE)
        places = [
            _Place(files, tuple(files.prefix(example, kind).split(f"{_EXAMPLE}/")[0] for kind in files.kinds))
            for files in tables
        ]
        own = [place for place in places if seen.isdisjoint(place.roots)]
        if own or market_type in first:
            found[market_type] = own
        seen |= {root for place in own for root in place.roots}
    return found


def _folders(
    client: ArchiveClient, exchange: Exchange, places: Iterable[_Place], problems: list[str]
) -> dict[str, Files]:
    """The symbols that have a folder in the archive, each with the files that tell its life."""
    found, odd = dict[str, Files](), set[str]()
    for place in places:
        for name in (name for root in place.roots for name in client.folders(root)):
            if why := symbol_fault(name):
                odd.add(f"{plain(name)[:60]} ({why})")
            else:
                found.setdefault(name, place.files)
    if odd:
        problems.append(
            f"The archive of {exchange.name} has {count_of(len(odd), 'folder')} that can be no market's, the "
            f"first {min(odd)}."
        )
    return found


def _look_at_names(
    client: ArchiveClient,
    folders: Mapping[Market, Files],
    told: Mapping[Market, MarketInfo],
    known: Mapping[Market, Listing],
    problems: list[str],
) -> dict[Market, _Named]:
    """What the names of files tell of the markets of which they may tell something new."""
    trading = [market for market in folders if told[market].trades]
    gauges = set(trading[:_GAUGES])  # somebody has to tell how far the archive has come

    def is_old_news(market: Market) -> bool:
        before, trades = known.get(market), told[market].trades
        if before is None or before.unpublished is None:
            return False
        return market not in gauges if trades else before.delisted is not None

    def look(market: Market) -> _Named | str | None:
        try:
            return _look(client, folders[market], market)
        except (FetchError, ListingBoundsError) as error:
            return str(error)

    wanted = [market for market in folders if not is_old_news(market)]
    found: dict[Market, _Named] = {}
    with ThreadPoolExecutor(client.workers) as pool:
        for market, answer in zip(wanted, pool.map(look, wanted), strict=True):
            if isinstance(answer, str):
                problems.append(f"{market.key}: {answer}")
            elif answer is not None:
                found[market] = answer
    return found


def _look(client: ArchiveClient, files: Files, market: Market) -> _Named | None:
    """What the names of a market's files tell: all of the longest kind, of shorter ones the first, and those
    from where the longest end on; None if there is none.
    """

    def periods(kind: PeriodKind, since: datetime | None = None, at_first: int = 0) -> Iterator[Period]:
        after = files.key(market, Period.of(since, kind))[:-1] if since else ""
        for listed in client.objects(files.prefix(market, kind), after, at_first):
            period = period_of(files, listed.key)  # that of a CHECKSUM is none
            if period and period.kind == kind and listed.key == files.key(market, period):
                yield period

    longest, *shorter = files.kinds
    found = list(periods(longest))
    ends = max((period.window.start for period in found), default=None)
    for kind in shorter:
        found += islice(periods(kind, at_first=_FEW_KEYS), 1) if ends else ()
        found += periods(kind, ends)
    if not found:
        return None
    begins = [min(of_kind, key=_begin) for kind in files.kinds if (of_kind := _of(found, kind))]
    ends_in = [max(of_kind, key=_finish) for kind in files.kinds if (of_kind := _of(found, kind))]
    # one that is not beyond a longer one says where in it rows begin, or end
    first = reduce(lambda long, short: short if _begin(short) < _finish(long) else long, begins)
    last = reduce(lambda long, short: short if _finish(short) > _begin(long) else long, ends_in)
    absent = _absent({period.month.text for period in found}, first, last)
    for month in absent if shorter else ():
        window = Period.parse(month).window
        day = next(periods(shorter[-1], window.start, _FEW_KEYS), None)
        found += [day] if day and day.window.start < window.end else []
    return _Named(first, last, ",".join(_absent({period.month.text for period in found}, first, last)))


def _of(periods: Iterable[Period], kind: PeriodKind) -> list[Period]:
    return [period for period in periods if period.kind == kind]


def _begin(period: Period) -> datetime:
    return period.window.start


def _finish(period: Period) -> datetime:
    return period.window.end


def _absent(months: Collection[str], first: Period, last: Period) -> list[str]:
    """The months between two periods that are not among some."""
    count = 12 * (last.window.start.year - first.window.start.year)
    count += last.window.start.month - first.window.start.month
    between = (shift_month(first.month.text, number) for number in range(1, count))
    return [month for month in between if month not in months]
