"""One bronze cell after another from a REST API: the witness of a month, and the rows that the archive leaves
open.

An API out of reach never fails a cell: it is written with what there is and says that it was not answered, so
the next run asks again.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

import polars as pl

from lakehouse.datasets.dataset import ApiTable
from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cell import Cell
from lakehouse.model.errors import RestQuestionError, RestUnreachableError, UnknownSymbolError
from lakehouse.model.result import Asked, CellFacts, CellResult, Problem
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange, day_range
from lakehouse.model.words import count_of
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.paging import floor_to
from lakehouse.sources.rest.rows import RestAnswer, RowReader
from lakehouse.storage.tables import CellRecord, StoredCell
from lakehouse.transform.asking import again_at, left_open, to_ask, was_asked_after, with_answers, without
from lakehouse.transform.gaps import LISTING_BREAK
from lakehouse.transform.history import append_news, restatements, revised_at

_HOUR = timedelta(hours=1)  # of what is newest, whole hours are asked for
_AT_ONCE = 4  # requests under way: the wait is the network's, the budget is the client's
_UNKNOWN_FOR = timedelta(days=1)
# an API that is down or refuses is asked again for other cells: at every one, thousands would wait for it, or
# hammer at it
_SILENT_SECONDS = 15.0


# --- what is wanted -------------------------------------------------------------------------------


def witness_range(cell: Cell, market: MarketFacts | None, now: datetime) -> TimeRange | None:
    """The whole days of a cell that a witness can be asked about, from the hour in which the market was
    listed; None while there is none.
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    span = _in_life(cell.window.start, min(cell.window.end, today), market)
    return TimeRange(floor_to(span.start, _HOUR), span.end) if span else None


def witness_is_due(
    cell: Cell,
    record: CellRecord | None,
    market: MarketFacts | None,
    now: datetime,
    revised_at: datetime | None,
    finer: Sequence[Asked] = (),
) -> bool:
    """Whether the witness of a cell has to be asked for.

    It has if it covers less than it could, was out of reach, is older than a restatement of finer rows, or
    contradicts finer rows that are about to be asked for again: either of the two may have been wrong.

    Args:
        cell: The cell.
        record: What is stored of its witness.
        market: Facts of the market.
        now: The current instant.
        revised_at: When the API last restated a finer row.
        finer: What the API was asked for finer rows.
    """
    wanted = witness_range(cell, market, now)
    if wanted is None or record is None:
        return wanted is not None
    asked = record.facts.asked
    if to_ask([wanted], _final(asked, market, now), now) or not was_asked_after(record.facts, revised_at):
        return True
    newest = max((asking.at for asking in asked if asking.is_answer), default=None)
    ripe = [again_at(asking) for asking in finer if asking.outcome == "short" and again_at(asking) <= now]
    return newest is not None and any(at > newest for at in ripe)


def _final(asked: Sequence[Asked], market: MarketFacts | None, now: datetime) -> list[Asked]:
    """Askings that need no other. That a market which has not ended is unknown, or a question refused, does
    not last: it is asked again the day after.
    """
    ended = market is not None and market.delisted is not None
    lasting = ("rows", "empty", "gone", "short", "unreachable", *(["unknown"] if ended else []))
    return [asking for asking in asked if asking.outcome in lasting or now - asking.at < _UNKNOWN_FOR]


@dataclass(frozen=True, slots=True)
class Question:
    """A range to ask an API for.

    Attributes:
        span: The range.
        before: Whether to ask for the row before it as well.
        after: Whether to ask for the one after it.
    """

    span: TimeRange
    before: bool = False
    after: bool = False


def api_questions(
    cell: Cell,
    archive: CellRecord | None,
    stored: CellRecord | None,
    market: MarketFacts | None,
    now: datetime,
    slot: timedelta,
) -> list[Question]:
    """What an API has still to be asked for: days the archive leaves in doubt, and the whole hours behind its
    last day.

    A range that goes on where an answer ends begins with the last row that is known, so the two become
    one: a halt across the seam is proven without further requests, and rows that an API was late with are
    not passed over. The row after a range is asked for where it may be there; a month that ended without
    trade is asked about again until it is, or trade has plainly ended.

    Args:
        cell: The cell.
        archive: What is stored of it from the archive.
        stored: What is stored of it from the API.
        market: Facts of the market.
        now: The current instant.
        slot: What one row of the API stands for.
    """
    hour = floor_to(now, _HOUR)
    doubts = [(day_range(day).start, day_range(day).end) for day in archive.facts.doubts] if archive else []
    covered = archive.last_time if archive else None
    tail = day_range(f"{covered:%Y-%m-%d}").end if covered else cell.window.start, cell.window.end
    wanted = [span for start, end in (*doubts, tail) if (span := _in_life(start, min(end, hour), market))]
    asked = _final(stored.facts.asked, market, now) if stored else []
    ends = {asking.end for asking in asked if asking.is_of_rows}

    last = max(
        (record.last_time for record in (archive, stored) if record and record.last_time), default=None
    )

    def question(span: TimeRange) -> Question:
        goes_on, before = span.start in ends, span.start - slot
        return Question(
            TimeRange(max(cell.window.start, min(before, last or before)), span.end) if goes_on else span,
            not goes_on,
            span.end < hour,
        )

    questions = [question(span) for span in to_ask(wanted, asked, now)]
    silent = [
        asking
        for asking in asked
        if asking.end == cell.window.end and asking.is_of_rows and asking.after is None
    ]
    if (
        not questions
        and silent
        and (last is None or last < cell.window.end - slot)
        and not (market and market.delisted)
    ):
        at = max(asking.at for asking in silent)
        if at < min(hour, cell.window.end + LISTING_BREAK):
            questions.append(Question(TimeRange(cell.window.end - slot, cell.window.end), after=True))
    return questions


def _in_life(start: datetime, end: datetime, market: MarketFacts | None) -> TimeRange | None:
    """A range cut to a market's life; None if nothing is left of it."""
    start = max(start, market.listed.replace(second=0, microsecond=0)) if market else start
    end = min(end, market.delisted) if market and market.delisted else end
    return TimeRange(start, end) if start < end else None


# --- asking ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answers:
    """What an API answered to the questions about one cell.

    Attributes:
        table: The bronze table.
        told: Rows with their lineage, and what was asked for them.
        failed: What was not answered, and rows of an answer that could not be used.
        problems: Why not.
        revised_at: Of a witness: when finer rows were last restated before it was asked.
        is_witness: Whether the table is a witness: what it states differently later restates nothing that is
            served.
        contradicted: Of finer rows: which ranges contradict the witness, given the cell as it is with
            these answers.
        inputs: Versions of the cells that this is judged by.
    """

    table: type[ApiTable]
    told: Sequence[tuple[pl.DataFrame, Asked]]
    failed: Sequence[Asked]
    problems: Sequence[Problem]
    revised_at: datetime | None = None
    is_witness: bool = False
    contradicted: Callable[[CellResult], Sequence[TimeRange]] = lambda result: ()
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every question was answered, be it with parts that stay open."""
        return all(asking.outcome == "short" for asking in self.failed) and bool(self.told or not self.failed)

    def change(self, stored: StoredCell | None) -> CellResult:
        """The cell with these answers added to what is stored of it."""
        history = stored.rows.select(self.table.names()) if stored else self.table.empty()
        key = self.table.identity()
        for rows, asked in self.told:
            history = append_news(history, rows, key, self.table.time, TimeRange(asked.start, asked.end))
        earlier = stored.record.facts if stored else CellFacts()
        revised = [
            at
            for at in (
                earlier.revised_at,
                (self.revised_at if self.told else None) if self.is_witness else revised_at(history, key),
            )
            if at
        ]
        fresh = [*(asked for _, asked in self.told), *self.failed]
        facts = CellFacts(
            asked=with_answers(earlier.asked, fresh),
            problems=tuple(self.problems) if fresh else earlier.problems,
            revised_at=max(revised, default=None),
            restatement_count=restatements(history, key).height,
            answered_at=(*earlier.answered_at, *(asked.at for _, asked in self.told))
            if self.is_witness
            else (),
        )
        result = CellResult(history, self.inputs, facts)
        return replace(
            result, facts=replace(facts, asked=left_open(facts.asked, self.contradicted(result), fresh))
        )


def ask(
    table: type[ApiTable],
    clients: RestClients,
    wanted: Mapping[Cell, list[Question]],
    clock: Callable[[], datetime],
) -> Iterator[tuple[Cell, Answers]]:
    """What an API answers about cells, in the order of the cells; a few cells are asked for ahead.

    Args:
        table: The bronze table.
        clients: Clients of the REST APIs.
        wanted: What to ask, by cell.
        clock: Tells the current instant; stamps what was not answered.
    """
    todo, pool = iter(wanted.items()), ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lakehouse-rest")
    silent: _Silent = {}

    def submit(item: tuple[Cell, list[Question]]) -> tuple[Cell, Future[Answers]]:
        return item[0], pool.submit(_ask_cell, table, clients, *item, clock, silent)

    try:
        running = [submit(item) for item in islice(todo, 2 * _AT_ONCE)]
        while running:
            cell, answered = running.pop(0)
            yield cell, answered.result()
            running += [submit(item) for item in islice(todo, 1)]
    finally:
        # where this is given up in the middle, garbage collection may end it, anywhere: it must not wait for
        # threads there
        pool.shutdown(wait=False, cancel_futures=True)


_Silent = dict[str, tuple[float, RestUnreachableError]]
"""APIs that do not answer, with when to ask again and why not before."""


def _ask_cell(
    table: type[ApiTable],
    clients: RestClients,
    cell: Cell,
    questions: list[Question],
    clock: Callable[[], datetime],
    silent: _Silent,
) -> Answers:
    told: list[tuple[pl.DataFrame, Asked]] = []
    failed: list[Asked] = []
    problems: list[Problem] = []
    market = cell.own_market
    client, pages = clients.of(market), clients.pages_of(market, table.name)
    for question in questions:
        span = question.span
        try:
            again_at, why = silent.get(client.api.url, (0.0, None))
            if why and time.monotonic() < again_at:
                raise why
            answer = RowReader(client, table, pages, market).read(span, question.before, question.after)
            told += [
                (_with_lineage(table, answer.rows, part, client.api.url), part)
                for part in _usable(answer, table.time, pages.slot)
            ]
            if answer.asked.start > span.start:
                gone = min(answer.asked.start, span.end)
                told.append((table.empty(), Asked(span.start, gone, answer.asked.at, "gone")))
            if answer.unusable:
                failed += [
                    Asked(start, min(start + pages.slot, answer.asked.end), answer.asked.at, "short")
                    for start in answer.unusable
                ]
                problems.append(
                    Problem(
                        str(span),
                        "unusable",
                        f"{count_of(len(answer.unusable), 'row')} could not be read, the first of "
                        f"{answer.unusable[0]:%Y-%m-%d %H:%M}",
                    )
                )
            if answer.duplicate_count:
                problems.append(
                    Problem(
                        str(span),
                        "duplicates",
                        f"{answer.duplicate_count} rows repeat another row exactly",
                        "one of each was kept",
                    )
                )
            if answer.cut is not None:
                span = TimeRange(answer.asked.end, span.end)
                raise answer.cut
        # delisted and forgotten: the archive is all there is, which is no fault of anybody's
        except UnknownSymbolError:
            told.append((table.empty(), Asked(span.start, span.end, clock(), "unknown")))
        except RestQuestionError as error:  # says nothing of other questions
            failed.append(Asked(span.start, span.end, clock(), "refused"))
            problems.append(Problem(str(span), "refused", str(error)))
        except RestUnreachableError as error:
            if error is not why and not client.is_up:
                silent[client.api.url] = time.monotonic() + _SILENT_SECONDS, error
            # An API that is up and answers something else is not out of reach: the question rests like one
            # that was answered in part.
            failed.append(Asked(span.start, span.end, clock(), "short" if client.is_up else "unreachable"))
            problems.append(Problem(str(span), "unreachable", str(error)))
    return Answers(table, told, failed, problems)


def _usable(answer: RestAnswer, time: str, slot: timedelta) -> Iterator[Asked]:
    """What was answered, less the slots whose rows could not be read: of these nothing was said."""
    unusable = [TimeRange(start, start + slot) for start in answer.unusable]
    told = answer.asked
    parts = without([told.span], unusable) if told.start < told.end else []
    for part in parts:
        has_rows = answer.rows[time].is_between(part.start, part.end, closed="left").any()
        before, after = (
            told.before if part.start == told.start else None,
            told.after if part.end == told.end else None,
        )
        yield Asked(part.start, part.end, told.at, "rows" if has_rows else "empty", before, after)


def _with_lineage(table: type[ApiTable], answered: pl.DataFrame, part: Asked, url: str) -> pl.DataFrame:
    """The rows of a part of an answer. Each part has a hash of its own: a history takes rows of one hash and
    instant for one reading, and keeps the last.
    """
    rows = answered.filter(pl.col(table.time).is_between(part.start, part.end, closed="left"))
    return rows.with_columns(
        source=pl.lit("api"),
        source_file=pl.lit(url),
        source_sha256=pl.lit(hashlib.sha256(rows.write_csv().encode()).hexdigest()),
        fetched_at=pl.lit(part.at).cast(UTC_TIME),
        is_removed=pl.lit(False),
    ).select(table.names())
