"""Folders in which fetched files lie until they are read: each held by a lock, and gone with whoever held
it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

_STAGING = re.compile(r"lakehouse-fetch-[a-z0-9_]{8}")


def sweep_staging() -> None:
    """Remove staging folders that nobody holds any more: a kill leaves them behind. Who holds one is told by
    its lock, also across PID namespaces.
    """
    for path in Path(tempfile.gettempdir()).glob("lakehouse-fetch-*"):
        if _STAGING.fullmatch(path.name):
            with contextlib.suppress(OSError):  # it is held, another's, or gone
                held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if os.fstat(held).st_uid == os.getuid():
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(held)


def make_staging() -> tuple[Path, int]:
    """A new staging folder, and the descriptor that holds its lock: the system lets go of it when this
    process ends, however it does.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix="lakehouse-fetch-"))
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # a filesystem without locks, on which nobody sweeps either
                fcntl.flock(held, fcntl.LOCK_EX)
            if folder.exists():
                return folder, held
            os.close(held)
