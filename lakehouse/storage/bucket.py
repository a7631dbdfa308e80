"""Opening a bucket: how long a store is waited for, and with whose credentials it is asked."""

from datetime import timedelta
from typing import Any

from obstore.store import S3Store

from lakehouse.model.errors import StoreCredentialsError
from lakehouse.model.secrets import learn
from lakehouse.storage.aws import aws_session

# how long a request that finds no answer, or 503, is repeated: an outage of a minute passes unnoticed
PATIENCE = timedelta(seconds=120)
# the same where it is asked what a store knows: one that lacks something says so as an error of its own
BRIEF = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=5)
# time bounds it, not the count
_RETRY: Any = {"max_retries": 1000, "retry_timeout": PATIENCE, "backoff": {"max_backoff": LONGEST_PAUSE}}
# those of a role are good for ten minutes at least; new ones are asked for five minutes before: each minute
_CREDENTIALS_KEPT = timedelta(minutes=6)
# http only where the endpoint says so
_CLIENT: Any = {"allow_http": True, "connect_timeout": "10s", "timeout": "120s"}


def open_bucket(root: str, is_brief: bool = False) -> S3Store:
    """Open the prefix of a bucket, with the credentials that boto3 finds, as Polars and DuckDB do.

    Args:
        root: `s3://bucket/prefix`.
        is_brief: Whether a request that finds no answer is repeated for a moment only.

    Raises:
        ValueError: The address is none of S3.
        StoreCredentialsError: There are no credentials.
    """
    from botocore.credentials import RefreshableCredentials
    from obstore.auth.boto3 import Boto3CredentialProvider

    if not root.startswith("s3://"):
        raise ValueError("no such kind of place is known")
    session = aws_session()
    if session.get_credentials() is None:
        raise StoreCredentialsError("opening", root, "NoCredentials: none were found")

    class Provider(Boto3CredentialProvider):  # type: ignore[misc]
        """Has errors know whatever the store is opened with, and sees what was put in its place since."""

        def __call__(self) -> Any:
            # boto3 renews what it knows to expire; a file that somebody else renews it reads once
            if not isinstance(self.credentials, RefreshableCredentials):
                self.credentials = aws_session().get_credentials() or self.credentials
            found = super().__call__()
            learn([found["secret_access_key"], found.get("token") or ""])
            return found

    # not as a URL, in which ?, # and % mean something
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    return S3Store(
        bucket,
        prefix=prefix or None,
        retry_config=_RETRY | ({"retry_timeout": BRIEF} if is_brief else {}),
        client_options=_CLIENT,
        credential_provider=Provider(session, ttl=_CREDENTIALS_KEPT),
    )
