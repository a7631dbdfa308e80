"""SQL over a lake: one DuckDB view per table, over exactly the files its ledger names."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence

import duckdb
import polars as pl

from lakehouse.model.errors import SqlError
from lakehouse.model.table import Table
from lakehouse.query.results import result_frame
from lakehouse.storage.layout import partition_columns
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.refusals import refusal

_REQUEST = re.compile(r"\bHTTP\b")
_UNKNOWN_TABLE = re.compile(r"\b(Table|View) with name\b")
_ABOUT_TABLES = {"show", "information_schema", "pg_catalog", "duckdb_tables", "duckdb_views", "duckdb_columns"}
_DUCKDB = {"timestamp": "TIMESTAMPTZ", "double": "DOUBLE", "bigint": "BIGINT", "int": "INTEGER", "string": "VARCHAR", "boolean": "BOOLEAN"}


def view_name(table: type[Table]) -> str:
    """The view of a table, `silver.candle`."""
    return table.name.replace("/", ".")


def mentioned(query: str, tables: Iterable[type[Table]]) -> list[type[Table]]:
    """The tables whose view a statement may read: their name stands somewhere in it, or it asks which there are."""
    words = set(re.findall(r"[a-z0-9_]+", query.lower()))
    return [table for table in tables if table.short_name() in words or words & _ABOUT_TABLES]


def create_zones(connection: duckdb.DuckDBPyConnection, tables: Iterable[type[Table]]) -> None:
    """Create the schemas of tables and have names without one looked up in them, so that `SHOW TABLES` shows their views."""
    zones = list(dict.fromkeys(table.zone() for table in tables))
    for zone in zones:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{zone}"')
    connection.execute(f"SET search_path = '{','.join(['main', *zones])}'")


def create_view(connection: duckdb.DuckDBPyConnection, objects: LakeObjects, table: type[Table], paths: Sequence[str]) -> None:
    """Create a table's view over the given objects; a table without objects is an empty view of the declared types.

    Args:
        connection: Where to create it.
        objects: The lake.
        table: The declaration.
        paths: Objects of the table, relative to the lake's root.

    Raises:
        StoreError: The store refuses to read one of them, or does not answer.
    """
    zone, name = table.name.split("/")
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{zone}"')
    keys = partition_columns(table)
    if paths:
        files = ", ".join("'" + objects.uri(path).replace("'", "''") + "'" for path in paths)
        types = ", ".join(f"'{key}': VARCHAR" for key in keys)
        hive = f", hive_partitioning = true, hive_types = {{{types}}}" if keys else ""
        names = ", ".join('"' + name + '"' for name in (*table.columns, *keys))
        source = f"SELECT {names} FROM read_parquet([{files}]{hive})"
    else:
        columns = [f'CAST(NULL AS {_DUCKDB[table.sql_type(column)]}) AS "{column}"' for column in table.columns]
        source = f"SELECT {', '.join(columns + [f'CAST(NULL AS VARCHAR) AS {key}' for key in keys])} WHERE false"
    with _named(objects):
        connection.execute(f'CREATE OR REPLACE VIEW "{zone}"."{name}" AS {source}')


def run(connection: duckdb.DuckDBPyConnection, objects: LakeObjects, query: str, tables: Iterable[type[Table]] = ()) -> pl.DataFrame:
    """Run a statement over a lake to its end; no rows if it yields none by nature.

    Which types come out is told by `result_frame`.

    Args:
        connection: Where the views are.
        objects: The lake.
        query: The statement.
        tables: Which there are, said to who names another.

    Raises:
        SqlError: DuckDB refuses it, at once or at some row, or what it yields is of a type that Polars has not.
        StoreError: The lake's store refuses what it reads, or does not answer; DuckDB does not wait long for it.
    """
    with _named(objects, tables):
        result = connection.sql(query)
        return result_frame(result) if result is not None else pl.DataFrame()


@contextlib.contextmanager
def _named(objects: LakeObjects, tables: Iterable[type[Table]] = ()) -> Iterator[None]:
    """DuckDB's errors as errors of ours."""
    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) and not objects.is_local and _REQUEST.search(str(error)):
            raise refusal("reading", objects.root, "", error) from error
        why = str(error).strip()
        if isinstance(error, duckdb.CatalogException) and _UNKNOWN_TABLE.search(why):
            raise SqlError(why.split("\n", 1)[0], map(view_name, tables)) from error  # below it DuckDB guesses at a table of its own
        raise SqlError(why) from error
