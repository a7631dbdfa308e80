"""Reading the rows of cells: whole objects, each in one version, held against its seal and its path, for every way to ask."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import polars as pl
from polars.io.plugins import register_io_source

from lakehouse.model.cell import Cell
from lakehouse.model.table import Table
from lakehouse.storage.layout import parse_cell_path, partition_columns
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import read_footer, reading
from lakehouse.storage.seal import check
from lakehouse.storage.tables import CellRecord

_AT_ONCE_S3 = 32  # requests in flight: they wait, they do not compute
_AT_ONCE = 4
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def read_body(objects: LakeObjects, table: type[Table], path: str) -> bytes | None:
    """All bytes of a cell's object, in one version; None if it is gone.

    Raises:
        DamagedObjectError: They are not those that were stored, or another cell's.
        NotALakeObjectError: They are no cell of this lake.
        StoreError: By class.
    """
    body = objects.get(path)
    if body is None:
        return None
    check(path, body)
    CellRecord.from_footer(table, parse_cell_path(table, path), path, "", len(body), read_footer(path, body))
    return body


def read_rows(objects: LakeObjects, table: type[Table], paths: Sequence[str]) -> pl.DataFrame:
    """The rows of some cells of a table, one cell after another.

    Raises:
        NotALakeObjectError, StoreError: As `read_body`.
    """
    bodies = [body for body in _in_order(objects, lambda path: read_body(objects, table, path), paths) if body is not None]
    if not bodies:
        return table.empty()
    with reading(paths[0].rsplit("/", 2)[0]):
        return pl.scan_parquet([*bodies], glob=False, hive_partitioning=False, schema=table.polars_schema(), missing_columns="insert").collect()


def scan_cells(objects: LakeObjects, table: type[Table], records: Sequence[CellRecord], with_path: bool) -> pl.LazyFrame:
    """A lazy scan of cells: an object is fetched when it is collected, and only if what is asked of the path's columns allows it.

    Args:
        objects: The lake's objects.
        table: The declaration.
        records: Which cells.
        with_path: Whether the columns of the path are among those that are yielded.

    Returns:
        The table's columns, then those of its path. Collecting it raises as `read_body`.
    """
    keys = partition_columns(table) if with_path else []
    schema = pl.Schema(dict(table.polars_schema()) | dict.fromkeys(keys, pl.String))
    cells = [(record.path, path_values(record.cell)) for record in records]

    def source(columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, batch: int | None) -> Iterator[pl.DataFrame]:
        wanted = list(columns) if columns is not None else schema.names()
        kept = _possible(cells, keys, predicate) if predicate is not None and keys else cells

        def read(entry: tuple[str, dict[str, str]]) -> pl.DataFrame | None:
            path, values = entry
            body = read_body(objects, table, path)
            if body is None:
                return None
            with reading(path):
                rows = pl.scan_parquet(body, glob=False, hive_partitioning=False, schema=table.polars_schema(), missing_columns="insert")
                rows = rows.with_columns(pl.lit(values[key], pl.String).alias(key) for key in keys)
                return (rows.filter(predicate) if predicate is not None else rows).select(wanted).collect()

        left = limit
        yield schema_frame(schema, wanted)
        for frame in _in_order(objects, read, kept):
            if frame is None:
                continue
            yield frame if left is None else frame.head(left)
            left = None if left is None else left - frame.height
            if left is not None and left <= 0:
                return

    return register_io_source(source, schema=schema, is_pure=True, explain_name=table.name)


def schema_frame(schema: pl.Schema, columns: Iterable[str]) -> pl.DataFrame:
    """A frame without rows, with some columns of a schema."""
    return pl.DataFrame(schema={name: schema[name] for name in columns})


def path_values(cell: Cell | None) -> dict[str, str]:
    """The values of the columns that stand in a cell's path, as the layout means them."""
    if cell is None:
        return {}
    window = {cell.grain if cell.grain == "month" else "date": cell.date}
    market = cell.market
    return ({"exchange": market.exchange, "market_type": market.market_type, "symbol": market.symbol} if market else {}) | window


def _possible(cells: Sequence[tuple[str, dict[str, str]]], keys: Sequence[str], predicate: pl.Expr) -> Sequence[tuple[str, dict[str, str]]]:
    """The cells that can have a row for which a predicate holds, as far as its parts on path columns alone tell."""
    parts = [part for part in conjuncts(predicate) if (names := part.meta.root_names()) and set(names) <= set(keys)]
    if not parts or not cells:
        return cells
    frame = pl.DataFrame([values for _, values in cells], schema=dict.fromkeys(keys, pl.String))
    try:
        numbers = frame.with_row_index().filter(parts)["index"]
    except pl.exceptions.PolarsError:
        return cells  # it is for the rows themselves to tell what is wrong with it
    return [cells[number] for number in numbers]


def conjuncts(predicate: pl.Expr) -> list[pl.Expr]:
    """The parts of a predicate that must all hold; the predicate itself where it has no such parts."""
    parts = predicate.meta.pop()
    for left, right in ((0, 1), (1, 0)) if len(parts) == 2 else ():
        if (parts[left] & parts[right]).meta.eq(predicate):
            return [*conjuncts(parts[left]), *conjuncts(parts[right])]
    return [predicate]


def _in_order(objects: LakeObjects, read: Callable[[_Item], _Found], items: Iterable[_Item]) -> Iterator[_Found]:
    """What reading each item yields, in order, some of them read ahead.

    Every step's threads end with it: a scan that is given up in the middle must not wait for threads where it is collected as garbage.
    """
    at_once, rest = _AT_ONCE if objects.is_local else _AT_ONCE_S3, iter(items)
    while some := list(islice(rest, at_once)):
        if len(some) == 1:
            yield read(some[0])
            continue
        with ThreadPoolExecutor(len(some), thread_name_prefix="lakehouse-read") as pool:
            found: Any = list(pool.map(read, some))
        yield from found
