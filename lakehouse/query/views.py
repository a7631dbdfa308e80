"""SQL over a lake: one DuckDB view per table, over exactly the files its ledger names."""

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import duckdb
import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import OF_INTERVAL
from lakehouse.model.errors import SqlBeyondLakeError, SqlError
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.table import Table
from lakehouse.query.engine import LakeFiles
from lakehouse.query.macros import statements
from lakehouse.query.parsing import Parser
from lakehouse.query.results import result_frame
from lakehouse.query.statements import check_reads
from lakehouse.storage.layout import partition_columns
from lakehouse.storage.tables import CellRecord

_UNKNOWN_TABLE = re.compile(r"\b(Table|View) with name\b")
_LOCKED = re.compile(
    r"disabled by configuration|disabled through configuration|configuration has been locked"
)
_ABOUT_TABLES = {
    "show",
    "information_schema",
    "pg_catalog",
    "duckdb_tables",
    "duckdb_views",
    "duckdb_columns",
    "show_tables",
    "show_tables_expanded",
    "sqlite_master",
    "pg_views",
}
_DUCKDB = {
    "timestamp": "TIMESTAMPTZ",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "int": "INTEGER",
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
}


def view_name(table: type[Table]) -> str:
    """The view of a table, `silver.candle`."""
    return table.name.replace("/", ".")


def mentioned(query: str, tables: Iterable[type[Table]]) -> list[type[Table]]:
    """The tables whose view a statement may read: their name stands somewhere in it, or it asks which there
    are.
    """
    words = set(re.findall(r"[a-z0-9_]+", query.lower()))
    asks_which = bool(words & _ABOUT_TABLES) or words == {"describe"}  # with no name behind it
    return [table for table in tables if table.short_name() in words or asks_which]


def create_view(
    connection: duckdb.DuckDBPyConnection, files: LakeFiles, table: type[Table], records: Iterable[CellRecord]
) -> None:
    """Create a table's view over given cells; a table without cells is an empty view of the declared types.

    Args:
        connection: Where to create it.
        files: What the connection may read; the cells are added.
        table: The declaration.
        records: Cells of the table. Columns that were appended after a cell was stored are null in it.

    Raises:
        NotALakeObjectError: The first of them is damaged.
        StoreError: The store refuses to read it, or does not answer.
    """
    zone, name = table.name.split("/")
    schema = f'CREATE SCHEMA IF NOT EXISTS "{zone}"'
    rows = rows_of(table, records, lambda some: files.add(table, some))
    with _named(files):
        connection.execute(f'{schema}; CREATE OR REPLACE VIEW "{zone}"."{name}" AS {rows}')


def create_macros(
    connection: duckdb.DuckDBPyConnection,
    files: LakeFiles,
    candles: Mapping[Interval, tuple[Iterable[CellRecord], Iterable[CellRecord]]],
    held: Collection[str],
) -> None:
    """Create the macros, over given cells.

    Args:
        connection: Where to create them.
        files: What the connection may read; the cells are added.
        candles: The cells of an interval's own table, and those of `silver/candle` to resample. An interval
            that is left out is asked for by nobody.
        held: The keys of the markets of which there are candles.

    Raises:
        NotALakeObjectError, StoreError: As of `create_view`.
    """
    made = {
        interval: (
            rows_of(
                OF_INTERVAL.get(interval, Candle), own, partial(files.add, OF_INTERVAL.get(interval, Candle))
            ),
            rows_of(Candle, minutes, partial(files.add, Candle)),
        )
        for interval, (own, minutes) in (candles or {MINUTE: ((), ())}).items()
    }
    with _named(files):
        for statement in statements(made, held):
            connection.execute(statement)


def rows_of(
    table: type[Table], records: Iterable[CellRecord], names: Callable[[list[CellRecord]], list[str]]
) -> str:
    """A SELECT of the rows of cells, with the columns of their path.

    Args:
        table: The declaration.
        records: Cells of the table. Columns that were appended after a cell was stored are null in it.
        names: What the engine calls the files of cells; texts that are no patterns.
    """
    by_columns: dict[int, list[CellRecord]] = {}
    for record in records:
        by_columns.setdefault(record.column_count, []).append(record)
    parts = [_select(table, names(some), count) for count, some in by_columns.items()]
    return " UNION ALL ".join(parts or [_select(table, [], 0)])


def _select(table: type[Table], names: Sequence[str], stored: int) -> str:
    """The rows of files that have the first `stored` of the declared columns."""
    keys = partition_columns(table)
    columns = [
        f'"{name}"' if number < stored else f'CAST(NULL AS {_DUCKDB[table.sql_type(name)]}) AS "{name}"'
        for number, name in enumerate(table.columns)
    ]
    if not names:
        return (
            f"SELECT {', '.join(columns + [f'CAST(NULL AS VARCHAR) AS {key}' for key in keys])} WHERE false"
        )
    # DuckDB 1.5 fails on min and max of the bare column where one file is left
    columns += [f'"{key}" || \'\' AS "{key}"' for key in keys]
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    types = ", ".join(f"'{key}': VARCHAR" for key in keys)
    hive = f"hive_partitioning = true, hive_types = {{{types}}}" if keys else "hive_partitioning = false"
    return f"SELECT {', '.join(columns)} FROM read_parquet([{listed}], {hive})"


def run(
    connection: duckdb.DuckDBPyConnection,
    files: LakeFiles,
    query: str,
    tables: Iterable[type[Table]] = (),
    unrestricted: bool = False,
    parser: Parser | None = None,
) -> pl.DataFrame:
    """Run a statement over a lake to its end; no rows if it yields none by nature.

    Which types come out is told by `result_frame`.

    Args:
        connection: Where the views are.
        files: What it may read.
        query: The statement.
        tables: Which there are, said to who names another.
        unrestricted: Whether it may be any statement, on a connection that was prepared for that.
        parser: The connection's, where it parsed the statement before.

    Raises:
        SqlBeyondLakeError: It does more than read the lake.
        SqlError: DuckDB refuses it, at once or at some row, or what it yields is of a type that Polars has
            not.
        NotALakeObjectError: A cell that it reads is damaged.
        ChangedMeanwhileError: A cell was replaced while it was read.
        StoreError: The lake's store refuses what it reads, or does not answer.
    """
    with _named(files, tables):
        if not unrestricted:
            check_reads(parser or Parser(connection), query)
        result = connection.sql(query)
        return result_frame(result) if result is not None else pl.DataFrame()


@contextlib.contextmanager
def _named(files: LakeFiles, tables: Iterable[type[Table]] = ()) -> Iterator[None]:
    """DuckDB's errors as errors of ours."""
    try:
        yield
    except (duckdb.Error, UnicodeError) as error:
        if files.error is not None:
            raise files.error from None
        why = str(error).strip()
        if _LOCKED.search(why):
            raise SqlBeyondLakeError(why.split("\n", 1)[0]) from error
        if isinstance(error, duckdb.CatalogException) and _UNKNOWN_TABLE.search(why):
            # below it DuckDB guesses at a table of its own
            raise SqlError(why.split("\n", 1)[0], map(view_name, tables)) from error
        raise SqlError(why) from error
