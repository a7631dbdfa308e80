"""A cadence: when a table is expected to have a row, so that a row that is absent can be told."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl

from lakehouse.model.timerange import TimeRange

_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Grid:
    """A row in every slot of a grid, as candles have.

    Attributes:
        step: Length of a slot; slots begin at multiples of it since 1970.
    """

    step: timedelta

    def slots(self, window: TimeRange) -> pl.Series:
        """Every slot that begins in a window, in order; a window begins with one."""
        return (
            pl.datetime_range(window.start, window.end, self.step, closed="left", time_unit="us", eager=True)
            .cast(_TIME)
            .alias("slot")
        )

    def slots_of(self, times: pl.Series) -> pl.Series:
        """The slot that each instant falls in: its floor. A row off the grid covers the slot it lies in."""
        return times.dt.truncate(self.step)

    def absent(self, times: pl.Series, window: TimeRange) -> pl.Series:
        """The slots of a window in which none of the times falls, in order."""
        slots = self.slots(window)
        return slots.filter(~slots.is_in(self.slots_of(times).unique().implode()))


@dataclass(frozen=True, slots=True)
class Spaced:
    """Rows that follow each other by one of several steps, as funding rates do: every eight hours, and of
    some markets every four from some day on.

    Attributes:
        steps: The distances that successive rows may have.
    """

    steps: tuple[timedelta, ...]

    def absent(self, times: pl.Series, window: TimeRange) -> pl.Series:
        """The times in a window at which a row is absent, in order.

        A distance between two rows that is no step, or that is longer than both the distance before it and
        the one after it, lacks rows: the fewest that leave steps alone, of the step before and then of the
        one after. Toward the ends of the window the nearest step goes on. Nothing can be told of a row that
        is absent exactly where the step changes, if the distance is the longer of the two.

        Args:
            times: Times of rows, those outside the window included: they tell the step at its ends.
            window: Where to look.
        """
        rows = times.dt.round("1m").unique().sort().to_list()  # exchanges are late by milliseconds
        found = [time for time in self._lacking(rows, window) if window.start <= time < window.end]
        return pl.Series("slot", found, dtype=_TIME)

    def _lacking(self, rows: list[datetime], window: TimeRange) -> Iterator[datetime]:
        longest = max(self.steps)
        if not rows:
            yield from _between(window.start - longest, window.end, longest)
            return
        apart = [later - earlier for earlier, later in pairwise(rows)]
        known = [distance if distance in self.steps else None for distance in apart]
        first = next((step for step in known if step), longest)
        last = next((step for step in reversed(known) if step), longest)
        yield from reversed(list(_before(rows[0], window.start, first)))
        for n, (start, distance) in enumerate(zip(rows, apart, strict=False)):
            before = next((step for step in reversed(known[:n]) if step), None)
            after = next((step for step in known[n + 1 :] if step), None)
            if known[n] and (before is None or after is None or distance <= max(before, after)):
                continue
            beside = [step for step in (before, after) if step] or [min(self.steps)]
            yield from _fewest(start, distance, beside[0], beside[-1])
        yield from _between(rows[-1], window.end, last)


def _before(end: datetime, start: datetime, step: timedelta) -> Iterator[datetime]:
    while (end := end - step) >= start:
        yield end


def _between(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while (start := start + step) < end:
        yield start


def _fewest(start: datetime, distance: timedelta, before: timedelta, after: timedelta) -> list[datetime]:
    """The fewest times within a distance that part it into steps of one length and then of another; by the
    first alone where no number of them does.
    """
    fits = [
        (count + rest // after, count)
        for count in range(distance // before + 1)
        if not (rest := distance - count * before) % after
    ]
    if not fits:
        return list(_between(start, start + distance, before))
    steps, count = min(fits)
    lengths = [before] * count + [after] * (steps - count)
    return [start + sum(lengths[:n], timedelta()) for n in range(1, steps)]


Cadence = Grid | Spaced
