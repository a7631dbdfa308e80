"""`ops/quality` is the report as an asset: a map and words in its metadata, made daily."""

from pathlib import Path

import dagster as dg

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.definitions import build_definitions
from lakehouse.defs.quality import KEY, heat_map
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.opening import open_lake
from lakehouse.ops.quality import CellQuality
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse_tests.making import BTC, FEBRUARY, NOW, at, bronze, candles, minutes

PERPETUAL = Market("binance", "linear", "BTCUSDT")


def made(lake: LakeServices) -> dg.MaterializeResult | dg.AssetMaterialization:
    """What materializing it says."""
    definitions = build_definitions(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=[KEY]
        )
    assert done.success
    (event,) = done.get_asset_materialization_events()
    return event.materialization


def test_it_says_what_is_known_and_what_is_not_good(tmp_path: Path) -> None:
    lake = open_lake(Settings(root=str(tmp_path / "lake")), clock=lambda: NOW)
    late = GapRun("absent", at("2024-02-20"), at("2024-02-21"), 1440)
    lake.tables.put(
        Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 5)), {}, CellFacts(gaps=(late,)))
    )
    for month in (1, 2, 3):
        cell = FEBRUARY.shift(month)
        lake.tables.put(CandleArchive, cell, CellResult(bronze(minutes(f"{cell.date}-01", 5)), {}))
    settlements = GapRun("absent", at("2024-02-20"), at("2024-02-21"), 3)
    paid = CellResult(FundingRate.empty(), {}, CellFacts(gaps=(settlements,)))
    lake.tables.put(FundingRate, Cell("2024-02", PERPETUAL), paid)
    said = made(lake).metadata
    assert said["error"].value == 5
    assert [(record.data["table"], record.data["what"]) for record in said["not_good"].records] == [
        ("silver/candle", f"2024-02, {BTC.key}: 1,440 rows absent (unproven)"),
        ("silver/candle", f"2024-03 to 2024-05, {BTC.key}: not built, though bronze has its rows"),
        ("silver/funding_rate", f"2024-02, {PERPETUAL.key}: 3 rows absent (unproven)"),
    ]
    candle, funding = said["map"].value.split("**silver/funding_rate**")
    assert f"| {BTC.key} | `·××××·······` |" in candle
    assert f"| {PERPETUAL.key} | `·×··········` |" in funding


def test_a_lake_without_anything_is_no_failure(tmp_path: Path) -> None:
    said = made(open_lake(Settings(root=str(tmp_path / "lake")), clock=lambda: NOW)).metadata
    assert said["map"].value == "Nothing is stored of silver yet."


def test_the_map_has_the_worst_markets_and_the_last_years() -> None:
    report = [
        CellQuality(Cell(f"{year}-01", Market("binance", "spot", f"C{number:02}USDT")), rows, {})
        for number in range(45)
        for year, rows in ((2020, 1), (2021, 1), (2024, None if number == 44 else 1))
    ]
    head, _, first, *rows, _, legend = heat_map(report).splitlines()
    assert head == "| market | 2022 | 2023 | 2024 |"
    assert first.startswith("| binance-spot:C44USDT | " + f"`{'·' * 12}`")
    assert len(rows) == 39
    assert "and 5 further markets that are no worse" in legend


def test_it_is_made_daily_and_nothing_else_asks_for_it(tmp_path: Path) -> None:
    definitions = build_definitions(open_lake(Settings(root=str(tmp_path / "lake"))))
    schedule = definitions.resolve_schedule_def("quality_daily")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    node = definitions.resolve_asset_graph().get(KEY)
    assert node.automation_condition is None
    assert node.partitions_def is None
