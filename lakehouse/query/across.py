"""Candles of one symbol on several exchanges, side by side."""

from collections.abc import Mapping

import polars as pl

from lakehouse.model.interval import Interval
from lakehouse.query.joining import KNOWN

_SLOT, _PLACE = "open_time", "place in the slot"


def across(candles: Mapping[str, pl.DataFrame], interval: Interval) -> pl.DataFrame:
    """Candles of several exchanges as one frame, by the slot that they open in.

    A candle that opens late, as the first one after a halt may, stands in its slot; of two that open in one
    slot the second stands in a row of its own. No candle is left out, and none is told twice.

    Args:
        candles: Candles by the name of their exchange, each in order, with `open_time` and, where they are
            no candles of 1m, `knowable_at`.
        interval: Their length.

    Returns:
        A row per slot in which any exchange has a candle, in order: `open_time` (the slot's start),
        `knowable_at` (when the last of the row's candles could have been known, and not before the slot's
        end), and of each exchange its columns behind its name, `binance_close`; null where it has no candle.
    """
    start, end = pl.col(_SLOT), pl.col(_SLOT) + interval.delta
    found = pl.DataFrame(schema={_SLOT: pl.Datetime("us", "UTC"), _PLACE: pl.UInt32})
    for name, rows in candles.items():
        own = rows.select(
            start.dt.truncate(interval.name).alias(_SLOT),
            pl.int_range(pl.len(), dtype=pl.UInt32).over(start.dt.truncate(interval.name)).alias(_PLACE),
            pl.all().name.prefix(f"{name}_"),
            (pl.col(KNOWN) if KNOWN in rows.columns else end).alias(f"{KNOWN} {name}"),
        )
        found = found.join(own, on=(_SLOT, _PLACE), how="full", coalesce=True)
    known = [f"{KNOWN} {name}" for name in candles]
    others = [name for name in found.columns if name not in (_SLOT, _PLACE, *known)]
    return found.sort(_SLOT, _PLACE).select(_SLOT, pl.max_horizontal(end, *known).alias(KNOWN), *others)
