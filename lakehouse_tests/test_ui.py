"""What a person does in the UI, through the API the UI uses: a backfill of bronze, and everything downstream
comes by itself: a market that was added by hand, and a file that was replaced. What looks back on a changed
month is made again in `defs/test_propagation.py`, where rounds of the daemon take no time.

The webserver, the daemon and the runs are processes of their own, as `lakehouse ui` starts them.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.model.cell import Cell
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.simulator import Simulator
from lakehouse_tests.making import spot_tables
from lakehouse_tests.opened import BTC, ETH, LISTED, NOW, SOL, Dagster, command, opened, wait_until

BRONZE, API = "bronze/candle_archive", "bronze/candle_api"
CHANGED, ADDED = Cell("2024-01", ETH), Cell("2024-01", SOL)
CELLS = {CHANGED, ADDED}
TABLES = [table.name for table in REGISTRY.tables if table.spread != "one"]
# seconds for all of it, half of them for a machine that is busy: Dagster looks for backfills to start every
# 30 seconds
PATIENCE = 360.0


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(markets=LISTED, now=NOW) as running:
        yield running


@pytest.fixture
def own(sim: Simulator, tmp_path: Path) -> dict[str, str]:
    """The settings of an installation of its own."""
    return {
        "LAKEHOUSE_ROOT": str(tmp_path / "lake"),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "LAKEHOUSE_START": "2024-01",
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": sim.url,
        "LAKEHOUSE_BINANCE_REST_URL": sim.url,
    }


@pytest.fixture
def lake(own: dict[str, str], tmp_path: Path) -> Path:
    """A lake of two markets and one month, built by the command line: the UI opens the same instance."""
    markets = f"{BTC},{ETH}"
    subprocess.run(
        command("build", "gold", "--markets", markets, "--from", "2024-01", "--to", "2024-02", "--json"),
        env=os.environ | own,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return tmp_path / "lake"


@pytest.fixture
def dagster(lake: Path, own: dict[str, str], tmp_path: Path) -> Iterator[Dagster]:
    with opened(tmp_path, **own) as ui:
        yield ui.dagster


def versions(root: Path) -> dict[str, str]:
    lake = Lake(root)
    return {f"{name} {record.cell}": record.version for name in TABLES for record in lake.records(name)}


@pytest.mark.slow
def test_a_backfill_of_bronze_brings_what_depends_on_it_and_nothing_else(
    dagster: Dagster, sim: Simulator, lake: Path
) -> None:
    deadline = time.monotonic() + PATIENCE
    settled, before = versions(lake), dagster.events()
    # A market added by hand, and of another one a file that was replaced by one without a day.
    dagster.add_market(SOL)
    sim.add_fault(f"day_absent=*monthly*{ETH.symbol}-1m-2024-01.zip")
    sim.add_fault(f"daily_absent=*{ETH.symbol}-1m-2024-01-*")
    backfill = dagster.backfill(BRONZE, CELLS)
    wait_until(
        deadline,
        lambda: dagster.backfill_status(backfill) == "COMPLETED_SUCCESS",
        lambda: dagster.backfill_status(backfill),
    )

    # The witness lies upstream, and REST is asked of the one market that lacks a day alone. The month behind
    # is not looked at, though its averages look back: its own candles are not there.
    made = [
        table.name
        for table in spot_tables(REGISTRY.tables, "market")
        if table.name not in ("bronze/candle_witness", API)
    ]
    awaited = (
        {f"{name} {cell}" for name in made for cell in CELLS}
        | {f"{API} {CHANGED}"}
        | {f"{table.name} 2024-01" for table in spot_tables(REGISTRY.tables, "all")}
    )
    wait_until(
        deadline,
        lambda: (dagster.events() - before).keys() >= awaited,
        lambda: awaited - (dagster.events() - before).keys(),
    )
    of_spot = {table.name for table in spot_tables(REGISTRY.tables)}

    def checks() -> dict[str, str]:
        return {name: found for name, found in dagster.checks().items() if name.split()[0] in of_spot}

    verdicts = dict.fromkeys(checks(), "SUCCEEDED") | {"silver/candle gaps": "FAILED"}
    wait_until(deadline, lambda: checks() == verdicts, checks)

    events = dagster.events() - before
    counts = {name: count for name, count in events.items() if not name.startswith("silver/market")}
    # what is made of all markets follows each look that finds some of them made, so each of these at most
    of_all = {f"{table.name} 2024-01": len(CELLS) for table in spot_tables(REGISTRY.tables, "all")}
    assert counts.keys() == awaited
    assert not {name: count for name, count in counts.items() if count > of_all.get(name, 1)}
    now = versions(lake)
    # REST does not know the market any more
    assert now.keys() - settled.keys() == {f"{name} {ADDED}" for name in made} | {f"{API} {CHANGED}"}
    assert {name for name in settled if now[name] != settled[name]} == {
        f"{name} {CHANGED}" for name in made
    } | {"silver/gap 2024-01", "gold/daily_panel 2024-01"}
    assert dagster.failed_runs() == []
