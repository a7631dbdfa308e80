"""A machine whose clock is behind the exchange's: what it does not build for that reason, it says."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.cli.report import print_build
from lakehouse.cli.reporting import Report
from lakehouse.model.errors import ClockBehindError, NothingInRangeError
from lakehouse_tests.faults.lab import BTC, FEBRUARY, Lab, lab

SLOW = pytest.mark.slow
BOTH, MARCH, APRIL = ("2024-02", "2024-04"), ("2024-03", "2024-04"), ("2024-04", "2024-06")
SAID = r"This machine's clock is behind: it says 2024-02-11 12:30 UTC where binance says 2024-03-10 \d\d:\d\d\. So this month was not built\. Set the clock"


def notes(it: Lab) -> list[str]:
    return [note for report in it.reports for note in report.notes]


@pytest.mark.parametrize("fault", [pytest.param("", marks=SLOW), "rest_unavailable"])
def test_a_month_that_has_begun_at_the_exchange_alone_is_named_and_fails(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what REST says the time is; where it does not answer, by the date of the newest file."""
    with lab(tmp_path, *filter(None, [fault]), behind=timedelta(weeks=4)) as it:
        it.build(BOTH)
        found = it.found(BOTH)
        assert (list(found.failed), list(found.facts), found.exit_code) == (
            [f"bronze/candle_witness 2024-03|{BTC.key}"],
            ["2024-02"],
            1,
        )
        told = SAID.replace(r"03-10 \d\d:\d\d", r"03-\d\d \d\d:\d\d") if fault else SAID
        with pytest.raises(ClockBehindError, match=told):
            it.build(MARCH)
        print_build(it.lake.objects, it.lake.registry, it.reports, Report("json"))
        assert "clock is behind" in str(json.loads(capsys.readouterr().out)["failed"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behind", "is_said"),
    [
        pytest.param(timedelta(hours=-3), False, marks=SLOW),
        pytest.param(timedelta(minutes=40), False, marks=SLOW),
        pytest.param(timedelta(hours=2), True, marks=SLOW),
        (timedelta(days=9), True),
    ],
)
def test_a_clock_behind_within_the_month_is_said_once_with_what_it_leaves_out(
    tmp_path: Path, behind: timedelta, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab(tmp_path, behind=behind) as it:
        it.build(MARCH)
        assert it.found(MARCH).exit_code == 0
        assert len(notes(it)) == is_said
        print_build(it.lake.objects, it.lake.registry, it.reports, Report("table"))
        said = " ".join(capsys.readouterr().out.split())
        assert (
            "note This machine's clock is behind" in said,
            "What came after that was not asked for. Set the clock" in said,
        ) == (is_said, is_said)


@pytest.mark.slow
def test_a_month_that_has_begun_nowhere_is_left_out_as_ever(tmp_path: Path) -> None:
    with lab(tmp_path) as it:
        it.build(("2024-03", "2024-07"))
        assert (
            it.found(MARCH).exit_code,
            notes(it),
            {cell.date for cell in it.lake.ledger("silver/candle")},
        ) == (0, [], {"2024-03"})
        with pytest.raises(NothingInRangeError):
            it.build(APRIL)


@SLOW
def test_a_build_of_what_has_begun_asks_nothing_more_for_this(tmp_path: Path) -> None:
    with lab(tmp_path, behind=timedelta(days=2)) as it:
        it.build(FEBRUARY)
        it.sim.reset_requests()
        it.build(FEBRUARY)
        assert [
            path for _, path in it.sim.requests if "/api/" in path and "/exchangeInfo" not in path
        ] == [], "but what a market is"
