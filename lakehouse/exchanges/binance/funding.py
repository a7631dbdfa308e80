"""Binance's funding rates: the monthly CSV of its archive and the answers of its REST APIs, as the columns of
the bronze tables of funding rates.

Settlements are stamped when they were computed, some milliseconds or seconds late. A row is of the minute
nearest to its stamp; the stamp itself stays beside it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.exchanges.api import PageRules, Pages, RateLimit, RestCall
from lakehouse.exchanges.binance.words import (
    FOLDERS,
    FREQUENCIES,
    is_number,
    is_whole,
    period_text,
    rest_call,
)
from lakehouse.exchanges.exchange import Files
from lakehouse.model.errors import (
    CsvEmptyError,
    CsvEncodingError,
    CsvHeaderError,
    CsvParseError,
    CsvTooLongError,
)
from lakehouse.model.market import Market, MarketType
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.table import UTC_TIME, Dtype

COLUMNS = ("calc_time", "funding_interval_hours", "last_funding_rate")
MOST_LINES = 10_000
"""Lines of a file: a month of hours has 744, each perhaps twice."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE, _HALF, _MILLI = timedelta(minutes=1), timedelta(seconds=30), timedelta(milliseconds=1)
_MILLISECONDS = range(10**11, 10**14)
_LONGEST_HOURS = 24
_SCHEMA: dict[str, Dtype] = {
    "funding_time": UTC_TIME,
    "published_time": UTC_TIME,
    "rate": pl.Float64,
    "interval_hours": pl.Int32,
    "mark_price": pl.Float64,
}
# The documentation of linear markets; inverse ones cost weight as any other request. fundingInfo is asked
# once a scan, before there is a client: it has its place in the fifth of a limit that clients leave.
_LIMITS: Mapping[MarketType, RateLimit] = {"linear": RateLimit("fundingRate and fundingInfo", 500, 300.0)}


class FundingFiles(Files):
    """Funding rates as the archive publishes them: by month alone."""

    kinds: tuple[PeriodKind, ...] = ("month",)

    def prefix(self, market: Market, kind: PeriodKind) -> str:
        return f"data/{FOLDERS[market.market_type]}/{FREQUENCIES[kind]}/fundingRate/{market.symbol}/"

    def key(self, market: Market, period: Period) -> str:
        return f"{self.prefix(market, period.kind)}{market.symbol}-fundingRate-{period}.zip"

    def period_text(self, key: str) -> str | None:
        return period_text(key)

    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        rows = parse_rates(key, csv)
        # stamped a moment early, the first settlement of a month lies in the file of the one before, and is
        # none of its rows
        end = Period.parse(text).window.end if (text := period_text(key)) else None
        return (
            rows.filter((pl.col("published_time") >= end) | (pl.col("funding_time") < end)) if end else rows
        )


def parse_rates(key: str, csv: bytes) -> pl.DataFrame:
    """Parse a file of funding rates.

    Args:
        key: Its key, for messages.
        csv: The file.

    Returns:
        A row per line, in file order; blank lines are no rows. `mark_price` is not published there.

    Raises:
        ArchiveFileError: The content cannot be trusted; the class says why.
    """
    if not csv.isascii():
        raise CsvEncodingError(key, next(offset for offset, byte in enumerate(csv) if byte > 127))
    if csv.count(b"\n") > 2 * MOST_LINES:
        raise CsvTooLongError(key, MOST_LINES)
    lines = [line for line in csv.decode().splitlines() if line.strip()]
    if not lines:
        raise CsvEmptyError(key)
    if len(lines) > MOST_LINES:
        raise CsvTooLongError(key, MOST_LINES)
    if not lines[0][:1].isdigit():
        if tuple(lines[0].strip().split(",")) != COLUMNS:
            raise CsvHeaderError(key, COLUMNS, lines[0])
        lines = lines[1:]
    return _frame([_of_line(key, number, line) for number, line in enumerate(lines, 1)])


def _of_line(key: str, number: int, line: str) -> tuple[Any, ...]:
    values = line.strip().split(",")
    if len(values) != len(COLUMNS):
        raise CsvParseError(key, f"row {number:,} has {len(values)} values where {len(COLUMNS)} are expected")
    time, hours, rate = values
    if not is_whole(time) or int(time) not in _MILLISECONDS:
        raise CsvParseError(key, f"calc_time of row {number:,} is {time!a:.40}, no milliseconds since 1970")
    if not is_whole(hours) or not 0 < int(hours) <= _LONGEST_HOURS:
        raise CsvParseError(
            key, f"funding_interval_hours of row {number:,} is {hours!a:.40}, no hours of a day"
        )
    if not is_number(rate):
        raise CsvParseError(key, f"last_funding_rate of row {number:,} is {rate!a:.40}, no finite number")
    return int(time), float(rate), int(hours), None


def _frame(settlements: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of milliseconds, rate, hours and mark price."""
    names = ["published_time", "rate", "interval_hours", "mark_price"]
    raw = pl.DataFrame(
        settlements, {name: pl.Int64 if name == names[0] else _SCHEMA[name] for name in names}, orient="row"
    )
    stamped = (pl.col("published_time") * 1_000).cast(UTC_TIME)
    rows = raw.with_columns(stamped).with_columns(
        (pl.col("published_time") + _HALF).dt.truncate("1m").alias("funding_time"),
        # of a row that cannot be used its time alone is told
        published_time=pl.when(pl.col("rate").is_not_null()).then("published_time"),
    )
    return rows.select(*_SCHEMA)


class FundingPages(Pages):
    """Funding rates as the REST APIs answer them; they space themselves, and do not change."""

    def rules(self, market_type: MarketType) -> PageRules:
        return PageRules(((1000, 1),))

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        bounds = {"startTime": _first_stamp(start)} if start else {}
        bounds |= {"endTime": _first_stamp(end) - 1} if end else {}  # inclusive
        call = rest_call(market.market_type, "fundingrate", 1, symbol=market.symbol, limit=limit, **bounds)
        return RestCall(call.method, call.params, call.weight, _LIMITS.get(market.market_type))

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        if not isinstance(answer, list):
            raise ValueError(f"no list of funding rates but {answer!r:.100}")
        return _frame([_of_answer(market, row) for row in answer])


def _first_stamp(instant: datetime) -> int:
    """The first millisecond whose nearest minute is not before an instant."""
    minute = instant + (_EPOCH - instant) % _MINUTE
    return (minute - _HALF - _EPOCH) // _MILLI


def _of_answer(market: Market, row: Any) -> tuple[Any, ...]:
    """One settlement of an answer; of one whose rate is no number, the time alone.

    Raises:
        ValueError: It is none, or another market's.
    """
    told: dict[str, Any] = row if isinstance(row, dict) else {}
    time, rate, price = (str(told.get(name, "")) for name in ("fundingTime", "fundingRate", "markPrice"))
    if not is_whole(time) or int(time) not in _MILLISECONDS:
        raise ValueError(f"a funding rate without a time in milliseconds: {row!r:.100}")
    if told.get("symbol") != market.symbol:
        raise ValueError(f"a funding rate of {told.get('symbol')!r:.40}, asked for {market.symbol}")
    if not is_number(rate):
        return int(time), None, None, None
    # empty of settlements before it was published
    return int(time), float(rate), None, float(price) if is_number(price) and float(price) > 0 else None
