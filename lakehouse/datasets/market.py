"""`silver/market`: what is known of each listing.

`MarketFacts` is what cells are made with, of markets whose rows were looked at; a `Listing` is all that is
known of a market, whether the lake has rows of it or its name alone. Longer than other modules: the table,
both views of its rows and what becomes of a row when news of it comes are one subject.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import MarketKeyError
from lakehouse.model.life import Life
from lakehouse.model.market import MARKET_COLUMNS, Market
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.model.terms import NO_TERMS, NOT_NAMED, Terms, coin_of, differ, unified_symbol
from lakehouse.model.timerange import TimeRange

_log = logging.getLogger(__name__)

Precision = Literal["instant", "minute", "day", "month"]
"""How well an end of a market's life is told: stated as an instant, by a row, by a file of a day or of a
month.
"""
LifeSource = Literal["rows", "names", "exchange"]


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """What is known of one market.

    Attributes:
        market: The market.
        base: Currency that `volume` counts; None where nobody stated it.
        quote: Currency that prices are in; None where nobody stated it.
        settle: Currency that profit is paid in; None for spot, and where nobody stated it.
        contract_size: Quote value of one contract (inverse), or None.
        listed: Open time of the first row of the first published file.
        delisted: Of a market that has ended, the first end that its symbol or the exchange states, or the end
            of its last row where neither does; else None.
        origin: `exchange_info`, or `derived` where the exchange could not be asked.
        listed_precision: How well `listed` is told.
        delisted_precision: How well `delisted` is told; None where there is none.
        terms: What else is stated. As the precisions no part of what makes facts equal: candles use none
            of it.
        silent_since: End of the last row, of a market of which nothing is published any more and that is not
            shown to have ended now; never stored.
        is_sparse: Whether its exchange has no candle of a minute in which nothing was traded.
    """

    market: Market
    base: str | None
    quote: str | None
    settle: str | None
    contract_size: float | None
    listed: datetime
    delisted: datetime | None
    origin: str
    listed_precision: Precision = field(default="minute", compare=False)
    delisted_precision: Precision | None = field(default=None, compare=False)
    terms: Terms = field(default=NO_TERMS, compare=False)
    silent_since: datetime | None = field(default=None, compare=False)
    is_sparse: bool = False

    @property
    def life(self) -> Life:
        """From the listing to the delisting."""
        return Life(self.listed, self.delisted)

    def version_for(self, cell: Cell) -> str:
        """Hash of the facts a candle cell uses: a listing or delisting outside its window leaves it
        untouched.
        """
        window = cell.window
        return _hash_of(
            self.contract_size,
            _inside(self.listed, window, self.listed < window.end),
            _inside(self.delisted, window, self.delisted is not None and self.delisted > window.start),
            *(["sparse"] if self.is_sparse else []),
        )

    def kept_from(self, known: "MarketFacts | None") -> "MarketFacts":
        """These facts, but with what the exchange itself once said in place of what is only derived now: it
        may just be out of reach, or have dropped the market. An end that was shown stays where nobody shows
        it now, and no row is later.
        """
        if known is None:
            return self
        if known.delisted and not self.delisted and self.silent_since and self.silent_since <= known.delisted:
            ended = replace(
                self, delisted=known.delisted, delisted_precision=known.delisted_precision, silent_since=None
            )
            return ended.kept_from(known)
        if self.origin == known.origin or self.origin != "derived":
            return self
        # an end by rows is none any more where there are newer ones
        by = known if known.delisted and (self.delisted or known.delisted_precision != "minute") else self
        return replace(
            known,
            listed=self.listed,
            listed_precision=self.listed_precision,
            delisted=by.delisted,
            delisted_precision=by.delisted_precision,
            terms=known.terms.before(self.terms),
            is_sparse=self.is_sparse,
        )

    @property
    def row(self) -> dict[str, object]:
        """The facts as a row of `silver/market`."""
        return Listing.of(self).row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "MarketFacts":
        """Read what `row` wrote."""
        return Listing.from_row(row).facts


@dataclass(frozen=True, slots=True)
class Listing:
    """All that is known of one market: a row of `silver/market`.

    Attributes:
        market: The market.
        origin: As of `MarketFacts`.
        life_source: What tells its life: its `rows`, the `names` of its files, or the `exchange` alone.
        base: As of `MarketFacts`.
        quote: As of `MarketFacts`.
        settle: As of `MarketFacts`.
        contract_size: As of `MarketFacts`.
        listed: The first instant at which it may have traded, by what is published; None where nothing is.
        listed_precision: How well that is told.
        delisted: The last one, where it is shown that it ended; else None.
        delisted_precision: How well that is told.
        terms: What else is stated.
        unpublished: Whole months within its life of which nothing is published.
        successor: Symbol of what took its place, where that was announced.
        successor_ratio: How many of the successor's coin one of its own became.
        valid_from: When this was first seen stated in place of something else; None of the first that is
            known.
        valid_until: When something else was first seen stated; None of what is known now.
        is_sparse: As of `MarketFacts`.
    """

    market: Market
    origin: str
    life_source: LifeSource
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    contract_size: float | None = None
    listed: datetime | None = None
    listed_precision: Precision | None = None
    delisted: datetime | None = None
    delisted_precision: Precision | None = None
    terms: Terms = NO_TERMS
    unpublished: str | None = None
    successor: str | None = None
    successor_ratio: float | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    is_sparse: bool = False

    @property
    def unified(self) -> str | None:
        """Its name as ccxt has it; None where something of it was not stated."""
        is_spot = self.market.market_type == "spot"
        return unified_symbol(self.base, self.quote, self.settle, is_spot, self.terms)

    @classmethod
    def of(cls, facts: MarketFacts) -> "Listing":
        """The listing of a market whose rows were looked at."""
        given = {name: getattr(facts, name) for name in _OF_FACTS}
        ended = (facts.delisted_precision or "minute") if facts.delisted else None
        return cls(**given, life_source="rows", delisted_precision=ended)

    @property
    def facts(self) -> MarketFacts:
        """What cells are made with.

        Raises:
            ValueError: Nothing tells when it was listed.
        """
        if self.listed is None:
            raise ValueError(f"{self.market.key} has no rows that would tell of its life")
        given = {name: getattr(self, name) for name in _OF_FACTS}
        given["listed_precision"] = self.listed_precision or "minute"
        return MarketFacts(**given, delisted_precision=self.delisted_precision)

    @property
    def row(self) -> dict[str, object]:
        """The row."""
        own = {name: getattr(self.market, name) for name in MARKET_COLUMNS}
        own |= {column: getattr(self, name) for column, name in _COLUMNS.items()}
        coin, multiple = coin_of(self.base)
        derived = {"unified_symbol": self.unified, "coin": coin, "coin_multiple": multiple}
        return own | derived | {column: getattr(self.terms, name) for column, name in _TERMS.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Listing":
        """Read what `row` wrote, also in an earlier release, which knew less."""
        market = Market(row["exchange"], row["market_type"], row["symbol"])
        given = {name: row.get(column) for column, name in _COLUMNS.items()}
        terms = Terms(**{name: row.get(column) for column, name in _TERMS.items()})
        given["is_sparse"] = bool(given["is_sparse"])
        if given["life_source"] is None:
            ended = "minute" if given["delisted"] else None
            given |= {"life_source": "rows", "listed_precision": "minute", "delisted_precision": ended}
        return cls(market, terms=terms, **given)  # type: ignore[arg-type]

    def after(self, known: "Listing | None", at: datetime) -> list["Listing"]:
        """The rows of the market once this has been learnt: the one that holds now, and before it the one
        that held until now, where something else is stated now than was.

        What was stated once stands for what is not stated now. What a lake learnt of rows is not replaced by
        what file names say. Ends of a life that are told anew are better known, and no history.

        Args:
            known: What held so far; None if nothing was known.
            at: When this was learnt.
        """
        if known is None:
            return [self]
        stated, was_stated = self.origin != "derived", known.origin != "derived"
        own = ("base", "quote", "settle", "contract_size")
        if was_stated and not stated:  # what was said stands before what a symbol implies
            told, terms = {name: getattr(known, name) for name in own}, known.terms.before(self.terms)
        else:
            told = {name: getattr(self, name) for name in own}
            terms = self.terms.or_else(known.terms) if was_stated else self.terms
        life = known if known.life_source == "rows" and self.life_source != "rows" else self
        ends = {name: getattr(life, name) for name in _LIFE}
        now = replace(
            self,
            **told,
            **ends,
            terms=terms,
            origin=self.origin if stated else known.origin,
            unpublished=self.unpublished if self.unpublished is not None else known.unpublished,
            successor=self.successor or known.successor,
            successor_ratio=self.successor_ratio or known.successor_ratio,
            valid_from=known.valid_from,
        )
        turned = known.terms.contradict(terms, of_state_alone=not was_stated)
        if turned or (
            was_stated and any(differ(getattr(known, name), value) for name, value in told.items())
        ):
            return [replace(known, valid_until=at), replace(now, valid_from=at)]
        return [now]


_LIFE = ("life_source", "listed", "listed_precision", "delisted", "delisted_precision")
_OF_FACTS = (
    *("market", "base", "quote", "settle", "contract_size", "listed", "delisted", "origin"),
    *("listed_precision", "terms", "is_sparse"),
)
# Columns of `silver/market` -> attributes of `Listing` and of its terms.
_COLUMNS = {
    **{name: name for name in ("base", "quote", "settle", "contract_size")},
    "listed_time": "listed",
    "delisted_time": "delisted",
    **{name: name for name in ("origin", "life_source", "listed_precision", "delisted_precision")},
    **{name: name for name in ("successor", "successor_ratio", "valid_from", "valid_until")},
    "unpublished_months": "unpublished",
    "is_sparse": "is_sparse",
}
_TERMS = {
    **{name: name for name in ("contract_type", "status", "is_trading", "tick_size", "step_size")},
    "expiry_time": "expires",
    "onboard_time": "onboarded",
    "funding_interval": "funding_interval_hours",
}


def facts_by_market(rows: pl.DataFrame | None) -> dict["Market", MarketFacts]:
    """What rows of `silver/market` say of the markets that cells are made of, by market; nothing of None,
    where it is not stored.
    """
    if rows is not None and "life_source" in rows.columns:
        rows = rows.filter(pl.col("valid_until").is_null(), pl.col("life_source") == "rows")
    return {market: listing.facts for market, listing in current_listings(rows).items()}


def current_listings(rows: pl.DataFrame | None) -> dict["Market", Listing]:
    """What rows of `silver/market` say now, by market."""
    return {listing.market: listing for listing in read_listings(rows) if listing.valid_until is None}


def read_listings(rows: pl.DataFrame | None) -> list[Listing]:
    """The rows of `silver/market`, without those that could be no market's."""
    found = []
    for row in rows.iter_rows(named=True) if rows is not None else ():
        try:
            found.append(Listing.from_row(row))
        # an earlier release took it; nobody else is to be without his facts for it
        except MarketKeyError as error:
            _log.warning("A row of silver/market is left out: %s", error)
    return found


def learnt(rows: Iterable[Listing], news: Mapping[Market, Listing], at: datetime) -> list[Listing]:
    """The rows of `silver/market` once something has been learnt; what was learnt of no other market changes.

    Args:
        rows: Those so far.
        news: What was learnt, by market.
        at: When.
    """
    rows = list(rows)
    now = {listing.market: listing for listing in rows if listing.valid_until is None}
    past = [listing for listing in rows if listing.valid_until is not None]
    fresh = [each for market, told in news.items() for each in told.after(now.get(market), at)]
    return [*past, *(listing for market, listing in now.items() if market not in news), *fresh]


@lru_cache(maxsize=4096, typed=True)  # 1 and 1.0 are equal, and are written otherwise
def _hash_of(*used: object) -> str:
    """A hash of facts: most cells of most markets use the same."""
    return hashlib.sha256(json.dumps(used).encode()).hexdigest()[:32]


def _inside(instant: datetime | None, window: TimeRange, touches: bool) -> str:
    """The instant where it bounds what is expected in a window, else which side of the window it is on."""
    if instant is not None and window.start < instant < window.end:
        return str(instant)
    return "bounds nothing here" if instant is None or touches else "bounds all of it"


class MarketTable(Table):
    """Every listing of every exchange, delisted ones too: its currencies, its contract, its life, its terms.

    One object for all markets. Rows come from the exchange's own description where it names the market
    (`origin` is `exchange_info`), else from the archive and the symbol (`derived`). What nobody stated is
    null: a symbol does not say where its base ends and its quote begins.

    A market has one row that holds now (`valid_until` is null) and one for each set of terms that held
    before. When terms came to hold nobody states: `valid_from` and `valid_until` are when this lake saw
    them change, and null where it did not.

    Of a market whose rows the lake looked at, `life_source` is `rows`; of the others both ends of their lives
    are told by the names of published files: `listed_time` is then the first instant and `delisted_time` the
    last that these allow, and their precision says how far off they may be.
    """

    name = "silver/market"
    key = ("exchange", "market_type", "symbol", "valid_from")
    time = ""
    spread = "one"
    code_version = 3  # every listing, with its terms and what they were

    exchange = Column(pl.String, "ccxt id of the exchange")
    market_type = Column(pl.String, "spot, linear or inverse")
    symbol = Column(pl.String, "The exchange's own symbol")
    base = Column(
        pl.String,
        "Currency that volume counts; null where the exchange was not asked and the symbol does not state it",
        nullable=True,
    )
    quote = Column(pl.String, "Currency that prices are in; null as base", nullable=True)
    settle = Column(pl.String, "Currency that profit is paid in; null for spot, and as base", nullable=True)
    contract_size = Column(
        pl.Float64,
        "Value of one contract; null where sizes are in base already",
        "quote",
        nullable=True,
        above=0,
    )
    listed_time = Column(
        UTC_TIME,
        "Open time of the first row of the first published file, or where that file begins; null where "
        "nothing is published",
        "UTC",
        nullable=True,
    )
    delisted_time = Column(
        UTC_TIME,
        "When a market ended: the first end that its symbol or exchangeInfo states, else the end of its last "
        "row, or of its last file; null where it is not shown to have ended",
        "UTC",
        nullable=True,
    )
    origin = Column(pl.String, "exchange_info, or derived from the archive and the symbol")
    life_source = Column(
        pl.String,
        "What tells its life: rows (of a market of the lake), names (of its files), exchange (nothing is "
        "published)",
    )
    listed_precision = Column(
        pl.String,
        "How well listed_time is told: minute (by a row), day or month (by a file's name)",
        nullable=True,
    )
    delisted_precision = Column(
        pl.String,
        "How well delisted_time is told: instant (stated), minute (by a row), day or month (by a file's "
        "name)",
        nullable=True,
    )
    unified_symbol = Column(
        pl.String,
        "ccxt's name of the market, BTC/USDT:USDT; null where a part of it is not stated",
        nullable=True,
    )
    coin = Column(pl.String, "What the base is a multiple of: SHIB of 1000SHIB; null as base", nullable=True)
    coin_multiple = Column(pl.Int64, "How many coins one unit of the base is; null as base", "count", True, 1)
    contract_type = Column(
        pl.String,
        "perpetual, delivery, tradifi_perpetual, or the exchange's word; null for spot and where not stated",
        nullable=True,
    )
    status = Column(
        pl.String,
        f"The exchange's own word, such as TRADING; {NOT_NAMED} where it was asked and names no such market; "
        "null where it was not asked",
        nullable=True,
    )
    is_trading = Column(
        pl.Boolean, "Whether it traded when the exchange was asked; null where it was not", nullable=True
    )
    expiry_time = Column(
        UTC_TIME, "When a contract with a day of delivery is delivered", "UTC", nullable=True
    )
    onboard_time = Column(
        UTC_TIME,
        "When trading began by the exchange's own word; null where it states none",
        "UTC",
        nullable=True,
    )
    tick_size = Column(pl.Float64, "Step of prices; null where not stated", "quote", nullable=True, above=0)
    step_size = Column(pl.Float64, "Step of sizes; null where not stated", nullable=True, above=0)
    funding_interval = Column(
        pl.Float64, "Between two payments of funding; null where not stated", "hours", nullable=True, above=0
    )
    unpublished_months = Column(
        pl.String,
        "Whole months within its life of which nothing is published, comma-separated: what traded under the "
        "symbol before may be another coin's; empty if there is none, null where nobody looked. A shorter "
        "stop leaves no trace in names",
        nullable=True,
    )
    successor = Column(
        pl.String,
        "Symbol under which its coin went on, by announcement; null where none is declared here",
        nullable=True,
    )
    valid_from = Column(
        UTC_TIME,
        "When this lake first saw these terms in place of others; null of the first that it saw",
        "UTC",
        nullable=True,
    )
    valid_until = Column(
        UTC_TIME, "When this lake first saw others; null of those that hold now", "UTC", nullable=True
    )
    successor_ratio = Column(
        pl.Float64,
        "How many of the successor's coin one of this market's became; null where there is no successor",
        nullable=True,
        above=0,
    )
    is_sparse = Column(
        pl.Boolean,
        "Whether its exchange has no candle of a minute in which nothing was traded, so that a minute "
        "without one is no gap; null as an earlier release wrote it",
        nullable=True,
    )


def market_frame(facts: Iterable[MarketFacts | Listing]) -> pl.DataFrame:
    """Facts or listings as a frame of `silver/market`."""
    return pl.DataFrame([f.row for f in facts], schema=MarketTable.polars_schema())
