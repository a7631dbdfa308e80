"""A listed key counts only if it is the one that this market, table and period have; others are named once
and harm nobody.
"""

import hashlib

import pytest

from lakehouse.datasets.candle import CANDLE
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.errors import UnknownMarketError
from lakehouse.model.market import Market
from lakehouse.model.result import Problem
from lakehouse.sources.files.listing import ListedFiles
from lakehouse.sources.files.transport import Listed
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.clients import RestClients
from lakehouse_tests.making import BTC, COIN, FEBRUARY, NOW, ArchiveFolder, at, facts, klines, text, zipped

from .conftest import BRONZE, Reading, fetched, serve

pytestmark = pytest.mark.slow

MONTHLY, DAILY = (f"data/spot/{frequency}/klines/BTCUSDT/1m/" for frequency in ("monthly", "daily"))
CLOSED = "http://127.0.0.1:9"
ETH = Market("binance", "spot", "ETHUSDT")

# A key beside the files of BTCUSDT, and the month that it names, if it names one.
FOREIGN = {
    "another_market": (f"{MONTHLY}ETHUSDT-1m-2024-02.zip", "2024-02"),
    "another_market_that_comes_first": (f"{MONTHLY}BTCUSDS-1m-2024-02.zip", "2024-02"),
    "another_market_with_the_same_beginning": (f"{MONTHLY}BTCUSDT_240329-1m-2024-02.zip", "2024-02"),
    "another_interval": (f"{MONTHLY}BTCUSDT-1h-2024-02.zip", "2024-02"),
    "another_kind": (f"{MONTHLY}BTCUSDT-aggTrades-2024-02.zip", "2024-02"),
    "another_case": (f"{MONTHLY}btcusdt-1m-2024-02.zip", "2024-02"),
    "another_case_of_the_end": (f"{MONTHLY}BTCUSDT-1m-2024-02.ZIP", ""),
    "a_month_without_its_zero": (f"{MONTHLY}BTCUSDT-1m-2024-2.zip", ""),
    "a_copy": (f"{MONTHLY}BTCUSDT-1m-2024-02 (1).zip", ""),
    "a_copy_of_a_copy": (f"{MONTHLY}BTCUSDT-1m-2024-02.zip.zip", ""),
    "below_a_folder": (f"{MONTHLY}old/BTCUSDT-1m-2024-02.zip", "2024-02"),
    "a_day_among_months": (f"{MONTHLY}BTCUSDT-1m-2024-02-05.zip", "2024-02"),
    "a_month_among_days": (f"{DAILY}BTCUSDT-1m-2024-02.zip", "2024-02"),
    "a_day_that_is_none": (f"{DAILY}BTCUSDT-1m-2024-02-30.zip", "2024-02"),
    "day_zero": (f"{DAILY}BTCUSDT-1m-2024-02-00.zip", "2024-02"),
    "a_day_that_no_month_has": (f"{DAILY}BTCUSDT-1m-2024-02-32.zip", "2024-02"),
    "month_13": (f"{MONTHLY}BTCUSDT-1m-2024-13.zip", ""),
    "month_zero": (f"{MONTHLY}BTCUSDT-1m-2024-00.zip", ""),
    "year_zero": (f"{MONTHLY}BTCUSDT-1m-0000-01.zip", ""),
    "the_end_of_time": (f"{MONTHLY}BTCUSDT-1m-9999-12.zip", ""),
    "the_last_day_of_time": (f"{DAILY}BTCUSDT-1m-9999-12-31.zip", ""),
    "other_digits": (f"{MONTHLY}BTCUSDT-1m-２０２４-02.zip", ""),
    "no_file": (f"{MONTHLY}index.html", ""),
    "a_csv": (f"{MONTHLY}BTCUSDT-1m-2024-02.csv", ""),
}  # fmt: skip


def listed(key: str) -> Listed:
    return Listed(key, "etag", 10, NOW)


def sorted_into(*keys: str) -> ListedFiles:
    found = ListedFiles(Binance("http://x"), BRONZE, BTC, "2024-03")
    for key in keys:
        found.take(listed(key), found.period_of(listed(key)))
    return found


@pytest.mark.parametrize(("key", "month"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("end", ["", ".CHECKSUM"])
def test_a_key_that_no_file_of_the_market_has_is_foreign(key: str, month: str, end: str) -> None:
    found = sorted_into(f"{key}{end}")
    assert (found.files, found.checksums) == ({}, {})
    assert found.foreign == {key: month or "2024-03"}, (
        "told with the month it names, else with the newest that was asked for"
    )


@pytest.mark.parametrize("end", [".checksum", ".CHECKSUM.CHECKSUM", ".md5", ".CHECKSUM "])
def test_what_is_no_checksum_is_foreign_too(end: str) -> None:
    found = sorted_into(f"{MONTHLY}BTCUSDT-1m-2024-02.zip{end}")
    assert (found.files, found.checksums, len(found.foreign)) == ({}, {}, 1)


def test_its_own_keys_are_a_markets_and_a_folders_mark_is_nobodys() -> None:
    keys = [f"{MONTHLY}BTCUSDT-1m-2024-02.zip", f"{DAILY}BTCUSDT-1m-2024-02-29.zip"]
    found = sorted_into(
        *keys, *(f"{key}.CHECKSUM" for key in keys), MONTHLY.rstrip("/"), MONTHLY, DAILY.rstrip("/")
    )
    assert list(found.files) == list(found.checksums) == ["2024-02", "2024-02-29"]
    assert found.foreign == {}


# --- with the files -------------------------------------------------------------------------------


LISTED = "2024-02-28"
ROWS = 2 * 1440


def publish(folder: ArchiveFolder, market: Market = BTC, price: float = 100.0) -> None:
    """The month of a market that was listed on its last but one day, and these days."""
    for period, start, count in (
        ("2024-02", LISTED, ROWS),
        (LISTED, LISTED, 1440),
        ("2024-02-29", "2024-02-29", 1440),
    ):
        folder.put(period, text(klines(start, count, price)), market)


def put_foreign(folder: ArchiveFolder, key: str) -> None:
    """A sound file of another price, with a CHECKSUM that is right."""
    name = key.rsplit("/", 1)[-1]
    body = zipped((name.replace(".zip", ".csv"), text(klines("2024-02-01", 1440, 3000.0))))
    folder.put_bytes(key, body, f"{hashlib.sha256(body).hexdigest()}  {name}\n")


ONE_EACH = {
    name: [FOREIGN[name][0]]
    for name in (
        "another_market",
        "another_interval",
        "below_a_folder",
        "a_day_that_is_none",
        "month_13",
        "year_zero",
    )
}


@pytest.mark.parametrize(
    "keys", [*ONE_EACH.values(), [key for key, _ in FOREIGN.values()]], ids=[*ONE_EACH, "all"]
)
def test_foreign_keys_change_no_row_and_no_version_and_are_named(
    reading: Reading, folder: ArchiveFolder, keys: list[str]
) -> None:
    market = facts(listed=LISTED)
    publish(folder)
    with serve(folder) as sim:
        before, due_before = reading.ingest(sim, market=market), reading.listing(sim)
    for key in keys:
        put_foreign(folder, key)
    with serve(folder) as sim:
        assert not reading.is_due(sim), "nothing of the market is news"
        sim.reset_requests()
        after, listing = reading.ingest(sim, market=market), reading.listing(sim)
        assert fetched(sim) == []
    assert before is not None
    assert after is not None
    assert (after.version, after.rows, after.inputs, before.facts.problems) == (
        before.version,
        before.rows,
        before.inputs,
        (),
    )
    assert (listing.files, listing.checksums) == (due_before.files, due_before.checksums)
    met = [key for key in keys if key > folder.key("2024-02" if "/monthly/" in key else "2024-02-01")[:-1]]
    assert set(listing.foreign) == set(met), "a listing begins at the first key of its range"
    if len(met) == 1:
        detail = f"1 key in the folders of this market that no file of it has: {met[0].rsplit('/', 1)[-1]}"
        assert after.facts.problems == (Problem(met[0], "foreign", detail, "left out"),)
    assert len(after.facts.problems) == min(1, len(met))


def test_a_foreign_key_that_would_come_behind_the_range_ends_no_listing(
    reading: Reading, folder: ArchiveFolder
) -> None:
    """Keys are in order of their names: of another market's, that says nothing of time."""
    publish(folder)
    for key in (
        f"{MONTHLY}BTCUSDT-1m-2024-02.zip-2031-01.zip",
        f"{DAILY}BTCUSDT-1m-2024-02-28.zip-2031-01-01.zip",
    ):
        put_foreign(folder, key)
    with serve(folder) as sim:
        found = reading.listing(sim)
    assert list(found.files) == ["2024-02", LISTED, "2024-02-29"]
    assert set(found.files) == set(found.checksums)
    assert sorted(found.foreign.values()) == ["2031-01", "2031-01"]


def test_many_foreign_keys_are_one_problem(reading: Reading, folder: ArchiveFolder) -> None:
    publish(folder)
    for number in range(5):
        put_foreign(folder, f"{MONTHLY}ETH{number}USDT-1m-2024-02.zip")
    with serve(folder) as sim:
        record = reading.ingest(sim, market=facts(listed=LISTED))
    assert record is not None
    (problem,) = record.facts.problems
    assert problem.detail.startswith(
        "5 keys in the folders of this market that no file of it has: ETH0USDT-1m-2024-02.zip, ETH1USDT"
    )
    assert problem.detail.endswith("ETH2USDT-1m-2024-02.zip …")


def test_foreign_keys_alone_are_no_files_and_no_failure(reading: Reading, folder: ArchiveFolder) -> None:
    put_foreign(folder, f"{MONTHLY}ETHUSDT-1m-2024-02.zip")
    with serve(folder) as sim:
        record = reading.ingest(sim)
    assert record is not None
    assert (record.rows, [problem.kind for problem in record.facts.problems], reading.receipts()) == (
        0,
        ["foreign"],
        [],
    )


def test_a_foreign_key_of_one_market_is_no_matter_of_another(reading: Reading, folder: ArchiveFolder) -> None:
    publish(folder)
    publish(folder, ETH, 3000.0)
    put_foreign(folder, f"{MONTHLY}ETHUSDT-1m-2024-02.zip")
    put_foreign(folder, f"{DAILY}BTCUSDT-1m-2024-02-30.zip")
    with serve(folder) as sim:
        record = reading.ingest(sim, Cell("2024-02", ETH), market=facts(ETH, LISTED))
    assert record is not None
    assert (record.rows, record.facts.problems) == (ROWS, ())
    assert reading.refine(Cell("2024-02", ETH)).rows["open"][0] == 3000.0


# --- what is known of a market --------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        [f"{MONTHLY}BTCUSDT-1m-2017-13.zip", f"{DAILY}BTCUSDT-1m-2024-02-30.zip"],
        [
            f"{MONTHLY}AAAUSDT-1m-2017-01.zip",
            f"{MONTHLY}ZZZUSDT-1m-2024-03.zip",
            f"{DAILY}ZZZUSDT-1m-2024-03-20.zip",
        ],
        [f"{DAILY}AAA{number}USDT-1m-2017-01-01.zip" for number in range(6)],
        [
            f"{MONTHLY}old/BTCUSDT-1m-2017-01.zip",
            f"{MONTHLY}BTCUSDT-1m-0000-01.zip",
            f"{MONTHLY}BTCUSDT-1m-9999-12.zip",
        ],
    ],
    ids=["impossible", "other_markets", "many_before_the_first_day", "folders_and_years"],
)
def test_foreign_keys_tell_nothing_of_a_markets_life(
    reading: Reading, folder: ArchiveFolder, keys: list[str]
) -> None:
    folder.put("2022-02", text(klines("2022-02-01", 1440)))
    folder.put("2022-01-31", text(klines("2022-01-31T12:00", 720)))
    folder.put("2022-03-01", text(klines("2022-03-01", 600)))
    for key in keys:
        put_foreign(folder, key)
    with serve(folder) as sim:
        found, failed = discover(
            Binance(sim.url, CLOSED),
            [CANDLE],
            [BTC, COIN],
            reading.objects,
            RestClients(Binance(sim.url, CLOSED)),
            lambda: NOW,
        )
    assert list(failed) == [COIN]
    assert (found[BTC].listed, found[BTC].delisted) == (at("2022-01-31T12:00"), at("2022-03-01T10:00"))


def test_a_market_of_which_only_foreign_keys_are_listed_is_unknown(
    reading: Reading, folder: ArchiveFolder
) -> None:
    put_foreign(folder, f"{MONTHLY}ETHUSDT-1m-2024-02.zip")
    with serve(folder) as sim:
        found, failed = discover(
            Binance(sim.url, CLOSED),
            [CANDLE],
            [BTC],
            reading.objects,
            RestClients(Binance(sim.url, CLOSED)),
            lambda: NOW,
        )
    assert (found, list(failed)) == ({}, [BTC])


def test_an_unknown_market_beside_a_folder_that_could_be_no_path_fails_alone(
    reading: Reading, folder: ArchiveFolder
) -> None:
    folder.put("2024-03-20", text(klines("2024-03-20", 1440)))
    put_foreign(folder, f"{DAILY.replace('BTCUSDT', 'A' + chr(10) + 'B')}BTCUSDT-1m-2024-02-05.zip")
    with serve(folder) as sim:
        found, failed = discover(
            Binance(sim.url, CLOSED),
            [CANDLE],
            [ETH, BTC],
            reading.objects,
            RestClients(Binance(sim.url, CLOSED)),
            lambda: NOW,
        )
    assert (list(found), [type(error) for error in failed.values()]) == ([BTC], [UnknownMarketError])


@pytest.mark.parametrize("cell", [FEBRUARY, Cell("2024-03", BTC)], ids=str)
def test_a_key_that_names_no_month_is_told_with_the_last_month_asked_for(
    reading: Reading, folder: ArchiveFolder, cell: Cell
) -> None:
    publish(folder)
    put_foreign(folder, f"{MONTHLY}index.html")
    with serve(folder) as sim:
        found = reading.listing(sim, cell)
    assert found.foreign_to(cell) == [f"{MONTHLY}index.html"]
    assert found.foreign_to(Cell("2024-01", BTC)) == []
