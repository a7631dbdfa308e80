"""The partitions of one table in AWS Glue: listed by the thousand, written in batches beside each other."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lakehouse.model.errors import CatalogError

Values = tuple[str, ...]
"""The values of a partition's keys, in their order."""

_CREATED, _UPDATED, _DELETED = 100, 100, 25  # the service's limits of one request
_LISTED = 1000
_TOGETHER = 8  # requests under way: what throttles them is the account's, shared with all who read
_TRIES = 6
_TRANSIENT = (
    "ThrottlingException",
    "Throttling",
    "InternalServiceException",
    "OperationTimeoutException",
    "ServiceUnavailable",
    "ConcurrentModificationException",
)


class Partitions:
    """The partitions of one table.

    Args:
        client: A boto3 Glue client, which waits where it is throttled.
        database: The Glue database.
        table: Name of the table in it.
        sleep: Waits between tries.
    """

    def __init__(
        self, client: Any, database: str, table: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._at = {"DatabaseName": database, "TableName": table}
        self._sleep = sleep

    def listed(self) -> Iterator[tuple[Values, dict[str, Any]]]:
        """All partitions as the service has them, without their columns: of 30,000 these are most of the
        answer, and each says with which it was registered.
        """
        pages = self._client.get_paginator("get_partitions").paginate(
            **self._at, ExcludeColumnSchema=True, PaginationConfig={"PageSize": _LISTED}
        )
        for page in pages:
            for partition in page["Partitions"]:
                yield tuple(partition["Values"]), partition

    def create(self, entries: Sequence[dict[str, Any]]) -> None:
        """Add partitions; one that another sync made first is no failure.

        Raises:
            CatalogError: The service refuses one; the other batches are written.
        """
        self._send(
            entries,
            _CREATED,
            lambda batch: self._client.batch_create_partition(**self._at, PartitionInputList=batch),
            "AlreadyExistsException",
        )

    def update(self, entries: Sequence[dict[str, Any]]) -> None:
        """Replace partitions.

        Raises:
            CatalogError: As `create`.
        """
        self._send(
            entries, _UPDATED, lambda batch: self._client.batch_update_partition(**self._at, Entries=batch)
        )

    def delete(self, partitions: Sequence[Values]) -> None:
        """Remove partitions; one that is gone is no failure.

        Raises:
            CatalogError: As `create`.
        """
        self._send(
            [{"Values": list(values)} for values in partitions],
            _DELETED,
            lambda batch: self._client.batch_delete_partition(**self._at, PartitionsToDelete=batch),
            "EntityNotFoundException",
        )

    def _send(
        self, entries: Sequence[Any], size: int, call: Callable[[list[Any]], Any], harmless: str = ""
    ) -> None:
        """Send entries in batches, some at a time. Of several that fail, the first is told."""
        batches = [list(entries[start : start + size]) for start in range(0, len(entries), size)]
        if not batches:
            return
        with ThreadPoolExecutor(min(_TOGETHER, len(batches)), thread_name_prefix="lakehouse-glue") as pool:
            sent = [pool.submit(self._send_batch, batch, call, harmless) for batch in batches]
        for each in sent:  # all have ended
            each.result()

    def _send_batch(self, left: list[Any], call: Callable[[list[Any]], Any], harmless: str) -> None:
        """Send one batch; what comes back in `Errors` is tried again while it is of the passing kind."""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(0.2 * 2**attempt)
            errors = [
                error
                for error in call(left).get("Errors") or []
                if error["ErrorDetail"]["ErrorCode"] != harmless
            ]
            if not errors:
                return
            lasting = [error for error in errors if error["ErrorDetail"]["ErrorCode"] not in _TRANSIENT]
            if lasting or attempt == _TRIES - 1:
                first = (lasting or errors)[0]
                raise CatalogError(
                    f"{len(errors)} partitions, {_values_of(first)} first",
                    f"{first['ErrorDetail']['ErrorCode']}: {first['ErrorDetail'].get('ErrorMessage', '')}",
                )
            failed = {_values_of(error) for error in errors}
            left = [entry for entry in left if _values_of(entry) in failed]


def _values_of(entry: Mapping[str, Any]) -> Values:
    return tuple(entry.get("PartitionValues") or entry.get("PartitionValueList") or entry["Values"])
