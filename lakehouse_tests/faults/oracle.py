"""Whether what a reader is told is so: one function that holds a cell against what was really traded and what
every source really said.

It shares no rule with the product: hours are added up here again, and what was asked is read from what the
lake itself says it asked.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

import polars as pl

from lakehouse.datasets.candle import CANDLE
from lakehouse.datasets.conflict import Conflict
from lakehouse.defs.checks import _rules
from lakehouse.model.cell import Cell
from lakehouse.model.result import Asked, GapRun, Problem
from lakehouse.model.timerange import day_range
from lakehouse.ops.quality import quality_report
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.storage.ledger import survey
from lakehouse_tests.faults.told import END, SOURCES, Row, Told, frame_of, instant, is_finite, traded

HOUR, BREAK = timedelta(hours=1), timedelta(days=7)
VALUES = [
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
]
_TOTALS = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
RANK = ("contradicted", "unconfirmed", "totals", "rows_daily", "rows_api")
"""Levels of evidence, the worst first."""
CLAIMS_NOTHING = RANK[:2]


# --- what is known --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What was traded, and what was said of it so far.

    Attributes:
        heard: What every source told, at each time it was asked; the last is what it tells now.
    """

    heard: Sequence[Told]

    @property
    def now(self) -> Told:
        """What is told now."""
        return self.heard[-1]

    @cached_property
    def truth(self) -> pl.DataFrame:
        """What was traded in the month."""
        changed = sorted(self.now.truth.changed)
        if not changed:
            return _truth_of(self.now.market)
        gone = pl.Series([instant(minute) for minute in changed], dtype=pl.Datetime("us", "UTC"))
        rows = [row for minute in changed for row in self.now.truth.get(minute, ())]
        kept = _truth_of(self.now.market).filter(~pl.col("open_time").is_in(gone.implode()))
        return pl.concat([kept, frame_of(rows, self.now.market).filter(pl.col("open_time") < END)]).sort(
            "open_time"
        )

    def rows_at(self, minute: int, sources: Sequence[str] = SOURCES[:3]) -> list[Row]:
        """All rows of a minute that any source ever stated."""
        return [
            row for told in self.heard for source in sources for row in told.books[source].get(minute, ())
        ]

    def is_stated(self, minute: int) -> bool:
        """Whether any source has a row of a minute now: what all of them took back, nobody states."""
        return any(self.now.books[source].get(minute) for source in SOURCES)

    def is_plain(self, day: datetime) -> bool:
        """Whether whoever speaks of a day has always said the truth of it, and a file that can be read does.

        Then no more than the truth can be made of it, and no less.
        """
        minutes = range(_minute(day), _minute(day) + 1440)
        for told in self.heard:
            if any(minute in minutes for source in SOURCES for minute in told.differing[source]) or any(
                hour * 60 in minutes for hour in told.hours
            ):
                return False
        return self.now.tells_of(day)


@lru_cache(maxsize=8)
def _truth_of(market: object) -> pl.DataFrame:
    rows = [row for rows in traded(market).values() for row in rows]  # type: ignore[arg-type]
    return frame_of(rows, market).filter(pl.col("open_time") < END)  # type: ignore[arg-type]


# --- what a reader sees ---------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """One cell as its readers see it.

    Attributes:
        rows: Candles.
        runs: Gaps, as the cell has them.
        told_slots: Slots that `Lake.gaps` tells of.
        conflicts: Disputes.
        evidence: The cell's level; None if nothing is stored.
        problems: What was wrong with sources.
        asked_until: Until when sources were asked.
        findings: Of the checks of the silver table, by family: those of this cell.
        state: By the quality report.
        archive: Every archive row of bronze.
        api: Every row of REST 1m.
        witness: The newest candles of the hours.
        witness_asked: What was asked of the hours.
        api_asked: What was asked of the minutes.
        is_fresh: The hours were asked for after the last revision of minutes.
        now: The reader's clock.
    """

    rows: pl.DataFrame
    runs: tuple[GapRun, ...]
    told_slots: int
    conflicts: pl.DataFrame
    evidence: str | None
    problems: tuple[Problem, ...]
    asked_until: datetime | None
    findings: dict[str, list[str]]
    state: str
    archive: pl.DataFrame
    api: pl.DataFrame
    witness: pl.DataFrame
    witness_asked: tuple[Asked, ...]
    api_asked: tuple[Asked, ...]
    is_fresh: bool
    now: datetime

    @property
    def is_unanswered(self) -> bool:
        """Whether REST was silent about something, so that it may be asked again at once."""
        return any(asking.outcome == "unreachable" for asking in (*self.witness_asked, *self.api_asked))

    @cached_property
    def hours(self) -> pl.DataFrame:
        """Served minutes, added up by hour, beside the hour as REST stated it; `agrees` and `is_whole` (no
        slot of it is absent or in conflict, nor one that nobody was asked about).
        """
        traded_rows = self.rows.filter((pl.col("trade_count") > 0).fill_null(pl.col("volume") > 0))
        hour = pl.col("open_time").dt.truncate("1h").alias("hour")
        prices = traded_rows.group_by(hour).agg(
            pl.col("open").sort_by("open_time").first(),
            pl.max("high"),
            pl.min("low"),
            pl.col("close").sort_by("open_time").last(),
        )
        sums = self.rows.group_by(hour).agg(pl.sum("trade_count", *_TOTALS))
        stated = self.witness.select(
            pl.col("open_time").alias("hour"),
            *(pl.col(name).alias(f"{name}_stated") for name in VALUES if not name.endswith("_time")),
        )
        both = sums.join(prices, on="hour", how="left").join(stated, on="hour", how="full", coalesce=True)
        told = pl.col("volume_stated").is_not_null()
        near = [
            (
                (pl.col(name).fill_null(0) - pl.col(f"{name}_stated")).abs()
                <= 1e-6 + 1e-12 * pl.col(f"{name}_stated").abs()
            ).fill_null(True)
            for name in _TOTALS
        ]
        same = [
            (pl.col(name) == pl.col(f"{name}_stated")).fill_null(True)
            for name in ("open", "high", "low", "close")
        ]
        counted = (pl.col("trade_count").fill_null(0) == pl.col("trade_count_stated")).fill_null(True)
        open_slots = {
            instant(minute // 60 * 60)
            for run in self.runs
            if run.gap_class in ("absent", "conflict")
            for minute in _slots(run)
        }
        return both.with_columns(
            pl.when(told).then(pl.all_horizontal(*near, *same, counted)).alias("agrees"),
            (
                ~pl.col("hour").is_in(_instants(open_slots))
                & (pl.col("hour") + HOUR <= pl.lit(self.asked_until, pl.Datetime("us", "UTC")))
            ).alias("is_whole"),
        ).sort("hour")

    @cached_property
    def agreeing(self) -> frozenset[datetime]:
        """Hours that REST stated and whose served rows are just that."""
        return frozenset(self.hours.filter("agrees")["hour"]) if self.is_fresh else frozenset()

    @cached_property
    def contradicted(self) -> list[datetime]:
        """Hours all of which is served, and which REST stated otherwise."""
        return self.hours.filter(~pl.col("agrees"), "is_whole")["hour"].to_list() if self.is_fresh else []


def look(lake: LakeServices, cell: Cell) -> View | None:
    """What readers see of a cell; None if nothing of it is stored."""
    record = lake.ledger("silver/candle").get(cell)
    if record is None:
        return None
    reader, market, now = Lake(lake.objects.root), cell.own_market, lake.clock()
    span = (cell.window.start, cell.window.end)
    bronze = {table.name: lake.tables.get(table, cell) for table in CANDLE.bronze}
    archive, api, witness = (
        bronze[name] for name in ("bronze/candle_archive", "bronze/candle_api", "bronze/candle_witness")
    )
    rules = _rules(CANDLE.silver, *survey(lake.objects, CANDLE.silver), lake, None)  # type: ignore[arg-type]
    ignored = ("freshness", "intervals", "anomalies", "resample")  # nothing of these is about what is true
    findings = {
        name: [found.what for found in rule().findings if found.cell == str(cell)]
        for name, rule in rules.items()
        if name not in ignored
    }
    revised = api.record.facts.revised_at if api else None
    asked_after = witness.record.facts.revised_at if witness else None
    hours = witness.rows if witness else CANDLE.witness.empty()  # type: ignore[union-attr]
    newest = hours.sort("fetched_at").group_by("open_time").last().filter(~pl.col("is_removed"))
    return View(
        rows=reader.candles(market, *span),
        runs=record.facts.gaps,
        told_slots=sum(reader.gaps(market, *span, now=now)["slot_count"]),
        conflicts=reader.conflicts(market, *span) if record.facts.conflict_count else Conflict.empty(),
        evidence=record.facts.evidence,
        problems=record.facts.problems,
        asked_until=record.facts.asked_until,
        findings={name: found for name, found in findings.items() if found},
        state=quality_report({cell: record}, {}, now)[0].state,
        archive=archive.rows if archive else CANDLE.archive.empty(),
        api=api.rows if api else CANDLE.archive.empty(),
        witness=newest,
        witness_asked=witness.record.facts.asked if witness else (),
        api_asked=api.record.facts.asked if api else (),
        is_fresh=witness is not None
        and (revised is None or (asked_after is not None and asked_after >= revised)),
        now=now,
    )


def _minute(time: datetime) -> int:
    return int(time.timestamp()) // 60


def _minutes(times: pl.Series) -> set[int]:
    return set((times.dt.epoch("s") // 60).to_list())


def _slots(run: GapRun) -> range:
    return range(_minute(run.start), _minute(run.start) + run.slot_count)


# --- the judgement --------------------------------------------------------------------------------


def judge(view: View | None, known: Known) -> list[str]:
    """Every lie in what a reader sees, as `kind: what`; empty where the promise holds.

    - `wrong row`: a row that is not what was traded, and nothing says so: it stands in no unsettled dispute,
      and the cell's level claims it. A level claims no more than it can see: `totals` what leaves the hour of
      a fresh witness as it is, `rows_daily` what stands in a daily file and no hour contradicts, `rows_api`
      what the archive and REST state alike. `unconfirmed` and `contradicted` claim nothing.
    - `made up`: a row that no source ever stated.
    - `level`: a level higher than its proof.
    - `contradiction`: an hour REST stated otherwise than it is served whole, and the level is not
      `contradicted`, or no check or report says so.
    - `slots`: a slot that is neither served nor in one gap, or both.
    - `not listed`, `halt`, `conflict`: a gap of a class that was not so, or not proven.
    - `healed`: a problem that is said to be healed, of a day that is not.
    - `withheld`: a true row that every source agrees on and is not served, or that the lake has and tells as
      absent.
    - `dispute`: what `silver/conflict` says of the value that is served is not so.
    """
    if view is None:
        plain = [day for day in _days(known) if known.is_plain(day)]
        return (
            [f"withheld: nothing is stored, though all sources agree on {plain[0]:%Y-%m-%d}"] if plain else []
        )
    wrong = view.rows.join(known.truth, on=VALUES, how="anti", nulls_equal=True)
    return [
        *_wrong_rows(view, known, wrong),
        *_levels(view),
        *_contradictions(view),
        *_slot_lies(view),
        *_classes(view, known),
        *_healed(view, wrong),
        *_withheld(view, known),
        *_disputes(view),
    ]


def _wrong_rows(view: View, known: Known, wrong: pl.DataFrame) -> Iterator[str]:
    if not wrong.height:
        return
    stated = frame_of(
        [row for minute in _minutes(wrong["open_time"]) for row in known.rows_at(minute) if is_finite(row)],
        known.now.market,
    )
    made_up = wrong.join(stated, on=VALUES, how="anti", nulls_equal=True)
    yield from _counted("made up", made_up, "are stated by nobody as they are served")
    if view.evidence in CLAIMS_NOTHING:
        return
    hour, claimed = (
        pl.col("open_time").dt.truncate("1h"),
        wrong.join(view.conflicts.filter(~pl.col("is_settled")), on="open_time", how="anti"),
    )
    if view.evidence == "totals":
        claimed = claimed.filter(~hour.is_in(_instants(view.agreeing)))
    elif (
        view.evidence == "rows_daily"
    ):  # it claims that a daily file has each, and that no hour says otherwise
        daily = claimed.join(
            view.archive.filter(source="daily"), on=VALUES, how="semi", nulls_equal=True
        ).filter(~hour.is_in(_instants(view.contradicted)))
        claimed = claimed.join(daily, on=VALUES, how="anti", nulls_equal=True)
    yield from _counted(
        "wrong row",
        _without_unanimous(view, claimed),
        f"are not what was traded, under {view.evidence}, quality {view.state}",
    )


def _without_unanimous(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without those that both families state alike: nobody could know of these."""
    both = rows.join(view.api, on=VALUES, how="semi", nulls_equal=True).join(
        view.archive, on=VALUES, how="semi", nulls_equal=True
    )
    return rows.join(both, on=VALUES, how="anti", nulls_equal=True)


def _counted(kind: str, rows: pl.DataFrame, what: str) -> Iterator[str]:
    if rows.height:
        yield f"{kind}: {rows.height} rows of {'+'.join(sorted(rows['source'].unique()))}, the first of {rows['open_time'][0]:%Y-%m-%d %H:%M:%S}, {what}"


def _instants(times: Collection[datetime]) -> pl.Expr:
    return pl.lit(pl.Series(list(times), dtype=pl.Datetime("us", "UTC")).implode())


def _levels(view: View) -> Iterator[str]:
    if view.evidence not in RANK:
        yield f"level: {view.evidence} is no level"
    apart = {
        name: view.rows.join(rows, on=VALUES, how="anti", nulls_equal=True).height
        for name, rows in (("REST", view.api), ("the archive", view.archive))
    }
    if view.evidence == "rows_api":
        yield from (
            f"level: rows_api, and {count} rows do not stand in {name}"
            for name, count in apart.items()
            if count
        )
    if view.evidence == "rows_daily" and (
        count := view.rows.join(
            view.archive.filter(source="daily"), on=VALUES, how="anti", nulls_equal=True
        ).height
    ):
        yield f"level: rows_daily, and {count} rows stand in no daily file"
    if view.evidence == "totals":
        served = set(view.rows["open_time"].dt.truncate("1h"))
        if unproven := sorted(served - view.agreeing):
            yield f"level: totals, and {len(unproven)} hours are not as REST stated them, the first {unproven[0]}"
        was_traded = (pl.col("trade_count_stated") > 0).fill_null(pl.col("volume_stated") > 0)
        stated = set(view.hours.filter(was_traded)["hour"])
        if unserved := sorted(stated - served):
            yield f"level: totals, and {len(unserved)} hours that REST states have no row, the first {unserved[0]}"


def _contradictions(view: View) -> Iterator[str]:
    if view.contradicted and view.evidence != "contradicted":
        yield f"contradiction: {len(view.contradicted)} hours are not as REST stated them, the first {view.contradicted[0]}, and the level is {view.evidence}"
    if view.evidence == "contradicted" and view.state == "good":
        yield "contradiction: the level is contradicted, and the quality report says good"
    if view.evidence == "contradicted" and not view.findings.keys() - {"gaps", "schema"}:
        yield "contradiction: the level is contradicted, and no check says so"


def _slot_lies(view: View) -> Iterator[str]:
    until = view.asked_until
    if until is None or until > view.now:
        yield f"slots: sources are said to be asked until {until}"
        return
    start = (until - timedelta(microseconds=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    every, served = set(range(_minute(start), _minute(until))), _minutes(view.rows["open_time"])
    absent = {minute for run in view.runs for minute in _slots(run)}
    count = sum(len(_slots(run)) for run in view.runs)
    if count != len(absent) or count != view.told_slots:
        yield f"slots: {count} are told as {len(absent)}, and by the reader's list as {view.told_slots}"
    if both := served & absent:
        yield f"slots: {len(both)} are served and in a gap, the first {instant(min(both))}"
    if lost := every - served - absent:
        yield f"slots: {len(lost)} are neither served nor in a gap, the first {instant(min(lost))}"
    if beyond := absent - every:
        yield f"slots: {len(beyond)} are in a gap that nobody was asked about, the first {instant(min(beyond))}"


def _classes(view: View, known: Known) -> Iterator[str]:
    # REST's minutes and hours deny rows that the files state: nobody could know whose word is true, and both
    # stand in silver/conflict.
    denied = _minutes(view.conflicts.filter("is_absent", "is_settled")["open_time"])
    for run in view.runs:
        slots = _slots(run)
        was_traded = [
            minute for minute in (known.now.truth.keys() & set(slots)) - denied if known.is_stated(minute)
        ]
        if run.gap_class in ("halt", "not_listed") and was_traded:
            yield f"{run.gap_class.replace('_', ' ')}: {len(was_traded)} minutes from {instant(min(was_traded))} were traded"
        elif run.gap_class == "halt":
            yield from _unproven_halt(view, run)
        elif (
            run.gap_class == "not_listed"
            and run.start >= known.now.market.listed
            and run.end - run.start < BREAK
        ):
            yield f"not listed: {len(slots)} minutes from {run.start} are in the market's life"
        elif run.gap_class == "conflict":
            variants = (
                view.conflicts.filter(~pl.col("is_served"))
                .group_by("open_time")
                .len()
                .filter(pl.col("len") >= 2)
            )
            if undisputed := set(slots) - _minutes(variants["open_time"]):
                yield f"conflict: {len(undisputed)} minutes are in no dispute of two values, the first {instant(min(undisputed))}"


def _unproven_halt(view: View, run: GapRun) -> Iterator[str]:
    """A halt rests on the minutes and on every hour that it touches."""
    if not any(
        asking.is_of_rows and asking.start <= run.start and run.end <= asking.end for asking in view.api_asked
    ):
        yield f"halt: nobody asked REST for the minutes from {run.start}"
    hour = run.start.replace(minute=0)
    stated = dict(view.hours.select("hour", "agrees").iter_rows())
    served = set(view.rows["open_time"].dt.truncate("1h"))
    while hour < run.end:
        answered = any(
            asking.is_of_rows and asking.start <= hour and hour + HOUR <= asking.end
            for asking in view.witness_asked
        )
        equal = bool(stated.get(hour)) if stated.get(hour) is not None else hour not in served
        if not answered or not equal:
            yield f"halt: from {run.start} for {run.slot_count} minutes, and the hour from {hour} {'was not asked for' if not answered else 'is another than what is served'}"
            return
        hour += HOUR


def _healed(view: View, wrong: pl.DataFrame) -> Iterator[str]:
    for problem in view.problems:
        if not problem.healed_by or not problem.day:
            continue
        day = day_range(problem.day)
        said = f"healed: {problem.kind} of {problem.day} by {problem.healed_by!r}"
        inside = wrong.filter(
            pl.col("open_time").is_between(day.start, day.end, closed="left"),
            ~pl.col("open_time").dt.truncate("1h").is_in(_instants(view.agreeing)),
        )
        others = pl.concat(
            [rows.filter(~pl.col("is_removed")).select(VALUES) for rows in (view.archive, view.api)]
        ).join(inside, on=VALUES, how="anti", nulls_equal=True)
        seen = _without_unanimous(view, inside).join(others, on="open_time", how="semi")
        yield from _counted(said, seen, "are wrong, and another source says so")
        healer = view.api if problem.healed_by.startswith("REST API") else view.archive.filter(source="daily")
        yield from _counted(
            said,
            inside.join(healer, on=VALUES, how="anti", nulls_equal=True),
            "are wrong, and it does not state them",
        )
        if hours := [hour for hour in view.contradicted if day.start <= hour < day.end]:
            yield f"{said}, and REST states other hours, the first {hours[0]}"
        inside_day = range(_minute(day.start), _minute(day.end))
        if left := [
            minute
            for run in view.runs
            if run.gap_class in ("absent", "conflict")
            for minute in _slots(run)
            if minute in inside_day
        ]:
            yield f"{said}, and {len(left)} minutes are absent, the first {instant(left[0])}"


def _days(known: Known) -> Iterator[datetime]:
    day = known.now.market.listed.replace(hour=0, minute=0)
    while day < min(END, known.now.now.replace(hour=0, minute=0, second=0, microsecond=0)):
        yield day
        day += timedelta(days=1)


def _withheld(view: View, known: Known) -> Iterator[str]:
    for day in _days(known):
        if known.is_plain(day):
            missing = known.truth.filter(
                pl.col("open_time").is_between(day, day + timedelta(days=1), closed="left")
            ).join(view.rows, on=VALUES, how="anti", nulls_equal=True)
            if missing.height:
                yield f"withheld: {missing.height} rows of {day:%Y-%m-%d} are not served though all sources agree, the first {missing['open_time'][0]}"
    absent = {
        instant(minute)
        for run in view.runs
        if run.gap_class in ("absent", "halt")
        for minute in _slots(run)
        if minute in known.now.truth
    }
    held = known.truth.filter(pl.col("open_time").is_in(_instants(absent)))
    for rows in (view.archive, view.api) if held.height else ():
        removed = rows.filter("is_removed")["open_time"]
        has = held.join(rows, on=VALUES, how="semi", nulls_equal=True).filter(
            ~pl.col("open_time").is_in(removed.implode())
        )
        if "is_absent" in view.conflicts.columns:  # that there is none was settled
            has = has.join(view.conflicts.filter("is_absent"), on="open_time", how="anti")
        if has.height:
            yield f"withheld: {has.height} rows are in the lake, true, and told as absent, the first {has['open_time'][0]}"


def _disputes(view: View) -> Iterator[str]:
    """What `silver/conflict` says is served is, and nothing else of that candle."""
    said = view.conflicts.filter("is_served")
    if "is_absent" in said.columns:
        said = said.filter(~pl.col("is_absent"))
    if (apart := said.join(view.rows, on=VALUES, how="anti", nulls_equal=True)).height:
        yield f"dispute: {apart.height} values are said to be served and are not, the first of {apart['open_time'][0]}"
    other = view.rows.join(view.conflicts, on="open_time", how="semi").join(
        said, on=VALUES, how="anti", nulls_equal=True
    )
    if other.height:
        yield f"dispute: {other.height} rows are served in a dispute that says otherwise, the first of {other['open_time'][0]}"
