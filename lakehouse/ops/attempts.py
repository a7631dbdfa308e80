"""What a sensor remembers between its ticks: what was due, and what it has asked for already."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

FIRST_WAIT = timedelta(minutes=30)
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is remembered of something that is due.

    Attributes:
        why: Hash of the reason: with another one it counts as something new.
        seen: Ticks in a row at which it was due for that reason.
        tries: How often it was asked for.
        after: It is not asked for again before this instant.
    """

    why: str
    seen: int
    tries: int
    after: datetime

    @property
    def mark(self) -> str:
        """Names this try and no other: the same state of the world gives the same mark."""
        return f"{self.why}-{self.tries}"


class Attempts:
    """Attempts by name. One that comes to nothing is repeated, but each time after twice the wait.

    Args:
        known: What is remembered so far.
    """

    def __init__(self, known: Mapping[str, Attempt] | None = None) -> None:
        self._known = dict(known or {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Attempts":
        """Read what `to_json` wrote."""
        return cls(
            {
                name: Attempt(**{**entry, "after": datetime.fromisoformat(str(entry["after"]))})
                for name, entry in data.items()
            }
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            name: asdict(attempt) | {"after": attempt.after.isoformat()}
            for name, attempt in self._known.items()
        }

    def sift(
        self,
        due: Mapping[str, object],
        now: datetime,
        sightings: int = 1,
        most: int | None = None,
        first_wait: timedelta = FIRST_WAIT,
    ) -> dict[str, Attempt]:
        """What may be asked for now, out of what is due.

        Args:
            due: The reason by name, anything that prints the same while it is the same.
            now: The current instant.
            sightings: At how many ticks in a row, this one included, it must have been due.
            most: How many at most; the others keep their turn.
            first_wait: How long the first attempt is given; every further one has twice as long.

        Returns:
            The attempts by name, each counted as made.
        """
        chosen: dict[str, Attempt] = {}
        for name, reason in due.items():
            why = hashlib.sha256(str(reason).encode()).hexdigest()[:12]
            before = self._known.get(name)
            attempt = (
                replace(before, seen=before.seen + 1)
                if before is not None and before.why == why
                else Attempt(why, 1, 0, now)
            )
            if attempt.seen >= sightings and now >= attempt.after and (most is None or len(chosen) < most):
                wait = min(first_wait * 2 ** min(attempt.tries, 10), _LONGEST_WAIT)
                attempt = chosen[name] = replace(attempt, tries=attempt.tries + 1, after=now + wait)
            self._known[name] = attempt
        return chosen

    def waits_until(self, name: str, now: datetime) -> datetime | None:
        """When something that was asked for in vain is asked for again; None if it does not wait."""
        attempt = self._known.get(name)
        return attempt.after if attempt and attempt.tries and attempt.after > now else None

    def forget(self, is_over: Callable[[str], bool]) -> None:
        """Forget what is no longer due."""
        self._known = {name: attempt for name, attempt in self._known.items() if not is_over(name)}


def read_cursor(cursor: str | None) -> dict[str, Any]:
    """A sensor's cursor; empty at its first tick, or where it was written by something else."""
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
