"""Joins by when rows could have been known: none meets what came after it, and none is carried for ever."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle
from lakehouse.features.candle import CANDLES
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    NothingStoredError,
    NotJoinableError,
    NotKnowableError,
    UnknownTableError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query.joining import join_asof
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, at, minutes, series, walk

ETH = Market("binance", "spot", "ETHUSDT")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# ETH stops on 30 January and comes back on 3 February at noon
TIMES = {
    BTC: minutes("2024-01-29", 7 * 1440),
    ETH: minutes("2024-01-29", 1440) + minutes("2024-02-03T12:00", 720),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Candles of two markets by hour and by day, over the end of a month."""
    store = TableStore(LakeObjects(tmp_path_factory.mktemp("joined")))
    for seed, (market, times) in enumerate(TIMES.items()):
        rows = walk(times, seed, price=100.0 * (1 + seed))
        for table in CANDLES:
            if table.name not in ("gold/candle_1h", "gold/candle_1d"):
                continue
            for month in ("2024-01", "2024-02"):
                own = rows.filter(pl.col("open_time").dt.strftime("%Y-%m") == month)
                cell = Cell(month, market)
                computed = table.conform(table.compute({Candle.name: own}, cell.window), cell)
                store.put(table, cell, CellResult(computed, {}))
    return Lake(store.objects.root)


def frame(known: list[datetime], **columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame([series(known, "knowable_at")]).with_columns(
        pl.Series(name, values) for name, values in columns.items()
    )


def test_a_day_meets_the_hours_of_the_next_one_and_never_its_own(lake: Lake) -> None:
    hours = lake.scan("gold/candle_1h", BTC.key, "2024-01-30", "2024-02-02")
    joined = lake.join_asof(hours, lake.scan("gold/candle_1d", BTC.key), prefix="day_")
    assert joined.height == 72
    assert "month" in joined.columns
    assert "day_month" not in joined.columns
    for row in joined.iter_rows(named=True):
        # the hour that ends at midnight is known when its day is
        assert row["day_open_time"] == (row["open_time"] + HOUR).replace(hour=0) - DAY
        assert row["day_knowable_at"] <= row["knowable_at"]


@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("AB")), max_size=12),
    st.integers(0, 15),
)
def test_it_finds_what_one_would_by_looking_at_every_row(
    lefts: list[int], rights: list[tuple[int, str]], within: int
) -> None:
    start, minute = at("2024-02-01"), timedelta(minutes=1)
    symbols = ["AB"[n % 2] for n in range(len(lefts))]
    left = frame([start + n * minute for n in lefts], symbol=symbols, place=list(range(len(lefts))))
    right = frame(
        [start + n * minute for n, _ in rights],
        symbol=[symbol for _, symbol in rights],
        value=list(range(len(rights))),
    ).cast({"symbol": pl.String, "value": pl.Int64})
    joined = join_asof(left.cast({"symbol": pl.String}), right, "r_", within * minute, None)
    expected = []
    for known, symbol in zip(lefts, symbols, strict=True):
        able = [
            (moment, value)
            for value, (moment, of) in enumerate(rights)
            if of == symbol and known - within <= moment <= known
        ]
        expected.append(max(able)[1] if able else None)
    assert joined["r_value"].to_list() == expected
    assert joined["place"].to_list() == list(range(len(lefts))), "in the order that was given"


def test_frames_are_joined_within_markets_and_one_without_names_meets_all(lake: Lake) -> None:
    hours = lake.scan("gold/candle_1h", start="2024-02-03T13:00", end="2024-02-03T15:00").collect()
    days = lake.scan("gold/candle_1d")
    joined = lake.join_asof(hours, days)
    found = {row["symbol"]: row["right_open_time"] for row in joined.iter_rows(named=True)}
    assert found == {"BTCUSDT": at("2024-02-02"), "ETHUSDT": at("2024-01-29")}, "of any age"
    fresh = lake.join_asof(hours, days, within=DAY)
    assert {row["symbol"]: row["right_open_time"] for row in fresh.iter_rows(named=True)} == {
        "BTCUSDT": at("2024-02-02"),
        "ETHUSDT": None,
    }
    index = days.filter(symbol="BTCUSDT").drop("exchange", "market_type", "symbol")
    assert lake.join_asof(hours, index)["right_open_time"].to_list() == [at("2024-02-02")] * 4


def test_features_are_rows_of_the_first_table_with_what_was_known_of_the_others(lake: Lake) -> None:
    found = lake.features(
        [BTC.key, ETH.key], ["gold/candle_1h", "candle_1d"], "2024-02-01", "2024-02-04T14:00"
    )
    assert found.columns[-2:] == ["candle_1d_candle_count", "candle_1d_knowable_at"]
    assert "month" not in found.columns
    btc, eth = (found.filter(symbol=market.symbol) for market in (BTC, ETH))
    assert (btc.height, eth.height) == (86, 12)
    assert btc["candle_1d_open_time"][0] == at("2024-01-31"), "known at the start, of the month before"
    assert btc["candle_1d_open_time"].null_count() == 0
    assert eth["candle_1d_open_time"].to_list() == [None] * 11 + [at("2024-02-03")], "nothing over the break"
    assert found["open_time"].is_sorted()
    alone = lake.features(BTC.key, ["gold/candle_1h"], "2024-02-01", "2024-02-02")
    assert alone.equals(btc.filter(pl.col("open_time") < at("2024-02-02")).select(alone.columns))


def test_what_does_not_say_when_it_could_be_known_is_refused_by_name(lake: Lake) -> None:
    gold = lake.scan("gold/candle_1d")
    with pytest.raises(
        NotKnowableError, match=r"right frame has no column knowable_at, only close: join gold"
    ):
        lake.join_asof(gold, pl.DataFrame({"close": [1.0]}))
    with pytest.raises(NotKnowableError, match=r"left frame has no column knowable_at, only no columns"):
        lake.join_asof(pl.DataFrame(), gold)
    with pytest.raises(NotKnowableError, match=r"silver/candle"):
        lake.features(None, ["gold/candle_1h", "silver/candle"])
    with pytest.raises(UnknownTableError):
        lake.features(None, ["gold/candle_2h"])


def test_what_is_never_known_meets_nothing_and_is_met_by_nothing() -> None:
    moments: list[datetime | None] = [at("2024-02-01"), None, at("2024-01-01")]
    left = frame(moments, place=[0, 1, 2])  # type: ignore[arg-type]
    right = frame([None, at("2024-01-15"), None], value=[0, 1, 2])  # type: ignore[list-item]
    assert join_asof(left, right, "r_", None, None)["r_value"].to_list() == [1, None, None]
    nobody = right.with_columns(symbol=pl.lit(None, pl.String))
    told = join_asof(left.with_columns(symbol=pl.lit(None, pl.String)), nobody, "r_", None, None)
    assert told["r_value"].null_count() == 3, "of no market there is no row"


def test_instants_are_the_same_in_any_zone_and_unit_and_no_nanosecond_too_early() -> None:
    left = frame([at("2024-02-01"), at("2024-02-02")], place=[0, 1])
    right = frame([at("2024-02-01")], value=[7])
    known = pl.col("knowable_at")
    for cast in (known.dt.convert_time_zone("Asia/Tokyo"), known.dt.cast_time_unit("ms")):
        for one, other in ((left.with_columns(cast), right), (left, right.with_columns(cast))):
            joined = join_asof(one, other, "r_", None, None)
            assert joined["r_value"].to_list() == [7, 7]
            assert (
                joined.schema["knowable_at"] == joined.schema["r_knowable_at"] == left.schema["knowable_at"]
            )
    later = right.with_columns(known.dt.cast_time_unit("ns") + pl.duration(nanoseconds=1))
    assert join_asof(left, later, "r_", None, None)["r_value"].to_list() == [None, 7]
    soon = left.with_columns(known.dt.cast_time_unit("ns") + pl.duration(nanoseconds=1))
    after = right.with_columns(known + pl.duration(microseconds=1))
    assert join_asof(soon, after, "r_", None, None)["r_value"].to_list() == [None, 7]


def test_what_would_join_otherwise_than_it_looks_is_refused(lake: Lake) -> None:
    left, right = frame([at("2024-02-01")], r_value=[1]), frame([at("2024-01-01")], value=[2])
    with pytest.raises(NotJoinableError, match="both frames would have r_value"):
        join_asof(left, right, "r_", None, None)
    with pytest.raises(NotJoinableError, match=r"within is -1 day"):
        join_asof(left, right, "x_", -DAY, None)
    with pytest.raises(NotJoinableError, match=r"within is 5\. Say .* as a timedelta"):
        join_asof(left, right, "x_", 5, None)  # type: ignore[arg-type]
    with pytest.raises(NotJoinableError, match=r"'coin'.*coin have to be in both"):
        join_asof(left, right, "x_", None, "coin")
    for dtype in (pl.Datetime("us"), pl.String):
        with pytest.raises(NotJoinableError, match="knowable_at of the right frame is"):
            join_asof(left, right.with_columns(pl.lit(None, dtype).alias("knowable_at")), "x_", None, None)
    with pytest.raises(NotJoinableError, match="no table is named"):
        lake.features(None, [])
    with pytest.raises(NothingStoredError, match="DOGEUSDT"):
        lake.features([BTC.key, "binance-spot:DOGEUSDT"], ["candle_1h"])


def test_sql_joins_the_same(lake: Lake) -> None:
    """As in `docs/reading.md`."""
    found = lake.sql(
        """
        SELECT h.symbol, h.open_time, d.close AS close_of_day
        FROM gold.candle_1h h
        ASOF LEFT JOIN gold.candle_1d d
        ON h.exchange = d.exchange AND h.market_type = d.market_type AND h.symbol = d.symbol
        AND h.knowable_at >= d.knowable_at
        ORDER BY h.open_time, h.symbol
        """
    )
    joined = lake.join_asof(
        lake.scan("gold/candle_1h").sort("open_time", "symbol"), lake.scan("gold/candle_1d")
    )
    assert found["close_of_day"].to_list() == joined["right_close"].to_list()
    assert 0 < found["close_of_day"].null_count() < found.height
