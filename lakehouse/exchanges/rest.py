"""Candles by REST: requests through ccxt's implicit methods, within the exchange's budget, by the exchange's clock.

ccxt carries the addresses and the HTTP session; what it digests is left alone (see the ADR): candles come back as the exchange wrote them, and its
status codes and headers decide what happens next. Nothing here reads the machine's wall clock: a candle is finished when the server says so.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import polars as pl

from lakehouse.exchanges.paging import first_candle, floor_to, pages
from lakehouse.exchanges.rest_api import RestApi, RestCall
from lakehouse.model.errors import ArchiveFileError, RestBannedError, RestRefusedError, RestUnreachableError, UnknownSymbolError
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.result import Asked
from lakehouse.model.timerange import TimeRange

CLOCK_SECONDS = 600.0
"""How long the server's time is reckoned from one answer before it is asked for again."""

_TRIES = 4
_SHARE = 0.8  # of the budget: other programs of this address need some too
_TIMEOUT_MS = 20_000
_MARGIN = 0.5  # seconds into the next minute before it is used
_LONGEST_WAIT = 300.0  # seconds; who is told to wait longer is told so at once
_BACK_OFF = {429: 60.0, 418: 120.0}  # seconds, where no Retry-After says it

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """Candles as an API answered, and what it was asked.

    Attributes:
        rows: Finished candles: the value columns of `bronze/candle_archive`.
        asked: The range that these rows are all of, but for those that could not be used.
        unusable: Open times of rows in the range that could not be used.
    """

    rows: pl.DataFrame
    asked: Asked
    unusable: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class RestStats:
    """What a client has used so far.

    Attributes:
        requests: Requests sent, those that failed included.
        weight: Their weight by the exchange's price list.
    """

    requests: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class _Reply:
    """What came back: no status if nothing did, no value if it was no JSON."""

    status: int | None
    headers: Mapping[str, str]
    value: Any
    said: str

    @property
    def code(self) -> int | None:
        """The error code in the body, if it is an error."""
        code = self.value.get("code") if isinstance(self.value, dict) else None
        return int(code) if code is not None and re.fullmatch(r"-?\d+", str(code)) else None

    def retry_after(self, default: float) -> float:
        """Seconds to wait."""
        said = self.headers.get("retry-after", "")
        return float(said) if re.fullmatch(r"\d+(\.\d+)?", said) else default


class RestClient:
    """Asks one REST API; shared by threads, which share its budget, its clock and its bans.

    Args:
        api: The API.
        sleep: Waits for so many seconds.
        monotonic: A clock that never jumps, in seconds.
    """

    def __init__(self, api: RestApi, sleep: Callable[[float], None] = time.sleep, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.api = api
        self._sleep = sleep
        self._monotonic = monotonic
        self._local = threading.local()  # a ccxt object per thread: it keeps its last answer in itself
        self._asking = threading.Lock()  # one thread asks for clock and budget while the others wait
        self._lock = threading.Lock()  # all below
        self._stats = RestStats()
        self._clock: tuple[datetime, float] | None = None  # server's time, and the monotonic clock's when it arrived
        self._budget: int | None = None
        self._minute: int | None = None  # the server's minute that `_used` is of
        self._used = 0
        self._pending = 0  # weight of requests under way
        self._resume_at = 0.0
        self._banned_until: float | None = None
        self._is_up = True
        self._share = _SHARE

    @contextlib.contextmanager
    def sparing(self, share: float) -> Iterator[None]:
        """Use no more than a share of each minute's budget for a while, what other programs use included: for what can wait for the next minute."""
        before, self._share = self._share, share
        try:
            yield
        finally:
            self._share = before

    @property
    def is_up(self) -> bool:
        """Whether the last request was answered, be it with an error about what was asked."""
        return self._is_up

    @property
    def stats(self) -> RestStats:
        """Requests and weight so far."""
        with self._lock:
            return self._stats

    def now(self) -> datetime:
        """The server's time: never ahead of it, behind by no more than an answer takes.

        Raises:
            RestUnreachableError: It cannot be asked.
        """
        with self._asking:
            return self._prepare()

    def ask_time(self) -> datetime:
        """The server's time, asked for anew.

        Raises:
            RestUnreachableError: It cannot be asked.
        """
        with self._asking:
            return self._learn_time()

    def candles(self, market: Market, interval: Interval, span: TimeRange, before: bool = False, after: bool = False) -> RestAnswer:
        """Every finished candle that opens in a range.

        Args:
            market: A market of this API.
            interval: Length of the candles.
            span: The range; its part after the last finished candle is not asked for.
            before: Also find the candle before the range: together with one after it, it proves that nothing between them is being withheld.
            after: Also find the candle after it.

        Raises:
            UnknownSymbolError: The API does not know the market.
            RestUnreachableError: It does not answer; `RestBannedError` and `RestRefusedError` say why.
        """
        at = self.now()

        def ask(length: Interval, start: datetime | None, end: datetime | None, limit: int) -> pl.DataFrame:
            return self._page(market, length, start, end, limit)

        end = max(span.start, min(span.end, floor_to(at, interval)))
        frames = list(pages(ask, self.api.rules, interval, TimeRange(span.start, end))) if span.start < end else []
        rows = pl.concat(frames) if frames else self.api.read_candles(market, [])
        finished = pl.max_horizontal(pl.col("open_time") + interval.delta, pl.col("close_time") + timedelta(microseconds=1)) <= at
        if (unfinished := rows.filter(~finished)).height:  # one that opens off its slot
            end = min(end, unfinished["open_time"].min().astimezone(UTC))  # type: ignore[union-attr]
            rows = rows.filter(finished, pl.col("open_time") < end)
        last_before = first_after = None
        if before:
            last = ask(interval, None, min(span.start, floor_to(at, interval)), 1)
            last_before = last["open_time"][-1].astimezone(UTC) if last.height else None
        if after and end == span.end < floor_to(at, interval):  # after a range that was cut, no candle is finished
            first_after = first_candle(ask, self.api.rules, interval, TimeRange(end, floor_to(at, interval)))
        return RestAnswer(rows, Asked(span.start, end, at, "rows" if rows.height else "empty", last_before, first_after))

    def first_open(self, market: Market, interval: Interval, span: TimeRange) -> datetime | None:
        """When the first candle of a range opens; None if there is none.

        Raises:
            UnknownSymbolError, RestUnreachableError: As `candles`.
        """
        self.now()
        return first_candle(lambda length, start, end, limit: self._page(market, length, start, end, limit), self.api.rules, interval, span)

    # --- one request --------------------------------------------------------------------------------------------------------

    def _page(self, market: Market, interval: Interval, start: datetime | None, end: datetime | None, limit: int) -> pl.DataFrame:
        call = self.api.candles_call(market.symbol, interval, start, end, limit)
        rows = self._read(call, lambda answer: self.api.read_candles(market, answer), market)
        astray = rows.filter((pl.col("open_time") < start if start else False) | (pl.col("open_time") >= end if end else False))
        if astray.height:
            raise self._unreachable(f"asked for candles from {start} to {end} it answered with one of {astray['open_time'][0]}")
        return rows

    def _read(self, call: RestCall, read: Callable[[Any], Read], market: Market | None = None) -> Read:
        """Ask, and read the answer."""
        answer = self._ask(call, market)
        try:
            return read(answer)
        except (ArchiveFileError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._unreachable(f"{call.method} was answered with something else ({error!r})") from error

    def _ask(self, call: RestCall, market: Market | None) -> Any:
        """The answer to a request, after as many tries as make sense."""
        why = ""
        tries = _TRIES if self._is_up else 1  # of an API that is down, once is enough to see whether it still is
        for attempt in range(tries):
            minute = self._admit(call.weight)
            reply = None
            try:
                reply = self._send(call)
            finally:
                self._settle(call.weight, minute, reply.headers if reply else {})
            kind = self._judge(reply, market)
            if kind == "answered":
                self._is_up = True
                return reply.value
            why = f"{'HTTP ' + str(reply.status) if reply.status else 'no answer'}, {reply.said[:200]}"
            if kind == "busy" and attempt + 1 < tries:
                self._sleep(2.0**attempt)
        self._is_up = False
        raise self._unreachable(f"{why} ({tries} tries)" if tries > 1 else why)

    def _judge(self, reply: _Reply, market: Market | None) -> Literal["answered", "busy", "throttled"]:
        """What a reply means for its request; errors that trying again cannot mend are raised."""
        refusal = self.api.refusal(reply.code) if reply.code is not None else None
        if reply.status == 418:
            raise self._ban(reply.retry_after(_BACK_OFF[418]))
        if reply.status in (403, 451):
            self._is_up = False
            raise RestRefusedError(self.api.url, reply.status, self.api.setting, self.api.moving_hint)
        if reply.status == 429 or refusal == "throttled":
            seconds = reply.retry_after(_BACK_OFF[429])
            if seconds > _LONGEST_WAIT:
                raise self._ban(seconds)
            with self._lock:
                self._resume_at = max(self._resume_at, self._monotonic() + seconds)
            return "throttled"
        if refusal == "unknown_symbol" and market is not None:
            raise UnknownSymbolError(market.key, self.api.url)
        if reply.status is None or reply.status >= 500 or refusal == "busy" or (reply.status == 200 and reply.value is None):
            return "busy"
        if reply.status != 200 or refusal is not None:
            raise self._unreachable(f"HTTP {reply.status}, {reply.said[:200]}")
        return "answered"

    def _send(self, call: RestCall) -> _Reply:
        import ccxt  # half a second, for those who ask only

        if not hasattr(self._local, "ccxt"):
            self._local.ccxt = _connect(self.api)
        exchange = self._local.ccxt
        exchange.heard = None
        value, said = None, ""
        try:
            value = getattr(exchange, call.method)(dict(call.params))
        except (ccxt.BaseError, OSError, ValueError) as error:
            said = _root(error)
        if exchange.heard is None:
            return _Reply(None, {}, None, said)
        status, headers, body = exchange.heard
        if value is None:
            with contextlib.suppress(ValueError):
                value = json.loads(body)
        return _Reply(status, headers, value if isinstance(value, dict | list) else None, body.strip())

    # --- clock, budget and bans -----------------------------------------------------------------------------------------------

    def _prepare(self) -> datetime:
        """The server's time; asks for it, and for the budget, where they are not known."""
        if self._clock is None or self._monotonic() - self._clock[1] > CLOCK_SECONDS:
            self._learn_time()
        if self._budget is None:
            budget = self._read(self.api.budget_call(), self.api.read_budget)
            with self._lock:
                self._budget = budget
        with self._lock:
            return self._reckon()

    def _learn_time(self) -> datetime:
        said = self._read(self.api.time_call(), self.api.read_time)
        with self._lock:
            self._clock = said, self._monotonic()
        return said

    def _reckon(self) -> datetime:
        """The server's time by the last answer and the time since."""
        assert self._clock is not None
        return self._clock[0] + timedelta(seconds=self._monotonic() - self._clock[1])

    def _admit(self, weight: int) -> int | None:
        """Wait until a request may be sent; returns the server's minute, where that is known."""
        while True:
            with self._lock:
                now = self._monotonic()
                if self._banned_until is not None and now < self._banned_until:
                    raise self._banned(self._banned_until - now)
                wait = max(self._resume_at - now, self._wait_for_budget(weight))
                if wait <= 0:
                    self._pending += weight
                    self._stats = RestStats(self._stats.requests + 1, self._stats.weight + weight)
                    return self._minute
            self._sleep(wait)

    def _wait_for_budget(self, weight: int) -> float:
        """Seconds until a request fits into the budget of its minute."""
        if self._clock is None:
            return 0.0
        now = self._reckon().timestamp()
        if (minute := int(now // 60)) != self._minute:
            if self._minute is not None:
                self._used = 0
            self._minute = minute
        taken = self._used + self._pending
        if self._budget is None or not taken or taken + weight <= self._share * self._budget:
            return 0.0
        return (minute + 1) * 60 - now + _MARGIN

    def _settle(self, weight: int, minute: int | None, headers: Mapping[str, str]) -> None:
        """Note what a request has used. The header knows of every process of this address."""
        with self._lock:
            self._pending -= weight
            if minute == self._minute:  # else a new one has begun, and the next answer tells of it
                said = headers.get(self.api.weight_header.lower(), "")
                self._used = max(self._used, int(said)) if said.isdecimal() else self._used + weight

    def _ban(self, seconds: float) -> RestBannedError:
        with self._lock:
            self._banned_until = self._monotonic() + seconds
            return self._banned(seconds)

    def _banned(self, seconds: float) -> RestBannedError:
        # For people to read, who look at their own clock; nothing is decided by it.
        return RestBannedError(self.api.url, datetime.now(UTC) + timedelta(seconds=seconds))

    def _unreachable(self, why: str) -> RestUnreachableError:
        return RestUnreachableError(self.api.url, why, f"Check the network and {self.api.setting}. What is stored stays; run the same again.")


def _root(error: BaseException) -> str:
    """What went wrong at the bottom: libraries wrap it in pages of addresses."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error) or type(error).__name__


def _connect(api: RestApi) -> Any:
    """A ccxt object that keeps status, headers and body of its last answer in `heard`."""
    import ccxt

    base: Any = getattr(ccxt, api.exchange)

    class Listening(base):  # type: ignore[misc]
        heard: tuple[int, dict[str, str], str] | None = None

        def on_rest_response(self, code: int, reason: str, url: str, method: str, headers: Mapping[str, str], body: str, *sent: Any) -> str:
            self.heard = code, {name.lower(): value for name, value in headers.items()}, body
            return str(super().on_rest_response(code, reason, url, method, headers, body, *sent))

    # The budget is kept here, for all threads; proxies are taken from where requests and the archive's clients take them.
    return Listening({"enableRateLimit": False, "timeout": _TIMEOUT_MS, "requests_trust_env": True, "urls": {"api": dict(api.ccxt_urls)}})
