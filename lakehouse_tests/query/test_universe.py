"""Which markets could be traded at an instant, and which markets a name means: never more than is known."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.funding_rate import FundingRate, FundingRateArchive
from lakehouse.datasets.market import Listing, MarketTable, market_frame
from lakehouse.features.funding_carry import FundingCarry
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ManyMarketsError,
    MarketKeyError,
    NoSuchListingError,
    NothingStoredError,
    NotOfThisTypeError,
    NotScannedError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.model.table import Table
from lakehouse.model.terms import Terms, coin_of, unified_symbol
from lakehouse.ops.quality import lake_quality
from lakehouse.query.lake import Lake
from lakehouse.query.universe import named, tradable
from lakehouse.storage.asked import note_scanned
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, at

TRADING, GONE = Terms(status="TRADING", is_trading=True), Terms(status="NOT_NAMED", is_trading=False)
LISTED = Listing(
    *(BTC, "exchange_info", "names", "BTC", "USDT"),
    listed=at("2022-03-01"),
    listed_precision="day",
    terms=TRADING,
)
ENDED = replace(LISTED, delisted=at("2023-06-01"), delisted_precision="month", terms=GONE)
SCANNED = {"binance": at("2024-06-01")}


@pytest.mark.parametrize(
    ("listing", "instant", "certain"),
    [
        (LISTED, "2022-02-28T23:59", None),
        (LISTED, "2022-03-01T12:00", False),
        (LISTED, "2022-03-02", True),
        (LISTED, "2024-06-01", True),
        (LISTED, "2024-06-01T00:01", False),
        (replace(LISTED, listed_precision="month"), "2022-03-31T23:59", False),
        (replace(LISTED, listed_precision="month"), "2022-04-01", True),
        (replace(LISTED, listed_precision="minute"), "2022-03-01", True),
        (ENDED, "2023-04-30T23:59", True),
        (ENDED, "2023-05-01", False),
        (ENDED, "2023-06-01", None),
        (replace(ENDED, delisted_precision="day"), "2023-05-30T23:59", True),
        (replace(ENDED, delisted_precision="day"), "2023-05-31", False),
        (replace(ENDED, delisted_precision="instant"), "2023-05-31T23:59", True),
        (replace(LISTED, terms=GONE), "2023-01-01", False),
        (replace(LISTED, terms=Terms()), "2023-01-01", False),
        (replace(LISTED, unpublished="2022-07,2022-08"), "2022-08-31", False),
        (replace(LISTED, unpublished="2022-07,2022-08"), "2022-09-01", True),
        (replace(LISTED, terms=replace(TRADING, onboarded=at("2021-09-25T08:00"))), "2021-10-01", True),
        (replace(LISTED, listed=None, listed_precision=None), "2023-01-01", None),
        (
            replace(LISTED, listed=None, listed_precision=None, valid_from=at("2022-01-01")),
            "2023-01-01",
            True,
        ),
        (replace(LISTED, valid_from=at("2022-01-01"), terms=GONE), "2023-01-01", None),
    ],
)
def test_a_market_is_told_as_surely_as_its_life_is_known(
    listing: Listing, instant: str, certain: bool | None
) -> None:
    found = tradable([listing], at(instant), SCANNED)
    assert found["is_certain"].to_list() == ([] if certain is None else [certain])


def test_a_market_is_told_with_the_terms_that_held_then() -> None:
    finer = replace(TRADING, tick_size=0.001)
    rows = [
        replace(LISTED, terms=replace(TRADING, tick_size=0.01), valid_until=at("2023-02-05")),
        replace(LISTED, terms=finer, valid_from=at("2023-02-05")),
    ]
    told = [
        tradable(rows, at(day), SCANNED)["tick_size"].item()
        for day in ("2022-06-01", "2023-02-05", "2024-01-01")
    ]
    assert told == [0.01, 0.001, 0.001]


def test_a_market_is_left_out_between_two_lives_that_its_own_rows_prove(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path)
    store = TableStore(objects)
    store.put(
        MarketTable, None, CellResult(market_frame([replace(LISTED, life_source="rows", unpublished="")]), {})
    )
    stopped = GapRun("not_listed", at("2022-05-13"), at("2022-05-31"), 18 * 1440)
    store.put(Candle, Cell("2022-05", BTC), CellResult(Candle.empty(), {}, CellFacts(gaps=(stopped,))))
    note_scanned(objects, ["binance"], SCANNED["binance"])
    told = {day: Lake(tmp_path).markets(as_of=f"2022-05-{day}").height for day in (12, 13, 30, 31)}
    assert told == {12: 1, 13: 0, 30: 0, 31: 1}


def test_a_lake_that_knows_its_own_markets_alone_tells_no_universe() -> None:
    with pytest.raises(NotScannedError, match=r"Of binance only .* `lakehouse markets scan`"):
        tradable([replace(LISTED, life_source="rows")], at("2023-01-01"), SCANNED)
    assert (
        tradable([replace(LISTED, life_source="rows", unpublished="")], at("2023-01-01"), SCANNED).height == 1
    )


def _listed(
    key: str, base: str | None = "BTC", settle: str | None = None, kind: str | None = None
) -> Listing:
    terms = Terms(kind, "TRADING", at("2024-03-29T08:00") if kind == "delivery" else None)
    return Listing(Market.parse(key), "exchange_info", "names", base, "USDT", settle, terms=terms)


KNOWN = [
    _listed("binance-spot:BTCUSDT"),
    _listed("binance-linear:BTCUSDT", settle="USDT", kind="perpetual"),
    _listed("binance-linear:BTCUSDT_240329", settle="USDT", kind="delivery"),
    _listed("binance-linear:1000SHIBUSDT", "1000SHIB", "USDT", "perpetual"),
    _listed("binance-spot:GONEUSDT", None),
    _listed("other-spot:BTC-USDT"),
]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("binance-spot:NOSUCH", ["binance-spot:NOSUCH"]),
        ("binance:BTC/USDT", ["binance-spot:BTCUSDT"]),
        ("binance:BTC/USDT:USDT", ["binance-linear:BTCUSDT"]),
        ("BTC/USDT:USDT", ["binance-linear:BTCUSDT"]),
        ("binance:BTC/USDT:USDT-240329", ["binance-linear:BTCUSDT_240329"]),
        ("1000SHIB/USDT:USDT", ["binance-linear:1000SHIBUSDT"]),
        ("*-spot:*USDT", ["binance-spot:BTCUSDT", "binance-spot:GONEUSDT", "other-spot:BTC-USDT"]),
        (
            "binance:BTC/*",
            [f"binance-{name}" for name in ("linear:BTCUSDT", "linear:BTCUSDT_240329", "spot:BTCUSDT")],
        ),
        ("binance-linear:BTCUSDT_24????", ["binance-linear:BTCUSDT_240329"]),
    ],
)
def test_a_name_means_what_has_it(name: str, keys: list[str]) -> None:
    assert [market.key for market in named(name, lambda: KNOWN)] == keys


def test_a_name_that_several_or_no_markets_have_is_refused_with_the_choices() -> None:
    with pytest.raises(ManyMarketsError, match="can mean binance-spot:BTCUSDT, other-spot:BTC-USDT"):
        named("BTC/USDT", lambda: KNOWN)
    for name in ("binance:GONE/USDT", "other:BTC/USDT:USDT", "nobody-*:*"):
        with pytest.raises(NoSuchListingError, match="of 6 that are known"):
            named(name, lambda: KNOWN)
    for name in ("BTCUSDT", "[/x]", "a/b/c", "binance:/", "binance:BTC/USDT:USDT-Q3"):
        with pytest.raises(MarketKeyError):
            named(name, lambda: KNOWN)


def test_names_stand_wherever_a_market_key_does(tmp_path: Path) -> None:
    objects = LakeObjects(tmp_path)
    listed = [replace(each, listed=at("2020-01-01"), life_source="rows") for each in KNOWN[:2]]
    store = TableStore(objects)
    store.put(MarketTable, None, CellResult(market_frame([*listed, *KNOWN[2:]]), {}))
    spot, perpetual = (each.market for each in listed)
    rate: dict[str, object] = dict.fromkeys(("funding_time", "published_time"), at("2024-02-01"))
    rate |= {"rate": 1e-4, "interval_source": "unknown", "source": "archive"}
    rates = pl.DataFrame([rate], schema=FundingRate.polars_schema())
    cells: tuple[tuple[type[Table], Market, pl.DataFrame], ...] = (
        (Candle, spot, Candle.empty()),
        (Candle, perpetual, Candle.empty()),
        (FundingRateArchive, perpetual, FundingRateArchive.empty()),
        (FundingRate, perpetual, rates),
        (FundingCarry, perpetual, FundingCarry.empty()),
    )
    for table, market, frame in cells:
        store.put(table, Cell("2024-02", market), CellResult(frame, {}))
    lake = Lake(tmp_path)
    every = ["binance-linear:BTCUSDT", "binance-spot:BTCUSDT"]
    assert [market.key for market in lake.named("binance-*:BTC*", tables=())] == every, (
        "a pattern stands for markets of the lake"
    )
    assert lake.scan("silver/market", ["binance:BTC/USDT"]).collect()["symbol"].to_list() == ["BTCUSDT"]
    with pytest.raises(ManyMarketsError, match="BTC/USDT can mean"):
        lake.candles("BTC/USDT")

    for name in ("binance:BTC/USDT:USDT", "BTC/USDT:USDT", " binance-linear:BTC?SDT", perpetual):
        assert lake.funding_rates(name)["rate"].to_list() == [1e-4]
        assert lake.funding_carry(name).is_empty()
        assert lake.candles(name).is_empty()
    # of a table that spot markets do not have, a pattern means those that do
    for pattern in ("binance-*:BTC*", "binance:BTC/USDT*", ["binance-*:*", "binance:BTC/USDT:USDT"]):
        assert lake.scan("silver/funding_rate", pattern).collect()["symbol"].to_list() == ["BTCUSDT"]
        assert lake.gaps(pattern, table="silver/funding_rate").is_empty()
        assert lake.conflicts(pattern, table="silver/funding_rate").is_empty()
        assert lake.restatements(pattern, table="silver/funding_rate").is_empty()
        assert lake.dataset_id("silver/funding_rate", pattern) == lake.dataset_id("silver/funding_rate")
    assert lake.sql("SELECT count(*) FROM silver.funding_rate", markets="binance:BTC/*").item() == 1
    assert lake.funding_rates("binance-*:*").height == 1, "one market alone has any"
    with pytest.raises(ManyMarketsError, match=", ".join(every)):
        lake.candles("binance-*:BTC*")
    for read in (lake.funding_rates, lake.funding_carry):
        with pytest.raises(
            NothingStoredError, match="of binance-spot:BTCUSDT: linear and inverse markets alone"
        ):
            read("binance:BTC/USDT")


RATES, CARRY = "silver/funding_rate", "gold/funding_carry"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("binance-spot:BTCUSDT", "binance-spot:BTCUSDT: linear and inverse markets alone have it"),
        (["binance-linear:BTCUSDT", "binance-spot:ABCUSDT"], "binance-spot:ABCUSDT: linear and inverse"),
        ("binance-spot:*", r"binance-spot:\*: linear and inverse markets alone"),
        ("binance-linear:BTCUSDT_240628", "BTCUSDT_240628: contracts such as this one have none"),
        ("binance-inverse:BTCUSD_200925", "BTCUSD_200925: contracts such as this one have none"),
    ],
)
def test_what_a_market_can_never_have_is_not_to_be_built_first(
    tmp_path: Path, names: str | list[str], why: str
) -> None:
    objects = LakeObjects(tmp_path)
    store, (spot, perpetual) = TableStore(objects), (each.market for each in KNOWN[:2])
    listed = [replace(each, listed=at("2020-01-01"), life_source="rows") for each in KNOWN[:2]]
    store.put(MarketTable, None, CellResult(market_frame(listed), {}))
    for table, market in ((Candle, spot), (FundingRate, perpetual), (FundingCarry, perpetual)):
        store.put(table, Cell("2024-02", market), CellResult(table.empty(), {}))
    lake = Lake(tmp_path)
    for ask in (
        lambda: lake.gaps(names, table=RATES),
        lambda: lake.conflicts(names, table=RATES),
        lambda: lake.restatements(names, table=RATES),
        lambda: lake.scan(RATES, names),
        lambda: lake.scan(CARRY, names),
        lambda: lake.dataset_id(CARRY, names),
        lambda: lake.features(names, [CARRY]),
    ):
        with pytest.raises(NotOfThisTypeError, match=f"There is no .* of .*{why}"):
            ask()
    with pytest.raises(NotOfThisTypeError):
        lake_quality(lake, FundingRate, [spot], at("2024-03-10"))


def test_a_market_that_is_there_without_a_table_has_its_rows_with_nulls_beside_them(tmp_path: Path) -> None:
    store, (spot, perpetual) = TableStore(LakeObjects(tmp_path)), (each.market for each in KNOWN[:2])
    listed = [replace(each, listed=at("2020-01-01"), life_source="rows") for each in KNOWN[:2]]
    store.put(MarketTable, None, CellResult(market_frame(listed), {}))
    for market in (spot, perpetual):
        store.put(Vwap, Cell("2024-02", market), CellResult(Vwap.empty(), {}))
    lake = Lake(tmp_path)
    found = lake.features([spot, perpetual], ["gold/vwap", CARRY])
    assert "funding_carry_rate" in found.columns
    assert lake.scan("silver/gap", spot).collect().is_empty(), "a table of all markets is anybody's"
    with pytest.raises(NothingStoredError, match="Build it first"):
        lake.gaps(perpetual, table=RATES)
    with pytest.raises(
        NothingStoredError, match=r"silver/funding_rate .*\(binance-\*:BTC\*\).* Build it first"
    ):
        lake.gaps("binance-*:BTC*", table=RATES)


@pytest.mark.parametrize(
    ("base", "coin", "multiple"),
    [
        ("1000SHIB", "SHIB", 1000),
        ("1000000MOG", "MOG", 1_000_000),
        ("10000LADYS", "LADYS", 10_000),
        ("1MBABYDOGE", "BABYDOGE", 1_000_000),
        ("1INCH", "1INCH", 1),
        ("0G", "0G", 1),
        ("1000", "1000", 1),
        ("币安人生", "币安人生", 1),
        (None, None, None),
    ],
)
def test_a_multiple_of_a_coin_is_read_from_the_name_of_the_base(
    base: str | None, coin: str | None, multiple: int | None
) -> None:
    assert coin_of(base) == (coin, multiple)


def test_a_unified_symbol_needs_every_part() -> None:
    assert unified_symbol("BTC", "USD", "BTC", False, Terms("perpetual")) == "BTC/USD:BTC"
    assert unified_symbol("BTC", "USDT", "USDT", False, Terms()) is None
    assert unified_symbol("BTC", "USDT", "USDT", False, Terms("delivery")) is None
    assert unified_symbol(None, "USDT", None, True, Terms()) is None
