"""Absent rows are told by the cadence: on a grid, and between rows that space themselves."""

from datetime import datetime, timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.cadence import Grid, Spaced
from lakehouse.model.timerange import TimeRange
from lakehouse_tests.making import MINUTE, at, series

HOUR = timedelta(hours=1)
START = at("2024-02-01")
FUNDING = Spaced((HOUR, 4 * HOUR, 8 * HOUR))
# Runs of equal steps, each long enough that an absent row within it has neighbours that tell the step.
runs = st.lists(st.tuples(st.sampled_from(FUNDING.steps), st.integers(6, 12)), min_size=1, max_size=4).filter(
    lambda drawn: all(one[0] != other[0] for one, other in pairwise(drawn))
)


def times_of(drawn: list[tuple[timedelta, int]]) -> list[datetime]:
    return list(accumulate((step for step, count in drawn for _ in range(count)), initial=START))


def whole(times: list[datetime]) -> TimeRange:
    return TimeRange(times[0], times[-1] + MINUTE)


@given(st.sets(st.integers(0, 59)), st.integers(0, 59))
def test_a_slot_of_a_grid_is_absent_exactly_where_no_time_falls_in_it(present: set[int], late: int) -> None:
    window = TimeRange(START, START + HOUR)
    times = [START + n * MINUTE + timedelta(seconds=late) for n in sorted(present)]
    absent = Grid(MINUTE).absent(series(times), window).to_list()
    assert absent == [START + n * MINUTE for n in range(60) if n not in present]
    assert Grid(MINUTE).slots(window).to_list() == [START + n * MINUTE for n in range(60)]


@given(runs, st.integers(0, 25))
def test_nothing_is_absent_from_rows_that_change_their_step_and_come_late_by_milliseconds(
    drawn: list[tuple[timedelta, int]], late: int
) -> None:
    times = [time + timedelta(milliseconds=late) for time in times_of(drawn)]
    assert FUNDING.absent(series(times), whole(times_of(drawn))).to_list() == []


@given(runs, st.data())
def test_rows_that_are_absent_within_a_run_are_found_and_no_others(
    drawn: list[tuple[timedelta, int]], data: st.DataObject
) -> None:
    times, gone, place = times_of(drawn), [], 0
    for _, count in drawn:
        # two steps of the run stay on each side of what is absent
        length = data.draw(st.integers(0, count - 5))
        first = data.draw(st.integers(place + 3, place + count - 2 - length))
        gone += times[first : first + length]
        place += count
    left = [time for time in times if time not in gone]
    assert FUNDING.absent(series(left), whole(times)).to_list() == gone


@given(runs, st.sets(st.integers(0, 47)))
def test_what_is_told_absent_is_never_there_and_lies_in_the_window(
    drawn: list[tuple[timedelta, int]], gone: set[int]
) -> None:
    times = times_of(drawn)
    left = [time for n, time in enumerate(times) if n not in gone]
    window = TimeRange(START + HOUR, times[-1] - HOUR)
    absent = FUNDING.absent(series(left), window).to_list()
    assert absent == sorted(set(absent))
    assert not set(absent) & set(left)
    assert all(window.start <= time < window.end for time in absent)


@pytest.mark.parametrize(
    ("hours", "absent"),
    [
        ([0, 8, 20, 24, 28], [16]),  # every eight hours, then every four
        ([0, 4, 8, 20, 28, 36], [12]),  # every four hours, then every eight
        ([0, 8, 16, 24, 28, 32], []),  # the change itself lacks nothing
        ([0, 8, 24, 28, 32], [16]),
        ([0, 4, 8, 16, 20, 24], [12]),
        ([0, 4, 8, 16, 24, 32], []),  # 12 may be absent or not: nobody can tell
    ],
)
def test_where_the_step_changes_the_fewest_rows_that_fit_are_absent(
    hours: list[int], absent: list[int]
) -> None:
    times = [START + hour * HOUR for hour in hours]
    found = Spaced((4 * HOUR, 8 * HOUR)).absent(series(times), whole(times)).to_list()
    assert found == [START + hour * HOUR for hour in absent]


def test_toward_the_ends_of_a_window_the_nearest_step_goes_on() -> None:
    window = TimeRange(START, START + 24 * HOUR)
    times = series([START + hour * HOUR for hour in (9, 10, 11)])
    found = Spaced((HOUR, 8 * HOUR)).absent(times, window).to_list()
    assert found == [START + hour * HOUR for hour in [*range(9), *range(12, 24)]]
    nothing = Spaced((HOUR, 8 * HOUR)).absent(series([]), window).to_list()
    assert nothing == [START, START + 8 * HOUR, START + 16 * HOUR], "the fewest that can be absent"
