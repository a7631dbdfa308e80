"""Paths: built and parsed in one place, for any symbol an exchange may think of."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.gap import Gap
from lakehouse.datasets.market import MarketTable
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.market import MARKET_TYPES, Market, symbol_fault
from lakehouse.model.table import Table
from lakehouse.registry import REGISTRY
from lakehouse.storage.layout import (
    cell_path,
    landing_key,
    landing_prefix,
    ledger_path,
    parse_cell_path,
    partition_columns,
    quarantine_path,
)
from lakehouse_tests.making import BTC, FEBRUARY

symbols = st.text(
    st.characters(whitelist_categories=("L",), whitelist_characters="0123456789_-."), min_size=1, max_size=20
).filter(lambda text: not symbol_fault(text))


class Ticks(Table):
    """A table by day."""

    name = "silver/ticks"
    key = ()
    time = ""
    grain = "day"


@given(symbols, st.sampled_from(MARKET_TYPES), st.sampled_from([("2024-02", Candle), ("2024-02-29", Ticks)]))
@example("币安人生USDT", "spot", ("2024-02", Candle))
@example("A.B-C_D", "linear", ("2024-02", Candle))
@example("NULL", "inverse", ("2024-02", Candle))
@example("2024-01", "spot", ("2024-02-29", Ticks))
def test_a_cells_path_reads_back_for_any_symbol(
    symbol: str, market_type: str, window: tuple[str, type[Table]]
) -> None:
    date, table = window
    cell = Cell(date, Market("binance", market_type, symbol))  # type: ignore[arg-type]
    path = cell_path(table, cell)
    assert parse_cell_path(table, path) == cell
    assert path.isascii()
    assert len(path.split("/")) == 7
    assert not {"", ".", ".."} & set(path.split("/"))
    assert set(path) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~%=/")


def test_paths_are_as_documented() -> None:
    assert (
        cell_path(Candle, FEBRUARY)
        == "silver/candle/exchange=binance/market_type=spot/symbol=BTCUSDT/month=2024-02/data.parquet"
    )
    assert quarantine_path(Candle, FEBRUARY) == f"quarantine/{cell_path(Candle, FEBRUARY)}"
    assert cell_path(Ticks, Cell("2024-02-29", BTC)).endswith("/symbol=BTCUSDT/date=2024-02-29/data.parquet")
    assert (cell_path(Gap, Cell("2024-02")), cell_path(MarketTable, None)) == (
        "silver/gap/month=2024-02/data.parquet",
        "silver/market/data.parquet",
    )
    assert (ledger_path(Candle), landing_prefix("binance", "data/x.zip")) == (
        "ledger/silver/candle.parquet",
        "landing/exchange=binance/data/x.zip",
    )
    assert (
        parse_cell_path(Gap, "silver/gap/month=2024-02/data.parquet"),
        parse_cell_path(MarketTable, "silver/market/data.parquet"),
    ) == (Cell("2024-02"), None)
    assert [partition_columns(table) for table in (Candle, Ticks, Gap, MarketTable)] == [
        ["exchange", "market_type", "symbol", "month"],
        ["exchange", "market_type", "symbol", "date"],
        ["month"],
        [],
    ]


@pytest.mark.parametrize(
    "path",
    [
        "silver/candle/data.parquet",
        "silver/candle/exchange=binance/market_type=spot/month=2024-02/data.parquet",
        "silver/candle/exchange=binance/market_type=spot/symbol=BTCUSDT/date=2024-02-01/data.parquet",
        "silver/candle/exchange=binance/market_type=spot/symbol=BTCUSDT/month=2024-02/copy.parquet",
        "silver/candle/market_type=spot/exchange=binance/symbol=BTCUSDT/month=2024-02/data.parquet",
        "silver/candle/exchange=binance/market_type=spot/symbol=A%2fB/month=2024-02/data.parquet",
        "silver/candle/old/exchange=binance/market_type=spot/symbol=BTCUSDT/month=2024-02/data.parquet",
        "gold/vwap/exchange=binance/market_type=spot/symbol=BTCUSDT/month=2024-02/data.parquet",
    ],
)
def test_a_path_this_lake_would_not_make_is_refused(path: str) -> None:
    with pytest.raises(NotALakeObjectError, match="is not a cell of this lake"):
        parse_cell_path(Candle, path)


@given(symbols)
@example("..")
@example(".")
@example("a/../../b")
@example("%2e%2e")
@example("...")
def test_a_landing_folder_reads_back_as_its_key_and_leads_nowhere_else(symbol: str) -> None:
    key = f"data/spot/daily/klines/{symbol}/1m/{symbol}-1m-2024-02-01.zip"
    folder = landing_prefix("binance", key)
    assert landing_key("binance", f"{folder}/abc.json") == key
    assert folder.startswith("landing/exchange=binance/data/spot/daily/klines/")
    assert not {".", ".."} & set(folder.split("/"))
    assert folder.isascii()


def test_no_two_tables_share_a_folder() -> None:
    names = [table.name for table in REGISTRY.tables]
    assert len(names) == len(set(names))
