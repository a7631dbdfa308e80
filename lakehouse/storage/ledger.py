"""What a lake holds: the footers of a table's cells."""

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, overload

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    DamagedObjectError,
    ForeignFolderError,
    NotALakeObjectError,
    NothingStoredError,
    StoreError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import NONE
from lakehouse.model.table import Table
from lakehouse.storage.footers import ENTRIES, Entry, frame_of, load_cache, save_cache
from lakehouse.storage.layout import FILE, market_prefix, parse_cell_path, parse_cell_paths, table_prefix
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects, StoredObject
from lakehouse.storage.parquet import read_footer
from lakehouse.storage.seal import footer_size
from lakehouse.storage.tables import CellRecord
from lakehouse.storage.verification import known_damage

_TAIL = 16 * 1024
_AT_ONCE = 32  # requests in flight: on S3 they wait, they do not compute
_MUCH = 8  # a cache that lacks more than an eighth is written anew, also by who looks at a part of it
_FEW = 24  # cells whose footers are read sooner than the cache of a table is
_LARGEST_FOOTER = 32 << 20
_LARGEST_OBJECT = 1 << 30
NARROW = 16
"""Markets whose folders are listed one by one; of more, the whole table is."""

Ledger = Mapping[Cell, CellRecord]


class CellLedger(Ledger):
    """The stored cells of a table in order of market and time; a record is made when it is asked for.

    Args:
        entries: `ENTRIES`, with the market's key, empty where one object holds all markets, and the date.

    Attributes:
        frame: The entries in that order, for who asks about many cells at once and needs no records.
    """

    def __init__(self, entries: pl.DataFrame) -> None:
        self.frame = entries.sort("key", "date")
        self._made: dict[Cell, CellRecord] = {}

    @cached_property
    def _entries(self) -> Mapping[Cell, Entry]:
        cells = cells_of(self.frame)
        return dict(zip(cells, map(Entry._make, self.frame.select(ENTRIES.names()).rows()), strict=True))

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

    def of_markets(self, markets: Iterable[Market]) -> "CellLedger":
        """The cells of some markets."""
        return CellLedger(self.frame.filter(pl.col("key").is_in([market.key for market in markets])))

    def forget(self) -> None:
        """Let go of the records that were made; who asks again has them made again."""
        self._made.clear()
        self.__dict__.pop("_entries", None)

    def among(self, cells: Iterable[Cell]) -> "CellLedger":
        """Those of some cells that are stored."""
        return CellLedger(self.frame.join(places_of(cells), on=PLACE, how="semi"))

    def with_problems(self) -> "CellLedger":
        """The cells whose facts may name problems with their sources: of the others no record is made."""
        return CellLedger(self.frame.filter(~pl.col("facts").str.contains('"problems": []', literal=True)))

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
        return self.frame.height

    def keys(self) -> KeysView[Cell]:
        """The cells."""
        return self._entries.keys()


PLACE = ("key", "date")
"""The columns that tell a cell: its market's key, empty where one object holds all markets, and its date."""


def places_of(cells: Iterable[Cell]) -> pl.DataFrame:
    """The places of cells, a row for each."""
    places = [(cell.market.key if cell.market else "", cell.date) for cell in cells]
    return pl.DataFrame(places, dict.fromkeys(PLACE, pl.String), orient="row")


def cells_of(frame: pl.DataFrame) -> list[Cell]:
    """The cells of rows with a market's `key` and a `date`."""
    markets = {key: Market.parse(key) if key else None for key in frame["key"].unique()}
    return [Cell(date, markets[key]) for key, date in zip(frame["key"], frame["date"], strict=True)]


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


def survey(
    objects: LakeObjects,
    table: type[Table],
    markets: Collection[Market] | None = None,
    months: Collection[str] | None = None,
) -> Survey:
    """Every stored cell of a table, and the objects in its folder that are none: damaged, or put there by
    others.

    Right by construction: the store is listed, cached entries are used where the object's etag is unchanged,
    the footers of all others are read. Losing the cache costs time once.

    Args:
        objects: The lake's objects.
        table: The table.
        markets: The markets whose cells are wanted, None for all: of a few, only their folders are listed.
            A table whose objects hold all markets is surveyed whole.
        months: The months whose cells are wanted, None for all.
    """
    if markets is None or table.spread != "market":
        return _survey(objects, table, None, months)
    if len(markets) > NARROW:
        return narrowed(_survey(objects, table, None, months), table, markets)
    folders = [market_prefix(table, market) for market in dict.fromkeys(markets)]
    return _survey(objects, table, folders, months)


def narrowed(found: Survey, table: type[Table], markets: Collection[Market]) -> Survey:
    """What a survey of a table whose cells are markets' own found of some of them."""
    stored, foreign = found
    wanted = set(markets)
    return stored.of_markets(wanted), [error for error in foreign if _may_be_of(table, error, wanted)]


def _may_be_of(table: type[Table], error: NotALakeObjectError, markets: Collection[Market]) -> bool:
    try:
        cell = parse_cell_path(table, error.path)
    except NotALakeObjectError:
        return True
    return cell is None or cell.market in markets


def _survey(
    objects: LakeObjects, table: type[Table], folders: list[str] | None, months: Collection[str] | None
) -> Survey:
    """As `survey`, of the whole table or of some folders of markets.

    A survey of the whole table renews the cache: it alone knows what belongs there no more. One of some
    months adds what it read, where that is much.
    """
    cached, damage, *listed = objects.together(
        lambda: load_cache(objects, table, folders),
        lambda: known_damage(objects),
        *(
            lambda folder=folder: _listed(objects, folder, months)  # type: ignore[misc]
            for folder in ([table_prefix(table)] if folders is None else folders)
        ),
    )
    found = pl.concat(listed) if listed else _LISTED.to_frame()
    cached = cached.unique("path", keep="last")
    known = cached.filter(pl.col("rows") <= table.most_rows()).join(found, on=["path", "etag"], how="semi")
    unread = found.join(known, on="path", how="anti")
    read, foreign = _read_entries(objects, table, unread)
    entries = pl.concat([known, read])
    if folders is None:
        others = cached.clear() if months is None else cached.join(found, on="path", how="anti")
        is_known = entries.height == cached.height and not read.height
        if not is_known if months is None else read.height * _MUCH > others.height:
            with contextlib.suppress(StoreError):  # who may only read reads without it
                save_cache(objects, table, pl.concat([others, entries]))
    if damage:
        of = zip(entries["path"], entries["etag"], strict=True)
        damaged = [path for path, etag in of if path in damage and damage[path].etag == etag]
        foreign += [DamagedObjectError(path, damage[path].why) for path in damaged]
        entries = entries.filter(~pl.col("path").is_in(damaged))
    cells, misplaced = parse_cell_paths(table, entries["path"])
    return CellLedger(entries.join(cells, on="path")), sorted([*foreign, *misplaced], key=str)


def survey_few(
    objects: LakeObjects, table: type[Table], markets: Collection[Market], asked: Callable[[Cell], bool]
) -> tuple[list[CellRecord], list[NotALakeObjectError]] | None:
    """As `survey`, of the cells of some markets that are asked for, where they are few files: to read their
    footers takes less than to look them up in the cache.

    Args:
        objects: The lake's objects.
        table: A table whose cells are markets' own.
        markets: The markets whose cells are wanted.
        asked: Which of these.

    Returns:
        The records in the order of a ledger, and what is none of theirs; None where they are not few.
    """
    if not objects.is_local or len(markets) > NARROW:
        return None
    named, found, foreign = objects.only(FILE), list[CellRecord](), list[NotALakeObjectError]()
    damage = known_damage(objects)
    listed = []
    for market in dict.fromkeys(markets):
        for stored in named.list(market_prefix(table, market)):
            try:
                cell = parse_cell_path(table, stored.path)
            except NotALakeObjectError as error:
                foreign.append(error)
                continue
            if cell is not None and asked(cell):
                listed.append((cell, stored))
                if len(listed) > _FEW:
                    return None
    for cell, stored in listed:
        try:
            if (read := _read_record(objects, table, cell, *stored)) is None:
                continue
            record, _ = read
            if (known := damage.get(record.path)) is not None and known.etag == record.etag:
                raise DamagedObjectError(record.path, known.why)
            found.append(record)
        except NotALakeObjectError as error:
            foreign.append(error)
    return sorted(found, key=lambda record: record.key.sort_key), sorted(foreign, key=str)


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
        and not any((not markets or cell.market in markets) and cell.month in months for cell in cells)
    ):
        raise NothingStoredError(table, unknown or keys)


def survey_market(
    objects: LakeObjects, table: type[Table], market: Market, months: Collection[str]
) -> Survey:
    """As `survey`, of one market's cells in some months: one listing and their footers, without the cache,
    which holds all of the table.
    """
    listed = cells_of_market(objects, table, market, months)
    entries, foreign = _read_entries(objects, table, _frame_of(listed))
    cells, misplaced = parse_cell_paths(table, entries["path"])
    return CellLedger(entries.join(cells, on="path")), [*foreign, *misplaced]


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
    objects: LakeObjects, table: type[Table], listed: pl.DataFrame
) -> tuple[pl.DataFrame, list[NotALakeObjectError]]:
    """Entries of listed objects, from footers that are read in parallel, and what is no cell of the table or
    another cell than its path says; an object that is gone again is in neither.

    Of an object that was replaced since it was listed, the entry has what is there now.
    """
    foreign: list[NotALakeObjectError] = []

    def read(path: str, etag: str, size: int) -> Entry | None:
        try:
            found = _read_record(objects, table, parse_cell_path(table, path), path, etag, size)
        except NotALakeObjectError as error:
            foreign.append(error)
            return None
        return Entry.of(*found) if found is not None else None

    if listed.is_empty():
        return ENTRIES.to_frame(), []
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, listed.height)) as pool:
        entries = list(pool.map(read, listed["path"], listed["etag"], listed["size"]))
    return frame_of(entry for entry in entries if entry is not None), sorted(foreign, key=str)


def _read_record(
    objects: LakeObjects, table: type[Table], cell: Cell | None, path: str, etag: str, size: int
) -> tuple[CellRecord, Mapping[str, Any]] | None:
    """The record of a listed object, and its footer; None if the object is gone again."""
    etag, size, footer = _read_tail(objects, path, etag, size)
    if footer is None:
        return None
    return CellRecord.from_footer(table, cell, path, etag, size, footer), footer


_LISTED = pl.Schema({"path": pl.String(), "etag": pl.String(), "size": pl.Int64()})


def _listed(objects: LakeObjects, prefix: str, months: Collection[str] | None = None) -> pl.DataFrame:
    """The objects below a folder that may be cells, of some months or of all."""
    return _frame_of(objects.only(FILE, months).list(prefix))


def _frame_of(listed: Iterable[StoredObject]) -> pl.DataFrame:
    columns = zip(*listed, strict=True)
    return pl.DataFrame(dict(zip(_LISTED, columns, strict=False)) or None, _LISTED)


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
    if (kept := objects.footers.of(path, etag, size)) is not None:
        return etag, size, kept
    try:
        while size:
            tail = objects.get_of(path, etag, size - length, size)
            if not len(tail) < (needed := footer_size(tail)) <= size:
                footer = read_footer(path, tail)
                if not objects.is_local:
                    objects.footers.keep(path, etag, size, footer)
                return etag, size, footer
            if needed > _LARGEST_FOOTER:
                raise NotALakeObjectError(path, f"its footer has {needed:,} bytes")
            length = needed
    except ChangedMeanwhileError:
        pass  # replaced since it was listed: whatever is there now is read whole
    held = objects.get_tagged(path)
    return (held[1], len(held[0]), read_footer(path, held[0])) if held else (etag, size, None)


def records(objects: LakeObjects, table: type[Table]) -> list[CellRecord]:
    """What is stored of any table, a record per object."""
    if table.spread != "one":
        return list(ledger(objects, table).values())
    read = [
        _read_record(objects, table, None, *listed) for listed in _listed(objects, table_prefix(table)).rows()
    ]
    return [found[0] for found in read if found is not None]
