"""Bronze tables that are made from answers of REST APIs: the witness, and rows the archive leaves open."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

import polars as pl

from lakehouse.datasets.dataset import ApiTable, BronzeCell, Dataset
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.recipe import Due, Recipe
from lakehouse.pipeline.windows import closed_months, in_grain, those_that_can_have
from lakehouse.sources.rest.asking import (
    Answers,
    Question,
    api_questions,
    ask,
    witness_is_due,
    witness_range,
)
from lakehouse.storage.due import Standing, inputs_now
from lakehouse.storage.outcome import Change, Outcome, kept
from lakehouse.storage.tables import CellRecord


class FromPages(Recipe):
    """Cells made of what REST was asked for and answered. Ledgers, not rows, decide what is asked.

    Args:
        dataset: Whose table.
        table: The table.
    """

    def __init__(self, dataset: Dataset, table: type[ApiTable]) -> None:
        self.dataset = dataset
        self.table: type[ApiTable] = table

    def expected(self, has: Inventory) -> list[Cell]:
        return in_grain(self.table, closed_months(has, self.dataset), has)

    def covered(self, has: Inventory, requested: list[Cell]) -> list[Cell]:
        return in_grain(self.table, requested, has)

    def questions(self, has: Inventory, cells: Iterable[Cell]) -> dict[Cell, list[Question]]:
        """What REST is to be asked, by cell, of those of some cells that are due."""
        return {cell: self._asked(reason) for cell, reason in self.due(has, cells).reasons.items()}

    def _asked(self, reason: object) -> list[Question]:
        """What is asked for a reason that `due` gave."""
        return [one for one in reason if isinstance(one, Question)] if isinstance(reason, list) else []

    def _answered(
        self, has: Inventory, wanted: Mapping[Cell, list[Question]]
    ) -> Iterator[tuple[Cell, Answers]]:
        """What REST APIs answer."""
        yield from ask(self.table, has.lake.clients, wanted, has.lake.clock)

    def _with_rest(self, has: Inventory, cells: Iterable[Cell]) -> list[Cell]:
        """The cells of markets that can have the table, whose exchange's REST API answers about it."""
        answering = {name for name, own in has.lake.exchanges.items() if self.table.name in own.pages}
        asked = (cell for cell in cells if cell.own_market.exchange in answering)
        return those_that_can_have(self.table, asked, has)


class FromWitness(FromPages):
    """Cells of the witness: an independent statement that rows are checked against."""

    def standing(self, has: Inventory) -> Standing:
        """Cells are fresh that were answered with rows from their first instant to their last, beside which
        REST was asked for no finer rows that could call for another look.
        """
        stored = has.ledger(self.table.name).frame.filter(pl.col("code_version") == self.table.code_version)
        if self.dataset.api is not None:
            finer = has.ledger(self.dataset.api.name).frame
            stored = stored.join(finer, on=("key", "date"), how="anti")
        return Standing.told(self.expected(has), stored.filter(_is_answered_whole(stored["date"])))

    def due(self, has: Inventory, cells: Iterable[Cell]) -> Due:
        """The witnesses that have to be asked for, with the range that can be."""
        wanted: dict[Cell, TimeRange] = {}
        stored = has.ledger(self.table.name)
        for cell in self._with_rest(has, cells):
            record, market = stored.get(cell), has.known.get(cell.own_market)
            finer = self._finer(has, cell)
            span = witness_range(cell, market, has.now)
            if span and (
                self.is_outdated(has, cell)
                or witness_is_due(cell, record, market, has.now, finer.revised_at, finer.asked)
            ):
                wanted[cell] = span
        return Due(wanted)

    def _asked(self, reason: object) -> list[Question]:
        return [Question(reason)] if isinstance(reason, TimeRange) else []

    def why(self, has: Inventory, cell: Cell, record: CellRecord, reason: object) -> str:
        return "new hours"

    def make(self, has: Inventory, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        due, stored = self.due(has, cells).reasons, has.ledger(self.table.name)
        yield from ((cell, kept(stored.get(cell))) for cell in cells if cell not in due)
        questions = {cell: self._asked(span) for cell, span in due.items()}
        for cell, answers in self._answered(has, questions):
            revised_at = self._finer(has, cell).revised_at
            told = replace(answers, is_witness=True, revised_at=revised_at)
            yield cell, Change(told.change, is_new=cell not in stored)

    def _finer(self, has: Inventory, cell: Cell) -> CellFacts:
        """What the finer rows by REST say of themselves."""
        asked = has.ledger(self.dataset.api.name).get(cell) if self.dataset.api else None
        return asked.facts if asked else CellFacts()


class FromRows(FromPages):
    """Cells of rows by REST: what the archive leaves in doubt, and the hours behind its last day; all of them
    where there is no archive. Answers are judged by what is stored of the witness and the archive.
    """

    def standing(self, has: Inventory) -> Standing:
        """Cells are fresh that REST was never asked about, and of which the archive has rows of their last
        day and leaves nothing in doubt.
        """
        archive = has.ledger(self.dataset.archive.name).frame
        last_day = _text_of(archive["date"], lambda window: f"{window.end - timedelta(days=1):%Y-%m-%d}")
        sound = archive.filter(
            (pl.col("last_time").str.head(10) == last_day)
            & pl.col("facts").str.contains('"doubts": []', literal=True)
        )
        asked = has.ledger(self.table.name).frame
        return Standing.told(self.expected(has), sound.join(asked, on=("key", "date"), how="anti"))

    def due(self, has: Inventory, cells: Iterable[Cell]) -> Due:
        """What REST has still to be asked for, by cell; nothing of a cell whose answers have to be judged
        anew alone.
        """
        wanted: dict[Cell, list[Question]] = {}
        stored = has.ledger(self.table.name)
        for cell in self._with_rest(has, cells):
            record = stored.get(cell)
            questions = self._questions(has, cell, record)
            if questions or self.is_outdated(has, cell) or self._judged_by_others(has, cell, record):
                wanted[cell] = questions
        return Due(wanted)

    def why(self, has: Inventory, cell: Cell, record: CellRecord, reason: object) -> str:
        return "new candles, or open questions" if reason else "judged by another witness"

    def make(self, has: Inventory, cells: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        due, stored = self.due(has, cells).reasons, has.ledger(self.table.name)
        yield from ((cell, kept(stored.get(cell))) for cell in cells if cell not in due)
        wanted = {cell: self._judged_anew(has, cell, questions) for cell, questions in due.items()}
        for cell in (cell for cell, questions in wanted.items() if not questions):
            nothing_new = Answers(self.table, [], [], [])
            yield cell, Change(self.judged(has, cell, nothing_new).change)
        asked = [cell for cell, questions in wanted.items() if questions]
        # A history takes long: the newest months first, whoever is killed on the way. The witness has marked
        # by then which months were begun.
        if self.dataset.witness is not None:
            asked.sort(key=lambda cell: cell.date, reverse=True)
        for cell, answers in self._answered(has, {cell: wanted[cell] for cell in asked}):
            yield cell, Change(self.judged(has, cell, answers).change, is_new=cell not in stored)

    def judged(self, has: Inventory, cell: Cell, answers: Answers) -> Answers:
        """Answers that are held against what is stored of the witness and the archive.

        Args:
            has: What the lake has.
            cell: The cell.
            answers: What was answered about it.
        """

        def contradicted(result: CellResult) -> list[TimeRange]:
            others = has.bronze(self.dataset, cell)
            own = {self.table.name: BronzeCell(result.rows, "", result.facts)}
            return self.dataset.contradicted(others | own)

        return replace(answers, contradicted=contradicted, inputs=self._judges(has, cell))

    def _judges(self, has: Inventory, cell: Cell) -> dict[str, str]:
        """The versions of what answers are held against, as they are now."""
        return inputs_now(self.table, cell, has.ledgers(self.table), {})

    def _judged_by_others(self, has: Inventory, cell: Cell, record: CellRecord | None) -> bool:
        """Whether answers about rows were judged by other cells than today's."""
        return (
            record is not None
            and dict(record.inputs) != self._judges(has, cell)
            and any(asking.is_of_rows for asking in record.facts.asked)
        )

    def _questions(self, has: Inventory, cell: Cell, record: CellRecord | None) -> list[Question]:
        archive, market = has.ledger(self.dataset.archive.name).get(cell), has.known.get(cell.own_market)
        slot = has.lake.clients.pages_of(cell.own_market, self.table.name).slot
        return api_questions(cell, archive, record, market, has.now, slot)

    def _judged_anew(self, has: Inventory, cell: Cell, questions: object) -> list[Question]:
        """The questions about a cell, once its answers were judged by what is stored of the others now: what
        was answered may be open again.
        """
        record = has.ledger(self.table.name).get(cell)
        if record and dict(record.inputs) != self._judges(has, cell):
            nothing_new = Answers(self.table, [], [], [])
            changed = self.judged(has, cell, nothing_new).change(has.read(self.table, cell))
            return self._questions(has, cell, replace(record, facts=changed.facts))
        return self._asked(questions)


def _text_of(dates: pl.Series, told: Callable[[TimeRange], str]) -> pl.Expr:
    """A text about the window of each date, as a column beside the dates."""
    texts = {date: told(Cell(date).window) for date in dates.unique()}
    return pl.col("date").replace_strict(texts, default=None, return_dtype=pl.String)


def _is_answered_whole(dates: pl.Series) -> pl.Expr:
    """Whether what a footer says was asked for is one range, all of the window, that was answered with
    rows.
    """
    asked = pl.col("facts").str.extract_groups(
        r'"asked": \[\{[^{}]*"end": "(?<end>[^"]*)", "outcome": "rows", "start": "(?<start>[^"]*)"[^{}]*\}\]'
    )
    return (asked.struct["start"] == _text_of(dates, lambda window: window.start.isoformat())) & (
        asked.struct["end"] == _text_of(dates, lambda window: window.end.isoformat())
    )
