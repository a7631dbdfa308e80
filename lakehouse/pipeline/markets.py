"""`silver/market`: what exchanges and archives say of the markets of the universe."""

from collections.abc import Iterable
from itertools import groupby

from lakehouse.datasets.market import MarketFacts, MarketTable, facts_by_market, market_frame
from lakehouse.model.errors import LakehouseError, UnknownExchangeError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.pipeline.services import LakeServices
from lakehouse.sources.markets import discover
from lakehouse.storage.tables import CellRecord, StoredCell


def known_markets(lake: LakeServices) -> dict[Market, MarketFacts]:
    """Every market that `silver/market` has."""
    stored = lake.tables.get(MarketTable, None)
    return facts_by_market(stored.rows if stored else None)


def refresh_markets(
    lake: LakeServices, markets: Iterable[Market]
) -> tuple[CellRecord | None, bool, dict[Market, LakehouseError]]:
    """Ask about markets and store what is new; rows of other markets stay.

    Returns:
        The record of `silver/market`, whether it was written, and why nothing was found of some markets: not
        listed, of no supported exchange, or out of reach.

    Raises:
        ListingUnreachableError: An archive does not answer.
    """
    found: dict[Market, MarketFacts] = {}
    failed: dict[Market, LakehouseError] = {}
    for name, group in groupby(sorted(set(markets)), key=lambda market: market.exchange):
        members = list(group)
        if name not in lake.exchanges:
            failed |= dict.fromkeys(members, UnknownExchangeError(name, lake.exchanges))
            continue
        learned, refused = discover(
            lake.exchanges[name],
            lake.registry.datasets[0].archive.name,
            members,
            lake.objects,
            lake.clients,
            lake.clock,
        )
        found, failed = found | learned, failed | refused
    changed = False

    def merge(stored: StoredCell | None) -> CellResult | None:
        nonlocal changed
        known = facts_by_market(stored.rows if stored else None)
        merged = known | {market: facts.kept_from(known.get(market)) for market, facts in found.items()}
        is_outdated = stored is not None and stored.record.code_version != MarketTable.code_version
        changed = merged != known or is_outdated
        return CellResult(market_frame(list(merged.values())), {}) if changed else None

    record = lake.tables.update(MarketTable, None, merge)
    return record, changed, failed
