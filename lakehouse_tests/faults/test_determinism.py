"""The same versions, however a lake came to be: day by day, month by month or at once, and on any number of
threads.

All with witness and REST at work over a halt, a hole, and files that are wrong.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.building import Builder
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.faults.lab import BTC, LISTED, lake_at, versions
from lakehouse_tests.making import at

COIN = Market("binance", "inverse", "BTCUSD_PERP")
MARKETS = (
    LISTED,
    SimulatedMarket("inverse", "BTCUSD_PERP", "BTC", "USD", Decimal(45_000), 6_000, 1, 0, LISTED.listed),
)
FAULTS = (
    *(
        "halt=*daily*-1m-2024-02-26.zip",
        "hole=*daily*-1m-2024-02-27.zip",
        "archive_wrong=*daily*-1m-2024-02-28.zip",
        "differing_row=*daily*-1m-2024-02-29.zip",
    ),
    *(
        "halt_misaligned=*daily*-1m-2024-03-02.zip",
        "hole=*daily*-1m-2024-03-03.zip",
        "stale_checksum=*daily*-1m-2024-03-01.zip",
        "interleaved_rows=*monthly*2024-02.zip",
    ),
)
FIRST, NOW = at("2024-02-26T12:30"), at("2024-03-05T12:30")
LIFE = ("2024-02", "2024-04")
THREADS = (1, 2, 8)


def build(root: Path, url: str, now: datetime, *spans: tuple[str, str]) -> dict[str, str]:
    """Build gold in spans, one after another."""
    lake = lake_at(root, url, lambda: now)
    with dg.DagsterInstance.ephemeral() as instance:
        for span in spans:
            reports = Builder(lake, instance).build(
                lake.registry.named("gold"), [BTC, COIN], TimeRange.parse(*span)
            )
            failed = {report.table for report in reports if report.failed}
            # On the day on which a month has one file only, and that is not to be trusted, its archive cell
            # has no source.
            assert failed <= ({"bronze/candle_archive"} if now == at("2024-03-02T12:30") else set())
    return versions(lake)


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """The exchange after the last day; what it publishes, it has published."""
    with Simulator(markets=MARKETS, now=NOW, faults=FAULTS) as running:
        yield running


@pytest.fixture(scope="module")
def at_once(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The versions of a backfill at once."""
    found = build(tmp_path_factory.mktemp("once"), sim.url, NOW, LIFE)
    assert set(sim.faults_hit) == {
        "halt",
        "hole",
        "archive_wrong",
        "differing_row",
        "halt_misaligned",
        "stale_checksum",
        "interleaved_rows",
    }
    assert len(found) == 2 * 2 * (1 + 12) + 2 * 2, (
        "two markets, two months: candles, twelve tables of gold; of one market funding and carry"
    )
    return found


@pytest.mark.slow
def test_month_by_month_in_either_order_is_as_at_once(
    sim: Simulator, at_once: dict[str, str], tmp_path: Path
) -> None:
    months = [("2024-02", "2024-03"), ("2024-03", "2024-04")]
    assert build(tmp_path / "forward", sim.url, NOW, *months) == at_once
    assert build(tmp_path / "backward", sim.url, NOW, *reversed(months)) == at_once


@pytest.mark.slow
def test_day_by_day_is_as_at_once(at_once: dict[str, str], tmp_path: Path) -> None:
    """A lake that was refreshed every day has asked REST for what the archive published only later."""
    with Simulator(markets=MARKETS, now=FIRST, faults=FAULTS) as sim:
        while sim.now <= NOW:
            found = build(tmp_path, sim.url, sim.now, LIFE)
            sim.advance(timedelta(days=1))
    assert found == at_once


@pytest.mark.slow
@pytest.mark.parametrize("threads", THREADS)
def test_any_number_of_threads_gives_the_same_versions(
    sim: Simulator, at_once: dict[str, str], tmp_path: Path, threads: int
) -> None:
    script = f"""
import polars
from pathlib import Path
from lakehouse_tests.faults.test_determinism import LIFE, NOW, build
assert polars.thread_pool_size() == {threads}
build(Path({str(tmp_path)!r}), {sim.url!r}, NOW, LIFE)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"POLARS_MAX_THREADS": str(threads)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert versions(lake_at(tmp_path, sim.url, lambda: NOW)) == at_once
