"""The history of values that bronze keeps: every set of rows a source ever had for a key."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from lakehouse.model.lineage import Lineage
from lakehouse.model.timerange import TimeRange

LINEAGE = tuple(Lineage.columns)

# tells sets apart, in order; the hash breaks ties
_STAMP = pl.concat_str(pl.col("fetched_at").dt.epoch("us").cast(pl.String).str.zfill(20), "source_sha256")


def value_columns(frame: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """The columns that are neither key nor lineage: what two sources can disagree about."""
    return [name for name in frame.columns if name not in key and name not in LINEAGE]


def newest(history: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The newest set of rows per key and source; keys whose newest statement is a removal are left out.

    Args:
        history: Bronze rows.
        key: The key columns.
    """
    if not history.height:
        return history
    group = [*key, "source"]
    if not history.select(group).is_duplicated().any():
        return history.filter(~pl.col("is_removed"))
    return history.filter((_STAMP.max().over(group) == _STAMP) & ~pl.col("is_removed"))


def known_at(history: pl.DataFrame, instant: datetime) -> pl.DataFrame:
    """The rows of a history that had been fetched by an instant."""
    return history.filter(pl.col("fetched_at") <= instant)


def revised_at(history: pl.DataFrame, key: Sequence[str]) -> datetime | None:
    """When a source last said something else of a key than before, in the history of one source that states a
    key once.
    """
    again = history.filter(history.select(key).is_duplicated())
    return again["fetched_at"].max()  # type: ignore[return-value]


def restatements(history: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """What sources replaced: two successive sets of rows of one key and source, value by value.

    The first set of a key is none: nothing was replaced. Of sets that share a variant only the others are
    told.

    Args:
        history: Bronze rows, in any order.
        key: The key columns.

    Returns:
        One row per replaced variant, ordered by key, source and time: the key, `source`, `change` (`changed`;
        `removed`: nothing stands in its place; `added`: it stands in the place of nothing), and every value,
        `source_file` and `fetched_at` as `<name>_before` and `<name>_after`. Values that are not there are
        null.
    """
    group, values = [*key, "source"], value_columns(history, key)
    step, place = [*group, "set"], [*group, "set", "place"]
    stated = history.filter(history.select(group).is_duplicated()).with_columns(
        _STAMP.rank("dense").over(group).cast(pl.Int64).alias("set")
    )
    lineage = stated.unique(step, keep="first").select(*step, "source_file", "fetched_at")

    def told_alone(ours: pl.DataFrame, theirs: pl.DataFrame, suffix: str) -> pl.DataFrame:
        """What one set states and the other does not, numbered within its key."""
        alone = (
            ours.filter(~pl.col("is_removed"))
            .select(*step, *values)
            .join(theirs.filter(~pl.col("is_removed")), on=[*step, *values], how="anti", nulls_equal=True)
        )
        return (
            alone.sort(*step, *values)
            .with_columns(pl.int_range(pl.len()).over(step).alias("place"))
            .rename({name: f"{name}_{suffix}" for name in values})
        )

    earlier = stated.with_columns(pl.col("set") + 1).join(lineage, on=step, how="semi")
    later = stated.filter(pl.col("set") > 1)
    before, after = told_alone(earlier, later, "before"), told_alone(later, earlier, "after")
    both = before.with_columns(was=True).join(
        after.with_columns(is_now=True), on=place, how="full", coalesce=True
    )
    both = both.join(lineage.with_columns(pl.col("set") + 1), on=step).join(lineage, on=step, suffix="_after")
    change = (
        pl.when(pl.col("was").is_null())
        .then(pl.lit("added"))
        .when(pl.col("is_now").is_null())
        .then(pl.lit("removed"))
        .otherwise(pl.lit("changed"))
    )
    paired = [f"{name}_{suffix}" for name in values for suffix in ("before", "after")]
    told = ["source_file_before", "source_file_after", "fetched_at_before", "fetched_at_after"]
    both = both.rename({"source_file": "source_file_before", "fetched_at": "fetched_at_before"})
    return both.sort(place).select(*group, change.alias("change"), *paired, *told)


def append_news(
    history: pl.DataFrame, fresh: pl.DataFrame, key: Sequence[str], time: str, covers: TimeRange
) -> pl.DataFrame:
    """Add to a history what a freshly read file says differently from it.

    What the file has for a key is compared with the newest set stored for that key and source. A set that
    differs is added whole; a key the file no longer has, inside the period it covers, gets one row with
    `is_removed`.

    Args:
        history: Bronze rows so far, possibly none.
        fresh: All rows of one file, exact duplicates removed, with lineage columns.
        key: The key columns.
        time: The column that places a row in time.
        covers: The period the file speaks about: a key outside it is not removed by its absence.

    Returns:
        The history with the news appended; the same rows where there is none.
    """
    if not fresh.height or not history.height:
        return history if history.height else fresh
    reading = {name: fresh[name][0] for name in ("source", "source_sha256", "fetched_at")}
    # The same file read again, by a parser that may have changed, replaces its rows: they are not two values
    # of one source.
    history = history.filter(~pl.all_horizontal(pl.col(name) == value for name, value in reading.items()))
    covered = history.filter(
        (pl.col("source") == reading["source"])
        & pl.col(time).is_between(covers.start, covers.end, closed="left")
    )
    if not covered.height:
        return pl.concat([history, fresh])
    before, values = newest(covered, key), [*key, *value_columns(fresh, key)]
    said_before = before.join(fresh, on=values, how="anti", nulls_equal=True).select(key)
    said_now = fresh.join(before, on=values, how="anti", nulls_equal=True).select(key)
    changed = pl.concat([said_before, said_now]).unique()
    if not changed.height:
        return history
    added = fresh.join(changed, on=list(key), how="semi", nulls_equal=True)
    gone = changed.join(fresh, on=list(key), how="anti", nulls_equal=True)
    lineage = fresh.head(1).select(name for name in LINEAGE if name != "is_removed")
    removed = gone.join(lineage, how="cross").with_columns(is_removed=pl.lit(True))
    return pl.concat([history, added, removed], how="diagonal").select(history.columns)
