"""The faults of time and of markets; see `cases`."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl

from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket
from lakehouse_tests.faults.cases import MARCH, as_clean, built, case, other_values
from lakehouse_tests.faults.lab import LISTED, NOW, ROWS, Found, lab
from lakehouse_tests.making import MINUTE, at

COIN = Market("binance", "inverse", "BTCUSD_PERP")


# --- time -----------------------------------------------------------------------------------------


@case("ms become µs", "spot files count microseconds from 2025-01-01 on", is_february=False)
def _(root: Path) -> Found:
    span = ("2024-12", "2025-02")
    with lab(root, markets=[replace(LISTED, listed=at("2024-12-29"))], now=at("2025-01-04T12:00")) as it:
        it.build(span)
        found = it.found(span)
    assert found.rows["open_time"].to_list() == [
        at("2024-12-29") + n * MINUTE for n in range(found.rows.height)
    ]
    assert (found.rows["close_time"] - found.rows["open_time"]).unique().to_list() == [
        timedelta(minutes=1, microseconds=-1)
    ]
    assert (found.rows.height, found.gaps, found.problems, found.exit_code) == (6 * 1440 + 720, [], [], 0)
    return found


@case(
    "open month",
    "the archive ends two days ago; REST also answers the candle that is not finished",
    is_february=False,
    note="whole hours come from REST; nothing is served that was not finished",
)
def _(root: Path) -> Found:
    with lab(root) as it:
        it.build(MARCH)
        found = it.found(MARCH)
    assert found.rows["open_time"].to_list() == [at("2024-03-01") + n * MINUTE for n in range(9 * 1440 + 720)]
    assert found.facts["2024-03"].asked_until == NOW.replace(minute=0, second=0)
    assert (found.gaps, found.problems, found.exit_code) == ([], [], 0)
    return found


@case(
    "clock an hour ahead",
    "this machine's clock is an hour ahead of the exchange's",
    is_february=False,
    note="REST is asked up to its own clock: what is finished comes, nothing else",
)
def _(root: Path) -> Found:
    with lab(root, behind=-timedelta(hours=1)) as it:
        it.build(MARCH)
        found = it.found(MARCH)
    assert found.rows["open_time"].to_list() == [at("2024-03-01") + n * MINUTE for n in range(9 * 1440 + 750)]
    assert found.facts["2024-03"].asked_until == NOW.replace(second=0)
    assert (found.rows["close_time"] < NOW).all()
    assert (found.gaps, found.problems, found.exit_code) == ([], [], 0)
    return found


@case(
    "clock an hour behind",
    "this machine's clock is an hour behind the exchange's",
    is_february=False,
    note="an hour less is asked for, and not said to be absent",
)
def _(root: Path) -> Found:
    with lab(root, behind=timedelta(hours=1)) as it:
        it.build(MARCH)
        found = it.found(MARCH)
    assert found.rows["open_time"].to_list() == [at("2024-03-01") + n * MINUTE for n in range(9 * 1440 + 660)]
    assert (found.gaps, found.problems, found.exit_code) == ([], [], 0)
    return found


@case(
    "lagging listing",
    "the listing is three days old",
    is_february=False,
    note="REST gives what the archive does not list yet; the values are those of the open month above",
)
def _(root: Path) -> Found:
    with lab(root / "plain") as plain, lab(root / "lagging", "lagging_listing=*") as it:
        plain.build(MARCH)
        it.build(MARCH)
        truth, found = plain.found(MARCH), it.found(MARCH)
    assert other_values(found, truth).height == 0
    assert (found.rows.height, found.gaps, found.problems, found.exit_code) == (truth.rows.height, [], [], 0)
    assert found.rows.filter(source="api").height == truth.rows.filter(source="api").height + 3 * 1440
    return found


# --- markets --------------------------------------------------------------------------------------


@case("COIN-M volumes", "inverse files count contracts where others count base units", is_february=False)
def _(root: Path) -> Found:
    coin = SimulatedMarket(
        "inverse", "BTCUSD_PERP", "BTC", "USD", Decimal(45_000), 6_000, 1, 0, LISTED.listed
    )
    with lab(root, markets=[coin]) as it:
        it.build(market=COIN)
        found = it.found(market=COIN)
    rows = found.rows
    assert rows["quote_volume"].equals((rows["contracts"] * 100).alias("quote_volume"))
    traded = rows.filter(pl.col("volume") > 0)
    assert traded.height > ROWS // 2
    assert traded.select(
        (
            (pl.col("quote_volume") / pl.col("volume")).is_between(
                pl.col("low") * 0.9999, pl.col("high") * 1.0001
            )
        ).all()
    ).item(), "volume is in BTC"
    assert (rows.height, found.gaps, found.problems, found.evidence, found.exit_code) == (
        ROWS,
        [],
        [],
        ["totals"],
        0,
    )
    return found


@case(
    "forgotten by REST",
    "the market is delisted, REST answers -1121",
    note="the archive is all there is: no failure",
)
def _(root: Path) -> Found:
    found = as_clean(built(root, "rest_forgotten=*"), "unconfirmed")
    assert found.problems == []
    return found


@case(
    "listing break",
    "the symbol was given up and is used again for another coin",
    is_february=False,
    note="proven to have had no trade for more than a week, so not listed; nobody fills across it",
)
def _(root: Path) -> Found:
    end, start, span = at("2024-01-31T08:00"), at("2024-03-08T09:00"), ("2024-01", "2024-04")
    with lab(root, markets=[replace(LISTED, listed=at("2024-01-30"), breaks=((end, start),))]) as it:
        it.build(span)
        found = it.found(span)
    runs = [run for facts in found.facts.values() for run in facts.gaps if run.start >= end]
    assert {run.gap_class for run in runs} == {"not_listed"}
    assert (runs[0].start, runs[-1].end, sum(run.slot_count for run in runs)) == (
        end,
        start,
        (start - end) // MINUTE,
    )
    assert found.rows.filter(pl.col("open_time").is_between(end, start, closed="left")).height == 0
    first, second = (
        found.rows.filter(side)["close"].mean()
        for side in (pl.col("open_time") < end, pl.col("open_time") >= start)
    )
    assert 3 < second / first < 8  # type: ignore[operator]
    assert (len(runs), found.exit_code) == (3, 0)
    return found
