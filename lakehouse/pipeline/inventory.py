"""What a step, a tick or a command reads of the lake, once."""

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property, partial
from itertools import groupby

from lakehouse.datasets.dataset import BronzeCell, Dataset
from lakehouse.datasets.market import MarketFacts, MarketTable
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.cell import Cell
from lakehouse.model.errors import FetchError, LakehouseError
from lakehouse.model.input import touched_dates
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import FIRST, LAST, Months, TimeRange, month_range
from lakehouse.pipeline.markets import known_markets
from lakehouse.pipeline.services import LakeServices
from lakehouse.sources.files.listing import MarketListing, list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.layout import cell_path
from lakehouse.storage.ledger import NARROW, CellLedger, Ledger, Survey, narrowed, survey
from lakehouse.storage.tables import CellRecord, StoredCell

_LISTED_AT_ONCE = 16
_READ_AT_ONCE = 8

Part = tuple[type[Table], Cell]
"""A cell of a table that another cell is made of."""


class Inventory:
    """One look at the lake: ledgers, market facts and the time are read when first asked for, and stay.

    An inventory lives for one step, tick or command. Where a command writes a table, `forget` has it read
    again.

    Args:
        lake: The lake.
        markets: The markets that matter, whose cells alone are surveyed; None for all.
        wrote: Told of a cell of another table that a step had to write first.
        is_theirs_alone: Whether an object for all markets is due only for what it was made of these.
        span: The range of time that matters: no cells are surveyed but those that touch it, those that look
            back on these, and what they are made from; None for all of time.

    Attributes:
        lake: The lake.
        markets: The markets that matter; None for all.
        span: The range of time that matters; None for all.
        is_theirs_alone: As said; not where the whole table has to be listed anyhow.
        now: The instant of the look.
        listings: What archives have, by bronze table and market, of what was listed.
        begun: The months that datasets should have, by market, once they were asked about.
        unlisted: Why a market could not be listed, by bronze table and market.
        facts: What tells the version of market facts in a cell, by table, once it was asked for.
    """

    def __init__(
        self,
        lake: LakeServices,
        markets: Iterable[Market] | None = None,
        wrote: Callable[[type[Table], CellRecord], None] = lambda table, record: None,
        is_theirs_alone: bool = False,
        span: TimeRange | None = None,
    ) -> None:
        self.lake = lake
        self.span = span
        self.markets: Collection[Market] | None = None if markets is None else dict.fromkeys(markets)
        self.is_theirs_alone = is_theirs_alone and self.markets is not None and len(self.markets) <= NARROW
        lake.clients.concern(self.markets or ())
        self.now = lake.clock()
        self.wrote = wrote
        self.listings: dict[str, dict[Market, MarketListing]] = {}
        self.unlisted: dict[str, dict[Market, LakehouseError]] = {}
        self.begun: dict[Dataset, dict[Market, list[Cell]]] = {}
        self.facts: dict[str, Callable[[Cell], str]] = {}
        self._surveys: dict[str, Survey] = {}
        self._whole: dict[str, Survey] = {}
        self._by_date: dict[str, dict[str, list[Cell]]] = {}
        self._clients: dict[str, ArchiveClient] = {}
        self._ahead: dict[tuple[str, Cell], Future[StoredCell | None]] = {}

    # --- what is stored ---------------------------------------------------------------------------

    @cached_property
    def known(self) -> dict[Market, MarketFacts]:
        """Every market that `silver/market` has."""
        return known_markets(self.lake)

    def survey(self, table: str) -> Survey:
        """The stored cells of a table of the markets that matter, and the objects in their folders that are
        none.
        """
        if table not in self._surveys:
            declared = self.lake.registry.table(table)
            if self.markets is not None and declared.spread == "market" and len(self.markets) > NARROW:
                self._surveys[table] = narrowed(self.whole(table), declared, self.markets)
            else:
                months = self._months(declared)
                self._surveys[table] = survey(self.lake.objects, declared, self.markets, months)
        return self._surveys[table]

    def whole(self, table: str) -> Survey:
        """As `survey`, of all markets: what a table of one object for all of them is made from."""
        if self.markets is None:
            return self.survey(table)
        if table not in self._whole:
            declared = self.lake.registry.table(table)
            self._whole[table] = survey(self.lake.objects, declared, None, self._months(declared))
        return self._whole[table]

    def look_at(self, *tables: type[Table]) -> None:
        """Where asking a store means waiting, have tables and their inputs surveyed at once, not each when it
        is first asked for.
        """
        if self.lake.objects.is_local:
            return
        names = dict.fromkeys(name for table in tables for name in (table.name, *table.input_names()))
        declared = (self.lake.registry.table(name) for name in names if name not in self._surveys)
        surveys = [partial(self.survey, table.name) for table in declared if table.spread != "one"]
        self.lake.objects.together(lambda: self.known, *surveys)

    def _months(self, table: type[Table]) -> Months | None:
        """The months of a table that matter; None for all."""
        return months_about(self.lake.registry.tables, table, self.span) if self.span else None

    def ledger(self, table: str) -> CellLedger:
        """The stored cells of a table."""
        return self.survey(table)[0]

    def ledgers(self, table: type[Table]) -> dict[str, CellLedger]:
        """The ledgers of a table's inputs, by name."""
        return {name: self.ledger(name) for name in table.input_names()}

    def of_date(self, table: str, date: str) -> Ledger:
        """The stored cells of one window of a table, of all markets."""
        stored = self.whole(table)[0]
        if table not in self._by_date:
            parted = self._by_date[table] = dict[str, list[Cell]]()
            for cell in stored:
                parted.setdefault(cell.date, []).append(cell)
        return {cell: stored[cell] for cell in self._by_date[table].get(date, ())}

    def read(self, table: type[Table], cell: Cell) -> StoredCell | None:
        """A stored cell with its rows; None if there is none."""
        ahead = self._ahead.pop((table.name, cell), None)
        if ahead is not None:
            with contextlib.suppress(CancelledError):  # given up by who began it
                return ahead.result()
        return self.lake.tables.get(table, cell)

    def reading_ahead(self, cells: Iterable[Cell], parts: Callable[[Cell], Iterable[Part]]) -> Iterator[Cell]:
        """Cells, each a few after it was begun to read what it is made of; where nothing waits for a network,
        that is left to who computes it.

        Args:
            cells: The cells.
            parts: What of each will be read.
        """
        if self.lake.in_flight == 1:
            yield from cells
            return
        begun: deque[Cell] = deque()
        is_given_up = True
        pool = ThreadPoolExecutor(_READ_AT_ONCE, thread_name_prefix="lakehouse-ahead")
        try:
            for cell in cells:
                for table, part in parts(cell):
                    self._ahead[table.name, part] = pool.submit(self.lake.tables.get, table, part)
                begun.append(cell)
                if len(begun) > self.lake.in_flight:
                    yield begun.popleft()
            yield from begun
            is_given_up = False  # the last ones are still to be computed, of what is being read for them
        finally:
            pool.shutdown(wait=False, cancel_futures=is_given_up)
            if is_given_up:
                self._ahead.clear()

    def may_be_there(self, table: type[Table], cell: Cell) -> bool:
        """Whether a survey of the table saw an object of a cell, sound or not."""
        stored, foreign = self.survey(table.name)
        return cell in stored or cell_path(table, cell) in {error.path for error in foreign}

    def bronze(
        self, dataset: Dataset, cell: Cell, tables: Sequence[type[Table]] | None = None
    ) -> dict[str, BronzeCell]:
        """The bronze cells that a silver cell is made from, by table name; of some tables alone, where it is
        known that the others have none.
        """
        asked = dataset.bronze if tables is None else tables
        read = self.lake.objects.together(*(partial(self.read, table, cell) for table in asked))
        found = zip(asked, read, strict=True)
        return {table.name: bronze_cell(stored) for table, stored in found if stored}

    def witness(self, dataset: Dataset, cell: Cell) -> BronzeCell | None:
        """The stored cell of a dataset's witness; None if there is none."""
        stored = self.read(dataset.witness, cell) if dataset.witness else None
        return bronze_cell(stored) if stored else None

    def forget(self, table: str) -> None:
        """Have a table read again that was written since."""
        self._surveys.pop(table, None)
        self._whole.pop(table, None)
        self._by_date.pop(table, None)
        for read in [each for each in list(self._ahead) if each[0] == table]:
            self._ahead.pop(read, None)
        self.begun.clear()
        self.facts.clear()
        if table == MarketTable.name:
            self.__dict__.pop("known", None)

    def keep_only(self, tables: Collection[str]) -> None:
        """Let go of the ledgers of all other tables, and of the records of these: a kilobyte a cell each."""
        for held in (self._surveys, self._whole, self._by_date):
            for name in held.keys() - tables:
                del held[name]  # type: ignore[attr-defined]
        for stored, _ in (*self._surveys.values(), *self._whole.values()):
            stored.forget()

    def distrust(self, table: str) -> None:
        """Take what is stored of a table for absent, so that all of it is due; what it is made from stays."""
        stored, foreign = self.survey(table)
        self._surveys[table] = stored.of_markets([]), foreign

    # --- what archives have -----------------------------------------------------------------------

    def begin_listing(self, table: str) -> tuple[dict[Market, MarketListing], dict[Market, LakehouseError]]:
        """Take note that archives are looked at for a table: a market without a listing is one that nobody
        can tell of. Returns its listings and what could not be listed.
        """
        return self.listings.setdefault(table, {}), self.unlisted.setdefault(table, {})

    def list_files(self, table: str, cells: Iterable[Cell], is_enough_to_tell: bool = False) -> None:
        """List what archives have for the markets and months of some cells; a market that alone cannot be
        listed is noted as `unlisted`.

        Args:
            table: The bronze table.
            cells: Which cells.
            is_enough_to_tell: List only what tells which cells are due, and not all that they are made of.

        Raises:
            ListingUnreachableError: An archive does not answer.
        """
        spans: dict[Market, TimeRange] = {}
        made_from: dict[Market, set[str]] = {}
        stored = self.ledger(table) if is_enough_to_tell else {}
        for cell in cells:
            market, span = cell.own_market, cell.window
            known = spans.get(market, span)
            spans[market] = TimeRange(min(known.start, span.start), max(known.end, span.end))
            if is_enough_to_tell:
                made_from.setdefault(market, set()).update(stored[cell].inputs if cell in stored else ())
        listings, unlisted = self.begin_listing(table)
        for exchange, markets in by_exchange(self.lake, spans):
            if table not in exchange.files:
                continue
            client = self._client_of(exchange)

            def ask_for(
                market: Market, exchange: Exchange = exchange, client: ArchiveClient = client
            ) -> MarketListing | FetchError:
                try:
                    return list_market(
                        client,
                        exchange,
                        table,
                        market,
                        spans[market],
                        self.lake.clock(),
                        made_from.get(market),
                    )
                except FetchError as error:  # of this market's own folder
                    return error

            with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:  # the time is the network's
                for market, found in zip(markets, pool.map(ask_for, markets), strict=True):
                    if isinstance(found, FetchError):
                        unlisted[market] = found
                    else:
                        listings[market] = found
            modified = (
                file.last_modified
                for market in markets
                if market in listings
                for file in listings[market].files.values()
            )
            self.lake.clients.note_files(exchange.name, modified)

    def _client_of(self, exchange: Exchange) -> ArchiveClient:
        """The client of an archive: one for all of a look, whose connections stay open."""
        if exchange.name not in self._clients:
            self._clients[exchange.name] = ArchiveClient.of(exchange)
        return self._clients[exchange.name]


def span_of(cells: Collection[Cell]) -> TimeRange | None:
    """From the start of the first of some cells to the end of the last; None of none."""
    windows = [cell.window for cell in {cell.date: cell for cell in cells}.values()]
    if not windows:
        return None
    return TimeRange(min(each.start for each in windows), max(each.end for each in windows))


def months_about(tables: Iterable[type[Table]], table: type[Table], span: TimeRange) -> Months:
    """The months of a table whose cells touch a range of time, look back on cells that do, or are what either
    kind is made from, of this table or of those made from it.

    Args:
        tables: All tables.
        table: Whose months.
        span: The range.
    """
    back = ahead = timedelta()
    for each in tables:
        reach = max((source.lookback for source in each.inputs), default=timedelta())
        for source in each.inputs:
            if table in (each, source.table):
                back = max(back, source.lookback if table is source.table else timedelta())
                ahead = max(ahead, reach)
    whole = span.months()
    start, end = month_range(whole[0]).start, month_range(whole[-1]).end
    start = start - back if start - FIRST > back else FIRST
    return TimeRange(start, end + ahead if LAST - end > ahead else LAST).months()


def bronze_cell(stored: StoredCell) -> BronzeCell:
    """A stored bronze cell as silver reads it."""
    return BronzeCell(stored.rows, stored.record.version, stored.record.facts)


def by_exchange(lake: LakeServices, markets: Iterable[Market]) -> Iterable[tuple[Exchange, list[Market]]]:
    """Markets by the exchange they belong to.

    Raises:
        UnknownExchangeError: One belongs to none that is supported.
    """
    ordered = sorted(dict.fromkeys(markets), key=lambda market: market.exchange)
    for _, group in groupby(ordered, key=lambda market: market.exchange):
        members = list(group)
        yield lake.exchange(members[0]), members


def inputs_by_date(has: Inventory, table: type[Table], date: str) -> Mapping[str, Ledger]:
    """What a table by month reads of its inputs' ledgers."""
    return {
        each.name: {
            cell: record
            for of_input in touched_dates(date, each.table.grain, each.lookback)
            for cell, record in has.of_date(each.name, of_input).items()
        }
        for each in table.inputs
    }
