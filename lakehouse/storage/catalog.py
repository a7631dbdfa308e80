"""Registering tables in AWS Glue, so that Trino and Athena read them: the difference between ledger and
catalog, and its removal.

The service checks little of what it is told (type names, case, batch sizes), so that is checked here. Its
partitions are listed once a day, and whenever the table was touched by others; in between, what was
registered is remembered, and only what changed is written.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakehouse.model.errors import CatalogError, ColumnChangeError
from lakehouse.model.table import Table
from lakehouse.storage.aws import ReadingGlue, aws_client
from lakehouse.storage.layout import FILE, partition_columns, table_prefix
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.partitions import Partitions, Values
from lakehouse.storage.registered import Registered
from lakehouse.storage.tables import CellRecord

GlueClient = Any  # boto3 makes its clients at run time
_NAME = re.compile(r"[a-z0-9_]+")
_TYPES = ("timestamp", "date", "int", "bigint", "double", "float", "boolean", "string")
_WIDER = {("int", "bigint"), ("float", "double")}
_COLUMNS = "lakehouse.columns"  # of a partition: which columns it was registered with
_TRIES = 6
_FORMAT = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {
        "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        "Parameters": {"serialization.format": "1"},
    },
}


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
        listed: Whether the catalog was asked for all partitions, or what was remembered of them was believed.
    """

    database: str
    table: str
    table_change: str = "unchanged"
    added: list[Values] = field(default_factory=list)
    updated: list[Values] = field(default_factory=list)
    removed: list[Values] = field(default_factory=list)
    kept: int = 0
    listed: bool = False

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
        now: The time, by which what is remembered grows old.

    Raises:
        CatalogError: The prefix is no legal name.
    """

    def __init__(
        self,
        prefix: str,
        objects: LakeObjects,
        client: GlueClient | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        _legal(prefix)
        self.prefix = prefix
        self._objects = objects
        self._client = client
        self._sleep = sleep
        self._now = now

    @property
    def client(self) -> GlueClient:
        """The boto3 client; made on first use."""
        if self._client is None:
            self._client = aws_client("glue", retries="adaptive")
        return self._client

    def database(self, table: type[Table]) -> str:
        """The database a table is registered in."""
        return f"{self.prefix}_{table.zone()}"

    def differences(self, table: type[Table], records: Iterable[CellRecord]) -> CatalogSync:
        """What a `sync` would change, as that would report it, by all that the catalog has; nothing is
        written.

        Raises:
            ColumnChangeError, CatalogError: As `sync`.
        """
        reading = GlueCatalog(self.prefix, self._objects, ReadingGlue(self.client), self._sleep, self._now)
        return reading._sync(table, records, None)

    def sync(self, table: type[Table], records: Iterable[CellRecord], whole: bool = False) -> CatalogSync:
        """Make the catalog say what the ledger says. Nothing is written where they agree.

        Args:
            table: A silver or gold table.
            records: Its ledger.
            whole: Whether the catalog is asked for all partitions even where what was registered is
                remembered, so that what others changed since is put right at once, and not within a day.

        Raises:
            ColumnChangeError: A column was renamed, reordered, removed or changed its type; the catalog stays
                as it is.
            CatalogError: Glue refuses something, after tries; what was done is right, the next sync does the
                rest.
        """
        return self._sync(table, records, Registered(self._objects, table, self.prefix), whole)

    def _sync(
        self,
        table: type[Table],
        records: Iterable[CellRecord],
        remembered: Registered | None,
        whole: bool = True,
    ) -> CatalogSync:
        from botocore.exceptions import BotoCoreError, ClientError

        report = CatalogSync(self.database(table), table.short_name())
        wanted = self.table_input(table)
        try:
            self._ensure_database(report.database)
            state = self._sync_table(table, report, wanted)
            if table.spread != "one":
                locations = {partition_values(record): self._location(record.path) for record in records}
                self._sync_partitions(report, wanted, locations, state, remembered, whole)
        # the client itself has waited and tried again where that could help
        except (BotoCoreError, ClientError) as error:
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

    def _sync_table(self, table: type[Table], report: CatalogSync, wanted: dict[str, Any]) -> str:
        """Make the entry of a table right; what tells whether somebody else touched it since.

        The entry is replaced only if it still is the one that was looked at. Where another sync was first it
        is looked at anew: by a later declaration there may be columns that this one must not take away.
        """
        at = {"DatabaseName": report.database}
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(0.2 * 2**attempt)
            try:
                found = self.client.get_table(**at, Name=report.table)["Table"]
            except self.client.exceptions.EntityNotFoundException:
                try:
                    self.client.create_table(**at, TableInput=wanted)
                except self.client.exceptions.AlreadyExistsException:
                    continue
                report.table_change = "created"
                return self._state(report)
            refuse_column_changes(
                table, found["StorageDescriptor"]["Columns"], wanted["StorageDescriptor"]["Columns"]
            )
            if not _differs(wanted, found):
                return _state(found)
            version = {"VersionId": found["VersionId"]} if found.get("VersionId") else {}
            try:
                self.client.update_table(**at, TableInput=wanted, SkipArchive=True, **version)
            except self.client.exceptions.ConcurrentModificationException:
                continue
            report.table_change = "updated"
            return self._state(report)
        raise CatalogError(
            f"{report.database}.{report.table}",
            f"others changed it each of the {_TRIES} times it was looked at",
        )

    def _state(self, report: CatalogSync) -> str:
        try:
            found = self.client.get_table(DatabaseName=report.database, Name=report.table)["Table"]
        except self.client.exceptions.EntityNotFoundException:
            return ""  # nothing is written, so there is none
        return _state(found)

    # --- partitions -------------------------------------------------------------------------------

    def _sync_partitions(
        self,
        report: CatalogSync,
        table_input: dict[str, Any],
        wanted: Mapping[Values, str],
        state: str,
        remembered: Registered | None,
        whole: bool,
    ) -> None:
        columns = table_input["StorageDescriptor"]["Columns"]
        stamp = {_COLUMNS: _digest(columns)}
        fingerprint = _digest([state, stamp, table_input["StorageDescriptor"]["Location"]])

        def entry(values: Values) -> dict[str, Any]:
            storage = {"Columns": columns, "Location": wanted[values], **_FORMAT}
            return {"Values": list(values), "StorageDescriptor": storage, "Parameters": stamp}

        def is_right(values: Values, found: Mapping[str, Any]) -> bool:
            storage = found.get("StorageDescriptor", {})
            return (
                not _differs(stamp, found.get("Parameters"))
                and storage.get("Location") == wanted[values]
                and not _differs(_FORMAT, storage)
            )

        partitions = Partitions(self.client, report.database, report.table, self._sleep)
        known = None if whole or remembered is None else remembered.load(fingerprint, self._now())
        report.listed = known is None
        if known is None:
            listed = dict(partitions.listed())
            known = set(listed)
            report.updated = sorted(
                values for values in known & set(wanted) if not is_right(values, listed[values])
            )
        report.added = sorted(set(wanted) - known)
        report.removed = sorted(known - set(wanted))
        report.kept = len(wanted) - len(report.added) - len(report.updated)
        partitions.create([entry(values) for values in report.added])
        partitions.update(
            [
                {"PartitionValueList": list(values), "PartitionInput": entry(values)}
                for values in report.updated
            ]
        )
        partitions.delete(report.removed)
        if remembered is not None and (report.listed or report.wrote):
            remembered.save(fingerprint, self._now(), set(wanted), report.listed)


def partition_values(record: CellRecord) -> Values:
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


def _state(found: Mapping[str, Any]) -> str:
    """What changes whenever anybody writes the entry of a table: one that was made anew counts from one."""
    return f"{found.get('CreateTime')} {found.get('VersionId')} {found.get('UpdateTime')}"


def _digest(of: Any) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
