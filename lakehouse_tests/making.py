"""Makes markets, rows, files and cells for tests, plainly and apart from the code under test."""

import hashlib
import io
import math
import random
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.market import MarketFacts, MarketTable
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.market import Market
from lakehouse.model.table import UTC_TIME, Table

NOW = datetime(2024, 4, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MICRO = timedelta(microseconds=1)
BTC = Market("binance", "spot", "BTCUSDT")
COIN = Market("binance", "inverse", "BTCUSD_PERP")
FEBRUARY = Cell("2024-02", BTC)
HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"


def at(text: str) -> datetime:
    """An instant from ISO text without offset."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def facts(
    market: Market = BTC,
    listed: str = "2020-01-01",
    delisted: str | None = None,
    contract_size: float | None = None,
) -> MarketFacts:
    """Facts of a market."""
    return MarketFacts(
        market, "BTC", "USDT", None, contract_size, at(listed), at(delisted) if delisted else None, "derived"
    )


def spot_tables(tables: Iterable[type[Table]], spread: str | None = None) -> list[type[Table]]:
    """Those of some tables that spot markets have, of one spread or all."""
    return [
        table
        for table in tables
        if spread in (None, table.spread)
        and "spot" in table.market_types
        and (not table.inputs or any("spot" in each.table.market_types for each in table.inputs))
    ]


def as_given(feature: type[Feature], rows: pl.DataFrame, market: Market = BTC) -> pl.DataFrame:
    """Rows as a feature is given them: over all markets with the names and facts of theirs."""
    if feature.spread != "all":
        return rows
    names = {name: str(getattr(market, name)) for name in ("exchange", "market_type", "symbol")}
    told = names | {name: facts(market).row[name] for name in feature.facts}
    return rows.with_columns(
        pl.lit(value, MarketTable.columns[name].dtype).alias(name) for name, value in told.items()
    )


def looking_back(tables: Iterable[type[Table]], cell: Cell, until: str) -> set[tuple[str, Cell]]:
    """The later cells of some tables, up to a month, that look back on a cell, by the name of the table."""
    later = [cell.shift(n) for n in range(1, 40) if cell.shift(n).date <= until]
    return {
        (table.name, after)
        for table in tables
        for after in later
        if any(after.window.start - each.lookback < cell.window.end for each in table.inputs if each.lookback)
    }


def series(times: Iterable[datetime], name: str = "open_time") -> pl.Series:
    """Instants as the tables hold them."""
    return pl.Series(name, list(times), dtype=UTC_TIME)


def candles(times: Sequence[datetime], **columns: Any) -> pl.DataFrame:
    """Good rows of `silver/candle`, one per instant; `columns` replace values, one for all or one each."""
    row = {
        "open": 100.0,
        "high": 102.0,
        "low": 99.0,
        "close": 101.0,
        "volume": 10.0,
        "quote_volume": 1005.0,
        "trade_count": 7,
        "taker_buy_volume": 4.0,
    }
    row |= {
        "taker_buy_quote_volume": 402.0,
        "contracts": None,
        "source": "archive",
        "is_truncated": False,
        "is_misaligned": False,
    }
    values: dict[str, Any] = {
        "open_time": list(times),
        "close_time": [time + MINUTE - MICRO for time in times],
    }
    for name, value in (row | columns).items():
        values[name] = value if isinstance(value, list) else [value] * len(times)
    return pl.DataFrame(values, schema_overrides=dict(Candle.polars_schema())).select(Candle.names())


def walk(times: Sequence[datetime], seed: int = 1, price: float = 100.0, step: float = 1e-3) -> pl.DataFrame:
    """Rows of `silver/candle` whose price goes at random from one to the next, to three decimals, with sizes
    to match.
    """
    drawn = random.Random(seed)
    columns: dict[str, list[float]] = {name: [] for name in ("open", "high", "low", "close", "volume")}
    columns |= {"quote_volume": [], "taker_buy_volume": [], "trade_count": []}
    for _ in times:
        last = round(price * math.exp(drawn.gauss(0, step)), 3)
        reach = round(price * step * drawn.random(), 3)
        size = round(drawn.expovariate(0.1), 3)
        row = (price, max(price, last) + reach, min(price, last) - reach, last, size, size * last)
        for name, value in zip(
            columns, (*row, round(size * drawn.random(), 3), drawn.randrange(1, 50)), strict=True
        ):
            columns[name].append(value)
        price = last
    bought = [size * last for size, last in zip(columns["taker_buy_volume"], columns["close"], strict=True)]
    return candles(times, **columns, taker_buy_quote_volume=bought)


def minutes(start: str, count: int, step: int = 1) -> list[datetime]:
    """Consecutive minutes."""
    return [at(start) + n * step * MINUTE for n in range(count)]


def bronze(
    times: Sequence[datetime],
    source: str = "daily",
    fetched: datetime = NOW,
    sha: str = "a",
    removed: bool = False,
    **columns: Any,
) -> pl.DataFrame:
    """Rows of `bronze/candle_archive`, one per instant, all from one file."""
    rows = candles(times, **columns).drop("source", "is_truncated", "is_misaligned")
    lineage = {"source": source, "source_file": f"{source}.zip", "source_sha256": sha, "is_removed": removed}
    rows = rows.with_columns(
        pl.lit(None, pl.Float64).alias("taker_buy_contracts"),
        pl.lit(fetched).cast(UTC_TIME).alias("fetched_at"),
        **{k: pl.lit(v) for k, v in lineage.items()},
    )
    return rows.select(CandleArchive.names())


# --- archive files --------------------------------------------------------------------------------


def kline(time: datetime, price: float = 100.0, unit: int = 1_000, taker: float = 4.0) -> str:
    """A line of a kline CSV; `unit` is that of its instants, per second."""
    opened = int(time.timestamp()) * unit
    return f"{opened},{price},{price + 2},{price - 1},{price + 1},10.0,{opened + 60 * unit - 1},{10 * price + 5},7,{taker},{taker * price},0"


def klines(start: str, count: int, price: float = 100.0, unit: int = 1_000) -> list[str]:
    """Lines of consecutive minutes; the price rises by one tick a minute, so that no two are equal."""
    return [kline(time, price + n / 100, unit) for n, time in enumerate(minutes(start, count))]


def text(lines: Iterable[str]) -> bytes:
    """Lines as the bytes of a CSV."""
    return "".join(f"{line}\n" for line in lines).encode()


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with the given members; the same ones give the same bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            member.compress_type = compression
            archive.writestr(member, content)
    return sink.getvalue()


class ArchiveFolder:
    """A folder of archive files by key, as the simulated exchange serves it in place of generated ones."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, period: str, market: Market = BTC) -> str:
        """The key of a 1m kline file."""
        frequency = "monthly" if len(period) == 7 else "daily"
        place = {"spot": "spot", "linear": "futures/um", "inverse": "futures/cm"}[market.market_type]
        return f"data/{place}/{frequency}/klines/{market.symbol}/1m/{market.symbol}-1m-{period}.zip"

    def put(self, period: str, csv: bytes, market: Market = BTC) -> str:
        """Publish a sound file; returns its key."""
        key = self.key(period, market)
        self.put_bytes(key, zipped((key.rsplit("/", 1)[-1].replace(".zip", ".csv"), csv)))
        return key

    def put_bytes(self, key: str, body: bytes, checksum: str | None = "") -> None:
        """Publish any bytes; the CHECKSUM is theirs unless told, and left out if None."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        beside = path.with_name(f"{path.name}.CHECKSUM")
        if checksum is None:
            beside.unlink(missing_ok=True)
        else:
            beside.write_text(checksum or f"{hashlib.sha256(body).hexdigest()}  {path.name}\n")


# --- cells ----------------------------------------------------------------------------------------


def unsealed(body: bytes) -> bytes:
    """A cell's file as an earlier release wrote it: the same rows and facts, without a seal and what it was
    made with.
    """
    import pyarrow.parquet as pq

    read = pq.read_metadata(io.BytesIO(body))
    start = len(body) - int.from_bytes(body[-8:-4], "little") - 8
    sink = io.BytesIO()
    table = pq.read_table(io.BytesIO(body))
    schema = table.schema.with_metadata(None)
    texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
    deltas = {
        field.name: "DELTA_BINARY_PACKED"
        for field in schema
        if str(field.type) in ("int64", "int32") or str(field.type).startswith("timestamp")
    }
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=texts,
        column_encoding=deltas,
        write_statistics=True,
    ) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=122_880)
        writer.add_key_value_metadata({b"lakehouse": read.metadata[b"lakehouse"]})
    assert sink.getvalue()[:start] == body[:start], "the rows are the same bytes"
    return sink.getvalue()
