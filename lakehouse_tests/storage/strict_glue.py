"""What the local Glue endpoint does not do, done in front of it: a locked table, limits of a batch,
throttling.

A hook of botocore answers in the service's place before a request is sent; all else reaches the endpoint.
"""

import io
import json
import threading
from collections.abc import Callable
from typing import Any

from botocore.awsrequest import AWSResponse


class StrictGlue:
    """Watches one client.

    Args:
        client: A boto3 Glue client of the local endpoint.
        plain: Another one, which looks up what a table's version is.

    Attributes:
        conflicts: Updates refused because the table was no longer the one that was looked at.
        throttled: Requests of each operation that are still to be refused for coming too fast.
        sent: Operation and number of partitions of every request that reached the endpoint.
        most_under_way: The most requests that were under way at once.
        before_update: Called once, when an update is about to be judged: what somebody else does just then.
    """

    _LIMITS = {"BatchCreatePartition": 100, "BatchUpdatePartition": 100, "BatchDeletePartition": 25}

    def __init__(self, client: Any, plain: Any) -> None:
        self.conflicts = 0
        self.throttled: dict[str, int] = {}
        self.sent: list[tuple[str, int]] = []
        self.most_under_way = 0
        self.before_update: Callable[[], object] | None = None
        self._plain = plain
        self._lock = threading.Lock()
        self._under_way: set[int] = set()
        client.meta.events.register("before-call.glue", self._begins)
        client.meta.events.register("after-call.glue", self._ends)
        client.meta.events.register("before-send.glue", self._judge)

    def count(self, operation: str) -> int:
        """How many requests of an operation reached the endpoint."""
        return sum(name == operation for name, _ in self.sent)

    def _begins(self, **_: Any) -> None:
        with self._lock:
            self._under_way.add(threading.get_ident())
            self.most_under_way = max(self.most_under_way, len(self._under_way))

    def _ends(self, **_: Any) -> None:
        with self._lock:
            self._under_way.discard(threading.get_ident())

    def _judge(self, request: Any, **_: Any) -> AWSResponse | None:
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        body = json.loads(request.body)
        with self._lock:
            if self.throttled.get(operation, 0):
                self.throttled[operation] -= 1
                return _refusal(request, "ThrottlingException", "Rate exceeded")
        entries = next((each for each in body.values() if isinstance(each, list)), [])
        if len(entries) > self._LIMITS.get(operation, len(entries)):
            return _refusal(
                request, "InvalidInputException", f"{len(entries)} are more than one request may have"
            )
        if operation == "UpdateTable":
            if self.before_update is not None:
                meanwhile, self.before_update = self.before_update, None
                meanwhile()
            at = {"DatabaseName": body["DatabaseName"], "Name": body["TableInput"]["Name"]}
            if body.get("VersionId") != self._plain.get_table(**at)["Table"]["VersionId"]:
                self.conflicts += 1
                return _refusal(request, "ConcurrentModificationException", "another version")
        with self._lock:
            self.sent.append((operation, len(entries)))
        return None


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


def _refusal(request: Any, code: str, message: str) -> AWSResponse:
    said = json.dumps({"__type": code, "Message": message}).encode()
    return AWSResponse(request.url, 400, {"Content-Type": "application/x-amz-json-1.1"}, _Raw(said))
