"""An exchange without archive files, whose API answers newest first, and tells its errors in bodies of status
200.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.exchanges.api import (
    ExchangeInfo,
    InfoCall,
    MarketInfo,
    PageRules,
    Pages,
    RestApi,
    RestCall,
)
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import UnknownMarketError
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.market import Market, MarketType
from lakehouse.model.table import UTC_TIME
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse_tests.extensibility.toys import (
    Answer,
    answering,
    build,
    from_milliseconds,
    milliseconds,
    toy_lake,
)
from lakehouse_tests.making import at, minutes

FIRST, NOW = at("2024-01-30T22:00"), at("2024-02-01T06:30")
MARKET = Market("counter", "linear", "COIN")
DAY = Interval.parse("1d")
MOST = 200  # rows of an answer, so that a day takes several


class CounterPages(Pages):
    """Candles of one length: rows newest first, below `result`."""

    final = pl.col("close_time") + timedelta(microseconds=1)

    def __init__(self, interval: Interval) -> None:
        self.step = interval.delta
        self.coarser = CounterPages(DAY) if interval != DAY else None

    def rules(self, market_type: MarketType) -> PageRules:
        return PageRules(((MOST, 1),), finds_next=False)

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        bounds = {"start": milliseconds(start)} if start else {}
        bounds |= {"end": milliseconds(end) - 1} if end else {}
        length = self.slot // timedelta(minutes=1)
        query = {"category": "linear", "symbol": market.symbol, "interval": length, "limit": limit}
        return RestCall("publicGetV5MarketKline", query | bounds, 1)

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        rows = answer["result"]["list"] if answer else []
        numbers = {
            name: [float(row[place]) for row in rows]
            for place, name in enumerate(("open", "high", "low", "close", "volume", "quote_volume"), 1)
        }
        unpublished = ("taker_buy_volume", "taker_buy_quote_volume", "contracts", "taker_buy_contracts")
        return pl.DataFrame(
            {"open_time": [from_milliseconds(row[0]) for row in rows], **numbers},
            schema={"open_time": UTC_TIME, **dict.fromkeys(numbers, pl.Float64)},
        ).with_columns(
            close_time=pl.col("open_time") + self.slot - timedelta(microseconds=1),
            trade_count=pl.lit(None, pl.Int64),
            **dict.fromkeys(unpublished, pl.lit(None, pl.Float64)),
        )


class CounterApi(RestApi):
    """Where the API is, its clock, and its errors: a `retCode` other than 0."""

    exchange, setting = "bybit", "LAKEHOUSE_COUNTER_REST_URL"
    code_name, why_name = "retCode", "retMsg"
    codes = {0: None, 10001: "unknown_symbol", 10016: "busy"}
    began = at("2020-01-01")

    def __init__(self, url: str) -> None:
        self.url = url
        self.ccxt_urls = {"public": url}

    def time_call(self) -> RestCall:
        return RestCall("publicGetV5MarketTime", {}, 1)

    def read_time(self, answer: Any) -> datetime:
        return from_milliseconds(answer["time"])

    def info_call(self) -> InfoCall:
        return InfoCall(f"{self.url}/v5/market/instruments-info", {"category": "linear"})

    def read_info(self, answer: Any) -> ExchangeInfo:
        symbols = [entry["symbol"] for entry in answer["result"]["list"]]
        return ExchangeInfo(dict.fromkeys(symbols, MarketInfo("COIN", "USD", "USD")), {})


class Counter(Exchange):
    """Has a REST API and nothing else."""

    name = "counter"
    pages = {
        "bronze/candle_api": CounterPages(MINUTE),
        "bronze/candle_witness": CounterPages(Interval.parse("1h")),
    }

    def infer_info(self, market: Market) -> MarketInfo:
        return MarketInfo("COIN", "USD", "USD")

    def rest_api(self, market_type: MarketType) -> RestApi:
        assert self.rest_url is not None
        return CounterApi(self.rest_url)


def klines(query: Mapping[str, str]) -> dict[str, Any]:
    """What the API answers: the newest candles of a range, newest first."""
    if query["symbol"] != "COIN":
        return {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}}
    step = int(query["interval"])
    first = from_milliseconds(query.get("start", "0"))
    last = min(from_milliseconds(query["end"]), NOW) if "end" in query else NOW
    begins = FIRST - (FIRST - at("2024-01-01")) % timedelta(minutes=step)
    opens = minutes(f"{begins:%Y-%m-%dT%H:%M}", 3000 // step + 2, step)
    opens = [time for time in opens if first <= time <= last]
    rows = [
        [str(milliseconds(time)), "100", "102", "99", "101", str(step), str(100 * step)] for time in opens
    ]
    return {"retCode": 0, "retMsg": "OK", "result": {"list": rows[::-1][: int(query["limit"])]}}


def served(kline: Answer) -> dict[str, Answer]:
    """The endpoints of the API."""
    return {
        "/market/time": lambda query: {"retCode": 0, "time": milliseconds(NOW), "result": {}},
        "/market/kline": kline,
        "/market/instruments-info": lambda query: {"retCode": 0, "result": {"list": [{"symbol": "COIN"}]}},
    }


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """A lake beside that API."""
    with answering(served(klines)) as url, toy_lake(tmp_path, Counter, NOW, rest_url=url) as opened:
        yield opened


@pytest.mark.slow
def test_it_builds_from_rest_alone_though_the_newest_row_comes_first(lake: LakeServices) -> None:
    versions = build(lake, "silver/candle", [MARKET], "2024-01", "2024-03")
    stored = lake.ledger("silver/candle")
    assert versions["silver/candle"] == {str(cell): record.version for cell, record in stored.items()}
    assert set(versions["silver/candle"]) == {"2024-01|counter-linear:COIN", "2024-02|counter-linear:COIN"}
    assert versions.get("bronze/candle_archive", {}) == {}
    reader = Lake(lake.objects.root, lake.registry)
    rows = reader.sql("SELECT open_time, close, source FROM silver.candle ORDER BY 1")
    until = at("2024-02-01T06:00")
    assert rows["open_time"].to_list() == minutes("2024-01-30T22:00", (until - FIRST) // timedelta(minutes=1))
    assert set(rows.select("close", "source").rows()) == {(101.0, "api")}
    known = reader.markets().row(0, named=True)
    assert (known["symbol"], known["listed_time"], known["delisted_time"]) == ("COIN", FIRST, None)


@pytest.mark.slow
def test_a_market_that_it_does_not_list_is_refused_by_name(lake: LakeServices) -> None:
    with pytest.raises(UnknownMarketError, match="counter-linear:NONE"):
        build(lake, "silver/candle", [Market("counter", "linear", "NONE")], "2024-01", "2024-03")


@pytest.mark.slow
def test_an_error_in_a_body_of_status_200_is_no_answer(tmp_path: Path) -> None:
    asked: list[Mapping[str, str]] = []

    def busy_once(query: Mapping[str, str]) -> dict[str, Any]:
        asked.append(query)
        if len(asked) == 3:
            return {"retCode": 10016, "retMsg": "Server error", "result": {}}
        return klines(query)

    with answering(served(busy_once)) as url, toy_lake(tmp_path, Counter, NOW, rest_url=url) as lake:
        build(lake, "silver/candle", [MARKET], "2024-01", "2024-03")
        assert asked[2] == asked[3], "the question is asked again"
        assert sum(record.rows for record in lake.ledger("silver/candle").values()) == 1920
        problems = [p for r in lake.ledger("bronze/candle_api").values() for p in r.facts.problems]
        assert problems == []
