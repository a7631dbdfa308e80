"""One truth from sources that disagree."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lakehouse.model.result import Evidence
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.absences import Answered, Mended, mend, silent
from lakehouse.transform.disputes import TWO_VALUES, UNSETTLED, WHOLESALE, settle
from lakehouse.transform.history import value_columns
from lakehouse.transform.witness import HOUR, judge, owners

# In whose name a row is served that several sources state: published files outlast answers, and the dailies
# are the finer ones.
STANDS_IN = ("daily", "monthly", "api")
_FILES = ("daily", "monthly")
_FEW = 30  # fewer candles of a day that differ are no sign of another market


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The outcome of `reconcile`.

    Attributes:
        rows: One row per served key, sorted, with the lineage of the source it stands in: daily, else
            monthly, else api.
        unserved: Per source, every variant of the keys for which none could be served; `rule` says why:
            `two_values_in_one_source` or `wholesale`.
        conflicts: Every variant of every disputed key, with `source` (all that state it, joined by "+"),
            `source_file` and `fetched_at` of the one it would stand in, the `rule` that decided, `is_served`,
            `is_settled`: whether a proof decided, not mere precedence, and `is_absent`: the variant is that
            there is no such row; its values are null, and `source` names who was asked and has none.
        conflict_count: Keys with more than one variant among all sources.
        unsettled_count: Those among them that are served by precedence, or not served.
        wholesale: Days on which the API contradicts the archive in most candles, be it by other values or by
            having none.
        judged: The served rows held against the witness, see `judge`; None without a witness.
    """

    rows: pl.DataFrame
    unserved: pl.DataFrame
    conflicts: pl.DataFrame
    conflict_count: int
    unsettled_count: int
    wholesale: tuple[str, ...] = ()
    judged: pl.DataFrame | None = None

    @property
    def conflict_digest(self) -> str:
        """A digest of all conflicts; empty where there is none."""
        said = self.conflicts.write_csv() if self.conflict_count else ""
        return said and hashlib.sha256(said.encode()).hexdigest()[:32]

    def unsettled_days(self, time: str) -> frozenset[str]:
        """Days of conflicts that no proof decided, by the column that places a row."""
        return frozenset(self.conflicts.filter(~pl.col("is_settled"))[time].dt.strftime("%Y-%m-%d"))


def reconcile(
    sources: Mapping[str, pl.DataFrame],
    key: Sequence[str],
    witness: pl.DataFrame | None = None,
    length: timedelta = HOUR,
    is_sound: pl.Expr | None = None,
    answered: Sequence[TimeRange] = (),
    asked: Sequence[Answered] = (),
    said_at: datetime | None = None,
    *,
    precedence: Sequence[str],
) -> Reconciled:
    """Choose one row per key from named sources.

    A key with one distinct value is served as it is; the others by the first rule of `settle` that leaves
    one. Absence disputes presence only by proof: a row that a daily file of its day, or an answer of the API,
    lacks is left out where its hour equals the witness without it and not with it. Where the API contradicts
    the archive in most candles of a day, no rule can tell whose market is whose: the archive stands,
    unsettled. The outcome does not depend on the order of sources or rows, and applied to its own outcome it
    changes nothing.

    Args:
        sources: Newest rows per source (`daily`, `api`, `monthly`), each with lineage columns; exact
            duplicates are harmless.
        key: The key columns; the first is the time.
        witness: Coarser candles stated independently, see `judge`.
        length: Length of a witness candle.
        is_sound: Whether a row keeps the rules that every row must keep; without it all do.
        answered: Ranges that the witness answered.
        asked: Ranges that the API answered.
        said_at: When the witness was asked last; None for after all else.
        precedence: Every source by how far it is believed where nothing is proven, best first.
    """
    if unknown := set(sources) - set(precedence):
        raise ValueError(f"unknown sources {sorted(unknown)}; known: {', '.join(precedence)}")

    def held(rows: pl.DataFrame) -> pl.DataFrame | None:
        return judge(rows, witness, length, answered) if witness is not None else None

    by, known = list(key), [name for name in STANDS_IN if name in sources and sources[name].height]
    first = sources[known[0]] if known else next(iter(sources.values())).clear()
    columns, values = first.columns, value_columns(first, key)
    ordered = {name: sources[name].sort(by) for name in known}
    repeats = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in by).fill_null(False)
    top, *others = ordered.values() or [first]
    if not top.select(repeats.any()).item() and all(
        frame.select(*by, *values).equals(top.select(*by, *values)) for frame in others
    ):
        common, ruled, unserved, wholesale = (
            top,
            _ruled(first.clear()),
            _unruled(first.clear()),
            tuple[str, ...](),
        )
    else:
        wholesale = _wholesale(ordered, by, values, is_sound)
        alien = _alone_on(wholesale, ordered, by)
        if alien.height:
            ordered["api"] = ordered["api"].join(alien.select(by), on=by, how="anti", maintain_order="left")
        stacked = pl.concat(
            [frame.with_columns(pl.lit(rank).alias("__rank")) for rank, frame in enumerate(ordered.values())]
        ).sort(by, maintain_order=True)
        if stacked.select((repeats & (pl.col("__rank") == pl.col("__rank").shift())).any()).item():
            stacked = stacked.sort([*by, "__rank", *values, "source_file", "source_sha256"])
        disputed = (
            stacked.filter(
                repeats & pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in values)
            )
            .select(by)
            .unique()
        )
        common = (
            stacked.join(disputed, on=by, how="anti", maintain_order="left").filter(~repeats).select(columns)
            if disputed.height
            else stacked.filter(~repeats).select(columns)
        )
        contested = stacked.join(disputed, on=by, how="semi").sort(
            [*by, "__rank", *values, "source_file", "source_sha256"]
        )
        variants = _variants(contested, by, values)
        ruled = (
            settle(variants, common, by, witness, length, precedence, is_sound, wholesale)
            if disputed.height
            else _ruled(first.clear())
        )
        left = contested.join(
            ruled.filter(rule=TWO_VALUES).select(by).unique(), on=by, how="semi", maintain_order="left"
        )
        unserved = _unruled(
            left.unique([*by, "__rank", *values], keep="first", maintain_order=True).select(columns),
            TWO_VALUES,
        )
        unserved = pl.concat([unserved, _unruled(alien.select(columns), WHOLESALE)])
    rows = pl.concat([common, ruled.filter("is_served").select(columns)]).sort(by) if ruled.height else common
    judged = held(rows)
    if judged is not None and witness is not None and len(by) == 1:
        wrong = judged.filter(~pl.col("agrees"))["open_time"]
        mended = mend(rows, ordered, by[0], witness, wrong, length, asked, said_at) if wrong.len() else []
        gone = _wholesale_absences(rows, mended, by[0])
        wholesale = tuple(sorted({*wholesale, *gone}))
        if mended := [hour for hour in mended if f"{hour.hour:%Y-%m-%d}" not in wholesale]:
            ruled = _with_absences(ruled, ordered, mended, by, values, length, asked)
            decided = ruled.select(by).unique()
            rows = pl.concat(
                [
                    rows.join(decided, on=by, how="anti"),
                    ruled.filter("is_served", ~pl.col("is_absent")).select(columns),
                ]
            ).sort(by)
            unserved = unserved.join(
                ruled.filter("is_served").select(by), on=by, how="anti", maintain_order="left"
            )
            judged = held(rows)
    return _assemble(rows, unserved, ruled, by, values, wholesale, judged)


def evidence(
    rows: pl.DataFrame,
    sources: Mapping[str, pl.DataFrame],
    key: Sequence[str],
    judged: pl.DataFrame | None = None,
    is_contradicted: bool = False,
) -> Evidence:
    """How well served rows are proven: the best level that holds for all of them. A level names another
    family than the rows stand in.

    Args:
        rows: Served rows of `reconcile`.
        sources: The sources they were chosen from.
        key: The key columns.
        judged: The rows held against a witness, see `judge`; None without one.
        is_contradicted: Whether something contradicts them.

    Returns:
        `contradicted` if something does, whatever else holds; `rows_api` if each stands in an archive file
        and a REST row equals it; `rows_daily` if each stands in a daily file with the same values; `totals`
        if a witness owns all rows and agrees with them; else `unconfirmed`.
    """
    if is_contradicted:
        return "contradicted"
    if not rows.height:
        return "unconfirmed"
    api = sources.get("api")
    in_files = rows["source"].is_in(_FILES).all()  # a row stands in a file if any states it
    if (
        in_files
        and api is not None
        and api.height >= rows.height
        and not rows.join(api, on=[*key, *value_columns(rows, key)], how="anti", nulls_equal=True).height
    ):
        return "rows_api"
    if (rows["source"] == "daily").all():
        return "rows_daily"
    if judged is not None and judged["agrees"].eq_missing(True).all():
        return "totals"
    return "unconfirmed"


def _variants(contested: pl.DataFrame, by: list[str], values: list[str]) -> pl.DataFrame:
    """A row per key and distinct value, with all sources that state it and the lineage of the first."""
    grouped = contested.group_by([*by, *values], maintain_order=True)
    found = grouped.agg(
        pl.col("source").unique().sort().alias("sources"),
        pl.exclude("source").first(),
        pl.col("source").first(),
    )
    return found.drop("__rank", strict=False).with_row_index("variant")


def _wholesale(
    ordered: Mapping[str, pl.DataFrame], by: list[str], values: list[str], is_sound: pl.Expr | None
) -> tuple[str, ...]:
    """Days on which the API differs from every file in more than half of the candles that both families
    state.

    Candles of the archive that break a rule are not counted: these are wrong by themselves.
    """
    files = [ordered[name].select(*by, *values) for name in _FILES if name in ordered]
    if "api" not in ordered or not files:
        return ()
    archive = pl.concat(files)
    archive = archive.filter(is_sound.all().over(by)) if is_sound is not None else archive
    both = ordered["api"].select(*by, *values).join(archive.select(by).unique(), on=by, how="semi")
    differing = both.join(archive, on=[*by, *values], how="anti", nulls_equal=True).select(by).unique()
    if differing.height < _FEW:
        return ()
    day = pl.col(by[0]).dt.strftime("%Y-%m-%d").alias("day")
    stated = both.select(by).unique().group_by(day).len("stated")
    counted = differing.group_by(day).len("differing").join(stated, on="day")
    return tuple(
        sorted(
            counted.filter((pl.col("differing") >= _FEW) & (2 * pl.col("differing") > pl.col("stated")))[
                "day"
            ]
        )
    )


def _wholesale_absences(rows: pl.DataFrame, mended: Sequence[Mended], time: str) -> list[str]:
    """Days of which the API, by its answers and its hours, denies more than half of the rows: one family
    alone says so.
    """
    denied = Counter(
        f"{instant:%Y-%m-%d}" for hour in mended if hour.source == "api" for instant in hour.absent
    )
    served = dict(rows[time].dt.strftime("%Y-%m-%d").value_counts().iter_rows()) if denied else {}
    return [day for day, count in denied.items() if count >= _FEW and 2 * count > served[day]]


def _alone_on(days: Sequence[str], ordered: Mapping[str, pl.DataFrame], by: list[str]) -> pl.DataFrame:
    """Rows of the API on some days that no file states."""
    first = next(iter(ordered.values()))
    if not days:
        return first.clear()
    stated = pl.concat([ordered[name].select(by) for name in _FILES if name in ordered])
    return (
        ordered["api"]
        .filter(pl.col(by[0]).dt.strftime("%Y-%m-%d").is_in(days))
        .join(stated, on=by, how="anti", maintain_order="left")
    )


def _with_absences(
    ruled: pl.DataFrame,
    sources: Mapping[str, pl.DataFrame],
    mended: Sequence[Mended],
    by: list[str],
    values: list[str],
    length: timedelta,
    asked: Sequence[Answered],
) -> pl.DataFrame:
    """Disputes with those that absence decided: the keys left out, and in their hours the values of the
    source that fits.
    """
    time = by[0]
    absent = pl.Series([instant for hour in mended for instant in hour.absent], dtype=ruled.schema[time])
    stacked = pl.concat([frame.filter(pl.col(time).is_in(absent.implode())) for frame in sources.values()])
    alone = stacked.join(ruled.select(by).unique(), on=by, how="anti").sort([*by, *values, "source_file"])
    fresh = _ruled(_variants(alone, by, values)).with_columns(rule=pl.lit("witness"))
    told = pl.concat([ruled, fresh.select(ruled.columns)])
    by_hour = {hour.hour: hour.source for hour in mended}
    owned = owners(told[time], pl.Series(list(by_hour), dtype=ruled.schema[time]), length)
    told = told.with_columns(
        chosen=owned.replace_strict(
            list(by_hour), list(by_hour.values()), default=None, return_dtype=pl.String
        )
    )
    is_absent, is_chosen = (
        pl.col(time).is_in(absent.implode()),
        pl.col("sources").list.contains(pl.col("chosen")).fill_null(False),
    )
    # a source may lack a key of which another one has two values: that is none the wiser
    is_decided = is_absent | is_chosen.any().over(by)
    told = told.with_columns(
        rule=pl.when(is_decided).then(pl.lit("witness")).otherwise("rule"),
        is_served=pl.when(is_absent)
        .then(False)
        .when(is_decided & pl.col("chosen").is_not_null())
        .then(is_chosen)
        .otherwise("is_served"),
    ).drop("chosen")
    lacking = silent(sources, time, asked)
    nobody = (
        pl.concat(
            [
                alone.select(time, "fetched_at"),
                ruled.filter(pl.col(time).is_in(absent.implode())).select(time, "fetched_at"),
            ]
        )
        .group_by(time)
        .agg(pl.col("fetched_at").min())
        .sort(time)
        .with_columns(
            pl.concat_list(pl.when(says).then(pl.lit(name)) for name, says in lacking.items())
            .list.drop_nulls()
            .list.sort()
            .alias("sources"),
            *(pl.lit(None, ruled.schema[name]).alias(name) for name in values),
            source_file=pl.lit(""),
            fetched_at=_latest(sources, lacking),
            rule=pl.lit("witness"),
            is_served=pl.lit(True),
            is_absent=pl.lit(True),
        )
    )
    return pl.concat([told, nobody], how="diagonal").sort([*by, "is_absent"], maintain_order=True)


def _latest(sources: Mapping[str, pl.DataFrame], lacking: Mapping[str, pl.Expr]) -> pl.Expr:
    """When the newest of what lacks the rows was fetched."""
    instants = [
        at for name in lacking if name in sources and (at := sources[name]["fetched_at"].max()) is not None
    ]
    every = instants or [at for frame in sources.values() if (at := frame["fetched_at"].max()) is not None]
    return pl.lit(max(every), next(iter(sources.values())).schema["fetched_at"])


def _ruled(variants: pl.DataFrame) -> pl.DataFrame:
    """Variants in the form in which `settle` returns them, undecided."""
    sources = variants["sources"] if "sources" in variants.columns else pl.lit([], pl.List(pl.String))
    return variants.with_columns(
        pl.lit(None, pl.UInt32).alias("variant"),
        sources.alias("sources"),
        pl.lit("").alias("rule"),
        pl.lit(True).alias("is_served"),
        pl.lit(False).alias("is_absent"),
    )


def _unruled(rows: pl.DataFrame, rule: str = "") -> pl.DataFrame:
    return rows.with_columns(pl.lit(rule).alias("rule"))


def _assemble(
    rows: pl.DataFrame,
    unserved: pl.DataFrame,
    ruled: pl.DataFrame,
    by: list[str],
    values: list[str],
    wholesale: tuple[str, ...],
    judged: pl.DataFrame | None,
) -> Reconciled:
    conflicts = ruled.select(
        *by,
        *values,
        pl.col("sources").list.join("+").alias("source"),
        "source_file",
        "fetched_at",
        "rule",
        "is_served",
        (~pl.col("rule").is_in(UNSETTLED)).alias("is_settled"),
        "is_absent",
    )
    disputed, unsettled = (
        frame.select(by).unique().height for frame in (conflicts, conflicts.filter(~pl.col("is_settled")))
    )
    return Reconciled(rows, unserved, conflicts, disputed, unsettled, wholesale, judged)
