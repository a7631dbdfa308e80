"""Conflict tables: every value of every row on which sources disagreed, and by which rule one was chosen.
`silver/conflict` is that of candles; any other dataset's is made from what it publishes.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import polars as pl

from lakehouse.datasets.candle import Candle, PublishedCandle
from lakehouse.datasets.dataset import BronzeTable, Dataset
from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.table import UTC_TIME, Column, Table


class _Whose(Table):
    """The columns that say which market and table a dispute is about; a base, so that they stand before the
    values.
    """

    exchange = Column(pl.String, "ccxt id of the exchange")
    market_type = Column(pl.String, "spot, linear or inverse")
    symbol = Column(pl.String, "The exchange's own symbol")
    table_name = Column(pl.String, "The silver table in which one of the values is served, or none")


class _Judged(Table):
    """The columns that say what became of a value; they stand behind the values."""

    variant = Column(pl.Int64, "Number of the value among those of its candle", "count", above=0)
    sources = Column(
        pl.String,
        "All sources that state the value (monthly, daily, api), joined by +; of an absence, those that have "
        "no such candle",
    )
    source_file = Column(
        pl.String, "Archive key or API address of the source it would be served from; empty of an absence"
    )
    fetched_at = Column(UTC_TIME, "When that was fetched", "UTC")
    decided_by = Column(
        pl.String, "The rule that chose the value served, or none; the same for all values of a candle"
    )
    is_served = Column(
        pl.Boolean,
        "This value is the one in the silver table; of an absence, the silver table has no such row",
    )
    is_settled = Column(pl.Boolean, "A proof decided, not mere precedence")
    is_absent = Column(pl.Boolean, "The variant is that there is no such candle; its values are null")


class Conflict(_Judged, PublishedCandle, _Whose):
    """Every distinct value of every candle on which sources disagreed, of all markets, one object per month.

    Recomputed from bronze for the cells of `silver/candle` that count disputes. Rules, the first that leaves
    one value decides: `row_rules` (the others break a rule that every row must keep), `witness` (the hour by
    REST equals the minutes only with this value), `later_snapshot` (it extends the others), `both_families`
    (archive and REST state it), `precedence` (daily, then REST, then monthly: served, but proven by nothing),
    `two_values_in_one_source` (none is served; a gap of class `conflict`), `wholesale` (REST contradicts the
    archive in most candles of the day: one of them is another market's, the archive stands, proven by
    nothing).

    That there is no such candle is a variant too (`is_absent`), where a source that was read or asked about
    the time has none and the hour by REST equals the minutes only without it.
    """

    name = "silver/conflict"
    key = ("exchange", "market_type", "symbol", "table_name", "open_time", "variant")
    spread = "all"
    reads_footers = True
    inputs = (Input(Candle),)
    code_version = 2


@cache
def conflict_table(dataset: Dataset) -> type[Table]:
    """The conflict table of a dataset: `silver/conflict` of candles, else `silver/<dataset>_conflict`, with
    the columns that the dataset's archive publishes, any of which may be null, as of an absence all are.
    """
    silver = dataset.silver
    if silver is Candle:
        return Conflict
    published = {
        name: column if name == silver.time else replace(column, nullable=True, at_least=None, above=None)
        for name, column in dataset.archive.columns.items()
        if name not in BronzeTable.columns
    }
    keyed = [name for name in silver.key if name in published]
    declared = {
        "name": f"{silver.name}_conflict",
        "key": ("exchange", "market_type", "symbol", "table_name", *keyed, "variant"),
        "time": silver.time,
        "spread": "all",
        "reads_footers": True,
        "inputs": (Input(silver),),
        "__module__": silver.__module__,
        "__doc__": f"Every distinct value of every row of `{silver.name}` on which sources disagreed, of all "
        "markets, one object per month; see `silver/conflict`.",
    }
    values = type("_Values", (Table,), published)
    return type(f"{silver.__name__}Conflict", (_Judged, values, _Whose), declared)


def conflict_frame(
    found: Iterable[tuple[Market, str, pl.DataFrame]], table: type[Table] = Conflict
) -> pl.DataFrame:
    """Disputes of many cells as a frame of a conflict table.

    Args:
        found: Market, silver table and what the dataset's `conflicts` returned, per cell.
        table: The conflict table.

    Returns:
        A row per variant.
    """
    keyed = [name for name in table.key if name not in (*_Whose.columns, "variant")]
    frames = [
        rows.rename({"rule": "decided_by"})
        .with_columns(  # "rule" is what quarantine calls a column of its own
            exchange=pl.lit(market.exchange),
            market_type=pl.lit(market.market_type),
            symbol=pl.lit(market.symbol),
            table_name=pl.lit(name),
            variant=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(keyed),
        )
        .select(table.names())
        for market, name, rows in found
    ]
    return pl.concat([table.empty(), *frames])
