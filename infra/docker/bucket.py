"""Make the bucket of the endpoint that keeps everything in memory; one that is there is left as it is."""

import os

import boto3
from botocore.exceptions import ClientError

bucket = os.environ["LAKEHOUSE_ROOT"].removeprefix("s3://").split("/")[0]
s3 = boto3.client("s3")
try:
    s3.head_bucket(Bucket=bucket)
except ClientError as error:
    if error.response["Error"]["Code"] != "404":
        raise
    s3.create_bucket(Bucket=bucket)
