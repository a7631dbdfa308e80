"""Bybit's REST API, version 5: one host for spot, linear and inverse markets, which answers the newest rows
of a range, newest first, tells errors in bodies of status 200, and counts the requests of an address.
"""

import json
import threading
from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar

import polars as pl

from lakehouse.model.market import MARKET_TYPES
from lakehouse.simulator import funding
from lakehouse.simulator.answering import REFUSALS, Refused, RestError
from lakehouse.simulator.clock import Clock
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.history import page
from lakehouse.simulator.keys import KlineFolder
from lakehouse.simulator.klines import MILLISECOND, printed
from lakehouse.simulator.markets import SimulatedMarket

ALLOWED, WINDOW_SECONDS = 600, 5.0
"""Requests of an address, whatever they ask, in any stretch of so many seconds."""
_ROOT = "/v5/market/"
_INTERVALS = {"1": 1, "60": 60, "D": 1440}
_MOST, _MOST_RATES, _DEFAULT = 1000, 200, 200
_PART = 3  # markets of an answer, so that a few make several; the real one has 500, or up to 1,000
_FIELDS = ("open_time", "open", "high", "low", "close", "volume", "quote_volume")
_TOO_FREQUENT = "403, access too frequent"


def _body(code: int, message: str, result: Any = None, time: int = 0) -> dict[str, Any]:
    return {
        "retCode": code,
        "retMsg": message,
        "result": {} if result is None else result,
        "retExtInfo": {},
        "time": time,
    }


def _said(code: int, message: str) -> bytes:
    return json.dumps(_body(code, message)).encode()


class Bybit:
    """Answers for the markets that trade now, of all types.

    Args:
        markets: What it lists.
        clock: Its clock.
        faults: What goes wrong.

    Attributes:
        busiest: The most requests that came within any stretch in which they are counted.
    """

    refusals: ClassVar[Mapping[str, Refused]] = MappingProxyType(
        {
            "rest_unavailable": Refused(503, b"<html>503 Service Temporarily Unavailable</html>"),
            "error_418": Refused(403, _TOO_FREQUENT.encode()),
            "error_403": Refused(403, b"<html>Request blocked.</html>"),
            "error_451": Refused(451, _said(10024, "Compliance rules triggered")),
            "error_429": Refused(
                200,
                _said(10006, "Too many visits!"),
                {"X-Bapi-Limit-Status": "0", "X-Bapi-Limit": "50", "X-Bapi-Limit-Reset-Timestamp": "1000"},
                REFUSALS,
            ),
            "rest_503": Refused(503, b"<html>503 Service Temporarily Unavailable</html>", {}, REFUSALS),
            "body_error": Refused(200, _said(10016, "Server error."), {}, REFUSALS),
        }
    )

    def __init__(self, markets: tuple[SimulatedMarket, ...], clock: Clock, faults: FaultPlan) -> None:
        self._markets, self._clock, self._faults = markets, clock, faults
        self._lock = threading.Lock()
        self._came: deque[float] = deque()
        self._pages: Counter[SimulatedMarket] = Counter()
        self.busiest = 0

    def owns(self, path: str) -> bool:
        """Whether a path is one of this API's."""
        return path.startswith("/v5/")

    def answer(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        ahead: timedelta = timedelta(0),
    ) -> tuple[Any, dict[str, str]]:
        """Body (to be written as JSON) and headers for a path.

        Args:
            path: Such as `/v5/market/kline`.
            query: The request's parameters.
            headers: The request's.
            ahead: How far its clock is ahead.

        Raises:
            RestError: Too much was asked, or there is no such path.
        """
        left = self._count()
        now = self._clock() + ahead
        at = int(now.timestamp() * 1000)
        limits = {
            "X-Bapi-Limit": str(ALLOWED),
            "X-Bapi-Limit-Status": str(left),
            "X-Bapi-Limit-Reset-Timestamp": str(at),
        }
        told = {
            "time": self._time,
            "instruments-info": self._listed,
            "kline": self._klines,
            "funding/history": self._rates,
        }.get(path.removeprefix(_ROOT))
        if told is None:
            raise RestError(404, b"404 page not found", {})
        try:
            return _body(0, "OK", told(path, query, now), at), limits
        except _Refusal as refusal:
            return _body(refusal.code, str(refusal), None, at), limits

    def _count(self) -> int:
        """Count a request; how many more there may be now.

        Raises:
            RestError: There were too many.
        """
        with self._lock:
            now, came = self._clock.waited, self._came
            while came and now - came[0] >= WINDOW_SECONDS:
                came.popleft()
            if len(came) >= ALLOWED:
                raise RestError(403, _TOO_FREQUENT.encode(), {})
            came.append(now)
            self.busiest = max(self.busiest, len(came))
            return ALLOWED - len(came)

    def _time(self, path: str, query: Mapping[str, str], now: datetime) -> Any:
        return {
            "timeSecond": str(int(now.timestamp())),
            "timeNano": str(int(now.timestamp() * 1000) * 10**6),
        }

    def _listed(self, path: str, query: Mapping[str, str], now: datetime) -> Any:
        category = self._category(query, None)
        known = [
            life
            for market in self._markets
            if market.market_type == category and self._is_known(market, now) and (life := market.life(now))
        ]
        begin = _number(query, "cursor") or 0
        part, rest = known[begin : begin + _PART], known[begin + _PART :]
        if category == "spot":  # has no parts
            part, rest = known, []
        return {
            "category": category,
            "list": [_entry(market, now) for market in part],
            "nextPageCursor": str(begin + _PART) if rest else "",
        }

    def _klines(self, path: str, query: Mapping[str, str], now: datetime) -> Any:
        market = self._market(query, now, "linear")
        interval = _INTERVALS.get(query.get("interval", ""))
        if interval is None:
            raise _Refusal(10001, "Invalid period!")
        limit = min(_number(query, "limit") or _DEFAULT, _MOST)
        at = int(now.timestamp() * 1000)
        start, end = _number(query, "start"), _number(query, "end")
        until = at if end is None else min(end, at)
        found = page(self._faults, path, market, interval, start, until, limit, True, now)
        if interval == 1:
            found = self._befallen(market, found)
        frame = printed(market, found, interval, MILLISECOND).select(_FIELDS).cast(pl.String)
        rows = [list(row) for row in frame.reverse().iter_rows()]
        return {"category": market.market_type, "symbol": market.symbol, "list": rows}

    def _befallen(self, market: SimulatedMarket, found: pl.DataFrame) -> pl.DataFrame:
        """A page of minutes, as faults of its edges leave it, and of what becomes of its market behind it."""
        if found.height < 2:
            return found
        first = datetime.fromtimestamp(found["minute"][0] * 60, UTC)
        key = KlineFolder(market, "monthly", "1m").file(f"{first:%Y-%m}").key
        if self._faults.hits("delisted_between_pages", key):
            self._faults.show("delisted_between_pages", key)
            with self._lock:
                self._pages[market] += 1
        if self._faults.hits("edge_repeated", key):
            self._faults.show("edge_repeated", key)
            return pl.concat([found[:1], found])
        if self._faults.first_requests("edge_omitted", key, REFUSALS):
            self._faults.show("edge_omitted", key)
            return found[1:]
        return found

    def _rates(self, path: str, query: Mapping[str, str], now: datetime) -> Any:
        market = self._market(query, now, None)
        start, end = _number(query, "startTime"), _number(query, "endTime")
        if start is not None and end is None:
            raise _Refusal(10001, "params error: endTime is required with startTime")
        limit = min(_number(query, "limit") or _MOST_RATES, _MOST_RATES)
        until = min(now, _instant(end)) if end is not None else now
        rates = funding.newest(market, _instant(start) if start else None, until, limit, self._faults)
        rows = [
            {
                "symbol": market.symbol,
                "fundingRate": rate.text,
                "fundingRateTimestamp": str(int(rate.due.timestamp()) * 1000),
            }
            for rate in rates
        ]
        return {"category": market.market_type, "list": rows}

    def _category(self, query: Mapping[str, str], default: str | None) -> str:
        category = query.get("category") or default
        if category not in MARKET_TYPES:
            raise _Refusal(10001, "params error: Category is invalid")
        return category

    def _market(self, query: Mapping[str, str], now: datetime, default: str | None) -> SimulatedMarket:
        category, symbol = self._category(query, default), query.get("symbol", "")
        for market in self._markets:
            if (market.market_type, market.symbol) == (category, symbol) and self._is_known(market, now):
                return market
        raise _Refusal(10001, "params error: Symbol Is Invalid")

    def _is_known(self, market: SimulatedMarket, now: datetime) -> bool:
        key = KlineFolder(market, "monthly", "1m").file(f"{market.listed:%Y-%m}").key
        forgotten = self._faults.hits("rest_forgotten", key)
        if forgotten:
            self._faults.show("rest_forgotten", key)
        return market.life(now) is not None and not forgotten and not self._pages[market]


class _Refusal(Exception):
    """An error in a body of status 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _entry(market: SimulatedMarket, now: datetime) -> dict[str, Any]:
    """One of instruments-info."""
    tick, lot = (
        f"{10**-decimals:.{decimals}f}" for decimals in (market.price_decimals, market.volume_decimals)
    )
    coins = {"symbol": market.symbol, "baseCoin": market.base, "quoteCoin": market.quote, "status": "Trading"}
    if market.market_type == "spot":
        lots = {"basePrecision": lot, "quotePrecision": "0.00000001"}
        return coins | {"marginTrading": "none", "lotSizeFilter": lots, "priceFilter": {"tickSize": tick}}
    is_delivered = "PERPETUAL" not in market.contract_type
    ends = int(market.delisted.timestamp()) * 1000 if market.delisted and is_delivered else 0
    kind = f"{market.market_type.capitalize()}{'Futures' if is_delivered else 'Perpetual'}"
    return coins | {
        "contractType": kind,
        "launchTime": str(int(market.listed.timestamp()) * 1000),
        "deliveryTime": str(ends),
        "deliveryFeeRate": "",
        "priceScale": str(market.price_decimals),
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
        "lotSizeFilter": {"maxOrderQty": "1000000", "minOrderQty": lot, "qtyStep": lot},
        "unifiedMarginTrade": True,
        "fundingInterval": 0 if is_delivered else funding.interval(market, now) * 60,
        "settleCoin": market.base if market.market_type == "inverse" else market.quote,
    }


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise _Refusal(10001, f"params error: {name} is invalid")
    return int(text)


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
