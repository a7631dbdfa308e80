"""A market: one listing on one exchange."""

import re
import unicodedata
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, get_args

from lakehouse.model.errors import MarketKeyError

MarketType = Literal["spot", "linear", "inverse"]
MARKET_TYPES: tuple[MarketType, ...] = get_args(MarketType)
MARKET_COLUMNS = ("exchange", "market_type", "symbol")
"""The columns that name the market of a row."""

LONGEST_SYMBOL = 64
"""Bytes of UTF-8 that a symbol may have: percent-encoded and beside a period it is still one name in every
file system.
"""

_KEY = re.compile(r"(?P<exchange>[a-z0-9]+)-(?P<market_type>[a-z]+):(?P<symbol>.*)", re.DOTALL)
_EXCHANGE = re.compile(r"[a-z0-9]{1,32}")
UNIFIED = re.compile(r"(?:(?P<exchange>[a-z0-9]+):)?(?P<name>[\w.]+/[\w.]+(?::[\w.]+(?:-[0-9]{6})?)?)")
"""A unified symbol, with its exchange or without."""
_WILD = frozenset("*?")
_BLANK_LETTERS = "\u115f\u1160"  # Unicode calls them letters; nobody sees them


def symbol_fault(symbol: object) -> str:
    """Say why a text cannot be a symbol; empty if it can.

    A symbol is in keys, paths, addresses, commands and on terminals, so it is held to what means the same in
    all of them: letters of any script in their usual form, the digits 0 to 9, and `_`, `-` and `.` within.
    """
    if not isinstance(symbol, str) or not symbol:
        return "it has no symbol"
    if len(symbol) > LONGEST_SYMBOL or len(symbol.encode("utf-8", "replace")) > LONGEST_SYMBOL:
        return f"its symbol is longer than {LONGEST_SYMBOL} bytes"
    if odd := next(
        (
            char
            for char in symbol
            if not (char.isalpha() or char in "0123456789_-.") or char in _BLANK_LETTERS
        ),
        None,
    ):
        return f"its symbol has {odd!a}, and may have letters, the digits 0 to 9, and _ - . within"
    if symbol[0] in "-." or symbol[-1] == "." or ".." in symbol:
        return "its symbol begins with - or ., ends with ., or has .. in it"
    if unicodedata.normalize("NFKC", symbol) != symbol:
        return "its symbol has letters in another form than the usual one, which looks the same and is not"
    return ""


def is_pattern(name: str) -> bool:
    """Whether a name of markets stands for all that match it, as `binance-linear:*USDT` does."""
    return not _WILD.isdisjoint(name)


def is_key(name: str) -> bool:
    """Whether a name of markets can be nothing but a market key: it is no pattern and no unified symbol, such
    as `binance:BTC/USDT:USDT`.
    """
    return not (is_pattern(name) or UNIFIED.fullmatch(name))


def names_exchange(name: str, exchange: str) -> bool:
    """Whether a name of markets says that they are of an exchange, or a pattern that they may be. A unified
    symbol alone (`BTC/USDT`) says of none.
    """
    told, colon, _ = name.strip().partition(":")
    return bool(colon) and "/" not in told and fnmatchcase(exchange, told.partition("-")[0])


@dataclass(frozen=True, slots=True, order=True)
class Market:
    """One listing, identified by exchange, market type and the exchange's own symbol.

    Attributes:
        exchange: ccxt id, such as `binance`.
        market_type: `spot`, `linear` (margined in the quote currency) or `inverse` (margined in the base
            currency).
        symbol: The exchange's own id, such as `BTCUSDT`; it survives delisting and is in every file name.
            `symbol_fault` says what it may be.

    Raises:
        MarketKeyError: The market type is unknown, or the exchange or the symbol could be no name: no market
            can be made that breaks the rule.
    """

    exchange: str
    market_type: MarketType
    symbol: str
    _hash: int = field(init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> "tuple[type[Market], tuple[str, str, str]]":
        return Market, (self.exchange, self.market_type, self.symbol)  # another process hashes otherwise

    def __post_init__(self) -> None:
        if (
            why := _fault(self.exchange, self.market_type, self.symbol)
            if isinstance(self.symbol, str)
            else symbol_fault(self.symbol)
        ):
            raise MarketKeyError(f"{self.exchange}-{self.market_type}:{self.symbol}", MARKET_TYPES, why)
        object.__setattr__(self, "_hash", hash((self.exchange, self.market_type, self.symbol)))

    @property
    def key(self) -> str:
        """The market as one string, `binance-linear:BTCUSDT`."""
        return f"{self.exchange}-{self.market_type}:{self.symbol}"

    @classmethod
    def parse(cls, key: str) -> "Market":
        """Read a market key.

        Raises:
            MarketKeyError: It is no text, or not `exchange-market_type:SYMBOL`, or the market type is
                unknown, or the symbol breaks the rule for symbols.
        """
        if not isinstance(key, str):
            # a caller without a type checker, most often with several where one is meant
            raise MarketKeyError(key, MARKET_TYPES)
        found = _KEY.fullmatch(key.strip(" \t"))
        if found is None or found["market_type"] not in MARKET_TYPES:
            raise MarketKeyError(key, MARKET_TYPES)
        market_type: MarketType = found["market_type"]  # type: ignore[assignment]
        return cls(found["exchange"], market_type, found["symbol"])

    def __str__(self) -> str:
        return self.key


@lru_cache(maxsize=65536)  # the same few markets are met in every path
def _fault(exchange: str, market_type: str, symbol: str) -> str:
    if not _EXCHANGE.fullmatch(exchange) or market_type not in MARKET_TYPES:
        return "its exchange or market type is none"
    return symbol_fault(symbol)
