"""A witness agrees with the rows it is the sum of, and with no others it can tell from them."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakehouse.transform.witness import ROUNDING, TOTALS, judge, owners
from lakehouse_tests.making import MINUTE, at, bronze, candles, minutes, series

HOUR = timedelta(hours=1)
START = at("2024-02-05")
SUMS = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume", "contracts")
# A minute: where in three hours, four prices as ticks, sizes as units of the eighth decimal, trades. Quiet
# minutes are flat and empty.
sizes = st.integers(1, 10**13)
rows_of_hours = st.lists(
    st.tuples(st.integers(0, 179), *[st.integers(1, 10**6)] * 4, sizes, sizes, st.integers(0, 9)),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[0],
)


def fine(stated: list[tuple[int, ...]]) -> pl.DataFrame:
    """1m rows; those without trades are flat at their first price, as the exchange writes them."""
    rows: dict[str, list[Any]] = {
        name: []
        for name in (
            "open",
            "high",
            "low",
            "close",
            "volume",
            "quote_volume",
            "trade_count",
            "taker_buy_volume",
        )
    }
    for _, first, *others, volume, value, count in stated:
        prices = [tick / 100 for tick in ([first, *others] if count else [first] * 4)]
        made = (
            prices[0],
            max(prices),
            min(prices),
            prices[3],
            *((volume / 1e8, value / 1e8, count, volume // 2 / 1e8) if count else (0.0, 0.0, 0, 0.0)),
        )
        for name, found in zip(rows, made, strict=True):
            rows[name].append(found)
    return candles([START + row[0] * MINUTE for row in stated], **rows, taker_buy_quote_volume=None)


def summed(rows: pl.DataFrame, starts: list[datetime], length: timedelta = HOUR) -> pl.DataFrame:
    """What the exchange would state about all trades in rows that open in `[start, start + length)`, summed
    as decimals in plain Python.
    """
    stated = []
    for start in starts:
        inside = [
            row
            for row in rows.sort("open_time").iter_rows(named=True)
            if start <= row["open_time"] < start + length
        ]
        traded = [row for row in inside if row["trade_count"]] or inside
        out: dict[str, Any] = {
            "open": traded[0]["open"],
            "high": max(row["high"] for row in traded),
            "low": min(row["low"] for row in traded),
            "close": traded[-1]["close"],
        }
        for name in SUMS:
            known = [row[name] for row in inside if row[name] is not None]
            out[name] = float(sum(Decimal(repr(value)) for value in known)) if known else None
        out["trade_count"] = int(out["trade_count"])
        stated.append(out)
    return (
        bronze(starts, "api", **{name: [row[name] for row in stated] for name in stated[0]})
        if stated
        else bronze([])
    )


def hours(rows: pl.DataFrame) -> list[datetime]:
    return rows["open_time"].dt.truncate("1h").unique().sort().to_list()


@given(rows_of_hours, st.randoms(use_true_random=False))
def test_rows_agree_with_their_own_sums_in_any_order(stated: list[tuple[int, ...]], random: Any) -> None:
    witness = summed(fine(stated), hours(fine(stated)))
    verdict = judge(fine(stated), witness)
    assert verdict["open_time"].to_list() == hours(fine(stated))
    assert verdict["agrees"].to_list() == [True] * witness.height, verdict
    assert verdict["row_count"].sum() == len(stated)
    random.shuffle(stated)
    assert judge(fine(stated), witness.sample(fraction=1, shuffle=True, seed=1)).equals(verdict)


@given(rows_of_hours, st.data())
def test_a_missing_minute_with_a_trade_is_always_seen_and_only_in_its_hour(
    stated: list[tuple[int, ...]], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(stated) - 1))
    assume(stated[index][-1] > 0)
    rows, missing = fine(stated), fine(stated[index : index + 1])
    verdict = judge(rows.join(missing, on="open_time", how="anti"), summed(rows, hours(rows)))
    (disagreeing,) = verdict.filter(~pl.col("agrees")).iter_rows(named=True)
    assert disagreeing["open_time"] == missing["open_time"][0].replace(minute=0)
    assert "trade_count" in disagreeing["differs"]


@given(rows_of_hours, st.sampled_from(["volume", "quote_volume", "taker_buy_volume"]), st.data())
def test_a_size_that_is_off_by_its_last_decimal_is_seen(
    stated: list[tuple[int, ...]], name: str, data: st.DataObject
) -> None:
    """Below 2**50 units of the last decimal an hour's total cannot hide one of them."""
    index = data.draw(st.integers(0, len(stated) - 1))
    rows = fine(stated)
    witness = summed(rows, hours(rows))
    assume(witness[name].max() < 1 / ROUNDING / 1e8)  # type: ignore[operator]
    off = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == index)
        .then((pl.col(name) + 1e-8).round(8))
        .otherwise(pl.col(name))
        .alias(name)
    )
    assert judge(off, witness).filter(~pl.col("agrees"))["differs"].to_list() == [[name]]


def test_a_total_that_float_cannot_hold_is_not_held_against_the_rows() -> None:
    """Sixteen and more digits: the hour's quote volume as published is rounded by Float64, its minutes are
    not.
    """
    rows = candles(
        minutes("2024-02-05", 60), quote_volume=[33_333_333.12345671 + n * 1.00000003 for n in range(60)]
    )
    total = sum(Decimal(repr(value)) for value in rows["quote_volume"])
    assert Decimal(float(total)) != total
    assert judge(rows, summed(rows, [START]))["agrees"].to_list() == [True]


@pytest.mark.parametrize(
    "name",
    [
        "open",
        "high",
        "low",
        "close",
        "volume",
        "quote_volume",
        "trade_count",
        "taker_buy_volume",
        "taker_buy_quote_volume",
        "contracts",
        "taker_buy_contracts",
    ],
)
def test_every_column_is_held(name: str) -> None:
    rows = bronze(minutes("2024-02-05", 120), contracts=3.0).with_columns(taker_buy_contracts=pl.lit(1.0))
    witness = summed(rows, [START, START + HOUR]).with_columns(taker_buy_contracts=pl.lit(60.0))
    assert judge(rows, witness)["differs"].to_list() == [[], []]
    off = witness.with_columns(
        pl.when(pl.col("open_time") == START).then(pl.col(name) + 1).otherwise(pl.col(name)).alias(name)
    )
    assert judge(rows, off).select("agrees", "differs").rows() == [(False, [name]), (True, [])]
    unsaid = off.with_columns(pl.when(pl.col("open_time") != START).then(pl.col(name)).alias(name))
    assert judge(rows, unsaid)["agrees"].to_list() == [True, True], (
        "what the witness does not say is not compared"
    )
    if name in TOTALS:
        assert judge(rows.with_columns(pl.lit(None, rows.schema[name]).alias(name)), off)[
            "agrees"
        ].to_list() == [True, True], "nor what no row says"


def test_base_volumes_of_inverse_markets_may_round_in_every_row() -> None:
    rows = bronze(minutes("2024-02-05", 60), contracts=3.0, volume=0.12345678, quote_volume=None)
    witness = summed(rows, [START])
    assert judge(rows, witness.with_columns(pl.col("volume") + 25e-8))["agrees"].to_list() == [True]
    assert judge(rows, witness.with_columns(pl.col("volume") + 35e-8))["differs"].to_list() == [["volume"]]
    assert judge(
        rows.with_columns(contracts=None), witness.with_columns(pl.col("volume") + 25e-8, contracts=None)
    )["differs"].to_list() == [["volume"]]


def test_a_quiet_minute_lends_the_hour_no_price() -> None:
    quiet = {
        "open": 90.0,
        "high": 90.0,
        "low": 90.0,
        "close": 90.0,
        "volume": 0.0,
        "quote_volume": 0.0,
        "trade_count": 0,
        "taker_buy_volume": 0.0,
        "taker_buy_quote_volume": 0.0,
    }
    times = minutes("2024-02-05", 60)
    rows = pl.concat([candles(times[:1], **quiet), candles(times[1:59]), candles(times[59:], **quiet)])
    (witness,) = summed(rows, [START]).iter_rows(named=True)
    assert (witness["open"], witness["low"], witness["close"]) == (100.0, 99.0, 101.0)
    assert judge(rows, summed(rows, [START]))["agrees"].to_list() == [True]
    still = candles(times, **quiet)
    assert judge(still, summed(still, [START]))["agrees"].to_list() == [True]
    assert judge(still, summed(still, [START]).with_columns(open=91.0))["differs"].to_list() == [["open"]]


def test_an_hour_without_rows_agrees_only_if_nothing_was_traded_in_it() -> None:
    rows = candles(minutes("2024-02-05", 60))
    traded = summed(candles(minutes("2024-02-05", 120)), [START, START + HOUR])
    assert judge(rows, traded).select("row_count", "agrees").rows() == [(60, True), (0, False)]
    zero = pl.when(pl.col("open_time") > START).then(0)
    empty = traded.with_columns(
        zero.otherwise(pl.col(name)).cast(traded.schema[name]).alias(name)
        for name in ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")
    )
    assert judge(rows, empty).select("row_count", "agrees").rows() == [(60, True), (0, True)]
    assert judge(rows.clear(), empty)["agrees"].to_list() == [False, True]


def test_rows_where_the_witness_has_no_candle_disagree_within_its_span_only() -> None:
    rows = candles(minutes("2024-02-05", 300))
    witness = summed(rows, [START + HOUR, START + 3 * HOUR])
    found = judge(rows, witness)
    assert found["agrees"].to_list() == [None, True, False, True, None]
    assert found["differs"].to_list() == [["open_time"], [], ["open_time"], [], ["open_time"]]
    assert judge(rows, witness.clear())["agrees"].to_list() == [None] * 5
    assert judge(rows.clear(), witness.clear()).height == 0


def test_a_misaligned_witness_owns_the_rows_of_its_own_hour_up_to_the_next_candle() -> None:
    """After a halt in 2018 candles of every length opened off the grid; the first aligned one overlaps the
    last misaligned one.
    """
    odd = START + timedelta(minutes=28, seconds=14, milliseconds=789)
    # until 01:59:14.789, overlapping the aligned 02:00 candle
    off_grid = [odd + n * MINUTE for n in range(92)]
    rows = candles(
        off_grid + [START + 2 * HOUR + n * MINUTE for n in range(60)], trade_count=[n + 1 for n in range(152)]
    )
    starts = [odd, odd + HOUR, START + 2 * HOUR]
    expected = [odd] * 60 + [odd + HOUR] * 32 + [START + 2 * HOUR] * 60
    assert owners(rows["open_time"], series(starts)).to_list() == expected
    verdict = judge(
        rows,
        pl.concat([summed(rows, starts[:1]), summed(rows.head(92), starts[1:2]), summed(rows, starts[2:])]),
    )
    assert verdict.select("open_time", "row_count", "agrees").rows() == [
        (odd, 60, True),
        (odd + HOUR, 32, True),
        (START + 2 * HOUR, 60, True),
    ]
    assert owners(
        series([odd - MINUTE, odd + HOUR - timedelta(microseconds=1), odd + HOUR]), series([odd])
    ).to_list() == [START, odd, START + HOUR]
