"""Bronze tables that are made from archive files."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, groupby

import polars as pl

from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.market import MarketTable
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseError, UsageError
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import NONE
from lakehouse.model.words import count_of
from lakehouse.pipeline.inventory import Inventory, by_exchange
from lakehouse.pipeline.markets import refresh_markets
from lakehouse.pipeline.recipe import Due, Recipe
from lakehouse.pipeline.windows import closed_months, in_grain, those_that_can_have
from lakehouse.pipeline.workers import ahead, in_order
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import MarketListing
from lakehouse.storage.due import Standing
from lakehouse.storage.outcome import Failed, Outcome, kept
from lakehouse.storage.tables import CellRecord

_AT_ONCE = 32  # markets whose listings are held at once while it is only told what is due


class FromFiles(Recipe):
    """Cells read from archive files, and judged by the dataset's witness.

    Args:
        dataset: Whose archive table.
    """

    asks_outside = True

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.table = dataset.archive

    def look(self, has: Inventory, cells: Iterable[Cell]) -> None:
        has.list_files(self.table.name, cells, is_enough_to_tell=True)

    def told(self, has: Inventory, cells: list[Cell]) -> Due:
        reasons: dict[Cell, object] = {}
        untold: dict[Cell, LakehouseError | None] = {}
        ordered = sorted(cells, key=lambda cell: cell.own_market)
        by_market = [list(group) for _, group in groupby(ordered, key=lambda cell: cell.own_market)]
        for start in range(0, len(by_market), _AT_ONCE):  # the listings of all markets take much memory
            due = super().told(has, list(chain.from_iterable(by_market[start : start + _AT_ONCE])))
            reasons.update(due.reasons)
            untold.update(due.untold)
            del has.listings[self.table.name], has.unlisted[self.table.name]
        return Due(reasons, untold)

    def expected(self, has: Inventory) -> list[Cell]:
        stored = [
            cell for cell in has.ledger(self.table.name) if has.markets is None or cell.market in has.markets
        ]
        return list(dict.fromkeys([*in_grain(self.table, closed_months(has, self.dataset), has), *stored]))

    def standing(self, has: Inventory) -> Standing:
        """Cells are fresh that were judged by today's witness, and by today's meaning of the table: whether
        their files are today's, only archives tell.
        """
        judged = has.ledger(self.table.name).frame.filter(pl.col("code_version") == self.table.code_version)
        if (witness := self.dataset.witness) is not None:
            said = has.ledger(witness.name).frame.select("key", "date", said="version")
            by = pl.format('"{}@{}": "{}"', pl.lit(witness.name), "date", pl.col("said").fill_null(NONE))
            judged = judged.join(said, on=("key", "date"), how="left")
            judged = judged.filter(pl.col("inputs").str.contains(by, literal=True))
        return Standing.told(self.expected(has), judged)

    def covered(self, has: Inventory, requested: list[Cell]) -> list[Cell]:
        return in_grain(self.table, requested, has)

    def due(self, has: Inventory, cells: Iterable[Cell]) -> Due:
        """Cells whose files or witness are not those they were made from.

        Where nothing was listed, only the lake itself is asked: what is absent, judged by another witness, or
        written by another meaning of the table.
        """
        stored = has.ledger(self.table.name)
        reasons: dict[Cell, object] = {}
        untold: dict[Cell, LakehouseError | None] = {}
        outdated: dict[Cell, object] = {}
        is_listed = self.table.name in has.listings
        for cell in self._published(has, cells):
            listing = has.listings[self.table.name].get(cell.own_market) if is_listed else None
            if is_listed and listing is None:
                untold[cell] = has.unlisted[self.table.name].get(cell.own_market)
            if listing is not None and listing.is_due(cell, stored.get(cell)):
                reasons[cell] = files_of(listing, cell, stored.get(cell))
            elif not is_listed and cell not in stored:
                reasons[cell] = "absent"
            elif (witness := self._judged_by_another(has, cell)) is not None:
                reasons[cell] = witness
            elif self.is_outdated(has, cell):
                outdated[cell] = (
                    f"made by code version {stored[cell].code_version}, not {self.table.code_version}"
                )
        return Due(reasons | outdated, untold)  # there may be very many outdated ones: last

    def why(self, has: Inventory, cell: Cell, record: CellRecord, reason: object) -> str:
        listing = has.listings.get(self.table.name, {}).get(cell.own_market)
        if listing is None:
            return "judged by another witness"
        was = {period: state for period, state in record.inputs.items() if "/" not in period}
        replaced = [period for period, state in was.items() if listing.state(period) != state]
        added = [period for period in listing.primary(cell) if period not in was]
        if replaced:
            return "file replaced" if len(replaced) == 1 else f"{len(replaced)} files replaced"
        if added:
            is_of_days = Period.parse(added[0]).kind == "day"
            return count_of(len(added), "new day") if is_of_days else "new month"
        is_due = listing.is_due(cell, record)
        return "more of the month is published" if is_due else "judged by another witness"

    def _published(self, has: Inventory, cells: Iterable[Cell]) -> list[Cell]:
        """The cells of markets that can have the table, whose exchange's archive has files of it."""
        publishing = {name for name, own in has.lake.exchanges.items() if self.table.name in own.files}
        asked = (cell for cell in cells if cell.own_market.exchange in publishing)
        return those_that_can_have(self.table, asked, has)

    def published(self, has: Inventory, cells: Iterable[Cell]) -> dict[Cell, str]:
        """Those of some cells, of markets that were listed, whose files are not those they were made from."""
        stored, listings = has.ledger(self.table.name), has.listings.get(self.table.name, {})
        return {
            cell: files_of(listing, cell, stored.get(cell))
            for cell in cells
            if (listing := listings[cell.own_market]).is_due(cell, stored.get(cell))
        }

    def _judged_by_another(self, has: Inventory, cell: Cell) -> str | None:
        """The version of the witness by which a stored cell is to be judged, if it was judged by another."""
        stored, witness = has.ledger(self.table.name).get(cell), self.dataset.witness
        if stored is None or witness is None:
            return None
        said = has.ledger(witness.name).get(cell)
        version = said.version if said else NONE
        return version if stored.inputs.get(f"{witness.name}@{cell.date}", NONE) != version else None

    def make(self, has: Inventory, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        refused = self._learn(has, {cell.own_market for cell in cells} - has.known.keys())
        yield from ((cell, Failed(refused[cell.own_market])) for cell in cells if cell.own_market in refused)
        asked = [cell for cell in cells if cell.own_market not in refused]
        has.list_files(self.table.name, asked)
        due, stored = self.due(has, asked), has.ledger(self.table.name)
        for cell in asked:
            if error := due.untold.get(cell):
                yield cell, Failed(error)
            elif cell not in due.reasons:
                yield cell, kept(stored.get(cell))
        to_read = [cell for cell in asked if cell in due.reasons and cell not in due.untold]
        for exchange, markets in by_exchange(has.lake, (cell.own_market for cell in to_read)):
            reading = ingest(
                self.dataset,
                exchange,
                [cell for cell in to_read if cell.market in markets],
                has.listings[self.table.name],
                has.known,
                stored,
                has.lake.objects,
                has.lake.clock,
                lambda cell: has.witness(self.dataset, cell),
                partial(in_order, workers=has.lake.in_flight),
            )
            yield from ahead(reading, has.lake.workers)

    @staticmethod
    def _learn(has: Inventory, unknown: set[Market]) -> dict[Market, LakehouseError]:
        """Ask about markets that nobody asked about yet, such as those added in the UI; those that no
        exchange lists, with the reason. What is out of reach is for the cells themselves to find.
        """
        if not unknown:
            return {}
        record, changed, failed = refresh_markets(has.lake, unknown)
        has.forget(MarketTable.name)
        if record and changed:
            has.wrote(MarketTable, record)
        return {market: error for market, error in failed.items() if isinstance(error, UsageError)}


def files_of(listing: MarketListing, cell: Cell, record: CellRecord | None) -> str:
    """The files that decide whether a cell is due, as text, whatever else was listed with them: why it is
    due.

    Args:
        listing: What is listed.
        cell: The cell.
        record: What is stored of it.
    """
    made_from = [name for name in record.inputs if "/" not in name] if record else []
    periods = dict.fromkeys((cell.date, *listing.primary(cell), *made_from))
    return f"{ {period: listing.state(period) for period in periods} } until {listing.asked_until(cell)}"
