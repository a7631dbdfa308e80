"""`lakehouse demo`: the whole thing at once, against simulated exchanges that misbehave as the real ones do."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse.cli.building import Builder
from lakehouse.cli.console import build_progress, out
from lakehouse.cli.demo_aws import say_catalog, say_trino
from lakehouse.cli.instance import open_instance
from lakehouse.cli.local_aws import local_aws
from lakehouse.cli.local_trino import LocalTrino, missing_for_trino
from lakehouse.cli.planning import TableBuild
from lakehouse.cli.report import print_build
from lakehouse.cli.reporting import Format, Report
from lakehouse.model.errors import DemoFolderError, NoDemoError
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.model.words import count_of
from lakehouse.opening import open_lake
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import DEFAULT_MARKETS, SimulatedMarket, Simulator

BUCKET = "lakehouse-demo"
MARKER = ".lakehouse-demo"
OF_BYBIT = SimulatedMarket("linear", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 150, 1, 3, exchange="bybit")
EXCHANGE_MARKETS = (*DEFAULT_MARKETS, OF_BYBIT)
"""What its exchanges list; the lake has `MARKETS` of it."""
MARKETS = (
    "binance-spot:BTCUSDT",
    "binance-linear:ETHUSDT",
    "binance-inverse:BTCUSD_PERP",
    "bybit-linear:BTCUSDT",  # which has no files, so all of it is asked of its REST API
)
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
# In words that DuckDB and Trino both have; the latter wants to be told which partitions
QUESTION = f"""
SELECT exchange || '-' || market_type || ':' || symbol AS market, count(*) AS hours,
       date_diff('minute', TIMESTAMP '{SPAN[0]} 00:00:00', TIMESTAMP '{SPAN[1]} 00:00:00')
           - sum(candle_count) AS minutes_absent,
       round(min(low), 2) AS low, round(max(high), 2) AS high,
       round(sum(quote_volume) / sum(volume), 2) AS vwap, sum(trade_count) AS trades
FROM gold.candle_1h WHERE month >= '{SPAN[0][:7]}' GROUP BY exchange, market_type, symbol
ORDER BY market
"""
CARRY = """
SELECT exchange || '-' || market_type || ':' || symbol AS market, month, count(*) AS settlements,
       round(100 * sum(rate), 4) AS "paid %", round(100 * avg(annual_rate), 2) AS "a year %"
FROM gold.funding_carry GROUP BY ALL ORDER BY market, month
"""


def demo_exchange() -> Simulator:
    """The demo's exchanges, where it is always the same day."""
    return Simulator(EXCHANGE_MARKETS, faults=tuple(FAULTS), now=NOW)


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
        bybit_rest_url=url,
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


@dataclass(frozen=True)
class Demo:
    """A demo that was shown, while its exchange and its endpoints still answer.

    Attributes:
        settings: Of its lake.
        is_whole: Whether every cell was built, and Trino answered as DuckDB did, where there is one.
        trino: The server; None without AWS, and where there is none on this machine.
    """

    settings: Settings
    is_whole: bool
    trino: LocalTrino | None = None


def run_demo(folder: Path, aws: bool = False) -> bool:
    """Show the demo; True if every cell was built, and two engines agree.

    Args:
        folder: Where it leaves its lake and its Dagster instance, in place of those of an earlier demo.
        aws: Against S3 and Glue endpoints and a Trino server on this machine, which go with the demo.

    Raises:
        DemoFolderError: As `empty_folder`.
        LocalTrinoError: There is a Trino server here, and it does not start.
    """
    with shown_demo(folder, aws) as demo:
        if not aws:
            say_next(folder)
        return demo.is_whole


@contextmanager
def shown_demo(
    folder: Path, aws: bool = False, start_trino: Callable[[Path], LocalTrino] = LocalTrino
) -> Iterator[Demo]:
    """Show the demo, as `run_demo`, and keep all that it started until the end.

    Args:
        folder: As `run_demo`.
        aws: As `run_demo`.
        start_trino: Starts a server in a folder.
    """
    empty_folder(folder)
    started = time.monotonic()
    _say_faults()
    with ExitStack() as kept:
        trino = None
        if aws:
            kept.enter_context(local_aws(BUCKET))
            if not missing_for_trino():  # it starts while the lake is built
                trino = start_trino(Path(kept.enter_context(TemporaryDirectory(prefix="lakehouse-trino-"))))
                kept.callback(trino.stop)
        exchange = kept.enter_context(demo_exchange())
        settings = demo_settings(folder, exchange.url, aws)
        reports = _build(settings)
        retried = sum(
            len(keys) for name, keys in exchange.faults_hit.items() if name in ("error_503", "cut_transfer")
        )
        out.print(
            f"Retried until they came whole: {retried} files that the archive refused at first or cut off.",
            highlight=False,
        )
        lake = Lake(settings.root)
        _say_rest(lake)
        _say_gaps(lake)
        found = lake.sql(QUESTION)
        Report(Format.table).table(
            "One question in SQL: the three months by market, from gold.candle_1h", found
        )
        Report(Format.table).table(
            "What longs paid to shorts by funding, from gold.funding_carry", lake.sql(CARRY)
        )
        is_whole = not any(report.failed for report in reports)
        if aws:
            say_catalog(settings.glue_database)
            is_whole &= say_trino(trino, settings.glue_database, QUESTION, found)
        _say_end(settings, reports, time.monotonic() - started)
        yield Demo(settings, is_whole, trino)


def _say_faults() -> None:
    out.rule("lakehouse demo")
    out.print(
        f"Two simulated exchanges, {len(MARKETS)} markets, {SPAN[0]} to {SPAN[1]}: Bybit has a REST API alone; "
        "Binance has an archive, with these faults:\n"
    )
    for fault, meaning in FAULTS.items():
        out.print(
            f"  {fault.split('=')[0]:<17} {fault.split('=')[1].split('/')[-1].strip('*'):<27} {meaning}",
            highlight=False,
        )
    out.print()


def _build(settings: Settings) -> list[TableBuild]:
    """Build all, and say what came of it."""
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
    return reports


def _say_rest(lake: Lake) -> None:
    for table, each in (("silver.candle", "minute"), ("silver.funding_rate", "settlement")):
        for name, rows in lake.sql(
            "SELECT exchange || '-' || market_type || ':' || symbol, count(*) "
            f"FROM {table} WHERE source = 'api' GROUP BY ALL ORDER BY 1"
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
        market = f"{row['exchange']}-{row['market_type']}:{row['symbol']}"
        out.print(f"{known}: {market} has no {rows} {span}.", highlight=False)
    out.print()


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
