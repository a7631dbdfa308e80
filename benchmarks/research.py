"""What a researcher waits for: a cross-section of 200 markets, SQL with a predicate, a range by a macro; each
against the way there would be without it.

    python -m benchmarks.research

A day of 200 markets comes from `gold/daily_panel`, one object a month, or from the 200 months of
`gold/candle_1d` that hold it, on a local folder and on S3 with 30 ms added to every request. Statements run
over a year of 1m candles of ten markets, and DuckDB runs the same over exactly the files that can hold an
answer, on a connection of its own each time, as `Lake.sql` does. Ours hold every byte they read against its
seal. Medians, in turn with each other.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from benchmarks.reading import BTC, YEAR, delayed_s3, fill
from lakehouse.datasets.market import MarketFacts, MarketTable, market_frame
from lakehouse.features.candle import OF_INTERVAL
from lakehouse.features.daily_panel import DailyPanel
from lakehouse.model.cell import Cell
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore

MARKETS = [Market("binance", "linear", f"X{number:03}USDT") for number in range(200)]
MONTH, DAY = Cell("2023-03"), ("2023-03-15", "2023-03-16")
_DAILY = OF_INTERVAL[Interval.parse("1d")]
_NAMES = ("exchange", "market_type", "symbol")


def fill_days(root: str) -> None:
    """A month of days of 200 markets, in cells of each and in the panel of all."""
    store, parts = TableStore(LakeObjects(root)), []
    days = [MONTH.window.start + n * timedelta(days=1) for n in range(31)]
    for number, market in enumerate(MARKETS):
        rows = pl.DataFrame(
            {name: [1 + (37 * number + 11 * day) % 1009 / 7 for day in range(31)] for name in _DAILY.columns},
            schema_overrides={"trade_count": pl.Int64, "candle_count": pl.Int32},
            strict=False,
        ).with_columns(
            open_time=pl.Series(days).cast(_DAILY.polars_schema()["open_time"]),
            close_time=pl.Series([day + timedelta(days=1, microseconds=-1) for day in days]).cast(
                pl.Datetime("us", "UTC")
            ),
            knowable_at=pl.Series([day + timedelta(days=1) for day in days]).cast(pl.Datetime("us", "UTC")),
        )
        rows = rows.select(_DAILY.names()).cast(dict(_DAILY.polars_schema()))  # type: ignore[arg-type]
        store.put(_DAILY, Cell(MONTH.date, market), CellResult(rows, {}))
        facts = MarketFacts(market, market.symbol[:-4], "USDT", "USDT", None, days[0], None, "derived")
        told = {name: facts.row[name] for name in DailyPanel.facts} | {
            name: getattr(market, name) for name in _NAMES
        }
        parts.append(
            rows.with_columns(
                pl.lit(value, MarketTable.columns[name].dtype).alias(name) for name, value in told.items()
            )
        )
    store.put(MarketTable, None, CellResult(market_frame([]), {}))
    panel = DailyPanel.compute({_DAILY.name: pl.concat(parts)}, MONTH.window)
    store.put(DailyPanel, MONTH, CellResult(DailyPanel.conform(panel, MONTH), {}))


class Spent(NamedTuple):
    """Median milliseconds of a way to read.

    Attributes:
        wall: Until it was done.
        cpu: Of all threads, in user and system.
    """

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.0f} ms ({self.cpu:.0f} of CPU)"


def in_turn(first: Callable[[], object], second: Callable[[], object], times: int) -> tuple[Spent, Spent]:
    """What each takes; the first run of each is not counted."""
    spent: tuple[list[Spent], list[Spent]] = ([], [])
    for number in range(times + 1):
        for read, told in zip((first, second), spent, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            read()
            if number:
                told.append(Spent((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000))
    one, two = (Spent(*map(statistics.median, zip(*told, strict=True))) for told in spent)
    return one, two


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Requests for objects and bytes of them, while it lasts."""
    found = {"requests": 0, "bytes": 0}
    own = {name: getattr(LakeObjects, name) for name in ("get", "get_of", "get_tagged")}

    def wrapped(name: str) -> Callable[..., object]:
        def read(self: LakeObjects, *given: object) -> object:
            body = own[name](self, *given)
            if name != "get" or self.is_local:  # of a bucket it asks `get_tagged`
                found["requests"] += 1
                found["bytes"] += len(body[0] if isinstance(body, tuple) else body or b"")
            return body

        return read

    for name in own:
        setattr(LakeObjects, name, wrapped(name))
    try:
        yield found
    finally:
        for name, method in own.items():
            setattr(LakeObjects, name, method)


def cross_section(root: str, times: int) -> None:
    """A day of 200 markets, by both ways."""

    def panel() -> pl.DataFrame:
        return Lake(root).scan("gold/daily_panel", start=DAY[0], end=DAY[1]).collect()

    def by_market() -> pl.DataFrame:
        return Lake(root).scan("gold/candle_1d", start=DAY[0], end=DAY[1]).collect()

    assert panel()["close"].sort().equals(by_market()["close"].sort())
    assert panel().height == len(MARKETS)
    told = []
    for read in (panel, by_market):
        with counted() as found:
            read()
        told.append(f"{found['requests']} requests for {found['bytes'] / 1e3:,.0f} kB")
    one, many = in_turn(panel, by_market, times)
    where = "S3" if "://" in root else "local"
    print(f"{where}: a day of 200 markets: panel {one}, {told[0]}; 200 cells {many}, {told[1]}")
    print(f"{where}: ratio {one.wall / many.wall:.2f}", flush=True)


def statements(root: str, times: int) -> None:
    """SQL with a predicate, and the macro, against DuckDB on the exact files."""
    lake = Lake(root)
    minutes = {cell: lake.objects.uri(record.path) for cell, record in lake.stored("silver/candle").items()}
    year = [path for cell, path in minutes.items() if cell.market == BTC]
    month = [path for path in year if f"{YEAR}-03" in path]
    every = list(minutes.values())
    of_year = f"WHERE symbol = 'BTCUSDT' AND month BETWEEN '{YEAR}-01' AND '{YEAR}-12' AND close > open"
    cases = [
        (
            "a mean, of a month",
            "avg(close)",
            f"WHERE symbol = 'BTCUSDT' AND month = '{YEAR}-03' AND close > open",
            month,
        ),
        ("sums, of a year", "avg(close), sum(volume), count(*)", of_year, year),
        ("rows, of a year", "open_time, close", of_year, year),
        (
            "sums by market, of ten years",
            "symbol, avg(close), sum(volume)",
            "WHERE close > open GROUP BY symbol",
            every,
        ),
    ]
    for name, select, where, paths in cases:
        files = ", ".join(f"'{path}'" for path in paths)

        def ours(select: str = select, where: str = where) -> object:
            return Lake(root).sql(f"SELECT {select} FROM silver.candle {where}")

        def engine(select: str = select, where: str = where, files: str = files) -> object:
            with duckdb.connect() as connection:
                return connection.sql(
                    f"SELECT {select} FROM read_parquet([{files}], hive_partitioning = true) {where}"
                ).pl()

        said, beside = in_turn(ours, engine, times)
        print(
            f"sql, {name}: {said}, DuckDB on {len(paths)} files {beside}: "
            f"ratio {said.wall / beside.wall:.2f} ({said.cpu / beside.cpu:.2f} of CPU)",
            flush=True,
        )
    span = (f"{YEAR}-03-01", f"{YEAR}-04-01")
    for interval in ("1m", "1h"):
        call = f"FROM candles('{BTC.key}', '{span[0]}', '{span[1]}', '{interval}')"
        said, beside = in_turn(
            partial(Lake(root).sql, call), partial(Lake(root).candles, BTC, *span, interval), times
        )
        print(
            f"candles of a month at {interval}: macro {said}, `Lake.candles` {beside}",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder) / "lake")
        fill_days(root)
        cross_section(root, 11)
        fill(root)
        statements(root, 11)
    with delayed_s3(0.03, lambda: fill_days("s3://bench/lake")):
        cross_section("s3://bench/lake", 5)


if __name__ == "__main__":
    main()
