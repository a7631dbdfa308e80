"""Whatever two or three faults meet: a reader is told nothing that is not so.

`GENERATED=5000 pytest lakehouse_tests/faults/test_generated.py -k seeds -n 2` (`make test-long`) runs more
seeds than usual; `python -m lakehouse_tests.faults.generated SEED` runs one alone. A seed that found
something becomes a case below, as a list of its faults.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.model.cell import Cell
from lakehouse.model.result import Problem
from lakehouse_tests.faults import bybit_generated, funding_generated
from lakehouse_tests.faults.generated import (
    ARCHIVE,
    BTC,
    CLOSED,
    KINDS,
    REST,
    Case,
    Fault,
    bench,
    described,
    draw,
    run,
    told_at,
)
from lakehouse_tests.faults.oracle import Known, View, judge, look
from lakehouse_tests.faults.told import (
    DAILY,
    HOURS,
    LISTED,
    MINUTES,
    MONTH,
    MONTHLY,
    SOURCES,
    Stand,
    Told,
    stand,
)

pytestmark = pytest.mark.slow

SEEDS, SHARDS, SHARDS_OF_OTHERS = int(os.environ.get("GENERATED", "100")), 20, 3


@pytest.fixture(scope="module")
def exchange() -> Iterator[Stand]:
    """What serves the cases, one after another."""
    with stand() as running:
        yield running


def nothing_is_wrong(case: Case, exchange: Stand, seed: int | None = None) -> str:
    """The lies of a case in words; empty where there are none."""
    found = run(case, exchange)
    return (
        "\n".join(
            [
                f"{described(case)}" + (f"  # seed {seed}" if seed is not None else ""),
                *(f"    {lie}" for lie in found),
                "",
            ]
        )
        if found
        else ""
    )


@pytest.mark.parametrize(
    "shard", [0, *(pytest.param(shard, marks=pytest.mark.slow) for shard in range(1, SHARDS))]
)
def test_no_reader_is_misled_whatever_the_seeds_draw(shard: int, exchange: Stand) -> None:
    found = [nothing_is_wrong(draw(seed), exchange, seed) for seed in range(shard, SEEDS, SHARDS)]
    assert "".join(found) == ""


@pytest.fixture(scope="module")
def perpetuals() -> Iterator[Stand]:
    """What serves the cases of funding."""
    with funding_generated.stand() as running:
        yield running


@pytest.mark.parametrize("shard", range(SHARDS_OF_OTHERS))
def test_no_reader_of_funding_is_misled_whatever_the_seeds_draw(shard: int, perpetuals: Stand) -> None:
    for seed in range(shard, SEEDS // 3, SHARDS_OF_OTHERS):
        assert funding_generated.run(seed, perpetuals) == [], f"{seed}: {funding_generated.draw(seed)}"


@pytest.fixture(scope="module")
def bybit() -> Iterator[Stand]:
    """What serves the cases of an exchange with REST alone."""
    with bybit_generated.stand() as running:
        yield running


@pytest.mark.parametrize("shard", range(SHARDS_OF_OTHERS))
def test_no_reader_of_an_exchange_with_rest_alone_is_misled(shard: int, bybit: Stand) -> None:
    for seed in range(shard, SEEDS // 10, SHARDS_OF_OTHERS):
        case = bybit_generated.draw(seed)
        assert bybit_generated.run(case, bybit) == [], f"{seed}: {described(case)}"


def test_the_seeds_of_a_usual_run_draw_every_kind_of_fault() -> None:
    drawn = {fault.kind for seed in range(200) for fault in draw(seed).faults}
    assert drawn == set(KINDS)
    alone = [fault for seed in range(200) for fault in bybit_generated.draw(seed).faults]
    assert {fault.kind for fault in alone} == set(bybit_generated.KINDS)
    answers = bybit_generated.KINDS["answer"]
    assert {fault.text for fault in alone if fault.kind == "answer"} == set(answers.texts)
    cases = [funding_generated.draw(seed) for seed in range(200)]
    assert {fault.kind for case in cases for fault in case.faults} == set(funding_generated.KINDS)
    assert {case.cadence for case in cases} == set(funding_generated.CADENCES)


def test_a_seed_draws_the_same_case_again() -> None:
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    # what a failure prints makes the case
    assert eval(described(draw(5)), {"Case": Case, "Fault": Fault}) == draw(5)


# --- what was found -------------------------------------------------------------------------------

FILES_AND_MINUTES = (*ARCHIVE, MINUTES)
UNKNOWN, FORBIDDEN = Fault("REST", REST, text="-1121"), Fault("REST", REST, text="-1122")
DAY = Fault("lost", ARCHIVE, at=1440, count=1440)

FOUND: dict[str, Case] = {
    # A proof of absence that contradicts the witness.
    "minutes that the hours show as traded": Case((Fault("lost", FILES_AND_MINUTES, 2000, 70),)),
    "one minute that its hour shows as traded": Case((Fault("lost", FILES_AND_MINUTES, 2005),)),
    "an empty page, once": Case((DAY, Fault("answer", ("1m",), text="empty"))),
    "a second page that is empty, once": Case((DAY, Fault("answer", ("1m",), count=2, text="empty"))),
    "an object for a page, once": Case((DAY, Fault("answer", ("1m",), text="object"))),
    "a page without its first row, once": Case((DAY, Fault("answer", ("1m",), text="first row"))),
    "a row of REST that is no number": Case((DAY, Fault("no number", (MINUTES,), 2000, text="NaN"))),
    "no number in the files and at REST": Case(
        (
            Fault("no number", FILES_AND_MINUTES, 66, text="NaN"),
            Fault("no number", ARCHIVE, 396, 2, "inf", "at first"),
        )
    ),
    "a minute and its hour that are no numbers at REST, of a lost day": Case(
        (Fault("no number", REST, 1501, text="NaN"), Fault("lost", ARCHIVE, 1440, 1440))
    ),
    "a minute and its hour that are no numbers at REST, and no files": Case(
        (Fault("no number", REST, 2941, text="inf"), Fault("file", ("2024-02", "2024-02-29"), text="absent"))
    ),
    "an hour that is no number, and minutes that REST alone lacks": Case(
        (Fault("no number", (HOURS,), 1501, text="NaN"), Fault("lost", (MINUTES, MONTHLY), 1500, 60))
    ),
    "REST ten minutes behind while the month is open": Case(
        (Fault("behind", (MINUTES,), count=40),), is_open=True
    ),
    "eight days that the hours show as traded": Case(
        (Fault("lost", FILES_AND_MINUTES, 2000, 8 * 1440),), is_early=True
    ),
    "a halt of today, whose hours nobody was asked about": Case(
        (Fault("halt", SOURCES, 3130, 17),), is_open=True
    ),
    "a halt beside a loss": Case(
        (Fault("halt", SOURCES, 2000, 38), Fault("lost", FILES_AND_MINUTES, 2038, 5))
    ),
    "a halt, and no answer about the hours": Case(
        (Fault("halt", SOURCES, 2000, 17), Fault("answer", ("1h",), text="empty"))
    ),
    # Healed where nothing healed.
    "prices that move without trades, and a market unknown to REST": Case(
        (Fault("no trades", ARCHIVE, 2000, 12), UNKNOWN)
    ),
    "a day of swapped volumes, and a market unknown to REST": Case(
        (Fault("swapped volumes", ARCHIVE, 1441, 1439), UNKNOWN)
    ),
    "swapped volumes in the files, and an empty page": Case(
        (Fault("swapped volumes", ARCHIVE, 1441, 60), Fault("answer", ("1m",), text="empty"))
    ),
    "swapped volumes wherever minutes are": Case(
        (Fault("swapped volumes", FILES_AND_MINUTES, 1699, 60), Fault("row between", (MINUTES,), 3718))
    ),
    # One family contradicting wholesale.
    "a minute that files lack, and another market at REST": Case(
        (Fault("other market", (MINUTES,), count=100_000), Fault("lost", ARCHIVE, 1500)), is_repeated=True
    ),
    # Presence against absence.
    "a row between two in the monthly file": Case((Fault("row between", (MONTHLY,), 2000),)),
    "rows between in both files": Case((Fault("row between", ARCHIVE, 2000, 4),)),
    "rows of both files inside a halt": Case((Fault("invented in a halt", ARCHIVE, 362, 70),)),
    "rows of both files inside a halt, verified": Case(
        (
            Fault("invented in a halt", ARCHIVE, 362, 70),
            Fault("hour withheld", (HOURS,), 2199, 24, during="at first"),
        ),
        is_open=True,
        is_verified=True,
    ),
    "flat rows of REST inside a halt": Case(
        (
            Fault("invented in a halt", (MINUTES,), 2481, 3, "flat"),
            Fault("other volume", SOURCES, 2140, 3, during="lately"),
        ),
        is_verified=True,
    ),
    # A known contradiction told as missing proof, or as proof.
    "one row of REST wrong in volume": Case((DAY, Fault("other volume", (MINUTES,), 2000))),
    "dailies alone against an hour": Case(
        (Fault("file", ("2024-02",), text="absent"), Fault("other volume", (DAILY, MINUTES), 2000))
    ),
    "dailies alone against the hours of half a day": Case(
        (Fault("shifted", FILES_AND_MINUTES, 2996, 600), Fault("other close", (MONTHLY,), 3161))
    ),
    "one hour wrong by itself": Case((Fault("other count", (HOURS,), 2335, 3),)),
    "an hour that lacks five minutes": Case((Fault("lost", (HOURS,), 2830, 5),)),
    # One family that confirms itself, or contradicts wholesale.
    "two days by REST alone": Case((Fault("lost", ARCHIVE, 324, 2880),)),
    "REST of another market": Case((Fault("other market", REST),)),
    "REST of another market, verified": Case(
        (Fault("other market", REST, during="lately"),), is_verified=True
    ),
    "hours of another market": Case(
        (Fault("other market", (HOURS,)), Fault("row between", (DAILY,), 2047, 4, during="lately"))
    ),
    "files of another market": Case((Fault("other market", ARCHIVE),)),
    # An outcome of one question taken for an outage.
    "REST forbids the market": Case((FORBIDDEN,)),
    "REST forbids a market that lost a day": Case((DAY, FORBIDDEN)),
    # One by one.
    "a close time a millisecond late in both files": Case((Fault("ends late", ARCHIVE, 2000),)),
    "no number in the monthly file": Case(
        (Fault("no number", (MONTHLY,), 2001, text="NaN"),), has_neighbour=True
    ),
    "a number beyond all in the monthly file": Case((Fault("no number", (MONTHLY,), 2001, text="1e400"),)),
    "exact duplicates within a page of REST": Case((DAY, Fault("twice equal", (MINUTES,), 2000, 5))),
    "two values within a page of REST": Case((DAY, Fault("twice different", (MINUTES,), 2000, 5))),
    "two values within a page of REST, verified": Case(
        (Fault("twice different", FILES_AND_MINUTES, 1030, 5),), is_verified=True
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=() if number % 20 == 0 else pytest.mark.slow)
        for number, (name, case) in enumerate(FOUND.items())
    ],
)
def test_what_was_found_once_misleads_nobody_again(case: Case, exchange: Stand) -> None:
    assert nothing_is_wrong(case, exchange) == ""


OF_REST_ALONE: dict[str, Case] = {
    # A life that begins too late: a page full of rows stated twice lacks the oldest ones, or one is empty.
    "the first minutes, behind rows stated twice": Case((Fault("twice equal", (MINUTES,), 78, 5),)),
    "an empty page of the first minutes": Case((Fault("answer", ("1m",), count=2, text="empty"),)),
}


@pytest.mark.parametrize("name", OF_REST_ALONE)
def test_what_was_found_of_rest_alone_misleads_nobody_again(name: str, bybit: Stand) -> None:
    assert bybit_generated.run(OF_REST_ALONE[name], bybit) == []


# --- the oracle itself ----------------------------------------------------------------------------

HALT = Fault("halt", SOURCES, at=2000, count=17)


def seen(case: Case, exchange: Stand, root: Path) -> tuple[View, Known]:
    """What a reader sees after one build, and what is known."""
    told = told_at(case, CLOSED, is_last=False)
    exchange.open(told)
    with bench(exchange, root) as it:
        it.build(BTC)
        view = look(it.lake, Cell(MONTH, BTC))
    assert view is not None
    return view, Known((told,))


@pytest.fixture(scope="module")
def clean(exchange: Stand, tmp_path_factory: pytest.TempPathFactory) -> tuple[View, Known]:
    """A month with a halt that REST proves, and nothing wrong."""
    view, known = seen(Case((HALT,)), exchange, tmp_path_factory.mktemp("clean"))
    assert judge(view, known) == []
    assert (view.evidence, view.rows.height, [run.gap_class for run in view.runs]) == (
        "totals",
        3 * 1440 - 17,
        ["not_listed", "halt"],
    )
    return view, known


def kinds(view: View | None, known: Known) -> set[str]:
    """The kinds of lies that are seen."""
    return {lie.partition(":")[0] for lie in judge(view, known)}


def test_the_oracle_sees_a_row_that_is_served_wrong_or_made_up(clean: tuple[View, Known]) -> None:
    view, known = clean
    wrong = view.rows.with_columns(
        volume=pl.when(pl.int_range(pl.len()) == 700).then(pl.col("volume") * 2).otherwise("volume")
    )
    assert kinds(replace(view, rows=wrong), known) >= {"wrong row", "made up", "level", "contradiction"}
    assert kinds(
        replace(view, rows=wrong, evidence="contradicted", findings={"evidence": ["1 hour"]}, state="warn"),
        known,
    ) == {"made up", "withheld"}
    assert kinds(replace(view, rows=wrong, evidence="unconfirmed"), known) == {
        "made up",
        "withheld",
        "contradiction",
    }


def test_the_oracle_sees_a_change_within_an_hour_only_where_the_level_claims_it(
    exchange: Stand, tmp_path: Path
) -> None:
    view, known = seen(Case((Fault("other close", ARCHIVE, at=1530),)), exchange, tmp_path)
    assert (view.evidence, judge(view, known)) == ("totals", [])
    assert kinds(replace(view, evidence="rows_api"), known) == {"wrong row", "level"}


def test_the_oracle_sees_a_row_that_is_withheld(clean: tuple[View, Known]) -> None:
    view, known = clean
    assert kinds(replace(view, rows=view.rows.head(700).vstack(view.rows.tail(-701))), known) >= {
        "slots",
        "withheld",
        "contradiction",
    }
    assert kinds(None, known) == {"withheld"}


def test_the_oracle_sees_a_slot_told_twice_or_not_at_all(clean: tuple[View, Known]) -> None:
    view, known = clean
    first, halt = view.runs
    assert kinds(replace(view, runs=(first,)), known) == {"slots"}
    assert kinds(replace(view, runs=(first, halt, halt)), known) == {"slots"}
    assert kinds(replace(view, asked_until=view.now + timedelta(days=1)), known) == {"slots"}


def test_the_oracle_sees_a_halt_that_was_none_or_not_proven(
    clean: tuple[View, Known], exchange: Stand, tmp_path: Path
) -> None:
    view, known = clean
    longer = replace(view.runs[1], end=view.runs[1].end + timedelta(minutes=2), slot_count=19)
    rows = view.rows.filter(~pl.col("open_time").is_between(longer.start, longer.end, closed="left"))
    assert "halt" in kinds(replace(view, runs=(view.runs[0], longer), rows=rows), known), (
        "two minutes of it were traded"
    )
    assert "halt" in kinds(replace(view, witness_asked=()), known), "nobody asked for the hours"
    assert "halt" in kinds(replace(view, api_asked=()), known), "nobody asked for the minutes"
    assert "not listed" in kinds(
        replace(view, runs=(view.runs[0], replace(view.runs[1], gap_class="not_listed"))), known
    )
    assert "conflict" in kinds(
        replace(view, runs=(view.runs[0], replace(view.runs[1], gap_class="conflict"))), known
    )


def test_the_oracle_sees_a_level_above_its_proof(clean: tuple[View, Known]) -> None:
    view, known = clean
    assert kinds(
        replace(
            view,
            evidence="rows_daily",
            archive=view.archive.filter(source="monthly").with_columns(source=pl.lit("monthly")),
        ),
        known,
    ) == {"level"}
    assert kinds(replace(view, evidence="rows_api"), known) == {"level"}, "REST was asked for one day alone"
    assert kinds(replace(view, is_fresh=False), known) == {"level"}, "the hours are older than a revision"
    assert kinds(replace(view, evidence="proven"), known) == {"level"}


def test_the_oracle_sees_what_is_said_to_be_healed_and_is_not(exchange: Stand, tmp_path: Path) -> None:
    view, known = seen(
        Case((Fault("lost", ARCHIVE, at=2000, count=60), Fault("REST", REST, text="down"))),
        exchange,
        tmp_path,
    )
    assert judge(view, known) == []
    healed = Problem("", "short", "", "REST API", "2024-02-28")
    assert kinds(replace(view, problems=(healed,)), known) == {"healed"}
    assert kinds(replace(view, problems=(replace(healed, day="2024-02-27"),)), known) == set()


def test_the_oracle_sees_as_much_of_an_exchange_with_rest_alone(bybit: Stand, tmp_path: Path) -> None:
    told = bybit_generated.told_at(Case((HALT,)), CLOSED, is_last=False)
    bybit.open(told)
    with bench(bybit, tmp_path) as it:
        it.build(bybit_generated.SCENE.market)
        view = look(it.lake, Cell(MONTH, bybit_generated.SCENE.market))
    assert view is not None
    known = Known((told,))
    assert judge(view, known) == []
    assert (view.evidence, view.rows.height) == ("totals", 3 * 1440 - 17)
    assert view.rows["trade_count"].null_count() == view.rows.height
    wrong = view.rows.with_columns(
        volume=pl.when(pl.int_range(pl.len()) == 700).then(pl.col("volume") * 2).otherwise("volume")
    )
    assert kinds(replace(view, rows=wrong), known) >= {"wrong row", "made up", "level", "contradiction"}
    fewer = view.rows.head(700).vstack(view.rows.tail(-701))
    assert kinds(replace(view, rows=fewer), known) >= {"slots", "withheld", "contradiction"}
    assert "halt" in kinds(replace(view, witness_asked=()), known)
    assert "withheld" in kinds(None, known)


def test_the_oracle_wants_a_contradiction_told_by_check_and_report(clean: tuple[View, Known]) -> None:
    view, known = clean
    assert kinds(replace(view, evidence="contradicted", state="good", findings={}), known) == {
        "contradiction"
    }
    assert kinds(
        replace(view, evidence="contradicted", state="warn", findings={"gaps": ["17 rows"]}), known
    ) == {"contradiction"}


# --- what the cases rest on -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", {**KINDS, **bybit_generated.KINDS})
def test_a_fault_changes_what_a_source_tells(kind: str) -> None:
    for kinds_of, at_a_time, told in (
        (KINDS, told_at, Told.of(LISTED, CLOSED)),
        (
            bybit_generated.KINDS,
            bybit_generated.told_at,
            bybit_generated.RestTold.of(bybit_generated.LISTED, CLOSED),
        ),
    ):
        of = kinds_of.get(kind)
        for where in of.where if of else ():
            after = at_a_time(Case((Fault(kind, where, 1501, max(of.counts), of.texts[-1]),)), CLOSED, False)
            assert told != after


def test_a_build_without_runs_leaves_what_a_build_with_them_leaves(exchange: Stand, tmp_path: Path) -> None:
    """Between Dagster and these cases lies nothing that decides anything."""
    import dagster as dg

    from lakehouse.cli.building import Builder
    from lakehouse.model.timerange import TimeRange

    case = Case((Fault("lost", (MONTHLY,), at=2000, count=70), Fault("other volume", ARCHIVE, at=700)))
    stamps = []
    for name in ("with", "without"):
        exchange.open(told_at(case, CLOSED, False))
        with bench(exchange, tmp_path / name) as it:
            it.reopen()
            if name == "without":
                it.build(BTC)
            else:
                with dg.DagsterInstance.ephemeral() as instance:
                    Builder(it.lake, instance).build(
                        it.lake.registry.named("silver/conflict"),
                        [BTC],
                        TimeRange.parse("2024-02", "2024-03"),
                    )
            # bronze rows, and disputes, hold when they were fetched
            (record,) = it.lake.ledger("silver/candle").values()
            stamps.append(
                (
                    record.version,
                    record.facts.evidence,
                    record.facts.gaps,
                    record.facts.problems,
                    record.facts.conflict_count,
                )
            )
    assert stamps[0] == stamps[1]
    assert stamps[0][4] == 1
