"""What is asked of REST APIs, before it is asked: requests, the time that their budgets take, bytes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lakehouse.model.cell import Cell
from lakehouse.model.words import count_of
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.pages import FromPages
from lakehouse.pipeline.recipe import Recipe
from lakehouse.sources.rest.asking import Question
from lakehouse.sources.rest.spending import Load, least_seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """What some cells of an exchange cost at its REST APIs, where no row is absent and no request fails.

    Attributes:
        exchange: Its name.
        cells: Cells of bronze tables that something is to be asked for.
        requests: How many requests.
        seconds: How long they take at least, by the stated budget.
        megabytes: About how large the answers are.
    """

    exchange: str
    cells: int
    requests: int
    seconds: float
    megabytes: float

    def __str__(self) -> str:
        """A sentence."""
        return (
            f"{self.exchange}: {count_of(self.cells, 'cell')} by REST, about "
            f"{count_of(self.requests, 'request')} and {self.megabytes:,.0f} MB, which take "
            f"{_length(self.seconds)} at least by the budget."
        )


def alone(has: Inventory, recipe: Recipe, cells: Iterable[Cell]) -> list[Cell]:
    """Those of some cells that REST alone can tell: their exchange publishes no file of the dataset."""
    if not isinstance(recipe, FromPages):
        return []
    archive, exchanges = recipe.dataset.archive.name, has.lake.exchanges
    without = {name for name, exchange in exchanges.items() if archive not in exchange.files}
    return [cell for cell in cells if cell.market and cell.market.exchange in without]


def costs(has: Inventory, due: Mapping[Recipe, Sequence[Cell]]) -> list[Cost]:
    """What it costs to make cells, one entry for each exchange that is asked, by name.

    Args:
        has: What the lake has.
        due: The cells to be made, by recipe; of recipes that ask no REST API nothing is told.
    """
    cells, bytes_of = Counter[str](), Counter[str]()
    loads: dict[str, dict[str, Load]] = {}  # by exchange and address
    for recipe, wanted in due.items():
        if isinstance(recipe, FromPages):
            for cell, questions in recipe.questions(has, wanted).items():
                cells[cell.own_market.exchange] += bool(questions)
                for question in questions:
                    bytes_of[cell.own_market.exchange] += _ask(has, recipe, cell, question, loads)
    return [
        Cost(
            name,
            cells[name],
            sum(load.requests for load in by_api.values()),
            max(least_seconds(load, has.lake.machines) for load in by_api.values()),
            bytes_of[name] / 1e6,
        )
        for name, by_api in sorted(loads.items())
    ]


def _ask(
    has: Inventory, recipe: FromPages, cell: Cell, question: Question, loads: dict[str, dict[str, Load]]
) -> int:
    """Reckon a question in; the bytes of its answers."""
    market, span = cell.own_market, question.span
    pages, api = has.lake.clients.pages_of(market, recipe.table.name), has.lake.clients.of(market).api
    rules, slots = pages.rules(market.market_type), pages.slots(span)
    sides = question.before + question.after
    load = loads.setdefault(market.exchange, {}).setdefault(api.url, Load(api.budget))
    whole = pages.call(market, span.start, span.end, rules.limit(slots))
    load.add(whole, rules.requests(slots))
    load.add(pages.call(market, None, span.start, 1), sides)
    return (slots + sides) * pages.row_bytes


def _length(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
