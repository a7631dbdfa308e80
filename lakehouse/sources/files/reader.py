"""Archive files, verified: fetched once, checked against their CHECKSUM, opened with care, parsed, and kept
in landing.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import (
    ArchiveFileError,
    ListedTooLargeError,
    NotInLandingError,
    OtherVersionError,
)
from lakehouse.model.period import PeriodKind
from lakehouse.model.result import Problem
from lakehouse.model.table import UTC_TIME, Table
from lakehouse.sources.files.batch import MOST_CHECKSUM, MOST_ZIPPED, Answer, Batch
from lakehouse.sources.files.listing import ArchiveFile, version_state
from lakehouse.sources.files.proofs import (
    check_period,
    checksum_of,
    is_listed_version,
    require_file,
    verify_checksum,
    vouches,
)
from lakehouse.sources.files.transport import ArchiveClient, Listed
from lakehouse.sources.files.zips import extract_csv
from lakehouse.storage.landing import Landing, Outcome, Receipt

_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")  # with a member, and without one
_UNTOLD = "untold"  # in place of an ETag that did not come with an answer: no listed version has it


@dataclass(frozen=True, slots=True)
class ArchiveRows:
    """The rows of one verified file.

    Attributes:
        frame: Bronze columns with lineage, exact duplicates removed.
        duplicate_count: How many were removed.
        receipt: Of the file.
    """

    frame: pl.DataFrame
    duplicate_count: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What was answered for a file.

    Attributes:
        body: The zip.
        published: Text of the CHECKSUM; None if there is none.
        sha256: Hash of the zip.
        state: The version that was answered.
        modified: When that was published.
    """

    body: bytes
    published: str | None
    sha256: str
    state: str
    modified: datetime


class ArchiveReader:
    """Reads files of one exchange for one bronze table. A context manager: fetches in flight end with it.

    Args:
        exchange: The exchange.
        table: The bronze table.
        landing: Where fetched files are kept.
        clock: Tells the current instant; stamps receipts.
        offline: Fetch nothing: a file that landing does not have is a `NotInLandingError`.
    """

    def __init__(
        self,
        exchange: Exchange,
        table: type[Table],
        landing: Landing,
        clock: Callable[[], datetime],
        offline: bool = False,
    ) -> None:
        self._files = exchange.files[table.name]
        self._time = table.time
        self._landing = landing
        self._clock = clock
        self._offline = offline
        self._client = ArchiveClient.of(exchange)
        self._receipts: dict[str, dict[str, list[str]]] = {}
        self._standing: dict[str, Receipt] = {}  # what stands for a key in this run
        self._batches: list[Batch] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "ArchiveReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- what is known of a file ------------------------------------------------------------------

    def receipt(self, file: ArchiveFile) -> Receipt | None:
        """The receipt that stands for a file: of the version that is listed now, or of what was answered in
        its place in this run; None if there is none.
        """
        key = file.key
        if key not in self._standing and (found := self._landing.find(self._paths(key), file.state)):
            self._standing[key] = found
        return self._standing.get(key)

    def state(self, file: ArchiveFile) -> str:
        """The version of a file that was read: the listed one, or what was answered in its place."""
        receipt = self._standing.get(file.key)
        return receipt.state if receipt else file.state

    def notes(self, file: ArchiveFile, day: str) -> list[Problem]:
        """What is to be said of a file after it was read: that another version than the listed one is served.

        Args:
            file: The file.
            day: The day that the note is about, if any.
        """
        served = self.state(file)
        if served == file.state:
            return []
        why = (
            f"listed is version {file.state}, what is served is no newer than {served}: a cache in between "
            "may "
            "hold it for a while, the next build asks again"
        )
        return [Problem(file.key, "stale", why, day=day)]

    def versions(
        self, file: ArchiveFile, before: Receipt | None
    ) -> Iterator[tuple[Receipt, ArchiveRows | None]]:
        """The usable versions of a file that landing was given, oldest first, listed now or not; nothing is
        fetched.

        Args:
            file: The file.
            before: Of the version that ends the search; all if None.

        Yields:
            Each version's receipt and rows; None for the rows of one that landing no longer has, or that
            cannot be trusted any more.
        """
        key = self._files.key(file.market, file.period)  # it may not be listed
        paths = self._paths(key)
        if before is not None and len(paths) == 1 and key not in self._standing:
            return  # it is that one
        for receipt in self._landing.history(paths):
            if receipt.outcome != "ok" or (before is not None and receipt.fetched_at >= before.fetched_at):
                continue
            rows, body = None, self._landing.body(receipt)
            if body is not None:
                with contextlib.suppress(ArchiveFileError):
                    rows = self._open(file, receipt, body)
            yield receipt, rows

    # --- reading ----------------------------------------------------------------------------------

    def prefetch(self, wanted: Iterable[ArchiveFile]) -> None:
        """Start to fetch all files that landing does not have, in one batch."""
        parts = [
            part
            for file in wanted
            if self.receipt(file) is None and not self._batch_with(file.key) and not _too_large(file)
            for part in file.parts
        ]
        if parts:
            self._fetch(parts)

    def read(self, file: ArchiveFile) -> ArchiveRows:
        """The rows of a file, from landing if it is there.

        Where something else is answered than is listed, it is kept as what it is, if it is news; else what
        was fetched before is read. `state` says which.

        Raises:
            FetchError: It could not be fetched, or something else came in its place; nothing is recorded.
            NotInLandingError: It would have to be fetched, and this reader is offline.
            ArchiveFileError: It was fetched and cannot be trusted; the receipt says so too.
        """
        receipt = self.receipt(file)
        if receipt is not None and receipt.outcome == "mismatch":
            raise _recorded(receipt)
        body = self._landing.body(receipt) if receipt is not None else None
        if receipt is None or body is None:
            return self._admit(file, self._answered(file))
        return self._open(file, receipt, body)

    def _answered(self, file: ArchiveFile) -> _Fetched:
        """Fetch a file with its CHECKSUM, and tell which version came."""
        listed, checksum = file.listed, file.checksum
        if (too_large := _too_large(file)) and not self._offline:
            raise ListedTooLargeError(file.key, *too_large)
        batch = self._batch_with(file.key) or self._fetch(file.parts)
        answer = batch.wait(file.key)
        beside = batch.wait(checksum.key) if checksum else Answer(b"", "")
        published, sha256 = beside.body.decode("utf-8", "replace"), _sha256(answer)
        is_untold = answer.etag is None  # by the way that does not tell ETags
        vouched = is_untold and checksum is not None and vouches(checksum, beside, listed, answer, sha256)
        if is_untold and not vouched and not is_listed_version(listed, answer):
            # once more, by the way that tells which version it is
            answer = self._fetch([listed], by_http=True).wait(file.key)
            sha256 = _sha256(answer)
        is_listed = vouched or is_listed_version(listed, answer)
        is_zip = answer.body.startswith(_ZIP_BEGINS) or published.lower().startswith(sha256)
        require_file(listed, answer, is_listed, is_zip, "a zip")
        etag_beside = None
        if checksum:
            is_its, is_line = is_listed_version(checksum, beside), checksum_of(published) is not None
            require_file(checksum, beside, is_its, is_line, "a line of digest and name")
            etag_beside = checksum.etag if is_its else beside.etag or _UNTOLD
        etag = listed.etag if is_listed else answer.etag or _UNTOLD
        return _Fetched(
            answer.body,
            published if checksum else None,
            sha256,
            version_state(etag, len(answer.body), etag_beside),
            listed.last_modified if is_listed else answer.last_modified or listed.last_modified,
        )

    def _admit(self, file: ArchiveFile, fetched: _Fetched) -> ArchiveRows:
        """The rows of what was fetched, which is kept in landing; of what was there before, where that is no
        older.
        """
        held = self._held(file.key) if fetched.state != file.state else None
        stays = held if held is not None and held.state != fetched.state else None
        if stays is not None and fetched.modified <= stays.last_modified:
            return self._stay(file, stays, fetched.state)

        def receipt(outcome: Outcome, message: str = "") -> Receipt:
            return Receipt(
                file.key,
                self._client.object_url(file.key),
                fetched.state,
                fetched.sha256,
                fetched.published or "",
                fetched.modified,
                self._clock(),
                outcome,
                message,
            )

        try:
            verify_checksum(file.key, fetched.published, fetched.sha256)
            rows = self._open(file, receipt("ok"), fetched.body)
        except ArchiveFileError as error:
            outcome: Outcome = "mismatch" if error.outcome == "mismatch" else "corrupt"
            if outcome == "mismatch" and stays is not None:  # one of the two is not yet what is listed
                return self._stay(file, stays, fetched.state)
            self._standing[file.key] = self._landing.admit(receipt(outcome, str(error)), fetched.body)
            raise
        admitted = self._standing[file.key] = self._landing.admit(rows.receipt, fetched.body)
        frame = rows.frame.with_columns(fetched_at=pl.lit(admitted.fetched_at).cast(UTC_TIME))
        return ArchiveRows(frame, rows.duplicate_count, admitted)

    def _stay(self, file: ArchiveFile, held: Receipt, served: str) -> ArchiveRows:
        """The rows of what was fetched before, where nothing newer is served."""
        body = self._landing.body(held)
        if body is None:
            raise OtherVersionError(held.key, file.state, served)
        self._standing[held.key] = held
        return self._open(file, held, body)

    def _open(self, file: ArchiveFile, receipt: Receipt, body: bytes) -> ArchiveRows:
        """The rows of a zip, with their lineage."""
        key, time = receipt.key, self._time
        frame = self._files.parse(file.market, key, extract_csv(key, body))
        check_period(key, file.period, frame, time)
        repeated = frame.height - frame.n_unique() if frame[time].n_unique() < frame.height else 0
        if repeated:
            frame = frame.unique(keep="first", maintain_order=True)
        lineage = frame.with_columns(
            source=pl.lit(SOURCES[file.period.kind]),
            source_file=pl.lit(key),
            source_sha256=pl.lit(receipt.sha256),
            fetched_at=pl.lit(receipt.fetched_at).cast(UTC_TIME),
            is_removed=pl.lit(False),
        )
        return ArchiveRows(lineage, repeated, receipt)

    # --- landing and transport --------------------------------------------------------------------

    def _paths(self, key: str) -> list[str]:
        """Where the receipts of a key lie, as they did when its folder was first looked at."""
        prefix = key.rsplit("/", 1)[0]
        if prefix not in self._receipts:
            self._receipts[prefix] = self._landing.receipts(prefix)
        return self._receipts[prefix].get(key, [])

    def _held(self, key: str) -> Receipt | None:
        """The newest receipt of a key, if its file can be used."""
        newest = next(reversed(self._landing.history(self._paths(key))), None)
        return newest if newest is not None and newest.outcome == "ok" else None

    def _fetch(self, parts: list[Listed], by_http: bool = False) -> Batch:
        """Start to fetch zips and CHECKSUMs."""
        if self._offline:
            raise NotInLandingError(parts[0].key, "landing does not have the bytes that were published")
        sizes = {part.key: part.size for part in parts}
        batch = self._stack.enter_context(Batch(self._client, list(sizes), by_http, sizes))
        self._batches.append(batch)
        return batch

    def _batch_with(self, key: str) -> Batch | None:
        return next((batch for batch in self._batches if key in batch), None)


SOURCES: Mapping[PeriodKind, str] = {"month": "monthly", "day": "daily"}
"""The kinds of source that files are, as rows name them."""


def _sha256(answer: Answer) -> str:
    return hashlib.sha256(answer.body).hexdigest()


def _too_large(file: ArchiveFile) -> tuple[str, int, int] | None:
    """Name, size and bound of what is not even asked for, by the size it is listed with."""
    for part, most in zip(file.parts, (MOST_ZIPPED, MOST_CHECKSUM), strict=False):
        if part.size > most:
            return part.key.rsplit("/", 1)[-1], part.size, most
    return None


def _recorded(receipt: Receipt) -> ArchiveFileError:
    """The error a receipt recorded, without fetching the file again."""
    error = ArchiveFileError(receipt.key, receipt.message.removeprefix(f"{receipt.key}: "))
    error.outcome = receipt.outcome
    return error
