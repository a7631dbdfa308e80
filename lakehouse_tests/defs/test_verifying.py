"""`verify`: REST proves stored candles row by row, finds what no total tells, and mends it by the declared
rules.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.reporting import Report
from lakehouse.cli.verifying import Verification, print_verification, verify
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.defs.describe import asset_key
from lakehouse.model.cell import Cell
from lakehouse.model.errors import NothingStoredError
from lakehouse.model.interval import MINUTE
from lakehouse.model.market import Market
from lakehouse.model.result import Asked, CellFacts, CellResult
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.quality import DAMAGED
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.verifying import plan
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.layout import cell_path
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.making import facts
from lakehouse_tests.sources.canned import candles_by

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
BTC, ETH, GONE = (Market("binance", "spot", symbol) for symbol in ("BTCUSDT", "ETHUSDT", "XYZUSDT"))
SPAN = TimeRange.parse("2024-01", "2024-03")
JANUARY, FEBRUARY = (Cell(month, BTC) for month in ("2024-01", "2024-02"))
WITNESS, API, SILVER, HOURS = "bronze/candle_witness", "bronze/candle_api", "silver/candle", "gold/candle_1h"
CHANGED = "=*BTCUSDT-1m-2024-02.zip"


def listed(market: Market, day: int, until: datetime | None = None) -> SimulatedMarket:
    return SimulatedMarket(
        "spot",
        market.symbol,
        market.symbol.removesuffix("USDT"),
        "USDT",
        Decimal(100),
        40,
        2,
        3,
        datetime(2024, 1, day, tzinfo=UTC),
        until,
    )


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator(
        markets=(listed(BTC, 30), listed(GONE, 30, datetime(2024, 2, 1, tzinfo=UTC))), now=NOW, speed=1
    ) as sim:
        yield sim


@pytest.fixture
def sim(running: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """One exchange whose time passes, for a test to add faults to."""
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    running.reset_requests()
    yield running
    running.clear_faults()


class Shell:
    """A lake with candles and hours, in an instance of its own."""

    def __init__(self, root: Path, sim: Simulator, instance: dg.DagsterInstance) -> None:
        features = tuple(feature for feature in REGISTRY.features if feature.name == HOURS)
        settings = Settings(
            root=str(root), start="2024-01", binance_archive_url=sim.url, binance_rest_url=sim.url
        )
        self.lake: LakeServices = open_lake(
            settings, replace(REGISTRY, features=features), clock=lambda: sim.now
        )
        self.reader = Lake(root)
        self.instance = instance
        self.sim = sim

    def build(self, *markets: Market, span: TimeRange = SPAN) -> None:
        for report in Builder(self.lake, self.instance).build(
            [self.lake.registry.table(HOURS)], list(markets), span
        ):
            assert report.failed == {}

    def verify(
        self, *markets: Market, budget: int = 1000, again: bool = False, span: TimeRange | None = SPAN
    ) -> Verification:
        return verify(self.lake, self.instance, markets, span, budget, again)

    def record(self, table: str, cell: Cell = FEBRUARY) -> CellRecord:
        return self.lake.ledger(table)[cell]

    def versions(self, table: str) -> dict[Cell, str]:
        return {cell: record.version for cell, record in self.lake.ledger(table).items()}

    def asked(self) -> int:
        """Requests for 1m candles since the last reset."""
        return sum("/klines" in path and "interval=1m" in path for _, path in self.sim.requests)


Opens = Callable[[str], Shell]


@pytest.fixture
def opens(sim: Simulator, tmp_path: Path) -> Iterator[Opens]:
    with dg.DagsterInstance.ephemeral() as one, dg.DagsterInstance.ephemeral() as other:
        instances = iter((one, other))
        yield lambda name: Shell(tmp_path / name, sim, next(instances))


@pytest.fixture
def shell(opens: Opens) -> Shell:
    return opens("lake")


@pytest.mark.slow
def test_a_verified_lake_has_the_versions_of_a_fresh_backfill(opens: Opens) -> None:
    shell, fresh = opens("verified"), opens("fresh")
    shell.build(BTC)
    assert {record.facts.evidence for record in shell.lake.ledger(SILVER).values()} == {"totals"}
    before = shell.versions(SILVER) | shell.versions(HOURS)
    found = shell.verify()
    assert [
        (one.cell, one.evidence_before, one.evidence, one.is_known, one.differing.height, one.restated.height)
        for one in found.verified
    ] == [
        (FEBRUARY, "totals", "rows_api", True, 0, 0),
        (JANUARY, "totals", "rows_api", True, 0, 0),
    ], "the newest first"
    assert (found.failed, found.left) == ({}, 0)
    assert [(asking.start, asking.end, asking.outcome) for asking in shell.record(API).facts.asked] == [
        (FEBRUARY.window.start, FEBRUARY.window.end, "rows")
    ]
    assert shell.versions(SILVER) | shell.versions(HOURS) == before
    fresh.build(BTC)
    assert fresh.versions(SILVER) | fresh.versions(HOURS) == before
    assert {shell.reader.dataset_id(table) for table in (SILVER, HOURS)} == {
        fresh.reader.dataset_id(table) for table in (SILVER, HOURS)
    }
    assert fresh.reader.candles(BTC, "2024-01", "2024-03", "1h").equals(
        shell.reader.candles(BTC, "2024-01", "2024-03", "1h")
    )

    (event,) = shell.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key(API), asset_partitions=[f"2024-02|{BTC.key}"]), limit=10
    ).records
    assert event.asset_materialization
    assert event.asset_materialization.tags["dagster/data_version"] == shell.record(API).version
    shell.sim.reset_requests()
    again = shell.verify()
    assert (again.verified, again.requests, shell.sim.requests) == ([], 0, []), "proven is proven"


@pytest.mark.slow
def test_a_change_that_no_total_tells_is_found_and_mended(shell: Shell) -> None:
    shell.sim.add_fault("interior_changed=*BTCUSDT-1m-2024-01.zip")
    shell.build(BTC, span=JANUARY.window)
    silent = shell.record(SILVER, JANUARY)
    assert (silent.facts.evidence, silent.facts.conflict_count, silent.facts.problems) == ("totals", 0, ()), (
        "a build stays silent"
    )
    truth = candles_by(shell.lake.clients.of(BTC), BTC, MINUTE, JANUARY.window).rows
    values = truth.columns[:11]
    built = shell.reader.candles(BTC, "2024-01", "2024-02")
    assert built.select(values).join(truth, on=values, how="anti", nulls_equal=True).height == 1

    (one,) = shell.verify().verified
    assert (one.cell, one.evidence_before, one.evidence, one.is_known, one.restated.height) == (
        JANUARY,
        "totals",
        "totals",
        True,
        0,
    ), "of the row that REST alone states, no file says the same"
    told = one.differing
    assert told.select("sources", "decided_by", "is_served", "is_settled").sort("sources").rows() == [
        ("api", "precedence", True, False),
        ("monthly", "precedence", False, False),
    ]
    assert (told["open_time"].n_unique(), told["close"].n_unique()) == (1, 2)
    served = shell.reader.candles(BTC, "2024-01", "2024-02")
    assert served.select(values).equals(truth.select(values))
    assert served.filter(source="api")["open_time"].to_list() == told["open_time"].unique().to_list()
    record = shell.record(SILVER, JANUARY)
    assert (record.facts.conflict_count, record.facts.unsettled_count) == (1, 1)
    assert shell.record(HOURS, JANUARY).inputs == {f"{SILVER}@2024-01": record.version}, "gold follows"


@pytest.mark.slow
def test_what_rest_restates_between_two_verifications_voids_the_witness_which_is_asked_again(
    shell: Shell,
) -> None:
    shell.build(BTC)
    shell.verify()
    before = shell.reader.candles(BTC, "2024-02", "2024-03")
    known_until, witness = shell.sim.now, shell.record(WITNESS).version
    assert shell.reader.restatements().height == 0

    shell.sim.add_fault(f"rest_revised{CHANGED}")
    assert shell.verify().verified == [], "asked once, a month is left alone"
    found = {one.cell: one for one in shell.verify(again=True).verified}
    assert [(cell, one.restated.height, one.differing.height) for cell, one in found.items()] == [
        (FEBRUARY, 1, 2),
        (JANUARY, 0, 0),
    ]
    minute = found[FEBRUARY].restated["open_time"][0]
    assert set(found[FEBRUARY].differing.select("open_time", "sources", "decided_by", "is_served").rows()) == {
        (minute, "api", "witness", True), (minute, "daily+monthly", "witness", False),
    }  # fmt: skip
    assert shell.record(WITNESS).version != witness, "fetched again"
    revised_at = shell.record(API).facts.revised_at
    assert revised_at is not None
    assert revised_at < shell.record(WITNESS).facts.asked[0].at, "and fresher than the revision"
    record = shell.record(SILVER)
    assert (record.facts.evidence, record.facts.conflict_count, record.facts.unsettled_count) == (
        "totals",
        1,
        0,
    )
    after = shell.reader.candles(BTC, "2024-02", "2024-03")
    changed = after.join(before, on=after.columns, how="anti", nulls_equal=True)
    assert changed.select("open_time", "source").rows() == [(minute, "api")]

    (told,) = shell.reader.restatements(BTC, "2024-02", "2024-03").to_dicts()
    assert (told["market"], told["open_time"], told["source"], told["change"]) == (
        BTC.key,
        minute,
        "api",
        "changed",
    )
    assert (told["trade_count_after"], told["fetched_at_after"]) == (changed["trade_count"][0], revised_at)
    assert told["trade_count_after"] == 2 * told["trade_count_before"]
    assert shell.reader.restatements(BTC, "2024-01", "2024-02").height == 0

    assert shell.reader.candles(BTC, "2024-02", "2024-03", as_of=known_until).equals(before)
    assert shell.reader.candles(BTC, "2024-02", "2024-03", as_of=shell.sim.now).equals(after)
    hours = shell.reader.candles(BTC, "2024-02", "2024-03", "1h")
    assert shell.reader.candles(BTC, "2024-02", "2024-03", "1h", as_of="2030-01-01").equals(hours)
    assert not shell.reader.candles(BTC, "2024-02", "2024-03", "1h", as_of=known_until).equals(hours)


@pytest.mark.slow
def test_a_budget_goes_to_the_newest_months_and_the_next_time_goes_on(shell: Shell) -> None:
    shell.build(BTC)
    shell.sim.reset_requests()
    # February takes 42 pages and two candles beside it, January three and two
    first = shell.verify(budget=44)
    assert ([one.cell for one in first.verified], first.left, shell.asked()) == ([FEBRUARY], 1, 44)
    assert first.requests == 44
    assert {cell.date: record.facts.evidence for cell, record in shell.lake.ledger(SILVER).items()} == {
        "2024-01": "totals",
        "2024-02": "rows_api",
    }
    assert shell.verify(budget=4).left == 1, "too little for anything"
    second = shell.verify(budget=44)
    assert ([one.cell for one in second.verified], second.left) == ([JANUARY], 0)
    third = shell.verify(budget=44, again=True)
    assert [one.cell for one in third.verified] == [FEBRUARY], "asked longest ago"


@pytest.mark.slow
def test_a_market_that_rest_has_forgotten_is_said_to_be_and_asked_about_once(shell: Shell) -> None:
    shell.build(GONE)
    before = shell.versions(SILVER)
    (one,) = shell.verify(GONE).verified
    assert (one.cell, one.is_known, one.evidence_before, one.evidence) == (
        Cell("2024-01", GONE),
        False,
        "unconfirmed",
        "unconfirmed",
    )
    assert shell.versions(SILVER) == before
    assert shell.verify(GONE).verified == []


@pytest.mark.slow
def test_rest_out_of_reach_is_named_and_leaves_what_is_served_as_it_was(shell: Shell) -> None:
    shell.build(BTC)
    before = [shell.versions(table) for table in (WITNESS, SILVER, HOURS)]
    shell.sim.add_fault("rest_unavailable")
    found = shell.verify()
    assert list(found.failed) == [f"{API} {FEBRUARY}", f"{API} {JANUARY}"]
    assert (found.verified, found.left) == ([], 0)
    assert all("HTTP 503" in why for why in found.failed.values())
    assert {
        asked.outcome for cell in (FEBRUARY, JANUARY) for asked in shell.record(API, cell).facts.asked
    } == {"unreachable"}
    shell.build(BTC)
    assert [shell.versions(table) for table in (WITNESS, SILVER, HOURS)] == before
    assert shell.record(SILVER).facts.problems == ()
    shell.sim.clear_faults()
    assert {one.evidence for one in shell.verify().verified} == {"rows_api"}


@pytest.mark.slow
def test_a_verification_that_was_cut_off_is_finished_by_the_next(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.build(BTC, span=TimeRange.parse("2024-01", "2024-02"))
    with monkeypatch.context() as cut:
        cut.setattr(Builder, "build_cells", interrupt)
        with pytest.raises(KeyboardInterrupt):
            shell.verify()
    assert shell.record(SILVER, JANUARY).facts.evidence == "totals"
    assert shell.verify().requests == 0
    assert shell.record(SILVER, JANUARY).facts.evidence == "rows_api"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_not_stored_cannot_be_verified(shell: Shell) -> None:
    with pytest.raises(NothingStoredError, match=r"silver/candle .*binance-spot:BTCUSDT.* Build it first"):
        shell.verify(BTC)
    assert shell.lake.ledger(API) == {}


def test_a_budget_too_small_for_any_month_says_what_one_takes(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """Running it again would never get on."""
    silver = shell.lake.registry.dataset("candle").silver
    shell.lake.tables.put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    for cell in (JANUARY, FEBRUARY):
        shell.lake.tables.put(silver, cell, CellResult(silver.empty(), {}, CellFacts(evidence="totals")))
    print_verification(shell.verify(budget=10), Report("table"), "silver/candle")
    assert "2 cells left, and the next takes 44 requests, more than the budget: raise --budget" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_damaged_cell_is_named_and_fails(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    silver = shell.lake.registry.dataset("candle").silver
    for cell in (JANUARY, FEBRUARY):
        shell.lake.tables.put(silver, cell, CellResult(silver.empty(), {}, CellFacts(evidence="rows_api")))
    shell.lake.objects.put(cell_path(silver, FEBRUARY), b"PAR1")
    found = shell.verify(BTC)
    assert found.failed == {f"{SILVER} {FEBRUARY}": DAMAGED}
    print_verification(found, Report("table"), "silver/candle")
    said = capsys.readouterr().out
    assert "is damaged" in said
    assert "every cell already" not in said
    assert shell.verify(BTC, span=JANUARY.window).failed == {}
    assert shell.verify(BTC, span=FEBRUARY.window).failed == found.failed, "also where nothing else is stored"


def test_cells_are_asked_about_newest_first_and_again_those_asked_longest_ago(shell: Shell) -> None:
    dataset, tables = shell.lake.registry.dataset("candle"), shell.lake.tables
    assert dataset.api is not None
    tables.put(MarketTable, None, CellResult(market_frame([facts(market) for market in (BTC, ETH)]), {}))
    cells = [Cell(month, market) for market in (BTC, ETH) for month in ("2024-01", "2024-02", "2024-03")]
    for cell in cells:
        tables.put(
            dataset.silver,
            cell,
            CellResult(
                dataset.silver.empty(), {}, CellFacts(evidence="rows_api" if cell == JANUARY else "totals")
            ),
        )

    def planned(
        budget: int = 1000,
        again: bool = False,
        span: TimeRange | None = None,
        markets: tuple[Market, ...] = (),
    ) -> tuple[list[Cell], int]:
        chosen = plan(shell.lake, dataset, markets, span, budget, again)
        return list(chosen.wanted), len(chosen.left)

    (january, february, march), (january_eth, february_eth, march_eth) = cells[:3], cells[3:]
    assert planned() == ([march, march_eth, february, february_eth, january_eth], 0)
    assert plan(shell.lake, dataset, [], None, 1000).wanted[march] == TimeRange.parse(
        "2024-03-01", "2024-03-20"
    ), "whole days of the open month"
    assert planned(budget=(28 + 2) * 2 + 44) == ([march, march_eth, february], 2), (
        "19 days take 28 pages, February 42, and two candles beside each"
    )
    assert [plan(shell.lake, dataset, [], None, budget).next_requests for budget in (10, 104, 1000)] == [
        30,
        44,
        0,
    ]
    assert planned(span=SPAN, markets=(ETH,)) == ([february_eth, january_eth], 0)
    with pytest.raises(NothingStoredError, match=GONE.key):
        planned(markets=(ETH, GONE))

    for hours, cell, outcome in ((2, march, "rows"), (1, february_eth, "empty")):
        whole = plan(shell.lake, dataset, [], None, 1000, again=True).wanted[cell]
        asked = Asked(whole.start, whole.end, NOW - timedelta(hours=hours), outcome)
        tables.put(dataset.api, cell, CellResult(dataset.api.empty(), {}, CellFacts(asked=(asked,))))
    assert planned() == ([march_eth, february, january_eth], 0)
    assert planned(again=True) == ([march_eth, february, january, january_eth, march, february_eth], 0)
    assert plan(shell.lake, dataset, [], None, 1000).behind == [march, february_eth], (
        "silver was made without these answers"
    )
