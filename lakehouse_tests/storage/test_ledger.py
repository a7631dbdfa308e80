"""The ledger is what is stored, always; what is due follows from it and from nothing else."""

import dataclasses
import os
import re
from datetime import timedelta

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.gap import Gap, gap_table
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.features.candle import CANDLES
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.result import NONE, CellFacts, CellResult, GapRun
from lakehouse.storage import ledger as ledger_module
from lakehouse.storage.due import expected, inputs_now, is_due
from lakehouse.storage.layout import cell_path, ledger_path, market_prefix
from lakehouse.storage.ledger import NARROW, ledger, records, survey, survey_few
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord, TableStore
from lakehouse.storage.verification import Damage, Verification, save_verification
from lakehouse_tests.making import BTC, COIN, FEBRUARY, MINUTE, NOW, at, candles, facts, minutes

ETH = Market("binance", "spot", "ETHUSDT")
ODD = Market("binance", "spot", "币安人生USDT")
CELLS = [Cell(date, market) for market in (BTC, ETH, ODD, COIN) for date in ("2024-01", "2024-02")]
NO_BRONZE: dict[str, dict[Cell, CellRecord]] = {name: {} for name in Candle.input_names()}


@pytest.fixture
def store(objects: LakeObjects) -> TableStore:
    return TableStore(objects)


def put(store: TableStore, cell: Cell, count: int = 3, known: CellFacts | None = None) -> CellRecord:
    return store.put(
        Candle, cell, CellResult(candles(minutes(f"{cell.date}-05", count)), {"a": "1"}, known or CellFacts())
    )


def filled(store: TableStore) -> dict[Cell, CellRecord]:
    return {cell: put(store, cell, n) for n, cell in enumerate(CELLS)}


def test_it_equals_reality_after_every_put_overwrite_and_delete(
    store: TableStore, objects: LakeObjects
) -> None:
    assert ledger(objects, Candle) == {}
    stored = filled(store)
    assert ledger(objects, Candle) == ledger(objects, Candle) == stored, (
        "first from the footers, then from the cache"
    )
    stored[CELLS[1]] = put(store, CELLS[1], 9)
    store.delete(Candle, CELLS[0])
    del stored[CELLS[0]]
    assert ledger(objects, Candle) == stored
    stored[CELLS[0]] = put(store, CELLS[0], 1)
    assert ledger(LakeObjects(objects.root), Candle) == stored
    assert list(ledger(objects, Candle)) == sorted(stored, key=lambda cell: cell.sort_key)


def test_an_overwrite_with_equal_rows_is_seen_by_its_new_footer(
    store: TableStore, objects: LakeObjects
) -> None:
    first = put(store, FEBRUARY)
    assert ledger(objects, Candle)[FEBRUARY] == first
    again = put(store, FEBRUARY, known=CellFacts(conflict_count=3))
    assert (ledger(objects, Candle)[FEBRUARY], again.version) == (again, first.version)


@pytest.mark.parametrize(
    "cache",
    [None, b"", b"garbage", b"PAR1", os.urandom(2000), "another"],
    ids=["lost", "empty", "garbage", "cut", "random", "another"],
)
def test_a_cache_that_is_lost_or_garbage_costs_nothing_but_time(
    store: TableStore, objects: LakeObjects, cache: bytes | str | None
) -> None:
    stored = filled(store)
    ledger(objects, Candle)
    if cache is None:
        objects.delete(ledger_path(Candle))
    elif cache == "another":
        pl.DataFrame({"path": [1]}).write_parquet(objects.uri(ledger_path(Candle)))
    else:
        objects.put(ledger_path(Candle), cache)  # type: ignore[arg-type]
    assert ledger(objects, Candle) == stored
    assert ledger(objects, Candle) == stored


def test_a_lying_cache_is_corrected_where_the_object_has_changed(
    store: TableStore, objects: LakeObjects
) -> None:
    stored = filled(store)
    ledger(objects, Candle)
    path = objects.uri(ledger_path(Candle))
    stale = pl.read_parquet(path).with_columns(pl.lit("other").alias("etag"), pl.lit("{}").alias("facts"))
    stale.write_parquet(path)
    assert ledger(objects, Candle) == stored


def test_a_footer_larger_than_one_read_is_read_whole(store: TableStore, objects: LakeObjects) -> None:
    start = minutes("2024-02-05", 1)[0]
    runs = tuple(
        GapRun("absent", start + 2 * n * MINUTE, start + (2 * n + 1) * MINUTE, 1) for n in range(1500)
    )
    record = put(store, FEBRUARY, known=CellFacts(runs))
    assert record.size > 128 * 1024
    assert ledger(objects, Candle)[FEBRUARY].facts.gaps == runs


@pytest.mark.parametrize(
    "body", [b"", b"x", b"PAR1", b"PAR1" + bytes(16) + b"PAR1", b"<html>not found</html>"], ids=len
)
def test_an_object_this_lake_did_not_write_counts_as_absent_and_is_named(
    store: TableStore, objects: LakeObjects, body: bytes
) -> None:
    put(store, FEBRUARY)
    path = cell_path(Candle, CELLS[0])
    objects.put(path, body)
    for _ in range(2):  # from the object, then beside a cache
        stored, (foreign,) = survey(objects, Candle)
        assert set(stored) == set(ledger(objects, Candle)) == {FEBRUARY}
        assert isinstance(foreign, NotALakeObjectError)
        assert foreign.path == path
        assert re.fullmatch(
            f"(?s){path} is not a cell of this lake.*Remove it, or rebuild the cell\\.", str(foreign)
        )
    put(store, CELLS[0])
    stored, others = survey(objects, Candle)
    assert (set(stored), others) == ({FEBRUARY, CELLS[0]}, [])


def test_a_cell_in_a_wrong_place_is_named_and_other_files_are_ignored(
    store: TableStore, objects: LakeObjects
) -> None:
    put(store, FEBRUARY)
    objects.put("silver/candle/readme.txt", b"notes")
    objects.put("silver/candle_notes/data.parquet", b"a folder whose name only begins alike")
    assert list(ledger(objects, Candle)) == [FEBRUARY]
    objects.put("silver/candle/copy/data.parquet", objects.get(cell_path(Candle, FEBRUARY)) or b"")
    stored, (foreign,) = survey(objects, Candle)
    assert set(stored) == {FEBRUARY}
    assert "has no 'exchange'" in str(foreign)


@pytest.mark.parametrize("is_cached", [True, False])
def test_of_named_markets_only_their_folders_are_listed_and_the_rest_of_the_cache_stays(
    store: TableStore, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    stored = filled(store)
    if is_cached:
        ledger(objects, Candle)
    cache, listed = objects.get(ledger_path(Candle)), list[str]()
    listing = objects.list
    monkeypatch.setattr(objects, "list", lambda prefix: listed.append(prefix) or listing(prefix))
    for markets in ([BTC], [ODD, ETH], [ETH, ETH], []):
        assert ledger(objects, Candle, markets) == {
            cell: record for cell, record in stored.items() if cell.market in markets
        }
    assert listed == [market_prefix(Candle, market) for market in (BTC, ODD, ETH, ETH)]
    assert objects.get(ledger_path(Candle)) == cache
    changed = put(store, CELLS[1], 9)
    objects.put(cell_path(Candle, CELLS[0]), b"damaged")
    found, (foreign,) = survey(objects, Candle, [BTC])
    assert (found, foreign.path) == ({CELLS[1]: changed}, cell_path(Candle, CELLS[0]))
    assert survey(objects, Candle, [ETH])[1] == []
    assert ledger(objects, Candle) == {cell: put for cell, put in stored.items() if cell != CELLS[0]} | {
        CELLS[1]: changed
    }


def test_of_many_named_markets_the_table_is_listed_once_and_theirs_come_out(
    store: TableStore, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, listed = filled(store), list[str]()
    objects.put(cell_path(Candle, CELLS[2]), b"damaged")
    listing = objects.list
    monkeypatch.setattr(objects, "list", lambda prefix: listed.append(prefix) or listing(prefix))
    many = [BTC, *(Market("binance", "spot", f"X{number}") for number in range(NARROW))]
    assert survey(objects, Candle, many) == (
        {cell: record for cell, record in stored.items() if cell.market == BTC},
        [],
    )
    (damaged,) = survey(objects, Candle, [ETH, *many])[1]
    assert damaged.path == cell_path(Candle, CELLS[2])
    assert listed == ["silver/candle"] * 2


@pytest.mark.parametrize("month", ["2024-01", "2024-02"])
def test_few_cells_are_surveyed_as_all_of_their_markets_are(
    store: TableStore, objects: LakeObjects, month: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = filled(store)
    objects.put(cell_path(Candle, CELLS[0]), b"damaged")
    objects.put(f"{market_prefix(Candle, ETH)}/copy/data.parquet", b"in a wrong place")
    found = stored[CELLS[3]]
    left = Damage(found.path, found.etag, "found by a verification")
    save_verification(objects, Verification(NOW, {}, 0, (left, Damage(stored[CELLS[1]].path, "older", ""))))

    def asked(cell: Cell) -> bool:
        return cell.date == month

    for markets in ([BTC], [ODD, ETH, BTC, ETH], []):
        cells, foreign = survey(objects, Candle, markets)
        few = survey_few(objects, Candle, markets, asked)
        if not objects.is_local:
            assert few is None
            continue
        assert few is not None
        assert few[0] == [record for cell, record in cells.items() if asked(cell)]
        named = [error for error in foreign if "/month=" not in error.path or f"month={month}" in error.path]
        assert list(map(str, few[1])) == list(map(str, named))
    monkeypatch.setattr(ledger_module, "_FEW", 1)
    assert survey_few(objects, Candle, [BTC, ETH], asked) is None


def test_of_named_months_no_other_cell_is_looked_at(store: TableStore, objects: LakeObjects) -> None:
    stored = filled(store)
    beyond = cell_path(Candle, Cell("2024-03", BTC))
    objects.put(beyond, b"no cell")
    wanted = {cell: record for cell, record in stored.items() if cell.date == "2024-02"}
    for markets in None, [BTC, ETH, ODD, COIN], [*(cell.market for cell in CELLS if cell.market)] * NARROW:
        assert survey(objects, Candle, markets, ["2024-02"]) == (wanted, [])
    assert [error.path for error in survey(objects, Candle, None, ["2024-02", "2024-03"])[1]] == [beyond]
    assert survey(objects, Candle, None, []) == ({}, [])
    assert ledger(objects, Candle) == stored


def test_a_look_at_some_months_adds_to_the_cache_what_it_read_where_that_is_much(
    store: TableStore, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = filled(store)
    survey(objects, Candle, None, ["2024-01"])
    survey(objects, Candle, None, ["2024-02"])
    read: list[str] = []
    tail = ledger_module._read_tail
    monkeypatch.setattr(ledger_module, "_read_tail", lambda *asked: read.append(asked[1]) or tail(*asked))
    assert ledger(objects, Candle) == stored
    assert read == []


def test_a_record_out_of_the_cache_is_that_of_its_footer_in_every_field(
    store: TableStore, objects: LakeObjects
) -> None:
    start = minutes("2024-02-05", 1)[0]
    known = CellFacts((GapRun("halt", start, start + MINUTE, 1, start),), 1, "totals", start)
    fresh = put(store, FEBRUARY, known=known)
    ledger(objects, Candle)
    kept = ledger(objects, Candle)[FEBRUARY]
    for name in (field.name for field in dataclasses.fields(CellRecord)):
        assert getattr(kept, name) == getattr(fresh, name), name
    assert dataclasses.replace(kept, etag="e") == dataclasses.replace(fresh, etag="e")
    with pytest.raises(AttributeError, match="no colour"):
        kept.colour  # type: ignore[attr-defined]  # noqa: B018


def test_records_of_any_shape(store: TableStore, objects: LakeObjects) -> None:
    assert records(objects, MarketTable) == []
    single = store.put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    gap = store.put(Gap, Cell("2024-02"), CellResult(Gap.empty(), {}))
    assert (records(objects, MarketTable), records(objects, Gap), records(objects, Candle)) == (
        [single],
        [gap],
        [],
    )


def test_a_cell_that_vanishes_while_it_is_listed_is_left_out(
    store: TableStore, objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = filled(store)
    other = LakeObjects(objects.root)  # a process that wrote none of them
    listed = list(other.list("silver/candle"))
    objects.delete(cell_path(Candle, CELLS[3]))
    monkeypatch.setattr(other, "list", lambda prefix: iter(listed))
    assert set(ledger(other, Candle)) == set(stored) - {CELLS[3]}


# --- what is due ----------------------------------------------------------------------------------


def record(cell: Cell, version: str, known: CellFacts | None = None) -> CellRecord:
    return CellRecord(cell, "p", "e", 1, version, 1, NOW, NOW, {}, 1, 0, known or CellFacts())


def test_inputs_are_the_versions_of_every_window_looked_back_on() -> None:
    january = Cell("2024-01", BTC)
    held = {
        "silver/candle": {
            january: record(january, "j"),
            FEBRUARY: record(FEBRUARY, "f"),
            Cell("2024-02", ETH): record(Cell("2024-02", ETH), "e"),
        }
    }
    assert inputs_now(Vwap, FEBRUARY, held, {}) == {
        "silver/candle@2024-01": "j",
        "silver/candle@2024-02": "f",
    }
    assert inputs_now(Vwap, january, held, {}) == {
        "silver/candle@2023-12": NONE,
        "silver/candle@2024-01": "j",
    }
    assert inputs_now(CANDLES[0], FEBRUARY, held, {}) == {"silver/candle@2024-02": "f"}
    bronze = NO_BRONZE | {"bronze/candle_archive": {FEBRUARY: record(FEBRUARY, "b")}}
    absent = {"bronze/candle_witness@2024-02": NONE, "bronze/candle_api@2024-02": NONE}
    assert inputs_now(Candle, FEBRUARY, bronze, {BTC: "m", ETH: "n"}) == absent | {
        "bronze/candle_archive@2024-02": "b",
        "silver/market": "m",
    }


GAPS = gap_table((Candle,))


def test_a_table_by_month_depends_on_what_footers_say_of_all_markets() -> None:
    cells = [FEBRUARY, Cell("2024-02", ETH), Cell("2024-01", ETH)]
    held = {"silver/candle": {cell: record(cell, "v") for cell in cells}}
    month = Cell("2024-02")
    before = inputs_now(GAPS, month, held, {})
    assert set(before) == {
        "silver/candle@2024-02|binance-spot:BTCUSDT",
        "silver/candle@2024-02|binance-spot:ETHUSDT",
    }
    held["silver/candle"][FEBRUARY] = record(
        FEBRUARY, "v", CellFacts((GapRun("absent", NOW, NOW + MINUTE, 1),))
    )
    assert inputs_now(GAPS, month, held, {}) != before, "though no version changed"


def test_expected_are_the_cells_whose_own_window_is_stored() -> None:
    held = {
        "silver/candle": {
            cell: record(cell, "v") for cell in (Cell("2024-02", ETH), FEBRUARY, Cell("2023-11", ETH))
        }
    }
    assert expected(Vwap, held) == [FEBRUARY, Cell("2023-11", ETH), Cell("2024-02", ETH)]
    assert expected(GAPS, held) == [Cell("2023-11"), Cell("2024-02")]
    assert expected(Candle, NO_BRONZE) == []


class Daily(Candle):
    """Candles by day, of two inputs by month, the second optional; linear markets alone have them."""

    name = "gold/daily"
    grain = "day"
    market_types = ("linear",)
    inputs = (Input(Candle, lookback=timedelta(days=1)), Input(Vwap, required=False))


class Monthly(Candle):
    """Candles by month, made from days."""

    name = "gold/monthly"
    inputs = (Input(Daily, lookback=timedelta(days=1)),)


LINEAR = Market("binance", "linear", "BTCUSDT")


def test_expected_of_another_grain_are_the_windows_that_an_input_has_rows_of() -> None:
    month = Cell("2024-02", LINEAR)
    rows = dataclasses.replace(
        record(month, "v"), rows=3, first_time=at("2024-02-27T12:00"), last_time=at("2024-02-29T01:00")
    )
    held = {Candle.name: {month: rows, FEBRUARY: rows}, Vwap.name: {Cell("2024-03", LINEAR): rows}}
    days = [Cell(f"2024-02-{day}", LINEAR) for day in (27, 28, 29)]
    assert expected(Daily, held) == days, "spot markets have no such table, and an optional input makes none"
    assert expected(Monthly, {Daily.name: dict.fromkeys(days, rows)}) == [month]


def test_inputs_of_another_grain_are_the_windows_that_are_touched() -> None:
    day, month = Cell("2024-03-01", LINEAR), Cell("2024-03", LINEAR)
    held = {Candle.name: {month: record(month, "v1")}, Vwap.name: {}}
    assert inputs_now(Daily, day, held, {}) == {
        "silver/candle@2024-02": NONE,
        "silver/candle@2024-03": "v1",
        "gold/vwap@2024-03": NONE,
    }
    days = inputs_now(Monthly, month, {Daily.name: {day: record(day, "v2")}}, {})
    assert list(days)[:2] == ["gold/daily@2024-02-29", "gold/daily@2024-03-01"]
    assert (len(days), days["gold/daily@2024-03-01"]) == (32, "v2")


def test_a_cell_is_due_when_absent_made_from_other_inputs_or_by_another_meaning() -> None:
    stored = dataclasses.replace(
        record(FEBRUARY, "v"), inputs={"a": "1", "b": NONE}, code_version=Candle.code_version
    )
    assert not is_due(Candle, stored, {"b": NONE, "a": "1"})
    assert is_due(Candle, None, {})
    assert is_due(Candle, stored, {"a": "2", "b": NONE})
    assert is_due(Candle, stored, {"a": "1", "b": "arrived"})
    assert is_due(Candle, stored, {"a": "1"})
    assert is_due(
        Candle, dataclasses.replace(stored, code_version=Candle.code_version + 1), {"a": "1", "b": NONE}
    )


def test_what_was_just_built_is_not_due(store: TableStore, objects: LakeObjects) -> None:
    made = store.put(
        CandleArchive, FEBRUARY, CellResult(CandleArchive.empty(), {}, CellFacts(asked_until=NOW))
    )
    versions = {
        "bronze/candle_witness@2024-02": NONE,
        "bronze/candle_archive@2024-02": made.version,
        "bronze/candle_api@2024-02": NONE,
        "silver/market": facts().version_for(FEBRUARY),
    }
    store.put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-05", 3)), versions))
    held = NO_BRONZE | {"bronze/candle_archive": ledger(objects, CandleArchive)}
    now = {
        cell: inputs_now(Candle, cell, held, {BTC: facts().version_for(cell)})
        for cell in expected(Candle, held)
    }
    assert {
        cell: is_due(Candle, ledger(objects, Candle).get(cell), inputs) for cell, inputs in now.items()
    } == {FEBRUARY: False}
    store.put(
        CandleArchive,
        FEBRUARY,
        CellResult(CandleArchive.empty(), {}, CellFacts(asked_until=NOW + timedelta(days=1))),
    )
    held = NO_BRONZE | {"bronze/candle_archive": ledger(objects, CandleArchive)}
    assert is_due(
        Candle,
        ledger(objects, Candle)[FEBRUARY],
        inputs_now(Candle, FEBRUARY, held, {BTC: facts().version_for(FEBRUARY)}),
    )


def test_a_survey_of_few_markets_reads_no_footer_that_the_cache_has(
    objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TableStore(objects)
    for market in (BTC, ETH):
        for month in ("2024-01", "2024-02"):
            store.put(Candle, Cell(month, market), CellResult(Candle.empty(), {}))
    ledger(objects, Candle)
    read: list[str] = []
    tail = ledger_module._read_tail
    monkeypatch.setattr(
        ledger_module, "_read_tail", lambda of, path, *rest: (read.append(path), tail(of, path, *rest))[1]
    )
    assert list(ledger(objects, Candle, [ETH])) == [Cell("2024-01", ETH), Cell("2024-02", ETH)]
    assert read == []
    store.put(Candle, Cell("2024-02", ETH), CellResult(candles(minutes("2024-02-01", 1)), {}))
    assert ledger(objects, Candle, [ETH])[Cell("2024-02", ETH)].rows == 1
    assert len(read) == 1, "the one that was replaced"
