"""Clocks: whether this machine's is behind an exchange's."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby

from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ClockBehindError, RestUnreachableError
from lakehouse.model.market import MarketType
from lakehouse.pipeline.inventory import Inventory

_BEHIND = timedelta(hours=1)  # by which a machine's clock may be off before it is said


def begun_elsewhere(has: Inventory, cells: Iterable[Cell]) -> dict[Cell, ClockBehindError]:
    """Of cells that by this machine's clock have not begun, those that by their exchange's have.

    The exchange's time is that of its REST API, or, where that does not answer, of the newest file that the
    archive lists for these very cells.

    Raises:
        ListingUnreachableError: Neither answers.
    """

    def api(cell: Cell) -> tuple[str, MarketType]:
        return cell.own_market.exchange, cell.own_market.market_type

    found: dict[Cell, ClockBehindError] = {}
    for (name, market_type), group in groupby(sorted(cells, key=api), key=api):
        members = list(group)
        try:
            has.lake.clients.of_api(name, market_type).now()
        except RestUnreachableError:
            # listings of months that have not begun are of no use to whoever reads cells: another look
            aside = Inventory(has.lake, has.markets)
            for dataset in has.lake.registry.datasets:
                aside.list_files(dataset.archive.name, members)
        told = has.lake.clients.told_time(name)
        if told and told - has.now > _BEHIND:
            error = ClockBehindError(has.now, name, told, "So this month was not built.")
            found |= {cell: error for cell in members if cell.window.start <= told}
    return found


def clock_note(has: Inventory, exchange: Exchange) -> str | None:
    """That this machine's clock is behind an exchange's, as far as that has said its time; what has happened
    there since is not asked for.
    """
    told = has.lake.clients.told_time(exchange.name)
    if not told or told - has.now <= _BEHIND:
        return None
    return str(ClockBehindError(has.now, exchange.name, told, "What came after that was not asked for."))
