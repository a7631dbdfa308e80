"""`gold/daily_panel`: a day of every market in one place."""

from collections.abc import Mapping

import polars as pl

from lakehouse.datasets.market import MarketTable
from lakehouse.features.candle import OF_INTERVAL
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import Interval
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange

_DAILY = OF_INTERVAL[Interval.parse("1d")]


def _of_day(name: str) -> Column:
    return _DAILY.columns[name]


def _of_market(name: str) -> Column:
    return MarketTable.columns[name]


class DailyPanel(Feature):
    """The 1d candle of every market, one object a month: a cross-section is one file, and its history few.

    Beside each candle stands what `silver/market` states of its market now, of what holds all its life.
    Nothing is there that tells when, how or whether a market ended: `Lake.markets(as_of=…)` has that as of
    an instant. A market is in the panel on the days on which it has a candle; `candle_count` tells how
    many of the 1,440 minutes that has.
    """

    name = "gold/daily_panel"
    key = ("open_time", "exchange", "market_type", "symbol")
    time = "open_time"
    spread = "all"
    inputs = (Input(_DAILY),)
    facts = (
        *("base", "quote", "settle", "contract_size", "contract_type", "coin", "coin_multiple"),
        *("unified_symbol", "listed_time", "expiry_time"),
    )

    open_time = Column(UTC_TIME, "Start of the day", "UTC")
    exchange = _of_market("exchange")
    market_type = _of_market("market_type")
    symbol = _of_market("symbol")
    open = _of_day("open")
    high = _of_day("high")
    low = _of_day("low")
    close = _of_day("close")
    volume = _of_day("volume")
    quote_volume = _of_day("quote_volume")
    trade_count = _of_day("trade_count")
    taker_buy_volume = _of_day("taker_buy_volume")
    taker_buy_quote_volume = _of_day("taker_buy_quote_volume")
    contracts = _of_day("contracts")
    candle_count = _of_day("candle_count")
    base = _of_market("base")
    quote = _of_market("quote")
    settle = _of_market("settle")
    contract_size = _of_market("contract_size")
    contract_type = _of_market("contract_type")
    coin = _of_market("coin")
    coin_multiple = _of_market("coin_multiple")
    unified_symbol = _of_market("unified_symbol")
    listed_time = _of_market("listed_time")
    expiry_time = _of_market("expiry_time")
    knowable_at = _of_day("knowable_at")

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        return inputs[_DAILY.name].select(cls.names())
