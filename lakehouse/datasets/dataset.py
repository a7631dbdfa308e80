"""What a dataset is: its tables, how one cell of silver is made from bronze, and which days of an archive file to doubt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.transform.doubt import Doubt

FindDoubts = Callable[[pl.DataFrame, Cell, MarketFacts | None], Mapping[str, Doubt]]


@dataclass(frozen=True, slots=True)
class BronzeCell:
    """A stored bronze cell as silver reads it.

    Attributes:
        rows: The bronze rows.
        version: The cell's version.
        facts: What the cell says about itself, `asked_until` above all.
    """

    rows: pl.DataFrame
    version: str
    facts: CellFacts


class ArchiveTable(Table):
    """Base of bronze tables made from archive files: the lineage that every row carries.

    A row is one value one source had for a key. What a file says differently later is added beside it, never over it.
    """

    source = Column(pl.String, "Kind of file: monthly or daily")
    source_file = Column(pl.String, "Archive key of the file the row was read from")
    source_sha256 = Column(pl.String, "sha256 of that file")
    fetched_at = Column(UTC_TIME, "When that file was fetched", "UTC")
    is_removed = Column(pl.Boolean, "The file no longer has this key: the values are null")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A silver table with the bronze tables below it.

    Attributes:
        silver: The silver table's declaration; its `inputs` name the bronze tables.
        archive: The bronze table made from archive files.
        refine: One silver cell from the bronze cell and the market's facts; pure.
        days_in_doubt: Days of a monthly file (as rows of `archive`) that the daily files should be asked about, with reasons; pure.
    """

    silver: type[Table]
    archive: type[ArchiveTable]
    refine: Callable[[BronzeCell, Cell, MarketFacts], CellResult]
    days_in_doubt: FindDoubts

    @property
    def tables(self) -> tuple[type[Table], ...]:
        """All tables of the dataset, upstream first."""
        return (self.archive, self.silver)
