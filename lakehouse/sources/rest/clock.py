"""The time at an exchange, for a lake whose exchange does not live in this machine's time: a simulated
one.
"""

import threading
import time
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
