"""Faults the simulated exchange shows on request.

Which files a fault hits depends on names and keys alone, so a run with faults can be repeated.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from lakehouse.model.errors import UsageError
from lakehouse.simulator.markets import draw
from lakehouse.simulator.rowfaults import DAY_FAULTS

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "stale_checksum": "the CHECKSUM is of a previous version of the file",
        "checksum_absent": "the CHECKSUM is neither listed nor served",
        "zip_absent": "the zip is neither listed nor served, its CHECKSUM is",
        "lagging_listing": "the listing is three days old: what appeared since is served, but not listed",
        "damaged_zip": "the deflate stream is damaged; the CHECKSUM is of the damaged bytes",
        "cut_transfer": "the first transfer of a file ends in the middle",
        "error_503": "the first two requests for a file answer 503 SlowDown",
        "error_429": "the first two requests for a REST path answer that too much is asked: 429 with "
        "Retry-After, or (Bybit) retCode 10006 with the time at which the limit begins anew",
        "error_418": "a REST path answers that the address is banned: 418 with Retry-After, or (Bybit) 403 "
        "access too frequent",
        "error_403": "a REST path answers 403: the firewall refuses the client",
        "error_451": "a REST path answers 451: the region is blocked",
        "rest_503": "the first two requests for a REST path answer 503",
        "body_error": "the first two requests for a REST path answer 200 with an error in the body",
        "rest_unavailable": "every REST request answers 503",
        "clock_skew": "the REST API's clock is an hour ahead of everybody else's",
        "unavailable": "every request for a file answers 503",
        "slow": "every answer takes a fifth of a second longer",
        "monthly_absent": "a monthly file is neither listed nor served",
        "daily_absent": "a daily file is neither listed nor served",
        "day_absent": "a monthly file lacks one day",
        "duplicated_rows": "a monthly file has exact duplicate rows",
        "conflicting_rows": "a monthly file has keys twice, with different values",
        "interleaved_rows": "a file is out of order: its two halves alternate row by row",
        "reupload": "a file was replaced: another ETag, one changed close",
        "stale": "a file was replaced as by reupload, and is listed so, but a cache serves what was there "
        "before, with the ETag of that",
        "stale_at_first": "as stale, for the first two requests for a file",
        "halt": "trade stops within a minute and for 37 more: nobody has a candle of these, and the last one "
        "before ends early",
        "halt_misaligned": "a halt behind a minute without trades; then a thousand 1m candles open 17.3 s "
        "late, and the next one overlaps the last of them",
        "hole": "the 1m files, monthly and daily, lack 70 minutes that REST and the coarser files have",
        "differing_row": "the monthly 1m file has one row with other values than the daily one and REST",
        "archive_wrong": "the 1m files, monthly and daily, have one row alike with other values than REST",
        "coarse_wrong_alike": "all monthly files of a market have the same wrong row in their minutes; daily "
        "files and REST are right",
        "interior_changed": "the 1m files, monthly and daily, have one other close than REST, in the middle "
        "of an hour and within its range: no coarser candle tells",
        "rest_revised": "REST has one minute with other values than the archive, in its coarser candles too",
        "rest_hole": "REST has no 1m candles of a day, only the coarser ones; the archive has all",
        "rest_forgotten": "REST knows the market no more: -1121, and not in exchangeInfo",
        "funding_lost": "nobody has one settlement of funding of the month",
        "funding_lost_at_change": "nobody has the settlements of the month at which their interval changes",
        "funding_hole": "the month's file of funding rates lacks one settlement that REST has",
        "funding_rest_hole": "REST lacks one settlement of the month that the file of funding rates has",
        "funding_restated": "REST states one funding rate of the month otherwise than the file",
        "edge_repeated": "Bybit's pages of 1m candles have their oldest row twice",
        "edge_omitted": "the first two of Bybit's pages of 1m candles of a month lack their oldest row",
        "delisted_between_pages": "Bybit knows a market no more once it has answered a page of 1m candles",
        "funding_rest_silent": "REST answers without rows the first time it is asked for a range of the month",
        "rows_after_end": "the last files of a delisted market, monthly and daily, go on with up to 30 flat "
        "minutes",
    }
)
"""Every fault and what it does. REST answers the unfinished candle, and -1121 of a market that is delisted,
without any fault.
"""

ROW_FAULTS = ("day_absent", "conflicting_rows", "duplicated_rows", "reupload", "interleaved_rows")
"""Faults of generated rows, in the order in which they are applied; real files do not show them."""

_MONTHLY_ONLY = frozenset({"monthly_absent", "day_absent", "duplicated_rows", "conflicting_rows"})
_DAILY_ONLY = frozenset({"daily_absent"})
_REST_WHOLE = frozenset({"rest_unavailable", "clock_skew"})
STALE_FAULTS = ("stale", "stale_at_first")
"""Faults of a cache, by which the zip, its CHECKSUM or both are served as they were before a re-upload;
generated files alone show them.
"""

REST_FAULTS = (
    frozenset({"error_429", "error_418", "error_403", "error_451", "rest_503", "body_error"}) | _REST_WHOLE
)
"""Faults of the REST API."""

_OF_PAGES = ("edge_repeated", "edge_omitted", "delisted_between_pages")
_BY_MONTH = frozenset({*DAY_FAULTS, *_OF_PAGES, "rest_forgotten"})
"""Without a pattern these hit monthly keys alone: each of them stands for a day, or for the market."""

_ONE_IN = 6


class UnknownFaultError(UsageError):
    """A fault nobody knows how to show."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no fault {name!r}; known: {', '.join(FAULTS)}. Write NAME, or NAME=GLOB to choose the "
            "archive keys it hits."
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the keys it hits.

    Attributes:
        name: One of `FAULTS`.
        pattern: Glob over archive keys (for faults of the REST API over its paths); without one, about one in
            six of the 1m kline files it can hit (of funding rates, where the fault is theirs), or the path of
            the klines (all paths, where the fault says so). A fault of a day (`rowfaults.DAY_FAULTS`, such as
            `halt`) is a market's, not a file's: hit the key of a month's 1m file, and it befalls one day
            drawn from that month; hit only those of daily 1m files, and it befalls these days. Which sources
            tell of it, files of every interval and REST, is the fault's own matter. `rest_forgotten` befalls
            the market the key of whose first monthly 1m file is hit.

    Raises:
        UnknownFaultError: There is no such fault.
    """

    name: str
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise UnknownFaultError(self.name)

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read `NAME` or `NAME=GLOB`."""
        name, _, pattern = text.partition("=")
        return cls(name.strip(), pattern.strip() or None)

    def matches(self, key: str) -> bool:
        """Whether the fault hits an archive key, or a REST path (which starts with a slash)."""
        if key.startswith("/") != (self.name in REST_FAULTS):
            return False
        if (self.name in _MONTHLY_ONLY and "/monthly/" not in key) or (
            self.name in _DAILY_ONLY and "/daily/" not in key
        ):
            return False
        if self.pattern is not None:
            return fnmatchcase(key, self.pattern)
        if self.name in REST_FAULTS:
            return self.name in _REST_WHOLE or key.endswith(("/klines", "/kline"))
        if self.name in _BY_MONTH and "/monthly/" not in key:
            return False
        is_of_kind = "/fundingRate/" in key if self.name.startswith("funding_") else "/1m/" in key
        return is_of_kind and key.endswith(".zip") and draw("fault", self.name, key) % _ONE_IN == 0

    def __str__(self) -> str:
        return self.name if self.pattern is None else f"{self.name}={self.pattern}"


class FaultPlan:
    """The faults in force and a record of those that were shown; safe to use from several threads."""

    def __init__(self, faults: Iterable[Fault | str] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[Fault, ...] = ()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._shown: dict[str, set[str]] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault | str) -> None:
        """Put a fault in force.

        Raises:
            UnknownFaultError: There is no such fault.
        """
        parsed = Fault.parse(fault) if isinstance(fault, str) else fault
        with self._lock:
            self._faults = (*self._faults, parsed)

    def clear(self) -> None:
        """Lift all faults, and forget how often their files were asked for."""
        with self._lock:
            self._faults = ()
            self._requests.clear()

    @property
    def in_force(self) -> tuple[Fault, ...]:
        """The faults in force."""
        return self._faults

    def hits(self, name: str, key: str) -> bool:
        """Whether a fault of this name hits a key."""
        return any(fault.name == name and fault.matches(key) for fault in self._faults)

    def file_hits(self, names: Iterable[str], key: str) -> tuple[str, ...]:
        """Those of the named faults that hit a zip or its CHECKSUM, given the key of either, in the order
        given.
        """
        if not self._faults:
            return ()
        zipped = key.removesuffix(".CHECKSUM")
        return tuple(
            name for name in names if self.hits(name, zipped) or self.hits(name, f"{zipped}.CHECKSUM")
        )

    def first_requests(self, name: str, key: str, count: int) -> bool:
        """Whether the fault hits the key and this is one of the first `count` requests that it could hit."""
        if not self.hits(name, key):
            return False
        with self._lock:
            self._requests[name, key] += 1
            return self._requests[name, key] <= count

    def show(self, name: str, key: str) -> None:
        """Record that a fault was shown."""
        with self._lock:
            self._shown.setdefault(name, set()).add(key)

    @property
    def shown(self) -> dict[str, list[str]]:
        """The faults that were shown, each with its keys, sorted."""
        with self._lock:
            return {name: sorted(keys) for name, keys in sorted(self._shown.items())}
