"""A table as the input of an asset: the cells that it is given, in the type that the argument is annotated
with.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args, get_origin

import dagster as dg
import polars as pl
from dagster._core.definitions.partitions.utils import infer_partition_mapping

from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import parse_cells, to_cell, to_key
from lakehouse.model.cell import Cell
from lakehouse.model.errors import BehindInputsWarning, InputAnnotationError, InputMissingError
from lakehouse.model.result import NONE
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.behind import cells_behind
from lakehouse.query.reading import scan_cells
from lakehouse.storage.ledger import damaged_cells, records, survey
from lakehouse.storage.tables import CellRecord

_NAMED = 5  # cells that are left out and named
_VERSION = "dagster/data_version"


def load_frames(context: dg.InputContext, lake: LakeServices, table: type[Table]) -> Any:
    """The rows of a table that an asset is given, with the columns of their path, as its argument is
    annotated: one `pl.LazyFrame` or `pl.DataFrame` of all cells, or a `dict` of such frames by partition key.

    Args:
        context: Of the input: which cells, and which type.
        lake: The lake.
        table: The table.

    Raises:
        InputAnnotationError: The table has no such type.
        InputMissingError: A cell was never made.
        NotALakeObjectError: A cell is damaged.
    """
    wanted = context.dagster_type.typing_type
    is_by_cell = get_origin(wanted) in (dict, Mapping)
    frame = get_args(wanted)[1] if is_by_cell else wanted
    if frame not in (pl.LazyFrame, pl.DataFrame) or (is_by_cell and table.spread == "one"):
        raise InputAnnotationError(context.name, table.name, str(wanted), table.spread != "one")
    if table.spread == "one":
        found = records(lake.objects, table)
        if not found:
            raise InputMissingError(table.name, "at all")
        return _frame(frame, lake, table, found)
    cells = _cells(context, lake, table)
    read = [record for record in cells.values() if record is not None]
    if behind := cells_behind(lake.objects, lake.registry, table, read):
        context.log.warning(str(BehindInputsWarning(table.name, map(str, behind))))
    if is_by_cell:
        return {
            str(to_key(cell)): _frame(frame, lake, table, [record] if record else [])
            for cell, record in cells.items()
        }
    return _frame(frame, lake, table, read)


def _frame(
    frame: type[pl.LazyFrame] | type[pl.DataFrame],
    lake: LakeServices,
    table: type[Table],
    read: Sequence[CellRecord],
) -> pl.LazyFrame | pl.DataFrame:
    rows = scan_cells(lake.objects, table, read, with_path=True, tell=lambda *_: None)
    return rows if frame is pl.LazyFrame else rows.collect()


def _cells(context: dg.InputContext, lake: LakeServices, table: type[Table]) -> dict[Cell, CellRecord | None]:
    """The cells that the partition mapping leads to, by market and date; None stands for one that was made
    and has nothing.

    Of the whole table, what is stored is meant. Otherwise a cell of the run's own partitions that was never
    made is refused, while one that the asset looks back on is left out and named in the log.
    """
    asked = [to_cell(key) for key in asked_keys(context)]
    markets = {cell.market for cell in asked if cell.market}
    stored, foreign = survey(lake.objects, table, markets or None)
    for error in foreign:
        if (damaged := damaged_cells(table, [error])) and (not asked or set(damaged) & set(asked)):
            raise error
    if not asked:
        if not stored:
            raise InputMissingError(table.name, "at all")
        return {cell: stored[cell] for cell in sorted(stored, key=lambda cell: cell.sort_key)}
    asked.sort(key=lambda cell: cell.sort_key)
    never = _never_made(context, lake, table, [cell for cell in asked if cell not in stored])
    own = set(parse_cells(_own_keys(context)).values()) if never else set()
    for cell in never:
        if cell in own or len(never) == len(asked):
            raise InputMissingError(table.name, str(cell))
    if never:
        named = ", ".join(map(str, never[:_NAMED])) + (", …" if len(never) > _NAMED else "")
        context.log.warning(
            f"{table.name} is read without {count_of(len(never), 'cell')} never made: {named}"
        )
    return {cell: stored.get(cell) for cell in asked if cell not in never}


def asked_keys(context: dg.InputContext) -> Collection[str]:
    """The partition keys that the mapping leads to; none where that is the whole table: what has no
    partitions reads all that is stored, be it of the universe or not.
    """
    if not context.has_asset_partitions:
        return ()
    step, upstream = context.step_context, context.asset_key
    asset = step.job_def.asset_layer.get_assets_def_for_node(step.node_handle)
    mapping = infer_partition_mapping(
        asset.get_partition_mapping_for_dep(upstream) if asset else None,
        asset.partitions_def if asset else None,
        context.asset_partitions_def,
    )
    return () if isinstance(mapping, dg.AllPartitionMapping) else context.asset_partition_keys


def _own_keys(context: dg.InputContext) -> Collection[str]:
    """The partition keys of the run."""
    step = context.step_context
    if not step.has_partitions or step.run_partitions_def is None:
        return ()
    return _keys(context, step.run_partitions_def, step.partition_key_range)


def _keys(
    context: dg.InputContext, partitions: dg.PartitionsDefinition, span: dg.PartitionKeyRange | None = None
) -> Collection[str]:
    """All keys of a definition, or those of a range."""
    with dg.partition_loading_context(dynamic_partitions_store=context.instance):
        return partitions.get_partition_keys_in_range(span) if span else partitions.get_partition_keys()


def _never_made(
    context: dg.InputContext, lake: LakeServices, table: type[Table], absent: Collection[Cell]
) -> list[Cell]:
    """Those of some cells that are not stored of which nobody has said that there is nothing: neither a run,
    nor the life of their market.
    """
    if not absent:
        return []
    said = context.instance.event_log_storage.get_latest_tags_by_partition(
        asset_key(table),
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        [_VERSION],
        [str(to_key(cell)) for cell in absent],
    )
    known = known_markets(lake)

    def is_empty(cell: Cell) -> bool:
        facts = known.get(cell.market) if cell.market else None
        return said.get(str(to_key(cell)), {}).get(_VERSION) == NONE or (
            facts is not None and not facts.life.overlaps(cell.window)
        )

    return [cell for cell in absent if not is_empty(cell)]
