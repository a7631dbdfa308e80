"""What a process of ours does first, so that the secrets of its environment, and the files it makes, stay
with their owner.
"""

import logging
import os
import traceback
from typing import Any

from lakehouse.logs import change_records
from lakehouse.model.secrets import hide, learn, secrets_in

_OTHERS = 0o027  # of the modes of new files and folders: the group does not write, others do nothing


def keep_private() -> None:
    """Learn the environment's secrets, keep new files from others, and have no secret logged; once or several
    times.
    """
    learn(secrets_in(os.environ))
    os.umask(os.umask(_OTHERS) | _OTHERS)
    change_records(_Records)


class _Records:
    """Makes records of a log without secrets, the trace of an exception included."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __call__(self, *args: Any, **more: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.make(*args, **more)
        try:
            said = record.getMessage()
        # a message that does not fit its values, or a value that cannot be shown: the log says so itself
        except Exception:
            return record
        if (shown := hide(said)) != said:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = hide("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record
