"""What a cell says of itself, in words that people read."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.period import PeriodKind
from lakehouse.model.result import Evidence
from lakehouse.model.words import count_of
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.gaps import told

EVIDENCE: Mapping[Evidence, str] = {
    "contradicted": "contradicted: a source states something else than is served",
    "unconfirmed": "unconfirmed: one source alone states these rows, or no second one proves all of them",
    "api": "api: some rows stand in REST alone, and nothing states them a second time",
    "totals": "totals: every hour by REST agrees with the rows in it",
    "archive": "archive: every row stands in a file of the archive, and nothing states them a second time",
    "rows_daily": "rows_daily: every row stands in a daily file as well",
    "rows_api": "rows_api: archive and REST state every row",
    "rows_both": "rows_both: archive and REST state every row",
}
"""Levels of all datasets, worst first, each with what it claims."""

_UNITS, _STEP = ("kB", "MB", "GB", "TB"), 1000


def size_of(count: int) -> str:
    """A number of bytes: `14.2 MB`."""
    if count < _STEP:
        return f"{count} B"
    value = count / _STEP
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}"
        value /= _STEP
    raise AssertionError("the last unit takes all")


def span_of(record: CellRecord) -> str:
    """What time a cell's rows cover."""
    if record.first_time is None or record.last_time is None:
        return "no row"
    return f"{_instant(record.first_time)} to {_instant(record.last_time)} UTC"


def gaps_of(record: CellRecord, now: datetime, published: PeriodKind = "day") -> str:
    """The expected rows that are absent, by the class that a reader is told at an instant; files of them are
    published by such periods.
    """
    slots: dict[str, int] = {}
    for gap_class, run in told(record.facts.gaps, now, published):
        if gap_class != "not_listed":
            slots[gap_class] = slots.get(gap_class, 0) + run.slot_count
    named = ", ".join(f"{count:,} {gap_class}" for gap_class, count in slots.items())
    return f"{count_of(sum(slots.values()), 'row')} absent: {named}" if slots else "complete"


def conflicts_of(record: CellRecord) -> str:
    """The keys on which sources disagree."""
    count, left = record.facts.conflict_count, record.facts.unsettled_count
    if not count:
        return "sources agree"
    return f"{count_of(count, 'key')} disputed, {count - left:,} of them settled by a proof"


def by_market(records: Iterable[CellRecord], now: datetime) -> list[dict[str, str | int]]:
    """A row per market: what is stored of it, and the worst that is said of a cell.

    Args:
        records: What is stored of a table.
        now: The instant that tells how a gap is called.
    """
    grouped: dict[Market, list[CellRecord]] = {}
    for record in records:
        if record.cell is not None and record.cell.market is not None:
            grouped.setdefault(record.cell.market, []).append(record)
    return [_summary(market, grouped[market], now) for market in sorted(grouped)]


def _summary(market: Market, records: list[CellRecord], now: datetime) -> dict[str, str | int]:
    ordered = sorted(records, key=lambda record: record.key.date)
    levels = [record.facts.evidence for record in ordered if record.facts.evidence]
    worst = min(levels, key=list(EVIDENCE).index, default=None)
    incomplete: list[Cell] = [record.key for record in ordered if gaps_of(record, now) != "complete"]
    return {
        "market": market.key,
        "cells": len(ordered),
        "first": ordered[0].key.date,
        "last": ordered[-1].key.date,
        "rows": f"{sum(record.rows for record in ordered):,}",
        "size": size_of(sum(record.size for record in ordered)),
        "with gaps": len(incomplete),
        "disputed": sum(record.facts.conflict_count for record in ordered),
        "weakest evidence": worst or "",
    }


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
