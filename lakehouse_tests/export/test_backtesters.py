"""Exports read by freqtrade and nautilus_trader themselves, in an environment of their own.

`BACKTESTERS` names a Python that has them; else it is the one of `make .venv/.backtesters`. The newest
nautilus_trader wants Python 3.12: on an older one an earlier release reads, whose catalog keeps no funding
rates. Runs by the newest are dated in docs/long-tests.md.
"""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.export import export
from lakehouse.model.market import Market
from lakehouse.query.lake import Lake
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.export.series import LINEAR
from lakehouse_tests.export.test_exporting import fill
from lakehouse_tests.making import BTC, COIN

PYTHON = Path(os.environ.get("BACKTESTERS") or Path(sys.prefix, "backtesters", "bin", "python"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no backtesters: make .venv/.backtesters"),
]
VALUES = ("open", "high", "low", "close", "volume")


def asked(script: str, *words: str) -> Any:
    """What a script prints as its last line, as JSON."""
    done = subprocess.run(
        [PYTHON, "-c", script, *words], capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two months of spot, linear and inverse with a halt of two hours and an absent minute."""
    return fill(LakeObjects(tmp_path_factory.mktemp("lake")))


def told(lake: Lake, market: Market, interval: str, volume: str = "volume") -> list[list[Any]]:
    """Microseconds since 1970 and values of each candle of a market, as the lake has them."""
    rows = lake.candles(market, interval=interval)
    return [
        list(row) for row in rows.select(pl.col("open_time").dt.epoch("us"), *VALUES[:4], volume).iter_rows()
    ]


FREQTRADE = """
import json, sys
from pathlib import Path
import freqtrade
from freqtrade.data.history import get_datahandler, load_pair_history
from freqtrade.enums import CandleType, TradingMode
from freqtrade.exchange import Exchange
folder = Path(sys.argv[1]) / "binance"
def load(pair, timeframe, kind, fill):
    return load_pair_history(
        pair=pair, timeframe=timeframe, datadir=folder, candle_type=kind, data_format="feather",
        fill_up_missing=fill,
    )
def rows(frame):
    times = frame["date"].dt.as_unit("us").astype("int64")
    values = frame[["open", "high", "low", "close", "volume"]].values
    return [[int(at), *map(float, row)] for at, row in zip(times, values)]
handler, found = get_datahandler(folder, "feather"), {"version": freqtrade.__version__}
for mode in (TradingMode.SPOT, TradingMode.FUTURES):
    known = handler.ohlcv_get_available_data(folder, mode)
    found[mode.value] = sorted([pair, length, kind.value] for pair, length, kind in known)
spot, linear = ("spot", "BTC/USDT", CandleType.SPOT), ("linear", "BTC/USDT:USDT", CandleType.FUTURES)
for name, pair, kind in (spot, linear):
    for timeframe in ("1m", "1h"):
        for fill in (False, True):
            found[f"{name} {timeframe} {fill}"] = rows(load(pair, timeframe, kind, fill))
paid = load("BTC/USDT:USDT", "1h", CandleType.FUNDING_RATE, False)
mark = load("BTC/USDT:USDT", "1h", CandleType.MARK, True)
times = paid["date"].dt.as_unit("us").astype("int64")
found["funding"] = [[int(at), float(rate)] for at, rate in zip(times, paid["open"])]
found["paid"] = len(Exchange.combine_funding_and_mark(paid, mark))
print(json.dumps(found))
"""


def test_freqtrade_reads_what_the_lake_has(lake: Lake, tmp_path: Path) -> None:
    spot, linear = export(
        lake, "freqtrade", [BTC, LINEAR], tmp_path, intervals=("1m", "1h"), mark_from_candles=True
    )
    found = asked(FREQTRADE, str(tmp_path))
    assert found["spot"] == [["BTC/USDT", "1h", "spot"], ["BTC/USDT", "1m", "spot"]]
    assert found["futures"] == [
        ["BTC/USDT:USDT", "1h", kind] for kind in ("funding_rate", "futures", "mark")
    ] + [["BTC/USDT:USDT", "1m", "futures"]]
    for name, market, exported in (("spot", BTC, spot), ("linear", LINEAR, linear)):
        for interval in ("1m", "1h"):
            own = told(lake, market, interval)
            assert found[f"{name} {interval} False"] == own
            with_its_own = found[f"{name} {interval} True"]
            added = {row[0] for row in with_its_own} - {row[0] for row in own}
            absent = exported.document["candles"]["intervals"][interval]["absent"]
            assert len(added) == absent["slot_count"] > 0, "what it adds by itself is what the sidecar lists"
            assert {row[5] for row in with_its_own if row[0] in added} == {0.0}
    rates = lake.funding_rates(LINEAR)
    assert found["funding"] == [
        list(row) for row in rates.select(pl.col("funding_time").dt.epoch("us"), "rate").iter_rows()
    ]
    assert found["paid"] == rates.height, "each settlement meets a mark"


NAUTILUS = """
import json, sys, tempfile
from pathlib import Path
import nautilus_trader, pyarrow.parquet as pq
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy
folder = Path(sys.argv[1])
catalog = ParquetDataCatalog(folder)
instruments = catalog.instruments()
found = {"version": nautilus_trader.__version__, "bars": {}, "funding": None}
found["instruments"] = [instrument.to_dict(instrument) for instrument in instruments]
everything = []
for place in sorted((folder / "data" / "bar").iterdir()):
    bars = catalog.bars(bar_types=[place.name])
    everything += bars
    found["bars"][place.name] = [
        [bar.ts_event, bar.ts_init, *map(str, (bar.open, bar.high, bar.low, bar.close, bar.volume))]
        for bar in bars
    ]
written = ParquetDataCatalog(tempfile.mkdtemp())
written.write_data(instruments)
written.write_data(everything)
try:
    from nautilus_trader.model.data import FundingRateUpdate
    paid = catalog.query(FundingRateUpdate, identifiers=["BTCUSDT-PERP.BINANCE"])
    found["funding"] = [[str(one.instrument_id), str(one.rate), one.interval, one.ts_event] for one in paid]
    written.write_data(paid)
except TypeError:
    pass  # an earlier release
found["differing"] = []
found["compared"] = 0
for path in Path(written.path).rglob("*.parquet"):
    theirs, ours = pq.read_table(path), pq.read_table(folder / path.relative_to(written.path))
    found["compared"] += 1
    if not theirs.equals(ours, check_metadata=True):
        found["differing"].append(str(path))
class Counting(Strategy):
    count = 0
    def on_start(self):
        for name in found["bars"]:
            self.subscribe_bars(BarType.from_str(name))
    def on_bar(self, bar):
        assert self.clock.timestamp_ns() == bar.ts_init
        self.count += 1
engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
money = [Money(1e6, USDT), Money(10, BTC)]
engine.add_venue(Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, money)
for instrument in instruments:
    engine.add_instrument(instrument)
engine.add_data(everything)
counting = Counting()
engine.add_strategy(counting)
engine.run()
found["counted"] = counting.count
print()
print(json.dumps(found, default=str))
"""


def test_nautilus_reads_what_the_lake_has_and_writes_what_we_write(lake: Lake, tmp_path: Path) -> None:
    export(lake, "nautilus", [BTC, LINEAR, COIN], tmp_path, intervals=("1m", "1h"))
    found = asked(NAUTILUS, str(tmp_path))
    names = {"BTCUSDT.BINANCE": BTC, "BTCUSDT-PERP.BINANCE": LINEAR, "BTCUSD-PERP.BINANCE": COIN}
    kinds = {("1m", "1-MINUTE"): 60, ("1h", "1-HOUR"): 3600}
    count = 0
    for name, market in names.items():
        for (interval, kind), seconds in kinds.items():
            bars = found["bars"].pop(f"{name}-{kind}-LAST-EXTERNAL")
            own = told(lake, market, interval, "contracts" if market == COIN else "volume")
            ends = [at * 1000 + seconds * 10**9 for at, *_ in own]
            assert [bar[0] for bar in bars] == [bar[1] for bar in bars] == ends
            assert [[Decimal(text) for text in bar[2:]] for bar in bars] == [
                [Decimal(repr(value)) for value in row[1:]] for row in own
            ]
            count += len(bars)
    assert found["bars"] == {}
    assert found["counted"] == count, "a backtest is given each"
    assert {each["id"]: each["type"] for each in found["instruments"]} == {
        "BTCUSDT.BINANCE": "CurrencyPair",
        "BTCUSDT-PERP.BINANCE": "CryptoPerpetual",
        "BTCUSD-PERP.BINANCE": "CryptoPerpetual",
    }
    if found["funding"] is not None:
        rates = lake.funding_rates(LINEAR)
        assert found["funding"] == [
            ["BTCUSDT-PERP.BINANCE", format(Decimal(repr(rate)), "f"), hours * 60, at * 1000]
            for at, rate, hours in rates.select(
                pl.col("funding_time").dt.epoch("us"), "rate", "interval_hours"
            ).iter_rows()
        ]
        assert found["compared"] == 10
        assert found["differing"] == [], "schema, metadata and rows, as its own catalog writes them"
