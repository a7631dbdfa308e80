"""What `lakehouse backfill` submits: what is due and nothing else, and to a queue alone."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.cli.instance import open_instance
from lakehouse.cli.instances import instance_settings
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.commands import Run, environment, in_process

pytestmark = pytest.mark.slow

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
LIFE = (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 3, 1, 12, tzinfo=UTC))
NAMES = ("BTCUSDT", "ETHUSDT")
LISTED = tuple(
    SimulatedMarket("spot", name, name[:3], "USDT", Decimal(100), 40, 2, 3, *LIFE) for name in NAMES
)
BTC, ETH = (f"binance-spot:{name}" for name in NAMES)
QUARTER = ("--from", "2024-01", "--to", "2024-04")

Backfill = Callable[..., Any]


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(markets=LISTED, now=NOW) as running:
        yield running


@pytest.fixture
def command(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return in_process(tmp_path, environment(tmp_path, sim.url), monkeypatch, capsys)


@pytest.fixture
def backfill(command: Run) -> Backfill:
    def run(table: str, markets: str, *words: str) -> Any:
        done = command("backfill", table, "--markets", markets, *QUARTER, "--format", "json", *words)
        assert done.code == 0, done.err
        return done.json

    return run


def queued() -> list[tuple[set[str], str, str]]:
    """The runs of the instance: their tables, and the first and last partition of their range."""
    with open_instance(Settings()) as instance:
        return [
            (
                {"/".join(key.path) for key in run.asset_selection or ()},
                run.tags["dagster/asset_partition_range_start"],
                run.tags["dagster/asset_partition_range_end"],
            )
            for run in instance.get_runs()
            if run.status.value == "QUEUED"
        ]


def test_only_what_is_due_is_submitted_and_only_once(backfill: Backfill, command: Run) -> None:
    assert command("build", "silver/candle", "--markets", BTC, *QUARTER).code == 0
    said = backfill("gold/vwap", f"{BTC},{ETH}")
    assert [(row["first"], row["last"], row["cells"]) for row in said["runs"]] == [
        (f"2024-01|{BTC}", f"2024-03|{ETH}", 6)
    ], "gold is due of both"
    said = backfill("silver/candle", f"{BTC},{ETH}")
    assert (said["runs"], said["busy"]) == ([], 3), "the runs of gold make these as well"
    ((tables, first, last),) = queued()
    assert (first, last) == (f"2024-01|{BTC}", f"2024-03|{ETH}")
    assert {"bronze/candle_archive", "silver/candle", "gold/vwap"} <= tables
    assert not any(table.startswith("silver/gap") for table in tables)


def test_cells_that_are_stored_are_left_out(backfill: Backfill, command: Run) -> None:
    assert command("build", "silver/candle", "--markets", f"{BTC}", *QUARTER).code == 0
    said = backfill("silver/candle", f"{BTC},{ETH}", "--cells", "2")
    assert [(row["first"], row["last"]) for row in said["runs"]] == [
        (f"2024-01|{ETH}", f"2024-02|{ETH}"),
        (f"2024-03|{ETH}", f"2024-03|{ETH}"),
    ]
    assert "silver/gap" in said["waiting"]
    assert not said["is_taken"], "no daemon runs here"


def test_a_dry_run_changes_nothing(backfill: Backfill) -> None:
    said = backfill("silver/candle", BTC, "--dry-run")
    assert [(row["run"], row["cells"]) for row in said["runs"]] == [("", 3)]
    assert queued() == []
    with open_instance(Settings()) as instance:
        assert instance.get_dynamic_partitions("market") == []


def test_by_force_the_named_tables_are_made_again_and_nothing_above_them(
    backfill: Backfill, command: Run
) -> None:
    assert command("build", "silver/candle", "--markets", BTC, *QUARTER).code == 0
    assert backfill("silver/candle", BTC)["runs"] == []
    said = backfill("silver/candle", BTC, "--force")
    assert [(row["cells"], row["tables"], row["why"]) for row in said["runs"]] == [
        (3, 1, "asked for by force (3 cells)")
    ]
    with open_instance(Settings()) as instance:
        (run,) = (run for run in instance.get_runs() if run.status.value == "QUEUED")
    assert run.tags["lakehouse/force"] == "silver/candle"
    assert run.tags["lakehouse/backfill"] == said["tag"].partition("=")[2]


def test_markets_without_the_table_have_nothing_due(backfill: Backfill) -> None:
    """Funding is of perpetuals; the markets here are spot."""
    said = backfill("gold/funding_carry", BTC)
    assert said["runs"] == []
    assert said["notes"] == [
        f"There is no gold/funding_carry of {BTC}: linear and inverse markets alone have it."
    ]
    assert queued() == []


def test_an_instance_without_a_queue_is_refused(command: Run, tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    settings = instance_settings("machine")
    settings.pop("concurrency")
    settings["run_coordinator"] = {
        "module": "dagster._core.run_coordinator",
        "class": "DefaultRunCoordinator",
    }
    (tmp_path / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))
    done = command("backfill", "silver/candle", "--markets", BTC, *QUARTER)
    assert (done.code, done.out) == (2, "")
    assert "has no queue: its run coordinator is SyncInMemoryRunCoordinator" in done.said
