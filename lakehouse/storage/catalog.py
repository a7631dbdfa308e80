"""Registering tables in AWS Glue, so that Trino and Athena read them: the difference between ledger and
catalog, and its removal.

The service checks little of what it is told (type names, case, batch sizes), so that is checked here.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.model.errors import CatalogError, ColumnChangeError
from lakehouse.model.table import Table
from lakehouse.storage.aws import aws_client
from lakehouse.storage.layout import FILE, partition_columns, table_prefix
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord

GlueClient = Any  # boto3 makes its clients at run time
_NAME = re.compile(r"[a-z0-9_]+")
_TYPES = ("timestamp", "date", "int", "bigint", "double", "float", "boolean", "string")
_WIDER = {("int", "bigint"), ("float", "double")}
_CREATE_BATCH, _UPDATE_BATCH, _DELETE_BATCH = 100, 100, 25
_TRIES = 6
_TRANSIENT = (
    "ThrottlingException",
    "Throttling",
    "InternalServiceException",
    "OperationTimeoutException",
    "ServiceUnavailable",
    "ConcurrentModificationException",
)
_FORMAT = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {
        "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        "Parameters": {"serialization.format": "1"},
    },
}
Values = tuple[str, ...]


@dataclass
class CatalogSync:
    """What one sync did.

    Attributes:
        database: The Glue database.
        table: Name of the table in it.
        table_change: `created`, `updated` or `unchanged`.
        added: Partitions added.
        updated: Partitions whose location or columns were put right.
        removed: Partitions without a cell, removed.
        kept: Partitions that were right already.
    """

    database: str
    table: str
    table_change: str = "unchanged"
    added: list[Values] = field(default_factory=list)
    updated: list[Values] = field(default_factory=list)
    removed: list[Values] = field(default_factory=list)
    kept: int = 0

    @property
    def wrote(self) -> bool:
        """Whether anything had to be changed."""
        return self.table_change != "unchanged" or bool(self.added or self.updated or self.removed)


class GlueCatalog:
    """A Glue catalog of one lake.

    Args:
        prefix: Databases are `<prefix>_silver` and `<prefix>_gold`.
        objects: The lake.
        client: A boto3 Glue client; made from AWS's own variables when left out.
        sleep: Waits between tries.

    Raises:
        CatalogError: The prefix is no legal name.
    """

    def __init__(
        self,
        prefix: str,
        objects: LakeObjects,
        client: GlueClient | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _legal(prefix)
        self.prefix = prefix
        self._objects = objects
        self._client = client
        self._sleep = sleep

    @property
    def client(self) -> GlueClient:
        """The boto3 client; made on first use."""
        if self._client is None:
            self._client = aws_client("glue")
        return self._client

    def database(self, table: type[Table]) -> str:
        """The database a table is registered in."""
        return f"{self.prefix}_{table.zone()}"

    def differences(self, table: type[Table], records: Iterable[CellRecord]) -> CatalogSync:
        """What a `sync` would change, as that would report it; nothing is written.

        Raises:
            ColumnChangeError, CatalogError: As `sync`.
        """
        return GlueCatalog(self.prefix, self._objects, _Reading(self.client), self._sleep).sync(
            table, records
        )

    def sync(self, table: type[Table], records: Iterable[CellRecord]) -> CatalogSync:
        """Make the catalog say what the ledger says. Nothing is written where they agree.

        Args:
            table: A silver or gold table.
            records: Its ledger.

        Raises:
            ColumnChangeError: A column was renamed, reordered, removed or changed its type; the catalog stays
                as it is.
            CatalogError: Glue refuses something, after tries; what was done is right, the next sync does the
                rest.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        report = CatalogSync(self.database(table), table.short_name())
        wanted = self.table_input(table)
        try:
            self._ensure_database(report.database)
            self._sync_table(table, report, wanted)
            if table.spread != "one":
                self._sync_partitions(
                    table,
                    report,
                    wanted,
                    {partition_values(table, record): self._location(record.path) for record in records},
                )
        except (
            BotoCoreError,
            ClientError,
        ) as error:  # the client itself has waited and tried again where that could help
            raise CatalogError(f"{report.database}.{report.table}", str(error)) from error
        return report

    # --- what should be there ---------------------------------------------------------------------

    def table_input(self, table: type[Table]) -> dict[str, Any]:
        """A table as Glue is told of it.

        Raises:
            CatalogError: A name or type is not one that Glue's readers accept.
        """
        for column in table.glue_columns():
            _legal(column["Name"])
            if column["Type"] not in _TYPES:
                raise CatalogError(
                    f"{table.name}.{column['Name']}",
                    f"type {column['Type']!r} is not one of {', '.join(_TYPES)}",
                )
        _legal(table.short_name())
        return {
            "Name": table.short_name(),
            "Description": table.description().split("\n", 1)[0][:2048],
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {
                "EXTERNAL": "TRUE",
                "classification": "parquet",
                "lakehouse.code_version": str(table.code_version),
            },
            "PartitionKeys": [{"Name": _legal(name), "Type": "string"} for name in partition_columns(table)],
            "StorageDescriptor": {
                "Columns": _comments_cut(table.glue_columns()),
                "Location": self._location(table_prefix(table) + "/"),
                **_FORMAT,
            },
        }

    def _location(self, path: str) -> str:
        return self._objects.uri(path.removesuffix(FILE).rstrip("/")) + "/"

    # --- table ------------------------------------------------------------------------------------

    def _ensure_database(self, name: str) -> None:
        try:
            self.client.get_database(Name=name)
        except self.client.exceptions.EntityNotFoundException:
            try:
                self.client.create_database(
                    DatabaseInput={"Name": name, "Description": "Registered by lakehouse"}
                )
            except self.client.exceptions.AlreadyExistsException:
                return  # another sync was first

    def _sync_table(self, table: type[Table], report: CatalogSync, wanted: dict[str, Any]) -> None:
        try:
            found = self.client.get_table(DatabaseName=report.database, Name=report.table)["Table"]
        except self.client.exceptions.EntityNotFoundException:
            self.client.create_table(DatabaseName=report.database, TableInput=wanted)
            report.table_change = "created"
            return
        refuse_column_changes(
            table, found["StorageDescriptor"]["Columns"], wanted["StorageDescriptor"]["Columns"]
        )
        if _differs(wanted, found):
            version = {"VersionId": found["VersionId"]} if found.get("VersionId") else {}
            self.client.update_table(
                DatabaseName=report.database, TableInput=wanted, SkipArchive=True, **version
            )
            report.table_change = "updated"

    # --- partitions -------------------------------------------------------------------------------

    def _sync_partitions(
        self,
        table: type[Table],
        report: CatalogSync,
        table_input: dict[str, Any],
        wanted: Mapping[Values, str],
    ) -> None:
        columns = table_input["StorageDescriptor"]["Columns"]
        inputs = {
            values: {
                "Values": list(values),
                "StorageDescriptor": {"Columns": columns, "Location": location, **_FORMAT},
            }
            for values, location in wanted.items()
        }
        found = dict(self._partitions(report))
        report.added = sorted(set(inputs) - set(found))
        report.removed = sorted(set(found) - set(inputs))
        report.updated = sorted(
            values for values in set(inputs) & set(found) if _differs(inputs[values], found[values])
        )
        report.kept = len(inputs) - len(report.added) - len(report.updated)
        at = {"DatabaseName": report.database, "TableName": report.table}
        create = [inputs[values] for values in report.added]
        self._batches(
            create,
            _CREATE_BATCH,
            lambda batch: self.client.batch_create_partition(**at, PartitionInputList=batch),
            "AlreadyExistsException",
        )
        update = [
            {"PartitionValueList": list(values), "PartitionInput": inputs[values]}
            for values in report.updated
        ]
        self._batches(
            update, _UPDATE_BATCH, lambda batch: self.client.batch_update_partition(**at, Entries=batch)
        )
        remove = [{"Values": list(values)} for values in report.removed]
        self._batches(
            remove,
            _DELETE_BATCH,
            lambda batch: self.client.batch_delete_partition(**at, PartitionsToDelete=batch),
            "EntityNotFoundException",
        )

    def _partitions(self, report: CatalogSync) -> Iterator[tuple[Values, dict[str, Any]]]:
        for page in self.client.get_paginator("get_partitions").paginate(
            DatabaseName=report.database, TableName=report.table
        ):
            for partition in page["Partitions"]:
                yield tuple(partition["Values"]), partition

    def _batches(
        self, entries: Sequence[Any], size: int, call: Callable[[list[Any]], Any], harmless: str = ""
    ) -> None:
        """Send entries in batches; what comes back in `Errors` is tried again while it is of the passing
        kind.
        """
        for start in range(0, len(entries), size):
            left = list(entries[start : start + size])
            for attempt in range(_TRIES):
                if attempt:
                    self._sleep(0.2 * 2**attempt)
                errors = [
                    error
                    for error in call(left).get("Errors") or []
                    if error["ErrorDetail"]["ErrorCode"] != harmless
                ]
                if not errors:
                    break
                lasting = [error for error in errors if error["ErrorDetail"]["ErrorCode"] not in _TRANSIENT]
                if lasting or attempt == _TRIES - 1:
                    first = (lasting or errors)[0]
                    raise CatalogError(
                        f"{len(errors)} partitions, {_values_of(first)} first",
                        f"{first['ErrorDetail']['ErrorCode']}: "
                        f"{first['ErrorDetail'].get('ErrorMessage', '')}",
                    )
                failed = {_values_of(error) for error in errors}
                left = [entry for entry in left if _values_of(entry) in failed]


class _Reading:
    """A Glue client that reads, and takes what it is told to write for done."""

    def __init__(self, client: GlueClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("create_", "update_", "batch_create_", "batch_update_", "batch_delete_")):
            return lambda **_: {}
        if name == "get_paginator":
            return lambda call: _FirstOrNothing(
                self._client.get_paginator(call), self._client.exceptions.EntityNotFoundException
            )
        return getattr(self._client, name)


class _FirstOrNothing:
    """A paginator of a table that may not be there."""

    def __init__(self, paginator: Any, absent: type[Exception]) -> None:
        self._paginator, self._absent = paginator, absent

    def paginate(self, **arguments: Any) -> Iterator[Any]:
        try:
            yield from self._paginator.paginate(**arguments)
        except self._absent:
            return


def partition_values(table: type[Table], record: CellRecord) -> Values:
    """The values of a cell's partition keys, in their order."""
    cell = record.key
    if cell.market is None:
        return (cell.date,)
    return (cell.market.exchange, cell.market.market_type, cell.market.symbol, cell.date)


def refuse_column_changes(
    table: type[Table], registered: Sequence[Mapping[str, str]], declared: Sequence[Mapping[str, str]]
) -> None:
    """Allow columns to be appended and types to be widened, nothing else: old files would be misread.

    Raises:
        ColumnChangeError: It is something else.
    """
    for place, old in enumerate(registered):
        new = declared[place] if place < len(declared) else None
        if new is None or new["Name"] != old["Name"]:
            raise ColumnChangeError(
                table.name,
                old["Name"],
                f"{old['Name']} {old['Type']}",
                f"{new['Name']} {new['Type']}" if new else "nothing",
            )
        if new["Type"] != old["Type"] and (old["Type"], new["Type"]) not in _WIDER:
            raise ColumnChangeError(table.name, old["Name"], old["Type"], new["Type"])


def _differs(wanted: Any, found: Any) -> bool:
    """Whether something of what is wanted is not so; what else the service adds does not count."""
    if isinstance(wanted, dict):
        return not isinstance(found, dict) or any(
            _differs(value, found.get(name)) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            not isinstance(found, list)
            or len(wanted) != len(found)
            or any(_differs(a, b) for a, b in zip(wanted, found, strict=True))
        )
    return bool(wanted != found)


def _values_of(entry: Mapping[str, Any]) -> Values:
    return tuple(entry.get("PartitionValues") or entry.get("PartitionValueList") or entry["Values"])


def _comments_cut(columns: list[dict[str, str]]) -> list[dict[str, str]]:
    return [column | {"Comment": column["Comment"][:255]} for column in columns]  # the service's limit


def _legal(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise CatalogError(
            name,
            "names are lower-case letters, digits and underscores: some readers of the catalog know no "
            "others",
        )
    return name
