"""`silver/market`: what exchanges and archives say of the markets of the universe."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby

from lakehouse.datasets.market import (
    Listing,
    MarketFacts,
    MarketTable,
    current_listings,
    facts_by_market,
    learnt,
    market_frame,
    read_listings,
)
from lakehouse.model.errors import (
    LakehouseError,
    NotALakeObjectError,
    UnknownExchangeError,
    UnknownMarketError,
)
from lakehouse.model.market import Market, names_exchange
from lakehouse.model.result import CellResult
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.universe import named
from lakehouse.sources.listings import look_over, names_of
from lakehouse.sources.markets import discover
from lakehouse.storage.asked import asked_at, note_asked, note_scanned
from lakehouse.storage.tables import CellRecord, StoredCell


def known_markets(lake: LakeServices) -> dict[Market, MarketFacts]:
    """Every market that `silver/market` has."""
    stored = lake.tables.get(MarketTable, None)
    return facts_by_market(stored.rows if stored else None)


def refresh_markets(
    lake: LakeServices, markets: Iterable[Market], unless_asked_within: timedelta = timedelta(0)
) -> tuple[CellRecord | None, bool, dict[Market, LakehouseError]]:
    """Ask about markets and store what is new; rows of other markets stay.

    Args:
        lake: The lake.
        markets: Which markets.
        unless_asked_within: Of a market that is known, and was answered about no longer ago than this,
            nobody is asked again.

    Returns:
        The record of `silver/market`, whether it was written, and why nothing was found of some markets: not
        listed, of no supported exchange, or out of reach.

    Raises:
        ListingUnreachableError: An archive does not answer.
    """
    meant = set(markets)
    lake.clients.concern(meant)
    now = lake.clock()
    if unless_asked_within:
        meant -= _asked_since(lake, now - unless_asked_within, now)
    found: dict[Market, MarketFacts] = {}
    failed: dict[Market, LakehouseError] = {}
    for name, group in groupby(sorted(meant), key=lambda market: market.exchange):
        members = list(group)
        if name not in lake.exchanges:
            failed |= dict.fromkeys(members, UnknownExchangeError(name, lake.exchanges))
            continue
        learned, refused = discover(
            lake.exchanges[name],
            lake.registry.datasets,
            members,
            lake.objects,
            lake.clients,
            lake.clock,
        )
        found, failed = found | learned, failed | refused
    known = known_markets(lake) if failed else {}
    for market in [market for market in failed if market in known]:
        # an exchange without files forgets a market when it ends: the lake knows it, and keeps what it has
        if isinstance(failed[market], UnknownMarketError) and not lake.exchanges[market.exchange].files:
            del failed[market]
    # What an archive and a symbol tell stands in for the exchange's word: that is asked for again.
    note_asked(lake.objects, (market for market in found if found[market].origin != "derived"), now)

    def news(stored: StoredCell | None) -> dict[Market, Listing]:
        known = facts_by_market(stored.rows if stored else None)
        return {market: Listing.of(facts.kept_from(known.get(market))) for market, facts in found.items()}

    return *_learn(lake, now, news), failed


@dataclass
class Scan:
    """What came of asking exchanges for all they list.

    Attributes:
        record: That of `silver/market`; None if there is none.
        changed: Whether it was written.
        counts: How many listings each exchange and market type has.
        problems: What could not be seen, in words.
        unseen: The exchanges of which not everything was seen.
    """

    record: CellRecord | None
    changed: bool
    counts: Mapping[str, int]
    problems: list[str]
    unseen: frozenset[str]


def scan_listings(lake: LakeServices) -> Scan:
    """Ask every exchange for all its listings, delisted ones too, and store what is new. An exchange whose
    archive does not answer is named, and what is known of its markets stays.
    """
    now, problems, news = lake.clock(), list[str](), dict[Market, Listing]()
    asked: list[str] = []
    known: Mapping[Market, Listing] = {}
    with contextlib.suppress(NotALakeObjectError):  # damaged: who asks anew heals it
        stored = lake.tables.get(MarketTable, None)
        known = current_listings(stored.rows if stored else None)
    for exchange in lake.exchanges.values():
        try:
            found = look_over(exchange, lake.registry.datasets, known, now)
        except LakehouseError as error:
            problems.append(str(error))
        else:
            news, problems = news | found.listings, problems + found.problems
            asked += [exchange.name] if not found.problems else []
    record, changed = _learn(lake, now, lambda before: news)
    note_scanned(lake.objects, asked, now)
    counts = Counter(f"{market.exchange}-{market.market_type}" for market in news)
    return Scan(record, changed, counts, problems, frozenset(lake.exchanges) - frozenset(asked))


def missed(lake: LakeServices, names: Iterable[str], unseen: Iterable[str]) -> set[str]:
    """The exchanges that somebody misses, of those that could not be reached: such as the lake has a market
    of, or a name can mean. Where that is none of all exchanges, nobody has chosen yet, and it is enough that
    one answers.

    Args:
        lake: The lake.
        names: Market keys, unified symbols and patterns that are wanted.
        unseen: The exchanges that could not be reached.
    """
    used = {name for name in lake.exchanges for wanted in names if names_exchange(wanted, name)}
    with contextlib.suppress(LakehouseError):  # damaged or out of reach, which others say
        used |= {market.exchange for market in known_markets(lake)}
    found = set(unseen)
    return found & used if used else found if found >= set(lake.exchanges) else set()


def listed_markets(lake: LakeServices, names: Iterable[str]) -> list[Market]:
    """The markets that names mean of all that exchanges list or listed. Nobody is asked about market keys.

    Args:
        lake: The lake.
        names: Market keys, unified symbols and patterns.

    Raises:
        MarketKeyError, NoSuchListingError, ManyMarketsError: As `named`.
        ListingUnreachableError: An archive does not answer.
    """

    @cache
    def listings() -> list[Listing]:
        datasets, stored = lake.registry.datasets, lake.tables.get(MarketTable, None)
        found = current_listings(stored.rows if stored else None)
        for exchange in lake.exchanges.values():
            for market, each in names_of(exchange, datasets).listings.items():
                found[market] = each.after(found.get(market), lake.clock())[-1]
        return list(found.values())

    meant = (market for name in names for market in named(name, listings, "that are listed or were"))
    return list(dict.fromkeys(meant))


def _learn(
    lake: LakeServices, now: datetime, news: Callable[[StoredCell | None], Mapping[Market, Listing]]
) -> tuple[CellRecord | None, bool]:
    """Store what was learnt; the record, and whether it was written.

    Args:
        lake: The lake.
        now: When it was learnt.
        news: What was, beside what is stored.
    """
    changed = False

    def merge(stored: StoredCell | None) -> CellResult | None:
        nonlocal changed
        before = read_listings(stored.rows if stored else None)
        after = learnt(before, news(stored), now)
        is_outdated = stored is not None and stored.record.code_version != MarketTable.code_version
        changed = set(after) != set(before) or is_outdated
        return CellResult(market_frame(after), {}) if changed else None

    return lake.tables.update(MarketTable, None, merge), changed


def _asked_since(lake: LakeServices, start: datetime, now: datetime) -> set[Market]:
    """The markets of which today's meaning of `silver/market` has facts, and which an exchange was asked
    about between two instants.
    """
    asked = {key for key, at in asked_at(lake.objects).items() if start < at <= now}
    stored = None
    with contextlib.suppress(NotALakeObjectError):  # damaged: who is asked anew heals it
        stored = lake.tables.get(MarketTable, None) if asked else None
    if stored is None or stored.record.code_version != MarketTable.code_version:
        return set()
    return {market for market in facts_by_market(stored.rows) if market.key in asked}
