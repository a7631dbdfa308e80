"""The REST endpoints."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.simulator import Simulator

from .conftest import NOW, Client, kline_key

MINUTE = 60_000


def ms(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000


NOON = ms(datetime(2024, 2, 1, 12, tzinfo=UTC))


def answer(client: Client, path: str, **query: Any) -> Any:
    return client.session.get(f"{client.sim.url}/{path}", params=query, timeout=10)


def times(client: Client, api: str = "api/v3", **query: Any) -> list[int]:
    return client.klines(api, **{"symbol": "BTCUSDT", "interval": "1m", **query})["open_time"].to_list()


def test_the_range_is_inclusive_and_rounded_inwards(client: Client) -> None:
    assert times(client, startTime=NOON, endTime=NOON + 2 * MINUTE) == [
        NOON,
        NOON + MINUTE,
        NOON + 2 * MINUTE,
    ]
    assert times(client, startTime=NOON + 1, endTime=NOON + 2 * MINUTE - 1) == [NOON + MINUTE]
    assert times(client, startTime=NOON + 1, endTime=NOON + 2) == []
    assert times(client, startTime=NOON, endTime=NOON - 1) == []
    assert times(client, startTime=ms(NOW) + 10 * MINUTE) == []
    assert times(client, endTime=ms(datetime(2020, 1, 1, tzinfo=UTC))) == []


def test_a_start_gives_the_oldest_and_anything_else_the_newest(client: Client) -> None:
    assert times(client, startTime=NOON, limit=3) == [NOON, NOON + MINUTE, NOON + 2 * MINUTE]
    assert times(client, startTime=0, limit=1) == [ms(datetime(2021, 1, 1, tzinfo=UTC))]
    assert times(client, endTime=NOON, limit=2) == [NOON - MINUTE, NOON]
    assert times(client, limit=1) == [ms(NOW.replace(second=0))]


def test_the_inverse_api_answers_with_the_newest_of_at_most_200_days(client: Client) -> None:
    market, days = {"api": "dapi/v1", "symbol": "BTCUSD_PERP"}, 86_400_000
    assert times(client, **market, startTime=NOON, endTime=NOON + 9 * MINUTE, limit=3) == [
        NOON + n * MINUTE for n in (7, 8, 9)
    ]
    assert times(client, **market, interval="1d", startTime=NOON, limit=1) == [NOON + 200 * days - days // 2]
    assert (
        times(client, **market, interval="1d", endTime=NOON, limit=1000)[0] == NOON - 200 * days + days // 2
    )
    assert times(client, **market, limit=1) == [ms(NOW.replace(second=0))]
    refused = answer(
        client,
        "dapi/v1/klines",
        symbol="BTCUSD_PERP",
        interval="1d",
        startTime=NOON,
        endTime=NOON + 201 * days,
    )
    assert (refused.status_code, refused.json()["code"]) == (400, -1127)


@pytest.mark.parametrize(("api", "most"), [("api/v3", 1000), ("fapi/v1", 1500)])
def test_limits(client: Client, api: str, most: int) -> None:
    assert len(times(client, api, startTime=NOON)) == 500
    assert len(times(client, api, startTime=NOON, limit=5000)) == most


def test_the_last_candle_is_unfinished(client: Client) -> None:
    minutes = client.klines("api/v3", symbol="BTCUSDT", interval="1m", limit=31).rows(named=True)
    assert minutes[-1]["close_time"] > ms(NOW)
    assert (minutes[-1]["count"], minutes[-1]["close"]) == (0, minutes[-1]["open"])
    hour = client.klines("api/v3", symbol="BTCUSDT", interval="1h", limit=1).rows(named=True)[0]
    assert hour["open_time"] == ms(NOW.replace(minute=0, second=0))
    assert hour["volume"] == sum(row["volume"] for row in minutes)
    assert hour["close"] == minutes[-1]["close"]
    with Simulator(now=NOW + timedelta(hours=1)) as later:
        assert (
            Client(later).klines("api/v3", symbol="BTCUSDT", interval="1h", endTime=ms(NOW), limit=1)[
                "volume"
            ][0]
            > hour["volume"]
        )


def test_every_interval_agrees_with_the_minutes(client: Client) -> None:
    start = ms(datetime(2024, 2, 1, tzinfo=UTC))
    day = client.rows(kline_key("futures/um", "daily", "BTCUSDT", "1m", "2024-02-01"))
    for interval, count in (("5m", 288), ("15m", 96), ("1h", 24), ("4h", 6), ("1d", 1)):
        rows = client.klines("fapi/v1", symbol="BTCUSDT", interval=interval, startTime=start, limit=count)
        assert rows.height == count
        assert rows["close_time"][-1] == start + 86_400_000 - 1
        assert (rows["quote_volume"].sum(), rows["high"].max(), rows["close"][-1]) == (
            day["quote_volume"].sum(),
            day["high"].max(),
            day["close"][-1],
        )


def test_shape_of_a_row(client: Client) -> None:
    row = answer(client, "api/v3/klines", symbol="BTCUSDT", interval="1m", startTime=NOON, limit=1).json()[0]
    assert [type(value) for value in row] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert len(row[1].partition(".")[2]) == 8


def test_microseconds_on_request_for_spot_only(client: Client) -> None:
    header = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    rows = client.klines(
        "api/v3", header, symbol="BTCUSDT", interval="1m", startTime=NOON * 1000, endTime=NOON * 1000
    )
    assert rows.select("open_time", "close_time").row(0) == (NOON * 1000, NOON * 1000 + 59_999_999)
    assert client.klines("fapi/v1", header, symbol="BTCUSDT", interval="1m", startTime=NOON, limit=1)[
        "open_time"
    ].to_list() == [NOON]


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ({"symbol": "NOPE", "interval": "1m"}, -1121, "Invalid symbol."),
        ({"symbol": "XYZUSDT", "interval": "1m"}, -1121, "Invalid symbol."),
        ({"symbol": "BTCUSDT", "interval": "2m"}, -1120, "Invalid interval."),
        (
            {"interval": "1m"},
            -1102,
            "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
        ),
        (
            {"symbol": "BTCUSDT", "interval": "1m", "limit": "-1"},
            -1100,
            "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.",
        ),
    ],
)
def test_errors(client: Client, query: dict[str, str], code: int, message: str) -> None:
    refused = answer(client, "api/v3/klines", **query)
    assert (refused.status_code, refused.json()) == (400, {"code": code, "msg": message})


def test_an_unknown_endpoint(client: Client) -> None:
    assert [answer(client, path).status_code for path in ("api/v3/nothing", "nowhere")] == [404, 404]


def test_weights_add_up(own_client: Client) -> None:
    used = [
        answer(own_client, path, symbol="BTCUSDT", interval="1m").headers["X-MBX-USED-WEIGHT-1M"]
        for path in ("api/v3/exchangeInfo", "api/v3/klines", "fapi/v1/klines")
    ]
    assert used == ["20", "22", "5"]


@pytest.mark.slow
def test_funding_of_linear_markets_has_a_limit_of_its_own(own_client: Client) -> None:
    answers = [answer(own_client, "fapi/v1/fundingInfo")] + [
        answer(own_client, "fapi/v1/fundingRate", symbol="BTCUSDT", limit="1") for _ in range(500)
    ]
    assert {reply.status_code for reply in answers[:500]} == {200}
    refused = answers[500]
    assert (refused.status_code, refused.json()["code"]) == (429, -1003)
    assert 290 <= int(refused.headers["Retry-After"]) <= 300
    assert answer(own_client, "fapi/v1/fundingInfo").status_code == 429, "it shares the limit"
    for path in ("dapi/v1/fundingRate", "fapi/v1/klines"):
        symbol = "BTCUSD_PERP" if path.startswith("dapi") else "BTCUSDT"
        assert answer(own_client, path, symbol=symbol, interval="1m", limit="1").status_code == 200
    own_client.sim.advance(timedelta(seconds=int(refused.headers["Retry-After"])))
    assert answer(own_client, "fapi/v1/fundingRate", symbol="BTCUSDT").status_code == 200


def test_exchange_info_lists_what_trades_now(client: Client) -> None:
    spot, linear, inverse = (
        answer(client, f"{api}/exchangeInfo").json() for api in ("api/v3", "fapi/v1", "dapi/v1")
    )
    assert [market["symbol"] for market in spot["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "ADABTC"]
    assert spot["rateLimits"][0] == {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": 6000,
    }
    assert spot["symbols"][3]["filters"][0]["tickSize"] == "0.00000001"
    assert {
        "status": "TRADING",
        "marginAsset": "USDT",
        "contractType": "PERPETUAL",
        "onboardDate": 1609459200000,
    }.items() <= linear["symbols"][0].items()
    assert [
        (market["symbol"], market["contractSize"], market["contractStatus"], market["marginAsset"])
        for market in inverse["symbols"]
    ] == [
        ("BTCUSD_PERP", 100, "TRADING", "BTC"),
        ("ETHUSD_PERP", 10, "TRADING", "ETH"),
    ]
    assert [
        market["symbol"]
        for market in answer(client, "api/v3/exchangeInfo", symbol="ADABTC").json()["symbols"]
    ] == ["ADABTC"]
    with Simulator(now=datetime(2023, 5, 1, tzinfo=UTC)) as earlier:
        assert [
            market["symbol"] for market in answer(Client(earlier), "api/v3/exchangeInfo").json()["symbols"]
        ] == ["BTCUSDT", "ETHUSDT", "ADABTC", "XYZUSDT"]


@pytest.mark.parametrize("api", ["api/v3", "fapi/v1", "dapi/v1"])
def test_the_clock(client: Client, api: str) -> None:
    assert answer(client, f"{api}/time").json() == {"serverTime": ms(NOW)}


def test_exchange_info_has_the_keys_of_recorded_ones(client: Client, real_data: Any) -> None:
    for api, name in (("api/v3", "binance_spot_exchangeInfo"), ("fapi/v1", "binance_um_exchangeInfo")):
        recorded = json.loads(
            gzip.decompress((real_data / "cryptofeed_recorded" / f"{name}.json.gz").read_bytes())
        )
        simulated = answer(client, f"{api}/exchangeInfo").json()
        assert recorded.keys() <= simulated.keys()
        assert recorded["symbols"][0].keys() - simulated["symbols"][0].keys() <= {"settlePlan"}
