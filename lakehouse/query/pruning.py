"""Which cells a statement can read, by what it plainly asks of the columns in their path.

Only a single SELECT over one table is looked at, and only conditions that must all hold: comparisons of a path
column with texts. Whatever else there is prunes nothing, so a statement never yields fewer rows than over all
cells: a row of a cell that is left out fails the statement's own WHERE.
"""

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import duckdb

from lakehouse.model.cell import Cell
from lakehouse.model.table import Table
from lakehouse.query.parsing import Parser
from lakehouse.query.reading import path_values
from lakehouse.storage.layout import partition_columns

Condition = tuple[str, Callable[[str], bool]]
"""A path column, and whether a value of it can fulfil a part of the WHERE clause."""

_COMPARED: Mapping[str, Callable[[str, str], bool]] = {
    "COMPARE_EQUAL": operator.eq,
    "COMPARE_LESSTHAN": operator.lt,
    "COMPARE_LESSTHANOREQUALTO": operator.le,
    "COMPARE_GREATERTHAN": operator.gt,
    "COMPARE_GREATERTHANOREQUALTO": operator.ge,
}
# A count(*) without anything of its own, and what may stand around it: what a later engine adds is not known
# to be nothing.
_OF_ANY = ("type", "alias", "query_location", "select_list", "from_table", "where_clause")
_BARE: Mapping[str, Any] = {
    "modifiers": [],
    "cte_map": {"map": []},
    "group_expressions": [],
    "group_sets": [],
    "aggregate_handling": "STANDARD_HANDLING",
    "having": None,
    "sample": None,
    "qualify": None,
}
_BARE_COUNT: Mapping[str, Any] = {
    "class": "FUNCTION",
    "function_name": "count_star",
    "schema": "",
    "children": [],
    "filter": None,
    "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
    "distinct": False,
    "is_operator": False,
    "export_state": False,
    "catalog": "",
}
_TURNED = {
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}


class Pruning:
    """What a statement plainly asks of a table's path columns.

    Args:
        conditions: All of them must hold.
        equal: The values that a column can have, where the statement names them.
        counts: The name of the one column of a statement that does nothing but count the rows of the cells
            that it allows; None of any other.
    """

    def __init__(
        self,
        conditions: Sequence[Condition] = (),
        equal: Mapping[str, set[str]] | None = None,
        counts: str | None = None,
    ) -> None:
        self._conditions = conditions
        self.equal = equal or {}
        self.counts = counts

    def allows(self, cell: Cell | None) -> bool:
        """Whether a cell can have a row that the statement reads."""
        values = path_values(cell)
        return all(holds(values[name]) for name, holds in self._conditions if name in values)


def pruning(parser: Parser, query: str, table: type[Table]) -> Pruning:
    """What a statement plainly asks of the path columns of a table; nothing where it is not plain.

    Args:
        parser: Parses the statement.
        query: The statement.
        table: A table that it mentions.
    """
    try:
        (statement,) = json.loads(parser.tree(query))["statements"]
        return _of(statement["node"], table)
    except (duckdb.Error, ValueError, KeyError, TypeError, RecursionError):
        return Pruning()  # no statement that reads, or none that is written in this way


def _of(node: Mapping[str, Any], table: type[Table]) -> Pruning:
    source, where = node["from_table"], node["where_clause"]
    zone, name = table.name.split("/")
    is_plain = (
        node["type"] == "SELECT_NODE"
        and not node["cte_map"]["map"]
        and source["type"] == "BASE_TABLE"
        and (source["schema_name"].lower(), source["table_name"].lower()) == (zone, name)
        and not source["column_name_alias"]
        and source["sample"] is None
        and node["sample"] is None
        and source["at_clause"] is None
        and not source["catalog_name"]
        and _tables_in(node) == 1
    )
    if not is_plain:
        return Pruning()
    counts = _count_name(node)
    aliases = {expression["alias"].lower() for expression in node["select_list"]}
    keys = {key for key in partition_columns(table) if key not in aliases}
    owners = {(source["alias"] or name).lower()}
    conditions: list[Condition] = []
    equal: dict[str, set[str]] = {}
    for part in _conjuncts(where) if where is not None else ():
        found = list(_conditions(part, keys, owners))
        if not found:
            counts = None  # rows of a cell may differ in it
        for column, holds, values in found:
            conditions.append((column, holds))
            if values is not None:
                equal[column] = equal[column] & values if column in equal else values
    return Pruning(conditions, equal, counts)


def _count_name(node: Mapping[str, Any]) -> str | None:
    """The name of the one column of a statement that, but for its WHERE clause, is a `count(*)`."""
    if len(node["select_list"]) != 1:
        return None
    (counted,) = node["select_list"]
    is_count = counted["type"] == "FUNCTION" and counted["function_name"] == "count_star"
    said = {name: value for name, value in node.items() if name not in _OF_ANY}
    own = {name: value for name, value in counted.items() if name not in _OF_ANY}
    return counted["alias"] or "count_star()" if is_count and said == _BARE and own == _BARE_COUNT else None


def _tables_in(node: Any) -> int:
    """How many tables, subqueries and functions that yield tables stand anywhere in a statement."""
    if isinstance(node, Mapping):
        own = node.get("type") in ("BASE_TABLE", "SUBQUERY", "TABLE_FUNCTION", "JOIN", "SHOW_REF", "PIVOT")
        return own + sum(map(_tables_in, node.values()))
    return sum(map(_tables_in, node)) if isinstance(node, list) else 0


def _conjuncts(where: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if where["type"] == "CONJUNCTION_AND":
        for child in where["children"]:
            yield from _conjuncts(child)
    else:
        yield where


def _conditions(
    part: Mapping[str, Any], keys: set[str], owners: set[str]
) -> Iterator[tuple[str, Callable[[str], bool], set[str] | None]]:
    """The conditions that one part of a WHERE clause puts on path columns, with the values where it names
    them.
    """
    kind = part["type"]
    if kind in _COMPARED:
        left, right = part["left"], part["right"]
        column, text = _column(left, keys, owners), _text(right)
        if column is None or text is None:
            column, text, kind = _column(right, keys, owners), _text(left), _TURNED.get(kind, kind)
        if column is not None and text is not None:
            yield column, _compared(kind, text), {text} if kind == "COMPARE_EQUAL" else None
    elif kind == "COMPARE_BETWEEN":
        column, lower, upper = (
            _column(part["input"], keys, owners),
            _text(part["lower"]),
            _text(part["upper"]),
        )
        if column is not None and lower is not None and upper is not None:
            yield column, _compared("COMPARE_GREATERTHANOREQUALTO", lower), None
            yield column, _compared("COMPARE_LESSTHANOREQUALTO", upper), None
    elif kind == "COMPARE_IN":
        column, *texts = _column(part["children"][0], keys, owners), *map(_text, part["children"][1:])
        values = {text for text in texts if text is not None}
        if column is not None and values and None not in texts:
            yield column, values.__contains__, values


def _compared(kind: str, text: str) -> Callable[[str], bool]:
    compare = _COMPARED[kind]  # texts are in the order of their characters here as in the engine
    return lambda value: compare(value, text)


def _column(expression: Mapping[str, Any], keys: set[str], owners: set[str]) -> str | None:
    """The path column that an expression is; None if it is anything else."""
    if expression["type"] != "COLUMN_REF":
        return None
    *owner, name = (part.lower() for part in expression["column_names"])
    return name if name in keys and (not owner or (len(owner) == 1 and owner[0] in owners)) else None


def _text(expression: Mapping[str, Any]) -> str | None:
    """The text that an expression is; None if it is anything else."""
    if expression["type"] != "VALUE_CONSTANT":
        return None
    value = expression["value"]
    is_text = value["type"]["id"] == "VARCHAR" and not value["is_null"] and not value["type"]["type_info"]
    return value["value"] if is_text and isinstance(value["value"], str) else None
