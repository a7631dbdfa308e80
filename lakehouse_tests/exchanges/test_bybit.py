"""Bybit's dialect: answers as its documentation shows them, beside what they must read as; what its errors,
throttles and headers mean; what its symbols state.
"""

import ast
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse
from lakehouse.datasets.candle import PublishedCandle
from lakehouse.datasets.funding_rate import FundingRateApi, PublishedFundingRate
from lakehouse.exchanges.bybit import Bybit, BybitApi
from lakehouse.exchanges.reply import Reply
from lakehouse.model.market import Market, MarketType
from lakehouse.model.terms import Terms
from lakehouse_tests.making import MICRO, at

MINUTES, HOURS = Bybit.pages["bronze/candle_api"], Bybit.pages["bronze/candle_witness"]
RATES = Bybit.pages["bronze/funding_rate_api"]
INVERSE, LINEAR, SPOT = (
    Market("bybit", "inverse", "BTCUSD"),
    Market("bybit", "linear", "BTCUSDT"),
    Market("bybit", "spot", "BTCUSDT"),
)
# the documentation's examples, field by field
KLINES = """{"retCode": 0, "retMsg": "OK", "result": {"symbol": "BTCUSD", "category": "inverse", "list": [
["1670608800000", "17071", "17073", "17027", "17055.5", "268611", "15.74462667"],
["1670605200000", "17071.5", "17071.5", "17061", "17071", "4177", "0.24469757"]]},
"retExtInfo": {}, "time": 1672025956592}"""
FUNDING = """{"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [{"symbol": "ETHPERP",
"fundingRate": "0.0001", "fundingRateTimestamp": "1672041600000"}]},
"retExtInfo": {}, "time": 1672051897447}"""
LISTED = """{"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [{"symbol": "BTCUSDT",
"contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT",
"launchTime": "1585526400000", "deliveryTime": "0", "deliveryFeeRate": "", "priceScale": "2",
"leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
"priceFilter": {"minPrice": "0.50", "maxPrice": "999999.00", "tickSize": "0.50"},
"lotSizeFilter": {"maxOrderQty": "100.000", "minOrderQty": "0.001", "qtyStep": "0.001",
"postOnlyMaxOrderQty": "1000.000"}, "unifiedMarginTrade": true, "fundingInterval": 480,
"settleCoin": "USDT"}], "nextPageCursor": ""}, "retExtInfo": {}, "time": 1672712495660}"""


def api(market_type: MarketType = "linear") -> BybitApi:
    return Bybit().rest_api(market_type)


def reply(status: int | None, body: Any, **headers: object) -> Reply:
    said = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Reply(status, named, None if isinstance(body, str) else body, said, not isinstance(body, str))


# --- rows -----------------------------------------------------------------------------------------


def test_an_inverse_candle_counts_contracts_of_a_dollar_and_is_turned_over_in_base() -> None:
    rows = HOURS.read(INVERSE, json.loads(KLINES))
    assert rows.schema == PublishedCandle.polars_schema()
    newest = rows.row(0, named=True)
    assert newest == dict.fromkeys(PublishedCandle.names()) | {
        "open_time": at("2022-12-09T18:00"), "close_time": at("2022-12-09T19:00") - MICRO,
        "open": 17071.0, "high": 17073.0, "low": 17027.0, "close": 17055.5,
        "contracts": 268611.0, "volume": 15.74462667,
    }, "what is not published is null, never zero"  # fmt: skip
    assert rows["open_time"].to_list() == [at("2022-12-09T18:00"), at("2022-12-09T17:00")]


@pytest.mark.parametrize("market", [LINEAR, SPOT], ids=str)
def test_other_candles_count_base_and_are_turned_over_in_quote(market: Market) -> None:
    fields = ["1585526400000", "6500", "6501.5", "6499", "6500.5", "12.345", "80243.85"]
    answer = {"result": {"category": market.market_type, "symbol": "BTCUSDT", "list": [fields]}}
    row = MINUTES.read(market, answer).row(0, named=True)
    assert (row["volume"], row["quote_volume"], row["contracts"]) == (12.345, 80243.85, None)
    assert row["close_time"] == row["open_time"] + timedelta(minutes=1) - MICRO, "derived, so never cut short"


def test_a_funding_rate_is_of_the_minute_of_its_stamp() -> None:
    rows = RATES.read(Market("bybit", "linear", "ETHPERP"), json.loads(FUNDING))
    assert rows.schema == PublishedFundingRate.polars_schema()
    time = at("2022-12-26T08:00")
    assert rows.rows() == [(time, time, 0.0001, None, None)]
    assert set(rows.columns) <= set(FundingRateApi.names())


@pytest.mark.parametrize("value", ["", "NaN", "inf", "1e999", None, "one"])
def test_of_a_row_that_cannot_be_used_there_is_its_time_alone(value: Any) -> None:
    answer = json.loads(KLINES)
    answer["result"]["list"][0][4] = value
    bad, good = HOURS.read(INVERSE, answer).rows(named=True)
    assert bad == dict.fromkeys(PublishedCandle.names()) | {"open_time": at("2022-12-09T18:00")}
    assert good["close"] == 17071.0
    answer = json.loads(FUNDING)
    answer["result"]["list"][0]["fundingRate"] = value
    (row,) = RATES.read(Market("bybit", "linear", "ETHPERP"), answer).rows(named=True)
    assert row == dict.fromkeys(PublishedFundingRate.names()) | {"funding_time": at("2022-12-26T08:00")}


@pytest.mark.parametrize("pages", [MINUTES, HOURS, RATES])
def test_an_answer_without_rows_has_the_columns(pages: Any) -> None:
    empty = {"result": {"category": "inverse", "symbol": "BTCUSD", "list": []}}
    assert pages.read(INVERSE, []).schema == pages.read(INVERSE, empty).schema
    assert pages.read(INVERSE, []).height == 0


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("category",), "linear"), (("symbol",), "ETHUSD"), (("list",), {}), (("list", 0), "row"),
        (("list", 0), ["1670608800000", "1"]), (("list", 0, 0), "soon"), (("list", 0, 0), "-1"),
        (("list", 0, 0), "1670608800"), (("list", 0, 0), None),
    ],
)  # fmt: skip
def test_what_is_no_answer_about_the_market_is_refused(place: tuple[Any, ...], value: Any) -> None:
    answer = json.loads(KLINES)
    inner = answer["result"]
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises((ValueError, KeyError, TypeError)):
        HOURS.read(INVERSE, answer)


def test_a_rate_of_another_market_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ETHPERP.*asked for BTCUSDT"):
        RATES.read(LINEAR, json.loads(FUNDING))


# --- requests -------------------------------------------------------------------------------------


@given(st.datetimes(datetime(2019, 1, 1), datetime(2026, 1, 1)), st.integers(1, 10**9))
def test_a_request_names_the_market_and_both_bounds_of_a_half_open_range(
    begin: datetime, micros: int
) -> None:
    start = begin.replace(tzinfo=UTC)
    end = start + timedelta(microseconds=micros)
    named = {
        (MINUTES, "start", "end"): "public_get_v5_market_kline",
        (RATES, "startTime", "endTime"): "public_get_v5_market_funding_history",
    }
    for (pages, first, last), method in named.items():
        call = pages.call(LINEAR, start, end, 7)
        low, high = (
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(call.params[name]))
            for name in (first, last)
        )
        assert timedelta(0) <= low - start < timedelta(milliseconds=1)
        assert timedelta(0) < end - high <= timedelta(milliseconds=1)
        assert call.method == method
        assert (call.params["category"], call.params["symbol"], call.params["limit"]) == (
            "linear",
            "BTCUSDT",
            7,
        )


def test_a_month_of_minutes_is_45_requests_and_one_of_hours_is_one() -> None:
    rules = MINUTES.rules("linear")
    assert (rules.requests(31 * 1440), rules.requests(31 * 24)) == (45, 1)


# --- what replies mean ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "meaning", "seconds"),
    [
        (200, {"retCode": 0, "result": {}}, "answered", 0),
        (200, {"retCode": 10001, "retMsg": "Not supported symbols"}, "unknown_symbol", 0),
        (200, {"retCode": 10001, "retMsg": "params error: Symbol Is Invalid"}, "unknown_symbol", 0),
        (200, {"retCode": 10001, "retMsg": "Invalid period!"}, "refused", 0),
        (200, {"retCode": 10029, "retMsg": "The requested symbol is invalid"}, "unknown_symbol", 0),
        (200, {"retCode": 10006, "retMsg": "Too many visits!"}, "throttled", 60),
        (200, {"retCode": 10016, "retMsg": "Server error."}, "busy", 0),
        (200, {"retCode": 10000, "retMsg": "Server Timeout"}, "busy", 0),
        (200, {"retCode": 10018, "retMsg": "Exceeded the IP Rate Limit."}, "banned", 600),
        (200, {"retCode": 10009, "retMsg": "IP has been banned."}, "banned", 600),
        (200, {"retCode": 33004, "retMsg": "Your api key has expired."}, "refused", 0),
        (403, "403, access too frequent", "banned", 600),
        (403, "<html>403 Forbidden: Access Too Frequent</html>", "banned", 600),
        (403, "<html>The Amazon CloudFront distribution is configured to block access</html>", "blocked", 0),
        (451, "", "blocked", 0),
        (429, "", "throttled", 60),
        (404, "404 page not found", "foreign", 0),
        (200, "<html>log in</html>", "busy", 0),
        (503, "", "busy", 0),
        (None, "connection refused", "busy", 0),
    ],
)
def test_what_a_reply_means(status: int | None, body: Any, meaning: str, seconds: float) -> None:
    verdict = api().judge(reply(status, body))
    assert (verdict.meaning, verdict.seconds) == (meaning, seconds)
    if meaning in ("unknown_symbol", "refused"):
        assert (verdict.code, verdict.why) == (body["retCode"], body["retMsg"])


@pytest.mark.parametrize(
    ("code", "left", "reset", "meaning", "seconds"),
    [
        (10006, 0, 1_672_738_134_824, "throttled", 1.824),
        (10006, 0, 1_672_738_130_000, "throttled", 0),
        (10006, 0, 9_999_999_999_999, "throttled", 60),
        (10006, 0, "soon", "throttled", 60),
        (0, 0, 1_672_738_134_824, "answered", 1.824),
        (0, 1, 1_672_738_134_824, "answered", 0),
        (0, 0, "", "answered", 0),
    ],
)
def test_headers_tell_when_a_limit_begins_anew_by_the_clock_of_the_body(
    code: int, left: int, reset: object, meaning: str, seconds: float
) -> None:
    told = {"x_bapi_limit": 100, "x_bapi_limit_status": left, "x_bapi_limit_reset_timestamp": reset}
    body = {"retCode": code, "retMsg": "", "time": 1_672_738_133_000}
    verdict = api().judge(reply(200, body, **told))
    assert (verdict.meaning, verdict.seconds) == (meaning, pytest.approx(seconds))


def test_the_time_is_that_of_any_answer() -> None:
    assert api().read_time(json.loads(FUNDING)) == datetime(2022, 12, 26, 10, 51, 37, 447_000, tzinfo=UTC)


# --- markets --------------------------------------------------------------------------------------


def test_a_perpetual_is_described_with_its_terms_and_the_interval_of_its_funding() -> None:
    found = api().read_info(json.loads(LISTED))
    assert (found.symbols, found.skipped) == ({"BTCUSDT"}, {})
    info = found.markets["BTCUSDT"]
    assert (info.base, info.quote, info.settle, info.contract_size) == ("BTC", "USDT", "USDT", None)
    assert (info.ends, info.trades, info.unified("linear")) == (None, True, "BTC/USDT:USDT")
    assert info.terms == Terms("perpetual", "Trading", None, 0.5, 0.001, 8.0, at("2020-03-30"), None)


def test_a_contract_with_a_day_of_delivery_ends_on_it() -> None:
    answer = json.loads(LISTED)
    answer["result"]["list"][0] |= {
        "symbol": "BTCUSDZ24", "contractType": "InverseFutures", "quoteCoin": "USD", "settleCoin": "BTC",
        "deliveryTime": "1735286400000", "fundingInterval": 0,
    }  # fmt: skip
    info = api("inverse").read_info(answer).markets["BTCUSDZ24"]
    assert (info.contract_size, info.ends) == (1.0, at("2024-12-27T08:00"))
    assert (info.terms.expires, info.terms.funding_interval_hours) == (info.ends, None)
    assert info.unified("inverse") == "BTC/USD:BTC-241227"
    assert Bybit().infer_info(Market("bybit", "inverse", "BTCUSDZ24")).ends == info.ends


def test_an_odd_entry_costs_nobody_else_his_facts() -> None:
    answer = json.loads(LISTED)
    good = answer["result"]["list"][0]
    wrong = {"X": {"baseCoin": ""}, "Y": {"priceFilter": []}, "Z": {"deliveryTime": "soon"}}
    odd = [None, {}, {"symbol": "a/b"}, *(good | {"symbol": name} | why for name, why in wrong.items())]
    answer["result"]["list"] = [*odd, good]
    found = api().read_info(answer)
    assert (set(found.markets), set(found.skipped)) == ({"BTCUSDT"}, {"", "X", "Y", "Z"})


def test_a_cursor_leads_to_the_rest_of_a_description() -> None:
    answer = json.loads(LISTED)
    assert api().more_info(answer) is None
    answer["result"]["nextPageCursor"] = "first%3DBTC"
    more = api().more_info(answer)
    assert more is not None
    assert more.url == api().info_call().url
    assert more.params == {**api().info_call().params, "cursor": "first%3DBTC"}


@pytest.mark.parametrize(
    ("market_type", "symbol", "coins", "ends"),
    [
        ("inverse", "BTCUSD", ("BTC", "USD", "BTC", 1.0), None),
        ("inverse", "ETHUSDH25", ("ETH", "USD", "ETH", 1.0), "2025-03-28T08:00"),
        ("inverse", "BTCUSDM24", ("BTC", "USD", "BTC", 1.0), "2024-06-28T08:00"),
        ("linear", "BTCUSDT", ("BTC", "USDT", "USDT", None), None),
        ("linear", "1000PEPEUSDT", ("1000PEPE", "USDT", "USDT", None), None),
        ("linear", "BTCUSDT-27DEC24", ("BTC", "USDT", "USDT", None), "2024-12-27T08:00"),
        ("linear", "BTC-27DEC24", (None, None, None, None), "2024-12-27T08:00"),
        ("linear", "BTCPERP", (None, None, None, None), None),
        ("linear", "ODD", (None, None, None, None), None),
        ("spot", "BTCUSDT", (None, None, None, None), None),
    ],
)
def test_what_a_symbol_states(
    market_type: MarketType, symbol: str, coins: tuple[object, ...], ends: str | None
) -> None:
    info = Bybit().infer_info(Market("bybit", market_type, symbol))
    assert (info.base, info.quote, info.settle, info.contract_size) == coins
    assert info.ends == (at(ends) if ends else None)


def test_contracts_with_a_day_of_delivery_pay_no_funding() -> None:
    delivered = Market("bybit", "linear", "BTC-27DEC24"), Market("bybit", "inverse", "BTCUSDZ24")
    has = [Bybit().has(FundingRateApi, market) for market in (LINEAR, INVERSE, *delivered, SPOT)]
    assert has == [True, True, False, False, False]


def test_prices_have_no_type_of_their_own() -> None:
    rows = HOURS.read(INVERSE, json.loads(KLINES))
    assert set(rows.drop("open_time", "close_time", "trade_count").dtypes) == {pl.Float64}


# --- where it is known ----------------------------------------------------------------------------


def test_no_code_but_its_own_file_and_the_registry_knows_of_it() -> None:
    """The simulator states its dialect by itself, and the demo has a market of it; docstrings may name it."""
    package = Path(lakehouse.__file__).parent
    knowing = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if Bybit.name in _without_prose(ast.parse(file.read_text("utf-8"))).lower()
    }
    elsewhere = {name for name in knowing if not name.startswith("simulator/")}
    assert elsewhere == {"cli/demo.py", "exchanges/__init__.py", "exchanges/bybit.py"}


def _without_prose(tree: ast.Module) -> str:
    """A module's code without comments and docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                one
                for one in node.body
                if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ]
    return ast.unparse(tree)
