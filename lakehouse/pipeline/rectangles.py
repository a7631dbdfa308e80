"""Cells as rectangles: consecutive windows of neighbouring markets, which is what one run can cover."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import Period

_Block = tuple[list[int], list[int]]  # places of markets, numbers of windows


def rectangles(cells: Iterable[Cell], order: Sequence[str], most: int) -> list[list[Cell]]:
    """Cover cells with as few rectangles as is easily found, none of them larger than a run may be.

    A history of markets that were listed one after another is few rectangles by market, and a new month of
    all of them is one by month: both are tried. A rectangle that is too large is cut between markets first,
    so that the months of a market, which may look back on each other, stay together.

    Args:
        cells: Cells of one table.
        order: Market keys in the order in which they count as neighbours.
        most: Cells that a rectangle may have.

    Returns:
        The rectangles; every cell is in exactly one, and no other cell is. Within one, market by market.
    """
    place = {key: index for index, key in enumerate(order)}
    markets: dict[int, Market | None] = {}
    dates: dict[int, str] = {}
    at = set[tuple[int, int]]()
    for cell in cells:
        where, number = place[cell.market.key] if cell.market else 0, Period.parse(cell.date).number
        markets[where], dates[number] = cell.market, cell.date
        at.add((where, number))
    by_market = _blocks(at)
    by_month = [(places, numbers) for numbers, places in _blocks({(number, where) for where, number in at})]
    found = [part for block in min(by_market, by_month, key=len) for part in _cut(block, most)]
    return [
        [Cell(dates[number], markets[where]) for where in places for number in numbers]
        for places, numbers in sorted(found)
    ]


def _blocks(at: Iterable[tuple[int, int]]) -> list[_Block]:
    """Rectangles out of points, taken row by row: neighbouring rows that have the same consecutive run of
    columns are one.
    """
    rows: dict[int, list[int]] = {}
    for row, column in at:
        rows.setdefault(row, []).append(column)
    by_span: dict[tuple[int, ...], list[int]] = {}
    for row, columns in rows.items():
        for span in consecutive(columns):
            by_span.setdefault(tuple(span), []).append(row)
    return [(rows_of, list(span)) for span, found in by_span.items() for rows_of in consecutive(found)]


def _cut(block: _Block, most: int) -> list[_Block]:
    places, numbers = block
    windows = min(len(numbers), most)
    at_once = max(1, most // windows)
    return [
        (places[row : row + at_once], numbers[column : column + windows])
        for row in range(0, len(places), at_once)
        for column in range(0, len(numbers), windows)
    ]


def consecutive(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers as runs of consecutive ones."""
    grouped = groupby(enumerate(sorted(set(numbers))), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in group] for _, group in grouped]
