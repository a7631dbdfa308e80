"""One of twelve cells fails: eleven stand in every table, the one is named, and the next build mends it."""

import dagster as dg
import pytest

from lakehouse.defs.describe import asset_key
from lakehouse.model.cell import Cell
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator

from .conftest import ADA, BRONZE, BTC, ETH, HOURS, SILVER, SOL, VWAP, Shell, grid

MARKETS = [BTC, ETH, SOL, ADA]
BAD = Cell("2024-02", ETH)
FAULT = "unavailable=*spot/monthly*ETHUSDT-1m-2024-02.zip"
FORGOTTEN = "rest_forgotten=*spot/monthly*ETHUSDT-1m-*"  # else REST would stand in


@pytest.mark.slow
def test_eleven_of_twelve_stand_and_the_next_build_mends_the_one(
    shell: Shell, lake: LakeServices, sim: Simulator
) -> None:
    sim.add_fault(FAULT)
    sim.add_fault(FORGOTTEN)
    reports = shell.build("gold", MARKETS)
    assert list(reports[BRONZE].failed) == [str(BAD)]
    assert "ETHUSDT-1m-2024-02.zip could not be fetched" in reports[BRONZE].failed[str(BAD)]
    assert not any(report.failed for name, report in reports.items() if name != BRONZE)
    for name in (BRONZE, SILVER, HOURS, VWAP):
        assert set(lake.ledger(name)) == grid(MARKETS) - {BAD}
    # The month after the hole is served, and says that its window starts short.
    assert lake.ledger(VWAP)[BAD.shift(1)].inputs["silver/candle@2024-02"] == "none"

    sim.clear_faults()
    sim.add_fault(FORGOTTEN)
    sim.reset_requests()
    mended = shell.build("gold", MARKETS)
    assert not any(report.failed for report in mended.values())
    assert {
        name: set(report.built) for name, report in mended.items() if name in (BRONZE, SILVER, HOURS)
    } == {name: {BAD} for name in (BRONZE, SILVER, HOURS)}
    assert set(mended[VWAP].built) == {BAD, BAD.shift(1)}
    assert {path.rsplit("/", 1)[-1] for _, path in sim.requests if path.endswith(".zip")} == {
        "ETHUSDT-1m-2024-02.zip"
    }
    assert shell.build("gold", MARKETS)[VWAP].built == []


@pytest.mark.slow
def test_a_failed_run_names_its_cells_in_dagster_and_is_not_retried_whole(
    shell: Shell, sim: Simulator
) -> None:
    shell.build(BRONZE, MARKETS[:1])
    shell.instance.add_dynamic_partitions("market", [ETH.key])
    sim.add_fault(FAULT)
    (result,) = shell.run(BRONZE, grid([ETH]))
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data.metadata["cells"].value.keys() == {str(BAD)}
    assert failure.user_failure_data.description.startswith(
        "1 of 3 cells of bronze/candle_archive failed, the others stand"
    )
    assert not [
        event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY
    ]
    assert len([event for event in shell.events(BRONZE) if str(event.partition).endswith(ETH.key)]) == 2


def test_a_run_over_a_hole_fails_for_that_cell_alone(shell: Shell, lake: LakeServices) -> None:
    """As when somebody materializes silver in the UI for cells whose bronze is not there."""
    shell.build(BRONZE, [BTC])
    lake.tables.delete(lake.registry.table(BRONZE), Cell("2024-02", BTC))
    (result,) = shell.run(SILVER, grid([BTC]))
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert (
        "bronze/candle_archive has no cell 2024-02|binance-spot:BTCUSDT yet"
        in failure.user_failure_data.metadata["cells"].value["2024-02|binance-spot:BTCUSDT"]
    )
    assert set(lake.ledger(SILVER)) == {Cell("2024-01", BTC), Cell("2024-03", BTC)}


@pytest.mark.slow
def test_a_broken_step_fails_all_cells_it_had_not_finished(
    shell: Shell, lake: LakeServices, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    """A defect in a feature is reported for its cells; tables beside it are built."""
    feature = lake.registry.table(HOURS)
    monkeypatch.setattr(feature, "compute", classmethod(lambda cls, inputs, window: 1 / 0))
    reports = shell.build("gold", [BTC])
    assert set(reports[HOURS].failed) == {str(cell) for cell in grid([BTC])}
    assert "ZeroDivisionError" in next(iter(reports[HOURS].failed.values()))
    assert set(reports[VWAP].built) == grid([BTC])


@pytest.mark.slow
def test_checks_run_after_failed_cells_too(shell: Shell, sim: Simulator) -> None:
    sim.add_fault(FAULT)
    shell.build(SILVER, [ETH])
    key = dg.AssetCheckKey(asset_key(BRONZE), "schema")
    latest = shell.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    assert latest[key].status.value == "SUCCEEDED"
