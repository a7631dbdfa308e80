"""The exchange's clock."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lakehouse.model.errors import UsageError


class ClockSpeedError(UsageError):
    """A clock that would run backwards."""

    def __init__(self, speed: float) -> None:
        super().__init__(
            f"The simulated clock cannot run at {speed} times real time. Expected 0 (it stands still) or "
            "more."
        )


class Clock:
    """Tells the exchange's time: calling it gives an aware UTC instant.

    Args:
        now: The instant it starts at, or a function that it follows; by default the real time.
        speed: How many of its seconds pass in one of `now`'s. By default a given instant stands still, and
            anything else runs as it is.

    Raises:
        ClockSpeedError: The speed is negative.
    """

    def __init__(
        self, now: datetime | Callable[[], datetime] | None = None, speed: float | None = None
    ) -> None:
        if speed is not None and speed < 0:
            raise ClockSpeedError(speed)
        self._followed: Callable[[], datetime] = now if callable(now) else lambda: datetime.now(UTC)
        self._origin = self._followed()
        self._start = now if isinstance(now, datetime) else self._origin
        self._speed = speed if speed is not None else 0 if isinstance(now, datetime) else 1
        self._lock = threading.Lock()
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        """The instant it shows."""
        with self._lock:
            return self._start + (self._followed() - self._origin) * self._speed

    def advance(self, step: timedelta) -> None:
        """Put it forward at once; it goes on from there as before."""
        with self._lock:
            self._start += step
            self._ahead += step

    @property
    def waited(self) -> float:
        """Seconds that whoever waits for it has waited since it began: those of the clock that it follows,
        however fast it runs itself, and those it was put forward by.
        """
        with self._lock:
            return (self._followed() - self._origin + self._ahead).total_seconds()
