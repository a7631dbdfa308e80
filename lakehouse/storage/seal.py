"""Seals: what a Parquet file of the lake says of its own bytes, so that a changed bit is found before a value
is served.

A seal is 16 hexadecimal digits in the footer's key-value metadata: the CRC-32 of the footer, then that of
everything before it. The first guards who reads footers alone, both together guard the rows. The digits count
as zeros while the footer is summed up. A seal lies behind the rows, so no version changes with it. Parquet's
own page checksums are not used: Polars and DuckDB ignore them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from isal.isal_zlib import crc32

from lakehouse.model.errors import DamagedObjectError
from lakehouse.model.foreign_json import read_json

SEAL_KEY, HOLE = "lakehouse_seal", "0" * 16
PROOF_KEY = "lakehouse_made_with"
"""What entered the version beside the rows. A file that has it was sealed, so a seal that is not found has
been destroyed.
"""

# Thrift's headers of the key and of its value, which follows
_MARK = b"\x18\x0e" + SEAL_KEY.encode() + b"\x18\x10"
_ENDING = 8  # length of the footer, and the magic word
_MAGIC = b"PAR1"


def footer_size(tail: bytes) -> int:
    """The size of a Parquet footer with its ending, as the last bytes of the file say; 0 if they say none."""
    return (
        int.from_bytes(tail[-_ENDING:-4], "little") + _ENDING
        if len(tail) >= _ENDING and tail[-4:] == _MAGIC
        else 0
    )


def seal(body: bytes) -> bytes:
    """Fill in the seal of a file that was written with `HOLE` under `SEAL_KEY`."""
    start = len(body) - footer_size(body)
    at = body.rindex(_MARK, start) + len(_MARK)
    return (
        body[:at]
        + b"%08x%08x" % (crc32(memoryview(body)[start:]), crc32(memoryview(body)[:start]))
        + body[at + len(HOLE) :]
    )


def check_footer(path: str, tail: bytes) -> bool:
    """Hold a file's footer against its seal.

    Args:
        path: For the message.
        tail: The end of the file, at least the whole footer.

    Returns:
        Whether there is a seal. A file of an earlier release has none and is not checked.

    Raises:
        DamagedObjectError: The footer is not the one that was sealed.
    """
    return _check(path, tail, whole=False)


def check(path: str, body: bytes) -> bool:
    """Hold a whole file against its seal; as `check_footer`."""
    return _check(path, body, whole=True)


def _check(path: str, body: bytes, whole: bool) -> bool:
    start = len(body) - footer_size(body)
    view: Any = memoryview(body)
    at = body.rfind(_MARK)
    if at < 0:
        if body.find(PROOF_KEY.encode(), max(start, 0)) >= 0:
            raise DamagedObjectError(path, "its seal was destroyed")
        return False
    if not 0 <= start <= at:
        raise DamagedObjectError(path, "its footer is not where its last bytes say")
    at += len(_MARK)
    end = at + len(HOLE)
    footer = crc32(view[end:], crc32(HOLE.encode(), crc32(view[start:at])))
    said = body[at:end]
    if said[:8] != b"%08x" % footer:
        raise DamagedObjectError(path, "its footer is not the one that was sealed")
    if whole and said[8:] != b"%08x" % crc32(view[:start]):
        raise DamagedObjectError(path, "its rows are not those that were sealed")
    return True


def sealed_json(said: Mapping[str, object], indent: int | None = None) -> bytes:
    """A JSON object with its seal, as it is stored."""
    return json.dumps(dict(said) | {"seal": json_seal(said)}, indent=indent).encode()


def read_sealed_json(body: bytes, most: int = 1 << 26) -> dict[str, Any]:
    """The fields of a stored JSON object, without its seal.

    Args:
        body: The object.
        most: Bytes that it may have.

    Raises:
        ValueError, TypeError, AttributeError: It is not as it was written.
    """
    said: dict[str, Any] = read_json(body, most)
    if said.pop("seal", "") != json_seal(said):
        raise ValueError("what it says is not what was sealed")
    return said


def json_seal(said: Mapping[str, object]) -> str:
    """The seal of a JSON object over its other fields, whatever their order."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
