"""Exports of a lake: what its sidecar says of the data, and how each kind of bad input ends."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.export import TARGETS, Exported, export
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    BehindInputsWarning,
    DamagedObjectError,
    ExportFolderError,
    ExportNameError,
    IntervalNotOfTargetError,
    LakehouseError,
    MarketKeyError,
    MarkOfTargetError,
    NoMarketError,
    NotExportedError,
    NothingToExportError,
    NotOfTargetError,
    RangeBackwardsError,
    ReplacedMeanwhileError,
    TimeFormatError,
    UnknownIntervalError,
    UnknownTargetError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, Contradiction, Evidence, GapRun
from lakehouse.query.lake import Lake
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.export.series import LINEAR, listing, rates
from lakehouse_tests.making import BTC, COIN, at, candles, minutes, walk

NAMELESS = Market("binance", "spot", "XYZUSDT")
HALT = GapRun("halt", at("2024-02-01T05:00"), at("2024-02-01T07:00"), 120, None, at("2024-02-01T04:59:30"))
ABSENT = GapRun("absent", at("2024-02-01T09:00"), at("2024-02-01T09:01"), 1, at("2024-02-09T10:00"))
TIMES = [
    time
    for time in minutes("2024-01-31", 2 * 1440)
    if not any(run.start <= time < run.end for run in (HALT, ABSENT))
]
MARKETS = {
    BTC: listing(BTC),
    LINEAR: listing(LINEAR),
    COIN: listing(COIN),
    NAMELESS: listing(NAMELESS, base=None, quote=None),
}


def fill(objects: LakeObjects) -> Lake:
    """Two months of each market, a halt and an absent minute in the second one; funding of the linear one."""
    store = TableStore(objects)
    for market in MARKETS:
        rows = walk(TIMES)
        if market == COIN:
            rows = rows.with_columns(contracts=(pl.col("volume") * 1000).round())
        levels: tuple[tuple[str, Evidence], ...] = (("2024-01", "rows_daily"), ("2024-02", "totals"))
        for month, evidence in levels:
            part = rows.filter(pl.col("open_time").dt.strftime("%Y-%m") == month)
            gaps = (HALT, ABSENT) if month == "2024-02" else ()
            known = CellFacts(gaps=gaps, evidence=evidence, asked_until=at("2024-02-02"))
            store.put(Candle, Cell(month, market), CellResult(part, {}, known))
    absent = GapRun("absent", at("2024-02-01T08:00"), at("2024-02-01T08:01"), 1)
    paid = rates([0.0001, -0.0002], "2024-02-01", 16)
    store.put(
        FundingRate,
        Cell("2024-02", LINEAR),
        CellResult(paid, {}, CellFacts(gaps=(absent,), evidence="archive", asked_until=at("2024-02-02"))),
    )
    store.put(MarketTable, None, CellResult(market_frame([*MARKETS.values()]), {}))
    return Lake(objects.root)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Shared, so it must not be changed."""
    return fill(LakeObjects(tmp_path_factory.mktemp("lake")))


def read(exported: Exported) -> dict[str, Any]:
    """A sidecar as it lies there."""
    found: dict[str, Any] = json.loads(exported.placed.sidecar.read_text("utf-8"))
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("target", TARGETS)
def test_a_market_with_a_halt_has_a_sidecar_that_says_so(lake: Lake, tmp_path: Path, target: str) -> None:
    (done,) = export(lake, target, BTC, tmp_path)
    said = read(done)
    assert said["market"] == "binance-spot:BTCUSDT"
    assert said["target"] == target
    assert said["state"] == "whole"
    part = said["candles"]
    assert part["absent"] == [
        {
            "start": "2024-02-01T05:00:00Z",
            "end": "2024-02-01T07:00:00Z",
            "slot_count": 120,
            "class": "halt",
            "asked_at": None,
            "halted_at": "2024-02-01T04:59:30Z",
        },
        {
            "start": "2024-02-01T09:00:00Z",
            "end": "2024-02-01T09:01:00Z",
            "slot_count": 1,
            "class": "absent",
            "asked_at": "2024-02-09T10:00:00Z",
            "halted_at": None,
        },
    ]
    assert part["dataset_id"] == lake.dataset_id("silver/candle", BTC)
    assert [(cell["month"], cell["evidence"], cell["rows"]) for cell in part["cells"]] == [
        ("2024-01", "rows_daily", 1440),
        ("2024-02", "totals", 1440 - 121),
    ]
    versions = {
        cell.month: record.version
        for cell, record in lake.stored("silver/candle").items()
        if cell.market == BTC
    }
    assert {cell["month"]: cell["version"] for cell in part["cells"]} == versions
    assert part["worst_evidence"] == "totals"
    assert part["not_stored"] == []
    minute = part["intervals"]["1m"]
    assert (
        minute["rows"]
        == len(TIMES)
        == sum(
            entry["rows"]
            for entry in said["files"]
            if "-1m" in entry["path"] or "minute" in entry["path"].lower()
        )
    )
    assert (minute["first_time"], minute["last_time"]) == ("2024-01-31T00:00:00Z", "2024-02-01T23:59:00Z")
    assert minute["filled"] == {"slot_count": 0, "runs": []}
    assert [run["slot_count"] for run in minute["absent"]["runs"]] == [120, 1]
    assert {"120 1m candles absent: halt.", "1 1m candle absent: absent."} <= {*said["statements"]}
    assert {entry["path"] for entry in said["files"]} | {"lakehouse/binance-spot/BTCUSDT.json"} == files(
        tmp_path
    ).keys()


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_lake_gives_the_same_bytes(lake: Lake, tmp_path: Path, target: str) -> None:
    names = {NAMELESS.key: "XYZ/USDT"}
    wanted = [BTC, LINEAR, NAMELESS]
    once, twice = (
        files(folder)
        for folder in (tmp_path / "one", tmp_path / "two")
        if export(lake, target, wanted, folder, intervals=("1m", "1h"), fill=True, names=names)
    )
    assert once == twice
    again = export(lake, target, wanted, tmp_path / "one", intervals=("1h", "1m"), fill=True, names=names)
    assert [one.placed[1::2] for one in again] == [(0, 0)] * 3, "the order of intervals is no other request"
    assert files(tmp_path / "one") == once


def test_nothing_is_added_unless_it_is_asked_for_and_then_each_is_named(lake: Lake, tmp_path: Path) -> None:
    (bare,) = export(lake, "csv", BTC, tmp_path / "bare", intervals=("1m", "1h"))
    (full,) = export(lake, "csv", BTC, tmp_path / "full", intervals=("1m", "1h"), fill=True)
    rows = pl.read_csv(tmp_path / "bare" / "binance-spot" / "BTCUSDT-1m.csv")
    assert rows.height == len(TIMES)
    assert not rows["is_filled"].any()
    added = pl.read_csv(tmp_path / "full" / "binance-spot" / "BTCUSDT-1m.csv", try_parse_dates=True)
    assert added.height == len(TIMES) + 121
    filled = added.filter("is_filled")
    assert filled["volume"].sum() == 0
    assert filled["open_time"].to_list() == [
        time for time in minutes("2024-01-31", 2 * 1440) if time not in set(TIMES)
    ]
    said = read(full)["candles"]["intervals"]
    assert said["1m"]["filled"] == {
        "slot_count": 121,
        "runs": [
            {"start": "2024-02-01T05:00:00Z", "end": "2024-02-01T07:00:00Z", "slot_count": 120},
            {"start": "2024-02-01T09:00:00Z", "end": "2024-02-01T09:01:00Z", "slot_count": 1},
        ],
    }
    assert said["1h"]["filled"]["slot_count"] == 2
    assert said["1h"]["partial"] == 1
    assert said["1m"]["absent"]["slot_count"] == 0
    assert read(full)["asked"]["fill"] is True
    assert "121 1m candles added, as was asked: the last close, no volume." in read(full)["statements"]
    assert read(bare)["candles"]["absent"] == read(full)["candles"]["absent"], "gaps stay gaps"
    assert added.columns == [*Candle.columns, "is_filled"]
    hours = pl.read_csv(tmp_path / "bare" / "binance-spot" / "BTCUSDT-1h.csv", try_parse_dates=True)
    assert hours.drop("is_filled").columns == lake.candles(BTC, interval="1h").columns
    assert hours["knowable_at"].to_list() == lake.candles(BTC, interval="1h")["knowable_at"].to_list()
    kept = added.filter(~pl.col("is_filled")).select("open", "high", "low", "close", "volume")
    assert kept.equals(rows.select("open", "high", "low", "close", "volume"))


def test_funding_is_exported_where_there_is_any(lake: Lake, tmp_path: Path) -> None:
    linear, inverse = export(lake, "csv", [LINEAR, COIN], tmp_path)
    said = read(linear)["funding"]
    assert said["rows"] == 2
    assert said["dataset_id"] == lake.dataset_id("silver/funding_rate", LINEAR)
    assert [run["class"] for run in said["absent"]] == ["absent"]
    paid = pl.read_csv(tmp_path / "binance-linear" / "BTCUSDT-funding_rate.csv")
    assert paid["rate"].to_list() == [0.0001, -0.0002]
    assert paid.columns == [*FundingRate.columns]
    assert read(inverse)["funding"] is None
    assert any("No funding rates of this range" in one for one in read(inverse)["statements"])
    assert not (tmp_path / "binance-inverse" / "BTCUSD_PERP-funding_rate.csv").exists()


def test_candles_stand_in_for_mark_prices_only_where_it_is_asked(lake: Lake, tmp_path: Path) -> None:
    mark = "binance/futures/BTC_USDT_USDT-1h-mark.feather"
    (bare,) = export(lake, "freqtrade", LINEAR, tmp_path / "bare")
    assert mark not in files(tmp_path / "bare")
    assert any("backtests no perpetual without mark prices" in one for one in read(bare)["statements"])
    spot, marked = export(lake, "freqtrade", [BTC, LINEAR], tmp_path / "marked", mark_from_candles=True)
    assert mark in files(tmp_path / "marked")
    assert any("no mark prices: candles of trades stand in" in one for one in read(marked)["statements"])
    assert not any("mark" in one for one in read(spot)["statements"])
    with pytest.raises(MarkOfTargetError):
        export(lake, "lean", LINEAR, tmp_path / "never", mark_from_candles=True)
    within = ("2024-01-31T10:30", "2024-01-31T10:50")  # in which no hour begins
    with pytest.raises(NothingToExportError, match="no 1h candle of binance-linear:BTCUSDT that opens from"):
        export(lake, "freqtrade", LINEAR, tmp_path / "short", *within, mark_from_candles=True)


def test_a_range_is_half_open_and_gaps_are_cut_to_it(lake: Lake, tmp_path: Path) -> None:
    (done,) = export(lake, "csv", BTC, tmp_path, "2024-02-01T06:00", "2024-02-01T08:00")
    said = read(done)
    assert said["asked"]["start"] == "2024-02-01T06:00:00Z"
    assert [(run["start"], run["slot_count"]) for run in said["candles"]["absent"]] == [
        ("2024-02-01T06:00:00Z", 60)
    ]
    assert said["candles"]["intervals"]["1m"]["rows"] == 60
    assert [cell["month"] for cell in said["candles"]["cells"]] == ["2024-02"]


def test_months_that_are_not_stored_are_named(objects: LakeObjects, tmp_path: Path) -> None:
    lake = fill(objects)
    TableStore(objects).put(Candle, Cell("2024-04", BTC), CellResult(candles(minutes("2024-04-01", 60)), {}))
    (between,) = export(lake, "csv", BTC, tmp_path / "a")
    assert read(between)["candles"]["not_stored"] == ["2024-03"]
    (bounded,) = export(lake, "csv", BTC, tmp_path / "b", "2023-12", "2024-06")
    assert read(bounded)["candles"]["not_stored"] == ["2023-12", "2024-03", "2024-05"]
    assert any("has nothing of 2023-12, 2024-03, 2024-05" in one for one in read(bounded)["statements"])


def test_weak_evidence_and_contradictions_are_said(objects: LakeObjects, tmp_path: Path) -> None:
    lake, store = fill(objects), TableStore(objects)
    denied = Contradiction(at("2024-03-01"), at("2024-03-01T01:00"), "witness", ("volume",))
    store.put(
        Candle,
        Cell("2024-03", BTC),
        CellResult(
            candles(minutes("2024-03-01", 60)),
            {},
            CellFacts(evidence="contradicted", contradictions=(denied,), conflict_count=3, unsettled_count=2),
        ),
    )
    store.put(
        Candle,
        Cell("2024-04", BTC),
        CellResult(candles(minutes("2024-04-01", 60)), {}, CellFacts(evidence="unconfirmed")),
    )
    (done,) = export(lake, "csv", BTC, tmp_path)
    said = read(done)
    assert said["candles"]["worst_evidence"] == "contradicted"
    march = next(cell for cell in said["candles"]["cells"] if cell["month"] == "2024-03")
    assert (march["disputed"], march["unsettled"], march["contradictions"]) == (3, 2, [str(denied)])
    statements = " ".join(said["statements"])
    for words in ("contradicted in 2024-03", "unconfirmed in 2024-04", "Disputed without a proof"):
        assert words in statements


def test_a_cell_behind_its_inputs_is_said(objects: LakeObjects, tmp_path: Path) -> None:
    from lakehouse.datasets.candle import CandleArchive
    from lakehouse_tests.making import bronze

    lake, store = fill(objects), TableStore(objects)
    cell, times = Cell("2024-02", BTC), minutes("2024-02-01", 60)
    store.put(CandleArchive, cell, CellResult(bronze(times, volume=11.0), {"2024-02": "etag:1:none"}))
    made_of = {"bronze/candle_archive@2024-02": "another version"}
    store.put(Candle, cell, CellResult(candles(times), made_of))
    with pytest.warns(BehindInputsWarning, match="behind its inputs"):
        (done,) = export(lake, "csv", BTC, tmp_path)
    assert any("behind its inputs" in one for one in read(done)["statements"])


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"target": "zipline"}, UnknownTargetError),
        ({"intervals": ("2m",)}, UnknownIntervalError),
        ({"intervals": ()}, IntervalNotOfTargetError),
        ({"target": "lean", "intervals": ("1m", "5m", "4h")}, IntervalNotOfTargetError),
        ({"markets": []}, NoMarketError),
        ({"markets": "BTC USDT"}, MarketKeyError),
        ({"markets": "binance-spot:NONEUSDT"}, NothingToExportError),
        ({"markets": "binance-spot:NON*"}, LakehouseError),
        ({"start": "yesterday"}, TimeFormatError),
        ({"start": "2024-03", "end": "2024-02"}, RangeBackwardsError),
        ({"start": "2024-02-10", "end": "2024-02-12"}, NothingToExportError),
        ({"start": "2030-01", "end": "2030-02"}, NothingToExportError),
        ({"target": "freqtrade", "markets": COIN}, NotOfTargetError),
        ({"target": "freqtrade", "markets": NAMELESS}, ExportNameError),
        ({"target": "nautilus", "markets": NAMELESS}, ExportNameError),
        ({"folder": "s3://bucket/prefix"}, ExportFolderError),
        ({"names": {"nonsense": "A/B"}}, MarketKeyError),
    ],
)
def test_a_request_that_cannot_be_met_says_why_and_writes_nothing(
    lake: Lake, tmp_path: Path, changed: dict[str, Any], error: type[Exception]
) -> None:
    asked: dict[str, Any] = {"target": "csv", "markets": BTC, "folder": tmp_path}
    with pytest.raises(error):
        export(lake, **(asked | changed))
    assert files(tmp_path) == {}


def test_an_unread_interval_is_named_with_those_that_are_read(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(IntervalNotOfTargetError, match=r"of 5m, 4h\. Expected some of 1m, 1h, 1d"):
        export(lake, "lean", BTC, tmp_path, intervals=("4h", "1m", "5m"))


def test_a_folder_in_the_lake_is_refused(lake: Lake) -> None:
    with pytest.raises(ExportFolderError, match="lies in the lake"):
        export(lake, "csv", BTC, Path(lake.objects.root) / "silver" / "mine")


def test_a_damaged_cell_stops_its_market_and_no_other(objects: LakeObjects, tmp_path: Path) -> None:
    lake = fill(objects)
    path = Path(objects.root) / cell_path(Candle, Cell("2024-02", BTC))
    body = bytearray(path.read_bytes())
    body[len(body) // 3] ^= 0xFF
    path.write_bytes(body)
    with pytest.raises(DamagedObjectError):
        export(lake, "csv", BTC, tmp_path / "alone")
    assert files(tmp_path / "alone") == {}
    with pytest.raises(NotExportedError, match="1 of 3 markets could not be exported") as raised:
        export(lake, "csv", [BTC, LINEAR, COIN], tmp_path / "all")
    assert [*raised.value.failures] == [BTC.key]
    assert isinstance(raised.value.failures[BTC.key], DamagedObjectError)
    assert {path.partition("/")[0] for path in files(tmp_path / "all")} == {
        "binance-linear",
        "binance-inverse",
        "lakehouse",
    }
    (january,) = export(lake, "csv", BTC, tmp_path / "all", "2024-01", "2024-02")
    assert read(january)["candles"]["intervals"]["1m"]["rows"] == 1440, "what is not damaged can be had"


def test_a_name_that_is_given_is_said_to_be_given(lake: Lake, tmp_path: Path) -> None:
    (done,) = export(lake, "freqtrade", NAMELESS, tmp_path, names={NAMELESS.key: "XYZ/USDT"})
    said = read(done)
    assert (said["unified_symbol"], said["unified_symbol_from"]) == ("XYZ/USDT", "given")
    assert "binance/XYZ_USDT-1m.feather" in files(tmp_path)
    (known,) = export(lake, "freqtrade", BTC, tmp_path)
    assert (read(known)["unified_symbol"], read(known)["unified_symbol_from"]) == (
        "BTC/USDT",
        "silver/market",
    )


def test_spot_and_linear_of_one_symbol_lie_beside_each_other(lake: Lake, tmp_path: Path) -> None:
    for target in TARGETS:
        spot, linear = export(lake, target, [BTC, LINEAR], tmp_path / target)
        one, other = ({entry["path"] for entry in read(each)["files"]} for each in (spot, linear))
        assert not one & other


def test_a_longer_export_leaves_nothing_of_the_shorter_one(lake: Lake, tmp_path: Path) -> None:
    for target in TARGETS:
        export(lake, target, BTC, tmp_path / target, "2024-01", "2024-02")
        (done,) = export(lake, target, BTC, tmp_path / target)
        named = {entry["path"] for entry in read(done)["files"]}
        assert named | {"lakehouse/binance-spot/BTCUSDT.json"} == files(tmp_path / target).keys()


def test_an_open_month_says_until_when_anybody_was_asked(lake: Lake, tmp_path: Path) -> None:
    (done,) = export(lake, "csv", BTC, tmp_path)
    january, february = read(done)["candles"]["cells"]
    assert (january["is_asked_whole"], february["is_asked_whole"]) == (True, False)
    assert february["asked_until"] == "2024-02-02T00:00:00Z"
    said = "In 2024-02 nobody was asked about a 1m candle behind 2024-02-02T00:00:00Z:"
    assert any(one.startswith(said) for one in read(done)["statements"])
    (closed,) = export(lake, "csv", BTC, tmp_path, end="2024-02-02")
    assert not any("nobody was asked" in one for one in read(closed)["statements"])


def test_a_slot_before_any_price_is_not_filled(objects: LakeObjects, tmp_path: Path) -> None:
    gone = GapRun("not_listed", at("2024-02-01T01:00"), at("2024-02-01T02:00"), 60)
    absent = GapRun("absent", at("2024-02-01T02:00"), at("2024-02-01T02:05"), 5)
    times = [*minutes("2024-02-01", 60), *minutes("2024-02-01T02:05", 60)]
    TableStore(objects).put(
        Candle, Cell("2024-02", BTC), CellResult(candles(times), {}, CellFacts(gaps=(gone, absent)))
    )
    TableStore(objects).put(MarketTable, None, CellResult(market_frame([listing(BTC)]), {}))
    (done,) = export(Lake(objects.root), "lean", BTC, tmp_path, fill=True)
    said = read(done)["candles"]["intervals"]["1m"]
    assert said["filled"]["slot_count"] == 0, "no price is carried over a listing break"
    assert said["rows"] == 120
    assert [run["slot_count"] for run in said["absent"]["runs"]] == [65]


def test_a_market_without_facts_can_be_exported_where_none_are_needed(
    objects: LakeObjects, tmp_path: Path
) -> None:
    TableStore(objects).put(Candle, Cell("2024-02", BTC), CellResult(candles(minutes("2024-02-01", 60)), {}))
    for target in ("csv", "lean"):
        (done,) = export(Lake(objects.root), target, BTC, tmp_path / target)
        assert read(done)["unified_symbol"] is None
    with pytest.raises(ExportNameError):
        export(Lake(objects.root), "freqtrade", BTC, tmp_path / "freqtrade")


def test_cells_that_are_replaced_while_they_are_read_give_no_mixture(
    objects: LakeObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, store = fill(objects), TableStore(objects)
    own, count = Lake.candles, 0

    def replaced(*given: Any, **more: Any) -> pl.DataFrame:
        nonlocal count
        rows = own(*given, **more)
        count += 1
        if count <= most:
            later = candles(minutes("2024-02-01", 60), volume=10.0 + count + most)
            store.put(Candle, Cell("2024-02", BTC), CellResult(later, {}))
        return rows

    monkeypatch.setattr(Lake, "candles", replaced)
    most = 1
    (done,) = export(lake, "csv", BTC, tmp_path / "once")
    rows = pl.read_csv(tmp_path / "once" / "binance-spot" / "BTCUSDT-1m.csv")
    assert rows.height == 1440 + 60
    assert read(done)["candles"]["dataset_id"] == lake.dataset_id("silver/candle", BTC)
    count, most = 0, 10
    with pytest.raises(ReplacedMeanwhileError):
        export(lake, "csv", BTC, tmp_path / "ever")
    assert files(tmp_path / "ever") == {}


@pytest.mark.slow
def test_a_lake_on_s3_exports_what_the_same_lake_in_a_folder_does(aws_lake: str, tmp_path: Path) -> None:
    remote, local = fill(LakeObjects(f"{aws_lake}/lake")), fill(LakeObjects(tmp_path / "lake"))
    for lake, folder in ((remote, tmp_path / "remote"), (local, tmp_path / "local")):
        export(lake, "csv", "binance-*:BTC*", folder, intervals=("1m", "1h"))
    assert files(tmp_path / "remote") == files(tmp_path / "local")
