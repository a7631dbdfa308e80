"""What the faults of `faults.ROW_FAULTS` do to the rows of a file."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import polars as pl

from lakehouse.simulator.markets import draw

_DAY = 1440
_DUPLICATES, _CONFLICTS = 5, 3


def apply(name: str, key: str, candles: pl.DataFrame) -> pl.DataFrame:
    """The rows as the fault leaves them; which rows it touches depends on the key."""
    return _EFFECTS[name](candles, draw("rows", name, key))


def _without_a_day(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    days = (candles["minute"] // _DAY).unique().sort()
    if len(days) < 2:
        return candles
    return candles.filter(pl.col("minute") // _DAY != days[chance % len(days)])


def _with_duplicates(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    return _insert(candles, _some(candles, chance, _DUPLICATES))


def _with_conflicts(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    return _insert(candles, _other_close(_some(candles.filter(pl.col("high") > pl.col("low")), chance, _CONFLICTS)))


def _with_changed_close(candles: pl.DataFrame, chance: int) -> pl.DataFrame:
    return candles.update(_other_close(_some(candles.filter(pl.col("high") > pl.col("low")), chance, 1)), on="minute")


def _some(candles: pl.DataFrame, chance: int, count: int) -> pl.DataFrame:
    """Up to `count` rows, spread evenly over the file from a chance start."""
    height = candles.height
    return candles[sorted({(chance + n * height // count) % height for n in range(count)})] if height else candles


def _other_close(candles: pl.DataFrame) -> pl.DataFrame:
    """The same candles with another close, still between low and high."""
    return candles.with_columns(pl.when(pl.col("close") == pl.col("low")).then("high").otherwise("low").alias("close"))


def _insert(candles: pl.DataFrame, extra: pl.DataFrame) -> pl.DataFrame:
    """Put each extra row beside its twin, in front of it where the minute is even: readers may rely on neither order."""
    order = pl.when(pl.col("minute") % 2 == 0).then(-1).otherwise(1)
    marked = pl.concat([candles.with_columns(pl.lit(0).alias("order")), extra.with_columns(order.alias("order"))])
    return marked.sort("minute", "order", maintain_order=True).drop("order")


_EFFECTS: Mapping[str, Callable[[pl.DataFrame, int], pl.DataFrame]] = MappingProxyType(
    {"day_absent": _without_a_day, "conflicting_rows": _with_conflicts, "duplicated_rows": _with_duplicates, "reupload": _with_changed_close}
)
