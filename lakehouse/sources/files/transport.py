"""An exchange archive by HTTP: keys are listed page by page, and objects lie in a store.

Listing is plain S3 (ListObjectsV2) over bounded HTTP. Nothing that answers is trusted to end: pages, keys and
seconds are bounded, and no redirect leads to another host.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from obstore.store import S3Store

from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.addresses import address_setting
from lakehouse.model.errors import FetchError, ListingBoundsError, ListingUnreachableError
from lakehouse.model.text import plain

if TYPE_CHECKING:
    import requests
    from obstore.store import ClientConfig, RetryConfig, S3Config

_TRIES = 4  # s5cmd doubles its waits: a key that answers 503 for good costs about 20 s
_PAUSES = (0.2, 1.0, 3.0)  # seconds between tries of a page of a listing
_MOST_PAGE = 4 << 20  # bytes: a thousand keys of 1,024 bytes, each of them escaped
# of a page: an entry has 11 elements and its ETag's quotes, and what a page is in memory grows with these
_MOST_TAGS, _MOST_QUOTES = 40_000, 10_000
_MOST_PAGES = 100
_MOST_KEYS = 50_000  # of a listing: the daily folder of a market that is ten years old has 7,300
_PAGE_SECONDS, _LISTING_SECONDS, _FILE_SECONDS = 60.0, 300.0, 60.0
NOWHERE = "http://127.0.0.1:9"
"""A proxy that there is not: whatever is sent on to another host than the archive's ends here."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as the archive's listing describes it."""

    key: str
    etag: str
    size: int
    last_modified: datetime


class ArchiveClient:
    """Reads one archive bucket.

    Args:
        url: S3 endpoint, without the bucket.
        bucket: Bucket name.
        setting: The setting that moves the endpoint, for messages.
        workers: Connections used at once.
    """

    def __init__(
        self, url: str, bucket: str, setting: str = "the archive's address", workers: int = 32
    ) -> None:
        self.url = url.rstrip("/")
        self.bucket = bucket
        self.setting = setting
        self.workers = workers
        self.tries, self.file_seconds = _TRIES, _FILE_SECONDS

    @classmethod
    def of(cls, exchange: Exchange) -> "ArchiveClient":
        """The client of an exchange's archive."""
        return cls(exchange.archive_url, exchange.bucket, address_setting(exchange.name, "archive"))

    def objects(self, prefix: str, after: str = "", at_first: int = 0) -> Iterator[Listed]:
        """Objects below a prefix, page by page in key order.

        Args:
            prefix: Ends with `/`.
            after: Keys up to and including this one are skipped.
            at_first: The most keys of the first page, for who may need no more; 0 for as many as there are.

        Raises:
            ListingUnreachableError: The endpoint does not answer, or not with a listing.
            ListingBoundsError: It answers with one that has no end, or so slowly that it might as well have
                none.
            FetchError: The prefix is none that can be asked for; others may be.
        """
        for page in self._pages(f"{prefix.rstrip('/')}/", after, at_first=at_first):
            yield from page.objects

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a prefix.

        Raises:
            ListingUnreachableError, ListingBoundsError: As `objects`.
        """
        found = [
            folder for page in self._pages(f"{prefix.rstrip('/')}/", delimiter="/") for folder in page.folders
        ]
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found]

    def _pages(
        self, prefix: str, after: str = "", delimiter: str = "", at_first: int = 0
    ) -> Iterator["_Page"]:
        """The pages of a listing, each of which goes on where the one before it ended."""
        parameters = {"list-type": "2", "encoding-type": "url", "prefix": prefix} | (
            {"delimiter": delimiter} if delimiter else {}
        )
        until, count, token = time.monotonic() + _LISTING_SECONDS, 0, ""
        try:
            prefix.encode()
        except UnicodeEncodeError as error:
            raise FetchError(plain(prefix), "it has half a character, which no address can hold") from error
        for _ in range(_MOST_PAGES):
            # Behind a key anybody can go on, also where the last answer came from a cache in between; behind
            # a folder only a token leads.
            begin = {"continuation-token": token} if token else {"start-after": after} if after else {}
            begin, at_first = begin | ({"max-keys": str(at_first)} if at_first else {}), 0
            page = self._page(
                prefix, f"{self.url}/{self.bucket}?{urlencode(parameters | begin, quote_via=quote)}"
            )
            yield page
            if not page.goes_on:
                return
            count += len(page.objects) + len(page.folders)
            last = max([*(listed.key for listed in page.objects), *page.folders], default="")
            if last <= after or (delimiter and page.token in ("", token)):
                raise ListingBoundsError(
                    self.url,
                    prefix,
                    f"for it says that more follows {plain(last) or 'nothing'}, and does not go on from "
                    "there",
                )
            if count > _MOST_KEYS or time.monotonic() > until:
                break
            after, token = last, page.token if delimiter else ""
        raise ListingBoundsError(
            self.url,
            prefix,
            f"with more than {_MOST_KEYS:,} keys, {_MOST_PAGES} pages or {_LISTING_SECONDS:.0f} s",
        )

    def _page(self, prefix: str, url: str) -> "_Page":
        """One answer of a listing, whatever its keys look like.

        Raises:
            ListingUnreachableError: Nothing is answered, or no listing, which is quoted then.
            ListingBoundsError: More than a page, or too slowly.
        """
        answer = self._ask(prefix, url)
        try:
            return _read_page(answer)
        except (
            SyntaxError,
            ValueError,
            KeyError,
            OverflowError,
        ) as error:  # the first is what the XML parser raises
            said = plain(" ".join(answer[:120].decode("utf-8", "replace").split()))
            raise ListingUnreachableError(
                self.url,
                prefix,
                f"what it answered is no listing ({plain(error)}), it begins {said!r}",
                self.setting,
            ) from error

    def _ask(self, prefix: str, url: str) -> bytes:
        from lakehouse.sources.rest.bounded import beyond_bounds

        for pause in (*_PAUSES[: _TRIES - 1], None):
            try:
                answer = self._session.get(url, timeout=(5, 30))
                if answer.status_code == 200:
                    return answer.content
                why, is_final = (
                    f"HTTP {answer.status_code}, {plain(answer.content[:200].decode('utf-8', 'replace'))}",
                    answer.status_code < 500 and answer.status_code != 429,
                )
            except OSError as error:  # as every error of the session is
                if beyond_bounds(error):
                    raise ListingBoundsError(self.url, prefix, f"for {error}") from error
                why, is_final = str(error), False
            if pause is None or is_final:
                break
            time.sleep(pause)
        raise ListingUnreachableError(self.url, prefix, why, self.setting)

    @cached_property
    def _session(self) -> "requests.Session":
        # a fifth of a second that reading landed files never needs
        from lakehouse.sources.rest.bounded import Bounds, session

        return session(lambda url: Bounds(_MOST_PAGE, _PAGE_SECONDS), self.workers)

    def object_url(self, key: str) -> str:
        """Address of an object for plain HTTP."""
        return f"{self.url}/{self.bucket}/{quote(key)}"

    @cached_property
    def store(self) -> S3Store:
        """The bucket, read without credentials. Made once: loading the machine's certificates takes longer
        than a request.
        """
        # A key without its secret, or an endpoint that is meant for the lake, stops obstore, which reads
        # AWS's variables even where it signs nothing.
        unsigned: S3Config = {
            "access_key_id": "none",
            "secret_access_key": "none",
            "session_token": "",
            "aws_endpoint_url_s3": self.url,
            "s3_express": False,
        }
        retry: RetryConfig = {"max_retries": self.tries, "retry_timeout": timedelta(seconds=20)}
        options: ClientConfig = {
            "allow_http": self.url.startswith("http:"),
            "connect_timeout": "5s",
            "read_timeout": "20s",
            "timeout": timedelta(seconds=self.file_seconds),
        }
        if host := self.only_host:
            options |= {"proxy_url": NOWHERE, "proxy_excludes": host}
        return S3Store(
            self.bucket,
            config=unsigned,
            endpoint=self.url,
            region="ap-northeast-1",
            skip_signature=True,
            virtual_hosted_style_request=False,
            retry_config=retry,
            client_options=options,
        )

    @cached_property
    def only_host(self) -> str:
        """The archive's host, where nothing but it is spoken to; empty where a proxy stands in between, which
        then has to know better.
        """
        host = urlsplit(self.url).hostname or ""
        return host if not {"http", "https", "all"} & getproxies().keys() or proxy_bypass(host) else ""


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer of a listing."""

    objects: list[Listed]
    folders: list[str]
    goes_on: bool
    token: str


def _read_page(answer: bytes) -> _Page:
    """One answer of a listing.

    Raises:
        ParseError, ValueError, KeyError: It is none. What could be more in memory than on the way is not
            looked at any further.
    """
    from xml.etree import ElementTree  # reading landed files needs none of it

    # the latter stands for encodings in which the former is not seen
    if b"<!DOCTYPE" in answer or b"\0" in answer:
        raise ValueError("it brings a document type of its own, or is no UTF-8")
    if answer.count(b"<") > _MOST_TAGS or answer.count(b'"') + answer.count(b"'") > _MOST_QUOTES:
        raise ValueError("it has more elements or quotes than a page can have")
    # bounded above, without a DTD, in one encoding
    root = ElementTree.fromstring(answer, ElementTree.XMLParser(encoding="utf-8"))  # noqa: S314
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise ValueError(f"its root is {root.tag}")
    objects = [
        _listed({part.tag.rpartition("}")[2]: part.text or "" for part in entry})
        for entry in root.iterfind("{*}Contents")
    ]
    folders = [unquote(found.text or "") for found in root.iterfind("{*}CommonPrefixes/{*}Prefix")]
    return _Page(
        objects,
        folders,
        root.findtext("{*}IsTruncated") == "true",
        root.findtext("{*}NextContinuationToken") or "",
    )


def _listed(entry: Mapping[str, str]) -> Listed:
    """An object out of the parts of its entry in a listing."""
    return Listed(
        unquote(entry["Key"]),
        etag(entry["ETag"]),
        int(entry["Size"]),
        datetime.fromisoformat(entry["LastModified"]).astimezone(UTC),
    )


def etag(told: str | None) -> str:
    """An ETag without quotes, and without the mark of a weak one, which a cache that compresses may add."""
    return (told or "").removeprefix("W/").strip('"')
