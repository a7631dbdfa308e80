"""The history of values that bronze keeps: every set of rows a source ever had for a key."""

from collections.abc import Sequence

import polars as pl

from lakehouse.model.timerange import TimeRange

LINEAGE = ("source", "source_file", "source_sha256", "fetched_at", "is_removed")


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
    stamp = pl.concat_str(pl.col("fetched_at").dt.epoch("us").cast(pl.String).str.zfill(20), "source_sha256")  # the hash breaks ties
    return history.filter((stamp == stamp.max().over(group)) & ~pl.col("is_removed"))


def append_news(history: pl.DataFrame, fresh: pl.DataFrame, key: Sequence[str], covers: TimeRange) -> pl.DataFrame:
    """Add to a history what a freshly read file says differently from it.

    What the file has for a key is compared with the newest set stored for that key and source. A set that differs is added whole;
    a key the file no longer has, inside the period it covers, gets one row with `is_removed`.

    Args:
        history: Bronze rows so far, possibly none.
        fresh: All rows of one file, exact duplicates removed, with lineage columns.
        key: The key columns; the first is the time.
        covers: The period the file speaks about: a key outside it is not removed by its absence.

    Returns:
        The history with the news appended; the same rows where there is none.
    """
    if not fresh.height or not history.height:
        return history if history.height else fresh
    reading = {name: fresh[name][0] for name in ("source", "source_sha256", "fetched_at")}
    # The same file read again, by a parser that may have changed, replaces its rows: they are not two values of one source.
    history = history.filter(~pl.all_horizontal(pl.col(name) == value for name, value in reading.items()))
    covered = history.filter((pl.col("source") == reading["source"]) & pl.col(key[0]).is_between(covers.start, covers.end, closed="left"))
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
