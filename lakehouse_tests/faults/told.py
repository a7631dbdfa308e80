"""What every source tells of a market, row by row, and the exchange that serves it: real files, real
listings, real REST answers by HTTP.

A source's rows are a book: by minute, counted from the epoch, the rows that open in it, each as the twelve
texts of a kline. The truth is drawn once by the simulated exchange; a fault changes the book of one or
several sources, or what becomes of a file or of an answer. The bytes are made last.
"""

import hashlib
import re
import threading
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from io import BytesIO
from types import MappingProxyType
from typing import Any

import polars as pl

from lakehouse.datasets.candle import PublishedCandle
from lakehouse.model.timerange import TimeRange, day_range, month_range
from lakehouse.simulator.archive import Archive, ArchiveObject
from lakehouse.simulator.candles import minute_candles
from lakehouse.simulator.clock import Clock
from lakehouse.simulator.exchange_info import exchange_info
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.files import RealFiles
from lakehouse.simulator.keys import KlineFolder
from lakehouse.simulator.klines import MILLISECOND, printed
from lakehouse.simulator.markets import SimulatedMarket, minute_of
from lakehouse.simulator.rest import Rest, refusal
from lakehouse.simulator.server import ExchangeServer
from lakehouse.simulator.zips import damaged_zip
from lakehouse_tests.making import HEADER, at

Row = tuple[str, ...]


class Book(dict[int, list[Row]]):
    """Rows by minute, and the minutes of which they were changed since it was opened."""

    def __init__(self, rows: Mapping[int, list[Row]] = MappingProxyType({})) -> None:
        super().__init__(rows)
        self.changed: set[int] = set()

    def __setitem__(self, minute: int, rows: list[Row]) -> None:
        self.changed.add(minute)
        super().__setitem__(minute, rows)

    def lose(self, minute: int) -> None:
        """Forget a minute."""
        self.changed.add(minute)
        self.pop(minute, None)


MONTHLY, DAILY, MINUTES, HOURS = "monthly", "daily", "REST 1m", "REST 1h"
SOURCES = (MONTHLY, DAILY, MINUTES, HOURS)
OPEN_TIME, OPEN, HIGH, LOW, CLOSE, VOLUME, CLOSE_TIME, QUOTE, COUNT, TAKER, TAKER_QUOTE = range(11)
MONTH = "2024-02"
END = month_range(MONTH).end
LAST = at("2024-03-05")  # nothing is drawn beyond
LISTED = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-02-27"))
EARLY = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-02-17"))
OTHER_EARLY = SimulatedMarket("spot", "ETHUSDT", "ETH", "USDT", Decimal(2_600), 400, 2, 4, at("2024-02-17"))
OTHER = replace(OTHER_EARLY, listed=LISTED.listed)
_INTEGERS = (OPEN_TIME, CLOSE_TIME, COUNT)
_BUSY = "Internal error; unable to process your request. Please try again."


@cache
def traded(market: SimulatedMarket) -> Book:
    """The candles of a market from its listing to `LAST`. Shared: copy it before a change."""
    frame = printed(market, minute_candles(market, market.first_minute, minute_of(LAST)), 1, MILLISECOND)
    return Book({int(row[OPEN_TIME]) // 60_000: [row] for row in frame.cast(pl.String).iter_rows()})


@lru_cache(maxsize=4096)
def hour_of(hour: int, rows: tuple[Row, ...]) -> Row:
    """The hour's candle by its minutes."""
    sums = {
        name: sum(Decimal(row[name]) for row in rows) for name in (VOLUME, QUOTE, COUNT, TAKER, TAKER_QUOTE)
    }
    high, low = (
        max(rows, key=lambda row: Decimal(row[HIGH]))[HIGH],
        min(rows, key=lambda row: Decimal(row[LOW]))[LOW],
    )
    texts = {
        OPEN_TIME: str(hour * 3_600_000),
        CLOSE_TIME: str((hour + 1) * 3_600_000 - 1),
        OPEN: rows[0][OPEN],
        HIGH: high,
        LOW: low,
        CLOSE: rows[-1][CLOSE],
    }
    told = {name: f"{value:f}" for name, value in sums.items()} | texts
    return (*(told[name] for name in range(11)), "0")


_UNPUBLISHED = {"bybit": ("trade_count", "taker_buy_volume", "taker_buy_quote_volume")}


def frame_of(rows: list[Row], market: SimulatedMarket = LISTED) -> pl.DataFrame:
    """Rows as typed values, apart from the parser under test: the columns of a published candle that spot
    markets have, null where the exchange of a market does not publish them.
    """
    names = (
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
    )
    texts = pl.DataFrame([row[:11] for row in rows], schema=dict.fromkeys(names, pl.String), orient="row")
    schema = {name: PublishedCandle.columns[name].dtype for name in names}
    instants = {
        "open_time": pl.col("open_time").cast(pl.Int64) * 1_000,
        "close_time": pl.col("close_time").cast(pl.Int64) * 1_000 + 999,
    }
    numbers = {name: pl.col(name).cast(pl.Float64) for name, dtype in schema.items() if dtype == pl.Float64}
    typed = texts.with_columns(
        **instants, **numbers, trade_count=pl.col("trade_count").cast(pl.Float64).cast(pl.Int64)
    ).cast(schema)
    unknown = _UNPUBLISHED.get(market.exchange, ())
    return typed.with_columns(pl.lit(None, schema[name]).alias(name) for name in unknown)


@dataclass
class Told:
    """What an exchange tells at a time.

    Attributes:
        market: The market.
        now: The exchange's clock.
        truth: What was traded.
        books: The rows of each source; those of `HOURS` are the minutes its candles are made of.
        hours: Candles of hours that are not made of those: by hour; empty where the hour is withheld.
        files: What is wrong with a file, by period.
        rest: What is wrong with REST as a whole: `down`, or an error's code; `1m down` if it only gives no
            minutes.
        glitches: What is wrong with one answer for candles of an interval: by interval and number of the
            answer.
        behind: How many finished minutes REST does not have yet.
        invented: Rows of minutes in which nothing was traded, by source and minute.
    """

    market: SimulatedMarket
    now: datetime
    truth: Book
    books: dict[str, Book]
    hours: dict[int, list[Row]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    rest: str = ""
    glitches: dict[tuple[str, int], str] = field(default_factory=dict)
    behind: int = 0
    invented: dict[tuple[str, int], Row] = field(default_factory=dict)

    @classmethod
    def of(cls, market: SimulatedMarket, now: datetime) -> "Told":
        """Nothing is wrong."""
        truth = Book(traded(market))
        return cls(market, now, truth, {source: Book(truth) for source in SOURCES})

    def copy_truth(self) -> None:
        """Every source tells the truth as it is now, and what it invents."""
        self.books = {source: Book(self.truth) for source in SOURCES}
        for (source, minute), row in self.invented.items():
            self.books[source][minute] = [row]

    def rows(self, source: str, start: datetime, end: datetime) -> list[Row]:
        """What a source states of a range, in the order in which it does."""
        book = self.books[source]
        return [row for minute in range(minute_of(start), minute_of(end)) for row in book.get(minute, ())]

    def is_published(self, period: str) -> bool:
        """Whether a file has appeared."""
        end, hours = (month_range(period).end, 8) if len(period) == 7 else (day_range(period).end, 6)
        return end > self.market.listed and self.now >= end + timedelta(hours=hours)

    def periods(self) -> Iterator[str]:
        """Of all files that have appeared, those listed or not."""
        first, last = self.market.listed.date(), self.now.date()
        days = [f"{first + timedelta(days=n)}" for n in range((last - first).days + 1)]
        yield from (period for period in (MONTH, *days) if self.is_published(period))

    def is_readable(self, period: str) -> bool:
        """Whether a file is there and every row in it can be read."""
        source, span = (MONTHLY, month_range(period)) if len(period) == 7 else (DAILY, day_range(period))
        if not self.is_published(period) or self.files.get(period) not in (None, "blank line"):
            return False
        inside = range(minute_of(span.start), minute_of(span.end))
        return all(
            is_finite(row)
            for minute in self.differing[source]
            if minute in inside
            for row in self.books[source].get(minute, ())
        )

    def tells_of(self, day: datetime) -> bool:
        """Whether a file with a day's rows can be read."""
        return self.is_readable(MONTH) or self.is_readable(f"{day:%Y-%m-%d}")

    @cached_property
    def differing(self) -> dict[str, set[int]]:
        """By source, the minutes of which it states something else than was traded; asked for once all is
        told.
        """
        return {
            source: {minute for minute in book.changed if book.get(minute) is not self.truth.get(minute)}
            for source, book in self.books.items()
        }

    def answer_rows(self, interval: str) -> list[tuple[int, Row]]:
        """What REST has of an interval, with the instants in milliseconds; the candle that is not finished
        too.
        """
        current = minute_of(self.now)
        if interval == "1m":
            found = [
                row
                for minute, rows in self.books[MINUTES].items()
                if minute <= current - self.behind
                for row in rows
            ]
        else:
            found = [
                row
                for hour in range(self.market.first_minute // 60, current // 60 + 1)
                for row in self.hour(hour, current)
            ]
        return sorted((int(row[OPEN_TIME]), row) for row in found)

    def hour(self, hour: int, current: int | None = None) -> list[Row]:
        """The candle of an hour by REST; none where there is none."""
        if hour in self.hours:
            return self.hours[hour]
        minutes = range(hour * 60, min(hour * 60 + 60, (current or minute_of(LAST)) + 1))
        rows = tuple(row for minute in minutes for row in self.books[HOURS].get(minute, ()))
        return [hour_of(hour, rows)] if rows else []


def is_finite(row: Row) -> bool:
    """Whether all values of a row are numbers that can be."""
    return not any(text.lower() in ("nan", "inf", "-inf", "1e400") for text in row)


# --- files ----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _zip(name: str, csv: bytes) -> bytes:
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        member = zipfile.ZipInfo(name, (2024, 3, 1, 0, 0, 0))
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, csv, compresslevel=1)
    return sink.getvalue()


@lru_cache(maxsize=64)
def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _csv(rows: list[Row]) -> bytes:
    return "".join(f"{','.join(row)}\n" for row in rows).encode()


@lru_cache(maxsize=64)
def _plain_csv(market: SimulatedMarket, span: TimeRange) -> bytes:
    book = traded(market)
    return _csv(
        [row for minute in range(minute_of(span.start), minute_of(span.end)) for row in book.get(minute, ())]
    )


def files_of(told: Told) -> dict[str, bytes]:
    """The archive's objects, by key."""
    found: dict[str, bytes] = {}
    for period in told.periods():
        wrong = told.files.get(period)
        source, span, frequency = (
            (MONTHLY, month_range(period), "monthly")
            if len(period) == 7
            else (DAILY, day_range(period), "daily")
        )
        if wrong == "absent":
            continue
        file, inside = (
            KlineFolder(told.market, frequency, "1m").file(period),
            range(minute_of(span.start), minute_of(span.end)),
        )
        if any(minute in inside for minute in (*told.books[source].changed, *told.truth.changed)):
            csv = _csv(told.rows(source, span.start, span.end))
        else:
            csv = _plain_csv(told.market, span)
        csv = f"{HEADER}\n".encode() if wrong == "header only" else csv + b"\n" * (wrong == "blank line")
        if not csv:
            continue  # nobody publishes a file of nothing
        body = _zip(file.csv_name, csv)
        body = damaged_zip(body) if wrong == "damaged" else body
        digest = _sha256(b"an earlier version" if wrong == "stale CHECKSUM" else body)
        found |= {file.key: body, f"{file.key}.CHECKSUM": file.checksum_text(digest)}
    return found


class Shelf(Archive):
    """An archive of objects that are given."""

    def __init__(self) -> None:
        super().__init__((), Clock(LAST), RealFiles(None), FaultPlan())
        self.bodies: dict[str, bytes] = {}
        self._since: dict[str, tuple[str, datetime]] = {}

    def fill(self, bodies: Mapping[str, bytes], now: datetime) -> None:
        """Replace all objects; those that changed were written now."""
        written = {key: (_etag(body), now) for key, body in bodies.items()}
        self._since = {
            key: known if (known := self._since.get(key)) and known[0] == fresh[0] else fresh
            for key, fresh in written.items()
        }
        self.bodies = dict(sorted(bodies.items()))

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        return (key for key in self.bodies if key.startswith(prefix) and key > after)

    def find(self, key: str) -> ArchiveObject | None:
        if key not in self.bodies:
            return None
        etag, modified = self._since[key]
        return ArchiveObject(key, len(self.bodies[key]), etag, modified, None)  # type: ignore[arg-type]

    def body(self, item: ArchiveObject) -> bytes:
        return self.bodies[item.key]


@lru_cache(maxsize=64)
def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


# --- REST -----------------------------------------------------------------------------------------


class Desk:
    """A REST API of what is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._rows: dict[tuple[SimulatedMarket, str], tuple[list[int], list[Row]]] = {}
        self._answers: dict[str, int] = {}

    refusals = Rest.refusals

    def owns(self, path: str) -> bool:
        """Every one."""
        return True

    def open(self, told: list[Told]) -> None:
        """Answer with this from now on."""
        self.told, self._rows, self._answers = told, {}, {}

    @property
    def now(self) -> datetime:
        """The exchange's clock."""
        return self.told[0].now

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], ahead: timedelta
    ) -> tuple[Any, dict[str, str]]:
        """As the simulated exchange's."""
        endpoint = path.rpartition("/")[2]
        if any(told.rest == "down" for told in self.told):
            raise refusal(-1001, _BUSY, 503)
        if endpoint == "time":
            return {"serverTime": int(self.now.timestamp() * 1000)}, {}
        if endpoint == "exchangeInfo":
            known = [told.market for told in self.told if told.rest != "-1121"]
            return exchange_info("spot", known, int(self.now.timestamp() * 1000)), {}
        told = next((told for told in self.told if told.market.symbol == query["symbol"]), None)
        if told is not None and told.rest == f"{query['interval']} down":
            raise refusal(-1001, _BUSY, 503)
        if told is None or (told.rest and not told.rest.endswith("down")):
            raise refusal(int(told.rest if told else -1121), "Invalid symbol.")
        return self._klines(told, query), {}

    def _klines(self, told: Told, query: Mapping[str, str]) -> Any:
        interval, limit = query["interval"], int(query.get("limit", 500))
        start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
        times, rows = self._known(told, interval)
        first = 0 if start is None else bisect_left(times, start)
        last = len(times) if end is None else bisect_right(times, end)
        page = rows[first:last][-limit:] if start is None else rows[first:last][:limit]
        if start is not None and end is not None:
            self._answers[interval] = self._answers.get(interval, 0) + 1
            glitch = told.glitches.get((interval, self._answers[interval]))
            if glitch == "object":
                return {}
            page = page if glitch is None else [] if glitch == "empty" else page[1:]
        return [
            [int(text) if name in _INTEGERS and text.isdigit() else text for name, text in enumerate(row)]
            for row in page
        ]

    def _known(self, told: Told, interval: str) -> tuple[list[int], list[Row]]:
        key = told.market, interval
        if key not in self._rows:
            found = told.answer_rows(interval)
            self._rows[key] = [time for time, _ in found], [row for _, row in found]
        return self._rows[key]


# --- both -----------------------------------------------------------------------------------------


@dataclass
class Stand:
    """A loopback exchange that serves what it is given.

    Attributes:
        server: The port.
        shelf: The archive.
        desk: The REST API.
    """

    server: ExchangeServer
    shelf: Shelf
    desk: Desk

    @property
    def url(self) -> str:
        """Of the archive's endpoint and of the API."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def open(self, *told: Told) -> None:
        """Serve this from now on."""
        self.desk.open(list(told))
        self.shelf.fill({key: body for each in told for key, body in files_of(each).items()}, self.desk.now)

    def advance(self, step: timedelta) -> None:
        """Put the exchange's clock forward."""
        for told in self.desk.told:
            told.now += step

    def klines_asked(self) -> list[str]:
        """Requests for ranges of candles since this was last asked; that for a market's very first one is
        none.
        """
        with self.server.lock:
            found = [path for _, path in self.server.log if re.search(r"/klines?\?.*&end(Time)?=", path)]
            self.server.log.clear()
        return found


@contextmanager
def stand(desk: Desk | None = None) -> Iterator[Stand]:
    """An exchange that stands still."""
    shelf, desk = Shelf(), desk or Desk()
    server = ExchangeServer(0, shelf, (desk,), FaultPlan())  # type: ignore[arg-type]
    threading.Thread(target=server.serve_forever, args=(0.02,), name="stand", daemon=True).start()
    try:
        yield Stand(server, shelf, desk)
    finally:
        server.shutdown()
        server.server_close()
        server.close_connections()


def instant(minute: int) -> datetime:
    """When a minute begins."""
    return datetime.fromtimestamp(minute * 60, UTC)
