"""A market: one listing on one exchange."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from lakehouse.model.errors import MarketKeyError

MarketType = Literal["spot", "linear", "inverse"]
MARKET_TYPES: tuple[MarketType, ...] = get_args(MarketType)
_KEY = re.compile(r"(?P<exchange>[a-z0-9]+)-(?P<market_type>[a-z]+):(?P<symbol>\S+)")
_NO_SYMBOL = re.compile(r"[/\\\"]|%[0-9a-fA-F]{2}")  # they part or escape names in keys, paths, addresses and commands


@dataclass(frozen=True, slots=True, order=True)
class Market:
    """One listing, identified by exchange, market type and the exchange's own symbol.

    Attributes:
        exchange: ccxt id, such as `binance`.
        market_type: `spot`, `linear` (margined in the quote currency) or `inverse` (margined in the base currency).
        symbol: The exchange's own id, such as `BTCUSDT`; it survives delisting and is in every file name.
    """

    exchange: str
    market_type: MarketType
    symbol: str

    @property
    def key(self) -> str:
        """The market as one string, `binance-linear:BTCUSDT`."""
        return f"{self.exchange}-{self.market_type}:{self.symbol}"

    @classmethod
    def parse(cls, key: str) -> "Market":
        """Read a market key.

        Raises:
            MarketKeyError: It is no text, or not `exchange-market_type:SYMBOL`, or the market type is unknown, or the symbol could not be one name in a path.
        """
        if not isinstance(key, str):
            raise MarketKeyError(key, MARKET_TYPES)  # a caller without a type checker, most often with several where one is meant
        found = _KEY.fullmatch(key.strip())
        if found is None or found["market_type"] not in MARKET_TYPES or "|" in key or "," in key:
            raise MarketKeyError(key, MARKET_TYPES)
        if found["symbol"] in (".", "..") or not found["symbol"].isprintable() or _NO_SYMBOL.search(found["symbol"]):
            raise MarketKeyError(key, MARKET_TYPES, "its symbol would be no single name in a path")
        market_type: MarketType = found["market_type"]  # type: ignore[assignment]
        return cls(found["exchange"], market_type, found["symbol"])

    def __str__(self) -> str:
        return self.key
