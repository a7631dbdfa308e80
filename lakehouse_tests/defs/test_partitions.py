"""Cells and Dagster's partitions: which ranges cover which cells, and which cells look back on which."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.gap import Gap
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, cells_between, partitions_of, range_tags, to_cell
from lakehouse.model.cell import Cell
from lakehouse.model.errors import SettingError
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.storage.objects import LakeObjects

from .conftest import BTC, HOURS, VWAP, Shell

# Insertion order is neither the alphabet's nor anybody's choice.
ORDER = [
    Market.parse(f"binance-{name}")
    for name in ("spot:ZZZ", "linear:AAA", "spot:MMM", "inverse:BBB", "spot:AAA")
]
MONTHS = [f"{year}-{month:02d}" for year in (2023, 2024) for month in range(1, 13)]
DAYS = TimeRange.parse("2024-02-10", "2024-04-01").days()
START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class Daily(Candle):
    """Candles by day."""

    name = "silver/daily"
    grain = "day"


@pytest.fixture(scope="module")
def store():  # type: ignore[no-untyped-def]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(MARKETS.name), [market.key for market in ORDER])
        yield instance


def covered_by(
    tags: dict[str, str], partitions: dg.PartitionsDefinition, store: dg.DagsterInstance
) -> set[Cell]:
    """The cells Dagster itself finds in a range."""
    span = dg.PartitionKeyRange(tags[START], tags[END])
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return set(map(to_cell, partitions.get_partition_keys_in_range(span, dynamic_partitions_store=store)))
    return set(map(to_cell, partitions.get_partition_keys_in_range(span)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.sets(st.builds(Cell, st.sampled_from(MONTHS), st.sampled_from(ORDER)), max_size=40))
def test_ranges_cover_every_cell_once_and_no_other(store: dg.DagsterInstance, cells: set[Cell]) -> None:
    partitions = partitions_of(Candle, "2023-01")
    runs = range_tags(cells, [market.key for market in ORDER])
    said = [cell for _, covered in runs for cell in covered]
    assert sorted(said, key=str) == sorted(cells, key=str)
    for tags, covered in runs:
        assert covered_by(tags, partitions, store) == set(covered)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(months=st.sets(st.sampled_from(MONTHS)))
def test_ranges_of_a_table_by_month_cover_every_month_once(
    store: dg.DagsterInstance, months: set[str]
) -> None:
    partitions = partitions_of(Gap, "2023-01")
    runs = range_tags([Cell(month) for month in months], [])
    assert sorted(cell.date for _, covered in runs for cell in covered) == sorted(months)
    for tags, covered in runs:
        assert covered_by(tags, partitions, store) == set(covered)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.sets(st.builds(Cell, st.sampled_from(DAYS), st.sampled_from(ORDER)), max_size=40))
def test_ranges_of_a_table_by_day_cover_every_day_once_and_read_back(
    store: dg.DagsterInstance, cells: set[Cell]
) -> None:
    order = [market.key for market in ORDER]
    runs = range_tags(cells, order)
    assert sorted((cell for _, covered in runs for cell in covered), key=str) == sorted(cells, key=str)
    for tags, covered in runs:
        assert covered_by(tags, partitions_of(Daily, "2023-01"), store) == set(covered)
        assert set(cells_between(tags[START], tags[END], order)) == set(covered)


def test_a_complete_run_of_days_of_neighbouring_markets_is_one_range() -> None:
    cells = {Cell(day, market) for day in DAYS for market in ORDER[1:4]}
    assert len(range_tags(cells, [market.key for market in ORDER])) == 1


def test_a_rectangle_is_one_range() -> None:
    cells = {Cell(month, market) for month in MONTHS[3:20] for market in ORDER[1:4]}
    assert len(range_tags(cells, [market.key for market in ORDER])) == 1


def test_the_open_month_has_a_partition_and_the_next_has_none(store: dg.DagsterInstance) -> None:
    keys = partitions_of(Gap, "2023-01").get_partition_keys(current_time=datetime(2024, 6, 15, tzinfo=UTC))
    assert (keys[0], keys[-1]) == ("2023-01", "2024-06")


@pytest.mark.parametrize(
    ("table", "month", "upstream"),
    [
        (VWAP, "2024-03", ["2024-02", "2024-03"]),
        (VWAP, "2023-12", ["2023-12"]),
        (HOURS, "2024-03", ["2024-03"]),
    ],
)
def test_a_cell_depends_on_its_lookback_of_the_same_market_only(
    shell: Shell, table: str, month: str, upstream: list[str]
) -> None:
    shell.instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key, *(market.key for market in ORDER)])
    graph = shell.definitions.resolve_asset_graph()
    child, parent = graph.get(asset_key(table)), graph.get(asset_key("silver/candle"))
    mapping = child.partition_mappings.get(parent.key) or dg.MultiPartitionMapping(
        {
            name: dg.DimensionPartitionMapping(name, dg.IdentityPartitionMapping())
            for name in ("date", "symbol")
        }
    )
    key = dg.MultiPartitionKey({"date": month, "symbol": BTC.key})
    subset = child.partitions_def.empty_subset().with_partition_keys([key])
    mapped = mapping.get_upstream_mapped_partitions_result_for_partitions(
        downstream_partitions_subset=subset,
        downstream_partitions_def=child.partitions_def,
        upstream_partitions_def=parent.partitions_def,
        current_time=datetime(2024, 6, 15, tzinfo=UTC),
        dynamic_partitions_store=shell.instance,
    )
    assert sorted(map(str, mapped.partitions_subset.get_partition_keys())) == [
        f"{back}|{BTC.key}" for back in upstream
    ]


@pytest.mark.slow
def test_a_vwap_cell_records_the_month_it_looked_back_on(shell: Shell, lake: LakeServices) -> None:
    shell.build(VWAP, [BTC])
    stored, source = lake.ledger(VWAP), lake.ledger("silver/candle")
    for month, before in (("2024-02", "2024-01"), ("2024-03", "2024-02")):
        inputs = stored[Cell(month, BTC)].inputs
        assert inputs == {
            f"silver/candle@{back}": source[Cell(back, BTC)].version for back in (before, month)
        }
    assert stored[Cell("2024-01", BTC)].inputs["silver/candle@2023-12"] == "none"


def test_a_lake_with_a_last_month_has_no_partition_and_no_cell_behind_it(tmp_path: Path) -> None:
    for end, months in (("2025-01", ["2024-11", "2024-12", "2025-01"]), ("2024-11", ["2024-11"])):
        partitions = partitions_of(REGISTRY.table("silver/gap"), "2024-11", end)
        assert partitions is not None
        assert partitions.get_partition_keys() == months
    lake = LakeServices(LakeObjects(tmp_path), {}, start="2024-11", end="2025-01")
    assert [lake.has_month(month) for month in ("2024-10", "2024-11", "2025-01", "2025-02")] == [
        False,
        True,
        True,
        False,
    ]
    assert lake.until == datetime(2025, 2, 1, tzinfo=UTC)
    with pytest.raises(SettingError, match="LAKEHOUSE_END"):
        Settings(start="2024-11", end="2024-10")
    with pytest.raises(SettingError, match="LAKEHOUSE_END"):
        Settings(end="soon")
