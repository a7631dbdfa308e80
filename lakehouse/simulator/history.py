"""What each source tells of a market: its generated candles, as the faults of days leave them; and pages of
them, as any REST API cuts these.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from lakehouse.model.timerange import month_range, shift_month
from lakehouse.simulator.candles import CANDLE_COLUMNS, coarsen, minute_candles, quiet
from lakehouse.simulator.faults import Fault, FaultPlan
from lakehouse.simulator.keys import KlineFolder
from lakehouse.simulator.markets import SimulatedMarket, draw, minute_of
from lakehouse.simulator.rowfaults import DAY_FAULTS, Source, befall

_DAY = 1440
_BLOCK = 30 * _DAY
_EPOCH = date(1970, 1, 1).toordinal()
_LONG_SPAN = 30 * _DAY


class Strike(NamedTuple):
    """A fault that befalls a day of a market; days are counted from the epoch."""

    name: str
    day: int

    def __str__(self) -> str:
        return f"{self.name} {date.fromordinal(self.day + _EPOCH)}"


def candles(
    market: SimulatedMarket, interval: int, first: int, end: int, strikes: Iterable[Strike] = ()
) -> pl.DataFrame:
    """The candles of `interval` minutes that start in `[first, end)`, cut to the market's life.

    Args:
        market: The market.
        interval: Length in minutes; a divisor of a day.
        first: First minute, a multiple of the interval.
        end: Minute after the last, a multiple of the interval.
        strikes: What befalls their minutes.

    Returns:
        `CANDLE_COLUMNS`, all Int64, sorted. Coarse candles are the sums and extremes of the 1m ones.
    """
    empty = pl.DataFrame(schema=dict.fromkeys(CANDLE_COLUMNS, pl.Int64))
    numbers = range(first // _BLOCK, -(-end // _BLOCK)) if first < end else range(0)
    known = tuple(strikes)
    asked = pl.col("minute").is_between(first, end - 1)
    blocks = (
        (_block(market, number), [strike for strike in known if strike.day * _DAY // _BLOCK == number])
        for number in numbers
    )
    return pl.concat(
        [empty, *(coarsen(_struck(market, block, mine).filter(asked), interval) for block, mine in blocks)]
    )


@lru_cache(maxsize=16)
def _block(market: SimulatedMarket, number: int) -> pl.DataFrame:
    """Thirty days of minutes: a client that wants one day's file soon wants the next, and the same days'
    hours.
    """
    return minute_candles(market, number * _BLOCK, (number + 1) * _BLOCK)


def _struck(market: SimulatedMarket, minutes: pl.DataFrame, strikes: Iterable[Strike]) -> pl.DataFrame:
    day_of = pl.col("minute") // _DAY
    for name, day in strikes:
        chance = draw("rows", name, *market.words, str(day))
        minutes = pl.concat(
            [
                minutes.filter(day_of < day),
                befall(name, minutes.filter(day_of == day), chance),
                minutes.filter(day_of > day),
            ]
        )
    return minutes


def strikes(
    faults: tuple[Fault, ...], market: SimulatedMarket, source: Source, interval: int, first: int, end: int
) -> tuple[Strike, ...]:
    """The faults of days that show in what a source tells of `[first, end)`, in the order in which they are
    applied.

    Args:
        faults: The faults in force.
        market: The market.
        source: Who tells.
        interval: Length of the candles in minutes.
        first: First minute.
        end: Minute after the last.
    """
    names = {
        fault.name
        for fault in faults
        if fault.name in DAY_FAULTS and DAY_FAULTS[fault.name].shows(source, interval)
    }
    if not names or end <= first:
        return ()
    month, last = (f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m}" for minute in (first, end - 1))
    found: list[Strike] = []
    while month <= last:
        found += (
            strike
            for strike in _month_strikes(faults, market, month)
            if strike.name in names and first // _DAY <= strike.day <= (end - 1) // _DAY
        )
        month = shift_month(month, 1)
    return tuple(found)


@lru_cache(maxsize=4096)
def _month_strikes(faults: tuple[Fault, ...], market: SimulatedMarket, month: str) -> tuple[Strike, ...]:
    """A fault that hits the key of the month's 1m file befalls one day of the month, drawn from the whole
    ones; else it befalls the days whose keys it hits.
    """
    days = range(
        *(minute_of(instant) // _DAY for instant in (month_range(month).start, month_range(month).end))
    )
    whole = [day for day in days if market.traded(day * _DAY, (day + 1) * _DAY) == _DAY]
    cut = [day for day in days if 0 < market.traded(day * _DAY, (day + 1) * _DAY) < _DAY]
    monthly, daily = (KlineFolder(market, frequency, "1m") for frequency in ("monthly", "daily"))
    key = monthly.file(month).key
    found: list[Strike] = []
    for name, fault in DAY_FAULTS.items():
        named = [other for other in faults if other.name == name]
        if not named:
            continue
        possible = (
            [day for day in cut if market.end_minute is not None and day == market.end_minute // _DAY]
            if fault.last_day_only
            else whole
        )
        if any(other.matches(key) for other in named):
            possible = [possible[draw("day", name, key) % len(possible)]] if possible else []
        else:
            possible = [
                day
                for day in possible
                if any(
                    other.matches(daily.file(date.fromordinal(day + _EPOCH).isoformat()).key)
                    for other in named
                )
            ]
        found += (Strike(name, day) for day in possible)
    return tuple(found)


def page(
    faults: FaultPlan,
    path: str,
    market: SimulatedMarket,
    interval: int,
    start: int | None,
    until: int,
    limit: int,
    newest_first: bool,
    now: datetime,
) -> pl.DataFrame:
    """What a REST API answers of a market's candles, the unfinished one included, in order.

    Args:
        faults: All faults in force.
        path: The request's.
        market: The market.
        interval: Length of the candles in minutes.
        start: First instant at which one may open, in milliseconds; None for no bound.
        until: The last one.
        limit: Most candles.
        newest_first: Whether these are the newest of the range, else its oldest.
        now: The exchange's time.
    """
    first, last = max(market.first_minute, (start or 0) // 60_000) // interval, until // 60_000 // interval
    asked = (pl.col("minute") * 60_000 + pl.col("late")).is_between(start or 0, until)
    pages = [pl.DataFrame(schema=dict.fromkeys(CANDLE_COLUMNS, pl.Int64))]
    missing, span = limit, limit + 1
    # What a halt or break leaves of a page is filled up from behind it.
    while missing > 0 and first <= last:
        low, high = (
            (max(first, last - span + 1), last) if newest_first else (first, min(last, first + span - 1))
        )
        rows = _told(faults, path, market, interval, low, high, minute_of(now)).filter(asked)
        pages.append(rows.tail(missing) if newest_first else rows.head(missing))
        missing, span = missing - pages[-1].height, max(span, _LONG_SPAN // interval)
        first, last = (first, low - 1) if newest_first else (high + 1, last)
    return pl.concat(pages).sort("minute")


def _told(
    faults: FaultPlan,
    path: str,
    market: SimulatedMarket,
    interval: int,
    first: int,
    last: int,
    current: int,
) -> pl.DataFrame:
    """Candles number `first` to `last` as known in the minute `current`, in which nothing has traded yet."""
    befallen = strikes(faults.in_force, market, "rest", interval, first * interval, (last + 1) * interval)
    for strike in befallen:
        faults.show(strike.name, path)
    finished = candles(
        market, interval, first * interval, min(last + 1, current // interval) * interval, befallen
    )
    if not first <= current // interval <= last:
        return finished
    minutes = candles(market, 1, current // interval * interval, current + 1, befallen)
    begun = pl.col("minute") == current
    return pl.concat(
        [finished, coarsen(pl.concat([minutes.filter(~begun), quiet(minutes.filter(begun))]), interval)]
    )
