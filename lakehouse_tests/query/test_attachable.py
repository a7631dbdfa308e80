"""A DuckDB file over a lake: read by tools that do not know the lake, the same rows for ever."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse.cli.app import main
from lakehouse.datasets.candle import Candle
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.features.daily_panel import DailyPanel
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    AttachableFileError,
    BehindInputsWarning,
    DamagedObjectError,
    NothingStoredError,
    ReplacedMeanwhileError,
)
from lakehouse.model.interval import INTERVALS, Interval
from lakehouse.model.result import CellResult
from lakehouse.query import attachable
from lakehouse.query.lake import Lake
from lakehouse.storage.layout import cell_path
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse.transform.resample import resample
from lakehouse_tests.making import BTC, as_given, candles, facts, minutes
from lakehouse_tests.query.test_macros import ETH, MARKETS, fill

# another program: of Python it has DuckDB alone, and its machine is elsewhere
BARE = """
import json, sys
import duckdb
file, asked = json.load(sys.stdin)
with duckdb.connect(file, read_only=True) as connection:
    rows = [[[str(value) for value in row] for row in connection.execute(one).fetchall()] for one in asked]
assert "lakehouse" not in sys.modules
print(json.dumps(rows))
"""
TIMES = (
    "SELECT epoch_us(open_time), epoch_us(close_time), open, close, volume, candle_count FROM {} ORDER BY 1"
)


def bare(file: Path, *asked: str) -> list[list[list[str]]]:
    """What statements yield there, as texts."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BARE],
        input=json.dumps([str(file), asked]),
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={"TZ": "America/New_York", "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[list[str]]] = json.loads(done.stdout)
    return found


def here(file: Path, *asked: str) -> list[Any]:
    """As `bare`, by DuckDB in this process."""
    with duckdb.connect(str(file), read_only=True) as connection:
        return [connection.execute(one).fetchall() for one in asked]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Path]:
    """A lake and a file over all of it; shared, so they must not be changed."""
    folder = tmp_path_factory.mktemp("attachable")
    objects = LakeObjects(folder / "lake")
    fill(objects)
    TableStore(objects).put(
        MarketTable, None, CellResult(market_frame([facts(market) for market in MARKETS]), {})
    )
    lake = Lake(objects.root)
    with pytest.warns(BehindInputsWarning, match=r"gold/candle_1h"):
        lake.to_duckdb(folder / "out.duckdb")
    return lake, folder / "out.duckdb"


@pytest.fixture
def own(made: tuple[Lake, Path], tmp_path: Path) -> tuple[Lake, Path]:
    """The same, of minutes alone, to be changed."""
    lake = Lake(shutil.copytree(made[0].objects.root, tmp_path / "lake"))
    lake.to_duckdb(tmp_path / "out.duckdb", tables=["silver/candle"])
    return lake, tmp_path / "out.duckdb"


def test_another_program_reads_the_views_and_macros_as_the_lake_has_them(made: tuple[Lake, Path]) -> None:
    lake, file = made
    calls = [
        f"candles('{market.key}', '2023-12-31T18:00', '2024-02', '{step}')"
        for market in MARKETS
        for step in INTERVALS
    ]
    asked = [TIMES.format(call) for call in calls]
    asked.append(
        "SELECT count(*), max(close)::DECIMAL(38, 6) FROM silver.candle "
        "WHERE symbol = 'BTCUSDT' AND month >= '2024'"
    )
    asked.append(
        "SELECT symbol, right_candle_count "
        "FROM join_asof('gold.candle_4h', 'gold.candle_1d', INTERVAL 1 DAY) ORDER BY ALL"
    )
    found = bare(file, *asked)
    assert all(found)
    for statement, rows in zip(asked, found, strict=True):
        assert [[str(value) for value in row] for row in lake.sql(statement).rows()] == rows, statement


def test_it_says_what_it_holds_and_when_it_was_made(made: tuple[Lake, Path]) -> None:
    lake, file = made
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone='UTC'")
        root, asked, _, made_at, said = connection.execute("FROM about.file").fetchone() or ()
        datasets = connection.execute(
            "SELECT table_name, dataset_id FROM about.datasets WHERE cell_count > 0"
        ).fetchall()
        cells = connection.execute("SELECT file FROM about.cells").fetchall()
    assert (root, asked) == (str(lake.objects.root), "all markets, all time")
    assert timedelta() <= datetime.now(UTC) - made_at.astimezone(UTC) < timedelta(hours=1)
    assert "make the file again" in said
    assert dict(datasets) == {name: lake.dataset_id(name) for name, _ in datasets}
    assert len(datasets) == 7
    assert all(Path(path).is_file() for (path,) in cells)


def test_no_room_is_taken_where_links_do(made: tuple[Lake, Path]) -> None:
    lake, file = made
    links = list(attachable.cells_folder(file).rglob("*.parquet"))
    stored = {os.stat(lake.objects.uri(record.path)).st_ino for record in lake.records("silver/candle")}
    assert len(links) == 9 + 5 * 8 + 1
    assert stored <= {path.stat().st_ino for path in links}


def test_attached_to_another_database_it_is_read_by_its_name(made: tuple[Lake, Path]) -> None:
    _, file = made
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{file}' AS market_data (READ_ONLY)")
        assert connection.execute("SELECT count(*) FROM market_data.gold.candle_1d").fetchone() == (16,)
        with pytest.raises(duckdb.Error):  # which is why the page says USE: never other rows
            connection.execute("FROM market_data.candles('binance-spot:BTCUSDT')")
        connection.execute("USE market_data")
        assert (
            len(
                connection.execute(
                    "FROM candles('binance-spot:BTCUSDT', '2024-01', '2024-02', '1d')"
                ).fetchall()
            )
            == 2
        )


CHANGES: dict[str, Callable[[TableStore], Any]] = {
    "replaced": lambda store: store.put(
        Candle, Cell("2024-01", BTC), CellResult(candles(minutes("2024-01-05", 9)), {})
    ),
    "deleted": lambda store: store.delete(Candle, Cell("2024-01", BTC)),
    "added": lambda store: store.put(
        Candle, Cell("2024-03", BTC), CellResult(candles(minutes("2024-03-05", 9)), {})
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("by", ["links", "copies"])
def test_what_happens_in_the_lake_afterwards_changes_no_row_of_it(
    made: tuple[Lake, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, by: str
) -> None:
    if by == "copies":  # as over two file systems

        def refuse(*_: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    lake, file = Lake(shutil.copytree(made[0].objects.root, tmp_path / "lake")), tmp_path / "out.duckdb"
    told = lake.to_duckdb(file, tables=["silver/candle"])
    asked = [f"FROM {what} ORDER BY ALL" for what in ("silver.candle", f"candles('{BTC.key}', step := '1h')")]
    before = here(file, *asked)
    CHANGES[change](TableStore(lake.objects))
    assert lake.dataset_id("silver/candle") != told["dataset_id"][0], "the lake is another one now"
    assert here(file, *asked) == before
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT dataset_id FROM about.datasets").fetchone() == (
            told["dataset_id"][0],
        )
    again = lake.to_duckdb(file, tables=["silver/candle"])
    assert again["dataset_id"].to_list() == [lake.dataset_id("silver/candle")]
    assert here(file, *asked) != before
    kept = list(attachable.cells_folder(file).rglob("*.parquet"))
    assert len(kept) == again["cells"][0], "what no view names is gone"


def test_a_file_whose_folder_is_gone_or_moved_says_so_and_yields_nothing(own: tuple[Lake, Path]) -> None:
    _, file = own
    copy = shutil.copy(file, file.with_name("elsewhere.duckdb"))
    assert bare(Path(copy), "SELECT count(*) FROM silver.candle")[0][0] != ["0"], (
        "the file alone may go elsewhere"
    )
    attachable.cells_folder(file).rename(file.with_name("moved"))
    for place in (file, copy):
        with duckdb.connect(str(place), read_only=True) as connection:
            for what in ("silver.candle", f"candles('{BTC.key}')"):
                with pytest.raises(duckdb.IOException, match=r"out.duckdb.cells"):
                    connection.execute(f"SELECT count(*) FROM {what}").fetchall()


def test_a_damaged_cell_makes_no_file_and_leaves_the_one_before(own: tuple[Lake, Path]) -> None:
    lake, file = own
    path = Path(lake.objects.uri(cell_path(Candle, Cell("2024-01", ETH))))
    body = bytearray(path.read_bytes())
    body[100] ^= 1
    path.unlink()  # another file: the link keeps the bytes that were checked
    path.write_bytes(body)
    before = file.read_bytes()
    lake.to_duckdb(file.with_name("other.duckdb"), markets=BTC)
    with pytest.raises(DamagedObjectError):
        lake.to_duckdb(file.with_name("third.duckdb"))
    assert not file.with_name("third.duckdb").exists()
    assert file.read_bytes() == before


def test_a_copy_that_was_changed_is_taken_again(own: tuple[Lake, Path]) -> None:
    lake, file = own
    (kept,) = attachable.cells_folder(file).glob("silver/candle/*/*/symbol=*THUSDT/month=*024-01/*.parquet")
    body = bytearray(kept.read_bytes())
    body[100] ^= 1
    kept.unlink()
    kept.write_bytes(body)
    lake.to_duckdb(file, tables=["silver/candle"])
    assert kept.read_bytes() == Path(lake.objects.uri(cell_path(Candle, Cell("2024-01", ETH)))).read_bytes()


def test_a_cell_that_is_replaced_while_the_file_is_made_is_of_one_version(
    own: tuple[Lake, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, file = own
    link, count = os.link, 0

    def linked(source: str, target: str) -> None:
        nonlocal count
        count += 1
        rows = candles(minutes("2024-01-05", count))
        TableStore(lake.objects).put(Candle, Cell("2024-01", BTC), CellResult(rows, {}))
        link(source, target)

    monkeypatch.setattr(os, "link", linked)
    new = file.with_name("new.duckdb")
    with pytest.raises(ReplacedMeanwhileError):
        lake.to_duckdb(new, markets=BTC, start="2024-01", end="2024-02", tables=["candle"])
    assert not new.exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Silver.duckdb", "is a schema in it"),
        ("gold.of.may.duckdb", "is a schema in it"),
        ("TEMP.duckdb", "is a schema in it"),
        ("a[b].duckdb", "cannot name"),
        ("lake/out.duckdb", "lies in the lake"),
        ("link/out.duckdb", "lies in the lake"),
        ("nowhere/out.duckdb", "there is no folder"),
        ("own.csv", "something else is there"),
        ("own.duckdb", "something else is there"),
    ],
)
def test_a_place_that_would_not_do_is_refused_and_nothing_is_lost(
    own: tuple[Lake, Path], name: str, why: str
) -> None:
    lake, file = own
    (file.parent / "own.csv").write_text("a\n1\n")
    (file.parent / "link").symlink_to(lake.objects.root)
    with duckdb.connect(str(file.parent / "own.duckdb")) as connection:
        connection.execute("CREATE TABLE own AS SELECT 1 AS one")
    with pytest.raises(AttachableFileError, match=why):
        lake.to_duckdb(file.parent / name)
    assert (file.parent / "own.csv").read_text() == "a\n1\n"
    with duckdb.connect(str(file.parent / "own.duckdb")) as connection:
        assert connection.execute("FROM own").fetchone() == (1,)


def test_of_several_that_make_it_at_once_one_is_there_whole(own: tuple[Lake, Path]) -> None:
    lake, file = own
    asked = [BTC, ETH] * 3
    with ThreadPoolExecutor(len(asked)) as pool:
        told = list(pool.map(lambda market: lake.to_duckdb(file, market, tables=["silver/candle"]), asked))
    (((name,),), ((count,),)) = bare(
        file, "SELECT min(symbol) FROM silver.candle", "SELECT count(*) FROM silver.candle"
    )
    market = next(market for market in asked if market.symbol == name)
    assert count == str(told[asked.index(market)]["rows"].item())
    kept = [path for path in attachable.cells_folder(file).rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".parquet", ""}, "and the lock"


def test_markets_and_a_range_make_it_narrower(own: tuple[Lake, Path]) -> None:
    lake, file = own
    told = lake.to_duckdb(file, ETH.key, "2024-01", "2024-02-02", ["silver/candle", "gold/candle_1d"])
    assert told.select("table", "cells").rows() == [("silver/candle", 2), ("gold/candle_1d", 1)]
    assert told["dataset_id"][0] == lake.dataset_id("silver/candle", ETH.key, "2024-01", "2024-02-02")
    (days,) = bare(file, f"SELECT count(*) FROM candles('{ETH.key}', step := '1d')")
    assert days == [["4"]], "resampled, where the lake has no day"
    days = resample(candles(minutes("2024-01-05", 9)), Interval.parse("1d"))
    panel = DailyPanel.compute({"gold/candle_1d": as_given(DailyPanel, days)}, Cell("2024-01").window)
    TableStore(lake.objects).put(DailyPanel, Cell("2024-01"), CellResult(panel, {}))
    told = lake.to_duckdb(file, BTC, tables=["daily_panel", "gold/daily_panel"])
    assert told.select("table", "cells").rows() == [("gold/daily_panel", 1)], "one object has all markets"
    with pytest.raises(NothingStoredError):
        lake.to_duckdb(file, ["binance-spot:BTCUSTD", ETH.key])
    with pytest.raises(NothingStoredError):
        lake.to_duckdb(file, start="2030-01")


def test_a_lake_in_a_bucket_is_copied(aws_lake: str, tmp_path: Path) -> None:
    objects = LakeObjects(f"{aws_lake}/lake")
    TableStore(objects).put(Candle, Cell("2024-01", BTC), CellResult(candles(minutes("2024-01-05", 9)), {}))
    Lake(objects.root).to_duckdb(tmp_path / "out.duckdb")
    assert bare(tmp_path / "out.duckdb", "SELECT count(*), min(symbol) FROM silver.candle") == [
        [["9", "BTCUSDT"]]
    ]


def test_the_command_says_what_is_in_it(
    own: tuple[Lake, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, file = own
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(lake.objects.root))
    words = ["duckdb", str(file), "--markets", BTC.key, "--from", "2024-01", "--format", "json"]
    monkeypatch.setattr(sys, "argv", ["lakehouse", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["table"]: row["cells"] for row in told}["silver/candle"] == 2
