"""What the sensors decide, in plain values: which cells to ask for now. Runs nothing and writes nothing.

Of what depends on each other the first that is due is asked for: what lies below it follows by itself (see
`automation`), so a cell has one run per table and REST is asked once.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cell import Cell
from lakehouse.model.errors import FetchError, ListingUnreachableError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.ops.attempts import Attempt, Attempts
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.steps import (
    api_wanted,
    derived_wanted,
    input_ledgers,
    is_outdated,
    known_markets,
    list_archive,
    witness_behind,
    witness_wanted,
)
from lakehouse.sources.files.ingest import outside_life
from lakehouse.sources.files.listing import MarketListing
from lakehouse.storage.ledger import expected

WINDOW = timedelta(days=45)
"""How far back every round of listings looks."""

SWEEP = timedelta(days=7)
"""How often a round looks at everything that is stored."""

_SECONDS = 20.0  # for listings in one tick; Dagster gives a tick a minute
_AT_ONCE = 16  # markets between two looks at the time
_MOST = 400  # cells that one tick repeats
# fractions of its multiples lie as far from each other as can be, however many there are
_GOLDEN = (5**0.5 - 1) / 2

Busy = Mapping[str, Collection[Cell]]
"""The cells that queued or running runs are going to write, by table."""


@dataclass
class Tick:
    """What a tick asks for.

    Attributes:
        wanted: The cells by table, each with its attempt.
        notes: What kept it from seeing everything.
    """

    wanted: dict[type[Table], dict[Cell, Attempt]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def candles_closed(lake: LakeServices, universe: Iterable[Market], busy: Busy, attempts: Attempts) -> Tick:
    """The bronze cells of the open month and the one before for which there is something new.

    Args:
        lake: The lake.
        universe: The markets; one that nothing is known of yet is left out.
        busy: Cells whose runs are under way: they are looked at when these are done.
        attempts: What was asked for before.
    """
    tick, now, known = Tick(), lake.clock(), known_markets(lake)
    of_months = open_cells(lake, universe, known, now)
    remembered: set[str] = set()
    for dataset in lake.registry.datasets:
        waiting = {
            cell for cell in of_months if any(cell in busy.get(table.name, ()) for table in dataset.bronze)
        }
        cells = [cell for cell in of_months if cell not in waiting]
        held: set[Cell] = set()
        for table in dataset.bronze:
            reasons, unseen = _bronze_reasons(lake, dataset, table, cells, known, tick)
            # whether the latter two are over, nobody has looked
            remembered |= {f"{table.name} {cell}" for cell in (*reasons, *unseen, *waiting)}
            wanted = _sift(
                table, {cell: why for cell, why in reasons.items() if cell not in held}, attempts, now
            )
            _add(tick, table, wanted)
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
    tick, now, known = Tick(), lake.clock(), known_markets(lake)
    if not progress.after:
        progress.is_full = progress.full_at is None or now - progress.full_at >= SWEEP
        progress.full_at = now if progress.is_full else progress.full_at
    markets = sorted(market for market in universe if market.key > progress.after)
    stored = {dataset.archive.name: lake.ledger(dataset.archive.name) for dataset in lake.registry.datasets}
    since = "" if progress.is_full else f"{now - WINDOW:%Y-%m}"
    wanted: dict[Market, dict[str, list[Cell]]] = {market: {} for market in markets}
    for dataset in lake.registry.datasets:
        name, others = (
            dataset.archive.name,
            (lake.ledger(table.name) for table in dataset.bronze if table is not dataset.archive),
        )
        for market, cells in _unattended(lake, chain(stored[name], *others), markets, known, now).items():
            wanted[market][name] = [cell for cell in cells if cell.date >= since]
    listed = _list_soon(lake, wanted, tick)
    progress.after = (
        "" if len(listed) == len(markets) else max((market.key for market in listed), default=progress.after)
    )
    fresh = set(open_cells(lake, markets, known, now))
    for dataset in lake.registry.datasets:
        name, records = dataset.archive.name, stored[dataset.archive.name]
        seen = [
            (cell, listing)
            for market, by_table in listed.items()
            if (listing := by_table.get(name))
            for cell in wanted[market][name]
            if cell not in busy.get(name, ())
        ]
        due = {
            cell: _files(listing, cell) for cell, listing in seen if listing.is_due(cell, records.get(cell))
        }
        over = {f"{name} {cell}" for cell, _ in seen if cell not in due}
        attempts.forget(over.__contains__)
        _add(
            tick,
            dataset.archive,
            _sift(
                dataset.archive, {cell: why for cell, why in due.items() if cell not in fresh}, attempts, now
            ),
        )
        _add(
            tick,
            dataset.archive,
            _sift(
                dataset.archive,
                {cell: why for cell, why in due.items() if cell in fresh},
                attempts,
                now,
                sightings=2,
            ),
        )
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
    tick, now, known, markets = Tick(), lake.clock(), known_markets(lake), dict.fromkeys(universe)
    fresh = set(open_cells(lake, markets, known, now))
    past: dict[str, list[Cell]] = {}
    for dataset in lake.registry.datasets:
        stored = chain.from_iterable(lake.ledger(table.name) for table in dataset.bronze)
        past[dataset.archive.name] = [
            cell
            for cells in _unattended(lake, stored, markets, known, now).values()
            for cell in cells
            if cell not in fresh
        ]
    ahead: dict[str, set[Cell]] = {}
    due: set[str] = set()
    left = _MOST
    for table in lake.registry.tables:
        if table.shape == "single":
            continue
        ahead[table.name] = set(busy.get(table.name, ()))
        reasons = {
            cell: why
            for cell, why in _standing_reasons(lake, table, markets, known, past).items()
            if cell.window.start >= month_start(lake.start)
        }
        waiting = {cell for cell in reasons if cell in ahead[table.name] or _is_behind(table, cell, ahead)}
        due |= {f"{table.name} {cell}" for cell in reasons}
        wanted = _sift(
            table,
            {cell: why for cell, why in reasons.items() if cell not in waiting},
            attempts,
            now,
            sightings=2,
            most=left,
        )
        left -= len(wanted)
        ahead[table.name] |= wanted.keys()
        _add(tick, table, wanted)
    attempts.forget(lambda name: name not in due)
    return tick


# --- cells ----------------------------------------------------------------------------------------


def open_cells(
    lake: LakeServices, markets: Iterable[Market], known: Mapping[Market, MarketFacts], now: datetime
) -> list[Cell]:
    """The open month and the one before, of every market that is known to be listed then."""
    open_month = f"{now:%Y-%m}"
    cells = [
        cell
        for market in markets
        if market in known
        for cell in (Cell(open_month, market).shift(-1), Cell(open_month, market))
    ]
    return [
        cell for cell in cells if cell.date >= lake.start and not outside_life(cell, known[cell.own_market])
    ]


def _unattended(
    lake: LakeServices,
    stored: Iterable[Cell],
    markets: Iterable[Market],
    known: Mapping[Market, MarketFacts],
    now: datetime,
) -> dict[Market, list[Cell]]:
    """The cells that a dataset's bronze tables should have, by market: from the first stored one to the open
    month.

    Args:
        lake: The lake.
        stored: The cells of all its bronze tables: where the archive failed at first, the others tell that it
            was asked.
        markets: Of which markets.
        known: What is known of markets.
        now: The current instant.
    """
    first: dict[Market, str] = {}
    for cell in stored:
        first[cell.own_market] = min(cell.date, first.get(cell.own_market, cell.date))
    open_month = f"{now:%Y-%m}"
    months = TimeRange(
        month_start(min([open_month, *first.values()])), month_start(open_month) + timedelta(days=1)
    ).months()
    found: dict[Market, list[Cell]] = {}
    for market in markets:
        is_stored = market in first and market.exchange in lake.exchanges
        cells = [
            Cell(month, market) for month in months if is_stored and month >= max(first[market], lake.start)
        ]
        found[market] = [cell for cell in cells if not outside_life(cell, known.get(market))]
    return found


def month_start(month: str) -> datetime:
    """The first instant of a month."""
    return Cell(month).window.start


def _is_behind(table: type[Table], cell: Cell, ahead: Mapping[str, Collection[Cell]]) -> bool:
    """Whether something a cell is made from is about to be made."""
    if table.shape == "months":
        return any(other.date == cell.date for name in table.inputs for other in ahead.get(name, ()))
    return any(
        cell.shift(-back) in ahead.get(name, ())
        for name, lookback in table.inputs.items()
        for back in range(lookback + 1)
    )


# --- reasons --------------------------------------------------------------------------------------


def _bronze_reasons(
    lake: LakeServices,
    dataset: Dataset,
    table: type[Table],
    cells: list[Cell],
    known: Mapping[Market, MarketFacts],
    tick: Tick,
) -> tuple[Mapping[Cell, object], list[Cell]]:
    """Why cells of a bronze table are due now, and the cells of which nobody could tell: their markets were
    not listed.
    """
    if table is not dataset.archive:
        return _rest_reasons(lake, dataset, table, cells, known), []
    stored = lake.ledger(table.name)
    wanted: dict[Market, dict[str, list[Cell]]] = {}
    for cell in _turned(cells, lake.clock()):
        if cell.own_market.exchange in lake.exchanges:
            wanted.setdefault(cell.own_market, {table.name: []})[table.name].append(cell)
    listed = {
        market: by_table[table.name]
        for market, by_table in _list_soon(lake, wanted, tick).items()
        if by_table
    }
    files = {
        cell: _files(listed[cell.own_market], cell)
        for cell in cells
        if cell.own_market in listed and listed[cell.own_market].is_due(cell, stored.get(cell))
    }
    behind = witness_behind(lake, dataset, {cell: stored[cell] for cell in cells if cell in stored})
    return {**behind, **files}, [cell for cell in cells if cell.own_market not in listed]


def _turned(cells: list[Cell], now: datetime) -> list[Cell]:
    """The cells, beginning every hour somewhere else: where time is up before the last, the next ticks begin
    with those that were left out.
    """
    start = int(now.timestamp() // 3600 * _GOLDEN % 1 * len(cells))
    return cells[start:] + cells[:start]


def _rest_reasons(
    lake: LakeServices,
    dataset: Dataset,
    table: type[Table],
    cells: list[Cell],
    known: Mapping[Market, MarketFacts],
) -> Mapping[Cell, object]:
    """What REST has to be asked for cells of a bronze table."""
    wanted = witness_wanted if table is dataset.witness else api_wanted
    return wanted(lake, dataset, cells, lake.ledger(table.name), known)


def _standing_reasons(
    lake: LakeServices,
    table: type[Table],
    universe: Collection[Market],
    known: Mapping[Market, MarketFacts],
    past: Mapping[str, list[Cell]],
) -> Mapping[Cell, object]:
    """Why cells of a table are due, as far as the lake itself can tell.

    Args:
        lake: The lake.
        table: The table.
        universe: The markets.
        known: What is known of markets.
        past: The cells that bronze should have of months gone by, by the archive's table.
    """
    dataset = next((dataset for dataset in lake.registry.datasets if table in dataset.bronze), None)
    if dataset and table is not dataset.archive:
        return _rest_reasons(lake, dataset, table, past[dataset.archive.name], known)
    stored = lake.ledger(table.name)
    if dataset:
        behind = {
            cell: why
            for cell, why in witness_behind(lake, dataset, stored).items()
            if cell.market in universe
        }
        reasons = {cell: "absent" for cell in past[table.name] if cell not in stored} | behind
        outdated = [
            cell
            for cell, record in stored.items()
            if is_outdated(table, record) and cell.market in universe and cell not in reasons
        ]
        # there may be very many: last
        return reasons | {
            cell: f"made by code version {stored[cell].code_version}, not {table.code_version}"
            for cell in outdated
        }
    cells = [
        cell
        for cell in expected(table, input_ledgers(lake, table))
        if cell.market is None or cell.market in universe
    ]
    return {
        cell: sorted(inputs.items())
        for cell, inputs in derived_wanted(lake, table, cells, stored, known).items()
    }


def _files(listing: MarketListing, cell: Cell) -> str:
    states = {period: listing.state(period) for period in (cell.date, *listing.days(cell))}
    return f"{states} until {listing.asked_until(cell)}"


def _list_soon(
    lake: LakeServices, wanted: Mapping[Market, Mapping[str, list[Cell]]], tick: Tick
) -> dict[Market, dict[str, MarketListing]]:
    """Listings by market and table, of as many markets, in order, as there is time for; none of one that
    alone cannot be listed.
    """
    found: dict[Market, dict[str, MarketListing]] = {}
    deadline, entries = time.monotonic() + _SECONDS, list(wanted.items())
    for start in range(0, len(entries), _AT_ONCE):
        batch = dict(entries[start : start + _AT_ONCE])
        if time.monotonic() > deadline:
            tick.notes.append(f"{len(wanted) - len(found)} markets are left for the next tick")
            break
        try:
            found |= _listings(lake, batch)
        except (ListingUnreachableError, FetchError) as error:
            tick.notes.append(str(error))
            alone = _one_by_one(lake, batch)
            if not any(alone.values()) and len(batch) > 1:
                break  # it is the archive that cannot be reached
            found |= alone
    return found


def _listings(
    lake: LakeServices, wanted: Mapping[Market, Mapping[str, list[Cell]]]
) -> dict[Market, dict[str, MarketListing]]:
    tables = next(iter(wanted.values()))
    listed = {
        name: list_archive(lake, name, [cell for of_table in wanted.values() for cell in of_table[name]])
        for name in tables
    }
    return {
        market: {name: by_market[market] for name, by_market in listed.items() if market in by_market}
        for market in wanted
    }


def _one_by_one(
    lake: LakeServices, wanted: Mapping[Market, Mapping[str, list[Cell]]]
) -> dict[Market, dict[str, MarketListing]]:
    """Listings of markets that together could not be listed: one that cannot be holds up nobody. Given up
    where the first two cannot.
    """
    found: dict[Market, dict[str, MarketListing]] = {}
    for market, of_market in wanted.items():
        try:
            found |= _listings(lake, {market: of_market})
        except (ListingUnreachableError, FetchError):
            found[market] = {}
            if len(found) == 2 and not any(found.values()):
                break
    return found


def _sift(
    table: type[Table],
    due: Mapping[Cell, object],
    attempts: Attempts,
    now: datetime,
    sightings: int = 1,
    most: int | None = None,
) -> dict[Cell, Attempt]:
    names = {f"{table.name} {cell}": cell for cell in due}
    chosen = attempts.sift({name: due[cell] for name, cell in names.items()}, now, sightings, most)
    return {names[name]: attempt for name, attempt in chosen.items()}


def _add(tick: Tick, table: type[Table], wanted: Mapping[Cell, Attempt]) -> None:
    if wanted:
        tick.wanted[table] = tick.wanted.get(table, {}) | dict(wanted)
