"""Footers and files that nobody of good will writes, made of a sound cell."""

import io
import json
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.storage.seal import HOLE, PROOF_KEY, SEAL_KEY, seal


def footer_of(body: bytes) -> dict[str, Any]:
    """The facts in a cell's footer."""
    return dict(json.loads(pq.read_metadata(io.BytesIO(body)).metadata[b"lakehouse"]))


def with_footer(body: bytes, footer: str | bytes, is_sealed: bool = True) -> bytes:
    """A cell with the same rows and another footer, sealed as a writer of this release would."""
    return written(pq.read_table(io.BytesIO(body)).replace_schema_metadata(None), footer, is_sealed)


def written(rows: pa.Table, footer: str | bytes, is_sealed: bool = True, **options: Any) -> bytes:
    """Rows with a footer of any text."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, rows.schema, compression="zstd", **options) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({b"lakehouse": footer})
        if is_sealed:
            writer.add_key_value_metadata({PROOF_KEY: json.dumps({"schema": "", "news": ""}), SEAL_KEY: HOLE})
    return seal(sink.getvalue()) if is_sealed else sink.getvalue()


def changed(footer: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A footer with one fact replaced; `facts.x` is one of the facts within."""
    copy = json.loads(json.dumps(footer))
    place = copy
    *above, name = path.split(".")
    for part in above:
        place = place[part]
    place[name] = value
    return dict(copy)


def bomb(rows: int, like: pl.DataFrame) -> pa.Table:
    """So many equal rows of the columns of a cell: next to nothing as Parquet, all of memory when read."""
    one = like.head(1).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.table(
        {name: pa.chunked_array([pa.repeat(one[name][0], rows)]) for name in one.column_names},
        schema=one.schema,
    )
