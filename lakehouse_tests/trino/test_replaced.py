"""What Trino reads of a cell while a build replaces it, many times a second here: one version whole, or an
error; never half of one and half of another, which is what it reads of an object in parts.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

import polars as pl
import pytest
from trino.exceptions import TrinoQueryError

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellResult
from lakehouse.storage.layout import cell_path
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC
from lakehouse_tests.trino.conftest import Rows, Shown

pytestmark = pytest.mark.slow

CELL = Cell("2024-12", BTC)
OF_IT = "FROM lakehouse_demo_silver.candle WHERE market_type = 'spot' AND month = '2024-12'"
ASKED = (
    f"SELECT count(*), min(open_time), max(close), count_if(is_truncated), count_if(is_misaligned) {OF_IT}"
)
LONGEST = 60  # seconds
Said = dict[str, list[Rows]]


@contextlib.contextmanager
def being_replaced(shown: Shown, change: list[pl.Expr]) -> Iterator[Said]:
    """The cell and a changed one take each other's place; what a statement says of each, by catalog."""
    objects, path = shown.lake.objects, cell_path(Candle, CELL)
    stored = objects.get(path)
    assert stored is not None
    rows = (
        shown.lake.scan("silver/candle", BTC.key, "2024-12-01", "2025-01-01").collect().select(Candle.names())
    )
    bodies, said = [], Said()
    for frame in (rows, rows.with_columns(change)):
        TableStore(objects).put(Candle, CELL, CellResult(frame, {}))
        bodies.append(objects.get(path) or b"")
        for catalog in ("lake", "careless"):
            said.setdefault(catalog, []).append(shown.rows(ASKED, catalog=catalog))
    is_over = threading.Event()

    def replace() -> None:
        turn = 0
        while not is_over.is_set():
            objects.put(path, bodies[turn % 2])
            turn += 1

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        yield said
    finally:
        is_over.set()
        writer.join()
        objects.put(path, stored)


def seen(shown: Shown, said: Said, catalog: str, until: set[str], least: float = 0) -> Counter[str]:
    """How often a statement had which answer, until some were there, and for some seconds at least."""
    found, began = Counter[str](), time.monotonic()
    while (took := time.monotonic() - began) < LONGEST and (took < least or not until <= found.keys()):
        with contextlib.suppress(TrinoQueryError):
            answer = shown.rows(ASKED, catalog=catalog)
            whole = said[catalog].index(answer) if answer in said[catalog] else 2
            found[("before", "after", "mixed")[whole]] += 1
    return found


def test_a_cell_is_read_in_one_version_while_it_is_replaced(shown: Shown) -> None:
    """Columns at both ends of the file change, and none its size: nothing but the values can tell."""
    minute = pl.duration(minutes=1)
    change = [pl.col("open_time", "close_time") + minute, pl.lit(True).alias("is_truncated")]
    with being_replaced(shown, [*change, pl.lit(True).alias("is_misaligned")]) as said:
        assert said["lake"][0] != said["lake"][1]
        assert seen(shown, said, "lake", {"before", "after"}, least=3).keys() == {"before", "after"}
        by_parts = seen(shown, said, "careless", {"mixed"})
    assert by_parts["mixed"], "what is read in parts is mixed in silence"


def test_a_version_of_another_size_is_read_whole_or_is_an_error(shown: Shown) -> None:
    with being_replaced(shown, [pl.col("open", "high", "low", "close") + 1]) as said:
        found = seen(shown, said, "lake", {"before", "after"}, least=3)
    assert found.keys() == {"before", "after"}
