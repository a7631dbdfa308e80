"""Archive zips, opened with care: one CSV, stored or deflated, by the directory's own word and no larger than
that says.
"""

import io
import struct
import zipfile
import zlib

from isal import isal_zlib
from isal.igzip_lib import IsalError

from lakehouse.model.errors import ZipDamagedError, ZipMemberNameError, ZipMembersError, ZipTooLargeError

INFLATED_CAP = 64 << 20
"""Bytes of a CSV: a month of minutes has 8 MB at most; tables of ticks would need a bound of their own."""
# no published file has another, and those inflate a thousandfold again
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_MOST_MEMBERS, _MOST_DIRECTORY = 16, 1 << 16  # a CSV, and what a Mac leaves beside it
# bytes of a member's own header, of the end of the directory, and of a comment behind that
_LEAST_MEMBER, _END, _COMMENT = 30, 22, 1 << 16
# flags of a member: the content, or the directory; and that its name is UTF-8
_ENCRYPTED, _UTF8_NAME = 0x1 | 0x40 | 0x2000, 0x800
# What `zipfile` and the decompressor raise on bytes that are no sound zip; ValueError stands for offsets and
# names that make no sense, IndexError for a name that is empty.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    IsalError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    OverflowError,
    IndexError,
    struct.error,
)


def extract_csv(key: str, body: bytes, cap: int = INFLATED_CAP) -> bytes:
    """The one CSV of an archive zip, its CRC checked.

    Raises:
        ZipDamagedError: The zip does not open, does not inflate to what it says, fails its CRC, or is of a
            kind that no published file is: encrypted, zip64, compressed by another method, with members that
            overlap or a directory out of all proportion.
        ZipMembersError: Not exactly one CSV beside resource forks.
        ZipMemberNameError: The member is a path or another file's.
        ZipTooLargeError: It inflates beyond `cap`.
    """
    expected = key.rsplit("/", 1)[-1].removesuffix(".zip") + ".csv"
    try:
        start = _directory(body)
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            found = archive.infolist()
            _require_apart(found, start)
            members = [
                (_name(info), info)
                for info in found
                if not info.is_dir() and not info.filename.startswith("__MACOSX/")
            ]
            for name, _ in members:
                if "/" in name or "\\" in name or name.startswith(".."):
                    raise ZipMemberNameError(key, expected, name)
            tables = [(name, info) for name, info in members if name.lower().endswith(".csv")]
            if len(tables) != 1:
                raise ZipMembersError(key, [name for name, _ in members])
            ((name, member),) = tables
            if name != expected:
                raise ZipMemberNameError(key, expected, name)
            if member.flag_bits & _ENCRYPTED:
                raise zipfile.BadZipFile("it is encrypted")
            if member.compress_type not in _METHODS:
                raise zipfile.BadZipFile(
                    f"its member is compressed by method {member.compress_type}, neither stored nor deflated"
                )
            if member.file_size > cap:
                raise ZipTooLargeError(key, cap)
            return _inflate(archive, member, body)
    except _DAMAGE as error:  # type: ignore[misc]  # its stub says an instance
        raise ZipDamagedError(key, str(error)) from None


def _directory(body: bytes) -> int:
    """Where the directory begins; `zipfile` would read all of it, however large, and follow a zip64 one to
    anywhere.

    Raises:
        BadZipFile: There is none, or one that no published file has.
    """
    end = len(body) - _END
    # else it is the last one before a comment, as `zipfile` has it
    if body[end : end + 4] != b"PK\5\6" or body[-2:] != b"\0\0":
        end = body.rfind(b"PK\5\6", max(0, len(body) - _END - _COMMENT))
    if end < 0 or end + _END > len(body):
        raise zipfile.BadZipFile("File is not a zip file")
    disk, first_disk, here, count, size, offset = (
        int.from_bytes(body[end + at : end + at + width], "little")
        for at, width in ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4))
    )
    if (
        0xFFFF in (disk, first_disk, here, count)
        or 0xFFFFFFFF in (size, offset)
        or body[end - 20 : end - 16] == b"PK\6\7"
    ):
        raise zipfile.BadZipFile("it is a zip64, which no published file needs to be")
    if disk or first_disk or here != count:
        raise zipfile.BadZipFile("it is one of several parts")
    if count > _MOST_MEMBERS or size > _MOST_DIRECTORY:
        raise zipfile.BadZipFile(
            f"its directory has {count} members in {size:,} bytes, where {_MOST_MEMBERS} in "
            f"{_MOST_DIRECTORY:,} are the most there can be"
        )
    if offset + size != end:
        raise zipfile.BadZipFile("its directory does not lie where it says")
    return offset


def _require_apart(members: list[zipfile.ZipInfo], directory: int) -> None:
    """Refuse members that share bytes: one stream that counts for many is how a small zip becomes a large
    one.
    """
    ordered = sorted(members, key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in ordered), directory][1:]
    for member, follows in zip(ordered, ends, strict=True):
        if member.header_offset + _LEAST_MEMBER + member.compress_size > follows:
            raise zipfile.BadZipFile("its members overlap")


def _name(member: zipfile.ZipInfo) -> str:
    """A member's name. Info-ZIP writes UTF-8 and leaves the flag that says so clear; `zipfile` takes it for
    code page 437 then.
    """
    name = member.orig_filename  # whole: `filename` ends at a NUL
    if member.flag_bits & _UTF8_NAME:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _inflate(archive: zipfile.ZipFile, member: zipfile.ZipInfo, body: bytes) -> bytes:
    """A member's bytes, in half the time `zipfile` takes to inflate them, counted on the way; `zipfile` still
    checks the member's own header.
    """
    archive.open(member).close()
    name_and_extra = member.header_offset + 26
    start = (
        name_and_extra
        + 4
        + sum(int.from_bytes(body[at : at + 2], "little") for at in (name_and_extra, name_and_extra + 2))
    )
    packed = memoryview(body)[start : start + member.compress_size]
    if member.compress_type == zipfile.ZIP_STORED:
        csv, is_whole = bytes(packed), True
    else:
        inflater = isal_zlib.decompressobj(-zlib.MAX_WBITS)
        csv = inflater.decompress(packed, member.file_size + 1)
        is_whole = inflater.eof
    if len(csv) > member.file_size:
        raise zipfile.BadZipFile(
            f"it inflates to more than the {member.file_size} bytes that the directory says"
        )
    if not is_whole:
        raise EOFError("its data ends too early")
    if len(csv) != member.file_size:
        raise zipfile.BadZipFile(
            f"it inflates to {len(csv)} bytes where the directory says {member.file_size}"
        )
    if isal_zlib.crc32(csv) != member.CRC:
        raise zipfile.BadZipFile("its CRC-32 is wrong")
    return csv
