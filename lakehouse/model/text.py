"""Text that others wrote, made fit to be shown: in an error, a log, a footer or a terminal."""

_WHOLE_MESSAGE = 20_000  # characters: the longest of our own name a month of files, each with a cut reason


def plain(text: object, most: int = 200, lines: bool = False) -> str:
    r"""Foreign text as it may be shown: without what a terminal obeys or a reader does not see, and no longer
    than `most` characters.

    Control characters (ESC, the C1 set), overrides of the writing direction, invisible characters, lone
    surrogates and separators other than the space stand as their escapes (`\x1b`, `\u202e`). What is cut ends
    in `…`. Text without any of these, in any script, comes out as it went in; so does what came out once.

    Args:
        text: What somebody wrote; anything else stands for its `str`.
        most: Characters of the result; the cost does not grow with what is behind them.
        lines: Whether newlines and tabs stay.
    """
    whole = str(text)
    shown = whole[:most]
    if not shown.isprintable():
        shown = "".join(
            letter if letter.isprintable() or (lines and letter in "\n\t") else _escaped(letter)
            for letter in shown
        )
    return shown if len(whole) <= most and len(shown) <= most else shown[: most - 1] + "…"


def plain_message(text: object) -> str:
    """A whole message of ours, in which foreign text was cut already: its lines stay, whatever slipped
    through does not.
    """
    return plain(text, _WHOLE_MESSAGE, lines=True)


def _escaped(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
