"""A cell that is replaced while it is read: every row is wholly of one version, whoever reads it and wherever
the lake lies.
"""

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ReplacedMeanwhileError
from lakehouse.model.result import CellResult
from lakehouse.model.table import Table
from lakehouse.query import lake as lake_module
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, candles, minutes

REPLACEMENTS = 100  # of each of two cells
COUNT = 3000
# else a row rule takes the rows of some versions away
NO_TAKERS = {"taker_buy_volume": 0.0, "taker_buy_quote_volume": 0.0}
CELLS = [Cell(month, BTC) for month in ("2024-02", "2024-03")]
SPAN = ("2024-02", "2024-04")


def rows(cell: Cell, version: int) -> pl.DataFrame:
    """Rows of which every column tells the version; no version has another layout than the others."""
    price = 100.0 + version
    values = {
        "open": price,
        "high": price,
        "low": price,
        "close": price,
        "volume": 2 * price,
        "quote_volume": 3 * price,
    }
    return candles(minutes(f"{cell.date}-01", COUNT), **values, **NO_TAKERS)


def is_whole(found: pl.DataFrame) -> bool:
    """Whether all rows are there, and their columns agree on the version, row by row."""
    assert found.height in (COUNT, COUNT * len(CELLS)), "of no row, nothing can be torn"
    price = pl.col("open") if "open" in found.columns else pl.col("volume") / 2
    agree = [
        pl.col(name) == price * factor
        for name, factor in {"close": 1, "volume": 2, "quote_volume": 3}.items()
        if name in found.columns
    ]
    return bool(found.select(pl.all_horizontal(agree).all()).item())


READERS: dict[str, Callable[[Lake, TableStore], pl.DataFrame]] = {
    "candles": lambda lake, store: lake.candles(BTC, *SPAN),
    "scan": lambda lake, store: lake.scan("silver/candle", BTC).collect(),
    "scan of some columns": lambda lake, store: (
        lake.scan("silver/candle").select("volume", "close", "month").collect()
    ),
    "sql": lambda lake, store: lake.sql("SELECT open, close, volume, quote_volume FROM silver.candle"),
    "input of a build": lambda lake, store: store.get(Candle, CELLS[0]).rows,  # type: ignore[union-attr]
}


@contextlib.contextmanager
def replacing(objects: LakeObjects) -> Iterator[threading.Event]:
    """A thread that stores versions of two cells in turn, until it has done so often enough."""
    store, done = TableStore(LakeObjects(objects.root)), threading.Event()

    def work() -> None:
        for version in range(REPLACEMENTS):
            for cell in CELLS:
                store.put(Candle, cell, CellResult(rows(cell, version), {}))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        thread.join()


@pytest.mark.slow
def test_no_reader_sees_a_row_of_two_versions(
    objects: LakeObjects, capsys: pytest.CaptureFixture[str]
) -> None:
    store = TableStore(objects)
    for cell in CELLS:
        store.put(Candle, cell, CellResult(rows(cell, 0), {}))
    read, refused = dict.fromkeys(READERS, 0), 0
    with replacing(objects) as done:
        while not done.is_set():
            for name, reader in READERS.items():
                try:
                    assert is_whole(reader(Lake(objects.root), store)), name
                    read[name] += 1
                except ReplacedMeanwhileError:
                    refused += 1
    with capsys.disabled():
        print(f"\n{2 * REPLACEMENTS} replacements; read whole: {read}; refused: {refused}")
    assert min(read.values()) > 0, f"{read}, {refused} refused"


@pytest.mark.parametrize("name", READERS)
def test_a_cell_that_is_replaced_between_two_requests_is_read_whole(
    objects: LakeObjects, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is another one right before each of the first reads of its bytes."""
    store, version = TableStore(objects), iter(range(1, 4))
    for cell in CELLS:
        store.put(Candle, cell, CellResult(rows(cell, 0), {}))
    Lake(objects.root).stored("silver/candle")
    get_of, get = LakeObjects.get_of, LakeObjects.get
    aside = TableStore(LakeObjects(objects.root))

    def replaced(path: str) -> None:
        if path.startswith("silver/candle") and (number := next(version, None)) is not None:
            cell = next(cell for cell in CELLS if cell.date in path)
            aside.put(Candle, cell, CellResult(rows(cell, number), {}))

    monkeypatch.setattr(
        LakeObjects, "get_of", lambda self, path, *where: (replaced(path), get_of(self, path, *where))[1]
    )
    monkeypatch.setattr(LakeObjects, "get", lambda self, path: (replaced(path), get(self, path))[1])
    try:
        found = READERS[name](Lake(objects.root), store)
    except ReplacedMeanwhileError:  # as it says: run the same again
        found = READERS[name](Lake(objects.root), store)
    assert is_whole(found)


LARGE = 10_000  # rows of a cell that is asked for in two requests, its footer first


def large_rows(cell: Cell, version: int) -> pl.DataFrame:
    """As `rows`, of values that do not compress."""
    draw = random.Random(version)
    volume = [8.0 + draw.random() for _ in range(LARGE)]
    return candles(
        minutes(f"{cell.date}-01", LARGE),
        open=100.0 + version / 10,
        volume=volume,
        quote_volume=[2 * one for one in volume],
        **NO_TAKERS,
    )


SINGLE = "SELECT count(*) AS n, count(DISTINCT open) AS versions, sum((quote_volume <> 2 * volume)::INT) AS torn FROM silver.candle"
TWICE = "SELECT count(*) AS n, 1 AS versions, sum((a.open <> b.open OR a.volume <> b.volume)::INT) AS torn FROM silver.candle a JOIN silver.candle b USING (open_time)"
AGGREGATES = (
    pl.len().alias("n"),
    pl.col("open").n_unique().alias("versions"),
    (pl.col("quote_volume") != 2 * pl.col("volume")).sum().alias("torn"),
)
LARGE_READERS: dict[str, Callable[[Lake], pl.DataFrame]] = {
    "sql": lambda lake: lake.sql(SINGLE),
    "sql that reads a cell twice": lambda lake: lake.sql(TWICE),
    "sql of a part": lambda lake: lake.sql(f"{SINGLE} WHERE symbol = 'BTCUSDT' AND volume > 0"),
    "scan": lambda lake: lake.scan("silver/candle").select(AGGREGATES).collect(),
    "streamed scan": lambda lake: (
        lake.scan("silver/candle").filter(pl.col("volume") > 0).select(AGGREGATES).collect(engine="streaming")
    ),
    "candles": lambda lake: lake.candles(BTC, *SPAN).select(AGGREGATES),
}


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("name", LARGE_READERS)
def test_a_large_cell_that_is_replaced_before_any_of_its_requests_is_read_whole(
    objects: LakeObjects, name: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = TableStore(LakeObjects(objects.root))
    sizes = {
        aside.put(Candle, CELLS[0], CellResult(large_rows(CELLS[0], version), {})).size for version in (1, 0)
    }
    assert min(sizes) > 100_000
    Lake(objects.root).stored("silver/candle")
    requests = list[str]()

    def asked(path: str) -> None:
        if path.startswith("silver/candle"):
            requests.append(path)
            if len(requests) == at:
                aside.put(Candle, CELLS[0], CellResult(large_rows(CELLS[0], 1), {}))

    for name_of_read in ("get_of", "get_tagged", *(["get"] if objects.is_local else [])):
        read = getattr(LakeObjects, name_of_read)
        monkeypatch.setattr(
            LakeObjects,
            name_of_read,
            lambda self, path, *where, read=read: (asked(path), read(self, path, *where))[1],
        )
    assert LARGE_READERS[name](Lake(objects.root)).rows() == [(LARGE, 1, 0)]
    if name.startswith("sql"):
        assert len(requests) > 1, "its footer, then its rows; or its footer in vain, then all of it"


@pytest.mark.slow
def test_sql_gets_through_beside_a_writer_that_never_rests(objects: LakeObjects) -> None:
    """A statement that meets a replaced cell before it has had any of it takes the new one: whole-table SQL
    need not wait for the end of a rebuild.
    """
    versions = {cell: [large_rows(cell, version) for version in range(4)] for cell in CELLS}
    store, done = TableStore(LakeObjects(objects.root)), threading.Event()
    for cell in CELLS:
        store.put(Candle, cell, CellResult(versions[cell][0], {}))

    def work() -> None:
        for version in itertools.cycle(range(4)):
            for cell in CELLS:
                store.put(Candle, cell, CellResult(versions[cell][version], {}))
            if done.is_set():
                return

    writer = threading.Thread(target=work)
    writer.start()
    answered = 0
    try:
        for _ in range(10):
            with contextlib.suppress(ReplacedMeanwhileError):
                found = Lake(objects.root).sql(
                    SINGLE.replace("count(*)", "month, count(*)") + " GROUP BY month"
                )
                assert sorted(found.rows()) == [(cell.date, LARGE, 1, 0) for cell in CELLS]
                answered += 1
    finally:
        done.set()
        writer.join()
    assert answered > 0


def test_a_cell_that_gains_a_column_while_sql_runs_is_read_with_it(
    objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement's view was made for the columns of the old object; the newer one is not read through
    it.
    """
    names = Candle.names()
    before = type(
        "Before",
        (Table,),
        {
            "name": Candle.name,
            "key": Candle.key,
            "time": Candle.time,
            **{name: Candle.columns[name] for name in names[:-1]},
        },
    )
    before.columns = {name: Candle.columns[name] for name in names[:-1]}
    before.most_rows = Candle.most_rows
    store, run, found = (
        TableStore(objects),
        lake_module.run,
        candles(minutes("2024-02-01", 50), is_misaligned=True),
    )
    for cell in CELLS:
        store.put(before, cell, CellResult(found.select(names[:-1]), {}))

    def replaced(*arguments: Any) -> pl.DataFrame:
        store.put(Candle, CELLS[1], CellResult(found, {}))
        return run(*arguments)

    statement = "SELECT month, is_misaligned, count(*) AS n FROM silver.candle GROUP BY ALL ORDER BY 1"
    assert Lake(objects.root).sql(statement).rows() == [("2024-02", None, 50), ("2024-03", None, 50)]
    monkeypatch.setattr(lake_module, "run", replaced)
    assert Lake(objects.root).sql(statement).rows() == [("2024-02", None, 50), ("2024-03", True, 50)]
