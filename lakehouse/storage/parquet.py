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
from lakehouse.model.table import Table
from lakehouse.storage.seal import HOLE, PROOF_KEY, SEAL_KEY, check, check_footer, footer_size, seal

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
        writer.add_key_value_metadata({PROOF_KEY: json.dumps({"schema": table.schema_text(), "news": news}), SEAL_KEY: HOLE})
    return seal(sink.getvalue()), version


def version_of(table: type[Table], body: bytes, news: str = "") -> str:
    """Hash of Parquet bytes up to the footer, with the declared schema and news that is not in rows."""
    return _hash(body, table.schema_text(), news)


def _hash(rows: bytes, schema: str, news: str) -> str:
    return hashlib.sha256(rows + schema.encode() + news.encode()).hexdigest()[:32]


def check_version(path: str, body: bytes) -> str | None:
    """Hold a file's version against its bytes and the schema text it was made with.

    Returns:
        That text: the columns the file was written with; None for a file of an earlier release, which does not keep it.

    Raises:
        DamagedObjectError: The version is not that of these bytes.
    """
    metadata = _metadata(path, body)
    proof, version = metadata.get(PROOF_KEY.encode()), json.loads(metadata[FOOTER_KEY])["version"]
    if proof is None:
        return None
    made_with = json.loads(proof)
    if _hash(body[: len(body) - footer_size(body)], made_with["schema"], made_with["news"]) != version:
        raise DamagedObjectError(path, f"its version {version} is not that of its rows")
    schema: str = made_with["schema"]
    return schema


def decode(path: str, body: bytes) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read back what `encode` wrote: the rows and the footer, both held against the seal.

    Raises:
        NotALakeObjectError: The bytes are no Parquet file of this lake, or not those that were stored.
    """
    check(path, body)
    footer = read_footer(path, body)
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


def read_footer(path: str, tail: bytes) -> dict[str, Any]:
    """Read the cell's facts from a file's last bytes, held against the seal; `column_count` is added.

    Args:
        path: For the message.
        tail: The end of the file, at least the whole Parquet footer.

    Raises:
        NotALakeObjectError: The bytes are no Parquet file of this lake, or not those that were stored.
    """
    check_footer(path, tail)
    try:
        parsed = pq.read_metadata(io.BytesIO(tail))
        facts = json.loads((parsed.metadata or {}).get(FOOTER_KEY, b"null"))
        held = sum(parsed.row_group(number).num_rows for number in range(parsed.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NotALakeObjectError(path, f"its footer does not read ({str(error).strip()})") from None
    if not isinstance(facts, dict):
        raise NotALakeObjectError(path, "its footer has no lakehouse facts")
    said = {str(facts.get("rows", held)), str(parsed.num_rows)}  # the number tells a scan of many cells whose rows are whose
    if said != {str(held)}:
        raise DamagedObjectError(path, f"its footer says {' and '.join(sorted(said))} rows, it holds {held}")
    return facts | {"column_count": parsed.num_columns}


def _metadata(path: str, body: bytes) -> dict[bytes, bytes]:
    try:
        return dict(pq.read_metadata(io.BytesIO(body)).metadata or {})
    except (pa.ArrowException, OSError) as error:
        raise NotALakeObjectError(path, f"its footer does not read ({str(error).strip()})") from None
