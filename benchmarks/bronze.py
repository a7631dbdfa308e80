"""The bronze step against a loop written by hand: CPU, memory, bytes per row, and what a repeat costs.

    python -m benchmarks.bronze [--months 6] [--pairs 5]

Both read the same monthly files of one market from a simulated exchange in a process of its own, verify
sha256 and CRC, parse, and write Parquet (zstd 3). The loop is what a careful engineer writes in an hour:
threads, no lineage, no history, no checks beyond those. Each measurement is a fresh process; figures are
medians over pairs run in turn, CPU is user + system of the process and its children.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime

from lakehouse.model.timerange import TimeRange, month_range, shift_month

MARKET, FIRST = "binance-linear:BTCUSDT", "2021-01"


def months(count: int) -> list[str]:
    """The months that are read."""
    return [shift_month(FIRST, by) for by in range(count)]


def floor(url: str, folder: str, count: int) -> dict[str, int]:
    """The loop by hand."""
    import hashlib
    import io
    import zipfile
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import polars as pl
    import pyarrow.parquet as pq
    import requests

    names = [
        "open_time",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "close_time",
        "quote_volume",
        "count",
        "taker_buy_volume",
        "taker_buy_quote_volume",
        "ignore",
    ]
    schema = {name: pl.Int64 if name.endswith("time") or name == "count" else pl.Float64 for name in names}
    deltas = {name: "DELTA_BINARY_PACKED" for name, dtype in schema.items() if dtype == pl.Int64}
    session = requests.Session()

    def one(month: str) -> int:
        key = f"data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-{month}.zip"
        body = session.get(f"{url}/data.binance.vision/{key}", timeout=60).content
        published = session.get(f"{url}/data.binance.vision/{key}.CHECKSUM", timeout=60).text.split()[0]
        assert hashlib.sha256(body).hexdigest() == published
        csv = zipfile.ZipFile(io.BytesIO(body)).read(f"BTCUSDT-1m-{month}.csv")
        rows = (
            pl.read_csv(csv, has_header=False, skip_rows=int(not csv[:1].isdigit()), schema=schema)
            .drop("ignore")
            .sort("open_time")
        )
        rows = rows.with_columns(
            pl.from_epoch("open_time", "ms").dt.cast_time_unit("us"),
            pl.from_epoch("close_time", "ms").dt.cast_time_unit("us"),
        )
        Path(folder, f"{month}.zip").write_bytes(body)
        pq.write_table(
            rows.to_arrow(),
            Path(folder, f"{month}.parquet"),
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            column_encoding=deltas,
        )
        return rows.height

    with ThreadPoolExecutor(2) as pool:
        return {"rows": sum(pool.map(one, months(count)))}


def core(url: str, folder: str, count: int) -> dict[str, int]:
    """The bronze step as the asset runs it, without Dagster."""
    from lakehouse.datasets.candle import CANDLE
    from lakehouse.exchanges.binance import Binance
    from lakehouse.model.cell import Cell
    from lakehouse.model.market import Market
    from lakehouse.sources.files.ingest import ingest
    from lakehouse.sources.files.listing import list_market
    from lakehouse.sources.files.transport import ArchiveClient
    from lakehouse.storage.ledger import ledger
    from lakehouse.storage.objects import LakeObjects
    from lakehouse.storage.outcome import Change
    from lakehouse.storage.tables import TableStore

    exchange, market, objects = Binance(url), Market.parse(MARKET), LakeObjects(folder)
    span = TimeRange(month_range(months(count)[0]).start, month_range(months(count)[-1]).end)
    listing = list_market(
        ArchiveClient(url, exchange.bucket), exchange, CANDLE.archive.name, market, span, datetime.now(UTC)
    )
    stored = ledger(objects, CANDLE.archive)
    cells = [
        cell
        for cell in (Cell(month, market) for month in months(count))
        if listing.is_due(cell, stored.get(cell))
    ]
    tables, rows, size = TableStore(objects), 0, 0
    for cell, outcome in ingest(
        CANDLE, exchange, cells, {market: listing}, {}, stored, objects, lambda: datetime.now(UTC)
    ):
        assert isinstance(outcome, Change), outcome
        record = tables.update(CANDLE.archive, cell, outcome.apply)
        assert record is not None
        rows, size = rows + record.rows, size + record.size
    return {"rows": rows, "bytes": size}


def measure(what: str, url: str, folder: str, count: int) -> dict[str, float]:
    """Run one side in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bronze", "--run", what, url, folder, str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run(what: str, url: str, folder: str, count: int) -> None:
    """The measured process."""
    result = {"floor": floor, "core": core, "idle": lambda *_: {"rows": 0}}[what](url, folder, count)
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    print(json.dumps(result | {"cpu": cpu, "memory": own.ru_maxrss / 1024}))


def main() -> None:
    """Measure both sides in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--run", nargs=4)
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run[:3], int(arguments.run[3]))
        return
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from lakehouse.simulator import Simulator; s = Simulator(); s.start(); "
            "print(s.url, flush=True); time.sleep(3600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = (server.stdout.readline() if server.stdout else "").strip()
        compare(url, arguments.months, arguments.pairs)
    finally:
        server.kill()


def compare(url: str, count: int, pairs: int) -> None:
    """Pairs in turn, after a warm-up that makes the exchange generate its files."""
    sides: dict[str, list[dict[str, float]]] = {"floor": [], "core": []}
    repeat: dict[str, float] = {}
    for attempt in range(pairs + 1):
        for what, seen in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                figures = measure(what, url, folder, count)
                if what == "core":
                    repeat = measure(what, url, folder, count)
                if attempt:
                    seen.append(figures)
    ratios = [b["cpu"] / a["cpu"] for a, b in zip(*sides.values(), strict=True)]
    for what, seen in sides.items():
        print(
            f"{what:6} {seen[0]['rows']:>10,.0f} rows  CPU {statistics.median(f['cpu'] for f in seen):6.2f} "
            f"s  peak memory {statistics.median(f['memory'] for f in seen):6.0f} MB"
        )
    print(
        f"ratio  CPU core / floor: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to "
        f"{max(ratios):.2f}"
    )
    print(
        f"core   {sides['core'][0]['bytes'] / sides['core'][0]['rows']:.1f} bytes per bronze row; a repeat "
        f"reads {repeat['rows']:.0f} rows and takes {repeat['cpu']:.2f} s CPU, most of it imports"
    )


if __name__ == "__main__":
    main()
