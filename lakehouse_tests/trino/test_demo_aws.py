"""`make demo-aws`: from a source to partitions in Glue to an answer of Trino's."""

import re
from pathlib import Path

import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.demo import MARKETS, QUESTION, SPAN, demo_exchange, demo_settings
from lakehouse.cli.instance import open_instance
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.query.lake import Lake
from lakehouse_tests.trino.conftest import Shown

pytestmark = pytest.mark.slow

TABLES = ("silver/candle", "silver/funding_rate", "gold/candle_1h", "gold/candle_1d", "gold/vwap")


def versions(lake: Lake, market: Market) -> dict[str, str]:
    """Those of a market's cells."""
    return {
        f"{table} {record.cell}": record.version
        for table in TABLES
        for record in lake.records(table)
        if record.key.market == market
    }


def test_the_demo_on_aws_leads_from_the_source_to_an_answer_of_trino_s(shown: Shown) -> None:
    assert shown.is_whole
    ended = r"\d+ cells built, 0 failed, in \d+\.\d s\. The lake: s3://lakehouse-demo/lake"
    assert re.search(ended, shown.said), "it ends, and states its time"
    assert "lakehouse_demo_gold candle_1h 14 12" in shown.said, "a partition in Glue for each cell"
    assert "The same question to a Trino server" in shown.said
    assert "DuckDB and Trino agree." in shown.said
    asked = shown.trino.sql(QUESTION)
    assert asked["market"].to_list() == [
        "binance-inverse:BTCUSD_PERP",
        "binance-linear:ETHUSDT",
        "binance-spot:BTCUSDT",
        "bybit-linear:BTCUSDT",
    ]
    assert asked["minutes_absent"].to_list() == [0, 37, 0, 0]
    assert asked["trades"].to_list()[-1] is None, "which Bybit does not publish"


def test_every_stored_cell_is_a_partition_that_trino_lists(shown: Shown) -> None:
    for table in shown.lake.registry.tables:
        if table.zone() == "bronze" or table.spread == "one":
            continue
        database = f"{shown.settings.glue_database}_{table.zone()}"
        listed = shown.rows(f'SELECT month FROM {database}."{table.short_name()}$partitions"')
        stored = sorted(record.cell.date for record in shown.lake.records(table.name))
        assert sorted(month for (month,) in listed) == stored, table.name


def test_the_same_lake_in_a_folder_has_the_same_versions(shown: Shown, tmp_path: Path) -> None:
    market = Market.parse(MARKETS[0])
    with demo_exchange() as exchange:
        settings = demo_settings(tmp_path, exchange.url)
        lake = open_lake(settings)
        with open_instance(settings) as instance:
            reports = Builder(lake, instance).build(
                lake.registry.named("gold"), [market], TimeRange.parse(*SPAN)
            )
    assert not any(report.failed for report in reports)
    found = versions(shown.lake, market)
    assert len(found) == 4 * 3, "of a spot market, which pays no funding"
    assert versions(Lake(settings.root), market) == found
