"""Coarser candles: one result for every order, exact sums, and no short bucket without its count."""

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import add

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.interval import COARSE, Interval
from lakehouse.transform.resample import SUMS, exact_sum, resample
from lakehouse_tests.making import MICRO, MINUTE, at, candles, minutes

START = at("2024-02-28T22:00")
FLOATS = tuple(name for name in SUMS if name != "trade_count")
amounts = st.integers(0, 10**13).map(lambda units: units / 10**8)
# A candle: its minute out of three days, its prices as ticks, its sizes.
drawn = st.lists(
    st.tuples(st.integers(0, 3 * 1440), *[st.integers(1, 10**6)] * 4, amounts, amounts, st.integers(0, 99)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[0],
)
intervals = st.sampled_from(COARSE)


def frame(rows: list[tuple[int, int, int, int, int, float, float, int]]) -> pl.DataFrame:
    columns = dict(
        zip(
            ("minute", "open", "high", "low", "close", "volume", "quote_volume", "trade_count"),
            zip(*rows, strict=True),
            strict=True,
        )
    )
    prices = {name: [ticks / 100 for ticks in columns[name]] for name in ("open", "high", "low", "close")}
    sums = {name: list(columns[name]) for name in ("volume", "quote_volume", "trade_count")}
    return candles(
        [START + n * MINUTE for n in columns["minute"]], **prices, **sums, contracts=list(columns["volume"])
    )


@given(drawn, intervals, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[int, int, int, int, int, float, float, int]], interval: Interval, random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resample(frame(rows), interval).equals(resample(frame(shuffled), interval))


@given(drawn, intervals)
def test_a_bucket_is_what_its_minutes_are(
    rows: list[tuple[int, int, int, int, int, float, float, int]], interval: Interval
) -> None:
    fine = frame(sorted(rows))
    buckets: dict[datetime, list[dict[str, object]]] = defaultdict(list)
    for row in fine.iter_rows(named=True):
        day = row["open_time"].replace(hour=0, minute=0)
        buckets[day + (row["open_time"] - day) // interval.delta * interval.delta].append(row)
    coarse = resample(fine, interval)
    assert coarse["open_time"].to_list() == sorted(buckets)
    for row in coarse.iter_rows(named=True):
        inside = buckets[row["open_time"]]
        assert (row["open"], row["close"], row["close_time"]) == (
            inside[0]["open"],
            inside[-1]["close"],
            inside[-1]["close_time"],
        )
        assert (row["high"], row["low"]) == (max(r["high"] for r in inside), min(r["low"] for r in inside))  # type: ignore[type-var]
        assert (row["trade_count"], row["candle_count"]) == (
            sum(r["trade_count"] for r in inside),
            len(inside),
        )  # type: ignore[misc]
        for name in FLOATS:
            assert row[name] == pytest.approx(float(sum(Decimal(str(r[name])) for r in inside)), rel=1e-15)
        assert row["knowable_at"] == row["open_time"] + interval.delta


@given(drawn)
def test_minutes_to_hours_to_days_are_minutes_to_days_as_decimals(
    rows: list[tuple[int, int, int, int, int, float, float, int]],
) -> None:
    fine = frame(rows).sort("open_time")

    def grouped(source: pl.DataFrame, every: str, sums: list[pl.Expr]) -> pl.DataFrame:
        return (
            source.sort("open_time")
            .group_by(pl.col("open_time").dt.truncate(every), maintain_order=True)
            .agg(sums)
        )

    exact = [exact_sum(name).alias(name) for name in FLOATS]
    hours = grouped(fine, "1h", exact)
    assert grouped(hours, "1d", [pl.col(name).sum() for name in FLOATS]).equals(grouped(fine, "1d", exact))
    assert hours.select(pl.col(FLOATS).cast(pl.Float64)).equals(
        resample(fine, Interval.parse("1h")).select(FLOATS)
    ), "cast once, at the end"
    one, two = (
        resample(source, Interval.parse("1d"))
        for source in (fine, resample(fine, Interval.parse("1h")).drop("candle_count", "knowable_at"))
    )
    whole = ["open_time", "open", "high", "low", "close", "close_time", "trade_count"]
    assert one.select(whole).equals(two.select(whole))


@given(drawn, intervals)
def test_counts_add_up(
    rows: list[tuple[int, int, int, int, int, float, float, int]], interval: Interval
) -> None:
    coarse = resample(frame(rows), interval)
    assert coarse["candle_count"].sum() == len(rows)
    assert coarse["candle_count"].max() <= interval.minutes  # type: ignore[operator]
    assert coarse["trade_count"].sum() == sum(row[-1] for row in rows)


def test_a_sum_of_tenths_is_exact_where_floats_are_not() -> None:
    fine = candles(minutes("2024-02-05", 1440), volume=0.1)
    assert reduce(add, [0.1] * 1440) != 144.0  # `sum` rounds once only from Python 3.12 on
    assert resample(fine, Interval.parse("1d"))["volume"].to_list() == [144.0]


@given(st.integers(0, 10**18), st.integers(0, 10))
def test_a_published_decimal_is_summed_as_it_was_published(units: int, decimals: int) -> None:
    """A float times ten to the tenth is exact for small numbers only: a quote volume of 23733745.66588012
    must not become …880118.
    """
    digits = Decimal(units).scaleb(-decimals)
    if digits >= (100_000 if decimals > 8 else 40_000_000):
        return
    assert pl.DataFrame({"x": [float(digits)] * 3}).select(exact_sum("x"))["x"][0] == 3 * digits


@pytest.mark.parametrize("name", SUMS)
def test_what_is_not_published_stays_null_and_is_never_zero_nor_a_part_of_it_the_total(name: str) -> None:
    fine = candles(minutes("2024-02-05", 15), **{name: None})
    assert resample(fine, Interval.parse("5m"))[name].to_list() == [None, None, None]
    some = fine.with_columns(pl.when(pl.int_range(pl.len()) >= 7).then(2).cast(fine.schema[name]).alias(name))
    assert resample(some, Interval.parse("5m"))[name].to_list() == [None, None, 10]


def test_no_candles_make_no_buckets() -> None:
    assert resample(candles([]), Interval.parse("1h")).height == 0


def test_a_truncated_last_minute_ends_its_bucket() -> None:
    times = minutes("2024-02-05T11:00", 40)
    stopped = times[-1] + timedelta(seconds=41, milliseconds=646)
    fine = candles(times, close_time=[*(time + MINUTE - MICRO for time in times[:-1]), stopped])
    row = resample(fine, Interval.parse("1h")).row(0, named=True)
    assert (row["close_time"], row["candle_count"], row["knowable_at"]) == (
        stopped,
        40,
        at("2024-02-05T12:00"),
    )


def test_candles_that_open_late_reach_beyond_their_bucket_which_is_known_when_they_end() -> None:
    late = timedelta(seconds=17, milliseconds=300)
    fine = candles([time + late for time in minutes("2024-02-05T11:00", 90)])
    found = resample(fine, Interval.parse("1h"))
    assert found.select("open_time", "candle_count", "knowable_at").rows() == [
        (at("2024-02-05T11:00"), 60, at("2024-02-05T12:00") + late),
        (at("2024-02-05T12:00"), 30, at("2024-02-05T13:00")),
    ]


def test_two_candles_of_a_minute_count_as_one_and_hide_no_other_that_is_absent() -> None:
    times = minutes("2024-02-05T11:00", 59)
    fine = candles(sorted([*times, times[30] + timedelta(seconds=40)]))
    assert resample(fine, Interval.parse("1h"))["candle_count"].to_list() == [59]
