"""What a dataset is: its tables, how one cell of silver is made from bronze, and which days of an archive
file to doubt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cell import Cell
from lakehouse.model.check import SCHEMA, Check
from lakehouse.model.input import Role
from lakehouse.model.lineage import Lineage
from lakehouse.model.result import NONE, CellFacts, CellResult, Evidence
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.doubt import Doubt
from lakehouse.transform.history import known_at, revised_at


@dataclass(frozen=True, slots=True)
class BronzeCell:
    """A stored bronze cell as silver reads it.

    Attributes:
        rows: The bronze rows.
        version: The cell's version.
        facts: What the cell says about itself, `asked_until` and `asked` above all.
    """

    rows: pl.DataFrame
    version: str
    facts: CellFacts


REFINED = (
    SCHEMA,
    Check("gaps"),
    Check("reconciliation"),
    Check("evidence"),
    Check("freshness", {"late": timedelta(days=2)}),
)
"""What a silver table is held to that is refined from several sources, and has a cadence."""

BronzeCells = Mapping[str, BronzeCell]
"""The bronze cells of one window and market, by table name; a table without that cell is left out."""
FindDoubts = Callable[[pl.DataFrame, Cell, MarketFacts | None, BronzeCell | None], Mapping[str, Doubt]]


class BronzeTable(Lineage):
    """Base of bronze tables: the lineage that every row carries.

    A row is one value one source had for a key. What the source says differently later is added beside it,
    never over it.
    """

    @classmethod
    def identity(cls) -> tuple[str, ...]:
        """The columns that say what a row states values of: the key of the silver table."""
        return (cls.time,)


class ArchiveTable(BronzeTable):
    """Base of bronze tables made from archive files."""


class ApiTable(BronzeTable):
    """Base of bronze tables made from answers of a REST API."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A silver table with the bronze tables below it.

    Attributes:
        silver: The silver table's declaration; its `inputs` are the bronze tables, each with its role.
        refine: One silver cell from the bronze cells and the market's facts; pure.
        days_in_doubt: Days of rows of `archive` that another source should be asked about, with reasons,
            given the witness's cell; pure.
        conflicts: Every variant of every disputed key of a cell, as rows of its conflict table without the
            market's columns; pure.
        unsettled: Days on which files of the archive disagree and no proof decides, given all their rows and
            the witness's cell; pure.
        contradicted: Ranges that the API answered and that contradict the witness, or the archive wholesale,
            all the same; pure.
        evidence: How well the rows of a silver cell can be proven, worst first; empty where cells do not say.
    """

    silver: type[Table]
    refine: Callable[[BronzeCells, Cell, MarketFacts], CellResult]
    days_in_doubt: FindDoubts
    conflicts: Callable[[BronzeCells, Cell, MarketFacts], pl.DataFrame] | None = None
    unsettled: Callable[[pl.DataFrame, BronzeCell | None], frozenset[str]] = lambda rows, witness: frozenset()
    contradicted: Callable[[BronzeCells], list[TimeRange]] = lambda bronze: []
    evidence: tuple[Evidence, ...] = ()

    @property
    def tables(self) -> tuple[type[Table], ...]:
        """All tables of the dataset, upstream first."""
        return (*self.bronze, self.silver)

    @property
    def bronze(self) -> tuple[type[BronzeTable], ...]:
        """The bronze tables, upstream first."""
        return tuple(each.table for each in self.silver.inputs if issubclass(each.table, BronzeTable))

    @property
    def archive(self) -> type[ArchiveTable]:
        """The bronze table made from archive files."""
        found = self._of("archive")
        assert found is not None, f"{self.silver.name} has no input with the role archive"
        assert issubclass(found, ArchiveTable), f"{found.name} is no ArchiveTable"
        return found

    @property
    def api(self) -> type[ApiTable] | None:
        """The bronze table of rows by REST, for the open tail and what the archive leaves in doubt; None if
        there is none.
        """
        found = self._of("api")
        return found if found is not None and issubclass(found, ApiTable) else None

    @property
    def witness(self) -> type[ApiTable] | None:
        """The bronze table of an independent statement, used to check rows; None if there is none."""
        found = self._of("witness")
        return found if found is not None and issubclass(found, ApiTable) else None

    def _of(self, role: Role) -> type[Table] | None:
        return next((each.table for each in self.silver.inputs if each.role == role), None)

    @property
    def restated(self) -> tuple[type[BronzeTable], ...]:
        """The bronze tables of what is served: what their sources replace is a restatement."""
        return tuple(table for table in self.bronze if table is not self.witness)

    def as_of(self, bronze: BronzeCells, instant: datetime) -> BronzeCells:
        """What was known of bronze cells at an instant: rows fetched by then, what REST APIs had answered,
        and what they had restated.

        Files that were asked for, and found absent or unusable, are those of today: they say nothing of rows.
        """
        return {name: self._part_as_of(name, part, instant) for name, part in bronze.items()}

    def _part_as_of(self, name: str, part: BronzeCell, instant: datetime) -> BronzeCell:
        rows = known_at(part.rows, instant)
        asked = tuple(asking for asking in part.facts.asked if asking.at <= instant)
        revised = revised_at(rows, self.silver.key) if self.api and name == self.api.name else None
        if self.witness and name == self.witness.name:
            earlier = [
                at
                for at in (*part.facts.answered_at, rows["fetched_at"].max())
                if isinstance(at, datetime) and at <= instant
            ]
            # what was asked then was asked after all that had been restated
            revised = max(earlier, default=None)
            if not asked:  # asked again since, and answers that overlap are kept as one
                asked = tuple(replace(asking, at=revised) for asking in part.facts.asked if revised)
        return replace(part, rows=rows, facts=replace(part.facts, asked=asked, revised_at=revised))


def input_versions(
    table: type[Table], bronze: BronzeCells, cell: Cell, market: MarketFacts
) -> dict[str, str]:
    """What a silver cell records as its inputs."""
    versions = {
        f"{name}@{cell.date}": bronze[name].version if name in bronze else NONE
        for name in table.input_names()
    }
    return versions | {"silver/market": market.version_for(cell)}
