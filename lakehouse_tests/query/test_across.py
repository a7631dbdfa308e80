"""The same symbol on several exchanges: every candle in its slot, none twice, none made up."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.features.candle import CANDLES
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ManyMarketsError,
    NoSuchListingError,
    NothingStoredError,
    UnknownColumnError,
    UnknownIntervalError,
)
from lakehouse.model.interval import INTERVALS, Interval
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.model.terms import PERPETUAL, Terms
from lakehouse.query.across import across
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import MINUTE, at, candles, minutes

PAGE = Path(__file__).parents[2] / "docs" / "comparing.md"
BINANCE, BYBIT = Market("binance", "linear", "BTCUSDT"), Market("bybit", "linear", "BTCUSDT")
UNBUILT = Market("bybit", "linear", "ETHUSDT")
SYMBOL = "BTC/USDT:USDT"
LATE = timedelta(seconds=17)


def stated(market: Market, base: str = "BTC") -> MarketFacts:
    terms = Terms(PERPETUAL)
    return MarketFacts(
        market, base, "USDT", "USDT", None, at("2020-01-01"), None, "exchange_info", terms=terms
    )


def fill(objects: LakeObjects, *more: MarketFacts) -> None:
    """A day of both exchanges: one of them halts for an hour and opens late, the other publishes less."""
    day = minutes("2024-01-01", 1440)
    halted = [time for time in day if time.hour != 5]
    opened = [time + LATE if time == at("2024-01-01T06:00") else time for time in halted]
    store = TableStore(objects)
    for market, times, columns in (
        (BINANCE, opened, {}),
        (BYBIT, day, dict.fromkeys(("trade_count", "taker_buy_volume", "taker_buy_quote_volume"))),
    ):
        cell, rows = Cell("2024-01", market), candles(times, **columns)
        version = store.put(Candle, cell, CellResult(rows, {})).version
        for table in CANDLES:
            found = table.compute({"silver/candle": rows}, cell.window)
            store.put(table, cell, CellResult(found, {"silver/candle@2024-01": version}))
    known = [stated(BINANCE), stated(BYBIT), stated(UNBUILT, "ETH"), *more]
    store.put(MarketTable, None, CellResult(market_frame(known), {}))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    objects = LakeObjects(tmp_path_factory.mktemp("across"))
    fill(objects)
    return Lake(objects.root)


@pytest.mark.parametrize("interval", [each.name for each in INTERVALS])
def test_each_exchange_has_its_own_candles_and_no_others(lake: Lake, interval: str) -> None:
    found = lake.candles_across(SYMBOL, "2024-01-01", "2024-01-02", interval)
    for market in (BINANCE, BYBIT):
        names = pl.col(f"^{market.exchange}_.*$").name.map(lambda name: name.partition("_")[2])
        own = found.select(names).filter(pl.col("open_time").is_not_null())
        assert own.equals(lake.candles(market, "2024-01-01", "2024-01-02", interval))
    assert found["open_time"].is_sorted()
    assert found["open_time"].equals(found["open_time"].dt.truncate(interval))


def test_a_halt_of_one_is_null_there_and_a_late_candle_is_in_its_minute(lake: Lake) -> None:
    found = lake.candles_across(SYMBOL, "2024-01-01", "2024-01-02")
    assert found.height == 1440
    halted = found.filter(pl.col("open_time").dt.hour() == 5)
    assert halted["binance_close"].null_count() == halted.height == 60
    assert halted["bybit_close"].null_count() == 0
    (late,) = found.filter(open_time=at("2024-01-01T06:00")).iter_rows(named=True)
    assert late["binance_open_time"] == at("2024-01-01T06:00:17")
    assert late["knowable_at"] == at("2024-01-01T06:01:17"), "when the later of the two ends"
    assert found["bybit_trade_count"].null_count() == found.height, "not published is not zero"
    assert lake.gaps(BYBIT).is_empty()


def test_columns_are_those_of_every_exchange(lake: Lake) -> None:
    found = lake.candles_across(SYMBOL, "2024-01-01", "2024-01-02", "1h", columns=["close", "volume"])
    expected = ["binance_close", "binance_volume", "bybit_close", "bybit_volume"]
    assert found.columns == ["open_time", "knowable_at", *expected]
    everything = lake.candles_across(SYMBOL, "2024-01-01", "2024-01-02", "1h")
    assert found.equals(everything.select(found.columns))
    with pytest.raises(UnknownColumnError, match="klose"):
        lake.candles_across(SYMBOL, columns=["klose"])


def test_ranges_are_half_open_and_may_hold_nothing(lake: Lake) -> None:
    found = lake.candles_across(SYMBOL, "2024-01-01T04:59", "2024-01-01T05:01", columns=["close"])
    assert found["open_time"].to_list() == minutes("2024-01-01T04:59", 2)
    assert lake.candles_across(SYMBOL, "2030-01-01", "2030-01-02").is_empty()


@pytest.mark.parametrize(
    "symbol",
    ["binance:BTC/USDT:USDT", "binance-linear:BTCUSDT", "BTC/USDT", "BTC*", "", "\x1b[2J", "BTCUSDT"],
)
def test_what_is_no_unified_symbol_of_the_lake_is_refused(lake: Lake, symbol: str) -> None:
    with pytest.raises(NoSuchListingError):
        lake.candles_across(symbol)


def test_what_is_not_built_or_not_told_apart_is_refused(objects: LakeObjects) -> None:
    fill(objects, stated(Market("bybit", "linear", "BTCUSDT-NEW")))
    lake = Lake(objects.root)
    with pytest.raises(NothingStoredError, match="ETH/USDT:USDT"):
        lake.candles_across("ETH/USDT:USDT")
    with pytest.raises(ManyMarketsError, match="bybit-linear:BTCUSDT-NEW"):
        lake.candles_across(SYMBOL)
    with pytest.raises(UnknownIntervalError):
        lake.candles_across(SYMBOL, interval="7m")


_seconds = st.lists(st.integers(0, 600), unique=True, max_size=40).map(sorted)


@given(st.dictionaries(st.sampled_from(["binance", "bybit", "kraken"]), _seconds, min_size=1))
def test_no_candle_is_lost_moved_or_told_twice(opened: dict[str, list[int]]) -> None:
    start = at("2024-01-01")
    given_rows = {
        name: candles(
            [start + timedelta(seconds=n) for n in seconds], close=[101.0 + n / 1000 for n in seconds]
        )
        for name, seconds in opened.items()
    }
    found = across(given_rows, Interval.parse("1m"))
    for name, rows in given_rows.items():
        own = found.filter(pl.col(f"{name}_open_time").is_not_null())
        assert own[f"{name}_open_time"].equals(rows["open_time"], null_equal=False)
        assert own[f"{name}_close"].to_list() == rows["close"].to_list()
        slots = own["open_time"].to_list()
        assert slots == [_slot(time) for time in rows["open_time"]]
        assert (own["knowable_at"] >= own[f"{name}_open_time"] + MINUTE).all()
    most = {
        slot: max(sum(_slot(time) == slot for time in rows["open_time"]) for rows in given_rows.values())
        for slot in found["open_time"]
    }
    assert found.height == sum(most.values()), "no row more than the fullest exchange has"


def _slot(time: datetime) -> datetime:
    return time.replace(second=0)


def test_the_page_runs_as_it_stands(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {"lake": lake}
    for block in blocks:
        exec(block, names)
    both = names["both"]
    assert isinstance(both, pl.DataFrame)
    assert both.height == 23, "the hour of the halt is left out"
    assert both.filter(pl.col("open_time").dt.hour() == 5).is_empty()
