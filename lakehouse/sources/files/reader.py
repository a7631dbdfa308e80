"""Archive files, verified: fetched once, checked against their CHECKSUM, opened with care, parsed, and kept
in landing.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lakehouse.exchanges.exchange import Exchange, period_range
from lakehouse.model.errors import (
    ArchiveFileError,
    ChecksumFormatError,
    ChecksumMismatchError,
    ChecksumMissingError,
    ChecksumNameError,
    ListedTooLargeError,
    NotInLandingError,
    NotTheFileError,
    OtherVersionError,
    RowsOutsidePeriodError,
)
from lakehouse.model.result import Problem
from lakehouse.model.table import UTC_TIME
from lakehouse.sources.files.listing import MarketListing, version_state
from lakehouse.sources.files.transport import MOST_CHECKSUM, MOST_ZIPPED, Answer, ArchiveClient, Batch, Listed
from lakehouse.sources.files.zips import extract_csv
from lakehouse.storage.landing import Landing, Outcome, Receipt

_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")  # with a member, and without one
_UNTOLD = "untold"  # in place of an ETag that did not come with an answer: no listed version has it
# of text that ends in no space: so it takes one pass, whatever the text
_CHECKSUM_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")


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


class ArchiveReader:
    """Reads files of one exchange for one bronze table. A context manager: fetches in flight end with it.

    Args:
        exchange: The exchange.
        table: Name of the bronze table.
        landing: Where fetched files are kept.
        clock: Tells the current instant; stamps receipts.
        offline: Fetch nothing: a file that landing does not have is a `NotInLandingError`.
    """

    def __init__(
        self,
        exchange: Exchange,
        table: str,
        landing: Landing,
        clock: Callable[[], datetime],
        offline: bool = False,
    ) -> None:
        self._exchange = exchange
        self._table = table
        self._landing = landing
        self._clock = clock
        self._offline = offline
        self._client = ArchiveClient(exchange.archive_url, exchange.bucket)
        self._receipts: dict[str, dict[str, list[str]]] = {}
        self._standing: dict[str, Receipt] = {}  # what stands for a key in this run
        self._batches: list[Batch] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "ArchiveReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def receipt(self, listing: MarketListing, period: str) -> Receipt | None:
        """The receipt that stands for a file: of the version that is listed now, or of what was answered in
        its place in this run; None if there is none.
        """
        key = listing.files[period].key
        if key not in self._standing and (
            found := self._landing.find(self._paths(key), listing.state(period))
        ):
            self._standing[key] = found
        return self._standing.get(key)

    def state(self, listing: MarketListing, period: str) -> str:
        """The version of a file that was read: the listed one, or what was answered in its place."""
        receipt = self._standing.get(listing.files[period].key)
        return receipt.state if receipt else listing.state(period)

    def notes(self, listing: MarketListing, period: str, day: str) -> list[Problem]:
        """What is to be said of a file after it was read: that another version than the listed one is served.

        Args:
            listing: What is listed.
            period: Which file.
            day: The day that the note is about, if any.
        """
        served, listed = self.state(listing, period), listing.state(period)
        if served == listed:
            return []
        why = f"listed is version {listed}, what is served is no newer than {served}: a cache in between may hold it for a while, the next build asks again"
        return [Problem(listing.files[period].key, "stale", why, day=day)]

    def versions(
        self, listing: MarketListing, period: str, before: Receipt | None
    ) -> Iterator[tuple[Receipt, ArchiveRows | None]]:
        """The usable versions of a file that landing was given, oldest first, listed now or not; nothing is
        fetched.

        Args:
            listing: Of the market.
            period: Which file.
            before: Of the version that ends the search; all if None.

        Yields:
            Each version's receipt and rows; None for the rows of one that landing no longer has, or that
            cannot be trusted any more.
        """
        key = self._exchange.archive_key(self._table, listing.market, period)
        paths = self._paths(key)
        if before is not None and len(paths) == 1 and key not in self._standing:
            return  # it is that one
        for receipt in self._landing.history(paths):
            if receipt.outcome != "ok" or (before is not None and receipt.fetched_at >= before.fetched_at):
                continue
            rows, body = None, self._landing.body(receipt)
            if body is not None:
                with contextlib.suppress(ArchiveFileError):
                    rows = self._open(listing, period, receipt, body)
            yield receipt, rows

    def _paths(self, key: str) -> list[str]:
        """Where the receipts of a key lie, as they did when its folder was first looked at."""
        prefix = key.rsplit("/", 1)[0]
        if prefix not in self._receipts:
            self._receipts[prefix] = self._landing.receipts(prefix)
        return self._receipts[prefix].get(key, [])

    def prefetch(self, wanted: Iterable[tuple[MarketListing, str]]) -> None:
        """Start to fetch all files that landing does not have, in one batch."""
        keys: list[Listed] = []
        for listing, period in wanted:
            if (
                self.receipt(listing, period) is None
                and self._batch_with(listing.files[period].key) is None
                and _too_large(listing, period) is None
            ):
                keys += _listed(listing, period)
        if keys:
            self._fetch(keys)

    def read(self, listing: MarketListing, period: str) -> ArchiveRows:
        """The rows of a file, from landing if it is there.

        Where something else is answered than is listed, it is kept as what it is, if it is news; else what
        was fetched before is read. `state` says which.

        Raises:
            FetchError: It could not be fetched, or something else came in its place; nothing is recorded.
            NotInLandingError: It would have to be fetched, and this reader is offline.
            ArchiveFileError: It was fetched and cannot be trusted; the receipt says so too.
        """
        receipt = self.receipt(listing, period)
        if receipt is None:
            return self._admit(listing, period)
        if receipt.outcome == "mismatch":
            raise _recorded(receipt)
        body = self._landing.body(receipt)
        return (
            self._open(listing, period, receipt, body) if body is not None else self._admit(listing, period)
        )

    def _fetch(self, files: list[Listed], by_http: bool = False) -> Batch:
        if self._offline:
            raise NotInLandingError(files[0].key, "landing does not have the bytes that were published")
        self._batches.append(
            self._stack.enter_context(
                Batch(
                    self._client,
                    [file.key for file in files],
                    by_http,
                    {file.key: file.size for file in files},
                )
            )
        )
        return self._batches[-1]

    def _batch_with(self, key: str) -> Batch | None:
        return next((batch for batch in self._batches if key in batch), None)

    def _admit(self, listing: MarketListing, period: str) -> ArchiveRows:
        file, checksum = listing.files[period], listing.checksums.get(period)
        if (too_large := _too_large(listing, period)) is not None and not self._offline:
            raise ListedTooLargeError(file.key, *too_large)
        batch = self._batch_with(file.key) or self._fetch(_listed(listing, period))
        answer = batch.wait(file.key)
        beside = batch.wait(checksum.key) if checksum else Answer(b"", "")
        published, sha256 = beside.body.decode("utf-8", "replace"), hashlib.sha256(answer.body).hexdigest()
        vouched = (
            answer.etag is None
            and checksum is not None
            and _vouches(checksum, beside, file, answer.body, sha256)
        )
        if answer.etag is None and not vouched and not _is_listed(file, answer):
            # once more, by the way that tells which version it is
            answer = self._fetch([file], by_http=True).wait(file.key)
            sha256 = hashlib.sha256(answer.body).hexdigest()
        is_listed = vouched or _is_listed(file, answer)
        _require_file(
            file,
            answer,
            is_listed,
            answer.body.startswith(_ZIP_BEGINS) or published.lower().startswith(sha256),
            "a zip",
        )
        etag = file.etag if is_listed else answer.etag or _UNTOLD
        of_checksum = None
        if checksum:
            is_its = _is_listed(checksum, beside)
            _require_file(
                checksum, beside, is_its, _checksum(published) is not None, "a line of digest and name"
            )
            of_checksum = checksum.etag if is_its else beside.etag or _UNTOLD
        state = version_state(etag, len(answer.body), of_checksum)
        modified = file.last_modified if is_listed else answer.last_modified or file.last_modified
        held = self._held(file.key) if state != listing.state(period) else None
        if held is not None and held.state != state and modified <= held.last_modified:
            return self._stay(listing, period, held, state)

        def receipt(outcome: Outcome, message: str = "") -> Receipt:
            return Receipt(
                file.key,
                self._client.object_url(file.key),
                state,
                sha256,
                published,
                modified,
                self._clock(),
                outcome,
                message,
            )

        try:
            verify_checksum(file.key, published if checksum else None, sha256)
            rows = self._open(listing, period, receipt("ok"), answer.body)
        except ArchiveFileError as error:
            outcome: Outcome = "mismatch" if error.outcome == "mismatch" else "corrupt"
            # one of the two is not yet what is listed
            if outcome == "mismatch" and held is not None and held.state != state:
                return self._stay(listing, period, held, state)
            self._standing[file.key] = self._landing.admit(receipt(outcome, str(error)), answer.body)
            raise
        admitted = self._standing[file.key] = self._landing.admit(rows.receipt, answer.body)
        return ArchiveRows(
            rows.frame.with_columns(fetched_at=pl.lit(admitted.fetched_at).cast(UTC_TIME)),
            rows.duplicate_count,
            admitted,
        )

    def _held(self, key: str) -> Receipt | None:
        """The newest receipt of a key, if its file can be used."""
        newest = next(reversed(self._landing.history(self._paths(key))), None)
        return newest if newest is not None and newest.outcome == "ok" else None

    def _stay(self, listing: MarketListing, period: str, held: Receipt, served: str) -> ArchiveRows:
        """The rows of what was fetched before, where nothing newer is served."""
        body = self._landing.body(held)
        if body is None:
            raise OtherVersionError(held.key, listing.state(period), served)
        self._standing[held.key] = held
        return self._open(listing, period, held, body)

    def _open(self, listing: MarketListing, period: str, receipt: Receipt, body: bytes) -> ArchiveRows:
        key = receipt.key
        frame = self._exchange.parse(self._table, listing.market, key, extract_csv(key, body))
        check_period(key, period, frame)
        repeated = frame.height - frame.n_unique() if frame["open_time"].n_unique() < frame.height else 0
        if repeated:
            frame = frame.unique(keep="first", maintain_order=True)
        lineage = frame.with_columns(
            source=pl.lit(source_of(period)),
            source_file=pl.lit(key),
            source_sha256=pl.lit(receipt.sha256),
            fetched_at=pl.lit(receipt.fetched_at).cast(UTC_TIME),
            is_removed=pl.lit(False),
        )
        return ArchiveRows(lineage, repeated, receipt)


def source_of(period: str) -> str:
    """The kind of source that the file of a period is, as rows name it."""
    return "monthly" if len(period) == 7 else "daily"


def _listed(listing: MarketListing, period: str) -> list[Listed]:
    """What is fetched for a file: its zip, and its CHECKSUM where one is published."""
    checksum = listing.checksums.get(period)
    return [listing.files[period]] + ([checksum] if checksum else [])


def _too_large(listing: MarketListing, period: str) -> tuple[str, int, int] | None:
    """Name, size and bound of what is not even asked for, by the size it is listed with."""
    found = [
        (listed, MOST_CHECKSUM if listed is listing.checksums.get(period) else MOST_ZIPPED)
        for listed in _listed(listing, period)
    ]
    return next(
        ((listed.key.rsplit("/", 1)[-1], listed.size, most) for listed, most in found if listed.size > most),
        None,
    )


def _checksum(text: str) -> tuple[str, str] | None:
    """Digest and name that a CHECKSUM states; None if it is none."""
    found = _CHECKSUM_LINE.fullmatch(text.rstrip())
    return (found[1].lower(), found[2]) if found else None


def _is_listed(listed: Listed, answer: Answer) -> bool:
    """Whether an answer is of the listed version: by its ETag, or by its MD5, which is the ETag of what was
    uploaded in one part and not encrypted.
    """
    return (
        answer.etag == listed.etag
        or hashlib.md5(answer.body, usedforsecurity=False).hexdigest() == listed.etag
    )


def _vouches(checksum: Listed, beside: Answer, file: Listed, body: bytes, sha256: str) -> bool:
    """Whether a CHECKSUM proves that bytes are those of the listed zip: it is the listed one itself, no older
    than the zip, and names their hash.
    """
    found = _checksum(beside.body.decode("utf-8", "replace"))
    names = found is not None and found[0] == sha256 and len(body) == file.size
    return names and beside.etag == checksum.etag and checksum.last_modified >= file.last_modified


def _require_file(listed: Listed, answer: Answer, is_listed: bool, is_like_it: bool, kind: str) -> None:
    """Refuse bytes that can be no version of a file.

    Those of another version have an ETag of their own and are of the kind. Without one they must have the
    listed size too. Bytes of the listed version that are not of the kind are refused unless their MD5 proves
    them.

    Raises:
        NotTheFileError: As said.
    """
    has_size = len(answer.body) == listed.size
    is_proven = (
        hashlib.md5(answer.body, usedforsecurity=False).hexdigest() == listed.etag
        if not is_like_it
        else False
    )
    if not (has_size or (answer.etag and not is_listed)) or not (is_like_it or is_proven):
        raise NotTheFileError(listed.key, f"{kind} of {listed.size:,} bytes", answer.body)


def _recorded(receipt: Receipt) -> ArchiveFileError:
    """The error a receipt recorded, without fetching the file again."""
    error = ArchiveFileError(receipt.key, receipt.message.removeprefix(f"{receipt.key}: "))
    error.outcome = receipt.outcome
    return error


def verify_checksum(key: str, published: str | None, sha256: str) -> None:
    """Compare a file's hash and name with its CHECKSUM.

    Args:
        key: The file's key.
        published: Text of the CHECKSUM file, or None if there is none.
        sha256: Hash of the bytes received.

    Raises:
        ChecksumMissingError: There is none.
        ChecksumFormatError: It is not one line of digest and name.
        ChecksumNameError: It names another file.
        ChecksumMismatchError: The digest differs.
    """
    if published is None:
        raise ChecksumMissingError(key)
    found = _checksum(published)
    if found is None:
        raise ChecksumFormatError(key, published)
    digest, names = found
    name = key.rsplit("/", 1)[-1]
    if names != name:
        raise ChecksumNameError(key, name, names)
    if digest != sha256:
        raise ChecksumMismatchError(key, digest, sha256)


def check_period(key: str, period: str, frame: pl.DataFrame) -> None:
    """Refuse a file with rows outside the period in its name.

    Raises:
        RowsOutsidePeriodError: There are such rows.
    """
    if not frame.height:
        return
    window = period_range(period)
    first, last = frame["open_time"].min(), frame["open_time"].max()
    if first < window.start or last >= window.end:  # type: ignore[operator]
        outside = frame.filter(~pl.col("open_time").is_between(window.start, window.end, closed="left"))[
            "open_time"
        ]
        raise RowsOutsidePeriodError(key, period, outside.len(), str(outside[0]))
