"""A cell of the archive made again from landing alone: the same as before, with its history, or refused by
the name of the file that it takes.
"""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from lakehouse.datasets.candle import CANDLE, CandleArchive, CandleWitness
from lakehouse.datasets.dataset import BronzeCell
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError, NoSourceError, NotInLandingError
from lakehouse.model.result import CellResult
from lakehouse.pipeline.markets import known_markets
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.sources.files.ingest import reingest
from lakehouse.sources.files.listing import landed_files, listing_from_landing
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.faults.lab import lab
from lakehouse_tests.making import BTC, FEBRUARY, HEADER, MINUTE, NOW, ArchiveFolder, at, facts, klines, text

from .conftest import BRONZE, Reading, fetched, serve

pytestmark = pytest.mark.slow

LISTED = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-02-25"))
LIFE = facts(listed="2024-02-25")
MONTHLY, DAY = "*monthly*2024-02.zip", "*daily*2024-02-27.zip"


def exchange_with(*faults: str) -> Simulator:
    return Simulator(markets=(LISTED,), now=NOW, faults=faults)


def made_again(reading: Reading, cell: Cell = FEBRUARY, is_known: bool = True) -> CellResult:
    """The cell from landing, with nobody there to be asked."""
    stored = reading.tables.get(CandleArchive, cell)
    assert stored is not None
    record = stored.record
    change = reingest(
        CANDLE,
        Binance(CLOSED),
        cell,
        LIFE,
        reading.objects,
        None,
        record.facts.asked_until,
        record.inputs if is_known else None,
    )
    return change(None)


def assert_same_again(reading: Reading, cell: Cell = FEBRUARY, is_known: bool = True) -> CellRecord:
    """The cell comes out of landing with the same version, inputs and facts, and is not due then."""
    stored = reading.tables.get(CandleArchive, cell)
    assert stored is not None
    landing = reading.paths("landing")
    result = made_again(reading, cell, is_known=is_known)
    reading.tables.delete(CandleArchive, cell)
    record = reading.tables.put(CandleArchive, cell, result)
    assert (record.rows, record.version, record.inputs, record.facts) == (
        stored.record.rows,
        stored.record.version,
        stored.record.inputs,
        stored.record.facts,
    )
    assert reading.paths("landing") == landing
    return record


# What went wrong at the only reading.
FAULTS: dict[str, tuple[str, ...]] = {
    "monthly_only": (),
    "damaged_month": (f"damaged_zip={MONTHLY}",),
    "month_of_another_checksum": (f"stale_checksum={MONTHLY}",),
    "month_without_checksum": (f"checksum_absent={MONTHLY}",),
    "month_with_a_short_day": (f"day_absent={MONTHLY}",),
    "month_with_two_values": (f"conflicting_rows={MONTHLY}",),
    "month_with_repeated_rows": (f"duplicated_rows={MONTHLY}",),
    "dailies_only": (f"monthly_absent={MONTHLY}",),
    "dailies_with_a_bad_one": (f"monthly_absent={MONTHLY}", f"stale_checksum={DAY}"),
    "dailies_without_one": (f"monthly_absent={MONTHLY}", f"daily_absent={DAY}"),
    "damaged_month_without_one_daily": (f"damaged_zip={MONTHLY}", f"daily_absent={DAY}"),
}  # fmt: skip


@pytest.mark.parametrize("is_known", [True, False], ids=["by_its_inputs", "by_landing_alone"])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_cell_is_the_same_again_without_the_network(
    reading: Reading, faults: tuple[str, ...], is_known: bool
) -> None:
    with exchange_with(*faults) as sim:
        reading.ingest(sim, market=LIFE)
        record = assert_same_again(reading, is_known=is_known)
        assert record.rows
        assert not reading.is_due(sim)


def month(price: float = 100.0, count: int = 5 * 1440) -> bytes:
    return text(klines("2024-02-25", count, price))


def day(price: float = 100.0, count: int = 1440) -> bytes:
    return text(klines("2024-02-27", count, price))


Step = Callable[[ArchiveFolder], object]


def withdraw(folder: ArchiveFolder, period: str) -> None:
    for path in folder.root.rglob(f"*-{period}.zip*"):
        path.unlink()


# What the archive does from one reading to the next.
HISTORIES: dict[str, list[Step]] = {
    "a_month_uploaded_again": [lambda f: f.put("2024-02", month()), lambda f: f.put("2024-02", month(200.0))],
    "a_month_that_comes_back": [lambda f: f.put("2024-02", month()), lambda f: f.put("2024-02", month(200.0)), lambda f: f.put("2024-02", month())],
    "a_month_with_fewer_rows": [lambda f: f.put("2024-02", month()), lambda f: f.put("2024-02", month(count=7000))],
    "days_and_then_their_month": [lambda f: f.put("2024-02-27", day()), lambda f: f.put("2024-02", month())],
    "a_day_replaced_after_its_month": [lambda f: f.put("2024-02-27", day()), lambda f: f.put("2024-02", month()), lambda f: f.put("2024-02-27", day(300.0))],
    "a_day_emptied": [lambda f: (f.put("2024-02-26", text(klines("2024-02-26", 9))), f.put("2024-02-27", day())), lambda f: f.put("2024-02-27", text([HEADER]))],
    "a_day_withdrawn": [lambda f: (f.put("2024-02-26", text(klines("2024-02-26", 9))), f.put("2024-02-27", day())), lambda f: withdraw(f, "2024-02-27")],
    "a_month_withdrawn": [lambda f: (f.put("2024-02", month()), f.put("2024-02-27", day(300.0))), lambda f: withdraw(f, "2024-02")],
    "a_good_month_that_is_damaged_later": [lambda f: (f.put("2024-02", month()), f.put("2024-02-27", day())), lambda f: f.put_bytes(f.key("2024-02"), b"PK\3\4 no zip")],
    "a_month_whose_checksum_is_stale_for_a_while": [
        lambda f: (f.put("2024-02-27", day()), f.put_bytes(f.key("2024-02"), b"PK\3\4 no zip", f"{'0' * 64}  {f.key('2024-02').rsplit('/', 1)[-1]}\n")),
        lambda f: f.put("2024-02", month()),
    ],
    "the_same_bytes_once_more": [lambda f: f.put("2024-02", month()), lambda f: next(f.root.rglob("*.CHECKSUM")).write_text(next(f.root.rglob("*.CHECKSUM")).read_text().strip())],
}  # fmt: skip


def replay(reading: Reading, folder: ArchiveFolder, steps: list[Step]) -> None:
    for hour, step in enumerate(steps):
        step(folder)
        with serve(folder) as sim:
            assert reading.ingest(sim, at=NOW + timedelta(hours=hour), market=LIFE) is not None


@pytest.mark.parametrize("steps", HISTORIES.values(), ids=HISTORIES)
def test_a_cell_with_a_past_has_all_of_it_again(
    reading: Reading, folder: ArchiveFolder, steps: list[Step]
) -> None:
    replay(reading, folder, steps)
    assert_same_again(reading)
    with serve(folder) as sim:
        assert not reading.is_due(sim, at=NOW + timedelta(hours=len(steps)))


@pytest.mark.parametrize("steps", HISTORIES.values(), ids=HISTORIES)
def test_a_build_restores_the_past_of_a_damaged_cell_too(
    reading: Reading, folder: ArchiveFolder, steps: list[Step]
) -> None:
    """Its footer still says what it was made from; its rows are gone."""
    replay(reading, folder, steps)
    path = next(path for path in reading.paths("bronze") if path.endswith(".parquet"))
    body = reading.objects.get(path) or b""
    stored = reading.tables.get(CandleArchive, FEBRUARY)
    assert stored is not None
    reading.objects.put(path, body[:100] + bytes([body[100] ^ 1]) + body[101:])
    with serve(folder) as sim:
        record = reading.ingest(sim, at=NOW + timedelta(hours=len(steps)), market=LIFE)
        assert fetched(sim) == []
    assert record is not None
    assert (record.version, record.facts) == (stored.record.version, stored.record.facts)


@pytest.mark.parametrize(
    "name", ["a_month_uploaded_again", "a_month_that_comes_back", "a_day_emptied", "the_same_bytes_once_more"]
)
def test_a_build_restores_the_past_of_the_files_of_a_cell_that_is_gone(
    reading: Reading, folder: ArchiveFolder, name: str
) -> None:
    replay(reading, folder, HISTORIES[name])
    stored = reading.tables.get(CandleArchive, FEBRUARY)
    assert stored is not None
    reading.tables.delete(CandleArchive, FEBRUARY)
    with serve(folder) as sim:
        record = reading.ingest(sim, at=NOW + timedelta(hours=9), market=LIFE)
        assert fetched(sim) == []
    assert record is not None
    assert (record.version, record.facts.restatement_count) == (
        stored.record.version,
        stored.record.facts.restatement_count,
    )


def test_a_month_of_which_nothing_was_published_is_empty_again(
    reading: Reading, folder: ArchiveFolder
) -> None:
    folder.put("2024-03-05", text(klines("2024-03-05", 9)))
    replay(reading, folder, [lambda f: None])
    assert assert_same_again(reading).rows == 0
    with pytest.raises(NotInLandingError, match="landing has neither it nor a daily file"):
        made_again(reading, is_known=False)


# --- what landing cannot give ---------------------------------------------------------------------


def zip_of(reading: Reading, period: str) -> str:
    return next(
        path for path in reading.paths("landing") if f"-{period}.zip/" in path and path.endswith(".zip")
    )


def receipt_of(reading: Reading, period: str) -> str:
    return zip_of(reading, period).replace(".zip", ".json").replace(f"-{period}.json", f"-{period}.zip")


LOSSES: dict[str, Callable[[Reading], object]] = {
    "no_zip": lambda reading: reading.objects.delete(zip_of(reading, "2024-02-27")),
    "another_zip": lambda reading: reading.objects.put(zip_of(reading, "2024-02-27"), reading.objects.get(zip_of(reading, "2024-02-26")) or b""),
    "no_receipt": lambda reading: reading.objects.delete(receipt_of(reading, "2024-02-27")),
    "a_cut_receipt": lambda reading: reading.objects.put(receipt_of(reading, "2024-02-27"), b"{"),
    "another_receipt": lambda reading: reading.objects.put(receipt_of(reading, "2024-02-27"), reading.objects.get(receipt_of(reading, "2024-02-26")) or b""),
}  # fmt: skip


# Of a receipt that is gone without a trace, nobody knows by landing alone that there was one.
@pytest.mark.parametrize(
    ("name", "is_known"),
    [(name, is_known) for name in LOSSES for is_known in (True, False) if is_known or name != "no_receipt"],
)
def test_a_file_that_landing_lacks_is_named_and_nothing_stands_in_for_it(
    reading: Reading, name: str, is_known: bool
) -> None:
    with exchange_with(f"damaged_zip={MONTHLY}") as sim:
        reading.ingest(sim, market=LIFE)
        LOSSES[name](reading)
        with pytest.raises(
            NotInLandingError, match=r"BTCUSDT-1m-2024-02-27\.zip cannot be read without the network: "
        ) as told:
            made_again(reading, is_known=is_known)
        assert told.value.key.endswith("BTCUSDT-1m-2024-02-27.zip")
        assert isinstance(told.value, LakehouseError)
        stored = reading.tables.get(CandleArchive, FEBRUARY)
        assert stored is not None
        reading.tables.delete(CandleArchive, FEBRUARY)
        sim.reset_requests()
        again = reading.ingest(sim, at=NOW + MINUTE, market=LIFE)
        assert again is not None
        assert fetched(sim) == ["BTCUSDT-1m-2024-02-27.zip", "BTCUSDT-1m-2024-02-27.zip.CHECKSUM"], (
            "a build fetches it again"
        )
    assert again.rows == stored.record.rows
    assert assert_same_again(reading).version == again.version


def test_an_older_version_is_never_made_the_newest(reading: Reading, folder: ArchiveFolder) -> None:
    """A, B, A: the third receipt is gone, and the second must not stand in for it."""
    replay(reading, folder, HISTORIES["a_month_that_comes_back"])
    (path,) = (path for path in reading.paths("landing") if path.endswith("+.json"))
    for damage in (lambda: reading.objects.put(path, b"{"), lambda: reading.objects.delete(path)):
        damage()
        with pytest.raises(
            NotInLandingError,
            match="the newest version in landing is not the one that the cell was made from",
        ):
            made_again(reading)


def test_a_past_version_that_is_lost_is_told_and_the_present_is_served(
    reading: Reading, folder: ArchiveFolder
) -> None:
    replay(reading, folder, HISTORIES["a_month_uploaded_again"])
    first, _ = reading.receipts()
    reading.objects.delete(
        next(path for path in reading.paths("landing") if path.endswith(f"{first.sha256}.zip"))
    )
    result = made_again(reading)
    assert (result.rows.height, set(result.rows["source_sha256"])) == (
        5 * 1440,
        {reading.receipts()[1].sha256},
    )
    assert [(problem.kind, problem.healed_by) for problem in result.facts.problems][-1] == ("unreachable", "")
    assert "landing no longer has the version fetched at 2024-04-10 12:00" in result.facts.problems[-1].detail


def test_a_cell_none_of_whose_files_can_be_used_is_refused_as_by_a_build(
    reading: Reading, folder: ArchiveFolder
) -> None:
    replay(reading, folder, [lambda f: f.put("2024-02-27", day())])
    folder.put_bytes(folder.key("2024-02-27"), b"PK\3\4 no zip")
    with serve(folder) as sim, pytest.raises(NoSourceError):
        reading.ingest(sim, at=NOW + MINUTE, market=LIFE)
    with pytest.raises(NoSourceError):
        made_again(reading, is_known=False)


def test_landing_lists_what_the_archive_listed(reading: Reading) -> None:
    with exchange_with(f"damaged_zip={MONTHLY}") as sim:
        reading.ingest(sim, market=LIFE)
        listing = reading.listing(sim)
    landed = landed_files(reading.landing, Binance(CLOSED), BRONZE, BTC)
    found = listing_from_landing(Binance(CLOSED), BRONZE, BTC, landed.receipts, listing.listed_at)
    assert (landed.unsound, found.foreign) == ({}, {})
    periods = {"2024-02", *(f"2024-02-{number}" for number in range(25, 30))}
    assert set(found.files) == periods
    assert {period: found.state(period) for period in periods} == {
        period: listing.state(period) for period in periods
    }
    assert set(landed_files(reading.landing, Binance(CLOSED), BRONZE, BTC, {"2024-02-27"}).receipts) == {
        "2024-02-27"
    }


@pytest.mark.parametrize("state", ["", "etag", "etag:many:none", "etag:-1:none", "a:b"])
def test_a_receipt_of_a_state_that_no_listing_has_is_not_listed(reading: Reading, state: str) -> None:
    with exchange_with() as sim:
        reading.ingest(sim, market=LIFE)
    (receipt,) = reading.receipts()
    reading.landing.admit(dataclasses.replace(receipt, state=state, fetched_at=NOW + MINUTE), b"PK")
    landed = landed_files(reading.landing, Binance(CLOSED), BRONZE, BTC)
    assert (landed.receipts, landed.unsound) == ({"2024-02": [receipt]}, {"2024-02": receipt.key})


@pytest.mark.parametrize(
    "faults",
    [(), (f"day_absent={MONTHLY}",), (f"damaged_zip={MONTHLY}",)],
    ids=["sound", "short_day", "damaged_month"],
)
def test_cells_that_the_product_built_are_the_same_again_with_their_witness(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    """Discovery reads the first day of a market beside its month: what a cell was not made from is no part of
    it.
    """
    with lab(tmp_path, *faults) as lake_lab:
        lake_lab.build()
        sim, lake = lake_lab.sim, lake_lab.lake
        sim.add_fault(f"reupload={MONTHLY}")
        lake_lab.build()
    cells = lake.ledger(CandleArchive.name)
    assert cells
    for cell, record in cells.items():
        stored = lake.tables.get(CandleWitness, cell)
        assert stored is not None
        witness = BronzeCell(stored.rows, stored.record.version, stored.record.facts)
        market = known_markets(lake)[cell.own_market]
        change = reingest(
            CANDLE,
            Binance(CLOSED),
            cell,
            market,
            lake.objects,
            witness,
            record.facts.asked_until,
            record.inputs,
        )
        again = lake.tables.put(CandleArchive, cell, change(None))
        assert (again.version, again.inputs, again.facts) == (record.version, record.inputs, record.facts)
