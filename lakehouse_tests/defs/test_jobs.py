"""What an operator starts by name, what a run says of why it is, and that nobody computes what another one is
computing.
"""

import os
import socket
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus

from lakehouse.cli.building import Builder
from lakehouse.cli.instance import open_instance
from lakehouse.datasets.dataset import Dataset
from lakehouse.definitions import build_definitions
from lakehouse.defs import jobs
from lakehouse.defs.describe import pool_of
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.defs.under_way import PROCESS_TAG, running
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.ops.attempts import Attempts
from lakehouse.ops.memory import Memory
from lakehouse.pipeline.reasons import summed_up
from lakehouse.pipeline.refresh import Round, archive_published
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.verifying import Plan, plan
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.objects import LakeObjects

from .conftest import API, BRONZE, BTC, ETH, HOURS, NOW, QUARTER, SILVER, VWAP, Shell, Versions, grid, listed

FEBRUARY = Cell("2024-02", BTC)


def execute(
    lake: LakeServices, instance: dg.DagsterInstance, job: str, **how: object
) -> dg.ExecuteInProcessResult:
    found = build_definitions(lake).resolve_job_def(job)
    return found.execute_in_process(instance=instance, raise_on_error=False, **how)  # type: ignore[arg-type]


@pytest.mark.slow
def test_one_month_of_a_market_goes_from_its_sources_to_gold_and_is_rebuilt_by_force(
    shell: Shell, lake: LakeServices, versions: Versions, sim: Simulator
) -> None:
    shell.instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    assert execute(lake, shell.instance, "market_month", partition_key="2024-02|binance-spot:BTCUSDT").success
    first = {name: versions(name) for name in (BRONZE, SILVER, HOURS, VWAP)}
    assert {name: set(found) for name, found in first.items()} == {name: {FEBRUARY} for name in first}

    made: list[str] = []
    lake.progress = lambda table, cell, outcome: made.append(f"{table} {outcome}")
    assert execute(lake, shell.instance, "market_month", partition_key="2024-02|binance-spot:BTCUSDT").success
    assert not [one for one in made if one.endswith("built")]
    made.clear()
    assert execute(lake, shell.instance, "rebuild", partition_key="2024-02|binance-spot:BTCUSDT").success
    assert {f"{name} built" for name in first} <= set(made)
    assert {name: versions(name) for name in first} == first, "the same sources make the same cells"


@pytest.mark.slow
def test_refresh_now_and_verify_bring_new_candles_and_their_proof(tmp_path: Path) -> None:
    with (
        Simulator(markets=[listed(BTC, NOW - timedelta(days=5))], now=NOW) as sim,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        settings = Settings(
            root=str(tmp_path), start="2024-05", binance_archive_url=sim.url, binance_rest_url=sim.url
        )
        assert "no market yet" in str(execute(lake_now(settings, sim), instance, "refresh_now").all_events)
        instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
        lake = lake_now(settings, sim)
        for _ in range(2):
            lake = lake_now(settings, sim)
            assert execute(lake, instance, "refresh_now").success
            record = lake.ledger(HOURS)[Cell("2024-06", BTC)]
            assert record.last_time == sim.now.replace(minute=0) - timedelta(hours=1)
            sim.advance(timedelta(hours=3))
        proven = execute(lake_now(settings, sim), instance, "verify")
        assert proven.success
        asked = instance.fetch_materializations(dg.AssetKey(API.split("/")), limit=1).records
        assert [record.run_id for record in asked] == [proven.run_id]


def test_verify_keeps_to_its_budget_over_all_datasets_and_none_waits_for_another(
    lake: LakeServices, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    perpetual = Market("binance", "linear", "BTCUSDT")
    instance.add_dynamic_partitions(str(MARKETS.name), [perpetual.key])
    for dataset in lake.registry.datasets:
        for month in ("2024-01", "2024-02", "2024-03"):
            empty = CellResult(dataset.silver.empty(), {})
            lake.tables.put(dataset.silver, Cell(month, perpetual), empty)
    planned = dict[str, int]()

    def spied(lake: LakeServices, dataset: Dataset, *args: Any, **more: Any) -> Plan:
        chosen = plan(lake, dataset, *args, **more)
        planned[dataset.silver.name] = chosen.requests
        return replace(chosen, wanted={})

    monkeypatch.setattr(jobs, "plan", spied)
    monkeypatch.setattr(jobs, "VERIFY_BUDGET", 140)
    assert execute(lake, instance, "verify").success
    assert 0 < sum(planned.values()) <= 140
    assert all(planned.values()), planned


def lake_now(settings: Settings, sim: Simulator) -> LakeServices:
    from lakehouse.opening import open_lake

    return open_lake(settings, replace(REGISTRY, features=REGISTRY.features), clock=lambda: sim.now)


# --- commands beside runs -------------------------------------------------------------------------


def started(instance: dg.DagsterInstance, lake: LakeServices, **tags: str) -> dg.DagsterRun:
    """A run of silver that somebody else is in the midst of."""
    job = build_definitions(lake).resolve_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection={dg.AssetKey(SILVER.split("/"))})
    ((ranged, _),) = range_tags(grid([BTC]), instance.get_dynamic_partitions(str(MARKETS.name)))
    return instance.create_run_for_job(subset, tags=ranged | tags, status=DagsterRunStatus.STARTED)


def test_runs_of_commands_are_of_the_code_location_and_say_why(lake: LakeServices, tmp_path: Path) -> None:
    with open_instance(Settings(dagster_home=tmp_path / "dagster")) as instance:
        Builder(lake, instance).build([REGISTRY.table(BRONZE)], [BTC], QUARTER)
        (run,) = [
            run
            for run in instance.get_runs()
            if run.asset_selection and run.asset_selection == {dg.AssetKey(BRONZE.split("/"))}
        ]
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.location_name == "lakehouse"
        assert run.tags["lakehouse/why"] == "lakehouse build"
        assert run.run_op_concurrency is not None
        assert run.run_op_concurrency.all_pools == {pool_of(REGISTRY.table(BRONZE))}
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
        assert limits == {pool_of(table): 1 for table in REGISTRY.tables}


def test_a_run_of_a_command_that_was_killed_is_over(lake: LakeServices, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    dead = started(instance, lake, **{PROCESS_TAG: f"{socket.gethostname()}:{2**22 + 1}"})
    elsewhere = started(instance, lake, **{PROCESS_TAG: f"elsewhere:{2**22 + 1}"})
    alive = started(instance, lake, **{PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}"})
    assert running(instance).keys() == {elsewhere.run_id, alive.run_id}
    assert running(instance)[alive.run_id] == {SILVER: grid([BTC])}
    found = instance.get_run_by_id(dead.run_id)
    assert found is not None
    assert found.status == DagsterRunStatus.FAILURE


@pytest.mark.slow
def test_a_build_waits_for_a_run_that_writes_the_same_cells_and_no_other(
    shell: Shell, lake: LakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.cli.building._LOOKS_EVERY", 0.05)
    shell.build(BRONZE, [BTC, ETH])
    run = started(shell.instance, lake)
    told: list[str] = []
    builder = Builder(lake, shell.instance, wait=told.append)
    builder.build([lake.registry.table(SILVER)], [ETH], QUARTER)
    assert told == []

    def other() -> None:  # makes the cells, as it said
        time.sleep(0.5)
        order = shell.instance.get_dynamic_partitions(str(MARKETS.name))
        ((tags, _),) = range_tags(grid([BTC]), order)
        shell._execute(asset_selection=[dg.AssetKey(SILVER.split("/"))], tags=tags)
        shell.instance.report_run_canceled(run)

    thread = threading.Thread(target=other)
    thread.start()
    made: list[str] = []
    lake.progress = lambda table, cell, outcome: made.append(f"{table} {outcome}")
    builder.build([lake.registry.table(SILVER)], [BTC], QUARTER)
    thread.join()
    assert told[0] == run.run_id
    assert made.count(f"{SILVER} built") == 3, "each once, by whoever came first"


# --- ticks ----------------------------------------------------------------------------------------


def test_what_an_earlier_release_kept_in_a_cursor_is_read_once(tmp_path: Path) -> None:
    objects = LakeObjects(str(tmp_path))
    old = Memory.of(objects, "some", '{"after": "x"}')
    assert old.state == {"after": "x"}
    assert old.keep({"after": "y"}) == "1"
    assert Memory.of(objects, "some", "1").state == {"after": "y"}
    assert Memory.of(objects, "some", "1").keep({"after": "y"}) == "1", "nothing new is not written again"
    assert Memory.of(objects, "some", "1").keep({"after": "z"}) == "2"
    assert Memory.of(objects, "some", "1").state == {"after": "y"}, "the tick that is evaluated again"
    objects.put("ledger/sensors/some.json", b"junk")
    assert Memory.of(objects, "some", "2").state == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["file replaced"], "file replaced"),
        (["never built", "file replaced", "never built"], "never built (2 cells); file replaced"),
        (["a", "b", "c", "d", "d"], "d (2 cells); a; b; …"),
    ],
)
def test_reasons_are_summed_up_the_commonest_first(words: list[str], said: str) -> None:
    assert summed_up({Cell(f"2024-{month:02}"): word for month, word in enumerate(words, 1)}) == said


@pytest.mark.slow
def test_a_replaced_file_is_told_as_one(shell: Shell, lake: LakeServices, sim: Simulator) -> None:
    shell.build(BRONZE, [BTC])
    sim.add_fault("reupload=*BTCUSDT-1m-2024-02.zip")
    tick = archive_published(lake, [BTC], {}, Attempts(), Round())
    assert tick.why == {lake.registry.table(BRONZE): {FEBRUARY: "file replaced"}}
