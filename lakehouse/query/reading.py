"""Reading the rows of cells: whole objects, each in one version, held against its seal and its path, for
every way to ask.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from lakehouse.model.cell import Cell
from lakehouse.model.errors import GoneMeanwhileError
from lakehouse.model.table import Table
from lakehouse.storage.layout import parse_cell_path, partition_columns
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects
from lakehouse.storage.parquet import read_footer, reading, states
from lakehouse.storage.seal import check
from lakehouse.storage.tables import CellRecord

_AT_ONCE_S3 = 32  # requests in flight: they wait, they do not compute
_AT_ONCE = 2
# objects that are decoded together: Polars takes many at once faster than one by one
_BATCH_BYTES, _BATCH = 64 << 20, 512
_ROW = "__row"
Tell = Callable[[type[Table], Sequence[CellRecord]], None]


@dataclass(frozen=True, slots=True)
class Body:
    """A cell's object, checked.

    Attributes:
        record: What its footer says.
        bytes: All of them, in one version.
    """

    record: CellRecord
    bytes: bytes


def read_body(objects: LakeObjects, table: type[Table], path: str, record: CellRecord | None = None) -> Body:
    """All bytes of a cell's object, in one version.

    Args:
        objects: The lake's objects.
        table: The declaration.
        path: Where the object lies.
        record: What is known of it, where it was surveyed: as long as it has the same etag, its footer need
            not be read again.

    Raises:
        DamagedObjectError: They are not those that were stored, or another cell's.
        NotALakeObjectError: They are no cell of this lake.
        GoneMeanwhileError: The object was there when the cell was looked for, and is not any more.
        StoreError: By class.
    """
    if record is not None and record.size:
        try:
            body: bytes | None = objects.get_of(path, record.etag, 0, record.size)
        except ChangedMeanwhileError:
            body = None
        if body is not None and check(path, body) and states(body, record.rows, table.name, record.version):
            return Body(record, body)
    body = objects.get(path)
    if body is None:
        raise GoneMeanwhileError(path)
    check(path, body)
    return Body(
        CellRecord.from_footer(
            table, parse_cell_path(table, path), path, "", len(body), read_footer(path, body)
        ),
        body,
    )


def read_rows(
    objects: LakeObjects,
    table: type[Table],
    paths: Sequence[str],
    tell: Tell,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The rows of some cells of a table, one cell after another.

    Args:
        objects: The lake's objects.
        table: The declaration.
        paths: Where the objects lie.
        tell: Told which cells were read.
        columns: Which are wanted; those of the table among them come out, with the one that places a row in
            its window. All if left out.

    Raises:
        NotALakeObjectError, GoneMeanwhileError, StoreError: As `read_body`.
    """
    with ThreadPoolExecutor(_at_once(objects, paths)) as pool:
        bodies = list(pool.map(lambda path: read_body(objects, table, path), paths))
    tell(table, [body.record for body in bodies])
    kept = [name for name in table.columns if columns is None or name in columns or name == table.time]
    return _collect(bodies, _scan(table, bodies).select(kept)) if bodies else table.empty().select(kept)


def scan_cells(
    objects: LakeObjects, table: type[Table], records: Sequence[CellRecord], with_path: bool, tell: Tell
) -> pl.LazyFrame:
    """A lazy scan of cells: an object is fetched when the scan is collected, and only if what is asked of the
    path's columns allows it.

    Args:
        objects: The lake's objects.
        table: The declaration.
        records: Which cells.
        with_path: Whether the columns of the path are among those that are yielded.
        tell: Told, whenever the scan is collected, which cells were read.

    Returns:
        The table's columns, then those of its path. Collecting it raises as `read_body`.
    """
    keys = partition_columns(table) if with_path else []
    schema = pl.Schema(dict(table.polars_schema()) | dict.fromkeys(keys, pl.String))

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = list(columns) if columns is not None else schema.names()
        # Polars means the first rows of all, and of them those for which it holds
        if limit is not None and predicate is not None:
            for frame in source(
                list(dict.fromkeys([*wanted, *predicate.meta.root_names()])), None, limit, batch
            ):
                yield frame.filter(predicate).select(wanted)
            return
        parts = conjuncts(predicate) if predicate is not None else []
        kept, parts = _possible(records, keys, parts)
        left, told = limit, list[CellRecord]()
        yield pl.DataFrame(schema={name: schema[name] for name in wanted})
        for bodies in _in_batches(objects, table, kept):
            frame = _decode(table, keys, wanted, parts, bodies)
            told += [body.record for body in bodies]
            yield frame if left is None else frame.head(left)
            left = None if left is None else left - frame.height
            if left is not None and left <= 0:
                break
        tell(table, told)

    return register_io_source(source, schema=schema, is_pure=True, explain_name=table.name)


def path_values(cell: Cell | None) -> dict[str, str]:
    """The values of the columns that stand in a cell's path, as the layout means them."""
    if cell is None:
        return {}
    market = cell.market
    named = (
        {"exchange": market.exchange, "market_type": market.market_type, "symbol": market.symbol}
        if market
        else {}
    )
    return named | {"month" if cell.grain == "month" else "date": cell.date}


def conjuncts(predicate: pl.Expr) -> list[pl.Expr]:
    """The parts of a predicate that must all hold; the predicate itself where it has no such parts."""
    parts = predicate.meta.pop()
    for left, right in ((0, 1), (1, 0)) if len(parts) == 2 else ():
        if (parts[left] & parts[right]).meta.eq(predicate):
            return [*conjuncts(parts[left]), *conjuncts(parts[right])]
    return [predicate]


def _possible(
    records: Sequence[CellRecord], keys: Sequence[str], parts: Sequence[pl.Expr]
) -> tuple[Sequence[CellRecord], list[pl.Expr]]:
    """The cells that can have a row for which all parts of a predicate hold, and the parts that the path does
    not decide.
    """
    decided = [part for part in parts if (names := part.meta.root_names()) and set(names) <= set(keys)]
    if not decided or not records:
        return records, list(parts)
    frame = pl.DataFrame(
        [path_values(record.cell) for record in records], schema=dict.fromkeys(keys, pl.String)
    )
    try:
        numbers = frame.with_row_index(_ROW).filter(decided)[_ROW]
    except pl.exceptions.PolarsError:
        return records, list(parts)  # the rows themselves are to tell what is wrong with it
    return [records[number] for number in numbers], [
        part for part in parts if not any(part is one for one in decided)
    ]


def _decode(
    table: type[Table],
    keys: Sequence[str],
    wanted: Sequence[str],
    parts: Sequence[pl.Expr],
    bodies: Sequence[Body],
) -> pl.DataFrame:
    """The rows of several cells for which all parts of a predicate hold. Which row is of which cell, its
    number tells.
    """
    asked = {*wanted, *(name for part in parts for name in part.meta.root_names())}
    of_rows = [part for part in parts if not set(part.meta.root_names()) & set(keys)]
    of_both = [part for part in parts if not any(part is one for one in of_rows)]
    if not asked & set(keys):
        return _collect(bodies, _scan(table, bodies).filter(*of_rows).select(wanted))
    stored = [name for name in table.columns if name in asked]
    rows = _collect(bodies, _scan(table, bodies, row_index_name=_ROW).filter(*of_rows).select(_ROW, *stored))
    ends = pl.Series([body.record.rows for body in bodies], dtype=pl.UInt32).cum_sum()
    values = pl.DataFrame(
        [path_values(body.record.cell) for body in bodies], schema=dict.fromkeys(keys, pl.String)
    )
    numbers: Any = ends.search_sorted(rows[_ROW], side="right")
    return rows.hstack(values[numbers]).filter(*of_both).select(wanted)


def _scan(table: type[Table], bodies: Sequence[Body], **options: Any) -> pl.LazyFrame:
    sources: list[Any] = [body.bytes for body in bodies]
    return pl.scan_parquet(
        sources,
        glob=False,
        hive_partitioning=False,
        schema=table.polars_schema(),
        missing_columns="insert",
        **options,
    )


def _collect(bodies: Sequence[Body], rows: pl.LazyFrame) -> pl.DataFrame:
    with reading(f"one of {len(bodies)} cells, the first of them {bodies[0].record.path}"):
        return rows.collect()


def _in_batches(
    objects: LakeObjects, table: type[Table], records: Sequence[CellRecord]
) -> Iterator[list[Body]]:
    """The objects of cells, in order, as many together as are decoded at once.

    The threads of a batch end with it: a scan that is given up in the middle must not wait for threads where
    it is collected as garbage.
    """
    for batch in _batches(records):
        with ThreadPoolExecutor(_at_once(objects, batch), thread_name_prefix="lakehouse-read") as pool:
            bodies = list(pool.map(lambda record: read_body(objects, table, record.path, record), batch))
        yield bodies


def _batches(records: Iterable[CellRecord]) -> Iterator[list[CellRecord]]:
    batch: list[CellRecord] = []
    size = 0
    for record in records:
        if batch and (size + record.size > _BATCH_BYTES or len(batch) == _BATCH):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += record.size
    if batch:
        yield batch


def _at_once(objects: LakeObjects, items: Sequence[Any]) -> int:
    return max(1, min(_AT_ONCE if objects.is_local else _AT_ONCE_S3, len(items)))
