"""Requests to one API by several processes of a machine, within one limit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.exchanges.api import Budget, RateLimit
from lakehouse.exchanges.bybit import _LIMIT
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.sources.rest.spending import Spending
from lakehouse.sources.rest.tally import Tally
from lakehouse_tests.making import at

URL, FEW = "http://x:1/v5", RateLimit("few", 10, 5.0)
HAMMER = """
import sys
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
client = open_lake(Settings()).clients.of_api("bybit", "linear")
for _ in range(int(sys.argv[1])):
    client.ask(client.api.time_call(), client.api.read_time)
"""


class Clock:
    """One that whoever waits puts forward."""

    def __init__(self) -> None:
        self.now, self.waits = 1000.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def spending(self, home: Path | None) -> Spending:
        return Spending(
            URL, Budget(requests=FEW), self.sleep, lambda: self.now, Tally(URL, home) if home else None
        )


def test_processes_of_one_home_share_a_limit_and_others_do_not(tmp_path: Path) -> None:
    clock = Clock()
    one, other, apart = clock.spending(tmp_path), clock.spending(tmp_path), clock.spending(None)
    for _ in range(4):
        one.admit(1)
        other.admit(1)
        apart.admit(1)
    assert clock.waits == []
    assert (one.used, other.used, apart.used) == ((8, 10), (8, 10), (4, 10))
    apart.admit(1)
    one.admit(1)
    assert clock.waits == [5.5], "four fifths of the limit were used by both"
    with other.sparing(0.1):
        other.admit(1)
    assert clock.waits[1:] == [5.5], "what can wait counts what the other asked"


@pytest.mark.parametrize("kept", [b"", b"[1]", b'{"few": [null]}', b'{"few": 1}', b"\xff", b'{"few": [9e9]}'])
def test_a_file_that_is_none_or_of_another_boot_holds_nobody_up(tmp_path: Path, kept: bytes) -> None:
    clock = Clock()
    (tmp_path / "rest").mkdir()
    file = tmp_path / "rest" / "x_1_v5.json"
    file.write_bytes(kept)
    clock.spending(tmp_path).admit(1)
    assert clock.waits == []
    assert json.loads(file.read_bytes()) == {"few": [1000.0]}


def test_a_home_that_is_not_there_or_not_writable_is_shared_by_nobody(tmp_path: Path) -> None:
    clock = Clock()
    clock.spending(tmp_path / "none").admit(1)
    assert not (tmp_path / "none").exists()
    (tmp_path / "rest").write_text("no folder")
    spending = clock.spending(tmp_path)
    for _ in range(8):
        spending.admit(1)
    assert clock.waits == []
    spending.admit(1)
    assert clock.waits == [5.5], "its own requests count all the same"


def test_a_lake_counts_in_the_home_of_its_dagster(tmp_path: Path) -> None:
    lake = open_lake(Settings(root=str(tmp_path / "lake"), dagster_home=tmp_path))
    lake.clients.of_api("bybit", "spot").spending.admit(1)
    assert [file.name for file in (tmp_path / "rest").glob("*.json")] == ["127_0_0_1_9.json"]


def test_machines_of_one_address_keep_to_a_part_each(tmp_path: Path) -> None:
    lake = open_lake(Settings(root=str(tmp_path / "lake"), dagster_home=tmp_path / "home", machines=4))
    clock, asked = Clock(), lake.clients.of_api("bybit", "spot").spending
    asked._monotonic, asked._sleep = lambda: clock.now, clock.sleep
    for _ in range(40):
        asked.admit(1)
    assert clock.waits == []
    asked.admit(1)
    assert clock.waits == [5.5], "a quarter of four fifths of two hundred"


@pytest.mark.slow
def test_two_processes_ask_within_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = 150
    with Simulator((), now=at("2024-01-01")) as sim:
        monkeypatch.setenv("LAKEHOUSE_BYBIT_REST_URL", sim.url)
        monkeypatch.setenv("LAKEHOUSE_ROOT", str(tmp_path / "lake"))
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        command = [sys.executable, "-c", HAMMER, str(each)]
        both = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]
        assert [process.wait(120) for process in both] == [0, 0]
        assert len(sim.requests) == 2 * each
        # not four fifths of it: what was admitted one after another may arrive at once
        assert sim.bybit.busiest <= _LIMIT.requests < 2 * each
