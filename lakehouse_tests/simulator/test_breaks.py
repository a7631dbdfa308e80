"""A symbol that is given up and used again for another coin."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.simulator.markets import SimulatedMarketError

from .conftest import Client, kline_key

NOW = datetime(2023, 8, 10, 12, 0, 30, tzinfo=UTC)
LISTED, GIVEN_UP, REUSED = (
    datetime(2023, 1, 20, tzinfo=UTC),
    datetime(2023, 3, 13, 0, 40, tzinfo=UTC),
    datetime(2023, 6, 15, 6, tzinfo=UTC),
)
LUNA = SimulatedMarket(
    "linear", "LUNAUSDT", "LUNA", "USDT", Decimal(80), 1_000, 3, 0, LISTED, breaks=((GIVEN_UP, REUSED),)
)
OTHER = SimulatedMarket("linear", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 150, 1, 3, LISTED)


def ms(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Simulator([LUNA, OTHER], now=NOW) as sim:
        yield Client(sim)


def test_no_file_lies_in_a_break(client: Client) -> None:
    months, dailies = (
        client.listing(f"data/futures/um/{frequency}/klines/LUNAUSDT/1m/")[::2]
        for frequency in ("monthly", "daily")
    )
    assert [key[-11:-4] for key in months] == ["2023-01", "2023-02", "2023-03", "2023-06", "2023-07"]
    edge = dailies.index(kline_key("futures/um", "daily", "LUNAUSDT", "1m", "2023-03-13"))
    assert dailies[edge + 1] == kline_key("futures/um", "daily", "LUNAUSDT", "1m", "2023-06-15")
    assert client.get(kline_key("futures/um", "daily", "LUNAUSDT", "1m", "2023-04-10")).status_code == 404
    assert client.get(kline_key("futures/um", "monthly", "LUNAUSDT", "1h", "2023-04")).status_code == 404


def test_another_coin_begins_in_the_middle_of_a_month_at_another_price(client: Client) -> None:
    old, new = (
        client.rows(kline_key("futures/um", "monthly", "LUNAUSDT", "1m", month))
        for month in ("2023-03", "2023-06")
    )
    assert (old["close_time"][-1] + 1, new["open_time"][0]) == (ms(GIVEN_UP), ms(REUSED))
    assert new["open"][0] > 3 * old["close"][-1]
    assert client.rows(kline_key("futures/um", "daily", "LUNAUSDT", "1h", "2023-06-15"))["open_time"][
        0
    ] == ms(REUSED)


def test_a_symbol_reused_within_a_day_has_both_coins_in_its_files() -> None:
    market = SimulatedMarket(
        "spot",
        "AUSDT",
        "A",
        "USDT",
        Decimal(2),
        100,
        4,
        1,
        LISTED,
        breaks=((datetime(2023, 3, 13, 3, tzinfo=UTC), datetime(2023, 3, 13, 9, tzinfo=UTC)),),
    )
    with Simulator([market], now=NOW) as sim:
        rows = Client(sim).rows(kline_key("spot", "daily", "AUSDT", "1h", "2023-03-13"))
        assert len(Client(sim).listing("data/spot/daily/klines/AUSDT/1d/AUSDT-1d-2023-03-13")) == 2
    assert [time // 3_600_000 % 24 for time in rows["open_time"]] == [*range(3), *range(9, 24)]


def test_a_rest_page_goes_on_behind_a_break(client: Client) -> None:
    rows = client.klines(
        "fapi/v1", symbol="LUNAUSDT", interval="1m", startTime=ms(GIVEN_UP) - 120_000, limit=4
    )
    minute = 60_000
    assert rows["open_time"].to_list() == [
        ms(GIVEN_UP) - 2 * minute,
        ms(GIVEN_UP) - minute,
        ms(REUSED),
        ms(REUSED) + minute,
    ]
    assert client.klines("fapi/v1", symbol="LUNAUSDT", interval="1m", endTime=ms(REUSED), limit=2)[
        "open_time"
    ].to_list() == [ms(GIVEN_UP) - minute, ms(REUSED)]
    assert (
        client.klines(
            "fapi/v1", symbol="LUNAUSDT", interval="1m", startTime=ms(GIVEN_UP), endTime=ms(REUSED) - 1
        ).height
        == 0
    )
    archived = pl.concat(
        client.rows(kline_key("futures/um", "monthly", "LUNAUSDT", "1h", month))
        for month in ("2023-03", "2023-06")
    )
    assert client.klines(
        "fapi/v1", symbol="LUNAUSDT", interval="1h", startTime=archived["open_time"][0], limit=archived.height
    ).equals(archived)


def test_exchange_info_lists_the_coin_that_trades(client: Client) -> None:
    def listed(client: Client) -> dict[str, int]:
        body = client.session.get(f"{client.sim.url}/fapi/v1/exchangeInfo", timeout=10).json()
        return {market["symbol"]: market["onboardDate"] for market in body["symbols"]}

    assert listed(client) == {"LUNAUSDT": ms(REUSED), "BTCUSDT": ms(LISTED)}
    with Simulator([LUNA, OTHER], now=datetime(2023, 4, 20, tzinfo=UTC)) as between:
        assert set(listed(Client(between))) == {"BTCUSDT"}
        assert (
            Client(between)
            .session.get(f"{between.url}/fapi/v1/klines?symbol=LUNAUSDT&interval=1m", timeout=10)
            .json()["code"]
            == -1121
        )
    with Simulator([LUNA, OTHER], now=datetime(2023, 2, 20, tzinfo=UTC)) as before:
        assert listed(Client(before)) == {"LUNAUSDT": ms(LISTED), "BTCUSDT": ms(LISTED)}


def test_a_break_outside_the_markets_life_is_refused() -> None:
    with pytest.raises(SimulatedMarketError, match="breaks must come in order"):
        SimulatedMarket(
            "spot", "AUSDT", "A", "USDT", Decimal(2), 100, 4, 1, LISTED, REUSED, breaks=((GIVEN_UP, NOW),)
        )
