"""`lakehouse build`: a table and everything upstream of it, one run per table and rectangle of cells, in
graph order.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import dagster as dg

from lakehouse.cli.collecting import work_begins
from lakehouse.cli.planning import Due, Plan, TableBuild, due_cells
from lakehouse.datasets.market import MarketTable
from lakehouse.definitions import build_definitions
from lakehouse.defs.bronze import market_event
from lakehouse.defs.catalog import catalog_key
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.ops.findings import families
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.steps import derived_due

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Announce = Callable[[str, int], None]


class Builder:
    """Runs builds in this process, recorded in the shared instance.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        announce: Told of every table that starts, with the number of cells to come; per cell
            `LakeServices.progress` is told.
    """

    def __init__(
        self, lake: LakeServices, instance: dg.DagsterInstance, announce: Announce = lambda table, cells: None
    ) -> None:
        self._lake = lake
        self._instance = instance
        self._announce = announce
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
        """As `build`, of what is planned already."""
        self.add_markets(plan)
        return plan.told(self.build_cells(tables, plan.cells[0], plan.due))

    def build_cells(
        self,
        tables: Iterable[type[Table]],
        cells: list[Cell],
        known: Mapping[type[Table], Due] = MappingProxyType({}),
    ) -> list[TableBuild]:
        """As `build`, of given cells of markets that are in the universe.

        Args:
            tables: What to build.
            cells: Which cells.
            known: What is due, where that was asked just now: of tables upstream, until the first that has
                something to build.
        """
        upstream = self._lake.registry.upstream(tables)
        reports: dict[type[Table], TableBuild] = {}
        for declared in upstream:
            if declared.shape != "single":
                reports[declared] = self._run(
                    declared, *(known.get(declared) or due_cells(self._lake, declared, cells))
                )
                if reports[declared].failed:
                    # where the store itself is what failed, say so once instead of for every cell
                    self._lake.objects.check_writable()
        registered = self._register(
            [MarketTable, *(declared for declared in upstream if declared.zone() != "bronze")]
        )
        self._run_checks([declared for declared, report in reports.items() if report.built or report.failed])
        return [*reports.values(), *registered]

    def build_derived(self, cells: Mapping[type[Table], list[Cell]]) -> list[TableBuild]:
        """Build what is due of given cells of silver and gold tables, from what is stored: no exchange is
        asked.

        Args:
            cells: Cells by table, upstream first.
        """
        reports = {}
        markets = dict.fromkeys(cell.market.key for some in cells.values() for cell in some if cell.market)
        self._instance.add_dynamic_partitions(str(MARKETS.name), list(markets))  # this home may be a new one
        for table, some in cells.items():
            reports[table] = self._run(
                table, some, derived_due(self._lake, table, some, self._lake.ledger(table.name))
            )
        registered = self._register(list(cells))
        self._run_checks(list(cells))
        return [*reports.values(), *registered]

    def _run(self, table: type[Table], cells: list[Cell], due: list[Cell]) -> TableBuild:
        """Build the cells of a table that are due, of those that were meant."""
        report, started = TableBuild(table.name), time.monotonic()
        waiting = set(due)
        report.current = [cell for cell in cells if cell not in waiting]
        self._announce(table.name, len(due))
        if due:
            work_begins()
        before, self._lake.progress = self._lake.progress, _recording(report, self._lake.progress)
        try:
            for tags, covered in range_tags(due, self._instance.get_dynamic_partitions(str(MARKETS.name))):
                result = self._job.execute_in_process(
                    instance=self._instance,
                    asset_selection=[asset_key(table)],
                    tags=tags,
                    run_config=_QUIET,
                    raise_on_error=False,
                )
                if not result.success:
                    report.failed |= _failures(result, covered, report)
        finally:
            self._lake.progress = before
        report.seconds = time.monotonic() - started
        return report

    def _register(self, tables: Iterable[type[Table]]) -> list[TableBuild]:
        """Sync the catalog entries of tables, if there is a catalog."""
        reports = []
        for table in tables if self._lake.catalog is not None else ():
            report, started = TableBuild("/".join(catalog_key(table).path)), time.monotonic()
            result = self._job.execute_in_process(
                instance=self._instance,
                asset_selection=[catalog_key(table)],
                run_config=_QUIET,
                raise_on_error=False,
            )
            if not result.success:
                report.failed = {table.name: _why(result)}
            report.seconds = time.monotonic() - started
            reports.append(report)
        return reports

    def _run_checks(self, tables: list[type[Table]]) -> None:
        keys = [dg.AssetCheckKey(asset_key(table), name) for table in tables for name in families(table)]
        if keys:
            checks = self._job.get_subset(asset_selection=set(), asset_check_selection=set(keys))
            checks.execute_in_process(instance=self._instance, run_config=_QUIET, raise_on_error=False)


def _recording(
    report: TableBuild, further: Callable[[str, Cell, str], None]
) -> Callable[[str, Cell, str], None]:
    into = {"built": report.built, "unchanged": report.current, "nothing": report.nothing}

    def progress(table: str, cell: Cell, outcome: str) -> None:
        if outcome in into:
            into[outcome].append(cell)
        further(table, cell, outcome)

    return progress


def _failures(result: dg.ExecuteInProcessResult, covered: list[Cell], report: TableBuild) -> dict[str, str]:
    """Cells of a failed run with the reason each gave; where the step itself broke, all that it had not
    finished.
    """
    done = {*report.built, *report.current, *report.nothing}
    reasons: dict[str, str] = {}
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.user_failure_data:
            cells = event.step_failure_data.user_failure_data.metadata.get("cells")
            reasons |= (
                cells.value
                if isinstance(cells, dg.JsonMetadataValue) and isinstance(cells.value, dict)
                else {}
            )
    return {str(cell): reasons.get(str(cell), _why(result)) for cell in covered if cell not in done}


def _why(result: dg.ExecuteInProcessResult) -> str:
    """The first line of what broke a step."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            return (error.cause.message if error.cause else error.message).strip().split("\n", 1)[0]
    return "the run failed; see its log in the UI"
