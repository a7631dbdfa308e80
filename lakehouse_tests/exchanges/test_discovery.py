"""What is known of a market: asked from the exchange, else read off its archive."""

from datetime import timedelta
from decimal import Decimal

import pytest

from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges import archive
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.discovery import discover
from lakehouse.exchanges.exchange import MarketInfo
from lakehouse.model.errors import FetchError, UnknownMarketError
from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import BTC, COIN, NOW, ArchiveFolder, at, klines, text

from .conftest import BRONZE, fetched, serve


def found(sim: Simulator, objects: LakeObjects, *markets: Market, rest: bool = True) -> list[MarketFacts]:
    known, failed = discover(Binance(sim.url, sim.url if rest else CLOSED), BRONZE, markets, objects, lambda: NOW)
    assert failed == {}
    assert list(known) == list(markets)
    return list(known.values())


def test_a_listed_market_is_described_by_the_exchange_and_dated_by_its_first_row(exchange: Simulator, objects: LakeObjects) -> None:
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


def test_an_exchange_that_does_not_answer_leaves_what_symbol_and_archive_say(exchange: Simulator, objects: LakeObjects) -> None:
    (facts,) = found(exchange, objects, COIN, rest=False)
    assert facts == MarketFacts(COIN, "BTC", "USD", "BTC", 100.0, at("2021-01-01"), None, "derived")


def test_a_market_nobody_lists_is_refused_with_similar_names_and_the_others_are_found(exchange: Simulator, objects: LakeObjects) -> None:
    typo, lower, nobody = (Market("binance", "spot", symbol) for symbol in ("BTCUSTD", "btcusdt", "qqq"))
    known, failed = discover(Binance(exchange.url, exchange.url), BRONZE, [typo, BTC, lower, nobody], objects, lambda: NOW)
    assert (list(known), list(failed)) == ([BTC], [typo, lower, nobody])
    assert all(isinstance(error, UnknownMarketError) for error in failed.values())
    assert str(failed[typo]) == "binance-spot:BTCUSTD is not listed: nothing is published under data/spot/daily/klines/. Did you mean binance-spot:BTCUSDT?"
    assert "Did you mean binance-spot:BTCUSDT" in str(failed[lower])
    assert "in upper case" in str(failed[nobody])


def test_a_market_whose_file_is_out_of_reach_fails_alone(objects: LakeObjects, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_TRIES", 1)
    monkeypatch.setattr(archive, "s5cmd_path", lambda: None)
    for market in (BTC, COIN):
        folder.put("2024-04-05", text(klines("2024-04-05", 1440)), market)
    with serve(folder) as sim:
        sim.add_fault("unavailable=*BTCUSDT-1m-2024-04-05.zip")
        known, failed = discover(Binance(sim.url, CLOSED), BRONZE, [BTC, COIN], objects, lambda: NOW)
    assert (list(known), list(failed)) == ([COIN], [BTC])
    assert isinstance(failed[BTC], FetchError)


def test_a_market_with_one_file_that_ended_long_ago_begins_and_ends_in_it(objects: LakeObjects, folder: ArchiveFolder) -> None:
    folder.put("2022-02-05", text(klines("2022-02-05T10:00", 90)))
    with serve(folder) as sim:
        (facts,) = found(sim, objects, BTC, rest=False)
        assert (facts.listed, facts.delisted) == (at("2022-02-05T10:00"), at("2022-02-05T11:30"))
        sim.reset_requests()
        assert found(sim, objects, BTC, rest=False) == [facts]
        assert fetched(sim) == [], "landing has it"


def test_dailies_before_the_first_month_and_after_the_last_one_count(objects: LakeObjects, folder: ArchiveFolder) -> None:
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
    """Files were seen to lag by months. Where the exchange does not say that it trades, their end is all there is."""
    market = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-01-20"))
    with Simulator(markets=[market], now=NOW, faults=["monthly_absent=*2024-0[2345]*", "daily_absent=*2024-0[2345]-*"]) as sim:
        assert found(sim, objects, BTC)[0].delisted is None
        assert found(sim, objects, BTC, rest=False)[0].delisted == at("2024-02-01")


def test_a_first_file_that_cannot_be_read_leaves_its_period(objects: LakeObjects, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.exchanges.rest._TRIES", 1)
    folder.put_bytes(folder.key("2024-02-05"), b"damaged")
    with serve(folder) as sim:
        (facts,) = found(sim, objects, BTC, rest=False)
    assert (facts.listed, facts.delisted) == (at("2024-02-05"), at("2024-02-06"))


@pytest.mark.parametrize(("fault", "listed"), [("", "2024-02-20T09:30"), ("rest_unavailable", "2024-02-01"), ("rest_forgotten=*", "2024-02-01")])
def test_of_a_first_month_that_cannot_be_read_rest_tells_the_first_candle(objects: LakeObjects, monkeypatch: pytest.MonkeyPatch, fault: str, listed: str) -> None:
    """A daily file does not tell: there may be none of earlier days. Where REST does not say either, nothing is ruled out."""
    monkeypatch.setattr("lakehouse.exchanges.rest._TRIES", 1)
    market = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-02-20T09:30"))
    faults = ["damaged_zip=*monthly*2024-02.zip", "daily_absent=*2024-02-2[0-3].zip", *([fault] if fault else [])]
    with Simulator(markets=[market], now=NOW, faults=faults) as sim:
        (facts,) = found(sim, objects, BTC)
    assert (facts.listed, facts.delisted) == (at(listed), None)


@pytest.mark.parametrize(
    ("market_type", "symbol", "info"),
    [
        ("spot", "ADABTC", MarketInfo("ADA", "BTC", None, None)),
        ("spot", "1000SATSFDUSD", MarketInfo("1000SATS", "FDUSD", None, None)),
        ("spot", "BTCTUSD", MarketInfo("BTC", "TUSD", None, None)),
        ("spot", "币安人生USDT", MarketInfo("币安人生", "USDT", None, None)),
        ("spot", "NOQUOTE", MarketInfo("NOQUOTE", "", None, None)),
        ("linear", "BTCUSDT_240329", MarketInfo("BTC", "USDT", "USDT", None)),
        ("linear", "ETHBTC", MarketInfo("ETH", "BTC", "BTC", None)),
        ("inverse", "BTCUSD_240329", MarketInfo("BTC", "USD", "BTC", 100.0)),
        ("inverse", "DOTUSD_PERP", MarketInfo("DOT", "USD", "DOT", 10.0)),
    ],
)
def test_currencies_are_read_off_a_symbol(market_type: str, symbol: str, info: MarketInfo) -> None:
    assert Binance("http://x").infer_info(Market("binance", market_type, symbol)) == info  # type: ignore[arg-type]


def test_an_answer_that_is_no_exchange_info_is_no_answer(exchange: Simulator) -> None:
    with pytest.raises(OSError, match="404"):
        Binance("http://x", f"{exchange.url}/data.binance.vision/nowhere").ask_info("spot")
    info = Binance("http://x", exchange.url).ask_info("inverse")
    assert info["BTCUSD_PERP"] == MarketInfo("BTC", "USD", "BTC", 100.0, at("2100-12-25T08:00"), trades=True)
