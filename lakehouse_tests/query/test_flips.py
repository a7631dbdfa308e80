"""No changed bit becomes a value: whatever is flipped in a stored object, a reader gets the right rows or an
error of the lake.

`FLIPS` says how many flips there are per table; 40 unless told.
"""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.features.candle import CANDLES
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.model.table import Column, Table
from lakehouse.query.lake import Lake
from lakehouse.registry import Registry
from lakehouse.storage.layout import cell_path, ledger_path, quarantine_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, at, bronze, candles, minutes, unsealed

FLIPS = int(os.environ.get("FLIPS", "40"))
ETH = Market("binance", "spot", "ETHUSDT")
HOURLY = next(table for table in CANDLES if table.name == "gold/candle_1h")
TIMES = minutes("2024-02-01", 720)
CLOSES = [101.0 + n / 1000 for n in range(len(TIMES))]
Read = Callable[[Lake], object]
pytestmark = pytest.mark.slow


def store_all(root: Path) -> None:
    store = TableStore(LakeObjects(root))
    rows = candles(TIMES, close=CLOSES)
    for market in (BTC, ETH):
        cell = Cell("2024-02", market)
        store.put(CandleArchive, cell, CellResult(bronze(TIMES, close=CLOSES), {}))
        run = GapRun("absent", at("2024-02-01T12:00"), at("2024-02-02"), 720)
        bad = rows.head(3).with_columns(low=pl.lit(-1.0))
        made = store.put(
            Candle,
            cell,
            CellResult(
                pl.concat([bad.with_columns(pl.col("open_time") + pl.duration(days=9)), rows]),
                {},
                CellFacts(gaps=(run,), evidence="totals"),
            ),
        )
        inputs = {"silver/candle@2024-02": made.version}
        store.put(HOURLY, cell, CellResult(HOURLY.compute({"silver/candle": rows}, cell.window), inputs))
        store.put(Vwap, cell, CellResult(Vwap.compute({"silver/candle": rows}, cell.window), {}))
    store.put(
        Gap,
        Cell("2024-02"),
        CellResult(gap_frame([(market, "silver/candle", run) for market in (BTC, ETH)]), {}),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("flips") / "lake"
    store_all(place)
    return place


def sql(query: str) -> Read:
    return lambda lake: lake.sql(query).rows()


def scan(table: str, *columns: str) -> Read:
    return lambda lake: lake.scan(table, BTC).select(*columns or [pl.all()]).collect().rows()


def stored(table: type[Table]) -> Read:
    """As a build reads an input."""
    return lambda lake: (
        (found := TableStore(lake.objects).get(table, FEBRUARY))
        and (found.rows.rows(), found.record.version, found.record.facts)
    )


SPAN = (BTC, "2024-02-01", "2024-02-02")
READS: dict[type[Table], dict[str, Read]] = {
    Candle: {
        "candles": lambda lake: lake.candles(*SPAN).rows(),
        "resampled": lambda lake: lake.candles(*SPAN, "5m").rows(),
        "scan": scan("silver/candle"),
        "two columns": scan("silver/candle", "open_time", "close"),
        "filtered": lambda lake: (
            lake.scan("candle", BTC)
            .filter(pl.col("close") > 101.5)
            .select("close")
            .collect(engine="streaming")
            .rows()
        ),
        "sql": sql(
            "SELECT bit_xor(hash(close)), max(volume), min(symbol) FROM silver.candle WHERE symbol = "
            "'BTCUSDT'"
        ),
        "count": sql("SELECT count(*) FROM silver.candle"),
        "gaps": lambda lake: lake.gaps(BTC, now=at("2024-04-01")).rows(),
        "input": stored(Candle),
        "quarantine": lambda lake: TableStore(lake.objects).quarantined(Candle, FEBRUARY).rows(),  # type: ignore[union-attr]
    },
    CandleArchive: {
        "input": stored(CandleArchive),
        "scan": scan("bronze/candle_archive"),
        "sql": sql("SELECT bit_xor(hash(close)), max(fetched_at) FROM bronze.candle_archive"),
    },
    HOURLY: {
        "candles": lambda lake: lake.candles(*SPAN, "1h").rows(),
        "scan": scan(HOURLY.name),
        "sql": sql("SELECT sum(volume), max(high) FROM gold.candle_1h"),
    },
    Vwap: {
        "scan": scan("gold/vwap"),
        "sql": sql("SELECT count(*), sum(vwap_1h) FROM gold.vwap"),
        "input": stored(Vwap),
    },
    Gap: {
        "scan": lambda lake: lake.scan("silver/gap").collect().rows(),
        "sql": sql("SELECT sum(slot_count), min(start_time) FROM silver.gap"),
    },
}
READS[Vwap]["sql"] = sql(f"SELECT count(*), max({Vwap.names()[-1]}) FROM gold.vwap")
PLACES = {
    f"{table.name} {kind}": (table, path)
    for table in READS
    for kind, path in (("cell", cell_path), ("ledger", lambda table, cell: ledger_path(table)))
}
PLACES["silver/candle quarantine"] = (Candle, quarantine_path)


def cell_of(table: type[Table]) -> Cell:
    return Cell("2024-02") if table is Gap else FEBRUARY


def damages(body: bytes, seed: str) -> list[bytes]:
    """Bodies with one bit flipped, half of them near the end, where the footer is; then a few that are
    damaged otherwise.
    """
    draw, found = random.Random(seed), []
    for number in range(FLIPS):
        place = (
            draw.randrange(len(body)) if number % 2 else len(body) - 1 - draw.randrange(min(len(body), 3000))
        )
        changed = bytearray(body)
        changed[place] ^= 1 << draw.randrange(8)
        found.append(bytes(changed))
    middle = len(body) // 2
    return [
        *found,
        body[:middle],
        b"",
        body + b"x",
        body[:middle] + bytes(64) + body[middle + 64 :],
        body[:-9] + b"\x00" + body[-8:],
    ]


@pytest.mark.parametrize("place", PLACES)
def test_a_changed_bit_is_never_a_value(root: Path, place: str) -> None:
    table, where = PLACES[place]
    path = where(table, cell_of(table))
    right = {name: read(Lake(root)) for name, read in READS[table].items()}
    objects = LakeObjects(root)
    sound = objects.get(path)
    assert sound is not None
    outcomes = {"right": 0, "refused": 0}
    try:
        for number, body in enumerate(damages(sound, place)):
            objects.put(path, body)
            for name, read in READS[table].items():
                try:
                    found = read(Lake(root))
                except LakehouseError:
                    outcomes["refused"] += 1
                    continue
                assert found == right[name], f"{name}, damage {number}"
                outcomes["right"] += 1
    finally:
        objects.put(path, sound)
        for name, read in READS[table].items():
            assert read(Lake(root)) == right[name]
    assert outcomes["refused" if place.endswith(("cell", "quarantine")) else "right"] > FLIPS / 2
    if place.endswith("ledger"):
        assert not outcomes["refused"], "it is only a cache"


def test_a_flip_in_a_cell_of_an_earlier_release_is_no_foreign_error(root: Path, tmp_path: Path) -> None:
    store_all(tmp_path / "lake")
    objects, path = LakeObjects(tmp_path / "lake"), cell_path(Candle, FEBRUARY)
    old = unsealed(objects.get(path) or b"")
    for body in damages(old, "old"):
        objects.put(path, body)
        for read in READS[Candle].values():
            try:
                read(Lake(objects.root))
            except LakehouseError:
                continue


@pytest.mark.parametrize("table", [Candle, CandleArchive, HOURLY, Vwap], ids=lambda table: table.name)
def test_one_cell_in_the_place_of_another_is_named_by_every_reader(
    table: type[Table], tmp_path: Path
) -> None:
    store_all(tmp_path / "lake")
    objects = LakeObjects(tmp_path / "lake")
    ours, others = cell_path(table, FEBRUARY), cell_path(table, Cell("2024-02", ETH))
    for body in (
        objects.get(others),
        objects.get(cell_path(Candle if table is not Candle else Vwap, FEBRUARY)),
    ):
        objects.put(ours, body or b"")
        for name, read in READS[table].items():
            if name != "quarantine" and name != "resampled":
                with pytest.raises(
                    LakehouseError,
                    match=r"symbol=BTCUSDT/month=2024-02/data.parquet is damaged: it holds 2024-02\|binance-spot:",
                ):
                    read(Lake(objects.root))


def test_quarantine_of_another_market_is_named(tmp_path: Path) -> None:
    store_all(tmp_path / "lake")
    store = TableStore(LakeObjects(tmp_path / "lake"))
    store.objects.put(
        quarantine_path(Candle, FEBRUARY),
        store.objects.get(quarantine_path(Candle, Cell("2024-02", ETH))) or b"",
    )
    with pytest.raises(
        LakehouseError, match=r"it holds 2024-02.binance-spot:ETHUSDT of quarantine/silver/candle"
    ):
        store.quarantined(Candle, FEBRUARY)


def test_appending_a_column_makes_no_old_cell_damaged(tmp_path: Path) -> None:
    store_all(tmp_path / "lake")
    wider = type("Wider", (Candle,), {"note": Column(pl.String, "A column that came later", nullable=True)})
    (candles_of_all,) = (one for one in Registry().datasets if one.silver is Candle)
    datasets = (replace(candles_of_all, silver=wider),)
    lake = Lake(tmp_path / "lake", Registry(datasets, ()))
    new = candles(TIMES).with_columns(note=pl.lit("new"))
    TableStore(lake.objects).put(
        wider,
        Cell("2024-03", BTC),
        CellResult(new.with_columns(pl.col("open_time", "close_time") + pl.duration(days=29)), {}),
    )
    assert lake.candles(BTC, "2024-02", "2024-04")["note"].value_counts(sort=True).rows() == [
        (None, 720),
        ("new", 720),
    ]
    assert lake.scan("silver/candle", BTC).select("note").collect().height == 1440
    assert lake.sql(
        "SELECT note, count(*) AS n FROM silver.candle WHERE symbol = 'BTCUSDT' GROUP BY ALL ORDER BY note"
    ).rows() == [("new", 720), (None, 720)]
    from lakehouse.ops.stored import inspect_lake

    assert inspect_lake(lake.objects, lake.registry, []).damage == []
