"""What is a finding, how bad it is, and what is only counted."""

from dataclasses import replace
from datetime import timedelta

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.features.candle import CANDLES
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.model.timerange import TimeRange
from lakehouse.ops.anomalies import CellAnomalies
from lakehouse.ops.findings import (
    check_anomalies,
    check_freshness,
    check_gaps,
    check_reconciliation,
    check_resample,
    families,
    holes,
)
from lakehouse.ops.quality import lake_quality
from lakehouse.ops.saying import gaps_of
from lakehouse.query.engine import connect
from lakehouse.query.lake import Lake
from lakehouse.storage.ledger import Ledger, ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, MINUTE, NOW, at, candles, minutes

ETH = Market("binance", "spot", "ETHUSDT")
MARCH = FEBRUARY.shift(1)
LATE = timedelta(days=2)


def stored(objects: LakeObjects, cells: dict[Cell, CellFacts], rows: int = 3) -> Ledger:
    """Cells with these facts and so many rows, those of their first minutes."""
    for cell, facts in cells.items():
        TableStore(objects).put(
            Candle, cell, CellResult(candles(minutes(f"{cell.date}-01", rows)), {}, facts)
        )
    return ledger(objects, Candle)


def gap(gap_class: str, day: str, count: int = 1440) -> GapRun:
    return GapRun(gap_class, at(day), at(day) + count * MINUTE, count)  # type: ignore[arg-type]


def test_only_days_that_are_absent_are_holes_of_a_complete_run_of_days() -> None:
    days = [
        Cell(day, market)
        for market in (BTC, ETH)
        for day in TimeRange.parse("2024-02-10", "2024-04-01").days()
    ]
    assert (len(days), holes(days)) == (2 * 51, [])
    absent = [Cell("2024-02-29", ETH), Cell("2024-03-01", ETH), Cell("2024-03-20", ETH)]
    assert holes([day for day in days if day not in absent]) == absent
    assert holes(days[:-1]) == []


def test_absence_is_an_error_after_the_grace_and_counted_before(objects: LakeObjects) -> None:
    cells = stored(objects, {FEBRUARY: CellFacts(gaps=(gap("absent", "2024-02-10", 2 * 1440),))})
    said = {now: check_gaps(cells, at(now)) for now in ("2024-02-17T23:59", "2024-02-18", "2024-02-19")}
    assert [(verdict.passed, dict(verdict.counts)) for verdict in said.values()] == [
        (True, {"pending_rows": 2880}),
        (False, {"unproven_rows": 1440, "pending_rows": 1440}),
        (False, {"unproven_rows": 2880}),
    ]
    assert said["2024-02-19"].severity == "error"
    assert [finding.what for finding in said["2024-02-18"].findings] == [
        "1,440 rows absent in 1 run (unproven), the first from 2024-02-10 00:00"
    ]


def test_what_a_file_of_a_month_may_still_have_is_no_error_before_the_month_is_over(
    objects: LakeObjects,
) -> None:
    """A settlement that REST lacks on the second is in the file that appears behind the last."""
    cell = Cell("2024-02", replace(BTC, market_type="linear"))
    lost = GapRun("absent", at("2024-02-02"), at("2024-02-02T08:00"), 1)
    TableStore(objects).put(FundingRate, cell, CellResult(FundingRate.empty(), {}, CellFacts(gaps=(lost,))))
    cells, lake, table = ledger(objects, FundingRate), Lake(objects.root), FundingRate.name
    told = {}
    for now in map(at, ("2024-02-20", "2024-03-07T23:59", "2024-03-08")):
        verdict = check_gaps(cells, now, FundingRate.published)
        (quality,) = lake_quality(lake, FundingRate, (), now)
        said = gaps_of(cells[cell], now, FundingRate.published)
        told[now] = verdict.passed, *lake.gaps(now=now, table=table)["gap_class"], *quality.gaps, said
    pending = (True, "pending", "pending", "1 row absent: 1 pending")
    assert list(told.values()) == [
        pending,
        pending,
        (False, "unproven", "unproven", "1 row absent: 1 unproven"),
    ]
    assert "once their month is 7 days over" in families(FundingRate)["gaps"]


def test_a_halt_is_a_warning_a_conflict_an_error_and_no_listing_nothing(objects: LakeObjects) -> None:
    runs = (gap("not_listed", "2024-02-01"), gap("halt", "2024-02-10", 60), gap("halt", "2024-02-11", 30))
    cells = stored(
        objects,
        {
            FEBRUARY: CellFacts(gaps=runs),
            Cell("2024-02", ETH): CellFacts(gaps=(gap("conflict", "2024-02-12", 2),)),
        },
    )
    verdict = check_gaps(cells, NOW)
    assert [(finding.cell, finding.severity, finding.what.split(",")[0]) for finding in verdict.findings] == [
        ("2024-02|binance-spot:ETHUSDT", "error", "2 rows absent in 1 run (conflict)"),
        ("2024-02|binance-spot:BTCUSDT", "warn", "90 rows absent in 2 runs (halt)"),
    ]
    assert verdict.counts == {"not_listed_rows": 1440, "halt_rows": 90, "conflict_rows": 2}


def test_only_disputes_that_no_proof_decided_are_findings(objects: LakeObjects) -> None:
    cells = stored(
        objects,
        {
            FEBRUARY: CellFacts(conflict_count=1500),
            MARCH: CellFacts(conflict_count=9, unsettled_count=4, gaps=(gap("conflict", "2024-03-02", 1),)),
        },
    )
    verdict = check_reconciliation(cells)
    assert [(finding.cell, finding.severity, finding.what) for finding in verdict.findings] == [
        (str(MARCH), "warn", "4 of 9 disputed keys are decided by no proof; 1 of them are not served")
    ]
    assert verdict.counts == {"settled": 1505, "unsettled": 4, "unserved": 1}
    assert check_reconciliation({FEBRUARY: cells[FEBRUARY]}).passed


def test_the_newest_row_of_each_market_that_trades_is_held_against_the_clock(objects: LakeObjects) -> None:
    cells = stored(
        objects,
        {
            FEBRUARY: CellFacts(),
            MARCH: CellFacts(asked_until=at("2024-03-09")),
            Cell("2024-01", ETH): CellFacts(),
        },
    )
    last = at("2024-03-01T00:02")
    for age, severity in ((LATE, None), (LATE + MINUTE, "warn"), (100 * LATE, "warn")):
        verdict = check_freshness(cells, [ETH], last + age, LATE)
        assert (verdict.cells, verdict.passed, verdict.severity if verdict.findings else None) == (
            1,
            severity is None,
            severity,
        )
    assert verdict.findings[0].cell == str(MARCH)
    assert (
        verdict.findings[0].what
        == "the newest row is of 2024-03-01 00:02, 200 days old; sources answered up to 2024-03-09 00:00"
    )
    assert [finding.cell for finding in check_freshness(cells, [], last, LATE).findings] == [
        "2024-01|binance-spot:ETHUSDT"
    ]


def test_an_empty_newest_month_does_not_hide_the_newest_row(objects: LakeObjects) -> None:
    stored(objects, {MARCH: CellFacts()}, rows=0)
    cells = stored(objects, {FEBRUARY: CellFacts()})
    assert [finding.cell for finding in check_freshness(cells, [], at("2024-03-01"), LATE).findings] == [
        str(FEBRUARY)
    ]
    empty = {MARCH: cells[MARCH]}
    assert check_freshness(empty, [], at("2024-03-02"), LATE).passed, "it may have just begun"
    assert (
        check_freshness(empty, [], at("2024-03-01") + LATE + timedelta(days=1), LATE).findings[0].what
        == "it has no row"
    )


def test_anomalies_are_warned_of_and_counted(objects: LakeObjects) -> None:
    cells = stored(objects, {FEBRUARY: CellFacts(), MARCH: CellFacts(), MARCH.shift(1): CellFacts()})
    verdict = check_anomalies(
        cells,
        {
            FEBRUARY: CellAnomalies("", {"spike": 2, "stale_price": 1}, "2024-02-03 04:05:00+00:00"),
            MARCH: CellAnomalies("", {}),
        },
    )
    assert [(finding.cell, finding.severity, finding.what) for finding in verdict.findings] == [
        (str(FEBRUARY), "warn", "2 spike, 1 stale_price; the first at 2024-02-03 04:05")
    ]
    assert (verdict.cells, verdict.counts) == (2, {"waiting": 1, "spike": 2, "stale_price": 1})


def test_markets_are_told_apart(objects: LakeObjects) -> None:
    cells = stored(objects, {FEBRUARY: CellFacts(), Cell("2024-02", ETH): CellFacts()})
    late = check_freshness(cells, [], NOW, LATE)
    assert {finding.cell for finding in late.findings} == {f"2024-02|{market}" for market in (BTC, ETH)}


def test_two_candles_of_a_minute_and_values_that_some_candles_lack_are_no_wrong_sums(
    objects: LakeObjects,
) -> None:
    """The engine sums them as the tables do: a minute counts once, and a part is no total."""
    times = minutes("2024-02-05", 300)
    rows = candles(sorted([*times, times[100] + timedelta(seconds=40)])).with_columns(
        trade_count=pl.when(pl.int_range(pl.len()) != 7).then("trade_count")
    )
    store = TableStore(objects)
    made = store.put(Candle, FEBRUARY, CellResult(rows, {}))
    inputs = {f"{Candle.name}@{FEBRUARY.date}": made.version}
    for table in CANDLES:
        summed = table.compute({Candle.name: rows}, FEBRUARY.window)
        store.put(table, FEBRUARY, CellResult(summed, inputs))
        connection, files = connect(objects)
        with connection:
            verdict = check_resample(
                connection, files, table, ledger(objects, table), Candle, ledger(objects, Candle), {}
            )
        assert (verdict.cells, verdict.findings) == (1, [])
        assert summed["candle_count"].sum() == 300
        assert summed["trade_count"].null_count() == 1
