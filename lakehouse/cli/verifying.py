"""`lakehouse verify`: REST is asked for every row of cells that are stored, and what is made from them is
built again.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import dagster as dg
import polars as pl

from lakehouse.cli.building import Builder
from lakehouse.cli.collecting import work_begins
from lakehouse.cli.planning import Plan
from lakehouse.cli.report import print_restatements
from lakehouse.cli.reporting import Report, frame_of
from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.defs.io_manager import cell_event
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import Asked
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of
from lakehouse.ops.quality import DAMAGED
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.verifying import ask_in_full, change_by, clients, note_failure, plan
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.history import restatements


@dataclass(frozen=True, slots=True)
class Verified:
    """A cell that REST answered about.

    Attributes:
        cell: The cell.
        evidence_before: Its evidence until then.
        evidence: Its evidence now.
        is_known: Whether REST has any of its rows.
        differing: Every variant of every candle on which REST and the archive differ, named as in
            `silver/conflict`.
        restated: What REST now says differently from what it said before.
        time: The column that places a row.
    """

    cell: Cell
    evidence_before: str | None
    evidence: str | None
    is_known: bool
    differing: pl.DataFrame
    restated: pl.DataFrame
    time: str


@dataclass
class Verification:
    """What a verification found.

    Attributes:
        verified: The cells that were answered about.
        failed: What was not answered or built, or is damaged, with the reason.
        left: How many cells the budget did not reach.
        least: The budget that the next cell takes, where the one given is too small for any; else 0.
        requests: Requests made to REST for all this.
        before: How many cells were left out, because REST was asked for all of their rows before.
    """

    verified: list[Verified] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    least: int = 0
    requests: int = 0
    before: int = 0


def verify(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    markets: Collection[Market],
    span: TimeRange | None,
    budget: int,
    again: bool = False,
    announce: Callable[[str, int], None] = lambda table, cells: None,
    table: str = "silver/candle",
) -> Verification:
    """Raise the evidence of stored rows to the best level, the newest first, and build what is made from them
    anew.

    What REST answers is kept in bronze as of any asking; the rules of `reconcile` decide what becomes of a
    row that differs. Of a cell that is not answered only that is noted: the next verification begins with
    others.

    Args:
        lake: The lake.
        instance: Dagster's instance, where bronze cells are recorded.
        markets: Which markets; all that are stored if there is none.
        span: Widened to whole months; all that are stored if None.
        budget: Requests for rows to make at most: a month of minutes takes 47 on spot markets.
        again: Also ask about cells that are proven or were asked about in full before, those asked longest
            ago first.
        announce: Told of every table that starts, with the number of cells to come; per cell
            `LakeServices.progress` is told.
        table: The silver table.

    Raises:
        UnknownTableError: There is no such silver table.
        NothingStoredError: Nothing is stored of what is asked for.
        RootNotWritableError, ListingUnreachableError: As `Builder.build`.
    """
    dataset = lake.registry.dataset(table)
    assert dataset.api is not None, "every dataset that is declared has one"
    chosen, silver = plan(lake, dataset, markets, span, budget, again), lake.ledger(dataset.silver.name)
    lake.objects.check_writable()
    asked, builder, found = (
        list(chosen.wanted),
        Builder(lake, instance, announce, "lakehouse verify"),
        Verification(left=len(chosen.left), before=chosen.before),
    )
    found.least = chosen.next_requests if chosen.next_requests > budget else 0
    sent = -_requests(lake, asked)
    answered: dict[Cell, list[Asked]] = {}  # without the rows: of many months they are many
    announce(dataset.api.name, len(asked))
    work_begins()
    for cell, answers in ask_in_full(lake, dataset, chosen.wanted):
        if not answers.is_whole:
            found.failed[f"{dataset.api.name} {cell}"] = answers.problems[0].detail
            record = lake.tables.update(dataset.api, cell, note_failure(answers))
            instance.report_runless_asset_event(cell_event(lake, dataset.api, cell, record))
            lake.progress(dataset.api.name, cell, "failed")
            continue
        if not answers.told:  # by the API's clock the range has not begun
            continue
        witness = lake.tables.get(dataset.witness, cell) if dataset.witness else None
        record = lake.tables.update(dataset.api, cell, change_by(answers, witness))
        instance.report_runless_asset_event(cell_event(lake, dataset.api, cell, record))
        lake.progress(dataset.api.name, cell, "built")
        answered[cell] = [asked for _, asked in answers.told]
    found.left += len(asked) - len(answered) - len(found.failed)
    if touched := list(dict.fromkeys([*answered, *chosen.behind])):
        builder.add_markets(Plan(lake, {cell.own_market for cell in touched}))
        made = [
            feature
            for feature in lake.registry.features
            if dataset.silver.name in feature.input_names()
            and not lake.ledger(feature.name).keys().isdisjoint(touched)
        ]
        for report in builder.build_cells([dataset.silver, *made], touched):
            found.failed |= {f"{report.table} {cell}": why for cell, why in report.failed.items()}
    found.requests = sent + _requests(lake, asked)
    found.failed |= {f"{dataset.silver.name} {cell}": DAMAGED for cell in chosen.damaged}
    now, facts = lake.ledger(dataset.silver.name), known_markets(lake)
    found.verified = [
        _look_at(lake, dataset, cell, answers, (silver[cell], now[cell]), facts[cell.own_market])
        for cell, answers in answered.items()
    ]
    return found


def _requests(lake: LakeServices, cells: Collection[Cell]) -> int:
    return sum(client.stats.requests for client in clients(lake, cells))


def _look_at(
    lake: LakeServices,
    dataset: Dataset,
    cell: Cell,
    answers: list[Asked],
    silver: tuple[CellRecord, CellRecord],
    market: MarketFacts,
) -> Verified:
    """What became of a cell after it was built again, given its silver before and now."""
    assert dataset.api is not None, "asked of a dataset that was verified"
    assert dataset.conflicts is not None, "every dataset that is declared tells its conflicts"
    key, (before, now) = list(dataset.silver.key), silver
    parts = Inventory(lake).bronze(dataset, cell)
    restated = restatements(parts[dataset.api.name].rows, key).filter(
        pl.col("fetched_at_after").is_in([asked.at for asked in answers])
    )
    variants = dataset.conflicts(parts, cell, market).rename({"rule": "decided_by"})
    by_rest = variants.filter(pl.col("sources").str.split("+").list.contains("api")).select(key).unique()
    is_known = any(asked.outcome == "rows" for asked in answers)
    return Verified(
        cell,
        before.facts.evidence,
        now.facts.evidence,
        is_known,
        variants.join(by_rest, on=key, how="semi", maintain_order="left"),
        restated,
        dataset.silver.time,
    )


def print_verification(found: Verification, report: Report, table: str) -> None:
    """Say what a verification of a silver table found."""
    cells = [
        {
            "cell": str(one.cell),
            "evidence_before": one.evidence_before or "",
            "evidence": one.evidence or "",
            "rest": "answered" if one.is_known else "has none of it",
            "differing_count": one.differing.select(one.time).n_unique(),
            "restated_count": one.restated.height,
        }
        for one in found.verified
    ]
    differing = [{"cell": str(one.cell)} | row for one in found.verified for row in one.differing.to_dicts()]
    restated = [{"cell": str(one.cell)} | row for one in found.verified for row in one.restated.to_dicts()]
    parts = {"cells": cells, "differing": differing, "restated": restated}
    if report.document(
        parts
        | {
            "failed": found.failed,
            "left": found.left,
            "requests": found.requests,
            "before": found.before,
        },
        "cells",
    ):
        return
    columns = ("cell", "evidence_before", "evidence", "rest", "differing_count", "restated_count")
    report.table(
        f"Verified with {count_of(found.requests, 'request')}",
        frame_of(cells, columns),
        spare=("restated_count",),
        empty="No cell was verified.",
    )
    if differing:
        time = found.verified[0].time
        told = [name for name in ("cell", time, *_OF_VARIANT) if name in differing[0]]
        report.table(
            f"{'Candles' if time == 'open_time' else 'Rows'} on which REST and the archive differ: "
            f"{len(differing):,} variants",
            frame_of(differing).select(told),
            f"ask `lakehouse conflicts --table {table}`",
            spare=("trade_count", "high", "low"),
        )
    if told_anew := [
        one.restated.with_columns(market=pl.lit(one.cell.own_market.key))
        for one in found.verified
        if one.restated.height
    ]:
        print_restatements(pl.concat(told_anew), report, found.verified[0].time)
    for name, why in found.failed.items():
        report.say(f"{name}: {why}", "failed")
    if found.least:
        report.say(
            f"{count_of(found.left, 'cell')} left, and the next takes {found.least} requests, more than the "
            "budget: raise --budget to that at least."
        )
    elif found.left:
        report.say(f"{count_of(found.left, 'cell')} left for another time: run it again, or raise --budget.")
    elif not cells and not found.failed:
        report.say("REST was asked about every cell already; --again asks once more.")
    if cells and found.before:
        report.say(
            f"{count_of(found.before, 'cell')} left out, of which REST was asked for every row before, as where it "
            "is all there is; --again asks once more."
        )


_OF_VARIANT = (
    *("sources", "decided_by", "is_served"),
    *("open", "high", "low", "close", "volume", "trade_count", "rate"),
)
