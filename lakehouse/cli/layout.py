"""Rows laid out for a screen: a table where it fits, else one with fewer columns, else records one below the
other. Whatever the width, no number and no name is split.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from lakehouse.cli.documents import as_json
from lakehouse.model.market import MARKET_COLUMNS
from lakehouse.model.text import plain

if TYPE_CHECKING:
    import polars as pl

ROWS_SHOWN = 100
"""Rows of a table for people: one of a lake's rows takes minutes to lay out, and nobody reads it."""

LINES_SHOWN = 400
"""Lines of records one below the other, each of which has one for every column."""

_MIDNIGHT = time()
_MOST = 20_000  # characters of a value
_APART = 2  # blanks between columns
_SENTENCE = 30  # columns that one needs to be read
_WORD = re.compile(r"\S+")

Columns = dict[str, tuple[list[str], bool]]
"""Values as they are shown, by column, and whether they are numbers, which stand to the right."""


@dataclass(frozen=True)
class Layout:
    """Lines for a screen.

    Attributes:
        lines: In order; one that is wider than the screen holds one word that is.
        rows: How many rows are in them.
        dropped: Columns that had no room.
        has_instants: Whether times in UTC are among the values.
    """

    lines: list[Text]
    rows: int
    dropped: list[str] = field(default_factory=list)
    has_instants: bool = False


def with_market_key(frame: "pl.DataFrame") -> "pl.DataFrame":
    """A frame with the market's key as one column, where it has the three that make one in every row."""
    import polars as pl

    parts = [frame.get_column(name, default=None) for name in MARKET_COLUMNS]
    if "market" in frame.columns or any(
        part is None or part.dtype != pl.String or part.null_count() for part in parts
    ):
        return frame
    key = pl.format("{}-{}:{}", *MARKET_COLUMNS).alias("market")
    first = next(name for name in frame.columns if name in MARKET_COLUMNS)
    rest = [
        key if name == first else name
        for name in frame.columns
        if name == first or name not in MARKET_COLUMNS
    ]
    return frame.select(rest)


def laid_out(frame: "pl.DataFrame", width: int, spare: Sequence[str] = (), prose: str = "") -> Layout:
    """Lay out a frame for a screen of some width.

    Args:
        frame: The rows; the first of many are shown.
        width: Columns of the screen.
        spare: Columns that are dropped rather than that records are shown, the first of them first.
        prose: A column of sentences, which may break at blanks.
    """
    import polars as pl

    rows = frame.head(ROWS_SHOWN)
    columns = {name: _column(rows[name].to_list()) for name in rows.columns}
    instants = any(isinstance(one.dtype, pl.Datetime) and one.dtype.time_zone and one.count() for one in rows)
    kept = list(columns)
    for name in (None, *spare):
        kept = [one for one in kept if one != name]
        widths = {one: _width(one, columns[one][0]) for one in kept}
        over = sum(widths.values()) + _APART * (len(widths) - 1) - width
        if over > 0 and prose in widths:
            # of the last column, what holds a longer word stands below its row
            words = () if prose == kept[-1] else _words(columns[prose][0])
            least = max(_width(prose, words), _SENTENCE)
            room = max(min(least, widths[prose]), widths[prose] - over)
            over -= widths[prose] - room
            widths[prose] = room
        if over <= 0:
            dropped = [one for one in columns if one not in kept]
            return Layout(_table(columns, widths, width), rows.height, dropped, instants)
    count = min(rows.height, LINES_SHOWN // (len(columns) + 1) + 1)
    is_text = [dtype == pl.String or dtype.is_nested() for dtype in rows.dtypes]
    return Layout(list(_records(columns, is_text, count, width)), count, has_instants=instants)


def wrapped(text: Text, width: int, indent: int = 0) -> list[Text]:
    """A text in lines, which break at blanks alone.

    Args:
        text: The text.
        width: Columns of the screen.
        indent: Blanks before every line but the first, which begins behind as many.
    """
    breaks = [0]
    for word in _WORD.finditer(text.plain):
        begin, end = word.span()
        if breaks[-1] < begin and indent + cell_len(text.plain[breaks[-1] : end]) > width:
            breaks += [begin]
    lines = list(text.divide(breaks[1:]))
    for line in lines:
        line.rstrip()
    return [lines[0], *(Text(" " * indent).append_text(line) for line in lines[1:])]


def _column(values: Sequence[Any]) -> tuple[list[str], bool]:
    """The values of a column as they are shown: of instants as much of the clock as one of them needs."""
    known = [value for value in values if value is not None]
    is_numeric = bool(known) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in known
    )
    instants = [_utc(value) for value in known if isinstance(value, datetime)]
    digits = max((_digits(value) for value in instants), default=0)
    return [
        _utc(value).isoformat(" ", "microseconds")[:digits] if isinstance(value, datetime) else shown(value)
        for value in values
    ], is_numeric


def shown(value: Any) -> str:
    """A value on one line, for people: null as nothing, what a terminal would obey as its escape."""
    if value is None:
        return ""
    if isinstance(value, bool):  # which is an int
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    return plain(as_json(value) if isinstance(value, dict | list | tuple) else value, _MOST)


def _digits(value: datetime) -> int:
    """How much of an instant as text is not zero: day, minute, second, millisecond or all of it."""
    if value.microsecond:
        return 26 if value.microsecond % 1000 else 23
    return 19 if value.second else 10 if value.time() == _MIDNIGHT else 16


def _utc(value: datetime) -> datetime:
    return (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None)


def _width(name: str, values: Iterable[str]) -> int:
    return max(cell_len(shown(name)), *map(cell_len, values), 0)


def _words(values: Iterable[str]) -> Iterable[str]:
    return (word for value in values for word in value.split(" "))


def _table(columns: Columns, widths: Mapping[str, int], width: int) -> list[Text]:
    """A table of the columns that have a width; where a value is wider, it goes on below itself, and below
    its whole row where it is the last and one word has no room.
    """
    room = [0, *widths.values()][-1]

    def lines(row: Iterable[str], style: str = "") -> Iterable[Text]:
        cells, below = list(row), ""
        if cells and max(map(cell_len, cells[-1].split(" "))) > room:
            cells[-1], below = "", cells[-1]
        parts = [
            [line.plain for line in wrapped(Text(cell), width)]
            for cell, width in zip(cells, widths.values(), strict=True)
        ]
        for line in zip_longest(*parts, fillvalue=""):
            padded = [
                " " * (width - cell_len(part)) + part
                if columns[name][1]
                else part + " " * (width - cell_len(part))
                for part, (name, width) in zip(line, widths.items(), strict=True)
            ]
            yield Text((" " * _APART).join(padded).rstrip(), style)
        if below:
            first, *others = wrapped(Text(below), width, _APART)
            yield Text(" " * _APART).append_text(first)
            yield from others

    made = [*lines(map(shown, widths), "bold")]
    made += [Text("─" * (sum(widths.values()) + _APART * (len(widths) - 1)), "dim")]
    for row in zip(*(columns[name][0] for name in widths), strict=True):
        made += lines(row)
    return made


def _records(columns: Columns, types: Sequence[bool], count: int, width: int) -> Iterable[Text]:
    """Records: a line for every column, and more where words need them; a value behind whose name there is
    no room for it begins below it.
    """
    names = [shown(name) for name in columns]
    label = min(max(map(cell_len, names), default=0), width // 3) + _APART
    for number in range(count):
        head = f"─ {number + 1:,} "
        yield Text(head + "─" * (min(width, 40) - len(head)), style="dim")
        for name, is_prose, (values, _) in zip(names, types, columns.values(), strict=True):
            value = values[number]
            longest = max(map(cell_len, value.split(" "))) if is_prose else cell_len(value)
            has_room = cell_len(name) + _APART <= label and label + longest <= width
            indent = label if has_room else _APART
            lines = wrapped(Text(value), width, indent) if is_prose else [Text(value)]
            if has_room:
                yield (
                    Text.assemble((name, "bold"), " " * (label - cell_len(name)), lines[0])
                    if value
                    else Text(name, style="bold")
                )
            else:
                yield Text(name, style="bold")
                yield Text(" " * indent).append_text(lines[0])
            yield from lines[1:]
