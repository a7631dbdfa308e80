"""A range of rows as REST pages: which requests to make, whatever lies between the rows. Pure but for the
function that asks.

Each page covers at most as many slots as it may hold rows, so it does not matter whether an API answers too
long a range with its oldest rows or with its newest. A page is believed for its own range only: an empty one
leads on to the next row, however far that is. Rows that space themselves have no slots: around a page that is
full, both sides are asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.exchanges.api import PageRules
from lakehouse.model.timerange import TimeRange

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_FIRST_LOOK = timedelta(days=1)

AskPage = Callable[[datetime | None, datetime | None, int], pl.DataFrame]
"""Asks for rows whose time lies from a start (inclusive) to an end (exclusive), at most so many, in the order
of the API.
"""


@dataclass(frozen=True, slots=True)
class Paged:
    """What can be asked for in pages.

    Attributes:
        ask: Asks for one page.
        rules: What one request may have.
        time: The column that places a row.
        step: Length of the slots that rows lie in; None for rows that space themselves.
        coarser: The same in longer steps; None if there is none.
    """

    ask: AskPage
    rules: PageRules
    time: str
    step: timedelta | None
    coarser: "Paged | None" = None


def floor_to(instant: datetime, step: timedelta | None) -> datetime:
    """The start of the slot that holds an instant; the instant itself where there are no slots."""
    return instant - (instant - _EPOCH) % step if step else instant


def pages(paged: Paged, span: TimeRange) -> Iterator[pl.DataFrame]:
    """Every row whose time lies in a range, once, in pages that are never empty; those of rows with slots in
    order.
    """
    return _by_slots(paged, paged.step, span) if paged.step else _around_full_pages(paged, span)


def _by_slots(paged: Paged, step: timedelta, span: TimeRange) -> Iterator[pl.DataFrame]:
    rules, cursor = paged.rules, span.start
    while cursor < span.end:
        opens = _next_slot(cursor, step)
        limit = rules.limit(max(1, -((opens - span.end) // step)))
        until = min(span.end, opens + limit * step)
        if rules.reach:
            until = min(until, cursor + rules.reach)
        page = paged.ask(cursor, until, limit)
        if page.height:
            (first, last), is_full = _ends(paged, page), page.height >= limit
            # More rows than slots: of the newest ones, the first may be one of several for its time.
            if is_full and opens < first < last:
                yield from _by_slots(paged, step, TimeRange(cursor, first + _MICRO))
                page = page.filter(pl.col(paged.time) > first)
            yield page
            cursor = last + _MICRO
            if not is_full and _next_slot(cursor, step) >= span.end:
                return
        elif until < span.end:
            cursor = _next_time(paged, TimeRange(until, span.end))
        else:
            return


def _around_full_pages(paged: Paged, span: TimeRange) -> Iterator[pl.DataFrame]:
    rules = paged.rules
    limit = max(rows for rows, _ in rules.sizes)
    todo = [(span.start, span.end)]
    while todo:
        start, end = todo.pop()
        until = min(end, start + rules.reach) if rules.reach else end
        if until < end:
            todo.append((until, end))
        page = paged.ask(start, until, limit)
        if page.height:
            yield page
        if page.height >= limit:  # its oldest rows, or its newest: whichever these are
            first, last = _ends(paged, page)
            parts = ((last + _MICRO, until), (start, first))
            todo += [part for part in parts if part[0] < part[1]]


def first_time(paged: Paged, span: TimeRange) -> datetime | None:
    """The time of the first row of a range; None if there is none. One request where the API finds it by
    itself.
    """
    if paged.rules.finds_next:
        found = [page] if (page := paged.ask(span.start, None, 1)).height else []
    elif paged.step:
        begins = next(pages(paged, span), None)
        found = [begins] if begins is not None else []
    else:
        found = next(filter(None, (list(pages(paged, part)) for part in _widening(span))), [])
    first = min((_ends(paged, page)[0] for page in found), default=span.end)
    return first if first < span.end else None


def _widening(span: TimeRange) -> Iterator[TimeRange]:
    """A range in parts, each four times as long as the one before: rows that space themselves are soon found
    where there are any, and in few requests where none is for years.
    """
    start, length = span.start, _FIRST_LOOK
    while start < span.end:
        end = min(span.end, start + length)
        yield TimeRange(start, end)
        start, length = end, 4 * length


def _next_time(paged: Paged, span: TimeRange) -> datetime:
    """An instant of a range before which none of its rows lies: that of the first one, or the start of its
    coarser slot; the end if there is none.
    """
    if paged.rules.finds_next:
        return first_time(paged, span) or span.end
    if paged.coarser is None:
        return span.start  # a page of the coarsest reaches as far as any search
    begin = TimeRange(floor_to(span.start, paged.coarser.step), span.end)
    page = next(pages(paged.coarser, begin), None)
    return max(span.start, _ends(paged, page)[0]) if page is not None else span.end


def _ends(paged: Paged, page: pl.DataFrame) -> tuple[datetime, datetime]:
    """The time of the earliest and of the latest row of a page."""
    first, last = page[paged.time].min(), page[paged.time].max()
    return first.astimezone(UTC), last.astimezone(UTC)  # type: ignore[union-attr]


def _next_slot(instant: datetime, step: timedelta) -> datetime:
    """The first start of a slot that is not before an instant."""
    return floor_to(instant - _MICRO, step) + step
