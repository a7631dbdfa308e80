"""`lakehouse demo`: the whole thing at once, against a simulated exchange that misbehaves as the real one
does.
"""

import shlex
import shutil
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.cli.building import Builder
from lakehouse.cli.console import build_progress, out
from lakehouse.cli.instance import open_instance
from lakehouse.cli.local_aws import local_aws
from lakehouse.cli.planning import TableBuild
from lakehouse.cli.report import print_build
from lakehouse.cli.reporting import Format, Report, frame_of
from lakehouse.model.errors import DemoFolderError, NoDemoError
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of
from lakehouse.opening import open_lake
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.aws import aws_client

BUCKET = "lakehouse-demo"
MARKER = ".lakehouse-demo"
MARKETS = ("binance-spot:BTCUSDT", "binance-linear:ETHUSDT", "binance-inverse:BTCUSD_PERP")
SPAN = ("2024-11-01", "2025-02-01")  # spot files change their time unit in the middle of it
LAST_MONTH = "2025-01"
NOW = datetime(2025, 2, 2, 12, tzinfo=UTC)
"""A day after the last month: its files are published, and nothing is late yet."""
FAULTS = {
    "stale_checksum=*/spot/monthly/*BTCUSDT-1m-2024-12*": (
        "the monthly file was replaced, its CHECKSUM was not"
    ),
    "daily_absent=*/spot/daily/*BTCUSDT-1m-2024-12-15*": "and one of that month's daily files does not exist",
    "day_absent=*/spot/monthly/*BTCUSDT-1m-2025-01*": (
        "the monthly file lacks a whole day that its daily file has"
    ),
    "damaged_zip=*/um/monthly/*ETHUSDT-1m-2024-11*": "the zip is damaged although its CHECKSUM is right",
    "duplicated_rows=*/um/monthly/*ETHUSDT-1m-2025-01*": "rows stand twice in the file",
    "monthly_absent=*/cm/monthly/*BTCUSD_PERP-1m-2024-12*": "the month is not published, only its days are",
    "conflicting_rows=*/cm/monthly/*BTCUSD_PERP-1m-2024-11*": (
        "the file has two different values for some minutes"
    ),
    "error_503=*ETHUSDT-1m-2024-12*": "the archive answers 503 twice",
    "cut_transfer=*BTCUSDT-1m-2024-11*": "the transfer is cut in the middle",
    "halt=*/um/monthly/*ETHUSDT-1m-2024-12*": (
        "and trading stopped for 37 minutes: no file and no API has candles of them"
    ),
    "day_absent=*/um/monthly/*ETHUSDT-fundingRate-2024-11*": "the file lacks a day's settlements of funding",
    "funding_lost=*/um/monthly/*ETHUSDT-fundingRate-2024-12*": "and nobody has this one: no file, no API",
}
QUESTION = f"""
SELECT market_type || ' ' || symbol AS market, count(*) AS hours,
       date_diff('minute', TIMESTAMPTZ '{SPAN[0]}', TIMESTAMPTZ '{SPAN[1]}') - sum(candle_count)
           AS minutes_absent,
       round(min(low), 2) AS low, round(max(high), 2) AS high,
       round(sum(quote_volume) / sum(volume), 2) AS vwap, sum(trade_count)::BIGINT AS trades
FROM gold.candle_1h GROUP BY ALL ORDER BY market
"""
CARRY = """
SELECT market_type || ' ' || symbol AS market, month, count(*) AS settlements,
       round(100 * sum(rate), 4) AS "paid %", round(100 * avg(annual_rate), 2) AS "a year %"
FROM gold.funding_carry GROUP BY ALL ORDER BY market, month
"""


def demo_exchange() -> Simulator:
    """The demo's exchange, where it is always the same day."""
    return Simulator(faults=tuple(FAULTS), now=NOW)


def demo_settings(folder: Path, url: str, aws: bool = False) -> Settings:
    """Settings of the demo's lake: in a folder, or in a bucket and a catalog."""
    place = folder.absolute()
    root, glue = (f"s3://{BUCKET}/lake", "lakehouse_demo") if aws else (str(place / "lake"), "")
    return Settings(
        root=root,
        glue_database=glue,
        dagster_home=place / "dagster",
        markets=MARKETS,
        start=SPAN[0],
        end=LAST_MONTH,
        clock="exchange",
        binance_archive_url=url,
        binance_rest_url=url,
    )


def require_demo(folder: Path) -> None:
    """Refuse to open what no demo left in a folder.

    Raises:
        NoDemoError: There is no lake of a demo's.
    """
    lake = folder / "lake"
    if not ((lake / MARKER).exists() and (lake / "silver").is_dir()):
        raise NoDemoError(str(folder))


def empty_folder(folder: Path) -> None:
    """Remove what an earlier demo left in a folder, and mark the places as the demo's.

    The mark is within each place, and so goes with it: a lake that is made later where a demo was removed is
    nobody's to delete.

    Raises:
        DemoFolderError: There is something else, of which nothing was removed; or the folder cannot be
            written.
    """
    places = [folder / "lake", folder / "dagster"]
    try:
        for place in places:
            if (
                place.exists()
                and not (place / MARKER).exists()
                and (not place.is_dir() or any(place.iterdir()))
            ):
                raise DemoFolderError(
                    str(place),
                    "it was not made by a demo, or by an earlier version's",
                    ", or remove it by hand if nothing in it is needed",
                )
        for place in places:
            if place.exists():
                shutil.rmtree(place)
            place.mkdir(parents=True)
            (place / MARKER).touch()
    except OSError as error:
        raise DemoFolderError(str(folder), error.strerror or str(error)) from error


def run_demo(folder: Path, aws: bool = False) -> bool:
    """Run the demo; True if every cell was built.

    Args:
        folder: Where it leaves its lake and its Dagster instance, in place of those of an earlier demo.
        aws: Against S3 and Glue endpoints on this machine, which go with the demo.

    Raises:
        DemoFolderError: As `empty_folder`.
    """
    empty_folder(folder)
    started = time.monotonic()
    out.rule("lakehouse demo")
    out.print(
        f"A simulated exchange with {len(MARKETS)} markets, {SPAN[0]} to {SPAN[1]}, and these faults in its "
        "archive:\n"
    )
    for fault, meaning in FAULTS.items():
        out.print(
            f"  {fault.split('=')[0]:<17} {fault.split('=')[1].split('/')[-1].strip('*'):<27} {meaning}",
            highlight=False,
        )
    out.print()
    with local_aws(BUCKET) if aws else nullcontext(), demo_exchange() as exchange:
        settings = demo_settings(folder, exchange.url, aws)
        lake = open_lake(settings)
        with open_instance(settings) as instance, build_progress() as progress:
            lake.progress = progress.cell
            builder = Builder(lake, instance, progress.announce)
            reports = builder.build(
                lake.registry.named("gold"), [Market.parse(key) for key in MARKETS], TimeRange.parse(*SPAN)
            )
            builder.report_quality()
        out.print()
        print_build(lake.objects, lake.registry, reports, Report(Format.table))
        retried = sum(
            len(keys) for name, keys in exchange.faults_hit.items() if name in ("error_503", "cut_transfer")
        )
        out.print(
            f"Retried until they came whole: {retried} files that the archive refused at first or cut off.",
            highlight=False,
        )
        _say_rest(Lake(settings.root))
        _say_gaps(Lake(settings.root))
        Report(Format.table).table(
            "One question in SQL: the three months by market, from gold.candle_1h",
            Lake(settings.root).sql(QUESTION),
        )
        Report(Format.table).table(
            "What longs paid to shorts by funding, from gold.funding_carry", Lake(settings.root).sql(CARRY)
        )
        if aws:
            _say_catalog(settings.glue_database)
        _say_end(settings, reports, time.monotonic() - started)
    if not aws:
        say_next(folder)
    return not any(report.failed for report in reports)


def _say_rest(lake: Lake) -> None:
    for table, each in (("silver.candle", "minute"), ("silver.funding_rate", "settlement")):
        for name, rows in lake.sql(
            f"SELECT market_type || ' ' || symbol, count(*) FROM {table} WHERE source = 'api' GROUP BY ALL "
            "ORDER BY 1"
        ).rows():
            out.print(
                f"Asked of the REST API, for no file has them: {count_of(rows, each)} of {name}.",
                highlight=False,
            )


def _say_gaps(lake: Lake) -> None:
    for row in lake.scan("silver/gap").collect().sort("start_time").iter_rows(named=True):
        known = (
            "Proven, by the REST API's candles on both sides and none between"
            if row["gap_class"] == "halt"
            else "Not healed, and said so"
        )
        rows, each = (
            ("candles", "minute") if row["table_name"] == "silver/candle" else ("funding", "settlement")
        )
        span = (
            f"from {row['start_time']:%Y-%m-%d %H:%M} to {row['end_time']:%Y-%m-%d %H:%M} "
            f"({count_of(row['slot_count'], each)}, class {row['gap_class']})"
        )
        out.print(f"{known}: {row['market_type']} {row['symbol']} has no {rows} {span}.", highlight=False)
    out.print()


def _say_catalog(prefix: str) -> None:
    glue, rows = aws_client("glue"), []
    for database in (f"{prefix}_silver", f"{prefix}_gold"):
        for table in glue.get_tables(DatabaseName=database)["TableList"]:
            pages = glue.get_paginator("get_partitions").paginate(
                DatabaseName=database, TableName=table["Name"]
            )
            rows.append(
                {
                    "database": database,
                    "table": table["Name"],
                    "columns": len(table["StorageDescriptor"]["Columns"]),
                    "partitions": sum(len(page["Partitions"]) for page in pages),
                }
            )
    Report(Format.table).table("Registered in Glue", frame_of(rows))


def _say_end(settings: Settings, reports: list[TableBuild], seconds: float) -> None:
    built, failed = (
        sum(len(set(report.built)) for report in reports),
        sum(len(report.failed) for report in reports),
    )
    out.print(
        f"{count_of(built, 'cell')} built, {failed} failed, in {seconds:.1f} s. The lake: {settings.root}. "
        "Every run and cell is recorded in Dagster.\n",
        highlight=False,
    )


def say_next(folder: Path) -> None:
    """Say what to do with the demo's lake."""
    lakehouse = own_command()
    for what, how in (
        (
            "Open the UI:",
            f"{lakehouse} ui --demo --folder {shlex.quote(str(folder))}        then http://127.0.0.1:3000",
        ),
        (
            "Ask in SQL:",
            f'LAKEHOUSE_ROOT={shlex.quote(str(folder / "lake"))} {lakehouse} sql "SELECT * FROM silver.gap"',
        ),
        (
            "Read in Python:",
            f'Lake("{folder}/lake").candles("{MARKETS[0]}", "2024-12-01", "2025-01-01", interval="1h")',
        ),
    ):
        out.print(f"{what:<17} {how}", highlight=False, soft_wrap=True)


def own_command() -> str:
    """How this command is typed again: by its name where the shell finds it, else as it was typed."""
    typed = Path(sys.argv[0])
    if typed.name == "__main__.py":
        return f"{Path(sys.executable).name} -m lakehouse"
    found = shutil.which("lakehouse")
    if typed.name != "lakehouse" or (found and typed.exists() and Path(found).samefile(typed)):
        return "lakehouse"
    return shlex.quote(sys.argv[0])
