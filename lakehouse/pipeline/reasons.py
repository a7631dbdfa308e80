"""Why cells are made, in words: for the runs that make them."""

from collections import Counter
from collections.abc import Mapping

from lakehouse.model.cell import Cell
from lakehouse.model.words import count_of
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipe import Recipe

_NAMED = 3


def words_for(recipe: Recipe, has: Inventory, reasons: Mapping[Cell, object]) -> dict[Cell, str]:
    """Why each of some cells is due.

    Args:
        recipe: Of their table.
        has: What the lake has, and archives list, as they were found due.
        reasons: As the recipe gave them.
    """
    return {cell: _why(recipe, has, cell, reason) for cell, reason in reasons.items()}


def summed_up(words: Mapping[Cell, str]) -> str:
    """Why some cells are due, the commonest reason first: `file replaced (3 cells); never built`."""
    counted = Counter(words.values()).most_common()
    said = [why if count == 1 else f"{why} ({count_of(count, 'cell')})" for why, count in counted[:_NAMED]]
    return "; ".join([*said, *(["…"] if len(counted) > _NAMED else [])])


def _why(recipe: Recipe, has: Inventory, cell: Cell, reason: object) -> str:
    record = has.ledger(recipe.table.name).get(cell)
    if record is None:
        return "never built"
    if record.code_version != recipe.table.code_version:
        return f"code version {recipe.table.code_version}"
    return recipe.why(has, cell, record, reason)
