"""Cells as bytes: what goes in comes out, and the version is of the data alone."""

import io
from datetime import timedelta
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.model.errors import DamagedObjectError, NotALakeObjectError
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.storage.parquet import WRITER, decode, encode, read_footer
from lakehouse_tests.making import at, bronze, candles, minutes, unsealed

ROWS = candles(minutes("2024-02-05", 5))


class Every(Table):
    """Every type, null or not."""

    name = "silver/every"
    key = ("id",)
    time = ""

    id = Column(pl.Int64, "Which")
    number = Column(pl.Float64, "A number", nullable=True)
    small = Column(pl.Int32, "A small integer", nullable=True)
    text = Column(pl.String, "A text", nullable=True)
    flag = Column(pl.Boolean, "A flag", nullable=True)
    instant = Column(UTC_TIME, "An instant", nullable=True)


class EveryRenamed(Every):
    """The same types under one more name."""

    other = Column(pl.Boolean, "Another flag", nullable=True)


row = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.text(max_size=5),
    st.none() | st.booleans(),
    st.none()
    | st.timedeltas(timedelta(days=-30000), timedelta(days=30000)).map(
        lambda since: at("2024-02-01") + since
    ),
)


def every(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=Every.polars_schema(), orient="row")


@given(st.lists(row, max_size=6))
def test_rows_and_footer_come_back_as_they_went_in(rows: list[tuple[Any, ...]]) -> None:
    frame = every(rows)
    body, version = encode(Every, frame, {"rows": len(rows), "nested": {"a": [1, None]}})
    back, footer = decode("x", body)
    assert back.equals(frame)
    assert back.schema == frame.schema
    assert footer == {
        "rows": len(rows),
        "nested": {"a": [1, None]},
        "version": version,
        "writer": WRITER,
        "column_count": len(Every.columns),
    }


@given(st.lists(row, min_size=1, max_size=4, unique_by=lambda values: values[0]), st.data())
def test_the_version_is_of_the_rows(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    frame = every(rows)
    version = encode(Every, frame, {})[1]
    assert encode(Every, frame.clone(), {"facts": "other", "rows": 9})[1] == version, (
        "the footer is no part of it"
    )
    n = data.draw(st.integers(0, len(rows) - 1))
    changed = data.draw(row.filter(lambda values: repr(values) != repr(rows[n])))
    assert encode(Every, every([*rows[:n], changed, *rows[n + 1 :]]), {})[1] != version
    assert encode(Every, every([*rows, rows[0]]), {})[1] != version


def test_the_version_covers_the_schema_even_without_rows() -> None:
    assert encode(Every, Every.empty(), {})[1] != encode(EveryRenamed, EveryRenamed.empty(), {})[1]
    assert encode(Candle, Candle.empty(), {})[1] != encode(CandleArchive, CandleArchive.empty(), {})[1]


def test_the_version_covers_news_beside_the_rows() -> None:
    assert (
        encode(Every, Every.empty(), {}, "2024-02-05")[1] != encode(Every, Every.empty(), {}, "2024-02-06")[1]
    )


def test_the_bytes_of_a_fixed_table_are_pinned() -> None:
    """Versions compare lakes of one writer. If this fails, pyarrow or the encoding changed, and with it every
    version of every lake.
    """
    assert WRITER == "pyarrow 26.0.1"
    assert encode(Candle, ROWS, {})[1] == "5a4332f18c1c2114b210ca3c3232b3e6"
    assert (
        encode(CandleArchive, bronze(minutes("2024-02-05", 500)), {})[1] == "0b006fdf542d8a56137a6fd29ee9eac3"
    )
    assert encode(Candle, Candle.empty(), {})[1] == "0e5a8af5fd84c90b93151a43e95fe809"


def test_a_month_of_candles_is_small_and_encoded_as_declared() -> None:
    month = candles(minutes("2024-02-01", 29 * 1440), trade_count=list(range(29 * 1440)))
    body, _ = encode(Candle, month, {})
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    encodings = {
        metadata.row_group(0).column(n).path_in_schema: metadata.row_group(0).column(n).encodings
        for n in range(metadata.num_columns)
    }
    assert all(
        "DELTA_BINARY_PACKED" in encodings[name] for name in ("open_time", "close_time", "trade_count")
    )
    assert any("DICTIONARY" in encoding for encoding in encodings["source"])
    assert metadata.row_group(0).column(0).statistics.has_min_max
    assert len(body) < 2 * month.height


@pytest.mark.parametrize(
    "body", [b"", b"x", b"PAR1", b"PAR1" + bytes(20) + b"PAR1", bytes(range(256))], ids=len
)
def test_bytes_that_are_no_parquet_are_no_cell(body: bytes) -> None:
    with pytest.raises(
        NotALakeObjectError, match="some/path is not a cell of this lake: its footer does not read"
    ):
        read_footer("some/path", body)


def test_a_cell_with_damaged_rows_is_no_cell() -> None:
    body, _ = encode(Candle, ROWS, {})
    with pytest.raises(
        DamagedObjectError, match="some/path is damaged: its rows are not those that were sealed"
    ):
        decode("some/path", body[:4] + bytes(200) + body[204:])


def test_a_cell_of_an_earlier_release_carries_no_seal_and_reads() -> None:
    body = unsealed(encode(Candle, ROWS, {})[0])
    assert decode("some/path", body)[0].equals(ROWS)
    with pytest.raises(NotALakeObjectError, match="its rows do not read"):
        decode("some/path", body[:4] + bytes(200) + body[204:])


def test_parquet_of_another_writer_is_no_cell() -> None:
    sink = io.BytesIO()
    ROWS.write_parquet(sink)
    with pytest.raises(NotALakeObjectError, match="no lakehouse facts"):
        decode("some/path", sink.getvalue())
