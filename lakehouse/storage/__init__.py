"""Bytes and tables: where objects lie, how cells are written and read, and what a lake holds.

Belongs here: paths, objects, Parquet, footers and seals, ledgers, landing, the catalog.
Does not: what a table means (`datasets`, `features`), how its cells are made (`pipeline`), SQL (`query`).
"""
