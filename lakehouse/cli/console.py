"""Where commands speak: standard output, standard error, and progress on the latter."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from lakehouse.cli.layout import wrapped
from lakehouse.logs import is_json, log_line
from lakehouse.model.cell import Cell
from lakehouse.model.errors import LakehouseWarning

_LEVELS = {"error:": logging.ERROR, "failed": logging.ERROR, "note": logging.WARNING}
_ENV_READ = 65_536  # bytes of a foreign file that are looked at
_WIDE = 150  # where output is no terminal, lines are for reading in a log, not for a screen of 80 columns


def _width(stream: TextIO) -> int | None:
    return None if stream.isatty() or "COLUMNS" in os.environ else _WIDE


# What is printed holds what others wrote, such as values, names and errors, in which [x] and :x: stand for
# themselves.
out = Console(width=_width(sys.stdout), markup=False, emoji=False, highlight=False)
err = Console(width=_width(sys.stderr), markup=False, emoji=False, highlight=False, stderr=True)


def say(text: str, flag: str = "", console: Console = out) -> None:
    """A sentence, which breaks at blanks alone, and not at all where nobody watches.

    Args:
        text: What is said.
        flag: A word in red before it.
        console: Where.
    """
    if console is err and is_json():
        log_line(text, _LEVELS.get(flag, logging.INFO))
        return
    line = flagged(flag, text) if flag else Text(text)
    for part in wrapped(line, console.width) if console.is_terminal else [line]:
        console.print(part, soft_wrap=True)


def flagged(flag: str, text: str) -> Text:
    """A line that begins with a word in red."""
    return Text.assemble((flag, "red"), " ", text)


def say_warnings() -> None:
    """Have what a reader is told as a Python warning said on standard error, in the same words."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, LakehouseWarning):
            say(str(message), "note", err)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show  # type: ignore[assignment]
    warnings.simplefilter("always", LakehouseWarning)


def say_env_file() -> None:
    """Say of settings that lie in the working folder, and that nobody named, that they are not read: an
    earlier release did.
    """
    found = Path(".env")
    if "LAKEHOUSE_ENV_FILE" in os.environ or not found.is_file():
        return
    with contextlib.suppress(OSError), found.open("rb") as file:
        if b"LAKEHOUSE_" in file.read(_ENV_READ):
            say(
                "The settings in .env are not read, for nobody named that file. If it is yours: "
                'export LAKEHOUSE_ENV_FILE="$PWD/.env"',
                "note",
                err,
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

    def advance(self, what: str, cells: int) -> None:
        """So many cells more are done of what was announced."""
        self._progress.advance(self._tasks[what], cells)

    def wait(self, run_id: str) -> None:
        """A run that writes the same cells is waited for."""
        said = f"Waiting for run {run_id[:8]}, which writes the same cells."
        if is_json():
            log_line(said)
        else:
            self._progress.console.print(flagged("note", said))

    def cell(self, table: str, cell: Cell, outcome: str) -> None:
        """A cell is settled."""
        self._progress.advance(self._tasks[table])
        if is_json():
            level = logging.ERROR if outcome == "failed" else logging.INFO
            log_line(outcome, level, table=table, cell=str(cell))
        elif outcome == "failed":
            self._progress.console.print(flagged("failed", f"{table} {cell}"))


@contextmanager
def build_progress() -> Iterator[BuildProgress]:
    """Show progress on standard error while a build runs, where somebody watches; in a log what failed
    alone.
    """
    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=is_json() or not err.is_terminal) as progress:
        yield BuildProgress(progress)
