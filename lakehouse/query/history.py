"""What a lake had, and what sources took back: reads of bronze, which keeps every value ever seen."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import polars as pl

from lakehouse.datasets.dataset import BronzeCell, Dataset
from lakehouse.datasets.market import MarketTable, facts_by_market
from lakehouse.model.cell import Cell
from lakehouse.model.errors import BeforeFirstReceiptError, MarketFactsMissingError
from lakehouse.model.table import Table
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord, StoredCell, TableStore
from lakehouse.transform.history import restatements

_AT_ONCE = 8  # objects read ahead: on S3 a read waits, and a month of bronze is megabytes


def rows_as_of(
    objects: LakeObjects, dataset: Dataset, cells: Iterable[Cell], instant: datetime
) -> pl.DataFrame:
    """Rows of a silver table as today's rules make them from what the lake had at an instant; facts of
    markets are today's.

    Args:
        objects: The lake.
        dataset: Whose silver table.
        cells: Cells of one market, in order; those of which bronze has no row are left out.
        instant: Rows fetched later do not count.

    Raises:
        BeforeFirstReceiptError: Of a cell there was nothing yet.
        MarketFactsMissingError: `silver/market` does not know the market.
    """
    store, wanted = TableStore(objects), list(cells)
    listed = store.get(MarketTable, None)
    known = facts_by_market(listed.rows if listed else None)
    made = [dataset.silver.empty()]
    stored = _read(store, [(table, cell) for cell in wanted for table in dataset.bronze])
    for cell in wanted:
        read = {table.name: next(stored) for table in dataset.bronze}
        bronze = {
            name: BronzeCell(part.rows, part.record.version, part.record.facts)
            for name, part in read.items()
            if part
        }
        fetched = [
            part.rows["fetched_at"].min()
            for name, part in bronze.items()
            if not dataset.witness or name != dataset.witness.name
        ]
        first = min((at for at in fetched if isinstance(at, datetime)), default=None)
        if first is None:
            continue
        if instant < first:
            raise BeforeFirstReceiptError(str(cell), instant, first)
        if cell.own_market not in known:
            raise MarketFactsMissingError(cell.own_market.key)
        rows = dataset.refine(dataset.as_of(bronze, instant), cell, known[cell.own_market]).rows
        made.append(dataset.silver.split(dataset.silver.conform(rows, cell))[0])
    return pl.concat(made)


def _read(store: TableStore, wanted: Sequence[tuple[type[Table], Cell]]) -> Iterator[StoredCell | None]:
    """Cells in the order given, a few of them read ahead.

    No thread outlives a step: a generator that is given up in the middle may be closed by garbage collection,
    anywhere, and must not wait for threads there.
    """
    for begin in range(0, len(wanted), _AT_ONCE):
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lakehouse-read") as pool:
            read = list(pool.map(lambda pair: store.get(*pair), wanted[begin : begin + _AT_ONCE]))
        yield from read


def restated(
    objects: LakeObjects, dataset: Dataset, stored: Iterable[tuple[str, CellRecord]]
) -> pl.DataFrame:
    """What sources restated, of all given bronze cells, with the column `market` before those of
    `restatements`.

    Only cells whose footer counts restatements are read, and those whose footer does not say.

    Args:
        objects: The lake.
        dataset: Whose bronze tables.
        stored: Bronze cells by the name of their table.
    """
    tables, key = {table.name: table for table in dataset.bronze}, dataset.silver.key
    told = [restatements(dataset.archive.empty(), key).with_columns(market=pl.lit("", pl.String))]
    store, reread = (
        TableStore(objects),
        [(tables[name], record.key) for name, record in stored if record.facts.restatement_count != 0],
    )
    for (_, cell), found in zip(reread, _read(store, reread), strict=True):
        if found:
            told.append(restatements(found.rows, key).with_columns(market=pl.lit(cell.own_market.key)))
    every = pl.concat(told)
    return every.select("market", pl.exclude("market")).sort(
        "market", *key, "source", "fetched_at_after", maintain_order=True
    )
