"""A DuckDB connection that can read a lake, wherever it lies."""

from urllib.parse import urlsplit

import duckdb

from lakehouse.storage.aws import aws_session
from lakehouse.storage.objects import LakeObjects

_S3_THREADS = 32  # threads are what S3 reads are made at once by: 16 read 7.6 times as fast as 2


def connect(objects: LakeObjects) -> duckdb.DuckDBPyConnection:
    """An in-memory connection that shows instants in UTC and reads the lake's store."""
    connection = duckdb.connect()
    prepare(connection, objects)
    return connection


def prepare(connection: duckdb.DuckDBPyConnection, objects: LakeObjects) -> None:
    """Teach a connection to read a lake: UTC, and for S3 the extension out of its wheel, the credentials and the endpoint boto3 finds.

    Args:
        connection: Any DuckDB connection.
        objects: The lake.
    """
    connection.execute("SET TimeZone='UTC'")
    if objects.is_local:
        return
    from duckdb_extensions import import_extension

    import_extension("httpfs", con=connection)
    connection.execute("LOAD httpfs")
    connection.execute(f"SET threads={_S3_THREADS}")
    session = aws_session()
    client, credentials = session.client("s3"), session.get_credentials()
    endpoint = urlsplit(client.meta.endpoint_url)
    options = {"REGION": client.meta.region_name, "ENDPOINT": endpoint.netloc, "URL_STYLE": "path", "USE_SSL": str(endpoint.scheme == "https").lower()}
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        options |= {"KEY_ID": frozen.access_key, "SECRET": frozen.secret_key} | ({"SESSION_TOKEN": frozen.token} if frozen.token else {})
    said = ", ".join(f"{name} '{value.replace(chr(39), chr(39) * 2)}'" for name, value in options.items())
    connection.execute(f"CREATE OR REPLACE SECRET lake (TYPE s3, PROVIDER config, {said})")
