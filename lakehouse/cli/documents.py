"""Rows for programs: JSON, CSV, Parquet."""

import io
import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import polars as pl

_ROWS_AT_ONCE = 100_000
_INSTANT = "%Y-%m-%d %H:%M:%S%.f+00:00"


def as_json(value: Any, margin: str = "") -> str:
    """A value as JSON, on a line for each member where a margin is given.

    Decimals are numbers with all their digits; what JSON has no word for is null (infinities, not-a-number),
    hexadecimal (bytes) or text (times).

    Args:
        value: The value.
        margin: The line break and what stands before the closing bracket.
    """
    within = margin + "  " if margin else ""
    if isinstance(value, dict | list | tuple) and value:
        if isinstance(value, dict):
            members = [
                f"{_scalar(name if isinstance(name, str) else _name(name))}: {as_json(member, within)}"
                for name, member in value.items()
            ]
        else:
            members = [as_json(member, within) for member in value]
        first, last = "{}" if isinstance(value, dict) else "[]"
        return f"{first}{within}{(',' + (within or ' ')).join(members)}{margin}{last}"
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else "null"
    return "null" if isinstance(value, float) and not math.isfinite(value) else _scalar(value)


_scalar = json.JSONEncoder(
    default=lambda value: value.hex() if isinstance(value, bytes) else str(value)
).encode


def _name(key: Any) -> str:
    """What is no text as the name of a member, such as the key of a map."""
    return as_json(key).strip('"')


def write_csv(frame: "pl.DataFrame", file: BinaryIO) -> None:
    """Write all rows as CSV with a header: null as nothing, instants in UTC, nested values as JSON, bytes in
    hexadecimal.
    """
    import polars as pl

    columns = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime) and dtype.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).dt.strftime(_INSTANT)
        elif isinstance(dtype, pl.Binary):
            column = column.bin.encode("hex")
        elif dtype.is_nested() or isinstance(dtype, pl.Object | pl.Duration):
            values = [None if value is None else as_json(value) for value in frame[name].to_list()]
            column = pl.Series(name, values, pl.String)  # type: ignore[assignment]
        columns.append(column)
    told = frame.select(columns)
    for begin in range(0, max(told.height, 1), _ROWS_AT_ONCE):
        # the writing is ours: a pipe that nobody reads to its end is then a `BrokenPipeError`
        rows = told[begin : begin + _ROWS_AT_ONCE].write_csv(include_header=not begin)
        write_all(rows.encode(), file)


def write_parquet(frame: "pl.DataFrame", file: BinaryIO) -> None:
    """Write all rows as Parquet, with the types they have."""
    made = io.BytesIO()
    frame.write_parquet(made)
    write_all(made.getvalue(), file)


def write_json(value: Any, file: BinaryIO) -> None:
    """Write one JSON document."""
    write_all(as_json(value, "\n").encode() + b"\n", file)


def write_all(data: bytes, file: BinaryIO) -> None:
    """Write every byte: a stream without a buffer (`PYTHONUNBUFFERED`) may take a part of them and say so
    alone in what it returns.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
