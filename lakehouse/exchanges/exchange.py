"""What every exchange module provides."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar, NamedTuple

import polars as pl

from lakehouse.exchanges.api import MarketInfo, Pages, RestApi
from lakehouse.model.errors import AddressCredentialsError, RestUnreachableError
from lakehouse.model.market import MARKET_TYPES, Market, MarketType
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.secrets import carries_credentials
from lakehouse.model.table import Table
from lakehouse.transform.gaps import GRACE


class Files(ABC):
    """What an archive publishes of one bronze table.

    Attributes:
        kinds: Kinds of periods that there are files for, the longest first.
        until: When what a row says ends, as an expression over its columns; None for rows that say something
            of an instant.
    """

    kinds: tuple[PeriodKind, ...] = ("month", "day")
    until: pl.Expr | None = None

    @abstractmethod
    def prefix(self, market: Market, kind: PeriodKind) -> str:
        """Key prefix of a market's files for periods of a kind. Ends with `/`."""

    @abstractmethod
    def key(self, market: Market, period: Period) -> str:
        """Key of one file."""

    @abstractmethod
    def period_text(self, key: str) -> str | None:
        """The period in a file's key, as it stands there: perhaps one that no calendar has; None if the key
        is no archive file's (a checksum's, say).
        """

    @abstractmethod
    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        """Parse one file into the columns of the table that are not lineage.

        Args:
            market: Whose file.
            key: Its key, for messages.
            csv: Its content.

        Raises:
            ArchiveFileError: The content cannot be trusted; the class says why.
        """


class Renamed(NamedTuple):
    """What a coin became.

    Attributes:
        name: Its name since.
        ratio: How many of that one of the old ones became.
    """

    name: str
    ratio: float = 1.0


class Exchange(ABC):
    """One exchange: where its archive and REST API are, and its dialect of both.

    Attributes:
        name: ccxt id.
        archive_home: The S3 endpoint that serves its archive; empty where it has none.
        bucket: S3 bucket of the archive; empty where it has none.
        rest_types: Market types that have a REST API, the one to ask for the time first.
        renamed: Coins whose markets went on under another name, by announcement: the old name, and what it
            became.
        grace: How long after its day a file may still be missing without being absent.
        sparse: Whether it has no candle of a minute in which nothing was traded, so that a minute without one
            is no gap.
        files: What its archive publishes, by the name of the bronze table.
        pages: What its REST API answers, by the name of the bronze table; without any the archive is the only
            source.

    Args:
        archive_url: S3 endpoint that serves `bucket`; None for the exchange's own.
        rest_url: Base of the REST API; None for the exchange's own hosts.

    Raises:
        AddressCredentialsError: One of them holds credentials.
    """

    name: ClassVar[str]
    archive_home: ClassVar[str] = ""
    bucket: ClassVar[str] = ""
    renamed: ClassVar[Mapping[str, Renamed]] = {}
    grace: ClassVar[timedelta] = GRACE
    sparse: ClassVar[bool] = False
    files: ClassVar[Mapping[str, Files]] = {}
    pages: ClassVar[Mapping[str, Pages]] = {}
    rest_types: ClassVar[tuple[MarketType, ...]] = MARKET_TYPES

    def __init__(self, archive_url: str | None = None, rest_url: str | None = None) -> None:
        for name, address in (("archive_url", archive_url), ("rest_url", rest_url)):
            if address and carries_credentials(address):
                raise AddressCredentialsError(name)
        self.archive_url = (archive_url or self.archive_home).rstrip("/")
        self.rest_url = rest_url.rstrip("/") if rest_url else None

    def has(self, table: type[Table], market: Market) -> bool:
        """Whether a market can have a table: by its type, and by what the exchange knows of its contract."""
        return market.market_type in table.market_types

    def publishes(self, table: type[Table]) -> bool:
        """Whether its archive or its REST API has anything of a bronze table."""
        return table.name in self.files or table.name in self.pages

    @property
    def has_rest(self) -> bool:
        """Whether it has a REST API that is known here."""
        return bool(self.pages)

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


def can_have(exchanges: Mapping[str, Exchange], table: type[Table], market: Market) -> bool:
    """Whether a market can have a table, whatever is built: by its exchange, or by its type alone where that
    is not among some exchanges.
    """
    exchange = exchanges.get(market.exchange)
    return exchange.has(table, market) if exchange else market.market_type in table.market_types
