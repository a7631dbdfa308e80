"""What proves that bytes are a file of the archive: its listing, its CHECKSUM, and the period in its name."""

import hashlib
import re

import polars as pl

from lakehouse.model.errors import (
    ChecksumFormatError,
    ChecksumMismatchError,
    ChecksumMissingError,
    ChecksumNameError,
    NotTheFileError,
    RowsOutsidePeriodError,
)
from lakehouse.model.period import Period
from lakehouse.sources.files.batch import Answer
from lakehouse.sources.files.transport import Listed

# of text that ends in no space: so it takes one pass, whatever the text
_CHECKSUM_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")


def checksum_of(text: str) -> tuple[str, str] | None:
    """Digest and name that a CHECKSUM states; None if it is none."""
    found = _CHECKSUM_LINE.fullmatch(text.rstrip())
    return (found[1].lower(), found[2]) if found else None


def is_listed_version(listed: Listed, answer: Answer) -> bool:
    """Whether an answer is of the listed version: by its ETag, or by its MD5, which is the ETag of what was
    uploaded in one part and not encrypted.
    """
    return (
        answer.etag == listed.etag
        or hashlib.md5(answer.body, usedforsecurity=False).hexdigest() == listed.etag
    )


def vouches(checksum: Listed, beside: Answer, file: Listed, answer: Answer, sha256: str) -> bool:
    """Whether a CHECKSUM proves that an answer is the listed zip: it is the listed one itself, no older
    than the zip, and names their hash.
    """
    found = checksum_of(beside.body.decode("utf-8", "replace"))
    names = found is not None and found[0] == sha256 and len(answer.body) == file.size
    return names and beside.etag == checksum.etag and checksum.last_modified >= file.last_modified


def require_file(listed: Listed, answer: Answer, is_listed: bool, is_like_it: bool, kind: str) -> None:
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
    found = checksum_of(published)
    if found is None:
        raise ChecksumFormatError(key, published)
    digest, names = found
    name = key.rsplit("/", 1)[-1]
    if names != name:
        raise ChecksumNameError(key, name, names)
    if digest != sha256:
        raise ChecksumMismatchError(key, digest, sha256)


def check_period(key: str, period: Period, frame: pl.DataFrame, time: str) -> None:
    """Refuse a file with rows outside the period in its name.

    Args:
        key: The file's key, for messages.
        period: Its period.
        frame: Its rows.
        time: The column that places a row.

    Raises:
        RowsOutsidePeriodError: There are such rows.
    """
    if not frame.height:
        return
    window, times = period.window, frame[time]
    if times.min() < window.start or times.max() >= window.end:  # type: ignore[operator]
        outside = times.filter(~times.is_between(window.start, window.end, closed="left"))
        raise RowsOutsidePeriodError(key, period.text, outside.len(), str(outside[0]))
