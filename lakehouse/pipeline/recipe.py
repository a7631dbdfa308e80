"""How the cells of one table are made: what there should be of them, what is due and why, and what becomes
of them.

Builds, sensors, `status` and the step that is run all ask the same recipe, so that they cannot disagree.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.table import Table
from lakehouse.pipeline.inventory import Inventory
from lakehouse.storage.due import Standing
from lakehouse.storage.outcome import Outcome
from lakehouse.storage.tables import CellRecord


@dataclass(frozen=True, slots=True)
class Due:
    """What is due of some cells.

    Attributes:
        reasons: Why each cell is due. A reason prints the same as long as nothing changes, for sensors hash
            its text.
        untold: Cells of which nobody could tell, with the error where there was one.
    """

    reasons: Mapping[Cell, object]
    untold: Mapping[Cell, LakehouseError | None] = field(default_factory=dict)

    def among(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of some cells that a build has to look at, so that what cannot be told is named by it."""
        return [cell for cell in cells if cell in self.reasons or cell in self.untold]


class Recipe(ABC):
    """How the cells of a table are made.

    Attributes:
        table: The table.
        asks_outside: Whether `look` has anything to ask.
    """

    table: type[Table]
    asks_outside: ClassVar[bool] = False

    def look(self, has: Inventory, cells: Iterable[Cell]) -> None:  # noqa: B027  # most have nothing to do
        """Ask outside the lake what `due` needs to know of cells; most tables need nothing.

        Raises:
            ListingUnreachableError: An archive does not answer.
        """

    def told(self, has: Inventory, cells: list[Cell]) -> Due:
        """What is due of some cells, after a look outside that is not kept.

        Raises:
            ListingUnreachableError: An archive does not answer.
        """
        self.look(has, cells)
        return self.due(has, cells)

    @abstractmethod
    def expected(self, has: Inventory) -> list[Cell]:
        """The cells there should be of the inventory's markets, as far as the lake itself can tell."""

    @abstractmethod
    def covered(self, has: Inventory, requested: list[Cell]) -> list[Cell]:
        """The cells that a request for some months of some markets covers."""

    @abstractmethod
    def due(self, has: Inventory, cells: Iterable[Cell]) -> Due:
        """Those of some cells that must be made, by what the inventory has seen."""

    @abstractmethod
    def why(self, has: Inventory, cell: Cell, record: CellRecord, reason: object) -> str:
        """In a few words why a stored cell is due.

        Args:
            has: What the inventory has seen, as it was when the cell was found due.
            cell: The cell.
            record: What is stored of it, by today's meaning of the table.
            reason: As `due` gave it.
        """

    @abstractmethod
    def standing(self, has: Inventory) -> Standing:
        """How the stored cells stand to those there should be."""

    @abstractmethod
    def make(self, has: Inventory, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Make those of some cells that are due; the others stay as they are.

        Yields:
            Every cell, once, with what became of it.
        """

    def is_outdated(self, has: Inventory, cell: Cell) -> bool:
        """Whether a stored cell was written by another meaning of its table than today's."""
        record = has.ledger(self.table.name).get(cell)
        return record is not None and record.code_version != self.table.code_version
