"""Archive files as they were fetched, with immutable receipts: bronze can be rebuilt from here without the network."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import obstore

from lakehouse.storage.layout import landing_key, landing_prefix
from lakehouse.storage.objects import LakeObjects

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
        for batch in obstore.list(self.objects.store, prefix=landing_prefix(self.exchange, prefix).rstrip("/")):
            for entry in batch:
                if entry["path"].endswith(".json"):
                    found.setdefault(landing_key(self.exchange, entry["path"]), []).append(entry["path"])
        return found

    def find(self, paths: list[str], state: str) -> Receipt | None:
        """The receipt of the version a listing describes, or None if it was never fetched."""
        for path in paths:
            body = self.objects.get(path)
            receipt = self._parse(body) if body else None
            if receipt and receipt.state == state:
                return receipt
        return None

    def admit(self, receipt: Receipt, body: bytes) -> Receipt:
        """Keep a fetched file under its key and hash, then its receipt; a receipt that is there already stands."""
        folder = landing_prefix(self.exchange, receipt.key)
        if receipt.outcome != "mismatch":
            self.objects.put(f"{folder}/{receipt.sha256}.zip", body)
        name = receipt.sha256
        while (stored := self.objects.get(f"{folder}/{name}.json")) is not None:
            if self._parse(stored).state == receipt.state:
                return self._parse(stored)
            name += "+"  # the same bytes under another etag or checksum: a further receipt beside the first
        self.objects.put(f"{folder}/{name}.json", json.dumps(asdict(receipt), default=str, indent=1).encode())
        return receipt

    def body(self, receipt: Receipt) -> bytes:
        """The bytes a receipt stands for.

        Raises:
            FileNotFoundError: They are not kept, or were removed.
        """
        body = self.objects.get(f"{landing_prefix(self.exchange, receipt.key)}/{receipt.sha256}.zip")
        if body is None:
            raise FileNotFoundError(receipt.key)
        return body

    @staticmethod
    def _parse(body: bytes) -> Receipt:
        fields = json.loads(body)
        times = {name: datetime.fromisoformat(fields[name]) for name in ("last_modified", "fetched_at")}
        return Receipt(**(fields | times))
