"""Rows that one source states and another one, which was read or asked about them, does not: which of them
never were.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import combinations
from typing import NamedTuple

import polars as pl

from lakehouse.model.timerange import TimeRange
from lakehouse.transform.witness import hold, owners

# per hour: sixteen ways to leave some of them out; beyond that a sum could fit by chance
_MOST_CANDIDATES = 4
_COVERS = ("daily", "api")  # whose silence about a row says something; monthly files are known to lose days
# a build reads its sources one after another; what was fetched longer after a silence is news to it
_STALE = timedelta(days=1)


class Answered(NamedTuple):
    """A range that an API answered, and when."""

    span: TimeRange
    at: datetime


class Mended(NamedTuple):
    """An hour that the witness confirms with other rows than were chosen.

    Attributes:
        hour: Start of the hour.
        source: The source whose rows the hour has from now on; None where rows are left out alone.
        absent: Times of the rows that were chosen and never were.
    """

    hour: datetime
    source: str | None
    absent: tuple[datetime, ...]


def silent(sources: Mapping[str, pl.DataFrame], time: str, asked: Sequence[Answered]) -> dict[str, pl.Expr]:
    """Per source, whether it was read or asked about the time of a row and does not state it.

    A row that was published since, in a file that was replaced, is denied by no older silence.

    Args:
        sources: Rows per source. A daily file speaks of its whole day, a REST API of the ranges it answered.
        time: The key column.
        asked: Ranges that the REST API answered.
    """
    found = {}
    fetched, day = pl.col("fetched_at") - _STALE, pl.col(time).dt.date()
    for name in _COVERS:
        stated = sources.get(name)
        if name == "daily" and stated is not None and stated.height:
            days = stated.group_by(day.alias("day")).agg(pl.col("fetched_at").max())
            covered = fetched <= day.replace_strict(days["day"], days["fetched_at"], default=None)
        elif name == "api" and asked:
            covered = pl.any_horizontal(
                *(
                    (pl.col(time) >= span.start) & (pl.col(time) < span.end) & (fetched <= at)
                    for span, at in asked
                )
            )
        else:
            continue
        found[name] = covered.fill_null(False) & (
            ~pl.col(time).is_in(stated[time].implode()) if stated is not None else True
        )
    return found


def mend(
    served: pl.DataFrame,
    sources: Mapping[str, pl.DataFrame],
    time: str,
    witness: pl.DataFrame,
    wrong: pl.Series,
    length: timedelta,
    asked: Sequence[Answered],
    said_at: datetime | None = None,
) -> list[Mended]:
    """Hours that contradict the witness as they were chosen, and equal it without rows that a source does not
    state.

    Tried per hour: the rows of one source that was read or asked about all of it; then the chosen rows
    without some of the at most four that a source lacks. What leaves out the fewest rows is taken; of several
    that leave out as many, none, unless they are the rows of whole sources.

    Args:
        served: The rows that were chosen.
        sources: Rows per source.
        time: The key column.
        witness: Coarser candles stated independently.
        wrong: The hours that contradict it.
        length: Length of a witness candle.
        asked: Ranges that the REST API answered.
        said_at: When the witness was asked; None for after all else.

    Returns:
        What mends an hour, for every hour that can be mended.
    """
    lacking = silent(sources, time, asked)
    if not lacking or not wrong.len():
        return []

    def in_hours(rows: pl.DataFrame) -> pl.DataFrame:
        owned = rows.with_columns(owners(rows[time], witness["open_time"], length).alias("hour"))
        return owned.filter(pl.col("hour").is_in(wrong.implode()))

    is_known = pl.col("fetched_at") - _STALE <= said_at if said_at is not None else pl.lit(True)
    ours = in_hours(served).with_columns(candidate=pl.any_horizontal(*lacking.values()) & is_known)
    theirs = {name: in_hours(sources[name]) for name in lacking if name in sources}
    ways = list(_ways(ours, theirs, lacking, time, length, asked))
    if not ways:
        return []
    frames = [
        rows.with_columns(choice=pl.lit(number, pl.Int64))
        for number, (_, rows) in enumerate(ways)
        if rows.height
    ]
    fits = {
        number
        for number, (way, rows) in enumerate(ways)
        if not rows.height and way.hour not in set(witness["open_time"])
    }
    if frames:
        held = hold(pl.concat(frames, how="diagonal"), ["hour", "choice"], witness)
        fits |= set(held.filter(pl.col("differs").list.len() == 0)["choice"])
    by_hour: dict[datetime, list[Mended]] = {}
    for number in sorted(fits):
        by_hour.setdefault(ways[number][0].hour, []).append(ways[number][0])
    return [best for found in by_hour.values() if (best := _best(found)) is not None]


def _ways(
    ours: pl.DataFrame,
    theirs: Mapping[str, pl.DataFrame],
    lacking: Mapping[str, pl.Expr],
    time: str,
    length: timedelta,
    asked: Sequence[Answered],
) -> Iterator[tuple[Mended, pl.DataFrame]]:
    """Every way to make an hour out of other rows, with these rows."""
    days = set(theirs["daily"][time].dt.date()) if "daily" in theirs else set()
    for (hour,), rows in ours.filter(pl.col("candidate").any().over("hour")).group_by(
        "hour", maintain_order=True
    ):
        assert isinstance(hour, datetime), "the hour of a row is an instant"
        candidates = rows.filter("candidate")[time].to_list()
        for name, is_lacking in lacking.items():
            speaks = (
                hour.date() in days
                if name == "daily"
                else any(span.start <= hour and hour + length <= span.end for span, _ in asked)
            )
            absent = rows.filter(is_lacking & pl.col("candidate"))[time].to_list()
            if (
                speaks
                and absent
                and len(absent)
                == rows.filter(
                    ~pl.col(time).is_in(theirs[name][time].implode()) if name in theirs else True
                ).height
            ):
                view = (
                    theirs[name].filter(pl.col("hour") == hour)
                    if name in theirs
                    else rows.clear().drop("candidate")
                )
                if not view[time].is_duplicated().any():
                    yield Mended(hour, name, tuple(absent)), view
        if len(candidates) <= _MOST_CANDIDATES:
            for count in range(1, len(candidates) + 1):
                for left_out in combinations(candidates, count):
                    yield (
                        Mended(hour, None, left_out),
                        rows.filter(~pl.col(time).is_in(left_out)).drop("candidate"),
                    )


def _best(found: list[Mended]) -> Mended | None:
    """What leaves out the fewest rows; whole sources before parts of what was chosen, as they are tried
    first.
    """
    fewest = min(len(way.absent) for way in found)
    least = [way for way in found if len(way.absent) == fewest]
    whole = [way for way in least if way.source is not None]
    return whole[0] if whole else least[0] if len(least) == 1 else None
