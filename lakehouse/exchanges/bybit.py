"""Bybit: spot, linear and inverse markets by the REST API of version 5, one host for all three.

It has no archive of candles: history comes by REST. Answers hold the newest rows of a range, newest first,
and errors are told in bodies of status 200. Candles have seven fields: no number of trades, nothing of
takers, and no time at which they end, so that none is known to be cut short.
"""

import contextlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.datasets.candle import PublishedCandle
from lakehouse.datasets.funding_rate import PublishedFundingRate
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
from lakehouse.model.table import UTC_TIME, Table
from lakehouse.model.terms import DELIVERY, PERPETUAL, Terms
from lakehouse.model.text import plain

REST_URL = "https://api.bybit.com"
_INTERVALS = {timedelta(minutes=1): "1", timedelta(hours=1): "60", timedelta(days=1): "D"}
_FIELDS = ("open_time", "open", "high", "low", "close", "volume", "turnover")
_MOST_CANDLES, _MOST_RATES = 1000, 200
_MICRO, _MILLI = timedelta(microseconds=1), timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_MILLISECONDS = range(10**12, 10**14)
# A third of what is allowed: no header tells what other programs of the address use, and who goes beyond it
# is banned.
_LIMIT = RateLimit("requests of an address", 200, 5.0)
_TOO_FREQUENT, _BANNED_SECONDS = "access too frequent", 600.0  # documented: wait ten minutes
_LONGEST_RESET = 60.0  # seconds: limits are of a second or a minute
_BANNED = (10009, 10018)  # the same in a body
_INVALID = 10001  # parameters, of which the symbol is one
_CONTRACTS: Mapping[str, str] = {"Perpetual": PERPETUAL, "Futures": DELIVERY}
_INVERSE = re.compile(r"(?P<base>.+)USD(?:(?P<quarter>[HMUZ])(?P<year>\d\d))?")
_LINEAR = re.compile(r"(?P<base>.+?)(?P<quote>USDT|-?PERP)?(?:-(?P<day>\d{1,2}[A-Z]{3}\d\d))?")
_QUARTERS = {"H": 3, "M": 6, "U": 9, "Z": 12}


class CandlePages(Pages):
    """Candles of one length.

    Args:
        step: The length.
    """

    final = pl.col("close_time") + _MICRO
    row_bytes = 80

    def __init__(self, step: timedelta) -> None:
        self.step: timedelta | None = step
        self.coarser = CandlePages(timedelta(days=1)) if step < timedelta(days=1) else None

    def rules(self, market_type: MarketType) -> PageRules:
        return PageRules(((_MOST_CANDLES, 1),), finds_next=False)

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        query: dict[str, str | int] = {"interval": _INTERVALS[self.slot], "limit": limit}
        return _call("kline", market, query, start=start, end=end)

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        rows = _rows(market, answer, "symbol")
        if any(not isinstance(row, list) or len(row) < len(_FIELDS) for row in rows):
            raise ValueError(f"a candle has less than {len(_FIELDS)} fields")
        numbers = [_numbers(row[1 : len(_FIELDS)]) for row in rows]
        raw = pl.DataFrame(
            [(_time(row[0]), *own) for row, own in zip(rows, numbers, strict=True)],
            dict.fromkeys(_FIELDS, pl.Float64) | {"open_time": UTC_TIME},
            orient="row",
        )
        is_usable, of_contracts = pl.col("open").is_not_null(), market.market_type == "inverse"
        # inverse: contracts of one USD, and what they are worth in base
        sizes = (
            {"contracts": "volume", "volume": "turnover"} if of_contracts else {"quote_volume": "turnover"}
        )
        told = raw.with_columns(
            close_time=pl.when(is_usable).then(pl.col("open_time") + self.slot - _MICRO),
            **{name: pl.col(field) for name, field in sizes.items()},
        ).drop("turnover")
        return PublishedCandle.with_unpublished(told)


class FundingPages(Pages):
    """Funding rates; they space themselves, and do not change."""

    def rules(self, market_type: MarketType) -> PageRules:
        return PageRules(((_MOST_RATES, 1),), finds_next=False)

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        return _call("funding_history", market, {"limit": limit}, startTime=start, endTime=end)

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        rows = _rows(market, answer)
        if odd := next((row for row in rows if row["symbol"] != market.symbol), None):
            raise ValueError(f"a funding rate of {odd['symbol']!r:.40}, asked for {market.symbol}")
        raw = pl.DataFrame(
            [(_time(row["fundingRateTimestamp"]), *_numbers([row["fundingRate"]])) for row in rows],
            {"published_time": UTC_TIME, "rate": pl.Float64},
            orient="row",
        )
        return PublishedFundingRate.with_unpublished(
            raw.with_columns(
                funding_time=(pl.col("published_time") + timedelta(seconds=30)).dt.truncate("1m"),
                published_time=pl.when(pl.col("rate").is_not_null()).then("published_time"),
            )
        )


def _call(
    endpoint: str, market: Market, query: Mapping[str, str | int], **bounds: datetime | None
) -> RestCall:
    """A request about a market; the second bound excludes its instant, which the API includes."""
    (first, start), (last, end) = bounds.items()
    named = {"category": market.market_type, "symbol": market.symbol, **query}
    named |= {first: -((_EPOCH - start) // _MILLI)} if start else {}  # rounded up
    named |= {last: -((_EPOCH - end) // _MILLI) - 1} if end else {}
    return RestCall(f"public_get_v5_market_{endpoint}", named)


def _rows(market: Market, answer: Any, *named: str) -> list[Any]:
    """The rows of an answer, which names the category of a market, and its symbol too where it is named.

    Raises:
        ValueError: It is of another market: some symbols are in two categories.
    """
    result = answer["result"] if answer else {"list": []}
    expected = {"category": market.market_type} | ({"symbol": market.symbol} if named else {})
    if answer and (found := {name: result[name] for name in expected}) != expected:
        raise ValueError(f"an answer about {found!r:.100}, asked for {market.key}")
    if not isinstance(result["list"], list):
        raise ValueError(f"no list of rows but {result['list']!r:.100}")
    return result["list"]


def _time(text: Any) -> datetime:
    if not re.fullmatch(r"\d{12,15}", str(text), re.ASCII) or int(text) not in _MILLISECONDS:
        raise ValueError(f"a row without a time in milliseconds: {text!r:.40}")
    return _EPOCH + int(text) * _MILLI


def _numbers(texts: list[Any]) -> list[float | None]:
    """The numbers of a row, all None where one of them is none."""
    found = [float(text) for text in map(str, texts) if _NUMBER.fullmatch(text)]
    return list(found) if len(found) == len(texts) and all(map(math.isfinite, found)) else [None] * len(texts)


class BybitApi(RestApi):
    """The API, as it answers about markets of one type.

    Args:
        market_type: Which one.
        url: Its base.
    """

    exchange = "bybit"
    setting = address_setting("bybit", "rest")
    moving_hint = "https://api.bytick.com answers as well, and some regions have a host of their own"
    code_name, why_name = "retCode", "retMsg"
    codes = {
        0: None,
        **dict.fromkeys((5004, 10000, 10016), "busy"),
        10006: "throttled",
        10029: "unknown_symbol",
    }  # type: ignore[assignment]
    budget = Budget(requests=_LIMIT)
    began = datetime(2018, 11, 1, tzinfo=UTC)

    def __init__(self, market_type: MarketType, url: str) -> None:
        self.market_type, self.url, self.ccxt_urls = market_type, url, {"public": url}

    def judge(self, reply: Reply) -> Verdict:
        """As others; throttles are told in ways of its own, and an unknown symbol is a parameter like any."""
        code, why = reply.code(self.code_name), reply.text(self.why_name)
        if (reply.status == 403 and _TOO_FREQUENT in reply.said.lower()) or code in _BANNED:
            return Verdict("banned", _BANNED_SECONDS)
        if code == _INVALID and "symbol" in why.lower():
            return Verdict("unknown_symbol", code=code, why=why)
        verdict = super().judge(reply)
        if verdict.meaning == "throttled" and (seconds := _until_reset(reply)) is not None:
            return Verdict("throttled", seconds)
        is_last = verdict.meaning == "answered" and reply.headers.get("x-bapi-limit-status") == "0"
        return Verdict("answered", _until_reset(reply) or 0.0) if is_last else verdict

    def time_call(self) -> RestCall:
        return RestCall("public_get_v5_market_time", {})

    def read_time(self, answer: Any) -> datetime:
        return _time(answer["time"])

    def info_call(self) -> InfoCall:
        return self._info_call({})

    def more_info(self, answer: Any) -> InfoCall | None:
        cursor = answer["result"].get("nextPageCursor")
        return self._info_call({"cursor": str(cursor)}) if cursor else None

    def _info_call(self, place: Mapping[str, str]) -> InfoCall:
        params = {"category": self.market_type, "limit": "1000", **place}
        return InfoCall(f"{self.url}/v5/market/instruments-info", params)

    def read_info(self, answer: Any) -> ExchangeInfo:
        found: dict[str, MarketInfo] = {}
        skipped: dict[str, str] = {}
        for entry in answer["result"]["list"]:
            symbol = entry.get("symbol") if isinstance(entry, dict) else None
            if why := symbol_fault(symbol):
                skipped[""] = f"an entry can be no market, because {why} ({symbol!a:.100})"
                continue
            try:
                found[str(symbol)] = _info(self.market_type, entry)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                skipped[str(symbol)] = plain(repr(error))
        return ExchangeInfo(found, skipped)


def _until_reset(reply: Reply) -> float | None:
    """Seconds until a limit begins anew, by the clock that the body shows; None where that is not told."""
    reset, now = reply.headers.get("x-bapi-limit-reset-timestamp", ""), reply.text("time")
    if not all(re.fullmatch(r"\d{1,15}", text, re.ASCII) for text in (reset, now)):
        return None
    return min(max(0.0, (int(reset) - int(now)) / 1000), _LONGEST_RESET)


def _info(market_type: MarketType, entry: Mapping[str, Any]) -> MarketInfo:
    """One market of a description.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: A fact is absent, or not what it
            should be.
    """
    base, quote, status = (_text(entry, name) for name in ("baseCoin", "quoteCoin", "status"))
    lot = "basePrecision" if market_type == "spot" else "qtyStep"
    tick, step = _step(entry["priceFilter"], "tickSize"), _step(entry["lotSizeFilter"], lot)
    if market_type == "spot":
        terms = Terms(status=status, tick_size=tick, step_size=step)
        return MarketInfo(base, quote, trades=status == "Trading", terms=terms)
    kind = _text(entry, "contractType").removeprefix(market_type.capitalize())
    contract, ends = _CONTRACTS.get(kind, kind.lower()), _instant(entry["deliveryTime"])
    hours = int(entry["fundingInterval"]) / 60 or None
    expires, began = ends if contract == DELIVERY else None, _instant(entry["launchTime"])
    terms = Terms(contract, status, expires, tick, step, hours, began)
    size = 1.0 if market_type == "inverse" else None
    return MarketInfo(base, quote, _text(entry, "settleCoin"), size, ends, status == "Trading", terms)


def _text(entry: Mapping[str, Any], name: str) -> str:
    if not isinstance(value := entry[name], str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{name} is {value!a:.40}, expected text")
    return value


def _step(rules: Mapping[str, Any], name: str) -> float | None:
    (step,) = _numbers([rules.get(name)]) if isinstance(rules.get(name), str) else (None,)
    return step if step and step > 0 else None


def _instant(text: Any) -> datetime | None:
    """An instant in milliseconds; None of zero, which stands for none."""
    return _time(text) if str(text) not in ("", "0") else None


class Bybit(Exchange):
    """Bybit's spot, linear (USDT and USDC) and inverse markets."""

    name = "bybit"
    pages = {
        "bronze/candle_api": CandlePages(timedelta(minutes=1)),
        "bronze/candle_witness": CandlePages(timedelta(hours=1)),
        "bronze/funding_rate_api": FundingPages(),
    }

    def has(self, table: type[Table], market: Market) -> bool:
        """As declared; a contract with a day of delivery pays no funding."""
        is_delivered = "/funding_" in table.name and self.infer_info(market).ends is not None
        return super().has(table, market) and not is_delivered

    def rest_api(self, market_type: MarketType) -> BybitApi:
        return BybitApi(market_type, self.rest_url or REST_URL)

    def infer_info(self, market: Market) -> MarketInfo:
        """What the documented shapes state: of inverse markets, `BTCUSD` and `BTCUSDZ24`, everything; of
        linear ones, `BTCUSDT` and `BTCUSDT-27DEC24`, too, and of `BTCPERP` and `BTC-27DEC24` when they end. A
        spot symbol does not say where its base ends.
        """
        if market.market_type == "inverse" and (found := _INVERSE.fullmatch(market.symbol)):
            ends = _last_friday(2000 + int(found["year"]), found["quarter"]) if found["quarter"] else None
            return _implied(ends, found["base"], "USD", found["base"], 1.0)
        if market.market_type == "linear" and (found := _LINEAR.fullmatch(market.symbol)):
            ends = _day(found["day"]) if found["day"] else None
            if found["quote"] == "USDT":
                return _implied(ends, found["base"], "USDT", "USDT", None)
            return _implied(ends, None, None, None, None) if ends or found["quote"] else MarketInfo()
        return MarketInfo()


def _implied(
    ends: datetime | None, base: str | None, quote: str | None, settle: str | None, size: float | None
) -> MarketInfo:
    """What a symbol states of a contract."""
    terms = Terms(DELIVERY if ends else PERPETUAL, expires=ends)
    return MarketInfo(base, quote, settle, size, ends, terms=terms)


def _day(text: str) -> datetime | None:
    """When a contract is delivered by the day in its symbol, `27DEC24`: at 08:00 UTC; None if that is no
    day.
    """
    with contextlib.suppress(ValueError):
        return datetime.strptime(f"{text}08+0000", "%d%b%y%H%z").astimezone(UTC)
    return None


def _last_friday(year: int, quarter: str) -> datetime:
    """When a contract of a quarter is delivered: on the last Friday of its last month, at 08:00 UTC."""
    month = _QUARTERS[quarter]
    last = datetime(year + month // 12, month % 12 + 1, 1, 8, tzinfo=UTC) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 4) % 7)
