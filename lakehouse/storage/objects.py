"""Opening the place a lake lies in: a local folder or an S3 prefix, behind one object API.

Only this module of `storage` and `bucket` know obstore; what the store refuses comes out as an error of ours.
"""

import contextlib
import copy
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import obstore
from filelock import FileLock
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore, ObjectStore

from lakehouse.model.errors import (
    NoLakeError,
    NoRootError,
    RootNotWritableError,
    StoreError,
    StoreUnreachableError,
)
from lakehouse.storage.bucket import open_bucket
from lakehouse.storage.guarding import NEW as NEW
from lakehouse.storage.guarding import ChangedMeanwhileError as ChangedMeanwhileError
from lakehouse.storage.guarding import guards_by_etag, locked
from lakehouse.storage.kept_footers import KeptFooters
from lakehouse.storage.local import folders_in, read_local, walk
from lakehouse.storage.refusals import NO_BUCKET, refusal

_ABSENT = (FileNotFoundError, NotFoundError)
# an answer that breaks off in the middle is asked for again by the client itself, but not that of a listing
_LISTINGS = 3
_WINDOW = re.compile(r"/(?:month|date)=([^/]{0,7})[^/]*/")
_PROBE = "ledger/.probe"
# what makes a folder a lake; that which every lake in use has comes first
_ZONES = ("silver", "gold", "bronze", "landing")
_Listing = TypeVar("_Listing")
# of a lake's folder, behind which nobody else gets: receipts, rows and footers say where they came from
_PRIVATE = 0o750


class StoredObject(NamedTuple):
    """An object as the store lists it."""

    path: str
    etag: str
    size: int


class LakeObjects:
    """The objects of one lake.

    Args:
        root: A folder, or `s3://bucket/prefix` with credentials from wherever boto3 finds them, region and
            endpoint from AWS's own variables.

    Attributes:
        footers: Those of S3 objects that were read or written here.

    Raises:
        NoRootError: The root is empty, or the root of the file system: neither can be meant.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")
        if not self.root.strip():
            raise NoRootError(str(root))
        self.is_local = "://" not in self.root
        self._store: ObjectStore | None = None
        self._seen = False
        self._only = ""
        self._months: Collection[str] | None = None
        self._guards: bool | None = None
        self._asking = threading.Lock()
        self._leases: dict[str, float] = {}
        self.footers = KeptFooters()

    @property
    def store(self) -> ObjectStore:
        """The obstore store; opened on first use.

        Raises:
            RootNotWritableError: The folder cannot be made, or the address is no S3 address.
        """
        if self._store is None:
            try:
                if self.is_local:
                    folder = Path(self.root).expanduser().absolute()
                    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
                    self._store = LocalStore(prefix=folder)
                else:
                    self._store = open_bucket(self.root)
            except (BaseError, OSError, ValueError) as error:
                raise RootNotWritableError(self.root, _first_line(error)) from error
        return self._store

    def together(self, *reads: Callable[[], Any]) -> list[Any]:
        """What several reads yield; on S3, where they wait, at once."""
        if self.is_local or len(reads) < 2:
            return [read() for read in reads]
        with ThreadPoolExecutor(max_workers=len(reads)) as pool:
            return list(pool.map(lambda read: read(), reads))

    def only(self, name: str, months: Collection[str] | None = None) -> "LakeObjects":
        """The same lake, of which listings have the objects of one name alone, and only cells of some months
        where these are given.
        """
        assert self.store  # is shared
        narrowed = copy.copy(self)
        narrowed._only, narrowed._months = name, months
        return narrowed

    def check_writable(self) -> None:
        """Write and delete a probe object; folders that this made go again, for a mistyped root is none to
        keep.

        Raises:
            RootNotWritableError: The store refuses.
        """
        probe = Path(self.uri(_PROBE))
        made = [folder for folder in probe.parents if not folder.exists()] if self.is_local else []
        try:
            self.put(_PROBE, b"")
            self.delete(_PROBE)
        except StoreError as error:
            raise RootNotWritableError(
                self.root, error.why, *([error.remedy] if error.remedy else [])
            ) from error
        finally:
            with contextlib.suppress(OSError):  # somebody has put something there meanwhile
                for folder in made:
                    folder.rmdir()

    def exists(self) -> bool:
        """Whether a lake lies here: one of its zones is there. On S3 that is asked until it is so, in one
        request for a lake that has silver.

        Raises:
            StoreError: By class.
        """
        if self.is_local:
            return any(Path(self.uri(zone)).is_dir() for zone in _ZONES)
        self._seen = self._seen or any(self._has(zone) for zone in _ZONES)
        return self._seen

    def require_lake(self) -> None:
        """Refuse to read where no lake lies.

        Raises:
            NoLakeError: As said.
            StoreError: By class.
        """
        if not self.exists():
            raise NoLakeError(self.root)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders in a folder."""
        if self.is_local:
            with self.named("listing", prefix):
                return folders_in(self.uri(prefix))
        return [found.rstrip("/").rpartition("/")[2] for found in self._within(prefix)["common_prefixes"]]

    def _within(self, folder: str) -> Any:
        with self.named("listing", folder):
            return self._listed(lambda: obstore.list_with_delimiter(self.store, prefix=folder))

    def _has(self, folder: str) -> bool:
        """Whether there is any object below a folder; their tables are listed, not they."""
        found = self._within(folder)
        return bool(found["common_prefixes"] or found["objects"])

    def uri(self, path: str) -> str:
        """The full address of an object, as query engines want it."""
        return os.path.join(self._folder, path).rstrip("/") if self.is_local else f"{self.root}/{path}"

    @cached_property
    def _folder(self) -> str:
        return str(Path(self.root).expanduser().absolute())

    def get(self, path: str) -> bytes | None:
        """All bytes of an object, or None if it does not exist.

        Raises:
            StoreError: The store does not answer or refuses, by class; so with all methods below.
        """
        if not self.is_local:
            return found[0] if (found := self.get_tagged(path)) else None
        with self.named("reading", path), contextlib.suppress(FileNotFoundError):
            # a file is replaced by renaming, so this is one version of it; obstore copies it once more
            return Path(self.uri(path)).read_bytes()
        return None

    def get_tagged(self, path: str) -> tuple[bytes, str] | None:
        """All bytes of an object and its etag, or None if it does not exist."""
        with self.named("reading", path):
            try:
                answer = obstore.get(self.store, path)
                return answer.bytes().to_bytes(), answer.meta["e_tag"] or ""
            except _ABSENT as error:
                _raise_if_no_bucket(error)
                return None

    def get_of(self, path: str, etag: str, start: int, end: int) -> bytes:
        """A range of an object's bytes, as long as the object is the one with this etag: several such reads
        together are of one version.

        Raises:
            ChangedMeanwhileError: It was replaced, or is gone.
        """
        with self.named("reading", path):
            try:
                if self.is_local and (found := read_local(self.uri(path), etag, start, end)) is not None:
                    return found
                return (
                    obstore.get(self.store, path, options={"range": (start, end), "if_match": etag})
                    .bytes()
                    .to_bytes()
                )
            except PreconditionError as error:
                raise ChangedMeanwhileError(path) from error
            except _ABSENT as error:
                _raise_if_no_bucket(error)
                raise ChangedMeanwhileError(path) from error

    def put(self, path: str, body: bytes, replacing: str | None = None) -> str:
        """Replace an object in one atomic step; returns its etag.

        Args:
            path: Where.
            body: The bytes.
            replacing: `NEW`: the object must not exist. On S3 also the etag that it must still have.

        Raises:
            ChangedMeanwhileError: It has another one.
        """
        mode: Any = (
            "overwrite" if replacing is None else "create" if replacing == NEW else {"e_tag": replacing}
        )
        if time.time() > self._leases.get(path, float("inf")):
            raise ChangedMeanwhileError(path)  # perhaps: nobody is kept from it any more
        with self.named("writing", path):
            try:
                return obstore.put(self.store, path, body, mode=mode)["e_tag"] or ""
            except (PreconditionError, AlreadyExistsError) as error:
                raise ChangedMeanwhileError(path) from error
            except _ABSENT as error:
                if replacing is None:
                    raise
                _raise_if_no_bucket(error)
                raise ChangedMeanwhileError(path) from error  # deleted since

    def move(self, path: str, to: str) -> None:
        """Put an object elsewhere; it may be gone."""
        body = self.get(path)
        if body is not None:
            self.put(to, body)
            self.delete(path)

    def delete(self, path: str) -> None:
        """Delete an object; it may be absent."""
        if self.is_local and not os.path.lexists(self.uri(path)):  # obstore asks another thread
            return
        with self.named("deleting", path):
            try:
                obstore.delete(self.store, path)
            except _ABSENT as error:
                _raise_if_no_bucket(error)

    def written(self, path: str) -> datetime | None:
        """When an object was written last, by the store's clock; None if it is not there."""
        with self.named("reading", path):
            try:
                return obstore.head(self.store, path)["last_modified"]
            except _ABSENT as error:
                _raise_if_no_bucket(error)
                return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below a folder."""
        if self.is_local:
            with self.named("listing", prefix):
                assert self.store  # makes the lake's folder
                local = list(walk(self.uri(""), prefix, self._only, self._months))
            yield from map(StoredObject._make, local)
            return
        with self.named("listing", prefix):
            found = self._listed(
                lambda: [
                    entry
                    for batch in obstore.list(self.store, prefix=prefix, chunk_size=1000)
                    for entry in batch
                ]
            )
        for entry in found:
            if (not self._only or entry["path"].endswith(f"/{self._only}")) and self._is_within(
                entry["path"]
            ):
                yield StoredObject(entry["path"], entry["e_tag"] or "", entry["size"])

    def _is_within(self, path: str) -> bool:
        return self._months is None or not (found := _WINDOW.search(path)) or found[1] in self._months

    @staticmethod
    def _listed(ask: Callable[[], _Listing]) -> _Listing:
        for _ in range(_LISTINGS - 1):
            try:
                return ask()
            except BaseError as error:
                if "response body" not in str(error):
                    raise
        return ask()

    def update(
        self, path: str, change: Callable[[bytes | None, str | None], None], is_new: bool = False
    ) -> None:
        """Read an object, change it and write it back, while no other process does.

        Locally under a lock file that is released when the process dies; on S3 the write is refused if the
        object changed, and the change is made again from what is there then. Where an S3 store does not
        refuse such a write, under a lock made of objects.

        Args:
            path: Which object.
            change: Called with the object's bytes (None if it does not exist) and with what to pass on to
                `put` as `replacing`.
            is_new: Whether the object is not there by all that is known: it is read first only where that
                proves wrong.

        Raises:
            StoreLockedError: Another process is changing it under such a lock.
        """
        if self.is_local:
            folder = Path(self.uri("ledger"))
            with self.named("locking", path):
                assert self.store  # makes the lake's folder
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".lock-{path.replace('/', '+')}"):
                change(self.get(path), None)
            return
        while True:
            with contextlib.ExitStack() as held, contextlib.suppress(ChangedMeanwhileError):
                found, is_new = None if is_new else self.get_tagged(path), False
                if self.guards_by_etag():
                    change(*(found or (None, NEW)))
                    return
                self._leases[path] = held.enter_context(locked(self, path))
                held.callback(self._leases.pop, path)
                change(self.get(path), None)
                return

    def guards_by_etag(self) -> bool:
        """Whether an S3 store holds writers to the etag that they name, by trial: asked once.

        Raises:
            StoreError: By class.
        """
        with self._asking:
            if self._guards is None:
                brief = copy.copy(self)
                brief._store = open_bucket(self.root, is_brief=True)
                try:
                    self._guards = guards_by_etag(brief)
                except StoreUnreachableError:  # an outage says nothing, and is waited for
                    self._guards = guards_by_etag(self)
            return self._guards

    @contextlib.contextmanager
    def named(self, doing: str, path: str) -> Iterator[None]:
        """Turn what obstore raises, or Polars where it reads by itself, into an error of ours.

        Args:
            doing: `reading`, `writing`, `deleting` or `listing`.
            path: Which object or folder.

        Raises:
            StoreError: By class.
        """
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            if isinstance(error, ValueError) and not path:
                raise  # of what a reader computes; with a path, it is none to the store
            # a store's own words may repeat what it was sent
            raise refusal(doing, self.uri("").rstrip("/"), path, error) from None


def _raise_if_no_bucket(error: Exception) -> None:
    """An object that is not there is an answer; a bucket that is not there is none."""
    if NO_BUCKET in str(error):
        raise error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
