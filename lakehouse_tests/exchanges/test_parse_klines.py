"""Kline files: by position, in every dialect that was published, and not one wrong value out of a damaged
one.
"""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import CandleArchive
from lakehouse.exchanges.binance.klines import KLINE_COLUMNS, parse_klines
from lakehouse.model.errors import (
    ArchiveFileError,
    CsvEmptyError,
    CsvEncodingError,
    CsvHeaderError,
    CsvParseError,
)
from lakehouse.model.market import MARKET_TYPES, MarketType
from lakehouse_tests.making import HEADER, MICRO, MINUTE, at, kline, klines, minutes, text

KEY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-02-05.zip"
LINES = klines("2024-02-05", 5)


def parsed(csv: bytes, market_type: MarketType = "spot") -> pl.DataFrame:
    return parse_klines(KEY, csv, market_type)


def test_the_columns_are_those_of_bronze_without_lineage() -> None:
    found = parsed(text(LINES))
    lineage = ("source", "source_file", "source_sha256", "fetched_at", "is_removed")
    assert dict(found.schema) == {
        name: dtype for name, dtype in CandleArchive.polars_schema().items() if name not in lineage
    }
    row = found.row(1, named=True)
    assert {name: row[name] for name in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume")} == {
        "open": 100.01, "high": 102.01, "low": 99.01, "close": 101.01, "volume": 10.0, "quote_volume": 1005.1, "trade_count": 7, "taker_buy_volume": 4.0,
    }  # fmt: skip
    assert (row["contracts"], row["taker_buy_contracts"]) == (None, None)


@pytest.mark.parametrize("market_type", MARKET_TYPES)
@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000])
@pytest.mark.parametrize("start", ["2024-12-31T23:58", "2017-08-17T04:00", "2025-01-01"])
def test_header_and_unit_make_no_difference(market_type: MarketType, unit: int, start: str) -> None:
    lines = klines(start, 4, unit=unit)
    plain, headed = parsed(text(lines), market_type), parsed(text([HEADER, *lines]), market_type)
    assert plain.equals(headed)
    assert plain["open_time"].to_list() == minutes(start, 4)
    assert plain["close_time"].to_list() == [time + MINUTE - MICRO for time in minutes(start, 4)], (
        "the last microsecond, whatever the unit"
    )
    assert plain.equals(parsed(text(klines(start, 4)), market_type))


def test_units_are_read_per_value_so_that_a_mixed_file_is_right() -> None:
    lines = klines("2024-12-31T23:58", 2) + klines("2025-01-01", 2, 100.02, unit=1_000_000)
    assert parsed(text(lines)).equals(parsed(text(klines("2024-12-31T23:58", 4))))


def test_a_truncated_close_is_kept_to_the_millisecond() -> None:
    stopped = at("2024-02-05T00:00:41") + timedelta(milliseconds=646)
    ended = int(stopped.timestamp() * 1000)
    line = LINES[0].split(",")
    found = parsed(text([",".join([*line[:6], str(ended), *line[7:]])]))
    assert found["close_time"].to_list() == [stopped + timedelta(microseconds=999)]


def test_inverse_columns_mean_contracts_and_base_volume() -> None:
    line = "1707091200000,42000.0,42010.0,41990.0,42005.0,3000,1707091259999,7.14,50,1000,2.38,0"
    row = parsed(text([line]), "inverse").row(0, named=True)
    assert (row["contracts"], row["volume"], row["taker_buy_contracts"], row["taker_buy_volume"]) == (
        3000.0,
        7.14,
        1000.0,
        2.38,
    )
    assert (row["quote_volume"], row["taker_buy_quote_volume"]) == (None, None)
    linear = parsed(text([line]), "linear").row(0, named=True)
    assert (linear["volume"], linear["quote_volume"], linear["contracts"]) == (3000.0, 7.14, None)


def test_file_order_line_ends_and_a_missing_last_newline_make_no_difference() -> None:
    expected = parsed(text(LINES))
    assert parsed(text(LINES)[:-1]).equals(expected)
    assert parsed(text(LINES).replace(b"\n", b"\r\n")).equals(expected)
    assert parsed(text(LINES[::-1])).equals(expected.reverse()), "rows stay in file order"
    assert parsed(text([line[:-1] + "17928899.62484339" for line in LINES])).equals(expected), (
        "the last column means nothing"
    )


HEADERS_IN_DISGUISE = {
    "reordered": ",".join(["open_time", "high", "open", *KLINE_COLUMNS[3:]]),
    "renamed": HEADER.replace("close_time", "closing"),
    "upper_case": HEADER.upper(),
    "one_more": f"{HEADER},extra",
    "one_fewer": HEADER.removesuffix(",ignore"),
    "rest_names": HEADER.replace("count", "number_of_trades"),
    "quoted": ",".join(f'"{name}"' for name in KLINE_COLUMNS),
    "html": "<html><body>404</body></html>",
}


@pytest.mark.parametrize("header", HEADERS_IN_DISGUISE.values(), ids=HEADERS_IN_DISGUISE)
def test_a_first_line_that_is_neither_data_nor_the_known_header_is_refused(header: str) -> None:
    with pytest.raises(CsvHeaderError, match=r"Expected open_time,open,high.*; found"):
        parsed(text([header, *LINES]))


DAMAGED: dict[str, bytes] = {
    "header_that_starts_with_a_digit": text([f"1{HEADER}", *LINES]),
    "second_header_in_the_middle": text([HEADER, *LINES[:2], HEADER, *LINES[2:]]),
    "a_value_too_few": text([*LINES[:2], LINES[2].rsplit(",", 1)[0], *LINES[3:]]),
    "a_value_too_many": text([*LINES[:2], f"{LINES[2]},7", *LINES[3:]]),
    "too_few_and_too_many": text([*LINES[:2], LINES[2].rsplit(",", 1)[0], f"{LINES[3]},7", LINES[4]]),
    "a_line_of_commas": text([*LINES[:2], "," * 11, *LINES[2:]]),
    "a_line_of_commas_and_a_blank_one": text([*LINES[:2], "," * 11, "", *LINES[2:]]),
    "an_empty_count": text([*LINES[:2], LINES[2].replace(",7,", ",,", 1), "", *LINES[3:]]),
    "a_count_beyond_64_bits": text(
        [*LINES[:2], LINES[2].replace(",7,", ",9223372036854775808,"), *LINES[3:]]
    ),
    "a_count_far_below_zero": text(
        [*LINES[:2], LINES[2].replace(",7,", ",-9223372036854775809,"), *LINES[3:]]
    ),
    "a_count_that_is_none": text([*LINES[:2], LINES[2].replace(",7,", ",NaN,"), *LINES[3:]]),
    "a_time_that_is_none": text([*LINES[:2], "NaN" + LINES[2][13:], *LINES[3:]]),
    "an_empty_value": text([*LINES[:2], LINES[2].replace(",7,", ",,"), *LINES[3:]]),
    "text_for_a_number": text([*LINES[:2], LINES[2].replace(",7,", ",seven,"), *LINES[3:]]),
    "quoted_numbers": text([LINES[0].replace(",10.0,", ',"10.0",')]),
    "decimal_instants": text([LINES[0].replace("00000,", "00000.0,", 1)]),
    "a_nul_byte": text(LINES).replace(b"10.0", b"1\x000.0", 1),
    "carriage_returns_only": text(LINES).replace(b"\n", b"\r"),
    "nanoseconds": text(klines("2024-02-05", 2, unit=1_000_000_000)),
    "a_negative_instant": text([f"-{LINES[0]}"]),
    "an_instant_beyond_64_bits": text([LINES[0].replace("1707", "17070000000000000000", 1)]),
    "the_largest_integer": text([",".join(["9223372036854775807", *LINES[0].split(",")[1:]])]),
    "a_close_in_nanoseconds": text(
        [",".join([*LINES[0].split(",")[:6], "1707091259999000000", *LINES[0].split(",")[7:]])]
    ),
    "another_files_columns": text(["1707091200000,8,0.0001"]),
    "numbers_without_commas": b"1707091200000\n",
}


@pytest.mark.parametrize("csv", DAMAGED.values(), ids=DAMAGED)
def test_lines_that_are_not_twelve_plain_values_are_refused(csv: bytes) -> None:
    with pytest.raises(CsvParseError, match=f"^{KEY}: the CSV does not parse: "):
        parsed(csv)


@pytest.mark.parametrize(
    "csv", [b"", b"\n", b" \r\n\n", b"  "], ids=["nothing", "newline", "blank", "spaces"]
)
def test_a_file_without_rows_and_header_is_refused(csv: bytes) -> None:
    with pytest.raises(CsvEmptyError, match="holds no row and no header"):
        parsed(csv)


@pytest.mark.parametrize("market_type", MARKET_TYPES)
@pytest.mark.parametrize(
    "csv", [f"{HEADER}\n", HEADER, f"{HEADER}\r\n", f"{HEADER}\n\n", f"\n{HEADER}\n  \n"]
)
def test_a_header_alone_says_that_there_is_no_row(csv: str, market_type: MarketType) -> None:
    found = parsed(csv.encode(), market_type)
    assert (found.height, found.schema) == (0, parsed(text(LINES), market_type).schema)


@pytest.mark.parametrize("blank", ["", "\r", "  ", "\t"])
@pytest.mark.parametrize("header", [[], [HEADER]])
@pytest.mark.parametrize("place", ["first", "second", "middle", "last", "doubled", "everywhere"])
def test_blank_lines_are_no_rows(place: str, header: list[str], blank: str) -> None:
    lines = [*header, *LINES]
    places = {
        "first": [0],
        "second": [1],
        "middle": [3],
        "last": [len(lines)],
        "doubled": [2, 2],
        "everywhere": range(len(lines), -1, -1),
    }[place]
    for at_line in places:
        lines.insert(at_line, blank)
    for csv in (text(lines), text(lines)[:-1], text(lines).replace(b"\n", b"\r\n")):
        assert parsed(csv).equals(parsed(text(LINES)))


@pytest.mark.parametrize(
    "csv",
    [
        "\ufeff".encode() + text(LINES),
        text(LINES).replace(b"100.0", "１００".encode(), 1),
        text(LINES)[:90] + b"\xff\xfe",
    ],
)
def test_bytes_that_are_no_ascii_are_refused_with_their_place(csv: bytes) -> None:
    offset = next(n for n, byte in enumerate(csv) if byte > 127)
    with pytest.raises(CsvEncodingError, match=f"byte {offset} of the CSV is not ASCII"):
        parsed(csv)


def test_a_last_line_cut_at_any_byte_is_refused_or_whole() -> None:
    """A cut within the eleventh value leaves a shorter number that still parses: it must not be taken for the
    value.
    """
    csv, whole = text(LINES), parsed(text(LINES))
    start = len(text(LINES[:-1]))
    for cut in range(start + 1, len(csv)):
        try:
            found = parsed(csv[:cut])
        except ArchiveFileError:
            continue
        assert found.equals(whole), csv[start:cut]
        assert csv[start:cut].count(b",") == 11


@given(st.integers(0, len(text(LINES)) - 1), st.integers(0, 127))
def test_a_changed_byte_is_refused_or_changes_its_own_row_only(position: int, byte: int) -> None:
    csv = bytearray(text(LINES))
    csv[position] = byte
    try:
        found = parsed(bytes(csv))
    except ArchiveFileError:
        return
    whole = parsed(text(LINES))
    assert found.height == whole.height
    assert found.join(whole, on=found.columns, how="anti", nulls_equal=True).height <= 1


@pytest.mark.parametrize(
    "word", ["NaN", "nan", "-NaN", "inf", "-inf", "Infinity", "1e400", "-1e999", "1e300"]
)
@pytest.mark.parametrize("column", [1, 2, 4, 5, 7, 9, 10, 11])
def test_a_number_that_is_none_or_no_markets_is_refused_with_its_place(word: str, column: int) -> None:
    values = LINES[2].split(",")
    values[column] = word
    with pytest.raises(
        CsvParseError,
        match=rf"the CSV does not parse: {KLINE_COLUMNS[column]} of row 3 is .*, which no market has",
    ):
        parsed(text([HEADER, *LINES[:2], ",".join(values), *LINES[3:]]))


def test_infinities_that_cancel_out_are_seen() -> None:
    first, second = (LINES[n].replace(",10.0,", f",{word},") for n, word in ((0, "inf"), (1, "-inf")))
    with pytest.raises(CsvParseError, match="volume of row 1 is inf"):
        parsed(text([first, second, *LINES[2:]]))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (8, "", "count of row 4 is empty"),
        (11, "", "ignore of row 4 is empty"),
        (6, "5" * 18, "close_time of row 4 is 5{18}, neither"),
    ],
)
def test_a_value_that_is_refused_is_told_with_its_place(column: int, value: str, said: str) -> None:
    values = LINES[3].split(",")
    values[column] = value
    with pytest.raises(CsvParseError, match=said):
        parsed(text([*LINES[:3], ",".join(values), LINES[4]]))


def test_a_quiet_minute_is_a_candle() -> None:
    opened = int(at("2024-02-05").timestamp()) * 1000
    row = parsed(f"{opened},5,5,5,5,0,{opened + 59999},0,0,0,0,0\n".encode()).row(0, named=True)
    assert (row["open"], row["close"], row["volume"], row["trade_count"]) == (5.0, 5.0, 0.0, 0)
    assert kline(at("2024-02-05")).startswith(str(opened))
