"""Partitions and cells: the only module that builds or parses a partition key."""

import contextlib
import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

import dagster as dg

from lakehouse.defs.event_log import MARKET_PARTITIONS
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError, MarketKeyError
from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange

MARKETS = dg.DynamicPartitionsDefinition(name=MARKET_PARTITIONS)


def partitions_of(table: type[Table], start: str, end: str | None = None) -> dg.PartitionsDefinition | None:
    """The partitions of a table's asset: month and market, month alone, or none.

    Args:
        table: The declaration.
        start: First month, `YYYY-MM`.
        end: Last month; the open one if left out.
    """
    if table.spread == "one":
        return None
    until = Cell(end).window.end if end else None
    offset = 0 if end else 1  # the open month has a partition
    windows = (
        dg.MonthlyPartitionsDefinition(start, fmt="%Y-%m", end_date=until, end_offset=offset)
        if table.grain == "month"
        else dg.DailyPartitionsDefinition(f"{start}-01", fmt="%Y-%m-%d", end_date=until, end_offset=offset)
    )
    return (
        windows
        if table.spread == "all"
        else dg.MultiPartitionsDefinition({"date": windows, "symbol": MARKETS})
    )


_SHORTEST = {"month": timedelta(days=28), "day": timedelta(days=1)}


def dependency(table: type[Table], upstream: Input) -> dg.AssetDep:
    """The edge between a table and one it is made from.

    A cell maps to the cells that it looks back on. Where both tables have the same windows and a cell looks
    at its own alone, Dagster's default says that already.
    """
    key = upstream.name.split("/")
    if not upstream.lookback and table.grain == upstream.table.grain:
        return dg.AssetDep(key)
    if table.spread != upstream.table.spread:
        # no mapping of Dagster's leads from days of markets to a month of all: the recipe decides what is due
        return dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping())
    # Dagster counts in windows of the table, also where the input's are of another length
    earlier = -(-upstream.lookback // _SHORTEST[table.grain])
    mapping = lookback(earlier)
    if table.grain != upstream.table.grain:
        return dg.AssetDep(key, partition_mapping=mapping)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that it is not Dagster's own, which is its point
        return dg.AssetDep(key, partition_mapping=LookBack(mapping))


def lookback(windows: int) -> dg.MultiPartitionMapping:
    """The mapping of an asset whose cells read those of the same market, of their own window and of so many
    before it; there need not be that many.
    """
    dates = dg.TimeWindowPartitionMapping(start_offset=-windows, allow_nonexistent_upstream_partitions=True)
    return dg.MultiPartitionMapping(
        {
            "date": dg.DimensionPartitionMapping("date", dates),
            "symbol": dg.DimensionPartitionMapping("symbol", dg.IdentityPartitionMapping()),
        }
    )


class LookBack(dg.PartitionMapping):
    """A cell is made from its own window and from those it looks back on.

    Dagster tells no mapping that is not its own to its daemon and webserver, which then take the windows to
    be equal. So a backfill of a month neither asks for the month after it, which may be empty, nor makes
    tables that look back in a run of their own, while conditions, which are asked in the code location, know
    that news of a month concerns the month after it.

    Args:
        windows: Which windows belong together.
    """

    def __init__(self, windows: dg.MultiPartitionMapping) -> None:
        self.windows = windows

    def get_downstream_partitions_for_partitions(self, *given: Any, **named: Any) -> Any:
        return self.windows.get_downstream_partitions_for_partitions(*given, **named)

    def get_upstream_mapped_partitions_result_for_partitions(self, *given: Any, **named: Any) -> Any:
        return self.windows.get_upstream_mapped_partitions_result_for_partitions(*given, **named)

    def validate_partition_mapping(self, *given: Any, **named: Any) -> None:
        self.windows.validate_partition_mapping(*given, **named)

    @property
    def description(self) -> str:
        return self.windows.description


def to_cell(key: str) -> Cell:
    """The cell of a partition key."""
    if isinstance(key, dg.MultiPartitionKey):
        dimensions = key.keys_by_dimension
        return Cell(dimensions["date"], Market.parse(dimensions["symbol"]))
    return Cell(key)


def to_key(cell: Cell) -> str:
    """The partition key of a cell."""
    return dg.MultiPartitionKey({"date": cell.date, "symbol": cell.market.key}) if cell.market else cell.date


def cells_of(context: dg.AssetExecutionContext) -> tuple[list[Cell], dict[str, LakehouseError]]:
    """The cells of a run, market by market and month by month, and the partition keys that name no cell
    (anyone can add one in the UI).
    """
    cells: list[Cell] = []
    malformed: dict[str, LakehouseError] = {}
    for key in context.partition_keys:
        try:
            cells.append(to_cell(key))
        except MarketKeyError as error:
            malformed[str(key)] = error
    return sorted(cells, key=lambda cell: cell.sort_key), malformed


def parse_cells(keys: Iterable[str]) -> dict[str, Cell]:
    """The cells of partition keys, without the keys that name none."""
    cells: dict[str, Cell] = {}
    for key in map(str, keys):
        date, _, market = key.partition("|")
        with contextlib.suppress(MarketKeyError):
            cells[key] = Cell(date, Market.parse(market) if market else None)
    return cells


def parse_keys(keys: Iterable[str]) -> tuple[list[Market], dict[str, LakehouseError]]:
    """The markets of the universe, and the keys in it that name none."""
    markets: list[Market] = []
    malformed: dict[str, LakehouseError] = {}
    for key in keys:
        try:
            markets.append(Market.parse(key))
        except MarketKeyError as error:
            malformed[key] = error
    return markets, malformed


def range_tags(cells: Iterable[Cell], order: Sequence[str]) -> list[tuple[dict[str, str], list[Cell]]]:
    """Cover cells with ranged runs.

    A ranged run takes a rectangle of consecutive dates and of markets that are neighbours in insertion order,
    the order Dagster counts them in.

    Args:
        cells: Any cells of one table.
        order: Market keys in insertion order.

    Returns:
        Per run, its tags and the cells it covers; every cell is in exactly one run and no other cell is.
    """
    place = {key: index for index, key in enumerate(order)}
    rows: dict[str, list[int]] = {}
    markets: dict[int, Market | None] = {}
    for cell in cells:
        index = place[cell.market.key] if cell.market else 0
        markets[index] = cell.market
        rows.setdefault(cell.date, []).append(index)
    spans: dict[tuple[int, int], list[str]] = {}
    for date, found in rows.items():
        for first, last in _runs(sorted(set(found))):
            spans.setdefault((first, last), []).append(date)
    runs = []
    for (first, last), dates in sorted(spans.items()):
        numbered = {Period.parse(date).number: date for date in dates}
        for start, end in _runs(sorted(numbered)):
            covered = [
                Cell(numbered[number], markets[index])
                for index in range(first, last + 1)
                for number in range(start, end + 1)
            ]
            tags = {
                "dagster/asset_partition_range_start": str(to_key(covered[0])),
                "dagster/asset_partition_range_end": str(to_key(covered[-1])),
            }
            runs.append((tags, covered))
    return runs


def cells_between(first: str, last: str, order: Sequence[str]) -> list[Cell]:
    """The cells of a ranged run, by the partition keys at its ends; none if they name none.

    Args:
        first: The first key, as text.
        last: The last key.
        order: Market keys in insertion order.
    """
    (start, _, low), (end, _, high) = first.partition("|"), last.partition("|")
    if {low, high} - {"", *order}:
        return []
    try:
        markets = (
            [Market.parse(key) for key in order[order.index(low) : order.index(high) + 1]] if low else [None]
        )
    except MarketKeyError:
        return []
    windows = TimeRange(Cell(start).window.start, Cell(end).window.end)
    return [
        Cell(period.text, market)
        for period in Period.covering(windows, Cell(start).grain)
        for market in markets
    ]


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    grouped = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [
        (members[0], members[-1]) for members in ([number for _, number in group] for _, group in grouped)
    ]
