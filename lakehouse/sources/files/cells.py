"""One bronze cell from archive files: its own file with the days of it that are in doubt, or the days in its
place, and the history that they make.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

import polars as pl
import pyarrow as pa

from lakehouse.datasets.dataset import ArchiveTable, BronzeCell, Dataset
from lakehouse.datasets.market import MarketFacts
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ArchiveFileError,
    CellUnreadableError,
    NoSourceError,
)
from lakehouse.model.period import Period
from lakehouse.model.result import NONE, CellFacts, CellResult, Problem
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import day_range
from lakehouse.model.words import count_of
from lakehouse.sources.files.listing import MarketListing
from lakehouse.sources.files.reader import SOURCES, ArchiveReader, ArchiveRows
from lakehouse.storage.landing import Receipt
from lakehouse.storage.tables import StoredCell
from lakehouse.transform.doubt import Doubt
from lakehouse.transform.history import append_news, newest, restatements

Apply = Callable[[StoredCell | None], CellResult]
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


@contextlib.contextmanager
def failing_alone(cell: Cell, place: str = "") -> Iterator[None]:
    """Turn what libraries raise on the content of a cell, or of a file of it, into an error of this cell."""
    try:
        yield
    except _OF_CONTENT as error:
        raise CellUnreadableError(str(cell), place or "it", error) from error


class _Reading:
    """What is read of the files of one cell, and what is to be said of them.

    Args:
        reader: Reads them.
        listing: What is listed.
        cell: The cell.
    """

    def __init__(self, reader: ArchiveReader, listing: MarketListing, cell: Cell) -> None:
        self.reader, self.listing, self.cell = reader, listing, cell
        self.files: dict[str, ArchiveRows] = {}
        self.inputs: dict[str, str] = {}
        self.problems: list[Problem] = []

    def prefetch(self, periods: Iterable[str]) -> None:
        """Start to fetch the files of periods, where they are listed."""
        self.reader.prefetch(self.listing.file(period) for period in periods if period in self.listing.files)

    def read(self, period: str) -> ArchiveRows | None:
        """Read the file of a period; None where it is not listed, or cannot be used."""
        self.inputs[period] = self.listing.state(period)
        if self.inputs[period] == NONE:
            return None
        file, day, rows = self.listing.file(period), period if period != self.cell.date else "", None
        try:
            with failing_alone(self.cell, file.key):
                rows = self.reader.read(file)
        except ArchiveFileError as error:
            detail = str(error).removeprefix(f"{error.key}: ")
            self.problems.append(Problem(error.key, error.outcome, detail, day=day))
        self.inputs[period] = self.reader.state(file)
        self.problems += self.reader.notes(file, day)
        if rows is None:
            return None
        if rows.duplicate_count:
            detail = f"{rows.duplicate_count} rows repeat another row exactly"
            self.problems.append(Problem(rows.receipt.key, "duplicates", detail, "one of each was kept"))
        self.files[period] = rows
        return rows


def read_cell(
    dataset: Dataset,
    reader: ArchiveReader,
    listing: MarketListing,
    cell: Cell,
    market: MarketFacts | None,
    earlier: Mapping[str, str],
    witness: BronzeCell | None,
) -> Apply:
    """Read the files of a cell: its own file with the days of it that are in doubt, or the days in its place.

    Args:
        dataset: What to make.
        reader: Reads files.
        listing: What is listed.
        cell: The cell.
        market: What is known of its market.
        earlier: The inputs that the stored cell was made from.
        witness: The stored cell of the dataset's witness.

    Raises:
        NoSourceError: There are files, and none can be used.
    """
    reading = _Reading(reader, listing, cell)
    whole = reading.read(cell.date) if cell.date in listing.files else None
    doubts: Mapping[str, Doubt] = {}
    if whole is not None:
        doubts = dataset.days_in_doubt(whole.frame, cell, market, witness)
        _read_days(reading, doubts)
    else:
        _read_instead(reading, market)
    left = _left_in_doubt(dataset, cell, market, witness, reading.files, doubts, listing.asked_until(cell))
    _tell_of_doubts(reading, doubts, left)
    _read_changed(reading, earlier)
    if not reading.files and reading.problems:
        raise NoSourceError(
            str(cell), [f"{problem.subject}: {problem.detail}" for problem in reading.problems]
        )
    _tell_of_foreign(reading)
    if dataset.witness is not None:
        reading.inputs[f"{dataset.witness.name}@{cell.date}"] = witness.version if witness else NONE
    return _change(dataset, reading, left)


def _read_days(reading: _Reading, days: Collection[str]) -> bool:
    """Read daily files; whether every one of these days has one that can be used."""
    reading.prefetch(days)
    return None not in [reading.read(day) for day in days]


def _read_instead(reading: _Reading, market: MarketFacts | None) -> None:
    """Read the daily files in place of a cell's own file that is not listed, or cannot be used. In place of
    one that cannot, every day of the market's life is looked for.
    """
    cell, listing, damaged = reading.cell, reading.listing, len(reading.problems)
    if cell.date not in listing.files:
        _read_days(reading, listing.days(cell))
        return
    days = sorted({*listing.days(cell), *_days_alive(cell, market)})
    is_complete = _read_days(reading, days)
    if reading.files:
        healed_by = (
            f"{len(days)} daily files"
            if is_complete
            else (f"{len(reading.files)} of {len(days)} daily files")
        )
        own = listing.files[cell.date].key
        first = next(index for index in range(damaged) if reading.problems[index].subject == own)
        reading.problems[first] = replace(reading.problems[first], healed_by=healed_by, day="")


def _days_alive(cell: Cell, market: MarketFacts | None) -> list[str]:
    """The days of a longer cell on which its market was listed."""
    days = [day for day in cell.window.days() if day != cell.date]
    return [day for day in days if market is None or market.life.overlaps(day_range(day))]


def _tell_of_doubts(reading: _Reading, doubts: Mapping[str, Doubt], left: Collection[str]) -> None:
    """Name the days that were in doubt, and the daily files that settled them."""
    for day, (kind, reason) in doubts.items():
        healed_by = reading.files[day].receipt.key if day in reading.files and day not in left else ""
        subject = f"{reading.listing.files[reading.cell.date].key} on {day}"
        reading.problems.append(Problem(subject, kind, reason, healed_by, day))


def _read_changed(reading: _Reading, earlier: Mapping[str, str]) -> None:
    """Read the files again that the stored cell was made from, as they were in doubt or came before the
    month, where they have changed: what they say now counts.
    """
    for period, state in earlier.items():
        if "/" in period:
            continue  # another table's version
        if period not in reading.inputs and (now := reading.listing.state(period)) != state and now != NONE:
            reading.read(period)
        reading.inputs.setdefault(period, reading.listing.state(period))


def _tell_of_foreign(reading: _Reading) -> None:
    """Name the keys in the market's folders that are no file of it."""
    if foreign := reading.listing.foreign_to(reading.cell):
        shown = ", ".join(key.rsplit("/", 1)[-1] for key in foreign[:3]) + (" …" if len(foreign) > 3 else "")
        found = (
            f"{count_of(len(foreign), 'key')} in the folders of this market that no file of it has: {shown}"
        )
        reading.problems.append(Problem(foreign[0], "foreign", found, "left out"))


def _change(dataset: Dataset, reading: _Reading, left: tuple[str, ...]) -> Apply:
    """The change that what was read makes to the stored cell."""
    table, cell = dataset.archive, reading.cell
    asked_until, problems = reading.listing.asked_until(cell), tuple(reading.problems)

    @failing_alone(cell)
    def change(stored: StoredCell | None) -> CellResult:
        empty = table.empty()
        history, lost = (
            (pl.concat([empty, stored.rows], how="diagonal_relaxed").select(empty.columns), [])
            if stored
            else _restored(table, reading)
        )
        for period, file in reading.files.items():
            history = _with_news(table, history, file, Period.parse(period))
        facts = CellFacts(
            asked_until=asked_until,
            problems=(*problems, *lost),
            doubts=left,
            restatement_count=restatements(history, table.identity()).height,
        )
        return CellResult(history, reading.inputs, facts)

    return change


def _restored(table: type[ArchiveTable], reading: _Reading) -> tuple[pl.DataFrame, list[Problem]]:
    """The history of a cell that is not stored, or no longer, as landing tells it: the versions of its files
    before those that are read now, in the order they came.
    """

    def before(period: str) -> Receipt | None:
        return reading.files[period].receipt if period in reading.files else None

    versions = [
        (period, receipt, rows)
        for period in reading.inputs
        if "/" not in period
        for receipt, rows in reading.reader.versions(reading.listing.file(period), before(period))
    ]
    history, lost = table.empty(), []
    for period, receipt, rows in sorted(versions, key=lambda version: version[1].fetched_at):
        if rows is not None:
            history = _with_news(table, history, rows, Period.parse(period))
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
    table: type[ArchiveTable], history: pl.DataFrame, file: ArchiveRows, period: Period
) -> pl.DataFrame:
    rows = (
        file.frame.select(history.columns) if file.frame.height else _removals(table, history, file, period)
    )
    return append_news(history, rows, table.identity(), table.time, period.window)


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
    table: type[ArchiveTable], history: pl.DataFrame, file: ArchiveRows, period: Period
) -> pl.DataFrame:
    """What a file without rows says: that its source no longer has what it had of its period."""
    source, covers = SOURCES[period.kind], period.window
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
