"""A lake that sensors keep current: three days at the exchange bring what a fresh build would, with as few
runs and requests as that takes.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import to_key
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.tables import CellRecord

from .daemon import running_daemon
from .making import looking_back

BTC, PERP = Market("binance", "spot", "BTCUSDT"), Market("binance", "linear", "ETHUSDT")
LISTED = tuple(
    SimulatedMarket(
        market.market_type,
        market.symbol,
        market.symbol[:3],
        "USDT",
        Decimal(100),
        40,
        2,
        3,
        datetime(2024, 4, 29, tzinfo=UTC),
    )
    for market in (BTC, PERP)
)
NOW = datetime(2024, 6, 2, 9, 30, tzinfo=UTC)
SPAN = TimeRange.parse("2024-04", "2024-07")
# at night, when a day has closed; in the morning, when its file is there; a day later, when both were
DAY, DAYS = timedelta(days=1), 2
STEPS = timedelta(hours=16), timedelta(hours=8), DAY
LATE, OPEN = "2024-04", "2024-06"


@pytest.fixture
def sim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """An exchange whose time is ours to move, named by the environment."""
    with Simulator(markets=LISTED, now=NOW) as running:
        named = {
            "ROOT": str(tmp_path / "lake"),
            "START": "2024-04",
            "BINANCE_ARCHIVE_URL": running.url,
            "BINANCE_REST_URL": running.url,
            "CLOCK": "exchange",
            "REFRESH": "true",
        }
        for name, value in named.items():
            monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
        yield running


def stored(lake: LakeServices) -> dict[tuple[str, Cell], CellRecord]:
    """Every cell of silver and gold."""
    return {
        (table.name, cell): record
        for table in lake.registry.tables
        if table.spread != "one" and table.zone() != "bronze"
        for cell, record in lake.ledger(table.name).items()
    }


def events(instance: dg.DagsterInstance, table: str) -> Counter[str]:
    found = instance.fetch_materializations(asset_key(table), limit=10_000).records
    return Counter(str(record.partition_key) for record in found)


def runs_by_table(instance: dg.DagsterInstance, known: set[str]) -> Counter[str]:
    """How often each table was run since; checks by themselves under the empty name."""
    return Counter(
        key.to_user_string()
        for run in instance.get_runs()
        if run.run_id not in known
        for key in (run.asset_selection or [dg.AssetKey("checks")])
    )


@pytest.mark.slow
def test_three_days_bring_what_a_fresh_build_would_at_the_least_cost(sim: Simulator, tmp_path: Path) -> None:
    lake = open_lake(Settings())
    with running_daemon(tmp_path / "dagster") as daemon:
        Builder(lake, daemon.instance).build(lake.registry.named("gold"), [BTC, PERP], SPAN)
        daemon.settle(sim.now)
        before, known = stored(lake), set(daemon.instance.get_run_ids())
        seen = {
            name: events(daemon.instance, name) for name in (table.name for table in lake.registry.tables)
        }
        sim.reset_requests()
        for step in STEPS:
            sim.advance(step)
            daemon.settle(sim.now)
        asked = Counter(
            next((name for name in ("klines", "fundingRate") if f"/{name}?" in path), "clock and listing")
            for _, path in sim.requests
            if path.startswith(("/api/", "/fapi/"))
        )
        runs = runs_by_table(daemon.instance, known)
        print(
            f"{len(STEPS)} looks in two days, 2 markets: {sum(runs.values())} runs "
            f"{dict(runs)}, REST requests {dict(asked)}"
        )

        # every look the new candles, every day a witness; behind a day that came as a file, the candle before
        assert asked["klines"] == len(LISTED) * (len(STEPS) + DAYS + 1)
        assert 0 < asked["fundingRate"] <= len(STEPS), "of the one perpetual, what was settled since"
        assert runs["bronze/candle_witness"] == DAYS
        assert runs["bronze/candle_archive"] == 3  # a new witness; a new file; both
        assert [
            runs[name] for name in ("bronze/candle_api", "silver/candle", "gold/candle_1h", "gold/vwap")
        ] == [len(STEPS)] * 4
        # a cell of funding that is under way at a look is left to the next
        of_funding = ("bronze/funding_rate_api", "silver/funding_rate", "gold/funding_carry")
        assert {runs[name] for name in of_funding} == {asked["fundingRate"]}
        assert runs["silver/gap"] == len(STEPS) + asked["fundingRate"]
        assert daemon.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])) == []

        now = stored(lake)
        # nothing else was as much as written
        assert {key for key in before if now[key].etag != before[key].etag} == {
            key for key in before if key[1].date == OPEN
        }
        behind = {name for name, _ in looking_back(lake.registry.features, Cell(OPEN, BTC), "2024-07")}
        for name, count in seen.items():
            touched = events(daemon.instance, name) - count
            assert {key[:7] for key in touched if key != "None"} <= (
                {OPEN, "2024-07"} if name in behind else {OPEN}
            )

        # A file of two months ago is replaced: the cells made from it, and no others.
        sim.add_fault(f"reupload=*spot/monthly*{BTC.symbol}-1m-{LATE}.zip")
        sim.advance(DAY)
        daemon.settle(sim.now)
        late = stored(lake)
        rewritten = {
            (name, cell)
            for name, cell in late
            if cell.date != OPEN and late[name, cell].etag != now[name, cell].etag
        }
        hit = Cell(LATE, BTC)
        assert late["silver/candle", hit].version != now["silver/candle", hit].version
        # one close within an hour is another: what candles of hours and days are made into is not due, for
        # their values are the same
        of_candles = [table for table in lake.registry.features if "silver/candle" in table.input_names()]
        of_cell = {"silver/candle", *(table.name for table in of_candles)}
        assert rewritten - {("silver/gap", Cell(LATE))} == {
            *((name, hit) for name in of_cell),
            *looking_back(of_candles, hit, "2024-05"),
            ("gold/microstructure_1h", hit),  # by what it takes of the minutes
        }
        of_silver = {f"silver/candle@{LATE}": late["silver/candle", hit].version}.items()
        assert all(of_silver <= late[name, hit].inputs.items() for name in of_cell - {"silver/candle"})

        fresh = open_lake(Settings(root=str(tmp_path / "fresh")))
        with dg.DagsterInstance.ephemeral() as other:
            Builder(fresh, other).build(fresh.registry.named("gold"), [BTC, PERP], SPAN)
        built = stored(fresh)
        assert {key: record.version for key, record in built.items()} == {
            key: record.version for key, record in late.items()
        }


# --- killed, and in company -----------------------------------------------------------------------

REFRESH = """
import dagster as dg
from lakehouse.cli.instance import open_instance
from lakehouse.definitions import build_definitions
from lakehouse.opening import open_lake
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.settings import Settings
settings = Settings()
job = build_definitions(open_lake(settings)).resolve_implicit_global_asset_job_def()
with open_instance(settings) as instance:
    for tags, _ in range_tags([Cell("2024-06", Market.parse("binance-spot:BTCUSDT"))], instance.get_dynamic_partitions(str(MARKETS.name))):
        print("go", flush=True)
        assert job.execute_in_process(instance=instance, asset_selection=[asset_key("bronze/candle_api")], tags=tags).success
"""


def start_refresh() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", REFRESH], env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_a_refresh_that_is_killed_and_two_at_once_leave_one_valid_cell(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    settings = Settings()
    lake, cell, name = open_lake(settings), Cell(OPEN, BTC), "bronze/candle_api"
    with open_instance(settings) as instance:
        Builder(lake, instance).build([lake.registry.table(name)], [BTC], SPAN)
        sim.advance(timedelta(hours=3))
        killed = start_refresh()
        assert killed.stdout is not None
        killed.stdout.readline()
        time.sleep(random.Random(7).uniform(0, 0.5))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        sim.advance(timedelta(hours=3))
        both = [start_refresh(), start_refresh()]
        assert [one.wait(120) for one in both] == [0, 0]

        record = lake.ledger(name)[cell]
        assert record.last_time == sim.now.replace(minute=0) - timedelta(minutes=1)
        rows = lake.tables.get(lake.registry.table(name), cell)
        assert rows is not None
        assert rows.rows["open_time"].is_unique().all()
        last = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset_key(name), asset_partitions=[str(to_key(cell))]), limit=1
        ).records[0]
        assert last.asset_materialization is not None
        assert (last.asset_materialization.tags or {})["dagster/data_version"] == record.version
