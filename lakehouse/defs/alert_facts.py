"""What is wrong by Dagster's event log, as facts for alerts: runs, checks, sensors and schedules."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import dagster as dg
from dagster._core.scheduler.instigation import (
    InstigatorState,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._utils.schedules import get_next_cron_tick

from lakehouse.defs.describe import asset_key
from lakehouse.defs.event_log import checks_after
from lakehouse.defs.partitions import MARKETS, parse_cells
from lakehouse.defs.sensors import COULD_NOT_LOOK
from lakehouse.model.cell import Cell
from lakehouse.ops import alerts, findings
from lakehouse.ops.alerts import Fact
from lakehouse.pipeline.alert_facts import STATUS, of_silver
from lakehouse.pipeline.services import LakeServices
from lakehouse.storage.layout import cell_path

_ABOVE = "failed above in this run: "
_ASKED_AT_MOST = 100  # failed cells of which the store is asked whether they were made since
_LATE_TICKS = 3  # intervals that a sensor may be late, but at least
_LATE_AT_LEAST = 600.0  # seconds


@dataclass(slots=True)
class Seen:
    """What was read of the event log, so that the next look reads what came since: a look at a log that stood
    still reads nothing of it.

    Attributes:
        unmade: By asset, the newest of its events, and what it has not made by then.
        checks: Checks that were ever evaluated, those of users' own assets as well.
        evaluation: The newest of their evaluations.
    """

    unmade: dict[str, tuple[tuple[int, ...], Mapping[str, tuple[str, int]]]] = field(default_factory=dict)
    checks: set[dg.AssetCheckKey] = field(default_factory=set)
    evaluation: int = 0


class DagsterFacts:
    """What one look finds in the event log.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        now: The current instant.
        seen: What earlier looks of this process have read; it is brought up to date.
    """

    def __init__(
        self, lake: LakeServices, instance: dg.DagsterInstance, now: datetime, seen: Seen | None = None
    ) -> None:
        self._lake, self._instance, self._now, self._seen = lake, instance, now, seen or Seen()
        self._universe = instance.get_dynamic_partitions(str(MARKETS.name))
        self._runs: dict[str, dg.DagsterRun | None] = {}
        self._causes: dict[str, dict[str, str]] = {}
        self._asked = 0

    def runs(self) -> Iterator[Fact | str]:
        """Cells, assets and jobs whose last run failed. A cell that fails in several tables is one fact, at
        the first of them; one that failed because of another is none.
        """
        found: dict[str, Fact] = {}
        for table in self._assets():
            for partition, (run_id, _) in sorted(self._unmade(table).items()):
                run = self._run(run_id)
                if run is None or not self._is_wanted(partition):
                    continue
                if run.status in (*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED):
                    yield f"{alerts.RUN_FAILED}: {partition or table}"
                elif run.status == dg.DagsterRunStatus.FAILURE and not self._is_mended(table, partition, run):
                    cause = self._cause(run_id, table, partition)
                    if partition and (known := found.get(partition)):
                        also = {*known.tables, *self._touched(table)}
                        found[partition] = replace(known, tables=tuple(sorted(also)))
                    elif _ABOVE not in cause:
                        found[partition or table] = Fact(
                            alerts.RUN_FAILED,
                            partition or table,
                            table if partition else "",
                            partition or table,
                            cause,
                            self._again(table, partition),
                            f"/runs/{run_id}",
                            tables=self._touched(table),
                        )
        yield from found.values()
        yield from self._jobs()

    def _touched(self, table: str) -> tuple[str, ...]:
        """A table that was not made, and all that is made from it."""
        registry = self._lake.registry
        below = [
            each.name
            for each in registry.tables
            if table in {above.name for above in registry.upstream([each])}
        ]
        return tuple(sorted({table, *below}))

    def _is_mended(self, table: str, partition: str, run: dg.DagsterRun) -> bool:
        """Whether a cell was written after the run in which it failed, by somebody who tells this instance
        nothing: another machine's build, or a repair.
        """
        declared = next((one for one in self._lake.registry.tables if one.name == table), None)
        cell = parse_cells([partition]).get(partition)
        record = self._instance.get_run_record_by_id(run.run_id)
        if declared is None or cell is None or record is None or record.end_time is None:
            return False
        self._asked += 1
        if self._asked > _ASKED_AT_MOST:
            return False
        written = self._lake.objects.written(cell_path(declared, cell))
        return written is not None and written.timestamp() > record.end_time

    def _assets(self) -> list[str]:
        """All assets that Dagster knows, upstream first."""
        order = {table.name: number for number, table in enumerate(self._lake.registry.tables)}
        known = ["/".join(key.path) for key in self._instance.all_asset_keys()]
        return sorted(known, key=lambda name: (order.get(name, len(order)), name))

    def _unmade(self, table: str) -> Mapping[str, tuple[str, int]]:
        """The partitions whose last run has not made them, with that run; of an asset without partitions the
        name is empty.
        """
        key = asset_key(table)
        log = self._instance.event_log_storage
        records = self._instance.get_asset_records([key])
        entry = records[0].asset_entry if records else None
        newest = self._newest(key), (entry and entry.last_materialization_storage_id) or 0
        known, parted = self._seen.unmade.get(table, (None, {}))
        if known != newest:
            parted = dict(
                log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
            )
            self._seen.unmade[table] = newest, parted
        if parted:
            return parted
        planned = (entry.last_planned_materialization_run_id or entry.last_run_id) if entry else None
        made = entry.last_materialization if entry else None
        event = made.dagster_event if made else None
        if planned is None or (made and (made.run_id == planned or (event and event.partition))):
            return {}
        return {"": (planned, 0)} if not self._is_parted(planned) else {}

    def _newest(self, key: dg.AssetKey) -> int:
        """The newest event that announced a materialization."""
        asked = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=key)
        newest = self._instance.event_log_storage.get_event_records(asked, 1)
        return newest[0].storage_id if newest else 0

    def _is_parted(self, run_id: str) -> bool:
        run = self._run(run_id)
        return run is None or any(
            tag.startswith("dagster/partition") or "partition_range" in tag for tag in run.tags
        )

    def _is_wanted(self, partition: str) -> bool:
        """Whether a partition is of a market that still is one."""
        market = partition.partition("|")[2]
        return not market or market in self._universe

    def _run(self, run_id: str) -> dg.DagsterRun | None:
        if run_id not in self._runs:
            self._runs[run_id] = self._instance.get_run_by_id(run_id)
        return self._runs[run_id]

    def _cause(self, run_id: str, table: str, partition: str) -> str:
        """Why a run has not made a partition: what was said of it, else of its step, else of the run."""
        if run_id not in self._causes:
            self._causes[run_id] = dict(self._read_causes(run_id))
        said = self._causes[run_id]
        step = asset_key(table).to_python_identifier() if table else ""
        return said.get(f"{step} {partition}") or said.get(step) or said.get("") or "The run failed."

    def _read_causes(self, run_id: str) -> Iterator[tuple[str, str]]:
        kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
        for record in self._instance.get_records_for_run(run_id, of_type=kinds).records:
            event = record.event_log_entry.dagster_event
            if event is None:
                continue
            if event.event_type == dg.DagsterEventType.RUN_FAILURE:
                failure = event.job_failure_data
                error = failure.error.message if failure and failure.error else ""
                yield "", error or event.message or ""
                continue
            data, step = event.step_failure_data, event.step_key or ""
            raised = (data.error.cause or data.error) if data.error else None
            said = data.user_failure_data
            yield (
                step,
                (said and said.description) or (raised.message if raised else "") or event.message or "",
            )
            cells = said.metadata.get("cells") if said else None
            if isinstance(cells, dg.JsonMetadataValue) and isinstance(cells.data, dict):
                for cell, why in cells.data.items():
                    yield f"{step} {cell}", str(why)

    def _again(self, table: str, partition: str) -> str:
        """The command that makes a cell, or an asset, again."""
        if table == "ops/quality":
            return "lakehouse quality"
        names = [one.name for one in self._lake.registry.tables]
        if table not in names:
            return STATUS
        if not partition:
            return f"lakehouse markets add {shlex.quote(self._universe[0])}" if self._universe else STATUS
        market = partition.partition("|")[2]
        cell = parse_cells([partition]).get(partition)
        if cell is None:
            return f"lakehouse markets remove {shlex.quote(market or partition)}"
        if cell.market is None and not self._universe:
            return STATUS
        return f"lakehouse build {table} {self._of(cell)}"

    def _of(self, cell: Cell) -> str:
        """A cell as options."""
        market = cell.market.key if cell.market else self._universe[0]
        return f"--markets {shlex.quote(market)} --from {cell.date} --to {cell.shift(1).date}"

    def _jobs(self) -> Iterator[Fact]:
        """Jobs that make no asset, by their last run."""
        seen = set[str]()
        for run in self._instance.get_runs(limit=100):
            plan = (
                self._instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
                if run.execution_plan_snapshot_id
                and not run.asset_selection
                and not run.asset_check_selection
                else None
            )
            if plan is None or any(
                "__" in step or step.startswith("check_") for step in plan.step_keys_to_execute
            ):
                continue
            if run.is_finished and run.job_name not in seen:
                seen.add(run.job_name)
                if run.status == dg.DagsterRunStatus.FAILURE:
                    steps = [self._cause(run.run_id, step, "") for step in plan.step_keys_to_execute]
                    cause = steps[0] if steps else self._cause(run.run_id, "", "")
                    name = f"job {run.job_name}"
                    yield Fact(alerts.RUN_FAILED, name, "", name, cause, STATUS, f"/runs/{run.run_id}")

    def checks(self) -> Iterator[Fact | str]:
        """Errors that checks found last, those of users' own assets as well; a fact for each bad cell."""
        ours = {
            dg.AssetCheckKey(asset_key(table), name)
            for table in self._lake.registry.tables
            for name in findings.families(table)
        }
        tables = {table.name for table in self._lake.registry.tables}
        theirs = {key for key in self._evaluated() if "/".join(key.asset_key.path) not in tables}
        keys = {key: ("/".join(key.asset_key.path), key.name) for key in ours | theirs}
        log = self._instance.event_log_storage
        for key, record in log.get_latest_asset_check_execution_by_key(list(keys)).items():
            table, name = keys[key]
            page = f"/assets/{table}?view=checks&checkDetail={name}"
            group = f"{alerts.CHECK_FAILED}: {table} {name}"
            if record.status.value not in ("FAILED", "SUCCEEDED"):  # what is recorded is a plan, no verdict
                yield group
                run = self._run(record.run_id)
                if run is not None and run.status == dg.DagsterRunStatus.FAILURE and not self._makes(run):
                    cause, cell = self._cause(record.run_id, "", ""), f"check {name}"
                    subject = f"{table} {cell}"
                    yield Fact(
                        alerts.RUN_FAILED, subject, table, cell, cause, STATUS, f"/runs/{record.run_id}"
                    )
                continue
            verdict = record.evaluation
            if verdict is None or verdict.passed or verdict.severity != dg.AssetCheckSeverity.ERROR:
                continue
            at = datetime.fromtimestamp(record.create_timestamp, UTC)
            rows = [row.data for row in getattr(verdict.metadata.get("findings"), "records", ())]
            errors = [row for row in rows if row.get("severity") == "error"]
            bad = getattr(verdict.metadata.get("bad_cells"), "value", 0)
            if len(errors) == len(rows) and bad > len({row.get("cell") for row in rows}):
                yield group  # there are more than it shows
            for row in errors or [{"cell": "", "what": verdict.description or "it failed"}]:
                cell = str(row.get("cell"))
                yield Fact(
                    alerts.CHECK_FAILED,
                    f"{table} {name} {cell}",
                    f"{table} {name}",
                    cell,
                    str(row.get("what")),
                    self._proof(table, name, cell),
                    page,
                    at,
                )

    def _evaluated(self) -> set[dg.AssetCheckKey]:
        """All checks that were ever to be evaluated: those known and those that came since the last look."""
        found, self._seen.evaluation = checks_after(self._instance, self._seen.evaluation)
        self._seen.checks |= found
        return self._seen.checks

    def _makes(self, run: dg.DagsterRun) -> bool:
        """Whether a run was to make cells, which tell of its failure themselves."""
        return bool(run.asset_selection)

    def _proof(self, table: str, name: str, cell: str) -> str:
        """The command that looks into what a check found of a cell."""
        found = parse_cells([cell]).get(cell)
        if table not in {one.name for one in self._lake.registry.tables}:
            return STATUS
        if name == "schema":
            return "lakehouse verify --stored"
        if found is None or found.market is None:
            return f"lakehouse quality{of_silver(self._lake.registry, table)}"
        if name == "resample":
            return f"lakehouse build {table} {self._of(found)}"
        return f"lakehouse verify{of_silver(self._lake.registry, table)} {self._of(found)}"

    def sensors(self) -> Iterator[Fact | str]:
        """Sensors and schedules whose last tick failed, or saw nothing."""
        for state, tick in self._instigators():
            skipped = (tick.skip_reason or "") if tick else ""
            if tick is None or tick.status == TickStatus.STARTED:
                yield f"{alerts.SENSOR_FAILED}: {state.instigator_name}"
            elif tick.status == TickStatus.FAILURE or skipped.startswith(COULD_NOT_LOOK):
                error = tick.error.cause or tick.error if tick.error else None
                cause = error.message if error else skipped.removeprefix(COULD_NOT_LOOK)
                yield self._of_sensor(alerts.SENSOR_FAILED, state, cause or "The tick failed.", STATUS)

    def silence(self) -> Iterator[Fact | str]:
        """Sensors and schedules that are on and have not ticked when they should have."""
        now = self._now.timestamp()
        for state, tick in self._instigators():
            data, last, due = state.instigator_data, tick.timestamp if tick else None, None
            if isinstance(data, SensorInstigatorData):
                last = max(
                    filter(None, (last, data.last_tick_start_timestamp, data.last_tick_timestamp)),
                    default=None,
                )
                start = last or data.last_sensor_start_timestamp
                due = start and start + max(_LATE_TICKS * (data.min_interval or 30), _LATE_AT_LEAST)
            elif isinstance(data, ScheduleInstigatorData) and isinstance(data.cron_schedule, str):
                start = max(
                    filter(None, (last, data.last_iteration_timestamp, data.start_timestamp)), default=None
                )
                due = start and _next(data.cron_schedule, start) + _LATE_AT_LEAST
            if due and now > due:
                said = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC" if last else "never"
                cause = f"It is switched on, and ticked last: {said}. Dagster's daemon may have ended."
                yield self._of_sensor(alerts.SENSOR_SILENT, state, cause, "lakehouse ui")

    def _instigators(self) -> Iterator[tuple[InstigatorState, Any]]:
        for state in self._instance.all_instigator_state():
            if state.is_running:
                ticks = self._instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
                yield state, ticks[0] if ticks else None

    def _of_sensor(self, kind: str, state: InstigatorState, cause: str, command: str) -> Fact:
        name = state.instigator_name
        sort = "sensors" if isinstance(state.instigator_data, SensorInstigatorData) else "schedules"
        place = state.origin.repository_origin.code_location_origin.location_name
        page = f"/locations/{quote(place)}/{sort}/{quote(name)}"
        return Fact(kind, name, "", name, cause, command, page)


def _next(cron: str, after: float) -> float:
    return get_next_cron_tick(cron, datetime.fromtimestamp(after, UTC), None).timestamp()
