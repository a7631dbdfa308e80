"""Every listing, delisted ones too: what exchangeInfo and the names of files tell of a market's life."""

import csv
import gzip
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import CANDLE
from lakehouse.datasets.market import Listing, current_listings, facts_by_market, learnt
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.markets import read_exchange_info
from lakehouse.model.market import Market
from lakehouse.model.terms import Terms, coin_of, unified_symbol
from lakehouse.pipeline.markets import known_markets, listed_markets, refresh_markets, scan_listings
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.simulator.universe import dated_universe
from lakehouse.sources.listings import look_over
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.making import BTC, FEBRUARY, at

from .canned import canned

LATE = datetime(2026, 11, 20, 12, tzinfo=UTC)
LISTINGS = int(os.environ.get("LISTINGS", "80"))  # 200 by `make test-long`
DAY = timedelta(days=1)


def services(root: Path, sim: Simulator, now: datetime, rest: bool = True) -> LakeServices:
    exchange = Binance(sim.url, sim.url if rest else CLOSED)
    return LakeServices(LakeObjects(root), {"binance": exchange}, clock=lambda: now)


def spot(symbol: str, listed: str, delisted: str | None = None) -> SimulatedMarket:
    ends = at(delisted) if delisted else None
    return SimulatedMarket("spot", symbol, symbol[:-4], "USDT", Decimal(100), 100, 2, 0, at(listed), ends)


def rows_of(root: Path) -> dict[str, dict[str, object]]:
    return {row["symbol"]: row for row in Lake(root).markets().iter_rows(named=True)}


def test_both_ends_are_told_by_the_names_of_files_and_no_file_is_fetched(tmp_path: Path) -> None:
    markets = [spot("AUSDT", "2023-05-17T09:30"), spot("BUSDT", "2022-01-10", "2024-01-20T06:00")]
    with Simulator(markets, now=at("2024-04-06T12:00")) as sim:
        lake = services(tmp_path, sim, sim.now)
        assert scan_listings(lake).problems == []
        assert not [path for _, path in sim.requests if ".zip" in path.partition("?")[0]]
        known = rows_of(tmp_path)
        assert not scan_listings(lake).changed
    lives = [
        [known[symbol][f"{end}_{what}"] for end in ("listed", "delisted") for what in ("time", "precision")]
        for symbol in ("AUSDT", "BUSDT")
    ]
    assert lives == [
        [at("2023-05-17"), "day", None, None],
        [at("2022-01-10"), "day", at("2024-01-21"), "day"],
    ]
    assert [known[symbol]["status"] for symbol in ("AUSDT", "BUSDT")] == ["TRADING", "NOT_NAMED"]
    assert known["BUSDT"]["base"] is None, "nobody states where it ends and the quote begins"


def test_an_archive_that_stands_still_ends_nobody_and_nor_does_one_whose_exchange_says_it_trades(
    tmp_path: Path,
) -> None:
    markets = [spot("AUSDT", "2023-01-01"), spot("BUSDT", "2022-01-10", "2024-01-20T06:00")]
    with Simulator(markets, now=at("2024-04-06T12:00")) as sim:
        scan_listings(services(tmp_path, sim, at("2025-04-06"), rest=False))
        known = rows_of(tmp_path)
        assert (known["AUSDT"]["delisted_time"], known["AUSDT"]["status"]) == (None, None)
        assert known["BUSDT"]["delisted_time"] == at("2024-01-21"), "for others of its type went on"


def test_what_a_lake_learnt_of_rows_is_not_replaced_by_what_names_say_and_no_cell_becomes_due(
    tmp_path: Path,
) -> None:
    market = spot("BTCUSDT", "2023-05-17T09:30", "2024-01-20T06:00")
    with Simulator([market, spot("AUSDT", "2022-01-01")], now=at("2024-04-06T12:00")) as sim:
        lake = services(tmp_path, sim, sim.now)
        refresh_markets(lake, [BTC])
        before = known_markets(lake)
        assert scan_listings(lake).changed
        assert known_markets(lake) == before, "no listing outside of the lake has facts for cells"
        assert known_markets(lake)[BTC].version_for(FEBRUARY) == before[BTC].version_for(FEBRUARY)
        assert known_markets(lake)[BTC].listed == at("2023-05-17T09:30")
        refresh_markets(lake, [BTC])
        assert rows_of(tmp_path)["AUSDT"]["life_source"] == "names"


def test_terms_that_change_leave_what_held_before_with_the_range_in_which_it_held() -> None:
    first = Listing(
        BTC, "exchange_info", "names", "BTC", "USDT", terms=Terms(None, "TRADING", tick_size=0.01)
    )
    finer = replace(first, terms=Terms(None, "TRADING", tick_size=0.001))
    gone = Listing(BTC, "derived", "names", delisted=at("2024-03-01"), delisted_precision="day")
    gone = replace(gone, terms=Terms(status="NOT_NAMED", is_trading=False))
    rows: list[Listing] = []
    for when, news in (
        ("2024-01-01", first),
        ("2024-02-01", first),
        ("2024-02-05", finer),
        ("2024-04-01", gone),
    ):
        rows = learnt(rows, {BTC: news}, at(when))
    assert [
        (row.valid_from, row.valid_until, row.terms.tick_size, row.terms.status, row.base) for row in rows
    ] == [
        (None, at("2024-02-05"), 0.01, "TRADING", "BTC"),
        (at("2024-02-05"), at("2024-04-01"), 0.001, "TRADING", "BTC"),
        (at("2024-04-01"), None, 0.001, "NOT_NAMED", "BTC"),
    ]
    refined = replace(gone, listed=at("2020-01-01"), listed_precision="month")
    assert len(learnt(rows, {BTC: refined}, at("2024-05-01"))) == 3, (
        "an end that is better known is no history"
    )


def test_a_row_of_an_earlier_release_is_one_of_a_market_of_the_lake() -> None:
    old = {"exchange": "binance", "market_type": "spot", "symbol": "BTCUSDT", "origin": "derived"}
    old |= {"base": None, "quote": None, "settle": None, "contract_size": None}
    frame = pl.DataFrame([old | {"listed_time": at("2020-01-01"), "delisted_time": None}])
    assert facts_by_market(frame)[BTC].listed == at("2020-01-01")
    assert current_listings(frame)[BTC].life_source == "rows"


@pytest.mark.slow
def test_a_dated_universe_is_found_as_it_was_at_three_instants(tmp_path: Path) -> None:
    plan = dated_universe(LISTINGS, LISTINGS * 3 // 10)
    assert (len(plan), sum(market.delisted is not None for market in plan)) == (LISTINGS, LISTINGS * 3 // 10)
    with Simulator(plan, now=LATE) as sim:
        lake = services(tmp_path, sim, LATE)
        assert scan_listings(lake).problems == []
        first = len(sim.requests)
        sim.reset_requests()
        assert not scan_listings(lake).changed
        again = len(sim.requests)
    assert first < 4 * len(plan), "three LISTs a market"
    assert again < 60, "few once both ends are known"
    reused = 0
    for instant in (at("2021-09-01T05:00"), at("2022-11-15T17:00"), at("2024-03-03T03:03"), LATE):
        told = {
            Market(row["exchange"], row["market_type"], row["symbol"]): row["is_certain"]
            for row in Lake(tmp_path).markets(as_of=instant).iter_rows(named=True)
        }
        traded = {Market("binance", one.market_type, one.symbol) for one in plan if one.life(instant)}
        assert not traded - told.keys(), "no market is lost because it has ended since"
        assert {market for market, is_certain in told.items() if is_certain} <= traded
        by_key = {Market("binance", one.market_type, one.symbol): one for one in plan}
        for market in told.keys() - traded:
            one = by_key[market]
            in_break = any(start <= instant < end for start, end in one.breaks)
            ends = [one.listed, *([one.delisted] if one.delisted else [])]
            assert in_break or any(abs(instant - end) < DAY for end in ends), market
            reused += in_break
        survivors = {Market("binance", one.market_type, one.symbol) for one in plan if one.delisted is None}
        assert instant == LATE or traded - survivors, "who asks today's markets alone loses these"
    assert not Lake(tmp_path).markets(as_of=LATE + DAY)["is_certain"].any(), "nobody was asked since"
    assert Lake(tmp_path).markets(as_of=LATE)["is_certain"].all()
    assert reused, "a symbol that stood still is told, and as not certain"


def test_a_coin_that_goes_on_under_another_name_has_a_successor_with_its_ratio_and_no_other_has(
    tmp_path: Path,
) -> None:
    lives = {"MATICUSDT": "2024-01-20T03:00", "MATICAUSDT": "2024-01-20", "VENUSDT": "2023-07-01"}
    lives |= {"GALUSDT": "2023-07-01"}
    markets = [spot(symbol, "2022-01-01", end) for symbol, end in lives.items()]
    markets += [
        spot("POLUSDT", "2024-01-23T10:00"),
        spot("VETUSDT", "2023-07-25"),
        spot("NANOUSDT", "2022-01-01"),
        spot("GUSDT", "2023-07-02"),
    ]
    with Simulator(markets, now=at("2024-04-06T12:00")) as sim:
        scan_listings(services(tmp_path, sim, sim.now))
    told = {
        symbol: (row["successor"], row["successor_ratio"])
        for symbol, row in rows_of(tmp_path).items()
        if row["successor"]
    }
    assert told == {"MATICUSDT": ("POLUSDT", 1.0), "GALUSDT": ("GUSDT", 60.0)}


def test_an_interval_of_funding_is_told_where_the_exchange_states_one(tmp_path: Path) -> None:
    with Simulator([], now=at("2024-04-06T12:00")) as sim, canned() as api:
        api.says("fundingInfo", [{"symbol": "AUSDT", "fundingIntervalHours": 4}, {"symbol": "BUSDT"}, None])
        said: dict[str, object] = {"symbol": "AUSDT", "status": "TRADING", "baseAsset": "A"}
        said |= {"quoteAsset": "USDT", "marginAsset": "USDT"}
        said |= {"contractType": "PERPETUAL", "deliveryDate": 4133404800000}
        api.says("exchangeInfo", {"symbols": [said, said | {"symbol": "BUSDT", "baseAsset": "B"}]})
        found = look_over(Binance(sim.url, api.url), [CANDLE], {}, sim.now)
    told = {market.symbol: each.terms for market, each in found.listings.items() if each.settle}
    assert {symbol: terms.funding_interval_hours for symbol, terms in told.items()} == {
        "AUSDT": 4,
        "BUSDT": None,
    }


def test_names_mean_what_is_or_was_listed(tmp_path: Path) -> None:
    markets = [
        spot("AUSDT", "2023-01-01"),
        spot("BUSDT", "2022-01-10", "2024-01-20"),
        spot("币USDT", "2023-01-01"),
    ]
    with Simulator(markets, now=at("2024-04-06T12:00")) as sim:
        lake = services(tmp_path, sim, sim.now)
        keys = {f"binance-spot:{symbol}" for symbol in ("AUSDT", "BUSDT", "币USDT")}
        assert {market.key for market in listed_markets(lake, ["binance-spot:*USDT"])} == keys
        assert [each.key for each in listed_markets(lake, ["binance:币/USDT"])] == ["binance-spot:币USDT"]
        sim.reset_requests()
        assert listed_markets(lake, ["binance-spot:NOSUCH"]) == [Market("binance", "spot", "NOSUCH")]
        assert sim.requests == [], "a key needs no list"


# --- recorded bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "market_type", "count"), [("spot", "spot", 1695), ("um", "linear", 122)])
def test_every_market_of_a_recorded_exchange_info_has_a_name_of_its_own(
    real_data: Path, name: str, market_type: str, count: int
) -> None:
    body = _recorded(real_data, name)
    info = read_exchange_info(market_type, body["symbols"])  # type: ignore[arg-type]
    unified = {
        symbol: unified_symbol(each.base, each.quote, each.settle, market_type == "spot", each.terms)
        for symbol, each in info.markets.items()
    }
    assert (len(info.markets), info.skipped) == (count, {})
    unnamed = [symbol for symbol, said in unified.items() if said is None]
    assert unnamed == (["BTCSTUSDT"] if market_type == "linear" else []), "it states no type of contract"
    assert len({*unified.values()} - {None}) == count - len(unnamed)
    assert all(each.terms.tick_size and each.terms.step_size for each in info.markets.values())
    if market_type == "linear":
        assert unified["BTCUSDT_210924"] == "BTC/USDT:USDT-210924"
        assert coin_of(info.markets["1000SHIBUSDT"].base) == ("SHIB", 1000)
        assert coin_of(info.markets["1INCHUSDT"].base) == ("1INCH", 1)
        assert info.markets["BTCUSDT_210924"].terms.expires == at("2021-09-24T08:00")
        assert info.markets["BTCUSDT"].terms.onboarded == at("2019-09-25T08:00")


def test_surveyed_listing_dates_agree_with_what_the_exchange_named_on_a_day(real_data: Path) -> None:
    """Of 1,559 spot markets the survey has the first day, and a body of 2021-10-12 says which of them were
    listed: 547 it names were surveyed before, 1,012 it does not name came later.
    """
    body = _recorded(real_data, "spot")
    named, day = {entry["symbol"] for entry in body["symbols"]}, "2021-10-12"
    with (real_data / "ckvd" / "spot_earliest_dates.csv").open() as lines:
        dates = {row["symbol"]: row["earliest_date"] for row in csv.DictReader(lines)}
    assert (len(dates), len(named & dates.keys())) == (1559, 547)
    assert all(dates[symbol] <= day for symbol in named & dates.keys())
    assert all(dates[symbol] > day for symbol in dates.keys() - named)


def _recorded(real_data: Path, name: str) -> dict[str, list[dict[str, str]]]:
    path = real_data / "cryptofeed_recorded" / f"binance_{name}_exchangeInfo.json.gz"
    body: dict[str, list[dict[str, str]]] = json.loads(gzip.decompress(path.read_bytes()))
    return body
