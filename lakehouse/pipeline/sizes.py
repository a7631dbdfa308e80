"""How large a machine is that a run needs, by what it makes; and how many cells fit one run.

The memory of a run is what Dagster, Polars and the ledgers take, a cell for each worker, and what is kept of
each of its cells until it ends: what was listed of its market, and what it has logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from lakehouse.model.table import Table
from lakehouse.pipeline.workers import A_CELL

_MIB = 1 << 20
_BASE = 1024 * _MIB
_KEPT = 4 * _MIB  # of a cell, through all tables of a run


@dataclass(frozen=True, slots=True)
class Size:
    """A size that Fargate has.

    Attributes:
        cpu: In shares of a core, of which it has 1024.
        memory: In MiB.
    """

    cpu: int
    memory: int

    @property
    def workers(self) -> int:
        """Cells that are made at once on it."""
        return ceil(self.cpu / 1024)


SMALL, MIDDLE, LARGE = Size(512, 2048), Size(1024, 4096), Size(2048, 8192)
WIDE = Size(2048, 16384)
"""For a table whose objects hold all markets: the rows of a month of all of them are in memory at once."""

_FEW = 6  # cells that are done before a second core would have paid for itself


def size_of(cells: Mapping[type[Table], int]) -> Size:
    """The size of a run.

    Args:
        cells: How many cells it makes of each table; none of a run of checks, registrations and reports,
            which read ledgers.
    """
    if any(table.spread == "all" and table.zone() == "gold" for table in cells):
        return WIDE
    most = max(cells.values(), default=0)
    fitting = (
        size for size in (SMALL, MIDDLE, LARGE) if most <= (_FEW if size is SMALL else most_cells(size))
    )
    return next(fitting, LARGE)


def most_cells(size: Size = LARGE) -> int:
    """The cells that fit one run on a machine of some size."""
    return (size.memory * _MIB - _BASE - size.workers * A_CELL) // _KEPT
