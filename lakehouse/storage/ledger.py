"""What a lake holds: the footers of a table's cells, cached, and what is due according to them."""

import contextlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
from isal.isal_zlib import crc32

from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    DamagedObjectError,
    ForeignFolderError,
    ForeignJsonError,
    NotALakeObjectError,
    NothingStoredError,
    StoreError,
)
from lakehouse.model.foreign_json import read_own_json
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
_CACHE = {"path": pl.String, "etag": pl.String, "size": pl.Int64, "footer": pl.String, "seal": pl.Int64}
_LARGEST_FOOTER = 32 << 20
_LARGEST_OBJECT = 1 << 30
_RATIO = 256  # that a large cache may inflate to: footers repeat, but each holds hashes of its own
_ALWAYS_READ = 64 << 20  # bytes
Ledger = Mapping[Cell, CellRecord]


def ledger(objects: LakeObjects, table: type[Table]) -> dict[Cell, CellRecord]:
    """Every stored cell of a table. An object that is no cell of this lake counts as absent; `survey` names
    it.
    """
    return survey(objects, table)[0]


Survey = tuple[dict[Cell, CellRecord], list[NotALakeObjectError]]


def survey(objects: LakeObjects, table: type[Table]) -> Survey:
    """Every stored cell of a table, and the objects in its folder that are none: damaged, or put there by
    others.

    Right by construction: the store is listed, cached footers are used where the object's etag is unchanged,
    all others are read. Losing the cache costs time once.
    """
    listed, cached, damage = _at_once(
        objects,
        lambda: list(_listed(objects, table_prefix(table))),
        lambda: _load(objects, table),
        lambda: known_damage(objects),
    )
    found = {path: (etag, size) for path, etag, size in listed}
    footers = {
        path: cached[path][1]
        for path, (etag, _) in found.items()
        if path in cached and cached[path][0] == etag
    }
    unread = [path for path in found if path not in footers]
    new = {path: found[path] for path in unread}
    read, foreign = _read_footers(objects, table, new)
    found |= new
    footers |= read
    if footers.keys() != cached.keys() or read:
        with contextlib.suppress(StoreError):  # who may only read reads without it
            _save(objects, table, {path: (*found[path], footer) for path, footer in footers.items()})
    sound = {
        path: footer
        for path, footer in footers.items()
        if path not in damage or damage[path].etag != found[path][0]
    }
    stored, misplaced = _records(table, found, sound)
    foreign += [
        DamagedObjectError(path, damage[path].why) for path in footers if path not in sound
    ] + misplaced
    return stored, sorted(foreign, key=str)


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
    """As `survey`, of one market's cells in some months: one listing and their footers, however large the
    table is.
    """
    found = {
        stored.path: (stored.etag, stored.size) for stored in cells_of_market(objects, table, market, months)
    }
    footers, foreign = _read_footers(objects, table, found)
    stored, misplaced = _records(table, found, footers)
    return stored, foreign + misplaced


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


def _read_footers(
    objects: LakeObjects, table: type[Table], found: dict[str, tuple[str, int]]
) -> tuple[dict[str, str], list[NotALakeObjectError]]:
    """Footers by path, read in parallel, and what is no cell of the table; an object that is gone again is in
    neither.

    Of an object that was replaced since it was listed, etag and size in `found` become those of what is there
    now.
    """
    foreign: list[NotALakeObjectError] = []

    def read(path: str) -> str:
        try:
            parse_cell_path(table, path)
            etag, size, footer = _read_tail(objects, path, *listed[path])
        except NotALakeObjectError as error:
            foreign.append(error)
            return ""
        found[path] = etag, size
        return footer

    listed = dict(found)
    if not listed:
        return {}, []
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(listed))) as pool:
        footers = dict(zip(listed, pool.map(read, listed), strict=True))
    return {path: footer for path, footer in footers.items() if footer}, sorted(foreign, key=str)


def _records(
    table: type[Table], found: Mapping[str, tuple[str, int]], footers: Mapping[str, str]
) -> tuple[dict[Cell, CellRecord], list[NotALakeObjectError]]:
    """Records by cell, in order, and what is another cell than its path says."""
    stored, misplaced = [], []
    for path, footer in footers.items():
        try:
            stored.append(_record(table, parse_cell_path(table, path), path, *found[path], footer))
        except NotALakeObjectError as error:
            misplaced.append(error)
    return {
        record.key: record for record in sorted(stored, key=lambda record: record.key.sort_key)
    }, misplaced


def _record(
    table: type[Table], cell: Cell | None, path: str, etag: str, size: int, footer: str
) -> CellRecord:
    try:
        return CellRecord.from_footer(table, cell, path, etag, size, read_own_json(footer))
    except ForeignJsonError as error:
        raise NotALakeObjectError(path, f"the facts in its footer do not read ({error.why})") from None


def _listed(objects: LakeObjects, prefix: str) -> Iterable[tuple[str, str, int]]:
    for found in objects.list(prefix):
        if found.path.endswith(f"/{FILE}"):
            yield found.path, found.etag, found.size


def _read_tail(objects: LakeObjects, path: str, etag: str, size: int) -> tuple[str, int, str]:
    """Etag and size of an object, and its footer as JSON text, all of one version; the text is empty if the
    object is gone again.
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
                return etag, size, json.dumps(read_footer(path, tail))
            if needed > _LARGEST_FOOTER:
                raise NotALakeObjectError(path, f"its footer has {needed:,} bytes")
            length = needed
    except ChangedMeanwhileError:
        pass  # replaced since it was listed: whatever is there now is read whole
    held = objects.get_tagged(path)
    return (held[1], len(held[0]), json.dumps(read_footer(path, held[0]))) if held else (etag, size, "")


def _load(objects: LakeObjects, table: type[Table]) -> dict[str, tuple[str, str]]:
    body = objects.get(ledger_path(table))
    try:
        return parse_cache(ledger_path(table), body) if body is not None else {}
    except NotALakeObjectError:
        return {}  # a cache is only a cache


def parse_cache(path: str, body: bytes) -> dict[str, tuple[str, str]]:
    """Etags and footers by path, as a ledger object caches them; nothing if an earlier release wrote it.

    Raises:
        NotALakeObjectError: It is not as it was written.
    """
    if not check(path, body):
        return {}  # nothing says that it is as it was written
    require_small(path, body, max(_ALWAYS_READ, _RATIO * len(body)))
    with reading(path):
        cache = pl.read_parquet(io.BytesIO(body))
    if cache.schema != pl.Schema(_CACHE):
        return {}
    if odd := next(
        (
            cell
            for cell, etag, size, footer, sealed in cache.iter_rows()
            if sealed != _seal_of(cell, etag, size, footer)
        ),
        None,
    ):
        raise DamagedObjectError(path, f"its entry of {odd!a:.200} is not the one that was sealed")
    return {cell: (etag, footer) for cell, etag, footer in cache.select("path", "etag", "footer").iter_rows()}


def _seal_of(path: str, etag: str, size: int, footer: str) -> int:
    """The seal of an entry: its footer is that of this object in this version. Who edits one by itself, and
    seals the whole again, is not believed.
    """
    return int(crc32(f"{path}\0{etag}\0{size}\0{footer}".encode("utf-8", "replace")))


def _save(objects: LakeObjects, table: type[Table], entries: Mapping[str, tuple[str, int, str]]) -> None:
    sink = io.BytesIO()
    pl.DataFrame(
        [(path, *entry, _seal_of(path, *entry)) for path, entry in entries.items()],
        schema=_CACHE,
        orient="row",
    ).write_parquet(sink, compression="zstd", metadata={SEAL_KEY: HOLE})
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
    if table.shape == "months":  # one object for all markets, whose news is in footers as well as in rows
        return {
            f"{each.name}@{record.key}": record.facts.digest()
            for each in table.inputs
            for record in ledgers[each.name].values()
            if record.key.date in touched_dates(cell.date, each.table.grain)
        }
    inputs = {}
    for each in table.inputs:
        for source in each.cells(cell):
            record = ledgers[each.name].get(source)
            inputs[f"{each.name}@{source.date}"] = record.version if record else NONE
    if cell.market is not None and cell.market in facts:
        inputs["silver/market"] = facts[cell.market]
    return inputs


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
    return [_record(table, None, path, etag, size, footer) for path, etag, size, footer in read if footer]
