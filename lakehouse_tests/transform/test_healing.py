"""Healed is what is served rightly, and the healer is who made it so."""

from dataclasses import replace

import polars as pl
import pytest

from lakehouse.model.interval import Interval
from lakehouse.model.life import Life
from lakehouse.model.result import GapRun, Problem
from lakehouse.transform.contradictions import find_contradictions
from lakehouse.transform.healing import Served, confirmed_times, explained_slots, judge_problems
from lakehouse.transform.resample import resample
from lakehouse.transform.witness import judge
from lakehouse_tests.making import MINUTE, at, bronze, minutes

KEY, DAY = ("open_time",), "2024-02-05"
TIMES = minutes(DAY, 120)
LIFE = Life(at("2024-02-01"))
MONTHLY, DAILY, API = (bronze(TIMES, name) for name in ("monthly", "daily", "api"))
SHORT = Problem(f"monthly.zip on {DAY}", "short", "", "", DAY)


def healer(
    problem: Problem,
    rows: pl.DataFrame = MONTHLY,
    gaps: tuple[GapRun, ...] = (),
    doubts: tuple[str, ...] = (),
    unsettled: tuple[str, ...] = (),
    **held: pl.DataFrame,
) -> str:
    sources = held or {"monthly": MONTHLY}
    (judged,) = judge_problems([problem], Served(rows, sources, KEY, gaps, LIFE, doubts, unsettled))
    return judged.healed_by


def run(gap_class: str, first: int = 0, count: int = 30, day: str = DAY) -> GapRun:
    start = at(day) + first * MINUTE
    return GapRun(gap_class, start, start + count * MINUTE, count)  # type: ignore[arg-type]


def test_what_is_still_in_doubt_disputed_or_absent_is_not_healed_whoever_was_said_to_have() -> None:
    said = Problem(SHORT.subject, "short", "", "daily.zip", DAY)
    everything = {"monthly": MONTHLY[:60], "daily": DAILY}
    assert healer(said, DAILY, **everything) == "daily.zip"
    assert healer(said, DAILY, doubts=(DAY,), **everything) == ""
    assert healer(said, DAILY, unsettled=(DAY,), **everything) == ""
    assert (
        healer(said, DAILY, (run("absent"),), **everything)
        == healer(said, DAILY, (run("conflict"),), **everything)
        == ""
    )
    assert (
        healer(said, DAILY, (run("absent", day="2024-02-07"),), doubts=("2024-02-06",), **everything)
        == "daily.zip"
    ), "other days are others' matter"


def test_the_healer_is_whose_rows_replaced_the_bad_ones() -> None:
    lost = {"monthly": MONTHLY[:60]}
    assert healer(SHORT, pl.concat([MONTHLY[:60], API[60:]]), **lost, api=API) == "REST API"
    assert healer(SHORT, DAILY, **lost, daily=DAILY) == "daily.zip"
    mixed = pl.concat([MONTHLY[:60], DAILY[60:90], API[90:]])
    assert healer(SHORT, mixed, **lost, daily=DAILY[:90], api=API) == "daily.zip and REST API"
    assert healer(SHORT, API, (run("halt"),), **lost, api=API) == "REST API: rows and a proven halt"
    assert healer(SHORT, MONTHLY, (run("halt", 200),)) == "REST API: a proven halt"
    assert healer(SHORT, MONTHLY, (run("not_listed", 200),)) == "REST API: a proven break of the listing"
    assert healer(SHORT, MONTHLY, (GapRun("not_listed", at("2024-01-01"), at("2024-02-01"), 1),)) == "", (
        "before the listing nothing is expected, and nothing proven"
    )


def test_rows_that_nobody_replaced_are_healed_only_by_who_states_them_too() -> None:
    assert healer(SHORT) == "", "unknown, empty and silence heal nothing"
    assert healer(SHORT, monthly=MONTHLY, api=API) == "REST API: the same rows"
    assert healer(SHORT, monthly=MONTHLY, api=API[1:]) == ""
    said = Problem(SHORT.subject, "variants", "", "daily.zip", DAY)
    assert healer(said, monthly=MONTHLY, daily=DAILY) == "daily.zip"
    assert healer(said, monthly=MONTHLY, daily=DAILY[1:]) == "", "it does not state what is served"


def test_what_a_witness_found_is_not_healed_before_it_has_spoken_again() -> None:
    found = Problem(SHORT.subject, "witness", "", "daily.zip", DAY)
    served = Served(DAILY, {"daily": DAILY}, KEY, (), LIFE, (), ())
    assert [problem.healed_by for problem in judge_problems([found], served)] == ["daily.zip"]
    assert [
        problem.healed_by for problem in judge_problems([found], replace(served, is_witnessed=False))
    ] == [""]


def test_a_problem_of_a_whole_month_is_healed_if_all_of_it_is() -> None:
    whole = Problem("monthly.zip", "mismatch", "", "29 daily files")
    assert healer(whole, DAILY, daily=DAILY) == "29 daily files"
    assert (
        healer(whole, DAILY, (run("absent", day="2024-02-20"),), daily=DAILY)
        == healer(whole, DAILY, doubts=("2024-02-09",), daily=DAILY)
        == ""
    )


@pytest.mark.parametrize("kind", ["duplicates", "unreachable", "refused", "unusable", "foreign"])
def test_what_is_no_matter_of_rows_is_as_it_was_told(kind: str) -> None:
    assert healer(Problem("x", kind, "", "left out"), doubts=(DAY,)) == "left out"
    assert healer(Problem("x", kind, "")) == ""


def test_odd_rows_are_confirmed_by_archive_and_api_alike_or_by_their_hour() -> None:
    hours = resample(MONTHLY, Interval.parse("1h"))
    assert confirmed_times(MONTHLY, {"monthly": MONTHLY}, KEY, None).len() == 0
    assert confirmed_times(MONTHLY, {"monthly": MONTHLY, "api": API[:7]}, KEY, None).len() == 7
    assert confirmed_times(API, {"api": API}, KEY, None).len() == 0, "one family is one voice"
    assert confirmed_times(MONTHLY, {}, KEY, judge(MONTHLY, hours[:1])).len() == 60


def test_explained_slots_are_those_of_proven_runs_in_the_life() -> None:
    listed = at("2024-02-05T00:10:30")
    runs = [run("not_listed", 0, 10), run("halt", 20, 3), run("absent", 30, 3), run("halt", 50, 10)]
    found = explained_slots(runs, MINUTE, Life(listed, at("2024-02-05T00:52"))).to_list()
    assert found == [at(DAY) + n * MINUTE for n in (20, 21, 22, 50, 51)]


# --- contradictions -------------------------------------------------------------------------------


def test_hours_that_say_otherwise_are_told_as_runs_with_their_columns() -> None:
    hours = resample(bronze(minutes(DAY, 300)), Interval.parse("1h"))
    rows = bronze(minutes(DAY, 300), volume=[10.0] * 60 + [11.0] * 120 + [10.0] * 120)
    found = find_contradictions(judge(rows, hours), at("2024-02-06"), (), ())
    assert [(one.start, one.end, one.columns, one.is_wholesale) for one in found] == [
        (at("2024-02-05T01:00"), at("2024-02-05T03:00"), ("volume",), False)
    ]
    assert find_contradictions(judge(rows, hours), at("2024-02-05T02:00"), (), ())[0].end == at(
        "2024-02-05T02:00"
    ), "later rows were asked of nobody"
    assert find_contradictions(None, at("2024-02-06"), (), ()) == ()


def test_most_hours_of_a_day_with_other_prices_look_like_another_market() -> None:
    other = {"open": 50.0, "high": 51.0, "low": 49.0, "close": 50.5}
    hours, rows = (
        resample(bronze(minutes(DAY, 300), **other), Interval.parse("1h")),
        bronze(minutes(DAY, 300)),
    )
    (found,) = find_contradictions(judge(rows, hours), at("2024-02-06"), (), ())
    assert (found.is_wholesale, found.end - found.start) == (True, 300 * MINUTE)
    assert "another market's" in str(found)
    (by_rest,) = find_contradictions(None, at("2024-02-06"), (DAY,), ("open",))
    assert (by_rest.source, by_rest.is_wholesale) == ("api", True)
