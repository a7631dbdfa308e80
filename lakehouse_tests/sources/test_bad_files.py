"""Files that cannot be trusted, end to end: named, recorded, kept out of bronze; and versions that come and
go.
"""

import hashlib
import struct
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ArchiveFileError,
    ChecksumFormatError,
    ChecksumMismatchError,
    ChecksumMissingError,
    ChecksumNameError,
    CsvEmptyError,
    CsvEncodingError,
    CsvHeaderError,
    CsvParseError,
    NoSourceError,
    RowsOutsidePeriodError,
    ZipDamagedError,
    ZipMemberNameError,
    ZipMembersError,
    ZipTooLargeError,
)
from lakehouse.model.market import Market
from lakehouse.storage.landing import Receipt
from lakehouse.transform.history import newest
from lakehouse_tests.making import BTC, FEBRUARY, HEADER, MINUTE, NOW, ArchiveFolder, at, klines, text, zipped

from .conftest import Reading, fetched, serve

pytestmark = pytest.mark.slow

DAY, NEXT = "2024-02-05", "2024-02-06"
NAME = f"BTCUSDT-1m-{DAY}.csv"
LINES = klines(DAY, 1440)
GOOD = zipped((NAME, text(LINES)))


def as_csv(content: bytes) -> bytes:
    return zipped((NAME, content))


def claiming(size: int) -> bytes:
    made = bytearray(GOOD)
    place = made.rindex(b"PK\x01\x02") + 24
    made[place : place + 4] = struct.pack("<I", size)
    return bytes(made)


def of(name: str, digest: str = hashlib.sha256(GOOD).hexdigest()) -> str:
    return f"{digest}  {name}\n"


# Bytes of the zip, text of the CHECKSUM (None: absent, empty: that of the bytes), how it is refused.
BAD: dict[str, tuple[bytes, str | None, type[ArchiveFileError]]] = {
    "checksum_absent": (GOOD, None, ChecksumMissingError),
    "checksum_of_other_bytes": (GOOD, of(f"BTCUSDT-1m-{DAY}.zip", "0" * 64), ChecksumMismatchError),
    "checksum_of_another_file": (GOOD, of(f"BTCUSDT-1m-{NEXT}.zip"), ChecksumNameError),
    "checksum_that_is_none": (GOOD, "<html></html>", ChecksumFormatError),
    "not_a_zip": (b"<html></html>", "", ZipDamagedError),
    "cut_zip": (GOOD[:9000], "", ZipDamagedError),
    "two_members": (zipped((NAME, text(LINES)), ("more.csv", text(LINES))), "", ZipMembersError),
    "no_member": (zipped(), "", ZipMembersError),
    "a_path": (zipped((f"../{NAME}", text(LINES))), "", ZipMemberNameError),
    "a_folder": (zipped((f"a/{NAME}", text(LINES))), "", ZipMemberNameError),
    "a_windows_path": (zipped((f"a\\{NAME}", text(LINES))), "", ZipMemberNameError),
    "another_member": (zipped((f"BTCUSDT-1m-{NEXT}.csv", text(klines(NEXT, 1440)))), "", ZipMemberNameError),
    "a_bomb": (claiming(2**32 - 2), "", ZipTooLargeError),
    "a_lying_directory": (claiming(30), "", ZipDamagedError),
    "rows_of_another_day": (as_csv(text(klines(NEXT, 1440))), "", RowsOutsidePeriodError),
    "one_row_too_late": (as_csv(text(klines(DAY, 1441))), "", RowsOutsidePeriodError),
    "header_in_disguise": (as_csv(text([HEADER.replace("open,high", "high,open"), *LINES])), "", CsvHeaderError),
    "header_that_starts_with_a_digit": (as_csv(text([f"0{HEADER}", *LINES])), "", CsvParseError),
    "second_header": (as_csv(text([HEADER, *LINES[:700], HEADER, *LINES[700:]])), "", CsvParseError),
    "ragged": (as_csv(text([*LINES[:9], LINES[9].rsplit(",", 2)[0], *LINES[10:]])), "", CsvParseError),
    "cut_last_line": (as_csv(text(LINES)[:-5]), "", CsvParseError),
    "nanoseconds": (as_csv(text(klines(DAY, 1440, unit=10**9))), "", CsvParseError),
    "no_ascii": (as_csv(text(LINES).replace(b"100.0", b"100\xb70", 1)), "", CsvEncodingError),
    "empty": (as_csv(b""), "", CsvEmptyError),
    "blank_lines_only": (as_csv(b"\n\r\n"), "", CsvEmptyError),
    "no_number": (as_csv(text([*LINES[:3], LINES[3].replace(",101.03,", ",NaN,"), *LINES[4:]])), "", CsvParseError),
    "no_finite_number": (as_csv(text([*LINES[:3], LINES[3].replace(",10.0,", ",1e400,"), *LINES[4:]])), "", CsvParseError),
}  # fmt: skip


def refuse(reading: Reading, folder: ArchiveFolder, error: type[ArchiveFileError]) -> Receipt:
    """Read the day, see it refused, and again without a request; its only receipt."""
    with serve(folder) as sim:
        listing = reading.listing(sim)
        with reading.reader(sim) as reader, pytest.raises(error) as told:
            reader.read(listing.file(DAY))
        assert type(told.value) is error
        (receipt,) = reading.receipts()
        assert (receipt.outcome, receipt.message) == (told.value.outcome, str(told.value))

        sim.reset_requests()
        with reading.reader(sim) as reader, pytest.raises(ArchiveFileError) as again:
            reader.read(listing.file(DAY))
        assert (str(again.value), again.value.outcome, fetched(sim)) == (str(told.value), receipt.outcome, [])
    return receipt


@pytest.mark.parametrize(("body", "checksum", "error"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_recorded_and_never_in_bronze(
    reading: Reading, folder: ArchiveFolder, body: bytes, checksum: str | None, error: type[ArchiveFileError]
) -> None:
    key = folder.key(DAY)
    folder.put_bytes(key, body, checksum)
    receipt = refuse(reading, folder, error)
    assert (receipt.key, receipt.sha256) == (key, hashlib.sha256(body).hexdigest())
    assert reading.landing.body(receipt) == (None if error.outcome == "mismatch" else body)
    with (
        serve(folder) as sim,
        pytest.raises(
            NoSourceError,
            match=rf"2024-02\|binance-spot:BTCUSDT: none of its files could be used, so nothing was written\. {key}",
        ),
    ):
        reading.ingest(sim)
    assert reading.paths("bronze") == reading.paths("quarantine") == []


@pytest.mark.parametrize("name", ["checksum_of_other_bytes", "two_members"])
def test_a_bad_file_beside_good_ones_is_a_problem_and_a_gap(
    reading: Reading, folder: ArchiveFolder, name: str
) -> None:
    body, checksum, error = BAD[name]
    folder.put_bytes(folder.key(DAY), body, checksum)
    folder.put(NEXT, text(klines(NEXT, 1440, 200.0)))
    with serve(folder) as sim:
        record = reading.ingest(sim)
        assert record is not None
        assert not reading.is_due(sim), "the file is as it was: it is not tried for ever"
    assert [(problem.subject, problem.kind, problem.healed_by) for problem in record.facts.problems] == [
        (folder.key(DAY), error.outcome, "")
    ]
    stored = reading.refine()
    assert set(stored.rows["open_time"].dt.date().cast(pl.String)) == {NEXT}
    assert stored.rows["open"].min() == 200.0
    assert any(run.start == at("2024-02-01") and run.end == at(NEXT) for run in stored.record.facts.gaps)
    assert sorted(receipt.outcome for receipt in reading.receipts()) == sorted([error.outcome, "ok"])


def test_a_bad_file_is_read_again_once_it_or_its_checksum_is_replaced(
    reading: Reading, folder: ArchiveFolder
) -> None:
    folder.put_bytes(folder.key(DAY), GOOD, of(f"BTCUSDT-1m-{DAY}.zip", "0" * 64))
    with serve(folder) as sim, pytest.raises(NoSourceError):
        reading.ingest(sim)
    folder.put_bytes(folder.key(DAY), GOOD)
    with serve(folder) as sim:
        record = reading.ingest(sim, at=NOW + MINUTE)
    assert record is not None
    assert (record.rows, record.facts.problems) == (1440, ())
    assert [receipt.outcome for receipt in reading.receipts()] == ["mismatch", "ok"], (
        "the first receipt stays as it was"
    )


@pytest.mark.parametrize("word", ["NaN", "-inf", "1e400", "1e300"])
def test_a_month_with_a_number_that_is_none_is_made_from_its_days(
    reading: Reading, folder: ArchiveFolder, word: str
) -> None:
    month = klines("2024-02-01", 29 * 1440)
    folder.put("2024-02", text([*month[:5000], month[5000].replace(",10.0,", f",{word},"), *month[5001:]]))
    for day in range(29):
        folder.put(f"2024-02-{day + 1:02}", text(month[1440 * day : 1440 * (day + 1)]))
    with serve(folder) as sim:
        record = reading.ingest(sim)
    assert record is not None
    assert (record.rows, record.reject_count) == (29 * 1440, 0)
    assert [(problem.kind, problem.healed_by) for problem in record.facts.problems] == [
        ("corrupt", "29 daily files")
    ]
    assert "volume of row 5,001 is" in record.facts.problems[0].detail
    assert set(reading.refine().rows["volume"]) == {10.0}


def test_a_row_that_breaks_a_rule_in_the_month_is_taken_from_the_day(
    reading: Reading, folder: ArchiveFolder
) -> None:
    month = klines("2024-02-01", 29 * 1440)
    day = month[4 * 1440 : 5 * 1440]
    broken = [
        *month[: 4 * 1440 + 7],
        month[4 * 1440 + 7].replace(",10.0,", ",-10.0,", 1),
        *month[4 * 1440 + 8 :],
    ]
    folder.put("2024-02", text(broken))
    folder.put(DAY, text(day))
    with serve(folder) as sim:
        record = reading.ingest(sim)
    assert record is not None
    assert [(problem.kind, problem.detail, problem.healed_by) for problem in record.facts.problems] == [
        ("rules", "rows break a row rule", folder.key(DAY))
    ]
    stored = reading.refine()
    assert (stored.rows.height, stored.record.facts.gaps, stored.record.reject_count) == (29 * 1440, (), 0)
    assert stored.rows["volume"].min() == 10.0


def test_rows_of_a_file_may_stand_in_any_order(reading: Reading, folder: ArchiveFolder) -> None:
    folder.put(DAY, text([*LINES[1::2], *LINES[::2]]))
    with serve(folder) as sim:
        reading.ingest(sim)
    assert reading.refine().rows["open_time"].to_list() == [at(DAY) + n * MINUTE for n in range(1440)]


def test_rows_that_differ_in_one_small_value_only_are_two_values(
    reading: Reading, folder: ArchiveFolder
) -> None:
    """The least visible dispute there can be: everything equal but what takers bought."""
    folder.put(DAY, text([*LINES, klines(DAY, 1)[0].replace(",4.0,", ",3.0,")]))
    with serve(folder) as sim:
        record = reading.ingest(sim)
    assert record is not None
    assert record.rows == 1441
    stored = reading.refine()
    assert any(
        run.gap_class == "conflict" and run.start == at(DAY) and run.slot_count == 1
        for run in stored.record.facts.gaps
    )
    quarantined = reading.tables.quarantined(Candle, FEBRUARY)
    assert quarantined is not None
    assert sorted(quarantined["taker_buy_volume"]) == [3.0, 4.0]


# --- versions that come and go --------------------------------------------------------------------


def test_a_file_that_is_replaced_and_put_back_is_served_as_it_is_now(
    reading: Reading, folder: ArchiveFolder
) -> None:
    prices = []
    for hour, price in enumerate((100.0, 200.0, 100.0, 200.0)):
        folder.put(DAY, text(klines(DAY, 1440, price)))
        with serve(folder) as sim:
            assert reading.is_due(sim)
            record = reading.ingest(sim, at=NOW + timedelta(hours=hour))
            assert record is not None
            assert not reading.is_due(sim)
        assert record.rows == (hour + 1) * 1440
        prices.append(reading.refine().rows["open"][0])
    assert prices == [100.0, 200.0, 100.0, 200.0]
    assert len(reading.receipts()) == 4
    history = reading.tables.get(CandleArchive, FEBRUARY)
    assert history is not None
    told = [
        newest(history.rows.filter(pl.col("fetched_at") <= NOW + timedelta(hours=hour)), ("open_time",))[
            "open"
        ][0]
        for hour in range(4)
    ]
    assert told == prices, "what the lake had at any instant can be told"


def test_a_row_that_a_new_version_no_longer_has_is_a_gap(reading: Reading, folder: ArchiveFolder) -> None:
    folder.put(DAY, text(LINES))
    with serve(folder) as sim:
        reading.ingest(sim)
    folder.put(DAY, text([*LINES[:600], *LINES[660:]]))
    with serve(folder) as sim:
        record = reading.ingest(sim, at=NOW + MINUTE)
    assert record is not None
    assert record.rows == 1440 + 60
    assert any(
        run.start == at(DAY) + 600 * MINUTE and run.slot_count == 60
        for run in reading.refine().record.facts.gaps
    )


def test_the_same_bytes_uploaded_again_add_nothing(reading: Reading, folder: ArchiveFolder) -> None:
    key = folder.put(DAY, text(LINES))
    with serve(folder) as sim:
        first = reading.ingest(sim)
    folder.put_bytes(key, GOOD, f"{hashlib.sha256(GOOD).hexdigest()} *BTCUSDT-1m-{DAY}.zip")
    with serve(folder) as sim:
        assert reading.is_due(sim), "its CHECKSUM is another object"
        second = reading.ingest(sim, at=NOW + MINUTE)
    assert first is not None
    assert second is not None
    assert (first.version, first.rows) == (second.version, second.rows)


def test_bronze_is_rebuilt_from_landing_without_a_request(reading: Reading, folder: ArchiveFolder) -> None:
    folder.put(DAY, text(LINES))
    with serve(folder) as sim:
        first = reading.ingest(sim)
        reading.tables.delete(CandleArchive, FEBRUARY)
        sim.reset_requests()
        assert reading.is_due(sim)
        again = reading.ingest(sim, at=NOW + timedelta(days=3))
        assert fetched(sim) == []
    assert first is not None
    assert again is not None
    assert again.version == first.version, "rows say when they were fetched, not when they were read"


def test_a_file_that_was_removed_from_landing_is_fetched_again(
    reading: Reading, folder: ArchiveFolder
) -> None:
    folder.put(DAY, text(LINES))
    with serve(folder) as sim:
        first = reading.ingest(sim)
        reading.tables.delete(CandleArchive, FEBRUARY)
        for path in reading.paths("landing"):
            if path.endswith(".zip"):
                reading.objects.delete(path)
        sim.reset_requests()
        again = reading.ingest(sim, at=NOW + timedelta(days=3))
        assert fetched(sim) == [f"BTCUSDT-1m-{DAY}.zip", f"BTCUSDT-1m-{DAY}.zip.CHECKSUM"]
    assert first is not None
    assert again is not None
    assert again.version == first.version
    assert len(reading.receipts()) == 1


def test_days_that_stop_being_published_become_a_gap_though_no_row_changed(
    reading: Reading, folder: ArchiveFolder
) -> None:
    """The archive falls silent: what it answered grows, its rows do not. Silver must hear of it."""
    folder.put("2024-02-01", text(klines("2024-02-01", 1440)))
    found = []
    for day in ("2024-02-03", "2024-02-20", "2024-03-20"):
        now = at(day)
        with serve(folder, now) as sim:
            assert reading.is_due(sim, at=now)
            record = reading.ingest(sim, at=now)
            assert record is not None
            found.append((record.version, record.rows, reading.refine().record.facts.gaps))
    assert [rows for _, rows, _ in found] == [1440] * 3
    assert len({version for version, _, _ in found}) == 3, (
        "an answer without rows is another version of bronze"
    )
    assert [[(run.start, run.end) for run in gaps] for _, _, gaps in found] == [
        [],
        [(at("2024-02-02"), at("2024-02-13"))],
        [(at("2024-02-02"), at("2024-03-01"))],
    ]


def test_a_market_with_any_name_is_read(reading: Reading, folder: ArchiveFolder) -> None:
    market = Market("binance", "spot", "币安人生USDT")
    folder.put(DAY, text(LINES), market)
    with serve(folder) as sim:
        record = reading.ingest(sim, Cell("2024-02", market))
        sim.reset_requests()
        assert not reading.is_due(sim, Cell("2024-02", market))
        reading.ingest(sim, Cell("2024-02", market))
        assert fetched(sim) == []
    assert record is not None
    assert record.rows == 1440
    assert all(Path(path).as_posix().isascii() for path in reading.paths(""))


def test_a_cell_of_another_market_type_is_read_from_its_own_files(
    reading: Reading, folder: ArchiveFolder
) -> None:
    linear = Market("binance", "linear", "BTCUSDT")
    folder.put(DAY, text(LINES), BTC)
    folder.put(DAY, text([HEADER, *klines(DAY, 1440, 300.0)]), linear)
    with serve(folder) as sim:
        for market, price in ((BTC, 100.0), (linear, 300.0)):
            cell = Cell("2024-02", market)
            reading.ingest(sim, cell)
            assert reading.refine(cell).rows["open"][0] == price
