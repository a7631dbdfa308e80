"""What a store's refusal means: the one place that reads the words of S3 clients (obstore, Polars)."""

import re
from urllib.parse import urlsplit

from lakehouse.model.errors import (
    BucketMissingError,
    BucketRegionError,
    StoreCredentialsError,
    StoreDeniedError,
    StoreError,
    StoreLacksError,
    StoreUnreachableError,
)
from lakehouse.model.secrets import hide, hide_tokens
from lakehouse.model.text import plain
from lakehouse.storage.aws import bucket_region

NO_BUCKET = "NoSuchBucket"
_CREDENTIALS = {
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "NoCredentials"),
    *(
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
    ),
}
_ELSEWHERE = ("PermanentRedirect", "IllegalLocationConstraintException")
_PERMISSIONS = {"writing": "s3:PutObject", "deleting": "s3:DeleteObject", "reading": "s3:GetObject"}
# as S3 says it; as obstore does of a deletion; as DuckDB does
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)|^([A-Z][A-Za-z]+): .", re.MULTILINE)
_SAID = re.compile(r"<Message>([^<]+)</Message>|^[A-Z][A-Za-z]+: (.+)", re.MULTILINE)
_PATH = re.compile(r"\(path: ([^)]+)\)")
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'")
_FORBIDDEN = re.compile(r"(code: |HTTP )403\b")
_SILENT = re.compile(
    r"error sending request|response body|timed out|code: 5\d\d\b|HTTP 5\d\d\b|error for HTTP"
)


def refusal(doing: str, root: str, path: str, error: BaseException) -> StoreError:
    """The error of ours for one of a store's client.

    Args:
        doing: `reading`, `writing`, `deleting` or `listing`.
        root: The lake's root, a folder or an S3 address.
        path: Which object or folder below it, for the message; empty if only the client knows.
        error: What the client raised.
    """
    text, bucket = str(error), urlsplit(root).netloc
    named = None if path else _PATH.search(text)
    uri = named[1] if named else f"{root}/{path}".rstrip("/")
    found, said = _CODE.search(text), _SAID.search(text)
    code = found[found.lastindex or 0] if found else ""
    words = said[said.lastindex or 0] if code and said else text.strip().split("\n", 1)[0]
    words = (hide_tokens if "://" in root else hide)(words).rstrip(".")
    why = plain(f"{code}: {words}" if code and said else words)
    if "://" not in root:
        return StoreError(doing, uri, why)
    if code == NO_BUCKET:
        return BucketMissingError(doing, uri, bucket)
    region = _REGION.search(text)
    if region or code in _ELSEWHERE or "redirect without LOCATION" in text:
        return BucketRegionError(
            doing, uri, bucket, region[region.lastindex or 0] if region else bucket_region(bucket)
        )
    if code in _CREDENTIALS:
        return StoreCredentialsError(doing, uri, why)
    if code == "AccessDenied" or _FORBIDDEN.search(text):
        missing = (
            {_PERMISSIONS[doing]: f"arn:aws:s3:::{root.removeprefix('s3://')}/*"}
            if doing in _PERMISSIONS
            else {}
        )
        if doing not in ("writing", "deleting"):  # without it an object that is not there is refused too
            missing["s3:ListBucket"] = f"arn:aws:s3:::{bucket}"
        return StoreDeniedError(doing, uri, why, missing)
    if code == "NotImplemented":
        return StoreLacksError(doing, uri, why)
    return (
        StoreUnreachableError(doing, uri, why)
        if _SILENT.search(text.split("\n\nDebug source", 1)[0])
        else StoreError(doing, uri, why)
    )
