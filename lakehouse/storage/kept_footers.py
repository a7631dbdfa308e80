"""Footers that this process has read or written, so that a store far away is asked for each once."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_MOST = 4096  # footers, a kilobyte or two each


class KeptFooters:
    """The footers of objects, each for as long as a listing has the object with the etag and size that it had
    then: another one is another object, and is read. Those that were wanted least recently go first.
    """

    def __init__(self) -> None:
        self._by_path: OrderedDict[str, tuple[str, int, Mapping[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, path: str, etag: str, size: int, footer: Mapping[str, Any]) -> None:
        """Keep the footer of an object. One without an etag cannot be told from another, and is not kept."""
        if not etag:
            return
        with self._lock:
            self._by_path[path] = etag, size, footer
            self._by_path.move_to_end(path)
            if len(self._by_path) > _MOST:
                self._by_path.popitem(last=False)

    def of(self, path: str, etag: str, size: int) -> Mapping[str, Any] | None:
        """The footer of an object with this etag and size; None if it is not kept."""
        with self._lock:
            kept = self._by_path.get(path)
            if kept is None or kept[:2] != (etag, size):
                return None
            self._by_path.move_to_end(path)
            return kept[2]
