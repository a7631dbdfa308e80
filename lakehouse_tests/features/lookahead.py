"""Shows that a gold table tells nothing of what had not happened: it is computed again from histories that
end at an instant, and every row that could have been known by then has to be there, the same to the bit.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.features.candle import CANDLES
from lakehouse.features.microstructure import MICROSTRUCTURES
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.interval import Interval
from lakehouse.model.timerange import TimeRange
from lakehouse_tests.features.test_microstructure import lively
from lakehouse_tests.making import BTC, MICRO, MINUTE, as_given, at, minutes, walk

FEBRUARY, MARCH = Cell("2024-02", BTC), Cell("2024-03", BTC)
NAMES = ("exchange", "market_type", "symbol")
DAY = timedelta(days=1)
GAPS = ((at("2024-02-09T03:00"), at("2024-02-09T04:10")), (at("2024-03-12T10:30"), at("2024-03-12T10:31")))
# behind the first gap candles open late, as exchanges have them after a halt, and reach into the next hour
LATE, LATE_UNTIL = timedelta(seconds=17, milliseconds=300), at("2024-02-09T20:50")


class History(NamedTuple):
    """What a source has in the end, and what it had at an instant."""

    rows: pl.DataFrame
    until: Callable[[pl.DataFrame, datetime], pl.DataFrame]


# --- sources --------------------------------------------------------------------------------------


def _of_minutes() -> History:
    times = [
        time + LATE if GAPS[0][1] <= time < LATE_UNTIL else time
        for time in minutes("2024-01-29", 63 * 1440)
        if not any(start <= time < end for start, end in GAPS)
    ]
    ended = pl.col("open_time") + MINUTE
    traded = lively(walk(times)).with_columns(contracts=pl.col("volume") * 100)
    return History(traded, lambda rows, instant: rows.filter(ended <= instant))


def _of_candles(table: type[Feature], interval: Interval, start: str) -> History:
    """Candles of an interval, those of every other day with a last minute that opened late; the one under way
    at an instant has fewer minutes, or another close.
    """
    count = (MARCH.window.end - at(start)) // interval.delta
    rows = walk([at(start) + n * interval.delta for n in range(count)], step=1e-2)
    rows = rows.with_columns(
        contracts=pl.col("volume") * 100,
        candle_count=pl.lit(interval.minutes, pl.Int32),
        knowable_at=pl.col("open_time")
        + interval.delta
        + pl.when(pl.col("open_time").dt.ordinal_day() % 2 == 0).then(LATE).otherwise(timedelta()),
    ).select(table.names())

    def until(whole: pl.DataFrame, instant: datetime) -> pl.DataFrame:
        begun = whole.filter(pl.col("open_time") + MINUTE <= instant)
        is_under_way = pl.col("knowable_at") > instant
        passed = (pl.lit(instant) - pl.col("open_time")).dt.total_minutes().cast(pl.Int32)
        return begun.with_columns(
            candle_count=pl.when(is_under_way).then(passed).otherwise("candle_count"),
            close=pl.when(is_under_way).then("open").otherwise("close"),
            volume=pl.when(is_under_way).then(pl.col("volume") / 2).otherwise("volume"),
        )

    return History(rows, until)


def funding() -> History:
    """Settlements, of which some state no interval, so that it is told by the one before or the one after."""
    chance = random.Random(4)
    times = [at("2024-01-29") + n * timedelta(hours=8) for n in range(63 * 3)]
    told = [chance.choice(["stated", "before", "after"]) for _ in times]
    rows = pl.DataFrame(
        {
            "funding_time": times,
            "rate": [chance.gauss(0, 1e-4) for _ in times],
            "interval_hours": 8,
            "interval_source": told,
            "mark_price": [chance.choice([None, 40_000.0]) for _ in times],
            "published_time": [time + timedelta(milliseconds=chance.randrange(20)) for time in times],
            "source": "archive",
        },
        schema_overrides=dict(FundingRate.polars_schema()),
    ).select(FundingRate.names())

    def until(whole: pl.DataFrame, instant: datetime) -> pl.DataFrame:
        known = whole.filter(pl.max_horizontal("funding_time", "published_time") <= instant)
        # of the last one nothing after it tells the interval yet
        is_open = (pl.int_range(pl.len()) == pl.len() - 1) & (pl.col("interval_source") == "after")
        return known.with_columns(
            interval_hours=pl.when(~is_open).then("interval_hours"),
            interval_source=pl.when(is_open).then(pl.lit("unknown")).otherwise("interval_source"),
        )

    return History(rows, until)


def _told(rows: pl.DataFrame, instant: datetime) -> pl.DataFrame:
    """Of a table that was shown not to look ahead itself: what it says could have been known."""
    return rows.filter(pl.col("knowable_at") <= instant)


def histories() -> dict[str, History]:
    """A history of every table that gold is made of, long enough for every window of March."""
    of_name, of_minutes = {table.name: table for table in CANDLES}, _of_minutes()
    span = TimeRange(FEBRUARY.window.start, MARCH.window.end)
    by_minute = MICROSTRUCTURES[0].compute({Candle.name: of_minutes.rows}, span)
    return {
        Candle.name: of_minutes,
        "gold/microstructure_1m": History(by_minute, _told),
        FundingRate.name: funding(),
        "gold/candle_1h": _of_candles(of_name["gold/candle_1h"], Interval.parse("1h"), "2023-12-28"),
        "gold/candle_1d": _of_candles(of_name["gold/candle_1d"], Interval.parse("1d"), "2022-05-01"),
    }


# --- the proof ------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """What a table was shown to keep: rows and values that were compared, and what had changed."""

    rows: int
    values: int
    changed: Sequence[str]


def instants(seed: int, count: int) -> list[datetime]:
    """Instants of February and March: at random to the microsecond, and about the ends of candles, of one
    that a late minute reaches out of, of a gap, and of the month.
    """
    chance, span = random.Random(seed), MARCH.window.end - FEBRUARY.window.start
    drawn = [FEBRUARY.window.start + chance.random() * span for _ in range(count)]
    ends = [chance.choice(drawn).replace(minute=0, second=0, microsecond=0), MARCH.window.start, GAPS[1][1]]
    ends.append(LATE_UNTIL.replace(minute=0))
    return sorted({*drawn, *(end + by for end in ends for by in (-MICRO, timedelta(), MINUTE))})


def shown(feature: type[Feature], sources: Mapping[str, History], cuts: Sequence[datetime]) -> Shown:
    """Compute February and March from the whole history, and again from what there was at each instant.

    Every row of the whole that says it could have been known at the instant has to stand in what was computed
    then, with the same values.
    """
    whole = _computed(feature, {name: history.rows for name, history in sources.items()})
    rows = values = 0
    changed: list[str] = []
    for instant in cuts:
        then = _computed(feature, {name: each.until(each.rows, instant) for name, each in sources.items()})
        known = whole.filter(pl.col("knowable_at") <= instant)
        rows += known.height
        values += known.height * len(known.columns)
        keys = [*feature.key]
        both = known.join(then, on=keys, how="left", suffix="_then", nulls_equal=True, coalesce=True)
        is_lost = both.join(then.select(keys), on=keys, how="anti", nulls_equal=True)
        if is_lost.height:
            changed.append(f"{feature.name} at {instant}: {is_lost.height} rows were not there")
        for name in set(known.columns) - set(keys):
            other = both.filter(pl.col(name).ne_missing(pl.col(f"{name}_then")))
            if other.height and not is_lost.height:
                changed.append(
                    f"{feature.name}.{name} at {instant}: {other.height} values, first {other.row(0)}"
                )
    return Shown(rows, values, changed)


def _computed(feature: type[Feature], sources: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows of February and March, each month by itself, from the cells it would be given."""
    found = []
    for month in (FEBRUARY, MARCH):
        given = {}
        for each in feature.inputs:
            rows, time = as_given(feature, sources[each.name]), each.table.time
            cells = each.cells(month)
            begin, end = cells[0].window.start, cells[-1].window.end
            given[each.name] = rows.filter(pl.col(time).is_between(begin, end, closed="left"))
        found.append(feature.conform(feature.compute(given, month.window), month))
    return pl.concat(found)
