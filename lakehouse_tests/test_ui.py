"""What a person does in the UI, through the API the UI uses: a backfill of bronze, and everything downstream
comes by itself.

The webserver, the daemon and the runs are processes of their own, as `lakehouse ui` starts them.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.making import spot_tables

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
LIFE = (datetime(2024, 1, 30, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC))
BTC, ETH, SOL = (Market("binance", "spot", f"{base}USDT") for base in ("BTC", "ETH", "SOL"))
LISTED = tuple(
    SimulatedMarket("spot", market.symbol, market.symbol[:3], "USDT", Decimal(100), 40, 2, 3, *LIFE)
    for market in (BTC, ETH, SOL)
)
BRONZE, API = "bronze/candle_archive", "bronze/candle_api"
CELLS = {Cell(month, market) for month in ("2024-01", "2024-02") for market in (ETH, SOL)}
TABLES = [table.name for table in REGISTRY.tables if table.spread != "one"]
CODE = {"repositoryName": "__repository__", "repositoryLocationName": "lakehouse"}
# seconds for all of it, half of them for a machine that is busy: Dagster looks for backfills to start every
# 30 seconds
PATIENCE = 420.0


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(markets=LISTED, now=NOW) as running:
        yield running


class Dagster:
    """The UI's server, asked in GraphQL."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._url = f"{self.address}/graphql"

    def ask(self, query: str, **variables: Any) -> Any:
        answer = requests.post(self._url, json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def is_up(self) -> bool:
        try:
            locations = self.ask(
                "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"
            )["workspaceOrError"]["locationEntries"]
        except requests.RequestException:
            return False
        return {entry["loadStatus"] for entry in locations} == {"LOADED"}

    def add_market(self, market: Market) -> None:
        answer = self.ask(
            'mutation($code: RepositorySelector!, $key: String!) { addDynamicPartition(repositorySelector: $code, partitionsDefName: "market", partitionKey: $key) { __typename } }',
            code=CODE,
            key=market.key,
        )
        assert answer["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"

    def backfill(self, table: str, cells: set[Cell]) -> str:
        answer = self.ask(
            "mutation($what: LaunchBackfillParams!) "
            "{ launchPartitionBackfill(backfillParams: $what) { __typename ... on LaunchBackfillSuccess { backfillId } } }",
            what={"assetSelection": [{"path": table.split("/")}], "partitionNames": sorted(map(str, cells))},
        )
        started: str = answer["launchPartitionBackfill"]["backfillId"]
        return started

    def backfill_status(self, backfill: str) -> str:
        status: str = self.ask(
            "query($id: String!) "
            "{ partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
            id=backfill,
        )["partitionBackfillOrError"]["status"]
        return status

    def events(self) -> Counter[str]:
        """How many materialization events every cell has."""
        found: Counter[str] = Counter()
        for node in self.ask(
            "{ assetNodes { assetKey { path } assetMaterializations(limit: 500) { partition } } }"
        )["assetNodes"]:
            found.update(
                f"{'/'.join(node['assetKey']['path'])} {event['partition']}"
                for event in node["assetMaterializations"]
            )
        return found

    def checks(self) -> dict[str, str]:
        """The latest status of every check."""
        query = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } }"""
        return {
            f"{'/'.join(node['assetKey']['path'])} {check['name']}": (
                check["executionForLatestMaterialization"] or {"status": "NONE"}
            )["status"]
            for node in self.ask(query)["assetNodes"]
            for check in node["assetChecksOrError"]["checks"]
        }

    def failed_runs(self) -> list[str]:
        return [
            run["runId"]
            for run in self.ask(
                "{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { runId } } } }"
            )["runsOrError"]["results"]
        ]


@pytest.fixture
def env(sim: Simulator, tmp_path: Path) -> dict[str, str]:
    """The environment of an installation of its own."""
    own = {
        "LAKEHOUSE_ROOT": str(tmp_path / "lake"),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "LAKEHOUSE_START": "2024-01",
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": sim.url,
        "LAKEHOUSE_BINANCE_REST_URL": sim.url,
    }
    return os.environ | own


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from lakehouse.cli.app import main; main()", *words]


@pytest.fixture
def lake(env: dict[str, str], tmp_path: Path) -> Path:
    """A lake of two markets and one month, built by the command line: the UI opens the same instance."""
    markets = f"{BTC},{ETH}"
    subprocess.run(
        command("build", "gold", "--markets", markets, "--from", "2024-01", "--to", "2024-02", "--json"),
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return tmp_path / "lake"


@pytest.fixture
def dagster(lake: Path, env: dict[str, str], tmp_path: Path) -> Iterator[Dagster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "ui.log"
    with log.open("wb") as sink:
        ui = subprocess.Popen(
            command("ui", "--port", str(port)),
            env=env,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        server = Dagster(port)
        wait_until(time.monotonic() + 60, server.is_up, lambda: log.read_text()[-2000:])
        yield server
    finally:
        end(ui.pid)
        ui.wait(10)


def end(session: int) -> None:
    """End every process of a session, children first; again and harder until none is left, for a dying daemon
    may still start a run.
    """
    for patience, number in ((10, signal.SIGTERM), (20, signal.SIGKILL)):
        deadline = time.monotonic() + patience
        asked: set[int] = set()
        while (running := members(session)) and time.monotonic() < deadline:
            for pid in sorted(set(running) - asked, reverse=True):
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.2)
    assert not members(session)


def members(session: int) -> list[int]:
    """The processes of a session that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of = stat.read_text().rsplit(")", 1)[1].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_until(deadline: float, ready: Callable[[], bool], said: Callable[[], object]) -> None:
    while not ready():
        assert time.monotonic() < deadline, said()
        time.sleep(1)


def versions(root: Path) -> dict[str, str]:
    lake = Lake(root)
    return {f"{name} {record.cell}": record.version for name in TABLES for record in lake.records(name)}


@pytest.mark.slow
def test_a_backfill_of_bronze_brings_what_depends_on_it_and_nothing_else(
    dagster: Dagster, sim: Simulator, lake: Path
) -> None:
    deadline = time.monotonic() + PATIENCE
    settled, before = versions(lake), dagster.events()
    # A market added by hand, a month that is new, and of the month before a file that was replaced by one
    # without a day.
    dagster.add_market(SOL)
    changed = Cell("2024-01", ETH)
    sim.add_fault(f"day_absent=*monthly*{ETH.symbol}-1m-2024-01.zip")
    sim.add_fault(f"daily_absent=*{ETH.symbol}-1m-2024-01-*")
    backfill = dagster.backfill(BRONZE, CELLS)
    wait_until(
        deadline,
        lambda: dagster.backfill_status(backfill) == "COMPLETED_SUCCESS",
        lambda: dagster.backfill_status(backfill),
    )

    # The witness lies upstream, and REST is asked of the one month that lacks a day alone. The month behind
    # is not looked at, though its averages look back: its own candles are not there.
    made = [
        table.name
        for table in spot_tables(REGISTRY.tables, "market")
        if table.name not in ("bronze/candle_witness", API)
    ]
    awaited = (
        {f"{name} {cell}" for name in made for cell in CELLS}
        | {f"{API} {changed}"}
        | {
            f"{name} {month}"
            for name in ("silver/gap", "silver/conflict")
            for month in ("2024-01", "2024-02")
        }
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
    assert {name for name in events if not name.startswith("silver/market")} == awaited
    # averages look back on the month that changed: made again where that month comes in a later run
    twice = {name for name, count in events.items() if count != 1}
    assert twice <= {f"gold/vwap {changed.shift(1)}"}
    now = versions(lake)
    # REST does not know the market any more
    months = {"silver/gap 2024-02", "silver/conflict 2024-02"}
    assert (
        now.keys() - settled.keys()
        == {f"{name} {cell}" for name in made for cell in CELLS - {changed}} | {f"{API} {changed}"} | months
    )
    assert {name for name in settled if now[name] != settled[name]} == {
        f"{name} {changed}" for name in made
    } | {"silver/gap 2024-01"}
    assert dagster.failed_runs() == []
