"""What is wrong, as facts for alerts: in Dagster's event log, in the lake, and on the disk.

Longer than other modules: one look gathers every kind of fact, so that what one kind leaves to another is seen.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
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
from lakehouse.defs.partitions import MARKETS, parse_cells, parse_keys
from lakehouse.defs.sensors import COULD_NOT_LOOK
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError
from lakehouse.model.secrets import hide
from lakehouse.model.text import plain
from lakehouse.model.words import count_of
from lakehouse.ops import alerts, findings
from lakehouse.ops.alerts import Fact, Look
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.storage.bans import bans

_ABOVE = "failed above in this run: "
_STATUS = "lakehouse status"
_GIGA = 1e9
_LATE_TICKS = 3  # intervals that a sensor may be late, but at least
_LATE_AT_LEAST = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked at, and how.

    Attributes:
        ui_url: Where people reach the UI.
        quota: Bytes that the lake is to take at most; 0 for no such limit.
        full: Share of the quota, or of the disk, from which on it is nearly full.
    """

    ui_url: str = "http://127.0.0.1:3000"
    quota: float = 0
    full: float = 0.9


def look_around(
    lake: LakeServices, instance: dg.DagsterInstance, watch: Watch, now: datetime, with_lake: bool = True
) -> Look:
    """What is wrong now.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        watch: What is looked at.
        now: The current instant.
        with_lake: Whether the lake's tables are listed, too.
    """
    around = _Around(lake, instance, watch, now, with_lake)
    facts: list[Fact] = []
    blind: set[str] = set()
    notes: list[str] = []
    kinds: dict[str, Callable[[], Iterator[Fact | str]]] = {
        alerts.RUN_FAILED: around.runs,
        alerts.CHECK_FAILED: around.checks,
        alerts.SENSOR_FAILED: around.sensors,
        alerts.SENSOR_SILENT: around.silence,
        alerts.BANNED: around.bans,
        alerts.DISK: around.disk,
    }
    tables = {alerts.STALE: around.stale, alerts.QUARANTINE: around.quarantine}
    if with_lake:
        kinds |= tables
    else:
        blind |= tables.keys()
    unreachable = None
    for kind, looks in kinds.items():
        try:
            found = list(looks())
        except LakehouseError as error:
            blind.add(kind)
            notes.append(f"{kind}: {error}")
            unreachable = unreachable or str(error)
            continue
        facts += [one for one in found if isinstance(one, Fact)]
        blind |= {one for one in found if isinstance(one, str)}
    if unreachable:
        root = lake.objects.root
        facts.append(around.fact(alerts.LAKE, root, "", root, unreachable, "lakehouse doctor", "/overview"))
    return Look(now, facts, frozenset(blind), notes)


class _Around:
    """One look.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        watch: What is looked at.
        now: The current instant.
        with_lake: Whether all of the lake is listed.
    """

    def __init__(
        self,
        lake: LakeServices,
        instance: dg.DagsterInstance,
        watch: Watch,
        now: datetime,
        with_lake: bool,
    ) -> None:
        self._with_lake = with_lake
        self._lake, self._instance, self._watch, self._now = lake, instance, watch, now
        self._universe = instance.get_dynamic_partitions(str(MARKETS.name))
        self._runs: dict[str, dg.DagsterRun | None] = {}
        self._causes: dict[str, dict[str, str]] = {}

    def fact(
        self,
        kind: str,
        subject: str,
        of: str,
        cell: str,
        cause: str,
        command: str,
        page: str,
        at: datetime | None = None,
        level: int | None = None,
    ) -> Fact:
        """A fact as people may read it: foreign words without control characters or secrets."""
        said = plain(hide(cause), 1000)
        return Fact(kind, subject, of, plain(cell), said, command, f"{self._watch.ui_url}{page}", at, level)

    # --- what Dagster knows -----------------------------------------------------------------------

    def runs(self) -> Iterator[Fact | str]:
        """Cells, assets and jobs whose last run failed. A cell that fails in several tables is one fact, at
        the first of them; one that failed because of another is none.
        """
        cells: dict[str, list[str]] = {}
        for table in self._assets():
            for partition, (run_id, _) in sorted(self._unmade(table).items()):
                run = self._run(run_id)
                if run is None or not self._is_wanted(partition):
                    continue
                if run.status in (*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED):
                    yield f"{alerts.RUN_FAILED}: {partition or table}"
                elif run.status == dg.DagsterRunStatus.FAILURE:
                    cause = self._cause(run_id, table, partition)
                    if partition and partition in cells:
                        cells[partition].append(table)
                    elif _ABOVE not in cause:
                        cells[partition or table] = [table]
                        yield self.fact(
                            alerts.RUN_FAILED,
                            partition or table,
                            table if partition else "",
                            partition or table,
                            cause,
                            self._again(table, partition),
                            f"/runs/{run_id}",
                        )
        yield from self._jobs()

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
        parted = dict(log.get_latest_asset_partition_materialization_attempts_without_materializations(key))
        if parted:
            return parted
        records = self._instance.get_asset_records([key])
        entry = records[0].asset_entry if records else None
        planned = (entry.last_planned_materialization_run_id or entry.last_run_id) if entry else None
        made = entry.last_materialization if entry else None
        event = made.dagster_event if made else None
        if planned is None or (made and (made.run_id == planned or (event and event.partition))):
            return {}
        return {"": (planned, 0)} if not self._is_parted(planned) else {}

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
            return _STATUS
        if not partition:
            return f"lakehouse markets add {shlex.quote(self._universe[0])}" if self._universe else _STATUS
        market = partition.partition("|")[2]
        cell = parse_cells([partition]).get(partition)
        if cell is None:
            return f"lakehouse markets remove {shlex.quote(market or partition)}"
        if cell.market is None and not self._universe:
            return _STATUS
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
                    yield self.fact(alerts.RUN_FAILED, name, "", name, cause, _STATUS, f"/runs/{run.run_id}")

    def checks(self) -> Iterator[Fact | str]:
        """Errors that checks found last, a fact for each bad cell."""
        keys = {
            dg.AssetCheckKey(asset_key(table), name): (table.name, name)
            for table in self._lake.registry.tables
            for name in findings.families(table)
        }
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
                    yield self.fact(
                        alerts.RUN_FAILED, subject, table, cell, cause, _STATUS, f"/runs/{record.run_id}"
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
                yield self.fact(
                    alerts.CHECK_FAILED,
                    f"{table} {name} {cell}",
                    f"{table} {name}",
                    cell,
                    str(row.get("what")),
                    self._proof(table, name, cell),
                    page,
                    at,
                )

    def _makes(self, run: dg.DagsterRun) -> bool:
        """Whether a run was to make cells, which tell of its failure themselves."""
        return bool(run.asset_selection)

    def _proof(self, table: str, name: str, cell: str) -> str:
        """The command that looks into what a check found of a cell."""
        found = parse_cells([cell]).get(cell)
        if name == "schema":
            return "lakehouse verify --stored"
        if found is None or found.market is None:
            return "lakehouse quality"
        return f"lakehouse {'verify' if name != 'resample' else f'build {table}'} {self._of(found)}"

    def sensors(self) -> Iterator[Fact | str]:
        """Sensors and schedules whose last tick failed, or saw nothing."""
        for state, tick in self._instigators():
            skipped = (tick.skip_reason or "") if tick else ""
            if tick is None or tick.status == TickStatus.STARTED:
                yield f"{alerts.SENSOR_FAILED}: {state.instigator_name}"
            elif tick.status == TickStatus.FAILURE or skipped.startswith(COULD_NOT_LOOK):
                error = tick.error.cause or tick.error if tick.error else None
                cause = error.message if error else skipped.removeprefix(COULD_NOT_LOOK)
                yield self._of_sensor(alerts.SENSOR_FAILED, state, cause or "The tick failed.", _STATUS)

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
        return self.fact(kind, name, "", name, cause, command, page)

    # --- what the lake and the disk say -----------------------------------------------------------

    def bans(self) -> Iterator[Fact | str]:
        """REST APIs that have banned this address."""
        for url, until in bans(self._lake.objects).items():
            if until > self._now:
                cause = (
                    f"It has banned this address until {until:%Y-%m-%d %H:%M:%S} UTC; nothing asks it before."
                )
                yield self.fact(alerts.BANNED, url, "", url, cause, _STATUS, "/automation")

    def stale(self) -> Iterator[Fact | str]:
        """Markets of the universe whose newest row is old, by the checks of freshness."""
        lake, universe = self._lake, set(parse_keys(self._universe)[0])
        ended = {market for market, facts in known_markets(lake).items() if facts.delisted}
        now = min(lake.clock(), lake.until)
        for table in lake.registry.tables:
            for check in table.checks:
                if check.family != "freshness":
                    continue
                stored = lake.ledger(table.name)
                for found in findings.check_freshness(stored, ended, now, **check.parameters).findings:
                    cell = parse_cells([found.cell])[found.cell]
                    if cell.own_market in universe:
                        span = f"--from {cell.date} --to {now + timedelta(days=1):%Y-%m-%d}"
                        market = cell.own_market.key
                        yield self.fact(
                            alerts.STALE,
                            f"{table.name} {market}",
                            table.name,
                            found.cell,
                            found.what,
                            f"lakehouse build {table.name} --markets {shlex.quote(market)} {span}",
                            _partition(table.name, found.cell),
                        )

    def quarantine(self) -> Iterator[Fact | str]:
        """Cells with rejected rows, each with their number."""
        for table in self._lake.registry.tables:
            if table.spread != "market":
                continue
            for cell, record in self._lake.ledger(table.name).items():
                if record.reject_count:
                    said = (
                        f"{count_of(record.reject_count, 'row')} in quarantine, more than before: "
                        f"quarantine/{record.path} has them with the rule each breaks"
                    )
                    yield self.fact(
                        alerts.QUARANTINE,
                        f"{table.name} {cell}",
                        table.name,
                        str(cell),
                        said,
                        f"lakehouse quality --markets {shlex.quote(cell.own_market.key)}",
                        _partition(table.name, str(cell)),
                        level=record.reject_count,
                    )

    def disk(self) -> Iterator[Fact | str]:
        """File systems that are nearly full, and a lake that nearly has its quota."""
        objects, watch = self._lake.objects, self._watch
        folders = {"the lake": objects.root if objects.is_local else ""}
        folders["Dagster's home"] = self._instance.root_directory
        seen = set[int]()
        for what, folder in folders.items():
            place = Path(folder).expanduser() if folder else None
            if place is None or not place.exists() or (device := os.stat(place).st_dev) in seen:
                continue
            seen.add(device)
            usage = shutil.disk_usage(place)
            if usage.used / (usage.used + usage.free or 1) >= watch.full:
                cause = (
                    f"The file system of {what} has {usage.free / _GIGA:,.1f} GB left, of "
                    f"{usage.total / _GIGA:,.1f} GB."
                )
                yield self.fact(alerts.DISK, str(place), "", str(place), cause, _STATUS, "/overview")
        if watch.quota and self._with_lake:
            yield from self._quota()
        elif watch.quota:
            yield f"{alerts.DISK}: quota"

    def _quota(self) -> Iterator[Fact]:
        objects, quota = self._lake.objects, self._watch.quota
        size = sum(stored.size for stored in objects.list(""))
        if size >= self._watch.full * quota:
            cause = f"The lake takes {size / _GIGA:,.3f} GB of the {quota / _GIGA:,.3f} GB of LAKEHOUSE_DISK_QUOTA."
            yield self.fact(alerts.DISK, "quota", "", objects.root, cause, _STATUS, "/overview")


def _partition(table: str, cell: str) -> str:
    return f"/assets/{table}?view=partitions&partition={quote(cell)}"


def _next(cron: str, after: float) -> float:
    return get_next_cron_tick(cron, datetime.fromtimestamp(after, UTC), None).timestamp()
