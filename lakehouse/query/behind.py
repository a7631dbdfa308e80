"""Whether cells that are read are behind their inputs: what they were made from has been replaced since, or
what that was made from.
"""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from lakehouse.datasets.market import MarketFacts, MarketTable, facts_by_market
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.input import touched_dates
from lakehouse.model.market import Market
from lakehouse.model.result import NONE
from lakehouse.model.table import Table
from lakehouse.registry import Registry
from lakehouse.storage.due import inputs_now
from lakehouse.storage.ledger import NARROW, Ledger, survey, survey_market
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord, TableStore


def cells_behind(
    objects: LakeObjects, registry: Registry, table: type[Table], read: Collection[CellRecord]
) -> list[Cell]:
    """Those of some cells that are behind.

    The folders of the markets that are read are asked, in every table upstream: a listing and the footers of
    the months that are read.

    Args:
        objects: The lake's objects.
        registry: The declared tables.
        table: A table.
        read: Cells of it. Inputs that a cell does not name are not asked about.

    Returns:
        The cells, in order of market and date. An input that is gone, or damaged, puts no cell behind: nobody
        can say what it would be made to.

    Raises:
        StoreError: The store does not answer.
    """
    cells = (
        {record.key: record for record in read if record.cell is not None and record.inputs}
        if table.spread != "one"
        else {}
    )
    if not cells or table.zone() == "bronze":
        return []
    ledgers, facts = _upstream(objects, registry, table, cells)
    behind = Behind(registry, {**ledgers, table.name: cells}, facts)
    return [cell for cell in sorted(cells, key=lambda cell: cell.sort_key) if behind.is_behind(table, cell)]


class Behind:
    """Which cells are behind, by ledgers of a table and of everything upstream of it.

    Args:
        registry: The declared tables.
        ledgers: By name.
        facts: What is known of markets.
    """

    def __init__(
        self, registry: Registry, ledgers: Mapping[str, Ledger], facts: Mapping[Market, MarketFacts]
    ) -> None:
        self._registry, self._ledgers, self._facts = registry, ledgers, facts
        self._refined = _refined(registry)
        self._known: dict[tuple[str, Cell], bool] = {}
        self._settled: dict[str, set[Cell]] = {}

    def settle(self, table: type[Table], suspects: Iterable[Cell]) -> list[Cell]:
        """The cells of a table that are behind, where it is known which may be; of tables upstream the same
        has to be said first.

        Args:
            table: The table.
            suspects: The cells that may have been made from other inputs than today's: all others were not.
        """
        found = {cell for cell in suspects if self._is_made_of_others(table, cell)}
        sources = [each.name for each in table.inputs if self._settled.get(each.name)]
        if sources:
            found |= {
                cell
                for cell in self._ledgers[table.name]
                if any(
                    key in self._settled[of.name]
                    for of, key in self._sources(table, cell)
                    if of.name in sources
                )
            }
        self._settled[table.name] = found
        return sorted(found, key=lambda cell: cell.sort_key)

    def is_behind(self, table: type[Table], cell: Cell) -> bool:
        """Whether a cell is behind, or one that it is made from; not one that is not stored."""
        place = table.name, cell
        if place not in self._known:
            self._known[place] = cell in self._ledgers[table.name] and (
                self._is_made_of_others(table, cell)
                or any(self.is_behind(*source) for source in self._sources(table, cell))
            )
        return self._known[place]

    def _is_made_of_others(self, table: type[Table], cell: Cell) -> bool:
        record = self._ledgers[table.name].get(cell)
        if record is None:
            return False
        uses = table in self._refined and cell.market in self._facts
        own = {cell.own_market: self._facts[cell.own_market].version_for(cell)} if uses else {}
        return _differs(table, record, inputs_now(table, cell, self._ledgers, own))

    def _sources(self, table: type[Table], cell: Cell) -> list[tuple[type[Table], Cell]]:
        made = [each for each in table.inputs if each.table.zone() != "bronze"]
        if table.spread == "all":
            return [
                (self._registry.table(each.name), key)
                for each in made
                for key in self._ledgers[each.name]
                if key.date in touched_dates(cell.date, each.table.grain, each.lookback)
            ]
        return [(self._registry.table(each.name), source) for each in made for source in each.cells(cell)]


def _differs(table: type[Table], record: CellRecord, now: Mapping[str, str]) -> bool:
    if table.spread == "all":
        return any(record.inputs.get(name) != version for name, version in now.items())
    return any(now.get(name, NONE) not in (NONE, version) for name, version in record.inputs.items())


def _refined(registry: Registry) -> list[type[Table]]:
    """The tables that are made with facts of markets."""
    return [dataset.silver for dataset in registry.datasets]


def _facts(objects: LakeObjects) -> dict[Market, MarketFacts]:
    try:
        stored = TableStore(objects).get(MarketTable, None)
    except NotALakeObjectError:
        return {}  # damaged: who reads it is refused, but cells that were made with it are as sound as before
    return facts_by_market(stored.rows if stored else None)


def _upstream(
    objects: LakeObjects, registry: Registry, table: type[Table], cells: Collection[Cell]
) -> tuple[dict[str, Ledger], dict[Market, MarketFacts]]:
    """What is stored upstream of cells, by table, and the facts of markets where one of the tables is made
    with them; all of it asked for at once.
    """
    wanted = _wanted(registry, table, cells)
    with ThreadPoolExecutor(1 if objects.is_local else len(wanted) + 1) as pool:
        facts = (
            pool.submit(_facts, objects)
            if any(registry.table(name) in _refined(registry) for name in [table.name, *wanted])
            else None
        )
        ledgers = dict(
            zip(
                wanted,
                pool.map(lambda name: _ledger(objects, registry.table(name), wanted[name]), wanted),
                strict=True,
            )
        )
        return ledgers, facts.result() if facts else {}


def _wanted(registry: Registry, table: type[Table], cells: Collection[Cell]) -> dict[str, set[Cell] | None]:
    """What lies upstream of cells, by table; None stands for the cells of every market."""
    wanted: dict[str, set[Cell] | None] = {table.name: set(cells)}
    for declared in reversed(registry.upstream([table])):
        if declared.name not in wanted:
            continue
        asked = wanted[declared.name]
        for each in declared.inputs:
            if asked is None or declared.spread == "all":
                wanted[each.name] = None
            elif (so_far := wanted.setdefault(each.name, set())) is not None:
                so_far |= {source for cell in asked for source in each.cells(cell)}
    del wanted[table.name]
    return wanted


def _ledger(objects: LakeObjects, table: type[Table], asked: Collection[Cell] | None) -> Ledger:
    markets: dict[Market, set[str]] = {}
    for cell in asked or ():
        markets.setdefault(cell.own_market, set()).add(cell.month)
    if asked is None or len(markets) > NARROW:
        return survey(objects, table)[0]
    return {
        cell: record
        for market, months in markets.items()
        for cell, record in survey_market(objects, table, market, months)[0].items()
    }
