"""The Dagster shell: contexts are resolved into plain values here, and nothing is computed."""

import warnings

import dagster as dg

# Parts used here that Dagster still calls beta. Its version is pinned, so a warning about each at every start
# has nothing to say.
for _category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)
