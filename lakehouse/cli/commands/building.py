"""`lakehouse build`, `markets` and `verify`: commands that make cells."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.console import build_progress, err, say
from lakehouse.cli.layout import shown
from lakehouse.cli.options import (
    End,
    From,
    Markets,
    SilverTable,
    SomeMarkets,
    Start,
    To,
    wanted_markets,
)
from lakehouse.cli.reporting import Report, frame_of, reporting
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NoMarketError, UsageError
from lakehouse.model.market import MARKET_COLUMNS, Market
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import NO_MARKET, count_of

if TYPE_CHECKING:
    from lakehouse.cli.planning import Plan, TableBuild
    from lakehouse.model.table import Table
    from lakehouse.pipeline.services import LakeServices
    from lakehouse.settings import Settings

commands = typer.Typer()
markets_commands = typer.Typer(no_args_is_help=True, help="The universe: which markets the lake holds.")
commands.add_typer(markets_commands, name="markets")

_WORTH_SAYING = 100  # requests: a look at what is new takes a few
_OF_MARKET = (*MARKET_COLUMNS, "base", "quote", "listed_time", "delisted_time")  # what a narrow screen keeps


@commands.command()
@reporting
def build(
    table: Annotated[
        str,
        typer.Argument(
            help="zone/table, such as silver/candle or gold/candle_1h; or a whole zone, such as gold"
        ),
    ],
    markets: Markets,
    start: From,
    end: To,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what is due, and what it costs where REST alone can tell it."
        ),
    ] = False,
    *,
    report: Report,
) -> None:
    """Build a table and everything upstream of it, for some markets and a range widened to whole months.

    Where an exchange is read by REST alone, newer years come first, and what it costs is said before.
    """
    from lakehouse.cli.planning import Plan, are_partitions, nobody_can_have
    from lakehouse.cli.report import print_build
    from lakehouse.opening import open_lake
    from lakehouse.settings import Settings

    settings = Settings()
    wanted, span = wanted_markets(markets, ()), TimeRange.parse(start, end)
    lake = open_lake(settings)
    tables = lake.registry.named(table)
    lake.objects.check_writable()
    plan = Plan(lake, wanted, span)
    if dry_run:
        _say_outlook(plan, tables, report)
        return
    is_new = (
        plan.changed
        or lake.catalog is not None
        or not are_partitions(settings.dagster_home.expanduser(), plan.markets)
    )
    reports = None if is_new else plan.current(tables)
    if reports is None:
        for cost in plan.costs(tables):
            if cost.requests >= _WORTH_SAYING:
                say(str(cost), "note", err)
        reports = _built(lake, settings, plan, tables)
    print_build(lake.objects, lake.registry, reports, report)
    if why := nobody_can_have(lake, tables, wanted):
        report.say(str(why), "note")
    if any(one.failed for one in reports):
        raise typer.Exit(1)


def _say_outlook(plan: "Plan", tables: "list[type[Table]]", report: Report) -> None:
    """Say what a build would make, and what it costs where REST alone can tell it."""
    rows = [{"table": name, "due": count} for name, count in plan.outlook(tables).items()]
    costs = plan.costs(tables)
    if report.document({"tables": rows, "rest": [asdict(cost) for cost in costs]}, "tables"):
        return
    report.table("Cells that are due; what is made from them follows", frame_of(rows, ("table", "due")))
    for cost in costs:
        report.say(str(cost))


def _built(
    lake: "LakeServices", settings: "Settings", plan: "Plan", tables: "list[type[Table]]"
) -> "list[TableBuild]":
    """Carry out a plan. Dagster, whose import takes longer than to see that nothing is due, is imported
    here.
    """
    from lakehouse.cli.building import Builder
    from lakehouse.cli.instance import open_instance

    with open_instance(settings) as instance, build_progress() as progress:
        lake.progress = progress.cell
        return Builder(lake, instance, progress.announce, wait=progress.wait).carry_out(plan, tables)


@markets_commands.command("add")
@reporting
def markets_add(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            help="Market keys, unified symbols (binance:BTC/USDT:USDT), or patterns over all that is or was "
            "listed (binance-linear:*USDT); LAKEHOUSE_MARKETS if none is given."
        ),
    ] = None,
    *,
    report: Report,
) -> None:
    """Add markets to the universe: they become partitions, and silver/market learns what they are."""
    from lakehouse.cli.building import Builder
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.planning import Plan
    from lakehouse.opening import open_lake
    from lakehouse.pipeline.markets import listed_markets
    from lakehouse.settings import Settings

    settings = Settings()
    names = [name.strip() for given in (keys or settings.markets) for name in given.split(",")]
    if not names:
        raise NoMarketError
    lake = open_lake(settings)
    chosen = listed_markets(lake, names)
    lake.objects.check_writable()
    with open_instance(settings) as instance:
        Builder(lake, instance).add_markets(Plan(lake, chosen, asked_within=timedelta(0)))
    _show_markets(report)


@markets_commands.command("remove")
@reporting
def markets_remove(
    keys: Annotated[
        list[str],
        typer.Argument(
            help="Market keys, also such as name no market; unified symbols, and patterns over the "
            "markets of the lake."
        ),
    ],
    *,
    report: Report,
) -> None:
    """Take markets out of the universe: they are no partitions any more, and nothing asks for them. What is
    stored of them stays, and can be read.
    """
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.universe import remove_markets
    from lakehouse.settings import Settings

    settings = Settings()
    with open_instance(settings) as instance:
        removed, notes = remove_markets(instance, settings, keys)
    if report.document({"removed": removed, "notes": notes}):
        return
    if report.form != "table":
        report.table("", frame_of([{"market": key} for key in removed]))
    report.say(f"Removed {count_of(len(removed), 'market')}: {', '.join(removed)}")
    for note in notes:
        report.say(note, "note")


AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="An instant at the exchange, UTC: what could be traded then, ended or not."),
]


@markets_commands.command("list")
@reporting
def markets_list(
    markets: SomeMarkets = None,
    as_of: AsOf = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every listing that is known, and not the lake's markets alone.")
    ] = False,
    *,
    report: Report,
) -> None:
    """Show the markets of the lake, or every listing, and what is known of them.

    With --as-of, what could be traded at that instant, delisted markets too: a universe for a backtest.
    """
    _show_markets(report, markets, as_of, everything)


@markets_commands.command("show")
@reporting
def markets_show(
    market: Annotated[str, typer.Argument(help="A market key, or a unified symbol.")],
    as_of: AsOf = None,
    *,
    report: Report,
) -> None:
    """Show all that is known of one market: what holds now, and what held before."""
    import polars as pl

    from lakehouse.model.errors import ManyMarketsError, NoSuchListingError
    from lakehouse.query.lake import MARKET_KEY, Lake
    from lakehouse.settings import Settings

    lake = Lake(Settings().root)
    found = lake.among(lake.markets(), [market])
    if len(found) > 1:
        raise ManyMarketsError(market, [one.key for one in found])
    wanted = found[0]
    known = lake.collect(lake.scan("silver/market").filter(wanted.key == MARKET_KEY))
    if known.is_empty():
        raise NoSuchListingError(wanted.key, lake.markets().height, "that are known here")
    if as_of is not None:
        known = lake.markets(as_of).filter(wanted.key == MARKET_KEY)
    rows = known.sort("valid_from", nulls_last=False)
    if report.form != "table":
        report.table("", rows)
        return
    if rows.is_empty():
        report.say(f"{wanted.key} could not be traded then, or nothing tells that it could.")
    for row in rows.iter_rows(named=True):
        told = {name: value for name, value in row.items() if value not in (None, "")}
        facts = [{"fact": name, "value": _text(value)} for name, value in told.items()]
        report.table(wanted.key, pl.DataFrame(facts))
        report.say("Times are UTC.")
        if absent := [name for name in row if name not in told]:
            report.say(f"Not stated, or there is none: {', '.join(absent)}.")


def _text(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else shown(value)


@markets_commands.command("scan")
@reporting
def markets_scan(report: Report) -> None:
    """Ask every exchange for all it lists and its archive for all it has, delisted markets too.

    No file is fetched and nothing joins the universe: both ends of a market's life are told by the names
    of its files. Three requests a market the first time, few after that. What could not be seen is named;
    it ends with 1 where that is of an exchange the lake has a market of.
    """
    from lakehouse.opening import open_lake
    from lakehouse.pipeline.markets import missed, scan_listings
    from lakehouse.settings import Settings

    settings = Settings()
    lake = open_lake(settings)
    lake.objects.check_writable()
    found = scan_listings(lake)
    rows = [{"exchange and type": name, "listings": count} for name, count in sorted(found.counts.items())]
    report.table("Listings", frame_of(rows, ("exchange and type", "listings")))
    for problem in found.problems:
        say(problem, "note", err)
    if missed(lake, [*settings.markets, *settings.add_markets], found.unseen):
        raise typer.Exit(1)


def _show_markets(
    report: Report, markets: str | None = None, as_of: str | None = None, everything: bool = False
) -> None:
    import polars as pl

    from lakehouse.query.lake import MARKET_KEY, Lake
    from lakehouse.settings import Settings

    lake = Lake(Settings().root)
    frame = lake.markets() if as_of is None else lake.markets(as_of)
    if markets is not None:
        keys = [market.key for market in lake.among(frame, markets.split(","))]
        frame = frame.filter(MARKET_KEY.is_in(keys))
    elif as_of is None and not everything:
        frame = frame.filter((pl.col("life_source") == "rows").fill_null(True))
    kept = _OF_MARKET if as_of is None else (*MARKET_COLUMNS, "listed_time", "delisted_time", "is_certain")
    report.table(
        f"Markets that could be traded at {as_of}" if as_of is not None else "Markets",
        frame,
        "ask in SQL: silver.market",
        spare=[name for name in reversed(frame.columns) if name not in kept],
        empty=NO_MARKET if as_of is None else "No market is known that could be traded then.",
    )


@commands.command()
@reporting
def verify(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    budget: Annotated[
        int,
        typer.Option(help="Requests to make at most; a month of minutes takes 47 on spot markets.", min=1),
    ] = 1000,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also ask about months that are proven or were asked about in full before."
        ),
    ] = False,
    stored: Annotated[
        bool,
        typer.Option(
            "--stored",
            help="Ask no exchange: hold every stored byte against its seal, version, rules and path.",
        ),
    ] = False,
    mend: Annotated[
        bool, typer.Option("--repair", help="With --stored: make what is damaged again from what is stored.")
    ] = False,
    table: SilverTable = "silver/candle",
    *,
    report: Report,
) -> None:
    """Prove stored rows by REST, row by row, the newest months first, and mend what turns out wrong.

    In spare request weight: at most two fifths of a minute's budget are used. Run it again to go on. With
    --stored, prove instead that what is stored is what was written.
    """
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.verifying import print_verification, verify
    from lakehouse.opening import open_lake
    from lakehouse.registry import REGISTRY
    from lakehouse.settings import Settings

    span = TimeRange.parse(start, end) if start is not None or end is not None else None
    settings, silver = Settings(), REGISTRY.dataset(table).silver
    wanted = wanted_markets(markets, None if stored else [silver])
    lake = open_lake(settings)
    lake.objects.require_lake()  # before a folder is made of a mistyped root
    if mend and not stored:
        raise UsageError("--repair goes with --stored: it makes again what that finds damaged.")
    if stored:
        _verify_stored(lake, settings, wanted, span, mend, report)
        return
    with open_instance(settings) as instance, build_progress() as progress:
        lake.progress = progress.cell
        found = verify(lake, instance, wanted, span, budget, again, progress.announce, table)
    print_verification(found, report, silver.name)
    if found.failed:
        raise typer.Exit(1)


def _verify_stored(
    lake: "LakeServices",
    settings: "Settings",
    markets: list[Market],
    span: TimeRange | None,
    mend: bool,
    report: Report,
) -> None:
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.stored import check_again, print_stored, repair, verify_stored

    months = span.months() if span else None

    def meant(cell: Cell | None) -> bool:
        of_market = cell is None or not markets or cell.market is None or cell.market in markets
        return of_market and (cell is None or months is None or cell.date[:7] in months)

    with build_progress() as progress:
        found = verify_stored(lake, meant, progress.count)
        if found.concerned or (mend and not found.is_sound):
            with open_instance(settings) as instance:
                if mend and not found.is_sound:
                    lake.objects.check_writable()
                    lake.progress = progress.cell
                    repair(lake, instance, found, progress.announce)
                check_again(lake, instance, found)
    print_stored(found, mend, report)
    if not found.is_sound:
        raise typer.Exit(1)
