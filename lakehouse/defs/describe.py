"""What the UI shows of a table, out of its declaration."""

import sys
from typing import Any
from urllib.parse import quote

import dagster as dg

from lakehouse.datasets.market import MarketTable
from lakehouse.defs.automation import when_due
from lakehouse.defs.due import due_partitions
from lakehouse.defs.partitions import partitions_of
from lakehouse.model.feature import Feature
from lakehouse.model.table import Table
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import Registry
from lakehouse.storage.layout import table_prefix


def asset_key(table: type[Table] | str) -> dg.AssetKey:
    """The asset key of a table, given as declaration or name."""
    return dg.AssetKey((table if isinstance(table, str) else table.name).split("/"))


def partition_page(table: type[Table], partition: str) -> str:
    """Where the UI shows a cell, by its partition key."""
    return f"/assets/{table.name}?view=partitions&partition={quote(partition)}"


def pool_of(table: type[Table]) -> str:
    """The pool in which runs of a table wait for each other."""
    return f"table_{table.name.replace('/', '_')}"


def column_schema(table: type[Table]) -> dg.TableSchema:
    """The declaration as Dagster's column schema, with units, constraints and row rules."""
    columns = [
        dg.TableColumn(
            name,
            type=table.sql_type(name),
            description=table.comment(name),
            constraints=dg.TableColumnConstraints(
                nullable=column.nullable, unique=(name,) == tuple(table.key), other=column.constraints
            ),
        )
        for name, column in table.columns.items()
    ]
    return dg.TableSchema(
        columns, constraints=dg.TableConstraints(other=[rule.description for rule in table.row_rules])
    )


def _declared_in(table: type[Table]) -> dg.CodeReferencesMetadataValue:
    """The file of the declaration, not of the shared code that makes an asset of it: what "Source code" on
    the asset's page opens.
    """
    file = dg.LocalFileCodeReference(
        file_path=str(sys.modules[table.__module__].__file__), line_number=1, label=table.name
    )
    return dg.CodeReferencesMetadataValue(code_references=[file])


def reads_facts(table: type[Table], registry: Registry) -> bool:
    """Whether cells of a table are made from what `silver/market` says of their market as well."""
    is_told = issubclass(table, Feature) and bool(table.facts)
    return is_told or table in [dataset.silver for dataset in registry.datasets]


def _condition(table: type[Table], lake: LakeServices) -> dg.AutomationCondition[dg.AssetKey] | None:
    """When a table is requested by what it is made from."""
    if not table.inputs:
        return None
    by_facts = dg.AssetSelection.assets(asset_key(MarketTable)) if reads_facts(table, lake.registry) else None
    condition: dg.AutomationCondition[dg.AssetKey] = when_due(due_partitions(lake, table), by_facts)
    return condition


def _description(table: type[Table], lake: LakeServices) -> str:
    """What a table is, and whose partitions stay empty whatever is run."""
    silent = [name for name, exchange in lake.exchanges.items() if not exchange.publishes(table)]
    if table.zone() != "bronze" or not silent:
        return table.description()
    names = " and ".join(silent)
    said = f"{table.description()}\n\nNothing of it comes from {names}: the partitions of its markets stay "
    return f'{said}"Missing", and nothing is wrong with that.'


def asset_arguments(table: type[Table], lake: LakeServices) -> dict[str, Any]:
    """Arguments of `dagster.asset` that follow from a declaration.

    Args:
        table: The declaration.
        lake: Where it is stored, and the first month of its partitions.
    """
    partitions = partitions_of(table, lake.start, lake.end)
    return {
        "key": asset_key(table),
        "description": _description(table, lake),
        "group_name": table.zone(),
        "kinds": {table.zone(), "polars", "parquet", *(() if lake.objects.is_local else ("s3",))},
        "tags": {"zone": table.zone(), "grain": table.grain if table.spread != "one" else "none"},
        "metadata": {
            "dagster/column_schema": column_schema(table),
            "dagster/table_name": table.name.replace("/", "."),
            "dagster/uri": lake.objects.uri(table_prefix(table)),
            "dagster/code_references": _declared_in(table),
            "key": ", ".join(table.key),
        },
        "code_version": str(table.code_version),
        "partitions_def": partitions,
        "pool": pool_of(table),
        "backfill_policy": dg.BackfillPolicy.single_run() if partitions else None,
        "automation_condition": _condition(table, lake),
        "config_schema": {},  # a run says which cells, and nothing else
    }
