"""Dagster's daemon in this process, one round at a time and by the exchange's clock: what hours of a real one
do passes in seconds.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.load_target import ModuleTarget, WorkspaceLoadTarget
from dagster._daemon.asset_daemon import AssetDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.sensor import execute_sensor_iteration

from lakehouse.sources.rest.clock import KEPT_SECONDS

_LOG = logging.getLogger("lakehouse.tests.daemon")
_ROUNDS = 40


class Daemon:
    """The daemon of an instance: sensors, conditions and backfills are its own; only its launcher runs in
    this process.

    Args:
        instance: The instance.
        workspace: The code locations, each in a process of its own.
    """

    def __init__(self, instance: dg.DagsterInstance, workspace: Any) -> None:
        self.instance = instance
        self._workspace = workspace
        self._conditions = AssetDaemon(settings={}, pre_sensor_interval_seconds=0)

    def settle(self, now: datetime) -> int:
        """Go round until nothing is asked for any more; returns the number of runs that took.

        A lake whose clock is an exchange's asks for the time once a second: a first look right after that
        clock was moved would still have the time before.
        """
        time.sleep(KEPT_SECONDS)
        before = len(self.instance.get_run_ids())
        quiet = 0
        for step in range(_ROUNDS):
            runs = self._state()
            with freeze_time(now.timestamp() + 31 * step):
                self._round()
            quiet = quiet + 1 if self._state() == runs else 0
            if quiet == 2:
                return len(self.instance.get_run_ids()) - before
        raise AssertionError("it never comes to rest")

    def backfill(self, tables: Iterable[str], cells: Iterable[str], **tags: str) -> str:
        """Ask for some partitions of some tables as who marks them in the UI; the backfill's id."""
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=f"backfill-{len(self.instance.get_backfills())}",
            asset_graph=self._workspace.create_request_context().asset_graph,
            partition_names=sorted(cells),
            asset_selection=[dg.AssetKey(table.split("/")) for table in tables],
            backfill_timestamp=datetime.now(UTC).timestamp(),
            tags=tags,
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        return backfill.backfill_id

    def _state(self) -> tuple[int, list[tuple[str, str]]]:
        return len(self.instance.get_run_ids()), sorted(
            (backfill.backfill_id, backfill.status.value) for backfill in self.instance.get_backfills()
        )

    def _round(self) -> None:
        futures: dict[str | None, Future[Any]] = {}
        for error in (
            *execute_sensor_iteration(self._workspace, _LOG, None, None),
            *(self._conditions._run_iteration_impl(self._workspace, None, futures, {}) or ()),
            *execute_backfill_iteration(self._workspace, _LOG),
        ):
            assert error is None, error


@contextmanager
def running_daemon(home: Path, workspace: WorkspaceLoadTarget | None = None) -> Iterator[Daemon]:
    """A daemon over the lake that the environment names.

    Args:
        home: Of its instance.
        workspace: Its code locations; the lake's alone if left out.
    """
    overrides = {
        "storage": {
            "custom": {
                "module": "lakehouse.defs.event_log",
                "class": "KeptSqliteStorage",
                "config": {"base_dir": str(home)},
            }
        },
        "run_launcher": {
            "module": "dagster._core.launcher.sync_in_memory_run_launcher",
            "class": "SyncInMemoryRunLauncher",
        },
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    }
    home.mkdir(parents=True, exist_ok=True)
    with dg.instance_for_test(temp_dir=str(home), overrides=overrides) as instance:
        target = workspace or ModuleTarget(
            module_name="lakehouse.definitions",
            attribute=None,
            working_directory=None,
            location_name="lakehouse",
        )
        with create_test_daemon_workspace_context(target, instance) as loaded:
            yield Daemon(instance, loaded)
