"""Opening the place a lake lies in: a local folder or an S3 prefix, behind one object API."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir
from uuid import uuid4

import obstore
from filelock import FileLock
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from lakehouse.model.errors import RootNotWritableError

_RETRY = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}


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
                self._store = LocalStore(prefix=Path(self.root).expanduser().absolute(), mkdir=True) if self.is_local else S3Store.from_url(self.root, retry_config=_RETRY)  # type: ignore[arg-type]
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
            obstore.put(self.store, probe, b"")
            obstore.delete(self.store, probe)
        except (BaseError, OSError) as error:
            raise RootNotWritableError(self.root, _first_line(error)) from error

    def uri(self, path: str) -> str:
        """The full address of an object, as query engines want it."""
        return str(Path(self.root).expanduser().absolute() / path) if self.is_local else f"{self.root}/{path}"

    def get(self, path: str) -> bytes | None:
        """All bytes of an object, or None if it does not exist."""
        try:
            return obstore.get(self.store, path).bytes().to_bytes()
        except FileNotFoundError:
            return None

    def put(self, path: str, body: bytes) -> str:
        """Replace an object in one atomic step; returns its etag."""
        return obstore.put(self.store, path, body)["e_tag"] or ""

    def delete(self, path: str) -> None:
        """Delete an object; it may be absent."""
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self.store, path)

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Hold an object for read-modify-write, across processes of this machine; released when the process dies.

        The lock file lies beside the lake's objects locally; for a lake elsewhere it lies in the machine's temporary folder.
        """
        folder = Path(self.uri("ledger")) if self.is_local else Path(gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".lock-{path.replace('/', '+')}"):
            yield


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
