"""Anomalies of whole tables: which cells were searched and what was found is remembered by version, so that
no cell is read twice for the same rows.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from lakehouse.model.cell import Cell
from lakehouse.model.errors import NotALakeObjectError
from lakehouse.model.result import read_count, read_text
from lakehouse.model.table import Table
from lakehouse.storage.layout import anomalies_path
from lakehouse.storage.ledger import Ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.seal import read_sealed_json, sealed_json
from lakehouse.storage.tables import TableStore
from lakehouse.transform.anomalies import DEFAULT, Sensitivity, find_anomalies

SEARCHED_AT_MOST = 400  # cells that one check reads; the next check goes on
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class CellAnomalies:
    """What a search of one cell found.

    Attributes:
        version: The cell's version then.
        counts: Flags by kind, without kinds that have none.
        first: Open time of the first flagged candle as ISO text; empty without flags.
    """

    version: str
    counts: Mapping[str, int]
    first: str = ""


Found = dict[Cell, CellAnomalies]


def known_anomalies(
    objects: LakeObjects, table: type[Table], stored: Ledger, sensitivity: Sensitivity = DEFAULT
) -> Found:
    """What earlier searches found in cells as they are stored now; no cell is read."""
    return _current(_load(objects, table, sensitivity), stored)


def search_anomalies(
    objects: LakeObjects,
    table: type[Table],
    stored: Ledger,
    sensitivity: Sensitivity = DEFAULT,
    at_most: int = SEARCHED_AT_MOST,
) -> Found:
    """Search cells whose rows were not searched yet, and remember what was found.

    Args:
        objects: The lake.
        table: A 1m candle table.
        stored: Its ledger.
        sensitivity: From where on a candle is flagged; another one than before searches everything anew.
        at_most: How many cells to read, so that a check stays short: cells never searched first, then those
            that changed, newest months first.

    Returns:
        What is known now of cells as they are stored, also by earlier searches.
    """
    remembered, store = _load(objects, table, sensitivity), TableStore(objects)
    known = _current(remembered, stored)
    waiting = sorted(
        stored.keys() - known.keys(),
        key=lambda cell: (stored[cell].path not in remembered, cell.date, cell.sort_key),
        reverse=True,
    )[:at_most]

    def search(cell: Cell) -> CellAnomalies | None:
        try:
            found = store.get(table, cell)
        except NotALakeObjectError:
            return None  # the schema check names it
        flags = find_anomalies(found.rows, sensitivity) if found else None
        if found is None or flags is None:
            return None
        return CellAnomalies(
            found.record.version,
            dict(sorted(flags["kind"].value_counts().iter_rows())),
            str(flags[table.time].min() or ""),
        )

    if waiting:
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            found = zip(waiting, pool.map(search, waiting), strict=True)
            remembered |= {stored[cell].path: anomalies for cell, anomalies in found if anomalies}
        _save(objects, table, sensitivity, remembered, {record.path for record in stored.values()})
    return _current(remembered, stored)


def _current(remembered: Mapping[str, CellAnomalies], stored: Ledger) -> Found:
    """Of cells that have not changed since they were searched."""
    return {
        cell: found
        for cell, record in stored.items()
        if (found := remembered.get(record.path)) and found.version == record.version
    }


def _load(objects: LakeObjects, table: type[Table], sensitivity: Sensitivity) -> dict[str, CellAnomalies]:
    """What is remembered, by path; nothing if it was found by other parameters."""
    try:
        # not as it was written, or by an earlier release: losing it costs time once
        said = read_sealed_json(objects.get(anomalies_path(table)) or b"{}", 1 << 28)
        return (
            {path: _remembered(found) for path, found in said["cells"].items()}
            if said["sensitivity"] == asdict(sensitivity)
            else {}
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remembered(found: Mapping[str, Any]) -> CellAnomalies:
    return CellAnomalies(
        read_text(found["version"]),
        {read_text(kind): read_count(count) for kind, count in found["counts"].items()},
        read_text(found["first"]),
    )


def _save(
    objects: LakeObjects,
    table: type[Table],
    sensitivity: Sensitivity,
    remembered: Mapping[str, CellAnomalies],
    paths: Collection[str],
) -> None:
    cells = {path: asdict(found) for path, found in sorted(remembered.items()) if path in paths}
    said = {"sensitivity": asdict(sensitivity), "cells": cells}
    objects.put(anomalies_path(table), sealed_json(said))
