"""One bronze cell after another from an archive: monthly files first, dailies where the month is not
published, damaged or in doubt.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TypeAlias

from lakehouse.datasets.dataset import BronzeCell, Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    LakehouseError,
    NotInLandingError,
)
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import NONE
from lakehouse.sources.files.cells import Apply, failing_alone, read_cell
from lakehouse.sources.files.listing import ArchiveFile, MarketListing, landed_files, listing_from_landing
from lakehouse.sources.files.reader import ArchiveReader
from lakehouse.storage.landing import Landing
from lakehouse.storage.ledger import Ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Change, Failed, Nothing, Outcome

Making: TypeAlias = Callable[[Iterable[Cell], Callable[[Cell], Outcome]], Iterator[tuple[Cell, Outcome]]]
"""How cells are made, in their order: one after another, or some beside each other."""


def one_by_one(cells: Iterable[Cell], make: Callable[[Cell], Outcome]) -> Iterator[tuple[Cell, Outcome]]:
    """Make each cell when it is asked for."""
    return ((cell, make(cell)) for cell in cells)


def ingest(
    dataset: Dataset,
    exchange: Exchange,
    cells: Iterable[Cell],
    listings: Mapping[Market, MarketListing],
    facts: Mapping[Market, MarketFacts],
    stored: Ledger,
    objects: LakeObjects,
    clock: Callable[[], datetime],
    witness_of: Callable[[Cell], BronzeCell | None] = lambda cell: None,
    making: Making = one_by_one,
) -> Iterator[tuple[Cell, Outcome]]:
    """Read what bronze cells are made of.

    All files that are needed for sure are fetched in one batch, in the background; a cell is yielded as soon
    as its own are there. A cell that is not stored, or damaged, gets its history back from the earlier
    versions of its files in landing.

    Args:
        dataset: What to make.
        exchange: Whose archive.
        cells: Cells of that exchange.
        listings: What the archive has, per market.
        facts: Known markets; a cell outside its market's life, of which nothing is published, yields
            nothing to store.
        stored: What is stored of the table: a file that a cell was made from is read again when it has
            changed.
        objects: The lake.
        clock: Tells the current instant.
        witness_of: The stored cell of the dataset's witness.
        making: How the cells are read.

    Yields:
        Each cell with what becomes of it: a change to what is stored of it, the error that kept it from being
        read, or nothing.
    """
    wanted = list(cells)
    landing = Landing(objects, exchange.name)
    with ArchiveReader(exchange, dataset.archive, landing, clock) as reader:
        reader.prefetch(
            file for cell in wanted for file in _surely_needed(reader, listings[cell.own_market], cell)
        )

        def read(cell: Cell) -> Outcome:
            listing, known = listings[cell.own_market], facts.get(cell.own_market)
            if not listing.primary(cell) and (
                (known is not None and not known.life.overlaps(cell.window))
                or cell.window.start >= listing.asked_until(cell)
            ):
                return Nothing()
            earlier = stored[cell].inputs if cell in stored else {}
            try:
                with failing_alone(cell):
                    made = read_cell(dataset, reader, listing, cell, known, earlier, witness_of(cell))
                    return Change(made, is_new=cell not in stored)
            except LakehouseError as error:
                return Failed(error)

        yield from making(wanted, read)


def reingest(
    dataset: Dataset,
    exchange: Exchange,
    cell: Cell,
    market: MarketFacts | None,
    objects: LakeObjects,
    witness: BronzeCell | None,
    asked_until: datetime | None,
    made_from: Mapping[str, str] | None,
) -> Apply:
    """Make a cell of the archive table again from landing alone; `change(None)` is the cell as it was stored,
    if landing has all that it was made of.

    Args:
        dataset: What to make.
        exchange: Whose archive; it is asked for nothing.
        cell: Which cell.
        market: What is known of its market.
        objects: The lake.
        witness: The stored cell of the dataset's witness.
        asked_until: Until when the archive had answered for the cell, as the cell said; None where that is
            not known, so that no claim beyond its files is made.
        made_from: The inputs that the cell said it was made from. With None, because nobody knows them, all
            that landing has of its month and days counts, and what landing has not is taken not to have been
            published: the cell is due at the next build wherever the archive says otherwise.

    Raises:
        NotInLandingError: Landing does not have, or not in the version that the cell was made from, what it
            takes; or nothing of it.
        CellError: As `ingest` yields.
    """
    table, own = dataset.archive.name, cell.own_market
    known = (
        {period: state for period, state in made_from.items() if "/" not in period}
        if made_from is not None
        else None
    )
    landing = Landing(objects, exchange.name)
    landed = landed_files(landing, exchange, table, own, {cell.date, *cell.window.days()})
    listed = (
        landed.receipts
        if known is None
        else {
            period: receipts
            for period, receipts in landed.receipts.items()
            if known.get(period, NONE) != NONE
        }
    )
    listing = listing_from_landing(
        exchange, table, own, listed, (asked_until or cell.window.start) + exchange.grace
    )
    if known is None:
        known = {period: listing.state(period) for period in listing.files}
        if landed.unsound:
            raise NotInLandingError(
                next(iter(landed.unsound.values())),
                "a receipt of it is damaged, so its newest version is not known",
            )
        if not known:
            raise NotInLandingError(
                exchange.files[table].key(own, cell.period),
                "landing has neither it nor a daily file of its month",
            )
    for period, state in known.items():
        if listing.state(period) != state:
            raise NotInLandingError(
                exchange.files[table].key(own, Period.parse(period)),
                "the newest version in landing is not the one that the cell was made from",
            )
    with (
        ArchiveReader(exchange, dataset.archive, landing, lambda: listing.listed_at, offline=True) as reader,
        failing_alone(cell),
    ):
        return read_cell(dataset, reader, listing, cell, market, known, witness)


def _surely_needed(reader: ArchiveReader, listing: MarketListing, cell: Cell) -> list[ArchiveFile]:
    """Files that will be read whatever is in them: the primary ones, and the dailies of a month already known
    to be damaged.
    """
    periods = listing.primary(cell)
    if periods == [cell.date]:
        receipt = reader.receipt(listing.file(cell.date))
        if receipt is not None and receipt.outcome != "ok":
            periods = listing.days(cell)
    return [listing.file(period) for period in periods]
