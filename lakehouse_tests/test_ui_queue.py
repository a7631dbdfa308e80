"""What waits in the queue: who asks for a refresh does not wait for a backfill of thirty runs."""

import time
from pathlib import Path
from typing import Any

import pytest

from lakehouse.simulator import Simulator
from lakehouse_tests.test_first_sight import Opened
from lakehouse_tests.test_ui import BTC, CODE, ETH, LISTED, NOW, end, wait_until

LAUNCH = """mutation($what: ExecutionParams!) { launchPipelineExecution(executionParams: $what) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId jobName status creationTime startTime } } } }"
RUN_COUNT = 30


@pytest.mark.slow
def test_a_refresh_asked_for_during_a_backfill_of_thirty_runs_starts_next(tmp_path: Path) -> None:
    with Simulator(markets=LISTED, now=NOW) as exchange:
        ui = Opened(
            tmp_path,
            LAKEHOUSE_START="2023-01",
            LAKEHOUSE_MARKETS=f"{BTC},{ETH}",
            LAKEHOUSE_CLOCK="exchange",
            LAKEHOUSE_BINANCE_ARCHIVE_URL=exchange.url,
            LAKEHOUSE_BINANCE_REST_URL=exchange.url,
        )

        def runs() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = ui.dagster.ask(RUNS)["runsOrError"]["results"]
            return found

        def launch(job: str, **partition: str) -> str:
            tags = [{"key": f"dagster/partition{name}", "value": value} for name, value in partition.items()]
            what = {"selector": {**CODE, "pipelineName": job}, "executionMetadata": {"tags": tags}}
            answer = ui.dagster.ask(LAUNCH, what={**what, "mode": "default"})["launchPipelineExecution"]
            launched: str = answer["run"]["runId"]
            return launched

        try:
            months = [f"{year}-{month:02}" for year in (2023, 2024) for month in range(1, 13)][:15]
            cells = [f"{month}|{market}" for month in months for market in (BTC, ETH)]
            assert len(cells) == RUN_COUNT
            for cell in cells:
                date, _, market = cell.partition("|")
                launch("market_month", **{"": cell, "/date": date, "/symbol": market})
            wait_until(
                time.monotonic() + 120,
                lambda: any(run["startTime"] for run in runs()),
                runs,
            )
            queued = {run["runId"] for run in runs() if run["status"] == "QUEUED"}
            assert len(queued) > RUN_COUNT / 2, "they wait for each other"
            refresh = launch("refresh_now")

            def started() -> float | None:
                (own,) = [run["startTime"] for run in runs() if run["runId"] == refresh]
                return own if own is None else float(own)

            wait_until(time.monotonic() + 90, lambda: started() is not None, runs)
            began = started()
            assert began is not None
            before = [
                run
                for run in runs()
                if run["runId"] in queued and run["startTime"] and run["startTime"] < began
            ]
            assert len(before) <= 1, "one may have left the queue while the refresh was asked for"
            assert sum(run["status"] == "QUEUED" for run in runs()) > RUN_COUNT / 2
        finally:
            end(ui.process.pid)
