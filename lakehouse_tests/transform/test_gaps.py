"""Every expected slot is covered or in exactly one gap, and every gap has a class."""

from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.cell import Cell
from lakehouse.model.result import GapRun
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.doubt import days_in_doubt
from lakehouse.transform.gaps import expected_slots, find_gaps
from lakehouse_tests.making import BTC, MINUTE, at, candles, minutes, series

WINDOW = TimeRange(at("2024-02-05T00:00"), at("2024-02-05T02:00"))
SLOTS = [WINDOW.start + n * MINUTE for n in range(120)]
offsets = st.integers(-30 * 60, 150 * 60).map(lambda seconds: WINDOW.start + timedelta(seconds=seconds))
# Covered slots, some of them by a row that opens within its minute; whole stretches are likely.
covered = st.lists(st.tuples(st.integers(0, 119), st.integers(1, 60), st.sampled_from([0, 0, 0, 17])), max_size=4).map(
    lambda parts: sorted({SLOTS[n] + timedelta(seconds=off) for first, count, off in parts for n in range(first, min(120, first + count))})
)
disputes = st.none() | st.lists(st.integers(0, 119), max_size=20).map(lambda found: series(sorted({SLOTS[n] + timedelta(seconds=3) for n in found})))


def slots(run: GapRun) -> list[datetime]:
    return [run.start + n * MINUTE for n in range(run.slot_count)]


def floor(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


@given(covered, offsets, st.none() | offsets, st.none() | offsets, disputes)
def test_covered_slots_and_gaps_part_the_expected_slots(
    times: list[datetime], asked_until: datetime, listed: datetime | None, delisted: datetime | None, disputed: pl.Series | None
) -> None:
    runs = find_gaps(series(times), WINDOW, MINUTE, asked_until, listed, delisted, disputed)
    missing = [slot for run in runs for slot in slots(run)]
    assert sorted(missing + [slot for slot in SLOTS if slot < asked_until and slot in {floor(time) for time in times}]) == [slot for slot in SLOTS if slot < asked_until]

    conflicts = {floor(time) for time in disputed} if disputed is not None else set()
    for run in runs:
        assert run.end == run.start + run.slot_count * MINUTE
        for slot in slots(run):
            outside = (listed is not None and slot < floor(listed)) or (delisted is not None and slot >= delisted)
            assert run.gap_class == ("not_listed" if outside else "conflict" if slot in conflicts else "absent")
    assert all(before.end < after.start or before.gap_class != after.gap_class for before, after in pairwise(runs)), "runs are as long as they can be"
    assert [run.start for run in runs] == sorted(run.start for run in runs)


@given(covered, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(times: list[datetime], random: object) -> None:
    shuffled = list(times)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert find_gaps(series(times), WINDOW, MINUTE, WINDOW.end) == find_gaps(series(shuffled), WINDOW, MINUTE, WINDOW.end)


def test_a_slot_that_nobody_was_asked_about_is_no_gap() -> None:
    assert find_gaps(series([]), WINDOW, MINUTE, WINDOW.start) == ()
    assert find_gaps(series([]), WINDOW, MINUTE, WINDOW.start - timedelta(days=1)) == ()
    assert find_gaps(series([]), WINDOW, MINUTE, WINDOW.end + timedelta(days=1)) == (GapRun("absent", WINDOW.start, WINDOW.end, 120),)


def test_expected_slots_are_half_open_and_typed() -> None:
    found = expected_slots(WINDOW, MINUTE)
    assert (found.to_list(), found.dtype) == (SLOTS, pl.Datetime("us", "UTC"))


# --- days in doubt ------------------------------------------------------------------------------------------------------

MONTH = Cell("2024-02", BTC).window
WHOLE = minutes("2024-02-01", 29 * 1440)


def doubts(times: list[datetime], broken: list[datetime] | None = None, listed: str | None = None, delisted: str | None = None) -> dict[str, str]:
    found = days_in_doubt(candles(times), MONTH, MINUTE, series(broken or []), at(listed) if listed else None, at(delisted) if delisted else None)
    assert {doubt.kind for doubt in found.values()} <= {"variants", "short", "rules"}
    return {day: doubt.reason for day, doubt in found.items()}


def test_a_whole_month_is_not_in_doubt() -> None:
    assert doubts(WHOLE) == {}


def test_a_day_is_in_doubt_if_rows_are_absent_doubled_misaligned_or_broken() -> None:
    times = [time for time in WHOLE if not (time.day == 10 or (time.day == 20 and time.hour == 3))]
    times += [at("2024-02-05T07:00"), at("2024-02-06T07:00:30")]
    assert doubts(times, [at("2024-02-07T01:00")]) == {
        "2024-02-05": "1 keys with two values",
        "2024-02-06": "1441 rows where 1440 are expected",
        "2024-02-07": "rows break a row rule",
        "2024-02-10": "0 rows where 1440 are expected",
        "2024-02-20": "1380 rows where 1440 are expected",
    }


def test_rows_are_expected_within_the_markets_life_only() -> None:
    alive = [time for time in WHOLE if at("2024-02-03T09:30") <= time < at("2024-02-20T06:00")]
    assert doubts(alive, listed="2024-02-03T09:30", delisted="2024-02-20T06:00") == {}
    assert doubts(alive, listed="2024-02-03T09:30:30", delisted="2024-02-20T05:59:30") == {}
    assert doubts(alive[1:], listed="2024-02-03T09:30", delisted="2024-02-20T06:00") == {"2024-02-03": "869 rows where 870 are expected"}
    assert doubts(alive[:-1], listed="2024-02-03T09:30", delisted="2024-02-20T06:00") == {"2024-02-20": "359 rows where 360 are expected"}
    assert doubts(alive, listed="2024-02-03T09:31", delisted="2024-02-20T06:00") == {"2024-02-03": "870 rows where 869 are expected"}
    assert len(doubts(alive)) == 2 + 1 + 1 + 9
