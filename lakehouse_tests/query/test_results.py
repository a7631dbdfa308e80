"""What SQL yields: every type of DuckDB comes out as it is, as one that is told of, or is refused by its
column's name.
"""

import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.cli.app import main
from lakehouse.cli.documents import write_json, write_parquet
from lakehouse.cli.reporting import Report
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.errors import SqlError, SqlResultError
from lakehouse.model.result import CellResult
from lakehouse.query.lake import Lake
from lakehouse.query.results import result_frame
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import at, facts

BIG, HUGE = 2**127 - 1, 2**128 - 1
PLAIN = [
    ("TRUE", pl.Boolean(), True, True),
    ("7::TINYINT", pl.Int8(), 7, 7),
    ("7::USMALLINT", pl.UInt16(), 7, 7),
    ("18446744073709551615::UBIGINT", pl.UInt64(), 2**64 - 1, 2**64 - 1),
    ("7::HUGEINT", pl.Int64(), 7, 7),
    (f"{BIG}::HUGEINT", pl.Int128(), BIG, BIG),
    (f"({-BIG} - 1)::HUGEINT", pl.Int128(), -BIG - 1, -BIG - 1),
    ("7::UHUGEINT", pl.Int64(), 7, 7),
    (f"{HUGE}::UHUGEINT", pl.UInt128(), HUGE, HUGE),
    (
        "'-123456789012345678901234567890123456789012'::BIGNUM",
        pl.String(),
        "-123456789012345678901234567890123456789012",
        "-123456789012345678901234567890123456789012",
    ),
    ("1.50::DECIMAL(10, 2)", pl.Decimal(10, 2), Decimal("1.50"), 1.5),
    (f"{'9' * 38}::DECIMAL(38, 0)", pl.Decimal(38, 0), Decimal("9" * 38), int("9" * 38)),
    ("0.5::FLOAT", pl.Float32(), 0.5, 0.5),
    ("'-inf'::DOUBLE", pl.Float64(), float("-inf"), None),
    ("'[x] \"é\" :smile:'", pl.String(), '[x] "é" :smile:', '[x] "é" :smile:'),
    ("'{\"a\": 1}'::JSON", pl.String(), '{"a": 1}', '{"a": 1}'),
    ("'\\xAA\\x00a'::BLOB", pl.Binary(), b"\xaa\x00a", "aa0061"),
    ("'0101'::BIT", pl.String(), "0101", "0101"),
    (
        "'47183823-2574-4bfd-b411-99ed177d3e43'::UUID",
        pl.String(),
        "47183823-2574-4bfd-b411-99ed177d3e43",
        "47183823-2574-4bfd-b411-99ed177d3e43",
    ),
    ("'b'::ENUM('a', 'b')", pl.String(), "b", "b"),
    ("12::VARIANT", pl.String(), "12", "12"),
    ("'POINT(1 2)'::GEOMETRY", pl.String(), "POINT (1 2)", "POINT (1 2)"),
    ("get_type(1)", pl.String(), "INTEGER", "INTEGER"),
    ("DATE '0001-01-01'", pl.Date(), date.min, "0001-01-01"),
    ("DATE '9999-12-31'", pl.Date(), date.max, "9999-12-31"),
    ("TIME '23:59:59.999999'", pl.Time(), time(23, 59, 59, 999_999), "23:59:59.999999"),
    ("'12:30:00.000001'::TIME_NS", pl.Time(), time(12, 30, 0, 1), "12:30:00.000001"),
    ("TIMETZ '12:30:00+05:30'", pl.String(), "12:30:00+05:30", "12:30:00+05:30"),
    ("TIMESTAMP '0001-01-01'", pl.Datetime("us"), datetime.min, "0001-01-01 00:00:00"),
    (
        "TIMESTAMP_S '2024-02-05 06:30:00'",
        pl.Datetime("us"),
        datetime(2024, 2, 5, 6, 30),
        "2024-02-05 06:30:00",
    ),
    (
        "TIMESTAMP_MS '2024-02-05 06:30:00.125'",
        pl.Datetime("us"),
        datetime(2024, 2, 5, 6, 30, 0, 125_000),
        "2024-02-05 06:30:00.125000",
    ),
    (
        "TIMESTAMP_NS '2024-02-05 06:30:00.123456'",
        pl.Datetime("us"),
        datetime(2024, 2, 5, 6, 30, 0, 123_456),
        "2024-02-05 06:30:00.123456",
    ),
    (
        "TIMESTAMPTZ '2024-02-05 06:30:00+02'",
        pl.Datetime("us", "UTC"),
        at("2024-02-05T04:30"),
        "2024-02-05 04:30:00+00:00",
    ),
    (
        "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'",
        pl.Datetime("us", "UTC"),
        datetime.max.replace(tzinfo=UTC),
        "9999-12-31 23:59:59.999999+00:00",
    ),
]
"""In SQL; type, value in Python, value in JSON."""

NO_INSTANT = "holds an instant that is infinite or outside the years 1 to 9999"
REFUSED = [
    *(
        (f"'{sign}infinity'::{kind}", NO_INSTANT)
        for sign in ("", "-")
        for kind in ("DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS")
    ),
    ("'infinity'::TIMESTAMP_NS", "holds a time that is infinite or finer than a microsecond"),
    (
        "TIMESTAMP_NS '2024-02-05 06:30:00.123456789'",
        "holds a time that is infinite or finer than a microsecond",
    ),
    ("'12:30:00.000000001'::TIME_NS", "holds a time that is infinite or finer than a microsecond"),
    ("TIME '24:00:00'", "holds the time 24:00:00"),
    ("'24:00:00'::TIME_NS", "holds the time 24:00:00"),
    ("DATE '10000-01-01'", NO_INSTANT),
    ("DATE '0001-12-31 (BC)'", NO_INSTANT),
    ("TIMESTAMP '10000-01-01'", NO_INSTANT),
    ("TIMESTAMPTZ '0001-01-01 00:00:00+01'", NO_INSTANT),
    ("union_value(a := 1)", "holds a type that is not read (union)"),
    ("row(1, 2)", "has fields without a name"),
    ("MAP {[1]: 2}", "has keys that are not read (INTEGER[])"),
    ("MAP {1::HUGEINT: 2}", "has keys that are not read (HUGEINT)"),
]

WRAPS: list[tuple[str, Callable[[pl.DataType], pl.DataType], Callable[[object], object]]] = [
    ("[{0}, NULL]", pl.List, lambda value: [value, None]),
    ("[[], [{0}]]", lambda dtype: pl.List(pl.List(dtype)), lambda value: [[], [value]]),
    ("array_value({0}, {0})", lambda dtype: pl.Array(dtype, 2), lambda value: [value, value]),
    (
        "{{'size': {0}, 'a\"b': 1}}",
        lambda dtype: pl.Struct({"size": dtype, 'a"b': pl.Int32}),
        lambda value: {"size": value, 'a"b': 1},
    ),
    ("MAP {{'k': {0}}}", lambda dtype: pl.Map(pl.String, dtype), lambda value: {"k": value}),
]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        yield connection


def ask(duck: duckdb.DuckDBPyConnection, query: str) -> pl.DataFrame:
    """The answer, which also prints in every way there is."""
    found = result_frame(duck.sql(query))
    assert str(found)
    write_parquet(found, io.BytesIO())
    for form in ("table", "csv", "json"):
        Report(form).table("", found)
    return found


@pytest.mark.parametrize(("sql", "dtype", "value", "plain"), PLAIN, ids=[sql for sql, *_ in PLAIN])
def test_a_type_comes_out_as_the_table_says_alone_and_within_others(
    duck: duckdb.DuckDBPyConnection,
    sql: str,
    dtype: pl.DataType,
    value: object,
    plain: object,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = ask(
        duck,
        f"SELECT {sql} AS one UNION ALL SELECT NULL ORDER BY 1 NULLS LAST"
        if "POINT" not in sql
        else f"SELECT unnest([{sql}, NULL]) AS one",
    )
    assert (found.schema["one"], found["one"].to_list()) == (dtype, [value, None])
    out = capsys.readouterr().out
    assert json.loads(out[out.index("[\n") :])[0] == {"one": plain}
    for wrap, of, within in WRAPS:
        found = ask(duck, f"SELECT {wrap.format(sql)} AS one, 1 AS two")
        assert (found.schema["one"], found["one"].to_list()) == (of(dtype), [within(value)]), wrap
        out = capsys.readouterr().out
        assert json.loads(out[out.index("[\n") :]) == [{"one": within(plain), "two": 1}]


@pytest.mark.parametrize(("sql", "why"), REFUSED, ids=[sql for sql, _ in REFUSED])
def test_what_has_no_place_is_refused_by_its_column_alone_and_within_others(
    duck: duckdb.DuckDBPyConnection, sql: str, why: str
) -> None:
    for wrap in ("{0}", *(wrap for wrap, *_ in WRAPS), "{{'a': [MAP {{1: {0}}}]}}"):
        with pytest.raises(SqlResultError) as error:
            result_frame(duck.sql(f"SELECT 1 AS sound, {wrap.format(sql)} AS odd"))
        assert str(error.value).startswith("The statement was refused: its column odd (")
        assert why in str(error.value)
        assert "CAST(… AS VARCHAR)" in str(error.value)
    assert ask(duck, f"SELECT CAST({sql} AS VARCHAR) AS odd").height == 1, "the remedy works"


def test_one_value_among_many_refuses_its_column_alone(duck: duckdb.DuckDBPyConnection) -> None:
    days = "SELECT DATE '2024-01-01' + range::INTEGER AS day, if(range = 15_000, 'infinity'::TIMESTAMP, NULL) AS odd FROM range(20_000)"
    with pytest.raises(SqlResultError, match=r"its column odd "):
        ask(duck, days)
    assert ask(duck, f"SELECT day FROM ({days})").height == 20_000
    assert ask(duck, f"SELECT * FROM ({days}) WHERE odd IS NULL OR isfinite(odd)").height == 19_999, (
        "the remedy works"
    )
    assert ask(duck, f"SELECT odd FROM ({days}) WHERE false").schema == {"odd": pl.Datetime("us")}


def test_every_type_that_duckdb_names_is_promised_above(duck: duckdb.DuckDBPyConnection) -> None:
    named = {row[0] for row in duck.sql("SELECT DISTINCT logical_type FROM duckdb_types()").fetchall()}
    tried = {str(duck.sql(f"SELECT {sql} AS one").types[0]) for sql, *_ in [*PLAIN, *REFUSED]}
    # an untyped NULL is an INTEGER; the others below
    words = {kind.partition("(")[0] for kind in tried} | {"NULL", "LIST", "ARRAY", "INTERVAL"}
    assert named - words == {"INTEGER", "BIGINT", "SMALLINT", "UINTEGER", "UTINYINT"}, (
        "integers of further widths"
    )
    widths = ask(
        duck,
        "SELECT 1::SMALLINT AS a, 1::INTEGER AS b, 1::BIGINT AS c, 1::UTINYINT AS d, 1::UINTEGER AS e, NULL "
        "AS f",
    )
    assert widths.schema.dtypes() == [pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt32, pl.Int32]


# --- integers of 128 bits, decimals ---------------------------------------------------------------


@given(
    st.lists(
        st.one_of(st.integers(-(2**127), BIG), st.integers(-(2**63) - 1, 2**63), st.none()),
        min_size=1,
        max_size=5,
    )
)
def test_integers_keep_every_digit(numbers: list[int | None]) -> None:
    with duckdb.connect() as duck:
        values = ", ".join(
            "(NULL::HUGEINT)" if number is None else f"('{number}'::HUGEINT)" for number in numbers
        )
        found = result_frame(duck.sql(f"SELECT n, [n] AS inner FROM (VALUES {values}) AS t(n)"))
    fits = all(number is None or -(2**63) <= number < 2**63 for number in numbers)
    assert found.schema == {
        "n": pl.Int64 if fits else pl.Int128,
        "inner": pl.List(pl.Int64 if fits else pl.Int128),
    }
    assert found["n"].to_list() == numbers
    assert found["inner"].to_list() == [[number] for number in numbers]


def test_a_sum_of_integers_is_a_number_everywhere(
    duck: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(
        duck, "SELECT range % 2 AS odd, sum(range) AS total FROM range(10) GROUP BY 1 ORDER BY 1 DESC"
    )
    assert found.rows() == [(1, 25), (0, 20)], "in the order that was asked for"
    assert '"total": 25' in capsys.readouterr().out


def test_a_decimal_is_a_number_of_json_with_all_its_digits(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(
        [
            Decimal("1.10"),
            Decimal("0.00000000000000000001"),
            Decimal("1E+3"),
            Decimal("NaN"),
            {"a": (Decimal("12345678901234567890.123456789"), float("nan"))},
            {},
            [],
        ],
        sys.stdout.buffer,
    )
    out = capsys.readouterr().out
    exact = [
        Decimal("1.10"),
        Decimal("0.00000000000000000001"),
        Decimal(1000),
        None,
        {"a": [Decimal("12345678901234567890.123456789"), None]},
        {},
        [],
    ]
    assert json.loads(out, parse_float=Decimal) == exact
    assert "1.10" in out


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "length"),
    [
        ("INTERVAL '1 day -1.5 seconds'", timedelta(days=1, seconds=-1.5)),
        ("to_hours(3000000)", timedelta(hours=3_000_000)),
        (f"to_microseconds({2**63 - 1})", timedelta(microseconds=2**63 - 1)),
        (f"to_microseconds({-(2**63)})", timedelta(microseconds=-(2**63))),
        ("TIMESTAMP '9999-12-31' - TIMESTAMP '0001-01-01'", date.max - date.min),
    ],
)
def test_an_interval_is_a_duration_of_its_whole_length(
    duck: duckdb.DuckDBPyConnection, sql: str, length: timedelta
) -> None:
    """Arrow counts nanoseconds, which wrap after 292 years."""
    found = ask(duck, f"SELECT unnest([{sql}, NULL]) AS long, 1 AS one")
    assert (found.schema["long"], found["long"].to_list()) == (pl.Duration("us"), [length, None])


def test_an_interval_with_months_or_within_another_type_is_text(duck: duckdb.DuckDBPyConnection) -> None:
    found = ask(
        duck,
        "SELECT unnest([INTERVAL '-14 months 3 days -0.5 seconds', NULL]) AS long, [INTERVAL 1 DAY] AS days, "
        "{'a': INTERVAL 2 DAY} AS fields, MAP {INTERVAL 3 DAY: 1} AS keys",
    )
    assert found.rows()[0] == (
        "-14 months, 3 days, -0.500000 seconds",
        ["1 day"],
        {"a": "2 days"},
        {"3 days": 1},
    )
    assert found["long"][1] is None


# --- names, settings, statements ------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS a, 2 AS b, 3 AS a",
        "SELECT 1::HUGEINT AS a, 2 AS a",
        "SELECT * FROM range(2) AS x, range(2) AS y",
    ],
)
def test_columns_of_one_name_are_refused_with_it(duck: duckdb.DuckDBPyConnection, query: str) -> None:
    with pytest.raises(SqlError, match=r"has more than once: (a|range)\. Give each column a name of its own"):
        result_frame(duck.sql(query))


def test_names_that_differ_in_case_or_are_odd_keep_their_columns(duck: duckdb.DuckDBPyConnection) -> None:
    found = ask(duck, 'SELECT 1::HUGEINT AS a, 2 AS A, 3 AS "a ""b""", 4 AS "#1", INTERVAL 5 DAY AS "select"')
    assert found.rows() == [(1, 2, 3, 4, timedelta(days=5))]
    assert found.columns == ["a", "A", 'a "b"', "#1", "select"]


@pytest.mark.parametrize(
    "setting",
    [
        "arrow_lossless_conversion = true",
        "produce_arrow_string_view = true",
        "arrow_large_buffer_size = true",
        "arrow_output_list_view = true",
        "TimeZone = 'Asia/Kathmandu'",
    ],
)
def test_a_setting_changes_no_answer(setting: str) -> None:
    values = "uuid '47183823-2574-4bfd-b411-99ed177d3e43' AS a, 7::HUGEINT AS b, '01'::BIT AS c, ['x'] AS d, TIMESTAMPTZ '2024-02-05 00:00:00+00' AS e, 'y'::BLOB AS f"
    with duckdb.connect() as duck:
        found = ask(duck, f"SET {setting}; SELECT {values}")
    assert found.rows() == [("47183823-2574-4bfd-b411-99ed177d3e43", 7, "01", ["x"], at("2024-02-05"), b"y")]
    assert found.schema["e"] == pl.Datetime("us", "UTC")


def test_what_a_setting_makes_unreadable_is_refused_by_its_column() -> None:
    for setting, column in (
        ("arrow_lossless_conversion = true", "TRUE AS odd"),
        ("TimeZone = 'US/Pacific-New'", "now() AS odd"),
    ):
        with duckdb.connect() as duck, pytest.raises(SqlResultError, match=r"its column odd .* is not read"):
            ask(duck, f"SET {setting}; SELECT {column}")


@pytest.mark.parametrize(
    "query",
    [
        "SHOW TABLES",
        "DESCRIBE SELECT 1::HUGEINT",
        "SUMMARIZE SELECT 1::HUGEINT AS a",
        "EXPLAIN SELECT 1::HUGEINT",
        "VALUES (1::HUGEINT)",
        "PIVOT (SELECT 1::HUGEINT AS a, 'x' AS b) ON b USING sum(a)",
    ],
)
def test_statements_of_every_kind_are_read(duck: duckdb.DuckDBPyConnection, query: str) -> None:
    assert ask(duck, query).width > 0


# --- through the lake and the command -------------------------------------------------------------


@pytest.fixture
def said(
    objects: LakeObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `lakehouse sql` over a lake: code, output, errors."""
    TableStore(objects).put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKEHOUSE_ROOT", objects.root)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lakehouse", "sql", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return run


def test_the_command_prints_every_type(
    said: Callable[..., tuple[int, str, str]], objects: LakeObjects
) -> None:
    query = (
        "SELECT "
        + ", ".join(f"{sql} AS c{number}, [{sql}] AS d{number}" for number, (sql, *_) in enumerate(PLAIN))
        + ", (SELECT count(*)::HUGEINT FROM silver.market) AS n"
    )
    code, out, _ = said(query, "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert {f"c{number}": row[f"c{number}"] for number in range(len(PLAIN))} == {
        f"c{number}": plain for number, (*_, plain) in enumerate(PLAIN)
    }
    assert row["n"] == 1
    assert said(query)[0] == 0
    assert Lake(objects.root).sql("SELECT sum(1) AS n FROM silver.market").rows() == [(1,)]


def test_the_command_prints_for_people(said: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = said(
        "--format",
        "table",
        "SELECT TIMESTAMPTZ '0001-01-01 00:00:00+00' AS first, [DATE '2024-02-05'] AS days, {'a': 1.50} AS "
        "fields, '\\x01\\xFF'::BLOB AS bytes, 1e-7::DECIMAL(9, 8) AS small",
    )
    for text in (
        "0001-01-01",
        '["2024-02-05"]',
        '{"a": 1.50}',
        "01ff",
        "0.00000010",
        "Times are UTC.",
    ):
        assert text in out


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_command_refuses_by_the_columns_name(
    said: Callable[..., tuple[int, str, str]], form: tuple[str, ...]
) -> None:
    code, out, err = said("SELECT 1 AS sound, ['infinity'::TIMESTAMPTZ] AS odd", *form)
    assert (code, out) == (2, "")
    assert "its column odd (TIMESTAMP WITH TIME ZONE[]) holds an instant that is infinite" in err
