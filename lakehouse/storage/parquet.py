"""Cells as Parquet bytes: one writer, its version, and the footer that describes the cell.

The version hashes the bytes before the footer, so what the footer says can change without it.
"""

import hashlib
import io
import json
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.table import Table

WRITER = f"pyarrow {pa.__version__}"
FOOTER_KEY = b"lakehouse"
_ROW_GROUP = 122_880


def encode(table: type[Table], rows: pl.DataFrame, footer: dict[str, Any], news: str = "") -> tuple[bytes, str]:
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
    deltas = {name: "DELTA_BINARY_PACKED" for name, column in table.columns.items() if column.dtype in (pl.Int64, pl.Int32) or isinstance(column.dtype, pl.Datetime)}
    with pq.ParquetWriter(sink, schema, compression="zstd", compression_level=3, use_dictionary=texts, column_encoding=deltas, write_statistics=True) as writer:
        if rows.height:
            # Not `cast`: it imports pyarrow.compute, which reads its own documentation for a tenth of a second.
            columns = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).columns
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=_ROW_GROUP)
        version = version_of(table, sink.getvalue(), news)
        writer.add_key_value_metadata({FOOTER_KEY: json.dumps(footer | {"version": version, "writer": WRITER}, sort_keys=True)})
    return sink.getvalue(), version


def version_of(table: type[Table], body: bytes, news: str = "") -> str:
    """Hash of Parquet bytes up to the footer, with the declared schema and news that is not in rows."""
    return hashlib.sha256(body + table.schema_text().encode() + news.encode()).hexdigest()[:32]


def decode(path: str, body: bytes) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read back what `encode` wrote: the rows and the footer.

    Raises:
        NotALakeObjectError: The bytes are no Parquet file of this lake.
    """
    footer = read_footer(path, body)
    try:
        return pl.read_parquet(io.BytesIO(body), use_pyarrow=False), footer
    except pl.exceptions.PolarsError as error:
        raise NotALakeObjectError(path, f"its rows do not read ({str(error).strip()})") from None


def read_footer(path: str, tail: bytes) -> dict[str, Any]:
    """Read the cell's facts from a file's last bytes.

    Args:
        path: For the message.
        tail: The end of the file, at least the whole Parquet footer.

    Raises:
        NotALakeObjectError: The bytes are no Parquet file of this lake.
    """
    try:
        metadata = pq.read_metadata(io.BytesIO(tail)).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise NotALakeObjectError(path, f"its footer does not read ({str(error).strip()})") from None
    if FOOTER_KEY not in metadata:
        raise NotALakeObjectError(path, "its footer has no lakehouse facts")
    facts: dict[str, Any] = json.loads(metadata[FOOTER_KEY])
    return facts
