"""What an exchange states of a market beside its currencies, none of which candles use."""

import re
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

PERPETUAL, DELIVERY, TRADIFI_PERPETUAL = "perpetual", "delivery", "tradifi_perpetual"
NOT_NAMED = "NOT_NAMED"
"""The status of a market that is in an archive, and that the exchange, asked for all it lists, does not
name.
"""

_MULTIPLE = re.compile(r"(10{3,6})(?=[^\d_])(.+)")
_MILLIONS = {"1MBABYDOGE": "BABYDOGE"}  # a prefix that other names begin with as well


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which a market trades, each None where nobody stated it.

    Attributes:
        contract_type: `perpetual`, `delivery`, `tradifi_perpetual` (on something that is no coin), or the
            exchange's own word in lower case; None for spot.
        status: The exchange's own word, `NOT_NAMED` where it was asked and names no such market.
        expires: When a contract with a day of delivery is delivered.
        tick_size: Step of prices.
        step_size: Step of sizes.
        funding_interval_hours: Between two payments of funding.
        onboarded: When trading began by the exchange's own word.
        is_trading: Whether it traded when the exchange was asked; None where that is not known.
    """

    contract_type: str | None = None
    status: str | None = None
    expires: datetime | None = None
    tick_size: float | None = None
    step_size: float | None = None
    funding_interval_hours: float | None = None
    onboarded: datetime | None = None
    is_trading: bool | None = None

    def or_else(self, other: "Terms") -> "Terms":
        """These terms, and of what they do not state what others do."""
        own = {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}
        return replace(other, **own)

    def before(self, later: "Terms") -> "Terms":
        """These terms with what only a state can say later: whether the exchange still names the market."""
        own = self.or_else(later)
        return own if later.status is None else replace(own, status=later.status, is_trading=later.is_trading)

    def contradict(self, others: "Terms", of_state_alone: bool) -> bool:
        """Whether something is stated otherwise.

        Args:
            others: The terms to hold against these.
            of_state_alone: Whether nothing counts but what the exchange turns in time, because the rest was
                merely implied.
        """
        names = _STATE if of_state_alone else _NAMES
        return any(differ(getattr(self, name), getattr(others, name)) for name in names)


_NAMES = tuple(each.name for each in fields(Terms))
_STATE = ("status", "is_trading", "funding_interval_hours")
NO_TERMS = Terms()


def unified_symbol(
    base: str | None, quote: str | None, settle: str | None, is_spot: bool, terms: Terms
) -> str | None:
    """The name that ccxt gives a market, `BTC/USDT`, `BTC/USDT:USDT` or `BTC/USDT:USDT-240329`; None where
    something of it was not stated.

    Args:
        base: Base currency.
        quote: Quote currency.
        settle: Settlement currency; None for spot.
        is_spot: Whether the market is spot.
        terms: What else is stated.
    """
    if base is None or quote is None:
        return None
    if is_spot:
        return f"{base}/{quote}"
    if settle is None or terms.contract_type is None:
        return None
    if terms.contract_type == DELIVERY:
        return f"{base}/{quote}:{settle}-{terms.expires:%y%m%d}" if terms.expires else None
    return f"{base}/{quote}:{settle}"


def coin_of(base: str | None) -> tuple[str | None, int | None]:
    """The coin in a base currency, and how many of it are one unit of the base: `1000SHIB` is a thousand
    SHIB.

    By the form of its name, as exchanges write it: a thousand to a million, then the coin.
    """
    if base is None:
        return None, None
    if base in _MILLIONS:
        return _MILLIONS[base], 1_000_000
    if found := _MULTIPLE.fullmatch(base):
        return found[2], int(found[1])
    return base, 1


def differ(one: Any, other: Any) -> bool:
    """Whether two statements contradict each other: one that was not made contradicts nothing."""
    return one is not None and other is not None and one != other
