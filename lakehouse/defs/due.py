"""What the ledger says of cells there is news of, in partition keys."""

from collections.abc import Callable, Collection

from lakehouse.defs.partitions import parse_cells
from lakehouse.model.cell import Cell
from lakehouse.model.table import Table
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices


def due_partitions(lake: LakeServices, table: type[Table]) -> Callable[[Collection[str]], set[str]]:
    """Tells which of some partitions of a table must be made, by its recipe and what is stored.

    Of few markets their folders alone are listed. What could not be made, such as the month after the last
    one of a table that looks back, is not due.
    """

    def due(keys: Collection[str]) -> set[str]:
        cells = parse_cells(keys)
        has = Inventory(lake, {cell.market for cell in cells.values() if cell.market} or None)
        recipe = recipes(lake.registry)[table]
        months = dict.fromkeys(Cell(cell.month, cell.market) for cell in cells.values())
        covered = set(recipe.covered(has, list(months)))
        reasons = recipe.due(has, [cell for cell in cells.values() if cell in covered]).reasons
        return {key for key, cell in cells.items() if cell in reasons}

    return due
