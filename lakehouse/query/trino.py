"""SQL over a lake by a Trino server, which finds the tables in Glue.

The server reads objects by itself: it checks no seal, and what it reads while a build replaces a cell is in
docs/readers.md.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from lakehouse.model.errors import (
    PartitionFilterError,
    SqlError,
    SqlResultError,
    TrinoClientMissingError,
    TrinoFailedError,
    TrinoTimesError,
    TrinoUnreachableError,
)
from lakehouse.model.text import plain
from lakehouse.query.portable import statements
from lakehouse.query.results import refuse_doubles
from lakehouse.query.views import view_name
from lakehouse.registry import REGISTRY, Registry

if TYPE_CHECKING:
    from trino.dbapi import Connection

# a server that has just started says so, of itself or of its workers, for some seconds
_SOON = ("NO_NODES_AVAILABLE", "SERVER_STARTING_UP")
_PATIENCE = 20.0
# how it says that an object was replaced between its listing and its reading, among what lasts
_TORN = (
    *("GENERIC_INTERNAL_ERROR", "HIVE_BAD_DATA", "HIVE_CURSOR_ERROR"),
    *("HIVE_CANNOT_OPEN_SPLIT", "HIVE_FILESYSTEM_ERROR"),
)
_TRIES = 3
_UTC = pl.Datetime("us", "UTC")
_TYPES: dict[str, pl.DataType] = {
    "boolean": pl.Boolean(),
    "tinyint": pl.Int8(),
    "smallint": pl.Int16(),
    "integer": pl.Int32(),
    "bigint": pl.Int64(),
    "real": pl.Float32(),
    "double": pl.Float64(),
    "varbinary": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
    # Hive's tables have no zone: theirs are in UTC here, as all of the lake's are
    "timestamp": _UTC,
    "timestamp with time zone": _UTC,
    "interval day to second": pl.Duration("us"),
    "unknown": pl.Null(),
}
_TEXTS = ("varchar", "char", "json", "uuid", "ipaddress", "time with time zone", "interval year to month")
_TYPE = re.compile(r"([a-z ]+?)(?:\(([\d, ]+)\))?( with time zone)?")
_TIMES = """
SELECT table_schema || '.' || table_name || '.' || column_name AS name, data_type
FROM information_schema.columns
WHERE table_schema IN ('{prefix}_silver', '{prefix}_gold') AND data_type LIKE 'timestamp%' ORDER BY 1
"""


class Trino:
    """A Trino server over a lake.

    Args:
        url: Where it answers, `http://127.0.0.1:8080`.
        prefix: That of the lake's databases in Glue.
        user: Who asks, as the server's log has it.
        catalog: The server's name of the catalog.
        registry: The declared tables.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        user: str = "lakehouse",
        catalog: str = "lake",
        registry: Registry = REGISTRY,
    ) -> None:
        self.url, self.prefix, self.user, self.catalog = url, prefix, user, catalog
        self.registry = registry

    def sql(self, query: str) -> pl.DataFrame:
        """Run SQL over the lake's silver and gold tables, named `zone.table`; times are UTC.

        Args:
            query: A statement in Trino's dialect, or several; the rows of the last one come out, with the
                types that `Lake.sql` would give them.

        Raises:
            NotRegisteredError: It names a bronze table.
            PartitionFilterError: It would read a table whole.
            SqlError: The server refuses it, or what it yields is of a type that Polars has not.
            TrinoUnreachableError: There is no server at the address.
            TrinoFailedError: The server could not read what was asked for.
            TrinoClientMissingError: The extra `trino` is not installed.
        """
        found = pl.DataFrame()
        with self._connected() as connection:
            for statement in statements(query, self.prefix, self.registry.tables):
                found = self._answer(connection, statement)
        return found

    def check(self) -> str:
        """What to know of the server, if it reads times as the lake has them; rows are not read.

        Raises:
            TrinoTimesError: It takes clients' zones, or rounds times.
            SqlError, TrinoUnreachableError, TrinoClientMissingError: As `sql`.
        """
        with self._connected("Asia/Tokyo") as connection:
            ((zone, version),) = self._answer(
                connection, "SELECT current_timezone() AS zone, version() AS version"
            ).rows()
            found = self._answer(connection, _TIMES.format(prefix=self.prefix))
        if zone != "UTC":
            raise TrinoTimesError(
                self.url, f"it takes the zone of who asks ({zone})", "forced-session-time-zone"
            )
        rounded = found.filter(pl.col("data_type") != "timestamp(6)")
        if rounded.height:
            name, kind = rounded.row(0)
            raise TrinoTimesError(self.url, f"it reads {name} as {kind}", "timestamp-precision")
        return (
            f"{self.url}, version {version}, {found.height} columns of time in {self.prefix}_silver and _gold"
        )

    @contextmanager
    def _connected(self, zone: str = "UTC") -> Iterator["Connection"]:
        try:
            from requests.exceptions import RequestException
            from trino.dbapi import connect
            from trino.exceptions import DatabaseError, HttpError, TrinoQueryError
        except ImportError:
            raise TrinoClientMissingError from None
        parts = urlsplit(self.url)
        try:
            with closing(
                connect(  # type: ignore[no-untyped-call]
                    host=parts.hostname,
                    port=parts.port or (443 if parts.scheme == "https" else 80),
                    http_scheme=parts.scheme,
                    user=self.user,
                    source="lakehouse",
                    catalog=self.catalog,
                    timezone=zone,  # else this machine's, and instants in statements are read by it
                )
            ) as connection:
                yield connection
        except TrinoQueryError as error:
            raise self._named(error) from error
        except (DatabaseError, HttpError, RequestException) as error:
            raise TrinoUnreachableError(self.url, str(error)) from error

    def _answer(self, connection: "Connection", statement: str) -> pl.DataFrame:
        from trino.exceptions import TrinoQueryError

        until, torn = time.monotonic() + _PATIENCE, 0
        while True:
            cursor = connection.cursor()
            try:
                cursor.execute(statement)
                rows = cursor.fetchall()
            except TrinoQueryError as error:
                is_soon = error.error_name in _SOON and time.monotonic() < until
                torn += error.error_name in _TORN
                if not is_soon and not 0 < torn < _TRIES:
                    raise
                time.sleep(0.5)
                continue
            return _frame(cursor.description or (), rows)

    def _named(self, error: Any) -> Exception:
        """An error of the server's as one of ours."""
        why = plain(error.message, 1000).rstrip(".")
        if error.error_name == "QUERY_REJECTED" and why.startswith("Filter required"):
            return PartitionFilterError(why)
        if error.error_name in ("TABLE_NOT_FOUND", "SCHEMA_NOT_FOUND"):
            tables = self.registry.tables
            return SqlError(why, [view_name(table) for table in tables if table.zone() != "bronze"])
        if error.error_type == "USER_ERROR":
            return SqlError(f"{error.error_name}: {why}")
        return TrinoFailedError(error.error_name, why)


def _frame(description: Sequence[Any], rows: list[list[Any]]) -> pl.DataFrame:
    """Rows of a cursor."""
    names = [column[0] for column in description]
    refuse_doubles(names)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pl.DataFrame(
        [
            _column(name, column[1], list(values))
            for name, column, values in zip(names, description, columns, strict=True)
        ]
    )


def _column(name: str, told: str, values: list[Any]) -> pl.Series:
    kind, dtype = _dtype(name, told.lower(), told)
    try:
        if kind == "timestamp with time zone":
            values = [value and value.astimezone(UTC).replace(tzinfo=None) for value in values]
        if dtype == _UTC:
            return pl.Series(name, values, pl.Datetime("us")).dt.replace_time_zone("UTC")
        if dtype == pl.String():
            values = [None if value is None else str(value) for value in values]
        return pl.Series(name, values, dtype)
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        raise SqlResultError(name, told, f"is not read ({error})") from error


def _dtype(name: str, told: str, whole: str) -> tuple[str, pl.DataType]:
    """The type without its parameters, and what it is in a frame."""
    if told.startswith("array(") and told.endswith(")"):
        return "array", pl.List(_dtype(name, told[6:-1], whole)[1])
    found = _TYPE.fullmatch(told)
    kind = f"{found[1]}{found[3] or ''}" if found else told
    if found and kind == "decimal":
        precision, scale = map(int, found[2].split(","))
        return kind, pl.Decimal(precision, scale)
    if kind in _TEXTS:
        return kind, pl.String()
    if kind not in _TYPES:
        raise SqlResultError(name, whole, "holds a type that is not read")
    return kind, _TYPES[kind]
