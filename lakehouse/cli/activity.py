"""What Dagster knows of a lake, for `lakehouse status`: checks, queue, sensors, runs. Its import takes longer
than all else of that command, so it is imported where it has something to say alone.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.cli.planning import keeps_sqlite
from lakehouse.model.words import count_of
from lakehouse.ops.findings import families
from lakehouse.registry import Registry
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

RUNS_SHOWN = 5
_NO_REASON = "Sensor function returned an empty result"  # Dagster's words for a sensor that gives none
_ALIVE_WITHIN = 300  # seconds since a daemon's heartbeat


@dataclass(frozen=True, slots=True)
class FailingCheck:
    """A check whose latest evaluation failed.

    Attributes:
        table: What was checked.
        check: The family of rules.
        severity: `error` or `warn`.
        at: When it was evaluated.
        what: The worst finding, and how many cells are bad.
    """

    table: str
    check: str
    severity: str
    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor or schedule that ticked, or was switched on or off.

    Attributes:
        name: Its name.
        is_on: Whether it runs.
        last_tick: When it looked last; None if never.
        outcome: What came of it: `success`, `skipped`, `failure`.
        note: What it said.
    """

    name: str
    is_on: bool
    last_tick: datetime | None
    outcome: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        run: The beginning of its id.
        status: `success`, `failure`, `started`, `queued` and so on.
        what: What it made.
        why: Why it was asked for, where that is known.
        began: When it began; None if it has not.
        seconds: How long it took, or has taken; None if it has not begun.
    """

    run: str
    status: str
    what: str
    why: str
    began: datetime | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Activity:
    """What Dagster knows.

    Attributes:
        is_alive: Whether a daemon, which carries out sensors, backfills and the queue, gave a sign of life.
        queued: Runs that wait.
        running: Runs under way.
        backfills: Backfills under way.
        pending: Checks under way, or cut off, whose verdict is not known.
        checks: Those that fail, worst first.
        sensors: Those that are known, by name.
        runs: The latest, newest first.
    """

    is_alive: bool
    queued: int
    running: int
    backfills: int
    pending: int
    checks: list[FailingCheck] = field(default_factory=list)
    sensors: list[Sensor] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return asdict(self)


def activity(settings: Settings, registry: Registry) -> Activity | None:
    """What Dagster knows; None where nothing ever ran in its home.

    Raises:
        ForeignInstanceError: As `open_instance`.
    """
    home = settings.dagster_home.expanduser()
    if not (home / "history" / "runs.db" if keeps_sqlite(home) else home / "dagster.yaml").exists():
        return None
    from lakehouse.cli.instance import open_instance

    with open_instance(settings) as instance:
        return _look(instance, registry)


def _look(instance: "DagsterInstance", registry: Registry) -> Activity:
    from dagster import DagsterRunStatus, RunsFilter
    from dagster._core.execution.backfill import BulkActionStatus

    waiting = [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED]
    under_way = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    failing, pending = _checks(instance, registry)
    beats = instance.get_daemon_heartbeats().values()
    return Activity(
        is_alive=any(time.time() - beat.timestamp < _ALIVE_WITHIN for beat in beats),
        queued=instance.get_runs_count(RunsFilter(statuses=waiting)),
        running=instance.get_runs_count(RunsFilter(statuses=under_way)),
        backfills=len(instance.get_backfills(status=BulkActionStatus.REQUESTED)),
        pending=pending,
        checks=failing,
        sensors=_sensors(instance),
        runs=_runs(instance),
    )


def _checks(instance: "DagsterInstance", registry: Registry) -> tuple[list[FailingCheck], int]:
    """The checks whose latest verdict is bad, worst first, and how many have none yet."""
    from dagster import AssetCheckKey, AssetCheckSeverity, AssetKey

    tables = {table.name: AssetKey(table.name.split("/")) for table in registry.tables}
    keys = {
        AssetCheckKey(tables[table.name], name): (table.name, name)
        for table in registry.tables
        for name in families(table)
    }
    found, pending = [], 0
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    for key, record in latest.items():
        if record.status.value not in ("FAILED", "SUCCEEDED"):  # what is recorded is a plan, no verdict
            pending += 1
        elif (verdict := record.evaluation) is not None and not verdict.passed:
            severity = "error" if verdict.severity == AssetCheckSeverity.ERROR else "warn"
            at = datetime.fromtimestamp(record.create_timestamp, UTC)
            found.append(FailingCheck(*keys[key], severity, at, _worst(verdict.metadata)))
    found.sort(key=lambda check: (check.severity != "error", check.table, check.check))
    return found, pending


def _worst(metadata: Mapping[str, Any]) -> str:
    """The first finding of a verdict, which is the worst, and how many cells are bad."""
    counted = metadata.get("bad_cells")
    said = count_of(counted.value, "cell") if counted is not None else ""
    rows = getattr(metadata.get("findings"), "records", None)
    if not rows:
        return said
    return f"{said}, such as {rows[0].data.get('cell')}: {rows[0].data.get('what')}".removeprefix(", ")


def _sensors(instance: "DagsterInstance") -> list[Sensor]:
    found = []
    for state in instance.all_instigator_state():
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        tick = ticks[0] if ticks else None
        note = (tick.skip_reason or (tick.error.message if tick.error else "")) if tick else ""
        if note == _NO_REASON:
            note = "nothing was requested"
        if tick and tick.run_ids:
            note = f"{count_of(len(tick.run_ids), 'run')} requested"
        found.append(
            Sensor(
                state.instigator_name,
                state.is_running,
                datetime.fromtimestamp(tick.timestamp, UTC) if tick else None,
                tick.status.value.lower() if tick else None,
                " ".join((note or "").split()),
            )
        )
    return sorted(found, key=lambda sensor: sensor.name)


def _runs(instance: "DagsterInstance") -> list[Run]:
    return [
        Run(
            record.dagster_run.run_id[:8],
            record.dagster_run.status.value.lower(),
            _what(record.dagster_run),
            record.dagster_run.tags.get("lakehouse/why", ""),
            datetime.fromtimestamp(record.start_time, UTC) if record.start_time else None,
            round((record.end_time or time.time()) - record.start_time, 1) if record.start_time else None,
        )
        for record in instance.get_run_records(limit=RUNS_SHOWN)
    ]


def _what(run: "DagsterRun") -> str:
    """The tables of a run, with its cells."""
    tables = sorted(key.to_user_string() for key in run.asset_selection or ())
    checked = {key.asset_key for key in run.asset_check_selection or ()} or [
        step for step in run.step_keys_to_execute or () if step.startswith("check_")
    ]
    said = ", ".join(tables) or (f"checks of {count_of(len(checked), 'table')}" if checked else run.job_name)
    begin = run.tags.get("dagster/asset_partition_range_start") or run.tags.get("dagster/partition")
    end = run.tags.get("dagster/asset_partition_range_end", begin)
    return said + (f" {begin}" if begin else "") + (f" to {end}" if begin != end else "")
