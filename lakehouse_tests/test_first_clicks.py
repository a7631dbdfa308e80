"""What who opens the UI for the first time sees: what to do, the first green cell by clicks alone, and an end
without noise. One UI for all of it, in this order.
"""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.model.cell import Cell
from lakehouse.query.lake import Lake
from lakehouse.simulator import Simulator
from lakehouse_tests.browser import CHROMIUM, Browser, running_browser
from lakehouse_tests.opened import BTC, ETH, LISTED, NOW, Opened, members, opened, shoot, wait_until

MONTH, BRONZE = "2024-02", "bronze/candle_archive"
TEXT = "(document.body?.innerText || '')"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[Opened]:
    """The UI over an empty lake, with a browser that takes note of what it is to open."""
    browser = folder / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {folder / 'seen'}\n")
    browser.chmod(0o700)
    with Simulator(markets=LISTED, now=NOW) as exchange:
        settings = {
            "BROWSER": str(browser),
            "LAKEHOUSE_START": MONTH,
            "LAKEHOUSE_END": MONTH,
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url,
            "LAKEHOUSE_BINANCE_REST_URL": exchange.url,
        }
        with opened(folder, "--open", **settings) as ui:
            yield ui


def test_an_empty_lake_says_what_to_do_and_opens_a_browser(ui: Opened, folder: Path) -> None:
    wait_until(time.monotonic() + 30, (folder / "seen").exists, ui.said)
    assert (folder / "seen").read_text().strip() == f"http://127.0.0.1:{ui.port}"
    said = " ".join(ui.said().split())
    assert f"Dagster at http://127.0.0.1:{ui.port}; Ctrl-C ends it." in said
    assert "There is no market yet." in said
    assert "lakehouse markets add binance-spot:BTCUSDT" in said
    assert f"open the asset {BRONZE}, press Materialize, and add one under symbol" in said


def is_launched(ui: Opened, page: Browser) -> bool:
    """Whether a run was launched; what the page asks for meanwhile is pressed."""
    said = page.run(TEXT)
    if "Could not find partition" in said:  # it asks before it knows
        page.click("OK")
    elif "Launch 1 run" in said:
        page.click("Launch 1 run")
    return bool(ui.dagster.runs())


def test_clicks_alone_lead_from_an_empty_lake_to_a_green_cell_and_on_to_gold(
    ui: Opened, folder: Path, tmp_path: Path
) -> None:
    with running_browser(tmp_path, "--window-size=1500,1000") as page:
        page.open(f"{ui.dagster.address}/assets/{BRONZE}")
        page.click("Materialize…")
        page.click("Confirm")  # that what lies above is not there yet
        page.click("Latest")
        page.click("Add a partition")
        page.fill("name", BTC.key)
        page.click("Save")
        wait_until(time.monotonic() + 60, lambda: is_launched(ui, page), lambda: page.run(TEXT))
        page.open(f"{ui.dagster.address}/assets/{BRONZE}?view=partitions")
        page.wait_for(f"{TEXT}.includes('Materialized (1)')")
        shoot(page, "first_cell")
        assert page.run(f"{TEXT}.includes('Failed (0)')")
    gold = Lake(folder / "lake")
    wait_until(
        time.monotonic() + 120,
        lambda: Cell(MONTH, BTC) in {record.cell for record in gold.records("gold/candle_1h")},
        ui.said,
    )


def test_a_stop_amid_a_backfill_is_quiet(ui: Opened, folder: Path) -> None:
    before = ui.said()
    ui.dagster.add_market(ETH)
    backfill = ui.dagster.backfill(BRONZE, {Cell(MONTH, BTC), Cell(MONTH, ETH)})

    def is_running() -> bool:
        tag = {"key": "dagster/backfill", "value": backfill}
        return any(tag in run["tags"] and run["status"].startswith("START") for run in ui.dagster.runs())

    wait_until(time.monotonic() + 120, is_running, ui.said)
    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(60) == 0
    wait_until(time.monotonic() + 60, lambda: not members(ui.process.pid), ui.said)
    assert ui.said() == before, "nothing more in the terminal"
    logged = (folder / ".dagster" / "ui.log").read_text("utf-8")
    assert "Traceback" not in logged
    assert "BackfillDaemon" in logged
