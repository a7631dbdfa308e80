"""Tables of one object per window for all markets: collected from what cells say of themselves, or computed
from the rows of them all.
"""

import contextlib
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping

import polars as pl

from lakehouse.datasets.conflict import conflict_frame, conflict_table
from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.gap import gap_frame
from lakehouse.datasets.market import MarketFacts, MarketTable
from lakehouse.model.cell import Cell
from lakehouse.model.errors import InputMissingError, MarketFactsMissingError, NotALakeObjectError
from lakehouse.model.feature import Feature
from lakehouse.model.input import touched_dates
from lakehouse.model.market import MARKET_COLUMNS, Market
from lakehouse.model.result import CellResult
from lakehouse.model.table import Table
from lakehouse.pipeline.derived import Derived
from lakehouse.pipeline.inventory import Inventory, inputs_by_date
from lakehouse.pipeline.recipe import Due
from lakehouse.storage.due import inputs_now
from lakehouse.storage.ledger import CellLedger, Ledger, damaged_cells
from lakehouse.storage.outcome import Built, Nothing, Outcome


class ByMonth(Derived):
    """Cells of all markets of a month; none without a cell that is damaged, for the others alone would say
    that there is nothing to tell of it.
    """

    def sources(self, has: Inventory) -> Mapping[str, CellLedger]:
        if has.is_theirs_alone:
            return has.ledgers(self.table)
        return {name: has.whole(name)[0] for name in self.table.input_names()}

    def due(self, has: Inventory, cells: Iterable[Cell]) -> Due:
        if not has.is_theirs_alone:
            return super().due(has, cells)
        stored, theirs = has.ledger(self.table.name), tuple(f"|{market.key}" for market in has.markets or ())
        sources, reasons = self.sources(has), dict[Cell, object]()
        for cell in cells:
            now = inputs_now(self.table, cell, sources, {})
            record = stored.get(cell)
            if (
                record is None
                or record.code_version != self.table.code_version
                or now != {name: said for name, said in record.inputs.items() if name.endswith(theirs)}
            ):
                reasons[cell] = sorted(now.items())
        return Due(reasons)

    def inputs(self, has: Inventory, cell: Cell) -> Mapping[str, str]:
        return inputs_now(self.table, cell, inputs_by_date(has, self.table, cell.date), {})

    def compute(self, has: Inventory, cell: Cell) -> Outcome:
        for each in self.table.inputs:
            dates = touched_dates(cell.date, each.table.grain, each.lookback)
            for error in has.whole(each.name)[1]:
                if any(
                    damaged.date in dates for damaged in _cell_of(has.lake.registry.table(each.name), error)
                ):
                    raise error
        ledgers = inputs_by_date(has, self.table, cell.date)
        if not any(ledgers.values()):
            return Nothing()
        return Built(CellResult(self.collect(has, cell, ledgers), self.inputs(has, cell)))

    @abstractmethod
    def collect(self, has: Inventory, cell: Cell, ledgers: Mapping[str, Ledger]) -> pl.DataFrame:
        """The rows of a month, from the records of its cells by table."""


class FromFooters(ByMonth):
    """`silver/gap`: what cells say of the rows they lack."""

    def collect(self, has: Inventory, cell: Cell, ledgers: Mapping[str, Ledger]) -> pl.DataFrame:
        return gap_frame(
            (cell.own_market, name, run)
            for name, stored in ledgers.items()
            for cell, record in stored.items()
            for run in record.facts.gaps
        )


class FromDisputes(ByMonth):
    """A conflict table: footers say which cells have disputes, and the bronze of these is read again.

    Args:
        dataset: Whose conflict table.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(conflict_table(dataset))
        self.dataset = dataset

    def collect(self, has: Inventory, cell: Cell, ledgers: Mapping[str, Ledger]) -> pl.DataFrame:
        return conflict_frame(
            (
                self._disputes(has, self.dataset, cell)
                for cell, record in ledgers[self.dataset.silver.name].items()
                if record.facts.conflict_count
            ),
            self.table,
        )

    @staticmethod
    def _disputes(has: Inventory, dataset: Dataset, cell: Cell) -> tuple[Market, str, pl.DataFrame]:
        bronze = has.bronze(dataset, cell)
        if not bronze:
            raise InputMissingError(dataset.archive.name, str(cell))
        assert dataset.conflicts is not None, "only such a dataset counts disputes"
        if cell.own_market not in has.known:
            raise MarketFactsMissingError(cell.own_market.key)
        rows = dataset.conflicts(bronze, cell, has.known[cell.own_market])
        return cell.own_market, dataset.silver.name, rows


class Panel(ByMonth):
    """A gold table in which all markets stand together: a feature of the rows of all of them, each with the
    columns that name its market.

    Args:
        feature: The table.
    """

    def __init__(self, feature: type[Feature]) -> None:
        super().__init__(feature)
        self.feature = feature

    def facts(self, has: Inventory) -> Callable[[Cell], str] | None:
        if not self.feature.facts:
            return None
        if self.table.name not in has.facts:
            has.facts[self.table.name] = self._facts(has)
        return has.facts[self.table.name]

    def _facts(self, has: Inventory) -> Callable[[Cell], str]:
        told = told_facts(self.feature, has.known.values())
        of_date: dict[str, set[str]] = {}
        for name in self.table.input_names():
            for key, date in has.whole(name)[0].frame.select("key", "date").iter_rows():
                of_date.setdefault(date, set()).add(key)

        def version(cell: Cell) -> str:
            """Of what is stated of the markets that have rows in the cell's window, or in what it looks back
            on.
            """
            keys = set[str]()
            for each in self.feature.inputs:
                for date in touched_dates(cell.date, each.table.grain, each.lookback):
                    keys |= of_date.get(date, set())
            return version_of_facts(told, keys)

        return version

    def inputs(self, has: Inventory, cell: Cell) -> Mapping[str, str]:
        version = self.facts(has)
        own = {MarketTable.name: version(cell)} if version else {}
        return {**super().inputs(has, cell), **own}

    def collect(self, has: Inventory, cell: Cell, ledgers: Mapping[str, Ledger]) -> pl.DataFrame:
        frames: dict[str, pl.DataFrame] = {}
        for source in self.feature.inputs:
            table = has.lake.registry.table(source.name)
            read = (self._rows(has, table, part) for part in ledgers[source.name])
            frames[source.name] = pl.concat([self._of_market(table.empty(), None, {}), *read])
        return self.feature.compute(frames, cell.window)

    def _rows(self, has: Inventory, table: type[Table], part: Cell) -> pl.DataFrame:
        stored = has.read(table, part)
        if stored is None:  # gone since it was surveyed
            raise InputMissingError(table.name, str(part))
        if not self.feature.facts or part.market is None:
            return self._of_market(stored.rows, part.market, {})
        if part.market not in has.known:
            raise MarketFactsMissingError(part.market.key)
        return self._of_market(stored.rows, part.market, has.known[part.market].row)

    def _of_market(
        self, rows: pl.DataFrame, market: Market | None, facts: Mapping[str, object]
    ) -> pl.DataFrame:
        """Rows with the columns that name their market, and the facts of it that the feature asks for."""
        if market is None and rows.height:  # of a table over all markets, whose rows have the names
            return rows
        told = {name: str(getattr(market, name)) if market else None for name in MARKET_COLUMNS}
        told |= {name: facts.get(name) for name in self.feature.facts}  # type: ignore[misc]
        return rows.with_columns(
            pl.lit(value, MarketTable.columns[name].dtype).alias(name) for name, value in told.items()
        )


def told_facts(feature: type[Feature], known: Iterable[MarketFacts]) -> dict[str, str]:
    """What a feature is told of markets, as text by their keys."""
    return {
        facts.market.key: json.dumps([facts.row[name] for name in feature.facts], default=str)
        for facts in known
    }


def version_of_facts(told: Mapping[str, str], keys: Iterable[str]) -> str:
    """The version of what is told of some markets, which a cell that holds it records."""
    said = "\n".join(f"{key} {told.get(key)}" for key in sorted(keys))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _cell_of(table: type[Table], error: NotALakeObjectError) -> list[Cell]:
    """The cell in whose place an object lies that does not read, if it is one's."""
    with contextlib.suppress(NotALakeObjectError):
        return damaged_cells(table, [error])
    return []
