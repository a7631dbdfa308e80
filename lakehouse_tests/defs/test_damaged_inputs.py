"""A damaged input makes no cell of less: what is made of many cells fails by the name of the damaged one, and
keeps what it had.
"""

from pathlib import Path

import pytest

from lakehouse.datasets.candle import CANDLE, Candle
from lakehouse.datasets.gap import Gap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import DamagedObjectError, LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.pipeline.by_month import FromDisputes, FromFooters
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.services import LakeServices
from lakehouse.storage.layout import cell_path
from lakehouse.storage.outcome import Built, Failed
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.faults.lab import lake_at
from lakehouse_tests.making import BTC, FEBRUARY, NOW, candles, minutes

ETH = Market("binance", "spot", "ETHUSDT")
MONTH = Cell("2024-02")


@pytest.fixture
def lake(tmp_path: Path) -> LakeServices:
    """A lake with a gap in each of two markets, and in January of one."""
    made = lake_at(tmp_path / "lake", CLOSED, lambda: NOW)
    for cell in (FEBRUARY, Cell("2024-02", ETH), Cell("2024-01", BTC)):
        run = GapRun("absent", cell.window.start.replace(hour=12), cell.window.start.replace(day=2), 720)
        made.tables.put(
            Candle,
            cell,
            CellResult(
                candles(minutes(f"{cell.date}-01", 720)), {}, CellFacts(gaps=(run,), evidence="totals")
            ),
        )
    return made


def made_of(lake: LakeServices, cell: Cell = MONTH) -> CellResult | Exception:
    ((_, outcome),) = FromFooters(lake.registry.gap).make(Inventory(lake), [cell])
    assert isinstance(outcome, Built | Failed)
    return outcome.result if isinstance(outcome, Built) else outcome.error


@pytest.mark.parametrize(
    "kind", ["a flipped bit in the footer", "cut short", "empty", "another market's", "no Parquet"]
)
def test_gaps_of_a_month_are_not_collected_without_a_damaged_cell(lake: LakeServices, kind: str) -> None:
    whole = made_of(lake)
    assert isinstance(whole, CellResult)
    assert whole.rows["symbol"].to_list() == ["BTCUSDT", "ETHUSDT"]
    lake.tables.put(Gap, MONTH, whole)
    path = cell_path(Candle, FEBRUARY)
    body = bytearray(lake.objects.get(path) or b"")
    body[-100] ^= 1
    others = lake.objects.get(cell_path(Candle, Cell("2024-02", ETH))) or b""
    bodies = {
        "a flipped bit in the footer": body,
        "cut short": body[:-200],
        "empty": b"",
        "another market's": others,
        "no Parquet": b"x" * 500,
    }
    lake.objects.put(path, bytes(bodies[kind]))
    outcome = made_of(lake)
    assert isinstance(outcome, LakehouseError), (
        "silver/gap would say that nothing is absent in a market that nobody could read"
    )
    assert path in str(outcome)
    assert isinstance(made_of(lake, Cell("2024-01")), CellResult), "another month is made as ever"
    lake.tables.put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 720)), {}))
    made = made_of(lake)
    assert isinstance(made, CellResult)
    assert made.rows["symbol"].to_list() == ["ETHUSDT"], "a sound cell without a gap has none"


def test_a_stray_object_harms_no_month(lake: LakeServices) -> None:
    lake.objects.put("silver/candle/somewhere/data.parquet", b"x" * 500)
    lake.objects.put(cell_path(Candle, FEBRUARY).replace("month=2024-02", "month=2024-13"), b"x" * 500)
    made = made_of(lake)
    assert isinstance(made, CellResult)
    assert made.rows["symbol"].to_list() == ["BTCUSDT", "ETHUSDT"]


def test_disputes_of_a_month_are_not_collected_without_a_damaged_cell(lake: LakeServices) -> None:
    body = bytearray(lake.objects.get(cell_path(Candle, FEBRUARY)) or b"")
    body[-100] ^= 1
    lake.objects.put(cell_path(Candle, FEBRUARY), bytes(body))
    ((_, outcome),) = FromDisputes(CANDLE).make(Inventory(lake), [MONTH])
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, DamagedObjectError)


def test_a_month_that_only_another_market_has_is_expected_whoever_is_asked_about(lake: LakeServices) -> None:
    has = Inventory(lake, [ETH])
    recipe = FromFooters(lake.registry.gap)
    assert recipe.expected(has) == [Cell("2024-01"), MONTH]
    assert recipe.covered(has, [Cell("2024-01", ETH)]) == [Cell("2024-01")]
