"""Statements as another engine is given them: one by one, and with the lake's tables under the names that its
catalog has.
"""

from collections.abc import Collection

from pygments.lexers.sql import SqlLexer
from pygments.token import Comment, Punctuation, Whitespace

from lakehouse.model.errors import NotRegisteredError
from lakehouse.model.table import Table

_REGISTERED = ("silver", "gold")


def statements(query: str, prefix: str, tables: Collection[type[Table]]) -> list[str]:
    """The statements of a text, each without the semicolon behind it.

    Args:
        query: One or several, in which tables are called `silver.candle` as everywhere else.
        prefix: That of the databases in Glue: `silver.candle` becomes `"<prefix>_silver".candle`. What stands
            in texts, comments, and behind a dot, stays.
        tables: The lake's.

    Raises:
        NotRegisteredError: It names a table of a zone that is not registered.
    """
    names = {tuple(table.name.split("/")) for table in tables}
    tokens = [(kind, text) for _, kind, text in SqlLexer().get_tokens_unprocessed(query)]
    telling = [
        place for place, (kind, _) in enumerate(tokens) if kind not in Whitespace and kind not in Comment
    ]
    written = [text for _, text in tokens]
    for before, zone, dot, name in zip([None, *telling], telling, telling[1:], telling[2:], strict=False):
        words = _word(written[zone]), _word(written[name])
        if written[dot] != "." or words not in names or (before is not None and written[before] == "."):
            continue
        if words[0] not in _REGISTERED:
            raise NotRegisteredError(".".join(words))
        written[zone] = f'"{prefix}_{words[0]}"'
    parts: list[list[int]] = [[]]
    for place, (kind, text) in enumerate(tokens):
        if kind in Punctuation and text == ";":
            parts.append([])
        else:
            parts[-1].append(place)
    said = set(telling)
    return ["".join(written[place] for place in part).strip() for part in parts if said.intersection(part)]


def _word(text: str) -> str:
    """A name as it is meant, whether it is quoted or not."""
    return text[1:-1] if text.startswith('"') else text.lower()
