"""Candles by REST: requests through ccxt's implicit methods, within the exchange's budget, by the exchange's
clock.

ccxt carries the addresses and the HTTP session; what it digests is left alone (see the ADR): candles come
back as the exchange wrote them, and its status codes and headers decide what happens next. Nothing here reads
the machine's wall clock: a candle is finished when the server says so.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import polars as pl

from lakehouse.exchanges.api import RestApi, RestCall
from lakehouse.model.errors import (
    ArchiveFileError,
    ForeignJsonError,
    RestBannedError,
    RestBoundsError,
    RestQuestionError,
    RestRefusedError,
    RestUnreachableError,
    UnknownSymbolError,
)
from lakehouse.model.foreign_json import read_json
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.result import Asked
from lakehouse.model.text import plain
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.rest.paging import first_candle, floor_to, pages

CLOCK_SECONDS = 600.0
"""How long the server's time is reckoned from one answer before it is asked for again."""

_TRIES = 4
_SHARE = 0.8  # of the budget: other programs of this address need some too
_TIMEOUT_MS = 20_000
_MARGIN = 0.5  # seconds into the next minute before it is used
_LONGEST_WAIT = 300.0  # seconds; who is told to wait longer is told so at once
_LONGEST_BAN = 3 * 86_400.0  # seconds: the longest that is documented
_BACK_OFF = {429: 60.0, 418: 120.0}  # seconds, where no Retry-After says it
# no server's clock is there; this machine's cannot judge it, for it may be as wrong
_NO_TIME = datetime(2100, 1, 1, tzinfo=UTC)
_FAR_AHEAD = timedelta(days=366)  # of the server's time, where no candle opens
_SAID = 200  # characters of what came instead of an answer
# of a web page, its tags included: to search all of a large one for pairs of tags takes the square of its
# length
_PAGE_SAID = 4_000

_log = logging.getLogger(__name__)

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """Candles as an API answered, and what it was asked.

    Attributes:
        rows: Finished candles: the value columns of `bronze/candle_archive`.
        asked: The range that these rows are all of, but for the unusable ones.
        unusable: When the candles of that range open that the API has, and of which it gave no values that
            can be used: none, no finite numbers, or two for one candle.
        duplicate_count: Rows left out because they repeat another exactly.
    """

    rows: pl.DataFrame
    asked: Asked
    unusable: tuple[datetime, ...] = ()
    duplicate_count: int = 0


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
    """What came back: no status if nothing did."""

    status: int | None
    headers: Mapping[str, str]
    value: Any
    said: str
    is_json: bool

    @property
    def code(self) -> int | None:
        """The error code in the body, if it is an error."""
        code = self.value.get("code") if isinstance(self.value, dict) else None
        return int(code) if isinstance(code, int | str) and re.fullmatch(r"-?[0-9]{1,9}", str(code)) else None

    def retry_after(self, default: float) -> float:
        """Seconds to wait: what is told, if it can be meant."""
        said = self.headers.get("retry-after", "")
        return min(float(said), _LONGEST_BAN) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", said) else default


class RestClient:
    """Asks one REST API; shared by threads, which share its budget, its clock and its bans.

    Args:
        api: The API.
        sleep: Waits for so many seconds.
        monotonic: A clock that never jumps, in seconds.
    """

    def __init__(
        self,
        api: RestApi,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api = api
        self._sleep = sleep
        self._monotonic = monotonic
        self._local = threading.local()  # a ccxt object per thread: it keeps its last answer in itself
        self._asking = threading.Lock()  # one thread asks for clock and budget while the others wait
        self._lock = threading.Lock()  # all below
        self._stats = RestStats()
        # server's time, and the monotonic clock's when it arrived
        self._clock: tuple[datetime, float] | None = None
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
        """Use no more than a share of each minute's budget for a while, what other programs use included: for
        what can wait for the next minute.
        """
        before, self._share = self._share, share
        try:
            yield
        finally:
            self._share = before

    @property
    def is_up(self) -> bool:
        """Whether the last request was answered, be it with an error about what was asked; also false while
        this address is banned.
        """
        return self._is_up

    @property
    def reckoned(self) -> datetime | None:
        """The server's time, reckoned from what it last said, without asking; None if it was never asked."""
        with self._lock:
            return self._reckon() if self._clock is not None else None

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

    def candles(
        self, market: Market, interval: Interval, span: TimeRange, before: bool = False, after: bool = False
    ) -> RestAnswer:
        """Every finished candle that opens in a range.

        Args:
            market: A market of this API.
            interval: Length of the candles.
            span: The range; its part after the last finished candle is not asked for.
            before: Also find the candle before the range: together with one after it, it proves that nothing
                between them is being withheld.
            after: Also find the candle after it.

        Raises:
            UnknownSymbolError: The API does not know the market.
            RestQuestionError: It refuses this question.
            RestUnreachableError: It does not answer; `RestBannedError` and `RestRefusedError` say why.
        """
        at = self.now()
        useless: set[datetime] = set()

        def ask(length: Interval, start: datetime | None, end: datetime | None, limit: int) -> pl.DataFrame:
            page = self._page(market, length, start, end, limit)
            if page["close_time"].null_count():
                useless.update(_instants(page.filter(~_USABLE)))
            return page  # with these: a page is left behind by what it holds, used or not

        end = max(span.start, min(span.end, floor_to(at, interval)))
        frames = (
            list(pages(ask, self.api.rules, interval, TimeRange(span.start, end))) if span.start < end else []
        )
        rows, unusable, duplicate_count = _one_per_key(
            pl.concat(frames) if frames else self.api.read_candles(market, [])
        )
        finished = (
            pl.max_horizontal(
                pl.col("open_time") + interval.delta, pl.col("close_time") + timedelta(microseconds=1)
            )
            <= at
        )
        if (unfinished := rows.filter(~finished)).height:  # one that opens off its slot
            end = min(end, unfinished["open_time"].min().astimezone(UTC))  # type: ignore[union-attr]
            rows = rows.filter(finished, pl.col("open_time") < end)
        last_before = first_after = None
        if before:
            last = ask(interval, None, min(span.start, floor_to(at, interval)), 1)
            last_before = max(_instants(last), default=None)
        # after a range that was cut, no candle is finished
        if after and end == span.end < floor_to(at, interval):
            first_after = first_candle(ask, self.api.rules, interval, TimeRange(end, floor_to(at, interval)))
        # a candle without values proves nothing
        last_before, first_after = (
            opens if opens not in useless else None for opens in (last_before, first_after)
        )
        unusable = tuple(opens for opens in unusable if opens < end)
        return RestAnswer(
            rows,
            Asked(
                span.start, end, at, "rows" if rows.height or unusable else "empty", last_before, first_after
            ),
            unusable,
            duplicate_count,
        )

    def first_open(self, market: Market, interval: Interval, span: TimeRange) -> datetime | None:
        """When the first candle of a range opens; None if there is none.

        Raises:
            UnknownSymbolError, RestQuestionError, RestUnreachableError: As `candles`.
        """
        self.now()
        return first_candle(
            lambda length, start, end, limit: self._page(market, length, start, end, limit),
            self.api.rules,
            interval,
            span,
        )

    # --- one request ------------------------------------------------------------------------------

    def _page(
        self, market: Market, interval: Interval, start: datetime | None, end: datetime | None, limit: int
    ) -> pl.DataFrame:
        call = self.api.candles_call(market.symbol, interval, start, end, limit)
        rows = self._read(call, lambda answer: self.api.read_candles(market, answer), market)
        latest = at + _FAR_AHEAD if (at := self.reckoned) else _NO_TIME
        low, high = max(start or self.api.began, self.api.began), min(end or latest, latest)
        astray = rows.filter((pl.col("open_time") < low) | (pl.col("open_time") >= high))
        if astray.height:
            raise self._unreachable(
                f"asked for candles from {start} to {end} it answered with one of {astray['open_time'][0]}"
            )
        lasts = pl.col("close_time") - pl.col("open_time")
        absurd = (lasts < timedelta(0)) | (lasts > 2 * interval.delta)
        return (
            rows.with_columns(
                pl.when(~absurd).then(column) for column in rows.columns if column != "open_time"
            )
            if rows.select(absurd.any()).item()
            else rows
        )

    def _read(self, call: RestCall, read: Callable[[Any], Read], market: Market | None = None) -> Read:
        """Ask, and read the answer."""
        answer = self._ask(call, market)
        try:
            return read(answer)
        except (
            ArchiveFileError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise self._unreachable(
                f"{call.method} was answered with something else ({plain(error)})"
            ) from error

    def _ask(self, call: RestCall, market: Market | None) -> Any:
        """The answer to a request, after as many tries as make sense."""
        why = ""
        # of an API that is down, once is enough to see whether it still is
        tries = _TRIES if self._is_up else 1
        for attempt in range(tries):
            minute = self._admit(call.weight)
            reply = None
            try:
                reply = self._send(call)
            finally:
                self._settle(call.weight, minute, reply.headers if reply else {})
            kind = self._judge(reply, call, market)
            if kind == "answered":
                self._is_up = True
                return reply.value
            why = _told(reply)
            if kind == "busy" and attempt + 1 < tries:
                self._sleep(2.0**attempt)
        self._is_up = False
        raise self._unreachable(f"{why} ({tries} tries)" if tries > 1 else why)

    def _judge(
        self, reply: _Reply, call: RestCall, market: Market | None
    ) -> Literal["answered", "busy", "throttled"]:
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
        if (
            reply.status is None
            or reply.status >= 500
            or refusal == "busy"
            or (reply.status == 200 and not reply.is_json)
        ):
            return "busy"
        # answered: about this question, not about the API
        if reply.code is not None and refusal in ("unknown_symbol", "refused"):
            self._is_up = True
            if refusal == "unknown_symbol" and market is not None:
                raise UnknownSymbolError(market.key, self.api.url)
            raise RestQuestionError(
                self.api.url,
                market.key if market else call.method,
                reply.code,
                str(reply.value.get("msg", "")),
            )
        if reply.status != 200 or refusal is not None:
            raise self._unreachable(_told(reply))
        return "answered"

    def _send(self, call: RestCall) -> _Reply:
        import ccxt  # half a second, for those who ask only

        from lakehouse.sources.rest.bounded import beyond_bounds

        if not hasattr(self._local, "ccxt"):
            self._local.ccxt = _connect(self.api)
        exchange = self._local.ccxt
        exchange.heard = None
        said = ""
        try:
            getattr(exchange, call.method)(dict(call.params))
        except (ccxt.BaseError, OSError, ValueError) as error:
            said = _root(error)
            if beyond_bounds(error):  # four times as much would be no better
                self._is_up = False
                raise self._unreachable(plain(said), RestBoundsError) from error
        if exchange.heard is None:
            return _Reply(None, {}, None, said, is_json=False)
        status, headers, body = exchange.heard
        try:
            value, is_json = read_json(body, numbers_as_text=True), True
        except ForeignJsonError:
            value, is_json = None, False
        return _Reply(status, headers, value, body.strip(), is_json)

    # --- clock, budget and bans -------------------------------------------------------------------

    def _prepare(self) -> datetime:
        """The server's time; asks for it, and for the budget, where they are not known."""
        if self._clock is None or self._monotonic() - self._clock[1] > CLOCK_SECONDS:
            self._learn_time()
        if self._budget is None:
            self._learn_budget()
        with self._lock:
            return self._reckon()

    def _learn_budget(self) -> None:
        try:
            budget = self._read(self.api.budget_call(), self.api.read_budget)
        except (RestQuestionError, RestBoundsError):  # an exchangeInfo has more in it than the budget
            budget, self._is_up = None, True
        if budget is None:
            budget = self.api.default_budget
            _log.warning(
                "The REST API at %s names no weight per minute: the documented %d are kept to.",
                self.api.url,
                budget,
            )
        with self._lock:
            self._budget = budget

    def _learn_time(self) -> datetime:
        try:
            said = self._read(self.api.time_call(), self.api.read_time)
        except RestQuestionError as error:
            raise self._unreachable(str(error)) from error
        except RestUnreachableError:
            self._is_up = False  # without its time nothing that it answers can be used
            raise
        if not self.api.began <= said < _NO_TIME:  # nothing that it calls finished would be
            self._is_up = False
            raise self._unreachable(f"it says that it is {said:%Y-%m-%d %H:%M} UTC there, which cannot be")
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
                self._used = (
                    max(self._used, int(said)) if re.fullmatch(r"[0-9]{1,9}", said) else self._used + weight
                )

    def _ban(self, seconds: float) -> RestBannedError:
        self._is_up = False
        with self._lock:
            self._banned_until = self._monotonic() + seconds
            return self._banned(seconds)

    def _banned(self, seconds: float) -> RestBannedError:
        # For people to read, who look at their own clock; nothing is decided by it.
        return RestBannedError(self.api.url, datetime.now(UTC) + timedelta(seconds=seconds))

    def _unreachable(
        self, why: str, kind: type[RestUnreachableError] = RestUnreachableError
    ) -> RestUnreachableError:
        return kind(
            self.api.url,
            why,
            f"Check the network and {self.api.setting}. What is stored stays; run the same again.",
        )


_USABLE = pl.col("close_time").is_not_null()
"""Of a candle that cannot be used, there is its time alone."""


def _instants(rows: pl.DataFrame) -> list[datetime]:
    """When rows open."""
    return [opens.astimezone(UTC) for opens in rows["open_time"]]


def _one_per_key(rows: pl.DataFrame) -> tuple[pl.DataFrame, tuple[datetime, ...], int]:
    """Rows in order with one for each candle, when those open that have none, and how many rows repeated
    another exactly.
    """
    ordered = rows if rows["open_time"].is_sorted() else rows.sort("open_time", maintain_order=True)
    if (is_first := ordered["open_time"].is_first_distinct()).all() and not ordered[
        "close_time"
    ].null_count():
        return ordered, (), 0
    once = ordered if is_first.all() else ordered.unique(maintain_order=True)
    # of two values for one candle, neither is believed
    usable = once.filter(_USABLE & ~pl.col("open_time").is_duplicated())
    unusable = once.filter(~pl.col("open_time").is_in(usable["open_time"].implode())).unique(
        "open_time", maintain_order=True
    )
    return usable, tuple(_instants(unusable)), ordered.height - once.height


def _told(reply: _Reply) -> str:
    """What came instead of an answer, for people."""
    if reply.status is None:
        return f"no answer, {plain(reply.said, _SAID)}"
    if reply.is_json or not reply.said.startswith("<"):
        return f"HTTP {reply.status}, {plain(reply.said, _SAID)}"
    words = " ".join(
        re.sub(
            r"<(script|style)\b.*?</\1>|<[^>]*>",
            " ",
            reply.said[:_PAGE_SAID],
            flags=re.DOTALL | re.IGNORECASE,
        ).split()
    )
    return f"HTTP {reply.status} with a web page in place of JSON ({plain(words, _SAID)!r}): something between here and the API answers for it"


def _root(error: BaseException) -> str:
    """What went wrong at the bottom: libraries wrap it in pages of addresses."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error) or type(error).__name__


def _connect(api: RestApi) -> Any:
    """A ccxt object that keeps status, headers and body of its last answer in `heard`."""
    import ccxt

    from lakehouse.sources.rest.bounded import rest_bounds, session

    base: Any = getattr(ccxt, api.exchange)

    class Listening(base):  # type: ignore[misc]
        heard: tuple[int, dict[str, str], str] | None = None

        def on_rest_response(
            self,
            code: int,
            reason: str,
            url: str,
            method: str,
            headers: Mapping[str, str],
            body: str,
            *sent: Any,
        ) -> str:
            self.heard = code, {name.lower(): value for name, value in headers.items()}, body
            return str(super().on_rest_response(code, reason, url, method, headers, body, *sent))

        def parse_json(self, http_response: str) -> None:
            """Leave the body alone: it is read once, and guarded, by whoever asked."""

    # The budget is kept here, for all threads; proxies are taken from where requests and the archive's
    # clients take them.
    made = Listening(
        {
            "enableRateLimit": False,
            "timeout": _TIMEOUT_MS,
            "requests_trust_env": True,
            "urls": {"api": dict(api.ccxt_urls)},
        }
    )
    made.session = session(rest_bounds, connections=1)
    return made
