"""Faults of an exchange without files: Bybit's, whose hours by REST are all that minutes are held against."""

from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket
from lakehouse_tests.faults.cases import VALUES, case
from lakehouse_tests.faults.lab import NOW, ROWS, Found, Lab, lab
from lakehouse_tests.making import at

KEY = "*bybit*BTCUSDT-1m-2024-02.zip"
LINEAR = Market("bybit", "linear", "BTCUSDT")
_OF = ("BTC", "USDT", Decimal(45_000), 150, 1, 3, at("2024-02-25"))
TRADED = SimulatedMarket("linear", "BTCUSDT", *_OF, exchange="bybit")
ALSO_SPOT = SimulatedMarket("spot", "BTCUSDT", *_OF, exchange="bybit")
TEN_MINUTES = timedelta(minutes=10)


def found_in(it: Lab) -> Found:
    return it.found(market=LINEAR)


@cache
def true() -> Found:
    """The month without a fault."""
    with TemporaryDirectory() as folder, lab(Path(folder), markets=(TRADED,)) as it:
        it.build(market=LINEAR)
        return found_in(it)


def as_true(found: Found) -> Found:
    """Assert that every minute is there as it was traded, and that hours confirm each."""
    assert found.rows.select(VALUES).equals(true().rows.select(VALUES))
    assert (found.rows.height, found.gaps, found.exit_code, found.evidence) == (ROWS, [], 0, ["totals"])
    return found


def built(root: Path, *faults: str) -> Found:
    """February with faults, built once."""
    with lab(root, *faults, markets=(TRADED,)) as it:
        it.build(market=LINEAR)
        assert set(it.sim.faults_hit) == {fault.split("=")[0] for fault in faults}, "every fault was met"
        return found_in(it)


@case("Bybit", "nothing: an exchange with REST alone", is_february=False)
def _(root: Path) -> Found:
    found = as_true(true())
    assert set(found.rows["source"]) == {"api"}
    assert not found.rows["is_truncated"].any(), "the end of a candle is not published"
    return found


@case("Bybit: error in an answer", "the first two answers are `retCode` 10016, status 200", is_february=False)
def _(root: Path) -> Found:
    found = as_true(built(root, "body_error"))
    assert found.waited == 3, "asked again after one second, and after two"
    return found


@case(
    "Bybit: too many visits",
    "the first two answers are `retCode` 10006, with the time at which the limit begins anew",
    is_february=False,
    note="that time is waited for, and no longer",
)
def _(root: Path) -> Found:
    found = as_true(built(root, "error_429"))
    assert found.waited == 2
    return found


@case(
    "Bybit: access too frequent",
    "a request is answered 403 `access too frequent`: ten minutes without an answer; built again after them",
    is_february=False,
    note="nothing is asked before",
)
def _(root: Path) -> Found:
    with lab(root, markets=(TRADED,)) as it:
        it.build(market=LINEAR, span=("2024-03", "2024-04"))  # so that the market is known
        it.sim.add_fault("error_418")
        it.build(market=LINEAR)
        it.sim.clear_faults()
        it.sim.reset_requests()
        it.build(market=LINEAR)
        assert it.sim.requests == []
        assert it.lake.ledger("silver/candle").frame.filter(date="2024-02", key=LINEAR.key).height == 0
        it.waited.sleep(TEN_MINUTES.total_seconds())
        it.build(market=LINEAR)
        return as_true(found_in(it))


@case("Bybit: edge repeated", "every page of candles has its oldest row twice", is_february=False)
def _(root: Path) -> Found:
    found = as_true(built(root, f"edge_repeated={KEY}"))
    assert found.versions == true().versions
    return found


@case(
    "Bybit: edge omitted",
    "two pages of candles lack their oldest row; built again after an hour",
    is_february=False,
    note="the hours tell that trades are missing, and these minutes are asked for again",
)
def _(root: Path) -> Found:
    with lab(root, markets=(TRADED,)) as it:
        it.build(market=LINEAR, span=("2024-03", "2024-04"))
        it.sim.add_fault(f"edge_omitted={KEY}")
        it.build(market=LINEAR)
        first = found_in(it)
        assert (first.rows.height, first.evidence) == (ROWS - 2, ["contradicted"])
        assert [kind for kind, *_ in first.gaps] == ["absent"] * len(first.gaps)
        it.waited.sleep(3700)
        it.build(market=LINEAR)
        return as_true(found_in(it))


@case(
    "Bybit: delisted between two pages",
    "after the first page of the month the API knows the market no more",
    is_february=False,
    note="what was answered is kept",
)
def _(root: Path) -> Found:
    with lab(root, markets=(TRADED,)) as it:
        it.build(market=LINEAR, span=("2024-03", "2024-04"))
        it.sim.add_fault(f"delisted_between_pages={KEY}")
        it.build(market=LINEAR)
        found = found_in(it)
        assert found.rows.height == 1000
        assert found.rows.select(VALUES).equals(true().rows[:1000].select(VALUES))
        it.waited.sleep(2 * 86_400.0)
        it.build(market=LINEAR)
        assert found_in(it).rows.equals(found.rows), "the lake knows it all the same"
        return found


@case(
    "Bybit: halt",
    "trade stops within a minute and for 37 more",
    is_february=False,
    note="proven as elsewhere, but for the moment: the last candle is not known to end early",
)
def _(root: Path) -> Found:
    found = built(root, f"halt={KEY}")
    ((kind, _, count),) = found.gaps
    assert (kind, count, found.rows.height, found.evidence) == ("halt", 37, ROWS - 37, ["totals"])
    return found


@case(
    "Bybit: no minutes of a day",
    "the API has hours of a day, and no minutes",
    is_february=False,
    note="nobody else has them",
)
def _(root: Path) -> Found:
    found = built(root, f"rest_hole={KEY}")
    ((kind, _, count),) = found.gaps
    assert (kind, count, found.evidence) == ("absent", 1440, ["contradicted"])
    return found


@case(
    "Bybit: a symbol in two categories",
    "BTCUSDT is a market of spot and of linear; read of the second at the newest, unfinished candle",
    is_february=False,
)
def _(root: Path) -> Found:
    with lab(root, markets=(ALSO_SPOT, TRADED)) as it:
        it.build(market=LINEAR)
        it.build(market=Market("bybit", "spot", "BTCUSDT"))
        it.build(("2024-03", "2024-04"), LINEAR)
        newest = it.reader().candles(LINEAR, "2024-03-10", "2024-03-11")["open_time"].max()
        assert newest == NOW.replace(minute=0, second=0) - timedelta(minutes=1)
        spot = it.found(market=Market("bybit", "spot", "BTCUSDT")).rows
        found = as_true(found_in(it))
        assert spot.join(found.rows, on=["open_time", "close"]).height < ROWS / 10
        assert isinstance(spot["open_time"].dtype, pl.Datetime)
        return found
