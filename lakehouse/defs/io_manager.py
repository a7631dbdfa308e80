"""The IO manager: the cells of a ranged run are stored and recorded as they come, in their order; on S3 a few
are stored beside each other.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from lakehouse.defs.describe import asset_key, partition_page
from lakehouse.defs.loading import load_frames
from lakehouse.defs.partitions import to_key
from lakehouse.exchanges.exchange import can_have
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    FailedAboveError,
    InputMissingError,
    LakehouseError,
    NotOfThisTypeError,
    StoreError,
)
from lakehouse.model.result import NONE, CellResult, Problem
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.ops.saying import EVIDENCE, conflicts_of, gaps_of, size_of, span_of
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.workers import in_order
from lakehouse.storage.outcome import Built, Change, Failed, Nothing, Outcome, settle
from lakehouse.storage.tables import CellRecord, StoredCell, TableStore

_ROWS = 3  # of a cell, that its event shows
_SHOWN = 5  # failed cells that are named, and linked to


def cells_output(
    cells: Iterable[tuple[Cell, Outcome]], malformed: Mapping[str, LakehouseError]
) -> dg.Output[Iterator[tuple[Cell | str, Outcome]]]:
    """What the asset of a table with cells returns: the outcome of each cell, and of the partition keys that
    name none.

    The first cell is made here, in the body of the asset: what breaks the whole step breaks before there is
    an output. Once there is one, the steps below run, whatever becomes of the cells.

    The private flag stops Dagster from adding a second event per cell with one version for the whole run; a
    test holds it to exactly one event per cell.
    """
    rest = iter(cells)
    first = list(islice(rest, 1))
    return dg.Output(
        chain(((key, Failed(error)) for key, error in malformed.items()), first, rest),
        metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True},
    )


class StoredCells:
    """A table as an input of an asset: its cells are read when asked for, so one that is missing fails only
    who needs it.

    Args:
        store: The lake's cells.
        table: The table.
    """

    def __init__(self, store: TableStore, table: type[Table]) -> None:
        self._store = store
        self._table = table
        self.name = table.name

    def get(self, cell: Cell) -> StoredCell | None:
        """A cell, or None if it is not stored."""
        return self._store.get(self._table, cell)


class _Root(NamedTuple):
    """Where a cell that could not be made went wrong first: itself, or a cell above it."""

    table: str
    cell: Cell
    why: str


class _Prepared(NamedTuple):
    """A cell, or a key that names none, with what became of it and the place of its first rows."""

    cell: Cell | str
    outcome: Outcome
    rows: list[pl.DataFrame]


class LakeIOManager(dg.IOManager):
    """Stores the cells of a run in the lake and logs one event, version and row count per cell.

    Args:
        lake: The lake.
    """

    def __init__(self, lake: LakeServices) -> None:
        self._lake = lake
        self._run = ""  # whose failures are kept: all steps of a run are in one process
        self._roots: dict[str, dict[Cell, _Root]] = {}
        self._broken: dict[str, str] = {}

    def handle_output(self, context: dg.OutputContext, obj: Iterator[tuple[Cell | str, Outcome]]) -> Any:
        """Store and record each cell as it comes.

        Raises:
            dagster.Failure: At the end, if any cell failed; all others stand.
            StoreError: At once, where the store would refuse the rest as well.
        """
        table = self._lake.registry.table("/".join(context.asset_key.path))
        if self._run != context.run_id:
            self._run, self._roots, self._broken = context.run_id, {}, {}
        try:
            yield from self.store(context, table, obj)
        except dg.Failure:
            raise
        except Exception as error:  # of which the tables below, which run all the same, are told
            self._broken[table.name] = str(error) or type(error).__name__
            raise

    def store(
        self,
        context: dg.OutputContext | dg.OpExecutionContext,
        table: type[Table],
        cells: Iterable[tuple[Cell | str, Outcome]],
    ) -> Iterator[Any]:
        """Store and record cells, and yield after each.

        Args:
            context: Where events and errors are logged.
            table: The cells' table.
            cells: Cells, or partition keys that name none, with what became of them.

        Raises:
            dagster.Failure, StoreError: As `handle_output`.
        """
        failed: dict[str, str] = {}
        count = below = 0
        since = time.monotonic()
        prepared = (self._prepared(table, cell, outcome) for cell, outcome in cells)
        tables = TableStore(self._lake.objects, is_for_many=True)
        settling = in_order(prepared, partial(_settle, tables, table), self._lake.in_flight)
        for (cell, _, rows), (record, said, outcome) in settling:
            count += 1
            if isinstance(cell, str):  # a partition key that names no cell
                assert isinstance(outcome, Failed), "nothing else can become of it"
                failed[cell] = str(outcome.error)
                continue
            if isinstance(outcome, Failed):
                if isinstance(outcome.error, StoreError) and outcome.error.everywhere:
                    raise outcome.error
                root = self._above(table, cell, outcome.error)
                why = str(FailedAboveError(root.table, str(root.cell), root.why) if root else outcome.error)
                below += root is not None
                self._roots.setdefault(table.name, {})[cell] = root or _Root(table.name, cell, why)
                failed[str(cell)] = why
                context.log.error(f"{cell}: {why}", extra={"table": table.name, "cell": str(cell)})
            else:
                took, since = time.monotonic() - since, time.monotonic()
                context.log_event(cell_event(self._lake, table, cell, record, rows, took if rows else None))
            self._lake.progress(table.name, cell, said)
            yield {}
        if failed:
            named = "; ".join(list(dict.fromkeys(failed.values()))[:_SHOWN])
            above = f", {below} of them because of what is above them" if below else ""
            raise dg.Failure(
                f"{len(failed)} of {count} cells of {table.name} failed{above}, the others stand: {named}",
                metadata={
                    "cells": dg.MetadataValue.json(failed),
                    **{
                        cell: dg.MetadataValue.url(partition_page(table, cell))
                        for cell in list(failed)[:_SHOWN]
                    },
                },
                allow_retries=False,
            )

    def _prepared(self, table: type[Table], cell: Cell | str, outcome: Outcome) -> _Prepared:
        """What is to be stored of a cell, once its turn comes."""
        rows, outcome = _seen(outcome)
        if isinstance(outcome, Nothing) and isinstance(cell, Cell):
            lacking = [each.name for each in table.inputs if each.required]
            roots = (self._root_of(name, cell) for name in lacking)
            if root := next(filter(None, roots), None):  # not that there is nothing yet to make it from
                outcome = Failed(InputMissingError(root.table, str(cell)))
        return _Prepared(cell, outcome, rows)

    def _above(self, table: type[Table], cell: Cell, error: Exception) -> _Root | None:
        """The cell whose failure in this run left a cell without its input."""
        if not isinstance(error, InputMissingError):
            return None
        named = (self._root_of(name, cell) for name in (error.table, *table.input_names()))
        return next(filter(None, named), None)

    def _root_of(self, table: str, cell: Cell) -> _Root | None:
        """Where it went wrong first, if what a table has of a cell's window failed in this run."""
        if table in self._broken:
            return _Root(table, cell, self._broken[table])
        return next((root for one, root in self._roots.get(table, {}).items() if _touch(one, cell)), None)

    def load_input(self, context: dg.InputContext) -> Any:
        """The upstream table in the type that the argument is annotated with; cell by cell without one."""
        table = self._lake.registry.table("/".join(context.asset_key.path))
        if context.dagster_type.typing_type in (Any, StoredCells):
            return StoredCells(self._lake.tables, table)
        return load_frames(context, self._lake, table)


def _settle(
    tables: TableStore, table: type[Table], item: _Prepared
) -> tuple[CellRecord | None, str, Outcome]:
    """Store a cell: what is stored of it then, what was done, and what became of it."""
    if isinstance(item.cell, str):
        return None, "failed", item.outcome
    try:
        return *settle(tables, table, item.cell, item.outcome), item.outcome
    except LakehouseError as error:
        return None, "failed", Failed(error)


def _touch(one: Cell, other: Cell) -> bool:
    """Whether two cells of different tables are of the same market and time, whatever their grains."""
    of_same = one.market is None or other.market is None or one.market == other.market
    return of_same and one.window.overlap(other.window.start, other.window.end) is not None


def _seen(outcome: Outcome) -> tuple[list[pl.DataFrame], Outcome]:
    """An outcome, and where the first rows of what is stored of it come to stand."""
    rows: list[pl.DataFrame] = []
    match outcome:
        case Built(result):
            rows.append(result.rows.head(_ROWS))
        case Change(apply, is_new):

            def noting(stored: StoredCell | None) -> CellResult | None:
                result = apply(stored)
                rows[:] = [result.rows.head(_ROWS)] if result else []
                return result

            return rows, Change(noting, is_new)
    return rows, outcome


def cell_event(
    lake: LakeServices,
    table: type[Table],
    cell: Cell,
    record: CellRecord | None,
    rows: Sequence[pl.DataFrame] = (),
    seconds: float | None = None,
) -> dg.AssetMaterialization:
    """The event of a cell: its version, row count and what it says about itself, in words, for the UI would
    draw numbers of all markets into one line.

    Args:
        lake: The lake.
        table: The table.
        cell: The cell.
        record: What is stored of it; None stands for a cell of which nothing is stored.
        rows: Its first rows, where they were at hand.
        seconds: How long it took.
    """
    key = asset_key(table)
    if record is None:
        exchange = lake.exchanges.get(cell.market.exchange) if cell.market else None
        note = (
            "Nothing is stored: the market was not listed then, or there is nothing yet to make the cell "
            "from."
        )
        if cell.market and not can_have(lake.exchanges, table, cell.market):
            note = str(NotOfThisTypeError(table.name, cell.market.key, table.market_types))
        elif exchange and table.zone() == "bronze" and not exchange.publishes(table):
            note = f"Nothing is stored, and never will be: {exchange.name} publishes nothing of {table.name}."
        return dg.AssetMaterialization(
            key,
            partition=to_key(cell),
            tags={"dagster/data_version": NONE},
            metadata={"dagster/partition_row_count": 0, "note": note},
        )
    facts = record.facts
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": record.rows,
        "dagster/uri": lake.objects.uri(record.path),
        "covers": span_of(record),
        "size": size_of(record.size),
        "version": record.version,
    }
    if seconds is not None:
        metadata["took"] = f"{seconds:.2f} s"
    if facts.evidence is not None:
        metadata |= {
            "evidence": EVIDENCE[facts.evidence],
            "gaps": gaps_of(record, lake.clock(), table.published),
            "conflicts": conflicts_of(record),
        }
    if record.reject_count:
        metadata["quarantine"] = count_of(record.reject_count, "row")
    if facts.problems:
        metadata["problems"] = dg.MetadataValue.table(
            [dg.TableRecord(_shown(problem)) for problem in facts.problems]
        )
    if rows and rows[0].height:
        metadata["first rows"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: _text(value) for name, value in row.items()})
                for row in rows[0].to_dicts()
            ]
        )
    return dg.AssetMaterialization(
        key, partition=to_key(cell), tags={"dagster/data_version": record.version}, metadata=metadata
    )


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)


def _shown(problem: Problem) -> dict[str, str]:
    """A problem as a row of the event's table; file names without their folders, so that what healed it is in
    sight.
    """
    return {
        "file": problem.subject.rsplit("/", 1)[-1],
        "kind": problem.kind,
        "healed by": problem.healed_by.rsplit("/", 1)[-1] or "not healed",
        "detail": problem.detail,
    }
