"""One bronze cell after another from an archive: monthly files first, dailies where the month is not
published, damaged or in doubt.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

import polars as pl
import pyarrow as pa

from lakehouse.datasets.dataset import ArchiveTable, BronzeCell, Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.exchanges.exchange import Exchange, period_range
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ArchiveFileError,
    CellUnreadableError,
    LakehouseError,
    NoSourceError,
    NotInLandingError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import NONE, CellFacts, CellResult, Problem
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange, day_range
from lakehouse.model.words import count_of
from lakehouse.sources.files.listing import MarketListing, landed_files, listing_from_landing
from lakehouse.sources.files.reader import ArchiveReader, ArchiveRows, source_of
from lakehouse.storage.landing import Landing, Receipt
from lakehouse.storage.ledger import Ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import StoredCell
from lakehouse.transform.doubt import Doubt
from lakehouse.transform.history import append_news, newest, restatements

Change = Callable[[StoredCell | None], CellResult]
# What libraries raise, or panic with, on values they cannot hold or decode: it is about the bytes of one
# cell, and the next one has others. A mistake in our own code (a TypeError, a KeyError) is not among them: it
# would befall every cell, and ends the run with its trace.
_OF_CONTENT = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    pa.ArrowException,
    OverflowError,
    UnicodeError,
)


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
) -> Iterator[tuple[Cell, Change | LakehouseError | None]]:
    """Read what bronze cells are made of.

    All files that are needed for sure are fetched in one batch, in the background; a cell is yielded as soon
    as its own are there. A cell that is not stored, or damaged, gets its history back from the earlier
    versions of its files in landing.

    Args:
        dataset: What to make.
        exchange: Whose archive.
        cells: Cells of that exchange.
        listings: What the archive has, per market.
        facts: Known markets; a cell outside its market's life, of which nothing is published, yields None.
        stored: What is stored of the table: a file that a cell was made from is read again when it has
            changed.
        objects: The lake.
        clock: Tells the current instant.
        witness_of: The stored cell of the dataset's witness.

    Yields:
        Each cell with the change to apply to what is stored of it, with the error that kept it from being
        read, or with None where there is nothing.
    """
    wanted = list(cells)
    landing = Landing(objects, exchange.name)
    with ArchiveReader(exchange, dataset.archive.name, landing, clock) as reader:
        reader.prefetch(
            (listings[cell.own_market], period)
            for cell in wanted
            for period in _surely_needed(reader, listings[cell.own_market], cell)
        )
        for cell in wanted:
            listing = listings[cell.own_market]
            known = facts.get(cell.own_market)
            if not listing.primary(cell) and (
                (known is not None and not known.life.overlaps(cell.window))
                or cell.window.start >= listing.asked_until(cell)
            ):
                yield cell, None
                continue
            try:
                with _failing_alone(cell):
                    change = _read_cell(
                        dataset,
                        reader,
                        listing,
                        cell,
                        known,
                        stored[cell].inputs if cell in stored else {},
                        witness_of(cell),
                    )
            except LakehouseError as error:
                yield cell, error
            else:
                yield cell, change


def reingest(
    dataset: Dataset,
    exchange: Exchange,
    cell: Cell,
    market: MarketFacts | None,
    objects: LakeObjects,
    witness: BronzeCell | None,
    asked_until: datetime | None,
    made_from: Mapping[str, str] | None,
) -> Change:
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
                exchange.archive_key(table, own, cell.date),
                "landing has neither it nor a daily file of its month",
            )
    for period, state in known.items():
        if listing.state(period) != state:
            raise NotInLandingError(
                exchange.archive_key(table, own, period),
                "the newest version in landing is not the one that the cell was made from",
            )
    with (
        ArchiveReader(exchange, table, landing, lambda: listing.listed_at, offline=True) as reader,
        _failing_alone(cell),
    ):
        return _read_cell(dataset, reader, listing, cell, market, known, witness)


@contextlib.contextmanager
def _failing_alone(cell: Cell, place: str = "") -> Iterator[None]:
    """Turn what libraries raise on the content of a cell, or of a file of it, into an error of this cell."""
    try:
        yield
    except _OF_CONTENT as error:
        raise CellUnreadableError(str(cell), place or "it", error) from error


def _surely_needed(reader: ArchiveReader, listing: MarketListing, cell: Cell) -> list[str]:
    """Periods that will be read whatever is in them: the primary ones, and the dailies of a month already
    known to be damaged.
    """
    periods = listing.primary(cell)
    if periods == [cell.date]:
        receipt = reader.receipt(listing, cell.date)
        if receipt is not None and receipt.outcome != "ok":
            return listing.days(cell)
    return periods


def _read_cell(
    dataset: Dataset,
    reader: ArchiveReader,
    listing: MarketListing,
    cell: Cell,
    market: MarketFacts | None,
    earlier: Mapping[str, str],
    witness: BronzeCell | None,
) -> Change:
    files: dict[str, ArchiveRows] = {}
    problems: list[Problem] = []
    inputs: dict[str, str] = {}

    def read(period: str) -> ArchiveRows | None:
        inputs[period] = listing.state(period)
        if inputs[period] == NONE:
            return None
        day, rows = period if period != cell.date else "", None
        try:
            with _failing_alone(cell, listing.files[period].key):
                rows = reader.read(listing, period)
        except ArchiveFileError as error:
            problems.append(
                Problem(error.key, error.outcome, str(error).removeprefix(f"{error.key}: "), day=day)
            )
        inputs[period] = reader.state(listing, period)
        problems.extend(reader.notes(listing, period, day))
        if rows is None:
            return None
        if rows.duplicate_count:
            problems.append(
                Problem(
                    rows.receipt.key,
                    "duplicates",
                    f"{rows.duplicate_count} rows repeat another row exactly",
                    "one of each was kept",
                )
            )
        files[period] = rows
        return rows

    month = read(cell.date) if cell.date in listing.files else None
    doubts: Mapping[str, Doubt] = {}
    if month is not None:
        doubts = dataset.days_in_doubt(month.frame, cell, market, witness)
        reader.prefetch((listing, day) for day in doubts if day in listing.files)
        for day in doubts:
            read(day)
    else:
        alive = [day for day in cell.window.days() if market is None or market.life.overlaps(day_range(day))]
        days = sorted({*listing.days(cell), *alive}) if cell.date in listing.files else listing.days(cell)
        reader.prefetch((listing, day) for day in days if day in listing.files)
        complete = None not in [read(day) for day in days]
        if cell.date in listing.files and files:
            damaged = next(
                index
                for index, problem in enumerate(problems)
                if problem.subject == listing.files[cell.date].key
            )
            healed_by = (
                f"{len(files)} daily files" if complete else f"{len(files)} of {len(days)} daily files"
            )
            problems[damaged] = Problem(
                problems[damaged].subject, problems[damaged].kind, problems[damaged].detail, healed_by
            )
    left = _left_in_doubt(dataset, cell, market, witness, files, doubts, listing.asked_until(cell))
    for day, (kind, reason) in doubts.items():
        healed_by = files[day].receipt.key if day in files and day not in left else ""
        problems.append(Problem(f"{listing.files[cell.date].key} on {day}", kind, reason, healed_by, day))
    # read once, in doubt or before the month came: what it says now counts
    for period, state in earlier.items():
        if "/" in period:
            continue  # another table's version
        if period not in inputs and (now := listing.state(period)) != state and now != NONE:
            read(period)
        inputs.setdefault(period, listing.state(period))
    if not files and problems:
        raise NoSourceError(str(cell), [f"{problem.subject}: {problem.detail}" for problem in problems])
    if foreign := listing.foreign_to(cell):
        shown = ", ".join(key.rsplit("/", 1)[-1] for key in foreign[:3]) + (" …" if len(foreign) > 3 else "")
        found = (
            f"{count_of(len(foreign), 'key')} in the folders of this market that no file of it has: {shown}"
        )
        problems.append(Problem(foreign[0], "foreign", found, "left out"))
    if dataset.witness is not None:
        inputs[f"{dataset.witness.name}@{cell.date}"] = witness.version if witness else NONE
    facts = CellFacts(asked_until=listing.asked_until(cell), problems=tuple(problems), doubts=left)

    @_failing_alone(cell)
    def change(stored: StoredCell | None) -> CellResult:
        empty = dataset.archive.empty()
        history, lost = (
            (pl.concat([empty, stored.rows], how="diagonal_relaxed").select(empty.columns), [])
            if stored
            else _restored(dataset.archive, reader, listing, inputs, files)
        )
        for period, file in files.items():
            history = _with_news(dataset.archive, history, file, period)
        return CellResult(
            history,
            inputs,
            replace(
                facts,
                problems=(*facts.problems, *lost),
                restatement_count=restatements(history, dataset.archive.identity()).height,
            ),
        )

    return change


def _restored(
    table: type[ArchiveTable],
    reader: ArchiveReader,
    listing: MarketListing,
    periods: Iterable[str],
    files: Mapping[str, ArchiveRows],
) -> tuple[pl.DataFrame, list[Problem]]:
    """The history of a cell that is not stored, or no longer, as landing tells it: the versions of its files
    before those that are read now, in the order they came.
    """

    def before(period: str) -> Receipt | None:
        return files[period].receipt if period in files else None

    versions = [
        (period, receipt, rows)
        for period in periods
        if "/" not in period
        for receipt, rows in reader.versions(listing, period, before(period))
    ]
    history, lost = table.empty(), []
    for period, receipt, rows in sorted(versions, key=lambda version: version[1].fetched_at):
        if rows is not None:
            history = _with_news(table, history, rows, period)
        else:
            lost.append(
                Problem(
                    receipt.key,
                    "unreachable",
                    f"landing no longer has the version fetched at {receipt.fetched_at:%Y-%m-%d %H:%M}, so "
                    "history lacks what it said",
                )
            )
    return history, lost


def _with_news(
    table: type[ArchiveTable], history: pl.DataFrame, file: ArchiveRows, period: str
) -> pl.DataFrame:
    covers = period_range(period)
    rows = (
        file.frame.select(history.columns)
        if file.frame.height
        else _removals(table, history, file, period, covers)
    )
    return append_news(history, rows, table.identity(), table.time, covers)


def _left_in_doubt(
    dataset: Dataset,
    cell: Cell,
    market: MarketFacts | None,
    witness: BronzeCell | None,
    files: Mapping[str, ArchiveRows],
    doubts: Mapping[str, Doubt],
    asked_until: datetime,
) -> tuple[str, ...]:
    """Days that the archive leaves open: in doubt with the daily files in place of their part of the month,
    or disputed by files of which no proof prefers one.
    """
    month, time = files.get(cell.date), dataset.archive.time
    if not files or (month is not None and not doubts):
        return ()
    days = [day for day in files if day != cell.date]
    parts = [files[day].frame for day in days]
    unsettled = (
        dataset.unsettled(pl.concat([month.frame, *parts]), witness)
        if month is not None and days
        else frozenset[str]()
    )
    if month is not None:
        parts.append(month.frame.filter(~pl.col(time).dt.strftime("%Y-%m-%d").is_in(days)))
    left = dataset.days_in_doubt(pl.concat(parts).sort(time), cell, market, witness)
    return tuple(day for day in sorted({*left, *unsettled}) if day_range(day).end <= asked_until)


def _removals(
    table: type[ArchiveTable], history: pl.DataFrame, file: ArchiveRows, period: str, covers: TimeRange
) -> pl.DataFrame:
    """What a file without rows says: that its source no longer has what it had of its period."""
    source = source_of(period)
    had = newest(history.filter(source=source), table.identity()).filter(
        pl.col(table.time).is_between(covers.start, covers.end, closed="left")
    )
    lineage = {
        "source": source,
        "source_file": file.receipt.key,
        "source_sha256": file.receipt.sha256,
        "is_removed": True,
    }
    gone = (
        had.select(table.identity())
        .unique()
        .with_columns(
            pl.lit(file.receipt.fetched_at).cast(UTC_TIME).alias("fetched_at"),
            **{name: pl.lit(value) for name, value in lineage.items()},
        )
    )
    return pl.concat([history.clear(), gone], how="diagonal")
