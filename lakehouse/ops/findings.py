"""Quality rules over a whole table, read from its ledger: what is wrong, in which cells."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import duckdb

from lakehouse.model.cell import Cell
from lakehouse.model.check import Check, Family
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.market import Market
from lakehouse.model.period import PeriodKind
from lakehouse.model.result import Evidence, ToldClass
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.ops.anomalies import SEARCHED_AT_MOST, CellAnomalies
from lakehouse.query.engine import LakeFiles
from lakehouse.query.views import create_view, run, view_name
from lakehouse.storage.ledger import Ledger
from lakehouse.storage.tables import CellRecord
from lakehouse.storage.verification import Damage
from lakehouse.transform.gaps import GRACE, told
from lakehouse.transform.resample import SUMS, Totals

Severity = Literal["warn", "error"]
BY_CLOCK = ("gaps", "freshness")  # families whose verdict changes as time passes
# the others are no findings
GAP_SEVERITY: Mapping[ToldClass, Severity] = {"unproven": "error", "conflict": "error", "halt": "warn"}
COMPARED_AT_MOST = 60  # cells that one resampling check recomputes, newest months first
_NO_ROWS: Totals = (0, *[None] * (2 + len(SUMS)))
_MINUTES = "count(DISTINCT date_trunc('minute', open_time))"  # two candles may open in one


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad cell.

    Attributes:
        cell: The cell's name.
        severity: `error` if a reader may be misled, `warn` if it is known and said.
        what: What is wrong.
    """

    cell: str
    severity: Severity
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one rule family over one table.

    Attributes:
        cells: How many cells were looked at.
        findings: The bad ones, worst first.
        counts: What else was counted, by name; also what is no finding.
    """

    cells: int
    findings: list[Finding]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def severity(self) -> Severity:
        """The worst severity found."""
        return "error" if any(finding.severity == "error" for finding in self.findings) else "warn"


def families(table: type[Table]) -> dict[str, str]:
    """The rule families of a table, with what each says."""
    has_witness = any(each.role == "witness" for each in table.inputs)
    return {check.family: _says(check, table.published, has_witness) for check in table.checks}


def _says(check: Check, published: PeriodKind, has_witness: bool) -> str:
    late = check.parameters.get("late", timedelta())
    said: dict[Family, str] = {
        "schema": "Today's declaration wrote every cell and kept every row, and every object is sound "
        "(`lakehouse verify --stored` looks at all their bytes).",
        "gaps": (
            f"Every expected row is there. Absent rows are an error once their {published} is {GRACE.days} "
            "days over, and so are rows on which sources disagree and that are left out; a proven halt is a "
            "warning. Rows are expected from a market's listing to its delisting."
        ),
        "reconciliation": (
            "Sources agree on every key, or a proof decided. A key that the rank of its source alone "
            "decided, or that is still open, is a warning."
        ),
        "evidence": (
            "All that is known of the rows agrees with what is served. A source that states otherwise, such as "
            "an hour by REST that differs from the minutes in it, is a warning; where most candles of a day "
            "differ, so that one of the sources looks like another market's, it is an error."
            if has_witness
            else "All that is known of the rows agrees with what is served. A source that states another row, "
            "or denies one, is a warning."
        ),
        "freshness": f"Every market that still trades has a row of the last {late.days} days.",
        "anomalies": (
            "Candles look right beside their neighbours. Flagged are prices that leave them and come back, "
            "prices that stand still, and volumes far above their hours. "
            f"One check searches at most {SEARCHED_AT_MOST} cells, those never searched first, and each once "
            "for the same rows."
        ),
        "intervals": (
            "The newest row of every market has the interval that its exchange stated within a day after it. "
            "Markets of which no interval was stated since are counted and no finding."
        ),
        "resample": (
            "Rows, volumes, trades and extremes equal those of the 1m candles below, recomputed in SQL from "
            "the stored files."
        ),
    }
    return said[check.family]


def check_schema(
    table: type[Table],
    stored: Iterable[CellRecord],
    foreign: Iterable[NotALakeObjectError] = (),
    beside: Iterable[Damage] = (),
) -> Verdict:
    """Cells by an older meaning of the table, cells with rejected rows, and objects in the table's folder
    that are damaged or no cells.

    Args:
        table: The table.
        stored: What is stored of it.
        foreign: What lies in its folder and is no sound cell.
        beside: What a verification of stored bytes found damaged beside its cells: the files they are made
            from.

    Returns:
        The verdict over all cells.
    """
    records = list(stored)
    findings = [Finding(error.path, "error", str(error)) for error in foreign]
    findings += [
        Finding(
            one.path,
            "error",
            f"it is damaged: {one.why}. `lakehouse verify --stored --repair` moves it out of the way",
        )
        for one in beside
    ]
    for record in records:
        if record.code_version != table.code_version:
            findings.append(
                Finding(
                    str(record.cell or table.name),
                    "error",
                    f"written by version {record.code_version} of the table, today's is "
                    f"{table.code_version}: rebuild it",
                )
            )
        if record.reject_count:
            findings.append(
                Finding(
                    str(record.cell or table.name), "warn", f"{record.reject_count} rows are in quarantine"
                )
            )
    return Verdict(len(records), sort_findings(findings))


def check_gaps(stored: Ledger, now: datetime, published: PeriodKind = "day") -> Verdict:
    """Cells with expected rows that are absent, by the class a reader is told at an instant; files of them
    are published by such periods. Slots in which no row is expected, of an exchange that is sparse, are
    counted.
    """
    findings, counts = [], Counter[str]()
    for cell, record in stored.items():
        runs = list(told(record.facts.gaps, now, published))
        without = {"quiet_rows": record.facts.quiet_count, "silent_rows": record.facts.silent_count}
        counts.update({name: count for name, count in without.items() if count})
        for gap_class in dict.fromkeys(gap_class for gap_class, _ in runs):
            of_class = [run for told_class, run in runs if told_class == gap_class]
            rows = sum(run.slot_count for run in of_class)
            counts[f"{gap_class}_rows"] += rows
            if gap_class in GAP_SEVERITY:
                what = (
                    f"{count_of(rows, 'row')} absent in {count_of(len(of_class), 'run')} ({gap_class}), the "
                    f"first from {min(run.start for run in of_class):%Y-%m-%d %H:%M}"
                )
                findings.append(Finding(str(cell), GAP_SEVERITY[gap_class], what))
    findings += [
        Finding(
            str(cell),
            "error",
            "nothing is stored of this window, between others that are: it failed, or was never built",
        )
        for cell in holes(stored)
    ]
    return Verdict(len(stored), sort_findings(findings), counts)


def holes(stored: Collection[Cell]) -> list[Cell]:
    """Windows between a market's first and newest stored cell of which nothing is stored; cells come market
    by market, in order of time.
    """
    newest: dict[Market, str] = {}
    for cell in stored:
        newest[cell.own_market] = max(cell.date, newest.get(cell.own_market, ""))
    found = []
    # market by market, so a hole is where the next window is absent though later ones exist
    for cell in stored:
        following = cell.shift(1)
        while following not in stored and following.date < newest[cell.own_market]:
            found.append(following)
            following = following.shift(1)
    return found


def check_reconciliation(stored: Ledger) -> Verdict:
    """Cells with keys on which sources disagree and no proof decided. Disputes that a proof decided are
    counted only.
    """
    findings, counts = [], Counter(settled=0, unsettled=0, unserved=0)
    for cell, record in stored.items():
        unserved = sum(run.slot_count for run in record.facts.gaps if run.gap_class == "conflict")
        unsettled = record.facts.unsettled_count
        counts.update(settled=record.facts.conflict_count - unsettled, unsettled=unsettled, unserved=unserved)
        if unsettled:
            findings.append(
                Finding(
                    str(cell),
                    "warn",
                    f"{unsettled:,} of {record.facts.conflict_count:,} disputed keys are decided by no "
                    f"proof; {unserved:,} of them are not served",
                )
            )
    return Verdict(len(stored), sort_findings(findings), counts)


def check_evidence(stored: Ledger, levels: Iterable[Evidence]) -> Verdict:
    """Cells with rows that something contradicts, with hours and columns; how many cells are proven how well
    is counted.

    Args:
        stored: The table's ledger.
        levels: The levels that the dataset has, worst first.
    """
    findings, counts = [], Counter({f"{level}_cells": 0 for level in levels})
    for cell, record in stored.items():
        if record.facts.evidence:
            counts[f"{record.facts.evidence}_cells"] += 1
        findings += [
            Finding(str(cell), "error" if found.is_wholesale else "warn", str(found))
            for found in record.facts.contradictions
        ]
    return Verdict(len(stored), sort_findings(findings), counts)


def check_freshness(stored: Ledger, delisted: Collection[Market], now: datetime, late: timedelta) -> Verdict:
    """Markets whose newest row is old, but for those that ended; a warning however old, for a lake may be
    meant to hold the past alone.

    Args:
        stored: The table's ledger.
        delisted: Markets of which no more rows are expected.
        now: The instant to hold it against.
        late: How old a market's newest row may be.

    Returns:
        The verdict, over the newest cell of each market.
    """
    newest: dict[Market, CellRecord] = {}
    for cell, record in stored.items():  # market by market, in order of time
        if cell.own_market not in delisted and (record.last_time or cell.own_market not in newest):
            newest[cell.own_market] = record
    findings = []
    for record in newest.values():
        last = record.last_time or record.key.window.start
        if now - last > late:
            asked = record.facts.asked_until
            what = (
                f"the newest row is of {last:%Y-%m-%d %H:%M}, {(now - last).days} days old"
                if record.last_time
                else "it has no row"
            )
            findings.append(
                Finding(
                    str(record.key),
                    "warn",
                    what + (f"; sources answered up to {asked:%Y-%m-%d %H:%M}" if asked else ""),
                )
            )
    return Verdict(len(newest), sort_findings(findings))


def check_anomalies(stored: Ledger, known: Mapping[Cell, CellAnomalies]) -> Verdict:
    """Cells with candles that look wrong, of those that were searched as they are now."""
    found = [(cell, known[cell]) for cell in stored if cell in known]
    counts = Counter(waiting=len(stored) - len(found))
    for _, anomalies in found:
        counts.update(anomalies.counts)
    findings = [
        Finding(
            str(cell),
            "warn",
            f"{', '.join(f'{count} {kind}' for kind, count in anomalies.counts.items())}; the first at "
            f"{anomalies.first[:16]}",
        )
        for cell, anomalies in found
        if anomalies.counts
    ]
    return Verdict(len(found), sort_findings(findings), counts)


def check_resample(
    connection: duckdb.DuckDBPyConnection,
    files: LakeFiles,
    table: type[Table],
    stored: Ledger,
    source: type[Table],
    minutes: Ledger,
    summed: MutableMapping[str, Totals],
) -> Verdict:
    """Cells whose sums and extremes are not those of the rows they were made from.

    Args:
        connection: A DuckDB connection.
        files: What it may read of the lake.
        table: A coarser candle table.
        stored: Its ledger.
        source: The 1m table.
        minutes: The ledger of that.
        summed: Totals of cells of the 1m table by version, which is a hash of their rows: what is lacking is
            added. Tables that are checked in one run read the minutes once.

    Returns:
        The verdict over the newest `COMPARED_AT_MOST` cells that are up to date with their input.
    """
    current = [
        cell
        for cell, record in stored.items()
        if cell in minutes and record.inputs.get(f"{source.name}@{cell.date}") == minutes[cell].version
    ]
    compared = sorted(current, key=lambda cell: (cell.date, cell.sort_key), reverse=True)[:COMPARED_AT_MOST]
    if not compared:
        return Verdict(0, [])
    coarse = _totals(connection, files, table, [stored[cell] for cell in compared], "sum(candle_count)")
    lacking = [minutes[cell] for cell in compared if minutes[cell].version not in summed]
    found = _totals(connection, files, source, lacking, _MINUTES) if lacking else {}
    for record in lacking:
        summed[record.version] = found.get(str(record.cell), _NO_ROWS)
    findings = []
    for cell in compared:
        own, made_from = coarse.get(str(cell), _NO_ROWS), summed[minutes[cell].version]
        if own != made_from and not _equal(own, made_from):
            said = f"{own[0]} minutes summed where {made_from[0]} are stored, or their sums differ"
            findings.append(Finding(str(cell), "error", said))
    return Verdict(len(compared), sort_findings(findings))


def _equal(own: Totals, made_from: Totals) -> bool:
    """Whether counts and extremes are the same, and sums are but for the order of their addition."""
    sums = -len(SUMS)
    return own[:sums] == made_from[:sums] and all(
        math.isclose(left or 0, right or 0, rel_tol=1e-9)
        for left, right in zip(own[sums:], made_from[sums:], strict=True)
    )


def _totals(
    connection: duckdb.DuckDBPyConnection,
    files: LakeFiles,
    table: type[Table],
    records: Sequence[CellRecord],
    count: str,
) -> dict[str, Totals]:
    """Count, extremes and sums of each cell's rows."""
    create_view(connection, files, table, records)
    # a total of which a part is null is null, as a bucket's is
    sums = ", ".join(f"CASE WHEN count({name}) = count(*) THEN sum({name}) END" for name in SUMS)
    cell = "month || '|' || exchange || '-' || market_type || ':' || symbol"
    asked = f"SELECT {cell}, {count}, max(high), min(low), {sums} FROM {view_name(table)} GROUP BY {cell}"
    return {row[0]: row[1:] for row in run(connection, files, asked).rows()}


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """Errors first, then by cell."""
    return sorted(findings, key=lambda finding: (finding.severity == "warn", finding.cell))
