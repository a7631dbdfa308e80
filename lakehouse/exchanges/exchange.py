"""What every exchange module provides."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

import polars as pl

from lakehouse.exchanges.api import MarketInfo, Pages, RestApi
from lakehouse.model.errors import AddressCredentialsError, RestUnreachableError
from lakehouse.model.market import Market, MarketType
from lakehouse.model.secrets import carries_credentials
from lakehouse.model.timerange import TimeRange, day_range, month_range
from lakehouse.transform.gaps import GRACE


class Exchange(ABC):
    """One exchange: where its archive and REST API are, and its dialect of both.

    Attributes:
        name: ccxt id.
        archive_home: The S3 endpoint that serves its archive.
        bucket: S3 bucket of the archive.
        grace: How long after its day a file may still be missing without being absent.
        pages: What its REST API answers, by the name of the bronze table; without any the archive is the only
            source.

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
    pages: ClassVar[Mapping[str, Pages]] = {}

    def __init__(self, archive_url: str | None = None, rest_url: str | None = None) -> None:
        for name, address in (("archive_url", archive_url), ("rest_url", rest_url)):
            if address and carries_credentials(address):
                raise AddressCredentialsError(name)
        self.archive_url = (archive_url or self.archive_home).rstrip("/")
        self.rest_url = rest_url.rstrip("/") if rest_url else None

    @property
    def has_rest(self) -> bool:
        """Whether it has a REST API that is known here."""
        return bool(self.pages)

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


def period_range(period: str) -> TimeRange:
    """The range that a file's period stands for."""
    return month_range(period) if len(period) == 7 else day_range(period)
