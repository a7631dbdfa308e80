"""What a client needs to know of a REST API: its address and its dialect, in values that do no I/O."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import polars as pl

from lakehouse.exchanges.reply import ANSWERED, Reply, Verdict
from lakehouse.model.market import Market, MarketType
from lakehouse.model.terms import NO_TERMS, Terms, unified_symbol
from lakehouse.model.timerange import TimeRange

Refusal = Literal["throttled", "busy", "unknown_symbol", "refused", "foreign"]
"""What an error code means: too much is asked; the API cannot answer now; it does not know the market; it
refuses this one question; no code of this API.
"""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests in any stretch of time, beside the budget of weight; shared by all that name it.

    Attributes:
        name: What tells it from other limits of the API.
        requests: How many.
        seconds: In how long.
    """

    name: str
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What all requests of an address may come to: weight in each minute of the server's clock, or requests
    in any stretch. An API that tells neither is asked at a pace that disturbs none.

    Attributes:
        weight: Weight per minute by the documentation, kept to where the API does not say (`read_budget`);
            None where requests have none.
        header: Response header with the weight used in this minute; empty where there is none.
        requests: How many requests, whatever they ask; None where there is no such limit.
    """

    weight: int | None = None
    header: str = ""
    requests: RateLimit | None = None

    @property
    def every(self) -> RateLimit | None:
        """The limit that every request counts to, if any."""
        return self.requests or (None if self.weight else _POLITE)


_POLITE = RateLimit("where none is told", 100, 20.0)


@dataclass(frozen=True, slots=True)
class RestCall:
    """One request.

    Attributes:
        method: ccxt's implicit method, which answers with what the exchange says.
        params: The query.
        weight: What it costs of the budget's weight.
        limit: A limit of its own that it counts to as well, if any.
    """

    method: str
    params: Mapping[str, str | int]
    weight: int = 1
    limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class InfoCall:
    """The request for the description of all markets of a type.

    Attributes:
        url: Address of the endpoint.
        params: The query.
    """

    url: str
    params: Mapping[str, str]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BACK_OFF = 60.0  # seconds, where no Retry-After says it
# what the round trip of a request is worth in weight: the cheapest pages by weight alone are twice as many
_A_REQUEST = 3


@dataclass(frozen=True, slots=True)
class PageRules:
    """What an API lets one request have.

    Attributes:
        sizes: Most rows of a request, with its weight, one for every step of the price.
        reach: Longest range of a request; None if there is no such limit.
        finds_next: A request with a start alone is answered with the candles after it, however far off the
            first is.
        has_end: A request may name an end; where none can, what an answer has behind it is cut off.
    """

    sizes: tuple[tuple[int, int], ...]
    reach: timedelta | None = None
    finds_next: bool = True
    has_end: bool = True

    def limit(self, slots: int) -> int:
        """Rows to ask for when so many are still wanted: least cost in all, then smallest page. A month of
        hours is one request, a month of minutes 45.
        """

        def price(size: tuple[int, int]) -> tuple[int, int]:
            return -(-slots // size[0]) * (size[1] + _A_REQUEST), size[0]

        return min(self.sizes, key=price)[0]

    def requests(self, slots: int) -> int:
        """How many requests so many candles take, where none is absent."""
        return -(-slots // self.limit(slots))

    def weight(self, limit: int) -> int:
        """What a request for at most `limit` rows costs."""
        return next(weight for rows, weight in sorted(self.sizes) if limit <= rows)


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
        terms: What else it states, which candles do not use; no part of what makes descriptions equal.
    """

    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    contract_size: float | None = None
    ends: datetime | None = None
    trades: bool = False
    terms: Terms = field(default=NO_TERMS, compare=False)

    def unified(self, market_type: MarketType) -> str | None:
        """The name that ccxt gives the market; None where a part of it is not stated."""
        return unified_symbol(self.base, self.quote, self.settle, market_type == "spot", self.terms)


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

    def and_more(self, further: "ExchangeInfo") -> "ExchangeInfo":
        """Both parts of a description; of a market that is in both, the first stands."""
        return ExchangeInfo({**further.markets, **self.markets}, {**further.skipped, **self.skipped})

    @property
    def symbols(self) -> set[str]:
        """Every symbol that is listed, also where its facts could not be read."""
        return {*self.markets, *self.skipped} - {""}


class Pages(ABC):
    """What a REST API answers of one bronze table, page by page.

    Attributes:
        step: Length of the slots that rows lie in, one a slot where none is absent; None for rows that space
            themselves.
        coarser: The same in longer steps, to find where rows go on behind a long gap; None if there is none.
        final: When a row can change no more, as an expression over its columns; None for rows that never do.
        row_bytes: About how many bytes of an answer are a row's.
        keeps: How far back the API goes, less what may pass while it is asked; None where it has all rows.
            What is further back is not asked for, and told to be gone: that no row came would say nothing.
    """

    step: timedelta | None = None
    coarser: "Pages | None" = None
    final: pl.Expr | None = None
    row_bytes: ClassVar[int] = 150
    keeps: timedelta | None = None

    @property
    def slot(self) -> timedelta:
        """What one row stands for: its slot, or an instant."""
        return self.step or timedelta(microseconds=1)

    def since(self, at: datetime) -> datetime | None:
        """The first slot that the API still has at an instant; None where it has all."""
        oldest = at - self.keeps if self.keeps else None
        return oldest + (_EPOCH - oldest) % self.slot if oldest else None

    def requests(self, market_type: MarketType, span: TimeRange) -> int:
        """How many requests a range takes if no row is absent; at least, of rows that space themselves."""
        return self.rules(market_type).requests(self.slots(span))

    def slots(self, span: TimeRange) -> int:
        """How many slots a range has; one of rows that space themselves."""
        return -((span.start - span.end) // self.step) if self.step else 1

    @abstractmethod
    def rules(self, market_type: MarketType) -> PageRules:
        """What one request may have."""

    @abstractmethod
    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        """Asks for rows whose time lies in `[start, end)`: with an end alone for the newest.

        Args:
            market: Whose rows.
            start: First instant; None for no bound.
            end: Instant behind the last; None for no bound.
            limit: Most rows.
        """

    @abstractmethod
    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        """The columns of the table that are not lineage from an answer, which may hold no row.

        Of a row that cannot be used, such as one with a value that is no finite number, all columns but its
        time are null.

        Raises:
            ArchiveFileError, ValueError: The answer is no list of rows, or not even their times can be read.
        """


class RestApi(ABC):
    """Address and dialect of the REST API of one market type.

    Attributes:
        exchange: ccxt id.
        setting: The setting that moves the base URL.
        moving_hint: What it may be set to, where that is worth a hint.
        code_name: The name under which a body states the code of an error.
        codes: What codes mean, None that of good answers; of any other the question is refused.
        why_name: The name under which it says the error in words.
        url: Base of the API.
        ccxt_urls: The same as ccxt names it.
        budget: What its documentation allows.
        began: Before this instant the exchange had no candle, and its clock cannot have shown it.
    """

    exchange: ClassVar[str]
    setting: ClassVar[str]
    moving_hint: ClassVar[str] = ""
    code_name: ClassVar[str] = "code"
    codes: ClassVar[Mapping[int, Refusal | None]] = {0: None}
    why_name: ClassVar[str] = "msg"
    url: str
    ccxt_urls: Mapping[str, str]
    budget: Budget = Budget()
    began: ClassVar[datetime]

    @abstractmethod
    def time_call(self) -> RestCall:
        """Asks for the server's time."""

    @abstractmethod
    def read_time(self, answer: Any) -> datetime:
        """The server's time from the answer."""

    def budget_call(self) -> RestCall | None:
        """Asks for the weight per minute; None where the API does not tell it."""
        return None

    def read_budget(self, answer: Any) -> int | None:
        """The weight that may be used per minute, from the answer; None if it names none that can be
        meant.
        """
        return None

    @abstractmethod
    def info_call(self) -> InfoCall:
        """Asks for the description of all markets."""

    @abstractmethod
    def read_info(self, answer: Any) -> ExchangeInfo:
        """The description of all markets from the answer.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: The answer is none.
        """

    def more_info(self, answer: Any) -> InfoCall | None:
        """Asks for the rest of a description of which an answer is a part; None where it is all."""
        return None

    def interval_call(self) -> InfoCall | None:
        """Asks for the intervals of funding; None where the API states none."""
        return None

    def read_intervals(self, answer: Any) -> Mapping[str, float]:
        """The hours between payments of funding from the answer, by symbol.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: The answer is none.
        """
        return {}

    def refusal(self, code: int) -> Refusal | None:
        """What the code in a body means, whatever the status; None for one that good answers have."""
        return self.codes.get(code, "refused")

    def judge(self, reply: Reply) -> Verdict:
        """What a reply means for its request: by its status, and by the code in its body, which may say of a
        status 200 that it is no answer.
        """
        code = reply.code(self.code_name)
        refusal = self.refusal(code) if code is not None else None
        if reply.status in (403, 451):
            return Verdict("blocked")
        if reply.status == 429 or refusal == "throttled":
            return Verdict("throttled", reply.retry_after(_BACK_OFF))
        is_no_json = reply.status == 200 and not reply.is_json
        if reply.status is None or reply.status >= 500 or refusal == "busy" or is_no_json:
            return Verdict("busy")
        if code is not None and refusal in ("unknown_symbol", "refused"):
            return Verdict(refusal, code=code, why=reply.text(self.why_name))
        return Verdict("foreign") if reply.status != 200 or refusal is not None else ANSWERED
