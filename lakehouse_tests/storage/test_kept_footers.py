"""A footer that a process has read or written is not asked for again while its object stays what it was."""

import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellResult
from lakehouse.storage import kept_footers
from lakehouse.storage.kept_footers import KeptFooters
from lakehouse.storage.layout import cell_path, quarantine_path
from lakehouse.storage.ledger import ledger, survey
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import StoredCell, TableStore
from lakehouse_tests.making import BTC, candles, minutes
from lakehouse_tests.storage.fault_proxy import FaultProxy

ROOT = "s3://lake/some"
CELLS = [Cell(month, BTC) for month in ("2024-01", "2024-02", "2024-03")]


def result(cell: Cell, count: int = 5) -> CellResult:
    return CellResult(candles(minutes(f"{cell.date}-01", count)), {})


def asked(proxy: FaultProxy, method: str = "GET") -> list[str]:
    """The cells that were asked for since this was asked last."""
    seen, proxy.requests = proxy.requests, []
    return sorted(
        key.removeprefix("some/")
        for way, key in seen
        if way == method and key.endswith(".parquet") and not key.startswith("some/ledger/")
    )


def test_an_object_with_another_etag_or_size_is_another_object() -> None:
    kept = KeptFooters()
    kept.keep("a", "1", 10, {"rows": 1})
    kept.keep("b", "", 10, {"rows": 1})
    found = [kept.of(*named) for named in (("a", "1", 10), ("a", "2", 10), ("a", "1", 11), ("b", "", 10))]
    assert found == [{"rows": 1}, None, None, None]


def test_those_that_were_wanted_least_recently_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_footers, "_MOST", 2)
    kept = KeptFooters()
    for path in ("a", "b"):
        kept.keep(path, "1", 10, {})
    assert kept.of("a", "1", 10) is not None
    kept.keep("c", "1", 10, {})
    assert [kept.of(path, "1", 10) is not None for path in ("a", "b", "c")] == [True, False, True]


@pytest.mark.slow
def test_each_footer_is_asked_for_once_and_that_of_a_replaced_object_again(proxy: FaultProxy) -> None:
    writer, reader = LakeObjects(ROOT), LakeObjects(ROOT)
    for cell in CELLS:
        TableStore(writer).put(Candle, cell, result(cell))
    paths = sorted(cell_path(Candle, cell) for cell in CELLS)
    asked(proxy)
    stored = ledger(writer, Candle, [BTC])
    assert (list(stored), asked(proxy)) == (CELLS, []), "what it wrote itself"
    assert ledger(reader, Candle, [BTC]) == stored
    assert asked(proxy) == paths
    assert ledger(reader, Candle, [BTC]) == stored
    assert asked(proxy) == []

    TableStore(writer).put(Candle, CELLS[1], result(CELLS[1], 7))
    replaced = ledger(reader, Candle, [BTC])
    assert asked(proxy) == [paths[1]]
    assert [record.rows for record in replaced.values()] == [5, 7, 5]
    TableStore(writer).delete(Candle, CELLS[2])
    assert list(ledger(reader, Candle, [BTC])) == CELLS[:2]


@pytest.mark.slow
def test_an_object_that_is_damaged_where_it_lies_is_found(proxy: FaultProxy) -> None:
    objects = LakeObjects(ROOT)
    for cell in CELLS:
        TableStore(objects).put(Candle, cell, result(cell))
    assert list(ledger(objects, Candle, [BTC])) == CELLS
    path = cell_path(Candle, CELLS[0])
    whole = objects.get(path)
    assert whole is not None
    LakeObjects(ROOT).put(path, whole[:-40] + bytes(40))  # as long as it was
    stored, foreign = survey(objects, Candle, [BTC])
    assert list(stored) == CELLS[1:]
    assert [error.path for error in foreign] == [path]


@pytest.mark.slow
@pytest.mark.if_match
def test_a_cell_that_no_ledger_has_is_written_unread_and_one_that_is_there_after_all_is_read(
    proxy: FaultProxy,
) -> None:
    objects = LakeObjects(ROOT)
    objects.guards_by_etag()
    seen: list[StoredCell | None] = []

    def change(before: StoredCell | None) -> CellResult:
        seen.append(before)
        return result(CELLS[0], 5 + (before.rows.height if before else 0))

    asked(proxy)
    for expected in ([], [cell_path(Candle, CELLS[0])]):
        TableStore(objects).update(Candle, CELLS[0], change, is_new=True)
        assert asked(proxy) == expected
    first, in_vain, second = seen
    assert (first, in_vain) == (None, None)
    assert second is not None
    assert second.rows.height == 5
    assert ledger(objects, Candle)[CELLS[0]].rows == 10


@pytest.mark.slow
def test_quarantine_is_cleared_where_it_has_something_without_asking_for_each_cell(proxy: FaultProxy) -> None:
    objects = LakeObjects(ROOT)
    left_behind = quarantine_path(Candle, CELLS[1])
    objects.put(left_behind, b"of a process that was killed before it wrote the cell")
    asked(proxy, "DELETE")
    store = TableStore(objects, is_for_many=True)
    for cell in CELLS:
        store.put(Candle, cell, result(cell))
    assert asked(proxy, "DELETE") == [left_behind]
    assert list(objects.list("quarantine")) == []


@pytest.mark.slow
def test_quarantine_that_came_since_it_was_listed_goes_with_the_cell_that_names_it(proxy: FaultProxy) -> None:
    objects = LakeObjects(ROOT)
    store = TableStore(objects, is_for_many=True)
    store.put(Candle, CELLS[0], result(CELLS[0]))  # lists
    broken = candles(minutes(f"{CELLS[1].date}-01", 5)).with_columns(high=0.0)
    TableStore(LakeObjects(ROOT)).put(Candle, CELLS[1], CellResult(broken, {}))
    assert [found.path for found in objects.list("quarantine")] == [quarantine_path(Candle, CELLS[1])]
    store.update(Candle, CELLS[1], lambda before: result(CELLS[1]))
    assert list(objects.list("quarantine")) == []
