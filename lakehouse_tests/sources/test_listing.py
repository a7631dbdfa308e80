"""What an archive has decides what is read, until when it has answered, and what is due."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import CandleArchive
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.period import Period
from lakehouse.model.result import NONE, CellFacts
from lakehouse.simulator import Simulator
from lakehouse.sources.files.listing import MarketListing
from lakehouse.sources.files.transport import Listed
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.making import BTC, COIN, FEBRUARY, NOW, ArchiveFolder, at

from .conftest import Reading, serve

MARCH, APRIL = (Cell(date, BTC) for date in ("2024-03", "2024-04"))


def listing(
    files: dict[str, str], checksums: dict[str, str] | None = None, listed_at: datetime = NOW
) -> MarketListing:
    listed = {period: Listed(f"k-{period}.zip", etag, 10, NOW) for period, etag in files.items()}
    beside = {
        period: Listed(f"k-{period}.zip.CHECKSUM", etag, 90, NOW)
        for period, etag in (dict.fromkeys(files, "c") if checksums is None else checksums).items()
    }
    return MarketListing(BTC, listed, beside, listed_at, timedelta(days=7))


def record(inputs: dict[str, str], asked_until: str | None = "2024-03-01") -> CellRecord:
    return CellRecord(
        FEBRUARY,
        "p",
        "e",
        1,
        "v",
        1,
        NOW,
        NOW,
        inputs,
        1,
        0,
        CellFacts(asked_until=at(asked_until) if asked_until else None),
    )


def test_keys_and_periods_read_back() -> None:
    files = Binance.files[CandleArchive.name]
    assert (
        files.key(BTC, Period.parse("2024-02"))
        == "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-02.zip"
    )
    assert (
        files.key(COIN, Period.parse("2024-02-05"))
        == "data/futures/cm/daily/klines/BTCUSD_PERP/1m/BTCUSD_PERP-1m-2024-02-05.zip"
    )
    for period in ("2024-02", "2024-02-05"):
        assert files.period_text(files.key(BTC, Period.parse(period))) == period
    assert [
        files.period_text(key)
        for key in ("data/BTCUSDT-1m-2024-02.zip.CHECKSUM", "data/ADABKRW-1m-2020-8.zip", "data/x.zip")
    ] == [None] * 3


def test_a_state_changes_with_the_file_and_with_its_checksum() -> None:
    states = {
        listing({"2024-02": etag}, {"2024-02": checksum}).state("2024-02")
        for etag in ("a", "b")
        for checksum in ("c", "d")
    }
    assert len(states) == 4
    assert listing({"2024-02": "a"}, {}).state("2024-02") not in states
    assert listing({}).state("2024-02") == NONE


def test_a_month_is_made_from_its_monthly_file_else_from_the_dailies_there_are() -> None:
    files = {"2024-02": "a", "2024-02-01": "b", "2024-03-01": "c", "2024-03-02": "d"}
    assert listing(files).primary(FEBRUARY) == ["2024-02"]
    assert listing(files).days(FEBRUARY) == ["2024-02-01"]
    assert listing(files).primary(MARCH) == ["2024-03-01", "2024-03-02"]
    assert listing(files).primary(APRIL) == []


@pytest.mark.parametrize(
    ("files", "listed_at", "until"),
    [
        (["2024-02"], "2024-03-02", "2024-03-01"),
        (["2024-02-10"], "2024-02-12", "2024-02-11"),
        (["2024-02-10"], "2024-02-25T13:00", "2024-02-18"),
        (["2024-02-10"], "2024-06-01", "2024-03-01"),
        (["2024-03-02"], "2024-03-03", "2024-03-01"),
        ([], "2024-02-12T13:00", "2024-02-05"),
        ([], "2024-01-12", "2024-02-01"),
    ],
)
def test_an_archive_has_answered_up_to_its_newest_file_or_a_week_before_it_was_asked(
    files: list[str], listed_at: str, until: str
) -> None:
    assert listing(dict.fromkeys(files, "a"), listed_at=at(listed_at)).asked_until(FEBRUARY) == at(until)


days = st.sets(st.sampled_from([f"2024-02-{day:02d}" for day in range(1, 30)] + ["2024-02", "2024-03-01"]))


@given(days, st.datetimes(datetime(2024, 1, 1), datetime(2024, 6, 1)))
def test_what_was_answered_lies_in_the_window_and_never_shrinks(
    periods: set[str], listed_at: datetime
) -> None:
    found = listing(dict.fromkeys(periods, "a"), listed_at=at(listed_at.isoformat()))
    until = found.asked_until(FEBRUARY)
    assert FEBRUARY.window.start <= until <= FEBRUARY.window.end
    assert until >= max(
        (FEBRUARY.window.clip(Period.parse(period).window.end) for period in periods), default=until
    )
    assert (
        listing(
            dict.fromkeys(periods, "a"), listed_at=at(listed_at.isoformat()) + timedelta(days=3)
        ).asked_until(FEBRUARY)
        >= until
    )


def test_a_cell_is_due_when_its_files_differ_from_those_it_was_made_from() -> None:
    now = listing({"2024-02": "a", "2024-02-05": "b"})
    made = {"2024-02": now.state("2024-02"), "2024-02-05": now.state("2024-02-05"), "2024-02-06": NONE}
    assert not now.is_due(FEBRUARY, record(made))
    assert not listing({"2024-02": "a", "2024-02-05": "b", "2024-02-07": "x", "2024-03-01": "x"}).is_due(
        FEBRUARY, record(made)
    ), "files it does not need"
    assert listing({"2024-02": "new", "2024-02-05": "b"}).is_due(FEBRUARY, record(made)), (
        "another monthly file"
    )
    assert listing({"2024-02": "a", "2024-02-05": "new"}).is_due(FEBRUARY, record(made)), (
        "another daily file that healed it"
    )
    assert listing({"2024-02": "a", "2024-02-05": "b"}, {"2024-02": "new", "2024-02-05": "c"}).is_due(
        FEBRUARY, record(made)
    ), "another CHECKSUM"
    assert listing({"2024-02": "a", "2024-02-05": "b", "2024-02-06": "late"}).is_due(
        FEBRUARY, record(made)
    ), "a file that was missed has come"
    assert listing({"2024-02": "a"}).is_due(FEBRUARY, record(made)), "a file has gone"
    assert now.is_due(FEBRUARY, record({"2024-02-05": now.state("2024-02-05")})), "the month is published now"
    assert now.is_due(FEBRUARY, record(made, "2024-02-20")), "more of it has been answered"


def test_a_cell_that_was_never_stored_is_due_once_anybody_could_be_asked() -> None:
    assert listing({"2024-02": "a"}).is_due(FEBRUARY, None)
    assert listing({}, listed_at=at("2024-02-09")).is_due(FEBRUARY, None), (
        "the first day could have been published for a week"
    )
    assert not listing({}, listed_at=at("2024-02-08")).is_due(FEBRUARY, None)
    assert not listing({"2024-01": "a"}, listed_at=at("2024-02-08")).is_due(FEBRUARY, None), (
        "an earlier month says nothing"
    )


def test_only_files_that_touch_the_range_are_listed(exchange: Simulator, reading: Reading) -> None:
    found = reading.listing(exchange, FEBRUARY)
    assert sorted(period for period in found.files if Period.parse(period).kind == "month") == [
        "2024-02",
        "2024-03",
    ]
    dailies = sorted(period for period in found.files if Period.parse(period).kind == "day")
    assert (dailies[0], dailies[-1], len(dailies)) == ("2024-02-01", "2024-03-10", 39)
    assert set(found.checksums) == set(found.files)


def test_files_with_odd_names_are_passed_over(folder: ArchiveFolder, reading: Reading) -> None:
    place = folder.key("2024-02").rsplit("/", 1)[0]
    for name in (
        "BTCUSDT-1m-2024-2.zip",
        "BTCUSDT-1m-2024-02.csv",
        "BTCUSDT-1m-2024-02x.zip",
        "readme.txt",
        "index.html",
    ):
        folder.put_bytes(f"{place}/{name}", b"x", None)
    folder.put("2024-02", b"x")
    with serve(folder) as sim:
        found = reading.listing(sim)
    assert (set(found.files), set(found.checksums)) == ({"2024-02"}, {"2024-02"})


def test_a_checksum_without_its_zip_is_no_file(folder: ArchiveFolder, reading: Reading) -> None:
    key = folder.put("2024-02-05", b"x")
    (folder.root / key).unlink()
    with serve(folder) as sim:
        found = reading.listing(sim)
    assert (set(found.files), set(found.checksums)) == (set(), {"2024-02-05"})
    assert found.state("2024-02-05") == NONE


def test_an_archive_of_months_alone_has_answered_up_to_the_last_month_that_is_long_over() -> None:
    of_months = MarketListing(BTC, {}, {}, at("2024-04-10T12:00"), timedelta(days=7), shortest="month")
    assert [of_months.asked_until(cell) for cell in (MARCH, APRIL)] == [at("2024-04-01"), at("2024-04-01")]
    assert not of_months.is_due(APRIL, None), "there is nobody to ask yet"
    early = MarketListing(BTC, {}, {}, at("2024-04-05T12:00"), timedelta(days=7), shortest="month")
    assert early.asked_until(MARCH) == at("2024-03-01")
