"""Pure functions over frames: reconcile, gaps, resample, bronze history. No I/O, no clock, no order of
arrival.
"""
