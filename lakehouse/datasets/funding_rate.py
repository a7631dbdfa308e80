"""Funding rates of perpetuals: bronze as published, silver as one truth.

Longer than other modules: a dataset is one file, so that its tables and the rules that judge them are read
together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import ClassVar, NamedTuple

import polars as pl

from lakehouse.datasets.dataset import (
    REFINED,
    ApiTable,
    ArchiveTable,
    BronzeCell,
    BronzeCells,
    Dataset,
    input_versions,
)
from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cadence import Spaced
from lakehouse.model.cell import Cell
from lakehouse.model.check import Check
from lakehouse.model.input import Input
from lakehouse.model.life import UNKNOWN, Life
from lakehouse.model.market import MarketType
from lakehouse.model.result import (
    Asked,
    CellFacts,
    CellResult,
    Contradiction,
    Evidence,
    GapClass,
    GapRun,
    Problem,
)
from lakehouse.model.table import UTC_TIME, Column, Rule, Table
from lakehouse.model.timerange import TimeRange, day_range
from lakehouse.model.words import count_of
from lakehouse.transform.asking import merged
from lakehouse.transform.disputes import TWO_VALUES, UNSETTLED
from lakehouse.transform.doubt import Doubt
from lakehouse.transform.gaps import LISTING_BREAK
from lakehouse.transform.healing import Served, judge_problems
from lakehouse.transform.history import newest
from lakehouse.transform.reconcile import Reconciled, reconcile

_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_PERPETUAL: tuple[MarketType, ...] = ("linear", "inverse")
# Who is believed where nothing is proven: a published file has a CHECKSUM, and outlasts answers.
PRECEDENCE = ("monthly", "api")
# what sources state beside the rate: never disputed, for each source states other things of it
_BESIDE = ("published_time", "interval_hours", "mark_price")


class PublishedFundingRate(Table):
    """The value columns of funding rates as exchanges publish them.

    A row is of the minute nearest to the instant that was published. The archive states the interval, REST
    the mark price.
    """

    time = "funding_time"
    market_types = _PERPETUAL
    most_per_minute = 16  # both sources, and what they restate

    funding_time = Column(UTC_TIME, "Minute of the settlement", "UTC")
    published_time = Column(
        UTC_TIME, "The settlement's instant as published, late by moments", "UTC", nullable=True
    )
    rate = Column(pl.Float64, "Share of the position's value that longs pay to shorts", nullable=True)
    interval_hours = Column(
        pl.Int32, "Hours between settlements, where the row states them", "h", nullable=True
    )
    mark_price = Column(
        pl.Float64, "Mark price that the payment was reckoned with, where published", "quote", nullable=True
    )


class FundingRateArchive(ArchiveTable, PublishedFundingRate):
    """Funding rates as the archive's monthly files publish them, every value ever seen."""

    name = "bronze/funding_rate_archive"
    # One file may state a settlement twice and differ in any value, so every value is part of the key.
    key = (
        *("funding_time", "source", "fetched_at", "source_sha256"),
        *("published_time", "rate", "interval_hours"),
    )


class FundingRateApi(ApiTable, PublishedFundingRate):
    """Funding rates by REST, every value ever seen: of days that the archive leaves in doubt, and of what it
    has not published yet.
    """

    name = "bronze/funding_rate_api"
    key = ("funding_time", "source", "fetched_at", "source_sha256")
    inputs = (Input(FundingRateArchive, required=False),)


class FundingRate(Table):
    """Funding rates: one row per settlement of a perpetual.

    Intervals differ between markets and change within one; `interval_source` says who states a row's. A
    settlement that no source has is absent here and stands in `silver/gap`: by the market's own intervals,
    and where the interval changes across an absence, in steps of the longer one. A longer interval that
    begins with the last settlement of a month shows in the next month alone: what the shorter one expects is
    told as absent, and that it may be none.

    Evidence: `rows_both` (each row stands in the archive and REST states the same rate), `archive` (each
    stands in the archive), `api` (some stand in REST alone), `contradicted` (a source denies a row, or states
    another rate, and no proof decides; or the archive's rows deny the interval that they state). REST denies
    a row by an answer that names settlements on both sides of it; one without rows denies nothing, and is
    asked for again.

    A break of the listing, a week or more between two settlements, is `not_listed` where REST names both and
    neither REST nor the archive has any between.
    """

    name = "silver/funding_rate"
    key = ("funding_time",)
    time = "funding_time"
    market_types = _PERPETUAL
    most_per_minute = 1
    cadence: ClassVar[Spaced] = Spaced(tuple(hours * _HOUR for hours in (1, 2, 4, 8)))
    published = "month"
    checks = (*REFINED, Check("intervals", {"column": "interval_hours"}))
    inputs = (Input(FundingRateArchive, role="archive"), Input(FundingRateApi, role="api"))

    funding_time = Column(UTC_TIME, "Minute of the settlement", "UTC")
    rate = Column(
        pl.Float64,
        "Share of the position's value that longs pay to shorts; shorts pay where it is negative",
        at_least=-1,
    )
    interval_hours = Column(
        pl.Int32,
        "Hours between this settlement and the one before; null where nobody states them and no neighbour "
        "tells",
        "h",
        nullable=True,
        above=0,
    )
    interval_source = Column(
        pl.String,
        "Who says so: stated (by the archive's row), before (the distance to the settlement before), after "
        "(to the one after, where the one before is absent or was not asked for) or unknown",
    )
    mark_price = Column(
        pl.Float64,
        "Mark price that the payment was reckoned with; null where it was not published",
        "quote",
        nullable=True,
        above=0,
    )
    published_time = Column(UTC_TIME, "The settlement's instant as published, late by moments", "UTC")
    source = Column(pl.String, "archive or api: the kind of source the row stands in")

    row_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("rate_at_most_1", pl.col("rate") <= 1, "rate is at most 1"),
    )


_IS_SOUND = pl.col("rate").is_between(-1, 1).fill_null(False)


def refine(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> CellResult:
    """Make one cell of `silver/funding_rate`.

    Args:
        bronze: The bronze cells of the same window and market, at least one.
        cell: The cell.
        market: Facts of the market.

    Returns:
        The served rows; rejected rows with their rule; gaps, conflicts, contradictions and evidence.
    """
    stated, settled = _stated(bronze), _settled(bronze)
    is_over = pl.col("funding_time") > market.delisted if market.delisted else pl.lit(False)
    asked = tuple(asking for part in bronze.values() for asking in part.facts.asked)
    known = _known(stated, asked, cell.window)
    found = _to_silver(settled.rows, stated, known)
    good, broken = FundingRate.split(found.filter(~is_over))
    late = found.filter(is_over)
    served = settled.rows.join(good, on="funding_time", how="semi", maintain_order="left")
    ends = [part.facts.asked_until for part in bronze.values() if part.facts.asked_until]
    asked_until = cell.window.clip(
        max([*ends, *(asking.end for asking in asked if asking.is_answer)], default=cell.window.start)
    )
    disputed = settled.unserved.filter(rule=TWO_VALUES)["funding_time"]
    unserved = pl.concat([disputed, broken["funding_time"]]).unique().sort()
    breaks = _breaks(bronze, stated, asked, cell.window)
    gaps, changes = find_gaps(
        good["funding_time"],
        cell.window,
        asked_until,
        market.life,
        disputed,
        unserved,
        asked,
        _undisturbed(stated, cell.window),
        breaks,
    )
    silence = _silence(served, stated, asked)
    contradictions = tuple(_contradictions(settled, served, stated, silence.denied, cell.window))
    problems = tuple(problem for part in bronze.values() for problem in part.facts.problems)
    if problems:
        doubts = [
            day
            for day in _days_in_doubt(served, cell, market.life, breaks)
            if day_range(day).end <= asked_until
        ]
        problems = judge_problems(
            problems,
            Served(
                served,
                _sources(bronze),
                FundingRate.key,
                gaps,
                market.life,
                doubts,
                settled.unsettled_days(FundingRate.time),
            ),
        )
    facts = CellFacts(
        gaps=gaps,
        conflict_count=settled.conflict_count,
        evidence=_evidence(served, _sources(bronze), bool(contradictions)),
        asked_until=asked_until,
        problems=(*problems, *changes, *silence.problems()),
        unsettled_count=settled.unsettled_count,
        conflict_digest=settled.conflict_digest,
        contradictions=contradictions,
    )
    left_out = _to_silver(settled.unserved.drop("rule"), stated, known).with_columns(
        pl.Series("rule", settled.unserved["rule"], pl.String)
    )
    rejected = pl.concat([broken, late.with_columns(rule=pl.lit("after_delisting")), left_out])
    return CellResult(good, input_versions(FundingRate, bronze, cell, market), facts, rejected)


# --- what sources state ---------------------------------------------------------------------------


def _stated(bronze: BronzeCells) -> pl.DataFrame:
    """The newest rows of both sources, with all that they state."""
    parts = [
        newest(bronze[name].rows, FundingRate.key).select(FundingRateArchive.names())
        for name in (FundingRateArchive.name, FundingRateApi.name)
        if name in bronze
    ]
    return pl.concat([FundingRateArchive.empty(), *parts]).sort(
        "funding_time", "source", "rate", "published_time", "interval_hours"
    )


def _sources(bronze: BronzeCells) -> dict[str, pl.DataFrame]:
    """The newest rates of every source: what sources can disagree about."""
    rates = _stated(bronze).drop(_BESIDE)
    found = {str(name): frame for (name,), frame in rates.partition_by("source", as_dict=True).items()}
    return found or {"monthly": rates}


def _settled(bronze: BronzeCells) -> Reconciled:
    return reconcile(_sources(bronze), FundingRate.key, is_sound=_IS_SOUND, precedence=PRECEDENCE)


def _with_beside(rows: pl.DataFrame, stated: pl.DataFrame) -> pl.DataFrame:
    """Rates with what their own source states beside them."""
    own = ["funding_time", "rate", "source_file", "fetched_at"]
    beside = stated.unique(own, keep="first", maintain_order=True).select(*own, *_BESIDE)
    return rows.join(beside, on=own, how="left", nulls_equal=True, maintain_order="left")


def _known(stated: pl.DataFrame, asked: Sequence[Asked], window: TimeRange) -> pl.DataFrame:
    """When settlements were (`funding_time`), by whomever, and when one is absent (`is_absent`), in order; of
    the month before its last one too, where REST was asked what came before a range.
    """
    before = [asking.before for asking in asked if asking.is_of_rows and asking.before]
    times = pl.concat([stated["funding_time"], pl.Series("funding_time", before, UTC_TIME)]).unique().sort()
    absent = _lacking(times, window, _undisturbed(stated, window))
    slots = pl.DataFrame({"funding_time": absent}, {"funding_time": UTC_TIME}).with_columns(is_absent=True)
    return pl.concat([times.to_frame().with_columns(is_absent=False), slots]).sort("funding_time")


def _to_silver(rows: pl.DataFrame, stated: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rates as rows of silver. A mark price is REST's, of the same settlement at the same rate."""
    prices = (
        stated.filter(pl.col("source") == "api", pl.col("mark_price").is_not_null())
        .unique(["funding_time", "rate"], keep="first", maintain_order=True)
        .select("funding_time", "rate", price="mark_price")
    )
    told = _with_beside(rows, stated).join(
        prices, on=["funding_time", "rate"], how="left", maintain_order="left"
    )
    return (
        _with_intervals(told, known)
        .with_columns(
            mark_price=pl.coalesce("mark_price", "price"),
            source=pl.when(pl.col("source") == "api").then(pl.lit("api")).otherwise(pl.lit("archive")),
        )
        .select(FundingRate.names())
    )


def _with_intervals(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows with their interval: as stated, else the distance to the settlement before, else to the one after.
    A distance that no interval has lacks settlements, and tells none; nor does one to an absent settlement,
    of which nobody knows when it was.

    Args:
        rows: Rows, with `interval_hours` where it is stated.
        known: Settlements, as `_known` has them.
    """
    is_sure = ~(pl.col("is_absent") | pl.col("is_absent").shift(1))
    distances = (
        known.with_columns(before=pl.when(is_sure).then(pl.col("funding_time").diff()))
        .with_columns(after=pl.col("before").shift(-1))
        .filter(~pl.col("is_absent"))
    )
    steps = pl.Series(FundingRate.cadence.steps, dtype=pl.Duration("us"))
    told = rows.join(distances, on="funding_time", how="left", maintain_order="left")
    hours = {
        name: pl.when(pl.col(name).is_in(steps.implode())).then(pl.col(name).dt.total_hours().cast(pl.Int32))
        for name in ("before", "after")
    }
    return told.with_columns(
        interval_hours=pl.coalesce("interval_hours", hours["before"], hours["after"]),
        interval_source=pl.when(pl.col("interval_hours").is_not_null())
        .then(pl.lit("stated"))
        .when(hours["before"].is_not_null())
        .then(pl.lit("before"))
        .when(hours["after"].is_not_null())
        .then(pl.lit("after"))
        .otherwise(pl.lit("unknown")),
    )


# --- what is absent -------------------------------------------------------------------------------


def find_gaps(
    times: pl.Series,
    window: TimeRange,
    asked_until: datetime,
    life: Life = UNKNOWN,
    disputed: pl.Series | None = None,
    unserved: pl.Series | None = None,
    asked: Sequence[Asked] = (),
    undisturbed: Sequence[TimeRange] = (),
    breaks: Sequence[TimeRange] = (),
) -> tuple[tuple[GapRun, ...], tuple[Problem, ...]]:
    """The settlements that are absent, by the market's own intervals.

    Nothing is proven of an absence, for exchanges settle through halts: but that of a listing, by a market's
    life or a proven break.

    Args:
        times: When the served rows were settled.
        window: The cell's window.
        asked_until: Only settlements before this instant are expected: nobody was asked about later ones.
        life: Settlements outside of it are `not_listed`.
        disputed: Settlements with two values in one source: `conflict`.
        unserved: Settlements that are stated and not served, the disputed ones included.
        asked: What a REST API was asked for.
        undisturbed: Intervals that the archive states from a settlement to the next: within, none was due.
        breaks: Stretches in which the market was not listed, see `_breaks`.

    Returns:
        Runs of settlements of one class and distance, in order; and, of those across which the interval
        changes, that they are counted in steps of the longer one.
    """
    end = window.clip(asked_until)
    if end <= window.start:
        return (), ()
    none = times.clear()
    held = none if unserved is None else unserved
    stated = pl.concat([times, held]).unique().sort()
    lacking = _lacking(stated, TimeRange(window.start, end), undisturbed)
    slots = sorted({*lacking, *held.filter(held < end).to_list()})
    place: list[datetime] = sorted({*slots, *stated.to_list()})
    following = dict(pairwise(place))
    before = {later: earlier for earlier, later in pairwise(place)}
    conflicting = set(none if disputed is None else disputed)

    def step(slot: datetime) -> timedelta:
        if slot in following:
            return following[slot] - slot
        return slot - before[slot] if slot in before else max(FundingRate.cadence.steps)

    def told(slot: datetime) -> tuple[GapClass, timedelta, datetime | None]:
        # at the very instant of the listing nobody holds a position yet
        if (life.listed and slot <= life.listed) or (life.delisted and slot >= life.delisted):
            return "not_listed", step(slot), None
        if slot in conflicting:
            return "conflict", step(slot), None
        at = max((one.at for one in asked if one.is_of_rows and one.start <= slot < one.end), default=None)
        is_in_break = any(each.start < slot < each.end for each in breaks)
        return "not_listed" if is_in_break else "absent", step(slot), at

    runs: list[GapRun] = []
    absent = set[datetime]()
    for slot in slots:
        gap_class, length, at = told(slot)
        if gap_class == "absent":
            absent.add(slot)
        last = runs[-1] if runs else None
        goes_on = last and (last.end, last.gap_class, last.asked_at) == (slot, gap_class, at)
        if last and goes_on and (last.end - last.start) / last.slot_count == length:
            runs[-1] = GapRun(gap_class, last.start, slot + length, last.slot_count + 1, at)
        else:
            runs.append(GapRun(gap_class, slot, slot + length, 1, at))
    return tuple(runs), tuple(_changes([slot for slot in lacking if slot in absent], stated, window))


def _breaks(
    bronze: BronzeCells, stated: pl.DataFrame, asked: Sequence[Asked], window: TimeRange
) -> list[TimeRange]:
    """Stretches between two settlements in which the market was not listed: it was taken off and listed
    again, maybe as another coin under the same symbol.

    Proven twice. The archive has answered for all of the stretch, by a file that begins or ends beside it or
    by having none, and has no settlement in it. And REST was asked for all of it at once, names one on either
    side, a week or more apart, and none between: a perpetual settles through halts.

    Args:
        bronze: The bronze cells.
        stated: All that is stated.
        asked: What a REST API was asked for.
        window: The cell's window.

    Returns:
        Stretches without their ends, at each of which there is a settlement, in this cell or beyond it.
    """
    archive, known = bronze.get(FundingRateArchive.name), stated["funding_time"]
    answered = archive.facts.asked_until if archive else None
    by_rest = stated.filter(pl.col("source") == "api")["funding_time"]
    found = []
    for asking in (asking for asking in asked if asking.is_of_rows and answered is not None):
        own = by_rest.filter(by_rest.is_between(asking.start, asking.end, closed="left")).to_list()
        named = sorted({*own, *(instant for instant in (asking.before, asking.after) if instant)})
        for earlier, later in pairwise(named):
            is_silent = not known.is_between(earlier, later, closed="none").any()
            is_answered = answered is not None and min(later, window.end) <= answered
            if later - earlier >= LISTING_BREAK and is_silent and is_answered:
                found.append(TimeRange(max(earlier, asking.start - _MINUTE), min(later, asking.end)))
    return found


def _lacking(stated: pl.Series, window: TimeRange, undisturbed: Sequence[TimeRange]) -> list[datetime]:
    """The settlements of a window that nobody states, but for intervals in which none was due."""
    return [
        slot
        for slot in FundingRate.cadence.absent(stated, window)
        if not any(each.start < slot < each.end for each in undisturbed)
    ]


def _undisturbed(rows: pl.DataFrame, window: TimeRange) -> list[TimeRange]:
    """The intervals that rows of the archive state and that a row before each begins; what begins before the
    window does so unseen.
    """
    told = rows.filter(pl.col("source") != "api", pl.col("interval_hours").is_not_null())
    known = set(told["funding_time"])
    spans = (
        TimeRange(time - hours * _HOUR, time)
        for time, hours in told.select("funding_time", "interval_hours").iter_rows()
    )
    return [span for span in spans if span.start in known or span.start < window.start]


def _changes(lacking: Sequence[datetime], stated: pl.Series, window: TimeRange) -> Iterator[Problem]:
    """Absences across which the interval changes, or may: how many settlements they are cannot be known.

    Args:
        lacking: What is absent.
        stated: What is stated.
        window: The cell's window. Every interval has a settlement where one begins, so an absence beside an
            end of it may be a longer interval, which no row of the window shows.
    """
    rows, steps = stated.to_list(), FundingRate.cadence.steps
    apart = [later - earlier for earlier, later in pairwise(rows)]

    def told(earlier: datetime, later: datetime, change: str, step: timedelta, day: datetime) -> Problem:
        return Problem(
            f"settlements between {earlier:%Y-%m-%d %H:%M} and {later:%Y-%m-%d %H:%M}",
            "interval",
            f"the interval {change} where settlements are absent: they are counted in steps of "
            f"{count_of(step // _HOUR, 'hour')}",
            day=f"{day:%Y-%m-%d}",
        )

    def may_be_longer(away: timedelta, step: timedelta) -> bool:
        longer = (each for each in steps if step < each <= away)
        return any(not (away - each) % step for each in longer)

    for n, (earlier, later) in enumerate(pairwise(rows)):
        if 0 < n < len(apart) - 1 and any(earlier < slot < later for slot in lacking):
            before, after = apart[n - 1], apart[n + 1]
            if before != after and before in steps and after in steps:
                change = f"changes from {before // _HOUR} to {after // _HOUR} hours"
                yield told(earlier, later, change, max(before, after), later)
    known = [distance for distance in apart if distance in steps]
    if not known:
        return
    first, last = rows[0], rows[-1]
    if any(slot < first for slot in lacking) and may_be_longer(first - window.start, known[0]):
        yield told(window.start, first, "may be longer", known[0], window.start)
    if any(slot > last for slot in lacking) and may_be_longer(window.end - last, known[-1]):
        yield told(last, window.end, "may be longer", known[-1], last)


# --- what speaks against it -----------------------------------------------------------------------


class _Silence(NamedTuple):
    """What REST does not state of what the archive does, within ranges that it answered.

    Attributes:
        denied: Settlements that it denies.
        unanswered: Ranges of which its answer may be at fault, with the number of settlements that it lacks.
    """

    denied: list[datetime]
    unanswered: list[tuple[TimeRange, int]]

    def problems(self) -> Iterator[Problem]:
        """That a range is not answered, in words."""
        for span, count in self.unanswered:
            yield Problem(
                f"REST from {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}",
                "unanswered",
                f"{count_of(count, 'settlement')} of the archive are in no answer of REST, which names too "
                "few others to deny them: it is asked again",
            )


def _silence(served: pl.DataFrame, stated: pl.DataFrame, asked: Sequence[Asked]) -> _Silence:
    """What the silence of REST says of settlements of the archive.

    One is denied where an answer has rows, states or names a settlement before and one after it, and lacks no
    more than it has. An answer without rows, one that begins too late or ends too early, or one that lacks
    most, is as likely to be at fault as a file with its CHECKSUM is.

    Args:
        served: The rows that are served, or would be.
        stated: All that is stated.
        asked: What a REST API was asked for.
    """
    by_rest = set(stated.filter(pl.col("source") == "api")["funding_time"])
    times = served["funding_time"].to_list()
    denied, unanswered = set[datetime](), list[tuple[TimeRange, int]]()
    for asking in (asking for asking in asked if asking.is_of_rows):
        lacking = [time for time in times if asking.start <= time < asking.end and time not in by_rest]
        own = {time for time in by_rest if asking.start <= time < asking.end}
        named = own | {instant for instant in (asking.before, asking.after) if instant}
        if own and len(lacking) <= len(named):
            between = {time for time in lacking if min(named) < time < max(named)}
            denied |= between
            lacking = [time for time in lacking if time not in between]
        if lacking:
            unanswered.append((TimeRange(lacking[0], lacking[-1] + _MINUTE), len(lacking)))
    return _Silence(sorted(denied), unanswered)


def contradicted(bronze: BronzeCells) -> list[TimeRange]:
    """What REST is asked again though it answered: days on which it denies a settlement of the archive or
    states another rate, and no proof decides, and ranges that it left unanswered.
    """
    asked, settled = bronze[FundingRateApi.name].facts.asked, _settled(bronze)
    silence = _silence(settled.rows, _stated(bronze), asked)
    rates = settled.conflicts.filter(pl.col("rule").is_in(UNSETTLED))["funding_time"]
    days = dict.fromkeys(f"{time:%Y-%m-%d}" for time in (*silence.denied, *rates))
    wanted = [*map(day_range, days), *(span for span, _ in silence.unanswered)]
    return [
        part
        for span in merged(wanted)
        for asking in asked
        if asking.is_of_rows and (part := span.overlap(asking.start, asking.end))
    ]


def _contradictions(
    settled: Reconciled,
    served: pl.DataFrame,
    stated: pl.DataFrame,
    denied: Iterable[datetime],
    window: TimeRange,
) -> Iterator[Contradiction]:
    """What a source says against the served rows: another rate that no proof decided on, that there was no
    such settlement (REST denies it, or the archive's intervals leave room for none), or another interval than
    its rows have.

    Args:
        settled: The outcome of reconciling.
        served: The served rows.
        stated: All that is stated.
        denied: What REST denies.
        window: The cell's window.
    """
    times = set(served["funding_time"])
    unsettled = settled.conflicts.filter(pl.col("rule").is_in(UNSETTLED))["funding_time"]
    found = {time: ("rate",) for time in unsettled if time in times}
    found |= dict.fromkeys(denied, ("funding_time",))
    for time, columns in sorted(found.items()):
        yield Contradiction(time, time + _MINUTE, "rest", columns)
    for time in _denied_intervals(stated):
        if time in times:
            yield Contradiction(time, time + _MINUTE, "archive", ("interval_hours",))
    spans = _undisturbed(stated, window)
    for time in served.filter(source="api")["funding_time"]:
        if any(span.start < time < span.end for span in spans):
            yield Contradiction(time, time + _MINUTE, "archive", ("funding_time",))


def _denied_intervals(stated: pl.DataFrame) -> list[datetime]:
    """Rows of the archive that state an interval that neither the settlement before nor the one after has,
    where both are known: some are absent, or the statement is wrong.
    """
    known = stated["funding_time"].unique().sort()
    distances = known.to_frame().with_columns(
        before=pl.col("funding_time").diff(), after=pl.col("funding_time").diff().shift(-1)
    )
    hours = pl.duration(hours=pl.col("interval_hours"))
    told = stated.filter(pl.col("interval_hours").is_not_null()).join(distances, on="funding_time")
    denied = told.filter(pl.col("before") != hours, pl.col("after") != hours)
    return sorted(set(denied["funding_time"]))


def _evidence(served: pl.DataFrame, sources: Mapping[str, pl.DataFrame], is_contradicted: bool) -> Evidence:
    """The best level that holds for all rows."""
    if is_contradicted:
        return "contradicted"
    if not served.height or (served["source"] == "api").any():
        return "api"
    api = sources.get("api")
    same = ["funding_time", "rate"]
    if api is not None and not served.join(api, on=same, how="anti").height:
        return "rows_both"
    return "archive"


def conflicts(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> pl.DataFrame:
    """Every variant of every disputed settlement of a cell, as rows of `silver/funding_rate_conflict` without
    the market's columns.
    """
    found = _with_beside(_settled(bronze).conflicts, _stated(bronze))
    in_life = pl.col("funding_time") <= market.delisted if market.delisted else True
    return found.rename({"source": "sources"}).with_columns(pl.col("is_served") & _IS_SOUND & in_life)


# --- what REST should be asked about --------------------------------------------------------------


def doubt(
    rows: pl.DataFrame, cell: Cell, market: MarketFacts | None, witness: BronzeCell | None
) -> Mapping[str, Doubt]:
    """Days of rows of the archive that REST should be asked about."""
    return _days_in_doubt(rows, cell, market.life if market else UNKNOWN)


def _days_in_doubt(
    rows: pl.DataFrame, cell: Cell, life: Life, breaks: Sequence[TimeRange] = ()
) -> Mapping[str, Doubt]:
    """Days on which a settlement has two values, breaks a rule, is absent, or states another interval than
    its neighbours have.

    Args:
        rows: Rows of the archive, or those that are served.
        cell: Their cell.
        life: Of the market.
        breaks: Stretches in which it is proven not to have been listed.
    """
    times = rows["funding_time"]
    values = rows.select("funding_time", "rate").unique()
    found = _by_day(
        "variants", values.filter(values["funding_time"].is_duplicated())["funding_time"], "with two values"
    )
    found = _by_day("rules", rows.filter(~_IS_SOUND)["funding_time"], "that break a row rule") | found
    spans = _undisturbed(rows, cell.window) if "interval_hours" in rows.columns else ()
    gaps, _ = find_gaps(
        times.unique().sort(), cell.window, cell.window.end, life, undisturbed=spans, breaks=breaks
    )
    absent = [
        run.start + n * (run.end - run.start) / run.slot_count
        for run in gaps
        if run.gap_class == "absent"
        for n in range(run.slot_count)
    ]
    if "interval_hours" in rows.columns:
        found = _by_day("interval", _denied_intervals(rows), "at another interval than they state") | found
    return _by_day("short", absent, "absent") | found


def _by_day(kind: str, times: Iterable[datetime], what: str) -> dict[str, Doubt]:
    days = [f"{time:%Y-%m-%d}" for time in dict.fromkeys(times)]
    return {
        day: Doubt(kind, f"{count_of(days.count(day), 'settlement')} {what}") for day in sorted(set(days))
    }


FUNDING_RATE = Dataset(
    FundingRate,
    refine,
    doubt,
    conflicts,
    contradicted=contradicted,
    evidence=("contradicted", "api", "archive", "rows_both"),
)
