"""What path columns say is what the layout means, whatever the root is called and whatever a symbol reads;
and only files that must be are opened.
"""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query.engine import LakeFiles
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, candles, minutes

pytestmark = pytest.mark.slow

ROOTS = (
    "[v2]",
    "a*b",
    "x?y",
    "symbol=X/lake",
    "month=2020-01/lake",
    "with a space",
    "%41",
    "a#b",
    "it's",
    "{a,b}",
    "币安",
    "**",
)
SYMBOLS = (
    "BTCUSDT",
    "NULL",
    "null",
    "__HIVE_DEFAULT_PARTITION__",
    "1000",
    "2024-01",
    "币安人生USDT",
    "Ö-X.1",
)
STATEMENTS = (
    "SELECT symbol, month, count(*) AS n, bit_xor(hash(close)) AS s FROM silver.candle GROUP BY ALL ORDER BY "
    "ALL",
    "SELECT max(month) AS m, min(symbol) AS s FROM silver.candle WHERE symbol = 'NULL' AND month = '2024-02'",
    "SELECT max(month) AS m FROM silver.candle WHERE symbol = 'BTCUSDT'",
    "SELECT min(exchange) AS e, max(market_type) AS t, max(symbol) AS s FROM silver.candle",
    "SELECT DISTINCT symbol FROM silver.candle WHERE symbol IS NOT NULL ORDER BY symbol",
    "SELECT count(*) AS n FROM silver.candle WHERE symbol IS NULL",
    "SELECT max(a.month) AS m FROM silver.candle a JOIN (SELECT 'null' AS symbol) b USING (symbol)",
    "SELECT count(*) AS n FROM silver.candle WHERE month BETWEEN '2024-02' AND '2024-02' AND symbol IN "
    "('1000', '2024-01')",
)


def fill(root: str | Path, offset: float = 0.0) -> Lake:
    store = TableStore(LakeObjects(root))
    for number, symbol in enumerate(SYMBOLS):
        for month in ("2024-01", "2024-02"):
            store.put(
                Candle,
                Cell(month, Market("binance", "spot", symbol)),
                CellResult(candles(minutes(f"{month}-01", 20), close=100.5 + number / 10 + offset), {}),
            )
    return Lake(str(root))


def seen(lake: Lake) -> list[object]:
    """All that is read of a lake, by every way to read."""
    found: list[object] = [lake.sql(statement).rows() for statement in STATEMENTS]
    found.append(lake.scan("silver/candle").sort("symbol", "open_time").collect().rows())
    found.append(
        lake.scan("silver/candle")
        .filter(pl.col("symbol") == "NULL", pl.col("month") == "2024-02")
        .collect()
        .rows()
    )
    found += [
        lake.candles(Market("binance", "spot", symbol), "2024-01", "2024-03").rows() for symbol in SYMBOLS
    ]
    return [*found, lake.gaps().rows()]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    found = seen(fill(tmp_path_factory.mktemp("plain")))
    assert [row[0] for row in found[4]] == sorted(SYMBOLS, key=str.encode)  # type: ignore[index]
    assert (found[1], found[5]) == ([("2024-02", "NULL")], [(0,)])
    return found


@pytest.mark.parametrize(
    "name", [name if name in ROOTS[:4] else pytest.param(name, marks=pytest.mark.slow) for name in ROOTS]
)
def test_a_root_may_be_called_anything(tmp_path: Path, right: list[object], name: str) -> None:
    for other in ("v", "ab", "axb", "xzy", "A", "a", "b", "zz/lake"):
        if other[0] in name or name == "**":
            TableStore(LakeObjects(tmp_path / other)).put(
                Candle, Cell("2024-01", BTC), CellResult(candles(minutes("2024-01-01", 20), close=101.9), {})
            )
    assert seen(fill(tmp_path / name)) == right


def test_the_command_line_reads_a_lake_with_an_odd_root(tmp_path: Path) -> None:
    fill(tmp_path / "a*b")
    TableStore(LakeObjects(tmp_path / "acb")).put(
        Candle, Cell("2024-01", BTC), CellResult(candles(minutes("2024-01-01", 20)), {})
    )
    environment = {"LAKEHOUSE_ROOT": str(tmp_path / "a*b"), "PATH": ""}
    command = [
        sys.executable,
        "-c",
        "from lakehouse.cli.app import main; main()",
        "sql",
        "--json",
        "SELECT count(*) AS n, max(month) AS m FROM silver.candle WHERE symbol = 'NULL'",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=tmp_path)
    assert pl.read_json(done.stdout.encode()).rows() == [(40, "2024-02")]


@pytest.mark.parametrize("name", ["plain", "a*b?[v2]/symbol=X", "with a space#%41"])
def test_a_prefix_of_a_bucket_may_be_called_anything(aws_lake: str, right: list[object], name: str) -> None:
    assert seen(fill(f"{aws_lake}/{name}")) == right


def test_only_files_that_must_be_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, months = (
        TableStore(LakeObjects(tmp_path)),
        [f"{year}-{month:02}" for year in range(2023, 2024) for month in range(1, 13)],
    )
    for number in range(100):
        for month in months:
            store.put(
                Candle,
                Cell(month, Market("binance", "spot", f"M{number:03}USDT")),
                CellResult(candles(minutes(f"{month}-01", 2)), {}),
            )
    opened: list[set[str]] = []
    monkeypatch.setattr(LakeFiles, "read", lambda self: opened.append(self.opened) or iter(()))  # type: ignore[func-returns-value]
    read: list[str] = []
    get_of = LakeObjects.get_of
    monkeypatch.setattr(
        LakeObjects, "get_of", lambda self, path, *where: (read.append(path), get_of(self, path, *where))[1]
    )
    lake = Lake(tmp_path)
    lake.stored("silver/candle")  # the ledger's cache: a survey of few markets leaves none
    counts = {}
    for where, least in {
        "symbol = 'M007USDT' AND month = '2023-05'": 1,
        "symbol = 'M007USDT'": 12,
        "symbol IN ('M007USDT', 'M008USDT') AND month BETWEEN '2023-01' AND '2023-03'": 6,
        "month = '2023-12'": 100,
        "symbol = 'NOBODY'": 0,
    }.items():
        found = lake.sql(f"SELECT count(*) AS n, bit_xor(hash(close)) AS s FROM silver.candle WHERE {where}")
        counts[where] = len(opened[-1])
        assert found["n"].item() == 2 * least
        assert counts[where] <= least + 1, (
            "one more, out of which DuckDB reads the names and types of columns"
        )
        read.clear()
        kept = lake.scan("silver/candle").sql(f"SELECT count(*) AS n FROM self WHERE {where}").collect()
        assert kept["n"].item() == 2 * least
        assert len(set(read)) == least, where
    with capsys.disabled():
        print(f"\nfiles opened of {len(months) * 100:,}: {counts}")
