"""Putting the files of an export into a folder: whole or not at all, and over nothing of anybody else's.

A market's files are written aside first, and moved into place one by one. The sidecar is written last; while
files are moved it says so (`state` is `moving`) and names the old ones and the new ones, so that the next
export of the market goes on from there. A file that was there before is replaced only if it is as an export
left it.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from lakehouse.export.sidecar import Document, to_bytes
from lakehouse.export.target import File
from lakehouse.model.errors import ExportFolderError, FileInTheWayError
from lakehouse.model.market import Market

HOME = "lakehouse"
"""The folder of sidecars, in that of the export."""
_STAGING, _LOCK, _SIDECAR = ".staging", ".lock", ".sidecar"
_PATIENCE = 60  # seconds for another export into the same folder


class Placed(NamedTuple):
    """What became of a market's files.

    Attributes:
        sidecar: Where the sidecar lies.
        written: How many files are new or other than before.
        unchanged: How many were there already, byte for byte.
        removed: How many of the market's earlier export were taken away.
    """

    sidecar: Path
    written: int
    unchanged: int
    removed: int


def sidecar_path(market: Market) -> str:
    """Where a market's sidecar lies, from the export's folder on."""
    return f"{HOME}/{market.exchange}-{market.market_type}/{market.symbol}.json"


class Folder:
    """The folder of an export, which no other export writes to meanwhile.

    Args:
        folder: Where it lies; it is made.

    Raises:
        ExportFolderError: It cannot be written, or another export has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._home, self._staging = folder / HOME, folder / HOME / _STAGING
        self._owners: dict[str, str] = {}

    def __enter__(self) -> "Folder":
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self._home / _LOCK, timeout=_PATIENCE)
            self._lock.acquire()
            self._clear()  # what an export that was killed left
            for beside in sorted(self._home.glob("*/*.json")):
                self._owners |= dict.fromkeys(_known(beside), f"{beside.parent.name}:{beside.stem}")
        except Timeout:
            raise ExportFolderError(
                str(self.folder), "another export has been writing there for a minute"
            ) from None
        except OSError as error:
            raise ExportFolderError(str(self.folder), str(error)) from None
        return self

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def place(
        self, market: Market, said: Document, files: Iterable[File], is_alone: bool, overwrite: bool
    ) -> Placed:
        """Write a market's export, in place of its earlier one.

        Args:
            market: The market.
            said: Its sidecar, but for `files` and `state`.
            files: Its files.
            is_alone: Whether nothing of anybody else's may lie in the folders of these files.
            overwrite: Replace files at their paths that no export left there.

        Raises:
            FileInTheWayError: Something lies there that no export of this market left.
            ExportFolderError: The folder cannot be written.
        """
        try:
            return self._place(market, said, files, is_alone, overwrite)
        except OSError as error:
            raise ExportFolderError(str(self.folder), str(error)) from None
        finally:
            self._clear()

    def _place(
        self, market: Market, said: Document, files: Iterable[File], is_alone: bool, overwrite: bool
    ) -> Placed:
        beside = self.folder / sidecar_path(market)
        earlier, staged = _known(beside), self._stage(files)
        gone = [path for path in earlier if path not in staged and self._hash_at(path) is not None]
        for path in [*staged, *gone]:
            if (owner := self._owners.get(path, market.key)) != market.key:
                raise FileInTheWayError(str(self.folder / path), market.key, owner)
            own = {*earlier.get(path, ()), *([staged[path]["sha256"]] if path in staged else ())}
            if not overwrite and self._hash_at(path) not in {None, *own}:
                raise FileInTheWayError(str(self.folder / path), market.key)
        if is_alone:
            self._require_alone(market, {*staged, *earlier})
        changed = [path for path, entry in staged.items() if self._hash_at(path) != entry["sha256"]]
        if changed or gone:
            former = [
                {"path": path, "sha256": each} for path, hashes in earlier.items() for each in sorted(hashes)
            ]
            self._replace(beside, to_bytes(said | {"state": "moving", "files": [*staged.values(), *former]}))
        for path in gone:  # before the new ones come: a reader of the folder never gets rows twice
            (self.folder / path).unlink()
            with contextlib.suppress(OSError):  # others lie there
                (self.folder / path).parent.rmdir()
        for path in changed:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._staging / path, self.folder / path)
        whole = to_bytes(said | {"state": "whole", "files": list(staged.values())})
        if not beside.is_file() or beside.read_bytes() != whole:
            self._replace(beside, whole)
        self._owners |= dict.fromkeys(staged, market.key)
        return Placed(beside, len(changed), len(staged) - len(changed), len(gone))

    def _stage(self, files: Iterable[File]) -> dict[str, Document]:
        """Write files aside; what the sidecar says of each, by path."""
        staged = {}
        for file in files:
            aside = self._staging / file.path
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(file.body)
            staged[file.path] = _entry(file)
        return staged

    def _replace(self, beside: Path, body: bytes) -> None:
        """Write a sidecar, whole or not at all."""
        aside = self._staging / _SIDECAR
        for place in (aside, beside):
            place.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(body)
        os.replace(aside, beside)

    def _clear(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)

    def _hash_at(self, path: str) -> str | None:
        """The hash of a file; None if nothing is there."""
        place = self.folder / path
        return hashlib.sha256(place.read_bytes()).hexdigest() if os.path.lexists(place) else None

    def _require_alone(self, market: Market, own: set[str]) -> None:
        for home in sorted({path.rpartition("/")[0] for path in own}):
            for found in sorted((self.folder / home).glob("*.parquet")):
                if f"{home}/{found.name}" not in own:
                    raise FileInTheWayError(str(found), market.key, is_read_along=True)


def _entry(file: File) -> Document:
    return {
        "path": file.path,
        "sha256": hashlib.sha256(file.body).hexdigest(),
        "size": len(file.body),
        "rows": file.rows,
    }


def _known(beside: Path) -> dict[str, set[str]]:
    """The files that a sidecar names, with the hashes that an export left them with; of one that does not
    read, nothing is known.
    """
    known: dict[str, set[str]] = {}
    try:
        said: Mapping[str, Any] = json.loads(beside.read_bytes())
        for entry in said["files"]:
            path, value = str(entry["path"]), str(entry["sha256"])
            if ".." not in path.split("/") and not path.startswith("/"):
                known.setdefault(path, set()).add(value)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        return {}
    return known
