"""Cells in storage: the write boundary, and reading them back."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import DamagedObjectError, NotALakeObjectError, TooManyRowsError
from lakehouse.model.foreign_json import read_own_json
from lakehouse.model.result import CellFacts, CellResult, read_count, read_instant, read_text
from lakehouse.model.table import Column, Table
from lakehouse.storage.layout import cell_path, quarantine_path, table_prefix
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import decode, encode, read_footer


@dataclass(frozen=True)
class CellRecord:
    """What a cell's footer and its object say, without its rows.

    A record that a ledger kept reads times, inputs and facts from its text when they are asked for.

    Attributes:
        cell: The cell; None for a table of a single object.
        path: Where the object lies, relative to the lake's root.
        etag: The store's tag of this object.
        size: Bytes.
        version: Hash of the data; what "equal" means.
        rows: Row count.
        first_time: Smallest value of the first time column of the key; None without rows.
        last_time: Its largest value.
        inputs: Versions of the inputs the cell was made from, by name.
        code_version: The declaration's number when it was made.
        reject_count: Rows in quarantine.
        facts: Gaps, conflicts, evidence and so on.
        column_count: How many columns the file has: fewer than the declaration where some were appended
            since.
    """

    cell: Cell | None
    path: str
    etag: str
    size: int
    version: str
    rows: int
    first_time: datetime | None
    last_time: datetime | None
    inputs: Mapping[str, str]
    code_version: int
    reject_count: int
    facts: CellFacts
    column_count: int = 0

    @property
    def key(self) -> Cell:
        """The cell of a table that has cells."""
        if self.cell is None:
            raise TypeError(f"{self.path} is the object of a table without cells")
        return self.cell

    @cached_property
    def news(self) -> str:
        """The digest of the facts: what a table by month is made from."""
        return self.facts.digest()

    @classmethod
    def kept(cls, known: Mapping[str, Any], said: Mapping[str, str | None]) -> "CellRecord":
        """A record of a cell whose footer was read before.

        Args:
            known: Fields that are ready.
            said: The others as text, as the footer has them, inputs and facts as JSON.
        """
        record = object.__new__(cls)
        record.__dict__.update(known, _said=said)
        return record

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A field that was not read yet."""
            if (said := self.__dict__.get("_said")) is None or name not in said:
                raise AttributeError(f"a CellRecord has no {name}")
            try:
                value = _READ[name](said[name]) if said[name] is not None else None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise NotALakeObjectError(
                    self.path, f"its {name} as a ledger kept them do not read ({error})"
                ) from None
            self.__dict__[name] = value
            return value

    @classmethod
    def from_footer(
        cls, table: type[Table], cell: Cell | None, path: str, etag: str, size: int, footer: Mapping[str, Any]
    ) -> "CellRecord":
        """Join a footer with what the store says about its object.

        Raises:
            DamagedObjectError: The footer is that of another cell: one file was put in the place of another.
        """
        try:
            held = footer["table"], footer["cell"]
            record = cls(
                cell=cell,
                path=path,
                etag=etag,
                size=size,
                version=read_text(footer["version"]),
                rows=read_count(footer["rows"]),
                first_time=read_instant(footer["first_time"]) if footer["first_time"] is not None else None,
                last_time=read_instant(footer["last_time"]) if footer["last_time"] is not None else None,
                inputs={read_text(name): read_text(version) for name, version in footer["inputs"].items()},
                code_version=read_count(footer["code_version"]),
                reject_count=read_count(footer["reject_count"]),
                facts=CellFacts.from_json(footer["facts"]),
                column_count=read_count(footer["column_count"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotALakeObjectError(
                path, f"the facts in its footer do not read ({type(error).__name__}: {error})"
            ) from None
        if held != (table.name, str(cell or "")):
            raise DamagedObjectError(
                path, f"it holds {held[1] or 'all'} of {held[0]}, another cell than its path says"
            )
        if record.rows > table.most_rows():
            raise NotALakeObjectError(
                path,
                f"it states {record.rows:,} rows, where a cell of {table.name} has {table.most_rows():,} at "
                "most",
            )
        return record


_READ: Mapping[str, Callable[[str], Any]] = {
    "first_time": read_instant,
    "last_time": read_instant,
    "inputs": read_own_json,
    "facts": lambda text: CellFacts.from_json(read_own_json(text)),
}


@dataclass(frozen=True, slots=True)
class StoredCell:
    """A cell with its rows, both out of the same bytes."""

    rows: pl.DataFrame
    record: CellRecord


@dataclass(frozen=True, slots=True)
class Packed:
    """A computed cell as it is to be stored.

    Attributes:
        table: Its table.
        record: What will be known of it; the store has not tagged it yet.
        footer: The same as the object says it.
        body: The whole object.
        rejected: Rows that go to quarantine.
    """

    table: type[Table]
    record: CellRecord
    footer: Mapping[str, Any]
    body: bytes
    rejected: pl.DataFrame


def pack(table: type[Table], cell: Cell | None, result: CellResult) -> Packed:
    """Hold a computed cell's rows against the declaration, and encode them; nothing is written.

    Rows that break a row rule go to quarantine with the ones that the computation rejected.

    Raises:
        SchemaError: Columns or types differ from the declaration.
        DuplicateKeyError: Rows share a key.
        TooManyRowsError: There are more than any reader would believe.
        NotALakeObjectError: What the cell says of itself is nothing that a reader takes.
    """
    if result.rows.height > table.most_rows():
        raise TooManyRowsError(table.name, str(cell or ""), result.rows.height, table.most_rows())
    good, broken = table.split(table.conform(result.rows, cell))
    rejected = pl.concat(
        [frame for frame in (result.rejected, broken) if frame is not None and frame.height] or [broken],
        how="diagonal",
    )
    times = good[table.time] if table.time and good.height else None
    first, last = (times.min(), times.max()) if times is not None else (None, None)
    footer = {
        "table": table.name,
        "cell": str(cell or ""),
        "rows": good.height,
        "first_time": first and str(first),
        "last_time": last and str(last),
        "inputs": dict(result.inputs),
        "code_version": table.code_version,
        "reject_count": rejected.height,
        "facts": result.facts.to_json(),
    }
    # an answer without rows is news: to silver it is a gap
    answers = result.facts.answers() if table.zone() == "bronze" else ""
    body, _ = encode(table, good, footer, answers)
    path = cell_path(table, cell)
    # one that no reader takes would fail them all
    said = read_footer(path, body)
    record = CellRecord.from_footer(table, cell, path, "", len(body), said)
    return Packed(table, record, said, body, rejected)


class TableStore:
    """Reads and writes cells of declared tables.

    Args:
        objects: The lake's objects.
        is_for_many: Whether many cells are stored at once: on S3 the folders of their quarantine are listed,
            once, instead of deleting for each cell what is not there.
    """

    def __init__(self, objects: LakeObjects, is_for_many: bool = False) -> None:
        self.objects = objects
        self._lists = is_for_many and not objects.is_local
        self._listed: dict[str, set[str]] = {}
        self._listing = threading.Lock()

    def put(
        self, table: type[Table], cell: Cell | None, result: CellResult, replacing: str | None = None
    ) -> CellRecord:
        """Store a computed cell, replacing the one that is there (see `LakeObjects.put` for `replacing`).

        Raises:
            LakehouseError: As `pack`; nothing is written.
        """
        return self.store(pack(table, cell, result), replacing)

    def store(
        self, packed: Packed, replacing: str | None = None, before: CellRecord | None = None
    ) -> CellRecord:
        """Store a packed cell, replacing the one that is there; its rejected rows go to quarantine.

        Args:
            packed: The cell.
            replacing: As for `LakeObjects.put`.
            before: What the cell says that is replaced, where it was read.
        """
        record = packed.record
        had_rejects = before is not None and before.reject_count > 0
        self._put_quarantine(packed.table, record.cell, packed.rejected, had_rejects)
        etag = self.objects.put(record.path, packed.body, replacing)
        if not self.objects.is_local:  # S3 holds what it takes against the SHA-256 that signs the request
            self.objects.footers.keep(record.path, etag, record.size, packed.footer)
        return replace(record, etag=etag)

    def update(
        self,
        table: type[Table],
        cell: Cell | None,
        change: Callable[[StoredCell | None], CellResult | None],
        is_new: bool = False,
    ) -> CellRecord | None:
        """Read, change and replace a cell while no other process does; nothing is written if `change` returns
        None.

        Args:
            table: The table.
            cell: The cell.
            change: What becomes of it; called again where another process was faster.
            is_new: As for `LakeObjects.update`.

        Returns:
            The record of what is stored afterwards, or None if nothing is.
        """
        path, record = cell_path(table, cell), None

        def write(body: bytes | None, replacing: str | None) -> None:
            nonlocal record
            try:
                before = self._decode(table, cell, path, body) if body is not None else None
            except NotALakeObjectError:
                before = None  # damaged: what is put in its place is made from its sources alone
            result, said = change(before), before.record if before else None
            record = self.store(pack(table, cell, result), replacing, said) if result is not None else said

        self.objects.update(path, write, is_new)
        return record

    def get(self, table: type[Table], cell: Cell | None) -> StoredCell | None:
        """A cell's rows and record, or None if it is not stored."""
        path = cell_path(table, cell)
        body = self.objects.get(path)
        return self._decode(table, cell, path, body) if body is not None else None

    def delete(self, table: type[Table], cell: Cell | None) -> None:
        """Remove a cell and its quarantine."""
        self.objects.delete(cell_path(table, cell))
        self.objects.delete(quarantine_path(table, cell))

    def quarantined(self, table: type[Table], cell: Cell | None) -> pl.DataFrame | None:
        """The rows a cell rejected, with the column `rule`; None if there are none."""
        path = quarantine_path(table, cell)
        body = self.objects.get(path)
        return read_quarantine(table, cell, path, body) if body is not None else None

    @staticmethod
    def _decode(table: type[Table], cell: Cell | None, path: str, body: bytes) -> StoredCell:
        rows, footer = decode(path, body, table.most_rows())
        record = CellRecord.from_footer(table, cell, path, "", len(body), footer)
        return StoredCell(with_appended(table, rows), record)

    def _put_quarantine(
        self, table: type[Table], cell: Cell | None, rejected: pl.DataFrame, had_rejects: bool
    ) -> None:
        path = quarantine_path(table, cell)
        if not rejected.height:
            if had_rejects or self._may_be_there(table, path):
                self.objects.delete(path)
            return
        footer = {"table": quarantine_name(table), "cell": str(cell or "")}
        self.objects.put(path, encode(_rejects_of(table), rejected.select(*table.columns, "rule"), footer)[0])

    def _may_be_there(self, table: type[Table], path: str) -> bool:
        """Whether an object may lie in quarantine: one whose cell was never written may, too."""
        if not self._lists:
            return True
        with self._listing:
            if table.name not in self._listed:
                found = self.objects.list(f"quarantine/{table_prefix(table)}")
                self._listed[table.name] = {stored.path for stored in found}
            return path in self._listed[table.name]


def read_quarantine(table: type[Table], cell: Cell | None, path: str, body: bytes) -> pl.DataFrame:
    """The rejected rows in an object of a cell's quarantine.

    Raises:
        NotALakeObjectError: It is damaged, or another cell's.
    """
    rows, footer = decode(path, body)
    held = footer.get("table"), footer.get("cell")
    # an earlier release did not say whose it is
    if held not in ((quarantine_name(table), str(cell or "")), (None, None)):
        raise DamagedObjectError(
            path, f"it holds {held[1] or 'all'} of {held[0]}, another object than its path says"
        )
    return rows


def quarantine_name(table: type[Table]) -> str:
    """What the footer of an object in quarantine calls its table."""
    return f"quarantine/{table.name}"


def with_appended(table: type[Table], rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the columns that were appended to the declaration after they were stored: null, for nobody
    has made them yet.
    """
    absent = [name for name in table.columns if name not in rows.columns]
    return (
        rows.with_columns(pl.lit(None, table.columns[name].dtype).alias(name) for name in absent)
        if absent
        else rows
    )


def _rejects_of(table: type[Table]) -> type[Table]:
    """The declaration of a table's quarantine: its columns, all nullable, and the rule."""
    nullable = {
        name: Column(column.dtype, column.description, column.unit, nullable=True)
        for name, column in table.columns.items()
    }
    return type(
        f"{table.__name__}Rejects",
        (Table,),
        {
            "name": table.name,
            "key": table.key,
            **nullable,
            "rule": Column(pl.String, "The rule the row breaks"),
        },
    )
