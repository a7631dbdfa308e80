"""`silver/market`: what is known of each listing."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import MarketKeyError
from lakehouse.model.life import Life
from lakehouse.model.market import Market
from lakehouse.model.table import UTC_TIME, Column, Table
from lakehouse.model.timerange import TimeRange

_log = logging.getLogger(__name__)

# The columns of `silver/market` that are no part of its key -> the attribute of `MarketFacts`.
_FACTS = {
    **{name: name for name in ("base", "quote", "settle", "contract_size")},
    "listed_time": "listed",
    "delisted_time": "delisted",
    "origin": "origin",
}


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
    """

    market: Market
    base: str | None
    quote: str | None
    settle: str | None
    contract_size: float | None
    listed: datetime
    delisted: datetime | None
    origin: str

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
        )

    def kept_from(self, known: "MarketFacts | None") -> "MarketFacts":
        """These facts, but with what the exchange itself once said in place of what is only derived now: it
        may just be out of reach, or have dropped the market.
        """
        if known is None or self.origin == known.origin or self.origin != "derived":
            return self
        return replace(known, listed=self.listed, delisted=known.delisted or self.delisted)

    @property
    def row(self) -> dict[str, object]:
        """The facts as a row of `silver/market`."""
        market = {name: getattr(self.market, name) for name in ("exchange", "market_type", "symbol")}
        return market | {column: getattr(self, name) for column, name in _FACTS.items()}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "MarketFacts":
        """Read what `row` wrote."""
        market = Market(row["exchange"], row["market_type"], row["symbol"])
        return cls(market, **{name: row[column] for column, name in _FACTS.items()})


def facts_by_market(rows: pl.DataFrame | None) -> dict["Market", MarketFacts]:
    """What rows of `silver/market` say, by market; nothing of None, where it is not stored."""
    found: dict[Market, MarketFacts] = {}
    for row in rows.iter_rows(named=True) if rows is not None else ():
        try:
            facts = MarketFacts.from_row(row)
        except (
            MarketKeyError
        ) as error:  # an earlier release took it; nobody else is to be without his facts for it
            _log.warning("A row of silver/market is left out: %s", error)
        else:
            found[facts.market] = facts
    return found


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
    """Every market of the universe: its currencies, its contract and how long it has been listed.

    One object for all markets. Rows come from the exchange's own description where it can be asked (`origin`
    is `exchange_info`), else from the archive and the symbol (`derived`). What nobody stated is null: a
    symbol does not say where its base ends and its quote begins.
    """

    name = "silver/market"
    key = ("exchange", "market_type", "symbol")
    time = ""
    spread = "one"
    code_version = 2  # what was guessed is null, and a stated end caps a life

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
    listed_time = Column(UTC_TIME, "Open time of the first row of the first published file", "UTC")
    delisted_time = Column(
        UTC_TIME,
        "When a market ended: the first end that its symbol or exchangeInfo states, else the end of its last "
        "row; null while it trades",
        "UTC",
        nullable=True,
    )
    origin = Column(pl.String, "exchange_info, or derived from the archive and the symbol")


def market_frame(facts: list[MarketFacts]) -> pl.DataFrame:
    """Facts as a frame of `silver/market`."""
    return pl.DataFrame([f.row for f in facts], schema=MarketTable.polars_schema())
