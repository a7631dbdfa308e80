"""A cell: one (date window, market) of one table, the unit of storage, retry, check and rewrite."""

from dataclasses import dataclass
from typing import Literal

from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange, day_range, month_range, shift_month

Grain = Literal["month", "day"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One window of one market, or of all markets in a ledger by month.

    Attributes:
        date: `YYYY-MM` for a month cell, `YYYY-MM-DD` for a day cell.
        market: The market, or None where one object holds all markets.
    """

    date: str
    market: Market | None = None

    @property
    def grain(self) -> Grain:
        """How long the window is."""
        return "month" if len(self.date) == 7 else "day"

    @property
    def window(self) -> TimeRange:
        """The window as a half-open range."""
        return month_range(self.date) if self.grain == "month" else day_range(self.date)

    @property
    def own_market(self) -> Market:
        """The market of a cell that has one.

        Raises:
            TypeError: The cell holds all markets.
        """
        if self.market is None:
            raise TypeError(f"the cell {self.date} holds all markets")
        return self.market

    def shift(self, by: int) -> "Cell":
        """The cell of the same market `by` months later (months only)."""
        return Cell(shift_month(self.date, by), self.market)

    @property
    def sort_key(self) -> tuple[str, str]:
        """Market, then date: the order in which reports list cells."""
        return (self.market.key if self.market else "", self.date)

    def __str__(self) -> str:
        return f"{self.date}|{self.market.key}" if self.market else self.date
