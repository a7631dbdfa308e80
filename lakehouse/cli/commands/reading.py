"""`lakehouse sql`, `gaps`, `conflicts` and `restatements`: commands that read rows."""

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.options import End, SilverTable, SomeMarkets, Start, wanted_markets
from lakehouse.cli.reporting import Report, reporting
from lakehouse.model.errors import EngineOptionError, NoStatementError
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of

if TYPE_CHECKING:
    from lakehouse.cli.prompt import Ask
    from lakehouse.registry import Registry

_OF_CANDLE = ("open", "high", "low", "close", "volume", "trade_count")  # what fits a terminal
_NARROWER = "narrow it with --markets, --from and --to"

commands = typer.Typer()


class Engine(StrEnum):
    """Who carries out a statement."""

    duckdb = "duckdb"
    trino = "trino"


@commands.command()
@reporting
def gaps(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    not_listed: Annotated[
        bool, typer.Option(help="Also show slots before listing and after delisting.")
    ] = False,
    table: SilverTable = "silver/candle",
    *,
    report: Report,
) -> None:
    """Every expected row that is absent, and why.

    Classes: *halt* (proven: trading stopped), *conflict* (sources disagree and none could be chosen),
    *pending* (its file may still appear), *unproven* (no source has it, and files are no longer late).
    """
    import polars as pl

    from lakehouse.ops.findings import holes
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    reader = Lake(Settings().root)
    silver = reader.registry.dataset(table).silver
    wanted = wanted_markets(markets, [silver])
    stored, noun = reader.stored(silver.name), _noun(silver.name)
    frame = reader.gaps(wanted or None, start, end, table=table)
    if not not_listed:
        frame = frame.filter(pl.col("gap_class") != "not_listed")
    report.table(
        f"{count_of(int(frame['slot_count'].sum()), noun)} absent in {count_of(frame.height, 'run')}",
        frame,
        _NARROWER,
        spare=("asked_at", "halted_at"),
        empty=f"No expected {noun} is absent in what is stored."
        if stored
        else f"Nothing is stored of {silver.name} yet.",
    )
    months = TimeRange.parse(start, end).months()
    absent = [cell for cell in holes(stored) if (not wanted or cell.market in wanted) and cell.date in months]
    if absent:
        report.say(
            f"Nothing is stored of {count_of(len(absent), 'month')} between others: "
            f"{', '.join(map(str, absent[:10]))}"
        )


@commands.command()
@reporting
def conflicts(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    table: SilverTable = "silver/candle",
    *,
    report: Report,
) -> None:
    """Every value of every row on which sources disagreed, and the rule that chose one."""
    from lakehouse.query.lake import MARKET_KEY, Lake
    from lakehouse.settings import Settings

    reader = Lake(Settings().root)
    silver = reader.registry.dataset(table).silver
    frame = reader.conflicts(wanted_markets(markets, [silver]) or None, start, end, table)
    noun = _noun(silver.name)
    disputed = frame.filter(variant=1)
    values = frame.columns[frame.columns.index(silver.time) + 1 : frame.columns.index("variant")]
    shown = [silver.time, "sources", "decided_by", "is_served", "is_settled"]
    shown += _OF_CANDLE if noun == "candle" else values
    shown += ["is_absent"] if frame["is_absent"].any() else []
    report.table(
        f"{count_of(disputed.height, noun)} disputed, {disputed['is_settled'].sum():,} of them settled "
        "by a proof",
        frame.select(MARKET_KEY.alias("market"), *shown),
        _NARROWER,
        spare=("trade_count", "is_settled", "high", "low", "sources", "volume", "open"),
        empty=f"No disputed {noun} is collected.",
        whole=frame,
    )


def _noun(table: str) -> str:
    """What a row of a silver table is called."""
    return "candle" if table == "silver/candle" else "row"


@commands.command()
@reporting
def restatements(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    table: SilverTable = "silver/candle",
    *,
    report: Report,
) -> None:
    """What the exchange replaced of rows it had published: what it said before, and what after."""
    from lakehouse.cli.report import print_restatements
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    reader = Lake(Settings().root)
    dataset = reader.registry.dataset(table)
    found = reader.restatements(wanted_markets(markets, dataset.restated) or None, start, end, table)
    print_restatements(found, report, dataset.silver.time)


@commands.command()
@reporting
def sql(
    query: Annotated[
        str | None,
        typer.Argument(
            help="A statement over views named zone.table, such as silver.candle; standard input if left "
            "out, or a prompt where that is a terminal."
        ),
    ] = None,
    unrestricted: Annotated[
        bool,
        typer.Option(
            "--unrestricted", help="Let it do all that DuckDB can: read and write your own files too."
        ),
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option(
            help="Who answers: DuckDB, here; or a Trino server, over what is registered in Glue, at "
            "LAKEHOUSE_TRINO_URL."
        ),
    ] = Engine.duckdb,
    *,
    report: Report,
) -> None:
    """Run SQL over the lake. A statement reads the lake and nothing else, unless you say otherwise."""
    is_prompt = query is None and sys.stdin.isatty() and sys.stdout.isatty()
    ask, registry = _on_trino(unrestricted) if engine is Engine.trino else _on_duckdb(unrestricted, is_prompt)
    if is_prompt:
        from lakehouse.cli.prompt import converse

        converse(registry, ask, report.again)
        return
    statement = sys.stdin.read() if query is None else query
    if query is None and not statement.strip():
        raise NoStatementError
    report.table("", ask(statement), "add LIMIT")


@commands.command()
@reporting
def duckdb(
    file: Annotated[
        Path, typer.Argument(help="Where, such as lake.duckdb. The folder FILE.cells comes beside it.")
    ],
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    *,
    report: Report,
) -> None:
    """Write a DuckDB file with the views and macros of `sql`, for tools that do not know a lake.

    It stays what it is: cells that are replaced in the lake afterwards change nothing in it. Make it again to
    see them.
    """
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    lake = Lake(Settings().root)
    found = lake.to_duckdb(file, wanted_markets(markets) or None, start, end)
    report.table(f"{file}: rows of {count_of(int(found['cells'].sum()), 'cell')}", found)


def _on_duckdb(unrestricted: bool, is_prompt: bool) -> "tuple[Ask, Registry]":
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    lake = Lake(Settings().root)
    if is_prompt:  # a statement says so by itself, if it reads a table
        lake.objects.require_lake()
    return partial(lake.sql, unrestricted=unrestricted), lake.registry


def _on_trino(unrestricted: bool) -> "tuple[Ask, Registry]":
    from lakehouse.cli.engines import trino_of
    from lakehouse.settings import Settings

    if unrestricted:
        raise EngineOptionError("--unrestricted", "trino")
    server = trino_of(Settings())
    return server.sql, server.registry
