"""Why cells are made, in words: for the runs that make them."""

from collections import Counter
from collections.abc import Mapping

from lakehouse.model.cell import Cell
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of
from lakehouse.pipeline.files import FromFiles
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipe import Recipe
from lakehouse.sources.files.listing import MarketListing
from lakehouse.storage.tables import CellRecord

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
    if isinstance(recipe, FromFiles):
        listing = has.listings.get(recipe.table.name, {}).get(cell.own_market)
        return _of_files(listing, cell, record) if listing else "judged by another witness"
    if isinstance(reason, TimeRange):
        return "new hours"
    if isinstance(reason, list) and reason and isinstance(reason[0], tuple):
        changed = [name for name, version in reason if record.inputs.get(name) != version]
        return f"{' and '.join(sorted({name.partition('@')[0] for name in changed})) or 'an input'} changed"
    return "new candles, or open questions" if reason else "judged by another witness"


def _of_files(listing: MarketListing, cell: Cell, record: CellRecord) -> str:
    was = {period: state for period, state in record.inputs.items() if "/" not in period}
    replaced = [period for period, state in was.items() if listing.state(period) != state]
    added = [period for period in listing.primary(cell) if period not in was]
    if replaced:
        return "file replaced" if len(replaced) == 1 else f"{len(replaced)} files replaced"
    if added:
        return f"{count_of(len(added), 'new day')}" if len(added[0]) > len("2024-01") else "new month"
    return (
        "judged by another witness" if not listing.is_due(cell, record) else "more of the month is published"
    )
