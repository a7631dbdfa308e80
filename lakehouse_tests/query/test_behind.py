"""Who reads a cell that is behind its inputs is told, in the same words everywhere."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.features.candle import CANDLES
from lakehouse.model.cell import Cell
from lakehouse.model.errors import BehindInputsWarning, NotALakeObjectError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.storage.due import inputs_now
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, bronze, candles, minutes

pytestmark = pytest.mark.slow

ETH = Market("binance", "spot", "ETHUSDT")
HOURLY = next(table for table in CANDLES if table.name == "gold/candle_1h")
WORDS = "{}: 1 cell is behind its inputs (2024-02|binance-spot:BTCUSDT): the rows are right for what these were before. `lakehouse build {}` makes them again."


def build(objects: LakeObjects, zone: str, market: Market = BTC, volume: float = 10.0) -> None:
    """What a build of one table does, on two days of February."""
    store, cell, times = TableStore(objects), Cell("2024-02", market), minutes("2024-02-01", 2 * 1440)
    if zone == "bronze":
        store.put(CandleArchive, cell, CellResult(bronze(times, volume=volume), {"2024-02": "etag:1:none"}))
    elif zone == "silver":
        ledgers = {name: ledger(objects, table) for name, table in [(CandleArchive.name, CandleArchive)]}
        made_of = {f"{CandleArchive.name}@2024-02": ledgers[CandleArchive.name][cell].version}
        store.put(Candle, cell, CellResult(candles(times, volume=volume), made_of))
    else:
        rows = store.get(Candle, cell)
        assert rows is not None
        made_of = {"silver/candle@2024-02": rows.record.version}
        store.put(
            HOURLY, cell, CellResult(HOURLY.compute({"silver/candle": rows.rows}, cell.window), made_of)
        )


@pytest.fixture
def stale(objects: LakeObjects) -> Lake:
    """A lake in which the month of one market was uploaded anew, and only silver built again; another market
    is up to date.
    """
    for market in (BTC, ETH):
        for zone in ("bronze", "silver", "gold"):
            build(objects, zone, market)
    build(objects, "bronze", volume=20.0)
    build(objects, "silver", volume=20.0)
    return Lake(objects.root)


def said(read: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read()
    return [str(one.message) for one in caught if issubclass(one.category, BehindInputsWarning)]


WAYS: dict[str, Callable[[Lake, str], object]] = {
    "scan": lambda lake, table: lake.scan(table).collect(),
    "scan of a market": lambda lake, table: (
        lake.scan(table, BTC, "2024-02-01", "2024-02-02").select("close").collect()
    ),
    "streamed scan": lambda lake, table: lake.scan(table).select("close").collect(engine="streaming"),
    "sql": lambda lake, table: lake.sql(f"SELECT sum(volume) FROM {table.replace('/', '.')}"),
    "sql of a market": lambda lake, table: lake.sql(
        f"SELECT sum(volume) FROM {table.replace('/', '.')} WHERE symbol = 'BTCUSDT'"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_reads_gold_that_is_behind_silver_is_told(stale: Lake, way: str) -> None:
    assert said(lambda: WAYS[way](stale, HOURLY.name)) == [WORDS.format(HOURLY.name, HOURLY.name)]
    assert said(lambda: WAYS[way](stale, Candle.name)) == []
    build(stale.objects, "gold")
    assert said(lambda: WAYS[way](stale, HOURLY.name)) == []


@pytest.mark.parametrize("way", WAYS)
def test_gold_is_behind_where_its_silver_is_behind_bronze(objects: LakeObjects, way: str) -> None:
    for zone in ("bronze", "silver", "gold"):
        build(objects, zone)
    build(objects, "bronze", volume=30.0)
    for table in (Candle, HOURLY):
        assert said(lambda table=table: WAYS[way](Lake(objects.root), table.name)) == [
            WORDS.format(table.name, table.name)
        ]


def test_candles_are_made_from_what_is_newest_and_tell_where_that_is_behind(stale: Lake) -> None:
    assert said(lambda: stale.candles(BTC, "2024-02-01", "2024-02-02", "1h")) == [], (
        "resampled from minutes that are up to date"
    )
    build(stale.objects, "bronze", volume=30.0)
    for interval in ("1m", "1h"):
        assert said(lambda interval=interval: stale.candles(BTC, "2024-02-01", "2024-02-02", interval)) == [
            WORDS.format(Candle.name, Candle.name)
        ]
    assert said(lambda: stale.candles(ETH, "2024-02-01", "2024-02-02", "1h")) == []
    assert said(lambda: stale.scan(HOURLY.name, ETH).collect()) == []


def test_a_ledger_by_month_is_behind_where_any_market_is(objects: LakeObjects) -> None:
    for market in (BTC, ETH):
        build(objects, "bronze", market)
        build(objects, "silver", market)
    now = inputs_now(
        REGISTRY.gap,
        Cell("2024-02"),
        {each.name: ledger(objects, each.table) for each in REGISTRY.gap.inputs},
        {},
    )
    TableStore(objects).put(Gap, Cell("2024-02"), CellResult(gap_frame([]), now))
    lake = Lake(objects.root)
    assert said(lambda: lake.scan(Gap.name).collect()) == []
    build(objects, "bronze", ETH, volume=30.0)
    assert said(lambda: lake.sql("SELECT count(*) FROM silver.gap")) == [
        WORDS.format(Gap.name, Gap.name).replace("2024-02|binance-spot:BTCUSDT", "2024-02")
    ]


def test_an_input_that_is_gone_puts_nothing_behind(stale: Lake) -> None:
    build(stale.objects, "gold")
    TableStore(stale.objects).delete(CandleArchive, FEBRUARY)
    assert said(lambda: stale.scan(HOURLY.name).collect()) == []


def test_the_command_line_says_it_in_the_same_words(stale: Lake, tmp_path: Path) -> None:
    environment = {
        "LAKEHOUSE_ROOT": stale.objects.root,
        "DAGSTER_HOME": str(tmp_path / "home"),
        "PATH": "",
        "COLUMNS": "80",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from lakehouse.cli.app import main; main()", *words],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done

    words = WORDS.format(HOURLY.name, HOURLY.name)
    asked = run("sql", "SELECT count(*) AS n FROM gold.candle_1h", "--json")
    assert json.loads(asked.stdout) == [{"n": 96}]
    assert asked.stderr.splitlines() == [f"note {words}"]
    assert f"note {words}" in run("status").stderr.splitlines(), "standard output is for programs"
    assert f"note {words}" in run("status", "--format", "table").stdout.splitlines()
    of_table = {row["table"]: row["behind"] for row in json.loads(run("status", "--json").stdout)["tables"]}
    assert of_table[HOURLY.name] == [str(FEBRUARY)]
    assert of_table[Candle.name] == []
    assert run("sql", "SELECT count(*) AS n FROM silver.candle").stderr == ""


def test_rows_behind_their_inputs_are_those_of_their_inputs_before(stale: Lake) -> None:
    with pytest.warns(BehindInputsWarning):
        rows = stale.scan(HOURLY.name, BTC).collect()
    assert rows["volume"].unique().to_list() == [600.0]
    assert stale.candles(BTC, "2024-02-01", "2024-02-03", "1h")["volume"].unique().to_list() == [1200.0]
    assert isinstance(rows, pl.DataFrame)


@pytest.mark.parametrize(
    "body", [b"", b"x" * 500, b"PAR1" + bytes(100) + b"PAR1"], ids=["empty", "text", "no footer"]
)
@pytest.mark.parametrize("way", WAYS)
def test_damaged_facts_of_markets_harm_no_sound_cell(stale: Lake, way: str, body: bytes) -> None:
    stale.objects.put("silver/market/data.parquet", body)
    assert said(lambda: WAYS[way](stale, HOURLY.name)) == [WORDS.format(HOURLY.name, HOURLY.name)], (
        "what is known without them is still said"
    )
    assert stale.candles(ETH, "2024-02-01", "2024-02-02", "1h").height == 24
    with pytest.raises(NotALakeObjectError, match="silver/market"):
        stale.markets()
