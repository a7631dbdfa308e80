"""What an API has still to be asked for, and what it has answered so far."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain

from lakehouse.model.result import Asked, CellFacts
from lakehouse.model.timerange import TimeRange

_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(hours=1), timedelta(days=7)


def unanswered(wanted: Iterable[TimeRange], asked: Iterable[Asked]) -> list[TimeRange]:
    """The parts of some ranges that no answer covers, in order, neighbours merged."""
    return without(wanted, (asking.span for asking in asked if asking.is_answer))


def without(wanted: Iterable[TimeRange], taken: Iterable[TimeRange]) -> list[TimeRange]:
    """Ranges less others, in order, neighbours merged."""
    left = merged(wanted)
    for span in taken:
        left = [part for whole in left for part in _without(whole, span)]
    return left


def again_at(asking: Asked) -> datetime:
    """When what was asked in vain may be asked again: an hour later, then after twice as long each time, up
    to a week.
    """
    return asking.at + min(_FIRST_PAUSE * (1 << min(max(asking.tries, 1) - 1, 16)), _LONGEST_PAUSE)


def to_ask(wanted: Iterable[TimeRange], asked: Sequence[Asked], now: datetime) -> list[TimeRange]:
    """What is to be asked now: what no answer covers, and what stayed open, unless it rests.

    Args:
        wanted: What an answer is wanted for.
        asked: What was asked, without what is over: a question that was refused rests as long as it is among
            them.
        now: The current instant.
    """
    resting = [
        asking.span
        for asking in asked
        if asking.outcome == "refused" or (asking.outcome == "short" and now < again_at(asking))
    ]
    ripe = [asking.span for asking in asked if asking.outcome == "short" and now >= again_at(asking)]
    return without([*unanswered(wanted, asked), *ripe], resting)


def left_open(
    asked: Sequence[Asked], contradicted: Iterable[TimeRange], fresh: Sequence[Asked]
) -> tuple[Asked, ...]:
    """What was asked, with the parts of it that stay open.

    Args:
        asked: Everything that was asked, with the parts that were open before; among them those that no
            answer covers.
        contradicted: Ranges that are contradicted by another statement though they were answered.
        fresh: What was asked just now: its open parts have been tried once more.
    """
    before = [asking for asking in asked if asking.outcome == "short"]
    others = [asking for asking in asked if asking.outcome != "short"]
    never = without(
        (asking.span for asking in before), (asking.span for asking in others if asking.is_answer)
    )
    tried = [asking for asking in fresh if asking.outcome != "unreachable"]
    found = []
    for span in merged([*contradicted, *never]):
        earlier = [asking for asking in before if asking.start < span.end and span.start < asking.end]
        now = [asking.at for asking in tried if asking.start < span.end and span.start < asking.end]
        answered = [
            asking.at
            for asking in others
            if asking.is_answer and asking.start < span.end and span.start < asking.end
        ]
        tries = max((asking.tries for asking in earlier), default=0)
        at = max(now or [asking.at for asking in earlier] or answered)
        found.append(
            Asked(span.start, span.end, at, "short", tries=tries + 1 if now or not earlier else tries)
        )
    return tuple(sorted([*others, *found], key=lambda asking: (asking.start, asking.end, asking.outcome)))


def merged(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Ranges in order, those that touch or overlap made one."""
    found: list[TimeRange] = []
    for span in sorted(ranges, key=lambda span: span.start):
        if found and span.start <= found[-1].end:
            found[-1] = TimeRange(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _without(span: TimeRange, answer: TimeRange) -> list[TimeRange]:
    before = [TimeRange(span.start, min(span.end, answer.start))] if span.start < answer.start else []
    return before + ([TimeRange(max(span.start, answer.end), span.end)] if answer.end < span.end else [])


def with_answers(asked: Sequence[Asked], fresh: Sequence[Asked]) -> tuple[Asked, ...]:
    """What was asked so far, with what was asked now.

    Answers that overlap become one, so an hourly refresh does not grow without bound; answers that merely
    touch do not, for between them nothing shows that no candle is missing. Of earlier attempts without an
    answer nothing is kept: what is still open is among the new ones.
    """
    answers = _overlapping_joined(asking for asking in (*asked, *fresh) if asking.is_of_rows)
    # That a market is unknown, a question refused, or so old a row there no more, says nothing of candles: it
    # is kept apart, and where it was answered at another time that counts.
    others = [
        _overlapping_joined(
            asking
            for asking in (*asked, *fresh)
            if asking.outcome == kind and unanswered([asking.span], answers)
        )
        for kind in ("unknown", "gone", "refused")
    ]
    failures = [asking for asking in fresh if asking.outcome == "unreachable"]
    still_open = [asking for asking in (*asked, *fresh) if asking.outcome == "short"]
    return tuple(
        sorted(
            [*answers, *chain.from_iterable(others), *failures, *still_open],
            key=lambda asking: (asking.start, asking.end),
        )
    )


def was_asked_after(witness: CellFacts, revised_at: datetime | None) -> bool:
    """Whether a witness was asked after the last restatement of finer candles; if not, it is silent on them.

    Told by what both cells state as part of their version, so that who reads them learns when it changes.
    """
    return revised_at is None or (witness.revised_at is not None and witness.revised_at >= revised_at)


def _overlapping_joined(asked: Iterable[Asked]) -> list[Asked]:
    joined: list[Asked] = []
    for answer in sorted(asked, key=lambda asking: (asking.start, asking.end, asking.at)):
        last = joined[-1] if joined else None
        if last is not None and (
            answer.start < last.end or (answer.start, answer.end) == (last.start, last.end)
        ):
            joined[-1] = _joined(last, answer)
        else:
            joined.append(answer)
    return joined


def _joined(first: Asked, second: Asked) -> Asked:
    """Two answers that overlap, the one with the earlier start first."""
    before = first.before if first.start < second.start else first.before or second.before
    ends_last = max(first, second, key=lambda asking: (asking.end, asking.at))
    after = ends_last.after if first.end != second.end else first.after or second.after
    return Asked(
        first.start,
        ends_last.end,
        max(first.at, second.at),
        "rows" if "rows" in (first.outcome, second.outcome) else second.outcome,
        before,
        after,
    )
