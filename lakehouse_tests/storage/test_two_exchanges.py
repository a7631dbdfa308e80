"""Markets of two exchanges in one lake: neither changes what is stored of the other, and everything that is
made of all markets has both.
"""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lakehouse.opening import open_lake
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.aws import aws_client
from lakehouse_tests.commands import environment, in_process
from lakehouse_tests.making import at
from lakehouse_tests.test_end_to_end import versions

pytestmark = [pytest.mark.slow, pytest.mark.glue]

LISTED, NOW = at("2024-02-28T21:30"), at("2024-03-02T12:30")
MARKETS = [
    SimulatedMarket(
        "linear", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 150, 1, 3, listed=LISTED, exchange=name
    )
    for name in ("binance", "bybit")
]
BINANCE, BYBIT = (f"{market.exchange}-linear:BTCUSDT" for market in MARKETS)
RANGE = ("--from", "2024-01", "--to", "2024-04")


def of(key: str, root: Path) -> dict[str, dict[str, str]]:
    """The versions of a market's cells, without bronze, whose rows say when they were fetched."""
    found = {
        table: {cell: version for cell, version in cells.items() if cell.endswith(f"|{key}")}
        for table, cells in versions(root).items()
        if not table.startswith("bronze/")
    }
    return {table: cells for table, cells in found.items() if cells}


def test_two_exchanges_in_one_lake(
    tmp_path: Path, aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir(), both.mkdir()
    with Simulator(MARKETS, now=NOW) as sim:
        base = {"LAKEHOUSE_CLOCK": "exchange", "LAKEHOUSE_GLUE_DATABASE": ""}
        command = in_process(alone, environment(alone, sim.url) | base, monkeypatch, capsys)
        assert command("build", "gold", "--markets", BINANCE, *RANGE).code == 0
        base["LAKEHOUSE_GLUE_DATABASE"] = "two"
        command = in_process(both, environment(both, sim.url) | base, monkeypatch, capsys)
        done = command("build", "gold", "--markets", f"{BINANCE},{BYBIT}", *RANGE)
        assert done.code == 0, done.said

        made = of(BINANCE, both / "lake")
        assert made == of(BINANCE, alone / "lake"), "nothing of one exchange is made of the other"
        assert made.keys() == of(BYBIT, both / "lake").keys()

        lake = Lake(both / "lake")
        assert lake.sql(
            "SELECT exchange, count(*), count(trade_count) FROM silver.candle GROUP BY 1 ORDER BY 1"
        ).rows() == [("binance", 3750, 3750), ("bybit", 3750, 0)]
        gaps = "SELECT DISTINCT exchange, gap_class FROM silver.gap ORDER BY 1"
        assert lake.sql(gaps).rows() == [("binance", "not_listed"), ("bybit", "not_listed")]
        side = lake.candles_across("BTC/USDT:USDT", "2024-03-01", "2024-03-02", "1h")
        assert side.height == 24
        assert side.select(pl.col("binance_close", "bybit_close").is_not_null().all()).row(0) == (True, True)
        assert lake.sql("SELECT count(DISTINCT exchange) FROM gold.daily_panel").item() == 2

        pages = aws_client("glue").get_paginator("get_partitions")
        found = pages.paginate(DatabaseName="two_silver", TableName="candle")
        registered = {tuple(one["Values"]) for page in found for one in page["Partitions"]}
        assert registered == {
            (exchange, "linear", "BTCUSDT", month)
            for exchange in ("binance", "bybit")
            for month in ("2024-02", "2024-03")
        }

        quality = command("quality", "--format", "json").json
        assert {row["market"] for row in quality} == {BINANCE, BYBIT}

        before = of(BYBIT, both / "lake")
        said = command("verify", "--format", "json").json
        assert {row["cell"].partition("|")[2] for row in said["cells"]} == {BINANCE}
        assert said["before"] == 2, "of Bybit every row was asked for when it was built"
        again = command("verify", "--markets", BYBIT, "--again", "--format", "json").json
        assert {row["cell"] for row in again["cells"]} == {f"2024-02|{BYBIT}", f"2024-03|{BYBIT}"}
        assert all(row["evidence"] == row["evidence_before"] for row in again["cells"])
        assert of(BYBIT, both / "lake") == before
        proven = {str(c): r.facts.evidence for c, r in open_lake(Settings()).ledger("silver/candle").items()}
        assert proven[f"2024-02|{BINANCE}"] == "rows_api", "two families, row by row"
        assert proven[f"2024-02|{BYBIT}"] == "totals"
