"""When the interpreter looks for garbage: hardly while a command starts, and not at its end.

Starting makes some hundred thousand objects that live as long as the process; looking through them again and
again, and once more at the end, took a third of the time of a command with nothing to do.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL = gc.get_threshold()
_RARE = (100_000, *_USUAL[1:])


@contextmanager
def starting() -> Iterator[None]:
    """Collect rarely within it, until work begins; and never at the interpreter's end, when everything goes
    anyway.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    gc.set_threshold(*_RARE)
    try:
        yield
    finally:
        gc.set_threshold(*_USUAL)


def work_begins() -> None:
    """Collect as usual from now on: what work leaves behind may hold the rows of many cells."""
    gc.set_threshold(*_USUAL)
