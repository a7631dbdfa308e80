"""Lineage: where and when a row was read."""

import polars as pl

from lakehouse.model.table import UTC_TIME, Column, Table


class Lineage(Table):
    """The columns that say where a row of bronze comes from."""

    source = Column(pl.String, "Kind of source: monthly, daily or api")
    source_file = Column(pl.String, "Archive key of the file the row was read from, or address of the API")
    source_sha256 = Column(pl.String, "sha256 of that file, or of the rows of that answer")
    fetched_at = Column(UTC_TIME, "When that was fetched", "UTC")
    is_removed = Column(pl.Boolean, "The source no longer has this key: the values are null")
