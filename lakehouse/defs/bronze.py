"""Assets of what exchanges publish."""

from typing import Any

import dagster as dg

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketTable
from lakehouse.defs.describe import asset_arguments, asset_key
from lakehouse.defs.io_manager import cells_output
from lakehouse.defs.partitions import MARKETS, cells_of
from lakehouse.defs.services import LakeServices
from lakehouse.defs.steps import archive_cells, known_markets, refresh_markets
from lakehouse.model.market import Market
from lakehouse.storage.tables import CellRecord


def market_asset(lake: LakeServices) -> dg.AssetsDefinition:
    """`silver/market`: every market of the universe, asked again."""

    @dg.asset(**asset_arguments(MarketTable, lake))
    def market(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        universe = [Market.parse(key) for key in context.instance.get_dynamic_partitions(str(MARKETS.name))]
        record, changed = refresh_markets(lake, universe)
        if record is None:
            raise dg.Failure("There is no market yet: add one with `lakehouse markets add`, or under Partitions in the UI.", allow_retries=False)
        return dg.MaterializeResult(metadata=market_metadata(lake, record) | {"changed": changed}, data_version=dg.DataVersion(record.version))

    return market


def market_metadata(lake: LakeServices, record: CellRecord) -> dict[str, Any]:
    """What an event of `silver/market` says."""
    return {"dagster/row_count": record.rows, "dagster/uri": lake.objects.uri(record.path), "size_bytes": record.size, "version": record.version}


def archive_asset(dataset: Dataset, lake: LakeServices) -> dg.AssetsDefinition:
    """A bronze table made from archive files."""

    @dg.asset(**asset_arguments(dataset.archive, lake))
    def archive(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]):  # type: ignore[no-untyped-def]
        cells = cells_of(context)
        unknown = {cell.market for cell in cells if cell.market} - set(known_markets(lake))
        if unknown:  # added in the UI, where nobody asked about them yet
            record, _ = refresh_markets(lake, unknown)
            if record:
                metadata = market_metadata(lake, record)
                context.log_event(dg.AssetMaterialization(asset_key(MarketTable), tags={"dagster/data_version": record.version}, metadata=metadata))
        return cells_output(archive_cells(lake, dataset, cells))

    return archive
