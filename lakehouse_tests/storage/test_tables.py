"""Cells in storage: checked on the way in, replaced whole, never lost between two writers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.errors import DuplicateKeyError, NotALakeObjectError, SchemaError
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.storage.layout import cell_path, quarantine_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import StoredCell, TableStore
from lakehouse_tests.making import BTC, FEBRUARY, NOW, at, bronze, candles, facts, minutes

TIMES = minutes("2024-02-05", 6)


@pytest.fixture
def store(objects: LakeObjects) -> TableStore:
    return TableStore(objects)


def test_a_cell_reads_back_with_what_it_says_of_itself(store: TableStore) -> None:
    known = CellFacts((GapRun("absent", TIMES[0], TIMES[1], 1),), 2, "rows_daily", NOW)
    record = store.put(Candle, FEBRUARY, CellResult(candles(TIMES[::-1]), {"a": "1"}, known))
    stored = store.get(Candle, FEBRUARY)
    assert stored is not None
    assert stored.rows.equals(candles(TIMES)), "in key order"
    assert (record.rows, record.first_time, record.last_time) == (6, TIMES[0], TIMES[-1])
    assert (record.facts, record.inputs, record.code_version, record.reject_count) == (
        known,
        {"a": "1"},
        Candle.code_version,
        0,
    )
    assert (stored.record.version, stored.record.facts, stored.record.size) == (
        record.version,
        known,
        record.size,
    )
    assert store.get(Candle, Cell("2024-03", BTC)) is None


def test_an_empty_cell_is_a_cell(store: TableStore) -> None:
    record = store.put(Candle, FEBRUARY, CellResult(Candle.empty(), {}))
    stored = store.get(Candle, FEBRUARY)
    assert stored is not None
    assert (stored.rows.height, stored.rows.schema, record.first_time) == (0, Candle.polars_schema(), None)


def test_tables_of_other_shapes_have_objects_of_their_own(store: TableStore, objects: LakeObjects) -> None:
    run = GapRun("absent", TIMES[0], TIMES[1], 1)
    store.put(Gap, Cell("2024-02"), CellResult(gap_frame([(BTC, "silver/candle", run)]), {}))
    single = store.put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    assert (single.path, single.cell, single.first_time) == ("silver/market/data.parquet", None, None)
    assert objects.get("silver/gap/month=2024-02/data.parquet") is not None
    with pytest.raises(TypeError, match="without cells"):
        single.key  # noqa: B018


def test_equal_rows_have_one_version_whatever_they_were_made_from(store: TableStore) -> None:
    first = store.put(Candle, FEBRUARY, CellResult(candles(TIMES), {"a": "1"}, CellFacts(asked_until=NOW)))
    again = store.put(Candle, FEBRUARY, CellResult(candles(TIMES), {"a": "2"}))
    other = store.put(Candle, Cell("2024-03", BTC), CellResult(candles(TIMES), {}))
    changed = store.put(Candle, FEBRUARY, CellResult(candles(TIMES, volume=11.0), {"a": "2"}))
    assert first.version == again.version == other.version != changed.version
    assert first.etag != again.etag


def test_a_bronze_version_covers_until_when_the_source_was_asked(store: TableStore) -> None:
    """An answer without rows is news: silver turns it into a gap."""
    versions = [
        store.put(
            CandleArchive, FEBRUARY, CellResult(bronze(TIMES), {}, CellFacts(asked_until=at(day)))
        ).version
        for day in ("2024-02-06", "2024-02-07", "2024-02-06")
    ]
    assert versions[0] == versions[2] != versions[1]
    silver = [
        store.put(Candle, FEBRUARY, CellResult(candles(TIMES), {}, CellFacts(asked_until=at(day)))).version
        for day in ("2024-02-06", "2024-02-07")
    ]
    assert silver[0] == silver[1]


def test_rejected_rows_go_to_quarantine_with_their_rule_and_leave_with_their_cell(
    store: TableStore, objects: LakeObjects
) -> None:
    broken = candles(TIMES[:1], close=[None]).with_columns(rule=pl.lit("close_not_null"))
    record = store.put(
        Candle,
        FEBRUARY,
        CellResult(
            candles(
                TIMES[1:],
                volume=[1.0, -1.0, 1.0, 1.0, 1.0],
                taker_buy_volume=-2.0,
                taker_buy_quote_volume=None,
            ),
            {},
            rejected=broken,
        ),
    )
    assert (record.rows, record.reject_count) == (0, 6)
    kept = store.quarantined(Candle, FEBRUARY)
    assert kept is not None
    assert kept.select("open_time", "rule").rows() == [
        (TIMES[0], "close_not_null"),
        *(
            (time, "volume_at_least_0" if n == 1 else "taker_buy_volume_at_least_0")
            for n, time in enumerate(TIMES[1:])
        ),
    ]
    store.put(Candle, FEBRUARY, CellResult(candles(TIMES), {}))
    assert store.quarantined(Candle, FEBRUARY) is None
    store.put(Candle, FEBRUARY, CellResult(candles(TIMES, open=-1.0), {}))
    store.delete(Candle, FEBRUARY)
    store.delete(Candle, FEBRUARY)
    assert objects.get(cell_path(Candle, FEBRUARY)) is None
    assert objects.get(quarantine_path(Candle, FEBRUARY)) is None


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (candles(TIMES).drop("volume"), SchemaError),
        (pl.concat([candles(TIMES), candles(TIMES[:1])]), DuplicateKeyError),
    ],
    ids=["schema", "key"],
)
def test_a_refused_frame_leaves_the_stored_cell_as_it_is(
    store: TableStore, objects: LakeObjects, rows: pl.DataFrame, error: type[Exception]
) -> None:
    store.put(Candle, FEBRUARY, CellResult(candles(TIMES, low=200.0), {}))
    before = [objects.get(path) for path in (cell_path(Candle, FEBRUARY), quarantine_path(Candle, FEBRUARY))]
    with pytest.raises(error, match=r"silver/candle 2024-02\|binance-spot:BTCUSDT.*nothing was written"):
        store.put(Candle, FEBRUARY, CellResult(rows, {}))
    assert [
        objects.get(path) for path in (cell_path(Candle, FEBRUARY), quarantine_path(Candle, FEBRUARY))
    ] == before


def test_a_foreign_object_in_a_cells_place_is_no_cell(store: TableStore, objects: LakeObjects) -> None:
    objects.put(cell_path(Candle, FEBRUARY), b"not ours")
    with pytest.raises(NotALakeObjectError):
        store.get(Candle, FEBRUARY)
    assert store.put(Candle, FEBRUARY, CellResult(candles(TIMES), {})).rows == 6, "it can be replaced"


# --- read, change, replace ------------------------------------------------------------------------


def add_minutes(root: str, first: int, count: int) -> None:
    """Add rows to a cell one by one, as a process of its own does in the test below."""
    store = TableStore(LakeObjects(root))
    for n in range(first, first + count):
        row = candles([at("2024-02-05") + n * (TIMES[1] - TIMES[0])])
        store.update(
            Candle,
            FEBRUARY,
            lambda stored, row=row: CellResult(pl.concat([stored.rows, row]) if stored else row, {}),
        )  # type: ignore[misc]


def test_update_without_a_change_writes_nothing(store: TableStore, objects: LakeObjects) -> None:
    assert store.update(Candle, FEBRUARY, lambda stored: None) is None
    assert objects.get(cell_path(Candle, FEBRUARY)) is None
    record = store.update(
        Candle, FEBRUARY, lambda stored: CellResult(candles(TIMES), {}) if stored is None else None
    )
    assert record is not None
    before = list(objects.list(Candle.name))
    kept = store.update(Candle, FEBRUARY, lambda stored: None)
    assert kept is not None
    assert (kept.version, list(objects.list(Candle.name))) == (record.version, before)


def test_an_update_of_a_damaged_cell_begins_anew(store: TableStore, objects: LakeObjects) -> None:
    objects.put(cell_path(Candle, FEBRUARY), b"damaged")
    before: list[StoredCell | None] = []
    record = store.update(
        Candle, FEBRUARY, lambda stored: before.append(stored) or CellResult(candles(TIMES), {})
    )  # type: ignore[func-returns-value]
    assert before == [None]
    assert record is not None
    assert store.get(Candle, FEBRUARY).rows.height == 6  # type: ignore[union-attr]


def test_an_update_that_fails_leaves_the_cell_and_lets_the_next_one_in(store: TableStore) -> None:
    store.put(Candle, FEBRUARY, CellResult(candles(TIMES), {}))

    def fail(stored: StoredCell | None) -> CellResult:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.update(Candle, FEBRUARY, fail)
    assert store.update(Candle, FEBRUARY, lambda stored: CellResult(stored.rows.head(2), {})).rows == 2  # type: ignore[union-attr]


def test_threads_that_update_one_cell_lose_nothing(objects: LakeObjects, store: TableStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_minutes(objects.root, 10 * n, 5), range(8)))
    assert store.get(Candle, FEBRUARY).rows.height == 40  # type: ignore[union-attr]


@pytest.mark.slow
def test_processes_that_update_one_cell_lose_nothing(objects: LakeObjects, store: TableStore) -> None:
    code = "import sys; from lakehouse_tests.storage.test_tables import add_minutes; add_minutes(sys.argv[1], int(sys.argv[2]), 15)"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, objects.root, str(first)], cwd=Path(__file__).parents[2]
        )
        for first in (0, 100)
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    assert store.get(Candle, FEBRUARY).rows.height == 30  # type: ignore[union-attr]
