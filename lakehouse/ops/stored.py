"""Verifying what is stored, byte by byte, without asking anybody: what is damaged, misplaced, or breaks its
declaration.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import DamagedObjectError, NotALakeObjectError
from lakehouse.model.table import Table
from lakehouse.registry import Registry
from lakehouse.storage.footers import Entry, entries_of, parse_cache
from lakehouse.storage.landing import Landing
from lakehouse.storage.layout import FILE, ledger_path, parse_cell_path, quarantine_path, table_prefix
from lakehouse.storage.objects import LakeObjects, StoredObject
from lakehouse.storage.parquet import check_version, decode
from lakehouse.storage.seal import check
from lakehouse.storage.tables import CellRecord, read_quarantine
from lakehouse.storage.verification import Damage

_AT_ONCE = 8  # bodies in memory at a time
Meant = Callable[[Cell | None], bool]
Progress = Callable[[str], None]


@dataclass
class Inspection:
    """What was looked at, and what is wrong with it.

    Attributes:
        checked: Objects looked at, by what they are.
        unsealed: Those that carry no seal, so that of their bytes nothing is proven.
        damage: What is damaged.
    """

    checked: Counter[str] = field(default_factory=Counter)
    unsealed: int = 0
    damage: list[Damage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Look:
    stored: StoredObject
    is_sealed: bool = True
    record: CellRecord | None = None
    entry: Entry | None = None
    damage: Damage | None = None


def inspect_lake(
    objects: LakeObjects,
    registry: Registry,
    exchanges: Iterable[str],
    meant: Meant = lambda cell: True,
    progress: Progress = lambda what: None,
) -> Inspection:
    """Look at every byte of a lake.

    Seals; versions, against the rows and the schema they were made with; row rules; footers against paths,
    cached footers against footers; quarantine against what its cell says; landing against hashes.

    Args:
        objects: The lake's objects.
        registry: The declared tables.
        exchanges: Whose landing.
        meant: Which cells to look at; landing and ledgers are looked at whole.
        progress: Told of every object that was looked at, by what it is.

    Raises:
        StoreError: The store does not answer.
    """
    found = Inspection()
    for table in registry.tables:
        _inspect_table(objects, table, meant, found, progress)
    for exchange in exchanges:
        landing = Landing(objects, exchange).inspect()
        found.checked["landing"] += landing.checked
        found.unsealed += landing.unsealed
        found.damage.extend(landing.damage)
        progress("landing")
    found.damage.sort(key=lambda one: one.path)
    return found


def _inspect_table(
    objects: LakeObjects, table: type[Table], meant: Meant, found: Inspection, progress: Progress
) -> None:
    quarantined = {stored.path: stored for stored in objects.list(f"quarantine/{table_prefix(table)}")}

    def look(stored: StoredObject) -> _Look:
        try:
            cell = parse_cell_path(table, stored.path)
            body = objects.get(stored.path)
            if body is None:
                return _Look(stored)
            is_sealed, (rows, footer) = check(stored.path, body), decode(stored.path, body)
            record = CellRecord.from_footer(table, cell, stored.path, stored.etag, stored.size, footer)
            check_cell(table, record, body, rows)
            if record.reject_count:
                _check_quarantine(objects, table, record)
            return _Look(stored, is_sealed, record, Entry.of(record, footer))
        except NotALakeObjectError as error:
            return _Look(stored, damage=Damage(stored.path, stored.etag, error.why))

    def is_asked(stored: StoredObject) -> bool:
        try:
            return meant(parse_cell_path(table, stored.path))
        except NotALakeObjectError:
            return True

    listed = [
        stored
        for stored in objects.list(table_prefix(table))
        if stored.path.endswith(f"/{FILE}") and is_asked(stored)
    ]
    entries: dict[str, Entry] = {}
    for one in _each(look, listed):
        found.checked[table.name] += 1
        found.unsealed += not one.is_sealed
        if one.damage:
            found.damage.append(one.damage)
        if one.record and one.entry:
            entries[one.stored.path] = one.entry
            found.checked["quarantine"] += one.record.reject_count > 0
            kept = quarantined.get(quarantine_path(table, one.record.cell))
            if kept and not one.record.reject_count:
                found.damage.append(
                    Damage(
                        one.stored.path,
                        one.stored.etag,
                        "its quarantine holds rows, and it says that none was rejected",
                    )
                )
        progress(table.name)
    _inspect_ledger(objects, table, entries, found)


def check_cell(table: type[Table], record: CellRecord, body: bytes, rows: pl.DataFrame) -> None:
    """Hold the rows of a cell against what its footer says of them, and against the rules of the declaration.

    Columns that were appended to the declaration since are not asked for; of a cell of an incompatible older
    declaration only the rows' own version is held.

    Raises:
        DamagedObjectError: Something does not agree.
    """
    made_with = check_version(record.path, body)
    if rows.height != record.rows:
        raise DamagedObjectError(
            record.path, f"its footer says {record.rows:,} rows, it holds {rows.height:,}"
        )
    declared = table.polars_schema()
    if (
        made_with is not None and not table.schema_text().startswith(made_with)
    ) or rows.columns != declared.names()[: rows.width]:
        return
    if broken := broken_rules(table, rows):
        raise DamagedObjectError(record.path, f"its rows break {', '.join(broken)}")


def broken_rules(table: type[Table], rows: pl.DataFrame) -> list[str]:
    """The rules of a declaration that rows break, by its pandera schema; rules of columns that the rows lack
    are left out.
    """
    from pandera.errors import SchemaErrors

    try:
        table.pandera_schema(rows.columns).validate(rows, lazy=True)
    except SchemaErrors as error:
        return sorted(
            {
                str(one.check or one.reason_code) if not hasattr(one.check, "name") else str(one.check.name)
                for one in error.schema_errors
            }
        )
    return []


def _check_quarantine(objects: LakeObjects, table: type[Table], record: CellRecord) -> None:
    """Raise in the name of the cell: it is made again, and its quarantine with it."""
    path = quarantine_path(table, record.cell)
    body = objects.get(path)
    if body is None:
        raise DamagedObjectError(
            record.path, f"its {record.reject_count:,} rejected rows are gone from quarantine"
        )
    try:
        rows = read_quarantine(table, record.cell, path, body)
        check_version(path, body)
    except NotALakeObjectError as error:
        raise DamagedObjectError(record.path, f"its quarantine is damaged: {error.why}") from None
    if rows.height != record.reject_count:
        raise DamagedObjectError(
            record.path,
            f"it says that {record.reject_count:,} rows were rejected, its quarantine holds {rows.height:,}",
        )


def _inspect_ledger(
    objects: LakeObjects, table: type[Table], entries: Mapping[str, Entry], found: Inspection
) -> None:
    """The cache of a table's footers, held against the footers of objects as they are now."""
    path = ledger_path(table)
    held = objects.get_tagged(path)
    if held is None:
        return
    body, etag = held
    found.checked["ledger"] += 1
    try:
        cached = entries_of(parse_cache(path, body))
        wrong = [
            cell
            for cell, entry in entries.items()
            if cell in cached and cached[cell].etag == entry.etag and cached[cell] != entry
        ]
        if wrong:
            raise DamagedObjectError(path, f"it says something else of {wrong[0]} than that says itself")
    except NotALakeObjectError as error:
        found.damage.append(Damage(path, etag, error.why))


def _each(look: Callable[[StoredObject], _Look], listed: Sequence[StoredObject]) -> Iterator[_Look]:
    rest = iter(listed)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while some := list(islice(rest, _AT_ONCE * 4)):
            yield from pool.map(look, some)
