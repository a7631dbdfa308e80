"""Months of a market that come by REST alone, page by page, killed on the way: what it costs, what is asked
twice, and what a kill leaves behind.

`MONTHS=12 KILLS=10 pytest lakehouse_tests/exchanges/test_bybit_kills.py -s` (`make test-long`) is the longer
form.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lakehouse.exchanges.bybit import _LIMIT
from lakehouse.model.cell import Cell
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.ledger import survey
from lakehouse_tests.commands import environment
from lakehouse_tests.making import at
from lakehouse_tests.test_end_to_end import finish, start_build, versions

MONTHS, KILLS = int(os.environ.get("MONTHS", "2")), int(os.environ.get("KILLS", "3"))
NOW = at("2024-01-01T12:30")
FIRST = f"{2023 - (MONTHS - 1) // 12}-{12 - (MONTHS - 1) % 12:02}"
KEY = "bybit-linear:BTCUSDT"
MARKET = SimulatedMarket(
    "linear", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 150, 1, 3, listed=at("2020-03-30"), exchange="bybit"
)
# whole months, and half a day of the one that is open
BUILD = ("build", "silver", "--markets", KEY, "--from", FIRST, "--to", "2024-02", "--json")
MINUTES = "bronze/candle_api"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator([MARKET], now=NOW) as running:
        yield running


def settings(folder: Path, sim: Simulator) -> dict[str, str]:
    return environment(folder, sim.url) | {"LAKEHOUSE_CLOCK": "exchange", "LAKEHOUSE_START": FIRST}


def asked(sim: Simulator) -> Counter[str]:
    """How often each endpoint was asked."""
    return Counter(urlsplit(path).path.removeprefix("/v5/market/") for _, path in sim.requests)


def pages(sim: Simulator) -> Counter[str]:
    """How many pages of minutes were asked for, by month; the candles beside a month are none."""
    found: Counter[str] = Counter()
    for _, path in sim.requests:
        query = parse_qs(urlsplit(path).query)
        if query.get("interval") == ["1"] and int(query["limit"][0]) > 1:
            begun = at("1970-01-01") + timedelta(milliseconds=int(query["start"][0]))
            found[f"{begun:%Y-%m}"] += 1
    return found


def months(root: Path) -> dict[str, str]:
    """The months of minutes that stand, by their versions."""
    return {cell[:7]: version for cell, version in versions(root)[MINUTES].items()}


@pytest.mark.slow
def test_months_killed_at_any_instant_end_as_ones_that_were_not(tmp_path: Path, sim: Simulator) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    calm, rough = settings(tmp_path / "calm", sim), settings(tmp_path / "rough", sim)
    begun = time.monotonic()
    build = start_build(calm, BUILD)
    while not sim.requests:
        time.sleep(0.02)
    idle = time.monotonic() - begun  # until the first request
    finish(build)
    whole, cost, once = time.monotonic() - begun, asked(sim), pages(sim)
    stored = sum(file.stat().st_size for file in (tmp_path / "calm" / "lake").rglob("*") if file.is_file())
    print(
        f"{MONTHS} months: {whole:.1f} s, of which {idle:.1f} before the first request; requests "
        f"{dict(cost)}; {sim.sent / 1e6:.1f} MB answered, {stored / 1e6:.1f} MB stored, {sim.bybit.busiest} "
        f"requests in the busiest {_LIMIT.seconds:.0f} s"
    )
    assert sim.bybit.busiest <= _LIMIT.requests
    expected = versions(tmp_path / "calm" / "lake")
    assert len(expected["silver/candle"]) == MONTHS + 1

    lake, latest = tmp_path / "rough" / "lake", 0.9 * whole
    standing: dict[str, str] = {}
    left: list[int] = []
    total, tries = Counter[str](), 0
    while len(left) < KILLS:
        tries += 1
        assert tries < 4 * KILLS, "builds end before they can be killed"
        sim.reset_requests()
        build = start_build(rough, BUILD)
        try:
            build.wait(chance.uniform(0.3 * idle, latest))
        except subprocess.TimeoutExpired:
            os.kill(build.pid, signal.SIGKILL)
            build.communicate()
            standing = nothing_is_lost(lake, standing, sim)
            left.append(len(standing))
            total += pages(sim)
        else:
            assert build.returncode == 0, f"seed {seed}"
            shutil.rmtree(lake)  # it got through: begin anew
            standing = {}
    sim.reset_requests()
    finish(start_build(rough, BUILD))
    nothing_is_lost(lake, standing, sim)
    total += pages(sim)
    print(
        f"{KILLS} kills in {tries} builds, behind which {left} months stood; {total.total()} pages of "
        f"minutes, undisturbed {once.total()}; {sim.bybit.busiest} requests in the busiest "
        f"{_LIMIT.seconds:.0f} s"
    )
    assert sim.bybit.busiest <= _LIMIT.requests, "what was killed is counted by what follows it"
    found = versions(lake)
    for table in REGISTRY.tables:
        if table.zone() != "bronze":  # bronze rows carry when they were fetched
            assert found[table.name] == expected[table.name], f"seed {seed}: {table.name}"
        assert found[table.name].keys() == expected[table.name].keys()
        if table.spread != "one":
            assert list(survey(Lake(lake).objects, table)[1]) == [], "nothing in it is foreign"

    sim.advance(timedelta(hours=1))
    # one request of each of its two datasets; of what is known none; the time is asked of no other exchange
    for expected_asked in ({"kline": 1, "funding/history": 1}, {}):
        sim.reset_requests()
        finish(start_build(rough, BUILD))
        assert {name: n for name, n in asked(sim).items() if name != "time"} == expected_asked
    whole_months = {month: version for month, version in standing.items() if month < "2024-01"}
    assert months(lake).items() >= whole_months.items()


def nothing_is_lost(lake: Path, standing: dict[str, str], sim: Simulator) -> dict[str, str]:
    """The months of minutes that stand now: among them all that stood before, of which no page was asked but
    the one that tells what follows the month before.
    """
    now = months(lake)
    assert now.items() >= standing.items()
    again = pages(sim)
    beside = Counter(Cell(month).shift(1).date for month in again)
    assert {month: again[month] for month in standing if again[month] > beside[month]} == {}
    return now
