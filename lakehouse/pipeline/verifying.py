"""Asking REST for every row of cells that are stored: which cells, in which order, for how many requests."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NothingStoredError
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.pages import FromRows
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.universe import require_able
from lakehouse.sources.rest.asking import Answers, Question, ask, witness_range
from lakehouse.sources.rest.client import RestClient
from lakehouse.storage.ledger import Survey, damaged_cells, require_stored, survey
from lakehouse.storage.tables import CellRecord, StoredCell
from lakehouse.transform.asking import unanswered, with_answers
from lakehouse.transform.history import LINEAGE, newest
from lakehouse.transform.witness import judge

SPARE = 0.4
"""The share of a minute's budget up to which requests are made that can wait."""

_BRACKET = 2  # requests for the candles on both sides of a range
_GIVE_UP = 3  # cells in succession that were not answered: of an API that is down, or of one market
_BATCH = 16  # cells asked about before markets that are given up are left out
_IN_VAIN = ("unreachable", "refused")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask REST for.

    Attributes:
        wanted: Range by cell, in the order of asking.
        left: Cells that could be asked about, but not within the budget.
        requests: What it takes, where no candle is absent.
        behind: Cells asked about earlier whose silver does not know it yet: a verification was cut off.
        damaged: Cells whose object in silver does not read, so that nothing can be proven of them.
        next_requests: What the first cell that is left takes; 0 if none is left.
        before: Cells that were asked for in full before, and are not asked about again.
    """

    wanted: Mapping[Cell, TimeRange]
    left: list[Cell]
    requests: int
    behind: list[Cell]
    damaged: list[Cell]
    next_requests: int
    before: int


def plan(
    lake: LakeServices,
    dataset: Dataset,
    markets: Collection[Market],
    span: TimeRange | None,
    budget: int,
    again: bool = False,
    known: Survey | None = None,
) -> Plan:
    """Choose the cells to ask about: those never asked for in full first, newest first; then those asked
    longest ago, whether they were answered or not.

    So what was given up is not begun with the next time.

    Args:
        lake: The lake.
        dataset: Whose cells.
        markets: Which markets; all if there is none.
        span: Which months; all if None.
        budget: Requests to make at most.
        again: Also ask about cells that are proven best or were asked for in full before.
        known: What is stored of the silver table, where that was listed already.

    Raises:
        NothingStoredError: Nothing is stored of what is asked for, or of one of the markets.
        NotALakeObjectError: An object lies in the table's folder where no cell does.
    """
    assert dataset.api is not None, "asked of a dataset that has one"
    months, asked, (silver, foreign) = (
        span.months() if span else None,
        lake.ledger(dataset.api.name),
        known or survey(lake.objects, dataset.silver),
    )

    def is_meant(cell: Cell) -> bool:
        return (not markets or cell.market in markets) and (months is None or cell.date in months)

    require_able([dataset.silver], markets)
    unread = damaged_cells(dataset.silver, foreign)
    require_stored(dataset.silver.name, [*silver, *unread], markets, months)
    stored, damaged = (
        {cell: record for cell, record in silver.items() if is_meant(cell)},
        [cell for cell in unread if is_meant(cell)],
    )
    if not stored and not damaged:
        raise NothingStoredError(dataset.silver.name, [market.key for market in markets])
    facts, now = known_markets(lake), lake.clock()
    found: list[tuple[datetime | None, Cell, TimeRange]] = []
    before = 0
    for cell, record in stored.items():
        exchange = lake.exchanges.get(cell.own_market.exchange)
        whole = (
            witness_range(cell, facts.get(cell.own_market), now)
            if exchange and dataset.api.name in exchange.pages
            else None
        )
        if whole is None:
            continue
        known_life = facts.get(cell.own_market)
        # the hour in which it was listed is whole; its rows begin with the listing, and were asked for from there
        traded = TimeRange(max(whole.start, known_life.listed), whole.end) if known_life else whole
        told_at = _answered_at(traded, asked.get(cell))
        if again or (told_at is None and record.facts.evidence != dataset.evidence[-1]):
            found.append((told_at or _tried_at(whole, asked.get(cell)), cell, whole))
        else:
            before += told_at is not None
    found.sort(key=lambda entry: entry[1].own_market)
    found.sort(key=lambda entry: entry[1].date, reverse=True)
    found.sort(key=lambda entry: (entry[0] is not None, entry[0] or now))
    wanted, requests, next_requests = {}, 0, 0
    for _, cell, whole in found:
        pages = lake.clients.pages_of(cell.own_market, dataset.api.name)
        cost = pages.requests(cell.own_market.market_type, whole) + _BRACKET
        if requests + cost > budget:
            next_requests = cost
            break
        wanted[cell], requests = whole, requests + cost
    behind = [
        cell
        for cell, record in stored.items()
        if cell in asked and record.inputs.get(f"{dataset.api.name}@{cell.date}") != asked[cell].version
    ]
    left = [cell for _, cell, _ in found[len(wanted) :]]
    return Plan(wanted, left, requests, behind, damaged, next_requests, before)


def _answered_at(whole: TimeRange, record: CellRecord | None) -> datetime | None:
    """When a range was last answered in full; None if parts of it never were."""
    asked = record.facts.asked if record else ()
    return (
        None
        if unanswered([whole], asked)
        else min(
            asking.at for asking in asked if asking.is_answer and whole.overlap(asking.start, asking.end)
        )
    )


def _tried_at(whole: TimeRange, record: CellRecord | None) -> datetime | None:
    """When some of a range was last asked for in vain; None if it never was."""
    asked = record.facts.asked if record else ()
    return max(
        (
            asking.at
            for asking in asked
            if asking.outcome in _IN_VAIN and whole.overlap(asking.start, asking.end)
        ),
        default=None,
    )


def ask_in_full(
    lake: LakeServices, dataset: Dataset, wanted: Mapping[Cell, TimeRange]
) -> Iterator[tuple[Cell, Answers]]:
    """What REST says of all rows of cells, in spare weight, one API after another.

    An API that is down for several cells in succession is left alone, as is a market of which several in
    succession are not answered; neither stops the others.
    """
    by_api: dict[RestClient, dict[Cell, TimeRange]] = {}
    for cell, whole in wanted.items():
        by_api.setdefault(lake.clients.of(cell.own_market), {})[cell] = whole
    for client, ranges in by_api.items():
        with client.sparing(SPARE):
            yield from _ask_api(lake, dataset, client, ranges)


def _ask_api(
    lake: LakeServices,
    dataset: Dataset,
    client: RestClient,
    wanted: Mapping[Cell, TimeRange],
) -> Iterator[tuple[Cell, Answers]]:
    """As `ask_in_full`, of the cells of one API."""
    assert dataset.api is not None, "asked of a dataset that has one"
    cells, outages, failures = list(wanted), 0, Counter[Market]()
    recipe, has = FromRows(dataset, dataset.api), Inventory(lake, (cell.own_market for cell in cells))
    for start in range(0, len(cells), _BATCH):
        batch = [cell for cell in cells[start : start + _BATCH] if failures[cell.own_market] < _GIVE_UP]
        for cell, answers in ask(
            dataset.api,
            lake.clients,
            {cell: [Question(wanted[cell], before=True, after=True)] for cell in batch},
            lake.clock,
        ):
            yield cell, recipe.judged(has, cell, answers)
            failures[cell.own_market] = failures[cell.own_market] + 1 if not answers.is_whole else 0
            outages = outages + 1 if not answers.is_whole and not client.is_up else 0
            if outages == _GIVE_UP:
                return


def note_failure(answers: Answers) -> Callable[[StoredCell | None], CellResult]:
    """The change to a cell that was not answered: when it was asked about in vain, so that the next
    verification begins elsewhere, and nothing else.
    """
    # What was answered by something else is not left open: no build needs it.
    failed = [
        replace(asking, outcome="unreachable") if asking.outcome == "short" else asking
        for asking in answers.failed
    ]

    def change(stored: StoredCell | None) -> CellResult:
        rows, facts = (
            (stored.rows.select(answers.table.names()), stored.record.facts)
            if stored
            else (answers.table.empty(), CellFacts())
        )
        return CellResult(
            rows,
            stored.record.inputs if stored else {},
            replace(facts, asked=with_answers(facts.asked, failed)),
        )

    return change


def change_by(answers: Answers, witness: StoredCell | None) -> Callable[[StoredCell | None], CellResult]:
    """The change that answers make to a cell. Where they contradict the hours that REST stated before, it has
    restated these: they are to be fetched again.
    """
    rows = pl.concat([rows for rows, _ in answers.told])
    stated = newest(witness.rows, answers.table.identity()).drop(LINEAGE) if witness else None
    contradicts = (
        rows.height > 0
        and stated is not None
        and stated.height > 0
        and not judge(rows, stated)["agrees"].fill_null(True).all()
    )

    def change(stored: StoredCell | None) -> CellResult:
        result = answers.change(stored)
        return (
            replace(
                result, facts=replace(result.facts, revised_at=max(asked.at for _, asked in answers.told))
            )
            if contradicts
            else result
        )

    return change


def clients(lake: LakeServices, cells: Collection[Cell]) -> set[RestClient]:
    """The clients that are asked about cells."""
    return {lake.clients.of(market) for market in {cell.own_market for cell in cells}}
