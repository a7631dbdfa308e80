"""Returns: figures by hand, none over a gap, and a month alone the same as within a range."""

from datetime import timedelta
from math import log

import polars as pl
import pytest

from lakehouse.features.price_return import Return
from lakehouse.model.cell import Cell
from lakehouse.model.timerange import TimeRange
from lakehouse_tests.making import FEBRUARY, at, candles, minutes, walk


def returns(rows: pl.DataFrame, cell: Cell = FEBRUARY) -> pl.DataFrame:
    found = Return.conform(Return.compute({"silver/candle": rows}, cell.window), cell)
    assert Return.split(found)[1].height == 0
    return found


def test_returns_are_those_that_were_computed_by_hand() -> None:
    times = minutes("2024-01-30T23:59", 1 + 1440 + 1)
    prices = [100.0] + [125.0] * 1380 + [80.0] * 60 + [100.0]
    last = returns(candles(times, close=prices)).row(-1, named=True)
    assert last["open_time"] == at("2024-02-01T00:00")
    assert last["knowable_at"] == at("2024-02-01T00:01")
    assert (last["simple_return_1m"], last["simple_return_1h"]) == (0.25, 0.25)
    assert last["simple_return_1d"] == pytest.approx(-0.2)  # from 125 to 100
    assert [last[f"log_return_{span}"] for span in ("1m", "1h", "1d")] == pytest.approx(
        [log(1.25), log(1.25), log(0.8)]
    )


def test_no_return_crosses_a_gap_and_the_first_full_one_is_that_of_its_span() -> None:
    times = [time for time in minutes("2024-02-01", 4 * 1440) if time != at("2024-02-02T06:00")]
    rows = walk(times)
    found = returns(rows)
    closes = dict(rows.select("open_time", "close").iter_rows())
    for name, span in (("1m", 1), ("1h", 60), ("1d", 1440)):
        for row in found.select("open_time", f"simple_return_{name}", f"log_return_{name}").iter_rows():
            before = row[0] - timedelta(minutes=span)
            is_whole = all(
                begin <= before or row[0] < begin for begin in (at("2024-02-01"), at("2024-02-02T06:01"))
            )
            expected = closes[row[0]] / closes[before] - 1 if is_whole else None
            assert row[1] == (None if expected is None else pytest.approx(expected, rel=1e-9))
            assert (row[2] is None) == (expected is None)
    assert found["simple_return_1d"].null_count() == 1440 + 360 + 1080, "until the day behind the gap is full"


def test_a_month_alone_equals_the_same_in_a_range() -> None:
    rows = walk([time for time in minutes("2024-01-30", 4 * 1440) if time != at("2024-01-31T20:00")])
    alone = returns(
        rows.filter(pl.col("open_time") >= at("2024-01-30T23:59")).sample(fraction=1, shuffle=True, seed=3)
    )
    whole = Return.compute({"silver/candle": rows}, TimeRange(at("2024-01-30"), FEBRUARY.window.end))
    assert alone.equals(whole.filter(pl.col("open_time") >= at("2024-02-01")))
    assert alone["simple_return_1d"].drop_nulls().len() == 2880 - 1200 - 1
