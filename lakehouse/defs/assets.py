"""The assets: one factory for every table with cells, and `silver/market`, which asks about the universe."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from lakehouse.datasets.market import MarketTable
from lakehouse.defs.describe import asset_arguments, asset_key, reads_facts
from lakehouse.defs.io_manager import cells_output
from lakehouse.defs.partitions import MARKETS, cells_of, dependency, parse_keys
from lakehouse.defs.sources import above, archives_seen, rest_seen, source_specs
from lakehouse.model.cell import Cell
from lakehouse.model.table import Table
from lakehouse.model.words import NO_MARKET
from lakehouse.pipeline.costs import alone, costs
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import refresh_markets, scan_listings
from lakehouse.pipeline.recipe import Recipe
from lakehouse.pipeline.services import LakeServices
from lakehouse.storage.outcome import Outcome
from lakehouse.storage.tables import CellRecord

FORCE_TAG = "lakehouse/force"
"""Of a run that makes its cells whether they are due or not: `true`, or the tables that are meant, with
commas between.
"""


def table_asset(recipe: Recipe, lake: LakeServices) -> dg.AssetsDefinition:
    """The asset of a table with cells. Its recipe reads what it needs of the lake, so nothing is loaded."""
    deps = [dependency(recipe.table, each) for each in recipe.table.inputs]
    deps += [dg.AssetDep(key) for key in above(recipe.table, lake)]
    if reads_facts(recipe.table, lake.registry):
        deps.append(dg.AssetDep(asset_key(MarketTable)))

    @dg.asset(**asset_arguments(recipe.table, lake), deps=deps)
    def table(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ):
        cells, malformed = cells_of(context)
        has = Inventory(
            lake,
            [cell.market for cell in cells if cell.market] or None,
            lambda market, record: context.log_event(market_event(lake, record)),
        )
        has.look_at(recipe.table)
        if is_forced(context.run.tags, recipe.table):
            has.distrust(recipe.table.name)
        for cost in costs(has, {recipe: alone(has, recipe, cells)}):
            context.log.info(str(cost))
        made = recipe.make(has, [*cells, *_followers(recipe, has, cells)])
        return cells_output(_observed(context, has, recipe.table, made), malformed)

    return table


def is_forced(tags: Mapping[str, str], table: type[Table]) -> bool:
    """Whether a run with some tags makes the cells of a table whether they are due or not."""
    told = tags.get(FORCE_TAG, "").split(",")
    return "true" in told or table.name in told


def _observed(
    context: dg.AssetExecutionContext,
    has: Inventory,
    table: type[Table],
    made: Iterator[tuple[Cell, Outcome]],
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells as they are made, and at their end what was seen of the sources they came from."""
    exchanges = set[str]()
    for cell, outcome in made:
        exchanges |= {cell.market.exchange} if cell.market else set()
        yield cell, outcome
    listings, unlisted = has.listings.get(table.name, {}), has.unlisted.get(table.name, {})
    own = (has.lake.exchanges.get(name) for name in exchanges)
    asked = [exchange.name for exchange in own if exchange and table.name in exchange.pages]
    for seen in (*archives_seen(has.lake, listings, unlisted), *rest_seen(has.lake, asked)):
        context.log_event(seen)


def _followers(recipe: Recipe, has: Inventory, cells: list[Cell]) -> list[Cell]:
    """Stored cells that look back on those of a run, and are due: a backfill makes months in any order, and
    one that was made before the month it looks back on would have to be made in a run of its own.
    """
    if not any(each.lookback for each in recipe.table.inputs):
        return []
    months = dict.fromkeys(Cell(cell.month, cell.market) for cell in cells)
    stored, meant = has.ledger(recipe.table.name), set(cells)
    later = [cell for cell in recipe.covered(has, list(months)) if cell in stored and cell not in meant]
    return list(recipe.due(has, later).reasons)


def market_asset(lake: LakeServices) -> dg.AssetsDefinition:
    """`silver/market`: every market of the universe, asked again, and every other listing by name."""
    sources = [spec.key for spec in source_specs(lake)]

    @dg.asset(**asset_arguments(MarketTable, lake), deps=sources)
    def market(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        universe, malformed = parse_keys(context.instance.get_dynamic_partitions(str(MARKETS.name)))
        record, changed, failed = refresh_markets(lake, universe)
        refused = {market.key: error for market, error in failed.items()}
        for error in malformed.values():
            context.log.warning(f"A partition was left out: {error} Delete it under Partitions in the UI.")
        if record is None and not refused:
            raise dg.Failure(NO_MARKET, allow_retries=False)
        scan = scan_listings(lake)
        record, changed = scan.record or record, changed or scan.changed
        for problem in scan.problems:
            context.log.warning(f"Not every listing is known: {problem}")
        if refused:
            if record:
                context.log_event(market_event(lake, record))
            named = {key: str(error) for key, error in (malformed | refused).items()}
            why = "; ".join(named.values())
            said = f"Nothing was found of {len(named)} markets, the others are stored: {why}"
            raise dg.Failure(said, metadata={"markets": dg.MetadataValue.json(named)}, allow_retries=False)
        assert record is not None, "either is there, by the first of these conditions"
        event = market_event(lake, record)
        left_out = (
            {"left_out": dg.MetadataValue.json({key: str(error) for key, error in malformed.items()})}
            if malformed
            else {}
        )
        return dg.MaterializeResult(
            metadata={**event.metadata, "changed": changed, **left_out},
            data_version=dg.DataVersion(record.version),
        )

    return market


def market_event(lake: LakeServices, record: CellRecord) -> dg.AssetMaterialization:
    """The event of `silver/market`."""
    metadata: dict[str, Any] = {
        "dagster/row_count": record.rows,
        "dagster/uri": lake.objects.uri(record.path),
        "size_bytes": record.size,
        "version": record.version,
    }
    return dg.AssetMaterialization(
        asset_key(MarketTable), tags={"dagster/data_version": record.version}, metadata=metadata
    )
