"""Thousands of partitions: few requests, several at once, what is throttled is sent again, nobody's change is
lost.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from lakehouse.datasets.candle import Candle
from lakehouse.model.errors import CatalogError, ColumnChangeError
from lakehouse.model.table import Table
from lakehouse.storage.aws import aws_client
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.layout import registered_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.storage.many import WiderCandle, ledger
from lakehouse_tests.storage.strict_glue import StrictGlue

pytestmark = [pytest.mark.slow, pytest.mark.glue]

AT = {"DatabaseName": "test_silver", "TableName": "candle"}


class Scaled:
    """A catalog behind a strict front."""

    def __init__(self, objects: LakeObjects) -> None:
        self.objects, self.now = objects, datetime(2024, 6, 1, tzinfo=UTC)
        self.plain, client = aws_client("glue"), aws_client("glue", retries="adaptive")
        self.strict = StrictGlue(client, self.plain)
        self.catalog = GlueCatalog("test", objects, client, lambda seconds: None, lambda: self.now)

    def sync(self, records: list[CellRecord], table: type[Table] = Candle) -> Any:
        self.strict.sent.clear()
        return self.catalog.sync(table, records)

    def registered(self) -> set[tuple[str, ...]]:
        pages = self.plain.get_paginator("get_partitions").paginate(**AT)
        return {tuple(found["Values"]) for page in pages for found in page["Partitions"]}

    def columns(self) -> list[str]:
        found = self.plain.get_table(DatabaseName="test_silver", Name="candle")["Table"]
        return [column["Name"] for column in found["StorageDescriptor"]["Columns"]]


@pytest.fixture
def glue(aws: str) -> Scaled:
    requests.put(f"{aws}/lake", timeout=10).raise_for_status()
    return Scaled(LakeObjects("s3://lake/somewhere"))


def values(record: CellRecord) -> tuple[str, ...]:
    market = record.key.own_market
    return (market.exchange, market.market_type, market.symbol, record.key.date)


def test_thousands_go_in_batches_beside_each_other_and_what_is_new_goes_alone(glue: Scaled) -> None:
    stored = ledger(markets=25, months=60)
    done = glue.sync(stored)
    assert (len(done.added), done.listed) == (1500, True)
    assert sorted(size for name, size in glue.strict.sent if name == "BatchCreatePartition") == [100] * 15
    assert 1 < glue.strict.most_under_way <= 8
    assert glue.registered() == {values(record) for record in stored}
    assert not glue.sync(stored).wrote
    assert [name for name, _ in glue.strict.sent] == ["GetDatabase", "GetTable"]
    grown = ledger(markets=26, months=60)[:-58]  # two cells more
    assert not glue.sync(grown).listed
    assert [each for each in glue.strict.sent if each[1]] == [("BatchCreatePartition", 2)]
    assert glue.sync(grown[30:]).removed == sorted(map(values, grown[:30]))
    assert sorted(size for name, size in glue.strict.sent if name == "BatchDeletePartition") == [5, 25]
    assert glue.registered() == {values(record) for record in grown[30:]}


def test_what_is_throttled_is_sent_again(glue: Scaled) -> None:
    stored = ledger(markets=4, months=60)
    glue.strict.throttled = {"BatchCreatePartition": 2, "GetPartitions": 1}
    assert len(glue.sync(stored).added) == 240
    assert not any(glue.strict.throttled.values())
    assert glue.registered() == {values(record) for record in stored}


def test_a_table_that_another_sync_has_changed_is_looked_at_again(glue: Scaled) -> None:
    """Two syncs add the same column at once: the second finds it done, and nothing is overwritten."""
    glue.sync(ledger(1, 1))
    glue.strict.before_update = lambda: GlueCatalog("test", glue.objects, glue.plain).sync(
        WiderCandle, ledger(1, 1)
    )
    done = glue.sync(ledger(1, 2), WiderCandle)
    assert (glue.strict.conflicts, done.table_change) == (1, "unchanged")
    assert glue.columns()[-1] == "note"
    assert len(glue.registered()) == 2


def test_an_older_declaration_does_not_take_away_the_column_that_a_newer_one_just_added(glue: Scaled) -> None:
    glue.sync(ledger(1, 1))
    found = glue.plain.get_table(DatabaseName="test_silver", Name="candle")["Table"]
    stale = {
        name: found[name]
        for name in ("Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")
    }
    glue.plain.update_table(DatabaseName="test_silver", TableInput=stale | {"Description": "by hand"})
    glue.strict.before_update = lambda: GlueCatalog("test", glue.objects, glue.plain).sync(
        WiderCandle, ledger(1, 1)
    )
    with pytest.raises(ColumnChangeError, match="note"):
        glue.sync(ledger(1, 1))
    assert glue.strict.conflicts == 1
    assert glue.columns()[-1] == "note"


def test_a_table_that_never_stands_still_is_given_up_and_named(glue: Scaled) -> None:
    glue.sync(ledger(1, 1))

    def touch() -> None:
        found = glue.plain.get_table(DatabaseName="test_silver", Name="candle")["Table"]
        glue.plain.update_table(
            DatabaseName="test_silver",
            TableInput={name: found[name] for name in ("Name", "PartitionKeys", "StorageDescriptor")},
        )
        glue.strict.before_update = touch

    touch()
    with pytest.raises(CatalogError, match=r"test_silver\.candle: others changed it"):
        glue.sync(ledger(1, 1))


def test_whoever_touches_the_table_makes_the_next_sync_list(glue: Scaled) -> None:
    stored = ledger(2, 2)
    glue.sync(stored)
    glue.plain.delete_partition(**AT, PartitionValues=list(values(stored[0])))
    assert not glue.sync(stored).listed, "only partitions changed, so it is believed until the day is over"
    glue.plain.update_table(
        DatabaseName="test_silver", TableInput=glue.catalog.table_input(Candle) | {"Owner": "somebody"}
    )
    done = glue.sync(stored)
    assert (done.listed, done.added) == (True, [values(stored[0])])


def test_a_table_that_was_dropped_and_made_again_is_listed(glue: Scaled) -> None:
    stored = ledger(2, 2)
    glue.sync(stored)
    glue.plain.delete_table(DatabaseName="test_silver", Name="candle")
    assert glue.sync(stored).added == sorted(map(values, stored))
    assert glue.registered() == set(map(values, stored))


def test_a_column_more_replaces_every_partition_once(glue: Scaled) -> None:
    stored = ledger(3, 60)
    glue.sync(stored)
    assert len(glue.sync(stored, WiderCandle).updated) == 180
    assert sorted(size for name, size in glue.strict.sent if name == "BatchUpdatePartition") == [80, 100]
    assert not glue.sync(stored, WiderCandle).wrote
    assert glue.strict.count("GetPartitions") == 0


def test_what_is_remembered_is_believed_for_a_day_and_only_as_it_was_written(glue: Scaled) -> None:
    stored = ledger(2, 2)
    glue.sync(stored)
    glue.now += timedelta(hours=23)
    assert not glue.sync(stored + ledger(3, 2)[-2:]).listed
    glue.now += timedelta(hours=1)
    assert glue.sync(stored).listed, "the day counts from the listing, not from the last sync"
    path = registered_path(Candle, "test")
    body = glue.objects.get(path)
    assert body is not None
    glue.objects.put(path, body.replace(b"2019-01", b"2018-01"))
    done = glue.sync(stored)
    assert (done.listed, done.wrote) == (True, False)
    assert not glue.sync(stored).listed


def test_of_two_syncs_at_once_neither_is_remembered(glue: Scaled) -> None:
    glue.sync(ledger(1, 1))
    created: list[Any] = []

    def other(**_: Any) -> None:
        if not created:
            created.append(
                GlueCatalog("test", glue.objects, glue.plain, now=lambda: glue.now).sync(Candle, ledger(1, 3))
            )

    glue.catalog.client.meta.events.register("before-call.glue.BatchCreatePartition", other)
    glue.sync(ledger(1, 2))
    assert created
    assert glue.objects.get(registered_path(Candle, "test")) is None
    assert glue.sync(ledger(1, 3)).listed
    assert len(glue.registered()) == 3
