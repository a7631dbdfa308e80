"""On S3, where every request waits, requests are under way beside each other: those of several cells that are
stored, and those for what one cell is made of. What is logged keeps the order of the cells.
"""

from pathlib import Path

import dagster as dg
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive, CandleWitness
from lakehouse.defs.io_manager import LakeIOManager
from lakehouse.defs.partitions import to_key
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.result import CellResult
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.services import LakeServices
from lakehouse.storage.layout import cell_path, market_prefix
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Built
from lakehouse_tests.making import BTC, candles, minutes
from lakehouse_tests.storage.fault_proxy import FaultProxy, denied

pytestmark = pytest.mark.slow
ROOT = "s3://lake/some"
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06")
CELLS = [Cell(month, BTC) for month in MONTHS]


def store(lake: LakeServices, context: dg.OutputContext) -> list[str]:
    """Store cells; the partitions whose events were logged, in their order."""
    outcomes = ((cell, Built(CellResult(candles(minutes(f"{cell.date}-01", 5)), {}))) for cell in CELLS)
    for _ in LakeIOManager(lake).store(context, Candle, outcomes):
        pass
    return told(context)


def told(context: dg.OutputContext) -> list[str]:
    return [str(event.partition) for event in context.get_logged_events()]


def test_cells_are_stored_beside_each_other_and_told_in_their_order(proxy: FaultProxy) -> None:
    proxy.delay = 0.1
    lake = LakeServices(LakeObjects(ROOT), {}, workers=2)
    assert store(lake, dg.build_output_context()) == [to_key(cell) for cell in CELLS]
    assert list(ledger(lake.objects, Candle)) == CELLS
    written = {frozenset(key for method, key in pair if method == "PUT") for pair in proxy.beside}
    most = max(sum(key in pair for pair in written if len(pair) == 2) for _, key in proxy.requests)
    assert 1 <= most < len(CELLS), "some at once, and never all"


def test_a_cell_that_fails_leaves_those_beside_it(proxy: FaultProxy) -> None:
    lake = LakeServices(LakeObjects(ROOT), {}, workers=2)
    context, refused = dg.build_output_context(), denied(f"some/{cell_path(Candle, CELLS[1])}")
    with proxy.saying(refused), pytest.raises(dg.Failure, match="1 of 6 cells"):
        store(lake, context)
    assert told(context) == [to_key(cell) for cell in CELLS if cell != CELLS[1]]
    assert list(ledger(lake.objects, Candle)) == [cell for cell in CELLS if cell != CELLS[1]]


@pytest.mark.parametrize("is_local", [True, False])
def test_one_worker_and_a_folder_store_one_cell_after_the_other(
    proxy: FaultProxy, tmp_path: Path, is_local: bool
) -> None:
    proxy.delay = 0.02
    lake = LakeServices(LakeObjects(tmp_path if is_local else ROOT), {}, workers=2 if is_local else 1)
    assert lake.in_flight == 1
    assert store(lake, dg.build_output_context()) == [to_key(cell) for cell in CELLS]
    assert not proxy.beside


def test_a_table_and_what_it_is_made_from_are_surveyed_at_once_and_once(proxy: FaultProxy) -> None:
    lake = LakeServices(LakeObjects(ROOT), {})
    store(lake, dg.build_output_context())
    has = Inventory(lake, [BTC])
    proxy.delay = 0.1
    proxy.requests.clear()
    proxy.beside.clear()
    has.look_at(Candle)
    folders = {f"some/{market_prefix(table, BTC)}" for table in (Candle, CandleArchive, CandleWitness)}
    listed = [pair for pair in proxy.beside if {key.rstrip("/") for _, key in pair} <= folders]
    assert len(listed) == len(folders), "each of them beside both others"
    proxy.requests.clear()
    assert list(has.ledger(Candle.name)) == CELLS
    assert (has.ledger(CandleArchive.name), has.known, proxy.requests) == ({}, {}, [])


def test_what_later_cells_are_made_of_is_read_meanwhile(proxy: FaultProxy) -> None:
    lake = LakeServices(LakeObjects(ROOT), {}, workers=2)
    store(lake, dg.build_output_context())
    lake.objects.put(cell_path(Candle, CELLS[2]), b"damaged")
    has = Inventory(lake, [BTC])
    proxy.delay = 0.1
    proxy.beside.clear()
    read: dict[Cell, int | str] = {}
    for cell in has.reading_ahead(CELLS, lambda cell: [(Candle, cell)]):
        try:
            stored = has.read(Candle, cell)
            read[cell] = stored.rows.height if stored else 0
        except NotALakeObjectError as error:
            read[cell] = error.path
    assert read == dict.fromkeys(CELLS, 5) | {CELLS[2]: cell_path(Candle, CELLS[2])}
    assert list(read) == CELLS
    asked = [key for method, key in proxy.requests if method == "GET" and key.endswith(".parquet")]
    assert len(asked) == len(set(asked)), "each once"
    assert any({key for _, key in pair} <= set(asked) for pair in proxy.beside if len(pair) == 2)


def test_what_the_last_cells_are_made_of_is_read_though_no_cell_comes_behind_them(proxy: FaultProxy) -> None:
    lake = LakeServices(LakeObjects(ROOT), {}, workers=2)
    store(lake, dg.build_output_context())
    has, tables = Inventory(lake, [BTC]), (Candle, CandleArchive, CandleWitness)
    proxy.delay = 0.1
    cells = list(has.reading_ahead(CELLS, lambda cell: [(table, cell) for table in tables]))
    stored = [has.read(table, cell) for cell in cells for table in tables]
    assert [found.rows.height if found else 0 for found in stored] == [5, 0, 0] * len(CELLS)


def test_what_a_cell_is_made_of_is_read_at_once(proxy: FaultProxy) -> None:
    objects = LakeObjects(ROOT)
    paths = [f"bronze/{name}" for name in ("a", "b", "c")]
    for path in paths:
        objects.put(path, path.encode())
    proxy.delay = 0.1
    proxy.beside.clear()
    read = objects.together(*(lambda path=path: objects.get(path) for path in paths))
    assert read == [path.encode() for path in paths]
    assert len(proxy.beside) == 3, "each of them beside both others"
