"""Several markets in one call, the columns that are wanted, and what other libraries take of the answers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from lakehouse.model.errors import MarketKeyError, NothingStoredError, UnknownColumnError
from lakehouse.model.interval import INTERVALS
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import BTC
from lakehouse_tests.query import test_lake
from lakehouse_tests.query.test_lake import COIN, ETH, MARKETS, ODD

KEYS = ["exchange", "market_type", "symbol"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """As of `test_lake`; shared, so it must not be changed."""
    objects = LakeObjects(tmp_path_factory.mktemp("several"))
    test_lake.fill(objects)
    return Lake(objects.root)


def behind_names(lake: Lake, **how: Any) -> pl.DataFrame:
    """The candles of every market, put together by hand."""
    return pl.concat(
        lake.candles(market, "2024-02", "2024-03", **how).select(
            pl.lit(market.exchange).alias("exchange"),
            pl.lit(market.market_type).alias("market_type"),
            pl.lit(market.symbol).alias("symbol"),
            pl.all(),
        )
        for market in MARKETS
    )


@pytest.mark.parametrize(
    "how", [{}, {"interval": "1h"}, {"fill": "flat"}, {"interval": "4h", "fill": "null"}]
)
def test_several_markets_are_one_after_another_behind_their_names(lake: Lake, how: dict[str, Any]) -> None:
    found = lake.candles(MARKETS, "2024-02", "2024-03", **how)
    assert found.equals(behind_names(lake, **how))
    keys = lake.candles([market.key for market in MARKETS], "2024-02", "2024-03", **how)
    assert keys.equals(found)
    alone = lake.candles([ETH], "2024-02", "2024-03", **how)
    assert alone.equals(found.filter(symbol="ETHUSDT")), "a list of one is a list"


def test_patterns_stand_for_several_and_a_mistyped_one_is_no_smaller_answer(lake: Lake) -> None:
    spot = lake.candles(["binance-spot:*"], "2024-02", "2024-03", columns=["symbol", "close"])
    assert spot.columns == ["symbol", "close"]
    assert spot["symbol"].unique(maintain_order=True).to_list() == ["BTCUSDT", "ETHUSDT"]
    with pytest.raises(NothingStoredError, match="BTCUSTD"):
        lake.candles([BTC, "binance-spot:BTCUSTD"], "2024-02", "2024-03")
    with pytest.raises(MarketKeyError):
        lake.candles([BTC, "BTCUSDT"])
    with pytest.raises(NothingStoredError):
        lake.candles([])


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
@pytest.mark.parametrize("how", [{}, {"fill": "flat"}])
def test_columns_come_in_the_order_that_was_asked_for(
    lake: Lake, interval: object, how: dict[str, Any]
) -> None:
    asked = ["close", "open_time", "volume"]
    for market in (COIN, [BTC, ODD]):
        whole = lake.candles(market, "2024-02", "2024-03", str(interval), **how)
        found = lake.candles(market, "2024-02", "2024-03", str(interval), columns=asked, **how)
        assert found.equals(whole.select(asked))
        no_time = lake.candles(market, "2024-02-01T03", "2024-03", str(interval), columns=["close"], **how)
        assert no_time.columns == ["close"]
        assert (
            no_time.height
            == whole.filter(pl.col("open_time") >= pl.datetime(2024, 2, 1, 3, time_zone="UTC")).height
        )


def test_every_way_to_read_takes_columns_and_refuses_those_that_there_are_not(lake: Lake) -> None:
    reads = {
        "symbol": lambda columns: lake.gaps(columns=columns),
        "close": lambda columns: lake.scan("candle", BTC, columns=columns).collect(),
        "base": lambda columns: lake.markets(columns=columns),
        "vwap_1h": lambda columns: lake.features(BTC, ["vwap"], columns=columns),
        "open": lambda columns: lake.candles(BTC, columns=columns),
        "high": lambda columns: lake.candles([BTC], interval="1d", columns=columns),
    }
    for name, read in reads.items():
        assert read([name]).columns == [name]
        assert read(name).columns == [name], "one alone"
        assert read([name, name]).columns == [name], "no frame has two columns of one name"
        assert read([]).columns == []
        with pytest.raises(UnknownColumnError, match=rf"no column nothing; known: .*{name}"):
            read([name, "nothing"])


def test_fewer_columns_are_decoded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.query import reading

    widths, collect = [], reading._collect

    def noted(bodies: object, rows: pl.LazyFrame) -> pl.DataFrame:
        found = collect(bodies, rows)
        widths.append(found.width)
        return found

    monkeypatch.setattr(reading, "_collect", noted)
    lake.candles(BTC, columns=["close"])
    lake.scan("candle", BTC, columns=["close", "symbol"]).collect()
    assert widths == [2, 2], "and the time, or the number that tells the market"


def test_other_libraries_take_answers_over_arrow_s_interface(lake: Lake) -> None:
    found = lake.candles([BTC, ETH], "2024-02", "2024-03")
    stream = pa.RecordBatchReader.from_stream(found)
    table = stream.read_all()
    assert table.num_rows == found.height
    assert table.schema.field("open_time").type == pa.timestamp("us", tz="UTC")
    assert pl.DataFrame(table).equals(found)
    of_sql = lake.sql("SELECT open_time, close FROM silver.candle WHERE symbol = 'BTCUSDT' ORDER BY ALL")
    assert pa.table(of_sql).num_rows == of_sql.height
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        connection.register("found", found)
        assert connection.sql("SELECT max(open_time) FROM found").fetchone() == (found["open_time"].max(),)


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class No(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
sys.meta_path.insert(0, No())
from lakehouse import Lake
found = Lake(sys.argv[1]).candles("binance-spot:BTCUSDT", columns=["close"])
try:
    found.to_pandas()
except ModuleNotFoundError as error:
    print(found.height, error)
"""


def test_pandas_is_needed_by_who_asks_for_its_frames_alone(lake: Lake) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(lake.objects.root)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == f"{len(test_lake.TIMES)} No module named 'pandas'\n", done.stderr
