"""The faults of trading and of the REST API; see `cases`."""

from pathlib import Path

import polars as pl

from lakehouse.cli.verifying import verify
from lakehouse.model.result import GapRun
from lakehouse_tests.faults.cases import HALT, as_clean, built, case, other_values
from lakehouse_tests.faults.lab import BTC, MONTHLY, ROWS, Found, LakeLab, lab
from lakehouse_tests.making import MICRO, MINUTE

MISALIGNED = 1000


# --- trading stopped ------------------------------------------------------------------------------


def the_halt(found: Found) -> GapRun:
    """The one gap, proven, with the instant that the candle before it tells."""
    (run,) = [run for facts in found.facts.values() for run in facts.gaps if run.gap_class != "not_listed"]
    assert (run.gap_class, run.slot_count, run.end - run.start) == ("halt", HALT, HALT * MINUTE)
    last = found.rows.filter(pl.col("open_time") < run.start)[-1:].row(0, named=True)
    assert last["is_truncated"]
    assert last["close_time"] + MICRO == run.halted_at < run.start
    assert found.rows.filter(pl.col("open_time").is_between(run.start, run.end, closed="left")).height == 0, (
        "no row is invented"
    )
    return run


@case(
    "halt",
    "trading stopped within a minute and for 37 more: nobody has candles",
    note="REST has the candles on both sides and none between: kept as proof",
)
def _(root: Path) -> Found:
    found = built(root, f"halt={MONTHLY}")
    run = the_halt(found)
    assert other_values(found)["open_time"].to_list() == [run.start - MINUTE], "the truncated candle alone"
    assert (found.rows.height, found.problems, found.evidence, found.exit_code) == (
        ROWS - HALT,
        [("short", "REST API: a proven halt")],
        ["totals"],
        0,
    )
    return found


@case(
    "halt, misaligned candles after it",
    "a candle without trades and a truncated one before a halt; then a thousand candles open 17.3 s late, "
    "and the first on time overlaps the last of these",
    note="all are served as they are; a misaligned one covers the minute it opens in",
)
def _(root: Path) -> Found:
    found = built(root, f"halt_misaligned={MONTHLY}")
    run = the_halt(found)
    assert found.rows.filter(open_time=run.start - 2 * MINUTE)["trade_count"].to_list() == [0]
    late = found.rows.filter("is_misaligned")
    assert late.height == MISALIGNED
    assert (late["open_time"].dt.second().unique().to_list(), late["open_time"][0] - run.end) == (
        [17],
        late["open_time"][0] - late["open_time"][0].replace(second=0, microsecond=0),
    )
    following = found.rows.filter(pl.col("open_time") > late["open_time"][-1])["open_time"][0]
    assert late["close_time"][-1] > following, "the two overlap"
    assert (found.rows.height, found.problems, found.evidence, found.exit_code) == (
        ROWS - HALT,
        [("short", "REST API: a proven halt")],
        ["totals"],
        0,
    )
    return found


@case(
    "halt, and REST does not answer",
    "as the halt above, with REST out of reach",
    note="not proven, so `absent`; the next build asks again",
)
def _(root: Path) -> Found:
    with lab(root, f"halt={MONTHLY}", "rest_unavailable") as it:
        it.build()
        found = it.found()
        assert [(kind, count) for kind, _, count in found.gaps] == [("absent", HALT)]
        assert (found.rows.height, found.evidence, found.exit_code) == (ROWS - HALT, ["unconfirmed"], 0)
        assert {kind for kind, healed in found.problems if not healed} == {"short", "unreachable"}
        it.sim.clear_faults()
        it.sim.add_fault(f"halt={MONTHLY}")
        it.build()
        the_halt(it.found())
        assert it.found().versions == found.versions, "the rows were right; what is known of the gap is news"
    return found


# --- transfers ------------------------------------------------------------------------------------


@case("cut transfers", "the first transfer of each file ends in the middle")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"cut_transfer={MONTHLY}"))
    assert found.problems == []
    return found


@case("503", "the archive answers 503 SlowDown twice, REST answers 503 twice")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"error_503={MONTHLY}", "rest_503"))
    assert (found.problems, found.waited) == ([], 3.0)
    return found


@case("429", "REST answers 429 with `Retry-After: 1`, twice")
def _(root: Path) -> Found:
    found = as_clean(built(root, "error_429"))
    assert (found.problems, round(found.waited)) == ([], 2)
    return found


@case("error in the body", "REST answers 200 with an error in the body, twice")
def _(root: Path) -> Found:
    found = as_clean(built(root, "body_error"))
    assert (found.problems, round(found.waited)) == ([], 120)
    return found


def archive_only(root: Path, fault: str, said: str) -> Found:
    """The month as the archive has it; the API is asked once and left alone; the next build without the fault
    finishes the job.
    """
    with lab(root, fault) as it:
        it.build()
        found = as_clean(it.found(), "unconfirmed")
        (problem,) = found.facts["2024-02"].problems
        assert (problem.kind, problem.healed_by) == ("unreachable", "")
        assert said in problem.detail
        assert (
            len([path for _, path in it.sim.requests if "/klines" in path and "data.binance" not in path])
            == 1
        )
        assert found.waited == 0
        it.sim.clear_faults()
        it.sim.advance(200 * MINUTE / 60)
        it.waited.seconds += 200  # the ban has passed
        it.build()
        assert as_clean(it.found()).problems == []
    return found


@case(
    "418",
    "REST answers 418: the address is banned for three minutes",
    note="it is not asked again before; the next build is",
)
def _(root: Path) -> Found:
    return archive_only(root, "error_418", "it has banned this address")


@case(
    "451",
    "REST answers 451: the region is blocked",
    note="the problem names the setting that moves to another host",
)
def _(root: Path) -> Found:
    return archive_only(root, "error_451", "LAKEHOUSE_BINANCE_REST_URL")


# --- what REST says -------------------------------------------------------------------------------


@case(
    "REST out of reach, then back",
    "REST answers nothing during a backfill with a hole in the archive; the next build finds it back",
    note="after the second build",
)
def _(root: Path) -> Found:
    hole = f"hole={MONTHLY}"
    with lab(root / "whole", hole) as it:
        it.build(table="gold/candle_1h")
        undisturbed = it.found()
    with lab(root / "late", hole, "rest_unavailable") as it:
        reports = it.build(table="gold/candle_1h")
        first = it.found()
        assert (first.exit_code, [(kind, count) for kind, _, count in first.gaps], first.evidence) == (
            0,
            [("absent", 70)],
            ["unconfirmed"],
        )
        assert ("unreachable", "") in first.problems
        it.sim.clear_faults()
        it.sim.add_fault(hole)
        reports = it.build(table="gold/candle_1h")
        assert {report.table for report in reports if report.built} >= {
            "bronze/candle_witness",
            "bronze/candle_api",
            "silver/candle",
            "gold/candle_1h",
        }
        found = it.found()
        assert found.versions == undisturbed.versions
        assert len(found.versions) == 2
        assert it.due() == []
    return as_clean(found, by_rest=70)


@case(
    "REST revised after the archive",
    "REST has other values for a minute, in its hours too, than all files",
    note="the witness believes REST, as does the rule; the files' value is in `silver/conflict`",
)
def _(root: Path) -> Found:
    found = built(root, f"rest_revised={MONTHLY}")
    (revised,) = other_values(found).iter_rows(named=True)
    assert revised["source"] == "api"
    assert found.conflicts.select("sources", "is_served", "open_time").rows() == [
        ("daily+monthly", False, revised["open_time"]),
        ("api", True, revised["open_time"]),
    ]
    assert (found.rows.height, found.disputes, found.problems, found.evidence, found.exit_code) == (
        ROWS,
        [("witness", "api")],
        [("witness", "REST API")],
        ["totals"],
        0,
    )
    return found


@case(
    "REST revised after a build",
    "as before, but the month had been built and was not in doubt",
    note="nothing is asked again: what was built stands until somebody verifies",
)
def _(root: Path) -> Found:
    with lab(root) as it:
        it.build()
        it.sim.add_fault(f"rest_revised={MONTHLY}")
        it.sim.reset_requests()
        assert not any(report.built for report in it.build())
        assert not [path for _, path in it.sim.requests if "/klines" in path and "data.binance" not in path]
        return as_clean(it.found())


@case("REST has a hole", "REST lacks the minutes of a day that the archive has")
def _(root: Path) -> Found:
    # met by nobody: no minute is asked for where the hours agree
    with lab(root, f"rest_hole={MONTHLY}") as it:
        it.build()
        return as_clean(it.found())


@case("REST's clock an hour ahead", "the API's time is an hour ahead of the archive's")
def _(root: Path) -> Found:
    return as_clean(built(root, "clock_skew"))


# --- what `lakehouse verify` adds -----------------------------------------------------------------


def verified(it: LakeLab) -> Found:
    """What a reader finds after `lakehouse verify`."""
    said = verify(it.lake, it.instance, [BTC], None, budget=100)
    assert (said.failed, said.left, [one.evidence for one in said.verified]) == ({}, 0, ["totals"]), (
        "of rows that REST alone states, nobody else says the same"
    )
    it.reports = []
    return it.found()


@case(
    "interior changed, then verified",
    "as *interior changed*, and `lakehouse verify` after the build",
    note="REST states every minute, and the witness cannot tell the two apart",
)
def _(root: Path) -> Found:
    with lab(root, f"interior_changed={MONTHLY}") as it:
        it.build()
        (wrong,) = other_values(it.found())["open_time"]
        found = verified(it)
    assert found.conflicts["open_time"].unique().to_list() == [wrong]
    assert found.conflicts["sources"].to_list() == ["monthly", "api"]
    return found


@case(
    "REST revised after a build, then verified",
    "as *REST revised after a build*, and `lakehouse verify` after it",
    note="the minutes contradict the hours that REST stated before, so these are fetched again, and all is as in the fresh backfill above",
)
def _(root: Path) -> Found:
    fault = f"rest_revised={MONTHLY}"
    with lab(root / "fresh", fault) as it:
        it.build()
        fresh = it.found()
    with lab(root / "late") as it:
        it.build()
        it.sim.add_fault(fault)
        it.sim.advance(MINUTE)
        found = verified(it)
        assert it.due() == []
    assert found.versions == fresh.versions
    assert found.disputes == [("witness", "api")]
    return found
