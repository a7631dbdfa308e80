"""What an API has still to be asked for, and what it has answered so far."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from lakehouse.model.result import Asked, CellFacts
from lakehouse.model.timerange import TimeRange


def unanswered(wanted: Iterable[TimeRange], asked: Iterable[Asked]) -> list[TimeRange]:
    """The parts of some ranges that no answer covers, in order, neighbours merged."""
    left = merged(wanted)
    for answer in asked:
        if answer.outcome not in ("unreachable", "refused"):
            left = [part for span in left for part in _without(span, answer)]
    return left


def merged(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Ranges in order, those that touch or overlap made one."""
    found: list[TimeRange] = []
    for span in sorted(ranges, key=lambda span: span.start):
        if found and span.start <= found[-1].end:
            found[-1] = TimeRange(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _without(span: TimeRange, answer: Asked) -> list[TimeRange]:
    before = [TimeRange(span.start, min(span.end, answer.start))] if span.start < answer.start else []
    return before + ([TimeRange(max(span.start, answer.end), span.end)] if answer.end < span.end else [])


def with_answers(asked: Sequence[Asked], fresh: Sequence[Asked]) -> tuple[Asked, ...]:
    """What was asked so far, with what was asked now.

    Answers that overlap become one, so an hourly refresh does not grow without bound; answers that merely touch do not, for between them nothing shows
    that no candle is missing. Of earlier attempts without an answer nothing is kept: what is still open is among the new ones.
    """
    answers = _overlapping_joined(asking for asking in (*asked, *fresh) if asking.is_of_candles)
    # That a market is unknown says nothing of candles: it is kept apart, and where it was known at another time that counts.
    unknown = _overlapping_joined(asking for asking in (*asked, *fresh) if asking.outcome == "unknown" and unanswered([TimeRange(asking.start, asking.end)], answers))
    failures = [asking for asking in fresh if asking.outcome in ("unreachable", "refused")]
    return tuple(sorted([*answers, *unknown, *failures], key=lambda asking: (asking.start, asking.end)))


def was_asked_after(witness: CellFacts, revised_at: datetime | None) -> bool:
    """Whether a witness was asked after the last revision of finer candles; if not, it says nothing of them.

    Told by what both cells state as part of their version, so that who reads them learns when it changes.
    """
    return revised_at is None or (witness.revised_at is not None and witness.revised_at >= revised_at)


def _overlapping_joined(asked: Iterable[Asked]) -> list[Asked]:
    joined: list[Asked] = []
    for answer in sorted(asked, key=lambda asking: (asking.start, asking.end, asking.at)):
        last = joined[-1] if joined else None
        if last is not None and (answer.start < last.end or (answer.start, answer.end) == (last.start, last.end)):
            joined[-1] = _joined(last, answer)
        else:
            joined.append(answer)
    return joined


def _joined(first: Asked, second: Asked) -> Asked:
    """Two answers that overlap, the one with the earlier start first."""
    before = first.before if first.start < second.start else first.before or second.before
    ends_last = max(first, second, key=lambda asking: (asking.end, asking.at))
    after = ends_last.after if first.end != second.end else first.after or second.after
    return Asked(first.start, ends_last.end, max(first.at, second.at), "rows" if "rows" in (first.outcome, second.outcome) else second.outcome, before, after)
