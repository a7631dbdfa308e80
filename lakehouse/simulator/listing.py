"""ListObjects and ListObjectsV2 in S3's XML."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from urllib.parse import quote
from xml.sax.saxutils import escape

from lakehouse.simulator.archive import Archive, ArchiveObject

BUCKET = "data.binance.vision"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_MOST = 1000


class ListingArgumentError(ValueError):
    """A parameter of a listing that cannot be read."""


def error_xml(code: str, message: str, key: str) -> bytes:
    """S3's error document."""
    said = f"{_tag('Code', code)}{_tag('Message', message)}{_tag('Key', key)}"
    return f"{_DECLARATION}<Error>{said}</Error>".encode()


def location_xml() -> bytes:
    """Answer to `?location`."""
    return (
        f'{_DECLARATION}<LocationConstraint xmlns="{_NAMESPACE}">ap-northeast-1</LocationConstraint>'.encode()
    )


def listing_xml(archive: Archive, query: Mapping[str, str]) -> bytes:
    """One page of a listing.

    Args:
        archive: Where the objects are.
        query: The request's parameters; `list-type=2` asks for the second version.

    Raises:
        ListingArgumentError: `max-keys` or the continuation token cannot be read.
    """
    second = query.get("list-type") == "2"
    prefix, delimiter, most = (
        query.get("prefix", ""),
        query.get("delimiter", ""),
        _max_keys(query.get("max-keys")),
    )
    token = query.get("continuation-token", "")
    after = (_read_token(token) or query.get("start-after", "")) if second else query.get("marker", "")
    found = list(islice(archive.groups(prefix, delimiter, after), most + 1))
    # A page of no keys is a complete one: there would be nothing to continue from.
    truncated, found = 0 < most < len(found), found[:most]

    url_encoded = query.get("encoding-type") == "url"

    def text(value: str) -> str:
        return quote(value, safe="/-_.~*") if url_encoded else escape(value)

    objects = [item for key, is_prefix in found if not is_prefix and (item := archive.find(key))]
    page = [_tag("Name", BUCKET), f"<Prefix>{text(prefix)}</Prefix>"]
    if second:
        page += [f"<ContinuationToken>{escape(token)}</ContinuationToken>"] if token else []
        page += [f"<StartAfter>{text(query['start-after'])}</StartAfter>"] if query.get("start-after") else []
        page += [_tag("KeyCount", str(len(found)))]
        page += [_tag("NextContinuationToken", _token(found[-1][0]))] if truncated else []
    else:
        page += [f"<Marker>{text(after)}</Marker>"]
        page += [f"<NextMarker>{text(found[-1][0])}</NextMarker>"] if truncated and delimiter else []
    page += [_tag("MaxKeys", str(most))]
    page += [f"<Delimiter>{text(delimiter)}</Delimiter>"] if delimiter else []
    page += [_tag("EncodingType", "url")] if url_encoded else []
    page += [_tag("IsTruncated", "true" if truncated else "false")]
    page += [_contents(item, text(item.key)) for item in objects]
    page += [
        f"<CommonPrefixes><Prefix>{text(key)}</Prefix></CommonPrefixes>"
        for key, is_prefix in found
        if is_prefix
    ]
    return f'{_DECLARATION}<ListBucketResult xmlns="{_NAMESPACE}">{"".join(page)}</ListBucketResult>'.encode()


def _contents(item: ArchiveObject, key: str) -> str:
    facts = (
        f"<LastModified>{_instant(item.modified)}</LastModified><ETag>&quot;{item.etag}&quot;</ETag>"
        f"<Size>{item.size}</Size>"
    )
    return f"<Contents><Key>{key}</Key>{facts}<StorageClass>STANDARD</StorageClass></Contents>"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}.000Z"


def _max_keys(text: str | None) -> int:
    if text is None:
        return _MOST
    if not text.isdecimal():
        raise ListingArgumentError("max-keys")
    return min(int(text), _MOST)


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ListingArgumentError("continuation-token") from None


def _tag(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"
