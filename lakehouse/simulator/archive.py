"""The archive: which objects exist now, their facts, and their bytes on demand."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b, sha256
from heapq import merge

from lakehouse.simulator import funding, history, rowfaults
from lakehouse.simulator.cache import BodyCache
from lakehouse.simulator.faults import ROW_FAULTS, STALE_FAULTS, FaultPlan
from lakehouse.simulator.files import RealFile, RealFiles
from lakehouse.simulator.history import Strike
from lakehouse.simulator.keys import KlineFile, kline_folders, zip_key
from lakehouse.simulator.klines import has_header, time_unit, to_csv
from lakehouse.simulator.markets import SimulatedMarket, draw
from lakehouse.simulator.zips import damaged_zip, padded_size, padded_zip

_ZIP_CACHE, _CHECKSUM_CACHE = 128 * 1024 * 1024, 4 * 1024 * 1024
_ABSENCES = ("monthly_absent", "daily_absent")
_LAG = timedelta(days=3)
_STALE_REQUESTS = 2
_BEHIND_ALL = "\U0010ffff"

Variant = tuple[str | Strike, ...]
"""What sets an object apart from the one without faults: the faults of days in it, then those of its file."""


@dataclass(frozen=True, slots=True)
class ArchiveObject:
    """What a listing says of an object.

    Attributes:
        key: Its key.
        size: Bytes.
        etag: Unquoted.
        modified: When it was last written.
        source: The generated file it is the zip or CHECKSUM of, or the real file it is.
        stale: The fault by which it is what a cache kept of it from before it was replaced; empty for what is
            there now.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    source: KlineFile | RealFile
    stale: str = ""

    @property
    def is_checksum(self) -> bool:
        """Whether it is a CHECKSUM."""
        return self.key.endswith(".CHECKSUM")


class Archive:
    """Generated and real objects under one set of keys."""

    def __init__(
        self,
        markets: tuple[SimulatedMarket, ...],
        clock: Callable[[], datetime],
        real: RealFiles,
        faults: FaultPlan,
    ) -> None:
        generated = tuple(
            market for market in markets if not real.covers_klines(market.market_type, market.symbol)
        )
        paying = [
            market
            for market in markets
            if funding.pays_funding(market) and not real.covers_funding(market.market_type, market.symbol)
        ]
        self._folders = {
            folder.prefix: folder
            for folder in sorted(
                (*kline_folders(generated), *map(funding.folder_of, paying)),
                key=lambda folder: folder.prefix,
            )
        }
        self._starts = list(self._folders)
        self._clock = clock
        self._real = real
        self._faults = faults
        self._zips = BodyCache(_ZIP_CACHE)
        self._checksums = BodyCache(_CHECKSUM_CACHE)

    # --- what exists ------------------------------------------------------------------------------

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys with the prefix that sort behind `after`, in order."""
        found = merge(self._generated_keys(prefix, after), self._real.keys(prefix, after))
        return (key for key in found if not self._is_absent(key) and not self._is_unlisted(key))

    def groups(self, prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
        """Keys with the prefix behind `after`, in order; those with a delimiter behind the prefix are rolled
        up.

        Yields:
            A key and False, or a common prefix and True.
        """
        cursor = after
        while True:
            for key in self.keys(prefix, cursor):
                head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                if not found:
                    yield key, False
                    continue
                common = prefix + head + delimiter
                if common != after:
                    yield common, True
                # Start anew behind the whole group instead of walking through it.
                cursor = common + _BEHIND_ALL
                break
            else:
                return

    def find(self, key: str) -> ArchiveObject | None:
        """The object under a key, if it exists now."""
        source = self._source(key)
        return None if source is None or self._is_absent(key) else self._describe(key, source)

    def served(self, key: str, is_transfer: bool) -> ArchiveObject | None:
        """What a request for a key is answered with, if it exists now: the object, or what a cache kept of
        it.

        Args:
            key: Its key.
            is_transfer: Whether its bytes are asked for: what lasts for a number of requests counts these
                alone.
        """
        item = self.find(key)
        if item is None or isinstance(item.source, RealFile):
            return item
        stale = "stale" if self._faults.hits("stale", key) else ""
        if (
            not stale
            and self._faults.hits("stale_at_first", key)
            and (not is_transfer or self._faults.first_requests("stale_at_first", key, _STALE_REQUESTS))
        ):
            stale = "stale_at_first"
        return self._describe(key, item.source, stale) if stale else item

    def _source(self, key: str) -> KlineFile | RealFile | None:
        folder, slash, name = key.rpartition("/")
        generated = self._folders.get(folder + slash)
        return generated.find(name, self._clock()) if generated else self._real.get(key)

    def _generated_keys(self, prefix: str, after: str) -> Iterator[str]:
        now, begin = self._clock(), max(prefix, after)
        # the folder before the first one behind may hold it: no folder lies in another
        for start in self._starts[max(0, bisect_right(self._starts, begin) - 1) :]:
            if not (start.startswith(prefix) or prefix.startswith(start)):
                if start > prefix:
                    break
                continue
            if after > start and not after.startswith(start):  # it is passed
                continue
            files = self._folders[start].files(now, after)
            keys = (key for file in files for key in (file.key, f"{file.key}.CHECKSUM"))
            yield from (key for key in keys if key > after and key.startswith(prefix))

    def _is_absent(self, key: str) -> bool:
        names = ("checksum_absent" if key.endswith(".CHECKSUM") else "zip_absent", *_ABSENCES)
        hits = self._faults.file_hits(names, key)
        for name in hits:
            self._faults.show(name, key)
        return bool(hits)

    def _is_unlisted(self, key: str) -> bool:
        item = self.find(key) if self._faults.file_hits(("lagging_listing",), key) else None
        hidden = item is not None and item.modified > self._clock() - _LAG
        if hidden:
            self._faults.show("lagging_listing", key)
        return hidden

    def _describe(self, key: str, source: KlineFile | RealFile, stale: str = "") -> ArchiveObject:
        variant = self._variant(key, source, stale)
        if isinstance(source, RealFile):
            return ArchiveObject(
                key,
                source.size,
                _etag(key, variant) if variant else self._real.etag(source),
                source.modified,
                source,
            )
        size = source.checksum_size if key.endswith(".CHECKSUM") else padded_size(source.rows)
        modified = (
            min(source.published + timedelta(hours=1), self._clock())
            if "reupload" in variant
            else source.published
        )
        return ArchiveObject(key, size, _etag(key, variant), modified, source, stale)

    def _variant(self, key: str, source: KlineFile | RealFile, stale: str = "") -> Variant:
        """The faults that change the object's bytes; of what a cache kept, without its having been
        replaced.
        """
        if not self._faults.in_force:
            return ()
        names = ("damaged_zip",) if isinstance(source, RealFile) else (*ROW_FAULTS, "damaged_zip")
        if isinstance(source, funding.FundingFile):
            names = (*funding.FUNDING_FAULTS, *names)
        hits = self._faults.file_hits((*names, "stale_checksum") if key.endswith(".CHECKSUM") else names, key)
        if isinstance(source, RealFile):
            return hits
        if stale:
            hits = tuple(name for name in hits if name != "reupload")
        elif "reupload" not in hits and self._faults.file_hits(STALE_FAULTS, key):
            hits = tuple(
                name
                for name in (*ROW_FAULTS, "damaged_zip", "stale_checksum")
                if name in hits or name == "reupload"
            )
        if isinstance(source, funding.FundingFile):
            return hits
        folder = source.folder
        return (
            history.strikes(
                self._faults.in_force, folder.market, folder.frequency, source.interval, *source.minutes
            )
            + hits
        )

    # --- bytes ------------------------------------------------------------------------------------

    def body(self, item: ArchiveObject) -> bytes:
        """The object's bytes, as the faults in force leave them; each is recorded as shown."""
        variant = self._variant(item.key, item.source, item.stale)
        if item.stale:
            self._faults.show(item.stale, item.key)
        for fault in variant:
            if not item.is_checksum or fault == "stale_checksum":
                self._faults.show(fault.name if isinstance(fault, Strike) else fault, item.key)
        return (
            self._checksum(item, variant) if item.is_checksum else self._zip(item.key, item.source, variant)
        )

    def _checksum(self, item: ArchiveObject, variant: Variant) -> bytes:
        source = item.source
        if isinstance(source, RealFile):
            return self._real_checksum(source, variant)
        stale = "stale_checksum" in variant
        content = tuple(name for name in variant if name != "stale_checksum")

        def digest() -> bytes:
            published = (
                b"previous version of " + source.key.encode()
                if stale
                else self._zip(source.key, source, content)
            )
            return source.checksum_text(sha256(published).hexdigest())

        return self._checksums.get((item.key, variant), digest)

    def _real_checksum(self, source: RealFile, variant: Variant) -> bytes:
        text = source.read()
        twin = self._real.get(zip_key(source.key))
        if "stale_checksum" in variant:
            return sha256(b"previous version of " + text).hexdigest().encode() + text[64:]
        if "damaged_zip" in variant and twin is not None:
            return sha256(damaged_zip(twin.read())).hexdigest().encode() + text[64:]
        return text

    def _zip(self, key: str, source: KlineFile | RealFile, variant: Variant) -> bytes:
        if isinstance(source, RealFile):
            body = source.read()
        else:
            file, changes = source, tuple(fault for fault in variant if fault != "damaged_zip")
            body = self._zips.get((key, changes), lambda: self._generate(file, changes))
        return damaged_zip(body) if "damaged_zip" in variant else body

    def _generate(self, file: KlineFile, variant: Variant) -> bytes:
        if isinstance(file, funding.FundingFile):
            content = funding.to_csv(file, tuple(map(str, variant)), self._faults)
            return padded_zip(file.csv_name, content, file.published, padded_size(file.rows))
        return _generate(file, variant)


def _generate(file: KlineFile, variant: Variant) -> bytes:
    market = file.folder.market
    rows = history.candles(
        market, file.interval, *file.minutes, (fault for fault in variant if isinstance(fault, Strike))
    )
    for fault in variant:
        if not isinstance(fault, Strike):
            rows = rowfaults.apply(fault, file.key, rows)
    header = has_header(market, file.start, draw("header", file.key))
    content = to_csv(market, rows, file.interval, time_unit(market, file.start), header)
    return padded_zip(file.csv_name, content, file.published, padded_size(file.rows))


def _etag(key: str, variant: Variant) -> str:
    return blake2b("\0".join((key, *map(str, variant))).encode(), digest_size=16).hexdigest()
