"""A cell whose content no library can handle fails alone and by name; files without rows are sound; what a
file no longer has is gone.
"""

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakehouse.datasets.candle import CANDLE, CandleArchive
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.klines import KlineFiles
from lakehouse.model.cell import Cell
from lakehouse.model.errors import CellUnreadableError, LakehouseError
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import MarketListing
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.clients import RestClients
from lakehouse.storage.outcome import Failed
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.history import newest, restatements
from lakehouse_tests.making import (
    BTC,
    COIN,
    FEBRUARY,
    HEADER,
    MINUTE,
    NOW,
    ArchiveFolder,
    at,
    facts,
    klines,
    text,
)

from .conftest import Reading, serve

DAY = "2024-02-29"
LINES = klines(DAY, 1440)
MARKET = facts(listed=DAY)
ETH = Market("binance", "spot", "ETHUSDT")
NOTHING = text([HEADER])


# --- one cell that fails --------------------------------------------------------------------------


class FragileFiles(KlineFiles):
    """Its parser raises on the files of one market what libraries raise on content."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Interval.parse("1m"))
        self._error = error

    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        if market == ETH:
            raise self._error
        return super().parse(market, key, csv)


def fragile(url: str, error: BaseException) -> Binance:
    """An exchange with such a parser."""

    class Fragile(Binance):
        files = {CandleArchive.name: FragileFiles(error)}

    return Fragile(url)


def read_three(
    folder: ArchiveFolder, reading: Reading, exchange_of: Callable[[str], Binance], dataset: Any = CANDLE
) -> dict[Cell, Any]:
    cells = [Cell("2024-02", market) for market in (BTC, ETH, COIN)]
    for cell in cells:
        folder.put(DAY, text(LINES), cell.own_market)
    with serve(folder) as sim:
        listings: dict[Market, MarketListing] = {
            cell.own_market: reading.listing(sim, cell) for cell in cells
        }
        found = ingest(dataset, exchange_of(sim.url), cells, listings, {}, {}, reading.objects, lambda: NOW)
        return {
            cell: outcome.error if isinstance(outcome, Failed) else getattr(outcome, "apply", None)
            for cell, outcome in found
        }


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.InvalidOperationError("conversion from `f64` to `decimal[38,10]` failed"),
        pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value"),
        pa.ArrowInvalid("value out of bounds"),
        OverflowError("date value out of range"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_a_library_gives_up_on_fails_its_cell_alone(
    folder: ArchiveFolder, reading: Reading, error: BaseException
) -> None:
    found = read_three(folder, reading, lambda url: fragile(url, error))
    (failed,) = [outcome for outcome in found.values() if isinstance(outcome, LakehouseError)]
    assert isinstance(failed, CellUnreadableError)
    assert found[Cell("2024-02", ETH)] is failed
    assert failed.__cause__ is error, "the trace is kept for whoever looks"
    assert str(failed).startswith(
        f"2024-02|{ETH.key}: what {folder.key(DAY, ETH)} holds could not be handled ({type(error).__name__}: "
        f"{str(error).splitlines()[0]}). "
    )
    assert [change(None).rows.height for change in found.values() if callable(change)] == [1440, 1440]


def test_a_mistake_in_our_own_code_is_no_matter_of_one_cell(folder: ArchiveFolder, reading: Reading) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        read_three(folder, reading, lambda url: fragile(url, TypeError("unsupported operand")))


def test_what_fails_behind_the_file_names_the_cell(folder: ArchiveFolder, reading: Reading) -> None:
    """Judging a month, and joining it to what is stored, are about its content too."""

    def doubt(rows: pl.DataFrame, cell: Cell, *_: Any) -> Any:
        if cell.market == ETH:
            rows.select(pl.lit(1e300).cast(pl.Decimal(38, 10)))
        return {}

    found = read_three(folder, reading, Binance, dataclasses.replace(CANDLE, days_in_doubt=doubt))
    failed = found.pop(Cell("2024-02", ETH))
    assert isinstance(failed, CellUnreadableError)
    assert f"2024-02|{ETH.key}: what it holds could not be handled (InvalidOperationError: " in str(failed)
    assert all(callable(change) for change in found.values())


def test_a_change_that_does_not_fit_what_is_stored_names_the_cell(
    folder: ArchiveFolder, reading: Reading
) -> None:
    change = read_three(folder, reading, Binance)[Cell("2024-02", BTC)]
    folder.put(DAY, text(LINES))
    with serve(folder) as sim:
        reading.ingest(sim)
    stored = reading.tables.get(CandleArchive, FEBRUARY)
    assert stored is not None
    broken = dataclasses.replace(
        stored, rows=stored.rows.with_columns(open=pl.lit(None, pl.Struct({"a": pl.Int8})))
    )
    with pytest.raises(CellUnreadableError, match=rf"2024-02\|{BTC.key}: what it holds could not be handled"):
        change(broken)


# --- files without rows ---------------------------------------------------------------------------


def read(
    reading: Reading, folder: ArchiveFolder, market: MarketFacts | None = MARKET, now: datetime = NOW
) -> CellRecord:
    with serve(folder) as sim:
        record = reading.ingest(sim, at=now, market=market)
        assert record is not None
        assert not reading.is_due(sim, at=now)
    return record


@pytest.mark.parametrize(
    "content",
    [NOTHING, NOTHING[:-1], NOTHING + b"\n", NOTHING + b"\r\n \r\n"],
    ids=["header", "no_newline", "blank_line", "blank_lines"],
)
def test_a_month_of_a_header_alone_is_made_from_its_days(
    reading: Reading, folder: ArchiveFolder, content: bytes
) -> None:
    folder.put("2024-02", content)
    folder.put(DAY, text(LINES))
    record = read(reading, folder)
    assert (record.rows, [(problem.kind, problem.healed_by) for problem in record.facts.problems]) == (
        1440,
        [("short", folder.key(DAY))],
    )
    assert [receipt.outcome for receipt in reading.receipts()] == ["ok", "ok"]
    stored = reading.refine(market=MARKET)
    assert (stored.rows.height, [run.gap_class for run in stored.record.facts.gaps]) == (1440, ["not_listed"])


def test_a_month_and_a_day_of_headers_alone_are_a_gap_and_nothing_fails(
    reading: Reading, folder: ArchiveFolder
) -> None:
    folder.put("2024-02", NOTHING)
    folder.put(DAY, NOTHING)
    record = read(reading, folder)
    assert (record.rows, [receipt.outcome for receipt in reading.receipts()]) == (0, ["ok", "ok"])
    assert [problem.kind for problem in record.facts.problems] == ["short"]
    assert [
        (run.gap_class, run.slot_count)
        for run in reading.refine(market=MARKET).record.facts.gaps
        if run.gap_class != "not_listed"
    ] == [("absent", 1440)]


def test_a_day_of_a_header_alone_beside_good_ones_is_a_gap(reading: Reading, folder: ArchiveFolder) -> None:
    folder.put("2024-02-28", NOTHING)
    folder.put(DAY, text([*LINES, ""]))
    record = read(reading, folder, facts(listed="2024-02-28"))
    assert (record.rows, record.facts.problems) == (1440, ())
    gaps = reading.refine(market=facts(listed="2024-02-28")).record.facts.gaps
    assert [(run.start, run.slot_count) for run in gaps if run.gap_class == "absent"] == [
        (at("2024-02-28"), 1440)
    ]


@pytest.mark.parametrize("period", [DAY, "2024-02"])
@pytest.mark.slow
def test_a_file_that_has_no_rows_any_more_takes_those_it_had(
    reading: Reading, folder: ArchiveFolder, period: str
) -> None:
    folder.put(period, text(LINES))
    first = read(reading, folder)
    folder.put(period, NOTHING)
    second = read(reading, folder, now=NOW + MINUTE)
    third = read(reading, folder, now=NOW + 2 * MINUTE)
    assert (first.rows, second.rows, second.version == third.version) == (1440, 2880, True)
    stored = reading.tables.get(CandleArchive, FEBRUARY)
    assert stored is not None
    assert newest(stored.rows, ("open_time",)).height == 0
    assert set(restatements(stored.rows, ("open_time",))["change"]) == {"removed"}
    assert newest(stored.rows.filter(pl.col("fetched_at") <= NOW), ("open_time",)).height == 1440, (
        "what the lake had then can be told"
    )
    assert reading.refine(market=MARKET).rows.height == 0
    folder.put(period, text(LINES))
    read(reading, folder, now=NOW + 3 * MINUTE)
    assert reading.refine(market=MARKET).rows.height == 1440, "and it comes back"


def test_a_day_without_rows_takes_none_of_another_days_or_sources(
    reading: Reading, folder: ArchiveFolder
) -> None:
    folder.put("2024-02-28", text(klines("2024-02-28", 1440)))
    folder.put(DAY, text(LINES))
    read(reading, folder, facts(listed="2024-02-28"))
    folder.put("2024-02-28", NOTHING)
    read(reading, folder, facts(listed="2024-02-28"), NOW + MINUTE)
    assert reading.refine(market=facts(listed="2024-02-28")).rows["open_time"].min() == at(DAY)
    folder.put("2024-02", text(klines("2024-02-28", 2880)))
    read(reading, folder, facts(listed="2024-02-28"), NOW + 2 * MINUTE)
    assert reading.refine(market=facts(listed="2024-02-28")).rows.height == 2880, "the month has them"


@pytest.mark.parametrize("period", ["2022-02", "2022-02-05"])
def test_of_a_market_whose_one_file_has_no_rows_nothing_is_ruled_out(
    reading: Reading, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch, period: str
) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    folder.put(period, NOTHING)
    with serve(folder) as sim:
        found, failed = discover(
            Binance(sim.url, "http://127.0.0.1:9"),
            [CANDLE],
            [BTC],
            reading.objects,
            RestClients(Binance(sim.url, "http://127.0.0.1:9")),
            lambda: NOW,
        )
    end = at("2022-03-01") if period == "2022-02" else at(period) + timedelta(days=1)
    assert failed == {}
    assert (found[BTC].listed, found[BTC].delisted) == (
        at(period if len(period) == 10 else "2022-02-01"),
        end,
    )
