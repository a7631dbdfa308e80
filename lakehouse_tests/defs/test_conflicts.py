"""`silver/conflict` follows what sources say, and is recomputed only for months in which something is
disputed anew.
"""

import pytest

from lakehouse.model.cell import Cell
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.simulator import Simulator

from .conftest import BTC, ETH, SILVER, Shell

CONFLICT = "silver/conflict"


@pytest.mark.slow
def test_disputes_of_all_markets_are_listed_and_follow_the_sources(
    shell: Shell, sim: Simulator, lake: LakeServices
) -> None:
    sim.add_fault("conflicting_rows=*monthly*BTCUSDT-1m-2024-02.zip")
    built = shell.build(SILVER, [BTC, ETH])
    assert [str(cell) for cell in built[CONFLICT].built] == ["2024-01", "2024-02", "2024-03"]
    reader = Lake(lake.objects.root)
    found = reader.conflicts()
    # REST has forgotten these markets, so only precedence decides: the daily file's value before the other
    # one of the monthly file.
    assert (
        found.select("symbol", "variant", "sources", "decided_by", "is_served", "is_settled").rows()
        == [
            ("BTCUSDT", 1, "daily+monthly", "precedence", True, False),
            ("BTCUSDT", 2, "monthly", "precedence", False, False),
        ]
        * 3
    )
    served = reader.candles(BTC, "2024-02", "2024-03").join(
        found.filter("is_served"), on="open_time", suffix="_found"
    )
    assert (served.height, served["close"].to_list()) == (3, served["close_found"].to_list())
    assert reader.conflicts(ETH.key).height == reader.conflicts(BTC, "2024-01", "2024-02").height == 0
    assert reader.conflicts([BTC.key, ETH.key], "2024-02", "2024-03").equals(found)
    assert shell.check(CONFLICT)["schema"].passed
    assert shell.build(SILVER, [BTC, ETH])[CONFLICT].built == []

    sim.add_fault("conflicting_rows=*monthly*ETHUSDT-1m-2024-02.zip")
    again = shell.build(SILVER, [BTC, ETH])
    assert again[CONFLICT].built == [Cell("2024-02")], "the other months have no news"
    assert set(reader.conflicts()["symbol"]) == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.slow
def test_a_month_whose_bronze_is_gone_fails_instead_of_listing_less(
    shell: Shell, sim: Simulator, lake: LakeServices
) -> None:
    sim.add_fault("conflicting_rows=*monthly*BTCUSDT-1m-2024-02.zip")
    shell.build(SILVER, [BTC])
    cell = Cell("2024-02", BTC)
    for dataset in lake.registry.datasets:
        for table in dataset.bronze:
            lake.tables.delete(table, cell)
    lake.tables.delete(lake.registry.table(CONFLICT), Cell("2024-02"))
    (result,) = shell.run(CONFLICT, [Cell("2024-02")])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "bronze/candle_archive" in str(failure.step_failure_data.error)
