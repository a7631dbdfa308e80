"""The catalog equals the lake after every kind of change, and a sync that finds nothing to do writes
nothing.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.errors import CatalogError, ColumnChangeError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.model.table import Column, Table
from lakehouse.storage.aws import aws_client
from lakehouse.storage.catalog import GlueCatalog
from lakehouse.storage.ledger import records
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.partitions import Partitions
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, candles, facts, minutes

pytestmark = [pytest.mark.slow, pytest.mark.glue]

ETH = Market("binance", "linear", "ETHUSDT")
DATABASE = "test_silver"
WRITES = (
    "CreateDatabase",
    "CreateTable",
    "UpdateTable",
    "BatchCreatePartition",
    "BatchUpdatePartition",
    "BatchDeletePartition",
    "DeletePartition",
    "CreatePartition",
)


class Calls:
    """Counts the calls a client makes."""

    def __init__(self, client: Any) -> None:
        self.made: Counter[str] = Counter()
        client.meta.events.register("before-call.glue", lambda model, **_: self.made.update([model.name]))

    @property
    def writing(self) -> list[str]:
        return [name for name in self.made if name in WRITES]


class Catalogued:
    """A lake with a catalog beside it."""

    def __init__(self, objects: LakeObjects) -> None:
        self.objects, self.store, self.client = objects, TableStore(objects), aws_client("glue")
        self.now = datetime(2024, 6, 1, tzinfo=UTC)
        self.catalog = GlueCatalog("test", objects, self.client, lambda seconds: None, lambda: self.now)

    def put(self, date: str, market: Market = BTC, table: type[Table] = Candle) -> None:
        self.store.put(
            table, Cell(date, market), CellResult(candles(minutes(f"{date}-01", 3)).select(table.names()), {})
        )

    def sync(self, table: type[Table] = Candle, whole: bool = False) -> Any:
        return self.catalog.sync(table, records(self.objects, table), whole)

    def registered(self, table: str = "candle", database: str = DATABASE) -> dict[tuple[str, ...], str]:
        pages = self.client.get_paginator("get_partitions").paginate(DatabaseName=database, TableName=table)
        return {
            tuple(p["Values"]): p["StorageDescriptor"]["Location"]
            for page in pages
            for p in page["Partitions"]
        }

    def columns(self) -> list[tuple[str, str]]:
        return [
            (c["Name"], c["Type"])
            for c in self.client.get_table(DatabaseName=DATABASE, Name="candle")["Table"][
                "StorageDescriptor"
            ]["Columns"]
        ]


@pytest.fixture
def lake(objects: LakeObjects, aws: str) -> Iterator[Catalogued]:
    return Catalogued(objects)


def cells_of(lake: Catalogued, *cells: tuple[str, Market]) -> dict[tuple[str, ...], str]:
    return {
        (m.exchange, m.market_type, m.symbol, date): lake.objects.uri(
            f"silver/candle/exchange={m.exchange}/market_type={m.market_type}/symbol={m.symbol}/month={date}"
        )
        + "/"
        for date, m in cells
    }


def test_it_equals_the_lake_after_a_first_build_a_new_market_a_new_month_and_a_deleted_cell(
    lake: Catalogued,
) -> None:
    lake.put("2024-01")
    assert lake.sync().table_change == "created"
    assert lake.registered() == cells_of(lake, ("2024-01", BTC))
    lake.put("2024-01", ETH)
    lake.put("2024-02")
    done = lake.sync()
    assert (len(done.added), done.kept, done.table_change) == (2, 1, "unchanged")
    assert lake.registered() == cells_of(lake, ("2024-01", BTC), ("2024-01", ETH), ("2024-02", BTC))
    lake.store.delete(Candle, Cell("2024-01", BTC))
    assert lake.sync().removed == [("binance", "spot", "BTCUSDT", "2024-01")]
    assert lake.registered() == cells_of(lake, ("2024-01", ETH), ("2024-02", BTC))


def test_columns_types_and_comments_are_those_of_the_declaration(lake: Catalogued) -> None:
    lake.put("2024-01")
    lake.sync()
    table = lake.client.get_table(DatabaseName=DATABASE, Name="candle")["Table"]
    assert [(c["Name"], c["Type"], c["Comment"]) for c in table["StorageDescriptor"]["Columns"]] == [
        (c["Name"], c["Type"], c["Comment"]) for c in Candle.glue_columns()
    ]
    assert [(k["Name"], k["Type"]) for k in table["PartitionKeys"]] == [
        (name, "string") for name in ("exchange", "market_type", "symbol", "month")
    ]
    assert not {k["Name"] for k in table["PartitionKeys"]} & set(Candle.columns)
    assert table["TableType"] == "EXTERNAL_TABLE"
    assert table["Parameters"]["classification"] == "parquet"


def test_the_same_sync_twice_makes_no_call_that_writes(lake: Catalogued) -> None:
    lake.put("2024-01")
    first = Calls(lake.client)
    assert lake.sync().wrote
    assert {"CreateTable", "BatchCreatePartition"} <= set(first.writing)
    second = Calls(lake.client)
    done = lake.sync()
    assert not done.wrote
    assert done.kept == 1
    assert second.made
    assert second.writing == []


def test_differences_are_told_and_nothing_is_written(lake: Catalogued) -> None:
    lake.put("2024-01")
    calls = Calls(lake.client)
    told = lake.catalog.differences(Candle, records(lake.objects, Candle))
    assert (told.table_change, len(told.added)) == ("created", 1)
    lake.sync()
    assert not lake.catalog.differences(Candle, records(lake.objects, Candle)).wrote
    lake.put("2024-02")
    lake.store.delete(Candle, Cell("2024-01", BTC))
    calls = Calls(lake.client)
    told = lake.catalog.differences(Candle, records(lake.objects, Candle))
    assert ([values[-1] for values in told.added], [values[-1] for values in told.removed]) == (
        ["2024-02"],
        ["2024-01"],
    )
    assert calls.writing == []
    assert lake.registered() == cells_of(lake, ("2024-01", BTC))


def test_a_rewritten_cell_needs_no_call_that_writes(lake: Catalogued) -> None:
    lake.put("2024-01")
    lake.sync()
    lake.store.put(Candle, Cell("2024-01", BTC), CellResult(candles(minutes("2024-01-01", 9)), {}))
    calls = Calls(lake.client)
    lake.sync()
    assert calls.writing == []


class WiderCandle(Candle):
    """Candles with a column more."""

    note = Column(Candle.columns["source"].dtype, "Anything", nullable=True)


class NarrowerCandle(Candle):
    """Candles whose trades became a text."""

    trade_count = Column(Candle.columns["source"].dtype, "Trades in words", nullable=True)


def test_an_added_column_is_appended_to_the_table_and_its_partitions(lake: Catalogued) -> None:
    lake.put("2024-01")
    lake.sync()
    done = lake.sync(WiderCandle)
    assert (done.table_change, len(done.updated)) == ("updated", 1)
    assert lake.columns()[-1] == ("note", "string")
    assert not lake.sync(WiderCandle).wrote


def test_a_type_change_is_refused_with_the_reason_and_changes_nothing(lake: Catalogued) -> None:
    lake.put("2024-01")
    lake.sync()
    before, calls = lake.columns(), Calls(lake.client)
    with pytest.raises(
        ColumnChangeError, match=r"silver/candle\.trade_count is registered as bigint and declared as string"
    ):
        lake.sync(NarrowerCandle)
    assert calls.writing == []
    assert lake.columns() == before


def test_a_column_that_went_away_is_refused(lake: Catalogued) -> None:
    lake.put("2024-01")
    lake.sync(WiderCandle)
    with pytest.raises(ColumnChangeError, match="note"):
        lake.sync(Candle)


def test_int_may_become_bigint(lake: Catalogued) -> None:
    lake.put("2024-01")
    wanted = lake.catalog.table_input(Candle)
    for column in wanted["StorageDescriptor"]["Columns"]:
        column["Type"] = "int" if column["Name"] == "trade_count" else column["Type"]
    lake.client.create_database(DatabaseInput={"Name": DATABASE})
    lake.client.create_table(DatabaseName=DATABASE, TableInput=wanted)
    assert lake.sync().table_change == "updated"
    assert ("trade_count", "bigint") in lake.columns()


def drift(lake: Catalogued) -> None:
    """Delete one partition, and lead another one elsewhere."""
    at = {"DatabaseName": DATABASE, "TableName": "candle"}
    lake.client.delete_partition(**at, PartitionValues=["binance", "spot", "BTCUSDT", "2024-01"])
    found = lake.client.get_partition(**at, PartitionValues=["binance", "spot", "BTCUSDT", "2024-02"])[
        "Partition"
    ]
    elsewhere = found["StorageDescriptor"] | {"Location": "s3://elsewhere/"}
    changed = {name: found[name] for name in ("Values", "Parameters")} | {"StorageDescriptor": elsewhere}
    lake.client.update_partition(**at, PartitionValueList=found["Values"], PartitionInput=changed)


@pytest.mark.parametrize(("whole", "later"), [(True, timedelta(0)), (False, timedelta(days=1))])
def test_partitions_that_drifted_are_put_right_within_a_day_or_when_asked_to(
    lake: Catalogued, whole: bool, later: timedelta
) -> None:
    lake.put("2024-01")
    lake.put("2024-02")
    lake.sync()
    drift(lake)
    lake.now += later
    done = lake.sync(whole=whole)
    assert (len(done.added), len(done.updated)) == (1, 1)
    assert lake.registered() == cells_of(lake, ("2024-01", BTC), ("2024-02", BTC))


def test_a_batch_that_fails_leaves_the_others_done_and_the_rest_to_the_next_sync(
    lake: Catalogued, monkeypatch: pytest.MonkeyPatch
) -> None:
    markets = [Market("binance", "spot", f"COIN{n}USDT") for n in range(130)]
    for market in markets:
        lake.put("2024-01", market)
    create, sizes = lake.client.batch_create_partition, []

    def breaks(**arguments: Any) -> Any:
        sizes.append(len(arguments["PartitionInputList"]))
        if sizes[-1] < 100:
            raise lake.client.exceptions.InvalidInputException(
                {"Error": {"Code": "InvalidInputException", "Message": "once"}}, "BatchCreatePartition"
            )
        return create(**arguments)

    monkeypatch.setattr(lake.client, "batch_create_partition", breaks)
    with pytest.raises(CatalogError, match=r"test_silver\.candle.*InvalidInputException"):
        lake.sync()
    assert sorted(sizes) == [30, 100]
    assert len(lake.registered()) == 100
    monkeypatch.undo()
    assert len(lake.sync().added) == 30
    assert lake.registered() == cells_of(lake, *(("2024-01", market) for market in markets))


def test_entries_that_come_back_in_errors_are_tried_again_while_the_reason_may_pass(
    lake: Catalogued, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.put("2024-01")
    lake.put("2024-02")
    create, seen = lake.client.batch_create_partition, []

    def throttles(**arguments: Any) -> Any:
        entries = arguments["PartitionInputList"]
        seen.append([entry["Values"][-1] for entry in entries])
        if len(seen) == 1:
            create(**(arguments | {"PartitionInputList": entries[1:]}))
            return {
                "Errors": [
                    {
                        "PartitionValues": entries[0]["Values"],
                        "ErrorDetail": {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"},
                    }
                ]
            }
        return create(**arguments)

    monkeypatch.setattr(lake.client, "batch_create_partition", throttles)
    lake.sync()
    assert seen == [["2024-01", "2024-02"], ["2024-01"]]
    assert lake.registered() == cells_of(lake, ("2024-01", BTC), ("2024-02", BTC))


def test_an_entry_that_another_sync_made_first_is_no_failure(
    lake: Catalogued, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.put("2024-01")
    lake.sync()
    monkeypatch.setattr(Partitions, "listed", lambda self: iter(()))
    assert len(lake.sync(whole=True).added) == 1
    monkeypatch.undo()
    assert lake.registered() == cells_of(lake, ("2024-01", BTC))


def test_a_lasting_error_names_what_and_why(lake: Catalogued, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.put("2024-01")
    refusal = {
        "Errors": [
            {
                "PartitionValues": ["binance", "spot", "BTCUSDT", "2024-01"],
                "ErrorDetail": {"ErrorCode": "InvalidInputException", "ErrorMessage": "no"},
            }
        ]
    }
    monkeypatch.setattr(lake.client, "batch_create_partition", lambda **_: refusal)
    with pytest.raises(CatalogError, match=r"BTCUSDT.*InvalidInputException: no"):
        lake.sync()


def test_ledgers_by_month_and_single_tables_are_registered_too(lake: Catalogued) -> None:
    lake.store.put(Gap, Cell("2024-01"), CellResult(gap_frame([]), {}))
    lake.store.put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    lake.sync(Gap)
    lake.sync(MarketTable)
    assert set(lake.registered("gap")) == {("2024-01",)}
    market = lake.client.get_table(DatabaseName=DATABASE, Name="market")["Table"]
    assert market["PartitionKeys"] == []
    assert market["StorageDescriptor"]["Location"].endswith("/silver/market/")


@pytest.mark.parametrize("prefix", ["Lake", "my-lake", "lake.dev", ""])
def test_names_that_some_readers_do_not_take_are_refused(objects: LakeObjects, prefix: str) -> None:
    with pytest.raises(CatalogError):
        GlueCatalog(prefix, objects)
