"""Monitoring reads what `lakehouse status` says, behind the door of the UI alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lakehouse.cli.instance import open_instance
from lakehouse.cli.metrics import Metrics
from lakehouse.datasets.candle import Candle
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.opening import open_lake
from lakehouse.settings import Settings
from lakehouse.storage.objects import LakeObjects
from lakehouse.ui.door import door
from lakehouse.ui.guard import Guard
from lakehouse.ui.webserver import with_metrics
from lakehouse_tests.making import BTC, FEBRUARY, at, candles, facts, minutes
from lakehouse_tests.ui.asking import ask

ABSENT = GapRun("absent", at("2024-02-20"), at("2024-02-21"), 1440)


@pytest.fixture
def settings(objects: LakeObjects, tmp_path: Path) -> Settings:
    return Settings(root=objects.root, dagster_home=tmp_path / "home", start="2024-02")


def read(text: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """The metrics, each by the values of its labels in their order of names; no sample is there twice, for
    Prometheus takes one of them.
    """
    found = {
        family.name: [
            (tuple(value for _, value in sorted(one.labels.items())), one.value) for one in family.samples
        ]
        for family in text_string_to_metric_families(text.decode())
    }
    assert all(len(dict(samples)) == len(samples) for samples in found.values())
    return {name: dict(samples) for name, samples in found.items()}


def test_metrics_say_how_tables_and_markets_are(settings: Settings) -> None:
    lake = open_lake(settings)
    lake.tables.put(MarketTable, None, CellResult(market_frame([facts()]), {}))
    lake.tables.put(
        Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 5)), {}, CellFacts(gaps=(ABSENT,)))
    )
    with open_instance(settings) as instance:
        instance.create_run_for_job(
            dg.job(name="waiting")(lambda: None), status=dg.DagsterRunStatus.NOT_STARTED
        )
    found = read(Metrics(settings)())
    assert found["lakehouse_runs"] == {("queued",): 1, ("running",): 0}
    assert found["lakehouse_daemon_up"] == {(): 0}
    assert found["lakehouse_table_behind"][("silver/candle",)] == 0
    assert found["lakehouse_up"] == {(): 1}
    assert ("silver/candle",) in found["lakehouse_table_due"]
    assert ("bronze/candle_archive",) not in found["lakehouse_table_due"], "only its sources know"
    assert found["lakehouse_table_rows"][("silver/candle",)] == 5
    assert found["lakehouse_late"] == {(BTC.key, "silver/candle"): 1}
    assert found["lakehouse_absent_rows"] == {("unproven", BTC.key, "silver/candle"): 1440}
    assert (
        found["lakehouse_newest_row_timestamp_seconds"][(BTC.key, "silver/candle")]
        == at("2024-02-01T00:04").timestamp()
    )
    assert found["lakehouse_incidents"][("check failed",)] == 0


def test_a_market_has_figures_for_each_of_its_silver_tables(settings: Settings) -> None:
    lake, perpetual = open_lake(settings), replace(FEBRUARY, market=Market("binance", "linear", "BTCUSDT"))
    lost = GapRun("absent", at("2024-02-20"), at("2024-02-20T08:00"), 1)
    for table, rows, gap in (
        (Candle, candles(minutes("2024-02-01", 5)), ABSENT),
        (FundingRate, FundingRate.empty(), lost),
    ):
        lake.tables.put(table, perpetual, CellResult(rows, {}, CellFacts(gaps=(gap,))))
    found = read(Metrics(settings)())
    (key,) = {market for market, _ in found["lakehouse_late"]}
    assert found["lakehouse_absent_rows"] == {
        ("unproven", key, "silver/candle"): 1440,
        ("unproven", key, "silver/funding_rate"): 1,
    }
    assert set(found["lakehouse_unsettled"]) == {(key, "silver/candle"), (key, "silver/funding_rate")}


def test_a_lake_that_is_not_there_is_down_and_is_looked_at_again_after_half_a_minute(
    settings: Settings,
) -> None:
    seconds = [0.0]
    metrics = Metrics(settings, lambda: seconds[0])
    assert read(metrics()) == {"lakehouse_up": {(): 0}}
    open_lake(settings).tables.put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 5)), {}))
    assert read(metrics())["lakehouse_up"] == {(): 0}, "kept"
    seconds[0] = 31.0
    assert read(metrics())["lakehouse_up"] == {(): 1}


def test_metrics_are_behind_the_door() -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it is not asked")

    token = "a-token-that-is-long-enough-for-the-door"
    app = Guard(with_metrics(other, lambda: b"lakehouse_up 1.0\n"), door("127.0.0.1", 3000, (), token, False))
    assert ask(app, "GET", "/metrics").status == 401
    answer = ask(app, "GET", "/metrics", [("Authorization", f"Bearer {token}")])
    assert (answer.status, answer.text) == (200, "lakehouse_up 1.0\n")
    assert ask(app, "GET", "/metrics", [("Host", "evil.example")]).status != 200
