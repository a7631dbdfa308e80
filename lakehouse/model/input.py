"""What a table is made from."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.timerange import FIRST, TimeRange

if TYPE_CHECKING:
    from lakehouse.model.table import Table

Role = Literal["archive", "api", "witness"]


class Input(NamedTuple):
    """One of the tables that a table is made from.

    Attributes:
        table: The upstream table, of the same grain or of another.
        lookback: How far before a cell's window its rows are needed.
        required: Whether a cell is made only where the input has rows of its window; an input that is not
            required is read where it is stored.
    """

    table: "type[Table]"
    lookback: timedelta = timedelta()
    required: bool = True
    role: Role | None = None

    @property
    def name(self) -> str:
        """The name of the upstream table."""
        return self.table.name

    def makes(self, row_count: int) -> bool:
        """Whether a stored cell of the input is reason enough to make a cell.

        A witness only checks rows, REST stands in for the archive where it has any row, and an input that is
        not required makes nothing by itself.

        Args:
            row_count: Rows of the stored cell.
        """
        if self.role is None:
            return self.required
        return self.role == "archive" or (self.role == "api" and row_count > 0)

    def rows(self, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        """The rows of a window and of the lookback before it, in order of time: what lies further back stands
        in the same cells, and must not count.

        Args:
            inputs: Rows of every input by table name.
            window: The window.
        """
        time = self.table.time
        near = pl.col(time).is_between(window.start - self.lookback, window.end, closed="left")
        return inputs[self.name].filter(near).sort(time)

    def cells(self, cell: Cell) -> Sequence[Cell]:
        """The upstream cells that a cell is made from, oldest first: those that touch its window or what lies
        the lookback before it.
        """
        if not self.lookback and cell.grain == self.table.grain:
            return (cell,)
        return [Cell(date, cell.market) for date in touched_dates(cell.date, self.table.grain, self.lookback)]


@lru_cache(maxsize=65536)
def touched_dates(date: str, grain: PeriodKind, lookback: timedelta = timedelta()) -> tuple[str, ...]:
    """The dates of the cells of a grain that touch a window, or what lies before it, in order.

    Args:
        date: The window, as a cell's date.
        grain: Of the cells.
        lookback: How far before the window to begin.
    """
    window = Cell(date).window
    start = window.start - lookback if window.start - FIRST > lookback else FIRST
    return tuple(period.text for period in Period.covering(TimeRange(start, window.end), grain))
