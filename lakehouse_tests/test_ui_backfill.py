"""What a person sees of a backfill with one bad file: two markets green down to gold, one cell red with its
reason, nothing done twice, and a second backfill over the same cells that finds the work done.
"""

import os
import socket
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

from .browser import CHROMIUM, Browser, running_browser
from .making import spot_tables
from .test_ui import BTC, ETH, LISTED, NOW, SOL, Dagster, command, end, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
]
MONTHS = ("2024-01", "2024-02", "2024-03")
CELLS = {Cell(month, market) for month in MONTHS for market in (BTC, ETH, SOL)}
BAD = Cell("2024-02", ETH)
FAULTS = ("unavailable=*monthly*ETHUSDT-1m-2024-02.zip", "rest_forgotten=*ETHUSDT-1m-*")
OF_CELLS = [table.name for table in spot_tables(REGISTRY.tables, "market")]
PATIENCE = 230.0
LAUNCH = """mutation($what: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $what) {
    __typename ... on LaunchBackfillSuccess { backfillId } } }"""
RUNS = (
    "{ runsOrError { ... on Runs { results { runId status assetSelection { path } tags { key value } } } } }"
)
SHOTS = os.environ.get("SCREENSHOTS")  # a folder for pictures to look at


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[tuple[Dagster, Simulator, Path]]:
    """The UI over an empty lake of three markets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Simulator(markets=LISTED, now=NOW, faults=FAULTS) as sim, (tmp_path / "ui.log").open("wb") as log:
        env = os.environ | {
            "LAKEHOUSE_ROOT": str(tmp_path / "lake"),
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "LAKEHOUSE_START": "2024-01",
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": sim.url,
            "LAKEHOUSE_BINANCE_REST_URL": sim.url,
        }
        subprocess.run(
            command("markets", "add", BTC.key, ETH.key, SOL.key),
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        process = subprocess.Popen(
            command("ui", "--port", str(port)), env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            server = Dagster(port)
            wait_until(time.monotonic() + 90, server.is_up, lambda: (tmp_path / "ui.log").read_text()[-2000:])
            yield server, sim, tmp_path
        finally:
            end(process.pid)
            process.wait(10)


def launch(server: Dagster, tables: list[str], cells: set[Cell]) -> str:
    what = {
        "assetSelection": [{"path": table.split("/")} for table in tables],
        "partitionNames": sorted(map(str, cells)),
    }
    started: str = server.ask(LAUNCH, what=what)["launchPartitionBackfill"]["backfillId"]
    return started


def test_one_bad_file_of_nine_is_one_red_cell_and_a_second_backfill_finds_the_work_done(
    ui: tuple[Dagster, Simulator, Path], tmp_path: Path
) -> None:
    server, sim, _ = ui
    deadline = time.monotonic() + PATIENCE
    sim.reset_requests()
    first = launch(server, OF_CELLS, CELLS)
    again = launch(server, OF_CELLS, {Cell("2024-02", BTC), Cell("2024-02", SOL)})
    for backfill, status in ((first, "COMPLETED_FAILED"), (again, "COMPLETED_SUCCESS")):
        wait_until(
            deadline,
            lambda backfill=backfill, status=status: server.backfill_status(backfill) == status,  # type: ignore[misc]
            lambda backfill=backfill: server.backfill_status(backfill),  # type: ignore[misc]
        )
    lake = Lake(tmp_path / "lake")
    for name in OF_CELLS:
        if name not in ("bronze/candle_api", "bronze/candle_witness"):
            assert {record.cell for record in lake.records(name)} == CELLS - {BAD}, name
    asked = [path.partition("?")[0] for method, path in sim.requests if method == "GET"]
    files = Counter(path for path in asked if path.endswith("-2024-02.zip") and ETH.symbol not in path)
    assert len(files) == 2, asked
    assert set(files.values()) == {1}, "each file was fetched once, for whichever backfill came first"
    runs = server.ask(RUNS)["runsOrError"]["results"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs]
    followed = {
        "/".join(key["path"])
        for run, own in zip(runs, tags, strict=True)
        if own.get("dagster/backfill") not in (first, again)
        for key in run["assetSelection"] or ()
    }
    assert followed <= {"silver/gap", "silver/conflict"}, "no cell was made a second time"

    with running_browser(tmp_path, "--window-size=1600,1100") as browser:
        page = f"{server.address}/assets/bronze/candle_archive?view=partitions"
        browser.open(f"{page}&partition={BAD.date}%7C{ETH.key}")
        red = browser.wait_for(
            "document.body.innerText.includes('did not materialize') && document.body.innerText"
        )
        shoot(browser, "red_cell")
        assert "failed, and did not materialize this asset." in red
        assert "Materialized (8)" in red
        browser.open(f"{server.address}/assets/gold/vwap?view=partitions&partition=2024-03%7C{BTC.key}")
        green = browser.wait_for("document.body.innerText.includes('covers') && document.body.innerText")
        shoot(browser, "green_cell")
        assert "Failed (1)" in green
        assert "2024-03-01 00:00 to 2024-03-01 23:59 UTC" in green
        browser.open(f"{server.address}/jobs")
        browser.wait_for("document.body.innerText.includes('refresh_now')")
        shoot(browser, "jobs")
        browser.open(f"{server.address}/assets/source/binance_archive")
        browser.wait_for("document.body.innerText.includes('newest file')")
        shoot(browser, "source")


def shoot(browser: Browser, name: str) -> None:
    if SHOTS:
        time.sleep(2)
        browser.screenshot(Path(SHOTS, f"{name}.png"))
