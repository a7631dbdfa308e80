"""Rows per CPU-second of the silver and gold steps: read the inputs, compute, check, write; no Dagster, no
REST.

    python -m benchmarks.derived [--months 12]

One market from a simulated exchange in a process of its own. CPU is this process's, all threads; the first
month, which warms caches, is not counted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime

import polars as pl

from benchmarks.bronze import MARKET, months
from lakehouse.datasets.candle import CANDLE, Candle, CandleArchive
from lakehouse.datasets.dataset import BronzeCell
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.binance import Binance
from lakehouse.features import FEATURES
from lakehouse.features.candle import CANDLES
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.model.timerange import TimeRange, month_range
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Change
from lakehouse.storage.tables import TableStore

# upstream first
OF_CANDLES = [
    feature
    for feature in FEATURES
    if feature.spread == "market" and feature.inputs[0].table in (Candle, *CANDLES)
]


def measure(url: str, count: int, folder: str) -> dict[str, tuple[int, float]]:
    """Rows read from the input and CPU seconds, by table."""
    exchange, market, objects = Binance(url), Market.parse(MARKET), LakeObjects(folder)
    facts = MarketFacts(
        market, "BTC", "USDT", "USDT", None, datetime(2020, 1, 1, tzinfo=UTC), None, "derived"
    )
    span, store = (
        TimeRange(month_range(months(count)[0]).start, month_range(months(count)[-1]).end),
        TableStore(objects),
    )
    listing = list_market(
        ArchiveClient(url, exchange.bucket), exchange, CandleArchive.name, market, span, datetime.now(UTC)
    )
    cells = [Cell(month, market) for month in months(count)]
    for cell, outcome in ingest(
        CANDLE, exchange, cells, {market: listing}, {}, {}, objects, lambda: datetime.now(UTC)
    ):
        assert isinstance(outcome, Change), outcome
        store.update(CandleArchive, cell, outcome.apply)
    spent: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))

    def note(table: str, rows: int, started: float, counted: bool) -> None:
        if counted:
            spent[table] = spent[table][0] + rows, spent[table][1] + time.process_time() - started

    for number, cell in enumerate(cells):
        started = time.process_time()
        bronze = store.get(CandleArchive, cell)
        assert bronze is not None
        store.put(
            Candle,
            cell,
            CANDLE.refine(
                {CandleArchive.name: BronzeCell(bronze.rows, bronze.record.version, bronze.record.facts)},
                cell,
                facts,
            ),
        )
        note(Candle.name, bronze.rows.height, started, number > 0)
        for feature in OF_CANDLES:
            started = time.process_time()
            given = {
                source.name: pl.concat(
                    stored.rows for part in source.cells(cell) if (stored := store.get(source.table, part))
                )
                for source in feature.inputs
            }
            store.put(feature, cell, CellResult(feature.compute(given, cell.window), {}))
            note(feature.name, bronze.rows.height, started, number > 0)
    return spent


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=12)
    count = parser.parse_args().months
    script = (
        "import time; from lakehouse.simulator import Simulator; "
        "s = Simulator(); s.start(); print(s.url, flush=True); time.sleep(3600)"
    )
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            spent = measure((server.stdout.readline() if server.stdout else "").strip(), count, folder)
    finally:
        server.kill()
    for table, (rows, seconds) in spent.items():
        print(
            f"{table:24} {rows / seconds / 1e6:6.2f} million 1m rows per CPU-second, "
            f"{seconds / (count - 1) * 1000:5.0f} ms a month"
        )
    of_gold = {table: seconds for table, (_, seconds) in spent.items() if table.startswith("gold/")}
    beyond = sum(seconds for table, seconds in of_gold.items() if not table.startswith("gold/candle"))
    print(f"gold beyond candles: {beyond / (count - 1) * 12:.2f} s of CPU for a market-year")


if __name__ == "__main__":
    main()
