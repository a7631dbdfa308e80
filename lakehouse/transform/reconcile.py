"""One truth from sources that disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse.transform.history import value_columns

# Who is believed where two sources differ and nothing else decides: the finer archive file was re-published more often than the monthly one.
PRECEDENCE = ("daily", "api", "monthly")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The outcome of `reconcile`.

    Attributes:
        rows: One row per served key, with lineage, sorted by key.
        unserved: All variants of keys for which one source itself says two things; `rule` is `two_values_in_one_source`.
        conflict_count: Keys with more than one distinct value among all sources.
        confirmed: Whether every served row stands, with the same values, in a daily file.
    """

    rows: pl.DataFrame
    unserved: pl.DataFrame
    conflict_count: int
    confirmed: bool


def reconcile(sources: Mapping[str, pl.DataFrame], key: Sequence[str]) -> Reconciled:
    """Choose one row per key from named sources.

    A key with one distinct value is served as it is. Otherwise the first source in `PRECEDENCE` that has the key decides; if that
    source has two values for it, none is served. The outcome does not depend on the order of sources or rows, and applying it to its
    own outcome changes nothing.

    Args:
        sources: Newest rows per source (`daily`, `api`, `monthly`), each with lineage columns; exact duplicates are harmless.
        key: The key columns.
    """
    known = [name for name in PRECEDENCE if name in sources and sources[name].height]
    if unknown := set(sources) - set(PRECEDENCE):
        raise ValueError(f"unknown sources {sorted(unknown)}; known: {PRECEDENCE}")
    by = list(key)
    if not known:
        frame = next(iter(sources.values()))
        return Reconciled(frame.clear(), _unserved(frame.clear()), 0, False)
    if len(known) == 1 and not sources[known[0]].select(by).is_duplicated().any():
        return Reconciled(sources[known[0]].sort(by), _unserved(sources[known[0]].clear()), 0, known[0] == "daily")

    values = value_columns(sources[known[0]], key)
    stacked = pl.concat([sources[name].with_columns(pl.lit(rank).alias("__rank")) for rank, name in enumerate(known)])
    distinct = stacked.sort([*by, "__rank", *values, "source_file", "source_sha256"]).unique([*by, "__rank", *values], keep="first", maintain_order=True)
    variants = distinct.select([*by, *values]).unique().group_by(by).len("__variants")
    top = distinct.group_by(by).agg(
        pl.col("__rank").min().alias("__top"), (pl.col("__rank") == pl.col("__rank").min()).sum().alias("__top_count"), (pl.col("source") == "daily").any().alias("__daily")
    )
    judged = distinct.join(variants, on=by, how="left").join(top, on=by, how="left")
    served = judged.filter((pl.col("__top_count") == 1) & (pl.col("__rank") == pl.col("__top"))).sort(by)
    unserved = judged.filter(pl.col("__top_count") > 1).sort([*by, "__rank", *values])
    helpers = [name for name in judged.columns if name.startswith("__")]
    return Reconciled(
        rows=served.drop(helpers),
        unserved=_unserved(unserved.drop(helpers)),
        conflict_count=variants.filter(pl.col("__variants") > 1).height,
        confirmed=bool(served["__daily"].all()) and served.height > 0,
    )


def _unserved(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(rule=pl.lit("two_values_in_one_source"))
