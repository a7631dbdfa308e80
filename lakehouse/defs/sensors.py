"""The sensors that keep a lake current. Each asks for rectangles of cells; what depends on them follows by
the conditions of the tables.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from lakehouse.datasets.market import MarketTable
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, parse_keys, range_tags
from lakehouse.defs.sources import archives_seen
from lakehouse.defs.under_way import PRIORITY_TAG, REFRESHED, WHY_TAG, under_way
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.words import NO_MARKET, count_of
from lakehouse.ops.attempts import Attempt, Attempts
from lakehouse.ops.memory import Memory
from lakehouse.pipeline import refresh
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.reasons import summed_up
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.universe import matches
from lakehouse.sources.rest.describing import describe

COULD_NOT_LOOK = "Could not look: "
"""How a tick begins that saw nothing; it is no failure to Dagster, for the next one looks again."""

_SHOWN = 20
_NOTHING_DUE = "Nothing is due."
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Refresh:
    """How a lake is kept current.

    Attributes:
        is_running: Whether the sensors run without being switched on in the UI.
        candles_every: Seconds between two looks for closed candles.
        add_markets: Patterns of market keys, or of unified symbols with their exchange; what an exchange
            lists and one of them matches joins the universe.
    """

    is_running: bool = False
    candles_every: int = 3600
    add_markets: tuple[str, ...] = ()


Evaluate = Callable[[dg.SensorEvaluationContext], dg.SensorResult]


def refresh_sensors(lake: LakeServices, how: Refresh) -> list[dg.SensorDefinition]:
    """The sensors of a lake."""

    def declared(
        name: str, target: dg.AssetSelection, every: int, description: str, evaluate: Evaluate
    ) -> dg.SensorDefinition:
        def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            try:
                return evaluate(context)
            except LakehouseError as error:  # out of reach: the next tick sees
                return dg.SensorResult(skip_reason=f"{COULD_NOT_LOOK}{error}")

        return dg.SensorDefinition(
            name,
            evaluation_fn=tick,
            asset_selection=target,
            minimum_interval_seconds=every,
            description=description,
            default_status=dg.DefaultSensorStatus.RUNNING
            if how.is_running
            else dg.DefaultSensorStatus.STOPPED,
        )

    archives = [asset_key(dataset.archive) for dataset in lake.registry.datasets]
    return [
        declared(
            "candles_closed",
            dg.AssetSelection.groups("bronze"),
            how.candles_every,
            "Asks for the newest candles: of the open month and, until it is archived, the one before.",
            lambda c: _candles(lake, c),
        ),
        declared(
            "archive_published",
            dg.AssetSelection.assets(*archives),
            3600,
            "Reads again what an archive published or replaced; once a week all that is stored is compared.",
            lambda c: _archive(lake, c),
        ),
        declared(
            "market_listing",
            dg.AssetSelection.assets(asset_key(MarketTable)),
            600,
            "Asks about all markets daily, about a new one at once, and reports what an exchange has newly "
            "listed.",
            lambda c: _listing(lake, how, c),
        ),
        declared(
            "failed_cells",
            dg.AssetSelection.groups("bronze", "silver", "gold"),
            300,
            "Repeats, soon and then after growing waits, what stays due although nothing is under way for "
            "it.",
            lambda c: _failed(lake, c),
        ),
    ]


# --- ticks ----------------------------------------------------------------------------------------


def _candles(lake: LakeServices, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    memory = Memory.of(lake.objects, "candles_closed", context.cursor)
    attempts = Attempts.from_json(memory.state)
    tick = refresh.candles_closed(lake, _universe(context.instance), under_way(context), attempts)
    return _result(context, tick, memory, attempts.to_json())


def _archive(lake: LakeServices, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    memory = Memory.of(lake.objects, "archive_published", context.cursor)
    before = memory.state
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
        memory,
        {
            "after": progress.after,
            "is_full": progress.is_full,
            "full_at": began,
            "attempts": attempts.to_json(),
        },
    )


def _failed(lake: LakeServices, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    memory = Memory.of(lake.objects, "failed_cells", context.cursor)
    attempts = Attempts.from_json(memory.state)
    tick = refresh.failed_cells(lake, _universe(context.instance), under_way(context), attempts)
    return _result(context, tick, memory, attempts.to_json())


def _result(
    context: dg.SensorEvaluationContext, tick: refresh.Tick, memory: Memory, state: Mapping[str, object]
) -> dg.SensorResult:
    """A tick in Dagster's terms. What it asks for, what waits and what it could not see is in its log; where
    nothing is asked for, it is the reason as well.
    """
    order = context.instance.get_dynamic_partitions(str(MARKETS.name))
    requests = [
        request
        for table, wanted in tick.wanted.items()
        for request in _requests(table, wanted, order, tick.why[table], memory.number)
    ]
    for _, said in requests:
        context.log.info(said)
    waiting = [
        f"{count_of(count, 'cell')} of {table.name} {'waits' if count == 1 else 'wait'} for the next "
        "attempt, "
        f"the first until {until:%Y-%m-%d %H:%M} UTC"
        for table, (count, until) in tick.waiting.items()
    ]
    for said in waiting:
        context.log.info(said)
    for note in tick.notes:
        context.log.warning(note)
    said = "; ".join([*tick.notes, *waiting]) or (_NOTHING_DUE if order else NO_MARKET)
    return dg.SensorResult(
        run_requests=[request for request, _ in requests],
        cursor=memory.keep(state),
        asset_events=_seen(tick),
        skip_reason=None if requests else said,
    )


def _seen(tick: refresh.Tick) -> list[dg.AssetObservation]:
    """What a tick has seen of archives."""
    if tick.has is None:
        return []
    listings = {market: one for by in tick.has.listings.values() for market, one in by.items()}
    unlisted = {market: one for by in tick.has.unlisted.values() for market, one in by.items()}
    return list(archives_seen(tick.has.lake, listings, unlisted))


def _requests(
    table: type[Table],
    wanted: Mapping[Cell, Attempt],
    order: Sequence[str],
    why: Mapping[Cell, str],
    number: int,
) -> Iterator[tuple[dg.RunRequest, str]]:
    """One request per rectangle, and what it says.

    The key names cells, attempts and the tick: one that is evaluated again asks for nothing twice, and a
    reason that comes back later is asked for again.

    Args:
        table: The table.
        wanted: Its cells that are asked for.
        order: Market keys in insertion order.
        why: Why each cell is due.
        number: Of the tick.
    """
    for tags, covered in range_tags(wanted, order):
        marks = hashlib.sha256(
            "".join([f"{number}\n", *(f"{cell} {wanted[cell].mark}\n" for cell in covered)]).encode()
        ).hexdigest()[:16]
        reason = summed_up({cell: why[cell] for cell in covered})
        request = dg.RunRequest(
            run_key=f"{table.name} {marks}",
            asset_selection=[asset_key(table)],
            asset_check_keys=[],
            tags=tags | {WHY_TAG: reason, PRIORITY_TAG: REFRESHED},
        )
        span = f"{covered[0]}" if len(covered) == 1 else f"{covered[0]} to {covered[-1]}"
        yield request, f"Asks for {count_of(len(covered), 'cell')} of {table.name}, {span}: {reason}"


def _listing(lake: LakeServices, how: Refresh, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    kept = Memory.of(lake.objects, "market_listing", context.cursor)
    memory, now, universe = dict(kept.state), lake.clock(), _universe(context.instance)
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
        before, found = memory.get("listed", {}), _listed(lake, context.log.warning)
        listed = {name: sorted(keys) for name, keys in found.items()}
        memory |= {"looked_at": now.isoformat(), "listed": before | listed}
        wanted["daily"] = now.isoformat()
        fresh = sorted(
            key for name, keys in listed.items() if name in before for key in set(keys) - set(before[name])
        )
        joining = sorted(
            {
                key
                for keys in found.values()
                for key, unified in keys.items()
                if any(matches(glob, Market.parse(key), unified) for glob in how.add_markets)
            }
            - {market.key for market in universe}
        )
        if fresh:
            context.log.info(
                f"{len(fresh)} markets are newly listed: {', '.join(fresh[:_SHOWN])}. `lakehouse markets "
                "add` takes them in."
            )
    cursor = kept.keep(memory | {"attempts": attempts.to_json()}) if universe or joining else context.cursor
    if not wanted or not (universe or joining):
        return dg.SensorResult(
            skip_reason=_NOTHING_DUE if universe else NO_MARKET,
            cursor=cursor,
        )
    mark = hashlib.sha256(f"{kept.number} {sorted(wanted.items())}".encode()).hexdigest()[:16]
    fresh_keys = [*joining, *unknown]
    why = f"new: {', '.join(fresh_keys[:_SHOWN])}" if fresh_keys else "daily"
    context.log.info(f"Asks exchanges about {count_of(len(universe) + len(joining), 'market')}: {why}")
    request = dg.RunRequest(
        run_key=f"{MarketTable.name} {mark}",
        asset_selection=[asset_key(MarketTable)],
        asset_check_keys=[],
        tags={WHY_TAG: why, PRIORITY_TAG: REFRESHED},
    )
    return dg.SensorResult(
        run_requests=[request],
        dynamic_partitions_requests=[MARKETS.build_add_request(joining)] if joining else [],
        cursor=cursor,
    )


def _listed(lake: LakeServices, warn: Callable[[str], object]) -> dict[str, dict[str, str | None]]:
    """The keys of all markets that exchanges list now, with their unified symbols, by exchange and market
    type; without those whose API does not answer. What could be no market is warned of.
    """
    found = dict[str, dict[str, str | None]]()
    for exchange in lake.exchanges.values():
        for market_type in exchange.rest_types if exchange.has_rest else ():
            try:
                info = describe(exchange.rest_api(market_type))
            except OSError:
                continue
            if why := info.skipped.get(""):
                warn(f"What {exchange.name}-{market_type} lists: {why}. The others are taken as they are.")
            found[f"{exchange.name}-{market_type}"] = {
                Market(exchange.name, market_type, symbol).key: about.unified(market_type)
                if (about := info.markets.get(symbol))
                else None
                for symbol in info.symbols
            }
    return found


def _universe(instance: dg.DagsterInstance) -> list[Market]:
    return parse_keys(instance.get_dynamic_partitions(str(MARKETS.name)))[0]
