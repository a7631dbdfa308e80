"""`lakehouse build`: a table and everything upstream of it, one run per table and rectangle of cells, in
graph order.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg

from lakehouse.cli.collecting import work_begins
from lakehouse.cli.planning import Meant, Plan, TableBuild, meant
from lakehouse.datasets.market import MarketTable
from lakehouse.definitions import build_definitions
from lakehouse.defs.assets import market_event
from lakehouse.defs.catalog import catalog_key
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.defs.quality import KEY as QUALITY
from lakehouse.defs.under_way import PROCESS_TAG, WHY_TAG, running, this_process
from lakehouse.logs import is_json
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.ops.findings import families
from lakehouse.pipeline.inventory import Inventory, span_of
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices

_LOOKS_EVERY = 1.0  # seconds
Announce = Callable[[str, int], None]


def _logged() -> dict[str, Any]:
    """What runs in this process log: all of it to machines, nothing to who watches progress."""
    level = "DEBUG" if is_json() else "CRITICAL"
    return {"loggers": {"console": {"config": {"log_level": level}}}}


class Builder:
    """Runs builds in this process, recorded in the shared instance.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        announce: Told of every table that starts, with the number of cells to come; per cell
            `LakeServices.progress` is told.
        why: What the runs say of why they are.
        wait: Told of a run that is waited for, because it writes the same cells.
    """

    def __init__(
        self,
        lake: LakeServices,
        instance: dg.DagsterInstance,
        announce: Announce = lambda table, cells: None,
        why: str = "lakehouse build",
        wait: Callable[[str], None] = lambda run_id: None,
    ) -> None:
        self._lake = lake
        self._instance = instance
        self._announce = announce
        self._tags = {WHY_TAG: why, PROCESS_TAG: this_process()}
        self._wait = wait
        self._job = build_definitions(lake).resolve_implicit_global_asset_job_def()

    def add_markets(self, plan: Plan) -> None:
        """Make the markets of a plan partitions, and say what was learnt of them.

        A market whose files are out of reach for now is added all the same: its cells say so when they are
        built.
        """
        self._instance.add_dynamic_partitions(str(MARKETS.name), [market.key for market in plan.markets])
        if plan.record and plan.changed:
            self._instance.report_runless_asset_event(market_event(self._lake, plan.record))

    def build(
        self, tables: Iterable[type[Table]], markets: list[Market], span: TimeRange
    ) -> list[TableBuild]:
        """Build tables and all that is upstream of them.

        Only what is due is computed. A cell that fails is named and leaves the others standing, in every
        table.

        Args:
            tables: What to build.
            markets: For which markets; each is added to the universe if its exchange lists it.
            span: Widened to whole months, cut to each market's life.

        Returns:
            One report per table, upstream first. Cells that have begun at the exchange, but not by this
            machine's clock, have failed in the first.

        Raises:
            UnknownMarketError, UnknownExchangeError, ListingUnreachableError: Before any cell is written.
            RootNotWritableError: Before any cell is written, or where the store refuses later; what was built
                before stands.
            NothingInRangeError, ClockBehindError: As `Plan.cells`.
        """
        self._lake.objects.check_writable()
        return self.carry_out(Plan(self._lake, markets, span), tables)

    def carry_out(self, plan: Plan, tables: Iterable[type[Table]]) -> list[TableBuild]:
        """As `build`, of what is planned already.

        Where REST alone can tell the past of a market, years are built one after another, the newest first,
        so that it can be read while the others come; then whatever looks back from one into another.
        """
        self.add_markets(plan)
        months, by_year = plan.cells[0], dict[str, list[Cell]]()
        for cell in sorted(months, key=lambda cell: cell.date, reverse=True):
            by_year.setdefault(cell.date[:4], []).append(cell)
        if len(by_year) == 1 or not plan.costs(tables):
            return plan.told(self.build_cells(tables, months, plan.due))
        built: dict[str, list[TableBuild]] = {}
        for one in (*by_year.values(), months):
            for report in self.build_cells(tables, sorted(one, key=lambda cell: cell.sort_key)):
                built.setdefault(report.table, []).append(report)
        return plan.told([_in_one(reports) for reports in built.values()])

    def build_cells(
        self,
        tables: Iterable[type[Table]],
        months: list[Cell],
        known: Mapping[type[Table], Meant] = MappingProxyType({}),
    ) -> list[TableBuild]:
        """As `build`, of given months of markets that are in the universe.

        Args:
            tables: What to build.
            months: Which months.
            known: What is due, where that was asked just now: of tables upstream, until the first that has
                something to build.
        """
        upstream = [table for table in self._lake.registry.upstream(tables) if table.spread != "one"]
        reports: dict[type[Table], TableBuild] = {}
        for together in in_rounds(upstream):
            markets = dict.fromkeys(cell.own_market for cell in months)
            has = Inventory(self._lake, markets, is_theirs_alone=True, span=span_of(months))
            has.look_at(*(table for table in together if table not in known))
            cells = {table: known.get(table) or meant(has, table, months) for table in together}
            reports |= self._run(cells)
            if any(reports[table].failed for table in together):
                # where the store itself is what failed, say so once instead of for every cell
                self._lake.objects.check_writable()
        registered = self._register([MarketTable, *(table for table in upstream if table.zone() != "bronze")])
        # a run ends with the checks of its tables, unless it failed
        self.run_checks([table for table, report in reports.items() if report.failed])
        return [*reports.values(), *registered]

    def build_derived(self, cells: Mapping[type[Table], list[Cell]]) -> list[TableBuild]:
        """Build what is due of given cells of silver and gold tables, from what is stored: no exchange is
        asked.

        Args:
            cells: Cells by table, upstream first.
        """
        reports: dict[type[Table], TableBuild] = {}
        markets = dict.fromkeys(cell.market.key for some in cells.values() for cell in some if cell.market)
        self._instance.add_dynamic_partitions(str(MARKETS.name), list(markets))  # this home may be a new one
        for together in in_rounds(cells):
            has, due = Inventory(self._lake), dict[type[Table], Meant]()
            for table in together:
                some = cells[table]
                due[table] = some, recipes(self._lake.registry)[table].due(has, some).among(some)
            reports |= self._run(due)
        registered = self._register(list(cells))
        self.run_checks(list(cells))
        return [*reports.values(), *registered]

    def _run(self, cells: Mapping[type[Table], Meant]) -> dict[type[Table], TableBuild]:
        """Build the cells that are due of tables that do not depend on each other; tables of which the same
        cells are due share their runs.

        Args:
            cells: By table, the cells that were meant and those of them that are due.
        """
        reports = {table: TableBuild(table.name) for table in cells}
        alike: dict[tuple[Cell, ...], list[type[Table]]] = {}
        for table, (covered, due) in cells.items():
            waiting = set(due)
            reports[table].current = [cell for cell in covered if cell not in waiting]
            alike.setdefault(tuple(due), []).append(table)
        for together, tables in alike.items():
            for table in tables:
                self._announce(table.name, len(together))
            if together:
                work_begins()
                self._run_alike(together, {table: reports[table] for table in tables})
        return reports

    def _run_alike(self, due: Iterable[Cell], reports: Mapping[type[Table], TableBuild]) -> None:
        recording = _Recording(reports, self._lake.progress)
        before, self._lake.progress = self._lake.progress, recording
        try:
            for tags, covered in range_tags(due, self._instance.get_dynamic_partitions(str(MARKETS.name))):
                self._await_others({report.table: covered for report in reports.values()})
                result = self._job.execute_in_process(
                    instance=self._instance,
                    asset_selection=[asset_key(table) for table in reports],
                    tags=tags | self._tags,
                    run_config=_logged(),
                    raise_on_error=False,
                )
                for table, report in reports.items() if not result.success else ():
                    report.failed |= _failures(result, table, covered, report)
        finally:
            self._lake.progress = before
        recording.end()

    def report_quality(self) -> None:
        """Make the report on quality, as the UI's schedule does each day."""
        self._job.execute_in_process(
            instance=self._instance,
            asset_selection=[QUALITY],
            tags=self._tags,
            run_config=_logged(),
            raise_on_error=False,
        )

    def _register(self, tables: Iterable[type[Table]]) -> list[TableBuild]:
        """Sync the catalog entries of tables, if there is a catalog."""
        reports = []
        for table in tables if self._lake.catalog is not None else ():
            report, started = TableBuild("/".join(catalog_key(table).path)), time.monotonic()
            result = self._job.execute_in_process(
                instance=self._instance,
                asset_selection=[catalog_key(table)],
                tags=self._tags,
                run_config=_logged(),
                raise_on_error=False,
            )
            if not result.success:
                report.failed = {table.name: _why(result, catalog_key(table))}
            report.seconds = time.monotonic() - started
            reports.append(report)
        return reports

    def run_checks(self, tables: Iterable[type[Table]]) -> None:
        """Run the checks of tables, over all their cells."""
        keys = [dg.AssetCheckKey(asset_key(table), name) for table in tables for name in families(table)]
        if keys:
            checks = self._job.get_subset(asset_selection=set(), asset_check_selection=set(keys))
            checks.execute_in_process(
                instance=self._instance, tags=self._tags, run_config=_logged(), raise_on_error=False
            )

    def _await_others(self, wanted: Mapping[str, Iterable[Cell]]) -> None:
        """Wait until nobody else is writing the same cells. Runs that the daemon starts wait for each other,
        and for this one, by their pools; the step finds out what is left to do.
        """
        told: set[str] = set()
        while busy := [
            run_id
            for run_id, writes in running(self._instance).items()
            if any(not writes.get(table, set()).isdisjoint(cells) for table, cells in wanted.items())
        ]:
            for run_id in set(busy) - told:
                self._wait(run_id)
            told.update(busy)
            time.sleep(_LOOKS_EVERY)


def _in_one(reports: list[TableBuild]) -> TableBuild:
    """The reports of several builds of one table, the last of them over all of its cells."""
    *earlier, last = reports
    for report in earlier:
        last.built += report.built
        last.seconds += report.seconds
    return last


def in_rounds(tables: Iterable[type[Table]]) -> list[list[type[Table]]]:
    """Tables, upstream first, in rounds: none depends on another of its round."""
    rounds: list[list[type[Table]]] = []
    for table in tables:
        if not rounds or any(other.name in table.input_names() for other in rounds[-1]):
            rounds.append([])
        rounds[-1].append(table)
    return rounds


class _Recording:
    """Takes note of what becomes of each cell of a run, and of the time each table takes of it.

    Args:
        reports: By table; filled in.
        further: Told of each cell as well.
    """

    def __init__(
        self, reports: Mapping[type[Table], TableBuild], further: Callable[[str, Cell, str], None]
    ) -> None:
        self._reports = {table.name: report for table, report in reports.items()}
        self._further = further
        self._table, self._since = next(iter(self._reports)), time.monotonic()

    def __call__(self, table: str, cell: Cell, outcome: str) -> None:
        self._table, report = table, self._reports[table]
        self._spend(report)
        into = {"built": report.built, "unchanged": report.current, "nothing": report.nothing}
        if outcome in into:
            into[outcome].append(cell)
        self._further(table, cell, outcome)

    def end(self) -> None:
        """The run is over: what is left of its time is that of the table that came last."""
        self._spend(self._reports[self._table])

    def _spend(self, report: TableBuild) -> None:
        now = time.monotonic()
        report.seconds, self._since = report.seconds + now - self._since, now


def _failures(
    result: dg.ExecuteInProcessResult, table: type[Table], covered: list[Cell], report: TableBuild
) -> dict[str, str]:
    """Cells of a table that failed in a run, with the reason each gave; where the step itself broke, all that
    it had not finished.

    Args:
        result: The run.
        table: The table.
        covered: The run's cells.
        report: What the table has finished.
    """
    done = {*report.built, *report.current, *report.nothing}
    reasons: dict[str, str] = {}
    for event in _failed_steps(result, asset_key(table)):
        if event.step_failure_data.user_failure_data:
            cells = event.step_failure_data.user_failure_data.metadata.get("cells")
            if isinstance(cells, dg.JsonMetadataValue) and isinstance(cells.value, dict):
                reasons |= cells.value
    unfinished = [cell for cell in covered if cell not in done]
    return {str(cell): reasons.get(str(cell), _why(result, asset_key(table))) for cell in unfinished}


def _failed_steps(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[dg.DagsterEvent]:
    step = key.to_python_identifier()
    return [event for event in result.all_events if event.is_step_failure and event.step_key == step]


def _why(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> str:
    """The first line of what broke the step of an asset."""
    for event in _failed_steps(result, key):
        if error := event.step_failure_data.error:
            return (error.cause.message if error.cause else error.message).strip().split("\n", 1)[0]
    return "the run failed; see its log in the UI"
