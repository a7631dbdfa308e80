"""A look that only tells what is due lists what decides it, and comes to the same as one that lists all."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.datasets.candle import CandleArchive
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import NONE, CellFacts
from lakehouse.model.timerange import TimeRange
from lakehouse.simulator import Simulator
from lakehouse.sources.files.listing import MarketListing, list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.tables import CellRecord

pytestmark = pytest.mark.slow

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
BTC = Market("binance", "spot", "BTCUSDT")
SPAN = TimeRange.parse("2024-01", "2024-07")
CELLS = [Cell(month, BTC) for month in SPAN.months()]


def listed(sim: Simulator, made_from: set[str] | None) -> tuple[MarketListing, int]:
    sim.reset_requests()
    exchange = Binance(sim.url, None)
    client = ArchiveClient(exchange.archive_url, exchange.bucket)
    return list_market(client, exchange, CandleArchive.name, BTC, SPAN, NOW, made_from), len(sim.requests)


def record(cell: Cell, inputs: dict[str, str], until: datetime) -> CellRecord:
    facts = CellFacts(asked_until=until)
    return CellRecord(cell, "", "", 0, "", 0, None, None, inputs, CandleArchive.code_version, 0, facts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_same_cells_are_due_by_what_is_enough_to_tell(data: st.DataObject) -> None:
    absent = data.draw(st.lists(st.sampled_from(SPAN.months()[:5]), max_size=2, unique=True))
    with Simulator(now=NOW, faults=[f"monthly_absent=*BTCUSDT-1m-{month}*" for month in absent]) as sim:
        whole, _ = listed(sim, None)
        stored = {}
        for cell in data.draw(st.lists(st.sampled_from(CELLS), unique=True)):
            days = data.draw(st.lists(st.sampled_from(cell.window.days()), max_size=2))
            inputs = {period: whole.state(period) for period in (*whole.primary(cell), *days)}
            for period in data.draw(st.lists(st.sampled_from(sorted(inputs) or [cell.date]), max_size=1)):
                inputs[period] = NONE  # it was not there, or was another version
            stored[cell] = record(cell, inputs, whole.asked_until(cell))
        narrow, _ = listed(sim, {period for one in stored.values() for period in one.inputs})
        for cell in CELLS:
            assert narrow.is_due(cell, stored.get(cell)) == whole.is_due(cell, stored.get(cell)), cell
            assert narrow.asked_until(cell) == whole.asked_until(cell)


def test_daily_files_are_listed_from_the_first_month_that_they_decide() -> None:
    with Simulator(now=NOW) as sim:
        assert not {period for period in listed(sim, set())[0].files if period.startswith("2024-05-")}
        assert "2024-06-13" in listed(sim, set())[0].files, "the month that has no monthly file yet"
        assert "2024-03-01" in listed(sim, {"2024-03", "2024-03-07"})[0].files, "a day was in doubt"
