"""1m candles: bronze as published, silver as one truth.

Longer than other modules: a dataset is one file, so that its tables and the rules that judge them are read
together.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
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
from lakehouse.model.cadence import Grid
from lakehouse.model.cell import Cell
from lakehouse.model.check import Check
from lakehouse.model.input import Input
from lakehouse.model.interval import MINUTE
from lakehouse.model.life import UNKNOWN
from lakehouse.model.result import Asked, CellFacts, CellResult
from lakehouse.model.table import UTC_TIME, Column, Rule, Table
from lakehouse.model.timerange import TimeRange, day_range
from lakehouse.transform.absences import Answered
from lakehouse.transform.asking import merged, was_asked_after
from lakehouse.transform.contradictions import find_contradictions
from lakehouse.transform.disputes import TWO_VALUES, WHOLESALE
from lakehouse.transform.doubt import Doubt, days_in_doubt
from lakehouse.transform.gaps import find_gaps
from lakehouse.transform.healing import Served, confirmed_times, explained_slots, judge_problems
from lakehouse.transform.history import LINEAGE, newest
from lakehouse.transform.reconcile import Reconciled, evidence, reconcile
from lakehouse.transform.sparse import LeftOut, left_out
from lakehouse.transform.witness import HOUR, confirmed_hours, denied_hours, judge

_LAST = pl.duration(microseconds=1)
# Who is believed where nothing is proven: the finer archive file was re-published more often than the monthly
# one.
PRECEDENCE = ("daily", "api", "monthly")


class PublishedCandle(Table):
    """The value columns of candles as exchanges publish them.

    Times are microseconds UTC whatever unit the source used; `volume` is in base units for every market type,
    and `contracts` holds what inverse markets publish in its place. Prices and sizes are Float64 (exact for
    every published 1m value tried).
    """

    time = "open_time"
    most_per_minute = 16  # both families of files, and what they and REST restate

    open_time = Column(UTC_TIME, "Start of the candle", "UTC")
    open = Column(pl.Float64, "First price", "quote", nullable=True)
    high = Column(pl.Float64, "Highest price", "quote", nullable=True)
    low = Column(pl.Float64, "Lowest price", "quote", nullable=True)
    close = Column(pl.Float64, "Last price", "quote", nullable=True)
    volume = Column(pl.Float64, "Traded size", "base", nullable=True)
    close_time = Column(
        UTC_TIME,
        "Last microsecond of the candle; earlier than its interval's end where trading stopped",
        "UTC",
        nullable=True,
    )
    quote_volume = Column(
        pl.Float64, "Traded value; not published for inverse markets", "quote", nullable=True
    )
    trade_count = Column(pl.Int64, "Trades", "count", nullable=True)
    taker_buy_volume = Column(pl.Float64, "Size bought by takers", "base", nullable=True)
    taker_buy_quote_volume = Column(
        pl.Float64, "Value bought by takers; not published for inverse markets", "quote", nullable=True
    )
    contracts = Column(pl.Float64, "Traded contracts (inverse markets)", "contracts", nullable=True)
    taker_buy_contracts = Column(
        pl.Float64, "Contracts bought by takers (inverse markets)", "contracts", nullable=True
    )


class CandleWitness(ApiTable, PublishedCandle):
    """1h candles by REST, every value ever seen: an independent statement that 1m rows are checked against.

    Whole days only, so a month that is still open changes once a day. One request a month.
    """

    name = "bronze/candle_witness"
    key = ("open_time", "source", "fetched_at", "source_sha256")


class CandleArchive(ArchiveTable, PublishedCandle):
    """1m candles as the archive's monthly and daily files publish them, every value ever seen, with the file
    each row came from.

    The text as it was published is in landing.
    """

    name = "bronze/candle_archive"
    # One file may state a candle twice and differ in any value, so every value is part of the key.
    key = (
        *(
            "open_time",
            "source",
            "fetched_at",
            "source_sha256",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "close_time",
            "trade_count",
        ),
        *("quote_volume", "taker_buy_volume", "taker_buy_quote_volume", "contracts", "taker_buy_contracts"),
    )
    inputs = (Input(CandleWitness, required=False),)
    code_version = 3


class CandleApi(ApiTable, PublishedCandle):
    """1m candles by REST, every value ever seen: of days that the archive leaves in doubt, and of the hours
    it has not published yet.

    A month that the archive settles has no cell here: nothing was asked.
    """

    name = "bronze/candle_api"
    key = ("open_time", "source", "fetched_at", "source_sha256")
    inputs = (Input(CandleWitness, required=False), Input(CandleArchive, required=False))


class CandleColumns(Table):
    """The value columns that candles of every interval have."""

    key = ("open_time",)
    time = "open_time"
    most_per_minute = 4  # two rows may share a slot where an exchange was off its grid

    open_time = Column(UTC_TIME, "Start of the candle, which covers [open_time, open_time + interval)", "UTC")
    open = Column(pl.Float64, "First price", "quote", above=0)
    high = Column(pl.Float64, "Highest price", "quote", above=0)
    low = Column(pl.Float64, "Lowest price", "quote", above=0)
    close = Column(pl.Float64, "Last price", "quote", above=0)
    volume = Column(pl.Float64, "Traded size, in base units for every market type", "base", at_least=0)
    close_time = Column(UTC_TIME, "Last microsecond that the candle's data covers", "UTC")
    quote_volume = Column(
        pl.Float64,
        "Traded value; for inverse markets contracts x contract size",
        "quote",
        nullable=True,
        at_least=0,
    )
    trade_count = Column(pl.Int64, "Trades", "count", nullable=True, at_least=0)
    taker_buy_volume = Column(pl.Float64, "Size bought by takers", "base", nullable=True, at_least=0)
    taker_buy_quote_volume = Column(pl.Float64, "Value bought by takers", "quote", nullable=True, at_least=0)
    contracts = Column(
        pl.Float64,
        "Traded contracts; null except for inverse markets",
        "contracts",
        nullable=True,
        at_least=0,
    )

    row_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "low_is_lowest",
            pl.col("low") <= pl.min_horizontal("open", "close"),
            "low is at most open and close",
        ),
        Rule(
            "high_is_highest",
            pl.col("high") >= pl.max_horizontal("open", "close"),
            "high is at least open and close",
        ),
        Rule(
            "taker_within_volume",
            pl.col("taker_buy_volume") <= pl.col("volume") * (1 + 1e-9) + 1e-9,
            "takers bought at most the volume",
        ),
        Rule(
            "taker_within_quote_volume",
            pl.col("taker_buy_quote_volume") <= pl.col("quote_volume") * (1 + 1e-9) + 1e-7,
            "takers bought at most the quote volume",
        ),
    )


class Candle(CandleColumns):
    """1m candles: one row per minute and market, the one truth that every coarser table is made from.

    Rows are never invented: a minute no source has is absent here and stands in `silver/gap` with its class.
    A quiet minute is a flat candle with zero trades, as the exchange publishes it; where it publishes none
    (`is_sparse` in `silver/market`), the minute has no row here, and is no gap. Values on which sources
    disagree are resolved by a stated rule; values one source states twice, differently, are not served. Rows
    that break a rule are in quarantine.
    """

    name = "silver/candle"
    cadence: ClassVar[Grid] = Grid(MINUTE.delta)
    checks = (*REFINED, Check("anomalies"))
    inputs = (
        Input(CandleWitness, role="witness"),
        Input(CandleArchive, role="archive"),
        Input(CandleApi, role="api"),
    )
    code_version = 4

    source = Column(pl.String, "archive or api: the kind of source the row stands in")
    is_truncated = Column(pl.Boolean, "The candle ends before its minute does: trading stopped within it")
    is_misaligned = Column(pl.Boolean, "The candle does not open on a full minute")

    row_rules = (
        *CandleColumns.row_rules,
        Rule(
            "close_time_in_candle",
            pl.col("close_time").is_between(pl.col("open_time"), pl.col("open_time") + MINUTE.delta - _LAST),
            "close_time lies within the candle's minute",
        ),
    )


_ROUNDED = pl.col("trade_count").fill_null(1) * 1e-8  # every trade's value is cut to eight decimals at worst
# What no good row does, but too little to reject one for: a row that does puts its day in doubt.
DOUBT_RULES = (
    Rule(
        "average_within_range",
        pl.col("quote_volume").is_between(
            pl.col("low") * pl.col("volume") * (1 - 1e-9) - _ROUNDED,
            pl.col("high") * pl.col("volume") * (1 + 1e-9) + _ROUNDED,
        ),
        "the average price (quote volume / volume) lies within low and high; not for inverse markets, which "
        "publish no quote volume",
    ),
    Rule(
        "few_trades_are_flat",
        (pl.col("trade_count") > 1)
        | (
            (pl.col("high") == pl.col("low"))
            & (pl.col("open") == pl.col("low"))
            & (pl.col("close") == pl.col("low"))
        ),
        "one trade, or none, makes no range",
    ),
)
_UNLIKELY = ~pl.all_horizontal(rule.is_kept for rule in DOUBT_RULES)


def refine(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> CellResult:
    """Make one cell of `silver/candle`.

    Args:
        bronze: The bronze cells of the same window and market, at least one.
        cell: The cell.
        market: Facts of the market: contract size, listed and delisted instants.

    Returns:
        The served rows; rejected rows with their rule; gaps, conflicts, contradictions and evidence.
    """
    sources, witness = _sources(bronze), _witness(bronze)
    settled = _reconciled(bronze, sources, witness)
    good, broken = Candle.split(_to_silver(settled.rows, market))
    late = good.filter(pl.col("open_time") >= market.delisted) if market.delisted else good.clear()
    good = good.filter(pl.col("open_time") < market.delisted) if late.height else good
    served, judged = settled.rows, settled.judged
    if good.height < served.height:
        served = served.join(good, on="open_time", how="semi", maintain_order="left")
        judged = judge(served, witness.rows, answered=witness.answered) if witness else None
    asked = bronze[CandleApi.name].facts.asked if CandleApi.name in bronze else ()
    ends = [part.facts.asked_until for part in bronze.values() if part.facts.asked_until]
    asked_until = cell.window.clip(
        max([*ends, *(asking.end for asking in asked if asking.is_answer)], default=cell.window.start)
    )
    is_whole = good.height * Candle.cadence.step >= asked_until - cell.window.start
    confirmed_by_hour = (
        confirmed_hours(judged, witness.answered) if witness and judged is not None and not is_whole else None
    )
    left = None
    if market.is_sparse and asked_until > cell.window.start:
        left = _left_out(
            sources, TimeRange(cell.window.start, asked_until), market, asked, judged, confirmed_by_hour
        )
    gaps = find_gaps(
        good["open_time"],
        cell.window,
        Candle.cadence.step,
        asked_until,
        market.life,
        settled.unserved.filter(rule=TWO_VALUES)["open_time"],
        asked,
        sources["api"]["open_time"] if "api" in sources else None,
        good.filter("is_truncated").select("open_time", "close_time"),
        confirmed_by_hour,
        left.slots if left else None,
    )
    contradictions = find_contradictions(judged, asked_until, settled.wholesale, _differing(settled))
    problems = tuple(problem for part in bronze.values() for problem in part.facts.problems)
    if problems:
        explained, confirmed = (
            explained_slots(gaps, Candle.cadence.step, market.life),
            confirmed_times(served, sources, Candle.key, judged),
        )
        explained = pl.concat([explained, left.slots]) if left else explained
        found = doubt(
            served, cell, market, bronze.get(CandleWitness.name) if witness else None, explained, confirmed
        )
        doubts = [day for day in found if day_range(day).end <= asked_until]
        problems = judge_problems(
            problems,
            Served(
                served,
                sources,
                Candle.key,
                gaps,
                market.life,
                doubts,
                settled.unsettled_days(Candle.time),
                judged is not None,
            ),
        )
    facts = CellFacts(
        gaps=gaps,
        conflict_count=settled.conflict_count,
        evidence=evidence(served, sources, Candle.key, judged, bool(contradictions)),
        asked_until=asked_until,
        problems=problems,
        unsettled_count=settled.unsettled_count,
        conflict_digest=settled.conflict_digest,
        contradictions=contradictions,
        quiet_count=left.quiet_count if left else 0,
        silent_count=left.silent_count if left else 0,
    )
    unserved = _to_silver(settled.unserved, market).with_columns(settled.unserved["rule"])
    return CellResult(
        good,
        input_versions(Candle, bronze, cell, market),
        facts,
        pl.concat([broken, late.with_columns(rule=pl.lit("after_delisting")), unserved]),
    )


def _left_out(
    sources: Mapping[str, pl.DataFrame],
    span: TimeRange,
    market: MarketFacts,
    asked: Sequence[Asked],
    judged: pl.DataFrame | None,
    confirmed: pl.Series | None,
) -> LeftOut:
    """The minutes of a market of a sparse exchange of which what was read has no candle, and needs none."""
    times = {name: rows["open_time"] for name, rows in sources.items()}
    none = pl.Series("open_time", [], UTC_TIME)
    days = times.get("daily", none).dt.strftime("%Y-%m-%d").unique().sort()
    files = [span] if times.get("monthly", none).len() else [day_range(day) for day in days]
    return left_out(
        pl.concat([none, *times.values()]),
        span,
        Candle.cadence.step,
        market.life,
        files,
        asked,
        times.get("api", none),
        none if confirmed is None else confirmed,
        none if judged is None else denied_hours(judged),
    )


_OF_SILVER = {"source", "is_truncated", "is_misaligned"}
_IS_SOUND = pl.all_horizontal(
    *(rule.is_kept for rule in Candle.rules() if not _OF_SILVER & set(rule.holds.meta.root_names()))
)
"""Whether published values keep the row rules, those of columns that silver adds left out."""


class _Witness(NamedTuple):
    """What the witness of a cell says: its rows, the ranges it answered, and when it was asked last."""

    rows: pl.DataFrame
    answered: tuple[TimeRange, ...]
    said_at: datetime | None


def _witness(bronze: BronzeCells) -> _Witness | None:
    """The witness; none where it answered nothing, or the API has restated a candle since it was asked."""
    witness, api = bronze.get(CandleWitness.name), bronze.get(CandleApi.name)
    if witness is None or not was_asked_after(witness.facts, api.facts.revised_at if api else None):
        return None
    answered = tuple(asking.span for asking in witness.facts.asked if asking.is_of_rows)
    if not answered and not witness.rows.height:
        return None
    said_at = max((asking.at for asking in witness.facts.asked if asking.is_of_rows), default=None)
    return _Witness(newest(witness.rows, Candle.key).drop(LINEAGE), answered, said_at)


def _sources(bronze: BronzeCells) -> dict[str, pl.DataFrame]:
    """The newest rows of every source."""
    parts = [
        newest(bronze[name].rows, Candle.key)
        for name in (CandleArchive.name, CandleApi.name)
        if name in bronze
    ]
    found = {
        str(name): frame
        for part in parts
        for (name,), frame in part.partition_by("source", as_dict=True).items()
    }
    return found or {"daily": CandleArchive.empty()}


def _reconciled(
    bronze: BronzeCells, sources: Mapping[str, pl.DataFrame], witness: _Witness | None
) -> Reconciled:
    asked = (
        [
            Answered(asking.span, asking.at)
            for asking in bronze[CandleApi.name].facts.asked
            if asking.is_of_rows
        ]
        if CandleApi.name in bronze
        else []
    )
    rows, answered, said_at = witness if witness else (None, (), None)
    return reconcile(
        sources,
        Candle.key,
        rows,
        is_sound=_IS_SOUND,
        answered=answered,
        asked=asked,
        said_at=said_at,
        precedence=PRECEDENCE,
    )


def _differing(settled: Reconciled) -> list[str]:
    """The columns in which REST contradicts the archive wholesale; `open_time` where it has no such
    candles.
    """
    alien = settled.conflicts.filter(rule=WHOLESALE)
    values = [name for name in PublishedCandle.names() if name not in Candle.key]
    counts = alien.group_by(Candle.key).agg(pl.col(values).n_unique()).select(pl.col(values).max())
    return [name for name in values if alien.height and counts[name].item() > 1] or list(Candle.key)


def conflicts(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> pl.DataFrame:
    """Every variant of every disputed candle of a cell, as rows of `silver/conflict` without the market's
    columns.
    """
    found = _reconciled(bronze, _sources(bronze), _witness(bronze)).conflicts
    in_life = pl.col("open_time") < market.delisted if market.delisted else True
    return found.rename({"source": "sources"}).with_columns(
        pl.col("is_served") & (_IS_SOUND | pl.col("is_absent")) & in_life
    )


def contradicted(bronze: BronzeCells) -> list[TimeRange]:
    """What the API is asked again though it answered: hours in which the rows that would be served contradict
    a witness, and days on which most differ from its own.
    """
    asked = bronze[CandleApi.name].facts.asked
    settled = _reconciled(bronze, _sources(bronze), _witness(bronze))
    hours = settled.judged.filter(~pl.col("agrees"))["open_time"] if settled.judged is not None else ()
    wrong = [*(TimeRange(start, start + HOUR) for start in hours), *map(day_range, settled.wholesale)]
    return [
        part
        for span in merged(wrong)
        for asking in asked
        if asking.is_of_rows and (part := span.overlap(asking.start, asking.end))
    ]


def _to_silver(rows: pl.DataFrame, market: MarketFacts) -> pl.DataFrame:
    if market.contract_size is not None:
        rows = rows.with_columns(
            quote_volume=pl.col("contracts") * market.contract_size,
            taker_buy_quote_volume=pl.col("taker_buy_contracts") * market.contract_size,
        )
    return rows.with_columns(
        source=pl.when(pl.col("source") == "api").then(pl.lit("api")).otherwise(pl.lit("archive")),
        is_truncated=pl.col("close_time") < pl.col("open_time") + MINUTE.delta - _LAST,
        is_misaligned=pl.col("open_time").dt.truncate(MINUTE.name) != pl.col("open_time"),
    ).select(Candle.names())


def doubt(
    rows: pl.DataFrame,
    cell: Cell,
    market: MarketFacts | None,
    witness: BronzeCell | None = None,
    explained: pl.Series | None = None,
    confirmed: pl.Series | None = None,
) -> Mapping[str, Doubt]:
    """Days of rows that another source should be asked about.

    Args:
        rows: Rows of the archive, or those that are served.
        cell: Their cell.
        market: Facts of the market.
        witness: The month's cell of 1h candles, where there is one.
        explained: Slots that are proven to have no candle.
        confirmed: Times of rows that are right though they are truncated or misaligned.
    """
    # Contract sizes are not needed to judge a row, so the market's facts are left out here.
    judged = rows.with_columns(
        source=pl.lit("archive"), is_truncated=pl.lit(False), is_misaligned=pl.lit(False)
    ).select(Candle.names())
    unlikely = judged.select(pl.col("open_time").filter(_UNLIKELY))["open_time"]
    broken = Candle.split(judged)[1]["open_time"].append(unlikely)
    if market and market.is_sparse and explained is None:  # that a minute has no row is nothing to doubt
        slot, step = pl.col("slot"), Candle.cadence.step
        absent = Candle.cadence.absent(rows["open_time"], cell.window).to_frame()
        explained = absent.filter(~market.life.outside(slot, slot + step))["slot"]
    said = _witness({CandleWitness.name: witness}) if witness else None
    stated, answered = (said.rows, said.answered) if said else (None, ())
    return days_in_doubt(
        rows,
        cell.window,
        Candle.cadence.step,
        broken,
        market.life if market else UNKNOWN,
        stated,
        answered=answered,
        explained=explained,
        confirmed=confirmed,
    )


def unsettled(rows: pl.DataFrame, witness: BronzeCell | None) -> frozenset[str]:
    """Days on which files of the archive disagree and no proof decides, so that another source should be
    asked.
    """
    parts = {str(name): frame for (name,), frame in rows.partition_by("source", as_dict=True).items()}
    judge = _witness({CandleWitness.name: witness}) if witness else None
    return _reconciled({}, parts or {"daily": rows}, judge).unsettled_days(Candle.time)


CANDLE = Dataset(
    Candle,
    refine,
    doubt,
    conflicts,
    unsettled,
    contradicted,
    evidence=("contradicted", "unconfirmed", "totals", "rows_daily", "rows_api"),
)
