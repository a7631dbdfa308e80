"""What a statement yields, as types that Polars, Python and JSON have: one table says of every type of DuckDB
what comes out.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from lakehouse.model.errors import SqlError, SqlResultError

_DAY = 86_400_000_000  # microseconds
_UTC = pl.Datetime("us", "UTC")
_TYPES: dict[str, tuple[str | None, pl.DataType]] = {
    # Kept: Arrow carries them, and every value has a place in Polars.
    "boolean": (None, pl.Boolean()),
    "tinyint": (None, pl.Int8()),
    "smallint": (None, pl.Int16()),
    "integer": (None, pl.Int32()),
    "bigint": (None, pl.Int64()),
    "utinyint": (None, pl.UInt8()),
    "usmallint": (None, pl.UInt16()),
    "uinteger": (None, pl.UInt32()),
    "ubigint": (None, pl.UInt64()),
    "float": (None, pl.Float32()),
    "double": (None, pl.Float64()),
    "varchar": (None, pl.String()),  # JSON too
    "blob": (None, pl.Binary()),
    "null": (None, pl.Null()),
    "sqlnull": (None, pl.Null()),
    # Kept, and refused for a value that Python's dates and times have no place for: see `_misfit`.
    "date": (None, pl.Date()),
    "time": (None, pl.Time()),
    "time_ns": (None, pl.Time()),
    "timestamp": (None, pl.Datetime("us")),
    "timestamp with time zone": (None, _UTC),
    "timestamp_ns": (None, pl.Datetime("us")),
    # Polars' milliseconds have no infinity, and wrap it to 1969
    "timestamp_s": ("TIMESTAMP", pl.Datetime("us")),
    "timestamp_ms": ("TIMESTAMP", pl.Datetime("us")),
    # Integers that Arrow would carry as decimals of 38 digits, cut or wrapped: narrowed to 64 bits where all
    # fit.
    "hugeint": ("VARCHAR", pl.Int128()),
    "uhugeint": ("VARCHAR", pl.UInt128()),
    # Text: Arrow has no such type, or one that loses a part of it, such as the offset of a time.
    "time with time zone": ("VARCHAR", pl.String()),
    "interval": ("VARCHAR", pl.String()),  # within another type: as a column of its own see `_durations`
    "uuid": ("VARCHAR", pl.String()),
    "enum": ("VARCHAR", pl.String()),
    "bit": ("VARCHAR", pl.String()),
    "bignum": ("VARCHAR", pl.String()),
    "variant": ("VARCHAR", pl.String()),
    "geometry": ("VARCHAR", pl.String()),
    "type": ("VARCHAR", pl.String()),
}
"""By a type's id: what DuckDB casts it to before Arrow takes it, if anything, and what it is in the frame.

DECIMAL, LIST, ARRAY, STRUCT and MAP are made of others, see `_carried`; what is not told of here, such as
UNION, is refused.
"""

# they are cast after Arrow carried them, which keys of maps cannot be
_NO_KEY = {"hugeint", "uhugeint", "timestamp_ns"}


@dataclass(frozen=True, slots=True)
class _Carried:
    """How the values of a type travel.

    Attributes:
        sql: The type that Arrow takes.
        is_cast: Whether DuckDB must cast to it.
        dtype: What comes out.
    """

    sql: str
    is_cast: bool
    dtype: pl.DataType


def result_frame(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Run a relation to its end.

    A column keeps its type where Polars has it; integers of 128 bits are Int64 where all fit, else Int128 or
    UInt128; TIMETZ, UUID, ENUM, BIT, BIGNUM, VARIANT and GEOMETRY are text. An INTERVAL, such as the
    difference of two instants, is a `Duration`; where months are in it, which have no length of their own,
    and within another type, it is text. Instants with a zone are in UTC.

    Raises:
        SqlError: Two columns have one name.
        SqlResultError: A column's type, or a value in it, is none that Polars, Python and JSON all have.
        duckdb.Error: DuckDB refuses it at some row.
    """
    names, types = relation.columns, relation.types
    refuse_doubles(names)
    is_interval = [dtype.id == "interval" for dtype in types]
    carried = [_carried(name, dtype, dtype) for name, dtype in zip(names, types, strict=True)]
    if any(how.is_cast for how in carried):
        ways = zip(is_interval, carried, strict=True)
        chosen = [
            _in_parts(n) if own else f"CAST(#{n} AS {how.sql})" if how.is_cast else f"#{n}"
            for n, (own, how) in enumerate(ways, 1)
        ]
        relation = relation.project(", ".join(chosen))
    columns = zip(names, relation.to_arrow_table().columns, types, carried, is_interval, strict=True)
    return pl.DataFrame([_column(*column) for column in columns])


def refuse_doubles(names: Sequence[str]) -> None:
    """Refuse columns of one name, which a frame cannot have.

    Raises:
        SqlError: As said.
    """
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise SqlError(
            f"its result has more than once: {', '.join(double)}. Give each column a name of its own: … AS …"
        )


def _carried(name: str, dtype: DuckDBPyType, whole: DuckDBPyType) -> _Carried:
    """How a type travels within the column `name`, which as a whole is of the type `whole`."""
    if dtype.id in _TYPES:
        sql, kept = _TYPES[dtype.id]
        return _Carried(sql or str(dtype), sql is not None, kept)
    if dtype.id not in ("decimal", "list", "array", "struct", "map"):
        raise SqlResultError(name, str(whole), f"holds a type that is not read ({dtype.id})")
    of: dict[str, Any] = dict(dtype.children)
    if dtype.id == "decimal":
        return _Carried(str(dtype), False, pl.Decimal(of["precision"], of["scale"]))
    if dtype.id in ("list", "array"):
        child, size = _carried(name, of["child"], whole), of.get("size", "")
        return _Carried(
            f"{child.sql}[{size}]",
            child.is_cast,
            pl.Array(child.dtype, size) if size else pl.List(child.dtype),
        )
    parts = {part: _carried(name, child, whole) for part, child in of.items()}
    is_cast = any(part.is_cast for part in parts.values())
    if dtype.id == "struct":
        if "" in parts:
            raise SqlResultError(name, str(whole), "has fields without a name")
        fields = ", ".join('"' + field.replace('"', '""') + f'" {part.sql}' for field, part in parts.items())
        return _Carried(
            f"STRUCT({fields})", is_cast, pl.Struct({field: part.dtype for field, part in parts.items()})
        )
    key, value = parts["key"], parts["value"]
    if key.dtype.is_nested() or of["key"].id in _NO_KEY:
        raise SqlResultError(name, str(whole), f"has keys that are not read ({of['key']})")
    return _Carried(f"MAP({key.sql}, {value.sql})", is_cast, pl.Map(key.dtype, value.dtype))


def _column(
    name: str, values: pa.ChunkedArray, dtype: DuckDBPyType, how: _Carried, is_interval: bool
) -> pl.Series:
    try:
        if why := next(
            (why for chunk in values.chunks for leaf in _leaves(chunk) if (why := _misfit(leaf))), None
        ):
            raise SqlResultError(name, str(dtype), why)
        column = pl.DataFrame(pa.table({name: values})).to_series()
        if is_interval:
            return _durations(column)
        with contextlib.suppress(pl.exceptions.InvalidOperationError):  # one does not fit
            return column.cast(_narrow(how.dtype))
        return column.cast(how.dtype)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise SqlResultError(name, str(dtype), f"is not read ({str(error).strip()})") from error


def _narrow(dtype: Any) -> pl.DataType:
    """The type with integers of 64 bits for those of 128."""
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _narrow(field.dtype) for field in dtype.fields})
    if isinstance(dtype, pl.Map):
        return pl.Map(dtype.key, _narrow(dtype.value))
    if isinstance(dtype, pl.List):
        return pl.List(_narrow(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(_narrow(dtype.inner), dtype.size)
    return pl.Int64() if dtype in (pl.Int128(), pl.UInt128()) else dtype


def _leaves(values: pa.Array) -> Iterator[pa.Array]:
    """The arrays of plain types within an array."""
    if pa.types.is_struct(values.type):
        for part in values.flatten():
            yield from _leaves(part)
    elif pa.types.is_map(values.type):
        yield from _leaves(values.keys)
        yield from _leaves(values.items)
    elif pa.types.is_nested(values.type):
        yield from _leaves(values.flatten())
    else:
        yield values


_FIRST, _END = -719_162, 2_932_897  # days from 1970 to the years 1 and 10000


def _misfit(values: pa.Array) -> str | None:
    """What is in an array that no date, instant or time of Python is; what Polars would panic at, wrap, cut
    or make null is among it.
    """
    if pa.types.is_date32(values.type):
        return None if _all_between(values.view(pa.int32()), _FIRST, _END) else _NO_INSTANT
    if not (pa.types.is_timestamp(values.type) or pa.types.is_time64(values.type)):
        return None
    numbers = pl.Series(values.view(pa.int64()))
    if values.type.unit == "ns":
        if (numbers % 1000 != 0).any():  # infinity too
            return "holds a time that is infinite or finer than a microsecond"
        numbers //= 1000
    if pa.types.is_time64(values.type):
        return None if _all_between(numbers, 0, _DAY) else "holds the time 24:00:00"
    return None if _all_between(numbers, _FIRST * _DAY, _END * _DAY) else _NO_INSTANT


_NO_INSTANT = "holds an instant that is infinite or outside the years 1 to 9999"


def _all_between(numbers: pa.Array | pl.Series, first: int, end: int) -> bool:
    return bool(pl.Series(numbers).is_between(first, end, closed="left").all())


_PARTS = (
    "struct_pack(months := datepart('year', {0}) * 12 + datepart('month', {0}), "
    "days := datepart('day', {0}), micros := {1})"
)
_MICROS = (
    "datepart('hour', {0}) * 3600000000 + datepart('minute', {0}) * 60000000 + datepart('microsecond', {0})"
)


def _in_parts(number: int) -> str:
    """An INTERVAL in its three parts: Arrow counts the last one in nanoseconds, and wraps it beyond 292
    years.
    """
    value = f"#{number}"
    return f"CASE WHEN {value} IS NOT NULL THEN {_PARTS.format(value, _MICROS.format(value))} END"


def _durations(parts: pl.Series) -> pl.Series:
    """Intervals as durations, or as text where one has months or is longer than a duration can be."""
    months, days, micros = (parts.struct.field(name) for name in ("months", "days", "micros"))
    length = days.cast(pl.Int128) * pl.Series([_DAY], dtype=pl.Int128) + micros
    if not (months != 0).any():
        with contextlib.suppress(pl.exceptions.InvalidOperationError):  # one is longer
            return length.cast(pl.Int64).cast(pl.Duration("us")).alias(parts.name)
    told = [
        part
        and f"{part['months']} months, {part['days']} days, {Decimal(part['micros']).scaleb(-6):f} seconds"
        for part in parts
    ]
    return pl.Series(parts.name, told, dtype=pl.String)
