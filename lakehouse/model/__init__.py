"""The vocabulary: markets, periods, cells, table declarations, what a cell says of itself, errors.

Belongs here: values that every room speaks in, and the classes of all errors.
Does not: I/O (`storage`, `sources`), functions over frames (`transform`), any table of its own (`datasets`).
"""
