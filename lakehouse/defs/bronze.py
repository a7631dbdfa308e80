"""Assets of what exchanges publish."""

from typing import Any

import dagster as dg

from lakehouse.datasets.dataset import ApiTable, Dataset
from lakehouse.datasets.market import MarketTable
from lakehouse.defs.describe import asset_arguments, asset_key
from lakehouse.defs.io_manager import cells_output
from lakehouse.defs.partitions import MARKETS, cells_of, parse_keys
from lakehouse.model.errors import LakehouseError, UsageError
from lakehouse.model.market import Market
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.steps import archive_cells, known_markets, refresh_markets, rest_cells
from lakehouse.storage.tables import CellRecord


def market_asset(lake: LakeServices) -> dg.AssetsDefinition:
    """`silver/market`: every market of the universe, asked again."""

    @dg.asset(**asset_arguments(MarketTable, lake))
    def market(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        universe, malformed = parse_keys(context.instance.get_dynamic_partitions(str(MARKETS.name)))
        record, changed, failed = refresh_markets(lake, universe)
        refused = {market.key: error for market, error in failed.items()}
        for error in malformed.values():
            context.log.warning(f"A partition was left out: {error} Delete it under Partitions in the UI.")
        if record is None and not refused:
            raise dg.Failure(
                "There is no market yet: add one with `lakehouse markets add`, or under Partitions in the "
                "UI.",
                allow_retries=False,
            )
        if refused:
            if record:
                context.log_event(market_event(lake, record))
            named = {key: str(error) for key, error in (malformed | refused).items()}
            said = f"Nothing was found of {len(named)} markets, the others are stored: {'; '.join(named.values())}"
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


def bronze_assets(dataset: Dataset, lake: LakeServices) -> list[dg.AssetsDefinition]:
    """The bronze tables of a dataset, upstream first."""
    return [
        rest_asset(dataset, table, lake) if issubclass(table, ApiTable) else archive_asset(dataset, lake)
        for table in dataset.bronze
    ]


def rest_asset(dataset: Dataset, table: type[ApiTable], lake: LakeServices) -> dg.AssetsDefinition:
    """A bronze table made from answers of a REST API. It reads ledgers, not rows: what is upstream decides
    what is asked.
    """

    @dg.asset(**asset_arguments(table, lake), deps=[asset_key(name) for name in table.inputs])
    def rest(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ):
        cells, malformed = cells_of(context)
        return cells_output(rest_cells(lake, dataset, table, cells), malformed)

    return rest


def archive_asset(dataset: Dataset, lake: LakeServices) -> dg.AssetsDefinition:
    """A bronze table made from archive files."""

    @dg.asset(
        **asset_arguments(dataset.archive, lake), deps=[asset_key(name) for name in dataset.archive.inputs]
    )
    def archive(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ):
        cells, malformed = cells_of(context)
        unknown = {cell.own_market for cell in cells} - set(known_markets(lake))
        refused: dict[Market, LakehouseError] = {}
        if unknown:  # added in the UI, where nobody asked about them yet
            record, changed, failed = refresh_markets(lake, unknown)
            # out of reach is for the cells themselves to find
            refused = {market: error for market, error in failed.items() if isinstance(error, UsageError)}
            if record and changed:
                context.log_event(market_event(lake, record))
        return cells_output(archive_cells(lake, dataset, cells, refused), malformed)

    return archive
