"""Archive files as they were fetched, with immutable receipts: bronze can be rebuilt from here without the
network.

A zip is named by its sha256, and a receipt carries a seal over what it says. Both are checked whenever they
are used: what is not as it was stored counts as absent, so that the file is fetched again.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from lakehouse.model.errors import DamagedObjectError
from lakehouse.model.foreign_json import read_json
from lakehouse.storage.layout import landing_key, landing_prefix
from lakehouse.storage.objects import NEW, ChangedMeanwhileError, LakeObjects
from lakehouse.storage.seal import json_seal, sealed_json
from lakehouse.storage.verification import Damage

Outcome = Literal["ok", "mismatch", "corrupt"]

_SHA256 = "[0-9a-f]{64}"
_NAME = re.compile(rf"({_SHA256})(?:\.zip|\+*(\.json))")
_TIMES = ("last_modified", "fetched_at")
_AT_ONCE = 4  # objects that an inspection holds in memory together
_LARGEST_RECEIPT = 1 << 20
_BATCH = 1000  # objects that an inspection has in hand: no list of a whole landing's worth of them


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was fetched for an archive key, once.

    Attributes:
        key: The archive key.
        url: Where it was fetched from.
        state: What the listing said of the file and its CHECKSUM; another state is another version.
        sha256: Of the bytes received.
        published_checksum: The CHECKSUM file's text, empty if there is none.
        last_modified: As listed.
        fetched_at: When it arrived.
        outcome: `ok`, `mismatch` (not the published bytes; they are not kept) or `corrupt` (the published
            bytes, unusable; kept).
        message: What is wrong with it; empty if nothing.
    """

    key: str
    url: str
    state: str
    sha256: str
    published_checksum: str
    last_modified: datetime
    fetched_at: datetime
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class LandingInspection:
    """What an inspection of one exchange's landing found.

    Attributes:
        checked: Objects looked at.
        unsealed: Receipts among them that carry no seal: an earlier release wrote them, and of what they say
            nothing was proven.
        damage: What is not as it was stored. A zip that is absent though a receipt stands for it is named by
            its path, with an empty etag.
    """

    checked: int
    unsealed: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class _Looked:
    """An object as an inspection saw it; `why` is empty of a sound one, `receipt` None where it is none."""

    path: str
    etag: str
    why: str = ""
    receipt: Receipt | None = None
    is_sealed: bool = True


class Landing:
    """The landing store of one exchange.

    Args:
        objects: The lake's objects.
        exchange: The exchange's name.
    """

    def __init__(self, objects: LakeObjects, exchange: str) -> None:
        self.objects = objects
        self.exchange = exchange

    def receipts(self, prefix: str) -> dict[str, list[str]]:
        """Paths of all receipts below an archive key prefix, by key."""
        found: dict[str, list[str]] = {}
        for entry in self.objects.list(landing_prefix(self.exchange, prefix).rstrip("/")):
            if entry.path.endswith(".json"):
                found.setdefault(landing_key(self.exchange, entry.path), []).append(entry.path)
        return found

    def find(self, paths: list[str], state: str) -> Receipt | None:
        """The newest receipt of a key if it is of the version a listing describes; None if that was never
        fetched, or something else since.
        """
        newest = self._newest(paths)
        return newest if newest is not None and newest.state == state else None

    def history(self, paths: Iterable[str]) -> list[Receipt]:
        """The sound receipts among objects, oldest first."""
        found = [receipt for path in paths if (receipt := self.read(path)) is not None]
        return sorted(found, key=lambda receipt: receipt.fetched_at)

    def read(self, path: str) -> Receipt | None:
        """The receipt at a path; None for what is none, or not as it was written there, so that its file is
        fetched again instead of every file being out of reach.
        """
        body = self.objects.get(path)
        try:
            return self._parse(path, body)[0] if body is not None else None
        except DamagedObjectError:
            return None

    def admit(self, receipt: Receipt, body: bytes) -> Receipt:
        """Keep a fetched file under its key and hash, then its receipt; the receipt that stands for it from
        now on.

        Receipts never change. One that says the same already stands; a file that came back (A, then B, then A
        again) gets a second one, whose instant says when. A new one is always later than all before it,
        whatever the clock says.
        """
        folder, key, at = landing_prefix(self.exchange, receipt.key), receipt.key, self._zip_path(receipt)
        keeping = [lambda: self.objects.put(at, body)] if receipt.outcome != "mismatch" else []
        listed, *_ = self.objects.together(lambda: self.receipts(key), *keeping)
        while True:
            paths = listed.get(key, [])
            newest = self._newest(paths)
            if newest is not None:
                if (newest.state, newest.sha256) == (receipt.state, receipt.sha256):
                    return newest
                receipt = replace(
                    receipt, fetched_at=max(receipt.fetched_at, newest.fetched_at + timedelta(microseconds=1))
                )
            path = f"{folder}/{receipt.sha256}.json"
            while path in paths:
                # the same bytes under another etag or checksum, or once more: a further receipt beside the
                # first
                path = path.replace(".json", "+.json")
            said = {name: str(value) for name, value in asdict(receipt).items()}
            # another process admits the same file: look again
            with contextlib.suppress(ChangedMeanwhileError):
                self.objects.put(path, sealed_json(said, indent=1), NEW)
                return receipt
            listed = self.receipts(key)

    def body(self, receipt: Receipt) -> bytes | None:
        """The bytes a receipt stands for; None if they are not kept, were removed, or are not those it names
        by their hash.
        """
        body = self.objects.get(self._zip_path(receipt))
        return body if body is not None and hashlib.sha256(body).hexdigest() == receipt.sha256 else None

    def inspect(self) -> LandingInspection:
        """Look at every object: whether it is a zip that is what its name says, or a receipt that reads,
        holds its seal and lies where it belongs.

        Objects are read a few at a time, each whole.
        """
        listed = [found.path for found in self.objects.list(landing_prefix(self.exchange, "").rstrip("/"))]
        looked: list[_Looked] = []
        # the time is the store's, and hashing lets other threads run
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(listed), _BATCH):
                looked += (
                    found
                    for found in pool.map(self._look, listed[start : start + _BATCH])
                    if found is not None
                )
        damage = [Damage(found.path, found.etag, found.why) for found in looked if found.why]
        receipts = {found.path: found for found in looked if found.receipt is not None}
        unsealed = sum(not found.is_sealed for found in receipts.values())
        return LandingInspection(
            len(looked), unsealed, (*damage, *_repeated(receipts), *self._absent(receipts, set(listed)))
        )

    def _look(self, path: str) -> _Looked | None:
        """One object; None if it was removed since it was listed."""
        found = self.objects.get_tagged(path)
        if found is None:
            return None
        (body, etag), (folder, name) = found, path.rsplit("/", 1)
        named = _NAME.fullmatch(name)
        if named is None or landing_prefix(self.exchange, landing_key(self.exchange, path)) != folder:
            return _Looked(path, etag, "it is neither the zip nor the receipt of an archive file")
        if not named[2]:
            sha256 = hashlib.sha256(body).hexdigest()
            return _Looked(
                path,
                etag,
                f"its sha256 is {sha256[:12]}…, its name says {named[1][:12]}…" if sha256 != named[1] else "",
            )
        try:
            receipt, is_sealed = self._parse(path, body)
        except DamagedObjectError as error:
            return _Looked(path, etag, error.why)
        return _Looked(path, etag, "", receipt, is_sealed)

    def _absent(self, receipts: Mapping[str, _Looked], listed: set[str]) -> Iterator[Damage]:
        """Zips that are not there though receipts stand for them."""
        awaited = {
            self._zip_path(found.receipt): path
            for path, found in receipts.items()
            if found.receipt and found.receipt.outcome != "mismatch"
        }
        for path, receipt in awaited.items():
            if path not in listed and self.objects.get(path) is None:  # it may have come since
                yield Damage(
                    path, "", f"it is absent, and {receipt.rsplit('/', 1)[-1]} says that it was kept"
                )

    def _newest(self, paths: list[str]) -> Receipt | None:
        return next(reversed(self.history(paths)), None)

    def _zip_path(self, receipt: Receipt) -> str:
        return f"{landing_prefix(self.exchange, receipt.key)}/{receipt.sha256}.zip"

    def _parse(self, path: str, body: bytes) -> tuple[Receipt, bool]:
        """The receipt that an object holds, and whether it carries a seal.

        Raises:
            DamagedObjectError: It is none, not the one that was written, or another file's.
        """
        try:
            said = read_json(body, _LARGEST_RECEIPT)
            seal, is_sealed = said.get("seal"), "seal" in said
            told = {name: value for name, value in said.items() if name != "seal"}
            if set(told) != {field.name for field in fields(Receipt)} or not all(
                isinstance(value, str) for value in told.values()
            ):
                # also where the name of the seal was destroyed
                raise ValueError("its fields are not those of a receipt")
            if is_sealed and seal != json_seal(told):
                raise ValueError("what it says is not what was sealed")
            times = {name: datetime.fromisoformat(told[name]) for name in _TIMES}
            if any(time.utcoffset() is None for time in times.values()):
                raise ValueError("its times have no offset")
            if told["outcome"] not in get_args(Outcome) or not re.fullmatch(_SHA256, told["sha256"]):
                raise ValueError("its outcome or sha256 is none")
            receipt = Receipt(**(told | {name: time.astimezone(UTC) for name, time in times.items()}))
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise DamagedObjectError(path, f"it is no sound receipt: {error}") from None
        folder, name = path.rsplit("/", 1)
        named = _NAME.fullmatch(name)
        if (
            folder != landing_prefix(self.exchange, receipt.key)
            or named is None
            or named[1] != receipt.sha256
        ):
            raise DamagedObjectError(
                path,
                f"it is the receipt of {receipt.sha256[:12]}… under {receipt.key}, another one than its path "
                "says",
            )
        return receipt, is_sealed


def _repeated(receipts: Mapping[str, _Looked]) -> Iterator[Damage]:
    """Receipts that say the very same as another: each has an instant of its own, so one was put in the place
    of another.
    """
    first: dict[Receipt, str] = {}
    for path, found in receipts.items():
        if found.receipt is not None and (other := first.setdefault(found.receipt, path)) != path:
            yield Damage(
                path, found.etag, f"it repeats {other.rsplit('/', 1)[-1]}, as no further receipt does"
            )
