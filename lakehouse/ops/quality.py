"""What is known of every market and month, from what cells say of themselves; no cell's rows are read."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import PeriodKind
from lakehouse.model.result import Contradiction, Evidence, GapRun, Problem, ToldClass
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.ops.anomalies import CellAnomalies, known_anomalies
from lakehouse.ops.findings import GAP_SEVERITY, holes
from lakehouse.query.lake import Lake
from lakehouse.query.universe import require_able
from lakehouse.storage.due import expected
from lakehouse.storage.ledger import Ledger, damaged_cells, require_stored
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.gaps import told

State = Literal["good", "pending", "warn", "error"]
STATES: tuple[State, ...] = get_args(State)  # the worse, the later
_NONE = CellAnomalies("", {})  # of tables that are not searched for any
_NAMED = 3  # contradictions of a cell that are told in words
DAMAGED = "its object is damaged: `lakehouse verify --stored --repair` makes it again"
HOLE = "nothing is stored, between months that are"
UNBUILT = "not built, though bronze has its rows"


@dataclass(frozen=True, slots=True)
class CellQuality:
    """What is known of one month of one market.

    Attributes:
        cell: The cell.
        rows: How many rows it has; None if nothing that reads is stored of it, though there should be.
        gaps: Absent rows by the class a reader is told.
        settled: Disputed keys that a proof decided.
        unsettled: Disputed keys that none did.
        evidence: How well the rows are proven; None if nothing is stored.
        healed: Problems with sources that were mended.
        unhealed: Those that were not.
        rejected: Rows in quarantine.
        newest: Open time of the newest row; None without rows.
        anomalies: Candles that look wrong; None if it was not searched as it is now.
        contradictions: What contradicts the rows that are served.
        unread: Where `rows` is None, why.
        runs: The gaps, each with its class.
        problems: Those with sources, healed and not.
        quiet: Slots without a row that are proven to be without trade, of an exchange that has no rows of
            these.
        silent: Those of which that is not proven.
    """

    cell: Cell
    rows: int | None
    gaps: Mapping[ToldClass, int]
    settled: int = 0
    unsettled: int = 0
    evidence: Evidence | None = None
    healed: int = 0
    unhealed: int = 0
    rejected: int = 0
    newest: datetime | None = None
    anomalies: int | None = None
    contradictions: Sequence[Contradiction] = ()
    unread: str = HOLE
    runs: Sequence[tuple[ToldClass, GapRun]] = ()
    problems: Sequence[Problem] = ()
    quiet: int = 0
    silent: int = 0

    @property
    def reasons(self) -> list[tuple[State, str]]:
        """What is not good, with the state each makes, worst first."""
        if self.rows is None:
            return [("error", self.unread)]
        gaps = [
            (gap_class, f"{count_of(count, 'row')} absent ({gap_class})")
            for gap_class, count in self.gaps.items()
            if gap_class != "not_listed"
        ]
        found: list[tuple[State, str]] = [
            ("pending" if gap_class == "pending" else GAP_SEVERITY[gap_class], why) for gap_class, why in gaps
        ]
        kinds = Counter(problem.kind for problem in self.problems if not problem.healed_by)
        counted = (
            (self.unsettled, "disputed key", "that no proof decided"),
            *((count, "problem", f"with sources, not healed ({kind})") for kind, count in kinds.items()),
            (self.rejected, "row", "in quarantine"),
            (self.anomalies or 0, "candle", "flagged as odd"),
        )
        found += [("warn", f"{count_of(count, what)} {rest}") for count, what, rest in counted if count]
        found += [("error" if one.is_wholesale else "warn", str(one)) for one in self.contradictions[:_NAMED]]
        if len(self.contradictions) > _NAMED:
            more = count_of(len(self.contradictions) - _NAMED, "further contradiction")
            found.append(("warn", more))
        return sorted(found, key=lambda reason: -STATES.index(reason[0]))

    @property
    def state(self) -> State:
        """The worst of what is not good; `good` if nothing is."""
        return self.reasons[0][0] if self.reasons else "good"

    def to_json(self) -> dict[str, Any]:
        """A flat record for people and programs."""
        gaps = {gap_class: self.gaps.get(gap_class, 0) for gap_class in get_args(ToldClass)}
        disputes = {"conflicts_settled": self.settled, "conflicts_unsettled": self.unsettled}
        sources: dict[str, Any] = {
            "evidence": self.evidence,
            "problems_healed": self.healed,
            "problems_unhealed": self.unhealed,
            "rejected": self.rejected,
        }
        end = {"newest": self.newest, "anomalies": self.anomalies, "why": [why for _, why in self.reasons]}
        sources["contradictions"] = [str(one) for one in self.contradictions]
        return {
            "market": self.cell.own_market.key,
            "month": self.cell.date,
            "state": self.state,
            "rows": self.rows,
            **gaps,
            "quiet": self.quiet,
            "silent": self.silent,
            **disputes,
            **sources,
            **end,
        }


def lake_quality(
    lake: Lake, table: type[Table], markets: Collection[Market], now: datetime
) -> list[CellQuality]:
    """`quality_report` of a silver table of a lake.

    Args:
        lake: The lake.
        table: The table.
        markets: Which markets; all if there is none.
        now: As there.

    Raises:
        NoLakeError: There is no lake.
        NothingStoredError: A market that is named has no cell.
        NotALakeObjectError: An object lies where no cell does.
    """
    require_able([table], markets)
    stored, foreign = lake.survey(table.name, markets or None)
    damaged = damaged_cells(table, foreign)
    buildable = expected(table, {name: lake.survey(name, markets or None)[0] for name in table.input_names()})
    require_stored(table.name, [*stored, *damaged, *buildable], markets, None)
    is_searched = any(check.family == "anomalies" for check in table.checks)
    searched = known_anomalies(lake.objects, table, stored) if is_searched else dict.fromkeys(stored, _NONE)
    return quality_report(stored, searched, now, damaged, buildable, table.published)


def quality_report(
    stored: Ledger,
    anomalies: Mapping[Cell, CellAnomalies],
    now: datetime,
    damaged: Collection[Cell] = (),
    buildable: Collection[Cell] = (),
    published: PeriodKind = "day",
) -> list[CellQuality]:
    """What is known of every stored cell, and of those that should be there and are not.

    Args:
        stored: The ledger of a silver table.
        anomalies: What searches found in cells as they are now.
        now: The instant that tells `pending` from `unproven`.
        damaged: Cells whose object is there and does not read.
        buildable: Cells that bronze has the rows of.
        published: The period of the files that absent rows may still appear with.

    Returns:
        A record per market and month, in order of market and month.
    """
    report = [_of_cell(cell, record, anomalies.get(cell), now, published) for cell, record in stored.items()]
    known = dict.fromkeys(sorted({*stored, *damaged, *buildable}, key=lambda cell: cell.sort_key))
    unread = (
        dict.fromkeys(holes(known), HOLE)
        | dict.fromkeys(set(buildable) - stored.keys(), UNBUILT)
        | dict.fromkeys(damaged, DAMAGED)
    )
    return sorted(
        report + [CellQuality(cell, None, {}, unread=why) for cell, why in unread.items()],
        key=lambda found: found.cell.sort_key,
    )


def _of_cell(
    cell: Cell, record: CellRecord, anomalies: CellAnomalies | None, now: datetime, published: PeriodKind
) -> CellQuality:
    facts, gaps = record.facts, Counter[ToldClass]()
    runs = list(told(facts.gaps, now, published))
    for gap_class, run in runs:
        gaps[gap_class] += run.slot_count
    healed = sum(bool(problem.healed_by) for problem in facts.problems)
    return CellQuality(
        cell=cell,
        rows=record.rows,
        gaps=gaps,
        settled=facts.conflict_count - facts.unsettled_count,
        unsettled=facts.unsettled_count,
        evidence=facts.evidence,
        healed=healed,
        unhealed=len(facts.problems) - healed,
        rejected=record.reject_count,
        newest=record.last_time,
        anomalies=sum(anomalies.counts.values()) if anomalies else None,
        contradictions=sorted(facts.contradictions, key=lambda one: not one.is_wholesale),
        runs=runs,
        problems=facts.problems,
        quiet=facts.quiet_count,
        silent=facts.silent_count,
    )


def summary(report: Iterable[CellQuality]) -> dict[State, int]:
    """How many cells are in each state."""
    counts = Counter(found.state for found in report)
    return {state: counts[state] for state in STATES}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive months of which the same is not good, of as many markets as it holds for.

    Attributes:
        state: How bad it is.
        what: What is not good, without numbers of its own.
        first: The first month.
        last: The last month.
        markets: Keys of the markets.
        count: How many rows, keys, candles or problems that is in all; 0 where it is none of these.
    """

    state: State
    what: str
    first: str
    last: str
    markets: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        months = self.first if self.first == self.last else f"{self.first} to {self.last}"
        where = self.markets[0] if len(self.markets) == 1 else f"{len(self.markets):,} markets"
        return f"{months}, {where}: {f'{self.count:,} ' if self.count else ''}{self.what}"


def stretches(report: Iterable[CellQuality]) -> list[Stretch]:
    """What is not good in a report, in few words: worst first, and in each state the widest first."""
    runs: list[Stretch] = []
    last: dict[tuple[str, State, str], Stretch] = {}
    for found in sorted(report, key=lambda found: found.cell.sort_key):
        for state, why in found.reasons:
            count, what = _parted(why)
            known = (found.cell.own_market.key, state, what)
            before = last.get(known)
            if before and before.last in (found.cell.date, found.cell.shift(-1).date):
                last[known] = replace(before, last=found.cell.date, count=before.count + count)
            else:
                runs += [before] if before else []
                last[known] = Stretch(state, what, found.cell.date, found.cell.date, known[:1], count)
    together: dict[tuple[State, str, str, str], Stretch] = {}
    for run in (*runs, *last.values()):
        key = run.state, run.what, run.first, run.last
        same = together.get(key)
        if same:
            run = replace(run, markets=same.markets + run.markets, count=same.count + run.count)
        together[key] = run
    return sorted(
        together.values(),
        key=lambda one: (-STATES.index(one.state), -len(one.markets), one.first, one.markets),
    )


def _parted(why: str) -> tuple[int, str]:
    """The number that a reason begins with, and what is counted; contradictions are counted as such."""
    found = re.fullmatch(r"([0-9,]+) (.+)", why)
    if found:
        return int(found[1].replace(",", "")), found[2]
    return (1, re.sub(r" from .*", "", why)) if " contradict what is served " in why else (0, why)


def archive_files(lake: Lake, table: type[Table], cells: Iterable[Cell]) -> dict[Cell, list[str]]:
    """The months and days whose files a silver table's cells are made from, as far as any are."""
    archive = lake.registry.dataset(table.name).archive
    wanted = list(cells)
    if archive is None or not wanted:
        return {}
    stored, _ = lake.survey(archive.name, {cell.own_market for cell in wanted})
    dates = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?")
    return {
        cell: sorted(name for name in stored[cell].inputs if dates.fullmatch(name))
        for cell in wanted
        if cell in stored
    }
