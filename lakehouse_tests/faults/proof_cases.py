"""Faults that tempt to claim more than was proven; see `cases`.

What every source tells is made row by row (see `told`), and after each build the oracle of the drawn faults
holds what a reader is told against the truth.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from lakehouse.cli.planning import TableBuild
from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket
from lakehouse.simulator.keys import KlineFolder
from lakehouse_tests.faults.cases import CELL, case, other_values
from lakehouse_tests.faults.generated import ARCHIVE, CLOSED, REST, Fault, befallen
from lakehouse_tests.faults.lab import (
    BTC,
    FEBRUARY,
    LISTED,
    ROWS,
    Found,
    LakeLab,
    Waits,
    equipped,
    lab,
    lake_at,
)
from lakehouse_tests.faults.oracle import Known, View, judge, look
from lakehouse_tests.faults.rest_cases import verified
from lakehouse_tests.faults.told import (
    DAILY,
    EARLY,
    MINUTES,
    MONTHLY,
    OTHER_EARLY,
    Stand,
    Told,
    files_of,
    stand,
)
from lakehouse_tests.making import MINUTE, at

HOUR = timedelta(hours=1)
FINE = (*ARCHIVE, MINUTES)
DAY = Fault("lost", ARCHIVE, at=1440, count=1440)
UNKNOWN, SETTLED = Fault("REST", REST, text="-1121"), Fault("REST", REST, text="-1122")


@dataclass
class ToldLab(LakeLab):
    """One lake beside an exchange that tells what it is given.

    Attributes:
        stand: The exchange.
        heard: What it told so far.
    """

    stand: Stand
    heard: list[Told] = field(default_factory=list, init=False)

    def tell(
        self,
        *faults: Fault,
        now: datetime = CLOSED,
        market: SimulatedMarket = LISTED,
        beside: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Let the exchange tell of a market, with faults, from now on; `beside` are further objects of the
        archive.
        """
        self.heard.append(befallen(market, now, *faults))
        self.stand.open(self.heard[-1])
        self.stand.shelf.fill(self.stand.shelf.bodies | beside, now)

    def build(
        self, span: tuple[str, str] = FEBRUARY, market: Market = BTC, table: str = "silver/candle"
    ) -> list[TableBuild]:
        """Build, and let nobody be misled."""
        reports = super().build(span, market, table)
        assert self.lies() == []
        return reports

    def wait(self, step: timedelta) -> None:
        """Let time pass, on every clock."""
        self.waited.sleep(step.total_seconds())

    def lies(self) -> list[str]:
        """What a reader is told that is not so."""
        return judge(self.seen(), Known(tuple(self.heard)))

    def seen(self) -> View:
        """What checks and reports say, too."""
        view = look(self.lake, CELL)
        assert view is not None
        return view


@contextmanager
def told_lab(
    root: Path,
    *faults: Fault,
    now: datetime = CLOSED,
    market: SimulatedMarket = LISTED,
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> Iterator[ToldLab]:
    """A lab whose exchange tells what faults make of the truth."""
    with stand() as exchange, equipped(Waits(exchange.advance)) as (instance, waits):
        it = ToldLab(lake_at(root, exchange.url, lambda: exchange.desk.now), instance, waits, exchange)
        it.tell(*faults, now=now, market=market, beside=beside)
        yield it


def told(root: Path, *faults: Fault, market: SimulatedMarket = LISTED) -> tuple[Found, View]:
    """February with faults, built once, and what a reader finds."""
    with told_lab(root, *faults, market=market) as it:
        it.build()
        return it.found(), it.seen()


def counted(found: Found) -> list[tuple[str, int]]:
    """Gaps: class and minutes."""
    return [(kind, count) for kind, _, count in found.gaps]


# --- absence --------------------------------------------------------------------------------------


@case(
    "absent, though its hours are traded",
    "the archive and REST lack 70 minutes that REST's hours show as traded",
    note="REST gave the candles on both sides and none between, and yet it is no halt: REST is asked again, later and later",
)
def _(root: Path) -> Found:
    with told_lab(root, Fault("lost", FINE, 2000, 70)) as it:
        it.build()
        found = it.found()
        it.stand.klines_asked()
        assert not any(report.built for report in it.build())
        assert it.stand.klines_asked() == [], "within the hour"
    assert (
        found.rows.height,
        other_values(found).height,
        counted(found),
        found.evidence,
        found.exit_code,
    ) == (ROWS - 70, 0, [("absent", 70)], ["contradicted"], 0)
    assert [healed for _, healed in found.problems] == [""]
    return found


@case(
    "an empty page, once",
    "a day is in no file, and REST answers `[]` to the first question for it",
    note="not answered, so `absent`; asked again an hour later, REST has it: all rows, healed by REST, `totals`",
)
def _(root: Path) -> Found:
    with told_lab(root, DAY, Fault("answer", ("1m",), text="empty")) as it:
        it.build()
        found = it.found()
        it.wait(HOUR + MINUTE)
        it.build()
        healed = it.found()
    assert (found.evidence, {kind for kind, _ in counted(found)}, found.exit_code) == (
        ["contradicted"],
        {"absent"},
        0,
    )
    assert (
        healed.rows.height,
        other_values(healed).height,
        healed.gaps,
        healed.evidence,
        healed.problems,
    ) == (ROWS, 0, [], ["totals"], [("short", "REST API")])
    return found


@case(
    "REST ten minutes behind",
    "an hour has just ended in the open month, REST has its hour but not yet its last nine minutes",
    is_february=False,
    note="`absent`; an hour later all are there",
)
def _(root: Path) -> Found:
    with told_lab(root, Fault("behind", (MINUTES,), count=10), now=at("2024-02-29T10:00:20")) as it:
        it.build()
        found = it.found()
        it.wait(HOUR + MINUTE)
        it.tell(now=it.stand.desk.now)
        it.build()
        later = it.found()
    assert found.gaps == [("absent", at("2024-02-29T09:51"), 9)]
    assert (later.rows.height, later.gaps, later.exit_code) == (4 * 1440 + 11 * 60, [], 0)
    return found


@case(
    "eight days absent, though their hours are traded",
    "the archive and REST lack eight days, of a market listed on 2024-02-17; REST has all their hours",
    is_february=False,
    note="more than a week without candles is no break in the listing where hours were traded",
)
def _(root: Path) -> Found:
    found, view = told(root, Fault("lost", FINE, 2000, 8 * 1440), market=EARLY)
    assert (counted(found), found.evidence, found.exit_code) == ([("absent", 8 * 1440)], ["contradicted"], 0)
    assert view.told_slots == (16 + 8) * 1440, "`gaps` tells of them, as of the days before the listing"
    assert "gaps" in view.findings
    return found


# --- healing --------------------------------------------------------------------------------------


def not_healed(root: Path, fault: Fault) -> Found:
    """Rows in doubt, and nobody who knows better."""
    found, view = told(root, fault, UNKNOWN)
    assert (found.rows.height, other_values(found).height, found.evidence, found.exit_code) == (
        ROWS,
        fault.count,
        ["unconfirmed"],
        0,
    )
    assert {healed for _, healed in found.problems} == {""}
    assert view.state == "warn"
    return found


@case(
    "in doubt, and REST does not know the market",
    "twelve rows of all files have moving prices and no trades, and REST has forgotten the market",
    note="served as they were: quality warns",
)
def _(root: Path) -> Found:
    return not_healed(root, Fault("no trades", ARCHIVE, 2000, 12))


@case(
    "a day of swapped volumes, and REST does not know the market",
    "in 1,439 rows of all files volume and quote volume are swapped",
    note="as before",
)
def _(root: Path) -> Found:
    return not_healed(root, Fault("swapped volumes", ARCHIVE, 1441, 1439))


# --- presence against absence ---------------------------------------------------------------------


@case(
    "a row too many",
    "the monthly file has one more row, half a minute late; the daily file and REST do not",
    note="that there is none is what the hour fits: not served, the row is in `silver/conflict`",
)
def _(root: Path) -> Found:
    found, _ = told(root, Fault("row between", (MONTHLY,), 2000))
    assert (found.rows.height, other_values(found).height, found.gaps, found.evidence, found.exit_code) == (
        ROWS,
        0,
        [],
        ["totals"],
        0,
    )
    assert found.conflicts.filter("is_absent").select("is_served", "is_settled", "decided_by").rows() == [
        (True, True, "witness")
    ]
    return found


@case(
    "rows invented in a halt",
    "all files have 70 traded rows within a halt, of which REST's minutes and hours know nothing",
    is_february=False,
    note="the rows are dropped, and the halt is proven",
)
def _(root: Path) -> Found:
    found, _ = told(root, Fault("invented in a halt", ARCHIVE, 2000, 70))
    assert (found.rows.height, counted(found), found.evidence, found.exit_code) == (
        ROWS - 70,
        [("halt", 70)],
        ["totals"],
        0,
    )
    assert other_values(found).height == 0
    return found


# --- contradiction --------------------------------------------------------------------------------


@case(
    "a row of REST wrong",
    "a day is in no file, and one row of REST's minutes is wrong in volume, which its hour contradicts",
    note="served, for nobody has another value; a check names hour and columns",
)
def _(root: Path) -> Found:
    found, view = told(root, DAY, Fault("other volume", (MINUTES,), 2000))
    assert (found.rows.height, other_values(found).height, found.evidence, found.exit_code) == (
        ROWS,
        1,
        ["contradicted"],
        0,
    )
    assert "evidence" in view.findings
    return found


@case(
    "daily files against an hour",
    "there is no monthly file, one row of a daily file is wrong in volume, and REST answers for hours alone",
    note="each row stands in a verified daily file, and is contradicted all the same",
)
def _(root: Path) -> Found:
    found, view = told(
        root,
        Fault("file", ("2024-02",), text="absent"),
        Fault("other volume", (DAILY,), 2000),
        Fault("REST", REST, text="1m down"),
    )
    assert (found.rows.height, other_values(found).height, found.evidence, found.exit_code) == (
        ROWS,
        1,
        ["contradicted"],
        0,
    )
    assert "evidence" in view.findings
    return found


# --- families -------------------------------------------------------------------------------------


@case(
    "REST of another market",
    "REST, minutes and hours, answers with the candles of another symbol",
    note="a family that contradicts most of a day settles nothing: the files stand, and a check is an error",
)
def _(root: Path) -> Found:
    found, view = told(root, Fault("other market", REST, count=ROWS))
    assert (found.rows.height, other_values(found).height, found.evidence, found.exit_code) == (
        ROWS,
        0,
        ["contradicted"],
        0,
    )
    assert (found.conflicts["is_settled"].any(), view.state) == (False, "error")
    assert set(found.conflicts["decided_by"]) == {"wholesale"}
    return found


@case(
    "a day by REST alone",
    "a day is in no file; `lakehouse verify` after the build",
    note="REST confirms nothing that REST alone states: its minutes agree with its hours, which is `totals`",
)
def _(root: Path) -> Found:
    with told_lab(root, DAY) as it:
        it.build()
        assert it.found().evidence == ["totals"]
        found = verified(it)
        assert it.lies() == []
    assert (
        found.rows.height,
        other_values(found).height,
        found.rows.filter(source="api").height,
        found.evidence,
    ) == (ROWS, 0, 1440, ["totals"])
    return found


# --- keys, questions, lives -----------------------------------------------------------------------


@case(
    "a foreign key",
    "beside the monthly file lies one of another symbol, with a CHECKSUM that is right, and REST has "
    "forgotten the market",
    note="left out and named: only a key that this market, table and month have counts",
)
def _(root: Path) -> Found:
    other = files_of(Told.of(replace(OTHER_EARLY, listed=LISTED.listed), CLOSED))
    key = KlineFolder(OTHER_EARLY, "monthly", "1m").file("2024-02").key
    beside = {name.replace("/ETHUSDT/", "/BTCUSDT/"): other[name] for name in (key, f"{key}.CHECKSUM")}
    assert all("/BTCUSDT/1m/ETHUSDT-1m-2024-02.zip" in name for name in beside)
    with told_lab(root, UNKNOWN, beside=beside) as it:
        it.build()
        found = it.found()
    assert (found.rows.height, other_values(found).height, found.gaps, found.problems, found.exit_code) == (
        ROWS,
        0,
        [],
        [("foreign", "left out")],
        0,
    )
    return found


@case(
    "settled, REST answers -1122",
    "exchangeInfo names a market that was settled, and REST refuses its candles with -1122",
    note="an answer, as -1121 is: the next build asks nothing and makes nothing",
)
def _(root: Path) -> Found:
    with told_lab(root, SETTLED) as it:
        it.build()
        found = it.found()
        it.stand.klines_asked()
        assert not any(report.built for report in it.build())
        assert it.stand.klines_asked() == []
    assert (
        found.rows.height,
        other_values(found).height,
        found.problems,
        found.evidence,
        found.exit_code,
    ) == (ROWS, 0, [], ["unconfirmed"], 0)
    return found


@case(
    "rows after a delivery",
    "`BTCUSD_200925` was delivered on 2020-09-25 at 08:00, and its files go on with flat rows",
    is_february=False,
    note="the date in a symbol ends its life, and what follows is not served",
)
def _(root: Path) -> Found:
    end, span = at("2020-09-25T08:00"), ("2020-09", "2020-10")
    contract = SimulatedMarket(
        "inverse", "BTCUSD_200925", "BTC", "USD", Decimal(10_000), 6_000, 1, 0, at("2020-09-21"), end
    )
    market = Market("binance", "inverse", contract.symbol)
    with lab(root, "rows_after_end=*", markets=[contract], now=at("2020-10-05T12:00"), start="2020-09") as it:
        it.build(span, market)
        assert "rows_after_end" in it.sim.faults_hit
        found = it.found(span, market)
    assert found.rows["open_time"].to_list() == [
        at("2020-09-21") + n * MINUTE for n in range((end - at("2020-09-21")) // MINUTE)
    ]
    assert (found.gaps, found.exit_code) == ([], 0)
    return found
