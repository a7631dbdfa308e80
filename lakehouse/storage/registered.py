"""What was registered of a table in a catalog, remembered in the lake: whoever syncs next looks only at what
changed.

Of 30,000 partitions a listing is thirty requests, and of what was read a cell or two has changed. What is
remembered is believed for a day, as long as nobody else has touched the table's entry; a partition that
others changed is found by the listing after that.
"""

from datetime import datetime, timedelta
from itertools import groupby

from lakehouse.model.result import read_instant
from lakehouse.model.table import Table
from lakehouse.storage.layout import registered_path
from lakehouse.storage.objects import NEW, ChangedMeanwhileError, LakeObjects
from lakehouse.storage.partitions import Values
from lakehouse.storage.seal import read_sealed_json, sealed_json

_BELIEVED = timedelta(days=1)


class Registered:
    """What is remembered of one table.

    Args:
        objects: The lake.
        table: The table.
        prefix: Of the catalog's databases.
    """

    def __init__(self, objects: LakeObjects, table: type[Table], prefix: str) -> None:
        self._objects = objects
        self._path = registered_path(table, prefix)
        self._etag = NEW
        self._listed_at: datetime | None = None

    def load(self, fingerprint: str, now: datetime) -> set[Values] | None:
        """The partitions that are registered; None where that has to be asked.

        Args:
            fingerprint: Of the table's entry and of what its partitions say; another one asks.
            now: The time.
        """
        found = self._objects.get_tagged(self._path)
        if found is None:
            return None
        body, self._etag = found[0], found[1]
        try:
            said = read_sealed_json(body, 1 << 28)
            self._listed_at = read_instant(said["listed_at"])
            if said["fingerprint"] != fingerprint or not timedelta(0) <= now - self._listed_at < _BELIEVED:
                return None
            return {
                (*folder.split("/"), date) if folder else (date,)
                for folder, dates in said["partitions"].items()
                for date in dates.split(" ")
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, fingerprint: str, now: datetime, partitions: set[Values], listed: bool) -> None:
        """Remember what is registered now. Where another sync has said something else meanwhile, neither is
        believed: the next one lists.

        Args:
            fingerprint: As for `load`.
            now: The time.
            partitions: All that are registered.
            listed: Whether they were listed now, and not remembered.
        """
        by_folder = groupby(sorted(partitions), lambda values: "/".join(values[:-1]))
        said = {
            "fingerprint": fingerprint,
            "listed_at": (now if listed or self._listed_at is None else self._listed_at).isoformat(),
            "partitions": {
                folder: " ".join(values[-1] for values in members) for folder, members in by_folder
            },
        }
        try:
            self._objects.put(self._path, sealed_json(said), None if self._objects.is_local else self._etag)
        except ChangedMeanwhileError:
            self._objects.delete(self._path)
