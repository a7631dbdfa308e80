"""Declared checks: which rule families a table is held to, as values; `ops` knows what each looks for."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Family = Literal[
    "schema", "gaps", "reconciliation", "evidence", "freshness", "intervals", "anomalies", "resample"
]


class Check(NamedTuple):
    """One rule family that a whole table is held to.

    Attributes:
        family: Name of the family, which is the name of the check.
        parameters: What the family has to know of the table: of `freshness`, `late`, the age at which a
            market's newest row is late; of `intervals`, `column`, with the hours since the row before; of
            `resample`, `of`, the table whose rows are summed.
    """

    family: Family
    parameters: Mapping[str, Any] = {}


SCHEMA = Check("schema")
