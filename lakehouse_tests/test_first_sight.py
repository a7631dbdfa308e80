"""What who opens the UI for the first time sees: what to do, a quiet terminal, and an end without noise."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lakehouse.model.cell import Cell
from lakehouse.simulator import Simulator
from lakehouse_tests.test_ui import BTC, ETH, LISTED, NOW, Dagster, command, end, members, wait_until

pytestmark = pytest.mark.slow


class Opened:
    """`lakehouse ui` in a folder, as a terminal has it.

    Args:
        folder: Where it is started; nothing of it is named otherwise.
        words: Further options.
        settings: Further variables.
    """

    def __init__(self, folder: Path, *words: str, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
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
        wait_until(time.monotonic() + 120, self.dagster.is_up, self.said)

    def said(self) -> str:
        return self._terminal.read_text("utf-8")


def universe(dagster: Dagster) -> set[str]:
    found = dagster.ask(
        '{ assetNodeOrError(assetKey: {path: ["gold", "vwap"]}) { ... on AssetNode { '
        "partitionKeysByDimension { name partitionKeys } } } }"
    )["assetNodeOrError"]["partitionKeysByDimension"]
    return {key for dimension in found if dimension["name"] == "symbol" for key in dimension["partitionKeys"]}


def test_an_empty_lake_says_what_to_do_opens_a_browser_and_tells_where_an_end_is_explained(
    tmp_path: Path,
) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f"#!/bin/sh\necho $1 > {seen}\n")
    browser.chmod(0o700)
    ui = Opened(tmp_path, "--open", BROWSER=str(browser))
    try:
        wait_until(time.monotonic() + 30, seen.exists, ui.said)
        assert seen.read_text().strip() == f"http://127.0.0.1:{ui.port}"
        said = " ".join(ui.said().split())
        assert "There is no market yet." in said
        assert "lakehouse markets add binance-spot:BTCUSDT" in said
        (daemon,) = [
            pid for pid in members(ui.process.pid) if b"_daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(daemon, signal.SIGKILL)
        assert ui.process.wait(60) == 1
        log = tmp_path / ".dagster" / "ui.log"
        said = " ".join(ui.said().split())
        assert f"The UI is closed: the daemon ended with exit code -9; what it said stands in {log}." in said
        assert log.stat().st_mode & 0o007 == 0
    finally:
        end(ui.process.pid)


def test_the_markets_of_the_settings_are_there_and_a_stop_amid_a_backfill_is_quiet(tmp_path: Path) -> None:
    with Simulator(markets=LISTED, now=NOW) as exchange:
        ui = Opened(
            tmp_path,
            LAKEHOUSE_MARKETS=f"{BTC},{ETH}",
            LAKEHOUSE_BINANCE_ARCHIVE_URL=exchange.url,
            LAKEHOUSE_BINANCE_REST_URL=exchange.url,
        )
        try:
            assert universe(ui.dagster) == {BTC.key, ETH.key}
            ui.dagster.backfill("bronze/candle_archive", {Cell("2024-02", BTC), Cell("2024-02", ETH)})
            asked = "{ runsOrError { ... on Runs { results { status } } } }"
            wait_until(
                time.monotonic() + 120,
                lambda: any(
                    run["status"] in ("STARTING", "STARTED")
                    for run in ui.dagster.ask(asked)["runsOrError"]["results"]
                ),
                ui.said,
            )
            ui.process.send_signal(signal.SIGINT)
            assert ui.process.wait(60) == 0
            wait_until(time.monotonic() + 60, lambda: not members(ui.process.pid), ui.said)
        finally:
            end(ui.process.pid)
    logged = (tmp_path / ".dagster" / "ui.log").read_text("utf-8")
    assert "Traceback" not in logged
    assert "BackfillDaemon" in logged
    assert re.fullmatch(
        rf"Dagster at http://127.0.0.1:{ui.port}; Ctrl-C ends it.\n"
        r"What it says meanwhile goes to .*/\.dagster/ui\.log\.\n",
        ui.said(),
    )
