"""The time at exchanges, for a lake whose exchanges do not live in this machine's time: simulated ones."""

import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from lakehouse.model.errors import RestUnreachableError
from lakehouse.sources.rest.client import RestClient

KEPT_SECONDS = 1.0


class ExchangeClock:
    """Tells the time of an exchange, as its REST API says; asks at most once a second.

    While the API is out of reach the time goes on from what it last said, at the pace of this machine.

    Args:
        client: Of the REST API whose time it is.
    """

    def __init__(self, client: RestClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._said: tuple[datetime, float] | None = None

    def __call__(self) -> datetime:
        """The exchange's time.

        Raises:
            RestUnreachableError: The API has never answered.
        """
        with self._lock:
            if self._said is None or time.monotonic() - self._said[1] > KEPT_SECONDS:
                try:
                    self._said = self._client.ask_time(), time.monotonic()
                except RestUnreachableError:
                    if self._said is None:
                        raise
            said, at = self._said
            return said + timedelta(seconds=time.monotonic() - at)


class ExchangesClock:
    """Tells the time of the exchanges that are concerned, each by its own REST API. Where they differ it is
    the earliest: what is over by that is over at all of them.

    Args:
        concerned: Names them, at each look anew.
        client: The client that an exchange's time is asked through.
    """

    def __init__(self, concerned: Callable[[], Collection[str]], client: Callable[[str], RestClient]) -> None:
        self._concerned, self._client = concerned, client
        self._clocks: dict[str, ExchangeClock] = {}

    def __call__(self) -> datetime:
        """The time there. An exchange out of reach, of which another is not, holds up nobody.

        Raises:
            RestUnreachableError: None of them has ever answered.
        """
        told, why = list[datetime](), list[RestUnreachableError]()
        for name in self._concerned():
            if name not in self._clocks:
                self._clocks[name] = ExchangeClock(self._client(name))
            try:
                told.append(self._clocks[name]())
            except RestUnreachableError as error:
                why.append(error)
        if not told:
            raise why[0]
        return min(told)
