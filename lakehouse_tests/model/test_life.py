"""A life is a half-open range that may lack ends: what overlaps it, and what lies outside."""

from datetime import UTC, datetime

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.life import UNKNOWN, Life
from lakehouse.model.timerange import TimeRange
from lakehouse_tests.making import MINUTE, at, series

START = at("2024-02-05")
instants = st.integers(0, 20).map(lambda n: START + n * MINUTE / 2)
windows = st.tuples(instants, st.integers(1, 10)).map(
    lambda parts: TimeRange(parts[0], parts[0] + parts[1] * MINUTE / 2)
)
lives = st.tuples(st.none() | instants, st.none() | instants).map(
    lambda ends: Life(*(sorted(ends) if None not in ends else ends))  # type: ignore[type-var]
)


def instants_of(window: TimeRange) -> list[datetime]:
    step = MINUTE / 4
    return [window.start + n * step for n in range((window.end - window.start) // step)]


def is_alive(life: Life, instant: datetime) -> bool:
    return (life.listed is None or life.listed <= instant) and (
        life.delisted is None or instant < life.delisted
    )


@given(lives, windows)
def test_a_window_overlaps_a_life_exactly_where_an_instant_of_it_lies_in_it(
    life: Life, window: TimeRange
) -> None:
    alive = [instant for instant in instants_of(window) if is_alive(life, instant)]
    if life.listed is None or life.listed != life.delisted:
        assert life.overlaps(window) == bool(alive)


@given(lives, st.lists(windows, max_size=8))
def test_ranges_outside_a_life_are_those_that_do_not_overlap_it(life: Life, spans: list[TimeRange]) -> None:
    frame = pl.DataFrame(
        {"start": series([span.start for span in spans]), "end": series([span.end for span in spans])}
    )
    told = frame.with_columns(outside=life.outside(pl.col("start"), pl.col("end")))["outside"].to_list()
    assert told == [not life.overlaps(span) for span in spans]


@given(windows)
def test_nothing_lies_outside_a_life_of_which_nothing_is_known(window: TimeRange) -> None:
    assert UNKNOWN.overlaps(window)


def test_the_end_of_a_life_is_not_in_it() -> None:
    life = Life(datetime(2024, 2, 5, tzinfo=UTC), datetime(2024, 2, 6, tzinfo=UTC))
    assert not life.overlaps(TimeRange(at("2024-02-06"), at("2024-02-07")))
    assert life.overlaps(TimeRange(at("2024-02-05T23:59"), at("2024-02-07")))
    assert not life.overlaps(TimeRange(at("2024-02-04"), at("2024-02-05")))
