"""Rows joined by when they could have been known, so that none meets what came after it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import polars as pl

from lakehouse.model.errors import NotKnowableError
from lakehouse.model.market import MARKET_COLUMNS

KNOWN = "knowable_at"
_PATH = ("month", "date")
_ORDER = "row of the left frame"


def join_asof(
    left: pl.DataFrame | pl.LazyFrame,
    right: pl.DataFrame | pl.LazyFrame,
    prefix: str,
    within: timedelta | None,
    by: Sequence[str] | None,
) -> pl.DataFrame:
    """Each row of a frame with the newest row of another one that could have been known by then.

    Args:
        left: Rows with `knowable_at`.
        right: Rows with `knowable_at`; of several that became known at once, the last one counts.
        prefix: What stands before the right frame's columns.
        within: How long before the left row the right one may have become known; None for any time.
        by: Columns that have to be equal; None for those that name the market, where both frames have them.

    Raises:
        NotKnowableError: A frame has no `knowable_at`.
    """
    rows, others = left.lazy().collect(), right.lazy().collect()
    for name, frame in (("left", rows), ("right", others)):
        if KNOWN not in frame.columns:
            raise NotKnowableError(name, frame.columns)
    equal = (
        list(by)
        if by is not None
        else [name for name in MARKET_COLUMNS if name in rows.columns and name in others.columns]
    )
    told = others.drop(_PATH, strict=False).rename(
        {name: f"{prefix}{name}" for name in others.columns if name not in (*equal, *_PATH)}
    )
    found = (
        rows.with_row_index(_ORDER)
        .sort(KNOWN, maintain_order=True)
        .join_asof(
            told.sort(f"{prefix}{KNOWN}", maintain_order=True),
            left_on=KNOWN,
            right_on=f"{prefix}{KNOWN}",
            by=equal or None,
            tolerance=within,
            coalesce=False,
            check_sortedness=False,
        )
    )
    return found.sort(_ORDER).drop(_ORDER)


def side_by_side(rows: pl.DataFrame, others: Mapping[str, pl.DataFrame], within: timedelta) -> pl.DataFrame:
    """Rows of one table, each with the newest of every other table that could have been known by then.

    Args:
        rows: Rows of the first table.
        others: Those of the other tables, by short name.
        within: As of `join_asof`.
    """
    found = rows.drop(_PATH, strict=False)
    for name, told in others.items():
        found = join_asof(found, told, f"{name}_", within, None)
    return found
