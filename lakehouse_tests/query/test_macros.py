"""`candles` and `join_asof` in SQL mean what they mean in Python, and open no cell that they do not mean."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import CANDLES, OF_INTERVAL
from lakehouse.features.funding_carry import FundingCarry
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import BehindInputsWarning, DamagedObjectError, SqlBeyondLakeError, SqlError
from lakehouse.model.interval import COARSE, INTERVALS, MINUTE, Interval
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.model.timerange import parse_instant
from lakehouse.query import macros
from lakehouse.query.engine import LakeFiles
from lakehouse.query.lake import Lake
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse.transform.resample import resample
from lakehouse_tests.export.series import LINEAR, rates
from lakehouse_tests.making import BTC, at, candles, minutes, walk

ETH, ODD = Market("binance", "linear", "ETHUSDT"), Market("other", "spot", "币安人生")
MARKETS = (BTC, ETH, ODD)
MONTHS = ("2023-12", "2024-01", "2024-02")
COLUMNS = list(OF_INTERVAL[COARSE[0]].columns)


def fill(objects: LakeObjects) -> None:
    """Two days about the begin of each month, with a gap. The gold of BTC's February is of other minutes, and
    ETH has none of its January.
    """
    store = TableStore(objects)
    for seed, (market, month) in enumerate(itertools.product(MARKETS, MONTHS)):
        cell = Cell(month, market)
        times = [
            time for time in minutes(f"{month}-01", 2880) if not 290 <= time.hour * 60 + time.minute < 371
        ]
        rows = walk(times, seed, price=40_000.123 / (1 + seed), step=1e-2)
        record = store.put(Candle, cell, CellResult(rows, {}))
        for table in CANDLES:
            if (market, month) == (ETH, "2024-01"):
                continue
            inputs = {f"{Candle.name}@{month}": record.version}
            store.put(table, cell, CellResult(table.compute({Candle.name: rows}, cell.window), inputs))
    times = minutes("2024-02-01", 1441)
    store.put(Candle, Cell("2024-02", BTC), CellResult(walk(times, 99, step=1e-2), {}))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three markets by three months; shared, so it must not be changed."""
    objects = LakeObjects(tmp_path_factory.mktemp("macros") / "lake")
    fill(objects)
    return Lake(objects.root)


@pytest.fixture
def opened() -> Iterator[set[str]]:
    """The cells of which the engine opened an object, by their paths."""
    found: set[str] = set()
    reading = LakeFiles.open

    def noted(files: LakeFiles, path: str, mode: str = "rb", **how: object) -> object:
        found.add(files._cells[path][1].path)
        return reading(files, path, mode, **how)

    with patch.object(LakeFiles, "open", noted):
        yield found


def expected(lake: Lake, market: Market, start: object, end: object, interval: Interval) -> pl.DataFrame:
    """What `Lake.candles` has, with the columns of the macro."""
    found = lake.candles(market, start, end, interval.name)  # type: ignore[arg-type]
    if interval == MINUTE:
        ends = pl.col("open_time").dt.truncate("1m") + MINUTE.delta
        found = found.with_columns(
            candle_count=pl.lit(1, pl.Int32),
            knowable_at=pl.max_horizontal(ends, pl.col("close_time") + timedelta(microseconds=1)),
        )
    return found.select(COLUMNS)


# --- candles --------------------------------------------------------------------------------------

BEGIN = at("2023-11-30T12:00")
INSTANTS = st.none() | st.integers(0, 100 * 24 * 4).map(
    lambda quarter: BEGIN + timedelta(minutes=15 * quarter)
)


@pytest.mark.filterwarnings("ignore::lakehouse.model.errors.BehindInputsWarning")
@settings(max_examples=30)
@given(st.sampled_from(MARKETS), INSTANTS, INSTANTS, st.sampled_from(INTERVALS))
def test_a_range_of_candles_is_that_of_the_sdk(
    lake: Lake, market: Market, start: datetime | None, end: datetime | None, interval: Interval
) -> None:
    if start and end and start >= end:
        start, end = end, start + timedelta(minutes=1)
    texts = [f"'{instant:%Y-%m-%dT%H:%M}'" if instant else "NULL" for instant in (start, end)]
    key = market.key
    found = lake.sql(f"FROM candles('{key}', {texts[0]}, {texts[1]}, '{interval}') ORDER BY open_time")
    assert found.select(COLUMNS).equals(expected(lake, market, start, end, interval))
    assert found.schema.names() == [*COLUMNS, "exchange", "market_type", "symbol"]
    assert set(found["symbol"]) <= {market.symbol}


SIZES = st.one_of(
    st.integers(0, 10**15).map(lambda digits: digits / 10**10),
    st.integers(0, 4 * 10**15).map(lambda digits: digits / 10**8),
    st.floats(0, 1e9, allow_subnormal=False),
    st.none(),
)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3000), SIZES, SIZES), max_size=30, unique_by=lambda row: row[0]))
def test_sums_are_the_same_to_the_bit_for_any_sizes(
    rows: list[tuple[int, float | None, float | None]],
) -> None:
    # some open late, as after a halt, two of them in one minute
    times = [at("2024-01-31T23:00") + timedelta(seconds=60 * number - number % 5) for number, _, _ in rows]
    frame = candles(
        times,
        volume=[first or 0.0 for _, first, _ in rows],
        quote_volume=[second for _, _, second in rows],
        contracts=[first for _, first, _ in rows],
        open=[100.0 + number / 7 for number, _, _ in rows],
        trade_count=[None if second is None else number for number, _, second in rows],
    )
    named = frame.with_columns(
        exchange=pl.lit("e"),
        market_type=pl.lit("m"),
        symbol=pl.lit("s"),
        month=pl.col("open_time").dt.month(),
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='Asia/Kathmandu'")
        connection.register("named", named)
        for interval in (COARSE[0], COARSE[2], COARSE[-1]):
            rows = macros._resampled(interval, "FROM named")
            made = connection.sql(f"SELECT {', '.join(COLUMNS)} FROM ({rows}) ORDER BY open_time").pl()
            by_month = [
                resample(part, interval)
                for (_,), part in frame.group_by(pl.col("open_time").dt.month(), maintain_order=True)
            ]
            right = pl.concat([resample(frame.clear(), interval), *by_month]).sort("open_time")
            utc = pl.selectors.datetime().dt.convert_time_zone("UTC")
            assert made.with_columns(utc).equals(right.select(COLUMNS)), interval


@pytest.mark.parametrize(
    ("call", "paths"),
    [
        ("candles('binance-spot:BTCUSDT', '2024-01-01', '2024-02-01')", ["silver/candle BTCUSDT 2024-01"]),
        (
            "candles('binance-spot:BTCUSDT', '2024-01-01', '2024-02-01', '1h')",
            ["gold/candle_1h BTCUSDT 2024-01"],
        ),
        (
            "candles('binance-linear:ETHUSDT', '2024-01-31T23:00', '2024-02-01', '4h')",
            ["silver/candle ETHUSDT 2024-01"],
        ),
        (
            "candles('binance-spot:BTCUSDT', '2024-01', step := '1d')",
            ["gold/candle_1d BTCUSDT 2024-01", "silver/candle BTCUSDT 2024-02"],
        ),
        ("candles('binance-spot:BTCUSDT', end_time := DATE '2024-01-01')", ["silver/candle BTCUSDT 2023-12"]),
        ("candles('binance-spot:BTCUSDT', '2030-01', '2030-02')", []),
        (
            "candles('binance-linear:ETHUSDT', '2024-02') a "
            "JOIN candles('binance-spot:BTCUSDT', '2024-01', '2024-02', '1h') b USING (open_time)",
            ["gold/candle_1h BTCUSDT 2024-01", "silver/candle ETHUSDT 2024-02"],
        ),
    ],
)
def test_a_call_opens_the_cells_that_it_means(
    lake: Lake, opened: set[str], call: str, paths: list[str]
) -> None:
    lake.sql(
        f"SELECT count(*) FROM {call} WHERE close > 0"
        if "JOIN" not in call
        else f"SELECT a.close FROM {call}"
    )
    parts = [path.split("/") for path in sorted(opened)]
    assert [f"{p[0]}/{p[1]} {p[4][7:]} {p[5][6:]}" for p in parts] == paths


def test_what_a_call_does_not_plainly_say_narrows_nothing_and_means_the_same(
    lake: Lake, opened: set[str]
) -> None:
    plain = lake.sql(
        "SELECT sum(volume) FROM candles('binance-spot:BTCUSDT', '2024-01', '2024-02', '1h')"
    ).item()
    for call in (
        "candles('binance-spot:' || 'BTCUSDT', '2024-01', '2024-02', '1h')",
        "(VALUES ('binance-spot:BTCUSDT')) m(key), candles(m.key, '2024-01', '2024-02', '1h')",
        "candles('binance-spot:BTCUSDT', concat('2024-', '01'), TIMESTAMP '2024-02-01 00:00:00', "
        "lower('1H'))",
        "candles('binance-spot:BTCUSDT', TIMESTAMPTZ '2024-01-01 05:00:00+05', "
        "'2024-02-01T00:00:00-00:00', '1h')",
    ):
        assert lake.sql(f"SELECT sum(volume) FROM {call}").item() == plain, call
    assert {path.split("/")[1] for path in opened} >= {"candle", "candle_1h", "candle_1d"}
    narrowed = lake.sql(
        "SELECT count(*) FROM candles('binance-spot:' || 'BTCUSDT')", start="2024-02", markets=BTC
    )
    assert narrowed.item() == 1441


@pytest.mark.parametrize(
    "said",
    [
        "2024-01",
        "2024-01-05",
        "2024-01-05T03:04",
        "2024-01-05 03:04:05",
        "2024-01-05T03:04:05.678901",
        "2024-01-05T03:04Z",
        "2024-01-05 03:04:05+05:45",
        "2024-01-05T03:04:05.6-11",
    ],
)
def test_an_instant_is_the_same_in_a_macro_whatever_the_session_s_zone(said: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA cells")
        connection.execute(macros._INSTANT)
        for zone in ("UTC", "America/New_York", "Asia/Kathmandu"):
            connection.execute(f"SET TimeZone='{zone}'")
            right = parse_instant(said)
            for form in (f"'{said}'", f"TIMESTAMPTZ '{right:%Y-%m-%d %H:%M:%S.%f}+00'"):
                found = connection.execute(f"SELECT cells.instant({form})").fetchone()
                assert found and found[0].replace(tzinfo=UTC) == right, (zone, form)  # noqa: PT018
        for other in (date(2024, 1, 5), datetime(2024, 1, 5, 3, 4)):
            (found,) = connection.execute("SELECT cells.instant(?)", [other]).fetchone()  # type: ignore[misc]
            assert found.replace(tzinfo=UTC) == parse_instant(other)


@pytest.mark.parametrize(
    "said", ["soon", "2024-1-5", "2024", "20240105", "2024-01-05 00:00 America/New_York", "2024-13"]
)
def test_what_is_no_instant_is_refused(lake: Lake, said: str) -> None:
    with pytest.raises(SqlError):
        lake.sql(f"FROM candles('binance-spot:BTCUSDT', '{said}')")


REFUSED = {
    "candles('binance-spot:BTCUSDT', step := '2h')": "2h is no interval; known: 1m, 5m, 15m, 1h, 4h, 1d",
    "candles('binance-spot:BTCUSDT', step := NULL)": "NULL is no interval",
    "candles('binance-spot:BTCUSDT', '2024-02', '2024-01')": "not after its start",
    "candles('binance-spot:BTCUSDT', '2024-02', '2024-02')": "not after its start",
    "candles('binance-spot:BTCUSTD')": "nothing is stored here of binance-spot:BTCUSTD",
    "candles('BTCUSDT')": "nothing is stored here of BTCUSDT",
    "candles(NULL)": "nothing is stored here of NULL",
}


@pytest.mark.parametrize("call", REFUSED)
@pytest.mark.parametrize(
    "shape", ["SELECT * FROM {}", "SELECT count(*) FROM {}", "SELECT close FROM {} WHERE close > 5 LIMIT 1"]
)
def test_a_call_that_cannot_be_meant_is_no_empty_answer(lake: Lake, call: str, shape: str) -> None:
    with pytest.raises(SqlError, match=REFUSED[call]):
        lake.sql(shape.format(call))


def test_a_damaged_cell_is_refused_where_a_call_means_it_and_only_there(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path / "lake")
    fill(objects)
    path = tmp_path / "lake" / cell_path(Candle, Cell("2024-01", BTC))
    body = bytearray(path.read_bytes())
    body[100] ^= 1
    path.write_bytes(body)
    lake = Lake(objects.root)
    with pytest.raises(DamagedObjectError):
        lake.sql("FROM candles('binance-spot:BTCUSDT', '2024-01', '2024-02')")
    assert lake.sql("FROM candles('binance-spot:BTCUSDT', '2023-12', '2024-01')").height > 0
    assert lake.sql("FROM candles('binance-linear:ETHUSDT')").height > 0


def test_gold_of_other_minutes_is_made_anew_and_not_warned_of(
    lake: Lake, recwarn: pytest.WarningsRecorder
) -> None:
    found = lake.sql("FROM candles('binance-spot:BTCUSDT', '2024-02', step := '1d') ORDER BY open_time")
    assert found["candle_count"].to_list() == [1440, 1]
    assert not [each for each in recwarn if issubclass(each.category, BehindInputsWarning)]
    with pytest.warns(BehindInputsWarning):
        stale = lake.sql(
            "SELECT candle_count FROM gold.candle_1d WHERE symbol = 'BTCUSDT' AND month = '2024-02'"
        )
    assert stale["candle_count"].to_list() == [1359, 1359]


@pytest.mark.parametrize(
    "query",
    [
        "FROM join_asof('own.csv', 'gold.candle_1h')",
        "FROM join_asof('/etc/passwd.csv', 'gold.candle_1h')",
        "FROM candles((SELECT content FROM read_text('/etc/passwd')))",
        "FROM candles('binance-spot:BTCUSDT') WHERE symbol IN (SELECT symbol FROM read_csv('own.csv'))",
        "CREATE MACRO candles(x) AS TABLE SELECT content FROM read_text(x)",
        "CREATE OR REPLACE VIEW cells.candle_1m AS SELECT 1 AS one",
        "DROP MACRO TABLE candles",
        "COPY (FROM candles('binance-spot:BTCUSDT')) TO 'out.csv'",
    ],
)
def test_macros_reach_no_further_than_the_lake(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    (tmp_path / "own.csv").write_text(
        "exchange,market_type,symbol,knowable_at\nbinance,spot,BTCUSDT,2024-01-01\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SqlBeyondLakeError):
        lake.sql(query)
    assert [path.name for path in tmp_path.iterdir()] == ["own.csv"]


# --- join_asof ------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [None, timedelta(hours=6), timedelta(days=1)])
def test_rows_are_joined_as_the_sdk_joins_them(lake: Lake, within: timedelta | None) -> None:
    said = "" if within is None else f", INTERVAL {within // MINUTE.delta} MINUTE"
    found = lake.sql(f"FROM join_asof('gold.candle_4h', 'gold.candle_1d'{said})", start="2024-01")
    order = ["exchange", "market_type", "symbol", "open_time"]
    sides = [lake.scan(name, start="2024-01") for name in ("gold/candle_4h", "gold/candle_1d")]
    right = lake.join_asof(*sides, within=within)
    assert found.select(right.columns).sort(order).equals(right.sort(order))
    assert set(found.columns) - set(right.columns) == {"right_month"}
    assert 0 < found["right_close"].null_count() < found.height


def test_of_rows_that_became_known_at_once_a_join_meets_the_last(objects: LakeObjects) -> None:
    # behind an absent settlement the one before it is known when the next one is
    store, cell, hours = TableStore(objects), Cell("2024-01", LINEAR), CANDLES[2]
    paid = rates([0.0001, 0.0009]).with_columns(interval_source=pl.Series(["after", "stated"]))
    store.put(
        FundingCarry, cell, CellResult(FundingCarry.compute({"silver/funding_rate": paid}, cell.window), {})
    )
    rows = candles(minutes("2024-01-01", 1440))
    store.put(hours, cell, CellResult(hours.compute({"silver/candle": rows}, cell.window), {}))
    lake = Lake(objects.root)
    carry = lake.collect(lake.scan("funding_carry"))
    assert carry["knowable_at"].n_unique() < carry.height
    right = lake.join_asof(lake.scan(hours.name), carry).sort("open_time")
    found = lake.sql(f"FROM join_asof('gold.{hours.short_name()}', 'gold.funding_carry') ORDER BY open_time")
    assert found.select(right.columns).equals(right)


def test_a_join_for_less_than_no_time_is_refused(lake: Lake) -> None:
    with pytest.raises(SqlError, match="within is less than nothing"):
        lake.sql("FROM join_asof('gold.candle_4h', 'gold.candle_1d', INTERVAL (-1) HOUR)")


def test_ranges_of_two_intervals_are_joined_by_name(lake: Lake, opened: set[str]) -> None:
    found = lake.sql(
        "WITH hours AS (FROM candles('binance-spot:BTCUSDT', '2024-01', '2024-01-03', '1h')), "
        "days AS (FROM candles('binance-spot:BTCUSDT', '2023-12', '2024-02', '1d')) "
        "FROM join_asof('hours', 'days') ORDER BY open_time"
    )
    right = lake.join_asof(
        lake.candles(BTC, "2024-01", "2024-01-03", "1h"), lake.candles(BTC, "2023-12", "2024-02", "1d")
    )
    assert found.select(right.columns).equals(right)
    assert len(opened) == 3
    assert all(found["right_knowable_at"] <= found["knowable_at"])


def test_rows_that_do_not_say_when_they_could_be_known_are_refused(lake: Lake) -> None:
    with pytest.raises(SqlError, match="knowable_at"):
        lake.sql("FROM join_asof('silver.candle', 'gold.candle_1d')")


# --- the page -------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
QUERIES = dict(
    re.findall(r"^## (.+?)\n(?:(?!^## ).)*?```duckdb\n(.*?)```", PAGE.read_text("utf-8"), re.M | re.S)
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two weeks of the markets and months that the page is about, as the demo's lake has them."""
    objects = LakeObjects(tmp_path_factory.mktemp("page") / "lake")
    store, named = TableStore(objects), ("spot:BTCUSDT", "linear:ETHUSDT", "inverse:BTCUSD_PERP")
    for seed, market in enumerate(Market.parse(f"binance-{name}") for name in named):
        whole = walk(minutes("2024-11-24", 20 * 1440), seed, step=1e-3)
        for month in ("2024-11", "2024-12"):
            cell = Cell(month, market)
            rows = whole.filter(pl.col("open_time").dt.strftime("%Y-%m") == month)
            record = store.put(Candle, cell, CellResult(rows, {}))
            inputs = {f"{Candle.name}@{month}": record.version}
            for table in CANDLES:
                computed = table.compute({Candle.name: rows}, cell.window)
                store.put(table, cell, CellResult(table.conform(computed, cell), inputs))
            store.put(Vwap, cell, CellResult(Vwap.compute({Candle.name: whole}, cell.window), inputs))
    return Lake(objects.root)


def test_each_macro_of_the_page_means_what_the_sdk_does(shown: Lake) -> None:
    assert PAGE.read_text("utf-8").count("```duckdb") == len(QUERIES) == 4
    hours, both, joined, features = (shown.sql(query) for query in QUERIES.values())
    spot, eth = "binance-spot:BTCUSDT", "binance-linear:ETHUSDT"
    assert hours.equals(shown.candles(spot, "2024-12", "2025-01", "1h", columns=hours.columns))
    right = shown.candles("binance-inverse:BTCUSD_PERP", "2024-12", "2025-02", "4h", columns=["close"])
    assert both["inverse_close"].equals(right["close"], check_names=False)
    known = shown.join_asof(
        shown.candles(eth, "2024-12-01", "2024-12-08", "1h"),
        shown.candles(eth, "2024-11-25", "2024-12-08", "1d"),
        within=timedelta(days=1),
    )
    assert joined.rows() == known.select("open_time", "close", "right_open_time", "right_close").rows()
    assert joined["day_close"].null_count() == 0
    of_vwap = shown.features(
        None, ["gold/vwap", "gold/candle_1h"], "2024-12-10", "2024-12-11", timedelta(hours=2)
    )
    order = ["exchange", "market_type", "symbol", "open_time"]
    expected = of_vwap.sort(order).select(*order, "vwap_1h", hour_close="candle_1h_close")
    assert features.equals(expected)
