"""One bad cell stops only itself: in a backfill of several markets and tables the good cells reach gold in
the same run, and the bad one is red where it is, with its reason.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from lakehouse.cli.building import Builder
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS
from lakehouse.model.cell import Cell
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse_tests.daemon import Daemon, running_daemon
from lakehouse_tests.making import spot_tables

from .conftest import ADA, API, BRONZE, BTC, ETH, QUARTER, SILVER, VWAP, WITNESS, grid

CHOSEN = [BTC, ETH, ADA]
BAD = Cell("2024-02", ETH)
FAULTS = ("unavailable=*spot/monthly*ETHUSDT-1m-2024-02.zip", "rest_forgotten=*ETHUSDT-1m-*")


@pytest.fixture
def settings(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake of the environment, as the code location of a daemon finds it."""
    named = {"ROOT": str(tmp_path / "lake"), "START": "2023-12", "CLOCK": "exchange"}
    for name, value in (named | {"BINANCE_ARCHIVE_URL": sim.url, "BINANCE_REST_URL": sim.url}).items():
        monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
    return Settings()


@pytest.fixture
def daemon(settings: Settings, tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(tmp_path / "dagster") as running:
        running.instance.add_dynamic_partitions(str(MARKETS.name), [market.key for market in CHOSEN])
        yield running


def failures(instance: dg.DagsterInstance) -> dict[str, dict[str, str]]:
    """The cells that failed, by step, each with its reason."""
    found = {}
    for run in instance.get_runs():
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            assert entry.dagster_event is not None
            said = entry.dagster_event.step_failure_data.user_failure_data
            assert said is not None, entry.dagster_event.step_failure_data.error
            found[str(entry.step_key)] = said.metadata["cells"].value
            assert said.metadata[str(BAD)] == dg.MetadataValue.url(
                f"/assets/{str(entry.step_key).replace('__', '/')}"
                "?view=partitions&partition=2024-02%7Cbinance-spot%3AETHUSDT"
            )
    return found


def written(instance: dg.DagsterInstance) -> dict[str, int]:
    """How many events of cells each table has."""
    keys = [record.asset_entry.asset_key for record in instance.get_asset_records()]
    return {
        key.to_user_string(): len(instance.fetch_materializations(key, limit=1000).records) for key in keys
    }


@pytest.mark.slow
def test_a_backfill_with_one_bad_file_brings_all_else_to_gold_and_is_not_followed_by_another(
    daemon: Daemon, settings: Settings, sim: Simulator, tmp_path: Path
) -> None:
    for fault in FAULTS:
        sim.add_fault(fault)
    lake, instance = open_lake(settings), daemon.instance
    tables, of_months = (spot_tables(lake.registry.tables, spread) for spread in ("market", "all"))
    backfill = daemon.backfill([table.name for table in (*tables, *of_months)], map(str, grid(CHOSEN)))
    daemon.settle(sim.now)

    told = instance.get_backfill(backfill)
    assert told is not None
    assert told.status == BulkActionStatus.COMPLETED_FAILED
    own = [run for run in instance.get_runs() if run.tags.get("dagster/backfill") == backfill]
    of_cells = [run for run in own if asset_key(SILVER) in (run.asset_selection or ())]
    assert all({asset_key(table.name) for table in tables} == run.asset_selection for run in of_cells)
    for table in tables[2:]:  # the first two have their own ends of what REST and files tell
        assert lake.ledger(table.name).keys() == grid(CHOSEN) - (
            {BAD} if table.name != API else grid(CHOSEN) - {BAD}
        )
    # Dagster counts the month of all markets as failed with its one cell, so that is made by itself; then
    # what was written is checked, and that is all
    after = [run.asset_selection for run in instance.get_runs() if run not in own and run.asset_selection]
    assert after == [{asset_key(table.name) for table in of_months}]
    events = written(instance)
    assert {events[table.name] for table in of_months} == {3}
    looks_back = {table.name for table in tables if any(each.lookback for each in table.inputs)}
    assert {events[table.name] for table in tables if table.name not in {WITNESS, API, *looks_back}} == {8}
    assert Cell("2024-04", BTC) not in {*lake.ledger(VWAP)}
    vwap = instance.get_materialized_partitions(asset_key(VWAP))
    assert {str(key)[:7] for key in vwap} == {"2024-01", "2024-02", "2024-03"}

    failed = failures(instance)
    why = failed["bronze__candle_archive"][str(BAD)]
    assert "ETHUSDT-1m-2024-02.zip could not be fetched" in why
    below = [table for table in tables if table.zone() != "bronze"]
    assert failed == {"bronze__candle_archive": {str(BAD): why}} | {
        table.name.replace("/", "__"): {str(BAD): f"{BRONZE} {BAD} failed above in this run: {why}"}
        for table in below
    }

    with dg.DagsterInstance.ephemeral() as other:  # the command says the same, once
        alone = open_lake(Settings(root=str(tmp_path / "other")))
        reports = Builder(alone, other).build(alone.registry.named("gold"), CHOSEN, QUARTER)
    assert {report.table: list(report.failed) for report in reports if report.failed} == {BRONZE: [str(BAD)]}
