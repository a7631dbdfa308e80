"""When requests were admitted that count to a limit which no answer tells of: by all processes that share a
folder.
"""

import contextlib
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_LONGEST = 5.0  # seconds for which another process may hold the file: one that was stopped in it is passed

Admitted = defaultdict[str, deque[float]]
"""Instants by the name of a limit, oldest first, by a clock that never jumps and that all processes of a
machine see alike.
"""


class Tally:
    """What was admitted of one API.

    Args:
        url: Base of the API.
        home: The folder that processes share; each counts alone where there is none, or none can be written
            to.
    """

    def __init__(self, url: str, home: Path | None = None) -> None:
        self._home = home
        self._name = re.sub(r"\W+", "_", url.partition("://")[2])
        self._admitted: Admitted = defaultdict(deque)

    @contextlib.contextmanager
    def open(self) -> Iterator[Admitted]:
        """What was admitted, which no other process reads meanwhile; what is added is kept."""
        lock = self._lock()
        try:
            if lock is None:
                yield self._admitted
                return
            file = Path(lock.lock_file).with_suffix(".json")
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                kept = json.loads(file.read_bytes())
                self._admitted = defaultdict(
                    deque, {name: deque(map(float, ats)) for name, ats in kept.items()}
                )
            before = {name: list(ats) for name, ats in self._admitted.items()}
            yield self._admitted
            after = {name: list(ats) for name, ats in self._admitted.items()}
            if after != before:
                with contextlib.suppress(OSError):  # a disk that is full stops nobody from asking
                    fresh = file.with_suffix(".new")
                    fresh.write_text(json.dumps(after))
                    fresh.replace(file)  # whoever is killed leaves the one or the other
        finally:
            if lock is not None:
                lock.release()

    def _lock(self) -> FileLock | None:
        """The lock of the shared file, taken; None where nobody shares one."""
        if self._home is None or not self._home.is_dir():
            return None
        with contextlib.suppress(OSError, Timeout):
            folder = self._home / "rest"
            folder.mkdir(mode=0o750, exist_ok=True)
            lock = FileLock(folder / f"{self._name}.lock")
            lock.acquire(timeout=_LONGEST, poll_interval=0.005)
            return lock
        return None
