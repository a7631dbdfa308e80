"""A lake and a simulated exchange for one fault, built by the product, and what a reader finds in it
afterwards.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import polars as pl

from lakehouse.cli.building import Builder
from lakehouse.cli.planning import TableBuild, meant
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.spending import Spending
from lakehouse_tests.making import at

NOW = at("2024-03-10T12:30:20")
BTC = Market("binance", "spot", "BTCUSDT")
# Listed five days before the month ends: the month has everything a month can have, and little of it.
LISTED = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-02-25"))
MONTHLY, DAILY = "*monthly*BTCUSDT-1m-2024-02.zip", "*daily*BTCUSDT-1m-2024-02-27.zip"
DAYS = 5
ROWS = DAYS * 1440
FEBRUARY = ("2024-02", "2024-03")


@dataclass(frozen=True)
class Found:
    """What a reader finds of one market after builds.

    Attributes:
        rows: Rows of the range, such as candles.
        facts: What the silver cells say of themselves, by month.
        conflicts: Rows of `silver/conflict`.
        rejected: Rows in quarantine.
        exit_code: Of the last build.
        failed: Its failed cells, with the reason.
        versions: Of all silver and gold cells.
        waited: Seconds that the product waited for the REST API.
    """

    rows: pl.DataFrame
    facts: dict[str, CellFacts]
    conflicts: pl.DataFrame
    rejected: int
    exit_code: int
    failed: dict[str, str]
    versions: dict[str, str]
    waited: float

    @property
    def gaps(self) -> list[tuple[str, datetime, int]]:
        """Gaps of the market's life: class, start and slots."""
        return [
            (run.gap_class, run.start, run.slot_count)
            for facts in self.facts.values()
            for run in facts.gaps
            if run.gap_class != "not_listed"
        ]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Kind of each problem, and what healed it."""
        return [
            (problem.kind, problem.healed_by) for facts in self.facts.values() for problem in facts.problems
        ]

    @property
    def evidence(self) -> list[str | None]:
        """Of each month."""
        return [facts.evidence for facts in self.facts.values()]

    @property
    def disputes(self) -> list[tuple[str, str]]:
        """Of each disputed row: the rule, and who states the value that is served."""
        time = self.rows.columns[0]
        return [
            (group["decided_by"][0], _served(group))
            for group in self.conflicts.partition_by(time, maintain_order=True)
        ]


def _served(dispute: pl.DataFrame) -> str:
    served = dispute.filter("is_served")
    return f"{'no row, by ' * served['is_absent'].item()}{served['sources'].item()}" if served.height else ""


@dataclass
class LakeLab:
    """One lake beside some exchange.

    Attributes:
        lake: The lake.
        instance: Dagster's.
        waited: Time spent waiting for the REST API.
        reports: Of the newest build.
    """

    lake: LakeServices
    instance: dg.DagsterInstance
    waited: "Waits"
    reports: list[TableBuild] = field(default_factory=list, init=False)

    def build(
        self, span: tuple[str, str] = FEBRUARY, market: Market = BTC, table: str = "silver/candle"
    ) -> list[TableBuild]:
        """Build as `lakehouse build` does."""
        self.reports = Builder(self.lake, self.instance).build(
            self.lake.registry.named(table), [market], TimeRange.parse(*span)
        )
        return self.reports

    def reader(self) -> Lake:
        """Reads the lake."""
        return Lake(self.lake.objects.root, self.lake.registry)

    def found(
        self, span: tuple[str, str] = FEBRUARY, market: Market = BTC, table: str = "silver/candle"
    ) -> Found:
        """What a reader finds now."""
        reader = self.reader()
        months = TimeRange.parse(*span).months()
        silver = {
            cell: record
            for cell, record in reader.stored(table).items()
            if cell.market == market and cell.date in months
        }
        failed = {
            f"{report.table} {cell}": why for report in self.reports for cell, why in report.failed.items()
        }
        return Found(
            rows=reader.scan(table, market, *span).collect().select(self.lake.registry.table(table).names())
            if table != "silver/candle"
            else reader.candles(market, *span),
            facts={cell.date: record.facts for cell, record in silver.items()},
            conflicts=reader.conflicts(market, *span, table=table),
            rejected=sum(record.reject_count for record in silver.values()),
            exit_code=int(bool(failed)),
            failed=failed,
            versions=self.versions(),
            waited=round(self.waited.seconds, 1),
        )

    def versions(self) -> dict[str, str]:
        """Of all silver and gold cells."""
        return versions(self.lake)

    def due(self) -> list[str]:
        """What the next build of the stored cells would compute."""
        registry, has = self.lake.registry, Inventory(self.lake)
        built = {dataset: list(self.lake.ledger(dataset.archive.name)) for dataset in registry.datasets}
        cells_of = {table: cells for dataset, cells in built.items() for table in dataset.tables}
        every = [cell for cells in built.values() for cell in cells]
        tables = [table for table in recipes(registry) if table.zone() != "gold"]
        return [
            f"{table.name} {cell}"
            for table in tables
            for cell in meant(has, table, cells_of.get(table, every))[1]
        ]

    def bronze_inputs(self, cell: Cell) -> list[str]:
        """The periods of the files that the archive's cell was made from."""
        return [
            name
            for name, state in self.lake.ledger("bronze/candle_archive")[cell].inputs.items()
            if "/" not in name and state != "none"
        ]


@dataclass
class Lab(LakeLab):
    """One lake beside one simulated exchange.

    Attributes:
        sim: The exchange.
    """

    sim: Simulator


class Waits:
    """Waiting for a REST API takes no time here, but the exchange's clock and the client's go on by it.

    Args:
        advance: Puts the exchange's clock forward.
    """

    def __init__(self, advance: Callable[[timedelta], None]) -> None:
        self._advance = advance
        self.seconds = 0.0

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Clients, and what admits their requests, wait so."""
        own = {"sleep": self.sleep, "monotonic": self.monotonic}
        with (
            patch("lakehouse.sources.rest.client.RestClient", partial(RestClient, **own)),
            patch("lakehouse.sources.rest.spending.Spending", partial(Spending, **own)),
        ):
            yield

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.seconds += seconds
        self._advance(timedelta(seconds=seconds))

    def monotonic(self) -> float:
        """A clock that never jumps."""
        return time.monotonic() + self.seconds


@contextmanager
def lab(
    root: Path,
    *faults: str,
    markets: Iterable[SimulatedMarket] = (LISTED,),
    now: datetime = NOW,
    behind: timedelta = timedelta(0),
    start: str = "2023-12",
) -> Iterator[Lab]:
    """A lab.

    Args:
        root: Folder of the lake.
        faults: What goes wrong from the start.
        markets: What the exchange lists.
        now: The instant at which the exchange stands still.
        behind: How far this machine's clock is behind the exchange's.
        start: The first month of the lake.
    """
    with (
        Simulator(markets=markets, now=now, faults=faults) as sim,
        equipped(Waits(sim.advance)) as (instance, waits),
    ):
        yield Lab(lake_at(root, sim.url, lambda: sim.now - behind, start), instance, waits, sim)


@contextmanager
def equipped(waits: Waits) -> Iterator[tuple[dg.DagsterInstance, Waits]]:
    """Runs that are forgotten, and clients that lose no time."""
    with (
        dg.DagsterInstance.ephemeral() as instance,
        waits.in_force(),
        patch("lakehouse.sources.files.transport._TRIES", 1),
    ):
        yield instance, waits


def versions(lake: LakeServices) -> dict[str, str]:
    """The versions that are promised to be equal: of candles and features."""
    tables = [
        table for table in lake.registry.tables if table.spread == "market" and table.zone() != "bronze"
    ]
    return {
        f"{table.name} {cell}": record.version
        for table in tables
        for cell, record in lake.ledger(table.name).items()
    }


def lake_at(root: Path, url: str, clock: Callable[[], datetime], start: str = "2023-12") -> LakeServices:
    """A lake beside an exchange."""
    return open_lake(
        Settings(
            root=str(root),
            start=start,
            binance_archive_url=url,
            binance_rest_url=url,
            bybit_rest_url=url,
        ),
        clock=clock,
    )
