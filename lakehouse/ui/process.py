"""A process of Dagster's with our logs: `python -m lakehouse.ui.process FORMAT MODULE WORD…`."""

import runpy
import sys

from lakehouse.logs import hush_idle_looks, log_as
from lakehouse.privacy import keep_private

DAEMON = "dagster._daemon"
_LOOKS_EVERY = 5
"""Seconds between two looks for backfills. Dagster's own 30 pass before each one starts, and again
between its runs, also of those that carry news downstream; a look in vain is one query.
"""


def hurry() -> None:
    """Have a daemon in this process look for backfills more often, which no setting of Dagster's says."""
    from dagster._daemon import controller

    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = _LOOKS_EVERY


if __name__ == "__main__":
    keep_private()
    form, module, *words = sys.argv[1:]
    log_as("json" if form == "json" else "text")
    hush_idle_looks()
    if module == DAEMON:
        hurry()
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
