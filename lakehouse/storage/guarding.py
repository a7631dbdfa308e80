"""What keeps two writers of one object on S3 apart: its etag where the store holds writers to it, else a lock
made of objects.

Whether a store does is found out by trying: some take `If-Match` and ignore it, so a header that was not
refused proves nothing.
"""

import contextlib
import json
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.model.errors import (
    StoreDeniedError,
    StoreError,
    StoreListingError,
    StoreLockedError,
)

if TYPE_CHECKING:
    from lakehouse.storage.objects import LakeObjects

NEW = "new"  # in place of an etag: the object must not exist yet
LOCKS = "ledger/locks"
"""Folder of the locks, each an object below the name of what it is about."""
WAIT = timedelta(seconds=30)
"""How long a writer waits for another one before it says so."""
LEASE = timedelta(minutes=10)
"""How long a lock stands for a writer that never says that it is done, such as one that was killed."""
ENOUGH = timedelta(minutes=4)
"""What a write takes at most with all that is repeated; with less left of the lease none begins."""
_NO_ETAG = '"00000000000000000000000000000000"'
_PAUSE = 0.2  # seconds, before a lock is asked for again; drawn between half of it and all


class ChangedMeanwhileError(Exception):
    """An object was replaced between reading and writing it."""


def guards_by_etag(objects: "LakeObjects") -> bool:
    """Whether a store refuses to replace an object that has another etag than is named, and does replace it
    where it has that one: four requests on an object of no meaning.

    One writer alone cannot find out whether the store compares and replaces in one step.

    Args:
        objects: The lake, opened so that what a store lacks is not asked for again and again.

    Raises:
        StoreError: The store does not answer, or refuses; that says nothing of what it can do.
    """
    path = f"ledger/.guard-{uuid.uuid4().hex}"
    try:
        etag = objects.put(path, b"1")
        if not _refuses(objects, path, _NO_ETAG):
            return False
        # a store that refuses every such write is asked without end; an answer that was lost is no refusal
        return not _refuses(objects, path, etag) or objects.get(path) == b"2"
    finally:
        with contextlib.suppress(StoreError):
            objects.delete(path)


def _refuses(objects: "LakeObjects", path: str, etag: str) -> bool:
    """Whether an object is not replaced where this etag is named. A store that knows no such write, and says
    so, keeps nobody from writing without it.
    """
    try:
        objects.put(path, b"2", etag)
    except ChangedMeanwhileError:
        return True
    except StoreError as error:
        if error.everywhere or isinstance(error, StoreDeniedError):
            raise
    return False


@contextlib.contextmanager
def locked(objects: "LakeObjects", path: str) -> Iterator[float]:
    """Hold the lock of an object, by objects alone: whoever wants it writes one of their own, then lists them
    all, and has it if there is no other. Of two, the one that lists later sees the other, so never do both go
    on. Of those that see each other the first by name stays, the rest take theirs back and look before they
    write again. That needs a store whose listing, once it has one's own, has what was written before it.

    Args:
        objects: The lake.
        path: The object that is to be changed.

    Yields:
        The instant, by `time.time`, after which no write may begin.

    Raises:
        StoreLockedError: Another writer holds it and does not let go.
        StoreListingError: No lock can be made in this store.
        StoreError: By class.
    """
    lock = _Lock(objects, path)
    lock.take()
    try:
        yield lock.since + (LEASE - ENOUGH).total_seconds()
    finally:
        lock.drop()


class _Lock:
    """One writer's lock of an object.

    Args:
        objects: The lake.
        path: The object.
    """

    def __init__(self, objects: "LakeObjects", path: str) -> None:
        self.since = 0.0
        self._objects, self._path = objects, path
        self._folder = f"{LOCKS}/{path.replace('/', '+')}"
        self._own = f"{self._folder}/{uuid.uuid4().hex}"

    def take(self) -> None:
        """Wait until it is the only one.

        Raises:
            StoreError: As `locked`.
        """
        until, stays, is_listed, others = time.monotonic() + WAIT.total_seconds(), False, True, list[str]()
        try:
            while True:
                if not stays and not others:
                    self._put()
                    stays = True
                is_listed, others = self._look()
                if stays and is_listed and not others:
                    return
                if stays and (not is_listed or min(others) < self._own):
                    self.drop()
                    stays = False
                if time.monotonic() > until:
                    raise self._error(others)
                time.sleep(random.uniform(_PAUSE / 2, _PAUSE))  # noqa: S311
        except BaseException:
            if stays:
                self.drop()
            raise

    def drop(self) -> None:
        """Let go."""
        self._objects.delete(self._own)

    def _put(self) -> None:
        said = {"process": os.getpid(), "host": socket.gethostname()}
        self.since = time.time()
        self._objects.put(self._own, json.dumps(said).encode())

    def _look(self) -> tuple[bool, list[str]]:
        """Whether one's own is listed, and those beside it; those of writers that are gone for good are
        removed.
        """
        listed = [found.path for found in self._objects.list(self._folder)]
        others = [path for path in listed if path != self._own]
        now = self._objects.written(self._own) if others and self._own in listed else None
        return self._own in listed, [path for path in others if now is None or not self._is_void(path, now)]

    def _is_void(self, path: str, now: datetime) -> bool:
        """Whether a lock is over at an instant; both are told by the store's clock."""
        at = self._objects.written(path)
        if at is not None and now - at > LEASE:
            self._objects.delete(path)
        return at is None or now - at > LEASE

    def _error(self, others: list[str]) -> StoreError:
        if not others:
            return StoreListingError(self._objects.uri(self._own))
        at, body = self._objects.written(others[0]), self._objects.get(others[0])
        try:
            said = json.loads(body or b"{}")
            who = f"process {said['process']} on {said['host']}"
        except (ValueError, KeyError, TypeError):
            who = "another process"
        since = f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
        return StoreLockedError(self._objects.uri(self._path), who, since, self._objects.uri(others[0]))
