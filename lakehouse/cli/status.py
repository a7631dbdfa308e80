"""`lakehouse status`: how a lake is, and what is done about it, on one screen or as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.cli.activity import Activity, activity
from lakehouse.cli.report import status_rows
from lakehouse.cli.reporting import Report, frame_of
from lakehouse.model.cell import Cell
from lakehouse.model.errors import BehindInputsWarning, RestUnreachableError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.pipeline.costs import Cost, alone, costs
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.pages import FromPages
from lakehouse.pipeline.recipe import Recipe
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.storage.ledger import cells_of
from lakehouse.storage.verification import Verification, load_verification, named
from lakehouse.transform.gaps import told

_MARKETS_SHOWN = 10
_CHECKS_SHOWN = 5
_ABSENT = ("unproven", "pending", "conflict", "halt")  # the classes of a gap that a market is told with


@dataclass(frozen=True, slots=True)
class MarketStatus:
    """How a market stands in a silver table.

    Attributes:
        market: Its key.
        table: The silver table.
        newest: Time of the newest row by table, of silver and all that it is made from or goes into; None
            where there is none.
        is_late: Whether the newest row is older than the table's check of freshness allows; not of a market
            that has ended.
        absent: Absent rows by the class a reader is told.
        conflicts: Disputed keys.
        unsettled: Those of them that no proof decided.
    """

    market: str
    table: str
    newest: Mapping[str, datetime | None]
    is_late: bool
    absent: Mapping[str, int]
    conflicts: int
    unsettled: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be asked of a REST API.

    Attributes:
        exchange: Whose.
        market_type: Of which markets.
        budget: So much, of what `per` names.
        per: What is counted: `weight a minute`, or `requests in 5 s`.
        used: Weight used in the minute by everybody at this address, or requests by this process; None if the
            API was not asked.
        problem: Why it cannot be asked; empty if it can, or was not tried.
    """

    exchange: str
    market_type: str
    budget: int
    per: str
    used: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """How a lake is.

    Attributes:
        root: Where it is.
        at: The instant of the look.
        tables: As `status_rows`.
        markets: Every market of every silver table with cells of its own, the worst first.
        verification: What the last verification of stored bytes found.
        dagster: What Dagster knows; None where nothing ever ran.
        rest: What may be asked of REST APIs.
        to_ask: What is still to be asked of those that alone can tell it, of months that were begun.
    """

    root: str
    at: datetime
    tables: Sequence[dict[str, Any]]
    markets: Sequence[MarketStatus]
    verification: Verification | None
    dagster: Activity | None
    rest: Sequence[Budget]
    to_ask: Sequence[Cost]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        found = self.verification
        return {
            "root": self.root,
            "at": self.at,
            "tables": self.tables,
            "markets": [asdict(market) for market in self.markets],
            "verification": found and {"at": found.at, "damaged": [one.path for one in found.damage]},
            "dagster": self.dagster and self.dagster.to_json(),
            "rest": [asdict(budget) for budget in self.rest],
            "to_ask": [asdict(cost) for cost in self.to_ask],
        }


def look(lake: LakeServices, settings: Settings, asks: bool = False) -> Status:
    """Look at a lake.

    Args:
        lake: The lake.
        settings: Where Dagster's home is.
        asks: Whether each REST API is asked what of its budget is used.

    Raises:
        NoLakeError: There is none.
    """
    has = Inventory(lake)
    rows = status_rows(lake, has)
    return Status(
        str(settings.root),
        has.now,
        rows,
        _markets(has),
        load_verification(lake.objects),
        activity(settings, lake.registry),
        _budgets(lake, asks),
        _to_ask(has),
    )


def _markets(has: Inventory) -> list[MarketStatus]:
    registry, found = has.lake.registry, []
    for dataset in registry.datasets:
        silver = dataset.silver
        if silver.spread != "market":
            continue
        related = [*dataset.bronze, silver]
        related += [table for table in registry.features if silver.name in table.input_names()]
        newest = {table.name: _newest(table, has) for table in related if table.spread == "market"}
        absent, disputed = _absent(silver, has), _disputed(silver, has)
        late = _late(silver)
        # one whose every row is absent has cells, and no newest row
        for key in sorted({*disputed, *(key for of_table in newest.values() for key in of_table)}):
            last, facts = newest[silver.name].get(key), has.known.get(Market.parse(key))
            has_ended = facts is not None and facts.delisted is not None
            is_late = late is not None and not has_ended and (last is None or has.now - last > late)
            found.append(
                MarketStatus(
                    key,
                    silver.name,
                    {name: of_table.get(key) for name, of_table in newest.items()},
                    is_late,
                    absent.get(key, {}),
                    *disputed.get(key, (0, 0)),
                )
            )
    return sorted(found, key=_badness)


def _badness(market: MarketStatus) -> tuple[object, ...]:
    """Sorts the worst first: what readers may be misled by, what is old, what is known and said."""
    bad = market.absent.get("unproven", 0) + market.absent.get("conflict", 0)
    last = market.newest[market.table]
    return (
        -bad,
        not market.is_late,
        last or datetime.min.replace(tzinfo=UTC),
        -market.unsettled,
        market.market,
    )


def _newest(table: type[Table], has: Inventory) -> dict[str, datetime]:
    """The time of each market's newest row."""
    newest = has.ledger(table.name).frame.group_by("key").agg(pl.col("last_time").max())
    return {key: datetime.fromisoformat(time) for key, time in newest.rows() if time}


def _absent(silver: type[Table], has: Inventory) -> dict[str, Counter[str]]:
    """Absent rows of each market that has any, by class; slots in which it was not listed are none."""
    stored, found = has.ledger(silver.name), dict[str, Counter[str]]()
    for cell in cells_of(stored.frame.filter(~pl.col("facts").str.contains('"gaps": []', literal=True))):
        for gap_class, run in told(stored[cell].facts.gaps, has.now, silver.published):
            if gap_class != "not_listed":
                found.setdefault(cell.own_market.key, Counter())[gap_class] += run.slot_count
    return found


def _disputed(silver: type[Table], has: Inventory) -> dict[str, tuple[int, int]]:
    """Disputed keys of each market, and those that no proof decided."""
    counts = [
        pl.col("facts").str.extract(rf'"{name}": (\d+)').cast(pl.Int64).sum()
        for name in ("conflict_count", "unsettled_count")
    ]
    parted = has.ledger(silver.name).frame.group_by("key").agg(c.alias(str(n)) for n, c in enumerate(counts))
    return {key: (conflicts, unsettled) for key, conflicts, unsettled in parted.rows()}


def _late(silver: type[Table]) -> timedelta | None:
    """How old a market's newest row may be; None where no check says so."""
    limits = [check.parameters["late"] for check in silver.checks if check.family == "freshness"]
    return limits[0] if limits else None


def _to_ask(has: Inventory) -> list[Cost]:
    """What a history by REST alone lacks: months between the first and the open one that are not stored."""
    lacking: dict[Recipe, list[Cell]] = {}
    for table, recipe in recipes(has.lake.registry).items():
        if isinstance(recipe, FromPages):
            stored = has.ledger(table.name)
            lacking[recipe] = [
                cell for cell in alone(has, recipe, recipe.expected(has)) if cell not in stored
            ]
    return costs(has, lacking)


def _budgets(lake: LakeServices, asks: bool) -> list[Budget]:
    found = []
    for name, exchange in lake.exchanges.items():
        for market_type in exchange.rest_types if exchange.has_rest else ():
            client = lake.clients.of_api(name, market_type)
            problem = ""
            if asks:
                try:
                    client.now()
                except RestUnreachableError as error:
                    problem = str(error)
            used, most = client.spent if asks and not problem else (None, None)
            own = client.api.budget
            per = f"requests in {own.every.seconds:g} s" if own.every else "weight a minute"
            documented = own.every.requests if own.every else own.weight
            found.append(Budget(name, market_type, most or documented or 0, per, used, problem))
    return found


# --- saying it ------------------------------------------------------------------------------------


def print_status(status: Status, report: Report) -> None:
    """Show a status: as one JSON document, or on one screen, what is worst first in each part of it."""
    if report.document(status.to_json(), "tables"):
        return
    tables = frame_of(list(status.tables))
    quiet = [name for name in ("absent", "rejected", "damaged") if not tables[name].sum()]
    report.table(
        f"Lake {status.root} on {status.at:%Y-%m-%d %H:%M} UTC",
        tables.drop("behind", *quiet),
        spare=("MB", "first"),
        whole=tables,
    )
    _print_damage(status, report)
    _print_markets(status, report)
    if status.dagster is None:
        report.say("Dagster: nothing ran yet.")
    else:
        _print_activity(status.dagster, report)
    for cost in status.to_ask:
        report.say(f"Not asked for yet of what was begun: {cost}", "note")
    for budget in status.rest:
        if budget.problem:
            report.say(budget.problem, "failed")
    for per in dict.fromkeys(one.per for one in status.rest if not one.problem):
        shares = ", ".join(
            f"{one.exchange} {one.market_type} {one.budget:,}"
            + (f" ({one.used:,} used)" if one.used is not None else "")
            for one in status.rest
            if one.per == per and not one.problem
        )
        report.say(f"REST budget, {per}: {shares}")


def _print_damage(status: Status, report: Report) -> None:
    found = status.verification
    if found and found.damage:
        report.say(
            f"{named(found.damage)}, as verified on {found.at:%Y-%m-%d %H:%M}. `lakehouse verify --stored "
            "--repair` makes them again.",
            "damaged",
        )
    for row in status.tables:
        if row["behind"]:
            report.say(str(BehindInputsWarning(row["table"], row["behind"])), "note")


def _print_markets(status: Status, report: Report) -> None:
    if not status.markets:
        return
    rows = []
    for one in status.markets[:_MARKETS_SHOWN]:
        silver = one.newest[one.table]
        sources = [time for name, time in one.newest.items() if name.startswith("bronze/") and time]
        made = [time for name, time in one.newest.items() if name.startswith("gold/")]
        lagging = sum(time is None or (silver is not None and time.date() < silver.date()) for time in made)
        rows.append(
            {
                "market": one.market,
                "table": one.table.removeprefix("silver/"),
                "newest": silver,
                "age": _age(status.at, silver) + (" late" if one.is_late else ""),
                "bronze": _age(status.at, max(sources, default=None)),
                "gold": f"{lagging} behind" if lagging else "",
                **{name: one.absent.get(name) for name in _ABSENT},
                "disputed": one.conflicts or None,
                "unsettled": one.unsettled or None,
            }
        )
    told = frame_of(rows)
    told = told.drop(name for name in (*_ABSENT, "disputed", "unsettled") if not told[name].count())
    told = told.drop(["gold"] if (told["gold"] == "").all() else [])
    told = told.drop(["table"] if told["table"].n_unique() == 1 else [])
    markets = {one.market for one in status.markets}
    late = {one.market for one in status.markets if one.is_late}
    report.table(
        count_of(len(markets), "market")
        + (f", {len(late):,} late" if late else "")
        + (f", the worst {len(rows)} rows" if len(rows) < len(status.markets) else ""),
        told,
        spare=("disputed", "bronze", "gold", "newest"),
    )


def _age(now: datetime, end: datetime | None) -> str:
    """How long ago, in one unit."""
    if end is None:
        return "none"
    seconds = max((now - end).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds / 60:.0f}min"


def _print_activity(found: Activity, report: Report) -> None:
    report.say(
        f"Dagster: {'its daemon runs' if found.is_alive else 'no daemon runs, so nothing is carried out'}; "
        f"{found.queued:,} queued, {found.running:,} running, "
        f"{count_of(found.backfills, 'backfill')} under way"
        + (f"; {count_of(found.pending, 'check')} without verdict yet" if found.pending else "")
    )
    for check in found.checks[:_CHECKS_SHOWN]:
        report.say(f"{check.table} {check.check} ({check.severity}): {check.what}", "check")
    if len(found.checks) > _CHECKS_SHOWN:
        report.say(f"and {count_of(len(found.checks) - _CHECKS_SHOWN, 'further failing check')}")
    if found.sensors:
        sensors = frame_of([asdict(one) for one in found.sensors])
        report.table(
            "Sensors and schedules",
            sensors.with_columns(pl.col("last_tick").dt.truncate("1m")),
            spare=("outcome",),
            prose="note",
        )
    if found.runs:
        runs = frame_of([asdict(one) for one in found.runs])
        told = runs.with_columns(pl.col("began").cast(pl.Datetime("us", "UTC")).dt.truncate("1m"))
        silent = [] if (runs["why"] != "").any() else ["why"]
        report.table("Last runs", told.drop(silent), spare=("seconds", "why"), prose="what")
