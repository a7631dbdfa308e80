"""JSON that others wrote: answers of APIs, footers, receipts and caches, read in one guarded place.

What Python's parser takes or stumbles over is refused alike: whoever reads an object has one error to turn
into that object's own.
"""

import json
import math
import re
from typing import Any

from lakehouse.model.errors import ForeignJsonError

DEEPEST = 32
"""Levels of lists and objects; the deepest that anybody sends, an exchangeInfo, has 6."""

_LEFT = 256
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

MOST_DIGITS = 64
"""Digits of a number: no price, instant or count has half as many, and Python's own limits are elsewhere."""


def read_json(
    text: str | bytes, most: int = 1 << 26, numbers_as_text: bool = False, half_characters: bool = False
) -> Any:
    """Read JSON that others wrote.

    Args:
        text: The whole of it; bytes are UTF-8.
        most: Bytes or characters that it may have.
        numbers_as_text: Whether numbers stay as they are written, `NaN` and those of a thousand digits too:
            for who judges every value by itself.

        half_characters: Whether a text may have half a character: for who judges every text by itself.

    Raises:
        ForeignJsonError: It is none; it is too large or too deep; a text has half a character; a number is
            too long or not finite; an object names a field twice.
    """
    if len(text) > most:
        raise ForeignJsonError(f"it has {len(text):,} bytes, more than {most:,}")
    if _leaves_brackets(text):
        raise _too_deep()
    whole, real, word = (str, str, str) if numbers_as_text else (_whole, _finite, _no_number)
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            parse_int=whole,
            parse_float=real,
            parse_constant=word,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise _too_deep() from None
    except ForeignJsonError:
        raise
    except ValueError as error:  # no JSON, or no UTF-8
        raise ForeignJsonError(str(error)[:200]) from None
    _require_shallow(value)
    if not half_characters and ("\\ud" in text.lower() if isinstance(text, str) else b"\\ud" in text.lower()):
        _require_whole_characters(value)
    return value


def read_own_json(text: str) -> Any:
    """Read JSON that `read_json` took once and that was kept under a seal since: as fast as Python's parser,
    with one error.

    Raises:
        ForeignJsonError: It is none, or too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ForeignJsonError(str(error)[:200]) from None


def _leaves_brackets(text: str | bytes) -> bool:
    """Whether many brackets are left of a text of which the innermost pairs were taken away, as often as it
    may nest.

    It would be deeper than the parser's stack is to be tried out by others. Brackets in strings are told
    apart only where there seem to be too many.
    """
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return _many_left(raw) and _many_left(_STRINGS.sub(b"", raw))


def _many_left(raw: bytes) -> bool:
    left = raw.translate(None, _NO_BRACKETS)
    for _ in range(DEEPEST + 1):
        if len(left) <= _LEFT:
            return False
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    return len(left) > _LEFT


def _too_deep() -> ForeignJsonError:
    return ForeignJsonError(f"it nests deeper than {DEEPEST} levels")


def _require_shallow(value: Any) -> None:
    level = [value] if type(value) in (dict, list) else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in (dict, list)
        ]
    if level:
        raise _too_deep()


def _require_whole_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ForeignJsonError("it has half a character, which no text can hold") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ForeignJsonError(f"it names {twice[:50]!a} twice in one object")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ForeignJsonError(f"a number of it has {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits) if len(digits) <= MOST_DIGITS else math.inf
    if not math.isfinite(value):
        raise ForeignJsonError(f"{digits[:MOST_DIGITS]} is no finite number")
    return value


def _no_number(word: str) -> float:
    raise ForeignJsonError(f"{word} is no number")
