"""A cell: one (date window, market) of one table, the unit of storage, retry, check and rewrite."""

from dataclasses import dataclass, field

from lakehouse.model.market import Market
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.timerange import TimeRange


@dataclass(frozen=True, slots=True)
class Cell:
    """One window of one market, or of all markets in a ledger by month.

    Attributes:
        date: `YYYY-MM` for a month cell, `YYYY-MM-DD` for a day cell.
        market: The market, or None where one object holds all markets.
    """

    date: str
    market: Market | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.date, self.market)))

    def __hash__(self) -> int:
        return self._hash  # a plan looks cells up by the million

    def __reduce__(self) -> "tuple[type[Cell], tuple[str, Market | None]]":
        return Cell, (self.date, self.market)  # another process hashes otherwise

    @property
    def period(self) -> Period:
        """The window as a period.

        Raises:
            TimeFormatError: The date is none.
        """
        return Period.parse(self.date)

    @property
    def grain(self) -> PeriodKind:
        """How long the window is."""
        return self.period.kind

    @property
    def window(self) -> TimeRange:
        """The window as a half-open range."""
        return self.period.window

    @property
    def month(self) -> str:
        """The month that the window lies in."""
        return self.period.month.text

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
        """The cell of the same market `by` windows later (earlier if negative)."""
        return Cell(self.period.shift(by).text, self.market)

    @property
    def sort_key(self) -> tuple[str, str]:
        """Market, then date: the order in which reports list cells."""
        return (self.market.key if self.market else "", self.date)

    def __str__(self) -> str:
        return f"{self.date}|{self.market.key}" if self.market else self.date
