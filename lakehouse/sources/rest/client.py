"""One REST API: requests within its budget and by its clock, and what replies mean for them.

Nothing here reads the machine's wall clock: what an answer is of is judged by the server's time.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import polars as pl

from lakehouse.exchanges.api import RestApi, RestCall
from lakehouse.exchanges.reply import Meaning, Reply
from lakehouse.model.errors import (
    ArchiveFileError,
    RestBannedError,
    RestBoundsError,
    RestQuestionError,
    RestRefusedError,
    RestUnreachableError,
    UnknownSymbolError,
)
from lakehouse.model.market import Market
from lakehouse.model.text import plain
from lakehouse.sources.rest.replies import BeyondBounds, connect, send
from lakehouse.sources.rest.spending import RestStats, Spending

CLOCK_SECONDS = 600.0
"""How long the server's time is reckoned from one answer before it is asked for again."""

_TRIES = 4
_LONGEST_WAIT = 300.0  # seconds; who is told to wait longer is told so at once
# no server's clock is there; this machine's cannot judge it, for it may be as wrong
_NO_TIME = datetime(2100, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)

Read = TypeVar("Read")


class RestClient:
    """Asks one REST API; shared by threads, which share its budget, its clock and its bans.

    Args:
        api: The API.
        sleep: Waits for so many seconds.
        monotonic: A clock that never jumps, in seconds.
        on_ban: Told of every ban.
        spending: What is admitted of the API, shared with its clients for other market types; its own if left
            out.

    Attributes:
        spending: That.
    """

    def __init__(
        self,
        api: RestApi,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        on_ban: Callable[[RestBannedError], object] = lambda ban: None,
        spending: Spending | None = None,
    ) -> None:
        self.api = api
        self._on_ban = on_ban
        self._sleep = sleep
        self.spending = spending or Spending(api.url, api.budget, sleep, monotonic)
        self._local = threading.local()  # a ccxt object per thread: it keeps its last answer in itself
        self._asking = threading.Lock()  # one thread asks for clock and weight while the others wait
        self._is_up = True

    @contextlib.contextmanager
    def sparing(self, share: float) -> Iterator[None]:
        """Use no more than a share of each minute's budget for a while, what other programs use included: for
        what can wait for the next minute.
        """
        with self.spending.sparing(share):
            yield

    @property
    def is_up(self) -> bool:
        """Whether the last request was answered, be it with an error about what was asked; also false while
        this address is banned.
        """
        return self._is_up

    @property
    def reckoned(self) -> datetime | None:
        """The server's time, reckoned from what it last said, without asking; None if it was never asked."""
        return self.spending.reckoned

    @property
    def stats(self) -> RestStats:
        """Requests and weight so far."""
        return self.spending.stats

    @property
    def spent(self) -> tuple[int, int | None]:
        """What was used, and what may be: weight of the server's minute, by everybody at this address as far
        as the API tells, and None while what a minute has is not known; or requests of a stretch.
        """
        return self.spending.used

    def now(self) -> datetime:
        """The server's time: never ahead of it, behind by no more than an answer takes. The weight of a
        minute is asked for too, where it is not known.

        Raises:
            RestUnreachableError: The server cannot be asked.
        """
        with self._asking:
            if not self.spending.told_within(CLOCK_SECONDS):
                self._learn_time()
            if not self.spending.is_known:
                self._learn_weight()
            at = self.spending.reckoned
            assert at is not None, "it was just learned"
            return at

    def ask_time(self) -> datetime:
        """The server's time, asked for anew.

        Raises:
            RestUnreachableError: The server cannot be asked.
        """
        with self._asking:
            return self._learn_time()

    def ask(self, call: RestCall, read: Callable[[Any], Read], market: Market | None = None) -> Read:
        """Ask, and read the answer.

        Args:
            call: The request.
            read: Reads the answer; what it raises on one that is none says so.
            market: The market that the question is about, if any.

        Raises:
            UnknownSymbolError: The API does not know the market.
            RestQuestionError: The API refuses this question.
            RestUnreachableError: The API does not answer, or with something else; `RestBannedError`,
                `RestRefusedError` and `RestBoundsError` say why.
        """
        answer = self._answer(call, market)
        try:
            return read(answer)
        except (
            ArchiveFileError,
            pl.exceptions.PolarsError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
            OSError,  # reading asks nothing: it is of an instant beyond what the system can name
        ) as error:
            why = f"{call.method} was answered with something else ({plain(error)})"
            raise self.unreachable(why) from error

    def unreachable(
        self, why: str, kind: type[RestUnreachableError] = RestUnreachableError
    ) -> RestUnreachableError:
        """The error that this API does not answer as expected, with what to do."""
        return kind(
            self.api.url,
            why,
            f"Check the network and {self.api.setting}. What is stored stays; run the same again.",
        )

    def _answer(self, call: RestCall, market: Market | None) -> Any:
        """The answer to a request, after as many tries as make sense."""
        why = ""
        # of an API that is down, once is enough to see whether it still is
        tries = _TRIES if self._is_up else 1
        for attempt in range(tries):
            reply = self._send(call)
            kind = self._judge(reply, call, market)
            if kind == "answered":
                self._is_up = True
                return reply.value
            why = reply.told
            if kind == "busy" and attempt + 1 < tries:
                self._sleep(2.0**attempt)
        self._is_up = False
        raise self.unreachable(f"{why} ({tries} tries)" if tries > 1 else why)

    def _send(self, call: RestCall) -> Reply:
        """One request, when it may be sent, and what came back."""
        minute = self.spending.admit(call.weight, call.limit)
        reply = None
        try:
            if not hasattr(self._local, "connection"):
                self._local.connection = connect(self.api)
            reply = send(self._local.connection, call)
        except BeyondBounds as error:
            self._is_up = False
            raise self.unreachable(str(error), RestBoundsError) from error
        finally:
            headers = reply.headers if reply else {}
            self.spending.settle(call.weight, minute, headers.get(self.api.budget.header.lower(), ""))
        return reply

    def _judge(self, reply: Reply, call: RestCall, market: Market | None) -> Meaning:
        """Whether a reply is the answer, or trying again may mend it; errors that this cannot mend are
        raised.
        """
        verdict = self.api.judge(reply)
        if verdict.meaning == "banned":
            raise self._ban(verdict.seconds)
        if verdict.meaning == "blocked":
            self._is_up = False
            assert reply.status is not None, "nobody is blocked without an answer"
            raise RestRefusedError(self.api.url, reply.status, self.api.setting, self.api.moving_hint)
        if verdict.seconds > _LONGEST_WAIT:
            raise self._ban(verdict.seconds)
        self.spending.pause(verdict.seconds)
        # answered: about this question, not about the API
        if verdict.meaning in ("unknown_symbol", "refused"):
            self._is_up = True
            if verdict.meaning == "unknown_symbol" and market is not None:
                raise UnknownSymbolError(market.key, self.api.url)
            subject = market.key if market else call.method
            raise RestQuestionError(self.api.url, subject, verdict.code, verdict.why)
        if verdict.meaning == "foreign":
            raise self.unreachable(reply.told)
        return verdict.meaning

    def _ban(self, seconds: float) -> RestBannedError:
        self._is_up = False
        ban = self.spending.ban(seconds)
        self._on_ban(ban)
        return ban

    def _learn_weight(self) -> None:
        call, weight = self.api.budget_call(), None
        if call is not None:
            try:
                weight = self.ask(call, self.api.read_budget)
            except (RestQuestionError, RestBoundsError):  # an exchangeInfo has more in it than the budget
                self._is_up = True
            if weight is None:
                _log.warning(
                    "The REST API at %s names no weight per minute: the documented %d are kept to.",
                    self.api.url,
                    self.api.budget.weight,
                )
        self.spending.weight = weight or self.api.budget.weight

    def _learn_time(self) -> datetime:
        try:
            said = self.ask(self.api.time_call(), self.api.read_time)
        except RestQuestionError as error:
            raise self.unreachable(str(error)) from error
        except RestUnreachableError:
            self._is_up = False  # without its time nothing that it answers can be used
            raise
        if not self.api.began <= said < _NO_TIME:  # nothing that it calls finished would be
            self._is_up = False
            raise self.unreachable(f"it says that it is {said:%Y-%m-%d %H:%M} UTC there, which cannot be")
        self.spending.note_time(said)
        return said
