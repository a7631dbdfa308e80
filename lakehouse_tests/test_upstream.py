"""Every behaviour of a dependency that its maintainers do not promise and this project relies on, each with
the reason why: tests of theirs, not of ours. An upgrade that changes one fails here, and says what leans on
it.
"""

import ast
import hashlib
import inspect
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ccxt
import dagster as dg
import duckdb
import fsspec
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import urllib3
from dagster import AutomationCondition as When
from dagster._config import StringSource, process_config
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.scheduler.instigation import ScheduleInstigatorData, SensorInstigatorData, TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES, IN_PROGRESS_RUN_STATUSES, DagsterRunStatus
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget, WorkspaceFileTarget
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.error import SerializableErrorInfo
from dagster._utils.schedules import get_next_cron_tick
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__ as webserver_version
from isal.isal_zlib import crc32
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore
from polars.io.plugins import register_io_source
from requests.adapters import HTTPAdapter

from lakehouse_tests.ui.asking import ask

ROOT = Path(__file__).parents[1]
PRIVATE = {
    "dagster._config": "event_log: a storage's configuration in `dagster.yaml`; test_run_config walks types",
    "dagster._core.code_pointer": "instance: where the code of a command's run is",
    "dagster._core.definitions.source_asset": "io_manager: the flag that stops a second event per cell",
    "dagster._core.definitions.partitions.utils": "loading: which upstream partitions a partition reads",
    "dagster._core.execution.api": "submitting: the plan that a queued run carries",
    "dagster._core.execution.asset_backfill": "what a backfill has still to do, as sensors ask it",
    "dagster._core.execution.backfill": "sensors: backfills that have not started all of their cells",
    "dagster._core.definitions.run_request": "the tests of deployed instances: whose ticks are purged when",
    "dagster._core.launcher": "fargate: a launch, and one that is taken up again",
    "dagster._core.launcher.sync_in_memory_run_launcher": "the tests' daemon runs in its own process",
    "dagster._core.origin": "instance: as above, for who executes it again",
    "dagster._core.remote_origin": "instance: the code location that the timeline shows runs of",
    "dagster._core.run_coordinator": "the tests' daemon runs at once",
    "dagster._core.snap": "submitting: that plan as the instance stores it",
    "dagster._core.storage.asset_check_execution_record": "automation: whether a check has looked",
    "dagster._core.storage.dagster_run": "sensors: which runs are under way",
    "dagster._core.storage.event_log.schema": "event_log: which checks were ever evaluated",
    "dagster._core.storage.event_log.sql_event_log": "event_log: which checks were ever evaluated",
    "dagster._core.storage.event_log.sqlite.sqlite_event_log": "event_log: connections that are kept",
    "dagster._core.storage.runs": "event_log: runs on a connection that is kept",
    "dagster._core.storage.sqlite": "event_log: how long SQLite waits",
    "dagster._core.storage.sqlite_storage": "event_log: the storage around it",
    "dagster._core.storage.tags": "sensors: the partitions of a run",
    "dagster._core.test_utils": "the tests' daemon: a workspace, and a clock that stands still",
    "dagster._core.types.loadable_target_origin": "instance: the module of a code location",
    "dagster._core.utils": "submitting: the id of a run that is not launched yet",
    "dagster._core.workspace.config_schema": "the tests of instances: whether a workspace file is one",
    "dagster._core.workspace.context": "webserver: Dagster's app, to be guarded",
    "dagster._core.workspace.load_target": "webserver: workspace files",
    "dagster._daemon": "services: the daemon as a process",
    "dagster._daemon.types": "the tests of `status`: a daemon that was heard of",
    "dagster._daemon.asset_daemon": "the tests' daemon: one round of conditions",
    "dagster._daemon.backfill": "the tests' daemon: one round of backfills",
    "dagster._daemon.controller": "health: when the daemon was last heard of",
    "dagster._daemon.monitoring": "the tests of tasks: what the daemon does about runs whose task has ended",
    "dagster._daemon.run_coordinator": "the tests of tasks: one round of the queue",
    "dagster._daemon.sensor": "the tests' daemon: one round of sensors",
    "dagster._core.scheduler.instigation": "alerts: how sensors and schedules are, and their last ticks",
    "dagster._utils.error": "the tests of alerts: the error of a tick",
    "dagster._utils.schedules": "alerts: when a schedule should have ticked next",
    "dagster._serdes": "event_log: an event as text, to look for secrets in it",
}
"""Private modules of others that are imported or named, by who needs them for what."""


def private_modules(path: Path) -> Iterator[str]:
    """Modules of others with a part that begins with `_`, as a file imports them or names them in a text."""
    text = path.read_text(encoding="utf-8")
    if not re.search(r"""(from|import|["'])\s*[a-z][\w.]*\._|import _""", text):
        return  # to parse all files takes seconds
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.findall(r"(?<![\w.])[a-z]\w*(?:\.\w+)+", node.value)
            names = [name for name in names if name.split(".")[0] in ("dagster", "polars", "ccxt", "duckdb")]
        else:
            continue
        for name in names:
            parts = name.split(".")
            is_private = any(part.startswith("_") and not part.endswith("__") for part in parts[1:])
            if is_private and parts[0] not in ("lakehouse", "lakehouse_tests"):
                yield name


def _outward(name: str) -> Iterator[str]:
    """A name, and the modules that it is in: the nearest first, three at most."""
    for _ in range(3):
        yield name
        name = name.rpartition(".")[0]


def test_no_private_module_is_used_that_is_not_listed_here_with_a_reason() -> None:
    used: dict[str, set[str]] = {}
    for folder in ("lakehouse", "lakehouse_tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in private_modules(path) if path != Path(__file__) else ():
                used.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    listed = {name: next((known for known in _outward(name) if known in PRIVATE), name) for name in used}
    unlisted = {name: places for name, places in used.items() if listed[name] not in PRIVATE}
    assert unlisted == {}, "pin what is relied on in this file, and list the module with its reason"
    assert set(PRIVATE) - set(listed.values()) == {"dagster._core.execution.asset_backfill"}, (
        "not used any more"
    )


# --- Dagster: events ------------------------------------------------------------------------------


class Logging(dg.IOManager):
    """Logs an event for each partition by itself, as the lake's does."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        for key in context.asset_partition_keys:
            context.log_event(
                dg.AssetMaterialization("noted", partition=key, tags={"dagster/data_version": key})
            )

    def load_input(self, context: dg.InputContext) -> None:
        raise NotImplementedError


def versions_logged(metadata: dict[str, Any]) -> list[tuple[str | None, str]]:
    @dg.asset(
        partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_def=Logging(),
    )
    def noted() -> dg.Output[str]:
        return dg.Output("", metadata=metadata)

    tags = {ASSET_PARTITION_RANGE_START_TAG: "a", ASSET_PARTITION_RANGE_END_TAG: "b"}
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([noted], instance=instance, tags=tags).success
        found = instance.fetch_materializations(dg.AssetKey("noted"), limit=10).records
    return sorted(
        (record.partition_key, (record.asset_materialization.tags or {})["dagster/data_version"])
        for record in found
        if record.asset_materialization
    )


def test_the_flag_of_observations_stops_the_event_that_dagster_adds_for_an_output() -> None:
    # io_manager.cells_output: the added event has one version for all cells of a run, in place of each own.
    assert versions_logged({SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}) == [("a", "a"), ("b", "b")]
    assert len(versions_logged({})) == 4, "without the flag there are two events for each"


@pytest.mark.parametrize(("second", "requested"), [("1", 0), ("2", 1)])
def test_conditions_go_by_the_version_in_an_events_tag(second: str, requested: int) -> None:
    # automation.ON_CHANGE: a cell that was written again with equal bytes must not run what is below it.
    above = dg.AssetSpec("above")

    @dg.asset(deps=[above], automation_condition=When.any_deps_match(When.data_version_changed()))
    def below() -> None: ...

    definitions = dg.Definitions([above, below])
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None
        for version in ("1", second):
            instance.report_runless_asset_event(
                dg.AssetMaterialization("above", tags={"dagster/data_version": version})
            )
            found = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
            cursor = found.cursor
    assert found.total_requested == requested


def test_the_key_of_two_dimensions_is_their_keys_in_order_of_the_names() -> None:
    # partitions.to_key, cells_between: cells are read from keys as text, and their ranges from tags.
    key = dg.MultiPartitionKey({"symbol": "s", "date": "d"})
    assert str(key) == "d|s"
    assert (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG, PARTITION_NAME_TAG) == (
        "dagster/asset_partition_range_start",
        "dagster/asset_partition_range_end",
        "dagster/partition",
    )


def test_runs_are_under_way_from_the_queue_to_their_end() -> None:
    # sensors.under_way: a run in another state would have its cells asked for twice.
    begun = {DagsterRunStatus.QUEUED, *IN_PROGRESS_RUN_STATUSES}
    others = set(DagsterRunStatus) - begun - set(FINISHED_STATUSES)
    assert {status.value for status in others} <= {"NOT_STARTED", "MANAGED"}
    assert not begun & set(FINISHED_STATUSES)


def test_an_asset_backfill_tells_what_it_has_still_to_do() -> None:
    # sensors.under_way: what a backfill is going to write is not asked for a second time.
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def noted() -> None: ...

    graph = dg.Definitions([noted]).resolve_asset_graph()
    with dg.DagsterInstance.ephemeral() as instance:
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="one",
            asset_graph=graph,
            partition_names=["a", "b"],
            asset_selection=[noted.key],
            backfill_timestamp=datetime.now(UTC).timestamp(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        instance.add_backfill(backfill)
        asked = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        (stored,) = instance.get_backfills(asked)
        assert stored.is_asset_backfill
        data: AssetBackfillData = stored.get_asset_backfill_data(graph)
        left = data.target_subset - (data.materialized_subset | data.failed_and_downstream_subset)
        assert {part.partition_key for part in left.iterate_asset_partitions()} == {"a", "b"}


def test_a_window_that_is_looked_back_on_may_lie_before_the_first_partition() -> None:
    # partitions.lookback_mapping: the first month has nobody before it, and is built all the same.
    months = dg.MonthlyPartitionsDefinition("2024-01", fmt="%Y-%m")
    mapping = dg.TimeWindowPartitionMapping(start_offset=-1, allow_nonexistent_upstream_partitions=True)
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(
        months.subset_with_partition_keys(["2024-01", "2024-02"]), months, months
    )
    assert set(found.partitions_subset.get_partition_keys()) == {"2024-01", "2024-02"}
    assert not found.required_but_nonexistent_subset.get_partition_keys()


class Keeping(dg.IOManager):
    """Keeps the first partition and fails at its end, when its output is known already."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> Any:
        yield {}
        if context.asset_key.to_user_string() == "above":
            context.log_event(dg.AssetMaterialization("above", partition="a"))
            raise dg.Failure("b is bad", allow_retries=False)

    def load_input(self, context: dg.InputContext) -> None:
        raise NotImplementedError


def failing_job() -> dg.JobDefinition:
    """Two assets in one run, of which the upper fails after its output."""
    common: dict[str, Any] = {
        "partitions_def": dg.StaticPartitionsDefinition(["a", "b"]),
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "io_manager_def": Keeping(),
    }
    flag = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}

    @dg.asset(**common)
    def above() -> dg.Output[str]:
        return dg.Output("", metadata=flag)

    @dg.asset(**common, deps=[above])
    def below(context: dg.AssetExecutionContext) -> dg.Output[str]:
        for key in context.partition_keys:
            context.log_event(dg.AssetMaterialization("below", partition=key))
        return dg.Output("", metadata=flag)

    how = {"step_dependency_config": {"require_upstream_step_success": False}}
    executor = dg.in_process_executor.configured(how)
    both = dg.define_asset_job("both", executor_def=executor)
    return dg.Definitions([above, below], jobs=[both]).resolve_job_def("both")


def test_a_step_runs_when_what_is_above_it_was_put_out_and_failed_later(tmp_path: Path) -> None:
    # definitions._executor: one bad cell stops only itself. And attempted._tries: what was announced for a
    # partition and not made is told with its run, and what a step came to with it.
    tags = {ASSET_PARTITION_RANGE_START_TAG: "a", ASSET_PARTITION_RANGE_END_TAG: "b"}
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        with dg.execute_job(dg.reconstructable(failing_job), instance, tags=tags) as result:
            assert not result.success
            run_id = result.run_id
            failed = [event.step_key for event in result.all_events if event.is_step_failure]
        assert failed == ["above"]
        made = instance.fetch_materializations(dg.AssetKey("below"), limit=10).records
        assert {record.partition_key for record in made} == {"a", "b"}
        log = instance.event_log_storage
        unmade = log.get_latest_asset_partition_materialization_attempts_without_materializations(
            dg.AssetKey("above")
        )
        assert {key: one[0] for key, one in unmade.items()} == {"b": run_id}
        (stats,) = instance.get_run_step_stats(run_id, ["above"])
        assert stats.status is not None
        assert stats.status.value == "FAILURE"


def test_a_check_tells_which_event_it_looked_at_and_whether_it_has_looked_yet() -> None:
    # automation._is_unchecked: a table that was written is checked once.
    @dg.asset
    def noted() -> None: ...

    @dg.asset_check(asset=noted)
    def fine() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    key = dg.AssetCheckKey(noted.key, "fine")
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([noted, fine], instance=instance).success
        (written,) = instance.get_asset_records([noted.key])
        last = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        assert last.status != AssetCheckExecutionRecordStatus.PLANNED
        seen = last.evaluation.target_materialization_data
        assert seen.storage_id == written.asset_entry.last_materialization_storage_id


# --- Dagster: storage -----------------------------------------------------------------------------


def test_every_use_of_the_runs_goes_through_one_method_that_can_be_replaced(tmp_path: Path) -> None:
    # event_log.KeptSqliteRunStorage keeps one engine in `connect`, which makes one for every question.
    count = 0

    class Seen(SqliteRunStorage):
        def connect(self) -> Any:
            nonlocal count
            count += 1
            return super().connect()

    storage = Seen.from_local(str(tmp_path))
    before = count
    assert storage.get_runs() == []
    assert count == before + 1
    assert not hasattr(storage, "_engine"), "the name is free"


def test_every_use_of_the_event_log_goes_through_one_method_that_can_be_replaced(tmp_path: Path) -> None:
    # event_log.KeptSqliteEventLogStorage keeps engines in `_connect`, which was five sixths of an event.
    seen: list[str] = []

    class Seen(SqliteEventLogStorage):
        def _connect(self, shard: str) -> Any:
            seen.append(shard)
            return super()._connect(shard)

    class Storage(DagsterSqliteStorage):
        def __init__(self, base_dir: str, inst_data: Any = None) -> None:
            super().__init__(base_dir, inst_data)
            self._event_log_storage = Seen(str(Path(base_dir, "history", "runs")))

    storage = Storage.from_local(str(tmp_path))
    assert isinstance(storage, Storage)
    log = storage.event_log_storage
    assert isinstance(log, Seen)
    log.add_dynamic_partitions("market", ["binance-spot:BTCUSDT"])
    assert log.get_dynamic_partitions("market") == ["binance-spot:BTCUSDT"]
    assert set(seen) == {INDEX_SHARD_NAME}
    assert Path(log.path_for_shard(INDEX_SHARD_NAME)) == tmp_path / "history" / "runs" / "index.db"
    assert log.conn_string_for_shard("one").startswith("sqlite:///")
    with log._db_lock:
        assert "for_index_shard" in inspect.signature(log._initdb).parameters
    assert SQLITE_BUSY_TIMEOUT_SECONDS >= 5
    # cli.planning.are_partitions reads this table without importing Dagster
    with sqlite3.connect(tmp_path / "history" / "runs" / "index.db") as connection:
        assert connection.execute(
            "SELECT partition FROM dynamic_partitions WHERE partitions_def_name = 'market'"
        ).fetchall() == [("binance-spot:BTCUSDT",)]


def test_every_use_of_runs_goes_through_one_method_that_can_be_replaced(tmp_path: Path) -> None:
    # event_log.KeptSqliteRunStorage keeps the engine in `connect`, and says its file by `conn_string`.
    seen: list[str] = []

    class Seen(SqliteRunStorage):
        def __init__(self, conn_string: str, inst_data: Any = None) -> None:
            seen.append(conn_string)
            super().__init__(conn_string, inst_data)

        @contextmanager
        def connect(self) -> Iterator[Any]:
            seen.append("connect")
            with super().connect() as connection:
                yield connection

    storage = Seen.from_local(str(tmp_path))
    assert isinstance(storage, Seen)
    assert seen[0] == f"sqlite:///{tmp_path / 'runs.db'}"
    seen.clear()
    storage.add_run(dg.DagsterRun(job_name="one"))
    assert [run.job_name for run in storage.get_runs()] == ["one"]
    assert seen == ["connect"] * len(seen)
    assert len(seen) >= 2
    storage.dispose()


def test_a_storage_is_configured_by_a_text_that_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # event_log.KeptSqliteStorage.config_type, which `dagster.yaml` is read by.
    monkeypatch.setenv("LAKEHOUSE_SOMEWHERE", "/there")
    declared = {"base_dir": dg.Field(StringSource, is_required=False)}
    found = process_config(declared, {"base_dir": {"env": "LAKEHOUSE_SOMEWHERE"}})
    assert (found.success, found.value) == (True, {"base_dir": "/there"})
    assert process_config(declared, {}).value == {}


def test_an_event_reads_back_from_its_text_in_which_every_text_of_it_stands_plainly() -> None:
    # event_log.store_event looks for secrets in that text, and replaces them there.
    found: list[dg.EventLogEntry] = []
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("noted", description='a "secret"'))
        found += [
            record.event_log_entry
            for record in instance.fetch_materializations(dg.AssetKey("noted"), limit=1).records
        ]
    (event,) = found
    text = serialize_value(event)
    assert '"a \\"secret\\""' in text
    again = deserialize_value(json.dumps(json.loads(text)).replace("secret", "hidden"), dg.EventLogEntry)
    assert again.asset_materialization is not None
    assert again.asset_materialization.description == 'a "hidden"'


# --- Dagster: the UI ------------------------------------------------------------------------------


def test_the_webserver_is_an_app_that_can_be_made_and_wrapped(tmp_path: Path) -> None:
    # ui.webserver: the guard stands around this app; the command of Dagster's own cannot be wrapped.
    with (
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
        WorkspaceProcessContext(
            instance,
            version=webserver_version,
            read_only=True,
            workspace_load_target=EmptyWorkspaceTarget(),
            code_server_log_level="warning",
        ) as context,
    ):
        instance.optimize_for_webserver(1_000, 60, 1)
        app = create_app_from_workspace_process_context(context, live_data_poll_rate=2_000)
        answer = ask(app, "GET", "/server_info")
    assert (answer.status, json.loads(answer.text)["dagster_webserver_version"]) == (200, webserver_version)


def test_a_workspace_file_may_be_json_and_name_the_socket_of_a_code_server(tmp_path: Path) -> None:
    # ui.services writes it so, because PyYAML need not be there.
    server = {"socket": str(tmp_path / "code.sock"), "location_name": "lakehouse"}
    path = tmp_path / "workspace.yaml"
    path.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
    (origin,) = WorkspaceFileTarget(paths=[str(path)]).create_origins()
    assert (origin.location_name, origin.socket) == ("lakehouse", server["socket"])  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_daemon_is_a_module_that_runs_over_a_workspace_file() -> None:
    # ui.services starts `python -m dagster._daemon run --workspace …`.
    said = subprocess.run(
        [sys.executable, "-m", "dagster._daemon", "run", "--help"], capture_output=True, text=True
    )
    assert said.returncode == 0
    assert "--workspace" in said.stdout


# --- ccxt, requests, urllib3 ----------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Answers JSON with a status and a header, and sends on from one path."""

    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/api/v3/time")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b'{"code":-1121,"msg":"Invalid symbol."}' if "symbol" in self.path else b'{"serverTime": 1.0}'
        self.send_response(400 if "symbol" in self.path else 200)
        self.send_header("X-MBX-USED-WEIGHT-1M", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_ccxt_tells_a_hook_every_answer_before_it_judges_it_and_leaves_the_body_alone(url: str) -> None:
    # sources.rest.client: status, headers and body decide there; ccxt carries addresses and session alone.
    heard: list[tuple[int, Any, str]] = []

    class Listening(ccxt.binance):  # type: ignore[misc]
        def on_rest_response(self, code: int, reason: str, url: str, method: str, *more: Any) -> Any:
            heard.append((code, more[0], more[1]))
            return super().on_rest_response(code, reason, url, method, *more)

        def parse_json(self, http_response: str) -> None:
            return None

    used = requests.Session()
    exchange = Listening(
        {
            "enableRateLimit": False,
            "requests_trust_env": True,
            "urls": {"api": {"public": f"{url}/api/v3"}},
        }
    )
    exchange.session = used
    exchange.public_get_time({})
    with pytest.raises(ccxt.BaseError):
        exchange.public_get_klines({"symbol": "NONE"})
    assert [(code, body) for code, _, body in heard] == [
        (200, '{"serverTime": 1.0}'),
        (400, '{"code":-1121,"msg":"Invalid symbol."}'),
    ]
    assert {name.lower(): value for name, value in heard[0][1].items()}["x-mbx-used-weight-1m"] == "7"
    assert used.adapters, "the session that was given is the one that was used"
    assert exchange.session is used


@pytest.mark.parametrize("api", ["public", "fapipublic", "dapipublic"])
def test_ccxt_has_a_method_for_each_endpoint_that_binance_is_asked_by(api: str) -> None:
    # exchanges.binance names methods in calls; ccxt makes them of its tables when an exchange is made.
    exchange = ccxt.binance()
    for endpoint in ("time", "exchangeinfo", "klines"):
        assert callable(getattr(exchange, f"{api}_get_{endpoint}"))


def test_a_pool_reads_answers_by_the_class_that_its_connection_names(url: str) -> None:
    # sources.rest.bounded: headers and body are read at a pace and to a bound by such a class.
    made: list[object] = []

    class Response(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            made.append(sock)
            super().__init__(sock, *args, **kwargs)

    class Connection(urllib3.connection.HTTPConnection):
        response_class = Response

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": urllib3.HTTPSConnectionPool}

        def send(self, request: requests.PreparedRequest, stream: bool = False, **more: Any) -> Any:  # type: ignore[override]
            response = super().send(request, True, **more)
            response._content = response.raw.read(decode_content=False) + b" "
            response._content_consumed = True  # type: ignore[attr-defined]
            return response

    followed: list[str | None] = []

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            followed.append(super().get_redirect_target(resp))
            return followed[-1]

    session = Session()
    session.mount("http://", Adapter())
    answer = session.get(f"{url}/moved")
    assert made, "the class was asked to read"
    assert all(hasattr(sock, "makefile") for sock in made)
    assert answer.content == b'{"serverTime": 1.0} ', "a body that was put in place is what a reader gets"
    assert followed[0] == "/api/v3/time", "every redirect passes the method that may refuse it"


# --- obstore, boto3 -------------------------------------------------------------------------------


def test_the_etag_of_a_file_is_its_inode_time_and_size(tmp_path: Path) -> None:
    # storage.local.etag_of: files are read without obstore, ten times as fast, and held against this.
    store = LocalStore(prefix=tmp_path)
    put = obstore.put(store, "a/b", b"one")
    found = os.stat(tmp_path / "a" / "b")
    expected = f'"{found.st_ino:x}-{found.st_mtime_ns // 1000:x}-{found.st_size:x}"'
    assert put["e_tag"] == expected
    assert obstore.head(store, "a/b")["e_tag"] == expected
    assert [entry["e_tag"] for batch in obstore.list(store, prefix="a") for entry in batch] == [expected]


def test_a_store_refuses_by_class_what_exists_or_was_replaced_and_what_is_absent_is_a_file(
    tmp_path: Path,
) -> None:
    # storage.objects.put, get_of: no update is lost, and no read mixes two versions.
    store = LocalStore(prefix=tmp_path)
    etag = obstore.put(store, "a", b"one")["e_tag"]
    assert etag is not None
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a", b"two", mode="create")
    (tmp_path / "b").write_bytes(b"two!")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(PreconditionError):
        obstore.get(store, "a", options={"range": (0, 1), "if_match": etag})
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "none")


def test_a_listing_gives_up_over_a_name_that_obstore_would_not_write_and_says_so(tmp_path: Path) -> None:
    # storage.objects.list walks the folder itself then: the words of the error tell the case.
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b\x1b").write_bytes(b"")
    with pytest.raises(obstore.exceptions.BaseError, match="invalid path"):
        list(obstore.list(LocalStore(prefix=tmp_path), prefix="a"))


def test_credentials_of_boto3_come_out_under_names_of_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    # storage.objects._open_bucket has errors know the secrets by which a store is opened.
    import boto3

    session = boto3.Session("key", "secret", "token", region_name="eu-west-1")
    found = Boto3CredentialProvider(session)()
    assert (found["access_key_id"], found["secret_access_key"], found["token"]) == ("key", "secret", "token")


# --- Polars ---------------------------------------------------------------------------------------


def test_a_source_is_told_columns_and_predicate_and_the_first_rows_are_of_all_rows() -> None:
    # query.reading.scan_cells: only objects that can hold what is asked for are fetched.
    frame = pl.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3]})
    told: list[tuple[list[str] | None, bool, int | None]] = []

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        told.append((sorted(columns) if columns else columns, predicate is not None, limit))
        rows = frame if limit is None else frame.head(limit)
        rows = rows if predicate is None else rows.filter(predicate)
        yield rows.select(columns) if columns else rows

    def scan() -> pl.LazyFrame:
        return register_io_source(source, schema=frame.schema, is_pure=True, explain_name="cells")

    assert scan().filter(pl.col("a") > 1).select("b").collect()["b"].to_list() == [2, 3]
    assert scan().head(2).collect()["a"].to_list() == [1, 2]
    # a predicate behind a head is of these rows alone
    assert scan().head(2).filter(pl.col("a") > 1).collect()["a"].to_list() == [2]
    assert told[0][1], "the predicate is handed down"
    assert told[1][2] == 2


def test_a_conjunction_comes_apart_into_its_two_parts_and_no_other_predicate_does() -> None:
    # query.reading.conjuncts: the parts about columns of the path decide without reading a row.
    one, other = pl.col("a") > 1, pl.col("b") < 2
    parts = (one & other).meta.pop()
    assert len(parts) == 2
    assert any((first & second).meta.eq(one & other) for first, second in (parts, reversed(parts)))
    assert not any((first & second).meta.eq(one | other) for first, second in ((one | other).meta.pop(),))
    assert (one & other).meta.root_names() == ["a", "b"]


# --- DuckDB ---------------------------------------------------------------------------------------


def test_a_statement_can_be_had_as_a_tree_that_names_what_it_calls() -> None:
    # query.statements: a function that reaches beyond the lake is refused by that name.
    with duckdb.connect() as connection:

        def tree(text: str) -> str:
            found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
            return str(found[0][0])

        called = tree("SELECT READ_text('a'), (SELECT max(x) FROM read_csv('b')) WHERE 'fn' = 'a\"b'")
        assert called.startswith('{"error":false')
        names = re.findall(r'"function_name":"((?:[^"\\]|\\.)*)"', called)
        assert {"read_text", "max", "read_csv"} <= {name.lower() for name in names}
        assert tree("COPY x TO 'y'").startswith('{"error":true')


def test_statements_are_told_apart_by_kind_and_a_pivot_comes_without_a_text() -> None:
    # query.statements.check_reads: only what reads is run, statement by statement.
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a, 2 AS b")
        kinds = [
            one.type.name for one in connection.extract_statements("SELECT 1; COPY t TO 'x'; SET threads=1")
        ]
        assert kinds == ["SELECT", "COPY", "SET"]
        pivot = connection.extract_statements("PIVOT t ON a USING sum(b)")
        assert (pivot[0].query, pivot[0].type.name) == ("", "CREATE")


class Files(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """One object by a name of its own."""

    protocol = "lake"
    cachable = False
    opened: list[str]

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body, self.opened = body, []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.body), "type": "file"}

    def modified(self, path: str) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        self.opened.append(path)
        return io.BytesIO(self.body)


def test_duckdb_reads_through_a_file_system_of_pythons_and_can_be_kept_from_all_others(
    tmp_path: Path,
) -> None:
    # query.engine: cells are handed over by names of our own, in one version, and nothing else is opened.
    sink = io.BytesIO()
    pl.DataFrame({"a": [1, 2]}).write_parquet(sink)
    (tmp_path / "b.csv").write_text("a\n1\n")
    files = Files(sink.getvalue())
    name = "lake://silver/t/symbol=%4EULL/data.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET enable_external_file_cache=false")
        connection.register_filesystem(files)
        connection.execute("SET allowed_directories=['lake://']")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        rows = connection.sql(
            f"SELECT a, symbol FROM read_parquet(['{name}'], hive_partitioning=true, "
            "hive_types={'symbol': VARCHAR}) ORDER BY a"
        ).fetchall()
        # layout escapes the first letter of a value: `NULL` as it is would be read as null
        assert rows == [(1, "NULL"), (2, "NULL")]
        assert set(files.opened) == {name}
        with pytest.raises(duckdb.PermissionException, match="disabled by configuration"):
            connection.sql(f"SELECT * FROM read_csv('{tmp_path / 'b.csv'}')").fetchall()
        with pytest.raises(duckdb.InvalidInputException, match="configuration has been locked"):
            connection.execute("SET enable_external_access=true")


# --- pyarrow, isal --------------------------------------------------------------------------------


def test_the_bytes_of_rows_are_those_that_versions_were_hashed_from() -> None:
    # storage.parquet.encode: a version is the hash of the bytes before the footer, so a writer that writes
    # other bytes makes every stored cell due.
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.float64())])

    def written(said: str) -> tuple[bytes, bytes]:
        sink = io.BytesIO()
        with pq.ParquetWriter(
            sink,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=[],
            column_encoding={"a": "DELTA_BINARY_PACKED"},
            write_statistics=True,
        ) as writer:
            table = pa.table({"a": list(range(1000)), "b": [n / 3 for n in range(1000)]}, schema=schema)
            writer.write_table(table, row_group_size=300)
            rows = sink.getvalue()
            writer.add_key_value_metadata({b"said": said})
        return rows, sink.getvalue()

    rows, whole = written("one")
    assert rows == written("another")[0], "what the footer says is not in the rows' bytes"
    assert whole.startswith(rows)
    assert pq.read_metadata(io.BytesIO(whole)).metadata[b"said"] == b"one"
    assert hashlib.sha256(rows).hexdigest()[:32] == "de1af37817451db233799ea5a8ada978"


def test_a_schedule_and_the_state_of_a_sensor_are_told_as_alerts_read_them() -> None:
    # defs.alert_facts: a sensor that fails or ticks no more, and a schedule whose time has passed, are alerts.
    after = datetime(2024, 1, 1, 7, tzinfo=UTC)
    assert get_next_cron_tick("30 6 * * *", after, None) == datetime(2024, 1, 2, 6, 30, tzinfo=UTC)
    assert {TickStatus.STARTED, TickStatus.FAILURE, TickStatus.SKIPPED} <= set(TickStatus)
    assert {"last_tick_timestamp", "min_interval"} <= set(SensorInstigatorData._fields)
    assert "cron_schedule" in ScheduleInstigatorData._fields
    assert SerializableErrorInfo("m", [], None).message == "m"


def test_isal_and_zlib_have_one_checksum() -> None:
    # storage.seal: seals are written with isal's, and readers of ours that lack it use the other.
    body = bytes(range(256)) * 64
    assert crc32(body) == zlib.crc32(body)
    assert crc32(body[100:], crc32(body[:100])) == zlib.crc32(body)
