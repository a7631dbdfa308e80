"""Collection is rare while a command starts, and as usual once it works."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal

import dagster as dg
import pytest

from lakehouse.cli.app import app, main
from lakehouse.cli.building import Builder
from lakehouse.cli.collecting import starting, work_begins
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.making import BTC, at

USUAL = gc.get_threshold()
LISTED = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-01-25"))


@pytest.fixture
def builder(tmp_path: object) -> Iterator[Builder]:
    """Over an empty lake beside a simulated exchange."""
    with Simulator(markets=(LISTED,)) as sim, dg.DagsterInstance.ephemeral() as instance:
        settings = Settings(
            root=f"{tmp_path}/lake", start="2024-01", binance_archive_url=sim.url, binance_rest_url=sim.url
        )
        yield Builder(open_lake(settings), instance)


def test_it_is_rare_until_work_begins_and_as_usual_afterwards() -> None:
    with starting():
        assert gc.get_threshold() > USUAL
        assert gc.isenabled(), "rare, not off: a command that never works is bounded too"
        work_begins()
        assert gc.get_threshold() == USUAL
    with pytest.raises(KeyError), starting():
        raise KeyError
    assert gc.get_threshold() == USUAL


@pytest.mark.slow
def test_a_build_works_where_something_is_due_and_nowhere_else(builder: Builder) -> None:
    tables, span = (
        builder._lake.registry.named("bronze/candle_archive"),
        TimeRange.parse("2024-01", "2024-02"),
    )
    with starting():
        assert {len(report.built) for report in builder.build(tables, [BTC], span)} == {1}
        assert gc.get_threshold() == USUAL
    with starting():
        assert {len(report.current) for report in builder.build(tables, [BTC], span)} == {1}
        assert gc.get_threshold() > USUAL


@pytest.mark.parametrize("words", [["docs", "--check"], ["sql", ""], ["no-such-command"]])
def test_a_command_leaves_it_as_it_was(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []
    monkeypatch.setattr("lakehouse.cli.app.app", lambda: (seen.append(gc.get_threshold()), app())[1])
    monkeypatch.setattr(sys, "argv", ["lakehouse", *words])
    with pytest.raises(SystemExit):
        main()
    assert seen[0] > USUAL
    assert gc.get_threshold() == USUAL


@pytest.mark.slow
def test_starting_and_ending_a_process_collect_next_to_nothing() -> None:
    """What is imported lives as long as the process: nothing of it is garbage, and at the end everything goes
    anyway.
    """
    code = """
import atexit, gc
counts = [0, 0, 0]
gc.callbacks.append(lambda phase, info: counts.__setitem__(info["generation"], counts[info["generation"]] + (phase == "start")))
from lakehouse.cli.collecting import starting
with starting():
    import dagster, lakehouse.definitions
    seen = list(counts)
atexit._run_exitfuncs()
print(seen[1] + seen[2], gc.get_freeze_count() > 100_000, len(gc.get_objects()) < 10_000)
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(told[0]) <= 5, "of the older generations; some dozens as usual"
    assert told[1:] == ["True", "True"], "what is frozen is not looked through at the end"
