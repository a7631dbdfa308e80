"""Whether what was wrong with a source is mended in the rows that are served, and by whom."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl

from lakehouse.model.life import Life
from lakehouse.model.result import GapRun, Problem
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange, day_range
from lakehouse.transform.history import value_columns
from lakehouse.transform.witness import owners

# problems that no row that is served mends, or needs to
_NOT_OF_ROWS = ("duplicates", "unreachable", "refused", "unusable", "foreign", "stale")
_PROOFS = {"halt": "a proven halt", "not_listed": "a proven break of the listing"}
_CONFIRMED = "REST API: the same rows"


def explained_slots(gaps: Sequence[GapRun], step: timedelta, life: Life) -> pl.Series:
    """Slots of a market's life that are proven to have no candle."""
    runs = [
        TimeRange(
            max(run.start, life.listed - step + timedelta(microseconds=1)) if life.listed else run.start,
            min(run.end, life.delisted or run.end),
        )
        for run in gaps
        if _is_proven(run, life)
    ]
    slots = [
        pl.datetime_range(
            run.start.replace(second=0, microsecond=0),
            run.end,
            step,
            closed="left",
            time_unit="us",
            eager=True,
        ).cast(UTC_TIME)
        for run in runs
    ]
    return pl.concat([pl.Series([], dtype=UTC_TIME), *slots])


def _is_proven(run: GapRun, life: Life) -> bool:
    """Whether a run is proven, and reaches into the market's life."""
    return run.gap_class in _PROOFS and life.overlaps(TimeRange(run.start, run.end))


def confirmed_times(
    served: pl.DataFrame, sources: Mapping[str, pl.DataFrame], key: Sequence[str], judged: pl.DataFrame | None
) -> pl.Series:
    """Times of served rows that archive and API state alike, or whose hour equals the witness: odd as they
    look, they are right.
    """
    api = sources.get("api")
    found = [served.clear()[key[0]]]
    if judged is not None:
        agreeing = judged.filter(pl.col("agrees").fill_null(False))["open_time"]
        found.append(
            served.filter(owners(served[key[0]], judged["open_time"]).is_in(agreeing.implode()))[key[0]]
        )
    if api is not None:
        both = served.filter(pl.col("source") != "api").join(
            api, on=[*key, *value_columns(served, key)], how="semi", nulls_equal=True
        )
        found.append(both[key[0]])
    return pl.concat(found).unique()


@dataclass(frozen=True, slots=True)
class Served:
    """What is served of a cell, and what is known against it.

    Attributes:
        rows: The served rows with their lineage.
        sources: The rows they were chosen from, per source.
        key: The key columns.
        gaps: Every expected slot without a row.
        life: The market's life.
        doubts: Days on which the rows do not pass the judgement that puts a day in doubt.
        unsettled: Days with a dispute that no proof decided.
        is_witnessed: Whether the rows were held against a witness.
    """

    rows: pl.DataFrame
    sources: Mapping[str, pl.DataFrame]
    key: Sequence[str]
    gaps: Sequence[GapRun]
    life: Life
    doubts: Collection[str]
    unsettled: Collection[str]
    is_witnessed: bool = True


def judge_problems(problems: Sequence[Problem], served: Served) -> tuple[Problem, ...]:
    """Problems as what is served leaves them.

    A problem is healed only if the rows that are served on its day (of one that is about no day: on all days)
    pass the judgement that put it in doubt, and no row is absent without proof. The healer is the source of
    the rows that replaced the bad ones, or the proof of a halt, or the source that states the same rows once
    more.

    Args:
        problems: Problems as the bronze cells tell them.
        served: What is served.
    """
    absent = {
        day
        for run in served.gaps
        if run.gap_class in ("absent", "conflict")
        for day in TimeRange(run.start, run.end).days()
    }
    bad = {*absent, *served.doubts, *served.unsettled}

    def healed_by(problem: Problem) -> str:
        if problem.day in bad if problem.day else bad:
            return ""
        if problem.kind == "witness" and not served.is_witnessed:
            return ""  # the one who found it has not spoken since
        by = _replaced_by(problem, served)
        if not problem.day:
            return problem.healed_by or by or _confirmed_by(problem, served)
        return (
            by
            or (problem.healed_by if _states(problem.healed_by, problem.day, served) else "")
            or _confirmed_by(problem, served)
        )

    return tuple(
        problem if problem.kind in _NOT_OF_ROWS else replace(problem, healed_by=healed_by(problem))
        for problem in problems
    )


def _of_day(rows: pl.DataFrame, time: str, day: str) -> pl.DataFrame:
    return (
        rows.filter(pl.col(time).is_between(day_range(day).start, day_range(day).end, closed="left"))
        if day
        else rows
    )


def _replaced_by(problem: Problem, served: Served) -> str:
    """Who states the rows of the day that the file in question does not, and what proves that the others are
    none.
    """
    replaced = _unstated(served, problem.day, _of_file(served, problem.subject.split(" on ")[0]))
    files = sorted(replaced.filter(pl.col("source") != "api")["source_file"].unique())
    by = files if len(files) == 1 else [f"{len(files)} daily files"] if files else []
    by_rest = ["rows"] if (replaced["source"] == "api").any() else []
    if problem.day:
        day = day_range(problem.day)
        by_rest += dict.fromkeys(
            _PROOFS[run.gap_class]
            for run in served.gaps
            if _is_proven(run, served.life) and run.start < day.end and run.end > day.start
        )
    if by_rest:
        by.append("REST API" if by_rest == ["rows"] else f"REST API: {' and '.join(by_rest)}")
    return " and ".join(by)


def _states(file: str, day: str, served: Served) -> bool:
    """Whether a file states every row of a day as it is served."""
    return _states_all(served, day, _of_file(served, file))


def _confirmed_by(problem: Problem, served: Served) -> str:
    """The API, where it states every row of the day alike; else nobody: rows that pass by themselves are not
    healed.
    """
    api = served.sources.get("api")
    return _CONFIRMED if api is not None and _states_all(served, problem.day, api) else ""


def _of_file(served: Served, file: str) -> pl.DataFrame:
    return pl.concat([frame.filter(pl.col("source_file") == file) for frame in served.sources.values()])


def _states_all(served: Served, day: str, stated: pl.DataFrame) -> bool:
    """Whether there are rows on a day, all of them among those stated."""
    return _of_day(served.rows, served.key[0], day).height > 0 and not _unstated(served, day, stated).height


def _unstated(served: Served, day: str, stated: pl.DataFrame) -> pl.DataFrame:
    """The rows that are served on a day and are not among those stated."""
    same = [*served.key, *value_columns(served.rows, served.key)]
    return _of_day(served.rows, served.key[0], day).join(stated, on=same, how="anti", nulls_equal=True)
