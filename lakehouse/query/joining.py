"""Rows joined by when they could have been known, so that none meets what came after it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import polars as pl

from lakehouse.model.errors import NotJoinableError, NotKnowableError
from lakehouse.model.market import MARKET_COLUMNS
from lakehouse.model.table import UTC_TIME

KNOWN = "knowable_at"
_PATH = ("month", "date")
_ORDER, _THEN = "row of the left frame", "instant of the left frame"
_ALMOST = pl.duration(nanoseconds=999)  # a microsecond


def join_asof(
    left: pl.DataFrame | pl.LazyFrame,
    right: pl.DataFrame | pl.LazyFrame,
    prefix: str,
    within: timedelta | None,
    by: Sequence[str] | None,
) -> pl.DataFrame:
    """Each row of a frame with the newest row of another one that could have been known by then.

    Args:
        left: Rows with `knowable_at`; null is before everything.
        right: Rows with `knowable_at`; of several that became known at once, the last one counts, and one
            with null is never met.
        prefix: What stands before the right frame's columns.
        within: How long before the left row the right one may have become known; None for any time.
        by: Columns that have to be equal; None for those that name the market, where both frames have them.

    Raises:
        NotKnowableError: A frame has no `knowable_at`.
        NotJoinableError: It is no instant with a zone, the right frame's columns have the names of others, or
            `within` and `by` are off.
    """
    given = left.lazy().collect()
    rows, others = _instants("left", given), _instants("right", right.lazy().collect())
    if within is not None and (not isinstance(within, timedelta) or within < timedelta()):
        raise NotJoinableError(
            f"within is {within}", "Say for how long a row is good, as a timedelta: no less than nothing."
        )
    equal = (
        [by]
        if isinstance(by, str)
        else list(by)
        if by is not None
        else [name for name in MARKET_COLUMNS if name in rows.columns and name in others.columns]
    )
    told = others.drop(_PATH, strict=False).rename(
        {name: f"{prefix}{name}" for name in others.columns if name not in (*equal, *_PATH)}
    )
    if taken := [name for name in told.columns if name in rows.columns and name not in equal]:
        raise NotJoinableError(f"both frames would have {', '.join(taken)}", "Give another prefix.")
    try:
        found = (
            # rounded down: within its microsecond the left row may be older than what is known at its end
            rows.with_row_index(_ORDER)
            .with_columns(given[KNOWN].dt.cast_time_unit("us").dt.convert_time_zone("UTC").alias(_THEN))
            .sort(_THEN, maintain_order=True)
            .join_asof(
                told.sort(f"{prefix}{KNOWN}", maintain_order=True),
                left_on=_THEN,
                right_on=f"{prefix}{KNOWN}",
                by=equal or None,
                tolerance=within,
                coalesce=False,
                check_sortedness=False,
            )
        )
    except pl.exceptions.PolarsError as error:
        why = str(error).split("\n", 1)[0]
        raise NotJoinableError(why, f"{', '.join(equal)} have to be in both, with one type.") from error
    return found.sort(_ORDER).drop(_ORDER, _THEN)


def _instants(which: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A frame whose `knowable_at` is in UTC and microseconds, rounded up: no row is known earlier by it."""
    if KNOWN not in frame.columns:
        raise NotKnowableError(which, frame.columns)
    dtype = frame.schema[KNOWN]
    if dtype == UTC_TIME:
        return frame
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        what = f"knowable_at of the {which} frame is {dtype}"
        raise NotJoinableError(what, 'Make it an instant: pl.col("knowable_at").dt.replace_time_zone("UTC").')
    rounded_up = pl.col(KNOWN) + (_ALMOST if dtype.time_unit == "ns" else pl.duration())
    return frame.with_columns(rounded_up.dt.convert_time_zone("UTC").dt.cast_time_unit("us"))


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
