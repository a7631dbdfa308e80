"""What Dagster is told of cells: one event each, as soon as it stands, with the version that decides what
runs next.
"""

from collections import Counter

import dagster as dg
import pytest

from lakehouse.defs.describe import asset_key
from lakehouse.defs.io_manager import LakeIOManager, cells_output
from lakehouse.defs.partitions import MARKETS, to_cell, to_key
from lakehouse.model.cell import Cell
from lakehouse.model.result import NONE
from lakehouse.ops.saying import EVIDENCE
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator
from lakehouse.storage.outcome import Kept

from .conftest import ADA, BRONZE, BTC, ETH, GAP, HOURS, SHORT, SILVER, VWAP, Shell, Versions, grid


def version_of(event: dg.AssetMaterialization) -> str:
    return (event.tags or {})["dagster/data_version"]


@pytest.mark.slow
def test_every_cell_has_exactly_one_event_with_its_version_row_count_and_uri(
    shell: Shell, lake: LakeServices
) -> None:
    shell.build("gold", [BTC, ETH])
    for table in lake.registry.tables:
        if table.spread == "one":
            continue
        stored, events = lake.ledger(table.name), shell.events(table.name)
        assert Counter(event.partition for event in events) == Counter(
            str(to_key(cell)) for cell in stored
        ), table.name
        by_key = {str(to_key(cell)): record for cell, record in stored.items()}
        for event in events:
            record = by_key[str(event.partition)]
            assert version_of(event) == record.version
            assert event.metadata["dagster/partition_row_count"].value == record.rows
            assert event.metadata["dagster/uri"].value == lake.objects.uri(record.path)
            said = {name: value.value for name, value in event.metadata.items()}
            numbers = {name for name, value in said.items() if isinstance(value, int | float)}
            # the UI draws numbers of all markets into one line
            assert numbers == {"dagster/partition_row_count"}
            assert str(said["took"]).endswith(" s")
            if record.rows:
                first = event.metadata["first rows"]
                assert isinstance(first, dg.TableMetadataValue)
                assert len(first.records) == min(3, record.rows)
        if table.name == SILVER:
            said = {name: value.value for name, value in events[1].metadata.items()}
            assert said["covers"] == "2024-02-01 00:00 to 2024-02-29 23:59 UTC"
            assert (
                said["evidence"] == EVIDENCE["unconfirmed"]
            )  # REST is not asked about markets that have ended
            assert (said["gaps"], said["conflicts"]) == ("complete", "sources agree")


@pytest.mark.slow
def test_a_cell_is_recorded_before_the_next_one_is_computed(shell: Shell, lake: LakeServices) -> None:
    shell.build(BRONZE, [BTC, ETH])
    seen: list[int] = []
    lake.progress = lambda table, cell, outcome: seen.append(len(shell.events(SILVER)))
    shell.run(SILVER, grid([BTC, ETH]))
    assert seen == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_cell_that_is_not_due_logs_its_event_again_and_writes_nothing(
    shell: Shell, lake: LakeServices, versions: Versions, sim: Simulator
) -> None:
    shell.build(HOURS, [BTC])
    cells = grid([BTC])
    for name in (BRONZE, SILVER, HOURS):
        before = {cell: record.etag for cell, record in lake.ledger(name).items()}
        sim.reset_requests()
        assert all(result.success for result in shell.run(name, cells))
        assert {cell: record.etag for cell, record in lake.ledger(name).items()} == before
        assert not [path for method, path in sim.requests if path.endswith(".zip")]
        events = shell.events(name)
        assert Counter(map(version_of, events)) == Counter(dict.fromkeys(versions(name).values(), 2))


@pytest.mark.slow
@pytest.mark.parametrize("month", ["2024-01", "2024-04", "2024-06"])
def test_a_cell_outside_the_markets_life_is_recorded_and_not_stored(
    shell: Shell, lake: LakeServices, month: str
) -> None:
    shell.build(BRONZE, [SHORT])
    for name in (BRONZE, SILVER, HOURS, VWAP):
        assert all(result.success for result in shell.run(name, [Cell(month, SHORT)]))
        assert version_of(shell.events(name)[-1]) == NONE
        assert "note" in shell.events(name)[-1].metadata
        assert Cell(month, SHORT) not in lake.ledger(name)


@pytest.mark.slow
def test_the_months_at_the_ends_of_a_life_are_short_and_whole(shell: Shell, lake: LakeServices) -> None:
    reports = shell.build(HOURS, [SHORT])
    assert set(lake.ledger(HOURS)) == {Cell("2024-02", SHORT), Cell("2024-03", SHORT)}
    assert [record.rows for record in lake.ledger(SILVER).values()] == [16 * 60 + 2 * 1440, 2 * 1440 + 6 * 60]
    assert not any(report.failed for report in reports.values())
    checked = shell.check(SILVER)
    assert checked["gaps"].passed


@pytest.mark.slow
def test_a_market_added_by_hand_becomes_known_when_its_first_cell_is_materialized(
    shell: Shell, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(str(MARKETS.name), [ADA.key])
    assert all(result.success for result in shell.run(BRONZE, [Cell("2024-01", ADA)]))
    assert set(lake.ledger(BRONZE)) == {Cell("2024-01", ADA)}
    (learned,) = shell.events("silver/market")
    assert learned.metadata["dagster/row_count"].value == 1
    assert all(result.success for result in shell.run(SILVER, [Cell("2024-01", ADA)]))


def test_a_key_that_names_no_market_fails_alone(
    shell: Shell, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    """Anyone can add any text as a partition in the UI."""
    instance.add_dynamic_partitions(str(MARKETS.name), [ADA.key, "nonsense", "binance-spot:NOSUCH", BTC.key])
    tags = {
        "dagster/asset_partition_range_start": f"2024-01|{ADA.key}",
        "dagster/asset_partition_range_end": f"2024-01|{BTC.key}",
    }
    result = shell.job.execute_in_process(
        instance=instance, asset_selection=[asset_key(BRONZE)], tags=tags, raise_on_error=False
    )
    assert not result.success
    (failure,) = [
        event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure
    ]
    assert failure.metadata["cells"].value.keys() == {"2024-01|nonsense", "2024-01|binance-spot:NOSUCH"}
    assert set(lake.ledger(BRONZE)) == {Cell("2024-01", ADA), Cell("2024-01", BTC)}

    result = shell.job.execute_in_process(
        instance=instance, asset_selection=[asset_key("silver/market")], raise_on_error=False
    )
    (failure,) = [
        event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure
    ]
    assert failure.metadata["markets"].value.keys() == {"nonsense", "binance-spot:NOSUCH"}
    assert shell.events("silver/market")[-1].metadata["dagster/row_count"].value == 2


def test_materializing_market_asks_about_the_whole_universe_and_fails_plainly_without_one(
    shell: Shell, instance: dg.DagsterInstance, lake: LakeServices
) -> None:
    result = shell.job.execute_in_process(
        instance=instance, asset_selection=[asset_key("silver/market")], raise_on_error=False
    )
    assert not result.success
    assert "no market yet" in str(result.all_events)
    instance.add_dynamic_partitions(str(MARKETS.name), [ADA.key, BTC.key])
    assert shell.job.execute_in_process(
        instance=instance, asset_selection=[asset_key("silver/market")]
    ).success
    assert shell.events("silver/market")[-1].metadata["dagster/row_count"].value == 2


@pytest.mark.slow
def test_a_gap_month_collects_all_markets(shell: Shell, lake: LakeServices, sim: Simulator) -> None:
    sim.add_fault("day_absent=*BTCUSDT-1m-2024-02.zip")
    sim.add_fault("daily_absent=*BTCUSDT-1m-2024-02-*")
    shell.build(SILVER, [BTC, ETH, SHORT])
    assert {cell: record.rows for cell, record in lake.ledger(GAP).items()} == {
        Cell("2024-01"): 2,
        Cell("2024-02"): 2,
        Cell("2024-03"): 3,
    }


@pytest.mark.slow
def test_an_error_that_is_no_finding_ends_the_run_and_keeps_what_stands(
    shell: Shell, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    """A defect in the code is not a bad cell: it is raised, and the cells before it keep their events."""
    shell.build(BRONZE, [BTC])
    cell = Cell("2024-01", BTC)
    record = lake.ledger(BRONZE)[cell]

    def cells():  # type: ignore[no-untyped-def]
        yield cell, Kept(record)
        raise ZeroDivisionError

    @dg.asset(
        key=asset_key(BRONZE),
        partitions_def=dg.StaticPartitionsDefinition(["x"]),
        io_manager_def=LakeIOManager(lake),
    )
    def broken():  # type: ignore[no-untyped-def]
        return cells_output(cells(), {})

    before = len(shell.events(BRONZE))
    assert not dg.materialize([broken], instance=instance, partition_key="x", raise_on_error=False).success
    assert len(shell.events(BRONZE)) == before + 1


def test_keys_and_cells_are_the_same_thing() -> None:
    for cell in (Cell("2024-01", BTC), Cell("2024-01")):
        assert to_cell(to_key(cell)) == cell
