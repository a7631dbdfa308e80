"""What was told as wrong has ended once it is mended by hand, with the command that the message names."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.stored import check_again, repair, verify_stored
from lakehouse.cli.verifying import verify
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops import alerts
from lakehouse.ops.alerts import QUIET
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse_tests.making import at
from lakehouse_tests.webhook import Webhook, listening

from .conftest import BTC, NOW, SILVER, Shell, listed
from .night import Night

pytestmark = pytest.mark.slow


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One that remembers ticks, too."""
    with dg.instance_for_test() as opened:
        yield opened


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with listening() as hook:
        yield hook


@pytest.fixture
def night(shell: Shell, webhook: Webhook) -> Night:
    return Night(shell, webhook)


def test_a_conflict_and_its_quarantine_are_over_once_verify_has_asked(
    webhook: Webhook, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Two values of a minute in one file, nobody else to ask: then REST answers again."""
    may = TimeRange.parse("2024-05", "2024-06")
    faults = ("conflicting_rows=*monthly*BTCUSDT-1m-2024-05.zip", "daily_absent=*BTCUSDT-1m-2024-05*")
    with Simulator(markets=(listed(BTC, at("2024-05-28")),), now=NOW, faults=faults) as exchange:
        exchange.add_fault("rest_forgotten=*BTCUSDT*")
        settings = Settings(
            root=str(tmp_path),
            start="2024-05",
            binance_archive_url=exchange.url,
            binance_rest_url=exchange.url,
        )
        night = Night(Shell(open_lake(settings, clock=lambda: exchange.now), instance), webhook)
        night.look()
        night.shell.build(SILVER, [BTC], may)
        night.look()
        told = night.told("check failed")
        assert "(conflict)" in told["cause"]
        assert night.told("quarantine growth")["what"].endswith(f"2024-05|{BTC}")
        exchange.clear_faults()
        for fault in faults:
            exchange.add_fault(fault)
        words = told["command"].split()
        assert words[:2] == ["lakehouse", "verify"]
        assert not verify(night.shell.lake, instance, [BTC], may, budget=1000).failed
        for _ in range(2):
            night.look()
            night.look(QUIET[alerts.CHECK_FAILED])
    for kind in ("check failed", "quarantine growth"):
        assert [message["type"] for message in webhook.of(kind)] == ["failure", "success"], kind


def test_damage_is_told_once_it_was_found_and_its_end_once_it_is_repaired(
    night: Night, sim: Simulator
) -> None:
    """Also of what no cell is made of any more, and whose repair writes none."""
    lake, instance = night.shell.lake, night.shell.instance
    night.shell.build(SILVER, [BTC])
    cell, landed = (
        next(
            found.path
            for found in lake.objects.list(folder)
            if "BTCUSDT" in found.path and ends in found.path
        )
        for folder, ends in ((SILVER, "month=2024-02"), ("landing", "2024-02.zip"))
    )

    def look_at_bytes(mends: bool) -> None:
        found = verify_stored(lake, lambda _: True, lambda _: None)
        if mends:
            repair(lake, instance, found, lambda table, count: None)
        check_again(lake, instance, found)
        night.look()

    for path in (landed, cell):
        body = bytearray(lake.objects.get(path) or b"")
        body[len(body) // 2] ^= 1
        lake.objects.put(path, bytes(body))
        look_at_bytes(mends=False)
        assert path in night.webhook.of("check failed")[-1]["message"]
        assert "command: lakehouse verify --stored" in night.webhook.of("check failed")[-1]["message"]
        look_at_bytes(mends=True)
        night.look(QUIET[alerts.CHECK_FAILED])
        assert night.webhook.of("check failed")[-1]["type"] == "success"
    assert [one["type"] for one in night.webhook.of("check failed")] == ["failure", "success"] * 2
