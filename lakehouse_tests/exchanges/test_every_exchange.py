"""What every exchange's file has to do, whoever wrote it: listing, files, pages, errors, throttles, lives. A
new exchange adds a specimen.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lakehouse.datasets.candle import CANDLE, PublishedCandle
from lakehouse.exchanges import EXCHANGES
from lakehouse.exchanges.api import Pages
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.bybit import Bybit
from lakehouse.exchanges.exchange import Exchange
from lakehouse.exchanges.reply import Reply
from lakehouse.model.errors import ArchiveFileError, UnknownMarketError, UnknownSymbolError
from lakehouse.model.market import MARKET_TYPES, Market
from lakehouse.model.period import Period
from lakehouse.model.timerange import TimeRange
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.sources.listings import names_of
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.describing import describe
from lakehouse.sources.rest.rows import RowReader
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.extensibility import kraken_desk
from lakehouse_tests.extensibility import test_rest_only as counter
from lakehouse_tests.extensibility.kraken import Kraken
from lakehouse_tests.extensibility.kraken_desk import KrakenDesk, every_minute
from lakehouse_tests.extensibility.toys import answering
from lakehouse_tests.making import at, minutes
from lakehouse_tests.test_extensibility import Kiosk

FIRST, NOW = counter.FIRST, counter.NOW
MINUTE = timedelta(minutes=1)


def reply(status: int, value: Any = None, **headers: str) -> Reply:
    return Reply(status, headers, value, str(value), value is not None)


@dataclass(frozen=True)
class Specimen:
    """One market of an exchange, beside an API that lists it since `FIRST` and stands still at `NOW`.

    Attributes:
        exchange: The exchange.
        market: The market.
        beside: The exchange at the address of such an API; None of one without.
        unknown: How it says that it does not know a symbol.
        busy: How it says that it cannot answer now.
        throttled: How it says that too much was asked.
        has_minutes_from: The first minute that the API still has and is asked for.
        listed: Since when the market is known to be listed.
    """

    exchange: type[Exchange]
    market: Market
    beside: Callable[[], AbstractContextManager[Exchange]] | None = None
    unknown: Reply | None = None
    busy: Reply | None = None
    throttled: Reply | None = None
    has_minutes_from: datetime = FIRST
    listed: datetime = FIRST


def simulated(exchange: type[Exchange]) -> Callable[[], AbstractContextManager[Exchange]]:
    @contextmanager
    def beside() -> Iterator[Exchange]:
        market = SimulatedMarket(
            *("linear", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 150, 1, 3),
            listed=FIRST,
            exchange=exchange.name,
        )
        with Simulator((market,), now=NOW) as sim:
            yield exchange(sim.url if exchange.files else None, sim.url)

    return beside


@contextmanager
def at_the_counter() -> Iterator[Exchange]:
    with answering(counter.served(counter.klines)) as url:
        yield counter.Counter(None, url)


@contextmanager
def beside_kraken() -> Iterator[Exchange]:
    desk = KrakenDesk(every_minute(FIRST, NOW + MINUTE), NOW)
    with kraken_desk.standing(desk) as exchange:
        yield exchange


def of_kraken(error: str, **headers: str) -> Reply:
    return reply(200, {"error": [error]}, **headers)


def of_bybit(code: int, why: str, **headers: str) -> Reply:
    return reply(200, {"retCode": code, "retMsg": why, "result": {}, "time": 1000}, **headers)


SPECIMENS = (
    Specimen(
        Binance,
        Market("binance", "linear", "BTCUSDT"),
        simulated(Binance),
        reply(400, {"code": -1121, "msg": "Invalid symbol."}),
        reply(503, {"code": -1001, "msg": "Internal error."}),
        reply(429, {"code": -1003, "msg": "Too many requests."}, **{"retry-after": "7"}),
    ),
    Specimen(
        Bybit,
        Market("bybit", "linear", "BTCUSDT"),
        simulated(Bybit),
        of_bybit(10001, "Not supported symbols"),
        of_bybit(10016, "Server error."),
        of_bybit(10006, "Too many visits!", **{"x-bapi-limit-reset-timestamp": "8000"}),
    ),
    Specimen(
        counter.Counter,
        counter.MARKET,
        at_the_counter,
        of_bybit(10001, "Not supported symbols"),
        of_bybit(10016, "Server error."),
        reply(429, **{"retry-after": "7"}),
    ),
    Specimen(
        Kraken,
        kraken_desk.MARKET,
        beside_kraken,
        of_kraken("EQuery:Unknown asset pair"),
        of_kraken("EService:Unavailable"),
        of_kraken("EAPI:Rate limit exceeded", **{"retry-after": "7"}),
        has_minutes_from=NOW - 709 * MINUTE,
        listed=at("2024-01-25"),  # the week of its first candle: it has no older ones that are shorter
    ),
    Specimen(Kiosk, Market("kiosk", "spot", "COIN")),
)
OF_ALL = pytest.mark.parametrize("of", SPECIMENS, ids=lambda of: of.exchange.name)
OF_APIS = pytest.mark.parametrize(
    "of", [of for of in SPECIMENS if of.beside], ids=lambda of: of.exchange.name
)


def standing(of: Specimen) -> AbstractContextManager[Exchange]:
    assert of.beside is not None
    return of.beside()


def test_every_exchange_has_a_specimen() -> None:
    assert {of.exchange for of in SPECIMENS} >= set(EXCHANGES)


# --- listing --------------------------------------------------------------------------------------


@OF_APIS
def test_what_it_lists_has_a_name_that_is_a_market_and_is_described_as_its_symbol_states(
    of: Specimen,
) -> None:
    with standing(of) as exchange:
        described = describe(exchange.rest_api(of.market.market_type))
        assert described.symbols == {of.market.symbol}
        assert described.skipped == {}
        if set(exchange.rest_types) == set(MARKET_TYPES) and of.exchange in EXCHANGES:
            assert set(names_of(exchange, [CANDLE]).listings) == {of.market}
        told, stated = described.markets[of.market.symbol], exchange.infer_info(of.market)
        for name in ("base", "quote", "settle", "contract_size", "ends"):
            implied = getattr(stated, name)
            assert implied is None or implied == getattr(told, name), f"{name} is guessed"


# --- files ----------------------------------------------------------------------------------------


@OF_ALL
def test_a_key_of_a_file_says_its_period_and_others_say_none(of: Specimen) -> None:
    for files in of.exchange.files.values():
        for kind in files.kinds:
            period = Period.of(at("2024-02-29"), kind)
            key = files.key(of.market, period)
            assert key.startswith(files.prefix(of.market, kind))
            assert (files.prefix(of.market, kind)[-1], f"/{of.market.symbol}/" in key) == ("/", True)
            assert files.period_text(key) == str(period)
            assert files.period_text(f"{key}.CHECKSUM") is None
            assert files.period_text("readme.txt") is None


@pytest.mark.parametrize(
    "of", [of for of in SPECIMENS if of.exchange in EXCHANGES], ids=lambda of: of.exchange.name
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"<html>", b"1,2", b"a,b,c\n1,2,3\n"])
def test_a_file_that_is_none_is_refused_by_name(of: Specimen, content: bytes) -> None:
    for files in of.exchange.files.values():
        key = files.key(of.market, Period.of(at("2024-02-29"), files.kinds[0]))
        with pytest.raises(ArchiveFileError, match=key.rpartition("/")[2]):
            files.parse(of.market, key, content)


# --- pages ----------------------------------------------------------------------------------------


def reader(of: Specimen, exchange: Exchange, pages: Pages, market: Market | None = None) -> RowReader:
    client = RestClient(exchange.rest_api(of.market.market_type))
    assert CANDLE.api is not None
    return RowReader(client, CANDLE.api, pages, market or of.market)


@OF_APIS
def test_a_range_is_read_to_both_its_edges_and_not_beyond(of: Specimen) -> None:
    pages = of.exchange.pages["bronze/candle_api"]
    with standing(of) as exchange:
        read = reader(of, exchange, pages)
        first = max(at("2024-01-31T00:01"), of.has_minutes_from)
        span = TimeRange(first, at("2024-02-01T00:59"))
        found = read.read(span, before=True, after=True)
        count = (span.end - first) // MINUTE
        assert found.rows["open_time"].to_list() == minutes(f"{first:%Y-%m-%dT%H:%M}", count)
        assert (found.asked.start, found.asked.end) == (span.start, span.end)
        assert (found.asked.before, found.asked.after) == (span.start - MINUTE, span.end)
        assert set(found.rows.columns) == set(PublishedCandle.names())
        for name, dtype in PublishedCandle.polars_schema().items():
            assert found.rows.schema[name] == dtype, name
        half = read.read(TimeRange(first - MINUTE / 2, first + 1.5 * MINUTE))
        assert half.rows["open_time"].to_list() == [first, first + MINUTE]


@OF_APIS
def test_the_newest_candle_is_not_read_until_it_is_over(of: Specimen) -> None:
    with standing(of) as exchange:
        found = reader(of, exchange, of.exchange.pages["bronze/candle_api"]).read(
            TimeRange(NOW - 5 * MINUTE, NOW + timedelta(days=1))
        )
        assert found.rows["open_time"].max() == NOW - MINUTE
        assert found.asked.end == NOW


@OF_APIS
def test_its_hours_are_those_of_its_minutes(of: Specimen) -> None:
    with standing(of) as exchange:
        hours = reader(of, exchange, of.exchange.pages["bronze/candle_witness"]).read(
            TimeRange.parse("2024-01-31", "2024-02-01")
        )
        assert hours.rows["open_time"].to_list() == minutes("2024-01-31", 24, 60)
        assert set(hours.rows["close_time"] - hours.rows["open_time"]) == {
            timedelta(hours=1) - timedelta(microseconds=1)
        }


@OF_APIS
def test_an_answer_without_rows_has_the_columns_of_one_with_rows(of: Specimen) -> None:
    for table, pages in of.exchange.pages.items():
        if "candle" in table:
            empty = pages.read(of.market, [])
            assert empty.height == 0
            assert dict(empty.schema) == {
                name: PublishedCandle.polars_schema()[name] for name in empty.columns
            }


# --- errors and throttles -------------------------------------------------------------------------


@OF_APIS
def test_a_market_that_it_does_not_know_is_told_from_an_outage(of: Specimen) -> None:
    other = Market(of.market.exchange, of.market.market_type, "NONE")
    with standing(of) as exchange:
        read = reader(of, exchange, of.exchange.pages["bronze/candle_api"], other)
        with pytest.raises(UnknownSymbolError, match=other.key):
            read.read(TimeRange.parse("2024-01-31", "2024-02-01"))


@OF_APIS
def test_replies_mean_what_they_say(of: Specimen) -> None:
    with standing(of) as exchange:
        api = exchange.rest_api(of.market.market_type)
    assert of.unknown is not None
    assert of.busy is not None
    assert of.throttled is not None
    assert api.judge(of.unknown).meaning == "unknown_symbol"
    assert api.judge(of.busy).meaning == "busy"
    verdict = api.judge(of.throttled)
    assert (verdict.meaning, verdict.seconds) == ("throttled", 7.0)
    assert api.judge(reply(403, "blocked")).meaning == "blocked"
    assert api.judge(reply(451)).meaning == "blocked"
    assert api.judge(reply(502)).meaning == "busy"
    assert api.judge(Reply(None, {}, None, "refused", False)).meaning == "busy"
    assert api.judge(reply(200)).meaning == "busy", "a page in place of JSON"
    assert api.judge(reply(404)).meaning == "foreign"


@OF_APIS
def test_what_it_may_be_asked_is_bounded(of: Specimen) -> None:
    with standing(of) as exchange:
        budget = exchange.rest_api(of.market.market_type).budget
        client = RestClient(exchange.rest_api(of.market.market_type))
        client.now()
        used, most = client.spent
    assert budget.weight or budget.every
    assert most
    assert 0 < used <= most


# --- lives ----------------------------------------------------------------------------------------


@OF_APIS
@pytest.mark.slow
def test_a_life_begins_with_its_first_candle_and_a_market_without_one_is_refused_by_name(
    of: Specimen, objects: LakeObjects
) -> None:
    other = Market(of.market.exchange, of.market.market_type, "NONE")
    with standing(of) as exchange:
        known, failed = discover(
            exchange, [CANDLE], [of.market, other], objects, RestClients(exchange), lambda: NOW
        )
    facts = known[of.market]
    assert (facts.listed, facts.delisted, facts.origin) == (of.listed, None, "exchange_info")
    assert isinstance(failed[other], UnknownMarketError)


def test_what_is_declared_of_an_api_is_sound() -> None:
    for exchange in EXCHANGES:
        own = exchange()
        for market_type in own.rest_types:
            api = own.rest_api(market_type)
            assert api.setting == f"LAKEHOUSE_{exchange.name.upper()}_REST_URL"
            assert api.url.startswith("https://")
            assert at("2010-01-01") < api.began < datetime.now(api.began.tzinfo)
