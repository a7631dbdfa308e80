"""From an empty lake to the first green cell by clicks alone, as the page and the terminal tell to do."""

import time
from pathlib import Path

import pytest

from lakehouse.model.cell import Cell
from lakehouse.query.lake import Lake
from lakehouse.simulator import Simulator
from lakehouse_tests.browser import CHROMIUM, running_browser
from lakehouse_tests.test_first_sight import Opened
from lakehouse_tests.test_ui import BTC, LISTED, NOW, end, wait_until
from lakehouse_tests.test_ui_backfill import shoot

MONTH = "2024-02"
TEXT = "(document.body?.innerText || '')"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]


def test_clicks_alone_lead_from_an_empty_lake_to_a_green_cell_and_on_to_gold(tmp_path: Path) -> None:
    launched = time.monotonic()
    with (
        Simulator(markets=LISTED, now=NOW) as exchange,
        running_browser(tmp_path, "--window-size=1500,1000") as page,
    ):
        ui = Opened(
            tmp_path,
            LAKEHOUSE_START=MONTH,
            LAKEHOUSE_END=MONTH,
            LAKEHOUSE_BINANCE_ARCHIVE_URL=exchange.url,
            LAKEHOUSE_BINANCE_REST_URL=exchange.url,
        )
        try:
            said = " ".join(ui.said().split())
            assert "open the asset bronze/candle_archive, press Materialize, and add one under symbol" in said
            page.open(f"{ui.dagster.address}/assets/bronze/candle_archive")
            page.click("Materialize…")
            page.click("Confirm")  # that what lies above is not there yet
            page.click("Latest")
            page.click("Add a partition")
            page.fill("name", BTC.key)
            page.click("Save")
            page.wait_for(f"{TEXT}.includes('Could not find partition') || {TEXT}.includes('Launch 1 run')")
            time.sleep(1)
            if page.run(f"{TEXT}.includes('Could not find partition')"):  # it asks before it knows
                page.click("OK")
            page.click("Launch 1 run")
            page.wait_for(f"!{TEXT}.includes('Launch 1 run')")
            green = "Materialized (1)"
            page.open(f"{ui.dagster.address}/assets/bronze/candle_archive?view=partitions")
            page.wait_for(f"{TEXT}.includes({green!r})")
            print(f"launch to the first green cell: {time.monotonic() - launched:.0f} s")
            shoot(page, "first_cell")
            assert page.run(f"{TEXT}.includes('Failed (0)')")
            gold = Lake(tmp_path / "lake")
            wait_until(
                time.monotonic() + 120,
                lambda: Cell(MONTH, BTC) in {record.cell for record in gold.records("gold/candle_1h")},
                ui.said,
            )
            print(f"launch to gold: {time.monotonic() - launched:.0f} s")
        finally:
            end(ui.process.pid)
