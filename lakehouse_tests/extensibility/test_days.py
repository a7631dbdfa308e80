"""A dataset in cells of a day, published by days alone: quotes, one a minute."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse.datasets.dataset import ArchiveTable, BronzeCells, Dataset, input_versions
from lakehouse.datasets.market import MarketFacts
from lakehouse.defs.partitions import partitions_of, range_tags
from lakehouse.model.cadence import Grid
from lakehouse.model.cell import Cell
from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.table import UTC_TIME, Column, Rule, Table
from lakehouse.ops.findings import holes
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.transform.gaps import find_gaps
from lakehouse.transform.history import newest
from lakehouse_tests.extensibility.toys import build, put, require_shown, seconds, toy_lake
from lakehouse_tests.making import at, minutes
from lakehouse_tests.test_extensibility import COINS, Kiosk, KioskFiles

NOW = at("2024-02-03T12:00")
DAYS = ("2024-01-31", "2024-02-01", "2024-02-02")
MARKET = Market("stall", COINS.market_type, COINS.symbol)
TABLES = ("bronze/day_quote_archive", "silver/day_quote")


class DayQuoteArchive(ArchiveTable):
    """Best bid and ask once a minute, as published by day."""

    name = "bronze/day_quote_archive"
    key = ("quote_time", "source", "fetched_at", "source_sha256")
    time = "quote_time"
    grain = "day"

    quote_time = Column(UTC_TIME, "Minute of the quote", "UTC")
    bid = Column(pl.Float64, "Best bid", "quote", nullable=True)
    ask = Column(pl.Float64, "Best ask", "quote", nullable=True)


class DayQuote(Table):
    """Best bid and ask once a minute, in cells of a day."""

    name = "silver/day_quote"
    key = ("quote_time",)
    time = "quote_time"
    grain = "day"
    inputs = (Input(DayQuoteArchive, role="archive"),)
    cadence = Grid(timedelta(minutes=1))
    row_rules = (Rule("not_crossed", pl.col("bid") < pl.col("ask"), "the bid is below the ask"),)

    quote_time = Column(UTC_TIME, "Minute of the quote", "UTC")
    bid = Column(pl.Float64, "Best bid", "quote", above=0)
    ask = Column(pl.Float64, "Best ask", "quote", above=0)


def refine(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> CellResult:
    archive = bronze[DayQuoteArchive.name]
    rows = newest(archive.rows, DayQuote.key).select(DayQuote.names())
    until = archive.facts.asked_until or cell.window.start
    gaps = find_gaps(rows["quote_time"], cell.window, timedelta(minutes=1), until, market.life)
    return CellResult(
        rows, input_versions(DayQuote, bronze, cell, market), CellFacts(gaps=gaps, asked_until=until)
    )


DAY_QUOTE = Dataset(DayQuote, refine, lambda rows, cell, market, witness: {})


class DayQuoteFiles(KioskFiles):
    """Days of quotes."""

    kinds = ("day",)

    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        raw = pl.read_csv(csv, has_header=False, new_columns=["quote_time", "price"])
        time = (pl.col("quote_time") * 1_000_000).cast(UTC_TIME)
        return raw.select(time, bid=pl.col("price") - 0.5, ask=pl.col("price") + 0.5)


class Stall(Kiosk):
    """Publishes months of candles and days of quotes."""

    name = "stall"
    files = {
        "bronze/candle_archive": KioskFiles("bronze/candle_archive"),
        DayQuoteArchive.name: DayQuoteFiles(DayQuoteArchive.name),
    }


def publish_days(folder: Path, market: Market = MARKET) -> None:
    """Three days of quotes; of the second the minute 06:00 is absent."""
    for day in DAYS:
        lines = [
            f"{seconds(time)},{100 + n % 7}"
            for n, time in enumerate(minutes(day, 1440))
            if time != at("2024-02-01T06:00")
        ]
        put(folder, Stall.files[DayQuoteArchive.name].key(market, Period.parse(day)), lines)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """A lake beside an archive with three days."""
    publish_days(tmp_path)
    with toy_lake(tmp_path, Stall, NOW, (DAY_QUOTE,)) as opened:
        yield opened


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_days_appears_wherever_tables_are_shown(lake: LakeServices, name: str) -> None:
    require_shown(lake, name, ["exchange", "market_type", "symbol", "date"])
    partitions = partitions_of(lake.registry.table(name), lake.start)
    assert isinstance(partitions, dg.MultiPartitionsDefinition)
    days = partitions.get_partitions_def_for_dimension("date").get_partition_keys(current_time=NOW)
    assert (days[0], days[-1], len(days)) == ("2024-01-01", "2024-02-03", 34)


def test_successive_days_are_one_run_and_have_no_holes() -> None:
    days = [Cell(f"{at('2024-01-10') + timedelta(days=n):%Y-%m-%d}", MARKET) for n in range(51)]
    ((tags, covered),) = range_tags(days, [MARKET.key])
    assert covered == days
    assert set(tags.values()) == {"2024-01-10|stall-spot:COIN", "2024-02-29|stall-spot:COIN"}


def test_a_day_that_is_not_stored_among_others_is_a_hole_and_no_other_is() -> None:
    days = [Cell(f"{at('2024-01-10') + timedelta(days=n):%Y-%m-%d}", MARKET) for n in range(51)]
    assert holes(days) == []
    assert holes([day for day in days if day.date != "2024-02-01"]) == [Cell("2024-02-01", MARKET)]


def test_the_day_before_the_first_of_march_is_the_29th_of_february() -> None:
    assert Cell("2024-03-01", MARKET).shift(-1) == Cell("2024-02-29", MARKET)


@pytest.mark.slow
def test_it_builds_day_by_day(lake: LakeServices) -> None:
    versions = build(lake, "silver/day_quote", [MARKET], "2024-01-31", "2024-02-03")
    stored = lake.ledger("silver/day_quote")
    assert set(versions["silver/day_quote"]) == {f"{day}|stall-spot:COIN" for day in DAYS}
    assert versions["silver/day_quote"] == {str(cell): record.version for cell, record in stored.items()}
    assert [record.path.split("/")[-2] for record in stored.values()] == [f"date={day}" for day in DAYS]
    assert [record.rows for record in stored.values()] == [1440, 1439, 1440]
    reader = Lake(lake.objects.root, lake.registry)
    rows = reader.sql("SELECT date, count(*), avg(ask - bid) FROM silver.day_quote GROUP BY 1 ORDER BY 1")
    assert rows.rows() == [("2024-01-31", 1440, 1.0), ("2024-02-01", 1439, 1.0), ("2024-02-02", 1440, 1.0)]
    part = reader.scan("day_quote", MARKET.key, "2024-01-31T23:00", "2024-02-01T01:00").collect()
    assert part["quote_time"].to_list() == minutes("2024-01-31T23:00", 120)
    assert len(reader.dataset_id("day_quote", MARKET.key, "2024-02-01", "2024-02-02")) == 32


@pytest.mark.slow
def test_an_absent_minute_of_a_day_is_told_as_a_gap_of_its_table(lake: LakeServices) -> None:
    build(lake, "silver/gap", [MARKET], "2024-01-31", "2024-02-03")
    reader = Lake(lake.objects.root, lake.registry)
    found = reader.sql(
        "SELECT month, symbol, start_time, slot_count, gap_class FROM silver.gap "
        "WHERE table_name = 'silver/day_quote'"
    )
    assert found.rows() == [("2024-02", "COIN", at("2024-02-01T06:00"), 1, "absent")]
