"""The sensors that keep a lake current. Each asks for rectangles of cells; what depends on them follows by
the conditions of the tables.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, DagsterRunStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from lakehouse.datasets.market import MarketTable
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, cells_between, parse_keys, range_tags
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.ops.attempts import Attempt, Attempts, read_cursor
from lakehouse.pipeline import refresh
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.sources.rest.describing import describe

_UNDER_WAY = [DagsterRunStatus.QUEUED, *IN_PROGRESS_RUN_STATUSES]
_SHOWN = 20
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Refresh:
    """How a lake is kept current.

    Attributes:
        is_running: Whether the sensors run without being switched on in the UI.
        candles_every: Seconds between two looks for closed candles.
        add_markets: Globs over market keys; what an exchange lists and one of them matches joins the
            universe.
    """

    is_running: bool = False
    candles_every: int = 3600
    add_markets: tuple[str, ...] = ()


Evaluate = Callable[[dg.SensorEvaluationContext], dg.SensorResult]


def refresh_sensors(lake: LakeServices, how: Refresh) -> list[dg.SensorDefinition]:
    """The sensors of a lake."""

    def declared(
        name: str, tables: Collection[type[Table]], every: int, description: str, evaluate: Evaluate
    ) -> dg.SensorDefinition:
        def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            try:
                return evaluate(context)
            except LakehouseError as error:  # out of reach: the next tick sees
                return dg.SensorResult(skip_reason=str(error))

        return dg.SensorDefinition(
            name,
            evaluation_fn=tick,
            asset_selection=[asset_key(table) for table in tables],
            minimum_interval_seconds=every,
            description=description,
            default_status=dg.DefaultSensorStatus.RUNNING
            if how.is_running
            else dg.DefaultSensorStatus.STOPPED,
        )

    bronze = [table for dataset in lake.registry.datasets for table in dataset.bronze]
    archives = [dataset.archive for dataset in lake.registry.datasets]
    cells = [table for table in lake.registry.tables if table.shape != "single"]
    return [
        declared(
            "candles_closed",
            bronze,
            how.candles_every,
            "Asks for the newest candles: of the open month and, until it is archived, the one before.",
            lambda c: _candles(lake, c),
        ),
        declared(
            "archive_published",
            archives,
            3600,
            "Reads again what an archive published or replaced; once a week all that is stored is compared.",
            lambda c: _archive(lake, c),
        ),
        declared(
            "market_listing",
            [MarketTable],
            600,
            "Asks about all markets daily, about a new one at once, and reports what an exchange has newly "
            "listed.",
            lambda c: _listing(lake, how, c),
        ),
        declared(
            "failed_cells",
            cells,
            900,
            "Repeats, after growing waits, what stays due although nothing is under way for it.",
            lambda c: _failed(lake, c),
        ),
    ]


# --- ticks ----------------------------------------------------------------------------------------


def _candles(lake: LakeServices, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    attempts = Attempts.from_json(read_cursor(context.cursor))
    tick = refresh.candles_closed(lake, _universe(context.instance), under_way(context), attempts)
    return _result(context, tick, attempts.to_json())


def _archive(lake: LakeServices, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    before = read_cursor(context.cursor)
    full_at = before.get("full_at")
    progress = refresh.Round(
        before.get("after", ""),
        before.get("is_full", False),
        datetime.fromisoformat(full_at) if full_at else None,
    )
    attempts = Attempts.from_json(before.get("attempts", {}))
    tick = refresh.archive_published(
        lake, _universe(context.instance), under_way(context), attempts, progress
    )
    began = progress.full_at.isoformat() if progress.full_at else None
    return _result(
        context,
        tick,
        {
            "after": progress.after,
            "is_full": progress.is_full,
            "full_at": began,
            "attempts": attempts.to_json(),
        },
    )


def _failed(lake: LakeServices, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    attempts = Attempts.from_json(read_cursor(context.cursor))
    tick = refresh.failed_cells(lake, _universe(context.instance), under_way(context), attempts)
    return _result(context, tick, attempts.to_json())


def _result(
    context: dg.SensorEvaluationContext, tick: refresh.Tick, cursor: Mapping[str, object]
) -> dg.SensorResult:
    order = context.instance.get_dynamic_partitions(str(MARKETS.name))
    requests = [
        request for table, wanted in tick.wanted.items() for request in _requests(table, wanted, order)
    ]
    for note in tick.notes:
        context.log.warning(note)
    said = "; ".join(tick.notes) or "Nothing is due."
    return dg.SensorResult(
        run_requests=requests, cursor=json.dumps(cursor), skip_reason=None if requests else said
    )


def _requests(
    table: type[Table], wanted: Mapping[Cell, Attempt], order: Sequence[str]
) -> Iterator[dg.RunRequest]:
    """One request per rectangle. The key names cells and attempts: a tick that is evaluated again asks for
    nothing twice.
    """
    for tags, covered in range_tags(wanted, order):
        marks = hashlib.sha256(
            "".join(f"{cell} {wanted[cell].mark}\n" for cell in covered).encode()
        ).hexdigest()[:16]
        yield dg.RunRequest(
            run_key=f"{table.name} {marks}",
            asset_selection=[asset_key(table)],
            asset_check_keys=[],
            tags=tags,
        )


def _listing(lake: LakeServices, how: Refresh, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    memory, now, universe = read_cursor(context.cursor), lake.clock(), _universe(context.instance)
    attempts, known = Attempts.from_json(memory.get("attempts", {})), known_markets(lake)
    unknown = {
        market.key: "unknown"
        for market in universe
        if market not in known and market.exchange in lake.exchanges
    }
    attempts.forget(lambda key: key not in unknown)
    wanted = {key: attempt.mark for key, attempt in attempts.sift(unknown, now).items()}
    joining: list[str] = []
    if not memory.get("looked_at") or now - datetime.fromisoformat(memory["looked_at"]) >= _DAY:
        before, listed = memory.get("listed", {}), _listed(lake, context.log.warning)
        memory |= {"looked_at": now.isoformat(), "listed": before | listed}
        wanted["daily"] = now.isoformat()
        fresh = sorted(
            key for name, keys in listed.items() if name in before for key in set(keys) - set(before[name])
        )
        joining = sorted(
            {
                key
                for keys in listed.values()
                for key in keys
                if any(fnmatchcase(key, glob) for glob in how.add_markets)
            }
            - {market.key for market in universe}
        )
        if fresh:
            context.log.info(
                f"{len(fresh)} markets are newly listed: {', '.join(fresh[:_SHOWN])}. `lakehouse markets "
                "add` takes them in."
            )
    cursor = json.dumps(memory | {"attempts": attempts.to_json()})
    if not wanted or not (universe or joining):
        return dg.SensorResult(
            skip_reason="Nothing is due." if universe else "There is no market yet.",
            cursor=cursor if universe else context.cursor,
        )
    mark = hashlib.sha256(str(sorted(wanted.items())).encode()).hexdigest()[:16]
    request = dg.RunRequest(
        run_key=f"{MarketTable.name} {mark}", asset_selection=[asset_key(MarketTable)], asset_check_keys=[]
    )
    return dg.SensorResult(
        run_requests=[request],
        dynamic_partitions_requests=[MARKETS.build_add_request(joining)] if joining else [],
        cursor=cursor,
    )


def _listed(lake: LakeServices, warn: Callable[[str], object]) -> dict[str, list[str]]:
    """The keys of all markets that exchanges list now, by exchange and market type; without those whose API
    does not answer. What could be no market is warned of.
    """
    found = {}
    for exchange in lake.exchanges.values():
        for market_type in exchange.rest_types if exchange.has_rest else ():
            try:
                info = describe(exchange.rest_api(market_type))
            except OSError:
                continue
            if why := info.skipped.get(""):
                warn(f"What {exchange.name}-{market_type} lists: {why}. The others are taken as they are.")
            found[f"{exchange.name}-{market_type}"] = sorted(
                Market(exchange.name, market_type, symbol).key for symbol in info.symbols
            )
    return found


# --- what is under way ----------------------------------------------------------------------------


def _universe(instance: dg.DagsterInstance) -> list[Market]:
    return parse_keys(instance.get_dynamic_partitions(str(MARKETS.name)))[0]


def under_way(context: dg.SensorEvaluationContext) -> dict[str, set[Cell]]:
    """The cells that queued and running runs, and backfills that have not started all of theirs, are going to
    write.
    """
    instance, found = context.instance, dict[str, set[Cell]]()
    order = instance.get_dynamic_partitions(str(MARKETS.name))
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        first, last = (
            run.tags.get(ASSET_PARTITION_RANGE_START_TAG),
            run.tags.get(ASSET_PARTITION_RANGE_END_TAG),
        )
        if (key := run.tags.get(PARTITION_NAME_TAG)) and not first:
            first = last = key
        if first and last:
            _note(found, run.asset_selection or (), cells_between(first, last, order))
    assert context.repository_def is not None, "the daemon has one"
    for backfill in instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        if backfill.is_asset_backfill:
            data = backfill.get_asset_backfill_data(context.repository_def.asset_graph)
            for part in (
                data.target_subset - (data.materialized_subset | data.failed_and_downstream_subset)
            ).iterate_asset_partitions():
                _note(
                    found,
                    [part.asset_key],
                    cells_between(part.partition_key, part.partition_key, order)
                    if part.partition_key
                    else [],
                )
    return found


def _note(found: dict[str, set[Cell]], assets: Iterable[dg.AssetKey], cells: Iterable[Cell]) -> None:
    cells = list(cells)
    for key in assets:
        found.setdefault("/".join(key.path), set()).update(cells)
