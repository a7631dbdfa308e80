"""Which expected rows are absent, and why."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.model.cadence import Grid
from lakehouse.model.life import UNKNOWN, Life
from lakehouse.model.market import Market
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.result import Asked, GapRun, ToldClass
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.witness import HOUR

# after its day, before what no source has is held to be absent for good: daily files appear one to two days
# late, some a week
GRACE = timedelta(days=7)
LISTING_BREAK = timedelta(days=7)
"""No halt on record lasted two days; a symbol that comes back after more than a week was taken off."""
_TOLD: dict[str, Any] = {
    "exchange": pl.String,
    "market_type": pl.String,
    "symbol": pl.String,
    "start_time": UTC_TIME,
    "end_time": UTC_TIME,
    "slot_count": pl.Int64,
}
_TOLD |= {"gap_class": pl.String, "asked_at": UTC_TIME, "halted_at": UTC_TIME}
_FOREVER = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def find_gaps(
    times: pl.Series,
    window: TimeRange,
    step: timedelta,
    asked_until: datetime,
    life: Life = UNKNOWN,
    disputed: pl.Series | None = None,
    asked: Sequence[Asked] = (),
    api_times: pl.Series | None = None,
    truncated: pl.DataFrame | None = None,
    confirmed: pl.Series | None = None,
    left_out: pl.Series | None = None,
) -> tuple[GapRun, ...]:
    """Every expected slot that no row covers, as runs of one class.

    A `halt` is proven twice. A REST API was asked for a range that holds the run, it has no row there, and
    the same asking knows a candle on both sides, by a row within the range or by what it names before and
    after it. And a witness answered every hour that the run touches, each of which equals the rows that are
    there: one page that is empty or short proves nothing. Whatever else is absent is `absent`; a run is cut
    where askings cover parts of it. A halt of `LISTING_BREAK` or longer is none: the market was taken off and
    listed again, maybe as another coin under the same symbol, so its slots are `not_listed`.

    Args:
        times: `open_time` of the rows.
        window: The cell's window.
        step: Length of a slot.
        asked_until: Only slots before this instant are expected: nobody was asked about later ones.
        life: Slots before the one that holds the listing, and those from the delisting on, are `not_listed`.
        disputed: Times of keys for which no value could be served; their slots are `conflict`.
        asked: What a REST API was asked for; what it did not answer proves nothing.
        api_times: `open_time` of every row it answered with, served or not.
        truncated: `open_time` and `close_time` of rows that end before their slot does: a halt after such a
            row began with its end.
        confirmed: The hours of which a witness says the same as the rows, see `confirmed_hours`; without them
            no halt is proven.
        left_out: Slots in which no row is expected, see `transform.sparse`.

    Returns:
        Runs in order. Together with the covered slots, and those left out, they make up every slot of the
        window before `asked_until`, each exactly once.
    """
    end = window.clip(asked_until)
    absent = Grid(step).absent(times, TimeRange(window.start, end)) if end > window.start else times.clear()
    if left_out is not None:
        absent = absent.filter(~absent.is_in(left_out.implode()))
    if not absent.len():
        return ()
    api = api_times if api_times is not None else times.clear()
    answered = [asking for asking in asked if asking.is_of_rows]
    classed = absent.to_frame().with_columns(
        pl.when(life.outside(pl.col("slot"), pl.col("slot") + step))
        .then(pl.lit("not_listed"))
        .when(_among(disputed if disputed is not None else times.clear(), step))
        .then(pl.lit("conflict"))
        .when(
            pl.any_horizontal(pl.lit(False), *(is_bracketed(asking, api, step) for asking in answered))
            & ~_among(api, step)
        )
        .then(pl.lit("halt"))
        .otherwise(pl.lit("absent"))
        .alias("gap_class"),
        pl.max_horizontal(
            pl.lit(None, UTC_TIME),
            *(pl.when(_lies_in(asking, step)).then(pl.lit(asking.at, UTC_TIME)) for asking in answered),
        ).alias("asked_at"),
    )
    is_confirmed = (
        pl.col("slot")
        .dt.truncate(HOUR)
        .is_in((confirmed if confirmed is not None else times.clear()).implode())
    )
    joined = (pl.col("slot").diff() == step) & (pl.col("gap_class") == pl.col("gap_class").shift())
    is_proven = is_confirmed.all().over((~joined).fill_null(True).cum_sum())
    classed = classed.with_columns(
        pl.when((pl.col("gap_class") == "halt") & ~is_proven)
        .then(pl.lit("absent"))
        .otherwise("gap_class")
        .alias("gap_class")
    )
    classed = classed.with_columns(pl.when(gap_class="absent").then("asked_at"))
    same = (
        (pl.col("slot").diff() == step)
        & (pl.col("gap_class") == pl.col("gap_class").shift())
        & pl.col("asked_at").eq_missing(pl.col("asked_at").shift())
    )
    runs = (
        classed.group_by((~same).fill_null(True).cum_sum().alias("run"), maintain_order=True)
        .agg(
            pl.col("gap_class").first(),
            pl.col("slot").first().alias("start"),
            pl.len().alias("n"),
            pl.col("asked_at").first(),
        )
        .drop("run")
    )
    stops = _stops(times, truncated, step)
    found = (
        GapRun(
            gap_class, start, start + n * step, n, asked_at, stops.get(start) if gap_class == "halt" else None
        )
        for gap_class, start, n, asked_at in runs.iter_rows()
    )
    beside = [instant for asking in answered for instant in (asking.before, asking.after) if instant]
    known = pl.concat([times, api, pl.Series(beside, dtype=times.dtype)])
    return tuple(
        replace(run, gap_class="not_listed")
        if run.gap_class == "halt" and _is_listing_break(run, known)
        else run
        for run in found
    )


def _is_listing_break(halt: GapRun, known: pl.Series) -> bool:
    """Whether the candles around a proven halt, in this cell or beyond it, are so far apart that the market
    was not listed between them.
    """
    before, after = known.filter(known < halt.start).max(), known.filter(known >= halt.end).min()
    if before is None or after is None:
        return False
    return bool(after - before >= LISTING_BREAK)  # type: ignore[operator]


def _among(times: pl.Series, step: timedelta) -> pl.Expr:
    """Whether one of the instants falls in the slot."""
    return pl.col("slot").is_in(Grid(step).slots_of(times).unique().implode())


def _lies_in(asking: Asked, step: timedelta) -> pl.Expr:
    """Whether the whole slot was asked for."""
    return (pl.col("slot") >= asking.start) & (pl.col("slot") + step <= asking.end)


def is_bracketed(asking: Asked, api: pl.Series, step: timedelta) -> pl.Expr:
    """Whether the slot was asked for, and this asking knows a candle before it and one after it; null where
    it knows none.
    """
    told = api.filter((api >= asking.start) & (api < asking.end))
    before = pl.lit(True) if asking.before is not None else pl.col("slot") > pl.lit(told.min(), UTC_TIME)
    after = (
        pl.lit(True) if asking.after is not None else pl.col("slot") + step <= pl.lit(told.max(), UTC_TIME)
    )
    return _lies_in(asking, step) & before & after


def _stops(times: pl.Series, truncated: pl.DataFrame | None, step: timedelta) -> dict[datetime, datetime]:
    """By the slot after each truncated row that is the last of its own slot: when trading stopped,
    exclusive.
    """
    if truncated is None or not truncated.height:
        return {}
    last = (
        times.to_frame("open_time")
        .group_by(Grid(step).slots_of(times).alias("slot"))
        .agg(pl.col("open_time").max())
    )
    found = truncated.join(last, on="open_time").select(
        pl.col("slot") + step, pl.col("close_time") + timedelta(microseconds=1)
    )
    return dict(found.iter_rows())


def told(
    runs: Iterable[GapRun], now: datetime, published: PeriodKind = "day", grace: timedelta = GRACE
) -> Iterator[tuple[ToldClass, GapRun]]:
    """Gap runs with the class a reader is told: an `absent` run is `pending` until the period of its file is
    older than the grace, and `unproven` from then on.

    Args:
        runs: Runs as cells hold them.
        now: The reader's clock.
        published: The shortest period of which there are files.
        grace: How long after its period a file may still appear.

    Yields:
        Class and run; a run over periods on both sides of the grace comes in two parts.
    """
    settled = Period.of(now - grace, published).window.start
    for run in runs:
        if run.gap_class != "absent":
            yield run.gap_class, run
            continue
        parts: tuple[tuple[ToldClass, GapRun | None], ...] = (
            ("unproven", cut(run, _FOREVER[0], settled)),
            ("pending", cut(run, settled, _FOREVER[1])),
        )
        yield from ((gap_class, part) for gap_class, part in parts if part)


def cut(run: GapRun, start: datetime, end: datetime) -> GapRun | None:
    """The part of a run whose slots open in `[start, end)`; None if none does."""
    step = (run.end - run.start) / run.slot_count
    first, last = max(0, -((run.start - start) // step)), min(run.slot_count, -((run.start - end) // step))
    return (
        replace(run, start=run.start + first * step, end=run.start + last * step, slot_count=last - first)
        if first < last
        else None
    )


def told_frame(
    runs: Iterable[tuple[Market, Iterable[GapRun]]],
    now: datetime,
    span: TimeRange | None = None,
    published: PeriodKind = "day",
) -> pl.DataFrame:
    """Runs of many markets as a reader is told of them.

    Args:
        runs: Markets with the runs of a cell, in order of time.
        now: The reader's clock.
        span: Only the slots that open in it.
        published: As of `told`.

    Returns:
        `exchange`, `market_type`, `symbol`, `start_time`, `end_time`, `slot_count`, `gap_class`, `asked_at`,
        `halted_at`, in order of market and time.
    """
    rows = [
        (
            m.exchange,
            m.market_type,
            m.symbol,
            part.start,
            part.end,
            part.slot_count,
            gap_class,
            part.asked_at,
            part.halted_at,
        )
        for m, of_cell in runs
        for gap_class, run in told(of_cell, now, published)
        if (part := cut(run, span.start, span.end) if span else run)
    ]
    return pl.DataFrame(rows, schema=_TOLD, orient="row").sort(
        "exchange", "market_type", "symbol", "start_time"
    )
