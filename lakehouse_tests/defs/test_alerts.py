"""Every alert arrives at a webhook, once, with its cell, cause, command and link; and its end."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    SensorType,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import code_origin
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.defs.alert_facts import Seen
from lakehouse.defs.alerting import Alerts, alert_once, alert_sensor
from lakehouse.defs.sensors import COULD_NOT_LOOK, Refresh, refresh_sensors
from lakehouse.model.cell import Cell
from lakehouse.model.errors import RestBannedError
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.model.timerange import TimeRange
from lakehouse.ops import alerts
from lakehouse.ops.alerts import QUIET
from lakehouse.ops.telling import Book
from lakehouse.pipeline.alert_facts import Watch
from lakehouse.simulator import Simulator
from lakehouse_tests.making import at, facts
from lakehouse_tests.webhook import Webhook, listening

from .conftest import BRONZE, BTC, ETH, SILVER, SOL, Shell
from .night import MINUTE, NEVER_FULL, Night, put

FEBRUARY, ETH_FEBRUARY = Cell("2024-02", BTC), Cell("2024-02", ETH)
pytestmark = pytest.mark.slow  # together, not one by one: the fast tests are to take two minutes

ABSENT = GapRun("absent", at("2024-02-20"), at("2024-02-21"), 1440)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One that remembers ticks, too."""
    with dg.instance_for_test() as opened:
        yield opened


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with listening() as hook:
        yield hook


@pytest.fixture
def night(shell: Shell, webhook: Webhook) -> Night:
    return Night(shell, webhook)


def test_a_run_that_fails_is_told_with_its_cell_and_its_end_once_it_is_made(
    night: Night, sim: Simulator
) -> None:
    night.look()
    sim.add_fault("unavailable=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    night.shell.run(BRONZE, [FEBRUARY, ETH_FEBRUARY])
    for _ in range(3):
        night.look()
    told = night.told("run failed")
    assert told["what"] == f"{BRONZE} {ETH_FEBRUARY}"
    assert "ETHUSDT-1m-2024-02.zip could not be fetched" in told["cause"]
    assert told["command"] == f"lakehouse build {BRONZE} --markets {ETH.key} --from 2024-02 --to 2024-03"
    (run,) = night.shell.instance.get_runs()
    assert told["link"].endswith(f"/runs/{run.run_id}")
    (incident,) = Book(night.shell.lake.objects).remembered().incidents.values()
    assert {BRONZE, SILVER} <= {*incident.fact.tables}, "what is made from it"
    assert FundingRate.name not in incident.fact.tables
    sim.clear_faults()
    night.shell.run(BRONZE, [ETH_FEBRUARY])
    night.look()
    night.look(QUIET[alerts.RUN_FAILED])
    begins, ends = night.webhook.of("run failed")
    assert (begins["type"], ends["type"]) == ("failure", "success")
    assert f"{BRONZE} {ETH_FEBRUARY}\nended: fine since" in ends["message"]


def test_a_check_that_fails_is_told_with_its_cell_and_a_warning_is_not(night: Night) -> None:
    put(night.shell.lake, FEBRUARY, ABSENT)
    verdicts = night.shell.check(SILVER)
    assert not verdicts["freshness"].passed, "a warning"
    for _ in range(3):
        night.look(in_full=False)
    told = night.told("check failed")
    assert told["what"] == f"{SILVER} gaps {FEBRUARY}"
    assert told["cause"].startswith("1,440 rows absent in 1 run (unproven)")
    assert told["command"] == (
        f"lakehouse verify --table {SILVER} --markets {BTC.key} --from 2024-02 --to 2024-03"
    )
    assert told["link"].endswith("/assets/silver/candle?view=checks&checkDetail=gaps")
    assert not [message for message in night.webhook.got if "freshness" in message["message"]]


def test_the_command_of_a_check_of_funding_proves_funding_and_not_candles(night: Night) -> None:
    cell = Cell("2024-02", replace(BTC, market_type="linear"))
    lost = GapRun("absent", at("2024-02-20"), at("2024-02-20T08:00"), 1)
    night.shell.lake.tables.put(
        FundingRate, cell, CellResult(FundingRate.empty(), {}, CellFacts(gaps=(lost,)))
    )
    assert not night.shell.check(FundingRate.name)["gaps"].passed
    night.look(in_full=False)
    assert night.told("check failed")["command"] == (
        "lakehouse verify --table silver/funding_rate --markets binance-linear:BTCUSDT --from 2024-02 --to 2024-03"
    )


def test_a_check_that_flaps_all_day_gives_one_message(night: Night) -> None:
    for hour in range(6):
        put(night.shell.lake, FEBRUARY, *([] if hour % 2 else [ABSENT]))
        night.shell.check(SILVER)
        night.look(timedelta(hours=1), in_full=False)
    assert [message["title"] for message in night.webhook.of("check failed")] == [
        f"lakehouse: check failed: {SILVER} gaps {FEBRUARY}"
    ]


def test_data_that_grows_old_is_told_by_market_of_those_that_are_in_the_universe(night: Night) -> None:
    lake = night.shell.lake
    lake.tables.put(MarketTable, None, CellResult(market_frame([facts(), facts(ETH), facts(SOL)]), {}))
    for cell in (FEBRUARY, Cell("2024-02", SOL)):
        put(lake, cell)
    night.look()
    night.look()
    told = night.told("stale data")
    assert told["what"] == f"{SILVER} {FEBRUARY}"
    assert told["cause"].startswith("the newest row is of 2024-02-01 00:04")
    assert told["command"] == f"lakehouse build {SILVER} --markets {BTC.key} --from 2024-02 --to 2024-06-16"
    assert told["link"].endswith(
        "/assets/silver/candle?view=partitions&partition=2024-02%7Cbinance-spot%3ABTCUSDT"
    )


def sensor(
    instance: dg.DagsterInstance, name: str, ticked: datetime, status: TickStatus, **more: object
) -> None:
    """A sensor as the daemon leaves it after a tick."""
    origin = code_origin()["remote_job_origin"].repository_origin.get_instigator_origin(name)
    data = SensorInstigatorData(
        last_tick_timestamp=ticked.timestamp(), min_interval=600, sensor_type=SensorType.STANDARD
    )
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
    known = {one.instigator_name for one in instance.all_instigator_state()}
    (instance.update_instigator_state if name in known else instance.add_instigator_state)(state)
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            name,
            InstigatorType.SENSOR,
            status,
            ticked.timestamp(),
            selector_id=state.selector_id,
            **more,  # type: ignore[arg-type]
        )
    )


def test_a_sensor_that_fails_or_sees_nothing_is_told(night: Night) -> None:
    instance, error = (
        night.shell.instance,
        SerializableErrorInfo("ValueError: no such thing", [], "ValueError"),
    )
    sensor(instance, "propagation", night.now, TickStatus.FAILURE, error=error)
    sensor(instance, "failed_cells", night.now, TickStatus.SKIPPED, skip_reason="Nothing is due.")
    for _ in range(2):
        night.look()
    told = night.told("sensor failed")
    assert (told["what"], told["cause"]) == ("propagation", "ValueError: no such thing")
    assert told["command"] == "lakehouse status"
    assert told["link"].endswith("/locations/lakehouse/sensors/propagation")


def test_what_a_sensor_of_ours_says_when_it_could_not_look_is_a_failure(
    night: Night, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = night.shell.lake

    def out_of_reach(*_: object) -> None:
        raise RestBannedError(sim.url, night.now)

    monkeypatch.setattr("lakehouse.defs.sensors.refresh.candles_closed", out_of_reach)
    (candles_closed, *_) = refresh_sensors(lake, Refresh())
    definitions = night.shell.definitions
    context = dg.build_sensor_context(night.shell.instance, repository_def=definitions.get_repository_def())
    tick = candles_closed.evaluate_tick(context)
    assert (tick.skip_message or "").startswith(COULD_NOT_LOOK)
    sensor(
        night.shell.instance, "candles_closed", night.now, TickStatus.SKIPPED, skip_reason=tick.skip_message
    )
    night.look()
    assert night.told("sensor failed")["cause"].startswith(f"The REST API at {sim.url}")


def test_a_sensor_that_stops_ticking_is_told_and_its_return(night: Night) -> None:
    instance = night.shell.instance
    sensor(instance, "failed_cells", night.now, TickStatus.SKIPPED)
    night.look(25 * MINUTE)
    assert not night.webhook.got
    night.look(10 * MINUTE)
    told = night.told("sensor silent")
    assert told["what"] == "failed_cells"
    assert "ticked last" in told["cause"]
    assert told["command"] == "lakehouse ui"
    assert told["link"].endswith("/locations/lakehouse/sensors/failed_cells")
    sensor(instance, "failed_cells", night.now, TickStatus.SKIPPED)
    night.look()
    sensor(instance, "failed_cells", night.now + QUIET[alerts.SENSOR_SILENT], TickStatus.SKIPPED)
    night.look(QUIET[alerts.SENSOR_SILENT])
    assert [message["type"] for message in night.webhook.of("sensor silent")] == ["failure", "success"]


def test_a_ban_is_told_whoever_met_it(night: Night, sim: Simulator) -> None:
    put(night.shell.lake, FEBRUARY)
    sim.add_fault("error_418=*")
    with pytest.raises(RestBannedError):
        night.shell.lake.clients.of(BTC).now()
    night.look(in_full=False)
    told = night.told("exchange ban")
    assert told["what"].startswith(sim.url)
    assert told["cause"].startswith("It has banned this address until")
    assert told["command"] == "lakehouse status", "which asks the exchange nothing"


def test_a_quarantine_that_grows_is_told_with_its_cell(night: Night) -> None:
    put(night.shell.lake, ETH_FEBRUARY, rejects=2)
    night.look()
    put(night.shell.lake, FEBRUARY, rejects=3)
    night.look()
    night.look()
    told = night.told("quarantine growth")
    assert told["what"] == f"{SILVER} {FEBRUARY}"
    assert told["cause"].startswith("3 rows in quarantine, more than before: quarantine/silver/candle/")
    assert told["command"] == f"lakehouse quality --table {SILVER} --markets {BTC.key}"


@pytest.mark.parametrize("watch", [replace(NEVER_FULL, quota=10.0), replace(NEVER_FULL, full=0.0)])
def test_a_disk_or_a_quota_that_is_nearly_used_is_told(shell: Shell, webhook: Webhook, watch: Watch) -> None:
    put(shell.lake, FEBRUARY)
    night = Night(shell, webhook, watch)
    night.look()
    night.look(in_full=False)
    told = night.told("disk quota")
    assert told["what"] == shell.lake.objects.root
    assert "GB" in told["cause"]
    assert told["command"] == "lakehouse status"


def test_a_lake_out_of_reach_is_told_and_nothing_in_it_is_said_to_have_ended(
    night: Night, tmp_path: Path
) -> None:
    lake = night.shell.lake
    put(lake, FEBRUARY, rejects=1)
    night.look()
    root = Path(lake.objects.root)
    shutil.move(root, tmp_path / "away")
    root.write_text("no folder")
    book = Book(lake.objects)
    for _ in range(3):
        night.now += MINUTE
        with time_machine.travel(night.now, tick=False):
            alert_once(lake, night.shell.instance, night.how, book, in_full=True)
    told = night.told("lake out of reach")
    assert told["what"] == str(root)
    assert "ledger" in told["cause"] or str(root) in told["cause"]
    assert told["command"] == "lakehouse doctor"
    assert not [message for message in night.webhook.got if "ended" in message["title"]]


def test_a_message_that_nobody_took_is_sent_again_and_names_no_secret(
    shell: Shell, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    night = Night(shell, webhook)
    token = "T0kenThatNobodyElseKnows42"
    night.how = Alerts(f"{webhook.url}/{token}", NEVER_FULL)
    assert token not in repr(night.how)
    put(shell.lake, FEBRUARY, ABSENT)
    shell.check(SILVER)
    webhook.status = 500
    caplog.set_level(logging.DEBUG)
    sensor_of = alert_sensor(shell.lake, night.how)
    context = dg.build_sensor_context(shell.instance, repository_def=shell.definitions.get_repository_def())
    tick = sensor_of.evaluate_tick(context)
    assert "was not taken by JSON" in (tick.skip_message or "")
    assert token not in (tick.skip_message or "")
    stored = shell.lake.objects.get("ledger/alerts.json") or b""
    assert token.encode() not in stored
    assert b"gaps" in stored
    webhook.status = 200
    sensor_of.evaluate_tick(context)
    sensor_of.evaluate_tick(context)
    assert len(webhook.of("check failed")) == 1


def test_without_addresses_the_sensor_is_off_and_says_why(shell: Shell) -> None:
    quiet = alert_sensor(shell.lake, Alerts())
    assert quiet.default_status is dg.DefaultSensorStatus.STOPPED
    assert "LAKEHOUSE_ALERT_URLS" in (
        quiet.evaluate_tick(dg.build_sensor_context(shell.instance)).skip_message or ""
    )
    assert alert_sensor(shell.lake, Alerts("json://h/")).default_status is dg.DefaultSensorStatus.RUNNING


def test_a_cell_that_somebody_else_mends_is_over_and_retries_in_vain_are_one_incident(
    night: Night, sim: Simulator, tmp_path: Path
) -> None:
    sim.add_fault("unavailable=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    for _ in range(3):
        night.shell.run(BRONZE, [ETH_FEBRUARY])
        night.look()
        night.look(QUIET[alerts.RUN_FAILED])
    night.told("run failed")
    sim.clear_faults()
    with dg.DagsterInstance.ephemeral() as other:  # another machine's, of the same lake
        span = TimeRange.parse("2024-02-01", "2024-03-01")
        Builder(night.shell.lake, other).build([night.shell.lake.registry.table(BRONZE)], [ETH], span)
    night.look()
    night.look(QUIET[alerts.RUN_FAILED])
    assert [message["type"] for message in night.webhook.of("run failed")] == ["failure", "success"]


def test_a_check_of_a_users_own_asset_that_fails_is_told_whenever_it_was_and_its_end(night: Night) -> None:
    own, seen = dg.AssetKey(["desk", "signal"]), Seen()

    def say(passed: bool, severity: dg.AssetCheckSeverity, name: str = "is_bounded") -> None:
        night.shell.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=own, check_name=name, passed=passed, severity=severity, description="it is 7"
            )
        )

    say(False, dg.AssetCheckSeverity.WARN, "is_recent")
    say(False, dg.AssetCheckSeverity.ERROR)
    night.look(in_full=False, seen=seen)
    told = night.told("check failed")
    assert (told["what"], told["cause"]) == ("desk/signal is_bounded", "it is 7")
    assert told["link"].endswith("/assets/desk/signal?view=checks&checkDetail=is_bounded")
    night.look(in_full=False)  # after a restart
    say(True, dg.AssetCheckSeverity.ERROR)
    night.look(in_full=False, seen=seen)
    night.look(QUIET[alerts.CHECK_FAILED], in_full=False, seen=seen)
    assert [message["type"] for message in night.webhook.of("check failed")] == ["failure", "success"]


def test_a_look_at_a_log_that_stood_still_reads_no_asset_again_and_misses_no_later_failure(
    night: Night, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, log = Seen(), night.shell.instance.event_log_storage
    name = "get_latest_asset_partition_materialization_attempts_without_materializations"
    asked, usual = list[str](), getattr(log, name)
    monkeypatch.setattr(log, name, lambda key: asked.append(key.to_user_string()) or usual(key))
    night.shell.run(BRONZE, [FEBRUARY])
    night.look(in_full=False, seen=seen)
    assert BRONZE in asked
    asked.clear()
    night.look(in_full=False, seen=seen)
    assert asked == []
    sim.add_fault("unavailable=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    night.shell.run(BRONZE, [ETH_FEBRUARY])
    night.look(in_full=False, seen=seen)
    assert asked.count(BRONZE) == 1
    night.told("run failed")
