"""A day is in doubt for a reason that is named, and a good day is not."""

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.datasets.candle import doubt
from lakehouse.model.cell import Cell
from lakehouse.model.interval import Interval
from lakehouse.model.life import Life
from lakehouse.transform.doubt import days_in_doubt
from lakehouse.transform.resample import resample
from lakehouse_tests.making import BTC, FEBRUARY, MICRO, MINUTE, at, bronze, candles, minutes, series

MONTH = Cell("2024-02", BTC).window
WHOLE = minutes("2024-02-01", 29 * 1440)


def doubts(
    times: list[datetime],
    broken: list[datetime] | None = None,
    listed: str | None = None,
    delisted: str | None = None,
) -> dict[str, str]:
    found = days_in_doubt(
        candles(times),
        MONTH,
        MINUTE,
        series(broken or []),
        Life(at(listed) if listed else None, at(delisted) if delisted else None),
    )
    assert {doubt.kind for doubt in found.values()} <= {"variants", "short", "rules"}
    return {day: doubt.reason for day, doubt in found.items()}


def test_a_whole_month_is_not_in_doubt() -> None:
    assert doubts(WHOLE) == {}


def test_a_day_is_in_doubt_if_rows_are_absent_doubled_misaligned_or_broken() -> None:
    times = [time for time in WHOLE if not (time.day == 10 or (time.day == 20 and time.hour == 3))]
    times += [at("2024-02-05T07:00"), at("2024-02-06T07:00:30")]
    assert doubts(times, [at("2024-02-07T01:00")]) == {
        "2024-02-05": "1 key with two values",
        "2024-02-06": "1441 rows where 1440 are expected",
        "2024-02-07": "rows break a row rule",
        "2024-02-10": "0 rows where 1440 are expected",
        "2024-02-20": "1380 rows where 1440 are expected",
    }


def test_rows_are_expected_within_the_markets_life_only() -> None:
    alive = [time for time in WHOLE if at("2024-02-03T09:30") <= time < at("2024-02-20T06:00")]
    assert doubts(alive, listed="2024-02-03T09:30", delisted="2024-02-20T06:00") == {}
    assert doubts(alive, listed="2024-02-03T09:30:30", delisted="2024-02-20T05:59:30") == {}
    assert doubts(alive[1:], listed="2024-02-03T09:30", delisted="2024-02-20T06:00") == {
        "2024-02-03": "869 rows where 870 are expected"
    }
    assert doubts(alive[:-1], listed="2024-02-03T09:30", delisted="2024-02-20T06:00") == {
        "2024-02-20": "359 rows where 360 are expected"
    }
    assert doubts(alive, listed="2024-02-03T09:31", delisted="2024-02-20T06:00") == {
        "2024-02-03": "870 rows where 869 are expected"
    }
    assert len(doubts(alive)) == 2 + 1 + 1 + 9


# --- the witness and the edges of halts -----------------------------------------------------------


def reasons(rows: pl.DataFrame, witness: pl.DataFrame | None = None) -> dict[str, tuple[str, str]]:
    return {
        day: tuple(found)
        for day, found in days_in_doubt(rows, MONTH, MINUTE, series([]), witness=witness).items()
    }  # type: ignore[misc]


def replaced(time: str, **values: Any) -> pl.DataFrame:
    """The whole month with other values in the row of an instant."""
    here = pl.col("open_time") == at(time)
    return candles(WHOLE).with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def test_a_day_is_in_doubt_if_an_hour_of_it_disagrees_with_the_witness() -> None:
    witness = resample(candles(WHOLE), Interval.parse("1h"))
    assert reasons(candles(WHOLE), witness) == {}
    assert reasons(replaced("2024-02-07T05:10", trade_count=8, high=103.0), witness) == {
        "2024-02-07": ("witness", "from 05:00 rows and witness differ in high, trade_count")
    }
    assert reasons(candles(WHOLE), witness.filter(pl.col("open_time") != at("2024-02-09T03:00"))) == {
        "2024-02-09": ("witness", "from 03:00 rows and witness differ in open_time")
    }
    assert reasons(candles(WHOLE), witness.head(48)) == {}, (
        "a witness says nothing of the days after its last candle"
    )


def test_a_short_day_stays_in_doubt_where_the_witness_explains_it() -> None:
    """The count shows that no trade is missing; a quiet minute may be, and a halt is proven by asking
    only.
    """
    rows = candles([time for time in WHOLE if time != at("2024-02-07T05:10")])
    assert reasons(rows, resample(rows, Interval.parse("1h"))) == {
        "2024-02-07": ("short", "1439 rows where 1440 are expected")
    }


def test_a_day_is_in_doubt_if_a_row_is_truncated_or_off_the_grid() -> None:
    edge = at("2024-02-07T05:10")
    assert reasons(replaced("2024-02-07T05:10", close_time=edge + MINUTE - 1000 * MICRO)) == {
        "2024-02-07": ("edges", "1 rows are truncated or misaligned")
    }
    off_grid = [
        time + timedelta(seconds=14) if time >= at("2024-02-07T23:58") and time < at("2024-02-08") else time
        for time in WHOLE
    ]
    found = {
        "2024-02-07": ("edges", "2 rows are truncated or misaligned"),
        "2024-02-08": ("edges", "1 rows are truncated or misaligned"),
    }
    assert reasons(candles(off_grid)) == found, "the last one reaches into the next day"


def test_rows_that_no_trades_can_make_put_their_day_in_doubt_and_are_not_rejected() -> None:
    def doubted(**values: float) -> dict[str, str]:
        here = pl.col("open_time") == at("2024-02-07T05:10")
        rows = bronze(WHOLE, "monthly").with_columns(
            pl.when(here).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
        )
        return {day: found.kind for day, found in doubt(rows, FEBRUARY, None).items()}

    assert doubted() == {}
    assert doubted(quote_volume=1020.0) == {}
    assert doubted(quote_volume=1020.1) == doubted(quote_volume=989.9) == {"2024-02-07": "rules"}, (
        "an average above the high, below the low"
    )
    assert (
        doubted(
            volume=0.0001, quote_volume=0.01, trade_count=2, taker_buy_volume=0.0, taker_buy_quote_volume=0.0
        )
        == {}
    )
    assert doubted(trade_count=1) == doubted(trade_count=0) == {"2024-02-07": "rules"}, (
        "one trade makes no range"
    )
    assert (
        doubted(
            trade_count=1,
            open=101.0,
            high=101.0,
            low=101.0,
            quote_volume=1010.0,
            taker_buy_quote_volume=404.0,
        )
        == {}
    )
