"""The commands."""

import sys
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from lakehouse.cli.collecting import starting, work_begins
from lakehouse.cli.console import (
    build_progress,
    err,
    flagged,
    out,
    print_frame,
    print_json,
    print_table,
    say_env_file,
    say_warnings,
)
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError, NoMarketError, UsageError
from lakehouse.model.market import Market
from lakehouse.model.secrets import hide, learn
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of
from lakehouse.privacy import keep_private

if TYPE_CHECKING:
    from lakehouse.cli.planning import Plan, TableBuild
    from lakehouse.model.table import Table
    from lakehouse.pipeline.services import LakeServices
    from lakehouse.settings import Settings
    from lakehouse.ui.door import Door

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
    help="A crypto market-data lakehouse: exchange archives to Parquet to SQL, every row proven or said to "
    "be absent.",
)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        out.print(f"lakehouse {version('lakehouse')}", highlight=False)
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
    ] = False,
) -> None: ...


markets_app = typer.Typer(no_args_is_help=True, help="The universe: which markets the lake holds.")
app.add_typer(markets_app, name="markets")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Markets = Annotated[
    str,
    typer.Option(
        "--markets", "-m", help="Market keys, comma-separated: binance-spot:BTCUSDT,binance-linear:ETHUSDT"
    ),
]
SomeMarkets = Annotated[
    str | None, typer.Option("--markets", "-m", help="Market keys, comma-separated; all if left out.")
]
From = Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD or YYYY-MM (UTC).")]
To = Annotated[str, typer.Option("--to", help="End, exclusive.")]
Start = Annotated[
    str | None,
    typer.Option("--from", help="First day, YYYY-MM-DD or YYYY-MM (UTC); from the beginning if left out."),
]
End = Annotated[str | None, typer.Option("--to", help="End, exclusive; without end if left out.")]
SilverTable = Annotated[str, typer.Option("--table", help="The silver table whose rows are meant.")]
_OF_CANDLE = ("open", "high", "low", "close", "volume", "trade_count")  # what fits a terminal
_NARROWER = "narrow it with --markets, --from and --to"


def _wanted(markets: str | None) -> list[Market]:
    """The markets that an option names; none if it is left out, which stands for all where a command
    reads.
    """
    if markets is None:
        return []
    wanted = [Market.parse(key) for key in markets.split(",") if key.strip()]
    if not wanted:
        raise NoMarketError  # such as an empty variable of a shell, which is not all
    return wanted


def main() -> None:
    """Run a command. Exit code 0: all cells right; 1: something failed, named; 2: wrong use."""
    keep_private()
    say_warnings()
    say_env_file()
    try:
        with starting():
            app()
    except UsageError as error:
        err.print(flagged("error:", str(error)), soft_wrap=True)
        sys.exit(2)
    except ValidationError as error:
        for found in error.errors():
            name = str(found["loc"][0]).upper()  # of the field, or of the variable where that is an alias
            variable = name if name == "DAGSTER_HOME" else f"LAKEHOUSE_{name}"
            err.print(
                flagged("error:", f"{variable}: {found['msg'].removeprefix('Value error, ')}"), soft_wrap=True
            )
        sys.exit(2)
    except LakehouseError as error:
        err.print(flagged("error:", str(error)), soft_wrap=True)
        sys.exit(1)
    except Exception:  # a mistake of ours: its trace is for a report, which others read
        err.print(hide(traceback.format_exc()), soft_wrap=True, highlight=False)
        sys.exit(1)


@app.command()
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
    as_json: Json = False,
) -> None:
    """Build a table and everything upstream of it, for some markets and a range widened to whole months."""
    from lakehouse.cli.planning import Plan, are_partitions
    from lakehouse.cli.report import print_build
    from lakehouse.opening import open_lake
    from lakehouse.settings import Settings

    settings = Settings()
    wanted, span = _wanted(markets), TimeRange.parse(start, end)
    lake = open_lake(settings)
    tables = lake.registry.named(table)
    lake.objects.check_writable()
    plan = Plan(lake, wanted, span)
    is_new = (
        plan.changed
        or lake.catalog is not None
        or not are_partitions(settings.dagster_home.expanduser(), plan.markets)
    )
    reports = None if is_new else plan.current(tables)
    if reports is None:
        reports = _built(lake, settings, plan, tables, as_json)
    print_build(lake.objects, lake.registry, reports, as_json)
    if any(report.failed for report in reports):
        raise typer.Exit(1)


def _built(
    lake: "LakeServices", settings: "Settings", plan: "Plan", tables: "list[type[Table]]", as_json: bool
) -> "list[TableBuild]":
    """Carry out a plan. Dagster, whose import takes longer than to see that nothing is due, is imported
    here.
    """
    from lakehouse.cli.building import Builder
    from lakehouse.cli.instance import open_instance

    with open_instance(settings) as instance, build_progress(as_json) as progress:
        lake.progress = progress.cell
        return Builder(lake, instance, progress.announce, wait=progress.wait).carry_out(plan, tables)


@markets_app.command("add")
def markets_add(
    keys: Annotated[
        list[str] | None, typer.Argument(help="Market keys; LAKEHOUSE_MARKETS if none is given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add markets to the universe: they become partitions, and silver/market learns what they are."""
    from lakehouse.cli.building import Builder
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.planning import Plan
    from lakehouse.opening import open_lake
    from lakehouse.settings import Settings

    settings = Settings()
    chosen = [Market.parse(key) for given in (keys or settings.markets) for key in given.split(",")]
    if not chosen:
        raise NoMarketError
    lake = open_lake(settings)
    lake.objects.check_writable()
    with open_instance(settings) as instance:
        Builder(lake, instance).add_markets(Plan(lake, chosen, asked_within=timedelta(0)))
    markets_list(as_json)


@markets_app.command("remove")
def markets_remove(
    keys: Annotated[list[str], typer.Argument(help="Market keys, also such as name no market.")],
    as_json: Json = False,
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
    if as_json:
        print_json({"removed": removed, "notes": notes})
        return
    out.print(f"Removed {count_of(len(removed), 'market')}: {', '.join(removed)}", highlight=False)
    for note in notes:
        out.print(flagged("note", note))


@markets_app.command("list")
def markets_list(as_json: Json = False) -> None:
    """Show the markets of the lake and what is known of them."""
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    frame = Lake(Settings().root).markets()
    if as_json:
        print_json(frame.to_dicts())
    else:
        print_frame("Markets", frame, "ask in SQL: silver.market")


@app.command()
def status(as_json: Json = False) -> None:
    """What the lake holds, and what is due, per table."""
    from lakehouse.cli.report import print_status, status_rows
    from lakehouse.opening import open_lake
    from lakehouse.settings import Settings
    from lakehouse.storage.verification import load_verification

    lake = open_lake(Settings())
    rows = status_rows(lake)
    if as_json:
        print_json(rows)
    else:
        print_status(rows, load_verification(lake.objects))


@app.command()
def gaps(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    not_listed: Annotated[
        bool, typer.Option(help="Also show slots before listing and after delisting.")
    ] = False,
    table: SilverTable = "silver/candle",
    as_json: Json = False,
) -> None:
    """Every expected row that is absent, and why.

    Classes: *halt* (proven: trading stopped), *conflict* (sources disagree and none could be chosen),
    *pending* (its file may still appear), *unproven* (no source has it, and files are no longer late).
    """
    import polars as pl

    from lakehouse.ops.findings import holes
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    wanted = _wanted(markets)
    reader = Lake(Settings().root)
    silver = reader.registry.dataset(table).silver
    stored, noun = reader.stored(silver.name), _noun(silver.name)
    frame = reader.gaps(wanted or None, start, end, table=table)
    if not not_listed:
        frame = frame.filter(pl.col("gap_class") != "not_listed")
    if as_json:
        print_json(frame.to_dicts())
        return
    if frame.height:
        print_frame(
            f"{count_of(int(frame['slot_count'].sum()), noun)} absent in {count_of(frame.height, 'run')}",
            frame,
            _NARROWER,
        )
    else:
        out.print(
            f"No expected {noun} is absent in what is stored."
            if stored
            else f"Nothing is stored of {silver.name} yet."
        )
    months = TimeRange.parse(start, end).months()
    absent = [cell for cell in holes(stored) if (not wanted or cell.market in wanted) and cell.date in months]
    if absent:
        out.print(
            f"Nothing is stored of {count_of(len(absent), 'month')} between others: "
            f"{', '.join(map(str, absent[:10]))}",
            highlight=False,
        )


@app.command()
def conflicts(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    table: SilverTable = "silver/candle",
    as_json: Json = False,
) -> None:
    """Every value of every row on which sources disagreed, and the rule that chose one."""
    from lakehouse.query.lake import MARKET_KEY, Lake
    from lakehouse.settings import Settings

    reader = Lake(Settings().root)
    frame = reader.conflicts(_wanted(markets) or None, start, end, table)
    if as_json:
        print_json(frame.to_dicts())
        return
    noun = _noun(table)
    if not frame.height:
        out.print(f"No {noun} is disputed in what is stored.")
        return
    disputed = frame.filter(variant=1)
    time, told = (
        reader.registry.dataset(table).silver.time,
        ["sources", "decided_by", "is_served", "is_settled"],
    )
    values = frame.columns[frame.columns.index(time) + 1 : frame.columns.index("variant")]
    shown = [time, *told, *(_OF_CANDLE if noun == "candle" else values)]
    shown += ["is_absent"] if frame["is_absent"].any() else []
    rows = frame.select(MARKET_KEY.alias("market"), *shown)
    print_frame(
        f"{count_of(disputed.height, noun)} disputed, {disputed['is_settled'].sum():,} of them settled "
        "by a proof",
        rows,
        _NARROWER,
    )


def _noun(table: str) -> str:
    """What a row of a silver table is called."""
    return "candle" if table in ("candle", "silver/candle", "silver.candle") else "row"


@app.command()
def restatements(
    markets: SomeMarkets = None,
    start: Start = None,
    end: End = None,
    as_json: Json = False,
) -> None:
    """What the exchange replaced of candles it had published: what it said before, and what after."""
    from lakehouse.cli.report import print_restatements
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    found = Lake(Settings().root).restatements(_wanted(markets) or None, start, end)
    if as_json:
        print_json(found.to_dicts())
    elif found.height:
        print_restatements(found)
    else:
        out.print("Nothing was restated of what is stored.")


@app.command()
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
    as_json: Json = False,
) -> None:
    """Prove stored candles by REST, row by row, the newest months first, and mend what turns out wrong.

    In spare request weight: at most two fifths of a minute's budget are used. Run it again to go on. With
    --stored, prove instead that what is stored is what was written.
    """
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.verifying import print_verification, verify
    from lakehouse.opening import open_lake
    from lakehouse.settings import Settings

    span = TimeRange.parse(start, end) if start is not None or end is not None else None
    settings, wanted = Settings(), _wanted(markets)
    lake = open_lake(settings)
    lake.objects.require_lake()  # before a folder is made of a mistyped root
    if mend and not stored:
        raise UsageError("--repair goes with --stored: it makes again what that finds damaged.")
    if stored:
        _verify_stored(lake, settings, wanted, span, mend, as_json)
        return
    with open_instance(settings) as instance, build_progress(as_json) as progress:
        lake.progress = progress.cell
        found = verify(lake, instance, wanted, span, budget, again, progress.announce)
    print_verification(found, as_json)
    if found.failed:
        raise typer.Exit(1)


def _verify_stored(
    lake: "LakeServices",
    settings: "Settings",
    markets: list[Market],
    span: TimeRange | None,
    mend: bool,
    as_json: bool,
) -> None:
    from lakehouse.cli.instance import open_instance
    from lakehouse.cli.stored import print_stored, repair, verify_stored

    months = span.months() if span else None

    def meant(cell: Cell | None) -> bool:
        of_market = cell is None or not markets or cell.market is None or cell.market in markets
        return of_market and (cell is None or months is None or cell.date[:7] in months)

    with build_progress(as_json) as progress:
        found = verify_stored(lake, meant, progress.count)
        if mend and not found.is_sound:
            lake.objects.check_writable()
            with open_instance(settings) as instance:
                lake.progress = progress.cell
                repair(lake, instance, found, progress.announce)
    print_stored(found, mend, as_json)
    if not found.is_sound:
        raise typer.Exit(1)


@app.command()
def quality(
    markets: SomeMarkets = None,
    html: Annotated[
        typer.FileTextWrite | None,
        typer.Option(
            encoding="utf-8",
            lazy=False,
            help="Also write one self-contained page, with a map of markets and months.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """What is known of every market and month of silver/candle: rows, gaps by class, disputes, evidence,
    problems, anomalies.
    """
    from lakehouse.cli.quality import print_quality, quality_page
    from lakehouse.ops.quality import lake_quality
    from lakehouse.query.lake import Lake
    from lakehouse.registry import REGISTRY
    from lakehouse.settings import Settings

    reader, now = Lake(Settings().root), datetime.now(UTC)
    report = lake_quality(reader, REGISTRY.table("silver/candle"), _wanted(markets), now)
    if html:
        html.write(quality_page(report, reader.objects.root, now))
    print_quality(report, as_json)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help="A statement over views named zone.table, such as silver.candle")
    ],
    unrestricted: Annotated[
        bool,
        typer.Option(
            "--unrestricted", help="Let it do all that DuckDB can: read and write your own files too."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run SQL over the lake (DuckDB). A statement reads the lake and nothing else, unless you say
    otherwise.
    """
    from lakehouse.query.lake import Lake
    from lakehouse.settings import Settings

    frame = Lake(Settings().root).sql(query, unrestricted)
    if as_json:
        print_json(frame.to_dicts())
    else:
        print_frame("", frame, "add LIMIT")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What is configured, reachable and writable, and which versions run."""
    from lakehouse.cli.report import doctor_rows
    from lakehouse.settings import Settings

    rows = doctor_rows(Settings())
    if as_json:
        print_json(rows)
    else:
        print_table("lakehouse doctor", ["what", "state", "detail"], [list(row.values()) for row in rows])
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(1)


@app.command()
def simulate(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)
    ] = 8900,
    files: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real files, arranged by archive key, served in place of synthetic ones.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="A fault, NAME or NAME=GLOB over archive keys; repeatable. `list` names them."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            help="How many times faster than real time its clock runs, from now on; 86400 makes a second a "
            "day.",
            min=0,
        ),
    ] = 1,
) -> None:
    """Serve a simulated exchange on this machine: archive and REST, deterministic, with faults on request."""
    from lakehouse.simulator import FAULTS, Simulator

    if fault == ["list"]:
        print_table("faults", ["name", "what it does"], list(FAULTS.items()))
        return
    work_begins()
    with Simulator(port=port, files=files, faults=fault or (), speed=speed) as exchange:
        clock = "" if speed == 1 else " LAKEHOUSE_CLOCK=exchange"
        out.print(
            f"Simulated exchange at {exchange.url}; in another shell:\n\n  export "
            f"LAKEHOUSE_BINANCE_ARCHIVE_URL={exchange.url} "
            f"LAKEHOUSE_BINANCE_REST_URL={exchange.url}{clock}\n\nCtrl-C ends it.",
            highlight=False,
        )
        _wait_for_interrupt()


def _wait_for_interrupt() -> None:
    import signal
    import threading

    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    try:
        done.wait()
    except KeyboardInterrupt:
        return


@app.command()
def demo(
    folder: Annotated[
        Path,
        typer.Option(
            help="Where the demo's lake and Dagster instance go, in place of those of an earlier demo."
        ),
    ] = Path("demo"),
    aws: Annotated[
        bool, typer.Option(help="Against S3 and Glue endpoints on this machine, which end with the demo.")
    ] = False,
) -> None:
    """Build three markets over three months from a simulated exchange with faults, and say what was healed
    and how.
    """
    from lakehouse.cli.demo import run_demo

    if not run_demo(folder, aws):
        raise typer.Exit(1)


Host = Annotated[
    str,
    typer.Option(help="Address to listen on; one that others reach only with a token, or --behind-proxy."),
]
Port = Annotated[int, typer.Option(help="Its port.", min=1, max=65535)]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name", help="A further name, NAME or NAME:PORT, under which browsers reach it; repeatable."
    ),
]
Token = Annotated[
    Path | None,
    typer.Option(
        help="File with the token that who comes in must bring; LAKEHOUSE_UI_TOKEN if left out.",
        dir_okay=False,
    ),
]
Proxied = Annotated[
    bool,
    typer.Option(
        "--behind-proxy",
        help="A proxy at --name authenticates every request, and nobody else reaches this address.",
    ),
]


def _door(
    settings: "Settings",
    host: str,
    port: int,
    names: list[str] | None,
    token_file: Path | None,
    is_proxied: bool,
) -> "Door":
    from lakehouse.ui.door import door

    if token_file is not None:
        try:
            token: str | None = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"The token in {token_file} cannot be read: "
                f"{getattr(error, 'strerror', None) or 'it is not text'}."
            ) from error
        if not token:
            raise UsageError(f"There is no token in {token_file}.")  # rather than a UI without one
    else:
        token = settings.ui_token.get_secret_value() if settings.ui_token else None
    learn([token or ""])
    return door(host, port, names or (), token, is_proxied)


@app.command()
def ui(
    port: Port = 3000,
    host: Host = "127.0.0.1",
    name: Names = None,
    token_file: Token = None,
    behind_proxy: Proxied = False,
    demo: Annotated[
        bool, typer.Option(help="Open the demo's lake, with its simulated exchange behind it.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="The demo's folder.")] = Path("demo"),
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open a browser on it as soon as it answers.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show here what its processes and runs say.")
    ] = False,
) -> None:
    """Open Dagster's UI with its daemon: materialize, backfill, sensors.

    On this machine it lets in the user who opened it; others with a token, or what a proxy in front lets
    through.
    """
    from contextlib import nullcontext

    from lakehouse.cli.demo import demo_exchange, demo_settings, require_demo
    from lakehouse.cli.instance import check_port, run_ui
    from lakehouse.settings import Settings

    door = _door(Settings(), host, port, name, token_file, behind_proxy)
    check_port(door)
    if demo:
        require_demo(folder)
    with demo_exchange() if demo else nullcontext() as exchange:
        settings = demo_settings(folder, exchange.url) if exchange else Settings()
        run_ui(settings, door, verbose, open_browser)


@app.command()
def webserver(
    workspace: Annotated[
        list[Path],
        typer.Option(
            help="Workspace file that names the code servers; repeatable.", exists=True, dir_okay=False
        ),
    ],
    port: Port = 3000,
    host: Host = "127.0.0.1",
    name: Names = None,
    token_file: Token = None,
    behind_proxy: Proxied = False,
    read_only: Annotated[bool, typer.Option(help="Show everything, change nothing.")] = False,
) -> None:
    """Serve only the UI, of a deployment whose daemon and code servers run elsewhere: in place of
    `dagster-webserver`, which asks nobody.
    """
    from lakehouse.cli.instance import check_port, open_instance
    from lakehouse.settings import Settings
    from lakehouse.ui.webserver import serve

    settings = Settings()
    door = _door(settings, host, port, name, token_file, behind_proxy)
    check_port(door)
    with open_instance(settings) as instance:
        serve(instance, workspace, door, read_only)


@app.command()
def docs(
    check: Annotated[bool, typer.Option(help="Only tell whether it is current.")] = False,
    path: Annotated[Path, typer.Option()] = Path("docs/tables.md"),
) -> None:
    """Write docs/tables.md out of the declarations."""
    from lakehouse.ops.docs import tables_page
    from lakehouse.registry import REGISTRY

    page = tables_page(REGISTRY)
    if check and (not path.exists() or path.read_text(encoding="utf-8") != page):
        raise LakehouseError(f"{path} is not current: run `lakehouse docs`.")
    if not check:
        try:
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}. Run it in a checkout, or name another file "
                "with --path."
            ) from error
