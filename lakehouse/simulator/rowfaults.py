"""What faults do to rows: those of `faults.ROW_FAULTS` to the rows of a file, those of `DAY_FAULTS` to a
market's day, wherever it is told of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import polars as pl

from lakehouse.simulator.candles import quiet
from lakehouse.simulator.markets import draw

Source = Literal["monthly", "daily", "rest"]
"""Who tells of a candle: a monthly file, a daily file or a REST answer."""

_DAY = 1440
_DUPLICATES, _CONFLICTS = 5, 3
_HALT, _HOLE, _AFTER_END = 37, 70, 30
"""Lengths in minutes."""
_MISALIGNED, _LATE = 1000, 17_300
"""Candles that open late after a halt, and by how many milliseconds."""

Effect = Callable[[pl.DataFrame, int], pl.DataFrame]
"""From rows of `candles.CANDLE_COLUMNS` and a number to draw from, to rows."""


def apply(name: str, key: str, candles: pl.DataFrame) -> pl.DataFrame:
    """The rows of a file as the fault leaves them; which rows it touches depends on the key."""
    return _EFFECTS[name](candles, draw("rows", name, key))


def befall(name: str, minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    """The 1m candles of one day as one of the `DAY_FAULTS` leaves them."""
    return DAY_FAULTS[name].effect(minutes, chance)


# --- faults of files ------------------------------------------------------------------------------


def _without_a_day(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    days = (candles["minute"] // _DAY).unique().sort()
    if len(days) < 2:
        return candles
    return candles.filter(pl.col("minute") // _DAY != days[chance % len(days)])


def _with_duplicates(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    return _insert(candles, _some(candles, chance, _DUPLICATES))


def _with_conflicts(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    return _insert(
        candles, _other_close(_some(candles.filter(pl.col("high") > pl.col("low")), chance, _CONFLICTS))
    )


def _with_changed_close(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    return candles.update(
        _other_close(_some(candles.filter(pl.col("high") > pl.col("low")), chance, 1)), on="minute"
    )


def _interleaved(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    half = -(-candles.height // 2)
    place = pl.int_range(pl.len()) % half * 2 + pl.int_range(pl.len()) // half
    return candles.sort(place)


def _some(candles: pl.DataFrame, chance: int, count: int) -> pl.DataFrame:
    """Up to `count` rows, spread evenly over the file from a chance start."""
    height = candles.height
    return (
        candles[sorted({(chance + n * height // count) % height for n in range(count)})]
        if height
        else candles
    )


def _other_close(candles: pl.DataFrame) -> pl.DataFrame:
    """The same candles with another close, still between low and high."""
    return candles.with_columns(
        pl.when(pl.col("close") == pl.col("low")).then("high").otherwise("low").alias("close")
    )


def _insert(candles: pl.DataFrame, extra: pl.DataFrame) -> pl.DataFrame:
    """Put each extra row beside its twin, in front of it where the minute is even: readers may rely on
    neither order.
    """
    order = pl.when(pl.col("minute") % 2 == 0).then(-1).otherwise(1)
    marked = pl.concat(
        [candles.with_columns(pl.lit(0).alias("order")), extra.with_columns(order.alias("order"))]
    )
    return marked.sort("minute", "order", maintain_order=True).drop("order")


_EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "day_absent": _without_a_day,
        "conflicting_rows": _with_conflicts,
        "duplicated_rows": _with_duplicates,
        "reupload": _with_changed_close,
        "interleaved_rows": _interleaved,
    }
)


# --- faults of days -------------------------------------------------------------------------------


def _halted(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    return _without_trade_after(minutes, _within_an_hour(minutes, chance, hours=22), chance)


def _halted_and_misaligned(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    """A minute without a trade, one that ends short, the halt, and candles that open late until one on time
    overlaps the last of them.
    """
    last = _within_an_hour(minutes, chance, hours=5)
    resumed = last + _HALT + 1
    # Flat at a price that is traded in the next minute: it changes no hour's open, extreme or close.
    price = minutes.filter(pl.col("minute") == last)["open"]
    before = quiet(minutes.filter(pl.col("minute") == last - 1).with_columns(open=price))
    late = (
        pl.when(pl.col("minute").is_between(resumed, resumed + _MISALIGNED - 1)).then(_LATE).otherwise("late")
    )
    return _without_trade_after(minutes.update(before, on="minute"), last, chance).with_columns(
        late.cast(pl.Int64).alias("late")
    )


def _within_an_hour(minutes: pl.DataFrame, chance: int, hours: int) -> int:
    """A minute of the day that is neither at the beginning nor at the end of an hour, and has hours before
    and after it.
    """
    start: int = minutes["minute"][0] // _DAY * _DAY
    return start + 60 * (1 + chance % hours) + 5 + chance // 64 % 50


def _without_trade_after(minutes: pl.DataFrame, last: int, chance: int) -> pl.DataFrame:
    short = pl.when(pl.col("minute") == last).then(60_000 - (1_000 + chance % 58_000)).otherwise("short")
    return minutes.filter(~pl.col("minute").is_between(last + 1, last + _HALT)).with_columns(
        short.cast(pl.Int64).alias("short")
    )


def _without_some(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    first: int = minutes["minute"][0] + chance % (_DAY - _HOLE)
    return minutes.filter(~pl.col("minute").is_between(first, first + _HOLE - 1))


def _without_any(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    return minutes.clear()


def _with_other_values(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    """One row with another close and twice the trades: it breaks no rule of rows."""
    row = _other_close(_some(minutes.filter(pl.col("high") > pl.col("low")), chance, 1))
    return minutes.update(
        row.with_columns(
            pl.col("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume") * 2
        ),
        on="minute",
    )


def _with_another_interior(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    """One close changed where neither the edges nor the extremes nor the sums of its hour tell."""
    inside = pl.col("minute") % 60
    return minutes.update(
        _other_close(
            _some(minutes.filter(inside.is_between(10, 50), pl.col("high") > pl.col("low")), chance, 1)
        ),
        on="minute",
    )


def _with_rows_after_the_end(minutes: pl.DataFrame, chance: int) -> pl.DataFrame:
    last = minutes[-1:]
    count = min(_AFTER_END, _DAY - 1 - last["minute"][0] % _DAY)
    flat = quiet(last.with_columns(open="close"))
    return pl.concat([minutes, *(flat.with_columns(pl.col("minute") + n + 1) for n in range(count))])


@dataclass(frozen=True, slots=True)
class DayFault:
    """A fault that befalls a market's day.

    Attributes:
        effect: What it does to the day's 1m candles.
        sources: Who tells of the day as it leaves it; the others tell the truth.
        coarse: Whether their coarser candles are made from the rows it leaves, too.
        last_day_only: Whether it can befall only the day on which the market ends; else it befalls whole
            days.
    """

    effect: Effect
    sources: frozenset[Source]
    coarse: bool
    last_day_only: bool = False

    def shows(self, source: Source, interval: int) -> bool:
        """Whether the source's candles of `interval` minutes show it."""
        return source in self.sources and (self.coarse or interval == 1)


_MONTHLY: frozenset[Source] = frozenset({"monthly"})
_ARCHIVE: frozenset[Source] = frozenset({"monthly", "daily"})
_REST: frozenset[Source] = frozenset({"rest"})

DAY_FAULTS: Mapping[str, DayFault] = MappingProxyType(
    {
        "halt_misaligned": DayFault(_halted_and_misaligned, _ARCHIVE | _REST, coarse=True),
        "halt": DayFault(_halted, _ARCHIVE | _REST, coarse=True),
        "differing_row": DayFault(_with_other_values, _MONTHLY, coarse=False),
        "coarse_wrong_alike": DayFault(_with_other_values, _MONTHLY, coarse=True),
        "archive_wrong": DayFault(_with_other_values, _ARCHIVE, coarse=False),
        "interior_changed": DayFault(_with_another_interior, _ARCHIVE, coarse=False),
        "rest_revised": DayFault(_with_other_values, _REST, coarse=True),
        "rows_after_end": DayFault(_with_rows_after_the_end, _ARCHIVE, coarse=True, last_day_only=True),
        "hole": DayFault(_without_some, _ARCHIVE, coarse=False),
        "rest_hole": DayFault(_without_any, _REST, coarse=False),
    }
)
"""In the order in which they are applied: what everyone tells of first, and rows that only some lack last, so
that each changes the same minutes in every source.
"""
