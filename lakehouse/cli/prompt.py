"""`lakehouse sql` without a statement: a prompt that keeps what was typed, over many lines."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from prompt_toolkit import PromptSession
from prompt_toolkit.application.current import get_app
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from lakehouse.cli.console import err, say
from lakehouse.cli.reporting import Report
from lakehouse.model.errors import LakehouseError, UnknownCommandError
from lakehouse.model.table import Table
from lakehouse.model.words import count_of
from lakehouse.registry import Registry
from lakehouse.storage.layout import partition_columns

HELP = {
    ".tables": "tables, and what each holds",
    ".schema TABLE": "columns of a table, with types and meanings",
    ".help": "these words",
    ".quit": "the end, as Ctrl-D",
}
Ask = Callable[[str], pl.DataFrame]
"""What carries out a statement: `Lake.sql`, or that of another engine."""
_PROMPT, _MORE = "lakehouse> ", "      ...> "


def history_file() -> Path:
    """Where statements are kept between sessions."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "lakehouse" / "sql_history"


def converse(registry: Registry, ask: Ask, report: Callable[[], Report]) -> None:
    """Take statements and words from the terminal until its end; what is refused is said, and the prompt
    comes again.

    Args:
        registry: The tables that there are.
        ask: Carries out a statement.
        report: Says one answer.
    """
    session: PromptSession[str] = PromptSession(
        _PROMPT,
        multiline=Condition(lambda: not is_complete(get_app().current_buffer.text)),
        prompt_continuation=lambda width, number, is_soft: "" if is_soft else _MORE,
        history=_history(),
        completer=WordCompleter(_words(registry), ignore_case=True, WORD=True),
        complete_while_typing=False,
        lexer=PygmentsLexer(SqlLexer),
        enable_history_search=True,
    )
    say("A statement ends with ; and .help says what else there is.")
    while True:
        try:
            text = session.prompt().strip()
        except KeyboardInterrupt:  # what was typed is dropped
            continue
        except EOFError:
            return
        if text.rstrip(" ;") in (".quit", ".exit"):
            return
        if not text.strip("; \n"):
            continue
        try:
            answer(registry, ask, text, report())
        except LakehouseError as error:
            say(str(error), "error:", err)
        except KeyboardInterrupt:
            say("Interrupted.", console=err)


def is_complete(text: str) -> bool:
    """Whether what was typed is a whole: nothing, a word with a dot before it, or ended statements."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or sqlite3.complete_statement(stripped)


def answer(registry: Registry, ask: Ask, text: str, report: Report) -> None:
    """Answer one input.

    Args:
        registry: The tables that there are.
        ask: Carries out a statement.
        text: A statement, or a word with a dot before it.
        report: Says the answer.

    Raises:
        UnknownCommandError: There is no such word.
        UnknownTableError: There is no such table.
        SqlError: The statement is refused.
    """
    word, _, rest = text.rstrip(" ;").partition(" ")  # a word needs no end, and may have one
    if word == ".help":
        report.table("", pl.DataFrame({"word": list(HELP), "what": list(HELP.values())}), prose="what")
    elif word == ".tables":
        report.table("", tables_of(registry), prose="what")
    elif word == ".schema" and rest.strip():
        report.table("", schema_of(registry.table(rest.strip())), prose="meaning")
    elif word.startswith("."):
        raise UnknownCommandError(text, HELP)
    else:
        began = time.monotonic()
        frame = ask(text)
        report.table("", frame, "add LIMIT")
        say(f"{count_of(frame.height, 'row')} in {time.monotonic() - began:.2f} s", console=err)


def tables_of(registry: Registry) -> pl.DataFrame:
    """The tables of a lake, as SQL names them, with the first sentence of what each holds."""
    tables = registry.tables
    return pl.DataFrame(
        {
            "table": [_sql_name(table) for table in tables],
            "what": [" ".join(table.description().split()).partition(". ")[0] for table in tables],
        }
    )


def schema_of(table: type[Table]) -> pl.DataFrame:
    """The columns of a table."""
    rows = [(name, table.sql_type(name), table.comment(name)) for name in table.columns]
    rows += [
        (name, "string", "of its path") for name in partition_columns(table) if name not in table.columns
    ]
    return pl.DataFrame(rows, ["column", "type", "meaning"], orient="row")


def _sql_name(table: type[Table]) -> str:
    return table.name.replace("/", ".")


def _words(registry: Registry) -> list[str]:
    columns = {name for table in registry.tables for name in table.columns}
    keywords = ("SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "count(*)")
    return [*HELP, *keywords, *map(_sql_name, registry.tables), *sorted(columns)]


def _history() -> History:
    """That of this user; of this session alone where it cannot be kept."""
    file = history_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(file)
