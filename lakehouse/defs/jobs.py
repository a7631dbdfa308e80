"""Jobs with names: what an operator starts by hand."""

from datetime import timedelta
from typing import Any

import dagster as dg

from lakehouse.datasets.dataset import Dataset
from lakehouse.defs.assets import FORCE_TAG, market_event
from lakehouse.defs.describe import asset_key
from lakehouse.defs.io_manager import LakeIOManager, cell_event
from lakehouse.defs.partitions import MARKETS, parse_keys
from lakehouse.defs.under_way import PRIORITY_TAG, REFRESHED, WHY_TAG
from lakehouse.model.market import Market
from lakehouse.model.words import NO_MARKET
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import refresh_markets
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.verifying import ask_in_full, change_by, note_failure, plan
from lakehouse.pipeline.windows import open_months
from lakehouse.storage.ledger import survey

_A_DAY = timedelta(days=1)
VERIFY_BUDGET = 1000
"""Requests that one run of `verify` makes at most; run it again to go on."""


def named_jobs(lake: LakeServices) -> list[Any]:
    """The jobs of a lake."""
    by_month = [
        asset_key(table)
        for table in lake.registry.tables
        if table.spread == "market" and table.grain == "month"
    ]
    cells = dg.AssetSelection.assets(*by_month)
    return [
        dg.define_asset_job(
            "market_month",
            cells,
            description="Some months of some markets, from their sources to gold: what is due of them.",
            tags={WHY_TAG: "asked for by hand"},
        ),
        dg.define_asset_job(
            "rebuild",
            cells,
            description="As `market_month`, but whether cells are due or not: files are read, REST is asked "
            "again.",
            tags={WHY_TAG: "rebuild by hand", FORCE_TAG: "true"},
        ),
        _refresh_now(),
        _verify(),
    ]


def _refresh_now() -> dg.JobDefinition:
    @dg.op(config_schema={}, out=dg.Out(dg.Nothing))
    def refresh(context: dg.OpExecutionContext, lake: dg.ResourceParam[LakeServices]) -> None:
        universe = _universe(context)
        record, changed, _ = refresh_markets(lake, universe, _A_DAY)
        if record and changed:
            context.log_event(market_event(lake, record))
        failed: dict[str, str] = {}
        store = LakeIOManager(lake)
        for table, recipe in recipes(lake.registry).items():
            has = Inventory(lake, universe)
            covered = recipe.covered(has, open_months(has))
            due = recipe.told(has, covered).among(covered)
            context.log.info(f"{table.name}: {len(due)} of {len(covered)} cells are due")
            try:
                for _ in store.store(context, table, recipe.make(has, due) if due else ()):
                    pass
            except dg.Failure as failure:
                failed[table.name] = str(failure.description)
        _end(failed)

    @dg.job(
        description="The open month and the one before of every market, from source to gold, now: what "
        "the sensors do in their time. It starts before any backfill that waits.",
        tags={WHY_TAG: "refresh now", PRIORITY_TAG: REFRESHED},
        config={},
    )
    def refresh_now() -> None:
        refresh()

    return refresh_now


def _verify() -> dg.JobDefinition:
    @dg.op(config_schema={}, out=dg.Out(dg.Nothing))
    def ask_rest(context: dg.OpExecutionContext, lake: dg.ResourceParam[LakeServices]) -> None:
        failed: dict[str, str] = {}
        datasets, left = [one for one in lake.registry.datasets if one.api is not None], VERIFY_BUDGET
        for number, dataset in enumerate(datasets):  # each an equal share, so that none waits for another
            failed_there, requests = _verify_dataset(context, lake, dataset, left // (len(datasets) - number))
            failed |= failed_there
            left -= requests
        _end(failed)

    @dg.job(
        description="Asks REST for every row of stored months, the newest first, with at most "
        f"{VERIFY_BUDGET:,} requests: run it again to go on. What is made of them follows by itself.",
        tags={WHY_TAG: "verify by hand"},
        config={},
    )
    def verify() -> None:
        ask_rest()

    return verify


def _verify_dataset(
    context: dg.OpExecutionContext, lake: LakeServices, dataset: Dataset, budget: int
) -> tuple[dict[str, str], int]:
    """Ask about one dataset; what was not answered, with why, and how many requests it takes."""
    assert dataset.api is not None, "asked of a dataset that has one"
    known = survey(lake.objects, dataset.silver)
    stored = {cell.market for cell in known[0]}
    markets = [market for market in _universe(context) if market in stored]
    if not markets:
        context.log.info(f"{dataset.silver.name}: nothing is stored of the markets of the universe")
        return {}, 0
    chosen, failed = plan(lake, dataset, markets, None, budget, known=known), dict[str, str]()
    for cell, answers in ask_in_full(lake, dataset, chosen.wanted):
        if not answers.is_whole:
            failed[f"{dataset.api.name} {cell}"] = answers.problems[0].detail
            change = note_failure(answers)
        elif answers.told:
            witness = lake.tables.get(dataset.witness, cell) if dataset.witness else None
            change = change_by(answers, witness)
        else:  # by the API's clock the range has not begun
            continue
        record = lake.tables.update(dataset.api, cell, change)
        context.log_event(cell_event(lake, dataset.api, cell, record))
    context.log.info(
        f"{dataset.silver.name}: asked about {len(chosen.wanted)} cells, {len(chosen.left)} are left"
    )
    return failed, chosen.requests


def _universe(context: dg.OpExecutionContext) -> list[Market]:
    markets, _ = parse_keys(context.instance.get_dynamic_partitions(str(MARKETS.name)))
    if not markets:
        raise dg.Failure(NO_MARKET, allow_retries=False)
    return markets


def _end(failed: dict[str, str]) -> None:
    if failed:
        named = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise dg.Failure(named, metadata={"cells": dg.MetadataValue.json(failed)}, allow_retries=False)
