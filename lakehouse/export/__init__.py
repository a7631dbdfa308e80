"""Exports: candles and funding rates as files in the layout that a backtester reads, each with a sidecar.

Belongs here: one file per target (pure: rows to bytes), the sidecar, putting files into a folder.
Does not: reading cells (`query`), what a gap is (`transform`), options and what a terminal shows (`cli`).
"""

from lakehouse.export.exporting import TARGETS as TARGETS
from lakehouse.export.exporting import Exported as Exported
from lakehouse.export.exporting import export as export

__all__ = ["TARGETS", "Exported", "export"]
