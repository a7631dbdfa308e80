"""The Dagster shell: contexts are resolved into plain values here, and nothing is computed.

Belongs here: assets, checks, sensors, conditions, partitions, the IO manager, events.
Does not: decisions. What is due, and how a cell is made, is in `pipeline`; what a check finds, in `ops`.
"""

import warnings

import dagster as dg

# Parts used here that Dagster still calls beta. Its version is pinned, so a warning about each at every start
# has nothing to say.
for _category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)
