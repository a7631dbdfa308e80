"""A search reads what it has not seen, no more than it may, and remembers it."""

from collections.abc import Iterable

import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellResult
from lakehouse.ops import anomalies
from lakehouse.ops.anomalies import known_anomalies, search_anomalies
from lakehouse.storage.layout import anomalies_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse.transform.anomalies import DEFAULT, Sensitivity
from lakehouse_tests.making import BTC, candles, minutes

MONTHS = [f"2024-{month:02d}" for month in range(1, 7)]


def put(objects: LakeObjects, month: str, high: float = 102.0) -> None:
    """A short month whose closes move, so that only its highest price can be an anomaly."""
    highs = [102.0] * 30
    highs[12] = high
    TableStore(objects).put(
        Candle, Cell(month, BTC), CellResult(candles(minutes(f"{month}-01", 30), high=highs), {})
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The months that searches read."""
    months: list[str] = []
    search = anomalies.find_anomalies
    monkeypatch.setattr(
        anomalies,
        "find_anomalies",
        lambda rows, by: months.append(f"{rows['open_time'][0]:%Y-%m}") or search(rows, by),
    )
    return months


def found(
    objects: LakeObjects, at_most: int = 100, sensitivity: Sensitivity = DEFAULT
) -> dict[str, dict[str, int]]:
    cells = ledger(objects, Candle)
    searched = search_anomalies(objects, Candle, cells, sensitivity, at_most)
    assert known_anomalies(objects, Candle, cells, sensitivity) == searched
    return {cell.date: dict(anomalies.counts) for cell, anomalies in searched.items()}


def taken(read: list[str]) -> Iterable[str]:
    months, read[:] = sorted(read), []
    return months


def test_newest_months_come_first_and_none_twice(objects: LakeObjects, read: list[str]) -> None:
    for month in MONTHS:
        put(objects, month, 300.0 if month == "2024-03" else 102.0)
    assert (list(found(objects, 2)), taken(read)) == (["2024-05", "2024-06"], ["2024-05", "2024-06"])
    assert (found(objects, 3), taken(read)) == (
        {"2024-02": {}, "2024-03": {"spike": 1}, "2024-04": {}, "2024-05": {}, "2024-06": {}},
        ["2024-02", "2024-03", "2024-04"],
    )
    found(objects)
    found(objects)
    assert taken(read) == ["2024-01"]


def test_a_cell_that_changed_is_searched_again_after_those_that_never_were(
    objects: LakeObjects, read: list[str]
) -> None:
    put(objects, "2024-06")
    found(objects)
    put(objects, "2024-06", 400.0)
    put(objects, "2024-01")
    taken(read)
    assert (found(objects, 1), taken(read)) == ({"2024-01": {}}, ["2024-01"])
    assert (found(objects, 1), taken(read)) == ({"2024-01": {}, "2024-06": {"spike": 1}}, ["2024-06"])
    put(objects, "2024-06", 400.0)
    found(objects)
    assert taken(read) == [], "the same rows again"


def test_what_is_remembered_may_be_lost_and_holds_for_its_parameters_only(
    objects: LakeObjects, read: list[str]
) -> None:
    put(objects, "2024-01", 103.0)
    assert found(objects) == {"2024-01": {}}
    assert found(objects, sensitivity=Sensitivity(spike=0.1, least_spike=0.001)) == {"2024-01": {"spike": 1}}
    objects.put(anomalies_path(Candle), b"<html>")
    assert known_anomalies(objects, Candle, ledger(objects, Candle)) == {}
    assert found(objects) == {"2024-01": {}}
    assert len(read) == 3


def test_cells_that_are_gone_are_forgotten(objects: LakeObjects) -> None:
    for month in ("2024-01", "2024-02"):
        put(objects, month)
    found(objects)
    TableStore(objects).delete(Candle, Cell("2024-01", BTC))
    put(objects, "2024-02", 300.0)
    assert found(objects) == {"2024-02": {"spike": 1}}
    assert b"2024-01" not in (objects.get(anomalies_path(Candle)) or b"2024-01")


def test_what_is_remembered_is_forgotten_where_a_bit_of_it_changed(objects: LakeObjects) -> None:
    put(objects, "2024-01", high=190.0)
    stored = ledger(objects, Candle)
    found = search_anomalies(objects, Candle, stored)
    path = anomalies_path(Candle)
    body = objects.get(path) or b""
    assert known_anomalies(objects, Candle, stored) == found != {}
    for place in range(0, len(body), 3):
        objects.put(path, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])
        assert known_anomalies(objects, Candle, stored) in (found, {})
    objects.put(path, body[:-5])
    assert known_anomalies(objects, Candle, stored) == {}
