"""What every exchange module provides."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

import polars as pl

from lakehouse.exchanges.api import RestApi
from lakehouse.model.errors import AddressCredentialsError, RestUnreachableError
from lakehouse.model.market import Market, MarketType
from lakehouse.model.secrets import carries_credentials
from lakehouse.model.timerange import TimeRange, day_range, month_range
from lakehouse.transform.gaps import GRACE

if TYPE_CHECKING:
    from lakehouse.sources.rest.client import RestClient


@dataclass(frozen=True, slots=True)
class MarketInfo:
    """An exchange's own description of a market, or what its symbol states.

    Attributes:
        base: Base currency; None where nobody stated it.
        quote: Quote currency; None where nobody stated it.
        settle: Settlement currency; None for spot, and where nobody stated it.
        contract_size: Quote value of one contract (inverse), else None.
        ends: When trading ends by the contract, also if that is far ahead.
        trades: Whether the exchange says that it is being traded now.
    """

    base: str | None
    quote: str | None
    settle: str | None
    contract_size: float | None
    ends: datetime | None = None
    trades: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """An exchange's description of all its markets of one type.

    Attributes:
        markets: What it says, by symbol.
        skipped: Why an entry could not be read, by symbol; under the empty text, of those whose symbol is
            none.
    """

    markets: Mapping[str, MarketInfo]
    skipped: Mapping[str, str]

    @property
    def symbols(self) -> set[str]:
        """Every symbol that is listed, also where its facts could not be read."""
        return {*self.markets, *self.skipped} - {""}


class Exchange(ABC):
    """One exchange: where its archive and REST API are, and its dialect of both.

    Attributes:
        name: ccxt id.
        archive_home: The S3 endpoint that serves its archive.
        bucket: S3 bucket of the archive.
        grace: How long after its day a file may still be missing without being absent.
        has_rest: Whether it has a REST API that is known here; without one the archive is the only source.

    Args:
        archive_url: S3 endpoint that serves `bucket`; None for the exchange's own.
        rest_url: Base of the REST API; None for the exchange's own hosts.

    Raises:
        AddressCredentialsError: One of them holds credentials.
    """

    name: ClassVar[str]
    archive_home: ClassVar[str]
    bucket: ClassVar[str]
    grace: ClassVar[timedelta] = GRACE
    has_rest: ClassVar[bool] = False

    def __init__(self, archive_url: str | None = None, rest_url: str | None = None) -> None:
        for name, address in (("archive_url", archive_url), ("rest_url", rest_url)):
            if address and carries_credentials(address):
                raise AddressCredentialsError(name)
        self.archive_url = (archive_url or self.archive_home).rstrip("/")
        self.rest_url = rest_url.rstrip("/") if rest_url else None
        self._clients: dict[str, RestClient] = {}
        self._newest_file: datetime | None = None
        self._lock = threading.Lock()

    def rest(self, market_type: MarketType) -> "RestClient":
        """The client of a market type's REST API: one per API, shared by all threads, so that they share its
        budget and its bans too.

        Raises:
            RestUnreachableError: As `rest_api`.
        """
        from lakehouse.sources.rest.client import RestClient  # reading files needs none

        api = self.rest_api(market_type)
        with self._lock:
            return self._clients.setdefault(api.url, RestClient(api))

    def told_time(self) -> datetime | None:
        """The exchange's time, as far as it has told: reckoned from what its REST APIs last said, or that of
        its newest file, if later. Asks nothing.
        """
        with self._lock:
            told = [self._newest_file, *(client.reckoned for client in self._clients.values())]
        return max((at for at in told if at), default=None)

    def note_files(self, modified: Iterable[datetime]) -> None:
        """Take note of when files were published: then it was as late at the exchange."""
        with self._lock:
            self._newest_file = max((at for at in (self._newest_file, *modified) if at), default=None)

    @abstractmethod
    def archive_prefix(self, table: str, market: Market, frequency: str) -> str:
        """Key prefix of a market's files for a bronze table; `frequency` is `monthly` or `daily`. Ends with
        `/`.
        """

    @abstractmethod
    def archive_key(self, table: str, market: Market, period: str) -> str:
        """Key of one file; `period` is `YYYY-MM` or `YYYY-MM-DD`."""

    @abstractmethod
    def archive_period(self, key: str) -> str | None:
        """The period in a file's key, or None if it is no archive file (a checksum, say)."""

    @abstractmethod
    def parse(self, table: str, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        """Parse one file into the columns of a bronze table that are not lineage.

        Raises:
            ArchiveFileError: The content cannot be trusted; the class says why.
        """

    def rest_api(self, market_type: MarketType) -> RestApi:
        """Address and dialect of a market type's REST API.

        Raises:
            RestUnreachableError: The exchange has none, or none that is known here.
        """
        raise RestUnreachableError(
            f"{self.name} ({market_type})", "none is known to lakehouse", "The archive is the only source."
        )

    @abstractmethod
    def infer_info(self, market: Market) -> MarketInfo:
        """What a market's symbol states by the exchange's own rules; what it does not state is None, never
        guessed.
        """

    @abstractmethod
    def ask_info(self, market_type: MarketType) -> ExchangeInfo:
        """The exchange's description of all its markets of a type, from one REST request.

        Raises:
            OSError: The API does not answer, or not with that.
        """


def period_range(period: str) -> TimeRange:
    """The range that a file's period stands for."""
    return month_range(period) if len(period) == 7 else day_range(period)
