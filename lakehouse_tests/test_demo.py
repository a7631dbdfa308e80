"""The demo as a stranger runs it; on S3 and Glue it is in `lakehouse_tests/trino/`, with an engine to ask."""

import contextlib
import io
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.demo import CARRY, LAST_MONTH, MARKETS, NOW, demo_exchange, demo_settings, run_demo
from lakehouse.cli.instance import open_instance
from lakehouse.definitions import build_definitions
from lakehouse.model.market import Market
from lakehouse.opening import open_lake
from lakehouse.ops.attempts import Attempts
from lakehouse.pipeline.refresh import candles_closed
from lakehouse.query.lake import Lake
from lakehouse_tests.browser import CHROMIUM, running_browser
from lakehouse_tests.opened import opened, see


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a demo, and what it said."""
    folder, said = tmp_path_factory.mktemp("demo"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run_demo(folder)
    return folder, " ".join(said.getvalue().split())  # lines end where the terminal does


@pytest.mark.slow
def test_the_demo_heals_what_can_be_healed_and_says_what_cannot(demo: tuple[Path, str]) -> None:
    folder, said = demo
    assert "224 cells built, 0 failed" in said
    for healed in (
        "BTCUSDT-1m-2024-12.zip",
        "30 of 31 daily files",
        "BTCUSDT-1m-2025-01-29.zip",
        "30 daily files",
        "REST API: a proven halt",
        "5 rows repeat another row exactly",
    ):
        assert healed in said, healed
    assert "Asked of the REST API, for no file has them: 1,440 minutes of binance-spot:BTCUSDT." in said
    assert "Asked of the REST API, for no file has them: 3 settlements of binance-linear:ETHUSDT." in said
    assert "for no file has them: 132,480 minutes of bybit-linear:BTCUSDT." in said
    assert "for no file has them: 276 settlements of bybit-linear:BTCUSDT." in said
    assert "Not healed, and said so: binance-linear:ETHUSDT has no funding from 2024-12-" in said
    assert "(1 settlement, class absent)" in said
    assert (
        "binance-linear:ETHUSDT has no candles from 2024-12-29 17:22 to 2024-12-29 17:59 (37 minutes" in said
    )
    assert "minutes_absent" in said
    assert "What longs paid to shorts by funding" in said
    lake = Lake(folder / "lake")
    assert lake.sql("SELECT count(*) FROM silver.candle").item() == 4 * 92 * 1440 - 37
    paid = lake.sql(CARRY).select("market", "month", "settlements").rows()
    assert paid == [
        (market, month, settlements)
        for market, december in (
            ("binance-inverse:BTCUSD_PERP", 93),
            ("binance-linear:ETHUSDT", 92),
            ("bybit-linear:BTCUSDT", 93),
        )
        for month, settlements in (("2024-11", 90), ("2024-12", december), ("2025-01", 93))
    ]
    gaps = lake.scan("silver/gap").collect().sort("table_name")
    assert gaps.select("table_name", "slot_count").rows() == [
        ("silver/candle", 37),
        ("silver/funding_rate", 1),
    ]
    with demo_exchange() as exchange:
        settings = demo_settings(folder, exchange.url)
        opened = open_lake(settings)
        assert opened.clock() - NOW < timedelta(minutes=1)
        defs = build_definitions(opened)
        months = defs.resolve_assets_def(dg.AssetKey(["silver", "gap"])).partitions_def
        assert months is not None
        assert months.get_partition_keys() == ["2024-11", "2024-12", "2025-01"]
        key = dg.AssetCheckKey(dg.AssetKey(["silver", "candle"]), "freshness")
        with open_instance(settings) as instance:
            checked = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        assert checked[key].status.value == "SUCCEEDED"
        universe = [Market.parse(key) for key in MARKETS]
        tick = candles_closed(opened, universe, {}, Attempts())
        assert all(cell.date <= LAST_MONTH for cells in tick.wanted.values() for cell in cells)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_demo_s_pages_show_a_lake_of_which_all_is_filled(demo: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = demo
    with (
        opened(tmp_path, "--demo", "--folder", str(folder)) as ui,
        running_browser(tmp_path, "--window-size=1600,1000") as browser,
    ):
        first = see(browser, ui, "/", "Jobless asset materializations", "demo_first_page")
        assert "lakehouse" in first, "the demo's runs, which a command has made, stand in the timeline"
        filled = see(browser, ui, "/assets/gold/vwap?view=partitions", "Materialized (12)", "demo_partitions")
        assert "Missing (0)" in filled
        # November is good, in December there was a halt
        known = see(browser, ui, "/assets/ops/quality", "··········■!", "quality")
        assert "37 rows absent (halt)" in known
