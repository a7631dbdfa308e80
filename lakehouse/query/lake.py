"""`Lake`: the Python SDK."""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse.datasets.market import MarketTable
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NoLakeError, NotALakeObjectError, OpenRangeError
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.query.engine import connect
from lakehouse.query.views import create_view, mentioned, run
from lakehouse.registry import REGISTRY, Registry
from lakehouse.storage.layout import market_prefix, parse_cell_path, partition_columns
from lakehouse.storage.ledger import cells_of_market, records, survey, survey_market
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.parquet import read_footer
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.resample import resample

Instant = str | date | datetime


class Lake:
    """A lake, for reading.

    Args:
        root: A folder, or `s3://bucket/prefix`.
        registry: The declared tables.

    Example:
        >>> lake = Lake("lake")
        >>> lake.candles("binance-spot:BTCUSDT", "2024-01-01", "2024-01-02", interval="1h")
        >>> lake.sql("SELECT symbol, count(*) FROM silver.candle GROUP BY symbol")
    """

    def __init__(self, root: str | Path, registry: Registry = REGISTRY) -> None:
        self.objects = LakeObjects(root)
        self.registry = registry

    def candles(self, market: str | Market, start: Instant, end: Instant, interval: str = "1m") -> pl.DataFrame:
        """Candles of one market.

        Args:
            market: A market key, `binance-spot:BTCUSDT`.
            start: First instant; text without an offset is UTC.
            end: End of the range, exclusive.
            interval: `1m`, `5m`, `15m`, `1h`, `4h` or `1d`. Where the gold table of that interval is not built, or not from today's 1m candles, they are resampled by the same function.

        Returns:
            Rows with `open_time` in `[start, end)`, in order, with the columns of `silver/candle` (1m) or of `gold/candle_<interval>`. Gaps have no row.

        Raises:
            MarketKeyError, TimeFormatError, RangeBackwardsError, UnknownIntervalError: As named.
            StoreError: The lake's store does not answer, or refuses.
        """
        span, wanted, length = TimeRange.parse(start, end), _market(market), Interval.parse(interval)
        fine = self.registry.table("silver/candle")
        if length == MINUTE:
            return _within(self._rows(fine, wanted, span), span)
        coarse = self.registry.table(f"gold/candle_{length}")
        made = self._of_market(coarse, wanted, span)
        if all(cell in made and made[cell].inputs[f"silver/candle@{cell.date}"] == record.version for cell, record in self._of_market(fine, wanted, span).items()):
            return _within(self._rows(coarse, wanted, span), span)
        return _within(resample(self._rows(fine, wanted, span), length).select(coarse.names()), span)

    def scan(self, table: str, markets: Iterable[str | Market] | str | Market | None = None, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """A lazy scan of any table, over only the files that can hold what is asked for.

        Args:
            table: `silver/candle`, `silver.candle` or, where that is clear, `candle`.
            markets: Market keys, one or several; all if left out.
            start: First instant; needs `end`.
            end: End of the range, exclusive; needs `start`.

        Raises:
            OpenRangeError: Only one end of the range is given.
            NoLakeError: There is no lake at the root.
            NotALakeObjectError: An object that holds some of it is damaged, or was not written by this lake.

        Returns:
            The table's columns and those of its path (`exchange`, `market_type`, `symbol`, `month`). What the store refuses while it is collected, `collect` says plainly.
        """
        if (start is None) != (end is None):
            raise OpenRangeError
        keys = [markets] if isinstance(markets, str | Market) else markets
        span = TimeRange.parse(start, end) if start is not None and end is not None else None
        return self._cells(self.registry.table(table).name, [_market(key) for key in keys] if keys is not None else None, span, with_path=True)

    def sql(self, query: str) -> pl.DataFrame:
        """Run SQL over views named `zone.table`; times are UTC.

        Raises:
            SqlError: The statement is refused.
            StoreError: The lake's store does not answer, or refuses.
        """
        with connect(self.objects) as connection:
            for table in mentioned(query, self.registry.tables):
                create_view(connection, self.objects, table, [record.path for record in self._readable(table, lambda cell: True)])
            return run(connection, self.objects, query)

    def markets(self) -> pl.DataFrame:
        """All known markets: `silver/market`."""
        return self.collect(self.scan(MarketTable.name))

    def conflicts(self, markets: str | Market | Iterable[str | Market] | None = None, start: Instant | None = None, end: Instant | None = None) -> pl.DataFrame:
        """Every value of every candle on which sources disagreed, with the rule that chose one: `silver/conflict`.

        Args:
            markets: Market keys, one or several; all if left out.
            start: First instant; needs `end`.
            end: End of the range, exclusive; needs `start`.

        Returns:
            A row per value, in the order of the key.

        Raises:
            MarketKeyError, TimeFormatError, RangeBackwardsError, OpenRangeError: As named.
            StoreError: The lake's store does not answer, or refuses.
        """
        table = self.registry.table("silver/conflict")
        return self.collect(self.scan(table.name, markets, start, end).select(table.names())).sort(table.key)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Collect a scan of this lake, with the lake's errors in place of those of the reader.

        Raises:
            StoreError: The lake's store does not answer, or refuses.
        """
        with self.objects.named("reading", ""):
            return rows.collect()

    def records(self, table: str) -> list[CellRecord]:
        """What is stored of a table, a record per object."""
        if not self.objects.exists():
            raise NoLakeError(self.objects.root)
        return records(self.objects, self.registry.table(table))

    def stored(self, table: str) -> dict[Cell, CellRecord]:
        """The stored cells of a table with cells."""
        return {record.key: record for record in self.records(table)}

    def _readable(self, table: type[Table], asked: Callable[[Cell], bool]) -> list[CellRecord]:
        """The objects that hold what is asked for; a damaged one among them is an error, not fewer rows."""
        if table.shape == "single":
            return self.records(table.name)
        if not self.objects.exists():
            raise NoLakeError(self.objects.root)
        stored, foreign = survey(self.objects, table)
        _refuse(table, foreign, asked)
        return [record for cell, record in stored.items() if asked(cell)]

    def _of_market(self, table: type[Table], market: Market, span: TimeRange) -> dict[Cell, CellRecord]:
        """As `_readable`, of one market and the months of a range, in order of time."""
        if not self.objects.exists():
            raise NoLakeError(self.objects.root)
        stored, foreign = survey_market(self.objects, table, market, span.months())
        _refuse(table, foreign, lambda cell: True)
        return stored

    def _rows(self, table: type[Table], market: Market, span: TimeRange) -> pl.DataFrame:
        """All rows of one market's cells that touch a range, in order of time.

        On S3 whole objects come, all at once: a month is a megabyte, and a scan would wait for its footer and then for each column chunk.
        """
        sources: Any
        if self.objects.is_local:
            sources = [self.objects.uri(record.path) for record in self._of_market(table, market, span).values()]
        else:
            paths = [stored.path for stored in cells_of_market(self.objects, table, market, span.months())]
            with ThreadPoolExecutor(max_workers=32) as pool:
                bodies = {path: body for path, body in zip(paths, pool.map(self.objects.get, paths), strict=True) if body is not None}
            for path, body in bodies.items():
                parse_cell_path(table, path)
                read_footer(path, body)
            sources = [io.BytesIO(body) for body in bodies.values()]
        if not sources:
            return table.empty()
        try:
            return pl.scan_parquet(sources, glob=False, hive_partitioning=False).select(table.names()).collect()
        except pl.exceptions.PolarsError as error:
            raise NotALakeObjectError(market_prefix(table, market), f"the rows of a cell in {span} do not read ({str(error).strip()})") from None

    def _cells(self, name: str, markets: list[Market] | None, span: TimeRange | None, with_path: bool = False) -> pl.LazyFrame:
        table = self.registry.table(name)
        months = set(span.months()) if span else None

        def asked(cell: Cell) -> bool:
            return (markets is None or cell.market is None or cell.market in markets) and (months is None or cell.date[:7] in months)

        paths = [self.objects.uri(record.path) for record in self._readable(table, asked)]
        hive = partition_columns(table) if with_path else []
        schema = pl.Schema(dict(table.polars_schema()) | dict.fromkeys(hive, pl.String))
        if not paths:
            return pl.LazyFrame(schema=schema)
        above = [part.split("=")[0] for part in self.objects.uri("").split("/") if "=" in part]  # a root may have such folders of its own
        hive_schema = dict.fromkeys([*above, *hive], pl.String) if hive else None
        rows = pl.scan_parquet(paths, hive_partitioning=bool(hive), hive_schema=hive_schema, glob=False, storage_options=self.objects.reader_options).select(schema.names())
        if markets is not None and table.shape != "cells" and "symbol" in table.columns:
            rows = rows.filter(pl.format("{}-{}:{}", "exchange", "market_type", "symbol").is_in([market.key for market in markets]))
        time = _time_column(table)
        if span is None or time is None:
            return rows
        if "end_time" in table.columns:  # a row that covers a range of its own is found by any part of it
            return rows.filter(pl.col(time) < span.end, pl.col("end_time") > span.start)
        return rows.filter(pl.col(time).is_between(span.start, span.end, closed="left"))


def _refuse(table: type[Table], foreign: Iterable[NotALakeObjectError], asked: Callable[[Cell], bool]) -> None:
    """Raise for an object that may hold what is asked for and does not read."""
    for error in foreign:
        cell = parse_cell_path(table, error.path)  # one in a place that is no cell's raises by itself
        if cell is None or asked(cell):
            raise error


def _within(rows: pl.DataFrame, span: TimeRange) -> pl.DataFrame:
    """Rows that open in a range; they are in order, and most often all of them do."""
    times = rows["open_time"]
    if rows.height and times[0] >= span.start and times[-1] < span.end:
        return rows
    return rows.filter(pl.col("open_time").is_between(span.start, span.end, closed="left"))


def _market(market: str | Market) -> Market:
    return market if isinstance(market, Market) else Market.parse(market)


def _time_column(table: type[Table]) -> str | None:
    return next((name for name in table.key if name.endswith("_time")), None)
