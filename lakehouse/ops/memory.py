"""What a sensor remembers between its ticks, in the lake's folder: Dagster keeps a cursor with every tick,
and shows it, so that is only a number.

A tick that is evaluated again, because the daemon ended in the midst of it, begins with what the first began
with: the last two states are kept.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.model.errors import StoreError
from lakehouse.ops.attempts import read_cursor
from lakehouse.storage.layout import sensor_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json


@dataclass(frozen=True, slots=True)
class Memory:
    """What a tick begins with.

    Attributes:
        objects: The lake's objects.
        name: The sensor's name.
        number: Number of the tick: the same if it is evaluated again.
        state: What the tick before has left; empty at the first, and where it is lost.
    """

    objects: LakeObjects
    name: str
    number: int
    state: Mapping[str, Any]

    @classmethod
    def of(cls, objects: LakeObjects, name: str, cursor: str | None) -> "Memory":
        """What a sensor remembers, by the cursor of its last tick."""
        if not (cursor or "").isdecimal():  # the first tick, or one behind those of an earlier release
            return cls(objects, name, 0, read_cursor(cursor))
        return cls(objects, name, int(cursor or 0), _states(objects, name).get(str(cursor), {}))

    def keep(self, state: Mapping[str, Any]) -> str:
        """Remember something for the next tick; returns the cursor. Where the lake cannot be written, that
        holds all of it.
        """
        if self.number and dict(state) == dict(self.state):
            return str(self.number)
        following = str(self.number + 1)
        states = {str(self.number): dict(self.state), following: dict(state)}
        try:
            self.objects.put(sensor_path(self.name), sealed_json(states, indent=0))
        except StoreError:
            return json.dumps(state)
        return following


def _states(objects: LakeObjects, name: str) -> Mapping[str, Any]:
    """The states that are kept, by number; none where they do not read."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        body = objects.get(sensor_path(name))
        found = read_sealed_json(body) if body else {}
        return {key: state for key, state in found.items() if isinstance(state, dict)}
    return {}
