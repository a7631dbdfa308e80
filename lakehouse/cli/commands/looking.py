"""`lakehouse status`, `quality` and `doctor`: commands that look at what there is."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from lakehouse.cli.options import SilverTable, SomeMarkets, wanted_markets
from lakehouse.cli.reporting import Report, frame_of, reporting

commands = typer.Typer()


@commands.command()
@reporting
def status(
    ask: Annotated[
        bool, typer.Option("--ask", help="Also ask each REST API what of this minute's budget is used.")
    ] = False,
    *,
    report: Report,
) -> None:
    """How the lake is, on one screen: tables, markets, checks, queue, sensors, runs, REST budgets."""
    from lakehouse.cli.status import look, print_status
    from lakehouse.opening import open_lake
    from lakehouse.settings import Settings

    settings = Settings()
    print_status(look(open_lake(settings), settings, ask), report)


@commands.command()
@reporting
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
    table: SilverTable = "silver/candle",
    *,
    report: Report,
) -> None:
    """What is known of every market and month of a silver table: rows, gaps by class, disputes, evidence,
    problems, anomalies.
    """
    from lakehouse.cli.quality import print_quality, quality_page
    from lakehouse.ops.quality import archive_files, lake_quality
    from lakehouse.query.lake import Lake
    from lakehouse.registry import REGISTRY
    from lakehouse.settings import Settings

    reader, now = Lake(Settings().root), datetime.now(UTC)
    silver = REGISTRY.dataset(table).silver
    found = lake_quality(reader, silver, wanted_markets(markets, [silver]), now)
    if html:
        files = archive_files(reader, silver, [one.cell for one in found])
        html.write(quality_page(found, reader.objects.root, now, files, silver.name))
    print_quality(found, report, silver.name)


@commands.command()
@reporting
def doctor(*, report: Report) -> None:
    """What is configured, reachable and writable, and which versions run."""
    from lakehouse.cli.report import doctor_rows
    from lakehouse.settings import Settings

    rows = doctor_rows(Settings())
    report.table("lakehouse doctor", frame_of(rows), prose="detail")
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(1)
