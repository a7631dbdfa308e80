"""One market-year of 1m candles through `Lake.candles`, against a bare scan of the same files, on a local folder and on S3 with 30 ms added to every request.

    python -m benchmarks.reading

Writes a year of simulated candles as silver cells of one market, beside the same months of others, then reads it several times in one process; medians.
The S3 endpoint is a local one behind a proxy that delays; both run in a process of their own and share the machine's cores.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.exchanges.binance import parse_klines
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.query.lake import Lake
from lakehouse.simulator.candles import minute_candles
from lakehouse.simulator.klines import MILLISECOND, to_csv
from lakehouse.simulator.markets import DEFAULT_MARKETS, minute_of
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore

YEAR, OTHERS = "2023", 9
BTC = Market("binance", "spot", "BTCUSDT")
_SERVER = """
import time
from lakehouse.cli.local_aws import local_aws
from lakehouse_tests.storage.fault_proxy import FaultProxy
with local_aws("bench") as upstream, FaultProxy(upstream, "bench") as proxy:
    proxy.delay = {delay}
    print(upstream, proxy.url, flush=True)
    time.sleep(3600)
"""


def fill(root: str) -> None:
    """A year of one market, and of others that a reader must not pay for."""
    store = TableStore(LakeObjects(root))
    market = next(m for m in DEFAULT_MARKETS if (m.market_type, m.symbol) == (BTC.market_type, BTC.symbol))
    for month in (f"{YEAR}-{number:02}" for number in range(1, 13)):
        window = Cell(month, BTC).window
        csv = to_csv(market, minute_candles(market, minute_of(window.start), minute_of(window.end)), 1, MILLISECOND, header=False)
        rows = parse_klines(month, csv, "spot").drop("taker_buy_contracts").with_columns(source=pl.lit("archive"), is_truncated=pl.lit(False), is_misaligned=pl.lit(False))
        for symbol in ("BTCUSDT", *(f"X{number}USDT" for number in range(OTHERS))):
            cell = Cell(month, Market("binance", "spot", symbol))
            store.put(Candle, cell, CellResult(rows.select(Candle.names()), {}, CellFacts(asked_until=window.end)))


def median(read: Callable[[], pl.DataFrame], times: int) -> float:
    """Median wall time; the first read is not counted."""
    assert read().height == 525_600
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


@contextmanager
def delayed_s3(delay: float) -> Iterator[None]:
    """An S3 endpoint in another process; `AWS_ENDPOINT_URL` is its undelayed address until the lake is filled."""
    server = subprocess.Popen([sys.executable, "-c", _SERVER.format(delay=delay)], stdout=subprocess.PIPE, text=True)
    try:
        upstream, delayed = (server.stdout.readline() if server.stdout else "").split()
        os.environ |= {"AWS_ENDPOINT_URL": upstream, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
        fill("s3://bench/lake")
        os.environ["AWS_ENDPOINT_URL"] = delayed
        yield
    finally:
        server.kill()


def compare(root: str, times: int) -> tuple[float, float]:
    """Seconds of `Lake.candles` and of a bare scan of its files."""
    lake = Lake(root)
    paths = sorted(lake.objects.uri(record.path) for cell, record in lake.stored("silver/candle").items() if cell.market == BTC)
    ours = median(lambda: Lake(root).candles(BTC, f"{YEAR}-01-01", "2024-01-01"), times)
    bare = median(lambda: pl.scan_parquet(paths, glob=False).collect(), times)
    return ours, bare


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder) / "lake")
        fill(root)
        ours, bare = compare(root, 15)
        print(f"local  Lake.candles {ours * 1000:6.0f} ms, bare scan {bare * 1000:6.0f} ms: ratio {ours / bare:.2f}")
    with delayed_s3(0.03):
        ours, bare = compare("s3://bench/lake", 9)
        print(f"S3     Lake.candles {ours * 1000:6.0f} ms, bare scan {bare * 1000:6.0f} ms (30 ms added to every request)")


if __name__ == "__main__":
    main()
