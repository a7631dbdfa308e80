"""Everything a lake is declared to hold, in one value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lakehouse.datasets import DATASETS
from lakehouse.datasets.conflict import conflict_table
from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.gap import Gap, gap_table
from lakehouse.datasets.market import MarketTable
from lakehouse.features import FEATURES
from lakehouse.model.errors import UnknownTableError
from lakehouse.model.feature import Feature
from lakehouse.model.table import Table


@dataclass(frozen=True)
class Registry:
    """The declared datasets and features.

    Attributes:
        datasets: Silver tables with their bronze tables.
        features: Gold tables.
    """

    datasets: tuple[Dataset, ...] = DATASETS
    features: tuple[type[Feature], ...] = FEATURES

    @property
    def tables(self) -> tuple[type[Table], ...]:
        """All tables, upstream first."""
        return (
            MarketTable,
            *(table for dataset in self.datasets for table in dataset.tables),
            self.gap,
            *map(conflict_table, self.disputed),
            *self.features,
        )

    @property
    def gap(self) -> type[Gap]:
        """`silver/gap`, made from every silver table with a cadence."""
        silver = (dataset.silver for dataset in self.datasets)
        return gap_table(tuple(table for table in silver if table.cadence is not None))

    @property
    def disputed(self) -> tuple[Dataset, ...]:
        """The datasets that tell of disputes: each has a conflict table."""
        return tuple(dataset for dataset in self.datasets if dataset.conflicts is not None)

    @property
    def by_name(self) -> Mapping[str, type[Table]]:
        """All tables by name."""
        return {table.name: table for table in self.tables}

    def table(self, name: str) -> type[Table]:
        """Find a table by name; the zone may be left out where that is clear.

        Raises:
            UnknownTableError: There is none, or several.
        """
        found = [
            table
            for table in self.tables
            if name in (table.name, table.short_name(), table.name.replace("/", "."))
        ]
        if len(found) != 1:
            raise UnknownTableError(name, self.by_name)
        return found[0]

    def dataset(self, silver: str) -> Dataset:
        """The dataset of a silver table, by its name as `table` takes it.

        Raises:
            UnknownTableError: There is no such silver table that is made from bronze.
        """
        found = [
            dataset
            for dataset in self.datasets
            if silver
            in (dataset.silver.name, dataset.silver.short_name(), dataset.silver.name.replace("/", "."))
        ]
        if not found:
            raise UnknownTableError(silver, [dataset.silver.name for dataset in self.datasets])
        return found[0]

    def named(self, name: str) -> list[type[Table]]:
        """The tables of a zone (`gold`), or the one table of that name.

        Raises:
            UnknownTableError: It is neither.
        """
        return [table for table in self.tables if table.zone() == name] or [self.table(name)]

    def upstream(self, tables: Iterable[type[Table]]) -> list[type[Table]]:
        """Some tables, everything they are made from, and the silver ledgers by month that tell of any of
        these; upstream first.
        """
        needed = {table.name for table in tables}
        for candidate in reversed(self.tables):
            if candidate.name in needed:
                needed |= set(candidate.input_names())
        needed |= {
            candidate.name
            for candidate in self.tables
            if candidate.spread == "all"
            and candidate.zone() == "silver"
            and not needed.isdisjoint(candidate.input_names())
        }
        return [candidate for candidate in self.tables if candidate.name in needed]


REGISTRY = Registry()
