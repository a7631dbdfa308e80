"""`lakehouse backfill`: runs for others to make."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.console import build_progress
from lakehouse.cli.options import From, Markets, To, wanted_markets
from lakehouse.cli.reporting import Report, frame_of, reporting
from lakehouse.model.words import count_of

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from lakehouse.cli.backfilling import Backfill, Part
    from lakehouse.model.table import Table
    from lakehouse.pipeline.services import LakeServices

commands = typer.Typer()

_COLUMNS = ("run", "cells", "first", "last", "tables", "why")


@commands.command()
@reporting
def backfill(
    table: Annotated[
        str,
        typer.Argument(
            help="zone/table, such as silver/candle or gold/candle_1h; or a whole zone, such as gold"
        ),
    ],
    markets: Markets,
    start: From,
    end: To,
    cells: Annotated[
        int | None,
        typer.Option(
            help="Cells that a run may have; what a task holds and makes in minutes if left out.", min=1
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make the cells of TABLE again, whether they are due or not.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be submitted.")] = False,
    *,
    report: Report,
) -> None:
    """Submit what is due of a table and everything upstream of it to the instance's queue, as runs by
    rectangles of months and markets.

    Who takes runs from the queue makes them: `lakehouse ui` on this machine, or the tasks of a deployment.
    Run it again to submit what is left: what is done, queued or in progress is not submitted twice.
    """
    from lakehouse.cli.backfilling import plan_backfill
    from lakehouse.cli.building import Builder
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.planning import Plan, nobody_can_have
    from lakehouse.defs.partitions import MARKETS
    from lakehouse.defs.submitting import is_taken_from
    from lakehouse.defs.under_way import running
    from lakehouse.model.timerange import TimeRange
    from lakehouse.opening import open_lake
    from lakehouse.pipeline.sizes import most_cells
    from lakehouse.settings import Settings

    settings = Settings()
    wanted, span = wanted_markets(markets, ()), TimeRange.parse(start, end)
    lake = open_lake(settings)
    tables = lake.registry.named(table)
    lake.objects.check_writable()
    plan = Plan(lake, wanted, span)
    with open_instance(settings) as instance:
        if not dry_run:
            Builder(lake, instance).add_markets(plan)
        known = instance.get_dynamic_partitions(str(MARKETS.name))
        order = list(dict.fromkeys([*known, *(market.key for market in plan.markets)]))
        busy = running(instance, queued=True).values()
        found = plan_backfill(plan, tables, busy, order, cells or most_cells(), force)
        if dry_run:
            name, runs = "", [("", part) for part in found.parts]
        else:
            name, runs = _submitted(lake, instance, found, tables if force else [])
        is_taken = is_taken_from(instance)
    rows = [_row(run, part) for run, part in runs]
    notes = [*found.notes, *([str(why)] if (why := nobody_can_have(lake, tables, wanted)) else [])]
    document = {"runs": rows, "tag": name, "is_taken": is_taken, "busy": len(found.busy)}
    document |= {"rest": [asdict(cost) for cost in found.costs]}
    if report.document(document | {"waiting": found.waiting, "notes": notes}, "runs"):
        return
    none = "Nothing is due." if not found.busy else "Nothing else is due."
    frame = frame_of(rows, _COLUMNS)
    shown = frame.drop("run") if dry_run else frame
    report.table("To submit" if dry_run else "Submitted", shown, prose="why", empty=none, whole=frame)
    for note in notes:
        report.say(note, "note")
    _say_rest(found, report)
    for cost in found.costs:
        report.say(str(cost))
    what = f"{count_of(len(runs), 'run')} of {count_of(sum(len(part.cells) for _, part in runs), 'cell')}"
    if runs and dry_run:
        report.say(f"{what} would be submitted.")
    elif runs:
        report.say(f"Submitted {what}. Follow them at {settings.ui_url}/runs?q[0]=tag:{name}")
    if runs and not dry_run and not is_taken:
        who = "`lakehouse ui`, or the deployment's, does"
        report.say(f"No daemon takes runs from this queue now: {who}.", "note")


def _submitted(
    lake: "LakeServices", instance: "DagsterInstance", found: "Backfill", forced: "list[type[Table]]"
) -> "tuple[str, list[tuple[str, Part]]]":
    """Submit all runs, with progress; the tag that they have, and each with its id."""
    from uuid import uuid4

    from lakehouse.cli.backfilling import BACKFILL_TAG, submit_backfill
    from lakehouse.cli.instance import code_origin

    name, runs = uuid4().hex[:8], []
    with build_progress() as progress:
        progress.announce("submitted", sum(len(part.cells) for part in found.parts))
        for run, part in submit_backfill(lake, instance, found, name, forced, code_origin()):
            runs.append((run, part))
            progress.advance("submitted", len(part.cells))
    return f"{BACKFILL_TAG}={name}", runs


def _say_rest(found: "Backfill", report: Report) -> None:
    """Say what is not submitted, and why."""
    if count := len(found.busy):
        verb = "is" if count == 1 else "are"
        report.say(f"{count_of(count, 'cell')} {verb} queued or in progress already.", "note")
    if found.waiting:
        verb = "waits" if len(found.waiting) == 1 else "wait"
        report.say(
            f"{', '.join(found.waiting)} {verb} for cells of many runs: news carries on to them, and so does "
            "this command, run again when the runs have ended.",
            "note",
        )


def _row(run: str, part: "Part") -> dict[str, object]:
    return {
        "run": run[:8],
        "cells": len(part.cells),
        "first": str(part.cells[0]),
        "last": str(part.cells[-1]),
        "tables": len(part.tables),
        "why": part.why,
    }
