"""A lake over a small simulated exchange that stands still in June 2024, with its shell in this process."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.planning import TableBuild
from lakehouse.definitions import build_definitions
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline.refresh import Tick
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
START = "2023-12"
BTC, ETH, SOL, ADA = (Market("binance", "spot", f"{base}USDT") for base in ("BTC", "ETH", "SOL", "ADA"))
SHORT = Market("binance", "linear", "XYZUSDT")  # lives for five days around the end of February
MONTHS = ("2024-01", "2024-02", "2024-03")
QUARTER = TimeRange.parse("2024-01", "2024-04")
WITNESS, API = "bronze/candle_witness", "bronze/candle_api"
BRONZE, SILVER, GAP, CONFLICT, HOURS, VWAP = (
    "bronze/candle_archive",
    "silver/candle",
    "silver/gap",
    "silver/conflict",
    "gold/candle_1h",
    "gold/vwap",
)


def listed(market: Market, since: datetime, until: datetime | None = None) -> SimulatedMarket:
    return SimulatedMarket(
        market.market_type,
        market.symbol,
        market.symbol.removesuffix("USDT"),
        "USDT",
        Decimal(100),
        40,
        2,
        3,
        since,
        until,
    )


# A whole February with a day of January and half a day of March: three cells, and little to compute.
LISTED = (
    *(
        listed(market, datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 3, 1, 12, tzinfo=UTC))
        for market in (BTC, ETH, SOL, ADA)
    ),
    listed(SHORT, datetime(2024, 2, 27, 8, tzinfo=UTC), datetime(2024, 3, 3, 6, tzinfo=UTC)),
)


@pytest.fixture(scope="session")
def exchange() -> Iterator[Simulator]:
    """One exchange for all tests, for what it has generated once is served at once."""
    with Simulator(markets=LISTED, now=NOW) as running:
        yield running


@pytest.fixture
def sim(exchange: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """The exchange, for a test to add faults to. A file it refuses is asked for once more, not five times
    over a minute.
    """
    monkeypatch.setattr("lakehouse.sources.files.transport._TRIES", 1)
    exchange.reset_requests()
    yield exchange
    exchange.clear_faults()


@pytest.fixture
def lake(sim: Simulator, tmp_path: Path) -> LakeServices:
    """An empty lake beside the exchange."""
    settings = Settings(
        root=str(tmp_path / "lake"), start=START, binance_archive_url=sim.url, binance_rest_url=sim.url
    )
    seconds = count()  # what is fetched later has a later receipt
    features = tuple(feature for feature in REGISTRY.features if feature.name in (HOURS, VWAP))
    return open_lake(
        settings, replace(REGISTRY, features=features), clock=lambda: NOW + timedelta(seconds=next(seconds))
    )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's instance, in memory."""
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


class Shell:
    """What a test does with the shell: build as the CLI, run as the UI, and look at the events."""

    def __init__(self, lake: LakeServices, instance: dg.DagsterInstance) -> None:
        self.lake = lake
        self.instance = instance
        self.definitions = build_definitions(lake)
        self.job = self.definitions.resolve_implicit_global_asset_job_def()

    def build(self, name: str, markets: Iterable[Market], span: TimeRange = QUARTER) -> dict[str, TableBuild]:
        reports = Builder(self.lake, self.instance).build(self.lake.registry.named(name), list(markets), span)
        return {report.table: report for report in reports}

    def run(self, name: str, cells: Iterable[Cell]) -> list[dg.ExecuteInProcessResult]:
        """Materialize cells of one table, due or not, as the UI does: by ranges."""
        order = self.instance.get_dynamic_partitions(str(MARKETS.name))
        return [
            self._execute(asset_selection=[asset_key(name)], tags=tags)
            for tags, _ in range_tags(cells, order)
        ]

    def _execute(self, **selected: Any) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(instance=self.instance, raise_on_error=False, **selected)

    def events(self, name: str) -> list[dg.AssetMaterialization]:
        """Every materialization event of a table, oldest first."""
        found = self.instance.fetch_materializations(asset_key(name), limit=10_000, ascending=True).records
        return [record.asset_materialization for record in found if record.asset_materialization]

    def check(self, name: str) -> dict[str, dg.AssetCheckEvaluation]:
        """Run the checks of a table; their evaluations by name."""
        keys = {
            spec.key
            for definition in self.definitions.asset_checks or ()
            for spec in definition.check_specs
            if spec.asset_key == asset_key(name)
        }
        subset = self.job.get_subset(asset_selection=set(), asset_check_selection=keys)
        result = subset.execute_in_process(instance=self.instance)
        return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def lake_at(root: Path, sim: Simulator, after: timedelta = timedelta(0)) -> LakeServices:
    """A lake without gold, that far ahead of what its exchange has published."""
    settings = Settings(
        root=str(root), start="2024-04", binance_archive_url=sim.url, binance_rest_url=sim.url
    )
    return open_lake(settings, replace(REGISTRY, features=()), clock=lambda: sim.now + after)


def asked(tick: Tick) -> dict[str, set[Cell]]:
    """What a tick asks for, by table."""
    return {table.name: set(cells) for table, cells in tick.wanted.items()}


@pytest.fixture
def shell(lake: LakeServices, instance: dg.DagsterInstance) -> Shell:
    return Shell(lake, instance)


def grid(markets: Iterable[Market], months: Iterable[str] = MONTHS) -> set[Cell]:
    return {Cell(month, market) for market in markets for month in months}


Versions = Callable[[str], dict[Cell, str]]


@pytest.fixture
def versions(lake: LakeServices) -> Versions:
    """The version of every stored cell of a table."""
    return lambda name: {cell: record.version for cell, record in lake.ledger(name).items()}
