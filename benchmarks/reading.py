"""Reading a lake every way there is, against the engines' own readers of the same files, on a local folder
and on S3 with 30 ms added to every request.

    python -m benchmarks.reading

Writes a year of simulated candles as silver cells of one market, beside the same months of others, then reads
it several times in one process; medians. Ours check every byte they read against its seal; the engines' own
readers do not. The S3 endpoint is a local one behind a proxy that delays; both run in a process of their own
and share the machine's cores.
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

import duckdb
import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.exchanges.binance.klines import parse_klines
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
        csv = to_csv(
            market,
            minute_candles(market, minute_of(window.start), minute_of(window.end)),
            1,
            MILLISECOND,
            header=False,
        )
        rows = (
            parse_klines(month, csv, "spot")
            .drop("taker_buy_contracts")
            .with_columns(source=pl.lit("archive"), is_truncated=pl.lit(False), is_misaligned=pl.lit(False))
        )
        for symbol in ("BTCUSDT", *(f"X{number}USDT" for number in range(OTHERS))):
            cell = Cell(month, Market("binance", "spot", symbol))
            store.put(
                Candle, cell, CellResult(rows.select(Candle.names()), {}, CellFacts(asked_until=window.end))
            )


def median(read: Callable[[], object], times: int) -> float:
    """Median wall time; the first read is not counted."""
    read()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


@contextmanager
def delayed_s3(delay: float, fill: Callable[[], object]) -> Iterator[None]:
    """An S3 endpoint in another process; `AWS_ENDPOINT_URL` is its undelayed address until the lake is
    filled.

    Args:
        delay: Seconds that are added to every request.
        fill: Fills the bucket `bench`.
    """
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(delay=delay)], stdout=subprocess.PIPE, text=True
    )
    try:
        upstream, delayed = (server.stdout.readline() if server.stdout else "").split()
        os.environ |= {
            "AWS_ENDPOINT_URL": upstream,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        fill()
        os.environ["AWS_ENDPOINT_URL"] = delayed
        yield
    finally:
        server.kill()


def compare(root: str, times: int) -> None:
    """Print seconds of each way to read, and of the engine's own reader where it has one."""
    lake, where = Lake(root), "S3   " if "://" in root else "local"
    stored = lake.stored("silver/candle")
    every = [lake.objects.uri(record.path) for record in stored.values()]
    year = [lake.objects.uri(record.path) for cell, record in stored.items() if cell.market == BTC]
    span = (f"{YEAR}-01-01", "2024-01-01")
    assert Lake(root).candles(BTC, *span).height == 525_600
    two, mean = ["open_time", "close"], pl.col("close").mean()
    month = f"WHERE symbol = 'BTCUSDT' AND month = '{YEAR}-03'"

    def bare(paths: list[str]) -> pl.LazyFrame:
        return pl.scan_parquet(paths, glob=False, hive_partitioning=True)

    def own_sql(paths: list[str], where: str = "") -> Callable[[], object] | None:
        if "://" in root:
            return None  # its reader of S3 is an extension of its own, which the lake does not use
        names = ", ".join(f"'{path}'" for path in paths)
        return lambda: duckdb.sql(
            f"SELECT avg(close) FROM read_parquet([{names}], hive_partitioning = true) {where}"
        ).fetchall()

    ways: list[tuple[str, Callable[[], object], Callable[[], object] | None]] = [
        ("candles, a year", lambda: Lake(root).candles(BTC, *span), lambda: bare(year).collect()),
        (
            "scan, a year, all columns",
            lambda: Lake(root).scan("candle", BTC, *span).collect(),
            lambda: bare(year).collect(),
        ),
        (
            "scan, a year, two columns",
            lambda: Lake(root).scan("candle", BTC, *span).select(two).collect(),
            lambda: bare(year).select(two).collect(),
        ),
        (
            "scan, one month by its path",
            lambda: (
                Lake(root)
                .scan("candle")
                .filter(pl.col("symbol") == "BTCUSDT", pl.col("month") == f"{YEAR}-03")
                .collect()
            ),
            lambda: (
                bare(every).filter(pl.col("symbol") == "BTCUSDT", pl.col("month") == f"{YEAR}-03").collect()
            ),
        ),
        (
            "scan, 120 cells, a mean by market",
            lambda: Lake(root).scan("candle").group_by("symbol").agg(mean).collect(),
            lambda: bare(every).group_by("symbol").agg(mean).collect(),
        ),
        (
            "sql, a month",
            lambda: Lake(root).sql(f"SELECT avg(close) FROM silver.candle {month}"),
            own_sql(every, month),
        ),
        (
            "sql, a year",
            lambda: Lake(root).sql("SELECT avg(close) FROM silver.candle WHERE symbol = 'BTCUSDT'"),
            own_sql(every, "WHERE symbol = 'BTCUSDT'"),
        ),
        (
            "sql, 120 cells",
            lambda: Lake(root).sql("SELECT symbol, avg(close) FROM silver.candle GROUP BY symbol"),
            own_sql(every),
        ),
        ("sql, count(*) of 120 cells", lambda: Lake(root).sql("SELECT count(*) FROM silver.candle"), None),
    ]
    for name, ours, own in ways:
        seconds = median(ours, times)
        beside = median(own, times) if own else None
        said = f", the engine's own {beside * 1000:6.0f} ms: ratio {seconds / beside:.2f}" if beside else ""
        print(f"{where} {name:34} {seconds * 1000:6.0f} ms{said}", flush=True)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder) / "lake")
        fill(root)
        compare(root, 11)
    with delayed_s3(0.03, lambda: fill("s3://bench/lake")):
        compare("s3://bench/lake", 5)


if __name__ == "__main__":
    main()
