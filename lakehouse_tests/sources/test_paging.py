"""Paging: every candle of a range once, whatever lies between them and however an API answers."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.exchanges.api import PageRules
from lakehouse.model.interval import COARSE, MINUTE, Interval
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.rest.paging import Paged, first_time, floor_to, pages
from lakehouse_tests.making import at, minutes, series

START = at("2024-02-01")
FIVE, HOUR, DAY = COARSE[0], COARSE[2], COARSE[4]
OLDEST_FIRST = PageRules(((3, 1), (7, 2), (20, 10)))
NEWEST_FIRST = PageRules(((3, 1), (7, 2), (20, 10)), timedelta(days=2), finds_next=False)
FUTURES = ((99, 1), (499, 2), (1000, 5), (1500, 10))


class Server:
    """Minutes that exist, and coarser candles wherever one of them does; answers as its rules say, and
    refuses what they forbid.
    """

    def __init__(self, rules: PageRules, opens: Sequence[datetime]) -> None:
        self.rules = rules
        self.opens = sorted(opens)
        self.asked = 0
        self._candles = cache(
            lambda interval: (
                sorted({floor_to(time, interval.delta) for time in self.opens})
                if interval != MINUTE
                else self.opens
            )
        )

    def ask(
        self, interval: Interval, start: datetime | None, end: datetime | None, limit: int
    ) -> pl.DataFrame:
        self.asked += 1
        assert limit <= max(rows for rows, _ in self.rules.sizes)
        if self.rules.reach:
            end = end or (start and start + self.rules.reach)
            start = start or (end and end - self.rules.reach)
            assert start is not None
            assert end is not None
            assert end - start <= self.rules.reach
        opens = self._candles(interval)
        found = opens[bisect_left(opens, start) if start else 0 : bisect_left(opens, end) if end else None]
        return pl.DataFrame([series(found[:limit] if self.rules.finds_next and start else found[-limit:])])

    def paged(self, interval: Interval = MINUTE) -> Paged:
        """What it can be asked for."""
        return Paged(
            lambda start, end, limit: self.ask(interval, start, end, limit),
            self.rules,
            "open_time",
            interval.delta,
            self.paged(DAY) if interval != DAY else None,
        )

    def read(self, span: TimeRange, interval: Interval = MINUTE) -> list[datetime]:
        return [time for page in pages(self.paged(interval), span) for time in page["open_time"]]


spans = st.tuples(st.integers(-200_000, 6_000_000), st.integers(1, 6_000_000)).map(
    lambda drawn: TimeRange(
        START + timedelta(milliseconds=100 * drawn[0]),
        START + timedelta(milliseconds=100 * (drawn[0] + drawn[1])),
    )
)
slots = st.sets(st.integers(-30, 60) | st.integers(3000, 3040) | st.integers(7000, 9000), max_size=150)


@given(slots, st.sets(st.integers(0, 60), max_size=10), spans, st.sampled_from([OLDEST_FIRST, NEWEST_FIRST]))
def test_every_candle_of_a_range_comes_once_and_in_order(
    indexes: set[int], off: set[int], span: TimeRange, rules: PageRules
) -> None:
    opens = [START + index * MINUTE.delta for index in indexes] + [
        START + index * MINUTE.delta + timedelta(seconds=30) for index in off
    ]
    server = Server(rules, opens)
    assert server.read(span) == [time for time in server.opens if span.start <= time < span.end]


def test_more_candles_than_slots_are_read_to_the_last() -> None:
    server = Server(OLDEST_FIRST, [START + timedelta(seconds=30 * half) for half in range(4)])
    assert server.read(TimeRange(START, START + timedelta(minutes=2))) == server.opens


def test_rows_that_a_page_has_no_room_for_are_asked_for_where_the_newest_are_answered() -> None:
    minutes = [START + n * MINUTE.delta for n in range(25)]
    server = Server(NEWEST_FIRST, [*minutes, *minutes[3:8]])  # a page has twenty, some of them twice
    span = TimeRange(START, minutes[-1] + MINUTE.delta)
    assert server.read(span) == server.opens
    assert first_time(server.paged(), span) == START


@given(slots, spans, st.sampled_from([OLDEST_FIRST, NEWEST_FIRST]))
def test_the_first_candle_is_found_or_there_is_none(
    indexes: set[int], span: TimeRange, rules: PageRules
) -> None:
    server = Server(rules, [START + index * MINUTE.delta for index in indexes])
    inside = [time for time in server.opens if span.start <= time < span.end]
    assert first_time(server.paged(), span) == (inside[0] if inside else None)


@pytest.mark.parametrize("interval", [FIVE, HOUR, DAY])
@pytest.mark.parametrize("rules", [OLDEST_FIRST, NEWEST_FIRST])
def test_other_intervals(interval: Interval, rules: PageRules) -> None:
    server = Server(rules, minutes("2024-02-01", 8_000))
    assert server.read(TimeRange.parse("2024-02-02", "2024-02-05"), interval) == [
        at("2024-02-02") + n * interval.delta for n in range(3 * 1440 // interval.minutes)
    ]


@pytest.mark.parametrize(
    ("rules", "most"),
    [(PageRules(((1000, 2),)), 7), (PageRules(FUTURES, timedelta(days=200), finds_next=False), 20)],
)
def test_a_hole_of_months_costs_a_few_requests(rules: PageRules, most: int) -> None:
    server = Server(rules, [*minutes("2023-01-01T10:00", 200), *minutes("2024-05-05T05:05", 200)])
    assert server.read(TimeRange.parse("2023-01-01", "2024-05-06")) == server.opens
    assert server.asked <= most


@given(slots, spans, st.sampled_from([OLDEST_FIRST, NEWEST_FIRST]))
def test_rows_that_space_themselves_come_once_whichever_end_an_api_answers_with(
    indexes: set[int], span: TimeRange, rules: PageRules
) -> None:
    server = Server(rules, [START + index * MINUTE.delta for index in indexes])
    paged = replace(server.paged(), step=None, coarser=None)
    inside = [time for time in server.opens if span.start <= time < span.end]
    assert sorted(time for page in pages(paged, span) for time in page["open_time"]) == inside
    assert first_time(paged, span) == (inside[0] if inside else None)


def test_a_page_that_ends_with_the_range_is_the_last_request() -> None:
    server = Server(PageRules(((1000, 2),)), minutes("2024-02-01", 5000))
    assert len(server.read(TimeRange.parse("2024-02-01", "2024-02-03"))) == 2880
    assert server.asked == 3


@pytest.mark.parametrize(
    ("slots", "limit"), [(1, 99), (99, 99), (100, 499), (499, 499), (500, 1000), (744, 1000), (44_640, 1000)]
)
def test_the_page_size_that_costs_least_for_what_is_wanted(slots: int, limit: int) -> None:
    rules = PageRules(FUTURES)
    assert rules.limit(slots) == limit
