"""The month that a cell looks back on: not built yet, restated, damaged, gone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.features.candle import OF_INTERVAL
from lakehouse.features.indicator import INDICATORS
from lakehouse.features.microstructure import MICROSTRUCTURES
from lakehouse.features.price_return import Return
from lakehouse.features.volatility import Volatility
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.interval import Interval
from lakehouse.model.result import CellResult
from lakehouse.model.table import Table
from lakehouse.opening import open_lake
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.storage.layout import cell_path
from lakehouse.storage.outcome import Built, Failed, Outcome
from lakehouse_tests.making import BTC, NOW, facts, minutes, walk

FEBRUARY, MARCH = Cell("2024-02", BTC), Cell("2024-03", BTC)
HOURLY = OF_INTERVAL[Interval.parse("1h")]
OF_MINUTES, OF_HOURS = MICROSTRUCTURES
LOOKING_BACK = (Return, Vwap, Volatility, OF_MINUTES, OF_HOURS, INDICATORS[0])
ROWS = walk(minutes("2024-02-01", 33 * 1440))

pytestmark = pytest.mark.slow  # a month of minutes


def of_month(cell: Cell, rows: pl.DataFrame = ROWS) -> pl.DataFrame:
    window = cell.window
    return rows.filter(pl.col("open_time").is_between(window.start, window.end, closed="left"))


def put(lake: LakeServices, cell: Cell, rows: pl.DataFrame = ROWS) -> None:
    """A month of candles, and what is made of it alone."""
    lake.tables.put(Candle, cell, CellResult(of_month(cell, rows), {}))
    for table in (HOURLY, OF_MINUTES):
        (outcome,) = made(lake, table, cell)
        assert isinstance(outcome, Built)
        lake.tables.put(table, cell, outcome.result)


def made(lake: LakeServices, table: type[Table], cell: Cell = MARCH) -> list[Outcome]:
    return [outcome for _, outcome in recipes(lake.registry)[table].make(Inventory(lake), [cell])]


def store(lake: LakeServices, table: type[Feature]) -> pl.DataFrame:
    """Make and store March, where it is due; its rows."""
    (outcome,) = made(lake, table)
    if isinstance(outcome, Built):
        lake.tables.put(table, MARCH, outcome.result)
    assert not is_due(lake, table)
    stored = lake.tables.get(table, MARCH)
    assert stored is not None
    return stored.rows


def is_due(lake: LakeServices, table: type[Feature]) -> bool:
    return MARCH in recipes(lake.registry)[table].due(Inventory(lake), [MARCH]).reasons


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """The first days of March."""
    opened = open_lake(Settings(root=str(tmp_path / "lake")), clock=lambda: NOW)
    opened.tables.put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    put(opened, MARCH)
    return opened


@pytest.mark.parametrize("table", LOOKING_BACK, ids=lambda table: table.name)
def test_a_month_is_made_anew_whenever_the_one_before_it_comes_or_changes(
    lake: LakeServices, table: type[Feature]
) -> None:
    alone = store(lake, table)
    put(lake, FEBRUARY)
    assert is_due(lake, table)
    with_february = store(lake, table)
    names = [name for name in alone.columns if alone[name].null_count()]
    assert names or table is Vwap, "which counts what its windows lack"
    for name in names:
        if (table, name) == (OF_HOURS, "vpin"):  # of the minutes of March, whose turn comes with their own
            continue
        assert with_february[name].null_count() < alone[name].null_count()
    assert not alone.equals(with_february)

    # the last minutes of February are restated: what looks back on them changes, and nothing else
    last = ROWS.with_columns(
        pl.when(pl.col("open_time") >= FEBRUARY.window.end - timedelta(minutes=5))
        .then(pl.col(name) * 1.01)
        .otherwise(name)
        .alias(name)
        for name in ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume")
    )
    put(lake, FEBRUARY, last)
    assert is_due(lake, table)
    restated = store(lake, table)
    assert not restated.equals(with_february)
    if table is not INDICATORS[0]:  # which never forgets, but for less than 1e-9
        reach = MARCH.window.start + timedelta(days=1, hours=2)
        later = pl.col("open_time") >= reach
        of_day_before = "vpin"  # a day further, as its buckets are those of the day before
        kept = restated.filter(later).drop(of_day_before, strict=False)
        assert kept.equals(with_february.filter(later).drop(of_day_before, strict=False))


@pytest.mark.parametrize("table", LOOKING_BACK, ids=lambda table: table.name)
def test_over_a_damaged_month_nothing_is_made_and_what_was_stays(
    lake: LakeServices, table: type[Feature]
) -> None:
    put(lake, FEBRUARY)
    rows = store(lake, table)
    (source, *_) = table.inputs
    path = cell_path(lake.registry.table(source.name), FEBRUARY)
    body = bytearray(lake.objects.get(path) or b"")
    body[len(body) // 3] ^= 1
    lake.objects.put(path, bytes(body))
    if is_due(lake, table):
        (outcome,) = made(lake, table)
        assert isinstance(outcome, Failed)
        assert path in str(outcome.error)
    stored = lake.tables.get(table, MARCH)
    assert stored is not None
    assert stored.rows.equals(rows)
    lake.objects.delete(path)
    assert is_due(lake, table), "a month that is gone is not looked back on"
    assert store(lake, table).height == rows.height
