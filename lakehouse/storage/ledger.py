"""What a lake holds: the footers of a table's cells, cached, and what is due according to them."""

import contextlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple, overload

import polars as pl
from isal.isal_zlib import crc32

from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    DamagedObjectError,
    ForeignFolderError,
    NotALakeObjectError,
    NothingStoredError,
    StoreError,
)
from lakehouse.model.input import touched_dates
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import NONE
from lakehouse.model.table import Table
from lakehouse.storage.layout import FILE, ledger_path, market_prefix, parse_cell_path, table_prefix
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects, StoredObject
from lakehouse.storage.parquet import read_footer, reading, require_small
from lakehouse.storage.seal import HOLE, SEAL_KEY, check, footer_size, seal
from lakehouse.storage.tables import CellRecord
from lakehouse.storage.verification import known_damage

_TAIL = 16 * 1024
_AT_ONCE = 32  # requests in flight: on S3 they wait, they do not compute
_GROUP = 2048  # entries of a cache that are read together: those of one market are in one or two groups
_LARGEST_FOOTER = 32 << 20
_LARGEST_OBJECT = 1 << 30
_RATIO = 256  # that a large cache may inflate to: footers repeat, but each holds hashes of its own
_ALWAYS_READ = 64 << 20  # bytes
NARROW = 16
"""Markets whose folders are listed one by one; of more, the whole table is."""

Ledger = Mapping[Cell, CellRecord]


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
_CACHE = {name: pl.Int64 if name in _NUMBERS else pl.String for name in Entry._fields} | {"seal": pl.Int64}


class CellLedger(Ledger):
    """The stored cells of a table in order of market and time; a record is made when it is asked for.

    Args:
        entries: What is kept of each cell.
    """

    def __init__(self, entries: Mapping[Cell, Entry]) -> None:
        self._entries = {cell: entries[cell] for cell in sorted(entries, key=lambda cell: cell.sort_key)}
        self._made: dict[Cell, CellRecord] = {}

    @property
    def entries(self) -> Mapping[Cell, Entry]:
        """What is kept of each cell: for who counts, and needs no records."""
        return self._entries

    def version_of(self, cell: Cell) -> str:
        """The version of a cell; `none` if it is not stored."""
        entry = self._entries.get(cell)
        return entry.version if entry is not None else NONE

    def is_made_from(self, cell: Cell, code_version: int, inputs: Mapping[str, str]) -> bool:
        """Whether a cell is stored as these inputs make it by this meaning of its table."""
        entry = self._entries.get(cell)
        if entry is None or entry.code_version != code_version:
            return False
        return entry.inputs == json.dumps(inputs) or dict(self[cell].inputs) == inputs

    def __getitem__(self, cell: Cell) -> CellRecord:
        made = self._made.get(cell)
        if made is None:
            made = self._made[cell] = self._entries[cell].record(cell)
        return made

    @overload
    def get(self, cell: Cell, /) -> CellRecord | None: ...
    @overload
    def get(self, cell: Cell, /, default: Any) -> Any: ...
    def get(self, cell: Cell, /, default: Any = None) -> Any:
        """The record of a cell, if it is stored."""
        return self[cell] if cell in self._entries else default

    def __contains__(self, cell: object) -> bool:
        return cell in self._entries

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self) -> KeysView[Cell]:
        """The cells."""
        return self._entries.keys()


def ledger(objects: LakeObjects, table: type[Table], markets: Collection[Market] | None = None) -> CellLedger:
    """Every stored cell of a table. An object that is no cell of this lake counts as absent; `survey` names
    it.

    Args:
        objects: The lake's objects.
        table: The table.
        markets: As for `survey`.
    """
    return survey(objects, table, markets)[0]


Survey = tuple[CellLedger, list[NotALakeObjectError]]


def survey(objects: LakeObjects, table: type[Table], markets: Collection[Market] | None = None) -> Survey:
    """Every stored cell of a table, and the objects in its folder that are none: damaged, or put there by
    others.

    Right by construction: the store is listed, cached entries are used where the object's etag is unchanged,
    the footers of all others are read. Losing the cache costs time once.

    Args:
        objects: The lake's objects.
        table: The table.
        markets: The markets whose cells are wanted, None for all: of a few, only their folders are listed.
            A table whose objects hold all markets is surveyed whole.
    """
    if markets is None or table.shape != "cells":
        return _survey(objects, table, None)
    if len(markets) > NARROW:
        stored, foreign = _survey(objects, table, None)
        wanted = set(markets)
        return (
            CellLedger({cell: entry for cell, entry in stored.entries.items() if cell.market in wanted}),
            [error for error in foreign if _may_be_of(table, error, wanted)],
        )
    return _survey(objects, table, [market_prefix(table, market) for market in dict.fromkeys(markets)])


def _may_be_of(table: type[Table], error: NotALakeObjectError, markets: Collection[Market]) -> bool:
    try:
        cell = parse_cell_path(table, error.path)
    except NotALakeObjectError:
        return True
    return cell is None or cell.market in markets


def _survey(objects: LakeObjects, table: type[Table], folders: list[str] | None) -> Survey:
    """As `survey`, of the whole table or of some folders of markets.

    Only a survey of the whole table renews the cache: it alone knows what else belongs there.
    """
    cached, damage, *listed = _at_once(
        objects,
        lambda: _load(objects, table, folders),
        lambda: known_damage(objects),
        *(
            lambda folder=folder: list(_listed(objects, folder))  # type: ignore[misc]
            for folder in ([table_prefix(table)] if folders is None else folders)
        ),
    )
    found = {path: (etag, size) for path, etag, size in chain.from_iterable(listed)}
    most, entries, unread = table.most_rows(), dict[str, Entry](), dict[str, tuple[str, int]]()
    for path, (etag, size) in found.items():
        entry = cached.get(path)
        if entry is not None and entry.etag == etag and entry.rows <= most:
            entries[path] = entry
        else:
            unread[path] = etag, size
    read, foreign = _read_entries(objects, table, unread)
    entries |= read
    if folders is None and (read or entries.keys() != cached.keys()):
        with contextlib.suppress(StoreError):  # who may only read reads without it
            _save(objects, table, entries)
    stored: dict[Cell, Entry] = {}
    for path, entry in entries.items():
        if path in damage and damage[path].etag == entry.etag:
            foreign.append(DamagedObjectError(path, damage[path].why))
            continue
        try:
            if (cell := parse_cell_path(table, path)) is not None:
                stored[cell] = entry
        except NotALakeObjectError as error:
            foreign.append(error)
    return CellLedger(stored), sorted(foreign, key=str)


def _at_once(objects: LakeObjects, *reads: Callable[[], Any]) -> list[Any]:
    """What several reads yield; on S3, where they wait, at once."""
    if objects.is_local:
        return [read() for read in reads]
    with ThreadPoolExecutor(max_workers=len(reads)) as pool:
        return list(pool.map(lambda read: read(), reads))


def damaged_cells(table: type[Table], foreign: Iterable[NotALakeObjectError]) -> list[Cell]:
    """The cells whose object is there and does not read, of what a survey found foreign; of a folder that no
    cell can have, none.

    Raises:
        NotALakeObjectError: An object lies where no cell does, so nobody can say what is missing with it.
    """
    return [
        cell
        for error in foreign
        if not isinstance(error, ForeignFolderError)
        and (cell := parse_cell_path(table, error.path)) is not None
    ]


def require_stored(
    table: str, cells: Collection[Cell], markets: Collection[Market] | None, months: Collection[str] | None
) -> None:
    """Refuse what is named and not there, such as a mistyped market: an empty answer would say that all is
    well with it.

    Args:
        table: Where it was looked for.
        cells: All its cells, damaged ones too.
        markets: Those that were named; None or empty for all.
        months: Those that were named; None for all.

    Raises:
        NothingStoredError: A market has no cell in any month, or no market that is meant has one in these
            months.
    """
    keys, known = [market.key for market in markets or ()], {cell.market for cell in cells}
    unknown = [market.key for market in markets or () if market not in known]
    if unknown or (
        months is not None
        and not any((not markets or cell.market in markets) and cell.date[:7] in months for cell in cells)
    ):
        raise NothingStoredError(table, unknown or keys)


def survey_market(
    objects: LakeObjects, table: type[Table], market: Market, months: Collection[str]
) -> Survey:
    """As `survey`, of one market's cells in some months: one listing and their footers, without the cache,
    which holds all of the table.
    """
    listed = cells_of_market(objects, table, market, months)
    entries, foreign = _read_entries(
        objects, table, {stored.path: (stored.etag, stored.size) for stored in listed}
    )
    cells = {parse_cell_path(table, path): entry for path, entry in entries.items()}
    return CellLedger({cell: entry for cell, entry in cells.items() if cell is not None}), foreign


def cells_of_market(
    objects: LakeObjects, table: type[Table], market: Market, months: Collection[str]
) -> list[StoredObject]:
    """The objects in the folders of one market's cells, in order of time."""
    window = "/month=" if table.grain == "month" else "/date="

    def is_meant(path: str) -> bool:
        date = path.rpartition(window)[2].split("/", 1)[0]
        return path.endswith(f"/{FILE}") and (date if table.grain == "month" else date[:7]) in months

    return sorted(
        (stored for stored in objects.list(market_prefix(table, market)) if is_meant(stored.path)),
        key=lambda stored: stored.path,
    )


def _read_entries(
    objects: LakeObjects, table: type[Table], listed: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, Entry], list[NotALakeObjectError]]:
    """Entries by path, from footers that are read in parallel, and what is no cell of the table or another
    cell than its path says; an object that is gone again is in neither.

    Of an object that was replaced since it was listed, the entry has what is there now.
    """
    foreign: list[NotALakeObjectError] = []

    def read(path: str) -> Entry | None:
        try:
            cell = parse_cell_path(table, path)
            etag, size, footer = _read_tail(objects, path, *listed[path])
            return _entry(table, cell, path, etag, size, footer) if footer is not None else None
        except NotALakeObjectError as error:
            foreign.append(error)
            return None

    if not listed:
        return {}, []
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(listed))) as pool:
        entries = dict(zip(listed, pool.map(read, listed), strict=True))
    return {path: entry for path, entry in entries.items() if entry is not None}, sorted(foreign, key=str)


def _entry(
    table: type[Table], cell: Cell | None, path: str, etag: str, size: int, footer: Mapping[str, Any]
) -> Entry:
    """The entry of a footer that says what a footer should."""
    return Entry.of(CellRecord.from_footer(table, cell, path, etag, size, footer), footer)


def _listed(objects: LakeObjects, prefix: str) -> Iterable[tuple[str, str, int]]:
    for found in objects.list(prefix):
        if found.path.endswith(f"/{FILE}"):
            yield found.path, found.etag, found.size


def _read_tail(
    objects: LakeObjects, path: str, etag: str, size: int
) -> tuple[str, int, Mapping[str, Any] | None]:
    """Etag and size of an object, and its footer, all of one version; no footer if the object is gone
    again.
    """
    length = min(_TAIL, size)
    if size > _LARGEST_OBJECT:
        raise NotALakeObjectError(
            path, f"it has {size:,} bytes, and no object of a lake more than {_LARGEST_OBJECT:,}"
        )
    try:
        while size:
            tail = objects.get_of(path, etag, size - length, size)
            if not len(tail) < (needed := footer_size(tail)) <= size:
                return etag, size, read_footer(path, tail)
            if needed > _LARGEST_FOOTER:
                raise NotALakeObjectError(path, f"its footer has {needed:,} bytes")
            length = needed
    except ChangedMeanwhileError:
        pass  # replaced since it was listed: whatever is there now is read whole
    held = objects.get_tagged(path)
    return (held[1], len(held[0]), read_footer(path, held[0])) if held else (etag, size, None)


def _load(
    objects: LakeObjects, table: type[Table], folders: Collection[str] | None = None
) -> dict[str, Entry]:
    body = objects.get(ledger_path(table))
    try:
        return parse_cache(ledger_path(table), body, folders) if body is not None else {}
    except NotALakeObjectError:
        return {}  # a cache is only a cache


def parse_cache(path: str, body: bytes, folders: Collection[str] | None = None) -> dict[str, Entry]:
    """Entries by path, as a ledger object caches them; none if an earlier release wrote it.

    Args:
        path: For messages.
        body: The object.
        folders: The folders whose entries are wanted; None for all.

    Returns:
        Entries by path, each held against its seal.

    Raises:
        NotALakeObjectError: The object is not as it was written.
    """
    if not check(path, body):
        return {}  # nothing says that it is as it was written
    require_small(path, body, max(_ALWAYS_READ, _RATIO * len(body)))
    with reading(path):
        cache = pl.scan_parquet(io.BytesIO(body), glob=False, hive_partitioning=False)
        if cache.collect_schema() != pl.Schema(_CACHE):
            return {}
        if folders is not None:
            # what begins with a folder and a slash; 0 comes behind the slash
            within = [
                pl.col("path").is_between(pl.lit(f"{name}/"), pl.lit(f"{name}0"), closed="left")
                for name in folders
            ]
            cache = cache.filter(pl.any_horizontal(pl.lit(False), *within))
        rows = cache.collect().rows()
    entries = {}
    for row in rows:
        said = row[:-1]
        if row[-1] != _seal_of(said):
            raise DamagedObjectError(path, f"its entry of {said[0]!a:.200} is not the one that was sealed")
        entries[said[0]] = Entry._make(said)
    return entries


def _seal_of(entry: tuple[Any, ...]) -> int:
    """The seal of an entry: what it says is of that object in this version. Who edits one by itself, and
    seals the whole again, is not believed.
    """
    return int(crc32(repr(entry).encode("utf-8", "replace")))


def _save(objects: LakeObjects, table: type[Table], entries: Mapping[str, Entry]) -> None:
    sink = io.BytesIO()
    pl.DataFrame(
        [(*entry, _seal_of(tuple(entry))) for _, entry in sorted(entries.items())],
        schema=_CACHE,
        orient="row",
    ).write_parquet(sink, compression="zstd", row_group_size=_GROUP, metadata={SEAL_KEY: HOLE})
    objects.put(ledger_path(table), seal(sink.getvalue()))


def inputs_now(
    table: type[Table], cell: Cell, ledgers: Mapping[str, Ledger], facts: Mapping[Market, str]
) -> dict[str, str]:
    """The versions a cell would record if it were built now.

    Args:
        table: A silver or gold table.
        cell: One of its cells.
        ledgers: Ledger per input table, by name.
        facts: Version of the facts each market contributes to this cell; empty for tables that use none.
    """
    if table.shape == "months":  # one object for all markets
        return {
            f"{each.name}@{record.key}": record.news if table.reads_footers else record.version
            for each in table.inputs
            for record in ledgers[each.name].values()
            if record.key.date in touched_dates(cell.date, each.table.grain, each.lookback)
        }
    inputs = {}
    for each in table.inputs:
        for source in each.cells(cell):
            inputs[f"{each.name}@{source.date}"] = _version_of(ledgers[each.name], source)
    if cell.market is not None and cell.market in facts:
        inputs["silver/market"] = facts[cell.market]
    return inputs


def _version_of(stored: Ledger, cell: Cell) -> str:
    if isinstance(stored, CellLedger):  # without making a record of it
        return stored.version_of(cell)
    record = stored.get(cell)
    return record.version if record else NONE


def expected(table: type[Table], ledgers: Mapping[str, Ledger]) -> list[Cell]:
    """Cells of a silver or gold table that should exist: those for which an own-window input is stored that
    makes one, of markets that have the table.
    """
    own = {
        own
        for each in table.inputs
        for cell, record in ledgers[each.name].items()
        if each.makes(record.rows) and (cell.market is None or cell.market.market_type in table.market_types)
        for own in _own_windows(table, cell, record)
    }
    if table.shape == "months":
        return [Cell(date) for date in sorted({cell.date for cell in own})]
    return sorted(own, key=lambda cell: cell.sort_key)


def _own_windows(table: type[Table], cell: Cell, record: CellRecord) -> Sequence[Cell]:
    """The cells of a table that an input's cell has rows of: the month of a day, the days of a month between
    its first and its last row.
    """
    if cell.grain == table.grain:
        return (cell,)
    if table.grain == "month":
        return (Cell(cell.period.month.text, cell.market),)
    if record.first_time is None or record.last_time is None:
        return ()
    first, last = (Period.of(time, table.grain).text for time in (record.first_time, record.last_time))
    return [
        Cell(date, cell.market) for date in touched_dates(cell.date, table.grain) if first <= date <= last
    ]


def needs_build(table: type[Table], stored: Ledger, cell: Cell, inputs: Mapping[str, str]) -> bool:
    """As `is_due`, of a cell of a ledger.

    Args:
        table: The cell's table.
        stored: The ledger of the table.
        cell: The cell.
        inputs: The versions it would be made from now.
    """
    if isinstance(stored, CellLedger):  # without making a record of it
        return not stored.is_made_from(cell, table.code_version, inputs)
    return is_due(table, stored.get(cell), inputs)


def is_due(table: type[Table], record: CellRecord | None, inputs: Mapping[str, str]) -> bool:
    """Whether a cell must be built: absent, made from other inputs than today's, or by an older meaning of
    the table.
    """
    return record is None or record.code_version != table.code_version or dict(record.inputs) != dict(inputs)


def records(objects: LakeObjects, table: type[Table]) -> list[CellRecord]:
    """What is stored of a table of any shape, a record per object."""
    if table.shape != "single":
        return list(ledger(objects, table).values())
    read = [
        (path, *_read_tail(objects, path, etag, size))
        for path, etag, size in _listed(objects, table_prefix(table))
    ]
    return [
        CellRecord.from_footer(table, None, path, etag, size, footer)
        for path, etag, size, footer in read
        if footer is not None
    ]
