"""A bounded cache of generated bodies."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class BodyCache:
    """Least recently used bodies, up to a total size; safe to use from several threads.

    A body asked for by several threads at once is made once: the others wait for it.
    """

    _STRIPES = 16

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._bodies: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._making = [threading.Lock() for _ in range(self._STRIPES)]

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The body kept under the key, else the one that `make` returns."""
        with self._making[hash(key) % self._STRIPES]:
            body = self._recall(key)
            if body is None:
                body = make()
                self._keep(key, body)
            return body

    def _recall(self, key: Hashable) -> bytes | None:
        with self._lock:
            if key in self._bodies:
                self._bodies.move_to_end(key)
            return self._bodies.get(key)

    def _keep(self, key: Hashable, body: bytes) -> None:
        with self._lock:
            self._bodies[key] = body
            self._held += len(body)
            while self._held > self._limit and len(self._bodies) > 1:
                self._held -= len(self._bodies.popitem(last=False)[1])
