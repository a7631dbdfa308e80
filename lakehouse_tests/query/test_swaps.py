"""A sound object in the place of another is named by its path and by what it holds; one of an earlier time is
told to be behind.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.features.candle import CANDLES
from lakehouse.model.cell import Cell
from lakehouse.model.errors import BehindInputsWarning, DamagedObjectError, NotALakeObjectError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult, GapRun
from lakehouse.model.table import Table
from lakehouse.query.lake import Lake
from lakehouse.storage.layout import cell_path, quarantine_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, bronze, candles, facts, minutes

pytestmark = pytest.mark.slow

ETH = Market("binance", "spot", "ETHUSDT")
HOURLY = next(table for table in CANDLES if table.name == "gold/candle_1h")
MARCH, OTHER_MONTH, OTHER_MARKET = Cell("2024-03", BTC), Cell("2024-02", BTC), Cell("2024-03", ETH)
SPAN = (BTC, "2024-03-01", "2024-03-02")


def store_cell(store: TableStore, table: type[Table], cell: Cell, volume: float = 10.0) -> str:
    """A cell of one zone and what it is made of, as stored now; its version."""
    times = minutes(f"{cell.date}-01", 180)
    rows = candles(times, volume=volume)
    if table is CandleArchive:
        return store.put(table, cell, CellResult(bronze(times, volume=volume), {})).version
    if table is Candle:
        source = store.get(CandleArchive, cell)
        made_of = {f"{CandleArchive.name}@{cell.date}": source.record.version} if source else {}
        bad = rows.head(2).with_columns(pl.col("open_time") + pl.duration(days=3), low=pl.lit(-1.0))
        return store.put(table, cell, CellResult(pl.concat([rows, bad]), made_of)).version
    silver = store.get(Candle, cell)
    assert silver is not None
    return store.put(
        table,
        cell,
        CellResult(
            HOURLY.compute({Candle.name: silver.rows}, cell.window),
            {f"{Candle.name}@{cell.date}": silver.record.version},
        ),
    ).version


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    made = TableStore(LakeObjects(tmp_path / "lake"))
    for cell in (MARCH, OTHER_MONTH, OTHER_MARKET):
        for table in (CandleArchive, Candle, HOURLY):
            store_cell(made, table, cell)
        runs = [
            (
                market,
                "silver/candle",
                GapRun("absent", cell.window.start, cell.window.start.replace(hour=1), 60),
            )
            for market in (BTC, ETH)
        ]
        made.put(Gap, Cell(cell.date), CellResult(gap_frame(runs), {}))
    made.put(MarketTable, None, CellResult(market_frame([facts(BTC), facts(ETH)]), {}))
    return made


READS: dict[type[Table], dict[str, Callable[[Lake], object]]] = {
    table: {
        "scan": lambda lake, table=table: lake.scan(table.name).collect(),  # type: ignore[misc]
        "two columns": lambda lake, table=table: (
            lake.scan(table.name).select(table.names()[:2]).collect(engine="streaming")
        ),  # type: ignore[misc]
        "sql": lambda lake, table=table: lake.sql(
            f"SELECT count(*) AS n FROM {table.name.replace('/', '.')}"
        ),  # type: ignore[misc]
        "input": lambda lake, table=table: TableStore(lake.objects).get(table, place_of(table)),  # type: ignore[misc]
        "name": lambda lake, table=table: lake.dataset_id(table.name),  # type: ignore[misc]
    }
    for table in (CandleArchive, Candle, HOURLY, Gap, MarketTable)
}
READS[Candle] |= {
    "candles": lambda lake: lake.candles(*SPAN),
    "gaps": lambda lake: lake.gaps(BTC),
    "1h": lambda lake: lake.candles(*SPAN, "1h"),
}
READS[HOURLY] |= {"1h": lambda lake: lake.candles(*SPAN, "1h")}
READS[MarketTable] |= {"markets": lambda lake: lake.markets()}


def place_of(table: type[Table]) -> Cell | None:
    return {"market": MARCH, "all": Cell("2024-03"), "one": None}[table.spread]


SWAPS: dict[str, tuple[type[Table], type[Table], Cell | None]] = {
    "bronze: a month": (CandleArchive, CandleArchive, OTHER_MONTH),
    "bronze: a market": (CandleArchive, CandleArchive, OTHER_MARKET),
    "bronze: a table": (CandleArchive, Candle, MARCH),
    "silver: a month": (Candle, Candle, OTHER_MONTH),
    "silver: a market": (Candle, Candle, OTHER_MARKET),
    "silver: a table": (Candle, HOURLY, MARCH),
    "gold: a month": (HOURLY, HOURLY, OTHER_MONTH),
    "gold: a market": (HOURLY, HOURLY, OTHER_MARKET),
    "gold: a table": (HOURLY, Candle, MARCH),
    "all markets of a month: a month": (Gap, Gap, Cell("2024-02")),
    "all markets of a month: a market": (Gap, Candle, MARCH),
    "all markets: a month": (MarketTable, Gap, Cell("2024-03")),
}


@pytest.mark.parametrize("name", SWAPS)
def test_an_object_of_another_place_is_named_by_every_reader(store: TableStore, name: str) -> None:
    table, of, cell = SWAPS[name]
    path = cell_path(table, place_of(table))
    store.objects.put(path, store.objects.get(cell_path(of, cell)) or b"")
    for way, read in READS[table].items():
        with pytest.raises(
            DamagedObjectError, match=re.escape(f"{path} is damaged: it holds {cell} of {of.name}")
        ):
            pytest.fail(f"{way} read {read(Lake(store.objects.root))}")


@pytest.mark.parametrize("cell", [OTHER_MONTH, OTHER_MARKET], ids=str)
def test_quarantine_of_another_place_is_named(store: TableStore, cell: Cell) -> None:
    store.objects.put(quarantine_path(Candle, MARCH), store.objects.get(quarantine_path(Candle, cell)) or b"")
    with pytest.raises(DamagedObjectError, match=re.escape(f"it holds {cell} of quarantine/silver/candle")):
        store.quarantined(Candle, MARCH)


def test_a_cell_is_no_quarantine_and_quarantine_is_no_cell(store: TableStore) -> None:
    cell, quarantine = cell_path(Candle, MARCH), quarantine_path(Candle, MARCH)
    bodies = store.objects.get(cell) or b"", store.objects.get(quarantine) or b""
    store.objects.put(quarantine, bodies[0])
    store.objects.put(cell, bodies[1])
    with pytest.raises(DamagedObjectError, match=r"it holds 2024-03\|binance-spot:BTCUSDT of silver/candle"):
        store.quarantined(Candle, MARCH)
    for way, read in READS[Candle].items():
        with pytest.raises(NotALakeObjectError, match=re.escape(cell)):
            pytest.fail(f"{way} read {read(Lake(store.objects.root))}")


@pytest.mark.parametrize("table", [CandleArchive, Candle], ids=lambda table: table.name)
def test_what_is_made_of_a_cell_that_was_put_back_in_time_is_behind(
    store: TableStore, table: type[Table]
) -> None:
    path = cell_path(table, MARCH)
    before = store.objects.get(path) or b""
    for each in (CandleArchive, Candle, HOURLY):
        store_cell(store, each, MARCH, volume=20.0)
    lake = Lake(store.objects.root)
    below = Candle if table is CandleArchive else HOURLY

    def said() -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BehindInputsWarning)
            lake.scan(below.name, BTC).collect()
            lake.sql(f"SELECT sum(volume) AS v FROM {below.name.replace('/', '.')}")
        return [str(one.message) for one in caught if issubclass(one.category, BehindInputsWarning)]

    assert said() == []
    store.objects.put(path, before)
    assert len(said()) == 2
    assert all("(2024-03|binance-spot:BTCUSDT)" in words for words in said())
