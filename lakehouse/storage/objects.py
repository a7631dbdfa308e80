"""Opening the place a lake lies in: a local folder or an S3 prefix, behind one object API.

The only module of `storage` that knows obstore; what the store refuses comes out as an error of ours.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
from filelock import FileLock
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore, ObjectStore, S3Store

from lakehouse.model.errors import RootNotWritableError, StoreError

_RETRY: Any = {"max_retries": 8, "retry_timeout": timedelta(seconds=120)}
_CLIENT: Any = {"allow_http": True, "connect_timeout": "10s", "timeout": "120s"}  # http only where the endpoint says so
_NEW = "new"  # in place of an etag: the object must not exist yet


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store lists it."""

    path: str
    etag: str
    size: int


class ChangedMeanwhileError(Exception):
    """An object was replaced between reading and writing it."""


class LakeObjects:
    """The objects of one lake.

    Args:
        root: A folder, or `s3://bucket/prefix` with credentials and endpoint from AWS's own variables.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")
        self.is_local = "://" not in self.root
        self._store: ObjectStore | None = None

    @property
    def store(self) -> ObjectStore:
        """The obstore store; opened on first use.

        Raises:
            RootNotWritableError: The folder cannot be made, or the address is no S3 address.
        """
        if self._store is None:
            try:
                if self.is_local:
                    self._store = LocalStore(prefix=Path(self.root).expanduser().absolute(), mkdir=True)
                else:
                    self._store = S3Store.from_url(self.root, retry_config=_RETRY, client_options=_CLIENT)
            except (BaseError, OSError, ValueError) as error:
                raise RootNotWritableError(self.root, _first_line(error)) from error
        return self._store

    def check_writable(self) -> None:
        """Write and delete a probe object.

        Raises:
            RootNotWritableError: The store refuses.
        """
        probe = f"ledger/.probe-{uuid4().hex}"
        try:
            self.put(probe, b"")
            self.delete(probe)
        except StoreError as error:
            raise RootNotWritableError(self.root, error.why) from error

    def exists(self) -> bool:
        """Whether there is a folder to read from; an S3 prefix always is one."""
        return not self.is_local or Path(self.uri("")).is_dir()

    def uri(self, path: str) -> str:
        """The full address of an object, as query engines want it."""
        return str(Path(self.root).expanduser().absolute() / path) if self.is_local else f"{self.root}/{path}"

    def get(self, path: str) -> bytes | None:
        """All bytes of an object, or None if it does not exist.

        Raises:
            StoreError: The store does not answer or refuses; so with all methods below.
        """
        return found[0] if (found := self.get_tagged(path)) else None

    def get_tagged(self, path: str) -> tuple[bytes, str] | None:
        """All bytes of an object and its etag, or None if it does not exist."""
        with self._named("reading", path):
            try:
                answer = obstore.get(self.store, path)
                return answer.bytes().to_bytes(), answer.meta["e_tag"] or ""
            except (FileNotFoundError, NotFoundError):
                return None

    def tail(self, path: str, size: int, length: int) -> bytes | None:
        """The last bytes of an object of a known size, or None if it does not exist."""
        if not size:
            return b""  # no range of it can be asked for
        with self._named("reading", path):
            try:
                return obstore.get_range(self.store, path, start=max(0, size - length), end=size).to_bytes()
            except (FileNotFoundError, NotFoundError):
                return None

    def put(self, path: str, body: bytes, replacing: str | None = None) -> str:
        """Replace an object in one atomic step; returns its etag.

        Args:
            path: Where.
            body: The bytes.
            replacing: On S3, the etag that the object must still have (`new`: it must not exist).

        Raises:
            ChangedMeanwhileError: It has another one.
        """
        mode: Any = "overwrite" if replacing is None else "create" if replacing == _NEW else {"e_tag": replacing}
        with self._named("writing", path):
            try:
                return obstore.put(self.store, path, body, mode=mode)["e_tag"] or ""
            except (PreconditionError, AlreadyExistsError) as error:
                raise ChangedMeanwhileError(path) from error

    def delete(self, path: str) -> None:
        """Delete an object; it may be absent."""
        with self._named("deleting", path), contextlib.suppress(FileNotFoundError, NotFoundError):
            obstore.delete(self.store, path)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below a folder."""
        with self._named("listing", prefix):
            for batch in obstore.list(self.store, prefix=prefix, chunk_size=1000):
                for entry in batch:
                    yield StoredObject(entry["path"], entry["e_tag"] or "", entry["size"])

    def update(self, path: str, change: Callable[[bytes | None, str | None], None]) -> None:
        """Read an object, change it and write it back, while no other process does.

        Locally under a lock file that is released when the process dies; on S3 the write is refused if the object changed, and the change is made again
        from what is there then.

        Args:
            path: Which object.
            change: Called with the object's bytes (None if it does not exist) and with what to pass on to `put` as `replacing`.
        """
        if self.is_local:
            folder = Path(self.uri("ledger"))
            with self._named("locking", path):
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".lock-{path.replace('/', '+')}"):
                change(self.get(path), None)
            return
        while True:
            found = self.get_tagged(path)
            with contextlib.suppress(ChangedMeanwhileError):
                change(found[0] if found else None, found[1] if found else _NEW)
                return

    @contextlib.contextmanager
    def _named(self, doing: str, path: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            raise StoreError(doing, self.uri(path), _first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
