"""A process of Dagster's with our logs: `python -m lakehouse.ui.process FORMAT MODULE WORD…`."""

import runpy
import sys

from lakehouse.logs import hush_idle_looks, log_as
from lakehouse.privacy import keep_private

if __name__ == "__main__":
    keep_private()
    form, module, *words = sys.argv[1:]
    log_as("json" if form == "json" else "text")
    hush_idle_looks()
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
