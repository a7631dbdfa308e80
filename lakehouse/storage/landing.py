"""Archive files as they were fetched, with immutable receipts: bronze can be rebuilt from here without the network."""

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from lakehouse.storage.layout import landing_key, landing_prefix
from lakehouse.storage.objects import NEW, ChangedMeanwhileError, LakeObjects

Outcome = Literal["ok", "mismatch", "corrupt"]


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
        outcome: `ok`, `mismatch` (not the published bytes; they are not kept) or `corrupt` (the published bytes, unusable; kept).
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
        """The newest receipt of a key if it is of the version a listing describes; None if that was never fetched, or something else since."""
        newest = self._newest(paths)
        return newest if newest is not None and newest.state == state else None

    def admit(self, receipt: Receipt, body: bytes) -> Receipt:
        """Keep a fetched file under its key and hash, then its receipt; the receipt that stands for it from now on.

        Receipts never change. One that says the same already stands; a file that came back (A, then B, then A again) gets a second one, whose
        instant says when. A new one is always later than all before it, whatever the clock says.
        """
        folder = landing_prefix(self.exchange, receipt.key)
        if receipt.outcome != "mismatch":
            self.objects.put(f"{folder}/{receipt.sha256}.zip", body)
        while True:
            paths = self.receipts(receipt.key).get(receipt.key, [])
            newest = self._newest(paths)
            if newest is not None:
                if (newest.state, newest.sha256) == (receipt.state, receipt.sha256):
                    return newest
                receipt = replace(receipt, fetched_at=max(receipt.fetched_at, newest.fetched_at + timedelta(microseconds=1)))
            path = f"{folder}/{receipt.sha256}.json"
            while path in paths:
                path = path.replace(".json", "+.json")  # the same bytes under another etag or checksum, or once more: a further receipt beside the first
            with contextlib.suppress(ChangedMeanwhileError):  # another process admits the same file: look again
                self.objects.put(path, json.dumps(asdict(receipt), default=str, indent=1).encode(), NEW)
                return receipt

    def _newest(self, paths: list[str]) -> Receipt | None:
        bodies = [body for path in paths if (body := self.objects.get(path)) is not None]
        receipts = [receipt for body in bodies if (receipt := self._parse(body)) is not None]
        return max(receipts, key=lambda receipt: receipt.fetched_at, default=None)

    def body(self, receipt: Receipt) -> bytes | None:
        """The bytes a receipt stands for; None if they are not kept, or were removed."""
        return self.objects.get(f"{landing_prefix(self.exchange, receipt.key)}/{receipt.sha256}.zip")

    @staticmethod
    def _parse(body: bytes) -> Receipt | None:
        """A receipt; None for what is none, so that its file is fetched again instead of every file being out of reach."""
        try:
            fields = json.loads(body)
            times = {name: datetime.fromisoformat(fields[name]) for name in ("last_modified", "fetched_at")}
            return Receipt(**(fields | times))
        except (ValueError, KeyError, TypeError):
            return None
