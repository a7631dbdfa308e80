"""The sidecar: which data an export is of, what is absent in it, and what was added.

It is made from the lake alone, without a clock: the same lake gives the same bytes.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.export.target import Series, Target
from lakehouse.model.cadence import Grid
from lakehouse.model.cell import Cell
from lakehouse.model.interval import Interval
from lakehouse.model.result import GapRun
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.gaps import cut

SIDECAR = 1
"""The number of this form; raised when a member's meaning changes."""

Document = dict[str, Any]


def data_part(
    dataset: Dataset, dataset_id: str, cells: Mapping[Cell, CellRecord], span: TimeRange
) -> Document:
    """What is said of the cells that a part of an export was made from.

    Args:
        dataset: Their dataset.
        dataset_id: The name of the data.
        cells: The stored cells of the market and range, in order of time.
        span: The range that was asked for.

    Returns:
        `table`, `code_version`, `dataset_id`, `cells` (month, version, evidence, rows, until when sources
        were asked and whether that is all of the range, slots of a sparse exchange in which no row is
        expected, disputes and contradictions), `worst_evidence`, `not_stored` (months of the range of which
        nothing is stored, so that nobody can tell what is absent) and `absent` (every expected row that is
        absent, as runs with their class).
    """
    runs = (cut(run, span.start, span.end) for record in cells.values() for run in record.facts.gaps)
    held = {cell.month for cell in cells}
    levels = [record.facts.evidence for record in cells.values() if record.facts.evidence]
    inner = TimeRange(min(cell.window.start for cell in cells), max(cell.window.end for cell in cells))
    return {
        "table": dataset.silver.name,
        "code_version": dataset.silver.code_version,
        "dataset_id": dataset_id,
        "cells": [_cell(cell, record, span) for cell, record in cells.items()],
        "worst_evidence": min(levels, key=dataset.evidence.index) if levels else None,
        "not_stored": [month for month in _asked(span, inner).months() if month not in held],
        "absent": [_run(run) for run in runs if run],
    }


def _asked(span: TimeRange, inner: TimeRange) -> TimeRange:
    """The range whose months are expected: as it was asked for; without an end, as far as cells go."""
    whole = TimeRange.parse(None, None)
    return TimeRange(
        inner.start if span.start == whole.start else span.start,
        inner.end if span.end == whole.end else span.end,
    )


def _cell(cell: Cell, record: CellRecord, span: TimeRange) -> Document:
    facts, until = record.facts, record.facts.asked_until
    end = min(cell.window.end, span.end)
    return {
        "month": cell.month,
        "version": record.version,
        "evidence": facts.evidence,
        "rows": record.rows,
        "asked_until": _text(until),
        "is_asked_whole": until is not None and until >= end,
        "quiet": facts.quiet_count,
        "silent": facts.silent_count,
        "disputed": facts.conflict_count,
        "unsettled": facts.unsettled_count,
        "contradictions": [str(found) for found in facts.contradictions],
    }


def _run(run: GapRun) -> Document:
    return {
        "start": _text(run.start),
        "end": _text(run.end),
        "slot_count": run.slot_count,
        "class": run.gap_class,
        "asked_at": _text(run.asked_at),
        "halted_at": _text(run.halted_at),
    }


def candle_rows(rows: pl.DataFrame, interval: Interval) -> Document:
    """What is said of the candles of one interval, as they were written.

    Returns:
        `rows`, `first_time`, `last_time`, `filled` (runs that were added, and are no rows of the lake),
        `absent` (runs between the first and the last that have none), of coarser candles `partial` (with
        fewer minutes than they cover) and `late` (whose last minute opened late and reaches beyond their
        end), of 1m `truncated` and `misaligned`.
    """
    times = rows["open_time"]
    grid = Grid(interval.delta)
    covered = TimeRange(grid.slots_of(times)[0], grid.slots_of(times)[-1] + interval.delta)
    said: Document = {
        "rows": rows.height,
        "first_time": _text(times[0]),
        "last_time": _text(times[-1]),
        "filled": _slots(rows.filter("is_filled")["open_time"], interval),
        "absent": _slots(grid.absent(times, covered), interval),
    }
    if "candle_count" in rows.columns:
        short = rows.filter(~pl.col("is_filled") & (pl.col("candle_count") < interval.minutes))
        late = rows.filter(pl.col("knowable_at") > pl.col("open_time") + interval.delta)
        return said | {"partial": short.height, "late": late.height}
    return said | {name: int(rows[f"is_{name}"].sum() or 0) for name in ("truncated", "misaligned")}


def _slots(times: pl.Series, interval: Interval) -> Document:
    """Slots as runs of successive ones."""
    starts = (times.diff() != interval.delta).fill_null(True).cum_sum()
    runs = (
        pl.DataFrame({"time": times, "run": starts})
        .group_by("run", maintain_order=True)
        .agg(pl.col("time").first().alias("start"), pl.len().alias("count"))
    )
    return {
        "slot_count": times.len(),
        "runs": [
            {"start": _text(start), "end": _text(start + count * interval.delta), "slot_count": count}
            for _, start, count in runs.iter_rows()
        ],
    }


def document(
    target: Target, series: Series, asked: Mapping[str, Any], candles: Document, funding: Document | None
) -> Document:
    """The whole sidecar, but for its files.

    Args:
        target: The target.
        series: What is exported.
        asked: What was asked for: range, intervals, `fill`, `mark_from_candles`.
        candles: `data_part` of the candles, with `intervals`.
        funding: `data_part` of the funding rates; None where there are none.
    """
    listing = series.listing
    stated = series.given or (listing.unified if listing else None)
    return {
        "sidecar": SIDECAR,
        "lakehouse": version("lakehouse"),
        "target": target.name,
        "target_release": target.release or None,
        "market": series.market.key,
        "symbol": target.symbol(series),
        "unified_symbol": stated,
        "unified_symbol_from": ("given" if series.given else "silver/market") if stated else None,
        "asked": dict(asked),
        "candles": candles,
        "funding": funding,
        "statements": list(_statements(target, series, candles, funding)),
    }


def _statements(target: Target, series: Series, candles: Document, funding: Document | None) -> Iterable[str]:
    """What a reader has to know, a sentence each."""
    yield from _of_data(candles, "1m candle")
    for interval, said in candles["intervals"].items():
        noun = f"{interval} candle"
        if count := said["filled"]["slot_count"]:
            yield f"{count_of(count, noun)} added, as was asked: the last close, no volume."
        if count := said.get("partial"):
            yield f"{count_of(count, noun)} summed from fewer minutes than an interval has."
        if count := said.get("late"):
            yield f"{count_of(count, noun)} known later than at the end: the last minute reaches beyond it."
        if count := said.get("misaligned"):
            yield f"{count_of(count, noun)} off the minute, as published."
    if funding is not None:
        yield from _of_data(funding, "settlement")
    elif series.market.market_type != "spot":
        yield "No funding rates of this range are in the lake: none were written."
    if series.mark_from_candles is not None:
        yield "The mark prices are no mark prices: candles of trades stand in for them, as was asked."
    if series.market.market_type != "spot" and not series.is_stated_perpetual:
        yield "Nobody stated what kind of contract it is: it was taken for a perpetual."
    yield from target.remarks(series)


def _of_data(part: Document, noun: str) -> Iterable[str]:
    classes: dict[str, int] = {}
    for run in part["absent"]:
        classes[run["class"]] = classes.get(run["class"], 0) + run["slot_count"]
    for gap_class, count in sorted(classes.items()):
        yield f"{count_of(count, noun)} absent: {gap_class}."
    for cell in part["cells"]:
        if count := cell["quiet"]:
            yield f"{count_of(count, noun)} not there in {cell['month']}, proven to be without trade."
        if count := cell["silent"]:
            yield (
                f"{count_of(count, noun)} not there in {cell['month']}: the exchange has none of a minute "
                "without trade, and nothing proves that these were."
            )
    if months := part["not_stored"]:
        yield f"{part['table']} has nothing of {', '.join(months)}: what is absent there is not told."
    for cell in part["cells"]:
        if not cell["is_asked_whole"]:
            since = f"behind {cell['asked_until']}" if cell["asked_until"] else "of it"
            yield f"In {cell['month']} nobody was asked about a {noun} {since}: what is absent is not told."
    for level, why in (
        ("contradicted", "another statement denies some of the rows"),
        ("unconfirmed", "nothing proves the rows"),
    ):
        if found := [cell["month"] for cell in part["cells"] if cell["evidence"] == level]:
            yield f"Evidence {level} in {', '.join(found)}: {why}."
    if found := [cell["month"] for cell in part["cells"] if cell["unsettled"]]:
        yield f"Disputed without a proof that decides, in {', '.join(found)}: see `lakehouse conflicts`."


def to_bytes(said: Mapping[str, Any]) -> bytes:
    """A document as a file's bytes."""
    return (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()


def _text(instant: datetime | None) -> str | None:
    if instant is None:
        return None
    precision = "microseconds" if instant.microsecond else "seconds"
    return f"{instant.replace(tzinfo=None).isoformat(timespec=precision)}Z"
