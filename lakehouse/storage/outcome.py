"""What becomes of a cell in a step, and how that is stored."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.result import CellResult
from lakehouse.model.table import Table
from lakehouse.storage.tables import CellRecord, Packed, StoredCell, TableStore, pack


@dataclass(frozen=True, slots=True)
class Built:
    """A cell was computed and is to be stored.

    Attributes:
        result: What was computed.
        packed: The same as it is to be stored, where a worker has packed it already.
    """

    result: CellResult
    packed: Packed | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A cell is up to date as it is stored."""

    record: CellRecord


@dataclass(frozen=True, slots=True)
class Change:
    """A stored cell is to be read, changed and replaced while no other process does; None changes nothing.

    Attributes:
        apply: The change; called again where another process was faster.
        is_new: Whether no such cell is stored, by the ledger.
    """

    apply: Callable[[StoredCell | None], CellResult | None]
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to store: the market was not listed, or there is nothing yet to make the cell from."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell could not be made; the others go on."""

    error: Exception


Outcome = Built | Kept | Change | Nothing | Failed


def kept(record: CellRecord | None) -> Kept | Nothing:
    """The outcome of a cell that is not due: what is stored of it, if anything."""
    return Kept(record) if record else Nothing()


def attempt(compute: Callable[[Cell], Outcome], cell: Cell) -> Outcome:
    """Compute a cell; one that fails becomes its error, and the others go on."""
    try:
        return compute(cell)
    except (LakehouseError, pl.exceptions.PolarsError) as error:
        return Failed(error)


def settle(
    tables: TableStore, table: type[Table], cell: Cell | None, outcome: Outcome
) -> tuple[CellRecord | None, str]:
    """Store what became of a cell.

    Args:
        tables: The lake's cells.
        table: The cell's table.
        cell: The cell; None of a table of one object.
        outcome: What became of it.

    Returns:
        The record of what is stored afterwards, and what was done: `built`, `unchanged`, `nothing`, `failed`.

    Raises:
        LakehouseError: The cell cannot be stored.
    """
    match outcome:
        case Built(result, packed):
            return tables.store(packed or pack(table, cell, result)), "built"
        case Change(apply, is_new):
            return tables.update(table, cell, apply, is_new), "built"
        case Kept(record):
            return record, "unchanged"
        case Nothing():
            return None, "nothing"
        case Failed():
            return None, "failed"
