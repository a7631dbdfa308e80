"""`lakehouse build`: a table and everything upstream of it, one run per table and rectangle of cells, in graph order."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import dagster as dg

from lakehouse.cli.collecting import work_begins
from lakehouse.datasets.market import MarketTable
from lakehouse.definitions import build_definitions
from lakehouse.defs.bronze import market_event
from lakehouse.defs.catalog import catalog_key
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS, range_tags
from lakehouse.defs.services import LakeServices
from lakehouse.defs.steps import begun_elsewhere, bronze_due, clock_note, derived_due, input_ledgers, known_markets, refresh_markets
from lakehouse.exchanges.ingest import outside_life
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ClockBehindError, NothingInRangeError, UsageError
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import LAST, TimeRange, parse_instant
from lakehouse.ops.findings import families
from lakehouse.storage.ledger import expected

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Announce = Callable[[str, int], None]


@dataclass
class TableBuild:
    """What a build did to one table.

    Attributes:
        table: Its name.
        built: Cells written.
        current: Cells that were up to date already.
        nothing: Cells in which the market was not listed.
        failed: Cells that failed, with the reason.
        notes: What else there is to say.
        seconds: Wall time, Dagster's share included.
    """

    table: str
    built: list[Cell] = field(default_factory=list)
    current: list[Cell] = field(default_factory=list)
    nothing: list[Cell] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Builder:
    """Runs builds in this process, recorded in the shared instance.

    Args:
        lake: The lake.
        instance: Dagster's instance.
        announce: Told of every table that starts, with the number of cells to come; per cell `LakeServices.progress` is told.
    """

    def __init__(self, lake: LakeServices, instance: dg.DagsterInstance, announce: Announce = lambda table, cells: None) -> None:
        self._lake = lake
        self._instance = instance
        self._announce = announce
        self._job = build_definitions(lake).resolve_implicit_global_asset_job_def()

    def add_markets(self, markets: Iterable[Market]) -> None:
        """Add markets to the universe and ask the exchanges about them.

        A market whose files are out of reach for now is added all the same: its cells say so when they are built.

        Raises:
            UnknownMarketError, UnknownExchangeError: One is not listed, or of no supported exchange; the universe stays as it is.
        """
        wanted = list(dict.fromkeys(markets))
        record, changed, failed = refresh_markets(self._lake, wanted)
        for error in failed.values():
            if isinstance(error, UsageError):
                raise error
        self._instance.add_dynamic_partitions(str(MARKETS.name), [market.key for market in wanted])
        if record and changed:
            self._instance.report_runless_asset_event(market_event(self._lake, record))

    def build(self, tables: Iterable[type[Table]], markets: list[Market], span: TimeRange) -> list[TableBuild]:
        """Build tables and all that is upstream of them.

        Only what is due is computed. A cell that fails is named and leaves the others standing, in every table.

        Args:
            tables: What to build.
            markets: For which markets; each is added to the universe if its exchange lists it.
            span: Widened to whole months, cut to each market's life.

        Returns:
            One report per table, upstream first. Cells that have begun at the exchange, but not by this machine's clock, have failed in the first.

        Raises:
            UnknownMarketError, UnknownExchangeError, ListingUnreachableError: Before any cell is written.
            RootNotWritableError: Before any cell is written, or where the store refuses later; what was built before stands.
            NothingInRangeError: No market was listed in any part of the range.
            ClockBehindError: By this machine's clock no part of the range has begun, at the exchange one has.
        """
        self._lake.objects.check_writable()
        self.add_markets(markets)
        cells, early = self._cells_in_life(markets, span)
        reports = self.build_cells(tables, cells)
        for report in reports[:1]:
            report.failed |= {str(cell): str(error) for cell, error in early.items()}
            report.notes += [note for name in dict.fromkeys(cell.own_market.exchange for cell in cells) if (note := clock_note(self._lake, self._lake.exchanges[name]))]
        return reports

    def build_cells(self, tables: Iterable[type[Table]], cells: list[Cell]) -> list[TableBuild]:
        """As `build`, of given cells of markets that are in the universe."""
        upstream = self._lake.registry.upstream(tables)
        reports: dict[type[Table], TableBuild] = {}
        for declared in upstream:
            if declared.shape != "single":
                reports[declared] = self._build_table(declared, cells)
                if reports[declared].failed:
                    self._lake.objects.check_writable()  # where the store itself is what failed, say so once instead of for every cell
        registered = self._register([MarketTable, *(declared for declared in upstream if declared.zone() != "bronze")])
        self._run_checks([declared for declared, report in reports.items() if report.built or report.failed])
        return [*reports.values(), *registered]

    def _cells_in_life(self, markets: Iterable[Market], span: TimeRange) -> tuple[list[Cell], Mapping[Cell, ClockBehindError]]:
        """The cells of markets and a range that have begun, and those that have so at the exchange alone."""
        known, first, now = known_markets(self._lake), parse_instant(self._lake.start), self._lake.clock()
        ahead = span.overlap(first, LAST)
        months = ahead.months() if ahead else ()
        cells = [Cell(month, market) for market in dict.fromkeys(markets) for month in months]
        living = [cell for cell in cells if not outside_life(cell, known.get(cell.own_market))]
        alive = [cell for cell in living if cell.window.start <= now]
        early = begun_elsewhere(self._lake, [cell for cell in living if cell.window.start > now])
        if not alive:
            for error in early.values():
                raise error
            lives = {market.key: (facts.listed, facts.delisted) for market in markets if (facts := known.get(market))}
            raise NothingInRangeError(span.start, span.end, lives, self._lake.start)
        return alive, early

    def build_derived(self, cells: Mapping[type[Table], list[Cell]]) -> list[TableBuild]:
        """Build what is due of given cells of silver and gold tables, from what is stored: no exchange is asked.

        Args:
            cells: Cells by table, upstream first.
        """
        reports = {}
        markets = dict.fromkeys(cell.market.key for some in cells.values() for cell in some if cell.market)
        self._instance.add_dynamic_partitions(str(MARKETS.name), list(markets))  # this home may be a new one
        for table, some in cells.items():
            reports[table] = self._run(table, some, derived_due(self._lake, table, some, self._lake.ledger(table.name)))
        registered = self._register(list(cells))
        self._run_checks(list(cells))
        return [*reports.values(), *registered]

    def _build_table(self, table: type[Table], requested: list[Cell]) -> TableBuild:
        return self._run(table, *self._due(table, requested))

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
                result = self._job.execute_in_process(instance=self._instance, asset_selection=[asset_key(table)], tags=tags, run_config=_QUIET, raise_on_error=False)
                if not result.success:
                    report.failed |= _failures(result, covered, report)
        finally:
            self._lake.progress = before
        report.seconds = time.monotonic() - started
        return report

    def _due(self, table: type[Table], requested: list[Cell]) -> tuple[list[Cell], list[Cell]]:
        """The cells of a table that a request covers, and those of them that must be built."""
        for dataset in self._lake.registry.datasets:
            if table in dataset.bronze:
                return requested, bronze_due(self._lake, dataset, table, requested)
        cells = touched(table, expected(table, input_ledgers(self._lake, table)), requested)
        return cells, derived_due(self._lake, table, cells, self._lake.ledger(table.name))

    def _register(self, tables: Iterable[type[Table]]) -> list[TableBuild]:
        """Sync the catalog entries of tables, if there is a catalog."""
        reports = []
        for table in tables if self._lake.catalog is not None else ():
            report, started = TableBuild("/".join(catalog_key(table).path)), time.monotonic()
            result = self._job.execute_in_process(instance=self._instance, asset_selection=[catalog_key(table)], run_config=_QUIET, raise_on_error=False)
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


def touched(table: type[Table], cells: Iterable[Cell], sources: Iterable[Cell]) -> list[Cell]:
    """Those of a table's cells that are of the windows of some sources, or look back on them."""
    wanted = {(cell.date, cell.market) for cell in sources}
    dates, markets, reach = {date for date, _ in wanted}, {market for _, market in wanted}, max(table.inputs.values(), default=0)

    def is_touched(cell: Cell) -> bool:
        if cell.market is None:
            return cell.date in dates
        return cell.market in markets and any(((cell.shift(-back) if back else cell).date, cell.market) in wanted for back in range(reach + 1))

    return [cell for cell in cells if is_touched(cell)]


def _recording(report: TableBuild, further: Callable[[str, Cell, str], None]) -> Callable[[str, Cell, str], None]:
    into = {"built": report.built, "unchanged": report.current, "nothing": report.nothing}

    def progress(table: str, cell: Cell, outcome: str) -> None:
        if outcome in into:
            into[outcome].append(cell)
        further(table, cell, outcome)

    return progress


def _failures(result: dg.ExecuteInProcessResult, covered: list[Cell], report: TableBuild) -> dict[str, str]:
    """Cells of a failed run with the reason each gave; where the step itself broke, all that it had not finished."""
    done = {*report.built, *report.current, *report.nothing}
    reasons: dict[str, str] = {}
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.user_failure_data:
            cells = event.step_failure_data.user_failure_data.metadata.get("cells")
            reasons |= cells.value if isinstance(cells, dg.JsonMetadataValue) and isinstance(cells.value, dict) else {}
    return {str(cell): reasons.get(str(cell), _why(result)) for cell in covered if cell not in done}


def _why(result: dg.ExecuteInProcessResult) -> str:
    """The first line of what broke a step."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            return (error.cause.message if error.cause else error.message).strip().split("\n", 1)[0]
    return "the run failed; see its log in the UI"
