"""`lakehouse backfill`: what is due of a table and everything upstream of it, as runs in the instance's
queue.

A run covers a rectangle of months and markets through all tables that have such cells, from source to gold,
so that no run waits for another. Tables of all markets are made of what many runs store: they are submitted
once nothing above them is due or under way. Where REST alone can tell the past of a market, the runs are by
years, the newest first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg

from lakehouse.cli.planning import Plan
from lakehouse.definitions import build_definitions
from lakehouse.defs.assets import FORCE_TAG
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.defs.submitting import submit
from lakehouse.defs.under_way import WHY_TAG, Cells
from lakehouse.model.cell import Cell
from lakehouse.model.table import Table
from lakehouse.pipeline.costs import Cost, alone, costs
from lakehouse.pipeline.reasons import summed_up, words_for
from lakehouse.pipeline.recipe import Recipe
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.rectangles import rectangles
from lakehouse.pipeline.services import LakeServices

BACKFILL_TAG = "lakehouse/backfill"
"""Of the runs of one command: what they are found by in the UI."""

FORCED = "asked for by force"


@dataclass(frozen=True, slots=True)
class Part:
    """One run to be submitted.

    Attributes:
        tables: What it makes, upstream first.
        cells: Its rectangle.
        why: Why these cells are made.
    """

    tables: tuple[type[Table], ...]
    cells: tuple[Cell, ...]
    why: str


@dataclass
class Backfill:
    """What there is to submit.

    Attributes:
        parts: The runs.
        busy: Cells left to runs that are queued or in progress.
        waiting: Tables of which something is or will be due, but that others are still to be made for.
        costs: What is to be asked of REST APIs that alone can tell it.
        notes: What else there is to say.
    """

    parts: list[Part] = field(default_factory=list)
    busy: set[Cell] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_backfill(
    plan: Plan,
    tables: Sequence[type[Table]],
    under_way: Iterable[Cells],
    order: Sequence[str],
    most: int,
    is_forced: bool = False,
) -> Backfill:
    """Tell what a backfill of some tables comes to.

    Args:
        plan: Of the markets and months that are asked for.
        tables: What is asked for; what is upstream of them comes with them.
        under_way: The cells that runs are going to write.
        order: Market keys in insertion order.
        most: Cells that a run may have.
        is_forced: Whether the cells of `tables` are made whether they are due or not.
    """
    found, registry = Backfill(), plan.has.lake.registry
    months, early = plan.cells
    found.notes += [str(error) for error in early.values()]
    busy = [cells for one in under_way for cells in one.items()]
    blocked = dict[type[Table], bool]()  # whether something of it is still to be made
    upstream = [table for table in registry.upstream(tables) if table.spread != "one"]
    groups: dict[tuple[str, str], dict[type[Table], dict[Cell, str]]] = {}
    by_rest: dict[Recipe, list[Cell]] = {}
    for table in upstream:
        recipe = recipes(registry)[table]
        covered = recipe.covered(plan.has, months)
        told = recipe.told(plan.has, covered)
        words = words_for(recipe, plan.has, told.reasons) | dict.fromkeys(told.untold, "cannot be told yet")
        if is_forced and table in tables:
            words = dict.fromkeys(covered, FORCED) | words
        kind = (table.spread, table.grain)
        above = [registry.by_name[name] for name in table.input_names() if name in registry.by_name]
        waits = any(blocked.get(one) and (one.spread, one.grain) != kind for one in above)
        theirs = {cell for name, cells in busy if name == table.name for cell in cells}
        blocked[table] = waits or bool(words) or bool(theirs) or any(blocked.get(one) for one in above)
        if waits:
            found.waiting.append(table.name)
        else:
            groups.setdefault(kind, {})[table] = words
            by_rest[recipe] = [cell for cell in alone(plan.has, recipe, words) if cell not in theirs]
    found.costs = costs(plan.has, by_rest)
    histories = {cell.market for cells in by_rest.values() for cell in cells}
    for group in groups.values():
        names = {table.name for table in group}
        theirs = {cell for name, cells in busy if name in names for cell in cells}
        wanted = {cell for words in group.values() for cell in words}
        found.busy |= wanted & theirs
        by_year: dict[str, set[Cell]] = {}
        for cell in wanted - theirs:
            by_year.setdefault(cell.date[:4] if cell.market in histories else "", set()).add(cell)
        for year in sorted(by_year, reverse=True):
            found.parts += [_part(group, cells) for cells in rectangles(by_year[year], order, most)]
    return found


def submit_backfill(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    backfill: Backfill,
    name: str,
    forced: Sequence[type[Table]] = (),
    origin: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, Part]]:
    """Queue the runs of a backfill, one after another: the first is made while others are still to be queued,
    for every cell of every table is an event that says it is planned.

    Args:
        lake: The lake.
        instance: The instance.
        backfill: What to submit.
        name: What they are found by.
        forced: Tables whose cells are made whether they are due or not.
        origin: Where the code of runs is.

    Yields:
        The id of each run, and what it makes.
    """
    job = build_definitions(lake).resolve_implicit_global_asset_job_def()
    order = instance.get_dynamic_partitions(str(MARKETS.name))
    for part in backfill.parts:
        force = ",".join(table.name for table in part.tables if table in forced)
        # of a rectangle it is one, unless somebody has put markets between its own meanwhile
        for tags, covered in range_tags(part.cells, order):
            tags |= {WHY_TAG: part.why, BACKFILL_TAG: name} | ({FORCE_TAG: force} if force else {})
            run_id = submit(instance, job, part.tables, tags, origin or {})
            yield run_id, replace(part, cells=tuple(covered))


def _part(group: Mapping[type[Table], Mapping[Cell, str]], cells: Sequence[Cell]) -> Part:
    """A run: the tables of a group of which some of its cells are due, and those that are made from them."""
    made: list[type[Table]] = []
    why: dict[Cell, str] = {}
    names = set[str]()
    for table, words in group.items():
        due = {cell: words[cell] for cell in cells if cell in words}
        if due or not names.isdisjoint(table.input_names()):
            made.append(table)
            names.add(table.name)
            why = due | why  # the first table upstream says best why
    return Part(tuple(made), tuple(cells), summed_up(why))
