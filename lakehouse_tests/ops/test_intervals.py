"""The newest row of a market is held against the interval that its exchange states, where that says something
of it.
"""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.datasets.market import Listing, MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.terms import Terms
from lakehouse.ops.findings import Verdict
from lakehouse.ops.intervals import check_intervals
from lakehouse.storage.asked import note_scanned
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import at

PERP = Market("binance", "linear", "BTCUSDT")
LAST = at("2024-03-01T08:00")
HOUR = timedelta(hours=1)


def verdict(
    root: Path,
    hours: int | None = 8,
    stated: float | None = 8.0,
    asked: datetime | None = LAST + HOUR,
    times: tuple[datetime, ...] = (LAST - 8 * HOUR, LAST),
) -> Verdict:
    """What is found of one market, in a month after another one with another interval."""
    objects = LakeObjects(str(root))
    store = TableStore(objects)
    for month, instants, told in (("2024-02", (LAST - 48 * HOUR,), 1), ("2024-03", times, hours)):
        rows = pl.DataFrame(
            {
                "funding_time": list(instants),
                "published_time": list(instants),
                "rate": [0.0001] * len(instants),
                "interval_hours": [told] * len(instants),
                "interval_source": ["before"] * len(instants),
                "mark_price": [None] * len(instants),
                "source": ["api"] * len(instants),
            },
            FundingRate.polars_schema(),
        )
        store.put(FundingRate, Cell(month, PERP), CellResult(rows, {}, CellFacts()))
    listing = Listing(PERP, "exchange_info", "names", terms=Terms(funding_interval_hours=stated))
    store.put(MarketTable, None, CellResult(market_frame([listing]), {}, CellFacts()))
    if asked:
        note_scanned(objects, ["binance"], asked)
    stored = ledger(objects, FundingRate)
    return check_intervals(objects, FundingRate, stored, "interval_hours")


@pytest.mark.parametrize(("hours", "stated"), [(4, 8.0), (8, 4.0), (None, 8.0)])
def test_another_interval_than_the_exchange_states_is_a_warning(
    tmp_path: Path, hours: int | None, stated: float
) -> None:
    found = verdict(tmp_path, hours, stated)
    (finding,) = found.findings
    assert (finding.cell, finding.severity) == ("2024-03|binance-linear:BTCUSDT", "warn")
    assert ("is not told" if hours is None else f"is {hours} h") in finding.what
    assert f"states {stated:g} h" in finding.what


def test_the_interval_that_the_exchange_states_is_right(tmp_path: Path) -> None:
    found = verdict(tmp_path)
    assert found.passed
    assert (found.cells, found.counts) == (1, {"unstated": 0})


@pytest.mark.parametrize(
    "changed",
    [
        {"stated": None},
        {"asked": None},
        {"asked": LAST - HOUR},
        {"asked": LAST + 25 * HOUR},
    ],
    ids=["nothing is stated", "nobody was asked", "stated before the row", "stated long after the row"],
)
def test_a_statement_that_says_nothing_of_the_newest_row_is_no_finding(
    tmp_path: Path, changed: dict[str, None]
) -> None:
    found = verdict(tmp_path, 4, **changed)
    assert found.passed
    assert (found.cells, found.counts) == (0, {"unstated": 1})


def test_a_month_without_rows_leaves_the_newest_row_to_the_one_before(tmp_path: Path) -> None:
    found = verdict(tmp_path, stated=8.0, asked=LAST - 47 * HOUR, times=())
    assert [finding.cell for finding in found.findings] == ["2024-02|binance-linear:BTCUSDT"]
