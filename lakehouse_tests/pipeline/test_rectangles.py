"""Every cell is in one rectangle, no other cell is, and none is larger than a run may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.table import Table
from lakehouse.pipeline.rectangles import rectangles
from lakehouse.pipeline.sizes import LARGE, MIDDLE, SMALL, WIDE, Size, holds, most_cells, size_of
from lakehouse.registry import REGISTRY

MARKETS = [Market("binance", "spot", f"COIN{number}USDT") for number in range(8)]
ORDER = [market.key for market in MARKETS]
FIRST = Period.parse("2023-11")


def cell(place: int, month: int) -> Cell:
    return Cell(FIRST.shift(month).text, MARKETS[place])


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 15)), max_size=60), st.integers(1, 40))
def test_they_cover_exactly_what_they_are_given(at: set[tuple[int, int]], most: int) -> None:
    wanted = [cell(*one) for one in at]
    found = rectangles(wanted, ORDER, most)
    assert sorted(map(str, (one for part in found for one in part))) == sorted(map(str, wanted))
    for part in found:
        assert len(part) <= most
        places = sorted({ORDER.index(one.own_market.key) for one in part})
        months = sorted({Period.parse(one.date).number for one in part})
        assert places == list(range(places[0], places[-1] + 1))
        assert months == list(range(months[0], months[-1] + 1))
        assert len(part) == len(places) * len(months)


def test_markets_listed_one_after_another_are_a_rectangle_each() -> None:
    staircase = [cell(place, month) for place in range(8) for month in range(place, 16)]
    assert len(rectangles(staircase, ORDER, 1000)) == 8


def test_a_new_month_of_all_is_one_rectangle_whatever_else_is_due() -> None:
    assert len(rectangles([cell(place, 3) for place in range(8)], ORDER, 1000)) == 1


def test_a_rectangle_is_cut_between_markets_before_it_is_cut_between_months() -> None:
    whole = [cell(place, month) for place in range(8) for month in range(12)]
    parts = rectangles(whole, ORDER, 30)
    assert [len(part) for part in parts] == [24] * 4
    assert all({one.date for one in part} == {one.date for one in whole} for part in parts)
    assert [len(part) for part in rectangles([cell(0, month) for month in range(12)], ORDER, 5)] == [5, 5, 2]


def test_cells_of_all_markets_are_rectangles_of_one_row() -> None:
    months = [Cell("2024-01"), Cell("2024-02"), Cell("2024-04")]
    assert rectangles(months, [], 9) == [months[:2], months[2:]]


class Wide(Candle):
    """A gold table of all markets."""

    name = "gold/wide"
    spread = "all"


@pytest.mark.parametrize(
    ("cells", "size"),
    [
        ({}, SMALL),
        ({CandleArchive: 6, Candle: 6}, SMALL),
        ({CandleArchive: 1, Candle: 7}, MIDDLE),
        ({Candle: 60}, MIDDLE),
        ({Candle: 61}, LARGE),
        ({Candle: 1_000_000}, LARGE),
        ({REGISTRY.gap: 3}, SMALL),
        ({Wide: 1}, WIDE),
    ],
)
def test_a_run_gets_the_smallest_machine_that_holds_what_it_makes(
    cells: dict[type[Table], int], size: Size
) -> None:
    assert size_of(cells) == size


def test_every_machine_holds_the_cells_that_it_is_given() -> None:
    assert holds(SMALL) >= 6
    assert holds(MIDDLE) >= 60
    assert holds(LARGE) >= most_cells() > 60


def test_every_size_is_one_that_fargate_has() -> None:
    """By the documentation of task sizes: half a core takes 1 to 4 GiB, one 2 to 8, two 4 to 16, by whole
    ones.
    """
    allowed = {512: range(1, 5), 1024: range(2, 9), 2048: range(4, 17)}
    for size in (SMALL, MIDDLE, LARGE, WIDE):
        assert size.memory % 1024 == 0
        assert size.memory // 1024 in allowed[size.cpu]
