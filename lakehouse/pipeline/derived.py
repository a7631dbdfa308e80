"""Silver and gold tables, which are computed from stored cells of other tables."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.model.cell import Cell
from lakehouse.model.errors import InputMissingError, MarketFactsMissingError
from lakehouse.model.feature import Feature
from lakehouse.model.input import touched_dates
from lakehouse.model.result import NONE, CellResult
from lakehouse.model.table import Table
from lakehouse.pipeline.inventory import Inventory, Part
from lakehouse.pipeline.recipe import Due, Recipe
from lakehouse.pipeline.windows import is_alive, those_that_can_have
from lakehouse.pipeline.workers import in_order
from lakehouse.storage.due import Standing, expected, expected_of, inputs_now, needs_build, standing
from lakehouse.storage.ledger import CellLedger
from lakehouse.storage.outcome import Built, Nothing, Outcome, attempt, kept
from lakehouse.storage.tables import CellRecord, pack

_AT_ONCE = 4096  # cells that are told of in columns together: each may name twenty inputs, and their versions
_MANY = 64  # cells of which it pays to tell in columns that most are as they should be


class Derived(Recipe):
    """Cells that are due where they are absent or made from other inputs than today's."""

    def __init__(self, table: type[Table]) -> None:
        self.table = table

    def expected(self, has: Inventory) -> list[Cell]:
        cells = expected(self.table, self.sources(has))
        return [
            cell for cell in cells if has.markets is None or cell.market is None or cell.market in has.markets
        ]

    def covered(self, has: Inventory, requested: list[Cell]) -> list[Cell]:
        return expected_of(self.table, self.sources(has), requested)

    def sources(self, has: Inventory) -> Mapping[str, CellLedger]:
        """The stored cells of the inputs, by table, out of which it follows what cells there should be."""
        return has.ledgers(self.table)

    def due(self, has: Inventory, cells: Iterable[Cell]) -> Due:
        """The cells that are absent, or made from other inputs than today's, with these."""
        stored = has.ledger(self.table.name)
        asked = those_that_can_have(self.table, cells, has)
        if len(asked) > _MANY:
            parts = (asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE))
            fresh = {cell for part in parts for cell in self._standing(has, part).fresh}
            asked = [cell for cell in asked if cell not in fresh]
        today = {cell: self.inputs(has, cell) for cell in asked}
        return Due(
            {
                cell: sorted(inputs.items())
                for cell, inputs in today.items()
                if needs_build(self.table, stored, cell, inputs)
            }
        )

    def why(self, has: Inventory, cell: Cell, record: CellRecord, reason: object) -> str:
        now = reason if isinstance(reason, list) else []
        changed = [name for name, version in now if record.inputs.get(name) != version]
        return f"{' and '.join(sorted({name.partition('@')[0] for name in changed})) or 'an input'} changed"

    def standing(self, has: Inventory) -> Standing:
        return self._standing(has)

    def _standing(self, has: Inventory, among: Iterable[Cell] | None = None) -> Standing:
        return standing(self.table, has.ledger(self.table.name), self.sources(has), self.facts(has), among)

    def facts(self, has: Inventory) -> Callable[[Cell], str | None] | None:
        """The version of the facts that a market contributes to a cell; None for tables that use none."""
        return None

    def make(self, has: Inventory, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        due, stored = self.due(has, cells).reasons, has.ledger(self.table.name)

        def made(cell: Cell) -> Outcome:
            if cell not in due:
                return kept(stored.get(cell))
            outcome = self.compute(has, cell)
            if isinstance(outcome, Built):  # packed by whoever made it: one thread alone stores
                return replace(outcome, packed=pack(self.table, cell, outcome.result))
            return outcome

        begun = has.reading_ahead(cells, lambda cell: self.parts(has, cell) if cell in due else ())
        return in_order(begun, partial(attempt, made), has.lake.workers)

    def parts(self, has: Inventory, cell: Cell) -> Iterable[Part]:
        """The stored cells that `compute` reads of a cell, as far as that is known beforehand."""
        return ()

    def inputs(self, has: Inventory, cell: Cell) -> Mapping[str, str]:
        """The versions that a cell would be made from now."""
        return inputs_now(self.table, cell, has.ledgers(self.table), {})

    @abstractmethod
    def compute(self, has: Inventory, cell: Cell) -> Outcome:
        """Compute a cell that is due.

        Raises:
            LakehouseError: It cannot be computed; the others go on.
        """


class Refined(Derived):
    """A silver table: one truth out of a dataset's bronze cells.

    Args:
        dataset: Whose silver table.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset.silver)
        self.dataset = dataset

    def facts(self, has: Inventory) -> Callable[[Cell], str | None]:
        def version(cell: Cell) -> str | None:
            market = has.known.get(cell.own_market)
            return market.version_for(cell) if market else None

        return version

    def inputs(self, has: Inventory, cell: Cell) -> Mapping[str, str]:
        version = self.facts(has)(cell)
        facts = {cell.own_market: version} if version else {}
        return inputs_now(self.table, cell, has.ledgers(self.table), facts)

    def parts(self, has: Inventory, cell: Cell) -> list[Part]:
        return [(table, cell) for table in self.dataset.bronze if has.may_be_there(table, cell)]

    def compute(self, has: Inventory, cell: Cell) -> Outcome:
        bronze = has.bronze(self.dataset, cell, [table for table, _ in self.parts(has, cell)])
        if not any(
            each.makes(bronze[each.name].rows.height) for each in self.table.inputs if each.name in bronze
        ):
            return absent(has, cell, self.dataset.archive.name)
        if cell.own_market not in has.known:
            raise MarketFactsMissingError(cell.own_market.key)
        return Built(self.dataset.refine(bronze, cell, has.known[cell.own_market]))


class Computed(Derived):
    """A gold table: a feature of its inputs over the cell's window and its lookback.

    Args:
        feature: The table.
    """

    def __init__(self, feature: type[Feature]) -> None:
        super().__init__(feature)
        self.feature = feature

    def parts(self, has: Inventory, cell: Cell) -> list[Part]:
        tables = {source.name: has.lake.registry.table(source.name) for source in self.feature.inputs}
        return [(tables[each.name], part) for each in self.feature.inputs for part in each.cells(cell)]

    def compute(self, has: Inventory, cell: Cell) -> Outcome:
        frames: dict[str, pl.DataFrame] = {}
        versions: dict[str, str] = {}
        for source in self.feature.inputs:
            table = has.lake.registry.table(source.name)
            parts = source.cells(cell)
            of_parts = has.lake.objects.together(*(partial(has.read, table, part) for part in parts))
            read = dict(zip(parts, of_parts, strict=True))
            found = {part: stored.rows for part, stored in read.items() if stored}
            if source.required and all(part.window.end <= cell.window.start for part in found):
                if found:
                    return (
                        Nothing()
                    )  # asked for because of what it looks back on: its turn comes with its own
                return absent(has, cell, source.name)
            frames[source.name] = pl.concat(found.values()) if found else table.empty()
            versions |= {
                f"{source.name}@{part.date}": stored.record.version if stored else NONE
                for part, stored in read.items()
            }
        return Built(CellResult(self.feature.compute(frames, cell.window), versions))


def absent(has: Inventory, cell: Cell, source: str) -> Nothing:
    """What becomes of a cell whose input is not stored: nothing outside the market's life, or while its
    window is open.

    Raises:
        InputMissingError: The input should be there.
    """
    if not is_alive(cell, has.known) or cell.window.end > has.now:
        return Nothing()  # of the open window nothing may be published yet
    raise InputMissingError(source, str(cell))


def touched(table: type[Table], cells: Iterable[Cell], sources: Iterable[Cell]) -> list[Cell]:
    """Those of a table's cells that touch the months of some sources, or look back on them."""
    wanted = {(cell.month, cell.market) for cell in sources}
    months, markets = {month for month, _ in wanted}, {market for _, market in wanted}
    reach = max((source.lookback for source in table.inputs), default=timedelta())

    def is_touched(cell: Cell) -> bool:
        touched = touched_dates(cell.date, "month", reach)
        if cell.market is None:
            return not months.isdisjoint(touched)
        return cell.market in markets and any((month, cell.market) in wanted for month in touched)

    return [cell for cell in cells if is_touched(cell)]
