"""What a client needs to know of a REST API: its address and its dialect."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

import polars as pl

from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.sources.rest.paging import PageRules

Refusal = Literal["throttled", "busy", "unknown_symbol", "refused", "foreign"]
"""What an error code means: too much is asked; the API cannot answer now; it does not know the market; it
refuses this one question; no code of this API.
"""


@dataclass(frozen=True, slots=True)
class RestCall:
    """One request.

    Attributes:
        method: ccxt's implicit method, which answers with what the exchange says.
        params: The query.
        weight: What it costs of the budget.
    """

    method: str
    params: Mapping[str, str | int]
    weight: int


class RestApi(ABC):
    """Address and dialect of the REST API of one market type.

    Attributes:
        exchange: ccxt id.
        setting: The setting that moves the base URL.
        moving_hint: What it may be set to.
        weight_header: Response header with the weight used in this minute.
        url: Base of the API.
        ccxt_urls: The same as ccxt names it.
        rules: What one request for candles may have.
        default_budget: The weight per minute that its documentation names, for where the API does not say.
        began: Before this instant the exchange had no candle, and its clock cannot have shown it.
    """

    exchange: ClassVar[str]
    setting: ClassVar[str]
    moving_hint: ClassVar[str]
    weight_header: ClassVar[str]
    url: str
    ccxt_urls: Mapping[str, str]
    rules: PageRules
    default_budget: int
    began: ClassVar[datetime]

    @abstractmethod
    def time_call(self) -> RestCall:
        """Asks for the server's time."""

    @abstractmethod
    def read_time(self, answer: Any) -> datetime:
        """The server's time from the answer."""

    @abstractmethod
    def budget_call(self) -> RestCall:
        """Asks for the budget."""

    @abstractmethod
    def read_budget(self, answer: Any) -> int | None:
        """The weight that may be used per minute, from the answer; None if it names none that can be
        meant.
        """

    @abstractmethod
    def candles_call(
        self, symbol: str, interval: Interval, start: datetime | None, end: datetime | None, limit: int
    ) -> RestCall:
        """Asks for candles that open in `[start, end)`: with an end alone for the newest."""

    @abstractmethod
    def read_candles(self, market: Market, answer: Any) -> pl.DataFrame:
        """The value columns of `bronze/candle_archive` from the answer, which may hold no row.

        Of a row that cannot be used, such as one with a value that is no finite number, all columns but
        `open_time` are null.

        Raises:
            ArchiveFileError, ValueError: The answer is no list of rows, or not even their times can be read.
        """

    @abstractmethod
    def refusal(self, code: int) -> Refusal:
        """What an error code in a body means."""
