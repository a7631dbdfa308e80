"""What a build has to do. Nothing here needs Dagster, so a build with nothing due ends before that is
imported.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from lakehouse.exchanges.exchange import can_have
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ClockBehindError,
    LakehouseError,
    NothingInRangeError,
    NotOfThisTypeError,
    UsageError,
)
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import FIRST, LAST, TimeRange, month_of, month_range, parse_instant
from lakehouse.pipeline.clocks import begun_elsewhere, clock_note
from lakehouse.pipeline.costs import Cost, alone, costs
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import refresh_markets
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.pipeline.windows import is_alive

_ASKED_WITHIN = timedelta(days=1)  # market facts that are younger do for a build

Meant = tuple[list[Cell], list[Cell]]
"""The cells of a table that a request covers, and those of them that must be built."""


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


class Plan:
    """What a build of some markets and a range comes to. The exchanges are asked about the markets when it is
    made.

    Args:
        lake: The lake.
        markets: For which markets.
        span: Widened to whole months, cut to each market's life; all of time if left out.
        asked_within: Market facts that are younger than this do; with none, exchanges are asked.

    Attributes:
        markets: Each once.
        record: That of `silver/market`; None if there is none.
        changed: Whether something new is known of a market.
        has: What the lake has, as it was when the plan was made.
        due: What is due, of the tables that were asked about by now.

    Raises:
        UnknownMarketError, UnknownExchangeError: A market is not listed, or of no supported exchange.
        ListingUnreachableError: An archive does not answer.
    """

    def __init__(
        self,
        lake: LakeServices,
        markets: Iterable[Market],
        span: TimeRange | None = None,
        asked_within: timedelta = _ASKED_WITHIN,
    ) -> None:
        self._span = span or TimeRange(FIRST, LAST)
        self.markets = list(dict.fromkeys(markets))
        self.record, self.changed, failed = refresh_markets(lake, self.markets, asked_within)
        for error in failed.values():
            if isinstance(error, UsageError):
                raise error
        self.has = Inventory(lake, self.markets, is_theirs_alone=True, span=self._begun(lake))
        self.due: dict[type[Table], Meant] = {}
        self._costs: dict[tuple[type[Table], ...], list[Cost]] = {}

    def _begun(self, lake: LakeServices) -> TimeRange | None:
        """The part of the range that lies in the lake's months that have begun; None if there is none."""
        now = lake.clock()
        return self._span.overlap(parse_instant(lake.start), min(lake.until, month_range(month_of(now)).end))

    @cached_property
    def cells(self) -> tuple[list[Cell], Mapping[Cell, ClockBehindError]]:
        """The months that have begun, and why not of those that have begun at the exchange alone.

        Raises:
            NothingInRangeError: No market was listed in any part of the range.
            ClockBehindError: By this machine's clock no part of the range has begun, at the exchange one has.
        """
        lake, known = self.has.lake, self.has.known
        ahead = self._span.overlap(parse_instant(lake.start), lake.until)
        months = ahead.months() if ahead else ()
        cells = [Cell(month, market) for market in self.markets for month in months]
        living = [cell for cell in cells if is_alive(cell, known)]
        alive = [cell for cell in living if cell.window.start <= self.has.now]
        early = begun_elsewhere(self.has, [cell for cell in living if cell.window.start > self.has.now])
        if not alive:
            for error in early.values():
                raise error
            lives = {
                market.key: (facts.listed, facts.delisted)
                for market in self.markets
                if (facts := known.get(market))
            }
            raise NothingInRangeError(self._span.start, self._span.end, lives, lake.start, lake.end)
        return alive, early

    def current(self, tables: Iterable[type[Table]]) -> list[TableBuild] | None:
        """The reports of a build in which nothing is due; None if something is, or cannot be told."""
        reports = []
        with contextlib.suppress(LakehouseError):  # whoever builds meets it again, and says so
            cells, early = self.cells
            upstream = [table for table in self.has.lake.registry.upstream(tables) if table.spread != "one"]
            for number, table in enumerate(upstream if not early else ()):
                started = time.monotonic()
                self.due[table] = covered, due = meant(self.has, table, cells)
                if due:
                    return None
                reports.append(TableBuild(table.name, current=covered, seconds=time.monotonic() - started))
                self.has.keep_only({name for later in upstream[number + 1 :] for name in later.input_names()})
            return self.told(reports) if not early else None
        return None

    def costs(self, tables: Iterable[type[Table]]) -> list[Cost]:
        """What is to be asked of REST APIs that alone can tell it, as it was when the plan was made."""
        upstream = tuple(self.has.lake.registry.upstream(tables))
        if upstream not in self._costs:
            due = {
                recipe: meant(self.has, table, months)[1]
                for table in upstream
                if (recipe := recipes(self.has.lake.registry).get(table))
                and (months := alone(self.has, recipe, self.cells[0]))
            }
            self._costs[upstream] = costs(self.has, due)
        return self._costs[upstream]

    def outlook(self, tables: Iterable[type[Table]]) -> dict[str, int]:
        """How many cells of each table are due as the lake is now; what is made from these follows."""
        upstream = [table for table in self.has.lake.registry.upstream(tables) if table.spread != "one"]
        return {table.name: len(meant(self.has, table, self.cells[0])[1]) for table in upstream}

    def told(self, reports: list[TableBuild]) -> list[TableBuild]:
        """Reports with what the clocks have to say, in the first of them."""
        cells, early = self.cells
        for report in reports[:1]:
            report.failed |= {str(cell): str(error) for cell, error in early.items()}
            exchanges = dict.fromkeys(cell.own_market.exchange for cell in cells)
            report.notes += [
                note for name in exchanges if (note := clock_note(self.has, self.has.lake.exchanges[name]))
            ]
        return reports


def meant(has: Inventory, table: type[Table], months: list[Cell]) -> Meant:
    """The cells of a table that a request for some months covers, and those of them that must be built.

    Args:
        has: What the lake has.
        table: The table.
        months: The months that are asked for, of each market.
    """
    recipe = recipes(has.lake.registry)[table]
    covered = recipe.covered(has, months)
    return covered, recipe.told(has, covered).among(covered)


def nobody_can_have(
    lake: LakeServices, tables: Iterable[type[Table]], markets: Iterable[Market]
) -> NotOfThisTypeError | None:
    """That none of some markets can have any of some tables, whatever is built; None where one can."""
    by_market, asked = [each for each in tables if each.spread == "market"], list(markets)
    if not by_market or any(can_have(lake.exchanges, each, market) for market in asked for each in by_market):
        return None
    names, keys = (
        ", ".join(words[:10]) for words in ([each.name for each in by_market], [m.key for m in asked])
    )
    return NotOfThisTypeError(names, keys, by_market[0].market_types)


def are_partitions(home: Path, markets: Iterable[Market]) -> bool:
    """Whether all markets are partitions in a home of Dagster; False as well where that cannot be told
    without Dagster, as of Postgres.

    Args:
        home: Its folder, in whose SQLite files `dagster.yaml` keeps everything.
        markets: Which markets.
    """
    with contextlib.suppress(OSError, sqlite3.Error):
        if not keeps_sqlite(home):
            return False
        index = (home / "history" / "runs" / "index.db").absolute()
        with contextlib.closing(
            sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True, timeout=1)
        ) as connection:
            found = connection.execute(
                "SELECT partition FROM dynamic_partitions WHERE partitions_def_name = 'market'"
            ).fetchall()
        return {market.key for market in markets} <= {key for (key,) in found}
    return False


def keeps_sqlite(home: Path) -> bool:
    """Whether a home of Dagster keeps everything in SQLite files of its own, as the package's `dagster.yaml`
    says.
    """
    config = home / "dagster.yaml"
    return config.is_file() and "class: KeptSqliteStorage" in config.read_text("utf-8")
