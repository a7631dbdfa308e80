"""Faults that befall a market's day: which sources tell of them, and how."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.simulator import DAY_FAULTS, DEFAULT_MARKETS, Fault, SimulatedMarket, Simulator
from lakehouse.simulator.history import candles, strikes
from lakehouse.simulator.rowfaults import Source

from .conftest import NOW, Client, kline_key

pytestmark = pytest.mark.slow

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SUMS = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
LISTED = datetime(2024, 2, 26, tzinfo=UTC)
START = int(LISTED.timestamp()) * 1000
DAYS = [f"2024-02-{day}" for day in (26, 27, 28, 29)]
ETH, INVERSE, LINEAR = (
    replace(next(m for m in DEFAULT_MARKETS if (m.market_type, m.symbol) == name), listed=LISTED)
    for name in (("spot", "ETHUSDT"), ("inverse", "ETHUSD_PERP"), ("linear", "BTCUSDT"))
)

EVERYWHERE = {"monthly 1m", "monthly 1h", "daily 1m", "daily 1h", "rest 1m", "rest 1h"}
SHOWN = {
    "halt": EVERYWHERE,
    "halt_misaligned": EVERYWHERE,
    "hole": {"monthly 1m", "daily 1m"},
    "differing_row": {"monthly 1m"},
    "archive_wrong": {"monthly 1m", "daily 1m"},
    "coarse_wrong_alike": {"monthly 1m", "monthly 1h"},
    "interior_changed": {"monthly 1m", "daily 1m"},
    "rest_revised": {"rest 1m", "rest 1h"},
    "rest_hole": {"rest 1m"},
}


def month(market: SimulatedMarket = ETH) -> str:
    return kline_key("*", "monthly", market.symbol, "1m", "2024-02")


@cache
def told(*faults: str, market: SimulatedMarket = ETH) -> dict[str, pl.DataFrame]:
    """What each source tells of the last four days of February 2024."""
    path, api = {
        "spot": ("spot", "api/v3"),
        "linear": ("futures/um", "fapi/v1"),
        "inverse": ("futures/cm", "dapi/v1"),
    }[market.market_type]
    with Simulator([market, LINEAR], now=NOW, faults=faults) as sim:
        client = Client(sim)
        rows = {}
        for interval in ("1m", "1h"):
            rows[f"monthly {interval}"] = client.rows(
                kline_key(path, "monthly", market.symbol, interval, "2024-02")
            )
            rows[f"daily {interval}"] = pl.concat(
                client.rows(kline_key(path, "daily", market.symbol, interval, day)) for day in DAYS
            )
            rows[f"rest {interval}"] = paged(client, api, market.symbol, interval, START, START + 4 * DAY - 1)
        return rows


def paged(client: Client, api: str, symbol: str, interval: str, start: int, end: int) -> pl.DataFrame:
    """REST rows of a range, in pages that can hold all of their part of it: inverse endpoints give a page's
    newest rows.
    """
    part = 1000 * (MINUTE if interval == "1m" else HOUR)
    pages = [
        client.klines(
            api,
            symbol=symbol,
            interval=interval,
            startTime=first,
            endTime=min(first + part, end + 1) - 1,
            limit=1000,
        )
        for first in range(start, end + 1, part)
    ]
    return pl.concat(pages)


def summed(minutes: pl.DataFrame) -> pl.DataFrame:
    hours = minutes.group_by((pl.col("open_time") // HOUR * HOUR).alias("hour"), maintain_order=True)
    return hours.agg(pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close"), pl.sum(*SUMS)).rename(
        {"hour": "open_time"}
    )


def changed(rows: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Rows of either that the other has not."""
    return pl.concat(
        [rows.join(truth, on=rows.columns, how="anti"), truth.join(rows, on=rows.columns, how="anti")]
    )


def days(rows: pl.DataFrame) -> list[int]:
    return (rows["open_time"] // DAY).unique().sort().to_list()


@pytest.fixture(scope="module")
def truth() -> dict[str, pl.DataFrame]:
    return told()


def test_without_faults_all_sources_tell_the_same(truth: dict[str, pl.DataFrame]) -> None:
    for interval, count in (("1m", 4 * 1440), ("1h", 4 * 24)):
        assert truth[f"rest {interval}"].height == count
        assert truth[f"monthly {interval}"].equals(truth[f"daily {interval}"])
        assert truth[f"monthly {interval}"].equals(truth[f"rest {interval}"])
    assert truth["rest 1h"].select(summed(truth["rest 1m"]).columns).equals(summed(truth["rest 1m"]))


@pytest.mark.parametrize("name", SHOWN)
def test_a_fault_shows_on_one_day_in_its_sources_and_nowhere_else(
    truth: dict[str, pl.DataFrame], name: str
) -> None:
    rows = told(f"{name}={month()}")
    differences = {view: changed(rows[view], truth[view]) for view in rows}
    assert {view for view, difference in differences.items() if difference.height} == SHOWN[name]
    assert len({tuple(days(difference)) for difference in differences.values() if difference.height}) == 1
    assert [len(days(differences[view])) for view in SHOWN[name]] == [1] * len(SHOWN[name])
    for interval in ("1m", "1h"):
        told_alike = [rows[view] for view in sorted(SHOWN[name]) if view.endswith(interval)]
        assert all(one.equals(told_alike[0]) for one in told_alike)
    for view in SHOWN[name] & {"monthly 1h", "daily 1h", "rest 1h"}:
        sums = summed(rows[view.replace("1h", "1m")])
        assert rows[view].select(sums.columns).equals(sums)


def test_every_fault_of_a_day_is_shown_here() -> None:
    assert set(DAY_FAULTS) == {*SHOWN, "rows_after_end"}


def test_the_same_faults_befall_the_same_minutes_in_every_run() -> None:
    faults = [f"{name}={month()}" for name in SHOWN]
    one, two = told.__wrapped__(*faults), told.__wrapped__(*faults)
    assert all(one[view].equals(two[view]) for view in one)


@settings(max_examples=30, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(DAY_FAULTS)), min_size=1, max_size=4),
    pattern=st.sampled_from([month(), "*daily*", "*daily*2024-02-2[79].zip"]),
    source=st.sampled_from(["monthly", "daily", "rest"]),
    interval=st.sampled_from([1, 60, 240]),
    cuts=st.lists(st.integers(0, 24), max_size=4),
)
def test_any_cut_of_a_range_is_told_alike(
    names: list[str], pattern: str, source: Source, interval: int, cuts: list[int]
) -> None:
    market, faults = (
        replace(ETH, delisted=LISTED + timedelta(days=3, hours=5, minutes=7)),
        tuple(Fault(name, pattern) for name in names),
    )
    first = START // MINUTE

    def part(start: int, end: int) -> pl.DataFrame:
        return candles(market, interval, start, end, strikes(faults, market, source, interval, start, end))

    edges = sorted({first, first + 4 * 1440, *(first + cut * 240 for cut in cuts)})
    whole = part(edges[0], edges[-1])
    assert whole.equals(pl.concat(part(start, end) for start, end in pairwise(edges)))
    assert whole["minute"].is_sorted()
    assert whole["minute"].is_unique().all()


@pytest.mark.parametrize(
    ("market", "year", "unit"),
    [
        (ETH, 2024, 1),
        (INVERSE, 2024, 1),
        (replace(ETH, listed=datetime(2025, 2, 26, tzinfo=UTC)), 2025, 1000),
    ],
)
def test_a_halt(market: SimulatedMarket, year: int, unit: int) -> None:
    path = "spot" if market.market_type == "spot" else "futures/cm"
    with Simulator([market], now=NOW, faults=["halt=*daily*"]) as sim:
        client = Client(sim)
        minutes, hours = (
            client.rows(kline_key(path, "monthly", market.symbol, interval, f"{year}-02"))
            for interval in ("1m", "1h")
        )
    step = minutes.with_columns(pl.col("open_time").diff().shift(-1).alias("step"))
    length = pl.col("close_time") + 1 - pl.col("open_time")
    halted = step.filter(pl.col("step") != MINUTE * unit)
    assert halted["step"].to_list() == [38 * MINUTE * unit] * (3 if year == 2025 else 4)
    assert step.filter(length != MINUTE * unit).equals(halted)
    assert halted.select(length.is_between(unit * 1000, unit * (MINUTE - 1000))).to_series().all()
    # Of a coarse candle in which trade did not go on, the end is the halt's; any other ends on time.
    ends = dict(
        minutes.group_by(pl.col("open_time") // (HOUR * unit) * (HOUR * unit))
        .agg(pl.max("close_time"))
        .rows()
    )
    full = hours["open_time"] + HOUR * unit - 1
    assert hours["close_time"].to_list() == [
        ends[start] if ends[start] in halted["close_time"] else end
        for start, end in zip(hours["open_time"], full, strict=True)
    ]
    assert (hours["close_time"] < full).any()


def test_a_halt_with_misaligned_candles_behind_it(truth: dict[str, pl.DataFrame]) -> None:
    rows = told(f"halt_misaligned={month()}")["rest 1m"].with_row_index()
    late = rows.filter(pl.col("open_time") % MINUTE != 0)
    assert late.height == 1000
    assert late["index"].diff().drop_nulls().unique().to_list() == [1]
    assert (late["open_time"] % MINUTE).unique().to_list() == [17_300]
    assert (late["close_time"] - late["open_time"]).unique().to_list() == [MINUTE - 1]
    quiet, last = rows[late["index"][0] - 2 : late["index"][0]].rows(named=True)
    assert (quiet["count"], quiet["volume"], quiet["low"]) == (0, 0, quiet["high"])
    assert last["close_time"] < last["open_time"] + MINUTE - 1
    assert late["open_time"][0] - last["open_time"] == 38 * MINUTE + 17_300
    behind = rows[late["index"][-1] + 1].row(0, named=True)
    assert late["open_time"][-1] < behind["open_time"] < late["close_time"][-1]
    assert truth["rest 1m"].height - rows.height == 37


def test_rest_gives_a_misaligned_candle_by_its_own_open_time() -> None:
    with Simulator([ETH], now=NOW, faults=[f"halt_misaligned={month()}"]) as sim:
        client = Client(sim)
        rows = paged(client, "api/v3", "ETHUSDT", "1m", START, START + 4 * DAY - 1)
        opened = rows.filter(pl.col("open_time") % MINUTE != 0)["open_time"][500]
        for start, end, expected in (
            (opened, opened, [opened]),
            (opened + 1, opened + MINUTE - 1, []),
            (opened - 17_300, opened - 1, []),
        ):
            assert (
                client.klines("api/v3", symbol="ETHUSDT", interval="1m", startTime=start, endTime=end)[
                    "open_time"
                ].to_list()
                == expected
            )


@pytest.mark.parametrize("market", [ETH, INVERSE], ids=lambda market: market.market_type)
@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("differing_row", "monthly 1m"),
        ("archive_wrong", "daily 1m"),
        ("rest_revised", "rest 1m"),
        ("interior_changed", "daily 1m"),
    ],
)
def test_a_changed_row_breaks_no_rule_of_rows(market: SimulatedMarket, name: str, view: str) -> None:
    rows, plain = told(f"{name}={month(market)}", market=market)[view], told(market=market)[view]
    (row,) = rows.join(plain, on=rows.columns, how="anti").rows(named=True)
    (before,) = plain.filter(pl.col("open_time") == row["open_time"]).rows(named=True)
    assert row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
    assert row["close"] != before["close"]
    assert row["taker_buy_volume"] <= row["volume"]
    if name == "interior_changed":
        assert {**row, "close": before["close"]} == before
        assert summed(rows).equals(summed(plain))
    else:
        assert [row[column] for column in SUMS] == [2 * before[column] for column in SUMS]
        if market.market_type == "spot":
            assert row["low"] * row["volume"] <= row["quote_volume"] <= row["high"] * row["volume"]


def test_hole(truth: dict[str, pl.DataFrame]) -> None:
    rows = told(f"hole={month()}")["daily 1m"]
    absent = truth["daily 1m"].join(rows, on="open_time", how="anti")["open_time"]
    assert absent.diff().drop_nulls().to_list() == [MINUTE] * 69


def test_rest_hole() -> None:
    with Simulator([ETH], now=NOW, faults=["rest_hole=*daily*ETHUSDT-1m-2024-02-27.zip"]) as sim:
        client, day = Client(sim), START + DAY
        assert (
            client.klines(
                "api/v3", symbol="ETHUSDT", interval="1m", startTime=day, endTime=day + DAY - 1
            ).height
            == 0
        )
        assert client.klines("api/v3", symbol="ETHUSDT", interval="1m", startTime=day, limit=1)[
            "open_time"
        ].to_list() == [day + DAY]
        assert client.klines("api/v3", symbol="ETHUSDT", interval="1m", endTime=day + DAY - 1, limit=2)[
            "open_time"
        ].to_list() == [day - 2 * MINUTE, day - MINUTE]
        assert (
            client.klines(
                "api/v3", symbol="ETHUSDT", interval="1h", startTime=day, endTime=day + DAY - 1
            ).height
            == 24
        )
        assert client.rows(kline_key("spot", "daily", "ETHUSDT", "1m", "2024-02-27")).height == 1440
        assert sim.faults_hit == {"rest_hole": ["/api/v3/klines"]}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*ETHUSDT-1m-2024-0[23].zip", [1, 1]),
        ("*", [1, 1]),
        ("*2024-02*", [1, 0]),
        ("*daily*2024-02*", [4, 0]),
        ("*ETHUSDT-1m-2024-02-27.zip", [1, 0]),
        ("*um*", [0, 0]),
        ("*-1h-*", [0, 0]),
    ],
)
def test_a_monthly_key_stands_for_a_day_of_the_month_and_a_daily_key_for_its_day(
    pattern: str, expected: list[int]
) -> None:
    with Simulator([ETH], now=NOW, faults=[f"halt={pattern}"]) as sim:
        client = Client(sim)
        halts = [
            int(
                (
                    client.rows(kline_key("spot", "monthly", "ETHUSDT", "1m", month))["open_time"].diff()
                    > MINUTE
                ).sum()
            )
            for month in ("2024-02", "2024-03")
        ]
    assert halts == expected


def test_only_files_of_a_struck_day_have_another_etag() -> None:
    keys = [kline_key("spot", "daily", "ETHUSDT", "1m", day) for day in DAYS]
    with Simulator([ETH], now=NOW) as sim:
        client = Client(sim)
        before = [client.head(key).headers["ETag"] for key in keys]
        sim.add_fault("hole=*ETHUSDT-1m-2024-02-27.zip")
        after = [client.head(key).headers["ETag"] for key in keys]
        client.csv(keys[1])
        assert sim.faults_hit == {"hole": [keys[1]]}
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False, True, True]


def test_rows_after_the_end_of_a_market() -> None:
    end = datetime(2024, 2, 28, 6, 10, tzinfo=UTC)
    market = replace(ETH, delisted=end)
    files = {
        (frequency, interval): kline_key("spot", frequency, "ETHUSDT", interval, date)
        for interval in ("1m", "1h")
        for frequency, date in (("daily", DAYS[2]), ("monthly", "2024-02"))
    }
    with Simulator([market], now=NOW) as sim:
        plain = {name: Client(sim).rows(key) for name, key in files.items()}
    with Simulator([market], now=NOW, faults=["rows_after_end=*ETHUSDT*"]) as sim:
        client = Client(sim)
        rows = {name: client.rows(key) for name, key in files.items()}
        assert client.rows(kline_key("spot", "daily", "ETHUSDT", "1m", DAYS[1])).height == 1440
    for frequency in ("daily", "monthly"):
        extra = rows[frequency, "1m"].filter(pl.col("open_time") >= int(end.timestamp()) * 1000)
        assert rows[frequency, "1m"][: -extra.height].equals(plain[frequency, "1m"])
        assert extra.height == 30
        assert extra["count"].sum() == 0
        assert extra.select("open", "high", "low", "close").unique().rows() == [
            (plain[frequency, "1m"]["close"][-1],) * 4
        ]
        assert rows[frequency, "1h"].equals(plain[frequency, "1h"])


def test_the_open_month_is_struck_before_its_files_are_published() -> None:
    now = datetime(2024, 2, 29, 12, tzinfo=UTC)
    with Simulator([ETH], now=now, faults=["halt=*daily*2024-02-29.zip"]) as sim:
        client = Client(sim)
        while sim.now < datetime(2024, 3, 1, 0, 1, tzinfo=UTC):
            hour = client.klines("api/v3", symbol="ETHUSDT", interval="1h", limit=1)
            minutes = client.klines("api/v3", symbol="ETHUSDT", interval="1m", startTime=hour["open_time"][0])
            assert hour.select("open", "high", "low", "close", *SUMS).equals(
                summed(minutes).drop("open_time")
            )
            sim.advance(timedelta(minutes=29))
        sim.advance(timedelta(days=2))
        day = client.rows(kline_key("spot", "daily", "ETHUSDT", "1m", DAYS[3]))
        assert day.height == 1440 - 37
        assert day.equals(paged(client, "api/v3", "ETHUSDT", "1m", START + 3 * DAY, START + 4 * DAY - 1))
