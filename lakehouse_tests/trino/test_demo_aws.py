"""`make demo-aws`: from a source to partitions in Glue to an answer of Trino's."""

import re

import pytest

from lakehouse.cli.demo import QUESTION
from lakehouse_tests.trino.conftest import Shown

pytestmark = pytest.mark.slow


def test_the_demo_on_aws_leads_from_the_source_to_an_answer_of_trino_s(shown: Shown) -> None:
    assert shown.is_whole
    assert "113 cells built, 0 failed, in" in shown.said
    assert re.search(r"in \d+\.\d s\. The lake: s3://lakehouse-demo/lake", shown.said), "it states its time"
    assert "lakehouse_demo_gold candle_1h 14 9" in shown.said, "a partition in Glue for each cell"
    assert "The same question to a Trino server" in shown.said
    assert "DuckDB and Trino agree." in shown.said
    asked = shown.trino.sql(QUESTION)
    assert asked["market"].to_list() == ["inverse BTCUSD_PERP", "linear ETHUSDT", "spot BTCUSDT"]
    assert asked["minutes_absent"].to_list() == [0, 37, 0]


def test_every_stored_cell_is_a_partition_that_trino_lists(shown: Shown) -> None:
    for table in shown.lake.registry.tables:
        if table.zone() == "bronze" or table.spread == "one":
            continue
        database = f"{shown.settings.glue_database}_{table.zone()}"
        listed = shown.rows(f'SELECT month FROM {database}."{table.short_name()}$partitions"')
        stored = sorted(record.cell.date for record in shown.lake.records(table.name))
        assert sorted(month for (month,) in listed) == stored, table.name
