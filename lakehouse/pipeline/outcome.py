"""What becomes of a cell in a step, and the cells that a step reads."""

from collections.abc import Callable, Iterable, Iterator

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.result import CellResult
from lakehouse.model.table import Table
from lakehouse.storage.tables import CellRecord, StoredCell, TableStore

Outcome = CellResult | CellRecord | Callable[[StoredCell | None], CellResult] | Exception | None
"""What became of a cell: computed, unchanged, a change to apply to what is stored, failed, or nothing to
store.
"""


def each(cells: Iterable[Cell], compute: Callable[[Cell], Outcome]) -> Iterator[tuple[Cell, Outcome]]:
    """Compute cells one by one; one that fails is reported with its error and the rest go on."""
    for cell in cells:
        try:
            yield cell, compute(cell)
        except (LakehouseError, pl.exceptions.PolarsError) as error:
            yield cell, error


class StoredCells:
    """A table as an input: its cells are read when asked for, so one that is missing fails only who needs it.

    Args:
        store: The lake's cells.
        table: The table.
    """

    def __init__(self, store: TableStore, table: type[Table]) -> None:
        self._store = store
        self._table = table
        self.name = table.name

    def get(self, cell: Cell) -> StoredCell | None:
        """A cell, or None if it is not stored."""
        return self._store.get(self._table, cell)
