"""Candles by REST: the rows of the archive, finished ones only, within the budget, through everything that
goes wrong.
"""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
import requests
import time_machine

from lakehouse.datasets.candle import CandleApi, CandleArchive
from lakehouse.datasets.dataset import ArchiveTable
from lakehouse.exchanges.api import Budget, RateLimit, RestCall
from lakehouse.exchanges.binance import Binance, BinanceRest
from lakehouse.exchanges.binance.funding import FundingPages
from lakehouse.exchanges.binance.klines import KlinePages
from lakehouse.model.errors import RestBannedError, RestRefusedError, RestUnreachableError, UnknownSymbolError
from lakehouse.model.interval import COARSE, MINUTE, Interval
from lakehouse.model.market import Market, MarketType
from lakehouse.model.period import Period
from lakehouse.model.result import Asked
from lakehouse.model.timerange import TimeRange
from lakehouse.simulator import Simulator
from lakehouse.simulator.answering import Refused
from lakehouse.simulator.rest import Rest
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.rows import RestAnswer, RowReader
from lakehouse.sources.rest.spending import RestStats, Spending
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import BTC, COIN, MICRO, NOW, at
from lakehouse_tests.sources.canned import candles_by

HOUR = COARSE[2]
LINEAR = Market("binance", "linear", "BTCUSDT")
GONE = Market("binance", "spot", "XYZUSDT")
DAY = TimeRange.parse("2024-04-01", "2024-04-02")
VALUES = [name for name in CandleArchive.names() if name not in ArchiveTable.columns]


class Time:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.passed = 0.0

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.passed += seconds

    def exchange_clock(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)


class Asking:
    """A simulated exchange that may be changed, and clients of it that need not wait."""

    def __init__(self, sim: Simulator, time: Time) -> None:
        self.sim = sim
        self.time = time
        self.exchange = Binance(sim.url, sim.url)
        self._clients: dict[str, RestClient] = {}

    def client(self, market: Market) -> RestClient:
        return self._clients.setdefault(
            market.market_type,
            RestClient(self.exchange.rest_api(market.market_type), self.time.sleep, lambda: self.time.passed),
        )

    def candles(
        self, market: Market = BTC, interval: Interval = MINUTE, span: TimeRange = DAY, bracket: bool = False
    ) -> RestAnswer:
        return candles_by(self.client(market), market, interval, span, bracket)

    def paths(self) -> list[str]:
        """Endpoints asked since the last reset."""
        return [path.split("?")[0].rsplit("/", 1)[-1] for _, path in self.sim.requests]


@pytest.fixture
def asking() -> Iterator[Asking]:
    time = Time()
    with Simulator(now=time.exchange_clock) as sim:
        yield Asking(sim, time)


def archived(sim: Simulator, market: Market, day: str) -> pl.DataFrame:
    """A daily file of the same exchange, parsed."""
    key = Binance().files[CandleArchive.name].key(market, Period.parse(day))
    with zipfile.ZipFile(io.BytesIO(requests.get(f"{sim.archive_url}/{key}", timeout=10).content)) as archive:
        return (
            Binance().files["bronze/candle_archive"].parse(market, key, archive.read(archive.namelist()[0]))
        )


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [BTC, LINEAR, COIN])
def test_the_rows_are_those_of_the_archive(asking: Asking, market: Market) -> None:
    answer = asking.candles(market)
    assert answer.rows.columns == VALUES
    assert answer.rows.equals(archived(asking.sim, market, "2024-04-01"))
    assert answer.rows.height == 1440
    assert answer.asked == Asked(DAY.start, DAY.end, NOW, "rows")


@pytest.mark.parametrize("market", [BTC, LINEAR, COIN])
@pytest.mark.parametrize("interval", [HOUR, COARSE[4]])
def test_coarse_candles_cover_their_interval(asking: Asking, market: Market, interval: Interval) -> None:
    rows = asking.candles(market, interval, TimeRange.parse("2024-03-01", "2024-04-01")).rows
    assert rows["open_time"].to_list() == [
        at("2024-03-01") + n * interval.delta for n in range(31 * 1440 // interval.minutes)
    ]
    assert (rows["close_time"] - rows["open_time"]).unique().to_list() == [interval.delta - MICRO]
    assert rows["volume"].sum() == pytest.approx(
        asking.candles(market, COARSE[4], TimeRange.parse("2024-03-01", "2024-04-01")).rows["volume"].sum()
    )


@pytest.mark.parametrize("market", [BTC, COIN])
def test_nothing_there_is_an_answer_with_the_columns_of_one(asking: Asking, market: Market) -> None:
    answer = asking.candles(market, span=TimeRange.parse("2020-06-01", "2020-07-01"))
    assert answer.rows.schema == asking.candles(market).rows.schema
    assert (answer.rows.height, answer.asked.outcome) == (0, "empty")


@pytest.mark.parametrize("market", [BTC, LINEAR, COIN])
def test_the_years_before_a_market_began_cost_a_few_requests(asking: Asking, market: Market) -> None:
    rows = asking.candles(market, span=TimeRange.parse("2018-01-01", "2021-01-01T02:00")).rows
    assert rows["open_time"].to_list() == [at("2021-01-01") + n * MINUTE.delta for n in range(120)]
    assert asking.paths().count("klines") <= 10


@pytest.mark.parametrize("market", [BTC, LINEAR, COIN])
def test_a_bracket_names_the_candles_on_both_sides(asking: Asking, market: Market) -> None:
    asked = asking.candles(market, bracket=True).asked
    assert (asked.before, asked.after) == (at("2024-03-31T23:59"), at("2024-04-02"))
    first = asking.candles(market, span=TimeRange.parse("2020-12-01", "2021-01-01"), bracket=True).asked
    assert (first.outcome, first.before, first.after) == ("empty", None, at("2021-01-01"))


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "interval", "end"),
    [
        (BTC, MINUTE, "2024-04-10T12:00"),
        (COIN, MINUTE, "2024-04-10T12:00"),
        (LINEAR, COARSE[4], "2024-04-10"),
    ],
)
def test_only_finished_candles_come_and_the_answer_says_up_to_when(
    asking: Asking, market: Market, interval: Interval, end: str
) -> None:
    asking.time.passed = 30.0  # the candle of 12:00 is half done
    answer = asking.candles(market, interval, TimeRange.parse("2024-04-07", "2024-04-20"), bracket=True)
    assert answer.rows["open_time"].max() == at(end) - interval.delta
    assert (answer.asked.end, answer.asked.at, answer.asked.after) == (
        at(end),
        NOW + timedelta(seconds=30),
        None,
    )


def test_a_range_that_has_not_come_yet_is_not_asked_for(asking: Asking) -> None:
    tomorrow = TimeRange.parse("2024-04-11", "2024-04-12")
    answer = asking.candles(span=tomorrow, bracket=True)
    assert answer.asked == Asked(tomorrow.start, tomorrow.start, NOW, "empty", before=at("2024-04-10T11:59"))
    assert asking.paths().count("klines") == 1


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_machine_whose_clock_is_off_gets_the_same_candles(asking: Asking, off: timedelta) -> None:
    today = TimeRange.parse("2024-04-10", "2024-04-11")
    right = asking.candles(span=today)
    with time_machine.travel(NOW + off):
        wrong = candles_by(
            RestClient(asking.exchange.rest_api("spot"), monotonic=lambda: 0.0), BTC, MINUTE, today
        )
    assert wrong.rows.equals(right.rows)
    assert wrong.asked == right.asked


def test_a_server_ahead_of_everybody_else_is_believed(asking: Asking) -> None:
    asking.sim.add_fault("clock_skew")
    answer = asking.candles(span=TimeRange.parse("2024-04-10", "2024-04-11"))
    assert answer.asked.end == at("2024-04-10T13:00")
    assert answer.rows["open_time"].max() == at("2024-04-10T12:59")


def test_the_time_is_asked_once_then_reckoned_then_asked_again(asking: Asking) -> None:
    for passed in (0.0, 200.0, 599.0, 601.0, 900.0):
        asking.time.passed = passed
        assert asking.client(BTC).now() == NOW + timedelta(seconds=passed)
    assert asking.paths() == ["time", "exchangeInfo", "time"]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "waits"), [("error_429", [1.0, 1.0]), ("body_error", [60.0, 60.0]), ("rest_503", [1.0, 2.0])]
)
@pytest.mark.parametrize("market", [BTC, COIN])
def test_what_passes_is_waited_for(asking: Asking, fault: str, waits: list[float], market: Market) -> None:
    asking.sim.add_fault(fault)
    assert asking.candles(market).rows.equals(archived(asking.sim, market, "2024-04-01"))
    assert asking.time.waits == waits
    assert list(asking.sim.faults_hit) == [fault]


def test_a_banned_address_asks_nothing_until_it_may(asking: Asking) -> None:
    asking.candles()
    asking.sim.add_fault("error_418")
    with pytest.raises(RestBannedError, match="banned this address until") as banned:
        asking.candles()
    assert timedelta(minutes=2) < banned.value.until - datetime.now(UTC) < timedelta(minutes=4)
    asking.sim.clear_faults()
    asking.sim.reset_requests()
    asking.time.passed += 179.0
    with pytest.raises(RestBannedError):
        asking.candles(Market("binance", "spot", "ETHUSDT"), HOUR)
    assert (asking.sim.requests, asking.time.waits) == ([], [])
    assert asking.candles(LINEAR).rows.height == 1440, "another API bans for itself"
    asking.time.passed += 2.0
    assert asking.candles().rows.height == 1440


def test_a_wait_of_an_hour_is_not_waited_for(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    an_hour = {"error_429": Refused(429, b"{}", {"Retry-After": "3600"})}
    monkeypatch.setattr(Rest, "refusals", Rest.refusals | an_hour)
    asking.sim.add_fault("error_429")
    for _ in range(2):
        with pytest.raises(RestBannedError):
            asking.candles()
    assert (asking.paths().count("klines"), asking.time.waits) == (1, [])


@pytest.mark.parametrize("status", [403, 451])
def test_a_refused_address_is_told_what_to_set_and_does_not_insist(asking: Asking, status: int) -> None:
    asking.sim.add_fault(f"error_{status}")
    with pytest.raises(
        RestRefusedError, match=rf"HTTP {status}.*Set LAKEHOUSE_BINANCE_REST_URL .*data-api\.binance\.vision"
    ):
        asking.candles()
    assert (asking.paths(), asking.time.waits) == (["time", "exchangeInfo", "klines"], [])


def test_an_api_that_is_down_is_tried_a_few_times_then_once_a_call_until_it_is_back(asking: Asking) -> None:
    asking.candles()
    asking.sim.reset_requests()
    asking.sim.add_fault("rest_unavailable")
    for tries in (4, 5, 6):
        with pytest.raises(RestUnreachableError, match=r"HTTP 503.*LAKEHOUSE_BINANCE_REST_URL"):
            asking.candles()
        assert len(asking.sim.requests) == tries
    assert asking.time.waits == [1.0, 2.0, 4.0]
    asking.sim.clear_faults()
    assert asking.candles().rows.height == 1440


def test_nobody_there_is_an_unreachable_api() -> None:
    time = Time()
    client = RestClient(Binance(CLOSED, CLOSED).rest_api("spot"), time.sleep, lambda: time.passed)
    with pytest.raises(RestUnreachableError, match=r"127\.0\.0\.1:9/api/v3 .*refused"):
        candles_by(client, BTC, MINUTE, DAY)
    assert client.stats == RestStats(4, 4)


def test_an_answer_that_is_none_of_the_api_is_no_answer(asking: Asking) -> None:
    elsewhere = RestClient(
        Binance(None, f"{asking.sim.archive_url}/nowhere").rest_api("spot"), asking.time.sleep
    )
    with pytest.raises(RestUnreachableError, match="HTTP 404"):
        candles_by(elsewhere, BTC, MINUTE, DAY)
    assert asking.time.waits == []


def test_a_market_that_rest_no_longer_knows_is_not_an_outage(asking: Asking) -> None:
    with pytest.raises(UnknownSymbolError, match="binance-spot:XYZUSDT") as unknown:
        asking.candles(GONE)
    assert unknown.value.market == GONE.key
    assert not isinstance(unknown.value, RestUnreachableError)
    assert asking.candles().rows.height == 1440


class Misleading(KlinePages):
    """Asks for a day before the one that is meant."""

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        return super().call(market, start and start - timedelta(days=1), end, limit)


class Renaming(KlinePages):
    """Takes the rows for something with more columns."""

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        return super().read(market, [[*row, "0"] for row in answer])


@pytest.mark.parametrize(
    ("dialect", "said"), [(Misleading, "it answered with one of 2024-03-31"), (Renaming, "something else")]
)
def test_rows_that_were_not_asked_for_or_cannot_be_read_are_refused(
    asking: Asking, dialect: type[KlinePages], said: str
) -> None:
    with pytest.raises(RestUnreachableError, match=said):
        RowReader(asking.client(BTC), CandleApi, dialect(MINUTE), BTC).read(DAY)


# --- budget ---------------------------------------------------------------------------------------


class Poor(BinanceRest):
    """An API with a budget of 100 a minute."""

    def read_budget(self, answer: Any) -> int:
        assert super().read_budget(answer) == 6000
        return 100


class PoorInLowerCase(Poor):
    """Headers are written in either case."""

    def __init__(self, market_type: MarketType, url: str) -> None:
        super().__init__(market_type, url)
        self.budget = replace(self.budget, header=self.budget.header.lower())


@pytest.mark.parametrize("dialect", [Poor, PoorInLowerCase])
def test_four_fifths_of_the_budget_are_used_then_the_next_minute_is_waited_for(
    asking: Asking, dialect: type[BinanceRest]
) -> None:
    client = RestClient(
        dialect("spot", f"{asking.sim.url}/api/v3"), asking.time.sleep, lambda: asking.time.passed
    )
    answer = candles_by(client, BTC, MINUTE, TimeRange.parse("2024-03-01", "2024-04-01"))
    assert answer.rows.height == 44_640
    assert client.stats == RestStats(47, 1 + 20 + 45 * 2)
    assert asking.time.waits == [60.5]
    assert sorted(asking.sim._rest._weights.values()) == [111 - 79, 79]


@pytest.mark.slow
def test_who_spares_the_budget_leaves_most_of_it_to_others_for_as_long(asking: Asking) -> None:
    client = RestClient(
        Poor("spot", f"{asking.sim.url}/api/v3"), asking.time.sleep, lambda: asking.time.passed
    )
    with client.sparing(0.4):
        candles_by(client, BTC, MINUTE, TimeRange.parse("2024-03-01", "2024-03-15"))
    assert sorted(asking.sim._rest._weights.values()) == [1 + 20 + 21 * 2 - 39, 39]
    candles_by(client, BTC, MINUTE, TimeRange.parse("2024-03-01", "2024-04-01"))
    assert max(asking.sim._rest._weights.values()) > 75, "and no longer"


def test_what_others_use_counts(asking: Asking) -> None:
    client = RestClient(
        Poor("spot", f"{asking.sim.url}/api/v3"), asking.time.sleep, lambda: asking.time.passed
    )
    candles_by(client, BTC, HOUR, DAY)
    for _ in range(3):
        requests.get(f"{asking.sim.url}/api/v3/exchangeInfo", timeout=10)
    candles_by(client, BTC, HOUR, DAY)  # is told of them
    assert asking.time.waits == []
    candles_by(client, BTC, HOUR, DAY)
    assert asking.time.waits == [60.5]


def test_threads_share_one_client_and_what_it_knows(asking: Asking) -> None:
    clients = RestClients(asking.exchange)
    assert clients.of(BTC) is clients.of_api("binance", "spot")
    assert clients.of(BTC) is not clients.of(LINEAR)
    markets = [
        Market("binance", "spot", symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "ADABTC")
    ] * 2
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda market: candles_by(clients.of(market), market, MINUTE, DAY), markets))
    for market, answer in zip(markets, answers, strict=True):
        assert answer.rows.equals(archived(asking.sim, market, "2024-04-01"))
    asked = [path for path in asking.paths() if not path.endswith(".zip")]
    assert (asked.count("time"), asked.count("exchangeInfo"), asked.count("klines")) == (1, 1, 16)
    assert clients.of(BTC).stats == RestStats(18, 21 + 16 * 2)


def test_ccxt_is_loaded_by_who_asks_only() -> None:
    program = "import sys; from lakehouse.exchanges import EXCHANGES; from lakehouse.sources.rest.clients import RestClients; RestClients(EXCHANGES[0]()).of_api('binance', 'spot'); print('ccxt' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )


def test_a_limit_of_its_own_is_kept_in_any_stretch_of_time_and_shared_by_who_names_it() -> None:
    limit, same = RateLimit("few", 10, 300.0), RateLimit("few", 10, 300.0)
    time = [1000.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time[0] += seconds

    spending = Spending("http://x", Budget(weight=6000), sleep, lambda: time[0])
    for n in range(8):
        spending.admit(1, (limit, same)[n % 2])
        time[0] += 10
    spending.admit(1)
    assert waits == [], "four fifths of it, and what counts to none"
    spending.admit(1, limit)
    assert waits == [pytest.approx(300.5 - 80)]
    spending.admit(1, same)
    assert waits[1:] == [pytest.approx(10)], "the next one leaves the stretch ten seconds later"


@pytest.mark.slow
@pytest.mark.slow
def test_funding_is_asked_for_below_its_limit_and_waits_where_others_have_used_it_up() -> None:
    time = Time()
    pages = FundingPages()
    with Simulator(now=time.exchange_clock) as sim:
        client = RestClient(
            BinanceRest("linear", f"{sim.url}/fapi/v1"), sleep=time.sleep, monotonic=lambda: time.passed
        )
        call = pages.call(LINEAR, None, None, 1)
        client.now()
        sim.reset_requests()
        for _ in range(420):
            client.ask(call, lambda answer: pages.read(LINEAR, answer), LINEAR)
        asked = len([path for _, path in sim.requests if "fundingRate" in path])
        assert (asked, time.waits) == (420, [300.5]), "four fifths of the limit, and no request in vain"
        url = f"{sim.url}/fapi/v1/fundingRate?symbol=BTCUSDT&limit=1"
        others = [requests.get(url, timeout=10).status_code for _ in range(481)]
        assert others == [200] * 480 + [429], "what other programs of this address ask counts as well"
        assert client.ask(call, lambda answer: pages.read(LINEAR, answer), LINEAR).height == 1
        assert time.waits[1:] == [300.0], "as Retry-After says"
