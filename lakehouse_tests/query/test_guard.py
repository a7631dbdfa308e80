"""What the guard of bytes and the lazy scan could miss: rows that are fetched with a footer, queries that are
moved into the scan.
"""

import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.errors import DamagedObjectError, LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query import reading
from lakehouse.query.lake import Lake
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import footer_size
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, candles, minutes, unsealed

Query = Callable[[pl.LazyFrame], pl.LazyFrame]
COUNT = 20_000  # rows of a cell that is too large to be read whole for its footer
# `max` is told by the footer
LAST = [
    f"SELECT count(DISTINCT {name}) AS n FROM silver.candle"
    for name in ("is_misaligned", "is_truncated", "source", "contracts")
]


def store_large(objects: LakeObjects) -> bytes:
    draw = random.Random(1)
    columns = {
        "contracts": [draw.random() for _ in range(COUNT)],
        "is_misaligned": [draw.random() < 0.5 for _ in range(COUNT)],
    }
    TableStore(objects).put(
        Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", COUNT), **columns), {})
    )
    return objects.get(cell_path(Candle, FEBRUARY)) or b""


@pytest.mark.parametrize("distance", [1, 30, 700, 5000])
@pytest.mark.slow
def test_sql_hands_over_no_row_that_was_fetched_with_a_footer_unchecked(
    objects: LakeObjects, distance: int
) -> None:
    body = bytearray(store_large(objects))
    body[len(body) - footer_size(body) - distance] ^= 4
    objects.put(cell_path(Candle, FEBRUARY), bytes(body))
    for query in LAST:
        with pytest.raises(DamagedObjectError, match="its rows are not those that were sealed"):
            Lake(objects.root).sql(query)


def test_sql_that_asks_for_no_row_fetches_the_end_of_a_cell_only(
    objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, fetched, get_of = len(store_large(objects)), list[int](), LakeObjects.get_of
    Lake(objects.root).stored("silver/candle")
    monkeypatch.setattr(
        LakeObjects,
        "get_of",
        lambda self, path, etag, start, end: (
            fetched.append(end - start),
            get_of(self, path, etag, start, end),
        )[1],
    )
    assert Lake(objects.root).sql("SELECT count(*) AS n, max(month) AS m FROM silver.candle").rows() == [
        (COUNT, "2024-02")
    ]
    assert sum(fetched) < size / 4
    fetched.clear()
    assert (
        Lake(objects.root).sql("SELECT sum(is_misaligned::INT) > 0 AS some FROM silver.candle").item() is True
    )
    assert fetched.count(size) == 1, "all rows, once"


MARKETS = [Market("binance", "spot", symbol) for symbol in "ABC"]
QUERIES: dict[str, Query] = {
    "first rows, then a market": lambda rows: rows.head(9).filter(pl.col("symbol") == "B"),
    "first rows, then a value": lambda rows: rows.head(9).filter(pl.col("volume") > 3).select("close"),
    "first rows, then both, then fewer": lambda rows: (
        rows.head(16).filter(pl.col("symbol") == "B", pl.col("volume") > 3).head(2)
    ),
    "a market, then first rows": lambda rows: rows.filter(pl.col("symbol") == "B").head(9),
    "a value, then first rows, then a market": lambda rows: (
        rows.filter(pl.col("volume") > 3).head(8).filter(pl.col("symbol") == "B")
    ),
    "rows in the middle": lambda rows: rows.slice(5, 9).filter(pl.col("volume") > 1),
    "last rows": lambda rows: rows.tail(9).filter(pl.col("symbol") == "C"),
    "no rows": lambda rows: rows.head(0).filter(pl.col("symbol") == "B"),
    "largest value": lambda rows: rows.filter(pl.col("close") == pl.col("close").max()),
    "largest value of a market": lambda rows: rows.filter(
        (pl.col("symbol") == "B") & (pl.col("close") == pl.col("close").max())
    ),
    "first of each market": lambda rows: rows.filter(pl.col("symbol").is_first_distinct()),
    "a count that runs": lambda rows: rows.filter(
        (pl.col("volume").cum_count() > 3) & (pl.col("symbol") == "B")
    ),
    "numbered": lambda rows: rows.with_row_index().filter(pl.col("symbol") == "B"),
    "path or value": lambda rows: rows.filter((pl.col("symbol") == "B") | (pl.col("volume") > 5)),
    "path and value in one": lambda rows: rows.filter(
        pl.col("symbol") == pl.when(pl.col("volume") > 3).then(pl.lit("B")).otherwise(pl.lit("C"))
    ),
    "only a path column": lambda rows: rows.filter(pl.col("volume") > 3).select("symbol"),
    "only a count": lambda rows: rows.filter(pl.col("month") == "2024-02").select(pl.len()),
    "a constant": lambda rows: rows.filter(pl.lit(True)).select(pl.lit(1), pl.len()),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for number, market in enumerate(MARKETS):
        for month in ("2024-01", "2024-02"):
            close = [100.5 + (3 * n + number) % 5 / 5 for n in range(7)]
            rows = candles(
                minutes(f"{month}-01", 7), close=close, volume=[10.0 * (n > 3) + n for n in range(7)]
            )
            TableStore(LakeObjects(root)).put(Candle, Cell(month, market), CellResult(rows, {}))
    TableStore(LakeObjects(root)).put(Candle, Cell("2024-01", BTC), CellResult(Candle.empty(), {}))
    return root


@pytest.mark.parametrize("together", [1, 2, 512])
@pytest.mark.parametrize("name", QUERIES)
def test_a_scan_means_what_the_same_query_means_of_rows_in_memory(
    small: Path, name: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Lake(small).scan("silver/candle")
    memory = rows.collect().lazy()
    monkeypatch.setattr(reading, "_BATCH", together)
    right = QUERIES[name](memory).collect()
    assert right.height or name == "no rows"
    assert QUERIES[name](rows).collect().equals(right)
    assert QUERIES[name](rows).collect(engine="streaming").equals(right)


@pytest.mark.parametrize("rows", [b"30", b"74", b"0x", b"-1", b"7."])
def test_an_unsealed_cell_that_miscounts_its_rows_gives_no_other_market_another_name(
    tmp_path: Path, rows: bytes
) -> None:
    store = TableStore(LakeObjects(tmp_path))
    for number, market in enumerate(MARKETS):
        store.put(
            Candle,
            Cell("2024-02", market),
            CellResult(candles(minutes("2024-02-01", 70), close=100.5 + number / 10), {}),
        )
    path = cell_path(Candle, Cell("2024-02", MARKETS[0]))
    old = unsealed(store.objects.get(path) or b"")
    store.objects.put(path, old)
    right = Lake(tmp_path).scan("silver/candle").select("symbol", "close").collect()
    assert right.n_unique() == 3
    store.objects.put(path, old.replace(b'"rows": 70', b'"rows": ' + rows))
    with pytest.raises(LakehouseError):
        Lake(tmp_path).scan("silver/candle").select("symbol", "close").collect()
    others = Lake(tmp_path).scan("silver/candle", MARKETS[1:]).select("symbol", "close").collect()
    assert others.equals(right.filter(pl.col("symbol") != "A")), "the others are read as before"
