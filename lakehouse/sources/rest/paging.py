"""A range of candles as REST pages: which requests to make, whatever lies between the candles. Pure but for
the function that asks.

Each page covers at most as many slots as it may hold rows, so it does not matter whether an API answers too
long a range with its oldest rows or with its newest. A page is believed for its own range only: an empty one
leads on to the next candle, however far that is.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.exchanges.api import PageRules
from lakehouse.model.interval import Interval
from lakehouse.model.timerange import TimeRange

_DAY = Interval.parse("1d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)

AskPage = Callable[[Interval, datetime | None, datetime | None, int], pl.DataFrame]
"""Asks for candles of an interval that open from a start (inclusive) to an end (exclusive), at most so many:
rows with `open_time`, in its order.
"""


def floor_to(instant: datetime, interval: Interval) -> datetime:
    """The start of the slot that holds an instant."""
    return instant - (instant - _EPOCH) % interval.delta


def pages(ask: AskPage, rules: PageRules, interval: Interval, span: TimeRange) -> Iterator[pl.DataFrame]:
    """Every candle that opens in a range, once, in pages that are never empty."""
    cursor = span.start
    while cursor < span.end:
        opens = _next_slot(cursor, interval)
        limit = rules.limit(max(1, _slots(opens, span.end, interval)))
        until = min(span.end, opens + limit * interval.delta)
        if rules.reach:
            until = min(until, cursor + rules.reach)
        page = ask(interval, cursor, until, limit)
        if page.height:
            yield page
            cursor = _opened(page)[1] + _MICRO
            if page.height < limit and _next_slot(cursor, interval) >= span.end:
                return
        elif until < span.end:
            cursor = _next_open(ask, rules, interval, TimeRange(until, span.end))
        else:
            return


def first_candle(ask: AskPage, rules: PageRules, interval: Interval, span: TimeRange) -> datetime | None:
    """When the first candle of a range opens; None if there is none. One request where the API finds it by
    itself.
    """
    page = (
        ask(interval, span.start, None, 1)
        if rules.finds_next
        else next(pages(ask, rules, interval, span), None)
    )
    opens = _opened(page)[0] if page is not None and page.height else span.end
    return opens if opens < span.end else None


def _next_open(ask: AskPage, rules: PageRules, interval: Interval, span: TimeRange) -> datetime:
    """An instant of a range before which none of its candles opens: that of the first one, or the start of
    its day; the end if there is none.
    """
    if rules.finds_next:
        return first_candle(ask, rules, interval, span) or span.end
    if interval == _DAY:
        return span.start  # a page of days reaches as far as any search
    page = next(pages(ask, rules, _DAY, TimeRange(floor_to(span.start, _DAY), span.end)), None)
    return max(span.start, _opened(page)[0]) if page is not None else span.end


def _opened(page: pl.DataFrame) -> tuple[datetime, datetime]:
    """When the earliest and the latest candle of a page open."""
    first, last = page["open_time"].min(), page["open_time"].max()
    return first.astimezone(UTC), last.astimezone(UTC)  # type: ignore[union-attr]


def _next_slot(instant: datetime, interval: Interval) -> datetime:
    """The first start of a slot that is not before an instant."""
    return floor_to(instant - _MICRO, interval) + interval.delta


def _slots(start: datetime, end: datetime, interval: Interval) -> int:
    """How many slots begin from `start`, which begins one, to `end`."""
    return -((start - end) // interval.delta)
