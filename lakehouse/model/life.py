"""A market's life: from its listing to its delisting."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lakehouse.model.timerange import TimeRange


@dataclass(frozen=True, slots=True)
class Life:
    """From a market's listing to its delisting, half-open; a life without ends covers all of time.

    Attributes:
        listed: First instant of the life; None where it is not known.
        delisted: End of the life; None while the market trades, and where the end is not known.
    """

    listed: datetime | None = None
    delisted: datetime | None = None

    def overlaps(self, window: TimeRange) -> bool:
        """Whether the market was listed in some part of a window."""
        begun = self.listed is None or self.listed < window.end
        return begun and (self.delisted is None or window.start < self.delisted)

    def outside(self, start: pl.Expr, end: pl.Expr) -> pl.Expr:
        """Whether ranges lie before the listing or after the delisting, as `overlaps` tells of one.

        Args:
            start: First instant of each range.
            end: End of each range, exclusive.
        """
        before = pl.lit(False) if self.listed is None else end <= self.listed
        return before if self.delisted is None else before | (start >= self.delisted)


UNKNOWN = Life()
"""The life of a market of which nothing is known."""
