"""What a cell takes: rows and bytes of every table, objects of landing, and a trade as a table would have it.

    python -m benchmarks.cells [--trades ZIP]

A spot market and a perpetual by three months, built from a simulated exchange into a folder; means of the
cells. Simulated candles are more random than markets are, so real ones take less. A trade is read from a real
file of aggregated trades, where one is named, and written as cells are.
"""

import argparse
import io
import statistics
import tempfile
import zipfile
from pathlib import Path

import polars as pl

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.model.market import Market
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.ledger import ledger
from lakehouse.storage.parquet import encode

MARKETS, SPAN = ("binance-spot:BTCUSDT", "binance-linear:BTCUSDT"), ("2024-01-01", "2024-04-01")
TRADE = ("trade_id", "price", "volume", "first_trade_id", "last_trade_id", "trade_time", "is_buyer_maker")


class Trade(Table):
    """Trades as the archive publishes them; no table of a lake yet."""

    name = "silver/trade"
    key = ("trade_id",)
    time = "trade_time"
    grain = "day"

    trade_id = Column(pl.Int64, "Its number")
    trade_time = Column(UTC_TIME, "When it was made", "UTC")
    price = Column(pl.Float64, "Price", "quote")
    volume = Column(pl.Float64, "Volume", "base")
    first_trade_id = Column(pl.Int64, "Number of its first part")
    last_trade_id = Column(pl.Int64, "Number of its last part")
    is_buyer_maker = Column(pl.Boolean, "Whether the buyer was there first")


def trade_bytes(path: Path) -> tuple[int, float]:
    """How many trades a file has, and bytes that each takes."""
    with zipfile.ZipFile(path) as opened:
        csv = opened.read(opened.namelist()[0])
    raw = pl.read_csv(io.BytesIO(csv), has_header=True, new_columns=list(TRADE))
    rows = raw.with_columns(
        trade_time=(pl.col("trade_time") * 1000).cast(UTC_TIME),
        price=pl.col("price").cast(pl.Float64),
        volume=pl.col("volume").cast(pl.Float64),
        is_buyer_maker=pl.col("is_buyer_maker").cast(pl.Boolean),
    ).select(Trade.names())
    body, _ = encode(Trade, rows, {"table": Trade.name, "cell": ""})
    return rows.height, len(body) / rows.height


def main() -> None:
    """Build, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trades", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Simulator() as exchange:
        settings = Settings(
            root=f"{folder}/lake",
            dagster_home=Path(folder) / "dagster",
            binance_archive_url=exchange.url,
            binance_rest_url=exchange.url,
        )
        lake = open_lake(settings)
        with open_instance(settings) as instance:
            markets = [Market.parse(key) for key in MARKETS]
            Builder(lake, instance).build(lake.registry.tables, markets, TimeRange.parse(*SPAN))
        print("| table | cells | rows a cell | bytes a cell |\n|---|---|---|---|")
        for table in lake.registry.tables:
            stored = ledger(lake.objects, table) if table.spread != "one" else {}
            if stored:
                rows = statistics.fmean(record.rows for record in stored.values())
                size = statistics.fmean(record.size for record in stored.values())
                print(f"| `{table.name}` | {len(stored)} | {rows:,.0f} | {size:,.0f} |")
        landed = list(lake.objects.list("landing"))
        months = [found for found in landed if ".zip/" in found.path and "/monthly/klines/" in found.path]
        files = [found.size for found in months if found.path.endswith(".zip")]
        size = statistics.fmean(files)
        print(f"| landing, months of candles | {len(months)} objects of {len(files)} files | | {size:,.0f} |")
    if arguments.trades:
        count, size = trade_bytes(arguments.trades)
        print(f"\n{count:,} trades of {arguments.trades.name}: {size:.1f} bytes each")


if __name__ == "__main__":
    main()
