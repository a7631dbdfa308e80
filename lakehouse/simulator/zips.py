"""Zips whose size is known before their content."""

from datetime import datetime
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_PER_FILE, _PER_ROW = 1_024, 80
_LOCAL_HEADER, _CENTRAL_HEADER, _END_RECORD = 30, 46, 22


def padded_size(rows: int) -> int:
    """Size of the zip of a kline file: more than any such file deflates to."""
    return _PER_FILE + _PER_ROW * rows


def padded_zip(name: str, content: bytes, written: datetime, size: int) -> bytes:
    """A zip of one member, filled up to `size` bytes between the member and the central directory.

    A listing states sizes. Were they the deflated ones, listing a folder would mean generating every file in
    it.
    """
    buffer = BytesIO()
    member = ZipInfo(
        name,
        date_time=(written.year, written.month, written.day, written.hour, written.minute, written.second),
    )
    member.compress_type = ZIP_DEFLATED
    with ZipFile(buffer, "w") as archive:
        archive.writestr(member, content, compresslevel=1)
        archive.start_dir = size - _CENTRAL_HEADER - len(name) - _END_RECORD
    body = buffer.getvalue()
    if len(body) != size:
        raise AssertionError(f"{name} deflates to more than the {size} bytes stated for it")
    return body


def damaged_zip(body: bytes) -> bytes:
    """The same zip with sixteen bytes inverted in the middle of its first member's deflate stream."""
    name_length, extra_length = (int.from_bytes(body[at : at + 2], "little") for at in (26, 28))
    stream = _LOCAL_HEADER + name_length + extra_length
    with ZipFile(BytesIO(body)) as archive:
        middle = stream + archive.infolist()[0].compress_size // 2
    return body[:middle] + bytes(byte ^ 0xFF for byte in body[middle : middle + 16]) + body[middle + 16 :]
