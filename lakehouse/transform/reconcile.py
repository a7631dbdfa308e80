"""One truth from sources that disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lakehouse.model.result import Evidence
from lakehouse.transform.disputes import PRECEDENCE, TWO_VALUES, UNSETTLED, settle
from lakehouse.transform.history import value_columns
from lakehouse.transform.witness import HOUR, judge

# In whose name a row is served that several sources state: published files outlast answers, and the dailies are the finer ones.
STANDS_IN = ("daily", "monthly", "api")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The outcome of `reconcile`.

    Attributes:
        rows: One row per served key, sorted, with the lineage of the source it stands in: daily, else monthly, else api.
        unserved: Per source, every variant of the keys for which none could be served; `rule` is `two_values_in_one_source`.
        conflicts: Every variant of every disputed key, with `source` (all that state it, joined by "+"), `source_file` and `fetched_at` of
            the one it would stand in, the `rule` that decided, `is_served`, and `is_settled`: whether a proof decided, not mere precedence.
        conflict_count: Keys with more than one distinct value among all sources.
        unsettled_count: Those among them that are served by precedence, or not served.
    """

    rows: pl.DataFrame
    unserved: pl.DataFrame
    conflicts: pl.DataFrame
    conflict_count: int
    unsettled_count: int


def reconcile(
    sources: Mapping[str, pl.DataFrame], key: Sequence[str], witness: pl.DataFrame | None = None, length: timedelta = HOUR, is_sound: pl.Expr | None = None
) -> Reconciled:
    """Choose one row per key from named sources.

    A key with one distinct value is served as it is; the others by the first rule of `settle` that leaves one. Presence is not disputed by
    absence: a key that one source alone has is served, also where the witness agrees with its hour only without it (that hour then disagrees,
    which `evidence` and `days_in_doubt` see). The outcome does not depend on the order of sources or rows, and applied to its own outcome it
    changes nothing.

    Args:
        sources: Newest rows per source (`daily`, `api`, `monthly`), each with lineage columns; exact duplicates are harmless.
        key: The key columns; the first is the time.
        witness: Coarser candles stated independently, see `judge`.
        length: Length of a witness candle.
        is_sound: Whether a row keeps the rules that every row must keep; without it all do.
    """
    if unknown := set(sources) - set(PRECEDENCE):
        raise ValueError(f"unknown sources {sorted(unknown)}; known: {PRECEDENCE}")
    by, known = list(key), [name for name in STANDS_IN if name in sources and sources[name].height]
    first = sources[known[0]] if known else next(iter(sources.values())).clear()
    columns, values = first.columns, value_columns(first, key)
    ordered = [sources[name].sort(by) for name in known]
    repeats = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in by).fill_null(False)
    if not known or (not ordered[0].select(repeats.any()).item() and all(frame.select(*by, *values).equals(ordered[0].select(*by, *values)) for frame in ordered[1:])):
        return _assemble(ordered[0] if known else first, first.clear(), _ruled(first.clear()), by, values)

    stacked = pl.concat([frame.with_columns(pl.lit(rank).alias("__rank")) for rank, frame in enumerate(ordered)]).sort(by, maintain_order=True)
    if stacked.select((repeats & (pl.col("__rank") == pl.col("__rank").shift())).any()).item():
        stacked = stacked.sort([*by, "__rank", *values, "source_file", "source_sha256"])
    disputed = stacked.filter(repeats & pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in values)).select(by).unique()
    if not disputed.height:
        return _assemble(stacked.filter(~repeats).select(columns), first.clear(), _ruled(first.clear()), by, values)

    common = stacked.join(disputed, on=by, how="anti", maintain_order="left").filter(~repeats).select(columns)
    contested = stacked.join(disputed, on=by, how="semi").sort([*by, "__rank", *values, "source_file", "source_sha256"])
    variants = contested.group_by([*by, *values], maintain_order=True).agg(
        pl.col("source").unique().sort().alias("sources"), pl.exclude("source").first(), pl.col("source").first()
    )
    ruled = settle(variants.with_row_index("variant"), common, by, witness, length, is_sound)
    unserved = contested.join(ruled.filter(rule=TWO_VALUES).select(by).unique(), on=by, how="semi", maintain_order="left")
    rows = pl.concat([common, ruled.filter("is_served").select(columns)]).sort(by)
    return _assemble(rows, unserved.unique([*by, "__rank", *values], keep="first", maintain_order=True).select(columns), ruled, by, values)


def evidence(rows: pl.DataFrame, sources: Mapping[str, pl.DataFrame], key: Sequence[str], witness: pl.DataFrame | None = None, length: timedelta = HOUR) -> Evidence:
    """How well served rows are proven: the best level that holds for all of them.

    Args:
        rows: Served rows of `reconcile`.
        sources: The sources they were chosen from.
        key: The key columns.
        witness: Coarser candles stated independently, see `judge`.
        length: Length of a witness candle.

    Returns:
        `rows_api` if a REST row equals each; `rows_daily` if each stands in a daily file with the same values; `totals` if a witness owns
        all rows and agrees with them; else `unconfirmed`.
    """
    if not rows.height:
        return "unconfirmed"
    api = sources.get("api")
    if api is not None and api.height >= rows.height and not rows.join(api, on=[*key, *value_columns(rows, key)], how="anti", nulls_equal=True).height:
        return "rows_api"
    if (rows["source"] == "daily").all():  # a row stands there if any daily file states it
        return "rows_daily"
    if witness is not None and judge(rows, witness, length)["agrees"].eq_missing(True).all():
        return "totals"
    return "unconfirmed"


def _ruled(variants: pl.DataFrame) -> pl.DataFrame:
    """No variants, in the form in which `settle` returns some."""
    return variants.with_columns(pl.lit([], pl.List(pl.String)).alias("sources"), pl.lit("").alias("rule"), pl.lit(True).alias("is_served"))


def _assemble(rows: pl.DataFrame, unserved: pl.DataFrame, ruled: pl.DataFrame, by: list[str], values: list[str]) -> Reconciled:
    conflicts = ruled.select(
        *by, *values, pl.col("sources").list.join("+").alias("source"), "source_file", "fetched_at", "rule", "is_served", (~pl.col("rule").is_in(UNSETTLED)).alias("is_settled")
    )
    disputed, unsettled = (frame.select(by).unique().height for frame in (conflicts, conflicts.filter(~pl.col("is_settled"))))
    return Reconciled(rows, unserved.with_columns(pl.lit(TWO_VALUES).alias("rule")), conflicts, disputed, unsettled)
