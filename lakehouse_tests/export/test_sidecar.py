"""What a sidecar says of rows: with what is absent and what was added they make up every slot, once."""

import json
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.export.sidecar import candle_rows, to_bytes
from lakehouse.model.interval import INTERVALS, Interval
from lakehouse_tests.making import at, candles, minutes, series

START = at("2024-02-28")


def slots(runs: list[dict[str, Any]], step: timedelta) -> list[datetime]:
    """Every slot of some runs."""
    found = []
    for run in runs:
        start, end = (datetime.fromisoformat(run[name]) for name in ("start", "end"))
        count = (end - start) // step
        assert (count, start + count * step) == (run["slot_count"], end)
        found += [start + n * step for n in range(count)]
    return found


@given(st.sets(st.integers(0, 300), min_size=1), st.sets(st.integers(0, 300)), st.sampled_from(INTERVALS))
def test_rows_and_runs_make_up_every_slot_once(places: set[int], added: set[int], interval: Interval) -> None:
    step = interval.delta
    times = [START + place * step for place in sorted(places)]
    rows = candles(times).with_columns(is_filled=pl.Series([place in added for place in sorted(places)]))
    said = candle_rows(rows, interval)
    absent, filled = (slots(said[name]["runs"], step) for name in ("absent", "filled"))
    whole = [times[0] + n * step for n in range((times[-1] - times[0]) // step + 1)]
    assert sorted([*times, *absent]) == whole
    assert filled == rows.filter("is_filled")["open_time"].to_list()
    for name, found in (("absent", absent), ("filled", filled)):
        assert said[name]["slot_count"] == len(found)
        ends = [run["end"] for run in said[name]["runs"]]
        assert not {*ends} & {run["start"] for run in said[name]["runs"]}, "runs are as long as they can be"
    assert said["rows"] == rows.height
    assert json.loads(to_bytes(said)) == said


def test_candles_off_their_minute_or_cut_short_are_counted_and_take_their_slot() -> None:
    times = [at("2024-02-28T00:00:07.5"), *minutes("2024-02-28T00:01", 2)]
    rows = candles(times, is_misaligned=[True, False, False], is_truncated=[False, False, True])
    said = candle_rows(rows.with_columns(is_filled=pl.lit(False)), INTERVALS[0])
    assert (said["misaligned"], said["truncated"], said["absent"]["slot_count"]) == (1, 1, 0)
    assert said["first_time"] == "2024-02-28T00:00:07.500000Z"


@pytest.mark.parametrize(("counts", "partial"), [([60, 59, 1], 2), ([60, 60, 60], 0)])
def test_coarser_candles_say_how_many_lack_minutes_or_reach_beyond(counts: list[int], partial: int) -> None:
    rows = candles(minutes("2024-02-28", 3, 60)).drop("is_misaligned", "is_truncated")
    known = [at("2024-02-28T01:00"), at("2024-02-28T02:00:30"), at("2024-02-28T03:00")]
    rows = rows.with_columns(
        candle_count=pl.Series(counts, dtype=pl.Int32), knowable_at=series(known), is_filled=pl.lit(False)
    )
    said = candle_rows(rows, Interval.parse("1h"))
    assert (said["partial"], said["late"]) == (partial, 1)
