"""What computing a cell yields: rows, and what is known about them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import polars as pl

GapClass = Literal["not_listed", "halt", "conflict", "absent"]
Evidence = Literal["unconfirmed", "totals", "rows_daily", "rows_api"]
NONE = "none"  # the version of an input that is legally absent


@dataclass(frozen=True, slots=True)
class GapRun:
    """Consecutive expected slots without a row.

    Attributes:
        gap_class: Why they are absent, as far as is known.
        start: First absent slot.
        end: End of the last absent slot (exclusive).
        slot_count: How many slots are absent.
    """

    gap_class: GapClass
    start: datetime
    end: datetime
    slot_count: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a source, and what became of it.

    Attributes:
        subject: The file or day concerned.
        kind: `mismatch`, `corrupt`, `short`, `variants`, `duplicates` or `rules`.
        detail: What was expected and what was found.
        healed_by: What mended it; empty while it is not.
    """

    subject: str
    kind: str
    detail: str
    healed_by: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A range a REST API was asked for, and what it answered.

    Attributes:
        start: Start of the range.
        end: End of the range (exclusive), cut to the end of the last finished candle by the server's time.
        at: The server's time of the answer.
        outcome: `rows`, `empty` (asked, and nothing there) or `unreachable`.
        before: When the last candle before `start` opens, where it was asked for.
        after: When the first candle at or after `end` opens, where it was asked for.
    """

    start: datetime
    end: datetime
    at: datetime
    outcome: Literal["rows", "empty", "unreachable"]
    before: datetime | None = None
    after: datetime | None = None


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What a cell says about itself beside its rows.

    Attributes:
        gaps: Every expected slot without a row, in order.
        conflict_count: Keys for which sources disagreed.
        evidence: How well the rows are proven; None for tables without the notion.
        asked_until: The instant up to which sources were asked and answered.
        problems: What was wrong with sources.
    """

    gaps: tuple[GapRun, ...] = ()
    conflict_count: int = 0
    evidence: Evidence | None = None
    asked_until: datetime | None = None
    problems: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form; `from_json` reads it back."""
        out = asdict(self)
        out["asked_until"] = self.asked_until and self.asked_until.isoformat()
        for run in out["gaps"]:
            run["start"], run["end"] = run["start"].isoformat(), run["end"].isoformat()
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CellFacts":
        """Read what `to_json` wrote."""
        gaps = tuple(GapRun(g["gap_class"], datetime.fromisoformat(g["start"]), datetime.fromisoformat(g["end"]), g["slot_count"]) for g in data["gaps"])
        asked = data["asked_until"]
        return cls(
            gaps=gaps,
            conflict_count=data["conflict_count"],
            evidence=data["evidence"],
            asked_until=datetime.fromisoformat(asked) if asked else None,
            problems=tuple(Problem(**problem) for problem in data["problems"]),
        )

    def digest(self) -> str:
        """Hash of what the facts say about gaps, conflicts, evidence and `asked_until`: the version of news that is not in rows."""
        said = {name: value for name, value in self.to_json().items() if name in ("gaps", "conflict_count", "evidence", "asked_until")}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


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
