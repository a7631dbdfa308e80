"""Assets of registration: the sync of a table's catalog entry is also the check that it has not drifted; of
its partitions once a day, and in any run with the tag `lakehouse/force`.
"""

from typing import Any

import dagster as dg

from lakehouse.defs.assets import is_forced
from lakehouse.defs.automation import ON_CHANGE
from lakehouse.defs.describe import asset_key
from lakehouse.model.errors import CatalogError
from lakehouse.model.table import Table
from lakehouse.pipeline.services import LakeServices
from lakehouse.storage.ledger import records
from lakehouse.storage.tables import CellRecord


def catalog_key(table: type[Table]) -> dg.AssetKey:
    """The asset key of a table's registration."""
    return dg.AssetKey(["catalog", *table.name.split("/")])


def catalog_asset(table: type[Table], lake: LakeServices) -> dg.AssetsDefinition:
    """The registration of a silver or gold table in Glue."""
    database = lake.catalog.database(table) if lake.catalog else ""

    @dg.asset(
        key=catalog_key(table),
        deps=[asset_key(table)],
        description=f"`{database}.{table.short_name()}` in AWS Glue: columns, types and comments of the "
        "declaration, one partition per stored cell.",
        group_name="catalog",
        kinds={"aws", "glue"},
        tags={"zone": "catalog"},
        automation_condition=ON_CHANGE,
        config_schema={},
    )
    def registration(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeServices]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        if lake.catalog is None:
            raise CatalogError(table.name, "LAKEHOUSE_GLUE_DATABASE is not set")
        stored: list[CellRecord] = records(lake.objects, table)
        done = lake.catalog.sync(table, stored, whole=is_forced(context.run.tags, table))
        metadata: dict[str, Any] = {
            "table": f"{done.database}.{done.table}",
            "table_change": done.table_change,
            "listed": done.listed,
            "partitions": done.kept + len(done.added) + len(done.updated),
        }
        return dg.MaterializeResult(
            metadata=metadata
            | {"added": len(done.added), "updated": len(done.updated), "removed": len(done.removed)}
        )

    return registration
