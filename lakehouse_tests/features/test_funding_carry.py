"""Carry by funding: a linear and an inverse contract against figures computed by hand, and sums that say what
they lack.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.features.funding_carry import FundingCarry, summed_since
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import at

HOUR = timedelta(hours=1)
CELL = Cell("2024-02", Market("binance", "linear", "BTCUSDT"))


def rates(*rows: tuple[str, float, int | None, str, float | None]) -> pl.DataFrame:
    """Rows of silver: time, rate, interval, who says so, mark price."""
    values = [
        (at(time), rate, hours, told, price, at(time) + timedelta(milliseconds=7), "archive")
        for time, rate, hours, told, price in rows
    ]
    return pl.DataFrame(values, schema=FundingRate.polars_schema(), orient="row")


def carry(rows: pl.DataFrame) -> pl.DataFrame:
    return FundingCarry.conform(FundingCarry.compute({FundingRate.name: rows}, CELL.window), CELL)


def test_a_linear_and_an_inverse_contract_pay_what_was_computed_by_hand() -> None:
    linear = carry(
        rates(
            ("2024-02-01T00:00", 0.0001, 8, "stated", 40_000.0),
            ("2024-02-01T08:00", -0.0002, 8, "stated", 41_000.0),
            ("2024-02-01T12:00", 0.0003, 4, "stated", 42_000.0),
        )
    )
    # 3 payments a day of 0.01 %: 10.95 % a year; 3 of -0.02 %: -21.9 %; 6 of 0.03 %: 65.7 %
    assert linear["annual_rate"].to_list() == pytest.approx([0.1095, -0.219, 0.657], abs=1e-12)
    # short 2 BTC: 2 x 40,000 x 0.0001 - 2 x 41,000 x 0.0002 + 2 x 42,000 x 0.0003 = 8 - 16.4 + 25.2 USDT
    assert linear.select((pl.col("rate") * pl.col("mark_price") * 2).sum()).item() == pytest.approx(16.8)
    inverse = carry(
        rates(
            ("2024-02-01T00:00", 0.0001, 8, "stated", 40_000.0),
            ("2024-02-01T08:00", 0.0005, 8, "before", 50_000.0),
        )
    )
    assert inverse["annual_rate"].to_list() == pytest.approx([0.1095, 0.5475], abs=1e-12)
    # short 100 contracts of 100 USD: 10,000 / 40,000 x 0.0001 + 10,000 / 50,000 x 0.0005 = 0.000125 BTC
    paid = inverse.select((pl.col("rate") * 100 * 100 / pl.col("mark_price")).sum()).item()
    assert paid == pytest.approx(0.000125, abs=1e-15)


def test_a_row_is_knowable_once_its_interval_is() -> None:
    found = carry(
        rates(
            ("2024-02-01T00:00", 0.0001, 8, "after", None),
            ("2024-02-01T08:00", 0.0001, 8, "before", None),
            ("2024-02-01T16:00", 0.0001, None, "unknown", None),
        )
    )
    stamp = timedelta(milliseconds=7)
    assert found["knowable_at"].to_list() == [
        at("2024-02-01T08:00") + stamp,
        at("2024-02-01T08:00") + stamp,
        at("2024-02-01T16:00") + stamp,
    ]
    assert found["annual_rate"].to_list()[2] is None


def test_an_interval_told_by_a_settlement_that_is_not_served_is_knowable_no_earlier() -> None:
    found = carry(
        rates(("2024-02-01T00:00", 0.1, 8, "after", None), ("2024-02-02T08:00", 0.1, 8, "after", None))
    )
    assert (found["knowable_at"] >= pl.Series([at("2024-02-01T08:00"), at("2024-02-02T16:00")])).all()


def test_a_sum_since_an_instant_is_exact_and_says_what_it_lacks() -> None:
    times = [f"2024-02-01T{hour:02d}:00" for hour in (0, 8)] + ["2024-02-02T00:00", "2024-02-02T08:00"]
    rows = carry(rates(*((time, 0.1, 8, "stated", None) for time in times)))
    lost = GapRun("absent", at("2024-02-01T16:00"), at("2024-02-02"), 1)
    early = GapRun("not_listed", at("2024-01-31"), at("2024-02-01"), 3)

    def told(since: datetime, until: datetime = CELL.window.end) -> list[tuple[object, ...]]:
        found = summed_since(rows, since, [early, lost], until)
        return found.select("rate_since", "payment_count", "absent_count").rows()

    assert told(at("2024-02-01T08:00")) == [
        (None, None, None),
        (0.1, 1, 0),
        (0.2, 2, 1),
        (0.3, 3, 1),
    ], "0.1 three times is 0.3, and one settlement between is lost"
    assert told(at("2024-01-15"))[-1] == (0.4, 4, 1)
    assert told(at("2024-01-15"), at("2024-02-02T08:00"))[2:] == [(0.3, 3, 1), (0.4, 4, None)]
    assert told(at("2024-03-01")) == [(None, None, None)] * 4
    nothing = summed_since(rows.clear(), at("2024-02-01"), [], at("2024-02-01"))
    assert nothing.columns[-3:] == ["rate_since", "payment_count", "absent_count"]


MONTHS = ("2024-01", "2024-02", "2024-03")


def stored(folder: Path, gold: Iterable[str] = MONTHS, **facts: CellFacts) -> Lake:
    """A lake of three months of one payment each, of which some have their cell of carry; `january` is what
    the first says of itself.
    """
    store, market = TableStore(LakeObjects(folder)), Market("binance", "linear", "BTCUSDT")
    for month in MONTHS:
        cell = Cell(month, market)
        rows = rates((f"{month}-10T08:00", 0.1, 8, "stated", None))
        told = facts.get(f"{cell.window.start:%B}".lower(), CellFacts(asked_until=cell.window.end))
        made = store.put(FundingRate, cell, CellResult(rows, {}, told))
        if month in gold:
            result = CellResult(carry(rows), {f"silver/funding_rate@{month}": made.version})
            store.put(FundingCarry, cell, result)
    return Lake(folder)


def absent(lake: Lake, since: str) -> list[int | None]:
    return lake.funding_carry("binance-linear:BTCUSDT", since=since)["absent_count"].to_list()


def test_a_month_without_its_carry_is_no_month_in_which_nothing_was_paid(tmp_path: Path) -> None:
    lake = stored(tmp_path, ("2024-01", "2024-03"))
    assert absent(lake, "2024-01") == [0, None]
    assert absent(lake, "2024-02-11") == [None, None]
    assert absent(lake, "2024-03") == [None, 0]
    assert absent(lake, "2023-12") == [None, None], "it may have paid in December"


def test_a_month_that_was_built_while_it_was_open_says_nothing_of_its_rest(tmp_path: Path) -> None:
    lake = stored(tmp_path, january=CellFacts(asked_until=at("2024-01-20")))
    assert absent(lake, "2024-01") == [0, None, None]


def test_what_came_before_the_listing_is_not_unknown(tmp_path: Path) -> None:
    early = GapRun("not_listed", at("2024-01-01"), at("2024-01-10T08:00"), 28)
    lake = stored(tmp_path, january=CellFacts(gaps=(early,), asked_until=at("2024-02-01")))
    assert absent(lake, "2019-05-17") == [0, 0, 0]


def test_what_came_before_a_break_of_the_listing_is_unknown(tmp_path: Path) -> None:
    """REST was asked about a break: there is a settlement before it."""
    early = GapRun("not_listed", at("2024-01-01"), at("2024-01-10T08:00"), 28, asked_at=at("2024-03-01"))
    lake = stored(tmp_path, january=CellFacts(gaps=(early,), asked_until=at("2024-02-01")))
    assert absent(lake, "2019-05-17") == [None, None, None]
