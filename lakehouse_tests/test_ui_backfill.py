"""What an operator sees of an evening: a backfill with one bad file, two markets green down to gold, one cell
red with its reason, nothing done twice; a queue that is long; what was logged, and the end of the daemon. One
UI for all of it, in this order.
"""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.model.cell import Cell
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.simulator import Simulator
from lakehouse_tests.browser import CHROMIUM, Browser, running_browser
from lakehouse_tests.making import spot_tables
from lakehouse_tests.opened import (
    BTC,
    ETH,
    LISTED,
    NOW,
    SOL,
    Opened,
    command,
    log_lines,
    members,
    opened,
    see,
    shoot,
    universe,
    wait_until,
)
from lakehouse_tests.webhook import Webhook, listening

pytestmark = pytest.mark.slow
BRONZE = "bronze/candle_archive"
MONTHS = ("2024-01", "2024-02", "2024-03")
CELLS = {Cell(month, market) for month in MONTHS for market in (BTC, ETH, SOL)}
BAD = Cell("2024-02", ETH)
FAULTS = ("unavailable=*monthly*ETHUSDT-1m-2024-02.zip", "rest_forgotten=*ETHUSDT-1m-*")
OF_CELLS = [table.name for table in spot_tables(REGISTRY.tables, "market")]
PATIENCE = 230.0
RUN_COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evening")


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    with Simulator(markets=LISTED, now=NOW, faults=FAULTS) as running:
        yield running


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with listening() as hook:
        yield hook


@pytest.fixture(scope="module")
def ui(folder: Path, exchange: Simulator, webhook: Webhook) -> Iterator[Opened]:
    """The UI over an empty lake of three markets, which logs for machines and alerts a webhook."""
    settings = {
        "LAKEHOUSE_ALERT_URLS": webhook.url,
        "LAKEHOUSE_LOG_FORMAT": "json",
        "LAKEHOUSE_MARKETS": f"{BTC},{ETH},{SOL}",
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url,
        "LAKEHOUSE_BINANCE_REST_URL": exchange.url,
    }
    with opened(folder, **settings) as ui:
        yield ui


@pytest.fixture(scope="module")
def backfills(ui: Opened, exchange: Simulator) -> tuple[str, str]:
    """Two that have ended: one of all cells, one of which is out of reach, and one of two of the same."""
    deadline = time.monotonic() + PATIENCE
    exchange.reset_requests()
    first = ui.dagster.backfill(OF_CELLS, CELLS)
    again = ui.dagster.backfill(OF_CELLS, {Cell("2024-02", BTC), Cell("2024-02", SOL)})
    for backfill, status in ((first, "COMPLETED_FAILED"), (again, "COMPLETED_SUCCESS")):
        wait_until(
            deadline,
            lambda backfill=backfill, status=status: ui.dagster.backfill_status(backfill) == status,  # type: ignore[misc]
            lambda backfill=backfill: ui.dagster.backfill_status(backfill),  # type: ignore[misc]
        )
    return first, again


def test_the_markets_of_the_settings_are_partitions(ui: Opened) -> None:
    assert universe(ui.dagster) == {BTC.key, ETH.key, SOL.key}


def test_one_bad_file_of_nine_is_one_red_cell_and_a_second_backfill_finds_the_work_done(
    ui: Opened, exchange: Simulator, folder: Path, backfills: tuple[str, str]
) -> None:
    lake = Lake(folder / "lake")
    for name in OF_CELLS:
        if name not in ("bronze/candle_api", "bronze/candle_witness"):
            assert {record.cell for record in lake.records(name)} == CELLS - {BAD}, name
    asked = [path.partition("?")[0] for method, path in exchange.requests if method == "GET"]
    files = Counter(path for path in asked if path.endswith("-2024-02.zip") and ETH.symbol not in path)
    assert len(files) == 2, asked
    assert set(files.values()) == {1}, "each file was fetched once, for whichever backfill came first"
    followed = {
        "/".join(key["path"])
        for run in ui.dagster.runs()
        if {tag["value"] for tag in run["tags"] if tag["key"] == "dagster/backfill"}.isdisjoint(backfills)
        for key in run["assetSelection"] or ()
    }
    assert followed <= {"silver/gap", "silver/conflict", "gold/daily_panel"}, "no cell was made a second time"


@pytest.mark.usefixtures("backfills")
def test_the_red_cell_was_told_with_a_link_to_its_run(ui: Opened, webhook: Webhook) -> None:
    wait_until(time.monotonic() + 90, lambda: bool(webhook.of("run failed")), lambda: webhook.got)
    (told,) = webhook.of("run failed")
    what, cause, command, link = told["message"].splitlines()
    assert what == f"{BRONZE} {BAD}"
    assert "ETHUSDT-1m-2024-02.zip" in cause
    assert command == f"command: lakehouse build {BRONZE} --markets {ETH.key} --from 2024-02 --to 2024-03"
    failed = {f"link: {ui.dagster.address}/runs/{run_id}" for run_id in ui.dagster.failed_runs()}
    assert link in failed


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.usefixtures("backfills")
def test_pages_show_what_became_of_it(ui: Opened, webhook: Webhook, tmp_path: Path) -> None:
    with running_browser(tmp_path, "--window-size=1600,1100") as browser:
        partitions = f"/assets/{BRONZE}?view=partitions&partition"
        red = see(browser, ui, f"{partitions}={BAD.date}%7C{ETH.key}", "did not materialize", "red_cell")
        assert "failed, and did not materialize this asset." in red
        assert "Materialized (8)" in red
        (told,) = webhook.of("run failed")
        run = told["message"].rpartition(ui.dagster.address)[2]
        why = see(browser, ui, run, "could not be fetched", "red_run")
        assert "ETHUSDT-1m-2024-02.zip" in why
        good = f"/assets/gold/vwap?view=partitions&partition=2024-03%7C{BTC.key}"
        green = see(browser, ui, good, "covers", "green_cell")
        assert "Failed (1)" in green
        assert "2024-03-01 00:00 to 2024-03-01 23:59 UTC" in green
        jobs = see(browser, ui, "/jobs", "refresh_now", "jobs")
        assert all(job in jobs for job in ("market_month", "rebuild", "verify"))
        source = see(browser, ui, "/assets/source/binance_archive", ".zip", "source")
        assert "newest file" in source
        see(browser, ui, "/locations/lakehouse/sensors/alerts", "View logs", "sensor")
        assert "1 message sent." in reason_of_a_tick(browser, "sent")


def reason_of_a_tick(browser: Browser, word: str) -> str:
    """What the page of a sensor says of the first of its ticks whose reason has a word, once it is opened."""
    ticks = "[...document.querySelectorAll('button')].filter(one => / requested$/.test(one.innerText))"
    for place in range(browser.run(f"{ticks}.length")):
        browser.run(f"{ticks}[{place}].click()")
        said = browser.wait_for(
            "(text => text?.includes('Skip reason') && text)(document.querySelector('[role=dialog]')?.innerText)"
        )
        if word in said:
            shoot(browser, "tick")
            return str(said)
        browser.click("Close")
        browser.wait_for("!document.querySelector('[role=dialog]')")
    raise AssertionError(f"no tick says {word}")


@pytest.mark.usefixtures("backfills")
def test_a_backfill_of_the_command_line_is_made_by_the_daemon_of_this_ui(
    ui: Opened, exchange: Simulator, folder: Path
) -> None:
    span = ("--markets", f"{BTC},{SOL}", "--from", MONTHS[0], "--to", "2024-03")
    own = {"LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url, "LAKEHOUSE_BINANCE_REST_URL": exchange.url}
    said = subprocess.run(
        command("backfill", "silver/candle", *span, "--force", "--format", "json", "--cells", "2"),
        cwd=folder,
        env=os.environ | own | {"LAKEHOUSE_START": MONTHS[0]},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(said.stdout)
    submitted = told["runs"]
    assert told["is_taken"], "the daemon's heart beats"
    assert [(row["cells"], row["tables"], row["why"]) for row in submitted] == [
        (2, 1, "asked for by force (2 cells)")
    ] * 2

    def ended() -> list[str]:
        runs = ui.dagster.runs()
        return [run["status"] for run in runs for row in submitted if run["runId"].startswith(row["run"])]

    wait_until(time.monotonic() + 120, lambda: ended() == ["SUCCESS"] * 2, ended)


def test_a_refresh_asked_for_while_thirty_runs_wait_starts_next(ui: Opened) -> None:
    months = [f"{year}-{month:02}" for year in (2024, 2025) for month in range(1, 13)][: RUN_COUNT // 2]
    asked = {
        ui.dagster.launch(
            "market_month", **{"": str(cell), "/date": cell.date, "/symbol": cell.own_market.key}
        )
        for cell in (Cell(month, market) for month in months for market in (BTC, ETH))
    }

    def started(*run_ids: str) -> dict[str, float]:
        runs = {run["runId"]: run["startTime"] for run in ui.dagster.runs()}
        return {run_id: runs[run_id] for run_id in run_ids if runs[run_id]}

    def waiting() -> set[str]:
        return asked & {run["runId"] for run in ui.dagster.runs() if run["status"] == "QUEUED"}

    wait_until(time.monotonic() + 120, lambda: bool(started(*asked)), ui.dagster.runs)
    queued = waiting()
    assert len(queued) > RUN_COUNT / 2, "they wait for each other"
    refresh = ui.dagster.launch("refresh_now")
    wait_until(time.monotonic() + 90, lambda: bool(started(refresh)), ui.dagster.runs)
    began = started(refresh)[refresh]
    before = [run_id for run_id, at in started(*queued).items() if at < began]
    assert len(before) <= 1, "one may have left the queue while the refresh was asked for"
    assert len(waiting()) > RUN_COUNT / 2


@pytest.fixture(scope="module")
def log(ui: Opened, folder: Path, backfills: tuple[str, str]) -> Path:
    """What was logged until the daemon was killed."""
    (daemon,) = [
        pid for pid in members(ui.process.pid) if b"_daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(daemon, signal.SIGKILL)
    assert ui.process.wait(60) == 1
    return folder / ".dagster" / "ui.log"


def test_the_end_of_the_daemon_is_told_and_where_it_is_explained(ui: Opened, log: Path) -> None:
    said = log_lines(ui.said())[-1]
    assert said["level"] == "error"
    assert (
        said["message"]
        == f"The UI is closed: the daemon ended with exit code -9; what it said stands in {log}."
    )
    assert log.stat().st_mode & 0o007 == 0


def test_runs_log_objects_that_name_run_and_cell(log: Path) -> None:
    lines = log_lines(log.read_text("utf-8"))
    red, *_ = [
        line
        for line in lines
        if line["level"] == "error" and line.get("market") == ETH.key and line.get("table") == BRONZE
    ]
    assert red["run_id"]
    assert red["step"]
    assert (red["date"], red["exchange"]) == ("2024-02", "binance")
    assert any("traceback" in line and line.get("run_id") == red["run_id"] for line in lines)
    made = [line for line in lines if line.get("event") == "ASSET_MATERIALIZATION" and "market" in line]
    assert (BRONZE, "2024-02", BTC.key) in {(line["table"], line["date"], line["market"]) for line in made}
