"""What the sensors decide, in plain values: which cells to ask for now. Runs nothing and writes nothing.

Of what depends on each other the first that is due is asked for: what lies below it follows by itself (see
`automation`), so a cell has one run per table and REST is asked once.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lakehouse.model.cell import Cell
from lakehouse.model.errors import ListingUnreachableError
from lakehouse.model.input import touched_dates
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.ops.attempts import FIRST_WAIT, Attempt, Attempts
from lakehouse.pipeline.files import FromFiles
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.reasons import words_for
from lakehouse.pipeline.recipe import Recipe
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.windows import begun_months, in_grain, open_months

WINDOW = timedelta(days=45)
"""How far back every round of listings looks."""

SWEEP = timedelta(days=7)
"""How often a round looks at everything that is stored."""

_SECONDS = 20.0  # for listings in one tick; Dagster gives a tick a minute
_AT_ONCE = 16  # markets between two looks at the time
_SOON = timedelta(
    minutes=5
)  # what failed is repeated then, and after twice the wait each time it fails again
_MOST = 400  # cells that one tick repeats
# fractions of its multiples lie as far from each other as can be, however many there are
_GOLDEN = (5**0.5 - 1) / 2

Busy = Mapping[str, Collection[Cell]]
"""The cells that queued or running runs are going to write, by table."""

Wanted = Mapping[Market, Mapping[Recipe, list[Cell]]]
"""The cells that a tick looks for, by market and recipe."""


@dataclass
class Tick:
    """What a tick asks for.

    Attributes:
        wanted: The cells by table, each with its attempt.
        why: Why they are due, in words, by table and cell.
        waiting: By table, how many cells are due and wait for their next attempt, and when the first is.
        notes: What kept it from seeing everything.
        has: What it looked at; None where it looked at nothing.
    """

    wanted: dict[type[Table], dict[Cell, Attempt]] = field(default_factory=dict)
    why: dict[type[Table], dict[Cell, str]] = field(default_factory=dict)
    waiting: dict[type[Table], tuple[int, datetime]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has: Inventory | None = None


def candles_closed(lake: LakeServices, universe: Iterable[Market], busy: Busy, attempts: Attempts) -> Tick:
    """The bronze cells of the open month and the one before for which there is something new.

    Args:
        lake: The lake.
        universe: The markets; one that nothing is known of yet is left out.
        busy: Cells whose runs are under way: they are looked at when these are done.
        attempts: What was asked for before.
    """
    has = Inventory(lake, universe)
    tick, months = Tick(has=has), open_months(has)
    remembered: set[str] = set()
    for dataset in lake.registry.datasets:
        under_way = {cell for table in dataset.bronze for cell in busy.get(table.name, ())}
        held: set[Cell] = set()
        for table in dataset.bronze:
            recipe, cells = recipes(lake.registry)[table], in_grain(table, months, has)
            waiting = [cell for cell in cells if cell in under_way]
            idle = [cell for cell in cells if cell not in under_way]
            if recipe.asks_outside:
                _look_soon(has, _by_market(recipe, _turned(idle, has.now)), tick)
            due = recipe.due(has, idle)
            # whether the latter two are over, nobody has looked
            remembered |= {f"{table.name} {cell}" for cell in (*due.reasons, *due.untold, *waiting)}
            free = {cell: why for cell, why in due.reasons.items() if cell not in held}
            wanted = _ask(tick, has, recipe, free, attempts)
            # what came to nothing before holds up nobody
            held |= {cell for cell, attempt in wanted.items() if attempt.tries == 1}
    attempts.forget(lambda name: name not in remembered)
    return tick


@dataclass
class Round:
    """How far a round of listings has come.

    Attributes:
        after: The market it goes on behind; empty where a new round begins.
        is_full: Whether this round looks at everything that is stored.
        full_at: When the last such round began.
    """

    after: str = ""
    is_full: bool = False
    full_at: datetime | None = None


def archive_published(
    lake: LakeServices, universe: Iterable[Market], busy: Busy, attempts: Attempts, progress: Round
) -> Tick:
    """The stored bronze cells whose files are no longer those they were made from.

    Cells of the open month and the one before are `candles_closed`'s, and are asked for here only if they are
    still due at the next tick.

    Args:
        lake: The lake.
        universe: The markets.
        busy: Cells whose runs are under way.
        attempts: What was asked for before.
        progress: How far the round has come; moved on.
    """
    has = Inventory(lake, (market for market in universe if market.key > progress.after))
    tick = Tick(has=has)
    if not progress.after:
        progress.is_full = progress.full_at is None or has.now - progress.full_at >= SWEEP
        progress.full_at = has.now if progress.is_full else progress.full_at
    since = "" if progress.is_full else f"{has.now - WINDOW:%Y-%m}"
    from_files = [recipe for recipe in recipes(lake.registry).values() if isinstance(recipe, FromFiles)]
    wanted: dict[Market, dict[Recipe, list[Cell]]] = {market: {} for market in sorted(has.markets or ())}
    for recipe in from_files:
        for market, months in begun_months(has, recipe.dataset).items():
            recent = [month for month in months if month.date >= since]
            wanted[market][recipe] = in_grain(recipe.table, recent, has)
    looked = _look_soon(has, wanted, tick)
    progress.after = (
        "" if len(looked) == len(wanted) else max((market.key for market in looked), default=progress.after)
    )
    months = open_months(has)
    for recipe in from_files:
        table, still_open = recipe.table, set(in_grain(recipe.table, months, has))
        listings = has.listings.get(table.name, {})
        under_way = busy.get(table.name, ())
        seen = [
            cell
            for market in looked
            if market in listings
            for cell in wanted[market].get(recipe, ())
            if cell not in under_way
        ]
        due = recipe.published(has, seen)
        over = {f"{table.name} {cell}" for cell in seen if cell not in due}
        attempts.forget(over.__contains__)
        closed = {cell: why for cell, why in due.items() if cell not in still_open}
        _ask(tick, has, recipe, closed, attempts)
        begun = {cell: why for cell, why in due.items() if cell in still_open}
        _ask(tick, has, recipe, begun, attempts, sightings=2)
    return tick


def failed_cells(lake: LakeServices, universe: Iterable[Market], busy: Busy, attempts: Attempts) -> Tick:
    """Cells of any table that stay due although nothing is under way for them: what a failed run, or a lost
    one, has left behind.

    A cell waits for those it is made from. What the open months wait for at REST is `candles_closed`'s.

    Args:
        lake: The lake.
        universe: The markets.
        busy: Cells whose runs are under way.
        attempts: What was asked for before.
    """
    tick, has = Tick(), Inventory(lake, universe)
    ahead: dict[str, set[Cell]] = {}
    due: set[str] = set()
    left = _MOST
    for table, recipe in recipes(lake.registry).items():
        ahead[table.name] = set(busy.get(table.name, ()))
        cells = [cell for cell in recipe.standing(has).suspects if lake.has_month(cell.date[:7])]
        reasons = recipe.due(has, cells).reasons
        waiting = {cell for cell in reasons if cell in ahead[table.name] or _is_behind(table, cell, ahead)}
        due |= {f"{table.name} {cell}" for cell in reasons}
        free = {cell: why for cell, why in reasons.items() if cell not in waiting}
        wanted = _ask(tick, has, recipe, free, attempts, sightings=2, most=left, first_wait=_SOON)
        left -= len(wanted)
        ahead[table.name] |= wanted.keys()
    attempts.forget(lambda name: name not in due)
    return tick


def _is_behind(table: type[Table], cell: Cell, ahead: Mapping[str, Collection[Cell]]) -> bool:
    """Whether something a cell is made from is about to be made."""
    if table.spread == "all":
        return any(
            other.date in touched_dates(cell.date, each.table.grain)
            for each in table.inputs
            for other in ahead.get(each.name, ())
        )
    return any(source in ahead.get(each.name, ()) for each in table.inputs for source in each.cells(cell))


# --- looking at archives --------------------------------------------------------------------------


def _by_market(recipe: Recipe, cells: Iterable[Cell]) -> Wanted:
    wanted: dict[Market, dict[Recipe, list[Cell]]] = {}
    for cell in cells:
        wanted.setdefault(cell.own_market, {}).setdefault(recipe, []).append(cell)
    return wanted


def _turned(cells: list[Cell], now: datetime) -> list[Cell]:
    """The cells, beginning every hour somewhere else: where time is up before the last, the next ticks begin
    with those that were left out.
    """
    start = int(now.timestamp() // 3600 * _GOLDEN % 1 * len(cells))
    return cells[start:] + cells[:start]


def _look_soon(has: Inventory, wanted: Wanted, tick: Tick) -> list[Market]:
    """Have archives listed for as many markets, in order, as there is time for.

    Args:
        has: Takes the listings.
        wanted: What is looked for.
        tick: Takes what kept it from seeing everything.

    Returns:
        The markets that were looked for; of one that alone cannot be listed there is no listing.
    """
    looked: list[Market] = []
    for recipe in {recipe for by_recipe in wanted.values() for recipe in by_recipe}:
        has.begin_listing(recipe.table.name)  # of a market for which there is no time, nobody can tell
    deadline, markets = time.monotonic() + _SECONDS, list(wanted)
    for start in range(0, len(markets), _AT_ONCE):
        batch = markets[start : start + _AT_ONCE]
        if time.monotonic() > deadline:
            tick.notes.append(f"{len(markets) - len(looked)} markets are left for the next tick")
            break
        try:
            _look(has, wanted, batch)
        except ListingUnreachableError as error:
            tick.notes.append(str(error))
            if not _look_one_by_one(has, wanted, batch) and len(batch) > 1:
                break  # it is the archive that cannot be reached
        looked += batch
    refused = (error for by_market in has.unlisted.values() for error in by_market.values())
    tick.notes += [said for error in refused if (said := str(error)) not in tick.notes]
    return looked


def _look(has: Inventory, wanted: Wanted, markets: Iterable[Market]) -> None:
    by_recipe: dict[Recipe, list[Cell]] = {}
    for market in markets:
        for recipe, cells in wanted[market].items():
            by_recipe.setdefault(recipe, []).extend(cells if market.exchange in has.lake.exchanges else ())
    for recipe, cells in by_recipe.items():
        recipe.look(has, cells)


def _look_one_by_one(has: Inventory, wanted: Wanted, markets: Iterable[Market]) -> bool:
    """Have archives listed for markets that together could not be listed: one that cannot be holds up
    nobody. Given up where the first two cannot; False if none could.
    """
    failed = reached = 0
    for market in markets:
        try:
            _look(has, wanted, [market])
        except ListingUnreachableError:
            failed += 1
            if failed == 2 and not reached:
                break
        else:
            reached += 1
    return reached > 0


# --- attempts -------------------------------------------------------------------------------------


def _ask(
    tick: Tick,
    has: Inventory,
    recipe: Recipe,
    due: Mapping[Cell, object],
    attempts: Attempts,
    sightings: int = 1,
    most: int | None = None,
    first_wait: timedelta = FIRST_WAIT,
) -> dict[Cell, Attempt]:
    """Have a tick ask for what may be asked for now, and say what waits.

    Args:
        tick: The tick.
        has: What it has seen.
        recipe: Of the cells' table.
        due: The cells that are due, with the recipe's reasons.
        attempts: What was asked for before.
        sightings: As for `Attempts.sift`, and so on.
        most: How many at most.
        first_wait: How long the first attempt is given.

    Returns:
        The cells that are asked for, each with its attempt.
    """
    table = recipe.table
    names = {f"{table.name} {cell}": cell for cell in due}
    reasons = {name: due[cell] for name, cell in names.items()}
    chosen = attempts.sift(reasons, has.now, sightings, most, first_wait)
    wanted = {names[name]: attempt for name, attempt in chosen.items()}
    if wanted:
        tick.wanted[table] = tick.wanted.get(table, {}) | wanted
        why = words_for(recipe, has, {cell: due[cell] for cell in wanted})
        tick.why[table] = tick.why.get(table, {}) | why
    later = [at for name in names.keys() - chosen.keys() if (at := attempts.waits_until(name, has.now))]
    if later:
        count, first = tick.waiting.get(table, (0, later[0]))
        tick.waiting[table] = count + len(later), min(first, *later)
    return wanted
