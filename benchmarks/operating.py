"""What an operator waits for, with the sensors on: from the launch of `lakehouse ui` to the first cell, from
a changed bronze cell to gold, and how many lines are logged while nothing happens.

    python -m benchmarks.operating [--minutes 1]

The UI, its daemon and the runs are processes of their own, over a simulated exchange that stands still.
Their looks come at intervals (a queue's each second or so, a backfill's and a condition's up to thirty), so
the same machine gives other seconds each time.
"""

import argparse
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from lakehouse.model.cell import Cell
from lakehouse.model.errors import NoLakeError
from lakehouse.query.lake import Lake
from lakehouse.simulator import Simulator
from lakehouse_tests.opened import BTC, LISTED, NOW, Opened, command, opened, wait_until

MONTH = "2024-02"
CELL = Cell(MONTH, BTC)
BRONZE, SILVER, GOLD = "bronze/candle_archive", "silver/candle", ("gold/candle_1h", "gold/vwap")
PATIENCE = 300.0
SETTLED = 40.0  # seconds without a run, after which nothing more is to come


def version(lake: Lake, table: str) -> str:
    """The version of the cell in a table; empty where it is not there."""
    with contextlib.suppress(NoLakeError):
        return next((record.version for record in lake.records(table) if record.cell == CELL), "")
    return ""


def await_all(lake: Lake, before: Mapping[str, str], ui: Opened) -> dict[str, float]:
    """When the cell of each table became another one, in seconds from now.

    Args:
        lake: The lake.
        before: The version of the cell, by table.
        ui: Where it is made.
    """
    since, found = time.monotonic(), dict[str, float]()

    def look() -> bool:
        for name, known in before.items():
            if name not in found and version(lake, name) != known:
                found[name] = time.monotonic() - since
        return len(found) == len(before)

    wait_until(since + PATIENCE, look, ui.said)
    return found


def measure(folder: Path, minutes: float) -> None:
    """Print all figures."""
    with Simulator(markets=LISTED, now=NOW) as exchange:
        settings = {
            "LAKEHOUSE_ROOT": str(folder / "lake"),
            "DAGSTER_HOME": str(folder / "dagster"),
            "LAKEHOUSE_START": MONTH,
            "LAKEHOUSE_END": MONTH,
            "LAKEHOUSE_CLOCK": "exchange",
            "LAKEHOUSE_REFRESH": "true",
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url,
            "LAKEHOUSE_BINANCE_REST_URL": exchange.url,
        }
        lake, launched = Lake(folder / "lake"), time.monotonic()
        with opened(folder, **settings) as ui:
            answers = time.monotonic() - launched
            ui.dagster.add_market(BTC)
            ui.dagster.launch("market_month", **{"": str(CELL), "/date": MONTH, "/symbol": BTC.key})
            first = await_all(lake, dict.fromkeys((BRONZE, *GOLD), ""), ui)
            print(f"{answers:6.0f} s  launch to a UI that answers")
            for name, seconds in first.items():
                print(f"{answers + seconds:6.0f} s  launch to the first cell of {name}")
            await_rest(ui)
            exchange.add_fault(f"day_absent=*monthly*{BTC.symbol}-1m-{MONTH}.zip")
            exchange.add_fault(f"daily_absent=*{BTC.symbol}-1m-{MONTH}-*")
            before = {name: version(lake, name) for name in (SILVER, *GOLD)}
            subprocess.run(
                command("build", BRONZE, "--markets", BTC.key, "--from", MONTH, "--to", "2024-03"),
                env=os.environ | settings,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            changed = await_all(lake, before, ui)
            for name, seconds in changed.items():
                print(f"{seconds:6.0f} s  a changed bronze cell to {name}")
            await_rest(ui)
            log = folder / "dagster" / "ui.log"
            lines = log.read_bytes().count(b"\n")
            time.sleep(60 * minutes)
            logged = log.read_bytes().count(b"\n") - lines
            print(f"{logged:6}    lines logged in {minutes:g} quiet minutes")


def await_rest(ui: Opened) -> None:
    """Wait until nothing is under way, and nothing has been for a while."""
    seen, since = -1, time.monotonic()

    def is_quiet() -> bool:
        nonlocal seen, since
        runs = ui.dagster.runs()
        if len(runs) != seen or any(run["status"] not in ("SUCCESS", "FAILURE", "CANCELED") for run in runs):
            seen, since = len(runs), time.monotonic()
        return time.monotonic() - since > SETTLED

    wait_until(time.monotonic() + PATIENCE, is_quiet, ui.said)


def main() -> None:
    """Measure in a folder that goes afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=1, help="how long it is watched while nothing happens"
    )
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), parser.parse_args().minutes)


if __name__ == "__main__":
    main()
