"""Before a byte of a file is believed: its checksum, its zip, its one member, its period."""

import base64
import hashlib
import io
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.exchanges.binance.klines import parse_klines
from lakehouse.model.errors import (
    ArchiveFileError,
    ChecksumFormatError,
    ChecksumMismatchError,
    ChecksumMissingError,
    ChecksumNameError,
    RowsOutsidePeriodError,
    ZipDamagedError,
    ZipMemberNameError,
    ZipMembersError,
    ZipTooLargeError,
)
from lakehouse.model.period import Period
from lakehouse.sources.files.proofs import check_period, verify_checksum
from lakehouse.sources.files.zips import extract_csv
from lakehouse_tests.making import HEADER, klines, text, zipped

KEY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-02-05.zip"
NAME = "BTCUSDT-1m-2024-02-05.csv"
CSV = text(klines("2024-02-05", 30))
SHA = hashlib.sha256(CSV).hexdigest()
ZIP_NAME = NAME.replace(".csv", ".zip")


# --- CHECKSUM -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "published",
    [
        f"{SHA}  {ZIP_NAME}\n",
        f"{SHA}  {ZIP_NAME}",
        f"{SHA.upper()}  {ZIP_NAME}\n",
        f"{SHA} *{ZIP_NAME}\r\n",
        f"{SHA}\t{ZIP_NAME}\n",
    ],
)
def test_a_checksum_in_every_form_that_was_published_is_accepted(published: str) -> None:
    verify_checksum(KEY, published, SHA)


@pytest.mark.parametrize(
    ("published", "error"),
    [
        (None, ChecksumMissingError),
        ("", ChecksumFormatError),
        (SHA, ChecksumFormatError),
        (f"{SHA[:-1]}  {ZIP_NAME}", ChecksumFormatError),
        (f"{SHA}0  {ZIP_NAME}", ChecksumFormatError),
        (f"{SHA}{ZIP_NAME}", ChecksumFormatError),
        (f"{SHA[:-1]}g  {ZIP_NAME}", ChecksumFormatError),
        ("<Error><Code>NoSuchKey</Code></Error>", ChecksumFormatError),
        (f"{SHA}  {ZIP_NAME}\n{SHA}  {ZIP_NAME}\n", ChecksumFormatError),
        (f"{SHA}  BTCUSDT-1m-2024-02-06.zip\n", ChecksumNameError),
        (f"{SHA}  {KEY}\n", ChecksumNameError),
        (f"{SHA}  {ZIP_NAME} \n.zip", ChecksumFormatError),
        (f"{'0' * 64}  {ZIP_NAME}\n", ChecksumMismatchError),
    ],
)
def test_any_other_checksum_is_refused_as_a_mismatch(
    published: str | None, error: type[ArchiveFileError]
) -> None:
    with pytest.raises(error, match=f"^{KEY}: ") as told:
        verify_checksum(KEY, published, SHA)
    assert told.value.outcome == "mismatch"


# bzip2 of 3.1 GB of zeros: 2,194 bytes, and these again pressed into a line.
_ZEROS = b"c-nJ{%CIzaj8qGb<l}sFpE17Af#CoH1BU{GL4&WG(*o6%Tn*Dl<wxa5<wxa5<wxa5<wxboljodZHiu#F<O3W)c>%DBGn}h3TQ!<)t@2XX6MItRp_60z+FdgMKP{IQ"


def bzip2_bomb(claims: int) -> bytes:
    """A zip of it, whose directory says that it inflates to so many bytes."""
    made = bytearray(
        zipped((NAME, zlib.decompress(base64.b85decode(_ZEROS))), compression=zipfile.ZIP_STORED)
    )
    place = made.rindex(b"PK\x01\x02")
    for method, size in ((8, 22), (place + 10, place + 24)):
        struct.pack_into("<H", made, method, zipfile.ZIP_BZIP2)
        struct.pack_into("<I", made, size, claims)
    return bytes(made)


# --- zip ------------------------------------------------------------------------------------------


def lying(size: int, central: bool = True, body: bytes | None = None) -> bytes:
    """A zip whose directory, or member header, states another inflated size."""
    made = bytearray(body or zipped((NAME, CSV)))
    at = made.rindex(b"PK\x01\x02") + 24 if central else 22
    made[at : at + 4] = struct.pack("<I", size)
    return bytes(made)


BOMB = zipped((NAME, bytes(2_000_000)))
REFUSED: dict[str, tuple[bytes, type[ArchiveFileError]]] = {
    "two_csv_members": (zipped((NAME, CSV), ("other.csv", CSV)), ZipMembersError),
    "the_same_member_twice": (zipped((NAME, CSV), ("readme.txt", b""), (NAME.upper(), CSV)), ZipMembersError),
    "no_member": (zipped(), ZipMembersError),
    "no_csv": (zipped(("readme.txt", b"hello")), ZipMembersError),
    "only_a_resource_fork": (zipped((f"__MACOSX/._{NAME}", CSV)), ZipMembersError),
    "a_path_upwards": (zipped((f"../{NAME}", CSV)), ZipMemberNameError),
    "an_absolute_path": (zipped((f"/{NAME}", CSV)), ZipMemberNameError),
    "a_folder": (zipped((f"folder/{NAME}", CSV)), ZipMemberNameError),
    "a_windows_path": (zipped((f"..\\{NAME}", CSV)), ZipMemberNameError),
    "a_path_beside_the_csv": (zipped((NAME, CSV), ("../evil.txt", b"")), ZipMemberNameError),
    "another_files_csv": (zipped(("BTCUSDT-1m-2024-02-06.csv", CSV)), ZipMemberNameError),
    "another_case": (zipped((NAME.upper(), CSV)), ZipMemberNameError),
    "not_a_zip": (b"<html>not found</html>", ZipDamagedError),
    "nothing": (b"", ZipDamagedError),
    "cut_in_half": (zipped((NAME, CSV))[:300], ZipDamagedError),
    "inverted_in_the_middle": (zipped((NAME, CSV)).replace(zipped((NAME, CSV))[200:216], bytes(byte ^ 255 for byte in zipped((NAME, CSV))[200:216])), ZipDamagedError),
    "a_directory_that_says_less": (lying(40), ZipDamagedError),
    "a_header_without_its_crc": (zipped((NAME, CSV)).replace(struct.pack("<I", zipfile.crc32(CSV)), bytes(4)), ZipDamagedError),
    "a_bomb": (BOMB, ZipTooLargeError),
    "a_bomb_that_lies_in_its_header": (lying(40, False, BOMB), ZipTooLargeError),
    "a_small_file_that_claims_four_gigabytes": (lying(2**32 - 2), ZipTooLargeError),
    "a_bomb_whose_directory_says_less": (lying(40, True, BOMB), ZipDamagedError),
    "lzma": (zipped((NAME, CSV), compression=zipfile.ZIP_LZMA), ZipDamagedError),
}  # fmt: skip


@pytest.mark.parametrize(("body", "error"), REFUSED.values(), ids=REFUSED)
def test_a_zip_that_is_not_one_sound_csv_is_refused(body: bytes, error: type[ArchiveFileError]) -> None:
    with pytest.raises(error, match=f"^{KEY}: ") as told:
        extract_csv(KEY, body, cap=1_000_000)
    assert told.value.outcome == "corrupt"


def test_a_zip_locked_with_a_password_is_refused() -> None:
    body = bytearray(zipped((NAME, CSV)))
    for mark in (6, body.rindex(b"PK\x01\x02") + 8):
        body[mark] |= 1
    with pytest.raises(ZipDamagedError, match="encrypted"):
        extract_csv(KEY, bytes(body))


def named(name: bytes, flag: int, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip whose one member has this name, byte for byte, and this flag of its encoding."""
    made = bytearray(zipped(("x" * len(name), CSV), compression=compression))
    for mark, at_flag, at_name in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        start = made.rindex(mark)
        made[start + at_name : start + at_name + len(name)] = name
        made[start + at_flag : start + at_flag + 2] = struct.pack("<H", flag)
    return bytes(made)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("symbol", ["币安人生USDT", "ÉTÉUSDT", "🚀USDT", "BTCUSDT"])
@pytest.mark.parametrize("flag", [0, 0x800], ids=["as_info_zip_writes", "with_the_flag"])
def test_a_name_in_utf8_is_read_with_its_flag_and_without(symbol: str, flag: int, compression: int) -> None:
    key = KEY.replace("BTCUSDT", symbol)
    assert extract_csv(key, named(NAME.replace("BTCUSDT", symbol).encode(), flag, compression)) == CSV


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        (NAME.replace("BTCUSDT", "币安人生USDT").encode("gbk"), 0),
        (NAME.replace("BTCUSDT", "币安死生USDT").encode(), 0),
        (NAME.replace("BTCUSDT", "币安人生USDT").encode().decode("cp437").encode(), 0x800),
        (NAME.replace("BTCUSDT", "币安人生USDT").encode("utf-16-be"), 0),
        (b"../" + NAME.replace("BTCUSDT", "币安人生USDT").encode(), 0),
        (NAME.replace("BTCUSDT", "币安人生USDT").encode().replace(b".csv", b".csv\0.csv"), 0),
    ],
    ids=["gbk", "another_symbol", "read_as_cp437_and_written", "utf16", "a_path", "a_nul_byte"],
)
def test_any_other_spelling_of_such_a_name_is_refused(name: bytes, flag: int) -> None:
    key = KEY.replace("BTCUSDT", "币安人生USDT")
    with pytest.raises(ArchiveFileError, match=f"^{key}: "):
        extract_csv(key, named(name, flag))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_one_csv_comes_out_whole_whatever_stands_beside_it(compression: int) -> None:
    assert extract_csv(KEY, zipped((NAME, CSV), compression=compression)) == CSV
    assert (
        extract_csv(
            KEY,
            zipped(
                (f"__MACOSX/._{NAME}", b"fork"),
                ("folder/", b""),
                (NAME, CSV),
                ("readme.txt", b""),
                compression=compression,
            ),
        )
        == CSV
    )


def test_a_directory_that_promises_more_than_there_is_is_refused() -> None:
    with pytest.raises(
        ZipDamagedError, match=f"inflates to {len(CSV)} bytes where the directory says {len(CSV) + 5}"
    ):
        extract_csv(KEY, lying(len(CSV) + 5))


def test_the_cap_is_a_cap() -> None:
    assert extract_csv(KEY, zipped((NAME, CSV)), cap=len(CSV)) == CSV
    with pytest.raises(ZipTooLargeError, match=f"{len(CSV) - 1:,} bytes"):
        extract_csv(KEY, zipped((NAME, CSV)), cap=len(CSV) - 1)


SOUND = {
    method: zipped((NAME, CSV), compression=method)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
}


@settings(max_examples=300)
@given(
    st.sampled_from(list(SOUND)),
    st.lists(
        st.tuples(st.integers(-110, 70) | st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.none() | st.integers(0, 10_000),
)
def test_whatever_happens_to_the_bytes_the_csv_is_whole_or_the_file_refused(
    method: int, changes: list[tuple[int, int]], cut: int | None
) -> None:
    body = bytearray(SOUND[method])
    for position, byte in changes:
        body[position % len(body)] = byte
    try:
        found = extract_csv(KEY, bytes(body[:cut]) if cut is not None else bytes(body), cap=10**6)
    except ArchiveFileError:
        return
    assert found == CSV


def zip64(body: bytes) -> bytes:
    """The same zip with the end of its directory in the form for large ones."""
    start, end = body.rindex(b"PK\x01\x02"), body.rindex(b"PK\x05\x06")
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, end - start, start)
    return (
        body[:end]
        + wide
        + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    )


def overlapping() -> bytes:
    """Two members whose directory entries point at the same bytes."""
    made = bytearray(zipped(("a.txt", b"x" * 100), (NAME, CSV)))
    place = made.index(b"PK\x01\x02")
    second = made.index(b"PK\x01\x02", place + 4)
    made[place + 42 : place + 46] = made[second + 42 : second + 46]
    return bytes(made)


def stored_as_longer() -> bytes:
    """A stored member that reaches over the directory by its sizes."""
    made = bytearray(zipped((NAME, CSV), compression=zipfile.ZIP_STORED))
    place = made.index(b"PK\x01\x02")
    made[place + 20 : place + 28] = struct.pack("<II", len(CSV) + 60, len(CSV) + 60)
    return bytes(made)


def locked(flag: int) -> bytes:
    made = bytearray(zipped((NAME, CSV)))
    place = made.index(b"PK\x01\x02") + 8
    made[place : place + 2] = struct.pack("<H", flag)
    return bytes(made)


def with_directory(**changed: int) -> bytes:
    """A zip whose end of the directory says something else."""
    made = bytearray(zipped((NAME, CSV)))
    places = {"count": (8, "<HH"), "size": (12, "<I"), "offset": (16, "<I"), "disk": (4, "<HH")}
    for name, value in changed.items():
        at, form = places[name]
        struct.pack_into(form, made, len(made) - 22 + at, *[value] * (len(form) - 1))
    return bytes(made)


UNUSUAL = {
    "bzip2_that_inflates_to_gigabytes": (lambda: bzip2_bomb(60_000), "method 12"),
    "bzip2_that_says_so": (lambda: bzip2_bomb(3_100_000_000), "method 12"),
    "lzma_that_inflates_to_gigabytes": (
        lambda: zipped((NAME, bytes(50_000_000)), compression=zipfile.ZIP_LZMA),
        "method 14",
    ),
    "deflate64": (
        lambda: zipped((NAME, CSV)).replace(struct.pack("<H", 8), struct.pack("<H", 9)),
        "method 9",
    ),
    "zip64": (lambda: zip64(zipped((NAME, CSV))), "zip64"),
    "a_zip64_entry": (lambda: with_directory(count=0xFFFF), "zip64"),
    "members_that_overlap": (lambda: overlapping(), "overlap"),
    "a_member_over_the_directory": (lambda: stored_as_longer(), "overlap"),
    "100_000_members": (
        lambda: zipped(*((f"{n}.txt", b"") for n in range(60_000)), (NAME, CSV)),
        "60001 members",
    ),
    "a_directory_of_megabytes": (
        lambda: zipped((NAME, CSV), *((f"{n}{'x' * 60_000}", b"") for n in range(5))),
        "members in 30",
    ),
    "encrypted": (lambda: locked(1), "encrypted"),
    "strongly_encrypted": (lambda: locked(0x41), "encrypted|strong encryption"),
    "a_masked_directory": (lambda: locked(0x2000), "encrypted"),
    "one_of_several_disks": (lambda: with_directory(disk=1), "several parts"),
    "a_directory_elsewhere": (lambda: with_directory(offset=40), "does not lie where it says"),
    "a_directory_that_is_longer": (lambda: with_directory(size=5000), "does not lie where it says"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "why"), UNUSUAL.values(), ids=UNUSUAL)
def test_a_zip_of_a_kind_that_is_never_published_is_refused_before_it_is_inflated(
    make: Callable[[], bytes], why: str
) -> None:
    body = make()  # here, for some take seconds
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ZipDamagedError, match=why):
        extract_csv(KEY, body)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000, "kB"
    assert time.process_time() - began < 1


def test_a_checksum_of_any_size_is_told_in_a_line_and_in_no_time() -> None:
    began = time.process_time()
    for hostile in (
        f"{SHA}  {'x' * 50_000_000}",
        f"{SHA}  x{' ' * 5_000_000}x\n",
        f"{SHA}{' ' * 5_000_000}",
        f"{SHA}  x\x1b[2J\x9b31m",
        "\x1b]0;x\x07" * 10**6,
    ):
        with pytest.raises(ArchiveFileError) as told:
            verify_checksum(KEY, hostile, SHA)
        assert len(str(told.value)) < 700
        assert str(told.value).isprintable()
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "name", ["\x1b[2J.csv", "a\u202evsc.csv", f"{'x' * 30_000}.csv"], ids=["escape", "bidi", "long"]
)
def test_the_name_of_a_member_is_told_cut_and_plain(name: str) -> None:
    for body in (zipped((name, CSV)), zipped((name, CSV), (NAME, CSV))):
        with pytest.raises(ArchiveFileError) as told:
            extract_csv(KEY, body)
        assert str(told.value).isprintable()
        assert len(str(told.value)) < 700


def test_a_real_zip_with_a_resource_fork_has_one_csv(real_data: Path) -> None:
    path = real_data / "binance_public_data_updates" / "2022-04-21_aggregate_trade_updates.zip"
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 2
        assert any(name.startswith("__MACOSX/") for name in archive.namelist())
    assert extract_csv(path.name, path.read_bytes()).count(b"\n") > 300


def test_a_real_damaged_zip_is_refused_and_what_it_should_hold_parses(real_data: Path) -> None:
    key = "data/spot/daily/klines/ADABTC/1m/ADABTC-1m-2021-11-27.zip"
    folder = real_data / "nautilus_trader"
    with pytest.raises(ZipDamagedError):
        extract_csv(key, (folder / "ADABTC-1m-2021-11-27.zip").read_bytes())
    rows = parse_klines(key, (folder / "ADABTC-1m-2021-11-27.csv").read_bytes(), "spot")
    check_period(key, Period.parse("2021-11-27"), rows, "open_time")
    assert (rows.height, rows["open_time"].n_unique(), rows.filter(trade_count=0).height) == (1440, 1440, 1)


# --- period ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "start"),
    [("2024-02-05", "2024-02-05"), ("2024-02", "2024-02-28T23:50"), ("2024-02", "2024-02-29T23:30")],
)
def test_rows_inside_the_period_are_accepted(period: str, start: str) -> None:
    check_period(KEY, Period.parse(period), parse_klines(KEY, text(klines(start, 30)), "spot"), "open_time")


@pytest.mark.parametrize(
    ("period", "start", "count", "first"),
    [
        ("2024-02-05", "2024-02-04T23:45", 15, "2024-02-04 23:45"),
        ("2024-02-05", "2024-02-05T23:45", 15, "2024-02-06 00:00"),
        ("2024-02", "2024-02-29T23:45", 15, "2024-03-01 00:00"),
        ("2024-02", "2023-02-05", 30, "2023-02-05 00:00"),
        ("2024-02-05", "2025-02-05", 30, "2025-02-05 00:00"),
    ],
)
def test_rows_outside_the_period_are_refused_with_the_first(
    period: str, start: str, count: int, first: str
) -> None:
    with pytest.raises(
        RowsOutsidePeriodError,
        match=f"{count} rows are outside the file's period {period}, the first at {first}",
    ):
        check_period(
            KEY, Period.parse(period), parse_klines(KEY, text(klines(start, 30)), "spot"), "open_time"
        )


@pytest.mark.parametrize("period", ["2024-02-05", "2024-02"])
def test_no_rows_are_outside_of_nothing(period: str) -> None:
    check_period(KEY, Period.parse(period), parse_klines(KEY, text([HEADER]), "spot"), "open_time")


def test_a_zip_of_a_zip_is_no_csv() -> None:
    inner = zipped((NAME, CSV))
    assert zipfile.is_zipfile(io.BytesIO(inner))
    with pytest.raises(ZipMembersError):
        extract_csv(KEY, zipped((ZIP_NAME, inner)))
