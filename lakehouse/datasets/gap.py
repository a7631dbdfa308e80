"""`silver/gap`: every expected row that is absent, of every dataset, and why."""

from collections.abc import Iterable
from functools import cache

import polars as pl

from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.result import GapRun
from lakehouse.model.table import UTC_TIME, Column, Table


class Gap(Table):
    """Runs of expected rows that are absent, such as 1m candles, of all markets, one object per month.

    Collected from what each cell of a table with a cadence says about itself. Classes: `not_listed` (before
    listing or after delisting), `halt` (proven: REST was asked, has the candles on both sides and none
    between, and each hour of the witness equals the rows that are there), `conflict` (one source has two
    values, none is served; see `silver/conflict`), `absent` (no source that was asked has a row that can be
    served). The open tail that nobody was asked about yet is not in it. Nor is a minute of an exchange that
    has no candle where nothing was traded, if a source that was read whole has none of it: whether that is
    proven, `lakehouse quality --json` counts (`quiet`, `silent`).
    """

    name = "silver/gap"
    key = ("exchange", "market_type", "symbol", "start_time", "table_name")
    time = "start_time"
    spread = "all"
    reads_footers = True
    code_version = 4

    exchange = Column(pl.String, "ccxt id of the exchange")
    market_type = Column(pl.String, "spot, linear or inverse")
    symbol = Column(pl.String, "The exchange's own symbol")
    start_time = Column(UTC_TIME, "Time of the first absent row", "UTC")
    end_time = Column(UTC_TIME, "End of the last absent row, exclusive", "UTC")
    slot_count = Column(pl.Int64, "Absent rows in the run", "count", above=0)
    gap_class = Column(pl.String, "not_listed, halt, conflict or absent")
    halted_at = Column(
        UTC_TIME,
        "Of a halt: the instant trading stopped, by the candle before it that ends early",
        "UTC",
        nullable=True,
    )
    # appended: catalogs and cells of earlier releases have the columns before it
    table_name = Column(pl.String, "The silver table whose rows are absent")


@cache
def gap_table(silver: tuple[type[Table], ...]) -> type[Gap]:
    """The gaps of some silver tables; the same class for the same tables."""

    class Gaps(Gap):
        __doc__ = Gap.__doc__

        inputs = tuple(map(Input, silver))

    Gaps.__name__ = Gaps.__qualname__ = Gap.__name__
    return Gaps


def gap_frame(runs: Iterable[tuple[Market, str, GapRun]]) -> pl.DataFrame:
    """Gap runs as a frame of `silver/gap`.

    Args:
        runs: Market, silver table and run.

    Returns:
        A row per run.
    """
    rows = [
        {
            "exchange": m.exchange,
            "market_type": m.market_type,
            "symbol": m.symbol,
            "start_time": run.start,
            "end_time": run.end,
            "slot_count": run.slot_count,
            "gap_class": run.gap_class,
            "halted_at": run.halted_at,
            "table_name": table,
        }
        for m, table, run in runs
    ]
    return pl.DataFrame(rows, schema=Gap.polars_schema())
