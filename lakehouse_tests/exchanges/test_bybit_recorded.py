"""What others recorded of Bybit, put into the form of its answers: candles of a minute make its own coarser
ones, and funding rates of three years space themselves.

The recordings of candles have no seventh field: what is made of it is left out.
"""

import gzip
import zipfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleApi, CandleWitness, refine
from lakehouse.datasets.dataset import ApiTable, BronzeCell
from lakehouse.datasets.funding_rate import FundingRate, FundingRateApi
from lakehouse.datasets.funding_rate import refine as refine_rates
from lakehouse.exchanges.bybit import Bybit
from lakehouse.model.cell import Cell
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.result import Asked, CellFacts
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.resample import resample
from lakehouse_tests.making import at, facts

SHARED = ["open_time", "open", "high", "low", "close", "volume"]
NOW = at("2025-07-10")
Row = list[str]


def milliseconds(instant: datetime) -> str:
    return str(int(instant.timestamp() * 1000))


def read(table: type[ApiTable], market: Market, rows: Sequence[Any]) -> pl.DataFrame:
    """Rows in the form of an answer, newest first, as they are read and given their lineage."""
    inner = {"category": market.market_type, "symbol": market.symbol, "list": list(rows)[::-1]}
    frame = Bybit.pages[table.name].read(market, {"retCode": 0, "result": inner})
    return frame.sort(table.time).with_columns(
        source=pl.lit("api"),
        source_file=pl.lit("recorded"),
        source_sha256=pl.lit("0" * 64),
        fetched_at=pl.lit(NOW).cast(UTC_TIME),
        is_removed=pl.lit(False),
    )


def bronze(rows: pl.DataFrame, span: TimeRange) -> BronzeCell:
    """A cell of rows that were asked for over a range."""
    asked = (Asked(span.start, span.end, NOW, "rows"),)
    return BronzeCell(rows, "v", CellFacts(asked=asked, asked_until=span.end))


def recorded(folder: Path, symbol: str, minutes: int) -> list[Row]:
    """Candles of `bybit_linear_rest`, with a turnover of nothing in place of the one that is not recorded."""
    body = gzip.decompress((folder / "bybit_linear_rest" / f"{symbol}_{minutes}m.csv.gz").read_bytes())
    lines = [line.split(",") for line in body.decode().splitlines()[1:]]
    return [[milliseconds(datetime.fromisoformat(time)), *values, "0"] for time, *values in lines]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT"])
def test_recorded_minutes_make_its_own_coarser_candles_and_its_hours_confirm_them(
    real_data: Path, symbol: str
) -> None:
    market = Market("bybit", "linear", symbol)
    without = pl.lit(None, pl.Float64).alias("quote_volume")
    fine = read(CandleApi, market, recorded(real_data, symbol, 1)).with_columns(without)
    hours = read(CandleWitness, market, recorded(real_data, symbol, 60)).with_columns(without)
    cell = Cell("2025-06", market)
    span = TimeRange(at("2025-06-01"), at("2025-06-29T16:00"))
    within = pl.col("open_time").is_between(span.start, span.end, closed="left")
    result = refine(
        {
            CandleApi.name: bronze(fine.filter(within), span),
            CandleWitness.name: bronze(hours.filter(within), span),
        },
        cell,
        facts(market),
    )
    served = Candle.conform(result.rows, cell)
    assert (served.height, result.rejected.height if result.rejected is not None else 0) == (41_280, 0)
    assert (result.facts.gaps, result.facts.contradictions, result.facts.evidence) == ((), (), "totals")
    compared = Counter[int]()
    for minutes in (5, 15, 30, 60, 240):
        theirs = read(CandleWitness, market, recorded(real_data, symbol, minutes)).select(SHARED)
        ours = resample(fine, Interval(f"{minutes}m", minutes))
        whole = ours.filter(pl.col("candle_count") == minutes).select(SHARED)
        both = theirs.join(whole.select("open_time"), on="open_time", how="semi")
        assert whole.join(both.select("open_time"), on="open_time", how="semi").equals(both), minutes
        compared[minutes] = both.height
    assert compared == {5: 8639, 15: 2879, 30: 1439, 60: 719, 240: 179}


def test_a_recorded_day_of_spot_is_whole(real_data: Path) -> None:
    market, day = Market("bybit", "spot", "BTCUSDT"), at("2022-12-13")
    path = real_data / "quantconnect_lean" / "crypto__bybit__minute__btcusdt__20221213_trade.zip"
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        lines = [line.split(",") for line in archive.read(name).decode().splitlines()]
    rows = [[milliseconds(day + int(ms) * timedelta(milliseconds=1)), *rest, "0"] for ms, *rest in lines]
    span, cell = TimeRange(day, day + timedelta(days=1)), Cell("2022-12", market)
    fine = read(CandleApi, market, rows).with_columns(pl.lit(None, pl.Float64).alias("quote_volume"))
    result = refine({CandleApi.name: bronze(fine, span)}, cell, facts(market, listed="2022-12-13"))
    served = Candle.conform(result.rows, cell)
    assert (served.height, served["volume"].null_count(), served["trade_count"].null_count()) == (
        1440,
        0,
        1440,
    )
    assert [gap.gap_class for gap in result.facts.gaps] == ["not_listed"]


def test_three_years_of_recorded_funding_are_spaced_by_eight_hours(real_data: Path) -> None:
    market = Market("bybit", "linear", "BTCUSDT")
    path = real_data / "quantconnect_lean" / "cryptofuture__bybit__margin_interest__btcusdt.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    stamped = [(datetime.strptime(time, "%Y%m%d %H:%M:%S").replace(tzinfo=UTC), rate) for time, rate in lines]
    rows = read(
        FundingRateApi,
        market,
        [
            {"symbol": "BTCUSDT", "fundingRate": rate, "fundingRateTimestamp": milliseconds(time)}
            for time, rate in stamped
        ],
    )
    served, gaps = [], Counter[str]()
    for month in TimeRange(stamped[0][0], stamped[-1][0] + timedelta(hours=1)).months():
        cell = Cell(month, market)
        window = TimeRange(
            max(cell.window.start, stamped[0][0]), min(cell.window.end, stamped[-1][0] + timedelta(hours=1))
        )
        own = rows.filter(pl.col("funding_time").is_between(window.start, window.end, closed="left"))
        result = refine_rates(
            {FundingRateApi.name: bronze(own, window)}, cell, facts(market, listed="2020-03-25T15:59")
        )
        served.append(FundingRate.conform(result.rows, cell))
        gaps.update({gap.gap_class: gap.slot_count for gap in result.facts.gaps})
    found = pl.concat(served)
    assert found.select("funding_time", "rate").rows() == [(time, float(rate)) for time, rate in stamped]
    assert set(found["interval_hours"]) == {8}
    assert found["mark_price"].null_count() == found.height == 3922
    assert set(gaps) <= {"not_listed"}
