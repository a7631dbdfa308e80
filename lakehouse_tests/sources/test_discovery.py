"""What is known of a market: asked from the exchange, else read off its archive."""

import gzip
import json
import logging
import re
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse.datasets.candle import CANDLE
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.api import ExchangeInfo, MarketInfo, RestApi
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.markets import read_exchange_info
from lakehouse.model.errors import FetchError, UnknownMarketError
from lakehouse.model.market import Market, MarketType
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.sources.files import transport
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.clients import RestClients
from lakehouse.sources.rest.describing import describe
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import BTC, COIN, NOW, ArchiveFolder, at, klines, text

from .canned import PORTAL, canned, milliseconds, row
from .conftest import fetched, serve

pytestmark = pytest.mark.slow  # all of them: the fast tests are to take two minutes


def found(sim: Simulator, objects: LakeObjects, *markets: Market, rest: bool = True) -> list[MarketFacts]:
    known, failed = discover(
        Binance(sim.url, sim.url if rest else CLOSED),
        [CANDLE],
        markets,
        objects,
        RestClients(Binance(sim.url, sim.url if rest else CLOSED)),
        lambda: NOW,
    )
    assert failed == {}
    assert list(known) == list(markets)
    return list(known.values())


def test_a_listed_market_is_described_by_the_exchange_and_dated_by_its_first_row(
    exchange: Simulator, objects: LakeObjects
) -> None:
    linear, sol = Market("binance", "linear", "ETHUSDT"), Market("binance", "spot", "SOLUSDT")
    assert found(exchange, objects, COIN, linear, sol) == [
        MarketFacts(COIN, "BTC", "USD", "BTC", 100.0, at("2021-01-01"), None, "exchange_info"),
        MarketFacts(linear, "ETH", "USDT", "USDT", None, at("2021-01-01"), None, "exchange_info"),
        MarketFacts(sol, "SOL", "USDT", None, None, at("2023-05-17T09:30"), None, "exchange_info"),
    ]


def test_a_market_that_ended_ends_with_its_last_row(exchange: Simulator, objects: LakeObjects) -> None:
    gone = Market("binance", "spot", "XYZUSDT")
    (facts,) = found(exchange, objects, gone)
    assert (facts.listed, facts.delisted) == (at("2022-01-01"), at("2023-10-20T06:00"))


def test_an_exchange_that_does_not_answer_leaves_what_symbol_and_archive_say(
    exchange: Simulator, objects: LakeObjects
) -> None:
    (facts,) = found(exchange, objects, COIN, rest=False)
    assert facts == MarketFacts(COIN, "BTC", "USD", "BTC", 100.0, at("2021-01-01"), None, "derived")


def test_a_market_nobody_lists_is_refused_with_similar_names_and_the_others_are_found(
    exchange: Simulator, objects: LakeObjects
) -> None:
    typo, lower, nobody = (Market("binance", "spot", symbol) for symbol in ("BTCUSTD", "btcusdt", "qqq"))
    known, failed = discover(
        Binance(exchange.url, exchange.url),
        [CANDLE],
        [typo, BTC, lower, nobody],
        objects,
        RestClients(Binance(exchange.url, exchange.url)),
        lambda: NOW,
    )
    assert (list(known), list(failed)) == ([BTC], [typo, lower, nobody])
    assert all(isinstance(error, UnknownMarketError) for error in failed.values())
    assert (
        str(failed[typo])
        == "binance-spot:BTCUSTD is not listed: nothing is published under data/spot/daily/klines/. Did you mean binance-spot:BTCUSDT?"
    )
    assert "Did you mean binance-spot:BTCUSDT" in str(failed[lower])
    assert "in upper case" in str(failed[nobody])


def test_a_market_whose_file_is_out_of_reach_fails_alone(
    objects: LakeObjects, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TRIES", 1)
    monkeypatch.setattr("lakehouse.sources.files.batch.s5cmd_path", lambda: None)
    for market in (BTC, COIN):
        folder.put("2024-04-05", text(klines("2024-04-05", 1440)), market)
    with serve(folder) as sim:
        sim.add_fault("unavailable=*BTCUSDT-1m-2024-04-05.zip")
        known, failed = discover(
            Binance(sim.url, CLOSED),
            [CANDLE],
            [BTC, COIN],
            objects,
            RestClients(Binance(sim.url, CLOSED)),
            lambda: NOW,
        )
    assert (list(known), list(failed)) == ([COIN], [BTC])
    assert isinstance(failed[BTC], FetchError)


def test_a_market_with_one_file_that_ended_long_ago_begins_and_ends_in_it(
    objects: LakeObjects, folder: ArchiveFolder
) -> None:
    folder.put("2022-02-05", text(klines("2022-02-05T10:00", 90)))
    with serve(folder) as sim:
        (facts,) = found(sim, objects, BTC, rest=False)
        assert (facts.listed, facts.delisted) == (at("2022-02-05T10:00"), at("2022-02-05T11:30"))
        sim.reset_requests()
        assert found(sim, objects, BTC, rest=False) == [facts]
        assert fetched(sim) == [], "landing has it"


def test_dailies_before_the_first_month_and_after_the_last_one_count(
    objects: LakeObjects, folder: ArchiveFolder
) -> None:
    folder.put("2022-01-31", text(klines("2022-01-31T12:00", 720)))
    folder.put("2022-02", text(klines("2022-02-01", 28 * 1440)))
    for day in ("2022-02-01", "2022-03-01", "2022-03-02"):
        folder.put(day, text(klines(day, 600)))
    with serve(folder) as sim:
        (facts,) = found(sim, objects, BTC, rest=False)
    assert (facts.listed, facts.delisted) == (at("2022-01-31T12:00"), at("2022-03-02T10:00"))


def test_a_market_whose_files_are_recent_has_not_ended(objects: LakeObjects, folder: ArchiveFolder) -> None:
    recent = (NOW - timedelta(days=40)).date().isoformat()
    folder.put(recent, text(klines(recent, 1440)))
    with serve(folder) as sim:
        (facts,) = found(sim, objects, BTC, rest=False)
    assert facts.delisted is None


def test_a_market_that_trades_has_not_ended_however_old_its_newest_file_is(objects: LakeObjects) -> None:
    """Files were seen to lag by months. Where the exchange does not say that it trades, their end is all
    there is.
    """
    market = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-01-20"))
    with Simulator(
        markets=[market], now=NOW, faults=["monthly_absent=*2024-0[2345]*", "daily_absent=*2024-0[2345]-*"]
    ) as sim:
        assert found(sim, objects, BTC)[0].delisted is None
        assert found(sim, objects, BTC, rest=False)[0].delisted == at("2024-02-01")


def test_a_first_file_that_cannot_be_read_leaves_its_period(
    objects: LakeObjects, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    folder.put_bytes(folder.key("2024-02-05"), b"damaged")
    with serve(folder) as sim:
        (facts,) = found(sim, objects, BTC, rest=False)
    assert (facts.listed, facts.delisted) == (at("2024-02-05"), at("2024-02-06"))


@pytest.mark.parametrize(
    ("fault", "listed"),
    [("", "2024-02-20T09:30"), ("rest_unavailable", "2024-02-01"), ("rest_forgotten=*", "2024-02-01")],
)
def test_of_a_first_month_that_cannot_be_read_rest_tells_the_first_candle(
    objects: LakeObjects, monkeypatch: pytest.MonkeyPatch, fault: str, listed: str
) -> None:
    """A daily file does not tell: there may be none of earlier days. Where REST does not say either, nothing
    is ruled out.
    """
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    market = SimulatedMarket(
        "spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-02-20T09:30")
    )
    faults = [
        "damaged_zip=*monthly*2024-02.zip",
        "daily_absent=*2024-02-2[0-3].zip",
        *([fault] if fault else []),
    ]
    with Simulator(markets=[market], now=NOW, faults=faults) as sim:
        (facts,) = found(sim, objects, BTC)
    assert (facts.listed, facts.delisted) == (at(listed), None)


@pytest.mark.parametrize(
    ("market_type", "symbol", "info"),
    [
        ("spot", "ADABTC", MarketInfo()),
        ("spot", "BTCUSDP", MarketInfo()),
        ("spot", "TOKEN_240329", MarketInfo()),
        ("linear", "BTCUSDT", MarketInfo()),
        ("linear", "BTCUSDT_240329", MarketInfo(ends=at("2024-03-29T08:00"))),
        ("linear", "ETHUSDT_210625", MarketInfo(ends=at("2021-06-25T08:00"))),
        ("inverse", "BTCUSD_200925", MarketInfo("BTC", "USD", "BTC", 100.0, at("2020-09-25T08:00"))),
        ("inverse", "DOTUSD_PERP", MarketInfo("DOT", "USD", "DOT", 10.0)),
        ("inverse", "DOTUSD", MarketInfo()),
        *(
            ("inverse", f"BTCUSD_{odd}", MarketInfo("BTC", "USD", "BTC", 100.0))
            for odd in ("991399", "210230", "000000", "180601")
        ),
        ("linear", "BTCUSDT_21062", MarketInfo()),
    ],
)
def test_a_symbol_states_what_its_documented_shape_does_and_no_guess(
    market_type: MarketType, symbol: str, info: MarketInfo
) -> None:
    assert Binance("http://x").infer_info(Market("binance", market_type, symbol)) == info


# --- exchangeInfo ---------------------------------------------------------------------------------


def test_an_answer_that_is_no_exchange_info_is_no_answer(exchange: Simulator) -> None:
    with pytest.raises(OSError, match="404"):
        describe(Binance("http://x", f"{exchange.url}/data.binance.vision/nowhere").rest_api("spot"))
    info = describe(Binance("http://x", exchange.url).rest_api("inverse")).markets
    assert info["BTCUSD_PERP"] == MarketInfo("BTC", "USD", "BTC", 100.0, at("2100-12-25T08:00"), trades=True)


@pytest.mark.parametrize("body", [PORTAL, [], {}, {"symbols": None}, {"symbols": {"BTCUSDT": {}}}, None])
def test_what_holds_no_list_of_symbols_is_no_exchange_info(body: Any) -> None:
    with canned() as api:
        api.says("exchangeInfo", body)
        with pytest.raises(OSError, match="did not answer with an exchangeInfo"):
            describe(Binance("http://x", api.url).rest_api("spot"))


@pytest.mark.parametrize(("name", "market_type", "count"), [("spot", "spot", 1695), ("um", "linear", 122)])
def test_every_recorded_entry_is_read_and_what_its_symbol_states_agrees(
    real_data: Path, name: str, market_type: MarketType, count: int
) -> None:
    body = json.loads(
        gzip.decompress(
            (real_data / "cryptofeed_recorded" / f"binance_{name}_exchangeInfo.json.gz").read_bytes()
        )
    )
    info = read_exchange_info(market_type, body["symbols"])
    assert (len(info.markets), info.skipped) == (count, {})
    for entry in body["symbols"]:
        said, stated = (
            info.markets[entry["symbol"]],
            Binance("http://x").infer_info(Market("binance", market_type, entry["symbol"])),
        )
        assert (said.base, said.quote, said.trades) == (
            entry["baseAsset"],
            entry["quoteAsset"],
            entry["status"] == "TRADING",
        )
        assert stated.base in (None, said.base)
        assert stated.quote in (None, said.quote)
        assert stated.ends in (None, said.ends)
    assert read_budget(market_type, body) == {"spot": 1200, "linear": 2400}[market_type]


def read_budget(market_type: MarketType, body: Any) -> int | None:
    return Binance("http://x").rest_api(market_type).read_budget(body)


GONE: Any = object()
"""In place of a value: the entry has no such field."""
ODD = {
    "no base": {"baseAsset": GONE}, "no quote": {"quoteAsset": None}, "blank base": {"baseAsset": " "}, "no margin": {"marginAsset": 7}, "no status": {"status": GONE},
    "date as text": {"deliveryDate": "4133404800000"}, "no date": {"deliveryDate": GONE}, "date null": {"deliveryDate": None}, "date negative": {"deliveryDate": -1},
    "date zero": {"deliveryDate": 0}, "date in seconds": {"deliveryDate": 1_632_470_400}, "date absurd": {"deliveryDate": 10**30}, "date true": {"deliveryDate": True},
    "date with a fraction": {"deliveryDate": 4133404800000.5},
}  # fmt: skip


def entry(symbol: str, **changed: Any) -> dict[str, Any]:
    made = {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol[:3],
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "deliveryDate": 4_133_404_800_000,
    } | changed
    return {name: value for name, value in made.items() if value is not GONE}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_entry_drops_itself_alone_and_is_named(what: str) -> None:
    info = read_exchange_info("linear", [entry("BTCUSDT"), entry("ETHUSDT", **ODD[what]), entry("SOLUSDT")])
    assert (list(info.markets), list(info.skipped)) == (["BTCUSDT", "SOLUSDT"], ["ETHUSDT"])
    assert next(iter(ODD[what])) in info.skipped["ETHUSDT"]
    assert info.symbols == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}, "listed it is"


@pytest.mark.parametrize("size", [0, -10, None, "lots", float("nan"), float("inf"), True])
def test_a_contract_of_no_size_is_odd(size: Any) -> None:
    info = read_exchange_info(
        "inverse", [entry("BTCUSD_PERP", contractSize=100), entry("DOTUSD_PERP", contractSize=size)]
    )
    assert (list(info.markets), list(info.skipped)) == (["BTCUSD_PERP"], ["DOTUSD_PERP"])


def test_entries_that_are_none_and_symbols_that_come_twice_cost_nobody_else_his_facts() -> None:
    twice, other = entry("ETHUSDT"), entry("ADAUSDT")
    entries = [
        None,
        "BTCUSDT",
        [],
        {"status": "TRADING"},
        {"symbol": 7},
        twice,
        twice,
        entry("SOLUSDT", status=GONE),
        entry("SOLUSDT"),
        other,
        other | {"baseAsset": "ADX"},
    ]
    info = read_exchange_info("linear", entries)
    assert list(info.markets) == ["ETHUSDT", "SOLUSDT"], (
        "one that says the same twice is believed, and one beside which an odd one stands"
    )
    assert sorted(info.skipped) == ["", "ADAUSDT", "SOLUSDT"]
    assert info.skipped["ADAUSDT"] == "2 entries that contradict each other"


def test_one_odd_entry_leaves_the_facts_of_the_others_and_is_warned_of(
    exchange: Simulator,
    objects: LakeObjects,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linear = [Market("binance", "linear", symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]

    def described(api: RestApi) -> ExchangeInfo:
        with canned() as canned_api:
            canned_api.says(
                "exchangeInfo", {"symbols": [entry("BTCUSDT"), entry("ETHUSDT", deliveryDate="soon"), None]}
            )
            return describe(Binance("http://x", canned_api.url).rest_api("linear"))

    monkeypatch.setattr("lakehouse.sources.rest.describing.describe", described)
    with caplog.at_level(logging.WARNING):
        known = found(exchange, objects, *linear)
    assert [(facts.origin, facts.base) for facts in known] == [
        ("exchange_info", "BTC"),
        ("derived", None),
        ("derived", None),
    ]
    said = [record.getMessage() for record in caplog.records]
    assert [re.findall(r"binance-linear:\w+", text) for text in said] == [
        ["binance-linear:ETHUSDT"],
        ["binance-linear:ETHUSDT"],
        ["binance-linear:SOLUSDT"],
    ]
    assert "deliveryDate is 'soon'" in said[0]


# --- the end of a life ----------------------------------------------------------------------------


DELIVERED = Market("binance", "inverse", "BTCUSD_220325")


def life(
    objects: LakeObjects,
    folder: ArchiveFolder,
    market: Market,
    days: list[str],
    info: dict[str, Any] | None,
    now: datetime = NOW,
) -> MarketFacts:
    """The facts of a market with rows on some days, flat after its delivery or not: what is published does
    not tell. `info` are the fields of its entry.
    """
    for day in days:
        folder.put(day, text(klines(day, 1440)), market)
    with serve(folder) as sim, canned() as api:
        api.says(
            "exchangeInfo",
            {"symbols": [entry(market.symbol, contractSize=100, **info)] if info is not None else []},
        )
        known, failed = discover(
            Binance(sim.url, api.url),
            [CANDLE],
            [market],
            objects,
            RestClients(Binance(sim.url, api.url)),
            lambda: now,
        )
    assert failed == {}
    return known[market]


DAYS = ["2022-03-24", "2022-03-25", "2022-03-30"]
PAST, FAR = milliseconds(at("2022-03-25T07:00")), 4_133_404_800_000


@pytest.mark.parametrize(
    ("market", "info", "delisted"),
    [
        (DELIVERED, None, "2022-03-25T08:00"),
        (DELIVERED, {"deliveryDate": "soon"}, "2022-03-25T08:00"),
        (DELIVERED, {"deliveryDate": FAR}, "2022-03-25T08:00"),
        (DELIVERED, {"deliveryDate": PAST}, "2022-03-25T07:00"),
        (DELIVERED, {"deliveryDate": milliseconds(at("2022-03-28"))}, "2022-03-25T08:00"),
        (DELIVERED, {"deliveryDate": milliseconds(at("2021-01-01"))}, "2022-03-25T08:00"),
        (Market("binance", "linear", "ETHUSDT_220325"), None, "2022-03-25T08:00"),
        (Market("binance", "linear", "ETHUSDT_220325"), {"status": "SETTLING"}, "2022-03-25T08:00"),
        (
            Market("binance", "linear", "BTCUSDT"),
            {"deliveryDate": PAST, "status": "SETTLING"},
            "2022-03-25T07:00",
        ),
        (Market("binance", "linear", "BTCUSDT"), {"deliveryDate": PAST}, "2022-03-25T07:00"),
        *(
            (Market("binance", "linear", "BTCUSDT"), {"status": status}, "2022-03-31")
            for status in ("SETTLING", "CLOSE", "DELIVERING", "PENDING_TRADING", "BREAK")
        ),
        (Market("binance", "linear", "BTCUSDT"), {}, None),
        (Market("binance", "inverse", "BTCUSD_991399"), None, "2022-03-31"),
        (Market("binance", "inverse", "BTCUSD_210101"), None, "2022-03-31"),
    ],
)
def test_a_life_ends_with_the_first_end_that_is_stated_and_with_the_last_row_where_none_is(
    objects: LakeObjects,
    folder: ArchiveFolder,
    market: Market,
    info: dict[str, Any] | None,
    delisted: str | None,
) -> None:
    """A status names no instant. An end before the first row was not meant for it."""
    facts = life(objects, folder, market, DAYS, info)
    assert (facts.listed, facts.delisted) == (at("2022-03-24"), at(delisted) if delisted else None)


def test_an_end_that_has_not_come_is_not_stored(objects: LakeObjects, folder: ArchiveFolder) -> None:
    coming = milliseconds(at("2022-03-25T09:00"))
    assert (
        life(objects, folder, DELIVERED, DAYS[:1], {"deliveryDate": coming}, at("2022-03-25T07:59")).delisted
        is None
    )
    assert life(
        objects, folder, DELIVERED, DAYS[:1], {"deliveryDate": coming}, at("2022-03-25T08:00")
    ).delisted == at("2022-03-25T08:00")


@pytest.mark.parametrize("now_said", [None, {"deliveryDate": None}])
def test_a_market_that_the_exchange_has_dropped_stays_capped(
    objects: LakeObjects, folder: ArchiveFolder, now_said: dict[str, Any] | None
) -> None:
    """Or of which it has an entry that cannot be read. It keeps its currencies too."""
    perpetual = Market("binance", "linear", "BTCUSDT")
    told = life(objects, folder, perpetual, DAYS, {"deliveryDate": PAST, "status": "SETTLING"})
    again = life(objects, folder, perpetual, DAYS, now_said)
    assert (again.origin, again.base, again.delisted) == ("derived", None, at("2022-03-31"))
    kept = again.kept_from(told)
    assert kept == told
    assert (kept.base, kept.delisted) == ("BTC", at("2022-03-25T07:00"))
    guessed = MarketFacts(perpetual, "BTCU", "SDT", "SDT", None, told.listed, None, "derived")
    assert again.kept_from(guessed) == again, "what an earlier release guessed is not kept"


STOPPED, OTHER = Market("binance", "spot", "XYZUSDT"), Market("binance", "spot", "ABCUSDT")
LAST = at("2024-03-20T06:00")  # three weeks before `NOW`
UNKNOWN_BY_REST = (400, {"code": -1121, "msg": "Invalid symbol."})


def stopped(
    objects: LakeObjects,
    folder: ArchiveFolder,
    status: str | None = "BREAK",
    by_rest: Any = LAST,
    others_until: str = "2024-04-08",
    asked: tuple[Market, ...] = (STOPPED,),
) -> MarketFacts:
    """The facts of a market whose files end in the middle of a month.

    Args:
        objects: The lake.
        folder: What is published.
        status: What exchangeInfo states of it; None for nothing.
        by_rest: When its last candle by REST ends; another answer of REST; None for no answer.
        others_until: The last day of the other market's files.
        asked: Whom to ask about.
    """
    folder.put("2024-03-19", text(klines("2024-03-19", 1440)), STOPPED)
    folder.put("2024-03-20", text(klines("2024-03-20", 360)), STOPPED)
    for day in ("2024-03-01", others_until):
        folder.put(day, text(klines(day, 1440)), OTHER)
    told = {"baseAsset": "XYZ", "quoteAsset": "USDT", "filters": []}
    entries = [told | {"symbol": "XYZUSDT", "status": status}] if status else []
    entries.append(told | {"symbol": "ABCUSDT", "baseAsset": "ABC", "status": "TRADING"})
    with serve(folder) as sim, canned() as api:
        api.says("exchangeInfo", {"symbols": entries})
        if isinstance(by_rest, datetime):
            api.rows = [row(by_rest - timedelta(minutes=1))]
        elif by_rest is not None:
            api.answers["klines"] = lambda query: by_rest
        exchange = Binance(sim.url, api.url)
        clients = RestClients(Binance(sim.url, api.url if by_rest is not None else CLOSED))
        known, failed = discover(exchange, [CANDLE], asked, objects, clients, lambda: NOW)
    assert failed == {}
    return known[STOPPED]


@pytest.mark.parametrize(
    ("said", "delisted"),
    [
        ({}, LAST),
        ({"status": None, "by_rest": UNKNOWN_BY_REST}, LAST),
        ({"status": None}, LAST),
        ({"status": "CLOSE", "asked": (STOPPED, OTHER)}, LAST),
        ({"by_rest": LAST + timedelta(hours=30)}, LAST + timedelta(hours=30)),
        ({"by_rest": NOW - timedelta(days=7)}, NOW - timedelta(days=7)),
        # and where one of the three says otherwise, or nothing:
        ({"status": "TRADING"}, None),
        ({"by_rest": NOW - timedelta(days=6)}, None),
        ({"by_rest": (200, [])}, None),
        ({"by_rest": None}, None),
        ({"by_rest": (400, {"code": -1100, "msg": "Illegal characters."})}, None),
        ({"others_until": "2024-03-26"}, None),
        ({"others_until": "2024-03-27"}, LAST),
    ],
)
def test_a_market_ends_a_week_after_its_last_row_where_exchange_archive_and_rest_say_so(
    objects: LakeObjects, folder: ArchiveFolder, said: dict[str, Any], delisted: datetime | None
) -> None:
    """It took 45 days, in which the rest of its month was told as if files might still come."""
    facts = stopped(objects, folder, **said)
    assert (facts.delisted, facts.delisted_precision) == (delisted, "minute" if delisted else None)


@pytest.mark.parametrize("now", [{"by_rest": None}, {"status": None, "by_rest": None}])
def test_an_end_that_was_shown_stays_while_nobody_shows_it(
    objects: LakeObjects, folder: ArchiveFolder, now: dict[str, Any]
) -> None:
    told = stopped(objects, folder)
    again = stopped(objects, folder, **now)
    assert (again.delisted, again.silent_since) == (None, LAST)
    kept = again.kept_from(told)
    assert (kept.delisted, kept.delisted_precision, kept.base) == (LAST, "minute", "XYZ")
    assert again.kept_from(replace(told, delisted=None)).delisted is None
    folder.put("2024-03-21", text(klines("2024-03-21", 60)), STOPPED)
    later = stopped(objects, folder, **now)
    assert later.kept_from(told).delisted is None, "a row is later"


def test_a_market_that_trades_again_has_not_ended(objects: LakeObjects, folder: ArchiveFolder) -> None:
    assert stopped(objects, folder).delisted == LAST
    folder.put("2024-04-08", text(klines("2024-04-08", 1440)), STOPPED)
    assert stopped(objects, folder).delisted is None
    assert stopped(objects, folder, status="TRADING").delisted is None


def test_files_that_lag_end_nobody_whose_rows_rest_has(objects: LakeObjects, folder: ArchiveFolder) -> None:
    """A whole exchange may be in a break for an hour."""
    folder.put("2024-01-10", text(klines("2024-01-10", 1440)), STOPPED)
    with serve(folder) as sim, canned() as api:
        told = {"symbol": "XYZUSDT", "baseAsset": "XYZ", "quoteAsset": "USDT", "filters": []}
        api.says("exchangeInfo", {"symbols": [told | {"status": "BREAK"}]})
        api.rows = [row(NOW - timedelta(hours=2))]
        exchange = Binance(sim.url, api.url)
        known, _ = discover(exchange, [CANDLE], [STOPPED], objects, RestClients(exchange), lambda: NOW)
        api.rows = [row(NOW - timedelta(days=60))]
        later, _ = discover(exchange, [CANDLE], [STOPPED], objects, RestClients(exchange), lambda: NOW)
    assert known[STOPPED].delisted is None, "though nothing was published for 90 days"
    assert later[STOPPED].delisted == NOW - timedelta(days=60) + timedelta(minutes=1), (
        "no row is outside of it"
    )
