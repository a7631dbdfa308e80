"""The cache of a table's footers: one row per object, in columns, sealed."""

import io
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl
from isal.isal_zlib import crc32

from lakehouse.model.cell import Cell
from lakehouse.model.errors import DamagedObjectError, NotALakeObjectError
from lakehouse.model.table import Table
from lakehouse.storage.layout import ledger_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import reading, require_small
from lakehouse.storage.seal import HOLE, SEAL_KEY, check, seal
from lakehouse.storage.tables import CellRecord

_GROUP = 2048  # entries that are read, and sealed, together: those of one market are in one or two groups
_RATIO = 256  # that a large cache may inflate to: footers repeat, but each holds hashes of its own
_READ_WHOLE = 128 << 10  # bytes of a cache in which to look for a part takes longer than to read all of it
_ALWAYS_READ = 64 << 20  # bytes


class Entry(NamedTuple):
    """What a ledger keeps of a cell's footer and object; times, inputs and facts as the footer has them.

    Attributes:
        path: Where the object lies.
        etag: The store's tag of the object.
        size: Bytes.
        version: As in `CellRecord`, and so on.
        rows: Row count.
        code_version: The declaration's number when the cell was made.
        column_count: How many columns the file has.
        reject_count: Rows in quarantine.
        news: Digest of the facts.
        first_time: Smallest time, as text.
        last_time: Largest time, as text.
        inputs: JSON.
        facts: JSON.
    """

    path: str
    etag: str
    size: int
    version: str
    rows: int
    code_version: int
    column_count: int
    reject_count: int
    news: str
    first_time: str | None
    last_time: str | None
    inputs: str
    facts: str

    @classmethod
    def of(cls, record: CellRecord, footer: Mapping[str, Any]) -> "Entry":
        """The entry of a record that was made from a footer."""
        return cls(
            record.path,
            record.etag,
            record.size,
            record.version,
            record.rows,
            record.code_version,
            record.column_count,
            record.reject_count,
            record.news,
            footer["first_time"],
            footer["last_time"],
            json.dumps(footer["inputs"]),
            json.dumps(footer["facts"]),
        )

    def record(self, cell: Cell | None) -> CellRecord:
        """The record of the cell; times, inputs and facts are read when they are asked for."""
        return CellRecord.kept(
            dict(zip(_READY, self, strict=False), cell=cell), dict(zip(_TOLD, self[9:], strict=True))
        )


_READY, _TOLD = Entry._fields[:9], Entry._fields[9:]
_NUMBERS = ("size", "rows", "code_version", "column_count", "reject_count")
ENTRIES = pl.Schema({name: pl.Int64() if name in _NUMBERS else pl.String() for name in Entry._fields})
"""The columns of entries, a row for each."""

_CACHE = pl.Schema({**ENTRIES, "group": pl.Int64(), "seal": pl.Int64()})


def frame_of(entries: Iterable[Entry]) -> pl.DataFrame:
    """Entries in columns."""
    return pl.DataFrame(list(entries), schema=ENTRIES, orient="row")


def entries_of(frame: pl.DataFrame) -> dict[str, Entry]:
    """Entries by path."""
    return {row[0]: Entry._make(row) for row in frame.select(ENTRIES.names()).rows()}


def load_cache(
    objects: LakeObjects, table: type[Table], folders: Collection[str] | None = None
) -> pl.DataFrame:
    """The cached entries of a table; none where there is no sound cache.

    Args:
        objects: The lake's objects.
        table: The table.
        folders: The folders whose entries are wanted; None for all.
    """
    path = ledger_path(table)
    body = objects.get(path)
    try:
        return parse_cache(path, body, folders) if body is not None else ENTRIES.to_frame()
    except NotALakeObjectError:
        return ENTRIES.to_frame()  # a cache is only a cache


def parse_cache(path: str, body: bytes, folders: Collection[str] | None = None) -> pl.DataFrame:
    """The entries that a ledger object caches; none if an earlier release wrote it.

    Args:
        path: For messages.
        body: The object.
        folders: The folders whose entries are wanted, which are read with some others; None for all.

    Returns:
        A row per object, held against the seal of its group.

    Raises:
        NotALakeObjectError: The object is not as it was written.
    """
    if not check(path, body):
        return ENTRIES.to_frame()  # nothing says that it is as it was written
    require_small(path, body, max(_ALWAYS_READ, _RATIO * len(body)))
    with reading(path):
        cache = pl.scan_parquet(io.BytesIO(body), glob=False, hive_partitioning=False)
        if cache.collect_schema() != _CACHE:
            return ENTRIES.to_frame()
        if folders is not None and len(body) > _READ_WHOLE:
            # what begins with a folder and a slash; 0 comes behind the slash
            within = [
                pl.col("path").is_between(pl.lit(f"{name}/"), pl.lit(f"{name}0"), closed="left")
                for name in folders
            ]
            wanted = cache.filter(pl.any_horizontal(pl.lit(False), *within)).select("group")
            groups = wanted.collect()["group"].unique()
            cache = cache.filter(pl.col("group").is_in(groups.implode()))
        rows = cache.collect()
    entries = rows.select(ENTRIES.names())
    said = rows.group_by("group", maintain_order=True).agg(
        pl.col("path").first(), pl.col("seal").unique(), count=pl.len()
    )
    start = 0
    for _, first, seals, count in said.rows():
        if seals != [_seal_of(entries[start : start + count])]:
            raise DamagedObjectError(
                path, f"its entries from {first!a:.200} on are not those that were sealed"
            )
        start += count
    return entries


def save_cache(objects: LakeObjects, table: type[Table], entries: pl.DataFrame) -> None:
    """Cache the entries of a table.

    Args:
        objects: The lake's objects.
        table: The table.
        entries: All of them.
    """
    ordered = (
        entries.select(ENTRIES.names()).sort("path").with_columns(group=pl.int_range(pl.len()) // _GROUP)
    )
    starts = range(0, ordered.height, _GROUP)
    seals = pl.Series((_seal_of(ordered[start : start + _GROUP]) for start in starts), dtype=pl.Int64)
    sink = io.BytesIO()
    ordered.with_columns(seal=seals.gather(ordered["group"])).write_parquet(
        sink, compression="zstd", row_group_size=_GROUP, metadata={SEAL_KEY: HOLE}
    )
    objects.put(ledger_path(table), seal(sink.getvalue()))


def _seal_of(group: pl.DataFrame) -> int:
    """The seal of a group of entries: that object in that version says this. Who edits an entry by itself,
    and seals the whole again, is not believed.
    """
    texts = (pl.col(name).cast(pl.String).fill_null("\0") for name in ENTRIES.names())
    lines = group.select(pl.concat_str(*texts, separator="\x1f"))
    return int(crc32("\x1e".join(lines.to_series()).encode()))
