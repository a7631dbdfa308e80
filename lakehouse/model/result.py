"""What computing a cell yields: rows, and what is known about them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Literal, TypeVar, get_args

import polars as pl

from lakehouse.model.text import plain
from lakehouse.model.timerange import TimeRange

GapClass = Literal["not_listed", "halt", "conflict", "absent"]
# what a reader is told by a clock: see `transform.gaps.told`
ToldClass = Literal["not_listed", "halt", "conflict", "pending", "unproven"]
Evidence = Literal[
    "contradicted", "unconfirmed", "api", "totals", "archive", "rows_daily", "rows_api", "rows_both"
]
"""Every level that some dataset knows; which ones a dataset has, and in which order, it says itself."""
AskedOutcome = Literal["rows", "empty", "unknown", "gone", "refused", "short", "unreachable"]
ContradictedBy = Literal["witness", "api", "rest", "archive"]
_WHO: Mapping[ContradictedBy, str] = {
    "witness": "1h candles by REST",
    "api": "1m candles by REST",
    "rest": "rows by REST",
    "archive": "other statements of the archive",
}
_MOST_SAID = 2_000
NONE = "none"  # the version of an input that is legally absent


@dataclass(frozen=True, slots=True)
class GapRun:
    """Consecutive expected slots without a row.

    Attributes:
        gap_class: Why they are absent, as far as is known.
        start: First absent slot.
        end: End of the last absent slot (exclusive).
        slot_count: How many slots are absent.
        asked_at: Of an `absent` run, when a REST API last answered about a range that holds all of it; None
            if none did. Of settlements in a break of the listing likewise: these are proven by that answer.
        halted_at: Of a `halt`, the instant trading stopped (exclusive end of the truncated candle before it);
            None where no candle tells.
    """

    gap_class: GapClass
    start: datetime
    end: datetime
    slot_count: int
    asked_at: datetime | None = None
    halted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A range a REST API was asked for, and what it answered.

    Attributes:
        start: Start of the range.
        end: End of the range (exclusive), cut to the end of the last finished candle by the server's time.
        at: The server's time of the answer.
        outcome: `rows`, `empty` (asked, and nothing there), `unknown` (it does not know the market), `gone`
            (it does not have rows of so long ago any more), `refused` (it refused this question),
            `unreachable`, or `short`: a part of the range that is open, because what was answered for it
            contradicts another statement, or could not be read.
        before: When the last candle before `start` opens, where it was asked for.
        after: When the first candle at or after `end` opens, where it was asked for.
        tries: Of `short`, how often in succession it was asked in vain.
    """

    start: datetime
    end: datetime
    at: datetime
    outcome: AskedOutcome
    before: datetime | None = None
    after: datetime | None = None
    tries: int = 0

    @property
    def is_of_rows(self) -> bool:
        """Whether it says which rows there are."""
        return self.outcome in ("rows", "empty")

    @property
    def is_answer(self) -> bool:
        """Whether the question was answered, be it that the market is unknown, or nothing there any more."""
        return self.is_of_rows or self.outcome in ("unknown", "gone")

    @property
    def span(self) -> TimeRange:
        """The range."""
        return TimeRange(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Consecutive hours, or days, in which a source states something else than what is served.

    Attributes:
        start: Start of the first one.
        end: End of the last one (exclusive).
        source: Who contradicts: `witness` (1h candles), `api` (1m candles by REST), `rest` (rows by REST of
            any other dataset) or `archive` (its files themselves, in another column).
        columns: What differs: names of columns; the time's where one side has no row at all.
        is_wholesale: Most candles of each day differ: one of the two looks like another market's.
    """

    start: datetime
    end: datetime
    source: ContradictedBy
    columns: tuple[str, ...]
    is_wholesale: bool = False

    def __str__(self) -> str:
        who = _WHO[self.source]
        span = f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"
        looks = (
            f"; most candles of a day differ, so {who}, or what is served, look like another market's"
            if self.is_wholesale
            else ""
        )
        return f"{who} contradict what is served from {span} in {', '.join(self.columns)}{looks}"


_CLASSES, _LEVELS, _OUTCOMES, _SOURCES = (
    frozenset(get_args(words)) for words in (GapClass, Evidence, AskedOutcome, ContradictedBy)
)
_COUNTLESS = 1 << 40  # no number of rows, keys or slots
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a source, and what became of it.

    Attributes:
        subject: The file or day concerned.
        kind: `mismatch`, `corrupt`, `duplicates`, `stale`, `unreachable`, `refused`, `unanswered`
            (an answer that lacks rows, and cannot deny them), or the kind of a `Doubt`.
        detail: What was expected and what was found.
        healed_by: What mended it; empty while it is not.
        day: The day concerned, if it is about one.
    """

    subject: str
    kind: str
    detail: str
    healed_by: str = ""
    day: str = ""

    def __post_init__(self) -> None:
        # they go into footers, metadata and terminals, whoever wrote them
        for name in ("subject", "kind", "detail", "healed_by", "day"):
            object.__setattr__(self, name, plain(getattr(self, name), _MOST_SAID))


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What a cell says about itself beside its rows.

    Attributes:
        gaps: Every expected slot without a row, in order.
        conflict_count: Keys for which sources disagreed.
        evidence: How well the rows are proven; None for tables without the notion.
        asked_until: The instant up to which sources were asked and answered.
        problems: What was wrong with sources.
        asked: What a REST API was asked for, and what it answered.
        unsettled_count: Keys for which sources disagreed and no proof decided.
        doubts: Days that the archive cannot settle by itself: what a REST API should be asked for.
        revised_at: When a REST API last said something else of a candle than before; of a witness, the last
            such instant it was asked after.
        restatement_count: Of a bronze cell, the values that its sources replaced; None if an earlier release
            wrote it.
        answered_at: Of a witness, when a REST API answered, in order: `asked` keeps the last time only, and
            an answer without news leaves no row.
        conflict_digest: Hash of all values of the disputed keys, so that whoever lists them sees news; empty
            where there are none.
        contradictions: What contradicts the rows that are served; where there is any, the evidence is
            `contradicted`.
        quiet_count: Of an exchange that is sparse: slots without a row that are proven to be without trade.
        silent_count: Of such an exchange: slots of which a source that was read whole has no row, without a
            proof that nothing was traded in them. Neither these nor the quiet ones are in a gap.
    """

    gaps: tuple[GapRun, ...] = ()
    conflict_count: int = 0
    evidence: Evidence | None = None
    asked_until: datetime | None = None
    problems: tuple[Problem, ...] = ()
    asked: tuple[Asked, ...] = ()
    unsettled_count: int = 0
    doubts: tuple[str, ...] = ()
    revised_at: datetime | None = None
    restatement_count: int | None = None
    answered_at: tuple[datetime, ...] = ()
    conflict_digest: str = ""
    contradictions: tuple[Contradiction, ...] = ()
    quiet_count: int = 0
    silent_count: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form; `from_json` reads it back."""
        records: dict[str, tuple[GapRun | Asked | Contradiction, ...]] = {
            "gaps": self.gaps,
            "asked": self.asked,
            "contradictions": self.contradictions,
        }
        out = {
            **asdict(self),
            **{name: [_record(found) for found in listed] for name, listed in records.items()},
        }
        out |= {
            name: found and found.isoformat()
            for name, found in (("asked_until", self.asked_until), ("revised_at", self.revised_at))
        }
        return out | {"answered_at": [at.isoformat() for at in self.answered_at]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CellFacts":
        """Read what `to_json` wrote, also by an earlier release that knew fewer fields.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: A field is absent, or not what it should be.
        """
        return cls(
            gaps=tuple(map(_run, data["gaps"])),
            conflict_count=read_count(data["conflict_count"]),
            evidence=None if data["evidence"] is None else _word(data["evidence"], _LEVELS),
            asked_until=_or_none(read_instant, data["asked_until"]),
            problems=tuple(
                Problem(**{name: read_text(said) for name, said in problem.items()})
                for problem in data["problems"]
            ),
            asked=tuple(map(_asked, data.get("asked", ()))),
            unsettled_count=read_count(data.get("unsettled_count", 0)),
            doubts=tuple(map(_day, data.get("doubts", ()))),
            revised_at=_or_none(read_instant, data.get("revised_at")),
            conflict_digest=read_text(data.get("conflict_digest", "")),
            restatement_count=_or_none(read_count, data.get("restatement_count")),
            answered_at=tuple(map(read_instant, data.get("answered_at", ()))),
            contradictions=tuple(map(_contradiction, data.get("contradictions", ()))),
            quiet_count=read_count(data.get("quiet_count", 0)),
            silent_count=read_count(data.get("silent_count", 0)),
        )

    def answers(self) -> str:
        """What sources answered, beside rows: news to whoever reads a bronze cell, so part of its version.

        When they were asked is not, nor is what is open though it was answered: who reads the cell judges
        that anew.
        """
        asked = [
            _record(replace(asking, at=asking.start)) for asking in self.asked if asking.outcome != "short"
        ]
        for record in asked:
            del record["tries"]
        return json.dumps([str(self.asked_until), asked, self.doubts, str(self.revised_at)])

    def digest(self) -> str:
        """Hash of what the facts say about gaps, disputes, evidence and `asked_until`: the version of news
        that is not in rows.

        What was asked when is left out: asking again and being told the same is no news.
        """
        said: dict[str, Any] = {
            "conflict_count": self.conflict_count,
            "unsettled_count": self.unsettled_count,
            "conflict_digest": self.conflict_digest,
            "evidence": self.evidence,
            "asked_until": self.asked_until and self.asked_until.isoformat(),
        }
        said["gaps"] = [_record(replace(run, asked_at=None)) for run in self.gaps]
        if self.contradictions:
            said["contradictions"] = [_record(found) for found in self.contradictions]
        if self.quiet_count or self.silent_count:
            said["without_row"] = [self.quiet_count, self.silent_count]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _record(value: "GapRun | Asked | Contradiction") -> dict[str, Any]:
    return {
        name: found.isoformat() if isinstance(found, datetime) else found
        for name, found in asdict(value).items()
    }


def read_instant(text: str) -> datetime:
    """An instant in UTC, as a footer states it.

    Raises:
        TypeError, ValueError: It is none, or has another offset than UTC, or none.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is not UTC:
        raise ValueError(f"{text!a:.40} is no instant in UTC")
    return found


def read_count(value: Any) -> int:
    """A number of things, as a footer states it.

    Raises:
        ValueError: It is none.
    """
    if type(value) is not int or not 0 <= value < _COUNTLESS:
        raise ValueError(f"{value!a:.40} is no count")
    return value


def read_text(value: Any) -> str:
    """A text, as a footer states it.

    Raises:
        ValueError: It is none.
    """
    if type(value) is not str:
        raise ValueError(f"{value!a:.40} is no text")
    return value


def _or_none(read: Callable[[Any], _Value], value: Any) -> _Value | None:
    return None if value is None else read(value)


def _word(value: Any, words: frozenset[str]) -> Any:
    if type(value) is not str or value not in words:
        raise ValueError(f"{value!a:.40} is none of {', '.join(sorted(words))}")
    return value


def _run(data: Mapping[str, Any]) -> GapRun:
    run = GapRun(
        _word(data["gap_class"], _CLASSES),
        read_instant(data["start"]),
        read_instant(data["end"]),
        read_count(data["slot_count"]),
        _or_none(read_instant, data.get("asked_at")),
        _or_none(read_instant, data.get("halted_at")),
    )
    _require_order(run.start < run.end, run)
    return run


def _asked(data: Mapping[str, Any]) -> Asked:
    start, end, at, outcome = (
        read_instant(data["start"]),
        read_instant(data["end"]),
        read_instant(data["at"]),
        _word(data["outcome"], _OUTCOMES),
    )
    asked = Asked(
        start,
        end,
        at,
        outcome,
        _or_none(read_instant, data.get("before")),
        _or_none(read_instant, data.get("after")),
        read_count(data.get("tries", 0)),
    )
    _require_order(start <= end, asked)
    return asked


def _contradiction(data: Mapping[str, Any]) -> Contradiction:
    columns, is_wholesale = tuple(map(read_text, data["columns"])), data.get("is_wholesale", False)
    if type(is_wholesale) is not bool:
        raise ValueError(f"{is_wholesale!a:.40} is neither true nor false")
    found = Contradiction(
        read_instant(data["start"]),
        read_instant(data["end"]),
        _word(data["source"], _SOURCES),
        columns,
        is_wholesale,
    )
    _require_order(found.start < found.end, found)
    return found


def _require_order(is_in_order: bool, found: object) -> None:
    if not is_in_order:
        raise ValueError(f"{found} ends before it begins")


def _day(value: Any) -> str:
    date.fromisoformat(value)
    if len(value) != 10:
        raise ValueError(f"{value!a:.40} is no day")
    return read_text(value)


@dataclass(frozen=True, slots=True)
class CellResult:
    """A computed cell, ready to be stored.

    Attributes:
        rows: The rows, with the table's columns.
        inputs: Version of every input they were made from, by name; `none` where an input is legally absent.
        facts: What is known beside the rows.
        rejected: Rows that are not served, with the column `rule`.
    """

    rows: pl.DataFrame
    inputs: Mapping[str, str]
    facts: CellFacts = CellFacts()
    rejected: pl.DataFrame | None = None
