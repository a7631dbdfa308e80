"""AWS clients, configured by AWS's own variables and files."""

import os
from collections.abc import Iterator
from typing import Any, Literal

from lakehouse.model.secrets import learn, secrets_in


def aws_session() -> Any:
    """A boto3 session. Every other AWS SDK takes the region from AWS_REGION; boto3 alone reads only
    AWS_DEFAULT_REGION, so it is told here.
    """
    import boto3

    learn(secrets_in(os.environ))
    session = boto3.Session()
    return (
        session
        if session.region_name
        else boto3.Session(region_name=os.environ.get("AWS_REGION", "us-east-1"))
    )


def aws_client(service: str, retries: Literal["standard", "adaptive"] = "standard") -> Any:
    """A boto3 client that waits and tries again when throttled.

    Args:
        service: Such as `s3`.
        retries: `adaptive` also sends fewer requests a second once one was throttled: for whoever sends many
            beside each other.
    """
    from botocore.config import Config

    return aws_session().client(service, config=Config(retries={"mode": retries, "max_attempts": 8}))


def bucket_region(bucket: str) -> str:
    """Where a bucket lies, which S3 tells even those it refuses; empty if it does not say."""
    import requests

    try:
        answer = requests.head(
            f"{aws_client('s3').meta.endpoint_url}/{bucket}", timeout=10, allow_redirects=False
        )
    except requests.RequestException:
        return ""
    return answer.headers.get("x-amz-bucket-region", "")


class ReadingGlue:
    """A Glue client that reads, and takes what it is told to write for done."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("create_", "update_", "batch_create_", "batch_update_", "batch_delete_")):
            return lambda **_: {}
        if name == "get_paginator":
            return lambda call: _FirstOrNothing(
                self._client.get_paginator(call), self._client.exceptions.EntityNotFoundException
            )
        return getattr(self._client, name)


class _FirstOrNothing:
    """A paginator of a table that may not be there."""

    def __init__(self, paginator: Any, absent: type[Exception]) -> None:
        self._paginator, self._absent = paginator, absent

    def paginate(self, **arguments: Any) -> Iterator[Any]:
        try:
            yield from self._paginator.paginate(**arguments)
        except self._absent:
            return
