"""1, 10 and 100 markets by twelve months: build time, reading the ledger, `lakehouse status`, and how large
the lake and Dagster's instance become.

    python -m benchmarks.growth [--markets 1 10 100] [--table gold/candle_1h]

Every size is a lake of its own, built by the CLI in a process of its own from a simulated exchange in
another; both share the machine's cores, and what the exchange spends on generating candles counts. Linear
means: the figures per cell do not grow.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lakehouse.registry import REGISTRY
from lakehouse.storage.layout import ledger_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects

SPAN = ("2024-01-01", "2025-01-01")
EXCHANGE = """
import time
from datetime import UTC, datetime
from decimal import Decimal
from lakehouse.simulator import SimulatedMarket, Simulator
listed = datetime(2023, 12, 1, tzinfo=UTC)
markets = tuple(SimulatedMarket("spot", f"C{{n}}USDT", f"C{{n}}", "USDT", Decimal(100), 40, 2, 3, listed) for n in range({count}))
with Simulator(markets=markets, now=datetime(2025, 2, 1, tzinfo=UTC)) as exchange:
    print(exchange.url, flush=True)
    time.sleep(36000)
"""


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of a command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def size(folder: Path) -> float:
    """Megabytes below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def measure(count: int, table: str, url: str, folder: Path) -> None:
    """Build a lake of so many markets and print its row of the table."""
    keys = [f"binance-spot:C{number}USDT" for number in range(count)]
    command = [str(Path(sys.executable).with_name("lakehouse"))]
    named = {
        "LAKEHOUSE_ROOT": str(folder / "lake"),
        "DAGSTER_HOME": str(folder / "dagster"),
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": url,
        "LAKEHOUSE_BINANCE_REST_URL": url,
    }
    environment = os.environ | named | {"PYTHONWARNINGS": "ignore"}
    build = [
        *command,
        "build",
        table,
        "--markets",
        ",".join(keys),
        "--from",
        SPAN[0],
        "--to",
        SPAN[1],
        "--json",
    ]
    first, again, status = (
        timed(build, environment),
        timed(build, environment),
        timed([*command, "status", "--json"], environment),
    )
    objects, refresh, cells = LakeObjects(folder / "lake"), [0.0, 0.0], 0
    for declared in REGISTRY.tables:
        if declared.spread != "one":
            for attempt in (0, 1):
                if not attempt:
                    objects.delete(ledger_path(declared))
                started = time.perf_counter()
                stored = ledger(objects, declared)
                refresh[attempt] += time.perf_counter() - started
            cells += len(stored)
    print(
        f"| {count} | {cells:,} | {first:.1f} s ({first / cells * 1000:.0f} ms) | {again:.1f} s | "
        f"{refresh[0]:.2f} s / {refresh[1]:.2f} s | {status:.1f} s "
        f"| {size(folder / 'lake'):.0f} MB | {size(folder / 'dagster'):.1f} MB "
        f"({size(folder / 'dagster') / cells * 1000:.0f} kB) |",
        flush=True,
    )


def main() -> None:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--table", default="gold/candle_1h")
    arguments = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-c", EXCHANGE.format(count=max(arguments.markets))],
        stdout=subprocess.PIPE,
        text=True,
    )
    print(
        "| markets | cells | build (per cell) | again | ledgers, footers read / cached | status | lake | "
        "Dagster's instance (per cell) |\n|---|---|---|---|---|---|---|---|"
    )
    try:
        url = (server.stdout.readline() if server.stdout else "").strip()
        for count in arguments.markets:
            with tempfile.TemporaryDirectory() as folder:
                measure(count, arguments.table, url, Path(folder))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
