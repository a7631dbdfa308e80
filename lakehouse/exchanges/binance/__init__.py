"""Binance: archive keys, CSV dialects, exchangeInfo and REST.

Belongs here: all that is Binance's alone. No other folder of readers knows `um`, `cm` or `kline`.
Does not: what two exchanges have in common: stated it is in `exchanges`, done in `sources`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lakehouse.exchanges.api import Budget, ExchangeInfo, InfoCall, MarketInfo, Refusal, RestApi, RestCall
from lakehouse.exchanges.binance.funding import FundingFiles, FundingPages
from lakehouse.exchanges.binance.klines import KlineFiles, KlinePages
from lakehouse.exchanges.binance.markets import (
    RENAMED,
    info_of_symbol,
    read_exchange_info,
    read_funding_info,
)
from lakehouse.exchanges.binance.words import CCXT_URLS, is_whole, rest_call
from lakehouse.exchanges.exchange import Exchange
from lakehouse.exchanges.reply import Reply, Verdict
from lakehouse.model.addresses import address_setting
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.market import Market, MarketType
from lakehouse.model.table import Table

ARCHIVE_URL = "https://s3-ap-northeast-1.amazonaws.com"
REST_URLS: dict[MarketType, str] = {
    "spot": "https://api.binance.com",
    "linear": "https://fapi.binance.com",
    "inverse": "https://dapi.binance.com",
}

_REST_PATHS: dict[MarketType, str] = {"spot": "/api/v3", "linear": "/fapi/v1", "inverse": "/dapi/v1"}
_WEIGHTS: dict[MarketType, int] = {"spot": 6000, "linear": 2400, "inverse": 2400}
"""Weight per minute by the documentation."""
_THROTTLED, _BUSY = (-1003,), (-1001, -1006, -1007, -1008, -1016)
_UNKNOWN = (-1121, -1122)
"""Invalid symbol, and invalid symbol status: a contract that was settled, which exchangeInfo may still
name.
"""
_REFUSALS: dict[int, Refusal] = {
    **dict.fromkeys(_THROTTLED, "throttled"),
    **dict.fromkeys(_BUSY, "busy"),
    **dict.fromkeys(_UNKNOWN, "unknown_symbol"),
}
_BANNED_SECONDS = 120.0  # where no Retry-After says it: the shortest that is documented
_FUNDING = "/funding_"  # of every zone
_HOUR = Interval.parse("1h")  # of the witness


class Binance(Exchange):
    """Binance spot, USD-M (linear) and COIN-M (inverse)."""

    name = "binance"
    archive_home = ARCHIVE_URL
    bucket = "data.binance.vision"
    renamed = RENAMED
    files = {
        "bronze/candle_archive": KlineFiles(MINUTE),
        "bronze/funding_rate_archive": FundingFiles(),
    }
    pages = {
        "bronze/candle_api": KlinePages(MINUTE),
        "bronze/candle_witness": KlinePages(_HOUR),
        "bronze/funding_rate_api": FundingPages(),
    }

    def has(self, table: type[Table], market: Market) -> bool:
        """As declared; a contract with a day of delivery pays no funding."""
        is_delivered = _FUNDING in table.name and self.infer_info(market).ends is not None
        return super().has(table, market) and not is_delivered

    def rest_api(self, market_type: MarketType) -> "BinanceRest":
        return BinanceRest(market_type, self._rest_base(market_type))

    def _rest_base(self, market_type: MarketType) -> str:
        return (self.rest_url or REST_URLS[market_type]) + _REST_PATHS[market_type]

    def infer_info(self, market: Market) -> MarketInfo:
        return info_of_symbol(market)


class BinanceRest(RestApi):
    """One of Binance's three REST APIs.

    Args:
        market_type: Which one.
        url: Its base.
    """

    exchange = Binance.name
    setting = address_setting(Binance.name, "rest")
    moving_hint = "for spot, https://data-api.binance.vision has market data for every region"
    began = datetime(2017, 7, 1, tzinfo=UTC)

    def __init__(self, market_type: MarketType, url: str) -> None:
        self.market_type = market_type
        self.url = url
        self.ccxt_urls = {CCXT_URLS[market_type]: url}
        self.budget = Budget(_WEIGHTS[market_type], "X-MBX-USED-WEIGHT-1M")

    def time_call(self) -> RestCall:
        return rest_call(self.market_type, "time", 1)

    def read_time(self, answer: Any) -> datetime:
        return datetime.fromtimestamp(int(answer["serverTime"]) / 1000, UTC)

    def budget_call(self) -> RestCall:
        if self.market_type == "spot":
            return rest_call(
                self.market_type, "exchangeinfo", 20, showPermissionSets="false"
            )  # they are most of the body
        return rest_call(self.market_type, "exchangeinfo", 1)

    def read_budget(self, answer: Any) -> int | None:
        limits = answer.get("rateLimits") if isinstance(answer, dict) else None
        for limit in limits if isinstance(limits, list) else ():
            if isinstance(limit, dict) and [
                str(limit.get(name)) for name in ("rateLimitType", "interval", "intervalNum")
            ] == ["REQUEST_WEIGHT", "MINUTE", "1"]:
                most = limit.get("limit", "")  # ccxt makes numbers text
                return int(most) if is_whole(most) and int(most) > 0 else None
        return None

    def info_call(self) -> InfoCall:
        # the permission sets are most of the body
        params = {"showPermissionSets": "false"} if self.market_type == "spot" else {}
        return InfoCall(f"{self.url}/exchangeInfo", params)

    def read_info(self, answer: Any) -> ExchangeInfo:
        return read_exchange_info(self.market_type, answer["symbols"])

    def interval_call(self) -> InfoCall | None:
        return None if self.market_type == "spot" else InfoCall(f"{self.url}/fundingInfo", {})

    def read_intervals(self, answer: Any) -> Mapping[str, float]:
        return read_funding_info(answer)

    def refusal(self, code: int) -> Refusal:
        return _REFUSALS.get(code, "refused" if code < 0 else "foreign")

    def judge(self, reply: Reply) -> Verdict:
        """As others, and status 418: this address is banned for having gone on after 429."""
        if reply.status == 418:
            return Verdict("banned", reply.retry_after(_BANNED_SECONDS))
        return super().judge(reply)
