"""An exchange that has no candle of a minute in which nothing was traded: no such minute is a gap, and none
is told to be without trade unless an hour proves it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.datasets.candle import CANDLE, CandleApi
from lakehouse.datasets.market import Listing
from lakehouse.export.sidecar import _of_data, data_part
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellFacts
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.findings import check_gaps
from lakehouse.ops.quality import quality_report
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.sources.listings import look_over, names_of
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.rows import RowReader
from lakehouse_tests.extensibility import kraken
from lakehouse_tests.extensibility.kraken_desk import MARKET, KrakenDesk, every_minute, minute_of, standing
from lakehouse_tests.faults.lab import LakeLab, Waits, equipped
from lakehouse_tests.making import at

BEGUN, END = at("2024-01-30T14:00"), at("2024-02-03")
QUIET = every_minute(at("2024-01-30T20:10"), at("2024-01-30T20:15"))
QUIET_HOUR = every_minute(at("2024-01-31T02:00"), at("2024-01-31T03:00"))
EVENING, MIDNIGHT = at("2024-01-30T23:30:20"), at("2024-01-31T00:30:20")
MORNING, LATE = at("2024-01-31T08:30:20"), at("2024-02-02T08:30:20")
JANUARY, FEBRUARY = Cell("2024-01", MARKET), Cell("2024-02", MARKET)
MONTHS = ("2024-01", "2024-03")


def test_the_toy_has_less_than_120_lines_of_code() -> None:
    lines = Path(kraken.__file__).read_text("utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) < 120


def test_what_it_has_no_more_is_not_taken_for_answered() -> None:
    desk = KrakenDesk(every_minute(BEGUN, END), MORNING)
    with standing(desk) as exchange:
        client = RestClient(exchange.rest_api("spot"))
        reader = RowReader(client, CandleApi, exchange.pages[CandleApi.name], MARKET)
        found = reader.read(TimeRange(BEGUN, MORNING))
        assert (found.asked.start, found.asked.end) == (at("2024-01-30T20:41"), at("2024-01-31T08:30"))
        assert found.rows["open_time"].min() == found.asked.start
        assert not reader.read(TimeRange(BEGUN, at("2024-01-30T20:00"))).rows.height
        assert reader.first(TimeRange(at("2013-09-01"), MORNING)) == at("2024-01-25"), "the week of its first"


def test_every_listing_of_it_says_so() -> None:
    with standing(KrakenDesk(every_minute(BEGUN, END), MORNING)) as exchange:
        for found in (names_of(exchange, [CANDLE]), look_over(exchange, [CANDLE], {}, MORNING)):
            assert {key: listing.is_sparse for key, listing in found.listings.items()} == {MARKET: True}
            row = found.listings[MARKET].row
            assert Listing.from_row(row).is_sparse
            assert not Listing.from_row({**row, "is_sparse": None}).is_sparse, "of an earlier release"


def test_an_answer_about_another_pair_or_two_is_none() -> None:
    pages = kraken.Kraken.pages[CandleApi.name]
    row = [60, *"123456", 7]
    assert pages.read(MARKET, {"result": {"XXBTZUSD": [row], "last": 0}})["volume"].to_list() == [6.0]
    unusable = pages.read(MARKET, {"result": {"XXBTZUSD": [[60, "1", "2", "NaN", *"456", 7]], "last": 0}})
    assert unusable.drop("open_time").null_count().row(0) == (1,) * (len(unusable.columns) - 1)
    for answer in ({"A": [row], "B": [row]}, {"last": 0}, {"A": [row[:-1]]}):
        with pytest.raises(ValueError, match="one pair"):
            pages.read(MARKET, {"result": answer})


@contextmanager
def lab(folder: Path, desk: KrakenDesk) -> Iterator[LakeLab]:
    """A lake beside Kraken, with its clock."""

    def advance(step: timedelta) -> None:
        desk.now += step

    settings = Settings(root=str(folder / "lake"), start="2024-01")
    with standing(desk) as exchange, equipped(Waits(advance)) as (instance, waits):
        lake = open_lake(settings, REGISTRY, {exchange.name: exchange}, clock=lambda: desk.now)
        yield LakeLab(lake, instance, waits)


def built(it: LakeLab, desk: KrakenDesk, now: datetime, table: str = "silver/candle") -> CellFacts:
    """What January says of itself once it is built at an instant; nothing is due behind that."""
    it.waited.sleep((now - desk.now).total_seconds())
    assert not any(report.failed for report in it.build(MONTHS, MARKET, table))
    assert {report.table: report.built for report in it.build(MONTHS, MARKET, table) if report.built} == {}
    return it.lake.ledger("silver/candle")[JANUARY].facts


def absent(facts: CellFacts) -> list[tuple[datetime, int]]:
    """The gaps of the market's life since the first candle, all of one class."""
    inside = [run for run in facts.gaps if run.start >= BEGUN]
    assert {run.gap_class for run in inside} <= {"absent"}
    return [(run.start, run.slot_count) for run in inside]


@pytest.mark.slow
def test_a_minute_without_a_candle_is_no_gap_and_is_proven_quiet_by_its_hour_alone(tmp_path: Path) -> None:
    desk = KrakenDesk(every_minute(BEGUN, END) - QUIET - QUIET_HOUR, EVENING)
    with lab(tmp_path, desk) as it:
        facts = built(it, desk, EVENING)
        assert (absent(facts), facts.quiet_count, facts.silent_count) == ([], 0, 5), "nobody asked the hours"
        # what it had no more is no proof of anything
        assert [(run.gap_class, run.start) for run in facts.gaps] == [
            ("not_listed", at("2024-01-01")),
            ("absent", at("2024-01-25")),
            ("absent", at("2024-01-30T11:41")),
        ]
        facts = built(it, desk, MORNING, "gold/candle_1h")
        assert (absent(facts), facts.quiet_count, facts.silent_count) == ([], 5, 60)
        # two days without a build: what was traded since is lost, and not taken to be quiet
        facts = built(it, desk, LATE, "gold/candle_1h")
        assert (absent(facts), facts.quiet_count) == ([(at("2024-01-31T08:00"), 960)], 65)
        assert (facts.evidence, facts.silent_count) == ("contradicted", 0), "the hours tell of trades"
        february = it.lake.ledger("silver/candle")[FEBRUARY]
        assert [(run.gap_class, run.slot_count) for run in february.facts.gaps] == [("absent", 1241)]

        reader = it.reader()
        hours = reader.candles(MARKET, "2024-01-30T20:00", "2024-01-31T04:00", "1h")
        counts = dict(hours.select("open_time", "candle_count").rows())
        assert counts[at("2024-01-30T20:00")] == 55
        assert at("2024-01-31T02:00") not in counts, "an hour without any is none"
        assert reader.markets().row(0, named=True)["is_sparse"]
        stored = it.lake.ledger("silver/candle")
        assert check_gaps(stored, desk.now).counts["quiet_rows"] == 65
        report = quality_report(stored, {}, desk.now)
        assert [(one.quiet, one.silent) for one in report] == [(65, 0), (0, 0)]
        span = TimeRange.parse("2024-01", "2024-02")
        said = list(_of_data(data_part(CANDLE, "", {JANUARY: stored[JANUARY]}, span), "1m candle"))
        assert "65 1m candles not there in 2024-01, proven to be without trade." in said


@pytest.mark.slow
def test_a_candle_that_its_hour_shows_as_traded_is_a_gap_until_it_is_there(tmp_path: Path) -> None:
    lost = minute_of("2024-01-30T21:05")
    desk = KrakenDesk(every_minute(BEGUN, END) - QUIET - QUIET_HOUR, EVENING)
    desk.withheld = {lost}
    with lab(tmp_path, desk) as it:
        facts = built(it, desk, EVENING)
        assert (absent(facts), facts.silent_count) == ([], 6), "nothing tells it from a quiet one"
        facts = built(it, desk, MIDNIGHT)
        assert (absent(facts), facts.evidence) == ([(at("2024-01-30T21:05"), 1)], "contradicted")
        assert (facts.quiet_count, facts.silent_count) == (5, 0)
        before = it.lake.ledger("silver/candle")[JANUARY].version
        desk.withheld = set()
        facts = built(it, desk, MIDNIGHT + timedelta(minutes=70))
        assert (absent(facts), facts.quiet_count) == ([], 5)
        assert it.reader().candles(MARKET, "2024-01-30T21:05", "2024-01-30T21:06").height == 1
        assert it.lake.ledger("silver/candle")[JANUARY].version != before
