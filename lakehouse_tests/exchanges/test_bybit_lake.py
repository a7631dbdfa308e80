"""Markets of Bybit from its simulated API to gold and SQL: what is asked, what is stored, what it says."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.planning import TableBuild
from lakehouse.defs.describe import asset_arguments
from lakehouse.defs.io_manager import cell_event
from lakehouse.exchanges.bybit import _LIMIT
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market, MarketType
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse_tests.making import at

LISTED, NOW = at("2024-02-28T21:30"), at("2024-03-02T12:30")
_OF_TYPES: dict[MarketType, tuple[str, str, int, int, int]] = {
    "spot": ("BTCUSDT", "USDT", 40, 2, 5),
    "linear": ("BTCUSDT", "USDT", 150, 1, 3),
    "inverse": ("BTCUSD", "USD", 6_000, 1, 0),
}
TRADED = tuple(
    SimulatedMarket(
        kind, symbol, "BTC", quote, Decimal(45_000), volume, *decimals, listed=LISTED, exchange="bybit"
    )
    for kind, (symbol, quote, volume, *decimals) in _OF_TYPES.items()
)
MARKETS = [Market("bybit", each.market_type, each.symbol) for each in TRADED]


class Bench:
    """A lake beside the simulated API."""

    def __init__(self, root: Path, sim: Simulator) -> None:
        named = {name.removeprefix("LAKEHOUSE_").lower(): url for name, url in sim.addresses.items()}
        settings = Settings(root=str(root / "lake"), start="2024-01", dagster_home=root / "home", **named)
        self.sim = sim
        self.lake: LakeServices = open_lake(settings, clock=lambda: sim.now)
        self.reader = Lake(self.lake.objects.root, self.lake.registry)

    def build(self, markets: list[Market] = MARKETS, *tables: str) -> list[TableBuild]:
        """Everything, or some tables; what was asked before is forgotten."""
        self.sim.reset_requests()
        wanted = [table for table in self.lake.registry.tables if not tables or table.name in tables]
        with dg.DagsterInstance.ephemeral() as instance:
            span = TimeRange.parse("2024-01", "2024-06")
            reports = Builder(self.lake, instance).build(
                [table for table in wanted if table.spread != "one"], markets, span
            )
        assert [report.failed for report in reports if report.failed] == []
        return reports

    def asked(self) -> Counter[str]:
        """How often each endpoint was asked."""
        return Counter(path.split("?")[0].removeprefix("/v5/market/") for _, path in self.sim.requests)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """All that is built of three markets that were listed three days ago."""
    with Simulator(TRADED, now=NOW) as sim:
        made = Bench(tmp_path_factory.mktemp("bybit"), sim)
        made.build()
        yield made


@pytest.mark.slow
def test_every_minute_of_every_category_is_there_and_its_hours_confirm_it(bench: Bench) -> None:
    found = bench.reader.sql(
        "SELECT market_type, month, count(*), min(open_time), max(open_time) FROM silver.candle "
        "WHERE source = 'api' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    months = [
        ("2024-02", 150 + 1440, LISTED, at("2024-02-29T23:59")),
        ("2024-03", 1440 + 720, at("2024-03-01"), at("2024-03-02T11:59")),
    ]
    assert found.rows() == [(kind, *month) for kind in ("inverse", "linear", "spot") for month in months]
    evidence = {str(c): r.facts.evidence for c, r in bench.lake.ledger("silver/candle").items()}
    assert {key: said for key, said in evidence.items() if key.startswith("2024-02")} == {
        f"2024-02|{market.key}": "totals" for market in MARKETS
    }, "a family of its own can prove no more than sums"
    gaps = "SELECT DISTINCT gap_class FROM silver.gap WHERE table_name = 'silver/candle'"
    assert bench.reader.sql(gaps).rows() == [("not_listed",)]


@pytest.mark.slow
def test_what_is_not_published_is_null_and_inverse_contracts_are_dollars(bench: Bench) -> None:
    counts = bench.reader.sql(
        "SELECT market_type, count(trade_count), count(taker_buy_volume), count(taker_buy_quote_volume), "
        "count(contracts), bool_or(is_truncated), bool_and(quote_volume = contracts) FROM silver.candle "
        "GROUP BY 1 ORDER BY 1"
    )
    assert counts.rows() == [
        ("inverse", 0, 0, 0, 3750, False, True),
        ("linear", 0, 0, 0, 0, False, None),
        ("spot", 0, 0, 0, 0, False, None),
    ]
    sizes = bench.reader.sql(
        "SELECT count(*) FROM silver.candle WHERE market_type = 'inverse' AND volume > 0 "
        "AND NOT quote_volume / volume BETWEEN low * 0.999 AND high * 1.001"
    )
    assert sizes.item() == 0, "base volume is what the contracts are worth"


@pytest.mark.slow
def test_funding_is_settled_every_eight_hours_and_markets_say_so(bench: Bench) -> None:
    rates = bench.reader.sql(
        "SELECT market_type, count(*), min(interval_hours), max(interval_hours), count(mark_price) "
        "FROM silver.funding_rate GROUP BY 1 ORDER BY 1"
    )
    assert rates.rows() == [("inverse", 8, 8, 8, 0), ("linear", 8, 8, 8, 0)]
    told = bench.reader.markets().sort("market_type")
    assert told.select("market_type", "unified_symbol", "contract_size", "funding_interval").rows() == [
        ("inverse", "BTC/USD:BTC", 1.0, 8.0),
        ("linear", "BTC/USDT:USDT", None, 8.0),
        ("spot", "BTC/USDT", None, None),
    ]
    assert set(told["listed_time"]) == {LISTED}


@pytest.mark.slow
def test_gold_is_made_of_all_three(bench: Bench) -> None:
    days = bench.reader.sql(
        "SELECT market_type, count(*), sum(candle_count) FROM gold.candle_1d GROUP BY 1 ORDER BY 1"
    )
    assert [row[0] for row in days.rows()] == ["inverse", "linear", "spot"]
    assert {row[2] for row in days.rows()} == {3750}
    assert bench.reader.sql("SELECT count(*) FROM gold.daily_panel").item() > 0


def test_what_the_exchange_does_not_publish_is_said_of_its_partitions(tmp_path: Path) -> None:
    lake = open_lake(Settings(root=str(tmp_path / "lake"), dagster_home=tmp_path))
    archive = lake.registry.table("bronze/candle_archive")
    event = cell_event(lake, archive, Cell("2024-02", MARKETS[0]), None)
    said = "Nothing is stored, and never will be: bybit publishes nothing of bronze/candle_archive."
    assert event.metadata["note"].value == said
    described = asset_arguments(archive, lake)["description"]
    assert "Nothing of it comes from bybit: the partitions of its markets stay" in described
    assert "comes from" not in asset_arguments(lake.registry.table("bronze/candle_api"), lake)["description"]


@pytest.mark.slow
def test_symbols_of_two_categories_are_two_markets(bench: Bench) -> None:
    spot, linear = (
        bench.reader.candles(f"bybit-{kind}:BTCUSDT", "2024-03-01", "2024-03-02")
        for kind in ("spot", "linear")
    )
    assert spot.height == linear.height == 1440
    assert not spot.select("close").equals(linear.select("close"))


@pytest.mark.slow
def test_a_look_is_one_request_a_market_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    with Simulator(TRADED[1:2], now=NOW) as sim:
        it, market = Bench(tmp_path, sim), MARKETS[1:2]
        it.build(market, "silver/candle")
        assert it.asked() == {
            "time": 1,
            "instruments-info": 1,
            # to find the first one among days since 2018 and the minutes of one: 6, and that none is before
            # it: 1; the newest: 1; hours: 2; 1590 and 2160 minutes: 2 and 3; and the candles before and
            # behind each month: 3
            "kline": 18,
        }
        it.build(market, "silver/candle")
        assert it.asked() == {}
        sim.advance(timedelta(hours=1))
        later = Bench(tmp_path, sim)  # what was told of the time does for ten minutes of a process
        later.build(market, "silver/candle")
        assert later.asked() == {"kline": 1, "time": 1}
        assert later.lake.ledger("silver/candle").frame["rows"].sum() == 3810
        assert sim.bybit.busiest <= _LIMIT.requests
