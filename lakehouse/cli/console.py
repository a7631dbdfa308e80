"""How commands speak: tables and progress for people, JSON for programs."""

import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from lakehouse.model.cell import Cell
from lakehouse.model.errors import BehindInputsWarning

if TYPE_CHECKING:
    import polars as pl

SHOWN = 20
"""Rows of a long list for people; --json has them all."""

ROWS_SHOWN = 100
"""Rows of what was asked for, for people: a terminal's table of a lake's rows takes minutes to lay out, and
nobody reads it.
"""

_ENV_READ = 65_536  # bytes of a foreign file that are looked at
_WIDE = 150  # where output is no terminal, lines are for reading in a log, not for a screen of 80 columns
# What is printed holds what others wrote, such as values, names and errors, in which [x] and :x: stand for
# themselves.
out = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE, markup=False, emoji=False)


def flagged(flag: str, text: str) -> Text:
    """A line that begins with a word in red."""
    return Text.assemble((flag, "red"), " ", text)


def say_warnings() -> None:
    """Have what a reader is told as a Python warning said on standard error, in the same words."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, BehindInputsWarning):
            err.print(flagged("note", str(message)), soft_wrap=True)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show  # type: ignore[assignment]
    warnings.simplefilter("always", BehindInputsWarning)


def say_env_file() -> None:
    """Say of settings that lie in the working folder, and that nobody named, that they are not read: an
    earlier release did.
    """
    found = Path(".env")
    if "LAKEHOUSE_ENV_FILE" in os.environ or not found.is_file():
        return
    with contextlib.suppress(OSError), found.open("rb") as file:
        if b"LAKEHOUSE_" in file.read(_ENV_READ):
            err.print(
                flagged(
                    "note",
                    "The settings in .env are not read, for nobody named that file. If it is yours: "
                    'export LAKEHOUSE_ENV_FILE="$PWD/.env"',
                ),
                soft_wrap=True,
            )


def print_json(value: Any) -> None:
    """One JSON document on standard output.

    Decimals are numbers with all their digits; what JSON has no word for is null (infinities, not-a-number),
    hexadecimal (bytes) or text (times).
    """
    typer.echo(_json(value, "\n"))


_scalar = json.JSONEncoder(
    default=lambda value: value.hex() if isinstance(value, bytes) else str(value)
).encode


def _json(value: Any, margin: str = "") -> str:
    """A value as JSON, on a line for each member where a margin is given: the line break and what stands
    before the closing bracket.
    """
    within = margin + "  " if margin else ""
    if isinstance(value, dict | list | tuple) and value:
        if isinstance(value, dict):
            members = [
                f"{_scalar(name if isinstance(name, str) else _shown(name))}: {_json(member, within)}"
                for name, member in value.items()
            ]
        else:
            members = [_json(member, within) for member in value]
        first, last = "{}" if isinstance(value, dict) else "[]"
        return f"{first}{within}{(',' + (within or ' ')).join(members)}{margin}{last}"
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else "null"
    return "null" if isinstance(value, float) and not math.isfinite(value) else _scalar(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output: numbers to the right, null as nothing, instants in UTC."""
    has_instants = any(isinstance(value, datetime) and value.tzinfo for row in rows for value in row)
    table = RichTable(
        title=title,
        title_justify="left",
        caption="Times are UTC." if has_instants else None,
        caption_justify="left",
    )
    for number, column in enumerate(columns):
        values = [row[number] for row in rows if row[number] is not None]
        is_numeric = bool(values) and all(
            isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in values
        )
        table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_shown, row))
    out.print(table)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):  # which is an int
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        fraction = f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""
        instant = value.astimezone(UTC) if value.tzinfo else value
        return f"{instant.replace(tzinfo=None, microsecond=0)}{fraction}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict | list | tuple):
        return _json(value)
    return str(value)


def print_frame(title: str, frame: "pl.DataFrame", narrower: str) -> None:
    """A frame as a table, of many rows the first.

    Args:
        title: Of the table.
        frame: All rows.
        narrower: What to do for fewer rows, said where there are more than are shown.
    """
    print_table(title, frame.columns, frame.head(ROWS_SHOWN).rows())
    if frame.height > ROWS_SHOWN:
        out.print(
            f"The first {ROWS_SHOWN} of {frame.height:,} rows; --json has all, or {narrower}.",
            highlight=False,
        )


class BuildProgress:
    """A bar per table, moved on by every cell.

    Args:
        progress: The rich display.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def announce(self, table: str, cells: int) -> None:
        """A table starts, with so many cells to build."""
        self._tasks[table] = self._progress.add_task(table, total=cells, completed=0, visible=cells > 0)

    def count(self, what: str) -> None:
        """One more object was looked at, of as many as there may be."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=None)
        self._progress.advance(self._tasks[what])

    def wait(self, run_id: str) -> None:
        """A run that writes the same cells is waited for."""
        self._progress.console.print(
            flagged("note", f"Waiting for run {run_id[:8]}, which writes the same cells.")
        )

    def cell(self, table: str, cell: Cell, outcome: str) -> None:
        """A cell is settled."""
        self._progress.advance(self._tasks[table])
        if outcome == "failed":
            self._progress.console.print(flagged("failed", f"{table} {cell}"))


@contextmanager
def build_progress(quiet: bool) -> Iterator[BuildProgress]:
    """Show progress on standard error while a build runs."""
    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=quiet) as progress:
        yield BuildProgress(progress)
