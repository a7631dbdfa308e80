"""How large a machine is that a run needs, by what it makes; and how many cells a run is given.

A run takes little more memory for more cells: each is stored before the next is looked at. What it takes is
Dagster and Polars, a cell for each worker, and what is kept of every cell until the end: what was listed of
its market, and what was logged. So cells decide how many cores are worth their price, and memory follows from
the cores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from lakehouse.model.table import Table
from lakehouse.pipeline.workers import A_CELL

_MIB = 1 << 20
# 450 MiB were measured, with one worker and 6, 48 and 144 cells through all tables; ledgers grow with a lake
_BASE = 1024 * _MIB
_KEPT = 1 * _MIB  # of a cell; nothing of it was seen to grow
_FEW, _SOME = 6, 60  # cells that are done before another core would have paid for itself
_IN_MINUTES = 600  # cells whose tables are all made within minutes: so much is lost with a task at most


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


SMALL, MIDDLE, LARGE = Size(512, 2048), Size(1024, 3072), Size(2048, 4096)
WIDE = Size(2048, 16384)
"""For a table whose objects hold all markets: the rows of a month of all of them are in memory at once."""


def size_of(cells: Mapping[type[Table], int]) -> Size:
    """The size of a run.

    Args:
        cells: How many cells it makes of each table; none of a run of checks, registrations and reports,
            which read ledgers.
    """
    if any(table.spread == "all" and table.zone() == "gold" for table in cells):
        return WIDE
    most = max(cells.values(), default=0)
    return SMALL if most <= _FEW else MIDDLE if most <= _SOME else LARGE


def most_cells() -> int:
    """The cells that one run is given at most: what fits the memory of a large machine, and is made in
    minutes.
    """
    return min(holds(LARGE), _IN_MINUTES)


def holds(size: Size) -> int:
    """The cells that fit the memory of a run on a machine."""
    return (size.memory * _MIB - _BASE - size.workers * A_CELL) // _KEPT
