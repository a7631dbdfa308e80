"""A DuckDB file for tools that do not know a lake: views over stored cells and the macros, of one state that
stays what it is.

A cell of a lake is replaced in place, so a view by its path would one day yield other rows than those that
the file names by `dataset_id`. The views therefore read files of their own beside it, each in a version that
never changes: links to the lake's files where they lie on the same file system, which take no room until a
cell is replaced, and copies elsewhere.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import OF_INTERVAL
from lakehouse.model.errors import AttachableFileError, NotALakeObjectError
from lakehouse.model.interval import INTERVALS, MINUTE, Interval
from lakehouse.model.table import Table
from lakehouse.query.engine import cell_name
from lakehouse.query.macros import current, statements
from lakehouse.query.views import rows_of
from lakehouse.storage.layout import FILE
from lakehouse.storage.ledger import Ledger
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects
from lakehouse.storage.parquet import read_footer
from lakehouse.storage.seal import check
from lakehouse.storage.tables import CellRecord

Held = tuple[type[Table], Sequence[CellRecord], str]
"""A table, cells of it, and the name of the data: its `dataset_id`."""

_PRIVATE = 0o750  # as the lake's own folder
_PATIENCE = 300  # seconds for another process that makes the same file
_TAKEN = {"silver", "gold", "cells", "about", "main", "temp", "system", "information_schema", "pg_catalog"}
_PATTERN = set("*?[]=")  # what the engine reads as more than a name


SAID = (
    "Rows are of the state in which the lake was at made_at; about.datasets names it. Cells that are "
    "replaced in the lake afterwards change nothing here: make the file again to see them. Bytes were held "
    "against their seals when the file was made, and are not again. The views name files by their full "
    "paths: the file can be copied anywhere on this machine, the folder beside it cannot be moved. After "
    "ATTACH, macros need USE."
)


def cells_folder(file: Path) -> Path:
    """The folder beside a file with what its views read."""
    return file.with_name(f"{file.name}.cells")


def write(file: Path, objects: LakeObjects, held: Sequence[Held], asked: str) -> None:
    """Write a DuckDB file over some cells, in place of one that this wrote before.

    Every byte is held against its seal once, now.

    Args:
        file: Where; the folder `<file>.cells` comes beside it.
        objects: The lake.
        held: What it shall hold.
        asked: Of which markets and range, in words.

    Raises:
        AttachableFileError: The path is of something else, lies in the lake, or would not do as a name.
        DamagedObjectError, StoreError: As for reading.
        ChangedMeanwhileError: A cell was replaced meanwhile.
    """
    file = file.expanduser().absolute()
    _check_place(file, objects)
    folder, fresh = cells_folder(file), file.with_name(f"{file.name}.new")
    folder.mkdir(mode=_PRIVATE, exist_ok=True)
    with _alone(file):
        names = {
            record.path: _kept(folder, objects, table, record)
            for table, records, _ in held
            for record in records
        }
        fresh.unlink(missing_ok=True)
        with duckdb.connect(str(fresh)) as connection:
            for statement in _statements(held, names, objects.uri(""), asked):
                connection.execute(statement)
        os.replace(fresh, file)
        _sweep(folder, set(names.values()))


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Nobody else makes the file, nor sweeps what lies beside it, meanwhile."""
    try:
        with FileLock(cells_folder(file) / ".lock", timeout=_PATIENCE):
            yield
    except Timeout:
        raise AttachableFileError(file, "another one is being made there for minutes") from None


def _check_place(file: Path, objects: LakeObjects) -> None:
    if _PATTERN & set(str(file)):
        raise AttachableFileError(
            file, f"its path has one of {' '.join(sorted(_PATTERN))}, which views cannot name"
        )
    if (name := file.name.partition(".")[0]).lower() in _TAKEN:
        raise AttachableFileError(
            file, f"a database is named after its file, and {name} is a schema in it or in each"
        )
    if objects.is_local and Path(objects.uri("")).resolve() in file.resolve().parents:
        raise AttachableFileError(file, "it lies in the lake")
    if not file.parent.is_dir():
        raise AttachableFileError(file, f"there is no folder {file.parent}")
    if not file.exists():
        return
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            is_ours = connection.execute("SELECT made_with FROM about.file").fetchall() != []
    except duckdb.Error:
        is_ours = False
    if not is_ours:
        raise AttachableFileError(file, "something else is there")


def _kept(folder: Path, objects: LakeObjects, table: type[Table], record: CellRecord) -> str:
    """The path of a cell's file in the version of a record: made, where it is not there, and checked."""
    target = folder / cell_name(record.path).removesuffix(FILE) / f"{record.version}.parquet"
    if target.exists() and _is_of(target, table, record):
        return str(target)
    target.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.unlink(missing_ok=True)
    try:
        if not objects.is_local:
            raise OSError("a bucket has no links")
        os.link(objects.uri(record.path), part)
    except OSError:  # or another file system, or one without links
        if (body := objects.get(record.path)) is None:
            raise ChangedMeanwhileError(record.path) from None
        part.write_bytes(body)
    if not _is_of(part, table, record):
        raise ChangedMeanwhileError(record.path)
    os.replace(part, target)
    return str(target)


def _is_of(path: Path, table: type[Table], record: CellRecord) -> bool:
    """Whether a file has the bytes of a cell that were sealed, in the version of a record."""
    body = path.read_bytes()
    try:
        check(record.path, body)
        footer = read_footer(record.path, body)
        found = CellRecord.from_footer(table, record.cell, record.path, "", len(body), footer)
    except NotALakeObjectError:
        path.unlink()
        if path.suffix == ".part":  # the lake's own, not what became of a copy
            raise
        return False
    return found.version == record.version


def _statements(held: Sequence[Held], names: dict[str, str], root: str, asked: str) -> Iterator[str]:
    def files(records: Iterable[CellRecord]) -> list[str]:
        return [names[record.path] for record in records]

    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}+00"
    yield "CREATE SCHEMA about"
    yield (
        f"CREATE TABLE about.file AS SELECT {_text(root.rstrip('/'))} AS root, {_text(asked)} AS asked_for, "
        f"{_text(version('lakehouse'))} AS made_with, {_text(now)}::TIMESTAMPTZ AS made_at, "
        f"{_text(SAID)} AS said"
    )
    yield (
        "CREATE TABLE about.datasets("
        "table_name VARCHAR, dataset_id VARCHAR, cell_count BIGINT, row_count BIGINT)"
    )
    yield (
        "CREATE TABLE about.cells("
        "table_name VARCHAR, cell VARCHAR, version VARCHAR, row_count BIGINT, file VARCHAR)"
    )
    for table, records, dataset_id in held:
        zone, name = table.name.split("/")
        yield f'CREATE SCHEMA IF NOT EXISTS "{zone}"'
        yield f'CREATE VIEW "{zone}"."{name}" AS {rows_of(table, records, files)}'
        count = sum(record.rows for record in records)
        told = [_text(table.name), _text(dataset_id), str(len(records)), str(count)]
        yield f"INSERT INTO about.datasets VALUES ({', '.join(told)})"
        for batch in range(0, len(records), 1000):
            rows = [
                f"({_text(table.name)}, {_text(str(one.cell or ''))}, {_text(one.version)}, {one.rows}, "
                f"{_text(names[one.path])})"
                for one in records[batch : batch + 1000]
            ]
            yield f"INSERT INTO about.cells VALUES {', '.join(rows)}"
    of_table = {
        table: {one.key: one for one in records} for table, records, _ in held if table.spread != "one"
    }
    if Candle in of_table:
        yield from _macros(of_table, files)


def _macros(
    of_table: Mapping[type[Table], Ledger], files: Callable[[Iterable[CellRecord]], list[str]]
) -> Iterator[str]:
    fine, made = of_table[Candle], dict[Interval, tuple[str, str]]()
    for interval in INTERVALS:
        table = OF_INTERVAL.get(interval, Candle)
        own, minutes = (fine, {}) if interval == MINUTE else current(interval, fine, of_table.get(table, {}))
        made[interval] = (rows_of(table, own.values(), files), rows_of(Candle, minutes.values(), files))
    yield from statements(made, {cell.own_market.key for cell in fine})


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sweep(folder: Path, kept: set[str]) -> None:
    """Take away what no view names any more."""
    for path in [*folder.rglob("*.parquet"), *folder.rglob("*.part")]:
        if str(path) not in kept:
            path.unlink()
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            shutil.rmtree(path)
