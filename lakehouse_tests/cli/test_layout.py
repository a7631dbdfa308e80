"""Whatever the rows and the width, no value is split, and what has no room is named."""

import string
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from lakehouse.cli.layout import LINES_SHOWN, ROWS_SHOWN, laid_out, shown, with_market_key, wrapped

LETTERS = string.ascii_letters + string.digits + "-_:.|/币安\u0301\x1b\n\t\u202e😀"
WORDS = st.text(LETTERS, max_size=60)
SENTENCES = st.lists(WORDS, max_size=12).map(" ".join)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
KINDS = st.sampled_from(
    [
        (pl.String(), SENTENCES),
        (pl.String(), WORDS),
        (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
        (pl.Float64(), st.floats()),
        (pl.Boolean(), st.booleans()),
        (pl.Binary(), st.binary(max_size=40)),
        (pl.Datetime("us", "UTC"), INSTANTS),
        (pl.List(pl.Int64), st.lists(st.integers(0, 2**62), max_size=5)),
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Any rows: names and values of every kind, wide and narrow, with and without null."""
    height = draw(st.integers(0, 4))
    names = draw(st.lists(SENTENCES.filter(str.strip), min_size=1, max_size=9, unique=True))
    columns = {}
    for name in names:
        dtype, values = draw(KINDS)
        drawn = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        columns[name] = pl.Series(name, drawn, dtype)
    return pl.DataFrame(columns)


def parts(value: object, dtype: pl.DataType) -> list[str]:
    """What of a value must stand on one line: the whole, or of sentences and lists every word."""
    if isinstance(value, datetime):
        return [value.strftime("%Y-%m-%d")]
    text = shown(value)
    return text.split() if dtype == pl.String or dtype.is_nested() else [text]


@given(frames(), st.integers(40, 200), st.data())
def test_no_value_is_split_over_lines(frame: pl.DataFrame, width: int, data: st.DataObject) -> None:
    spare = data.draw(st.lists(st.sampled_from(frame.columns), unique=True))
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    prose = data.draw(st.sampled_from(["", *texts]))
    layout = laid_out(frame, width, spare, prose)
    lines = [line.plain for line in layout.lines]
    kept = frame.drop(layout.dropped)
    for name, dtype in kept.schema.items():
        for value in kept[name].head(layout.rows).to_list():
            for part in parts(value, dtype):
                assert any(part in line for line in lines), part
    alone = {shown(name).strip() for name in frame.columns}
    alone |= {part for name in frame for value in name.to_list() for part in parts(value, name.dtype)}
    for line in lines:
        assert shown(line) == line, "nothing that a terminal obeys"
        assert cell_len(line) <= width or line.strip() in alone, "only what is one value is wider"


def test_what_has_no_room_is_dropped_in_the_order_given_or_records_have_it_all() -> None:
    frame = pl.DataFrame(
        {"market": ["binance-spot:BTCUSDT"], "a": ["x" * 20], "b": ["y" * 20], "c": ["z" * 20]}
    )
    assert laid_out(frame, 100, ["a", "b"]).dropped == []
    assert laid_out(frame, 70, ["a", "b"]).dropped == ["a"]
    assert laid_out(frame, 50, ["a", "b"]).dropped == ["a", "b"]
    records = laid_out(frame, 40, ["a", "b"])
    assert records.dropped == []
    assert [line.plain for line in records.lines][1:] == [
        "market  binance-spot:BTCUSDT",
        f"a       {'x' * 20}",
        f"b       {'y' * 20}",
        f"c       {'z' * 20}",
    ]


def test_a_sentence_goes_on_below_itself_in_a_table_and_in_a_record() -> None:
    why = "it is damaged and nobody knows how it came to that"
    frame = pl.DataFrame({"cell": ["2024-01|binance-spot:BTCUSDT"], "why": [why]})
    table = [line.plain for line in laid_out(frame, 62, prose="why").lines]
    assert table[2:] == [
        "2024-01|binance-spot:BTCUSDT  it is damaged and nobody knows",
        " " * 30 + "how it came to that",
    ]
    long = "https://archive.example/data/spot/monthly/klines/BTCUSDT"
    found = pl.DataFrame({"what": ["python", "archive"], "why": ["3.11", f"{long} does not answer"]})
    assert [line.plain for line in laid_out(found, 60, prose="why").lines][2:] == [
        "python   3.11",
        "archive",
        f"  {long}",
        "  does not answer",
    ], "a word without room there stands below its row, which stays a row"
    record = [line.plain for line in laid_out(frame, 40).lines]
    assert record[1:] == [
        "cell  2024-01|binance-spot:BTCUSDT",
        "why   it is damaged and nobody knows how",
        "      it came to that",
    ]


def test_records_are_as_many_as_somebody_reads() -> None:
    frame = pl.DataFrame({f"column_{n}": ["x" * 30] * 500 for n in range(9)})
    layout = laid_out(frame, 80)
    assert layout.rows == LINES_SHOWN // 10 + 1
    assert laid_out(frame.select("column_0"), 80).rows == ROWS_SHOWN


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"symbol": "A", "market_type": "spot", "exchange": "x"}, {"market": "x-spot:A"}),
        ({"n": 1, "exchange": "x", "market_type": "spot", "symbol": "A"}, {"n": 1, "market": "x-spot:A"}),
        ({"exchange": "x", "symbol": "A"}, None),
        ({"exchange": "x", "market_type": "spot", "symbol": None}, None),  # such as the row of a ROLLUP
        ({"exchange": "x", "market_type": "spot", "symbol": 5}, None),
        ({"exchange": "x", "market_type": "spot", "symbol": "A", "market": "mine"}, None),
    ],
)
def test_a_market_is_one_column_where_the_three_make_its_key(
    given: dict[str, object], expected: dict[str, object] | None
) -> None:
    frame = pl.DataFrame([given])
    assert with_market_key(frame).to_dicts() == [expected or given]


def test_a_line_breaks_at_blanks_alone() -> None:
    text = Text.assemble(("failed", "red"), " gold/candle_1h 2024-01|binance-spot:BTCUSDT: no bronze")
    assert [line.plain for line in wrapped(text, 20)] == [
        "failed",
        "gold/candle_1h",
        "2024-01|binance-spot:BTCUSDT:",
        "no bronze",
    ]
