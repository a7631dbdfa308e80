"""Kraken, a toy that proves `sparse`: spot candles by its public REST API, which has the newest 720 slots
alone, tells errors in bodies of status 200, names a pair otherwise than it was asked for, and has no candle
of a quiet minute.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.datasets.candle import PublishedCandle
from lakehouse.exchanges.api import (
    Budget,
    ExchangeInfo,
    InfoCall,
    MarketInfo,
    PageRules,
    Pages,
    RateLimit,
    RestApi,
    RestCall,
)
from lakehouse.exchanges.exchange import Exchange
from lakehouse.exchanges.reply import Reply, Verdict
from lakehouse.model.addresses import address_setting
from lakehouse.model.market import Market, MarketType, symbol_fault
from lakehouse.model.table import UTC_TIME

MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(weeks=1)
MOST, PASSING = 720, 10  # slots that it has, and that may pass while it is asked
NUMBERS = ("open", "high", "low", "close", "vwap", "volume")
MICRO, EPOCH = timedelta(microseconds=1), datetime(1970, 1, 1, tzinfo=UTC)


class KrakenPages(Pages):
    """Candles of one length, oldest first, and at the end the one that is not over."""

    final = pl.col("close_time") + MICRO

    def __init__(self, step: timedelta) -> None:
        self.step: timedelta | None = step
        self.coarser = KrakenPages(WEEK) if step < WEEK else None
        self.keeps: timedelta | None = (MOST - PASSING) * step

    def rules(self, market_type: MarketType) -> PageRules:
        return PageRules(((MOST, 1),), has_end=False)

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        query: dict[str, str | int] = {"pair": market.symbol, "interval": self.slot // MINUTE}
        # it answers with what opens after the second that it is told
        query |= {"since": -((EPOCH - start) // timedelta(seconds=1)) - 1} if start else {}
        return RestCall("public_get_ohlc", query)

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        found = [rows for name, rows in answer["result"].items() if name != "last"] if answer else [[]]
        if len(found) != 1 or any(len(row) != len(NUMBERS) + 2 for row in found[0]):
            raise ValueError(f"not the candles of one pair: {answer!r:.100}")
        (rows,) = found
        columns = {name: [str(row[place]) for row in rows] for place, name in enumerate(NUMBERS, 1)}
        texts = pl.DataFrame(columns, dict.fromkeys(columns, pl.String)).cast(pl.Float64, strict=False)
        is_usable = pl.all_horizontal(pl.exclude("open_time", "trade_count").is_finite())
        raw = texts.with_columns(
            open_time=pl.Series([int(row[0]) * 1_000_000 for row in rows], dtype=pl.Int64).cast(UTC_TIME),
            trade_count=pl.Series([int(row[-1]) for row in rows], dtype=pl.Int64),
        )
        told = raw.select(
            "open_time",
            *(pl.when(is_usable).then(name) for name in (*NUMBERS[:4], "volume", "trade_count")),
            close_time=pl.when(is_usable).then(pl.col("open_time") + self.slot - MICRO),
        )
        return PublishedCandle.with_unpublished(told)


class KrakenApi(RestApi):
    """Its errors are texts: `EQuery:Unknown asset pair`."""

    exchange = "kraken"
    setting = address_setting("kraken", "rest")
    budget = Budget(requests=RateLimit("requests of an address", 10, 10.0))
    began = datetime(2013, 9, 1, tzinfo=UTC)

    def __init__(self, url: str) -> None:
        self.url, self.ccxt_urls = url, {"public": url}

    def judge(self, reply: Reply) -> Verdict:
        said = reply.value.get("error") if isinstance(reply.value, dict) else None
        why = " ".join(map(str, said)) if isinstance(said, list) else ""
        if "asset pair" in why:
            return Verdict("unknown_symbol", why=why)
        if "Rate limit" in why or "Too many" in why:
            return super().judge(replace(reply, status=429))
        if "EService" in why or "Internal error" in why:
            return super().judge(replace(reply, status=503))
        return Verdict("refused", why=why) if why else super().judge(reply)

    def time_call(self) -> RestCall:
        return RestCall("public_get_time", {})

    def read_time(self, answer: Any) -> datetime:
        return datetime.fromtimestamp(int(answer["result"]["unixtime"]), UTC)

    def info_call(self) -> InfoCall:
        return InfoCall(f"{self.url}/0/public/AssetPairs", {})

    def read_info(self, answer: Any) -> ExchangeInfo:
        pairs = {pair["altname"]: pair for pair in answer["result"].values()}
        named = {name: (pair["wsname"].split("/"), pair["status"]) for name, pair in pairs.items()}
        found = {
            name: MarketInfo(*coins, trades=status == "online") for name, (coins, status) in named.items()
        }
        return ExchangeInfo({name: info for name, info in found.items() if not symbol_fault(name)}, {})


class Kraken(Exchange):
    """Kraken, spot."""

    name = "kraken"
    sparse = True
    pages = {"bronze/candle_api": KrakenPages(MINUTE), "bronze/candle_witness": KrakenPages(HOUR)}
    rest_types = ("spot",)

    def rest_api(self, market_type: MarketType) -> RestApi:
        if market_type not in self.rest_types:
            return super().rest_api(market_type)
        return KrakenApi(self.rest_url or "https://api.kraken.com")

    def infer_info(self, market: Market) -> MarketInfo:
        return MarketInfo()  # a symbol does not say where its base ends
