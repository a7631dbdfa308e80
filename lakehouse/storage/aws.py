"""AWS clients, configured by AWS's own variables and files."""

import os
from typing import Any

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


def aws_client(service: str) -> Any:
    """A boto3 client that waits and tries again when throttled."""
    from botocore.config import Config

    return aws_session().client(service, config=Config(retries={"mode": "standard", "max_attempts": 8}))


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
