"""Pure functions over frames: reconciling, gaps, resampling, history.

Belongs here: what can be said of rows by rows alone. No I/O, no clock, no order of arrival.
Does not: names of tables (`datasets`), values that are no frames (`model`).
"""
