"""Microstructure: against Python's own statistics and plain fractions, and nothing over a gap."""

import itertools
import random
from datetime import datetime, timedelta
from fractions import Fraction
from math import log, sqrt
from statistics import covariance, linear_regression, mean

import polars as pl
import pytest

from lakehouse.features.candle import CANDLES
from lakehouse.features.microstructure import MICROSTRUCTURES
from lakehouse.model.feature import Feature
from lakehouse.model.timerange import TimeRange
from lakehouse_tests.making import FEBRUARY, MINUTE, at, candles, minutes, walk

OF_MINUTES, OF_HOURS = MICROSTRUCTURES
(HOURLY,) = (table for table in CANDLES if table.name == "gold/candle_1h")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def computed(table: type[Feature], rows: pl.DataFrame, window: TimeRange = FEBRUARY.window) -> pl.DataFrame:
    """The rows of a window, of 1m candles; those by hour of what is computed of these."""
    given = {"silver/candle": rows}
    if table is OF_HOURS:
        given |= {
            HOURLY.name: HOURLY.compute(given, window),
            OF_MINUTES.name: OF_MINUTES.compute(given, window),
        }
    found = table.conform(table.compute(given, window), FEBRUARY)
    assert table.split(found)[1].height == 0
    return found


def lively(rows: pl.DataFrame, seed: int = 5) -> pl.DataFrame:
    """Rows in which takers lean to one side for a while, and nothing is traded in every seventh."""
    chance, lean = random.Random(seed), 0.5
    share = []
    for n in range(rows.height):
        lean = chance.random() if n % 40 == 0 else lean
        share.append(round(lean, 2) if n % 7 else 0.0)
    is_traded = pl.Series([n % 7 > 0 for n in range(rows.height)])
    return rows.with_columns(
        pl.col("volume", "quote_volume", "trade_count") * is_traded,
        taker_buy_volume=(pl.col("volume") * pl.Series(share)).round(5) * is_traded,
    )


# --- plainly, once more ---------------------------------------------------------------------------


def plain(rows: list[dict[str, object]], count: int) -> dict[str, float | None]:
    """The window's figures at the last of `count` + 2 candles."""
    close = [float(row["close"]) for row in rows]  # type: ignore[arg-type]
    signed = [2 * row["taker_buy_volume"] - row["volume"] for row in rows[-count:]]  # type: ignore[operator]
    returns = [log(after / before) for before, after in itertools.pairwise(close)]
    together = covariance(returns[1:], returns[:-1]) * (count - 1) / count
    changes = [after - before for before, after in zip(close[-count - 1 : -1], close[-count:], strict=True)]
    prices = [
        abs(after / before - 1) / (float(row["quote_volume"]) / 1e6)  # type: ignore[arg-type]
        for before, after, row in zip(close[-count - 1 : -1], close[-count:], rows[-count:], strict=True)
        if row["quote_volume"]
    ]
    return {
        "amihud": mean(prices),
        "roll_spread": 2 * sqrt(-together) if together <= 0 else None,
        "kyle_lambda": linear_regression(signed, changes).slope,
    }


def plain_vpin(rows: list[dict[str, object]], at_row: datetime) -> float | None:
    """By fractions: the signed volume as a function of the volume, which is straight within a candle."""
    exact = [
        (row["open_time"], Fraction(str(row["volume"])), 2 * Fraction(str(row["taker_buy_volume"])))
        for row in rows
        if row["open_time"] <= at_row  # type: ignore[operator]
    ]
    midnight = at_row.replace(hour=0, minute=0)
    before = [one for one in exact if midnight - DAY <= one[0] < midnight]  # type: ignore[operator]
    bucket = sum((size for _, size, _ in before), Fraction(0)) / 50
    if len(before) < 1440 or not bucket:
        return None
    points, total, signed = [(-50 * bucket, Fraction(0))], -50 * bucket, Fraction(0)
    for time, size, bought in exact:
        if time >= midnight - DAY:  # type: ignore[operator]
            total, signed = total + size, signed + bought - size
            points.append((total, signed))

    def passed(level: Fraction) -> Fraction:
        after = next(n for n, (reached, _) in enumerate(points) if reached >= level)
        (low, first), (high, last) = points[max(after - 1, 0)], points[after]
        return last if high == level else first + (level - low) / (high - low) * (last - first)

    full = total // bucket
    sums = [passed((full - n) * bucket) for n in range(50, -1, -1)]
    return float(sum(abs(b - a) for a, b in itertools.pairwise(sums)) / 50 / bucket)


@pytest.fixture(scope="module")
def three_days() -> pl.DataFrame:
    """From the last day of January on; the second day trades a hundredth of the first."""
    rows = lively(walk(minutes("2024-01-31", 3 * 1440)))
    thin = pl.when(pl.col("open_time").dt.day() == 1).then(0.01).otherwise(1.0)
    return rows.with_columns((pl.col("volume", "taker_buy_volume") * thin).round(7))


def test_windows_are_those_of_pythons_own_statistics(three_days: pl.DataFrame) -> None:
    found = computed(OF_MINUTES, three_days)
    rows = three_days.to_dicts()
    for place in (1440, 2000, 3333, 4319):
        expected = plain(rows[place - 61 : place + 1], 60)
        row = found.row(place - 1440, named=True)
        for name, value in expected.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-9)), (place, name)
    assert found["roll_spread"].null_count() > 100, "a positive covariance tells of no spread"
    hours = computed(OF_HOURS, three_days)
    assert hours["kyle_lambda"].null_count() == 0
    assert hours["amihud"].null_count() == 0


@pytest.mark.slow
def test_vpin_is_that_of_plain_fractions_also_where_a_candle_fills_buckets(
    three_days: pl.DataFrame,
) -> None:
    found, rows = computed(OF_MINUTES, three_days), three_days.to_dicts()
    by_time = dict(found.select("open_time", "vpin").iter_rows())
    assert found["vpin"].null_count() == 0
    for time in (
        "2024-02-01T00:00",
        "2024-02-01T17:31",
        "2024-02-01T23:59",
        "2024-02-02T00:00",
        "2024-02-02T00:01",
    ):
        assert by_time[at(time)] == pytest.approx(plain_vpin(rows, at(time)), rel=1e-9), time
    assert by_time[at("2024-02-02T09:13")] == pytest.approx(
        plain_vpin(rows, at("2024-02-02T09:13")), rel=1e-9
    )
    hours = dict(computed(OF_HOURS, three_days).select("open_time", "vpin").iter_rows())
    assert hours == {time: by_time[time + 59 * MINUTE] for time in hours}


def test_a_candle_tells_what_was_computed_by_hand() -> None:
    times = minutes("2024-02-01", 3)
    rows = candles(times, volume=[10.0, 0.0, 8.0], taker_buy_volume=[4.0, 0.0, None], trade_count=[4, 0, 0])
    found = computed(OF_MINUTES, rows)
    assert found["signed_volume"].to_list() == [-2.0, 0.0, None]
    assert found["taker_imbalance"].to_list() == [-0.2, None, None]
    assert found["average_trade_size"].to_list() == [2.5, None, None]
    assert found["knowable_at"].to_list() == [time + MINUTE for time in times]


@pytest.mark.parametrize("place", [0, 1, 1439])
def test_a_minute_whose_takers_are_not_known_leaves_no_vpin_to_a_day_of_buckets(place: int) -> None:
    """The first minute of the day before as every other: who took there is no even half."""
    rows = lively(walk(minutes("2024-01-31", 2 * 1440)))
    lacking = rows.with_columns(
        pl.when(pl.int_range(pl.len()) != place).then("taker_buy_volume").alias("taker_buy_volume")
    )
    assert computed(OF_MINUTES, rows)["vpin"].null_count() == 0
    assert computed(OF_MINUTES, lacking)["vpin"].null_count() == 1440


def test_signed_volume_that_does_not_vary_has_no_slope_and_no_trade_no_price() -> None:
    quiet = candles(
        minutes("2024-01-31", 2 * 1440), volume=0.0, quote_volume=0.0, trade_count=0, taker_buy_volume=0.0
    )
    found = computed(OF_MINUTES, quiet)
    assert found.select("amihud", "kyle_lambda", "vpin", "taker_imbalance").null_count().row(0) == (1440,) * 4
    steady = walk(minutes("2024-01-31", 2 * 1440)).with_columns(
        volume=pl.lit(0.3), taker_buy_volume=pl.lit(0.1)
    )
    assert computed(OF_MINUTES, steady)["kyle_lambda"].null_count() == 1440
    assert computed(OF_MINUTES, steady)["vpin"].to_list() == pytest.approx([1 / 3] * 1440)


def test_no_value_crosses_a_gap() -> None:
    gap = at("2024-02-02T10:30")
    rows = walk([time for time in minutes("2024-01-31", 5 * 1440) if time != gap])
    found = {row["open_time"]: row for row in computed(OF_MINUTES, rows).iter_rows(named=True)}
    for name, count in (("amihud", 61), ("kyle_lambda", 61)):
        assert [found[gap + n * MINUTE][name] is None for n in (-1, 1, count - 1, count)] == [
            False,
            True,
            True,
            False,
        ]
    # until the day before has no gap
    lacks = {time for time, row in found.items() if row["vpin"] is None}
    assert lacks == {time for time in found if gap < time < at("2024-02-04")}
    hours = {row["open_time"]: row for row in computed(OF_HOURS, rows).iter_rows(named=True)}
    short = at("2024-02-02T10:00")
    assert {value for name, value in hours[short].items() if not name.endswith(("_time", "_at"))} == {None}
    assert [hours[short + n * HOUR]["kyle_lambda"] is None for n in (1, 24, 25)] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("table", MICROSTRUCTURES)
def test_a_month_alone_equals_the_same_in_a_range_in_any_order(table: type[Feature]) -> None:
    rows = lively(walk([time for time in minutes("2024-01-29", 6 * 1440) if time != at("2024-01-30T20:00")]))
    reach = table.inputs[0].lookback
    alone = computed(
        table,
        rows.filter(pl.col("open_time") >= FEBRUARY.window.start - reach).sample(
            fraction=1, shuffle=True, seed=3
        ),
    )
    whole = computed(table, rows, TimeRange(at("2024-01-31"), FEBRUARY.window.end))
    assert alone.equals(whole.filter(pl.col("open_time") >= FEBRUARY.window.start))
    assert alone["vpin"].null_count() == 0


@pytest.mark.parametrize("table", MICROSTRUCTURES)
def test_an_inverse_market_without_quote_volume_lacks_what_is_made_of_it_alone(table: type[Feature]) -> None:
    rows = lively(walk(minutes("2024-01-30", 4 * 1440)))
    inverse = rows.with_columns(quote_volume=pl.lit(None, pl.Float64), contracts=pl.col("volume") * 100)
    found = computed(table, inverse)
    assert found["amihud"].null_count() == found.height
    assert found.drop("amihud").equals(computed(table, rows).drop("amihud"))
