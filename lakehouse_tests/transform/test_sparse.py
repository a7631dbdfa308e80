"""Which slots an exchange without candles of quiet minutes leaves out, and of which that proves anything."""

from datetime import timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.life import UNKNOWN, Life
from lakehouse.model.result import Asked
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.gaps import find_gaps
from lakehouse.transform.sparse import LeftOut, left_out
from lakehouse_tests.making import MINUTE, NOW, at, series

WINDOW = TimeRange(at("2024-02-05T00:00"), at("2024-02-05T04:00"))
SLOTS = [WINDOW.start + n * MINUTE for n in range(240)]
HOURS = [WINDOW.start + n * timedelta(hours=1) for n in range(4)]
NONE = series([])


def asked(first: int, end: int, before: bool = False, after: bool = False) -> Asked:
    """An answer about some slots, with candles that it knows beside them."""
    start, until = SLOTS[first], SLOTS[first] + (end - first) * MINUTE
    beside = (start - MINUTE if before else None, until if after else None)
    return Asked(start, until, NOW, "rows", *beside)


def found(
    rows: list[int],
    *asked: Asked,
    files: tuple[TimeRange, ...] = (),
    confirmed: tuple[int, ...] = (),
    denied: tuple[int, ...] = (),
    life: Life = UNKNOWN,
) -> LeftOut:
    times = series([SLOTS[n] for n in rows])
    hours = (series([HOURS[n] for n in named]) for named in (confirmed, denied))
    return left_out(times, WINDOW, MINUTE, life, files, asked, times, *hours)


def places(slots: pl.Series) -> list[int]:
    return [(slot - WINDOW.start) // MINUTE for slot in slots]


def test_an_answer_is_whole_between_the_candles_that_it_knows() -> None:
    assert places(found([3, 6], asked(0, 10)).slots) == [4, 5]
    assert places(found([3, 6], asked(0, 10, before=True)).slots) == [0, 1, 2, 4, 5]
    assert places(found([3, 6], asked(0, 10, after=True)).slots) == [4, 5, 7, 8, 9]
    assert places(found([3, 6, 12], asked(0, 8), asked(10, 20)).slots) == [4, 5], "nobody was asked between"
    assert places(found([3, 6], Asked(SLOTS[0], SLOTS[9], NOW, "gone")).slots) == []


def test_a_file_states_its_whole_period_of_the_markets_life() -> None:
    day = TimeRange(WINDOW.start, SLOTS[30])
    life = Life(SLOTS[2] + timedelta(seconds=20), SLOTS[25])
    left = [n for n in range(2, 25) if n not in (3, 6)]
    assert places(found([3, 6], files=(day,), life=life).slots) == left


def test_only_an_hour_that_equals_its_rows_proves_that_nothing_was_traded() -> None:
    whole = (WINDOW,)
    rows = [n for n in range(240) if n % 60 >= 5]
    assert found(rows, files=whole)[1:] == (0, 20)
    assert found(rows, files=whole, confirmed=(0, 2))[1:] == (10, 10)
    denied = found(rows, files=whole, confirmed=(0,), denied=(1,))
    assert denied[1:] == (5, 10)
    assert not {*range(60, 120)} & {*places(denied.slots)}, "trades are missing in that hour"


@given(
    st.sets(st.integers(0, 239)),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 39), st.booleans(), st.booleans()).map(
            lambda drawn: asked(drawn[0], drawn[0] + drawn[1], *drawn[2:])
        ),
        max_size=3,
    ),
    st.sets(st.integers(0, 3)),
    st.sets(st.integers(0, 3)),
)
def test_a_slot_is_served_or_in_a_gap_or_left_out_and_never_two_of_these(
    rows: set[int], asked: list[Asked], confirmed: set[int], denied: set[int]
) -> None:
    left = found(sorted(rows), *asked, confirmed=tuple(confirmed - denied), denied=tuple(denied))
    times = series([SLOTS[n] for n in sorted(rows)])
    gaps = find_gaps(
        times,
        WINDOW,
        MINUTE,
        WINDOW.end,
        asked=asked,
        api_times=times,
        confirmed=series([HOURS[n] for n in confirmed - denied]),
        left_out=left.slots,
    )
    absent = [(run.start - WINDOW.start) // MINUTE + n for run in gaps for n in range(run.slot_count)]
    assert sorted([*rows, *absent, *places(left.slots)]) == [*range(240)]
    assert {run.gap_class for run in gaps} <= {"absent"}, "no halt can be told from a quiet hour"
    assert left.quiet_count + left.silent_count == left.slots.len()
