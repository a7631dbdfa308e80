"""Rows by REST: every row of a range that can change no more, as an exchange answers them in pages."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.exchanges.api import Pages
from lakehouse.model.errors import (
    LakehouseError,
    RestQuestionError,
    RestUnreachableError,
    UnknownSymbolError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import Asked
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.paging import Paged, first_time, floor_to, pages

_FAR_AHEAD = timedelta(days=366)  # of the server's time, where no row lies
_LOOKS = 3  # for a row before the first one
_NO_TIME = datetime(2100, 1, 1, tzinfo=UTC)  # nor is any there, whatever the server's time


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """Rows as an API answered, and what it was asked.

    Attributes:
        rows: Rows that can change no more: the columns of a bronze table that are not lineage.
        asked: The range that these rows are all of, but for the unusable ones.
        unusable: The times of that range at which the API has a row, and of which it gave no values that can
            be used: none, no finite numbers, or two for one time.
        duplicate_count: Rows left out because they repeat another exactly.
        cut: Why the rest of the range was not answered; None where all of it was.
    """

    rows: pl.DataFrame
    asked: Asked
    unusable: tuple[datetime, ...] = ()
    duplicate_count: int = 0
    cut: LakehouseError | None = None


class RowReader:
    """Reads the rows of one market for one bronze table.

    Args:
        client: Of the market's API.
        table: The bronze table.
        answers: What the API answers of it.
        market: The market.
    """

    def __init__(self, client: RestClient, table: type[Table], answers: Pages, market: Market) -> None:
        self._client, self._answers, self._market = client, answers, market
        self._time = table.time
        self._useless: set[datetime] = set()

    def read(self, span: TimeRange, before: bool = False, after: bool = False) -> RestAnswer:
        """Every row of a range that can change no more. Where an API stops answering in the middle of it,
        what was answered by then is kept.

        Args:
            span: The range; its part after the last row that can change no more is not asked for, nor is what
                the API does not have any more.
            before: Also find the row before the range: together with one after it, it proves that nothing
                between them is being withheld.
            after: Also find the row after it.

        Raises:
            UnknownSymbolError: The API does not know the market.
            RestQuestionError: The API refuses this question.
            RestUnreachableError: The API does not answer; `RestBannedError` and `RestRefusedError` say why.
        """
        at, time = self._client.now(), self._time
        latest, paged = floor_to(at, self._answers.step), self._paged(self._answers)
        start = max(span.start, self._answers.since(at) or span.start)
        end = max(start, min(span.end, latest))
        frames, cut = self._pages(paged, TimeRange(start, end)) if start < end else ([], None)
        if cut is not None:
            last = max(_instants(frames[-1], time))
            end = min(end, floor_to(last, self._answers.step) + self._answers.slot)
        rows, unusable, duplicate_count = _one_per_time(
            pl.concat(frames) if frames else self._answers.read(self._market, []), time
        )
        if (final := self._answers.final) is not None:
            unfinished = rows.filter(~(final <= at))
            if unfinished.height:  # one that lies off its slot
                end = min(end, unfinished[time].min().astimezone(UTC))  # type: ignore[union-attr]
                rows = rows.filter(final <= at, pl.col(time) < end)
        last_before = first_after = None
        if before and cut is None:
            newest = paged.ask(None, min(start, latest), 1)
            last_before = max(_instants(newest, time), default=None)
        # after a range that was cut, no row can be told
        if after and cut is None and end == span.end < latest:
            first_after = first_time(paged, TimeRange(end, latest))
        # a row without values proves nothing
        last_before, first_after = (
            opens if opens not in self._useless else None for opens in (last_before, first_after)
        )
        unusable = tuple(opens for opens in unusable if opens < end)
        outcome = "rows" if rows.height or unusable else "empty"
        return RestAnswer(
            rows,
            Asked(start, end, at, outcome, last_before, first_after),  # type: ignore[arg-type]
            unusable,
            duplicate_count,
            cut,
        )

    def _pages(self, paged: Paged, span: TimeRange) -> tuple[list[pl.DataFrame], LakehouseError | None]:
        """The pages of a range, and why there are no more of them, where slots tell how far they reach."""
        frames: list[pl.DataFrame] = []
        try:
            for page in pages(paged, span):
                frames.append(page)  # noqa: PERF402  # what came before an error counts
        except (UnknownSymbolError, RestQuestionError, RestUnreachableError) as error:
            if not frames or paged.step is None:
                raise
            return frames, error
        return frames, None

    def first(self, span: TimeRange) -> datetime | None:
        """The time of the first row of a range; None if there is none. Where the API does not have all rows,
        the start of the first longer slot that it has a row of.

        One page that lacks rows would hide that there are earlier ones, so the newest row before the first is
        asked for, too.

        Raises:
            UnknownSymbolError, RestQuestionError, RestUnreachableError: As `read`.
        """
        self._client.now()
        answers = self._answers
        while answers.keeps and answers.coarser:
            answers = answers.coarser
        paged = self._paged(answers)
        first = first_time(paged, span)
        for _ in range(_LOOKS):
            if first is None or first <= span.start:
                break
            before = [
                opens for opens in _instants(paged.ask(None, first, 1), self._time) if opens >= span.start
            ]
            if not before:
                break
            first = first_time(paged, TimeRange(span.start, first)) or min(before)
        return first

    def last(self, before: datetime) -> datetime | None:
        """When the newest row before an instant ends; None if there is none.

        Raises:
            UnknownSymbolError, RestQuestionError, RestUnreachableError: As `read`.
        """
        self._client.now()
        newest = self._paged(self._answers).ask(None, before, 1)
        times = _instants(newest, self._time)
        return max(times) + self._answers.slot if times else None

    def _paged(self, answers: Pages) -> Paged:
        return Paged(
            lambda start, end, limit: self._page(answers, start, end, limit),
            answers.rules(self._market.market_type),
            self._time,
            answers.step,
            self._paged(answers.coarser) if answers.coarser else None,
        )

    def _page(self, answers: Pages, start: datetime | None, end: datetime | None, limit: int) -> pl.DataFrame:
        """One page with its unusable rows, which are noted: a page is left behind by what it holds, used or
        not.
        """
        client, time = self._client, self._time
        call = answers.call(self._market, start, end, limit)
        rows = client.ask(call, lambda answer: answers.read(self._market, answer), self._market)
        if end is not None and not answers.rules(self._market.market_type).has_end:
            rows = rows.filter(pl.col(time) < end)
        latest = at + _FAR_AHEAD if (at := client.reckoned) else _NO_TIME
        low, high = max(start or client.api.began, client.api.began), min(end or latest, latest)
        astray = rows.filter((pl.col(time) < low) | (pl.col(time) >= high))
        if astray.height:
            raise client.unreachable(
                f"asked for rows from {start} to {end} it answered with one of {astray[time][0]}"
            )
        is_usable = _is_usable(time)
        if not rows.select(is_usable.all()).item():
            self._useless.update(_instants(rows.filter(~is_usable), time))
        return rows


def _is_usable(time: str) -> pl.Expr:
    """Whether a row has values: of one that cannot be used there is its time alone."""
    return pl.any_horizontal(pl.exclude(time).is_not_null())


def _instants(rows: pl.DataFrame, time: str) -> list[datetime]:
    """The times of rows."""
    return [opens.astimezone(UTC) for opens in rows[time]]


def _one_per_time(rows: pl.DataFrame, time: str) -> tuple[pl.DataFrame, tuple[datetime, ...], int]:
    """Rows in order with one for each time, the times that have none, and how many rows repeated another
    exactly.
    """
    ordered = rows if rows[time].is_sorted() else rows.sort(time, maintain_order=True)
    is_usable = _is_usable(time)
    if (is_first := ordered[time].is_first_distinct()).all() and ordered.select(is_usable.all()).item():
        return ordered, (), 0
    once = ordered if is_first.all() else ordered.unique(maintain_order=True)
    # of two values for one time, neither is believed
    usable = once.filter(is_usable & ~pl.col(time).is_duplicated())
    unusable = once.filter(~pl.col(time).is_in(usable[time].implode())).unique(time, maintain_order=True)
    return usable, tuple(_instants(unusable, time)), ordered.height - once.height
