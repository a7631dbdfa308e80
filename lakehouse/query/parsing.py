"""Statements as the engine parses them."""

import duckdb


class Parser:
    """An engine's parser, which is asked for the tree of a text once.

    Args:
        connection: One whose locks are on, for to parse some statements the engine opens files.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._trees: dict[str, str] = {}

    def statements(self, text: str) -> list[duckdb.Statement]:
        """The statements of a text.

        Raises:
            duckdb.Error: It does not parse.
        """
        return self._connection.extract_statements(text)

    def tree(self, text: str) -> str:
        """The tree of a text's statements as JSON; `"error":true` where they are not all SELECTs."""
        if text not in self._trees:
            # read to its end: until then a connection does nothing else
            ((tree,),) = self._connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
            self._trees[text] = str(tree)
        return self._trees[text]
