"""What may be asked of a REST API, and when: the server's clock, its budget, and its bans.

Nothing here reads the machine's wall clock but for what people are told.
"""

import contextlib
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lakehouse.exchanges.api import Budget, RateLimit, RestCall
from lakehouse.model.errors import RestBannedError
from lakehouse.sources.rest.tally import Tally

_SHARE = 0.8  # of the budget: other programs of this address need some too
_MARGIN = 0.5  # seconds into the next minute before it is used


@dataclass(frozen=True, slots=True)
class RestStats:
    """What a client has used so far.

    Attributes:
        requests: Requests sent, those that failed included.
        weight: Their weight by the exchange's price list.
    """

    requests: int = 0
    weight: int = 0


@dataclass
class Load:
    """Requests that are still to be made of one API.

    Attributes:
        budget: What the API allows.
        requests: How many.
        weight: What they weigh.
        counted: How many of them count to a limit.
    """

    budget: Budget
    requests: int = 0
    weight: int = 0
    counted: Counter[RateLimit] = field(default_factory=Counter)

    def add(self, call: RestCall, times: int = 1) -> None:
        """Add a request, made so often."""
        self.requests += times
        self.weight += call.weight * times
        for limit in {call.limit, self.budget.every} - {None}:
            self.counted[limit] += times  # type: ignore[index]


def least_seconds(load: Load, machines: int = 1) -> float:
    """How long it takes at least until all of a load is admitted, by one of so many machines: what fits into
    a stretch is at once.
    """
    stretches = [
        (count, _most(_SHARE / machines, limit), limit.seconds + _MARGIN)
        for limit, count in load.counted.items()
    ]
    if load.budget.weight:
        stretches.append((load.weight, int(_SHARE * load.budget.weight), 60.0))
    return max(((count - 1) // most * seconds for count, most, seconds in stretches if count), default=0.0)


def _most(share: float, limit: RateLimit) -> int:
    """As many requests as may lie in a stretch of a limit."""
    return max(1, int(share * limit.requests))


def _wait(admitted: deque[float], limit: RateLimit, now: float, share: float) -> float:
    """Seconds until another request fits into a share of a limit; what does not count any more is dropped,
    and so is what the clock has yet to reach, which is of another boot of the machine.
    """
    stretch, most = limit.seconds + _MARGIN, _most(share, limit)
    counting = sorted(at for at in admitted if 0 <= now - at < stretch)
    admitted.clear()
    admitted.extend(counting)
    return counting[-most] + stretch - now if len(counting) >= most else 0.0


class Spending:
    """Admits requests to one REST API, for all threads, and for all market types that it serves; to limits
    that no answer tells of, for all processes that share a tally.

    Args:
        url: Base of the API.
        budget: What the API allows.
        sleep: Waits for so many seconds.
        monotonic: A clock that never jumps, in seconds.
        tally: What was admitted that counts to limits, shared with other processes; its own if left out.
        machines: How many of this address ask at once: each keeps to its part of limits.
    """

    def __init__(
        self,
        url: str,
        budget: Budget,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
        machines: int = 1,
    ) -> None:
        self._url = url
        self._budget = budget
        self._sleep = sleep
        self._monotonic = monotonic
        self._lock = threading.Lock()  # all below
        self._stats = RestStats()
        # server's time, and the monotonic clock's when it arrived
        self._clock: tuple[datetime, float] | None = None
        self._minute: int | None = None  # the server's minute that `_used` is of
        self._used = 0
        self._pending = 0  # weight of requests under way
        self._resume_at = 0.0
        self._banned_until: float | None = None
        self._share = _SHARE
        self._tally = tally or Tally(url)
        self._machines = machines
        self.weight: int | None = None
        """Weight per minute; None while it is not known."""

    @contextlib.contextmanager
    def sparing(self, share: float) -> Iterator[None]:
        """Use no more than a share of the budget for a while, what other programs use included."""
        before, self._share = self._share, share
        try:
            yield
        finally:
            self._share = before

    @property
    def stats(self) -> RestStats:
        """Requests and weight so far."""
        with self._lock:
            return self._stats

    @property
    def is_known(self) -> bool:
        """Whether it is known how much may be used."""
        return self.weight is not None or self._budget.weight is None

    @property
    def used(self) -> tuple[int, int | None]:
        """Weight used in the server's minute, and the weight that a minute has, None while that is not known;
        of an API that counts requests alone, those of its stretch, and as many as it may have.
        """
        with self._lock:
            if self._budget.weight is None and (every := self._budget.every):
                now = self._monotonic()
                with self._tally.open() as admitted:
                    return sum(0 <= now - at < every.seconds for at in admitted[every.name]), every.requests
            return self._used, self.weight

    @property
    def reckoned(self) -> datetime | None:
        """The server's time by its last answer and the time since; None if it was never told."""
        with self._lock:
            return self._reckon()

    def told_within(self, seconds: float) -> bool:
        """Whether the server told its time so recently."""
        return self._clock is not None and self._monotonic() - self._clock[1] <= seconds

    def note_time(self, said: datetime) -> None:
        """Take note of the server's time."""
        with self._lock:
            self._clock = said, self._monotonic()

    def admit(self, weight: int, limit: RateLimit | None = None) -> int | None:
        """Wait until a request may be sent; returns the server's minute, where that is known.

        Args:
            weight: What it costs of the minute's.
            limit: A limit of its own that it counts to as well, if any.

        Raises:
            RestBannedError: This address is banned.
        """
        while True:
            with self._lock:
                now = self._monotonic()
                if self._banned_until is not None and now < self._banned_until:
                    raise self._banned(self._banned_until - now)
                wait = max(self._resume_at - now, self._wait_for_weight(weight))
                if wait <= 0:
                    wait = self._wait_for_limits({each for each in (limit, self._budget.every) if each})
                if wait <= 0:
                    self._pending += weight
                    self._stats = RestStats(self._stats.requests + 1, self._stats.weight + weight)
                    return self._minute
            self._sleep(wait)

    def settle(self, weight: int, minute: int | None, used: str) -> None:
        """Note what a request has used.

        Args:
            weight: Its weight.
            minute: The server's minute in which it was admitted.
            used: What the answer's header says is used in the minute, which knows of every process of this
                address; empty if nothing is said.
        """
        with self._lock:
            self._pending -= weight
            if minute == self._minute:  # else a new one has begun, and the next answer tells of it
                self._used = (
                    max(self._used, int(used)) if re.fullmatch(r"[0-9]{1,9}", used) else self._used + weight
                )

    def pause(self, seconds: float) -> None:
        """Admit nothing for a while."""
        with self._lock:
            self._resume_at = max(self._resume_at, self._monotonic() + seconds)

    def ban(self, seconds: float) -> RestBannedError:
        """Admit nothing for a while, and say so at once; returns what is said."""
        with self._lock:
            self._banned_until = self._monotonic() + seconds
            return self._banned(seconds)

    def _reckon(self) -> datetime | None:
        if self._clock is None:
            return None
        return self._clock[0] + timedelta(seconds=self._monotonic() - self._clock[1])

    def _wait_for_weight(self, weight: int) -> float:
        """Seconds until a request fits into the weight of its minute."""
        if (at := self._reckon()) is None:
            return 0.0
        now = at.timestamp()
        if (minute := int(now // 60)) != self._minute:
            if self._minute is not None:
                self._used = 0
            self._minute = minute
        taken = self._used + self._pending
        if self.weight is None or not taken or taken + weight <= self._share * self.weight:
            return 0.0
        return (minute + 1) * 60 - now + _MARGIN

    def _wait_for_limits(self, limits: Collection[RateLimit]) -> float:
        """Seconds until a request fits into limits, of which no answer tells what others used; where it fits,
        it is counted.
        """
        if not limits:
            return 0.0
        with self._tally.open() as admitted:
            now = self._monotonic()  # opening may have taken a while
            waits = [_wait(admitted[each.name], each, now, self._share / self._machines) for each in limits]
            if max(waits) <= 0:
                for each in limits:
                    admitted[each.name].append(now)
            return max(waits)

    def _banned(self, seconds: float) -> RestBannedError:
        # For people to read, who look at their own clock; nothing is decided by it.
        return RestBannedError(self._url, datetime.now(UTC) + timedelta(seconds=seconds))
