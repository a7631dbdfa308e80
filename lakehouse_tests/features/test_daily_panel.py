"""The panel: every market's day in one object, with what was known of it; made again where that changes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.features.candle import CANDLES
from lakehouse.features.daily_panel import DailyPanel
from lakehouse.model.cell import Cell
from lakehouse.model.errors import MarketFactsMissingError
from lakehouse.model.result import CellResult
from lakehouse.opening import open_lake
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.storage.outcome import Built
from lakehouse_tests.making import BTC, COIN, NOW, at, facts, minutes, walk

(DAILY,) = (table for table in CANDLES if table.name == "gold/candle_1d")
FEBRUARY = Cell("2024-02")


def put(lake: LakeServices, *known: MarketFacts) -> None:
    lake.tables.put(MarketTable, None, CellResult(market_frame(known), {}))


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """Three days of a spot market, two of an inverse one."""
    opened = open_lake(Settings(root=str(tmp_path / "lake")), clock=lambda: NOW)
    put(opened, facts(), facts(COIN, contract_size=100.0))
    for market, count in ((BTC, 3), (COIN, 2)):
        cell = Cell("2024-02", market)
        rows = walk(minutes("2024-02-01", count * 1440), seed=count)
        if market is COIN:
            rows = rows.with_columns(quote_volume=pl.lit(None, pl.Float64), contracts=pl.col("volume") * 2)
        computed = DAILY.compute({Candle.name: rows}, cell.window)
        opened.tables.put(DAILY, cell, CellResult(DAILY.conform(computed, cell), {}))
    return opened


def made(lake: LakeServices) -> dict[Cell, object]:
    recipe, has = recipes(lake.registry)[DailyPanel], Inventory(lake)
    return dict(recipe.make(has, recipe.expected(has)))


def store(lake: LakeServices) -> None:
    for cell, outcome in made(lake).items():
        assert isinstance(outcome, Built), outcome
        lake.tables.put(DailyPanel, cell, outcome.result)


def due(lake: LakeServices) -> set[Cell]:
    recipe, has = recipes(REGISTRY)[DailyPanel], Inventory(lake)
    reasons = set(recipe.due(has, recipe.expected(has)).reasons)
    assert reasons <= set(recipe.standing(has).suspects), "told in columns as one by one"
    return reasons


def test_a_cross_section_is_one_object_with_every_market_and_its_facts(lake: LakeServices) -> None:
    store(lake)
    (record,) = lake.ledger(DailyPanel.name).values()
    assert record.path == "gold/daily_panel/month=2024-02/data.parquet"
    reader = Lake(lake.objects.root)
    day = reader.sql("SELECT * FROM gold.daily_panel WHERE open_time = '2024-02-02'").to_dicts()
    assert [(row["market_type"], row["symbol"]) for row in day] == [
        ("inverse", COIN.symbol),
        ("spot", BTC.symbol),
    ]
    inverse, spot = day
    assert (inverse["contract_size"], spot["contract_size"], spot["base"], spot["quote"]) == (
        100,
        None,
        "BTC",
        "USDT",
    )
    assert inverse["quote_volume"] is None
    assert inverse["contracts"] == pytest.approx(2 * inverse["volume"])
    assert spot["knowable_at"] == spot["open_time"] + timedelta(days=1)
    assert spot["listed_time"] == at("2020-01-01")
    (mine,) = reader.scan("gold/candle_1d", BTC.key, "2024-02-02", "2024-02-03").collect().to_dicts()
    assert {
        name: mine[name] for name in ("open", "high", "low", "close", "volume", "candle_count")
    }.items() <= spot.items()
    assert reader.scan("gold/daily_panel").collect().height == 5


def test_nothing_in_it_tells_of_a_markets_end() -> None:
    """Who knows on the day that a market will be delisted has survived what others did not."""
    telling = {"delisted_time", "delisted_precision", "status", "is_trading", "successor", "valid_until"}
    assert telling <= MarketTable.columns.keys()
    assert telling.isdisjoint(DailyPanel.columns)
    assert set(DailyPanel.facts) <= set(DailyPanel.names())


def test_it_is_due_for_a_fact_that_it_holds_and_for_no_other(lake: LakeServices) -> None:
    assert due(lake) == {FEBRUARY}
    store(lake)
    assert due(lake) == set()
    put(lake, facts(delisted="2024-03-01"), facts(COIN, contract_size=100.0))
    assert due(lake) == set(), "an end is none of its facts"
    put(lake, facts(), facts(COIN, contract_size=10.0))
    assert due(lake) == {FEBRUARY}
    store(lake)
    assert due(lake) == set()
    assert set(
        Lake(lake.objects.root).sql("SELECT contract_size FROM gold.daily_panel")["contract_size"]
    ) == {None, 10.0}


def test_a_market_of_which_nothing_is_known_fails_it_by_name(lake: LakeServices) -> None:
    put(lake, facts())
    (outcome,) = made(lake).values()
    error = getattr(outcome, "error", None)
    assert isinstance(error, MarketFactsMissingError)
    assert COIN.key in str(error)
