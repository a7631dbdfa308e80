"""A UI that a test opens: `lakehouse ui` with its daemon and runs as processes of their own, asked through
the API that its pages use, over a simulated exchange of three spot markets.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from lakehouse.cli.local_trino import free_ports
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket
from lakehouse_tests.browser import Browser

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
LIFE = (datetime(2024, 1, 30, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC))
BTC, ETH, SOL = (Market("binance", "spot", f"{base}USDT") for base in ("BTC", "ETH", "SOL"))
LISTED = tuple(
    SimulatedMarket("spot", market.symbol, market.symbol[:3], "USDT", Decimal(100), 40, 2, 3, *LIFE)
    for market in (BTC, ETH, SOL)
)
CODE = {"repositoryName": "__repository__", "repositoryLocationName": "lakehouse"}
SHOTS = os.environ.get("SCREENSHOTS")  # a folder for pictures to look at


class Dagster:
    """The UI's server, asked in GraphQL.

    Args:
        port: Its port.
        token: What it asks a stranger for, where it does.
    """

    def __init__(self, port: int, token: str | None = None) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._url = f"{self.address}/graphql"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, query: str, **variables: Any) -> Any:
        asked = {"query": query, "variables": variables}
        answer = requests.post(self._url, json=asked, headers=self._headers, timeout=30).json()
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
            "mutation($code: RepositorySelector!, $key: String!) { addDynamicPartition("
            'repositorySelector: $code, partitionsDefName: "market", partitionKey: $key) { __typename } }',
            code=CODE,
            key=market.key,
        )
        assert answer["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"

    def backfill(self, tables: str | Sequence[str], cells: set[Cell]) -> str:
        names = [tables] if isinstance(tables, str) else tables
        answer = self.ask(
            "mutation($what: LaunchBackfillParams!) "
            "{ launchPartitionBackfill(backfillParams: $what) "
            "{ __typename ... on LaunchBackfillSuccess { backfillId } } }",
            what={
                "assetSelection": [{"path": name.split("/")} for name in names],
                "partitionNames": sorted(map(str, cells)),
            },
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

    def launch(self, job: str, assets: Sequence[str] = (), **partition: str) -> str:
        """Start a run of a job, or of some assets of it, of a partition by its dimensions."""
        tags = [{"key": f"dagster/partition{name}", "value": value} for name, value in partition.items()]
        only = {"assetSelection": [{"path": name.split("/")} for name in assets]} if assets else {}
        selector = {**CODE, "pipelineName": job, **only}
        what = {"selector": selector, "executionMetadata": {"tags": tags}}
        answer = self.ask(
            "mutation($what: ExecutionParams!) { launchPipelineExecution(executionParams: $what) "
            "{ __typename ... on LaunchRunSuccess { run { runId } } } }",
            what={**what, "mode": "default"},
        )
        launched: str = answer["launchPipelineExecution"]["run"]["runId"]
        return launched

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(
            "{ runsOrError { ... on Runs { results { runId jobName status startTime "
            "assetSelection { path } tags { key value } } } } }"
        )["runsOrError"]["results"]
        return found

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
        query = """{ assetNodes { assetKey { path } assetChecksOrError {
            ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } }"""
        return {
            f"{'/'.join(node['assetKey']['path'])} {check['name']}": (
                check["executionForLatestMaterialization"] or {"status": "NONE"}
            )["status"]
            for node in self.ask(query)["assetNodes"]
            for check in node["assetChecksOrError"]["checks"]
        }

    def failed_runs(self) -> list[str]:
        return [run["runId"] for run in self.runs() if run["status"] == "FAILURE"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from lakehouse.cli.app import main; main()", *words]


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


class Opened:
    """`lakehouse ui` in a folder, as a terminal has it.

    Args:
        folder: Where it is started; nothing of it is named otherwise.
        words: Further options.
        settings: Further variables.
    """

    def __init__(self, folder: Path, words: Sequence[str], settings: Mapping[str, str]) -> None:
        (self.port,) = free_ports(1)
        self._terminal = folder / "terminal"
        with self._terminal.open("wb") as sink:
            self.process = subprocess.Popen(
                command("ui", "--port", str(self.port), *words),
                env=os.environ | {"LAKEHOUSE_START": "2024-01"} | settings,
                cwd=folder,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self.dagster = Dagster(self.port)

    def said(self) -> str:
        """What stands in the terminal."""
        return self._terminal.read_text("utf-8")


@contextlib.contextmanager
def opened(folder: Path, *words: str, **settings: str) -> Iterator[Opened]:
    """A UI that answers; as `Opened`, and all of it has ended at the end."""
    ui = Opened(folder, words, settings)
    try:
        wait_until(time.monotonic() + 120, ui.dagster.is_up, ui.said)
        yield ui
    finally:
        end(ui.process.pid)
        ui.process.wait(10)


def log_lines(text: str) -> list[dict[str, str]]:
    """The objects of a log, each of which has what every line has."""
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert {"time", "level", "logger", "message"} <= line.keys(), line
        assert line["time"].endswith("+00:00")
    return found


def universe(dagster: Dagster) -> set[str]:
    """The markets that are partitions."""
    found = dagster.ask(
        '{ assetNodeOrError(assetKey: {path: ["gold", "vwap"]}) { ... on AssetNode { '
        "partitionKeysByDimension { name partitionKeys } } } }"
    )["assetNodeOrError"]["partitionKeysByDimension"]
    return {key for dimension in found if dimension["name"] == "symbol" for key in dimension["partitionKeys"]}


def see(browser: Browser, ui: Opened, page: str, until: str, name: str) -> str:
    """What a page says as soon as some text is on it.

    Args:
        browser: The browser.
        ui: The UI.
        page: Below its address.
        until: The text.
        name: Of the picture that is taken.
    """
    browser.open(f"{ui.dagster.address}{page}")
    text = "(document.body?.innerText || '')"
    said = browser.wait_for(f"{text}.includes({until!r}) && {text}")
    shoot(browser, name)
    return str(said)


def shoot(browser: Browser, name: str) -> None:
    """Keep what is seen, for who wants to look at it."""
    if SHOTS:
        time.sleep(2)
        browser.screenshot(Path(SHOTS, f"{name}.png"))
