"""What a large lake would take: the page is current, its figures are those that were measured, and its counts
those of lakes that were built.
"""

import re
from pathlib import Path

import pytest

from lakehouse.ops import scale
from lakehouse.ops.scale import CELL_BYTES, FIGURES, Total, breaks, cells_of, tables, ticks
from lakehouse.ops.scale_page import scale_page
from lakehouse.registry import REGISTRY

DOCS = Path(__file__).parents[2] / "docs"
MEASURED = (DOCS / "performance.md").read_text("utf-8")
_CELLS = re.compile(r"^\| `((?:bronze|silver|gold)/\w+)` \| (\d+) \| [\d,]+ \| ([\d,]+) \|$", re.MULTILINE)


def test_the_page_is_current() -> None:
    assert (DOCS / "scale.md").read_text("utf-8") == scale_page(REGISTRY), "run `lakehouse docs`"


@pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure.quote])
def test_a_measured_figure_stands_where_it_was_measured(name: str) -> None:
    figure = FIGURES[name]
    assert figure.quote in MEASURED
    assert f"python -m {figure.source}" in MEASURED
    digits = re.sub(r"[^\d.]", " ", figure.quote.replace(",", "")).split()
    in_its_unit = {figure.value, figure.value / 1000, figure.value * 1000}
    assert in_its_unit & {float(part.rstrip(".")) for part in digits}


def test_every_figure_says_where_it_is_from() -> None:
    assert all(figure.source and figure.value > 0 for figure in FIGURES.values())


def test_bytes_of_cells_are_those_that_were_measured() -> None:
    measured = {name: int(size.replace(",", "")) for name, _, size in _CELLS.findall(MEASURED)}
    assert measured == dict(CELL_BYTES)


def test_cells_are_counted_as_a_lake_that_was_built_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MARKETS", {"spot": 1, "linear": 1, "inverse": 0})
    monkeypatch.setattr(scale, "MONTHS", 3)
    built = {name: int(count) for name, count, _ in _CELLS.findall(MEASURED)}
    assert {name: cells_of(REGISTRY.table(name)) for name in built} == built


def test_everything_grows_with_the_lake_and_limits_are_met_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    before, ticks_before = Total(tables(REGISTRY)), Total(ticks())
    shares = {each.what: each.share for each in breaks(before)}
    monkeypatch.setattr(scale, "MONTHS", 2 * scale.MONTHS)
    monkeypatch.setattr(scale, "DAYS", 2 * scale.DAYS)
    after, ticks_after = Total(tables(REGISTRY)), Total(ticks())
    assert after.cells == pytest.approx(2 * before.cells, rel=1e-4)
    assert after.size == pytest.approx(2 * before.size, rel=1e-4)
    assert ticks_after.size == 2 * ticks_before.size
    assert after.new == before.new, "a further month is a month"
    for each in breaks(after):
        assert each.share == pytest.approx(shares[each.what] / 2, rel=1e-4), each.what


def test_limits_stand_in_the_order_in_which_they_are_met() -> None:
    both = Total([*tables(REGISTRY), *ticks()])
    found = breaks(both)
    assert [each.share for each in found] == sorted(each.share for each in found)
    assert len(found) > len(breaks(Total(tables(REGISTRY)))), "ticks bring limits of their own"
    assert all(each.instead for each in found)
