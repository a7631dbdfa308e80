"""Where the CPU of one bronze cell goes, stage by stage, on one simulated month of 1m candles.

    python -m benchmarks.stages

Each stage is run alone, warm, twenty times in one process; CPU of all its threads. `zipfile` stands beside
what replaced it.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl

from benchmarks.bronze import MARKET, months
from lakehouse.datasets.candle import CandleArchive, doubt
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.table import UTC_TIME
from lakehouse.sources.files.batch import Batch
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.files.zips import extract_csv
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import encode
from lakehouse.transform.history import append_news

TIMES = 20


def milliseconds(stage: Callable[[], object]) -> float:
    """Median-free and simple: CPU of twenty runs, after two that warm up."""
    stage()
    stage()
    started = time.process_time()
    for _ in range(TIMES):
        stage()
    return (time.process_time() - started) / TIMES * 1000


def measure(url: str, folder: str) -> None:
    """Print the stages of one cell."""
    exchange, cell = Binance(url), Cell(months(1)[0], Market.parse(MARKET))
    client, objects = ArchiveClient(url, exchange.bucket), LakeObjects(folder)
    key = exchange.files[CandleArchive.name].key(cell.own_market, Period.parse(cell.date))

    def fetch() -> bytes:
        with Batch(client, [key, f"{key}.CHECKSUM"]) as batch:
            batch.wait(f"{key}.CHECKSUM")
            return batch.wait(key)

    def by_zipfile() -> bytes:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return archive.read(archive.namelist()[0])

    def lineage() -> pl.DataFrame:
        named = {"source": "monthly", "source_file": key, "source_sha256": "0" * 64}
        return parsed.with_columns(
            **{name: pl.lit(text) for name, text in named.items()},
            fetched_at=pl.lit(datetime.now(UTC)).cast(UTC_TIME),
            is_removed=pl.lit(False),
        )

    body = fetch()
    csv = extract_csv(key, body)
    parsed = exchange.files["bronze/candle_archive"].parse(cell.own_market, key, csv)
    rows = lineage()
    parquet = encode(CandleArchive, rows, {})[0]
    stages: dict[str, Callable[[], object]] = {
        "fetch zip and CHECKSUM": fetch,
        "sha256": lambda: hashlib.sha256(body).hexdigest(),
        "inflate and check CRC (ISA-L)": lambda: extract_csv(key, body),
        "  the same with zipfile": by_zipfile,
        "parse and check CSV": lambda: exchange.files["bronze/candle_archive"].parse(
            cell.own_market, key, csv
        ),
        "lineage, history": lambda: append_news(
            CandleArchive.empty(), lineage(), ("open_time",), "open_time", cell.window
        ),
        "days in doubt (row rules, slots)": lambda: doubt(rows, cell, None),
        "schema, order, row rules at the boundary": lambda: CandleArchive.split(
            CandleArchive.conform(rows, cell)
        ),
        "write Parquet, hash": lambda: encode(CandleArchive, rows, {}),
        "put zip and cell": lambda: (objects.put("zip", body), objects.put("cell", parquet)),
    }
    for name, stage in stages.items():
        print(f"{milliseconds(stage):6.1f} ms  {name}")
    print(
        f"{len(parquet) / rows.height:6.1f} bytes per row, {rows.height:,} rows, zip of "
        f"{len(body) / 1e6:.1f} MB"
    )


def main() -> None:
    """Run against a simulated exchange in a process of its own."""
    script = (
        "import time; from lakehouse.simulator import Simulator; "
        "s = Simulator(); s.start(); print(s.url, flush=True); time.sleep(3600)"
    )
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure((server.stdout.readline() if server.stdout else "").strip(), folder)
    finally:
        server.kill()


if __name__ == "__main__":
    main()
