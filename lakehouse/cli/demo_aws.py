"""What the demo shows on AWS: what is registered in Glue, and that Trino reads it as DuckDB does."""

import time

import polars as pl

from lakehouse.cli.console import out
from lakehouse.cli.local_trino import LocalTrino, missing_for_trino
from lakehouse.cli.reporting import Format, Report, frame_of
from lakehouse.query.trino import Trino
from lakehouse.storage.aws import aws_client


def say_catalog(prefix: str) -> None:
    """Say what is registered under a prefix."""
    glue, rows = aws_client("glue"), []
    for database in (f"{prefix}_silver", f"{prefix}_gold"):
        for table in glue.get_tables(DatabaseName=database)["TableList"]:
            pages = glue.get_paginator("get_partitions").paginate(
                DatabaseName=database, TableName=table["Name"]
            )
            rows.append(
                {
                    "database": database,
                    "table": table["Name"],
                    "columns": len(table["StorageDescriptor"]["Columns"]),
                    "partitions": sum(len(page["Partitions"]) for page in pages),
                }
            )
    Report(Format.table).table("Registered in Glue", frame_of(rows))


def say_trino(trino: LocalTrino | None, prefix: str, question: str, expected: pl.DataFrame) -> bool:
    """Ask Trino what DuckDB was asked, and say whether the answers are equal, which is what comes back.

    Args:
        trino: The server, which may not answer yet; None says that there is none, and what it lacks.
        prefix: That of the databases in Glue.
        question: What was asked.
        expected: What DuckDB answered.

    Raises:
        LocalTrinoError: The server does not come up.
    """
    if trino is None:
        out.print(
            f"Trino was not asked: this machine lacks {missing_for_trino()}. All else was shown.\n",
            highlight=False,
        )
        return True
    trino.wait()
    began = time.monotonic()
    found = Trino(trino.url, prefix).sql(question)
    took = time.monotonic() - began
    Report(Format.table).table(
        "The same question to a Trino server, which finds the tables in Glue and reads the bucket by itself",
        found,
    )
    is_equal = found.equals(expected)
    out.print(
        f"DuckDB and Trino agree. Trino's first answer took {took:.1f} s.\n"
        if is_equal
        else "[red]DuckDB and Trino differ.[/red]\n",
        highlight=False,
    )
    return is_equal
