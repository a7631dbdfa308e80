"""DuckDB over a lake, wherever it lies: it asks for cells by names of our own, and each is handed over in one
version and held against its seal.

DuckDB sees no path of the store and no credentials. The names say what the layout means, whatever the root is
called. And it opens nothing else.
"""

import contextlib
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
from fsspec.spec import AbstractFileSystem

from lakehouse.model.errors import DamagedObjectError, LakehouseError
from lakehouse.model.table import Table
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects
from lakehouse.storage.parquet import read_footer
from lakehouse.storage.seal import check, check_footer, footer_size
from lakehouse.storage.tables import CellRecord

_S3_THREADS = 32  # threads are what S3 reads are made at once by
_TAIL = 16 * 1024
_SMALL = 64 * 1024  # objects of this size are read whole at once
_KEPT = 128 << 20  # bytes of ends and small objects that are kept for a second opening
_VALUE = re.compile(r"=([^%/])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cell_name(path: str) -> str:
    """The path of a cell with the first character of each column's value escaped: DuckDB takes a value that
    reads `NULL` for null, and unescapes afterwards.
    """
    return _VALUE.sub(lambda found: f"=%{ord(found[1]):02X}", path)


class LakeFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The cells that DuckDB may read, as a file system of names `lake://…`.

    Args:
        objects: The lake's objects.

    Attributes:
        error: What went wrong when DuckDB read, for it tells its own story of that.
        opened: The names that were opened.
    """

    protocol = "lake"
    cachable = False

    def __init__(self, objects: LakeObjects) -> None:
        super().__init__()
        self.objects = objects
        self.error: LakehouseError | ChangedMeanwhileError | None = None
        self.opened: set[str] = set()
        self._cells: dict[str, tuple[type[Table], CellRecord]] = {}
        self._ends: OrderedDict[str, bytes] = OrderedDict()
        # objects of which something was handed over: from then on no other version will do
        self._begun: dict[str, CellRecord] = {}
        self._kept = 0
        self._lock = threading.Lock()

    def add(self, table: type[Table], records: Iterable[CellRecord]) -> list[str]:
        """Names for cells of a table."""
        names = {f"{self.protocol}://{cell_name(record.path)}": (table, record) for record in records}
        self._cells |= names
        return list(names)

    def read(self) -> Iterator[tuple[type[Table], list[CellRecord]]]:
        """The cells that were opened, by table."""
        by_table: dict[type[Table], list[CellRecord]] = {}
        for name in sorted(self.opened):
            table, record = self._cells[name]
            by_table.setdefault(table, []).append(self._begun.get(name, record))
        yield from by_table.items()

    # --- what DuckDB asks -------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def glob(self, path: str, **_: Any) -> list[str]:
        """The name itself: none holds a pattern."""
        return [path] if path in self._cells else []

    def unstrip_protocol(self, name: str) -> str:
        """The name itself: all have the protocol."""
        return name

    def size(self, path: str) -> int:
        """Size of a cell's object."""
        return self._begun.get(path, self._cells[path][1]).size

    def modified(self, path: str) -> datetime:
        """An instant that never changes: a name is one version of an object."""
        return _EPOCH

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """A cell, to be read; its rows are fetched with the first read of them."""
        if mode != "rb" or path not in self._cells:
            raise FileNotFoundError(path)
        self.opened.add(path)
        return _CellFile(self, *self._end_of(path))

    # --- reading ----------------------------------------------------------------------------------

    def _end_of(self, name: str) -> tuple[CellRecord, bytes]:
        """The footer of an object, checked; all of a small object, and of one that was replaced since it was
        surveyed.
        """
        table, record = self._cells[name]
        with self._lock:
            record = self._begun.get(name, record)
            if name in self._ends:
                self._ends.move_to_end(name)
                return record, self._ends[name]
        with _noting(self):
            try:
                end = self._surveyed_end(table, record)
            except ChangedMeanwhileError:
                if name in self._begun:
                    raise
                surveyed = record
                record, end = self._renewed(table, surveyed)
                if record.column_count != surveyed.column_count:  # the view was made for the columns it had
                    raise
            with self._lock:
                if self._begun.setdefault(name, record).etag != record.etag:  # another thread opened it first
                    raise ChangedMeanwhileError(record.path)
                if name not in self._ends:
                    self._ends[name], self._kept = end, self._kept + len(end)
                while self._kept > _KEPT:
                    self._kept -= len(self._ends.popitem(last=False)[1])
        return record, end

    def _surveyed_end(self, table: type[Table], record: CellRecord) -> bytes:
        length = record.size if record.size <= _SMALL else _TAIL
        end = self._get(record, record.size - length)
        if len(end) < (needed := footer_size(end)) <= record.size:
            end = self._get(record, record.size - needed)
        sealed = check(record.path, end) if len(end) == record.size else check_footer(record.path, end)
        if not sealed:
            CellRecord.from_footer(
                table, record.cell, record.path, record.etag, record.size, read_footer(record.path, end)
            )
        if len(end) < record.size:
            end = end[-footer_size(end) :]  # the rows before it were fetched with it, but not checked
        return end

    def _renewed(self, table: type[Table], record: CellRecord) -> tuple[CellRecord, bytes]:
        """All of an object that is another one than when it was surveyed: in one request, so that a third one
        cannot come in between.
        """
        if (found := self.objects.get_tagged(record.path)) is None:
            raise ChangedMeanwhileError(record.path)
        body, etag = found
        check(record.path, body)
        return CellRecord.from_footer(
            table, record.cell, record.path, etag, len(body), read_footer(record.path, body)
        ), body

    def whole(self, record: CellRecord) -> bytes:
        """All bytes of an object, checked."""
        with _noting(self):
            body = self._get(record, 0)
            check(record.path, body)
        return body

    def _get(self, record: CellRecord, start: int) -> bytes:
        if not record.size:
            raise DamagedObjectError(record.path, "it is empty")
        return self.objects.get_of(record.path, record.etag, start, record.size)


@contextlib.contextmanager
def _noting(files: LakeFiles) -> Iterator[None]:
    """Keep the first error that a read ends with: out of DuckDB it comes as another."""
    try:
        yield
    except (LakehouseError, ChangedMeanwhileError) as error:
        files.error = files.error or error
        raise


class _CellFile(io.RawIOBase):
    """A cell's object as a file. Reads of its end, where the footer is, do not fetch its rows."""

    def __init__(self, files: LakeFiles, record: CellRecord, end: bytes) -> None:
        super().__init__()
        self._files, self._record, self._body = files, record, end
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (
            0 if whence == io.SEEK_SET else self._at if whence == io.SEEK_CUR else self._record.size
        )
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._record.size - self._at, 0)
        size = left if size < 0 else min(size, left)
        if self._at < (missing := self._record.size - len(self._body)):
            # a guess at the size of the footer: rows are not read so, and are not handed over unchecked
            if size == left <= _TAIL:
                blank = bytes(missing - self._at)
                self._at = self._record.size
                return blank + self._body
            self._body, missing = self._files.whole(self._record), 0
        found = self._body[self._at - missing : self._at - missing + size]
        self._at += len(found)
        return found


def connect(
    objects: LakeObjects, zones: Sequence[str] = (), spill: str = "", unrestricted: bool = False
) -> tuple[duckdb.DuckDBPyConnection, LakeFiles]:
    """An in-memory connection that shows instants in UTC, and the cells it may read; as `prepare` makes it.

    Args:
        objects: The lake.
        zones: Schemas to create, in which names without one are looked up, so that `SHOW TABLES` shows their
            views.
        spill: Folder for what does not fit into memory, whose files the connection may read; empty for none.
        unrestricted: Leave the rest as it is, but for extensions that come by themselves.
    """
    settings = _settings(objects) | ({"temp_directory": spill} if spill or not unrestricted else {})
    connection = duckdb.connect(config=settings)  # sooner than by statements
    return connection, _confine(connection, objects, zones, unrestricted)


def prepare(connection: duckdb.DuckDBPyConnection, objects: LakeObjects) -> LakeFiles:
    """Teach a connection to read a lake, and unlearn all else: files, addresses, extensions, variables of
    Python, and changes to its settings.

    Args:
        connection: Any DuckDB connection to which this was not done yet.
        objects: The lake.

    Returns:
        The cells it may read: none, until some are added.
    """
    for name, value in (_settings(objects) | {"temp_directory": ""}).items():
        connection.execute(f"SET {name}=$1", [value])
    return _confine(connection, objects)


def _settings(objects: LakeObjects) -> dict[str, Any]:
    """What can be set before a connection is there."""
    return {
        # a name is opened twice at most, and bytes are kept by `LakeFiles`
        "enable_external_file_cache": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,  # the variables are those of our own code
        **({} if objects.is_local else {"threads": _S3_THREADS}),
    }


def _confine(
    connection: duckdb.DuckDBPyConnection,
    objects: LakeObjects,
    zones: Sequence[str] = (),
    unrestricted: bool = False,
) -> LakeFiles:
    """Let a connection read a lake, and nothing else unless it is unrestricted."""
    files = LakeFiles(objects)
    connection.register_filesystem(files)
    schemas = [f'CREATE SCHEMA IF NOT EXISTS "{zone}"' for zone in zones]
    locks = [
        f"SET allowed_directories=['{LakeFiles.protocol}://']",
        "SET enable_external_access=false",
        "SET lock_configuration=true",
    ]
    statements = [
        "SET TimeZone='UTC'",
        "SET http_proxy=''",  # the engine takes it from the environment, with its password
        *schemas,
        f"SET search_path = '{','.join(['main', *zones])}'",
        *([] if unrestricted else locks),
    ]
    connection.execute("; ".join(statements))
    return files
