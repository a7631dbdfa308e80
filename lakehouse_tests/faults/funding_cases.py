"""The faults of funding rates; see `cases`."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl

from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket
from lakehouse.simulator.funding import Settlement, settlements
from lakehouse_tests.faults.cases import case
from lakehouse_tests.faults.lab import FEBRUARY, NOW, Found, Lab, lab
from lakehouse_tests.making import at

TABLE = "silver/funding_rate"
PERP = Market("binance", "linear", "COINUSDT")
LISTED = SimulatedMarket(
    "linear", "COINUSDT", "COIN", "USDT", Decimal(100), 100, listed=at("2024-01-31T20:30")
)
CHANGING = replace(
    LISTED, funding=((at("2024-02-05"), 4), (at("2024-02-06T04:00"), 1), (at("2024-02-06T16:00"), 8))
)
MONTH = "*COINUSDT-fundingRate-2024-02*"


def built(root: Path, *faults: str, market: SimulatedMarket = LISTED, now: datetime = NOW) -> Found:
    """February with faults of funding, built once, of a market listed the day before it."""
    with lab(root, *(f"{fault}={MONTH}" for fault in faults), markets=[market], now=now) as it:
        return _built(it, set(faults))


def _built(it: Lab, faults: set[str]) -> Found:
    it.build(FEBRUARY, PERP, TABLE)
    assert set(it.sim.faults_hit) >= faults - {"interleaved_rows"}, "every fault was met"
    assert it.due() == [], "and nothing is left to do"
    return it.found(FEBRUARY, PERP, TABLE)


def truth(market: SimulatedMarket = LISTED) -> tuple[Settlement, ...]:
    """What the exchange settled."""
    return settlements(market, "2024-02")


def served(found: Found) -> dict[datetime, float]:
    """The rates that are served."""
    return dict(found.rows.select("funding_time", "rate").iter_rows())


def require_true(found: Found, market: SimulatedMarket = LISTED, *lacking: datetime) -> None:
    """Hold that every settlement but some is served, with its true rate and interval."""
    want = [row for row in truth(market) if row.due not in lacking]
    assert served(found) == {row.due: float(row.text) for row in want}
    hours = dict(found.rows.select("funding_time", "interval_hours").iter_rows())
    assert {row.due: row.hours for row in want if hours[row.due] != row.hours} == {}
    assert found.exit_code == 0


@case("funding: nothing", "nothing; settlements are stamped up to seconds late", is_february=False)
def _(root: Path) -> Found:
    found = built(root)
    require_true(found)
    assert (found.gaps, found.problems, found.evidence) == ([], [], ["archive"])
    return found


@case("funding: the interval changes", "every 8 hours, then every 4, 1 and 8 again", is_february=False)
def _(root: Path) -> Found:
    found = built(root, market=CHANGING)
    require_true(found, CHANGING)
    assert (found.gaps, found.problems, found.evidence) == ([], [], ["archive"])
    return found


@case("funding: by REST alone", "the month's file does not exist", is_february=False)
def _(root: Path) -> Found:
    found = built(root, "monthly_absent", market=CHANGING)
    require_true(found, CHANGING)
    assert (found.gaps, found.evidence) == ([], ["api"])
    assert found.rows["interval_source"].to_list() == ["after", *["before"] * (found.rows.height - 1)]
    return found


@case("funding: out of order", "the rows of the file are out of order", is_february=False)
def _(root: Path) -> Found:
    found = built(root, "interleaved_rows", market=CHANGING)
    require_true(found, CHANGING)
    assert found.rows.equals(found.rows.sort("funding_time"))
    return found


@case("funding: twice", "a settlement stands in the file twice, exactly", is_february=False)
def _(root: Path) -> Found:
    found = built(root, "duplicated_rows")
    require_true(found)
    assert found.problems == [("duplicates", "one of each was kept")]
    return found


@case(
    "funding: two rates",
    "a settlement stands in the file twice, with two rates",
    is_february=False,
    note="REST tells which one, of both families",
)
def _(root: Path) -> Found:
    found = built(root, "conflicting_rows")
    require_true(found)
    assert [rule for rule, _ in found.disputes] == ["both_families"]
    assert (found.gaps, [kind for kind, _ in found.problems]) == ([], ["variants"])
    return found


@case("funding: a hole in the file", "the file lacks a settlement that REST has", is_february=False)
def _(root: Path) -> Found:
    found = built(root, "funding_hole")
    require_true(found)
    assert (found.gaps, found.problems, found.evidence) == ([], [("short", "REST API")], ["api"])
    assert found.rows.filter(source="api").height == 1
    return found


@case("funding: a day absent", "the file lacks the settlements of a day", is_february=False)
def _(root: Path) -> Found:
    found = built(root, "day_absent", market=CHANGING)
    require_true(found, CHANGING)
    assert (found.gaps, found.evidence) == ([], ["api"])
    return found


@case(
    "funding: a settlement absent",
    "nobody has one settlement of the month",
    is_february=False,
    note="it is absent, and no row stands in for it",
)
def _(root: Path) -> Found:
    found = built(root, "funding_lost")
    [(gap_class, start, count)] = found.gaps
    assert (gap_class, count) == ("absent", 1)
    require_true(found, LISTED, start)
    assert found.facts["2024-02"].gaps[-1].asked_at is not None, "REST was asked, and has none"
    assert found.problems == [("short", "")]
    return found


@case(
    "funding: absent at a change",
    "nobody has the settlements at which the interval changes",
    is_february=False,
    note="each is absent once, in steps of the longer interval, and the cell says that this is so",
)
def _(root: Path) -> Found:
    changing = replace(LISTED, funding=((at("2024-02-05"), 4),))
    found = built(root, "funding_lost_at_change", market=changing)
    assert found.gaps == [("absent", at("2024-02-05"), 1)]
    require_true(found, changing, at("2024-02-05"))
    said = [problem.detail for problem in found.facts["2024-02"].problems if problem.kind == "interval"]
    assert ["from 8 to 4 hours" in detail for detail in said] == [True]
    return found


@case(
    "funding: a longer interval at the end",
    "the interval changes from 1 to 8 hours with the last settlement of the month",
    is_february=False,
    note="the seven of the old interval are told as absent, and that it may have changed: the month alone "
    "cannot tell",
)
def _(root: Path) -> Found:
    changing = replace(LISTED, funding=((at("2024-02-28"), 1), (at("2024-02-29T16:00"), 8)))
    found = built(root, market=changing)
    require_true(found, changing)
    assert found.gaps == [("absent", at("2024-02-29T17:00"), 7)]
    said = [problem.detail for problem in found.facts["2024-02"].problems if problem.kind == "interval"]
    assert ["may be longer where settlements" in detail for detail in said] == [True]
    return found


@case(
    "funding: REST lacks one",
    "REST lacks a settlement that the file has, and is asked about its day",
    is_february=False,
    note="the file's is served, as contradicted",
)
def _(root: Path) -> Found:
    with lab(root, f"funding_rest_hole={MONTH}", markets=[LISTED]) as it:
        _built(it, set())
        verify(it)
        found = it.found(FEBRUARY, PERP, TABLE)
        it.sim.advance(timedelta(minutes=61))
        again = it.due()
        it.sim.clear_faults()
        it.build(FEBRUARY, PERP, TABLE)
        healed = it.found(FEBRUARY, PERP, TABLE)
    require_true(found)
    assert found.evidence == ["contradicted"]
    assert [one.columns for one in found.facts["2024-02"].contradictions] == [("funding_time",)]
    assert again == [f"bronze/funding_rate_api 2024-02|{PERP}"], "an answer may be mended"
    assert healed.evidence == ["rows_both"]
    return found


@case(
    "funding: an empty page, once",
    "REST answers `[]` when it is asked about the month, and an hour later it has all",
    is_february=False,
    note="no settlement is contradicted by an answer without any, nor confirmed: REST is asked again",
)
def _(root: Path) -> Found:
    with lab(root, f"funding_rest_silent={MONTH}", markets=[LISTED]) as it:
        _built(it, set())
        verify(it)
        assert it.sim.faults_hit["funding_rest_silent"]
        found = it.found(FEBRUARY, PERP, TABLE)
        assert it.due() == [], "the question rests"
        it.sim.advance(timedelta(minutes=61))
        it.build(FEBRUARY, PERP, TABLE)
        healed = it.found(FEBRUARY, PERP, TABLE)
        assert it.due() == []
    require_true(found)
    assert (found.evidence, found.problems) == (["archive"], [("unanswered", "")])
    assert found.facts["2024-02"].contradictions == ()
    assert (healed.evidence, healed.problems, healed.gaps) == (["rows_both"], [], [])
    return found


@case(
    "funding: archive and REST disagree",
    "REST states another rate than the file for one settlement, and is asked about the month",
    is_february=False,
    note="the file's is served, decided by no proof",
)
def _(root: Path) -> Found:
    with lab(root, f"funding_restated={MONTH}", markets=[LISTED]) as it:
        assert _built(it, set()).evidence == ["archive"], "nobody asked REST"
        verify(it)
        found = it.found(FEBRUARY, PERP, TABLE)
    require_true(found)
    assert (found.evidence, found.disputes) == (["contradicted"], [("precedence", "monthly")])
    return found


@case("funding: verified", "nothing, and REST is asked about the month", is_february=False)
def _(root: Path) -> Found:
    with lab(root, markets=[CHANGING]) as it:
        _built(it, set())
        verify(it)
        found = it.found(FEBRUARY, PERP, TABLE)
    require_true(found, CHANGING)
    assert (found.evidence, found.disputes) == (["rows_both"], [])
    assert found.rows["mark_price"].null_count() == 0, "REST's"
    return found


@case(
    "funding: restated",
    "the file is replaced, with another rate",
    is_february=False,
    note="the newer file is served; what it replaced is a restatement, and is served as of before",
)
def _(root: Path) -> Found:
    with lab(root, markets=[LISTED]) as it:
        before, earlier = _built(it, set()), it.sim.now
        it.sim.advance(timedelta(hours=1))
        it.sim.add_fault(f"reupload={MONTH}")
        found = _built(it, {"reupload"})
        changed = {time for time, rate in served(found).items() if rate != served(before)[time]}
        assert len(changed) == 1
        reader = it.reader()
        as_of = reader.funding_rates(PERP, *FEBRUARY, as_of=earlier + timedelta(minutes=5))
        assert as_of.equals(before.rows)
        told = reader.restatements(PERP, *FEBRUARY, table=TABLE)
        assert set(told["funding_time"]) == changed
    return found


@case("funding: ends in the month", "the market is delisted in the middle of the month", is_february=False)
def _(root: Path) -> Found:
    ended = replace(LISTED, delisted=at("2024-02-15T06:00"))
    found = built(root, market=ended, now=at("2024-04-20T12:00"))
    require_true(found, ended)
    assert found.rows["funding_time"].max() == at("2024-02-15")
    assert (found.gaps, found.problems, found.evidence) == ([], [], ["archive"])
    last = found.facts["2024-02"].gaps[-1]
    assert (last.gap_class, last.start) == ("not_listed", at("2024-02-15T08:00"))
    return found


@case(
    "funding: ended ten days ago",
    "the market was delisted in the middle of the month, which is not over; another one goes on",
    is_february=False,
    note="exchange, archive and REST say so: nothing is pending",
)
def _(root: Path) -> Found:
    ended = replace(LISTED, delisted=at("2024-02-15T06:00"))
    other = replace(LISTED, symbol="OTHERUSDT")
    with lab(root, markets=[ended, other], now=at("2024-02-15T05:30")) as it:
        it.build(FEBRUARY, PERP, TABLE)
        it.sim.advance(timedelta(days=5))
        it.build(FEBRUARY, PERP, TABLE)
        early = it.reader().gaps(PERP, table=TABLE, now=it.sim.now)
        assert early["gap_class"].unique().to_list() == ["pending"], "a week has not passed yet"
        it.sim.advance(timedelta(days=5))
        found = _built(it, set())
        assert it.reader().gaps(PERP, table=TABLE, now=it.sim.now)["gap_class"].unique().to_list() == [
            "not_listed"
        ]
    assert served(found) == {row.due: float(row.text) for row in truth(ended)}
    assert found.gaps == []
    return found


@case(
    "funding: listing break",
    "the symbol was given up in January and is used again for another coin from the middle of February on",
    is_february=False,
    note="archive and REST have settlements on both sides and none between: not listed",
)
def _(root: Path) -> Found:
    gone, back = at("2024-01-22T08:00"), at("2024-02-17T09:00")
    broken, span = replace(LISTED, listed=at("2024-01-10"), breaks=((gone, back),)), ("2024-01", "2024-03")
    with lab(root, markets=[broken]) as it:
        it.build(span, PERP, TABLE)
        assert it.due() == []
        found = it.found(span, PERP, TABLE)
    runs = [run for facts in found.facts.values() for run in facts.gaps if run.start >= gone]
    assert {run.gap_class for run in runs} == {"not_listed"}
    assert (runs[0].start, runs[-1].end) == (gone, at("2024-02-17T16:00"))
    healers = {problem.healed_by for facts in found.facts.values() for problem in facts.problems}
    assert healers == {"REST API: a proven break of the listing"}
    assert found.rows.height == sum(len(settlements(broken, month)) for month in ("2024-01", "2024-02"))
    return found


@case(
    "funding: listing break of months",
    "as before, from January to March: nothing is published of a whole month",
    is_february=False,
)
def _(root: Path) -> Found:
    gone, back = at("2024-01-22T08:00"), at("2024-03-03T09:00")
    broken, span = replace(LISTED, listed=at("2024-01-10"), breaks=((gone, back),)), ("2024-01", "2024-04")
    with lab(root, markets=[broken], now=at("2024-04-20T12:00")) as it:
        it.build(span, PERP, TABLE)
        found = it.found(span, PERP, TABLE)
    assert found.gaps == []
    assert [sum(run.slot_count for run in facts.gaps) for facts in found.facts.values()] == [57, 87, 8]
    return found


@case(
    "funding: listing break, and REST does not answer",
    "a listing break, with REST out of reach",
    is_february=False,
    note="not proven, so absent",
)
def _(root: Path) -> Found:
    broken = replace(LISTED, breaks=((at("2024-02-05T08:00"), at("2024-02-17T09:00")),))
    with lab(root, "rest_unavailable", markets=[broken]) as it:
        it.build(FEBRUARY, PERP, TABLE)
        found = it.found(FEBRUARY, PERP, TABLE)
    assert [(gap_class, start) for gap_class, start, _ in found.gaps] == [("absent", at("2024-02-05T08:00"))]
    return found


@case(
    "funding: six days absent",
    "nobody has the settlements of six days",
    is_february=False,
    note="shorter than any break of a listing, so absent",
)
def _(root: Path) -> Found:
    broken = replace(LISTED, breaks=((at("2024-02-05T08:00"), at("2024-02-11T08:00")),))
    with lab(root, markets=[broken]) as it:
        it.build(FEBRUARY, PERP, TABLE)
        found = it.found(FEBRUARY, PERP, TABLE)
    assert [(gap_class, start) for gap_class, start, _ in found.gaps] == [("absent", at("2024-02-05T08:00"))]
    return found


@case("funding: a damaged file", "the zip is damaged although its CHECKSUM is right", is_february=False)
def _(root: Path) -> Found:
    with lab(root, f"damaged_zip={MONTH}", markets=[LISTED]) as it:
        it.build(FEBRUARY, PERP, TABLE)
        found = it.found(FEBRUARY, PERP, TABLE)
    assert found.exit_code == 1, "the archive's cell failed, and says so"
    assert found.evidence == ["api"]
    assert served(found) == {row.due: float(row.text) for row in truth()}
    assert found.rows.select(pl.col("source").unique()).to_series().to_list() == ["api"]
    return found


def verify(it: Lab) -> None:
    """Ask REST about every row, and build what is made of the answers."""
    from lakehouse.cli.verifying import verify as asked
    from lakehouse.model.timerange import TimeRange

    found = asked(it.lake, it.instance, [PERP], TimeRange.parse(*FEBRUARY), 100, table=TABLE)
    assert found.failed == {}
