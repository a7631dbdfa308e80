"""SQL opens the cells that a statement can mean, and never yields fewer rows for it."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.errors import DamagedObjectError, SqlError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query import lake as module
from lakehouse.query.engine import LakeFiles
from lakehouse.query.lake import Lake
from lakehouse.query.pruning import Pruning
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import candles, minutes

MARKETS = [
    Market("binance", "spot", "BTCUSDT"),
    Market("binance", "linear", "BTCUSDT"),
    Market("binance", "spot", "ETHUSDT"),
    Market("binance", "inverse", "BTCUSD_PERP"),
    Market("other", "spot", "币安"),
]
MONTHS = ("2023-12", "2024-01", "2024-02")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pruning") / "lake"
    store = TableStore(LakeObjects(root))
    for number, market in enumerate(MARKETS):
        for month in MONTHS:
            rows = candles(minutes(f"{month}-05", 2 + number), close=100.0 + number)
            store.put(Candle, Cell(month, market), CellResult(rows, {}))
    return root


class Opened(Lake):
    """A lake that counts the cells its views are made of."""

    cells = 0

    def _readable(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        found = super()._readable(*args, **kwargs)
        self.cells += len(found)
        return found


PLAIN = [
    ("symbol = 'ETHUSDT'", 3),
    ("symbol = 'BTCUSDT' AND month = '2024-01'", 2),
    ("'2024-01' = month", 5),
    ("month >= '2024-01' AND market_type = 'spot' AND close > 0", 6),
    ("month BETWEEN '2024-01' AND '2024-01'", 5),
    ("'2024-01' > candle.month", 5),
    ("symbol IN ('币安', 'nobody') AND exchange = 'other'", 3),
    ("symbol = 'not / a symbol'", 0),
    ("(symbol = 'ETHUSDT' AND month < '2024') AND open > 1", 1),
]


@pytest.mark.parametrize(("where", "cells"), PLAIN)
def test_plain_conditions_leave_the_cells_that_can_fulfil_them(root: Path, where: str, cells: int) -> None:
    lake, query = Opened(root), f"SELECT * FROM silver.candle WHERE {where}"
    found = lake.sql(query)
    assert lake.cells == cells
    assert found.sort(found.columns).equals(unpruned(root, query).sort(found.columns))


COUNTED = [
    ("SELECT count(*) FROM silver.candle", True),
    ("select COUNT(*) AS n from Silver.Candle c WHERE c.symbol = 'BTCUSDT' AND '2024-01' <= c.month;", True),
    ("SELECT count() FROM silver.candle WHERE month BETWEEN '2024-01' AND '2024-02'", True),
    ("SELECT count(*) \"Rows\" FROM silver.candle WHERE symbol IN ('币安', 'nobody')", True),
    ("SELECT count(*) FROM silver.candle WHERE symbol = 'nobody'", True),
    ("SELECT count(*) AS month FROM silver.candle WHERE month = '2024-01'", False),
    ("SELECT count(*) FROM silver.candle WHERE symbol = 'BTCUSDT' AND close > 100", False),
    ("SELECT count(*) FROM silver.candle WHERE symbol = 'BTCUSDT' AND symbol = month", False),
    ("SELECT count(*) FROM silver.candle WHERE symbol IN ('BTCUSDT', NULL)", False),
    ("SELECT count(*) FROM silver.candle WHERE symbol NOT IN ('BTCUSDT')", False),
    ("SELECT count(*) FROM silver.candle WHERE false", False),
    ("SELECT count(close) FROM silver.candle", False),
    ("SELECT count(DISTINCT symbol) FROM silver.candle", False),
    ("SELECT count(*) FILTER (WHERE close > 100) FROM silver.candle", False),
    ("SELECT count(*) + 1 FROM silver.candle", False),
    ("SELECT DISTINCT count(*) FROM silver.candle", False),
    ("SELECT count(*) FROM silver.candle LIMIT 0", False),
    ("SELECT count(*) FROM silver.candle OFFSET 1", False),
    ("SELECT count(*) FROM silver.candle HAVING count(*) > 1000", False),
    ("SELECT count(*) FROM silver.candle GROUP BY symbol ORDER BY 1", False),
    ("SELECT count(*) FROM silver.candle GROUP BY ALL", False),
    ("SELECT count(*) OVER () FROM silver.candle", False),
    ("SELECT count(*) FROM silver.candle QUALIFY row_number() OVER () = 2", False),
    ("SELECT count(*), count(*) AS n FROM silver.candle", False),
    ("SELECT count(*) FROM silver.candle, range(2)", False),
    ("SELECT count(*) FROM (SELECT * FROM silver.candle LIMIT 3)", False),
]


@pytest.mark.parametrize(("query", "is_told"), COUNTED)
def test_a_plain_count_is_told_by_footers_as_the_engine_counts(root: Path, query: str, is_told: bool) -> None:
    opened: list[str] = []
    reading = LakeFiles.open

    def noted(files: LakeFiles, path: str, mode: str = "rb", **how: object) -> object:
        opened.append(path)
        return reading(files, path, mode, **how)

    with patch.object(LakeFiles, "open", noted):
        found = Lake(root).sql(query)
    assert found.equals(unpruned(root, query))
    assert found.schema == unpruned(root, query).schema
    assert (not opened) == is_told


def test_a_count_is_of_the_objects_that_lie_there_and_of_no_damaged_one(root: Path, tmp_path: Path) -> None:
    lake, count = Lake(shutil.copytree(root, tmp_path / "lake")), "SELECT count(*) FROM silver.candle"
    before = lake.sql(count).item()
    cell = Cell("2024-01", MARKETS[0])
    TableStore(lake.objects).put(Candle, cell, CellResult(candles(minutes("2024-01-05", 9)), {}))
    assert lake.sql(count).item() == before + 7
    path = tmp_path / "lake" / cell_path(Candle, cell)
    body = bytearray(path.read_bytes())
    body[-200] ^= 1  # in the footer
    path.write_bytes(body)
    with pytest.raises(DamagedObjectError):
        lake.sql(count)
    path.unlink()
    assert lake.sql(count).item() == before - 2


WHOLE = [
    "SELECT count(*) FROM silver.candle WHERE symbol = 'ETHUSDT' OR month = '2024-01'",
    "SELECT count(*) FROM silver.candle WHERE NOT symbol = 'ETHUSDT'",
    "SELECT count(*) FROM silver.candle WHERE lower(symbol) = 'ethusdt'",
    "SELECT count(*) FROM silver.candle a, silver.candle b WHERE a.symbol = 'ETHUSDT'",
    "SELECT count(*) FROM silver.candle WHERE symbol = (SELECT max(symbol) FROM silver.candle)",
    "WITH candle AS (SELECT * FROM silver.candle) SELECT count(*) FROM candle WHERE symbol = 'ETHUSDT'",
    "SELECT count(*) FROM silver.candle WHERE symbol = 'A' UNION ALL SELECT count(*) FROM silver.candle",
    "SELECT symbol AS month, count(*) FROM silver.candle WHERE month = '2024-01' GROUP BY ALL",
    "SELECT count(*) FROM silver.candle WHERE symbol = 5::VARCHAR",
    "SELECT count(*) FROM silver.candle AS c(symbol) WHERE symbol = 'ETHUSDT'",
    "SELECT count(*) FROM silver.candle; SELECT count(*) FROM silver.candle WHERE symbol = 'ETHUSDT'",
]


@pytest.mark.parametrize("query", WHOLE)
def test_what_is_not_plain_opens_everything(root: Path, query: str) -> None:
    lake = Opened(root)
    try:
        lake.sql(query)
    except SqlError:
        assert "AS c(symbol)" in query, "a time is compared with a text there"
    assert lake.cells == len(MARKETS) * len(MONTHS)


def test_arguments_say_which_cells_the_views_have(root: Path) -> None:
    lake = Opened(root)
    count = "SELECT count(*) FROM silver.candle a JOIN silver.candle b USING (exchange, open_time)"
    lake.sql(count, markets="binance-spot:ETHUSDT", start="2024-01-07", end="2024-02-01")
    assert lake.cells == 1
    assert lake.sql("SELECT count(*) FROM silver.candle", markets=[MARKETS[0]], start="2024-01").item() == 4


def unpruned(root: Path, query: str):  # type: ignore[no-untyped-def]
    with patch.object(module, "pruning", lambda connection, query, table: Pruning()):
        return Lake(root).sql(query)


def clauses(draw: random.Random) -> Iterator[str]:
    """WHERE clauses of all kinds, most of them of path columns."""

    def text() -> str:
        drawn = [
            *(market.symbol for market in MARKETS),
            "spot",
            "linear",
            "binance",
            *MONTHS,
            "2024",
            "",
            "a'b",
        ]
        return "'" + draw.choice(drawn).replace("'", "''") + "'"

    def column() -> str:
        name = draw.choice(["symbol", "month", "market_type", "exchange", "SYMBOL", '"month"'])
        return draw.choice(["", "", "candle.", "silver.candle."]) + name

    def atom() -> str:
        operator = draw.choice(["=", "=", "<", "<=", ">", ">=", "<>", "LIKE"])
        return draw.choice(
            [
                f"{column()} {operator} {text()}",
                f"{text()} {operator} {column()}",
                f"{column()} IN ({text()}, {text()})",
                f"{column()} NOT IN ({text()}, NULL)",
                f"{column()} IN (NULL, {text()})",
                f"{column()} BETWEEN {text()} AND {text()}",
                f"{column()} NOT BETWEEN {text()} AND {text()}",
                f"{column()} IS NOT DISTINCT FROM {text()}",
                f"{column()} || '' = {text()}",
                f"{column()} = {column()}",
                f"close > {draw.randint(98, 106)}",
                "open_time >= '2024-01-05 00:01'",
                f"{column()} IS NULL",
            ]
        )

    def clause(depth: int) -> str:
        if depth == 0 or draw.random() < 0.3:
            return atom()
        joined = draw.choice([" AND ", " AND ", " OR "]).join(clause(depth - 1) for _ in range(2))
        return draw.choice(["", "", "NOT "]) + f"({joined})"

    while True:
        yield clause(draw.randint(0, 3))


@pytest.mark.slow
def test_a_drawn_statement_yields_what_it_yields_over_all_cells(root: Path) -> None:
    draw, opened, answered = random.Random("pruning"), 0, 0
    made = clauses(draw)
    for _ in range(150):
        query = f"SELECT symbol, month, close, open_time FROM silver.candle WHERE {next(made)} ORDER BY ALL"
        lake = Opened(root)
        try:
            right = unpruned(root, query)
        except SqlError:
            with pytest.raises(SqlError):
                lake.sql(query)
            continue
        assert lake.sql(query).equals(right), query
        opened, answered = opened + lake.cells, answered + 1
    assert answered > 100
    assert opened < answered * len(MARKETS) * len(MONTHS) * 0.9, "some cells were left out"
