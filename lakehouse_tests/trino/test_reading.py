"""How Trino reads a lake: what it opens, what it refuses, and that it sees what was registered, by name."""

import json

import polars as pl
import pytest

from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotRegisteredError, PartitionFilterError, SqlError, TrinoTimesError
from lakehouse.model.result import CellResult
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.query.trino import Trino
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.ledger import records
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, at
from lakehouse_tests.trino.conftest import Shown

pytestmark = pytest.mark.slow

CANDLES = "lakehouse_demo_silver.candle"
ALL = {"BTCUSDT", "ETHUSDT", "BTCUSD_PERP"}


@pytest.mark.parametrize(
    ("where", "months", "symbols"),
    [
        ("symbol = 'ETHUSDT' AND month = '2024-12'", {"2024-12"}, {"ETHUSDT"}),
        ("month BETWEEN '2024-11' AND '2024-12'", {"2024-11", "2024-12"}, ALL),
        ("market_type <> 'spot' AND month > '2024-12'", {"2025-01"}, ALL),
        ("symbol IN ('BTCUSDT', 'ETHUSDT') AND month LIKE '2025-%'", {"2025-01"}, {"BTCUSDT", "ETHUSDT"}),
    ],
)
def test_explain_tells_that_only_the_partitions_are_read_that_a_statement_names(
    shown: Shown, where: str, months: set[str], symbols: set[str]
) -> None:
    told = shown.rows(f"EXPLAIN (TYPE IO, FORMAT JSON) SELECT max(high) FROM {CANDLES} WHERE {where}")[0][0]
    (table,) = json.loads(told)["inputTableColumnInfos"]
    read = {
        column["columnName"]: {values["low"]["value"] for values in column["domain"]["ranges"]}
        for column in table["constraint"]["columnConstraints"]
    }
    assert (read["month"], read["symbol"]) == (months, symbols)


def test_of_a_month_of_a_market_one_object_is_read_once(shown: Shown) -> None:
    where = "symbol = 'ETHUSDT' AND month = '2024-12'"
    ran = shown.rows(f"EXPLAIN ANALYZE SELECT max(high) FROM {CANDLES} WHERE {where}")[0][0]
    assert "Input: 44603 rows" in ran, "37 minutes less than December has: trading had stopped"
    assert "Splits: 1," in ran


def test_nobody_reads_all_markets_and_months_by_mistake(shown: Shown) -> None:
    with pytest.raises(
        PartitionFilterError, match=r"(?s)exchange, market_type, symbol, month.*month >= '2024-01'"
    ):
        shown.trino.sql("SELECT count(*) FROM silver.candle WHERE close > 1")
    assert shown.trino.sql("SELECT count(*) AS n FROM silver.market").item() == 4, "it has no partitions"


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE silver.gap",
        "DELETE FROM silver.gap WHERE month = '2024-12'",
        "INSERT INTO silver.gap SELECT * FROM silver.gap WHERE month = '2024-12'",
        "CREATE TABLE silver.mine AS SELECT 1 AS one",
        "CREATE VIEW silver.mine AS SELECT 1 AS one",
        "ALTER TABLE silver.gap ADD COLUMN mine bigint",
        "CALL lake.system.sync_partition_metadata('lakehouse_demo_silver', 'gap', 'FULL')",
    ],
)
def test_a_reader_changes_nothing(shown: Shown, statement: str) -> None:
    with pytest.raises(SqlError, match="PERMISSION_DENIED: Access Denied"):
        shown.trino.sql(statement)


def test_a_server_that_rounds_times_is_told_from_one_that_does_not(shown: Shown) -> None:
    assert ", version 476, " in shown.trino.check()
    rounding = Trino(shown.trino.url, shown.trino.prefix, catalog="careless")
    with pytest.raises(TrinoTimesError, match=r"it reads \w+\.\w+\.\w+ as timestamp\(3\).*infra/trino/etc"):
        rounding.check()


def test_what_is_asked_wrongly_is_said_in_the_lake_s_words(shown: Shown) -> None:
    with pytest.raises(
        SqlError, match=r"(?s)'lake.lakehouse_demo_silver.candles' does not exist.*silver.candle, "
    ):
        shown.trino.sql("SELECT 1 FROM lakehouse_demo_silver.candles WHERE month = '2024-12'")
    with pytest.raises(SqlError, match="Column 'price' cannot be resolved"):
        shown.trino.sql("SELECT price FROM silver.gap WHERE month = '2024-12'")
    with pytest.raises(NotRegisteredError, match=r"bronze\.candle_archive is not registered"):
        shown.trino.sql("SELECT 1 FROM bronze.candle_archive WHERE month = '2024-12'")


class Quote(Table):
    """A table of its own, before and after two columns were appended."""

    name = "silver/quote"
    key = ("quote_time",)
    time = "quote_time"

    quote_time = Column(UTC_TIME, "When", "UTC")
    bid = Column(pl.Float64, "Best bid", "quote")


class Appended(Quote):
    """As it is later."""

    name = "silver/quote"
    ask = Column(pl.Float64, "Best ask", "quote", nullable=True)
    place = Column(pl.String, "Where", nullable=True)


def test_old_files_read_null_in_a_column_that_was_appended(shown: Shown) -> None:
    """And a partition that was registered is there for the very next statement."""
    catalog, store = GlueCatalog("lakehouse_demo", shown.lake.objects), TableStore(shown.lake.objects)
    asked = "SELECT month, {} FROM lakehouse_demo_silver.quote WHERE symbol = 'BTCUSDT' ORDER BY month"

    old = pl.DataFrame({"quote_time": [at("2024-01-05")], "bid": [1.5]}, Quote.polars_schema())
    store.put(Quote, Cell("2024-01", BTC), CellResult(old, {}))
    assert len(catalog.sync(Quote, records(shown.lake.objects, Quote)).added) == 1
    assert shown.rows(asked.format("bid")) == [("2024-01", 1.5)]

    new = pl.DataFrame(
        {"quote_time": [at("2024-02-05")], "bid": [2.5], "ask": [3.5], "place": ["x"]},
        Appended.polars_schema(),
    )
    store.put(Appended, Cell("2024-02", BTC), CellResult(new, {}))
    assert len(catalog.sync(Appended, records(shown.lake.objects, Appended)).added) == 1
    assert shown.rows(asked.format("bid, ask, place")) == [
        ("2024-01", 1.5, None, None),
        ("2024-02", 2.5, 3.5, "x"),
    ]
