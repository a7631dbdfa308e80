"""Assets of features."""

import dagster as dg

from lakehouse.defs.describe import asset_arguments, asset_key
from lakehouse.defs.io_manager import cells_output
from lakehouse.defs.partitions import cells_of, lookback_mapping
from lakehouse.model.feature import Feature
from lakehouse.pipeline.outcome import StoredCells
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.steps import feature_cells


def feature_asset(feature: type[Feature], lake: LakeServices) -> dg.AssetsDefinition:
    """A gold table, computed from its declared inputs and lookback."""
    names = {name.replace("/", "_"): name for name in feature.inputs}
    ins = {
        argument: dg.AssetIn(asset_key(name), partition_mapping=lookback_mapping(feature.inputs[name]))
        for argument, name in names.items()
    }

    @dg.asset(**asset_arguments(feature, lake), ins=ins)
    def gold(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices], **inputs: StoredCells
    ):
        cells, malformed = cells_of(context)
        return cells_output(
            feature_cells(
                lake, feature, cells, {names[argument]: stored for argument, stored in inputs.items()}
            ),
            malformed,
        )

    return gold
