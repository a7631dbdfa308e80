"""Binance's REST endpoints: exchangeInfo, time and klines of spot, linear and inverse markets."""

import math
import threading
from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar

from lakehouse.model.errors import UnknownIntervalError
from lakehouse.model.interval import Interval
from lakehouse.model.market import MarketType
from lakehouse.simulator import funding
from lakehouse.simulator.answering import REFUSALS, Refused, RestError
from lakehouse.simulator.clock import Clock
from lakehouse.simulator.exchange_info import exchange_info
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.files import RealFiles
from lakehouse.simulator.history import page
from lakehouse.simulator.keys import KlineFolder
from lakehouse.simulator.klines import MICROSECOND, MILLISECOND, to_rest
from lakehouse.simulator.markets import SimulatedMarket, minute_of

API_PATHS: Mapping[str, MarketType] = MappingProxyType(
    {"/api/v3/": "spot", "/fapi/v1/": "linear", "/dapi/v1/": "inverse"}
)
_DEFAULT_LIMIT = 500
_LIMITS: Mapping[MarketType, int] = MappingProxyType({"spot": 1000, "linear": 1500, "inverse": 1500})
_SMALLEST_MICROSECONDS = 10**14
_REACH = 200 * 86_400_000
_FUNDING_REQUESTS, _FUNDING_SECONDS = 500, 300.0  # of fundingRate and fundingInfo of linear markets together


_BUSY = b'{"code":-1001,"msg":"Internal error; unable to process your request. Please try again."}'
_TOO_MANY = b'{"code":-1003,"msg":"Too many requests."}'
_BANNED = b'{"code":-1003,"msg":"Way too many requests; IP banned."}'
_BLOCKED = b'{"code":0,"msg":"Service unavailable from a restricted location."}'


class Rest:
    """Answers for the markets that trade now."""

    refusals: ClassVar[Mapping[str, Refused]] = MappingProxyType(
        {
            "rest_unavailable": Refused(503, _BUSY),
            "error_418": Refused(418, _BANNED, {"Retry-After": "180"}),
            "error_403": Refused(403, b"<html>Request blocked.</html>"),
            "error_451": Refused(451, _BLOCKED),
            "error_429": Refused(429, _TOO_MANY, {"Retry-After": "1"}, REFUSALS),
            "rest_503": Refused(503, _BUSY, {}, REFUSALS),
            "body_error": Refused(200, _TOO_MANY, {}, REFUSALS),
        }
    )

    def __init__(
        self,
        markets: tuple[SimulatedMarket, ...],
        clock: Clock,
        real: RealFiles,
        faults: FaultPlan,
    ) -> None:
        self._unknown = tuple(real.unknown_markets(markets))
        self._markets = markets + self._unknown
        self._clock = clock
        self._real = real
        self._faults = faults
        self._lock = threading.Lock()
        self._weights: Counter[tuple[str, int]] = Counter()
        self._of_funding: deque[float] = deque()  # when the newest requests of linear funding came

    def owns(self, path: str) -> bool:
        """Whether a path is one of this API's."""
        return path.startswith(tuple(API_PATHS))

    def answer(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        ahead: timedelta = timedelta(0),
    ) -> tuple[Any, dict[str, str]]:
        """Body (to be written as JSON) and headers for a path.

        Args:
            path: Such as `/api/v3/klines`.
            query: The request's parameters.
            headers: The request's; one asks for timestamps in microseconds, which only spot knows.
            ahead: How far this API's clock is ahead of the archive's.

        Raises:
            RestError: The exchange refuses the request.
        """
        api = next((api for api in API_PATHS if path.startswith(api)), None)
        if api is None:
            raise refusal(-1000, "No such endpoint.", 404)
        market_type, endpoint = API_PATHS[api], path.removeprefix(api)
        is_fine = headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND" and market_type == "spot"
        unit = MICROSECOND if is_fine else MILLISECOND
        now = self._clock() + ahead
        if endpoint == "time":
            return {"serverTime": int(now.timestamp() * unit)}, self._charge(api, now, 1)
        if endpoint == "exchangeInfo":
            asked = (
                [self._market(market_type, query["symbol"], now)]
                if "symbol" in query
                else [m for m in self._markets if m.market_type == market_type and self._is_known(m, now)]
            )
            lives = [life for market in asked if (life := market.life(now))]
            return exchange_info(market_type, lives, int(now.timestamp() * unit)), self._charge(
                api, now, 20 if market_type == "spot" else 1
            )
        if endpoint == "klines":
            limit = min(_number(query, "limit") or _DEFAULT_LIMIT, _LIMITS[market_type])
            return self._klines(path, market_type, query, limit, unit, now), self._charge(
                api, now, _klines_weight(market_type, limit)
            )
        if endpoint.startswith("funding") and market_type == "linear":
            self._count_funding()
        if endpoint == "fundingRate" and market_type != "spot":
            return self._funding(market_type, query, now), self._charge(api, now, 1)
        if endpoint == "fundingInfo" and market_type != "spot":
            traded = [m for m in self._markets if m.market_type == market_type and self._is_known(m, now)]
            return funding.info(traded, now), self._charge(api, now, 0)
        raise refusal(-1000, "No such endpoint.", 404)

    def _count_funding(self) -> None:
        """Count a request to what fundingRate and fundingInfo may be asked in any five minutes.

        Raises:
            RestError: That is used up.
        """
        with self._lock:
            now, counted = self._clock.waited, self._of_funding
            while counted and now - counted[0] >= _FUNDING_SECONDS:
                counted.popleft()
            if len(counted) >= _FUNDING_REQUESTS:
                wait = math.ceil(counted[0] + _FUNDING_SECONDS - now)
                raise refusal(-1003, "Too many requests.", 429, {"Retry-After": str(max(1, wait))})
            counted.append(now)

    def _funding(self, market_type: MarketType, query: Mapping[str, str], now: datetime) -> list[Any]:
        if not query.get("symbol"):
            raise refusal(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        market = self._market(market_type, query["symbol"], now)
        is_real = market in self._unknown or self._real.covers_funding(market_type, market.symbol)
        if is_real or not funding.pays_funding(market):
            return []
        bounds = _milliseconds(query, "startTime"), _milliseconds(query, "endTime")
        return funding.to_rest(market, *bounds, _number(query, "limit"), now, self._faults)

    def _market(self, market_type: MarketType, symbol: str, now: datetime) -> SimulatedMarket:
        for market in self._markets:
            if (market.market_type, market.symbol) == (market_type, symbol) and self._is_known(market, now):
                return market
        raise refusal(-1121, "Invalid symbol.")

    def _is_known(self, market: SimulatedMarket, now: datetime) -> bool:
        key = KlineFolder(market, "monthly", "1m").file(f"{market.listed:%Y-%m}").key
        forgotten = self._faults.hits("rest_forgotten", key)
        if forgotten:
            self._faults.show("rest_forgotten", key)
        return market.life(now) is not None and not forgotten

    def _klines(
        self,
        path: str,
        market_type: MarketType,
        query: Mapping[str, str],
        limit: int,
        unit: int,
        now: datetime,
    ) -> list[list[int | str]]:
        for name in ("symbol", "interval"):
            if not query.get(name):
                raise refusal(
                    -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
                )
        market = self._market(market_type, query["symbol"], now)
        try:
            interval = Interval.parse(query["interval"]).minutes
        except UnknownIntervalError:
            raise refusal(-1120, "Invalid interval.") from None
        # Generated candles would contradict the real files that the archive has of this market.
        if market in self._unknown or self._real.covers_klines(market_type, market.symbol):
            return []
        start, end = _milliseconds(query, "startTime"), _milliseconds(query, "endTime")
        newest_first, latest = start is None, int(now.timestamp()) * 1000
        # documented: the newest rows of at most 200 days, whichever end is given
        if market_type == "inverse":
            newest_first, start, end = True, *_within_reach(start, end, latest)
        until = int(now.timestamp() * 1000) if end is None else min(int(now.timestamp() * 1000), end)
        found = page(self._faults, path, market, interval, start, until, limit, newest_first, now)
        return to_rest(market, found, interval, unit)

    def _charge(self, api: str, now: datetime, weight: int) -> dict[str, str]:
        with self._lock:
            minute = api, minute_of(now)
            self._weights[minute] += weight
            return {"X-MBX-USED-WEIGHT-1M": str(self._weights[minute])}


def refusal(
    code: int, message: str, status: int = 400, headers: Mapping[str, str] = MappingProxyType({})
) -> RestError:
    """An error in Binance's dialect."""
    return RestError(status, {"code": code, "msg": message}, headers)


def _klines_weight(market_type: MarketType, limit: int) -> int:
    if market_type == "spot":
        return 2
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def _within_reach(start: int | None, end: int | None, now: int) -> tuple[int, int]:
    """Both ends of what an inverse API looks at, in milliseconds."""
    if start is not None and end is not None and end - start > _REACH:
        raise refusal(
            -1127, "Lookup interval is too big. More than 4800 hours between startTime and endTime."
        )
    if end is None:
        end = now if start is None else min(start + _REACH, now)
    return (end - _REACH if start is None else start), end


def _milliseconds(query: Mapping[str, str], name: str) -> int | None:
    """An instant given in milliseconds or microseconds: which one shows in its size."""
    value = _number(query, name)
    if value is None or value < _SMALLEST_MICROSECONDS:
        return value
    return -(-value // 1000) if name == "startTime" else value // 1000


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise refusal(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
        )
    return int(text)
