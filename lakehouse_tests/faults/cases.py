"""The faults, one function each: it builds a lake with the product, asserts what must hold, and returns what
a reader finds.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.query.lake import Lake
from lakehouse_tests.faults.lab import BTC, DAILY, DAYS, LISTED, MONTHLY, ROWS, Found, lab
from lakehouse_tests.making import MINUTE, at

COIN = Market("binance", "inverse", "BTCUSD_PERP")
MARCH = ("2024-03", "2024-04")
CELL = Cell("2024-02", BTC)
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
HALT = 37


@dataclass(frozen=True)
class Case:
    """A fault.

    Attributes:
        name: What the page calls it.
        wrong: What goes wrong, in words.
        show: Builds, asserts and returns what a reader finds.
        is_february: Whether its rows are those of the clean month but for the fault.
        note: What else the reader should know.
    """

    name: str
    wrong: str
    show: Callable[[Path], Found]
    is_february: bool = True
    note: str = ""


CASES: list[Case] = []
Show = Callable[[Path], Found]


def case(name: str, wrong: str, is_february: bool = True, note: str = "") -> Callable[[Show], Show]:
    """Add a function to the cases."""

    def add(show: Show) -> Show:
        CASES.append(Case(name, wrong, show, is_february, note))
        return show

    return add


@cache
def clean() -> Found:
    """The month without a fault."""
    with TemporaryDirectory() as folder, lab(Path(folder)) as it:
        it.build()
        assert it.bronze_inputs(CELL) == ["2024-02"], "a clean month is one file"
        return it.found()


def built(root: Path, *faults: str) -> Found:
    """February with faults, built once."""
    with lab(root, *faults) as it:
        it.build()
        # that one leaves the file's name alone
        met = {fault.split("=")[0] for fault in faults} - {"interleaved_rows"}
        assert set(it.sim.faults_hit) >= met, "every fault was met"
        assert it.due() == [], "and nothing is left to do"
        return it.found()


def other_values(found: Found, truth: Found | None = None) -> pl.DataFrame:
    """Rows whose values are not those of the clean month."""
    return found.rows.join((truth or clean()).rows, on=VALUES, how="anti", nulls_equal=True)


def as_clean(found: Found, evidence: str = "totals", by_rest: int = 0) -> Found:
    """Assert that every minute is there with its true values; those that only REST has say so."""
    assert (found.rows.height, other_values(found).height, found.gaps, found.rejected, found.exit_code) == (
        ROWS,
        0,
        [],
        0,
        0,
    )
    assert found.rows.filter(source="api").height == by_rest
    assert found.evidence == [evidence]
    if not by_rest:
        assert found.versions == clean().versions, "the very bytes of a clean build"
    return found


# --- nothing wrong, and where a reader stands -----------------------------------------------------


@case("nothing", "nothing")
def _(root: Path) -> Found:
    found = as_clean(clean())
    assert (found.problems, found.disputes) == ([], [])
    (before,) = found.facts["2024-02"].gaps
    assert (before.gap_class, before.start, before.end) == ("not_listed", at("2024-02-01"), LISTED.listed)
    return found


@case(
    "part of a month",
    "`--from 2024-02-26 --to 2024-02-28`, then a read from 23:58 to 00:03",
    note="a build is widened to whole months, a read is exact",
)
def _(root: Path) -> Found:
    with lab(root) as it:
        it.build(("2024-02-26", "2024-02-28"))
        read = Lake(root).candles(BTC, "2024-02-26T23:58", "2024-02-27T00:03")
        assert read["open_time"].to_list() == [at("2024-02-26T23:58") + n * MINUTE for n in range(5)]
        return as_clean(it.found())


@case("a machine in New York", "a hole in the archive, built and read with `TZ=America/New_York`")
def _(root: Path) -> Found:
    fault = f"hole={MONTHLY}"
    with lab(root / "here", fault) as here, lab(root / "there", fault) as there:
        here.build()
        settings = {
            "LAKEHOUSE_ROOT": str(root / "there"),
            "DAGSTER_HOME": str(root / "dagster"),
            "LAKEHOUSE_START": "2024-02",
            "TZ": "America/New_York",
        }
        urls = dict.fromkeys(("LAKEHOUSE_BINANCE_ARCHIVE_URL", "LAKEHOUSE_BINANCE_REST_URL"), there.sim.url)
        read = f"from lakehouse import Lake; print(Lake({str(root / 'there')!r}).candles('{BTC.key}', '2024-02-26', '2024-02-27')['open_time'][0])"
        command = [
            sys.executable,
            "-c",
            f"from lakehouse.cli.app import app; app(standalone_mode=False); {read}",
        ]
        arguments = [
            "build",
            "silver/candle",
            "--markets",
            BTC.key,
            "--from",
            "2024-02-01",
            "--to",
            "2024-03-01",
        ]
        ended = subprocess.run(
            command + arguments, env=os.environ | settings | urls, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == "2024-02-26 00:00:00+00:00"
        assert there.versions() == here.versions()
        return as_clean(there.found(), by_rest=70)


# --- files that cannot be trusted, or are not there -----------------------------------------------


@case("stale CHECKSUM", "the sha256 of the monthly file is wrong, and that of one daily file")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"stale_checksum={MONTHLY}", f"stale_checksum={DAILY}"), by_rest=1440)
    assert found.problems == [("mismatch", f"{DAYS - 1} of {DAYS} daily files"), ("mismatch", "REST API")]
    return found


@case("damaged zip", "the monthly zip does not inflate although its CHECKSUM is right")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"damaged_zip={MONTHLY}"), "rows_daily")
    assert found.problems == [("corrupt", f"{DAYS} daily files")]
    return found


@case(
    "no file to be trusted",
    "the sha256 of the monthly file is wrong, and there are no daily files",
    note="the archive's cell fails, named, for it has no source; REST has every minute, and nobody but REST confirms them",
)
def _(root: Path) -> Found:
    with lab(root, f"stale_checksum={MONTHLY}", "daily_absent=*") as it:
        it.build()
        found = it.found()
        it.sim.clear_faults()
        it.build()
        assert it.found().exit_code == 0
        assert it.due() == []
        as_clean(it.found(), "rows_api")
    assert list(found.failed) == [f"bronze/candle_archive {CELL}"]
    assert (found.rows.height, other_values(found).height, found.gaps, found.evidence, found.exit_code) == (
        ROWS,
        0,
        [],
        ["totals"],
        1,
    )
    return found


@case("zip without CHECKSUM", "no CHECKSUM is published for the monthly file")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"checksum_absent={MONTHLY}"), "rows_daily")
    assert found.problems == [("mismatch", f"{DAYS} daily files")]
    return found


@case("CHECKSUM without zip", "the monthly zip is gone, its CHECKSUM is listed")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"zip_absent={MONTHLY}"), "rows_daily")
    assert found.problems == []
    return found


@case("month absent", "the monthly file is not published, the daily ones are")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"monthly_absent={MONTHLY}"), "rows_daily")
    assert found.problems == []
    return found


@case("day absent", "the monthly file lacks a day that has a daily file")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"day_absent={MONTHLY}"))
    assert [(kind, healed.rsplit("/", 1)[-1]) for kind, healed in found.problems] == [
        ("short", "BTCUSDT-1m-2024-02-26.zip")
    ]
    return found


@case(
    "file out of reach",
    "a daily file of the open month is listed, but every request for it answers 503",
    is_february=False,
    note="a cell failed, named; REST has its minutes meanwhile, and the next build mends it",
)
def _(root: Path) -> Found:
    with lab(root, "unavailable=*daily*2024-03-05.zip") as it:
        it.build(MARCH)
        found = it.found(MARCH)
        assert list(found.failed) == ["bronze/candle_archive 2024-03|binance-spot:BTCUSDT"]
        assert found.exit_code == 1
        it.sim.clear_faults()
        it.build(MARCH)
        assert it.found(MARCH).exit_code == 0
        assert other_values(it.found(MARCH), found).height == 0
        assert it.found(MARCH).rows.filter(source="api").height == 720
    assert found.rows["open_time"].to_list() == [at("2024-03-01") + n * MINUTE for n in range(9 * 1440 + 720)]
    return found


@case("hole", "all files of the archive lack 70 minutes that REST has")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"hole={MONTHLY}"), by_rest=70)
    assert found.problems == [("short", "REST API")]
    return found


@case(
    "hole, and REST does not have the market",
    "as before, of a market that REST has forgotten",
    note="nobody can be asked: the minutes are missing, and said to be",
)
def _(root: Path) -> Found:
    found = built(root, f"hole={MONTHLY}", "rest_forgotten=*")
    assert [(kind, count) for kind, _, count in found.gaps] == [("absent", 70)]
    assert (
        found.rows.height,
        other_values(found).height,
        found.problems,
        found.evidence,
        found.exit_code,
    ) == (ROWS - 70, 0, [("short", "")], ["unconfirmed"], 0)
    return found


# --- rows that are wrong --------------------------------------------------------------------------


@case("duplicates", "rows stand twice in the monthly file")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"duplicated_rows={MONTHLY}"))
    assert found.problems == [("duplicates", "one of each was kept")]
    return found


@case("interleaved rows", "the two halves of the monthly file alternate row by row")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"interleaved_rows={MONTHLY}"))
    assert found.problems == []
    return found


def settled_by_daily(root: Path, fault: str) -> Found:
    found = as_clean(built(root, f"{fault}={MONTHLY}"))
    assert found.disputes == [("witness", "daily")]
    (problem,) = found.problems
    assert problem[0] == "witness"
    assert "BTCUSDT-1m-2024-02-" in problem[1]
    assert found.conflicts["is_settled"].all()
    return found


@case("differing row", "a row of the monthly file differs from the daily file and REST")
def _(root: Path) -> Found:
    return settled_by_daily(root, "differing_row")


@case("hours wrong alike", "as before, and the monthly file of hours is wrong in the same way")
def _(root: Path) -> Found:
    return settled_by_daily(root, "coarse_wrong_alike")


@case("archive wrong", "monthly and daily file have the same wrong row, REST is right")
def _(root: Path) -> Found:
    found = as_clean(built(root, f"archive_wrong={MONTHLY}"), by_rest=1)
    assert (found.disputes, found.problems) == ([("witness", "api")], [("witness", "REST API")])
    assert found.conflicts["sources"].to_list() == ["daily+monthly", "api"]
    return found


@case(
    "differing row, and REST does not have the market",
    "as above, of a market that REST has forgotten",
    note="served, but nothing confirms it: the evidence says so",
)
def _(root: Path) -> Found:
    found = built(root, f"differing_row={MONTHLY}", "rest_forgotten=*")
    assert (
        found.rows.height,
        other_values(found).height,
        found.evidence,
        found.problems,
        found.exit_code,
    ) == (ROWS, 1, ["unconfirmed"], [], 0)
    return found


@case(
    "interior changed",
    "one close within an hour is wrong in all files, and no hour's edge, extreme or total tells",
    note="what `totals` cannot see; REST, asked for every minute, can",
)
def _(root: Path) -> Found:
    found = built(root, f"interior_changed={MONTHLY}")
    (wrong,) = other_values(found).iter_rows(named=True)
    true = clean().rows.filter(open_time=wrong["open_time"]).row(0, named=True)
    assert {name for name in wrong if wrong[name] != true[name]} == {"close"}
    assert (found.rows.height, found.evidence, found.problems, found.disputes, found.exit_code) == (
        ROWS,
        ["totals"],
        [],
        [],
        0,
    )
    return found


@case(
    "two values in one file",
    "keys stand twice in the monthly file, with different values",
    note="every value is in `silver/conflict`; the daily file has one of them, and REST, asked for that, too",
)
def _(root: Path) -> Found:
    found = as_clean(built(root, f"conflicting_rows={MONTHLY}"))
    assert found.problems == [("variants", "REST API: the same rows")] * 3
    assert found.disputes == [("both_families", "api+daily+monthly")] * 3
    return found


@case(
    "two values, and nobody else to ask",
    "as before, without daily files, and REST has forgotten the market",
    note="none of the two is served; both are in quarantine",
)
def _(root: Path) -> Found:
    found = built(root, f"conflicting_rows={MONTHLY}", "daily_absent=*", "rest_forgotten=*")
    assert [(kind, count) for kind, _, count in found.gaps] == [("conflict", 1)] * 3
    assert (found.disputes, found.rejected, found.rows.height, other_values(found).height) == (
        [("two_values_in_one_source", "")] * 3,
        6,
        ROWS - 3,
        0,
    )
    assert (found.exit_code, found.evidence) == (0, ["unconfirmed"])
    return found


@case(
    "re-upload",
    "between two builds the monthly file is replaced: another ETag, one changed close",
    note="the newest file counts; both values stay in bronze",
)
def _(root: Path) -> Found:
    with lab(root) as it:
        it.build()
        before = it.found()
        it.sim.add_fault(f"reupload={MONTHLY}")
        it.build()
        found = it.found()
        (changed,) = other_values(found)["open_time"]
        bronze = it.lake.tables.get(it.lake.registry.table("bronze/candle_archive"), CELL)
        assert bronze is not None
        history = bronze.rows.filter(open_time=changed, source="monthly").sort("fetched_at")
        assert history["close"].to_list() == [
            pl.select(pl.lit(frame.filter(open_time=changed)["close"].item())).item()
            for frame in (before.rows, found.rows)
        ]
        assert history["source_sha256"].n_unique() == 2
        assert bronze.rows.height == ROWS + 1, "only what changed was added"
        as_clean(before)
        assert (found.rows.height, found.gaps, found.exit_code) == (ROWS, [], 0)
        return found


@case(
    "re-upload behind a cache",
    "as before, and a cache between here and the archive goes on giving the old file for a while",
    note="meanwhile the old values stay, the cell stays due and the build names the file; the next build finds the new one",
)
def _(root: Path) -> Found:
    with lab(root) as it:
        it.build()
        before = it.found()
        it.sim.add_fault(f"stale_at_first={MONTHLY}")
        it.build()
        (told,) = it.lake.ledger("bronze/candle_archive")[CELL].facts.problems
        assert (told.kind, told.healed_by) == ("stale", "")
        assert it.due() == [f"bronze/candle_archive {CELL}"]
        assert it.versions() == before.versions, "what is served is what was served"
        it.build()  # the cache gives the old file once more
        it.build()
        assert it.due() == []
        found = it.found()
        (changed,) = other_values(found)["open_time"]
        bronze = it.lake.tables.get(it.lake.registry.table("bronze/candle_archive"), CELL)
        assert bronze is not None
        assert bronze.rows.filter(open_time=changed, source="monthly").height == 2
        assert (found.rows.height, found.gaps, found.problems, found.exit_code) == (ROWS, [], [], 0)
        return found


@case(
    "a cache before the first build",
    "the monthly file was replaced, and a cache gives the version before it, with the CHECKSUM of that",
    note="it is sound, so it is served, and said not to be what is listed; once the cache lets go, the next build has the new one",
)
def _(root: Path) -> Found:
    with lab(root, f"stale={MONTHLY}*") as it:
        it.build()
        found = it.found()
        assert it.due() == [f"bronze/candle_archive {CELL}"]
        it.sim.clear_faults()
        it.sim.add_fault(f"reupload={MONTHLY}")
        it.build()
        assert (it.due(), it.found().problems, other_values(it.found()).height) == ([], [], 1)
    assert (found.rows.height, other_values(found).height, found.problems, found.exit_code) == (
        ROWS,
        0,
        [("stale", "")],
        0,
    )
    return found
