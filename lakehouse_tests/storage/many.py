"""Ledgers and columns for what is tried with many cells of candles."""

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import CellFacts
from lakehouse.model.table import Column
from lakehouse.storage.layout import cell_path
from lakehouse.storage.tables import CellRecord


class WiderCandle(Candle):
    """Candles with a column more."""

    note = Column(Candle.columns["source"].dtype, "Anything", nullable=True)


def ledger(markets: int, months: int) -> list[CellRecord]:
    """What a ledger says of so many markets and months."""
    first = Period.parse("2019-01")
    cells = [
        Cell(first.shift(month).text, Market("binance", "linear", f"COIN{number:04}USDT"))
        for number in range(markets)
        for month in range(months)
    ]
    return [
        CellRecord(cell, cell_path(Candle, cell), "etag", 1, "version", 1, None, None, {}, 1, 0, CellFacts())
        for cell in cells
    ]
