"""Which cells there should be: windows of a market's life, in the grain of a table."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.exchange import can_have
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange, parse_instant
from lakehouse.pipeline.inventory import Inventory
from lakehouse.storage.ledger import cells_of


def in_grain(table: type[Table], months: Iterable[Cell], has: Inventory) -> list[Cell]:
    """The cells of a table in some months of markets that can have it: the months themselves, or their days
    that have begun and lie in the market's life.
    """
    meant = those_that_can_have(table, months, has)
    if table.grain == "month":
        return meant
    days = (Cell(day, cell.market) for cell in meant for day in cell.window.days())
    return [cell for cell in days if cell.window.start <= has.now and is_alive(cell, has.known)]


def those_that_can_have(table: type[Table], cells: Iterable[Cell], has: Inventory) -> list[Cell]:
    """Cells without those of markets that cannot have a table: a run of all markets holds them, too. A cell
    of all markets stays.
    """
    asked = list(cells)
    markets = {cell.market for cell in asked if cell.market}
    able = {market: can_have(has.lake.exchanges, table, market) for market in markets}
    return [cell for cell in asked if cell.market is None or able[cell.market]]


def is_alive(cell: Cell, known: Mapping[Market, MarketFacts]) -> bool:
    """Whether a market was listed in some part of a cell, or nothing is known of it."""
    facts = known.get(cell.own_market)
    return facts is None or facts.life.overlaps(cell.window)


def open_months(has: Inventory) -> list[Cell]:
    """The open month and the one before, of every market that is known to be listed then."""
    this = Cell(f"{has.now:%Y-%m}")
    months = [month for month in (this.shift(-1).date, this.date) if has.lake.has_month(month)]
    markets = [
        market for market in (has.known if has.markets is None else has.markets) if market in has.known
    ]
    cells = [Cell(month, market) for market in markets for month in months]
    return [cell for cell in cells if is_alive(cell, has.known)]


def begun_months(has: Inventory, dataset: Dataset) -> dict[Market, list[Cell]]:
    """The months that a dataset's bronze tables should have, by market: from the first stored one to the
    open one.

    Where the archive failed at first, the other bronze tables tell that the market was asked for.
    """
    if dataset not in has.begun:
        has.begun[dataset] = _begun_months(has, dataset)
    return has.begun[dataset]


def _begun_months(has: Inventory, dataset: Dataset) -> dict[Market, list[Cell]]:
    first: dict[Market, str] = {}
    for table in dataset.bronze:
        earliest = has.ledger(table.name).frame.group_by("key").agg(pl.col("date").min())
        for cell in cells_of(earliest):
            first[cell.own_market] = min(cell.month, first.get(cell.own_market, cell.date))
    open_month = f"{has.now:%Y-%m}"
    start = parse_instant(min([open_month, *first.values()]))
    months = TimeRange(start, Cell(open_month).window.start + timedelta(days=1)).months()
    found: dict[Market, list[Cell]] = {}
    for market in has.markets if has.markets is not None else first:
        is_stored = market in first and market.exchange in has.lake.exchanges
        since = first[market] if is_stored else ""
        wanted = [month for month in months if is_stored and month >= since and has.lake.has_month(month)]
        cells = [Cell(month, market) for month in wanted]
        found[market] = [cell for cell in cells if is_alive(cell, has.known)]
    return found


def closed_months(has: Inventory, dataset: Dataset) -> list[Cell]:
    """As `begun_months`, without the open month and the one before."""
    still_open = set(open_months(has))
    return [cell for cells in begun_months(has, dataset).values() for cell in cells if cell not in still_open]
