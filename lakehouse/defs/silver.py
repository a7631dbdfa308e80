"""Assets of the one truth."""

import dagster as dg

from lakehouse.datasets.conflict import Conflict
from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.gap import Gap
from lakehouse.defs.automation import ON_UPDATE
from lakehouse.defs.describe import asset_arguments, asset_key
from lakehouse.defs.io_manager import cells_output
from lakehouse.defs.partitions import cells_of
from lakehouse.pipeline.outcome import StoredCells
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.steps import conflict_cells, gap_cells, silver_cells


def silver_asset(dataset: Dataset, lake: LakeServices) -> dg.AssetsDefinition:
    """A silver table, reconciled from bronze."""
    names = {table.name.replace("/", "_"): table.name for table in dataset.bronze}
    ins = {argument: dg.AssetIn(asset_key(name)) for argument, name in names.items()}

    @dg.asset(**asset_arguments(dataset.silver, lake), ins=ins)
    def silver(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices], **bronze: StoredCells
    ):
        cells, malformed = cells_of(context)
        return cells_output(
            silver_cells(
                lake, dataset, cells, {names[argument]: stored for argument, stored in bronze.items()}
            ),
            malformed,
        )

    return silver


def gap_asset(lake: LakeServices) -> dg.AssetsDefinition:
    """`silver/gap`: collected from footers, so its input is not loaded."""

    @dg.asset(
        **(asset_arguments(Gap, lake) | {"automation_condition": ON_UPDATE}),
        deps=[asset_key(name) for name in Gap.inputs],
    )
    def gap(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ):
        cells, malformed = cells_of(context)
        return cells_output(gap_cells(lake, cells), malformed)

    return gap


def conflict_asset(lake: LakeServices) -> dg.AssetsDefinition:
    """`silver/conflict`: footers say which cells have disputes, and the bronze of these is read again."""

    @dg.asset(
        **(asset_arguments(Conflict, lake) | {"automation_condition": ON_UPDATE}),
        deps=[asset_key(name) for name in Conflict.inputs],
    )
    def conflict(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ):
        cells, malformed = cells_of(context)
        return cells_output(conflict_cells(lake, cells), malformed)

    return conflict
