"""Binance: archive keys, CSV dialects, exchangeInfo and REST. The only module that knows `um`, `cm` and
`kline`.
"""

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import polars.selectors as cs

from lakehouse.exchanges.api import ExchangeInfo, InfoCall, MarketInfo, PageRules, Refusal, RestApi, RestCall
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import (
    ArchiveFileError,
    CsvEmptyError,
    CsvEncodingError,
    CsvHeaderError,
    CsvParseError,
    CsvTooLongError,
)
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.market import Market, MarketType, symbol_fault
from lakehouse.model.table import UTC_TIME
from lakehouse.model.text import plain
from lakehouse.model.words import count_of

ARCHIVE_URL = "https://s3-ap-northeast-1.amazonaws.com"
REST_URLS: dict[MarketType, str] = {
    "spot": "https://api.binance.com",
    "linear": "https://fapi.binance.com",
    "inverse": "https://dapi.binance.com",
}

_FOLDERS: dict[MarketType, str] = {"spot": "spot", "linear": "futures/um", "inverse": "futures/cm"}
_REST_PATHS: dict[MarketType, str] = {"spot": "/api/v3", "linear": "/fapi/v1", "inverse": "/dapi/v1"}
_CCXT_URLS: dict[MarketType, str] = {"spot": "public", "linear": "fapiPublic", "inverse": "dapiPublic"}
_FUTURES_SIZES = ((99, 1), (499, 2), (1000, 5), (1500, 10))
# The inverse API documents that it answers with the newest rows of a range, and that a start alone stands for
# the 200 days from it.
_PAGE_RULES: dict[MarketType, PageRules] = {
    "spot": PageRules(((1000, 2),)),
    "linear": PageRules(_FUTURES_SIZES),
    "inverse": PageRules(_FUTURES_SIZES, timedelta(days=200), finds_next=False),
}
_BUDGETS: dict[MarketType, int] = {"spot": 6000, "linear": 2400, "inverse": 2400}
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
_TYPES = {"bronze/candle_archive": ("klines", MINUTE.name)}
_PERIOD = re.compile(r".*-([0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)\.zip")
_INVERSE = re.compile(r"(?P<base>.+)USD_(?:PERP|\d{6})")
_DELIVERY = re.compile(r".+_(\d{6})")
_FIRST_CONTRACT = datetime(2019, 9, 1, tzinfo=UTC)  # Binance had no futures before
_LAST_DELIVERY = datetime(2200, 1, 1, tzinfo=UTC)  # perpetuals are delivered in 2100
_NUMBER, _WHOLE = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII), re.compile(r"\d{1,18}", re.ASCII)

KLINE_COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
_KLINE_TYPES = {
    name: pl.Int64 if name in ("open_time", "close_time", "count") else pl.Float64 for name in KLINE_COLUMNS
}
_KLINE_NAMES: dict[str, str] = {"count": "trade_count"}
_LATEST = 10**17  # microseconds; far more is nanoseconds, or no time at all
# what any column of a month sums to is far less; more is no number, or more than exact sums hold
_LARGEST = 1e24
MOST_LINES = 200_000
"""Lines of a kline file: a month of minutes has 44,640, each perhaps twice. As rows they are larger than as
text, so more are not even parsed.
"""
_BLANK_LINES = re.compile(rb"(?m)^[ \t\r]*(?:\n|\Z)")
# What the derivative margined in the base currency publishes under the same header (see `data_formats`:
# contracts, then base volume).
_INVERSE_NAMES = {
    "volume": "contracts",
    "quote_volume": "volume",
    "taker_buy_volume": "taker_buy_contracts",
    "taker_buy_quote_volume": "taker_buy_volume",
}


class Binance(Exchange):
    """Binance spot, USD-M (linear) and COIN-M (inverse)."""

    name = "binance"
    archive_home = ARCHIVE_URL
    bucket = "data.binance.vision"
    has_rest = True

    def archive_prefix(self, table: str, market: Market, frequency: str) -> str:
        kind, interval = _TYPES[table]
        return f"data/{_FOLDERS[market.market_type]}/{frequency}/{kind}/{market.symbol}/{interval}/"

    def archive_key(self, table: str, market: Market, period: str) -> str:
        frequency = "monthly" if len(period) == 7 else "daily"
        return (
            f"{self.archive_prefix(table, market, frequency)}{market.symbol}-{_TYPES[table][1]}-{period}.zip"
        )

    def archive_period(self, key: str) -> str | None:
        found = _PERIOD.fullmatch(key)
        return found[1] if found else None

    def parse(self, table: str, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        return parse_klines(key, csv, market.market_type)

    def rest_api(self, market_type: MarketType) -> "BinanceRest":
        return BinanceRest(market_type, self._rest_base(market_type))

    def _rest_base(self, market_type: MarketType) -> str:
        return (self.rest_url or REST_URLS[market_type]) + _REST_PATHS[market_type]

    def infer_info(self, market: Market) -> MarketInfo:
        """What the documented shape of a symbol states, and nothing that is merely likely.

        The symbols of inverse markets are `<base>USD_<suffix>`, and their contracts 100 USD for BTC and 10
        for all others. Where base and quote part in any other symbol nobody can tell (BTCUSDP is BTC in
        USDP), so both stay unknown. A contract with a date in its symbol is delivered on that day.
        """
        ends = _delivered(market.symbol) if market.market_type != "spot" else None
        found = _INVERSE.fullmatch(market.symbol) if market.market_type == "inverse" else None
        if found is None:
            return MarketInfo(None, None, None, None, ends)
        return MarketInfo(
            found["base"], "USD", found["base"], 100.0 if found["base"] == "BTC" else 10.0, ends
        )


class BinanceRest(RestApi):
    """One of Binance's three REST APIs.

    Args:
        market_type: Which one.
        url: Its base.
    """

    exchange = Binance.name
    setting = "LAKEHOUSE_BINANCE_REST_URL"
    moving_hint = "for spot, https://data-api.binance.vision has market data for every region"
    weight_header = "X-MBX-USED-WEIGHT-1M"
    began = datetime(2017, 7, 1, tzinfo=UTC)

    def __init__(self, market_type: MarketType, url: str) -> None:
        self.market_type = market_type
        self.url = url
        self.ccxt_urls = {_CCXT_URLS[market_type]: url}
        self.rules = _PAGE_RULES[market_type]
        self.default_budget = _BUDGETS[market_type]

    def time_call(self) -> RestCall:
        return self._call("time", 1)

    def read_time(self, answer: Any) -> datetime:
        return datetime.fromtimestamp(int(answer["serverTime"]) / 1000, UTC)

    def budget_call(self) -> RestCall:
        if self.market_type == "spot":
            return self._call("exchangeinfo", 20, showPermissionSets="false")  # they are most of the body
        return self._call("exchangeinfo", 1)

    def read_budget(self, answer: Any) -> int | None:
        limits = answer.get("rateLimits") if isinstance(answer, dict) else None
        for limit in limits if isinstance(limits, list) else ():
            if isinstance(limit, dict) and [
                str(limit.get(name)) for name in ("rateLimitType", "interval", "intervalNum")
            ] == ["REQUEST_WEIGHT", "MINUTE", "1"]:
                most = limit.get("limit", "")  # ccxt makes numbers text
                return int(most) if _is_whole(most) and int(most) > 0 else None
        return None

    def info_call(self) -> InfoCall:
        # the permission sets are most of the body
        params = {"showPermissionSets": "false"} if self.market_type == "spot" else {}
        return InfoCall(f"{self.url}/exchangeInfo", params)

    def read_info(self, answer: Any) -> ExchangeInfo:
        return read_exchange_info(self.market_type, answer["symbols"])

    def candles_call(
        self, symbol: str, interval: Interval, start: datetime | None, end: datetime | None, limit: int
    ) -> RestCall:
        bounds = {"startTime": _milliseconds(start)} if start else {}
        if end:
            bounds["endTime"] = _milliseconds(end) - 1  # inclusive
        return self._call(
            "klines", self.rules.weight(limit), symbol=symbol, interval=interval.name, limit=limit, **bounds
        )

    def read_candles(self, market: Market, answer: Any) -> pl.DataFrame:
        if not isinstance(answer, list):
            raise ValueError(f"no list of candles but {answer!r:.100}")
        if not answer:
            return _EMPTY
        url = f"{self.url}/klines?symbol={market.symbol}"
        lines = _lines(answer)
        # else values shift
        if (
            lines.count(",") == (len(KLINE_COLUMNS) - 1) * len(answer)
            and lines.count("\n") == len(answer) - 1
        ):
            with contextlib.suppress(ArchiveFileError):
                rows = parse_klines(url, lines.encode(), self.market_type)
                if rows.select(pl.all_horizontal(cs.float().is_finite().all())).item():
                    return rows
        return _usable_rows(url, answer, self.market_type)

    def refusal(self, code: int) -> Refusal:
        return _REFUSALS.get(code, "refused" if code < 0 else "foreign")

    def _call(self, endpoint: str, weight: int, **params: str | int) -> RestCall:
        return RestCall(f"{_CCXT_URLS[self.market_type].lower()}_get_{endpoint}", params, weight)


def _milliseconds(instant: datetime) -> int:
    """Milliseconds since 1970, rounded up."""
    return -((datetime(1970, 1, 1, tzinfo=UTC) - instant) // timedelta(milliseconds=1))


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as REST gives them, as a CSV."""
    return "\n".join(",".join(map(str, row)) for row in rows)


def _usable_rows(url: str, answer: list[Any], market_type: MarketType) -> pl.DataFrame:
    """Candles of an answer in which some row cannot be used: of these the time alone.

    Raises:
        ArchiveFileError, ValueError: Not one row has the fields of a candle, or the time of one cannot be
            read.
    """
    if not any(isinstance(row, list) and len(row) == len(KLINE_COLUMNS) for row in answer):
        raise ValueError(f"no rows of {len(KLINE_COLUMNS)} values but {answer[0]!r:.100}")
    if timeless := [row for row in answer if not (isinstance(row, list) and row and _is_whole(row[0]))]:
        raise ValueError(f"a candle without a time: {timeless[0]!r:.100}")
    good = [[*row[:-1], 0] for row in answer if _is_usable(row)]  # the last column may hold anything
    rows = parse_klines(url, _lines(good).encode(), market_type) if good else _EMPTY
    times = pl.Series("open_time", [int(row[0]) for row in answer if not _is_usable(row)], pl.Int64)
    return pl.concat([rows, _instant(times, False).to_frame()], how="diagonal").sort(
        "open_time", maintain_order=True
    )


def _is_usable(row: list[Any]) -> bool:
    """Whether every value of a candle is a finite number, and those that count are whole."""
    if len(row) != len(KLINE_COLUMNS):
        return False
    return all(
        _is_whole(value) if _KLINE_TYPES[name] == pl.Int64 else _is_number(value)
        for name, value in zip(KLINE_COLUMNS[:-1], row, strict=False)
    )


def _is_number(value: Any) -> bool:
    return (
        type(value) in (int, float, str)
        and _NUMBER.fullmatch(str(value)) is not None
        and math.isfinite(float(str(value)))
    )


def _is_whole(value: Any) -> bool:
    return type(value) in (int, str) and _WHOLE.fullmatch(str(value)) is not None and int(value) < _LATEST


def read_exchange_info(market_type: MarketType, entries: Any) -> ExchangeInfo:
    """An exchangeInfo, entry by entry: an odd one costs nobody else his facts.

    Args:
        market_type: Of which API.
        entries: Its `symbols`.

    Raises:
        TypeError: It is no list.
    """
    if not isinstance(entries, list):
        raise TypeError(f"its symbols are no list but {entries!r:.100}")
    said: dict[str, list[MarketInfo]] = {}
    skipped: dict[str, str] = {}
    nameless: list[str] = []
    for entry in entries:
        symbol = entry.get("symbol") if isinstance(entry, dict) else None
        if (why := symbol_fault(symbol)) or not isinstance(symbol, str):
            nameless.append(f"{why} ({entry if symbol is None else symbol!a:.100})")
            continue
        try:
            info = _info(market_type, entry)
        except ValueError as error:
            skipped[symbol] = plain(error)
        else:
            said.setdefault(symbol, []).append(info)
    agreed = {symbol: infos[0] for symbol, infos in said.items() if all(info == infos[0] for info in infos)}
    skipped |= {
        symbol: f"{len(infos)} entries that contradict each other"
        for symbol, infos in said.items()
        if symbol not in agreed
    }
    if nameless:
        skipped[""] = (
            f"{count_of(len(nameless), 'other')} of it can be no market, the first because {nameless[0]}"
        )
    return ExchangeInfo(agreed, skipped)


def _info(market_type: MarketType, entry: Mapping[str, Any]) -> MarketInfo:
    """One entry of an exchangeInfo.

    No status names an instant: BREAK, CLOSE, SETTLING, DELIVERING and PENDING_TRADING alike say no more than
    that the market does not trade now.

    Raises:
        ValueError: A fact is absent, or not what it should be.
    """

    def text(name: str) -> str:
        if not isinstance(value := entry.get(name), str) or not value.strip() or not value.isprintable():
            raise ValueError(f"{name} is {value!a}, expected text")
        return value

    trades = (
        text("contractStatus" if market_type == "inverse" and "contractStatus" in entry else "status")
        == "TRADING"
    )
    if market_type == "spot":
        return MarketInfo(text("baseAsset"), text("quoteAsset"), None, None, None, trades)
    return MarketInfo(
        text("baseAsset"),
        text("quoteAsset"),
        text("marginAsset"),
        _contract_size(market_type, entry),
        _delivery_date(entry),
        trades,
    )


def _contract_size(market_type: MarketType, entry: Mapping[str, Any]) -> float | None:
    if market_type != "inverse":
        return None
    if not _is_number(size := entry.get("contractSize", "")) or float(size) <= 0:
        raise ValueError(f"contractSize is {size!r}, expected a number above 0")
    return float(size)


def _delivery_date(entry: Mapping[str, Any]) -> datetime:
    """When a contract is delivered; that of a perpetual is far ahead."""
    if type(value := entry.get("deliveryDate")) is int:
        with contextlib.suppress(OverflowError):
            ends = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
            if _FIRST_CONTRACT <= ends < _LAST_DELIVERY:
                return ends
    raise ValueError(
        f"deliveryDate is {value!r}, expected milliseconds of a day from {_FIRST_CONTRACT:%Y-%m-%d} on"
    )


def _delivered(symbol: str) -> datetime | None:
    """When a contract is delivered by its own symbol, such as BTCUSD_200925: at 08:00 UTC; None if that names
    no day.
    """
    if found := _DELIVERY.fullmatch(symbol):
        with contextlib.suppress(ValueError):
            ends = datetime.strptime(f"20{found[1]}08+0000", "%Y%m%d%H%z").astimezone(UTC)
            return ends if ends >= _FIRST_CONTRACT else None
    return None


def parse_klines(key: str, csv: bytes, market_type: MarketType) -> pl.DataFrame:
    """Parse a kline CSV by position, whatever its header and time unit.

    Args:
        key: The file's key, for messages.
        csv: The file.
        market_type: Decides what the columns mean: for inverse markets the sixth is contracts and the eighth
            base volume.

    Returns:
        The value columns of `bronze/candle_archive`, in file order; blank lines are no rows, and a header
        alone makes no row. `close_time` is the last microsecond the candle covers: a file in milliseconds
        says `…999`, which stands for `…999999`.

    Raises:
        ArchiveFileError: The content cannot be trusted; the class says why.
    """
    if not csv or csv[:1].isspace():
        csv = _without_blank_lines(key, csv)
    if not csv:
        raise CsvEmptyError(key)
    first_line = csv[: csv.find(b"\n") if b"\n" in csv else len(csv)].decode(errors="replace").strip()
    has_header = not (first_line[:1].isdigit() or first_line[:1] == "-")
    if has_header and tuple(first_line.split(",")) != KLINE_COLUMNS:
        raise _encoding(key, csv) or CsvHeaderError(key, KLINE_COLUMNS, first_line)
    raw = _read_klines(key, csv, has_header)
    if not raw.height:
        return _EMPTY
    are_times, *sums = raw.select(_ARE_TIMES, pl.col(pl.Float64).sum()).row(0)
    if not are_times:
        raise CsvParseError(
            key, f"{_first_odd(raw, ~_IS_TIME)}, neither seconds, milliseconds nor microseconds since 1970"
        )
    # neither is NaN less than anything; to look at every value takes four times as long
    if not all(abs(total) < _LARGEST for total in sums):
        raise CsvParseError(
            key,
            f"{_first_odd(raw, ~(pl.col(pl.Float64).abs() < _LARGEST / raw.height))}, which no market has",
        )
    names = _KLINE_NAMES | (_INVERSE_NAMES if market_type == "inverse" else {})
    frame = (
        raw.drop("ignore")
        .rename(names)
        .with_columns(_instant(raw["open_time"], False), _instant(raw["close_time"], True))
    )
    return frame.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in _VALUES if name not in frame.columns
    ).select(_VALUES)


_IS_TIME = pl.col("open_time", "close_time").is_between(0, _LATEST)
_ARE_TIMES = pl.all_horizontal(_IS_TIME).all().alias("are_times")


def _read_klines(key: str, csv: bytes, has_header: bool) -> pl.DataFrame:
    """The twelve values of every line. A blank line reads as one without values, or as no line at all: where
    there is one, all is read again without.
    """
    try:
        raw = pl.read_csv(
            csv,
            has_header=False,
            skip_rows=int(has_header),
            schema=_KLINE_TYPES,
            quote_char=None,
            n_rows=MOST_LINES + 1,
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=_KLINE_TYPES)
    except pl.exceptions.PolarsError as error:
        why = str(error).strip().split("\n", 1)[0]
    else:
        if raw.height > MOST_LINES:
            raise CsvTooLongError(key, MOST_LINES)
        # the last one too: a line cut within its eleventh value has none
        if not any(raw[name].null_count() for name in KLINE_COLUMNS):
            return raw
        why = _first_odd(raw, pl.all().is_null())
    solid = _without_blank_lines(key, csv)
    if len(solid) < len(csv):
        return _read_klines(key, solid, has_header)
    raise _encoding(key, csv) or CsvParseError(key, why)


def _without_blank_lines(key: str, csv: bytes) -> bytes:
    if csv.count(b"\n") > 2 * MOST_LINES:
        raise CsvTooLongError(key, MOST_LINES)
    return _BLANK_LINES.sub(b"", csv)


def _first_odd(raw: pl.DataFrame, is_odd: pl.Expr) -> str:
    """The first value that is odd, with its column and row, in words."""
    odd = raw.select(is_odd)
    row, name = min((odd[name].arg_true()[0], name) for name in odd.columns if odd[name].any())
    value = raw[name][row]
    return f"{name} of row {row + 1:,} is {'empty' if value is None else value}"


def _encoding(key: str, csv: bytes) -> CsvEncodingError | None:
    """Why a file does not parse, if it is no ASCII text."""
    return (
        None
        if csv.isascii()
        else CsvEncodingError(key, next(offset for offset, byte in enumerate(csv) if byte > 127))
    )


_VALUES = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "contracts",
    "taker_buy_contracts",
)

_EMPTY = pl.DataFrame(
    schema={
        name: UTC_TIME if name.endswith("_time") else pl.Int64 if name == "trade_count" else pl.Float64
        for name in _VALUES
    }
)


def _instant(column: pl.Series, is_end: bool) -> pl.Series:
    """Integers as instants, the unit read from each value's size: seconds, milliseconds or microseconds.

    Args:
        column: Integers since 1970.
        is_end: The value names the last instant of its unit, so it stands for that unit's last microsecond.
    """
    value = pl.col(column.name)
    per_unit = pl.when(value < 10**11).then(1_000_000).when(value < 10**14).then(1_000).otherwise(1)
    micros = value * per_unit + (per_unit - 1 if is_end else 0)
    return column.to_frame().select(micros.cast(UTC_TIME))[column.name]
