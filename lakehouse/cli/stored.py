"""`lakehouse verify --stored`: every stored byte is held against what the lake says of it, and what is
damaged is made again from what is stored.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg

from lakehouse.cli.building import Builder
from lakehouse.cli.layout import ROWS_SHOWN
from lakehouse.cli.reporting import Report, frame_of
from lakehouse.datasets.market import MarketTable
from lakehouse.defs.io_manager import cell_event
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ForeignJsonError, LakehouseError, NotALakeObjectError
from lakehouse.model.foreign_json import read_own_json
from lakehouse.model.result import CellFacts
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.ops.stored import Inspection, Meant, inspect_lake
from lakehouse.pipeline.derived import touched
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.services import LakeServices
from lakehouse.sources.files.ingest import reingest
from lakehouse.storage.footers import entries_of, load_cache
from lakehouse.storage.layout import parse_cell_path, set_aside_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.parquet import read_footer
from lakehouse.storage.verification import Damage, Verification, load_verification, save_verification

REST_LOST = (
    "what REST answered is kept nowhere else; it was moved to {}. The next `lakehouse build` asks again what "
    "is in doubt, `lakehouse verify` all of it"
)
LANDING_LOST = "it was moved to {}; the next build that needs the file fetches it again"


@dataclass
class StoredReport:
    """What a verification of stored bytes found and did.

    Attributes:
        inspection: What was looked at, and what is damaged.
        repaired: Paths that were made again, or are no longer needed, with how.
        left: What is still damaged, with why.
        catalog: Tables whose catalog entry differs from what is stored, with how.
        concerned: Tables of which something is damaged, or was when it was looked at before: what their
            checks said of it has changed.
    """

    inspection: Inspection
    repaired: dict[str, str] = field(default_factory=dict)
    left: list[Damage] = field(default_factory=list)
    catalog: dict[str, str] = field(default_factory=dict)
    concerned: list[type[Table]] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged any more."""
        return not self.left and not self.catalog


def verify_stored(lake: LakeServices, meant: Meant, progress: Callable[[str], None]) -> StoredReport:
    """Look at every stored byte, and record what is found, so that builds, `status`, `quality` and checks
    know of it.
    """
    inspection = inspect_lake(lake.objects, lake.registry, lake.exchanges, meant, progress)
    earlier = load_verification(lake.objects)
    looked_at = {one.path for one in inspection.damage}
    # Of what this verification was not meant to look at, the one before still stands.
    unseen = (
        [one for one in earlier.damage if one.path not in looked_at and not _is_meant(lake, one, meant)]
        if earlier
        else []
    )
    report = StoredReport(inspection, left=[*inspection.damage, *unseen], catalog=_catalog_differences(lake))
    report.concerned = _concerned(lake, [*report.left, *(earlier.damage if earlier else ())])
    _record(lake, report)
    return report


def _concerned(lake: LakeServices, damage: Iterable[Damage]) -> list[type[Table]]:
    """The tables whose checks tell of damaged objects: for files of landing those that are read from them."""
    folders = {"/".join(one.path.split("/")[:2]) for one in damage}
    if any(folder.startswith("landing/") for folder in folders):
        folders |= {dataset.archive.name for dataset in lake.registry.datasets}
    return [table for table in lake.registry.tables if table.name in folders]


def check_again(lake: LakeServices, instance: dg.DagsterInstance, report: StoredReport) -> None:
    """Let checks say what was found, or that it is mended: nothing was written that would have them run."""
    Builder(lake, instance, why="lakehouse verify").run_checks(report.concerned)


def _is_meant(lake: LakeServices, one: Damage, meant: Meant) -> bool:
    try:
        found = _cell_of(lake, one)
        return found is None or meant(found[1])
    except NotALakeObjectError:
        return True


def _record(lake: LakeServices, report: StoredReport) -> None:
    save_verification(
        lake.objects,
        Verification(
            lake.clock(), dict(report.inspection.checked), report.inspection.unsealed, tuple(report.left)
        ),
    )


def _catalog_differences(lake: LakeServices) -> dict[str, str]:
    differing = {}
    for table in lake.registry.tables if lake.catalog else ():
        if table.zone() == "bronze" or lake.catalog is None:
            continue
        try:
            stored = [] if table.spread == "one" else list(lake.ledger(table.name).values())
            found = lake.catalog.differences(table, stored)
        except LakehouseError as error:
            differing[table.name] = str(error)
            continue
        if found.wrote:
            said = {
                "to add": len(found.added),
                "to update": len(found.updated),
                "to remove": len(found.removed),
            }
            differing[table.name] = ", ".join(
                [f"table {found.table_change}"] * (found.table_change != "unchanged")
                + [f"{count:,} {what}" for what, count in said.items() if count]
            )
    return differing


# --- repair ---------------------------------------------------------------------------------------


def repair(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    report: StoredReport,
    announce: Callable[[str, int], None],
) -> None:
    """Make again what is damaged, from what is stored, and say of the rest why it cannot be. No exchange is
    asked.

    What is damaged counts as absent for every build since it was recorded. An object that cannot be made
    again is moved out of the way, never deleted, where the next build can do without it; else it stays, and
    who reads it gets its error.
    """
    footers = _earlier_footers(lake)
    why: dict[str, str] = {}
    cells: dict[type[Table], list[Cell]] = {}
    for one in report.left:
        try:
            found = _cell_of(lake, one)
        except NotALakeObjectError:
            why[one.path] = "it lies where no cell does: remove it by hand"
            continue
        if found is None:
            report.repaired |= _mend_beside_cells(lake, one)
            continue
        table, cell = found
        if cell:
            cells.setdefault(table, []).append(cell)
        if table is MarketTable:
            why[one.path] = (
                "it is made from what exchanges say: `lakehouse markets add` with the lake's markets asks "
                "them again"
            )
        elif table.zone() == "bronze" and cell:
            how, failed = _mend_bronze(lake, instance, table, cell, one, footers)
            report.repaired |= {one.path: how} if how else {}
            why |= {one.path: failed} if failed else {}
    builder = Builder(lake, instance, announce, "lakehouse verify")
    for built in builder.build_derived(_derived(lake, cells)):
        why |= {f"{built.table} {name}": reason for name, reason in built.failed.items()}
    left = []
    for one in report.left:
        found_now = lake.objects.get_tagged(one.path)
        if (found_now[1] if found_now else "") == one.etag:
            left.append(replace(one, left=why.get(one.path) or _why_not(lake, one, why)))
        else:
            report.repaired.setdefault(one.path, "made again from what is stored")
    report.left, report.catalog = left, _catalog_differences(lake)
    _record(lake, report)


def _cell_of(lake: LakeServices, one: Damage) -> tuple[type[Table], Cell | None] | None:
    """The table and cell of a damaged object; None for one of landing, or a cache.

    Raises:
        NotALakeObjectError: It lies in a table's folder, where no cell does.
    """
    tables = {table.name: table for table in lake.registry.tables}
    table = tables.get("/".join(one.path.split("/")[:2]))
    return (table, parse_cell_path(table, one.path)) if table else None


def _earlier_footers(lake: LakeServices) -> dict[str, dict[str, Any]]:
    """Footers that ledgers still have of objects as they were before."""
    found: dict[str, dict[str, Any]] = {}
    for table in lake.registry.tables:
        for path, entry in entries_of(load_cache(lake.objects, table)).items():
            with contextlib.suppress(ForeignJsonError):
                found[path] = {"inputs": read_own_json(entry.inputs), "facts": read_own_json(entry.facts)}
    return found


def _mend_beside_cells(lake: LakeServices, one: Damage) -> dict[str, str]:
    if one.path.startswith("ledger/"):
        lake.objects.delete(one.path)
        return {one.path: "removed: it only caches what footers say"}
    if not one.etag:
        return {}  # it is not there: nothing to move
    aside = set_aside_path(one.path)
    lake.objects.move(one.path, aside)
    return {one.path: LANDING_LOST.format(aside)}


def _mend_bronze(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    table: type[Table],
    cell: Cell,
    one: Damage,
    footers: Mapping[str, Mapping[str, object]],
) -> tuple[str, str]:
    """How a bronze cell was mended, or why it could not be."""
    dataset = next(dataset for dataset in lake.registry.datasets if table in dataset.bronze)
    if table is not dataset.archive:
        aside = set_aside_path(one.path)
        lake.objects.move(one.path, aside)
        return REST_LOST.format(aside), ""
    try:
        footer = _own_footer(lake, one, footers)
        asked_until = CellFacts.from_json(footer["facts"]).asked_until if footer else None
        has, exchange = Inventory(lake), lake.exchange(cell.own_market)
        change = reingest(
            dataset,
            exchange,
            cell,
            has.known.get(cell.own_market),
            lake.objects,
            has.witness(dataset, cell),
            asked_until,
            footer["inputs"] if footer else None,
        )
        record = lake.tables.put(table, cell, change(None))
    except LakehouseError as error:
        return "", str(error)
    instance.report_runless_asset_event(cell_event(lake, table, cell, record))
    return "made again from landing", ""


def _own_footer(
    lake: LakeServices, one: Damage, footers: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What a damaged cell said of itself, by its own footer or a ledger's copy of it; nothing where neither
    reads.
    """
    try:
        footer = read_footer(one.path, lake.objects.get(one.path) or b"")
        table, cell = _cell_of(lake, one) or (None, None)
        if table and (footer["table"], footer["cell"]) == (table.name, str(cell)):
            return footer
    except (NotALakeObjectError, KeyError):
        pass  # the ledger may still know
    return footers.get(one.path, {})


def _derived(lake: LakeServices, damaged: Mapping[type[Table], list[Cell]]) -> dict[type[Table], list[Cell]]:
    """The silver and gold cells to look at: those that are damaged, and those stored that are made from
    damaged ones.
    """
    sources = [cell for cells in damaged.values() for cell in cells]
    found = {}
    for table in lake.registry.tables:
        if table.zone() != "bronze" and table.spread != "one":
            stored = touched(table, ledger(lake.objects, table), sources)
            found[table] = sorted({*stored, *damaged.get(table, ())}, key=lambda cell: cell.sort_key)
    return {table: cells for table, cells in found.items() if cells}


def _why_not(lake: LakeServices, one: Damage, why: Mapping[str, str]) -> str:
    found = _cell_of(lake, one)
    return (
        why.get(f"{found[0].name} {found[1]}", "nothing that it is made from is stored")
        if found
        else "the next build that needs the file fetches it again"
    )


# --- saying it ------------------------------------------------------------------------------------


def print_stored(found: StoredReport, was_repaired: bool, report: Report) -> None:
    """Say what a verification of stored bytes found."""
    damage = [
        {"path": one.path, "what": one.why, "became": found.repaired.get(one.path, "")}
        for one in found.inspection.damage
    ]
    left = {one.path: one.left for one in found.left}
    for one in damage:
        one["became"] = one["became"] or (left.get(one["path"], "") and f"not repaired: {left[one['path']]}")
    counts = {"checked": dict(found.inspection.checked), "unsealed": found.inspection.unsealed}
    if report.document(counts | {"damaged": damage, "left": len(found.left), "catalog": found.catalog}):
        return
    checked = [{"what": what, "checked": count} for what, count in found.inspection.checked.items()]
    report.table("Stored objects", frame_of(checked, ("what", "checked")))
    if found.inspection.unsealed:
        report.say(
            f"{count_of(found.inspection.unsealed, 'object')} of an earlier release without a seal: their "
            "bytes prove nothing. A rebuild seals them."
        )
    for one in damage[:ROWS_SHOWN]:
        became = f". {one['became']}" if one["became"] else ""
        report.say(f"{one['path']}: {one['what']}{became}", "damaged")
    if len(damage) > ROWS_SHOWN:
        report.say(f"The first {ROWS_SHOWN} of {len(damage):,}; --json has all.")
    for table, how in found.catalog.items():
        report.say(f"{table} differs from what is stored: {how}", "catalog")
    if found.is_sound:
        sound = (
            "Everything stored is as it was written."
            if not found.inspection.unsealed
            else "Nothing that can be checked is damaged."
        )
        report.say("Everything that was found damaged is mended." if damage else sound)
    elif not was_repaired:
        report.say(
            f"{count_of(len(found.left), 'object')} damaged: --repair makes them again from what is stored, "
            "where that can be."
        )
    else:
        report.say(
            f"{count_of(len(found.left), 'object')} could not be made again; who reads them gets an error."
        )
