"""One declaration, many projections: they agree for every declared table."""

from datetime import datetime
from functools import cache
from typing import Any

import pandera.errors
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.datasets.dataset import Dataset
from lakehouse.model.cell import Cell
from lakehouse.model.errors import CellError, DuplicateKeyError, SchemaError
from lakehouse.model.result import CellResult
from lakehouse.model.table import UTC_TIME, Column, Rule, Table
from lakehouse.query.engine import connect
from lakehouse.query.views import create_view
from lakehouse.registry import REGISTRY
from lakehouse.storage.layout import cell_path, partition_columns
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, MINUTE, at, candles, minutes

TABLES = REGISTRY.tables
by_name = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
_POOLS: dict[Any, list[Any]] = {
    pl.Float64: [None, float("nan"), float("inf"), -1.0, 0.0, 1.0, 2.0, 3.0],
    pl.Int64: [None, -1, 0, 1, 2],
    pl.Int32: [None, -1, 0, 1, 2],
    pl.String: [None, "x"],
    pl.Boolean: [None, True],
    UTC_TIME: [None, at("2024-02-01")],
}


class Pair(Table):
    """Two bounded numbers."""

    name = "gold/pair"
    key = ("id",)
    time = ""

    id = Column(pl.Int64, "Which")
    low = Column(pl.Float64, "Lower", at_least=0)
    high = Column(pl.Float64, "Upper", "quote", nullable=True, above=1)

    row_rules = (
        Rule("low_below_high", pl.col("low") < pl.col("high"), "low is below high"),
        Rule("low_is_small", pl.col("low") < 100, "low is small"),
    )


@cache
def pandera_schema(table: type[Table]) -> Any:
    return table.pandera_schema()


def good_row(table: type[Table], n: int) -> dict[str, Any]:
    """A row that no rule of any table forbids, with a key of its own."""
    values: dict[Any, Any] = {
        pl.Float64: 1.0,
        pl.Int64: 1,
        pl.Int32: 1,
        pl.String: "x",
        pl.Boolean: False,
        UTC_TIME: at("2024-02-01"),
    }
    row = {name: values[column.dtype] for name, column in table.columns.items()}
    return (
        row
        | {
            name: at("2024-02-01") + n * MINUTE
            for name, column in table.columns.items()
            if column.dtype == UTC_TIME
        }
        | distinct(table, n)
    )


def distinct(table: type[Table], n: int) -> dict[str, Any]:
    first = table.key[0]
    kinds: dict[Any, Any] = {pl.String: f"k{n:03d}", UTC_TIME: at("2024-02-01") + n * MINUTE, pl.Int64: n}
    return {first: kinds[table.columns[first].dtype]}


def frame_of(table: type[Table], rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.polars_schema(), orient="row")


def rejected_by_pandera(table: type[Table], frame: pl.DataFrame) -> set[int]:
    try:
        pandera_schema(table).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return set(error.failure_cases["index"].to_list())
    return set()


@by_name
def test_polars_arrow_parquet_glue_and_duckdb_agree(table: type[Table], objects: LakeObjects) -> None:
    schema = table.polars_schema()
    assert pl.from_arrow(table.arrow_schema().empty_table()).schema == schema  # type: ignore[union-attr]
    assert [(column["Name"], column["Comment"]) for column in table.glue_columns()] == [
        (name, table.comment(name)) for name in schema
    ]
    assert all(column["Comment"] for column in table.glue_columns())
    arrow = {
        "timestamp": pa.timestamp("us", tz="UTC"),
        "double": pa.float64(),
        "bigint": pa.int64(),
        "int": pa.int32(),
        "string": pa.large_string(),
        "boolean": pa.bool_(),
    }
    assert [arrow[column["Type"]] for column in table.glue_columns()] == table.arrow_schema().types

    cell = {"market": Cell("2024-02", BTC), "all": Cell("2024-02"), "one": None}[table.spread]
    record = TableStore(objects).put(
        table, cell, CellResult(frame_of(table, [good_row(table, n) for n in range(3)]), {})
    )
    path = cell_path(table, cell)
    assert pq.read_schema(objects.uri(path)).remove_metadata().equals(table.arrow_schema())
    described = []
    for records in ([], [record]):
        connection, files = connect(objects)
        with connection:
            create_view(connection, files, table, records)
            described.append(
                connection.sql(f"DESCRIBE {table.name.replace('/', '.')}")
                .pl()
                .select("column_name", "column_type")
                .rows()
            )
    assert described[0] == described[1]
    types = {
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "double": "DOUBLE",
        "bigint": "BIGINT",
        "int": "INTEGER",
        "string": "VARCHAR",
        "boolean": "BOOLEAN",
    }
    assert described[0] == [(name, types[table.sql_type(name)]) for name in schema] + [
        (key, "VARCHAR") for key in partition_columns(table)
    ]


@by_name
def test_every_table_says_what_it_is(table: type[Table]) -> None:
    assert table.name == f"{table.zone()}/{table.short_name()}"
    assert set(table.key) <= set(table.names())
    assert table.description()
    assert "Attributes:" not in table.description()
    assert set(table.input_names()) <= set(REGISTRY.by_name)
    names = [rule.name for rule in table.rules()]
    assert len(names) == len(set(names))
    assert all(rule.description for rule in table.rules())


@by_name
def test_pandera_accepts_good_rows_and_the_schema_is_exact(table: type[Table]) -> None:
    frame = frame_of(table, [good_row(table, n) for n in range(4)])
    good, broken = table.split(frame)
    assert (good.height, broken.height) == (4, 0)
    assert rejected_by_pandera(table, frame) == set()
    assert pandera_schema(table).validate(table.empty()).height == 0
    for wrong in (
        frame.with_columns(extra=1),
        frame.drop(table.names()[-1]),
        frame.with_columns(pl.lit(1.5).alias(table.key[0])),
    ):
        with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
            pandera_schema(table).validate(wrong)
    with pytest.raises(pandera.errors.SchemaError, match="not unique"):
        pandera_schema(table).validate(pl.concat([frame, frame.head(1)]))


@pytest.mark.slow
@by_name
@settings(max_examples=12)
@given(data=st.data())
def test_pandera_rejects_exactly_the_rows_that_split_rejects(table: type[Table], data: st.DataObject) -> None:
    changes = st.dictionaries(
        st.sampled_from([name for name in table.names() if name != table.key[0]]),
        st.integers(0, 7),
        max_size=3,
    )
    rows = []
    for n, change in enumerate(data.draw(st.lists(changes, min_size=1, max_size=6))):
        pools = {name: _POOLS[table.columns[name].dtype] for name in change}
        rows.append(
            good_row(table, n)
            | {name: pools[name][index % len(pools[name])] for name, index in change.items()}
        )
    frame = frame_of(table, rows)
    good, broken = table.split(frame)
    positions = frame.with_row_index("n")
    assert rejected_by_pandera(table, frame) == set(positions.join(broken, on=table.key[0], how="semi")["n"])
    assert sorted(pl.concat([good, broken.drop("rule")])[table.key[0]]) == sorted(frame[table.key[0]])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, float("nan"), float("inf"), -1.0, 0.0, 50.0, 200.0]),
            st.sampled_from([None, float("nan"), -1.0, 1.0, 2.0, 500.0]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_split_names_the_first_rule_a_row_breaks(values: list[tuple[float | None, float | None]]) -> None:
    def first_broken(low: float | None, high: float | None) -> str | None:
        told = [
            ("low_not_null", low is None),
            ("low_finite", low is not None and (low != low or abs(low) == float("inf"))),
            ("low_at_least_0", low is not None and low < 0),
            ("high_finite", high is not None and high != high),
            ("high_above_1", high is not None and high <= 1),
            ("low_below_high", low is not None and high is not None and not low < high),
            ("low_is_small", low is not None and not low < 100),
        ]
        return next((name for name, broken in told if broken), None)

    frame = frame_of(Pair, [{"id": n, "low": low, "high": high} for n, (low, high) in enumerate(values)])
    good, broken = Pair.split(frame)
    expected = {n: first_broken(low, high) for n, (low, high) in enumerate(values)}
    assert dict(broken.select("id", "rule").iter_rows()) == {n: rule for n, rule in expected.items() if rule}
    assert good["id"].to_list() == [n for n, rule in expected.items() if rule is None]
    assert good.schema == Pair.polars_schema()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"open": 98.0}, "low_is_lowest"),
        ({"close": 103.0}, "high_is_highest"),
        ({"high": 98.5}, "high_is_highest"),
        ({"taker_buy_volume": 10.1}, "taker_within_volume"),
        ({"taker_buy_quote_volume": 1006.0}, "taker_within_quote_volume"),
        ({"close": 0.0}, "close_above_0"),
        ({"close_time": at("2024-02-05T00:00:59")}, "close_time_in_candle"),
        ({"close_time": at("2024-02-05T00:02")}, "close_time_in_candle"),
        ({"volume": -1.0, "taker_buy_volume": -2.0}, "volume_at_least_0"),
        ({"volume": None}, "volume_not_null"),
        ({"high": float("inf")}, "high_finite"),
        ({"quote_volume": float("nan")}, "quote_volume_finite"),
    ],
)
def test_the_rules_of_candles(change: dict[str, Any], rule: str) -> None:
    times = minutes("2024-02-05", 3)
    rows = candles(
        times,
        **{name: [candles(times)[name][0], value, candles(times)[name][2]] for name, value in change.items()},
    )
    good, broken = REGISTRY.table("silver/candle").split(rows)
    assert (good["open_time"].to_list(), broken["rule"].to_list()) == ([times[0], times[2]], [rule])


def test_a_value_that_is_not_published_breaks_no_rule() -> None:
    rows = candles(
        minutes("2024-02-05", 2),
        quote_volume=None,
        trade_count=None,
        taker_buy_volume=None,
        taker_buy_quote_volume=None,
    )
    assert REGISTRY.table("silver/candle").split(rows)[0].equals(rows)


def test_conform_sorts_by_key_and_orders_columns() -> None:
    frame = frame_of(Pair, [{"id": n, "low": float(n), "high": None} for n in (2, 0, 1)])
    assert Pair.conform(frame.select("high", "id", "low"), FEBRUARY).rows() == [
        (0, 0.0, None),
        (1, 1.0, None),
        (2, 2.0, None),
    ]
    assert Pair.conform(Pair.empty(), None).schema == Pair.polars_schema()


def test_conform_names_every_difference() -> None:
    frame = pl.DataFrame({"id": ["1"], "low": [1.0], "extra": [True]})
    with pytest.raises(SchemaError) as told:
        Pair.conform(frame, FEBRUARY)
    message = str(told.value)
    for part in (
        "gold/pair 2024-02|binance-spot:BTCUSDT",
        "high is missing",
        "extra is not declared",
        "id is String, declared Int64",
        "nothing was written",
    ):
        assert part in message
    naive = candles([datetime(2024, 2, 1)]).with_columns(pl.col("open_time").dt.replace_time_zone(None))
    with pytest.raises(SchemaError, match="open_time is Datetime"):
        REGISTRY.table("silver/candle").conform(naive, None)


def test_conform_refuses_rows_that_share_a_key() -> None:
    frame = frame_of(Pair, [{"id": n, "low": 1.0, "high": None} for n in (3, 1, 3, 2, 1, 3)])
    with pytest.raises(DuplicateKeyError, match="5 rows share a key with another row, the first at 1"):
        Pair.conform(frame, FEBRUARY)
    assert issubclass(DuplicateKeyError, CellError)


def test_the_schema_text_is_the_declarations_and_no_librarys() -> None:
    assert Pair.schema_text() == "id:bigint,low:double,high:double?"


def test_a_column_may_have_the_name_of_what_a_table_says_of_itself() -> None:
    spread, checks = Column(pl.Float64, "Ask less bid", "quote"), Column(pl.String, "As named")
    quotes = type("Quotes", (Pair,), {"spread": spread, "checks": checks, "name": "gold/quotes"})
    of_all = type("OfAll", (quotes,), {"spread": "all"})
    for table, expected in ((quotes, "market"), (of_all, "all")):
        assert (table.spread, table.checks) == (expected, Pair.checks)
        assert table.names() == [*Pair.names(), "spread", "checks"]
        assert table.schema_text() == f"{Pair.schema_text()},spread:double,checks:string"


@by_name
def test_a_table_places_its_rows_in_time_by_an_instant_of_its_key(table: type[Table]) -> None:
    if table.spread == "one":
        assert table.time == ""
        return
    assert table.columns[table.time].dtype == UTC_TIME
    assert table.time in table.key
    assert not table.columns[table.time].nullable


@pytest.mark.parametrize("dataset", REGISTRY.datasets)
def test_a_bronze_table_states_values_of_what_the_silver_table_has_a_row_for(dataset: Dataset) -> None:
    assert {table.identity() for table in dataset.bronze} == {dataset.silver.key}
    assert {table.time for table in dataset.bronze} == {dataset.silver.time}
