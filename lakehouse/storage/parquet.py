"""Cells as Parquet bytes: one writer, its version, and the footer that describes the cell.

The version hashes the bytes before the footer, so what the footer says can change without it.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.model.errors import DamagedObjectError, NotALakeObjectError
from lakehouse.model.foreign_json import read_json
from lakehouse.model.table import MOST_ROWS, Table
from lakehouse.storage.seal import HOLE, PROOF_KEY, SEAL_KEY, check, check_footer, footer_size, seal

WRITER = f"pyarrow {pa.__version__}"
FOOTER_KEY = b"lakehouse"
_ROW_GROUP = 122_880
_ROW_BYTES = 256  # that a row may inflate to: 25 columns of numbers, and texts that repeat
_MOST_GROUPS, _MOST_COLUMNS = 1_000, 200  # an object has up to 18 and 25


def encode(
    table: type[Table], rows: pl.DataFrame, footer: dict[str, Any], news: str = ""
) -> tuple[bytes, str]:
    """Write rows as Parquet.

    Args:
        table: The declaration; its schema becomes the file's and is part of the version.
        rows: Rows with exactly the declared columns, in key order.
        footer: JSON-ready facts about the cell; `version` and `writer` are added.
        news: What beside the rows is another version, where downstream cells are made from it too.

    Returns:
        The file's bytes and the version.
    """
    schema, sink = table.arrow_schema(), io.BytesIO()
    texts = [name for name, column in table.columns.items() if column.dtype == pl.String]
    deltas = {
        name: "DELTA_BINARY_PACKED"
        for name, column in table.columns.items()
        if column.dtype in (pl.Int64, pl.Int32) or isinstance(column.dtype, pl.Datetime)
    }
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=texts,
        column_encoding=deltas,
        write_statistics=True,
    ) as writer:
        if rows.height:
            # Not `cast`: it imports pyarrow.compute, which reads its own documentation for a tenth of a
            # second.
            columns = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).columns
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=_ROW_GROUP)
        version = version_of(table, sink.getvalue(), news)
        writer.add_key_value_metadata(
            {FOOTER_KEY: json.dumps(footer | {"version": version, "writer": WRITER}, sort_keys=True)}
        )
        writer.add_key_value_metadata(
            {PROOF_KEY: json.dumps({"schema": table.schema_text(), "news": news}), SEAL_KEY: HOLE}
        )
    return seal(sink.getvalue()), version


def version_of(table: type[Table], body: bytes, news: str = "") -> str:
    """Hash of Parquet bytes up to the footer, with the declared schema and news that is not in rows."""
    return _hash(body, table.schema_text(), news)


def _hash(rows: bytes, schema: str, news: str) -> str:
    return hashlib.sha256(rows + schema.encode() + news.encode()).hexdigest()[:32]


def check_version(path: str, body: bytes) -> str | None:
    """Hold a file's version against its bytes and the schema text it was made with.

    Returns:
        That text: the columns the file was written with; None for a file of an earlier release, which does
        not keep it.

    Raises:
        DamagedObjectError: The version is not that of these bytes.
    """
    metadata = _metadata(path, body)
    try:
        proof, version = metadata.get(PROOF_KEY.encode()), read_json(metadata[FOOTER_KEY])["version"]
        if proof is None:
            return None
        made_with = read_json(proof)
        schema: str = made_with["schema"]
        found = _hash(body[: len(body) - footer_size(body)], schema, made_with["news"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotALakeObjectError(
            path, f"what it was made with does not read ({type(error).__name__})"
        ) from None
    if found != version:
        raise DamagedObjectError(path, f"its version {version!a:.40} is not that of its rows")
    return schema


def decode(path: str, body: bytes, most: int = MOST_ROWS) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read back what `encode` wrote: the rows and the footer, both held against the seal, and the size of the
    rows before they are inflated.

    Args:
        path: For messages.
        body: The whole file.
        most: Rows that it may have.

    Raises:
        NotALakeObjectError: The bytes are no Parquet file of this lake, or not those that were stored.
    """
    check(path, body)
    footer = read_footer(path, body, most)
    with reading(path):
        return pl.read_parquet(io.BytesIO(body), use_pyarrow=False), footer


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what Polars raises, or panics with, on bytes that are no sound Parquet into an error of ours.

    Raises:
        NotALakeObjectError: As said.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeError, OverflowError) as error:
        raise NotALakeObjectError(path, f"its rows do not read ({str(error).strip()})") from None


def read_footer(path: str, tail: bytes, most: int = MOST_ROWS) -> dict[str, Any]:
    """Read the cell's facts from a file's last bytes, held against the seal; `column_count` is added.

    Args:
        path: For the message.
        tail: The end of the file, at least the whole Parquet footer.
        most: Rows that it may have.

    Raises:
        NotALakeObjectError: The bytes are no Parquet file of this lake, or not those that were stored, or
            inflate to more than any cell has.
    """
    check_footer(path, tail)
    try:
        parsed = pq.read_metadata(io.BytesIO(tail))
        if parsed.num_row_groups > _MOST_GROUPS or parsed.num_columns > _MOST_COLUMNS:
            raise NotALakeObjectError(
                path, f"it has {parsed.num_row_groups:,} row groups of {parsed.num_columns:,} columns"
            )
        facts = read_json((parsed.metadata or {}).get(FOOTER_KEY, b"null"))
        groups = [parsed.row_group(number) for number in range(parsed.num_row_groups)]
        held, inflated = (
            sum(group.num_rows for group in groups),
            sum(group.total_byte_size for group in groups),
        )
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise NotALakeObjectError(path, f"its footer does not read ({str(error).strip()[:200]})") from None
    if not 0 <= held <= most or not 0 <= inflated <= most * _ROW_BYTES:
        raise NotALakeObjectError(
            path,
            f"it states {held:,} rows of {inflated:,} bytes, where {most:,} rows and {most * _ROW_BYTES:,} "
            "bytes are the most that is read",
        )
    if not isinstance(facts, dict):
        raise NotALakeObjectError(path, "its footer has no lakehouse facts")
    # the number tells a scan of many cells whose rows are whose
    said = {str(facts.get("rows", held)), str(parsed.num_rows)}
    if said != {str(held)}:
        raise DamagedObjectError(path, f"its footer says {' and '.join(sorted(said))} rows, it holds {held}")
    return facts | {"column_count": parsed.num_columns}


def states(body: bytes, rows: int, table: str, version: str) -> bool:
    """Whether a file's own footer states so many rows and this version: what a ledger's copy of it must agree
    with before rows are told apart by it.
    """
    return (
        body.find(
            f'"rows": {rows}, "table": "{table}", "version": "{version}"'.encode(),
            len(body) - footer_size(body),
        )
        >= 0
    )


def require_small(path: str, body: bytes, most: int) -> None:
    """Refuse a Parquet file that inflates to more than so many bytes, as its footer says.

    Raises:
        NotALakeObjectError: It does, or the footer does not read.
    """
    try:
        parsed = pq.read_metadata(io.BytesIO(body))
        inflated = sum(parsed.row_group(number).total_byte_size for number in range(parsed.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NotALakeObjectError(path, f"its footer does not read ({str(error).strip()[:200]})") from None
    if not 0 <= inflated <= most or not 0 <= parsed.num_rows * 8 <= most:
        raise NotALakeObjectError(
            path,
            f"it inflates to {inflated:,} bytes of {parsed.num_rows:,} rows, where {most:,} bytes are the "
            "most that is read",
        )


def _metadata(path: str, body: bytes) -> dict[bytes, bytes]:
    try:
        return dict(pq.read_metadata(io.BytesIO(body)).metadata or {})
    except (pa.ArrowException, OSError) as error:
        raise NotALakeObjectError(path, f"its footer does not read ({str(error).strip()})") from None
