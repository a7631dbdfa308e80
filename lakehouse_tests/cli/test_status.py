"""One look says how a lake is, and what Dagster does about it, worst first."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon.types import DaemonHeartbeat

from lakehouse.cli.building import Builder
from lakehouse.cli.console import out
from lakehouse.cli.instance import open_instance
from lakehouse.cli.reporting import Report
from lakehouse.cli.status import look, print_status
from lakehouse.datasets.candle import Candle, CandleArchive
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.market import MARKET_TYPES
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import BTC, COIN, FEBRUARY, NOW, at, bronze, candles, facts, minutes

ABSENT = GapRun("absent", at("2024-02-20"), at("2024-02-21"), 1440)
HALT = GapRun("halt", at("2024-02-10"), at("2024-02-10T01:00"), 60)


@pytest.fixture
def settings(objects: LakeObjects, tmp_path: Path) -> Settings:
    return Settings(root=objects.root, dagster_home=tmp_path / "home", start="2024-02")


@pytest.fixture
def lake(settings: Settings) -> LakeServices:
    """Two markets: of one a day is absent, of the other a halt is proven and a candle disputed."""
    lake = open_lake(settings, clock=lambda: NOW)
    lake.tables.put(MarketTable, None, CellResult(market_frame([facts(), facts(COIN)]), {}))
    for market, said in (
        (BTC, CellFacts(gaps=(HALT, ABSENT))),
        (COIN, CellFacts(gaps=(HALT,), conflict_count=3, unsettled_count=1)),
    ):
        cell = Cell(FEBRUARY.date, market)
        lake.tables.put(CandleArchive, cell, CellResult(bronze(minutes("2024-02-01", 7)), {}))
        lake.tables.put(Candle, cell, CellResult(candles(minutes("2024-02-01", 5)), {}, said))
    return lake


def test_markets_are_told_worst_first_with_their_newest_row_in_every_table(
    lake: LakeServices, settings: Settings
) -> None:
    first, second = look(lake, settings).markets
    assert (first.market, first.absent, first.conflicts, first.unsettled) == (
        BTC.key,
        {"halt": 60, "unproven": 1440},
        0,
        0,
    )
    assert (second.market, second.absent, second.conflicts, second.unsettled) == (
        COIN.key,
        {"halt": 60},
        3,
        1,
    )
    assert first.newest["bronze/candle_archive"] == at("2024-02-01T00:06")
    assert first.newest["silver/candle"] == at("2024-02-01T00:04")
    assert first.newest["gold/vwap"] is first.newest["bronze/candle_api"] is None
    assert first.is_late


def test_a_market_that_ended_or_has_news_is_not_late(lake: LakeServices, settings: Settings) -> None:
    ended = facts(delisted="2024-02-01T00:05")
    lake.tables.put(MarketTable, None, CellResult(market_frame([ended, facts(COIN)]), {}))
    assert {one.market: one.is_late for one in look(lake, settings).markets} == {
        BTC.key: False,
        COIN.key: True,
    }
    fresh = open_lake(settings, clock=lambda: at("2024-02-01T03:00"))
    assert not any(one.is_late for one in look(fresh, settings).markets)


def test_the_screen_has_it_all_in_few_lines(
    lake: LakeServices,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(out, "width", 120)
    print_status(look(lake, settings), Report("table"))
    said = capsys.readouterr().out
    made_of_candles = [table for table in lake.registry.features if Candle.name in table.input_names()]
    for words in (
        "2 markets, 2 late",
        "1,440",
        f"{len(made_of_candles)} behind",
        "Dagster: nothing ran yet.",
        "binance spot 6,000",
    ):
        assert words in said
    assert len(said.splitlines()) <= 40


def test_dagster_is_not_even_imported_where_it_has_nothing_to_say(
    lake: LakeServices, settings: Settings, tmp_path: Path
) -> None:
    program = (
        "import sys; from lakehouse.cli.app import app; app(standalone_mode=False); "
        "assert not any(name.split('.')[0] == 'dagster' for name in sys.modules)"
    )
    environment = os.environ | {"LAKEHOUSE_ROOT": str(settings.root), "DAGSTER_HOME": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", program, "status", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dagster"] is None


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings) as opened:
        yield opened


def test_what_dagster_knows_is_told(
    lake: LakeServices,
    settings: Settings,
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Builder(lake, instance).run_checks([Candle])
    quiet = look(lake, settings).dagster
    assert quiet is not None
    assert not quiet.is_alive
    assert [(run.status, run.what) for run in quiet.runs] == [("success", "checks of 1 table")]
    gaps = next(check for check in quiet.checks if check.check == "gaps")
    assert (gaps.table, gaps.severity) == ("silver/candle", "error")
    assert quiet.checks[0].severity == "error", "worst first"
    assert gaps.what.startswith(
        f"2 cells, such as {FEBRUARY.date}|{BTC.key}: 1,440 rows absent in 1 run (unproven)"
    )
    instance.add_backfill(
        PartitionBackfill("one", BulkActionStatus.REQUESTED, False, {}, time.time(), partition_names=[])
    )
    instance.create_run_for_job(
        dg.job(name="waiting")(lambda: None),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={"lakehouse/why": "3 new days"},
    )
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "one", []))
    status = look(lake, settings)
    assert status.dagster is not None
    assert (status.dagster.is_alive, status.dagster.queued, status.dagster.backfills) == (True, 1, 1)
    assert (status.dagster.runs[0].status, status.dagster.runs[0].why) == ("not_started", "3 new days")
    print_status(status, Report("table"))
    said = capsys.readouterr().out
    assert "its daemon runs; 1 queued, 0 running, 1 backfill under way" in said
    assert f"check silver/candle gaps (error): {gaps.what}" in said
    assert "3 new days" in said


@pytest.mark.parametrize(("faults", "problem"), [((), ""), (("error_418=*",), "banned")])
def test_a_budget_is_asked_for_on_request_alone(
    objects: LakeObjects, tmp_path: Path, faults: tuple[str, ...], problem: str
) -> None:
    objects.put("landing/any", b"")
    with Simulator(now=NOW, faults=faults) as exchange:
        urls = {"binance_rest_url": exchange.url, "bybit_rest_url": exchange.url}
        settings = Settings(root=objects.root, dagster_home=tmp_path, **urls)
        lake = open_lake(settings, clock=lambda: NOW)
        assert {(budget.used, budget.problem) for budget in look(lake, settings).rest} == {(None, "")}
        asked = look(lake, settings, asks=True).rest
        assert [(budget.exchange, budget.market_type, budget.per) for budget in asked] == [
            *(("binance", market_type, "weight a minute") for market_type in MARKET_TYPES),
            *(("bybit", market_type, "requests in 5 s") for market_type in MARKET_TYPES),
        ]
        assert all(problem in budget.problem and (budget.used is None) == bool(problem) for budget in asked)
