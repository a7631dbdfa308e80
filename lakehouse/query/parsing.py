"""A statement as the engine parses it."""

import duckdb


def tree_of(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """The tree of one statement or several, as JSON; `"error":true` where there is none of such statements.

    Args:
        connection: Parses them. What it answers is read to its end: until then it does nothing else.
        text: The statements.
    """
    ((tree,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
    return str(tree)
