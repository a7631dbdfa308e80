"""The generated data: exact, in each market's dialect, and the same from every side."""

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from lakehouse.simulator import DEFAULT_MARKETS, SimulatedMarket
from lakehouse.simulator.candles import minute_candles
from lakehouse.simulator.history import candles
from lakehouse.simulator.markets import SimulatedMarketError, minute_of

from .conftest import Client, kline_key, kline_rows

MONTHS = [
    ("spot", "BTCUSDT", "2024-12", False, 1_000),
    ("spot", "BTCUSDT", "2025-01", False, 1_000_000),
    ("spot", "ADABTC", "2023-02", False, 1_000),
    ("futures/um", "ETHUSDT", "2022-05", False, 1_000),
    ("futures/um", "SOLUSDT", "2022-06", True, 1_000),
    ("futures/cm", "BTCUSD_PERP", "2024-02", None, 1_000),
    ("futures/cm", "ETHUSD_PERP", "2021-01", None, 1_000),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "symbol", "month", "header", "unit"), MONTHS)
def test_a_month_holds_every_invariant_of_its_dialect(
    client: Client, path: str, symbol: str, month: str, header: bool | None, unit: int
) -> None:
    key = kline_key(path, "monthly", symbol, "1m", month)
    text = client.csv(key)
    if header is not None:
        assert text.startswith("open_time,") == header
    assert text.endswith("\n")
    assert "\r" not in text
    rows = kline_rows(text)

    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    assert rows["open_time"][0] == int(start.timestamp()) * unit
    assert rows["open_time"].diff().drop_nulls().unique().to_list() == [60 * unit]
    days = (datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC) - start).days
    assert rows.height == days * 1440
    assert (rows["close_time"] == rows["open_time"] + 60 * unit - 1).all()
    assert (rows["low"] > 0).all()
    assert (
        rows.select(
            (pl.min_horizontal("open", "close") >= pl.col("low"))
            & (pl.max_horizontal("open", "close") <= pl.col("high"))
        )
        .to_series()
        .all()
    )
    assert (
        rows.select(
            (pl.col("taker_buy_volume") <= pl.col("volume"))
            & (pl.col("taker_buy_quote_volume") <= pl.col("quote_volume"))
        )
        .to_series()
        .all()
    )

    assert ((rows["count"] == 0) == (rows["volume"] == 0)).all()
    quiet = (
        rows.with_columns(pl.col("close").shift().alias("previous")).filter(pl.col("count") == 0).drop_nulls()
    )
    assert 0 < quiet.height < rows.height / 100
    assert (
        quiet.select(
            pl.all_horizontal(pl.col("previous") == pl.col(name) for name in ("open", "high", "low", "close"))
        )
        .to_series()
        .all()
    )
    assert (
        quiet.select(
            pl.sum_horizontal("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume").sum()
        ).item()
        == 0
    )
    assert 0.8 < (rows["open"] == rows["close"].shift()).mean() < 1

    traded = rows.filter(pl.col("count") > 0).rows(named=True)
    size = Decimal(100 if symbol.startswith("BTC") else 10)
    for row in traded[::23]:
        if path == "futures/cm":
            assert row["volume"] % 1 == 0
            assert (
                row["low"] * row["quote_volume"] <= row["volume"] * size <= row["high"] * row["quote_volume"]
            )
        else:
            assert row["low"] * row["volume"] <= row["quote_volume"] <= row["high"] * row["volume"]


def test_numbers_are_printed_as_each_market_type_prints_them(client: Client) -> None:
    spot = client.csv(kline_key("spot", "daily", "BTCUSDT", "1m", "2023-06-02")).splitlines()[0].split(",")
    assert [len(spot[n].partition(".")[2]) for n in (1, 2, 3, 4, 5, 7, 9, 10)] == [8] * 8
    linear = (
        client.csv(kline_key("futures/um", "daily", "BTCUSDT", "1m", "2023-06-02")).splitlines()[1].split(",")
    )
    assert [len(linear[n].partition(".")[2]) for n in (1, 5, 7)] == [1, 3, 4]
    inverse = (
        client.csv(kline_key("futures/cm", "daily", "BTCUSD_PERP", "1m", "2023-06-02"))
        .splitlines()[1]
        .split(",")
    )
    assert "." not in inverse[5] + inverse[9]
    assert len(inverse[7].partition(".")[2]) == 8


def test_inverse_files_have_a_header_now_and_then(client: Client) -> None:
    starts = {
        client.csv(kline_key("futures/cm", "daily", "BTCUSD_PERP", "1d", f"2023-06-{day:02d}"))[:9]
        == "open_time"
        for day in range(1, 15)
    }
    assert starts == {True, False}


@pytest.mark.parametrize(
    ("path", "api", "symbol"),
    [
        ("spot", "api/v3", "ETHUSDT"),
        ("futures/um", "fapi/v1", "BTCUSDT"),
        ("futures/cm", "dapi/v1", "ETHUSD_PERP"),
    ],
)
def test_day_month_and_rest_agree(client: Client, path: str, api: str, symbol: str) -> None:
    month = client.rows(kline_key(path, "monthly", symbol, "1m", "2024-02"))
    for day in ("2024-02-01", "2024-02-29"):
        daily = client.rows(kline_key(path, "daily", symbol, "1m", day))
        start = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1000
        assert daily.equals(month.filter(pl.col("open_time").is_between(start, start + 86_399_999)))
        assert client.klines(
            api, symbol=symbol, interval="1m", startTime=start, endTime=start + 999 * 60_000, limit=1000
        ).equals(daily[:1000])


@pytest.mark.parametrize(
    ("path", "symbol"), [("spot", "ADABTC"), ("futures/um", "ETHUSDT"), ("futures/cm", "BTCUSD_PERP")]
)
@pytest.mark.parametrize(("interval", "minutes"), [("1h", 60), ("1d", 1440)])
def test_coarse_candles_are_the_sums_of_their_minutes(
    client: Client, path: str, symbol: str, interval: str, minutes: int
) -> None:
    step = minutes * 60_000
    sums = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
    expected = (
        client.rows(kline_key(path, "monthly", symbol, "1m", "2024-03"))
        .group_by((pl.col("open_time") // step * step).alias("start"), maintain_order=True)
        .agg(pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close"), pl.sum(*sums))
        .rename({"start": "open_time"})
    )
    coarse = client.rows(kline_key(path, "monthly", symbol, interval, "2024-03"))
    assert coarse.select(expected.columns).rows() == expected.rows()
    assert (coarse["close_time"] == coarse["open_time"] + step - 1).all()


@pytest.mark.parametrize(
    "market", DEFAULT_MARKETS, ids=lambda market: f"{market.market_type}-{market.symbol}"
)
def test_any_cut_of_a_range_gives_the_same_minutes(market: SimulatedMarket) -> None:
    start = minute_of(datetime(2023, 7, 4, 22, 13, tzinfo=UTC))
    whole = minute_candles(market, start, start + 600)
    assert whole.equals(
        pl.concat(
            [
                minute_candles(market, start + cut, end)
                for cut, end in ((0, start + 1), (1, start + 257), (257, start + 600))
            ]
        )
    )


def test_markets_of_one_base_follow_one_path() -> None:
    start = minute_of(datetime(2024, 5, 1, tzinfo=UTC))
    spot, linear = (
        next(m for m in DEFAULT_MARKETS if (m.market_type, m.symbol) == (kind, "BTCUSDT"))
        for kind in ("spot", "linear")
    )
    closes = [
        candles(market, 60, start, start + 40 * 1440)["close"] / 10**market.price_decimals
        for market in (spot, linear)
    ]
    assert 0 < (closes[0] / closes[1] - 1).abs().max() < 0.005
    assert closes[0].max() / closes[0].min() > 1.02


def test_a_market_listed_in_the_middle_of_a_day_begins_there(client: Client) -> None:
    rows = client.rows(kline_key("spot", "daily", "SOLUSDT", "1m", "2023-05-17"))
    assert rows["open_time"][0] == int(datetime(2023, 5, 17, 9, 30, tzinfo=UTC).timestamp()) * 1000
    assert rows.height == 14 * 60 + 30
    assert client.rows(kline_key("spot", "monthly", "SOLUSDT", "1m", "2023-05"))[: rows.height].equals(rows)
    assert client.rows(kline_key("spot", "daily", "SOLUSDT", "1h", "2023-05-17")).height == 15


def test_a_delisted_market_ends(client: Client) -> None:
    assert client.rows(kline_key("spot", "daily", "XYZUSDT", "1m", "2023-10-20")).height == 360
    assert client.listing("data/spot/monthly/klines/XYZUSDT/1m/")[-1].endswith(
        "XYZUSDT-1m-2023-10.zip.CHECKSUM"
    )
    assert client.get(kline_key("spot", "daily", "XYZUSDT", "1m", "2023-10-21")).status_code == 404


def test_a_market_whose_numbers_do_not_fit_is_refused() -> None:
    with pytest.raises(SimulatedMarketError, match="8 decimals"):
        SimulatedMarket("spot", "AB", "A", "B", Decimal(1), 1, price_decimals=6, volume_decimals=3)
