"""What answers wrongly and without an error where Trino is not configured as in infra/trino: each is shown by
the catalog `careless`, and does not happen in ours.
"""

from datetime import UTC, datetime

import pytest

from lakehouse.storage.aws import aws_client
from lakehouse_tests.trino.conftest import Shown

pytestmark = pytest.mark.slow

CANDLES = "lakehouse_demo_silver.candle"
OF_A_DAY = f"""
{CANDLES} WHERE market_type = 'spot' AND month = '2024-12'
AND open_time >= timestamp '2024-12-01 00:00:00 UTC' AND open_time < timestamp '2024-12-02 00:00:00 UTC'
"""
FIRST = (
    f"SELECT min(open_time), min(close_time) FROM {CANDLES} WHERE market_type = 'spot' AND month = '2024-12'"
)


def test_times_are_not_shifted_by_the_zone_of_the_server_s_java(shown: Shown) -> None:
    assert shown.rows(FIRST)[0][0] == datetime(2024, 12, 1)
    assert shown.rows(FIRST, catalog="careless")[0][0] == datetime(2024, 11, 30, 19), "five hours, New York's"


def test_an_instant_in_a_statement_is_not_read_by_the_zone_of_who_asks(shown: Shown) -> None:
    """Of the server as a whole, so no catalog of it can show the contrary: `with_timezone` does."""
    there = "Asia/Tokyo"
    assert shown.rows("SELECT current_timezone()", there) == [("UTC",)]
    assert shown.rows(f"SELECT count(*) FROM {OF_A_DAY}", there) == [(1440,)]
    by_tokyo = OF_A_DAY.replace("open_time >=", f"with_timezone(open_time, '{there}') >=")
    assert shown.rows(f"SELECT count(*) FROM {by_tokyo}") == [(1440 - 9 * 60,)], (
        "what an unforced zone would give"
    )


def test_the_last_microsecond_of_a_candle_is_not_rounded_to_the_next_one(shown: Shown) -> None:
    ended = datetime(2024, 12, 1, 0, 0, 59, 999999)
    assert shown.rows(FIRST)[0][1] == ended
    assert shown.rows(FIRST, catalog="careless")[0][1] == datetime(2024, 11, 30, 19, 1), (
        "rounded up, and shifted"
    )
    asked = FIRST.replace("lakehouse_demo_silver", "silver").replace(
        "min(open_time)", "min(open_time) AS opened"
    )
    asked = asked.replace("min(close_time)", "min(close_time) AS ended")
    assert shown.trino.sql(asked).row(0) == (datetime(2024, 12, 1, tzinfo=UTC), ended.replace(tzinfo=UTC))
    assert shown.trino.sql(asked).equals(shown.lake.sql(asked)), "as the lake has them"


def test_a_projection_in_steps_of_days_hides_no_month(shown: Shown) -> None:
    """Whoever has Athena project partitions writes such parameters into a table that Trino reads as well."""
    glue = aws_client("glue")
    table = glue.get_table(DatabaseName="lakehouse_demo_silver", Name="candle")["Table"]
    parameters = {
        "projection.enabled": "true",
        "projection.exchange.type": "enum",
        "projection.exchange.values": "binance",
        "projection.market_type.type": "enum",
        "projection.market_type.values": "spot",
        "projection.symbol.type": "enum",
        "projection.symbol.values": "BTCUSDT",
        "projection.month.type": "date",
        "projection.month.format": "yyyy-MM",
        "projection.month.range": "2024-11,2025-01",
        "projection.month.interval": "28",
        "projection.month.interval.unit": "DAYS",
        "storage.location.template": table["StorageDescriptor"]["Location"]
        + "exchange=${exchange}/market_type=${market_type}/symbol=${symbol}/month=${month}",
    }
    kept = {key: table[key] for key in ("TableType", "PartitionKeys", "StorageDescriptor")}
    glue.create_table(
        DatabaseName="lakehouse_demo_silver",
        TableInput={"Name": "projected", **kept, "Parameters": table["Parameters"] | parameters},
    )
    pages = glue.get_paginator("get_partitions").paginate(
        DatabaseName="lakehouse_demo_silver", TableName="candle"
    )
    partitions = [
        {name: found[name] for name in ("Values", "StorageDescriptor")}
        for page in pages
        for found in page["Partitions"]
    ]
    glue.batch_create_partition(
        DatabaseName="lakehouse_demo_silver", TableName="projected", PartitionInputList=partitions
    )
    asked = (
        "SELECT DISTINCT month FROM lakehouse_demo_silver.projected WHERE symbol = 'BTCUSDT' ORDER BY month"
    )
    assert shown.rows(asked) == [("2024-11",), ("2024-12",), ("2025-01",)]
    assert len(shown.rows(asked, catalog="careless")) < 3, "and no error says so"
