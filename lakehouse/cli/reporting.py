"""What commands report: tables and sentences for people, one document or table for programs."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.console import err, out, say
from lakehouse.cli.documents import write_csv, write_json, write_parquet
from lakehouse.cli.layout import ROWS_SHOWN, laid_out, with_market_key
from lakehouse.logs import is_json
from lakehouse.model.errors import BinaryOutputError, TwoFormatsError, UnknownColumnError

if TYPE_CHECKING:
    import polars as pl


_PIPE_CLOSED = 141  # as of a program that ends by SIGPIPE


class Format(StrEnum):
    """How a command writes what it found."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


class Report:
    """Says what a command found. Of several tables a program gets the first, or all of them in one JSON
    document; sentences and further tables then go to standard error.

    Args:
        form: How; on a terminal a table, elsewhere CSV if left out.
        columns: The columns that are wanted of the first table; all, or those that fit, if left out.
    """

    def __init__(self, form: Format | str | None = None, columns: Sequence[str] | None = None) -> None:
        self.form = Format(form) if form else Format.table if sys.stdout.isatty() else Format.csv
        self._columns = columns
        self._is_first = True
        self._console = out if self.form is Format.table else err

    def again(self) -> "Report":
        """A report of the next answer, as this one is."""
        return Report(self.form, self._columns)

    def say(self, text: str, flag: str = "") -> None:
        """A sentence, with a word in red before it where one is given."""
        if self.form is not Format.json:  # which has it
            say(text, flag, self._console)

    def document(self, value: Any, first: str | None = None) -> bool:
        """Write all that was found as one JSON document, where one is wanted: then nothing else is said.

        Args:
            value: The document.
            first: The member that is the first table, of which the wanted columns are chosen.
        """
        if self.form is not Format.json:
            return False
        if first is not None and self._columns is not None:
            value = value | {
                first: [{name: _member(row, name) for name in self._columns} for row in value[first]]
            }
        self._is_first = False
        write_json(value, sys.stdout.buffer)
        return True

    def table(
        self,
        title: str,
        frame: "pl.DataFrame",
        narrower: str = "",
        spare: Sequence[str] = (),
        prose: str = "",
        empty: str = "",
        whole: "pl.DataFrame | None" = None,
    ) -> None:
        """A table.

        Args:
            title: Said above it.
            frame: Its rows.
            narrower: What to do for fewer rows, said where there are more than are shown.
            spare: Columns that a narrow screen goes without, the first of them first.
            prose: A column of sentences, which may break at blanks.
            empty: Said in its place where there are no rows.
            whole: What programs get in place of `frame`, and whose columns may be asked for.
        """
        is_first, self._is_first = self._is_first, False
        if is_first and self.form is not Format.table:
            self._write(self._chosen(frame if whole is None else whole))
        if self.form is Format.json or (is_first and self.form is not Format.table):
            if not frame.height and empty:
                self.say(empty)
            return
        if is_first and self._columns is not None:
            frame = self._chosen(frame if whole is None else whole)
        if frame.height or not empty:
            self._show(title, with_market_key(frame), narrower, spare, prose, is_first)
        else:
            self.say(empty)

    def _show(
        self,
        title: str,
        frame: "pl.DataFrame",
        narrower: str,
        spare: Sequence[str],
        prose: str,
        is_first: bool,
    ) -> None:
        if self._console is err and is_json():
            self._log(title, frame)
            return
        layout = laid_out(frame, self._console.width, spare, prose)
        if title:
            self.say(title)
        for line in layout.lines:
            self._console.print(line, soft_wrap=True)
        if not frame.height:
            self.say("No rows." if layout.lines else f"No rows, of {', '.join(frame.columns)}.")
        if layout.has_instants:
            self.say("Times are UTC.")
        if layout.dropped:
            choice = "; --columns names what to show." if is_first else "."
            self.say(f"No room for {', '.join(layout.dropped)}{choice}")
        if layout.rows < frame.height:
            self.say(
                f"The first {layout.rows} of {frame.height:,} rows; --format csv has all"
                + (f", or {narrower}." if narrower else ".")
            )

    def _log(self, title: str, frame: "pl.DataFrame") -> None:
        """A table among the lines of a log: one for each row."""
        for row in frame.head(ROWS_SHOWN).iter_rows(named=True):
            said = ", ".join(f"{name} {value}" for name, value in row.items() if value not in (None, ""))
            self.say(f"{title}: {said}" if title else said)
        if frame.height > ROWS_SHOWN:
            self.say(f"{title}: the first {ROWS_SHOWN} of {frame.height:,} rows")

    def _chosen(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        if self._columns is None:
            return frame
        keyed = with_market_key(frame)
        known = {name: frame[name] for name in frame.columns} | {name: keyed[name] for name in keyed.columns}
        if unknown := [name for name in self._columns if name not in known]:
            raise UnknownColumnError(unknown, known)
        return frame.select(known[name] for name in self._columns)

    def _write(self, frame: "pl.DataFrame") -> None:
        if self.form is Format.parquet and sys.stdout.isatty():
            raise BinaryOutputError
        sys.stdout.flush()
        if self.form is Format.json:
            write_json(frame.to_dicts(), sys.stdout.buffer)
        else:
            (write_parquet if self.form is Format.parquet else write_csv)(frame, sys.stdout.buffer)
        sys.stdout.flush()


def _member(row: dict[str, Any], name: str) -> Any:
    if name not in row:
        raise UnknownColumnError([name], row)
    return row[name]


def frame_of(rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> "pl.DataFrame":
    """Rows of one kind as a frame; the columns are those named where there are none."""
    import polars as pl

    return (
        pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame({name: [] for name in columns})
    )


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a report, which it takes as its argument `report`."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        form, as_document = given.pop("form"), given.pop("as_document")
        names = given.pop("columns")
        if as_document and form not in (None, Format.json):
            raise TwoFormatsError(form)
        columns = [name.strip() for name in names.split(",") if name.strip()] if names is not None else None
        try:
            command(**given, report=Report("json" if as_document else form, columns))
        except BrokenPipeError:  # who reads has enough, such as `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_PIPE_CLOSED) from None

    own = inspect.signature(command)
    parameters = [one for one in own.parameters.values() if one.name != "report"]
    options = own.replace(parameters=[*parameters, *_OPTIONS])
    with_options.__signature__ = options  # type: ignore[attr-defined]
    with_options.__annotations__ = {
        **{name: kind for name, kind in command.__annotations__.items() if name != "report"},
        **{option.name: option.annotation for option in _OPTIONS},
    }
    return with_options


_OPTIONS = [
    inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
    for name, kind, default, option in (
        (
            "form",
            Format | None,
            None,
            typer.Option(
                "--format",
                metavar="FORMAT",
                help="table, csv, json or parquet; a table on a terminal, CSV elsewhere if left out.",
            ),
        ),
        (
            "columns",
            str | None,
            None,
            typer.Option("--columns", help="Columns of the first table, comma-separated, in this order."),
        ),
        ("as_document", bool, False, typer.Option("--json", help="The same as --format json.")),
    )
]
