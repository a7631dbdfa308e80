"""What Binance's names are built from, and what its numbers look like: `um`, `cm`, endpoints and values."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lakehouse.exchanges.api import RestCall
from lakehouse.model.market import MarketType
from lakehouse.model.period import PeriodKind

FOLDERS: Mapping[MarketType, str] = {"spot": "spot", "linear": "futures/um", "inverse": "futures/cm"}
"""Folders of the archive below `data/`."""
FREQUENCIES: Mapping[PeriodKind, str] = {"month": "monthly", "day": "daily"}
"""Folders of the archive by the length of their files."""
CCXT_URLS: Mapping[MarketType, str] = {"spot": "public", "linear": "fapiPublic", "inverse": "dapiPublic"}
"""The APIs as ccxt names them."""
FIRST_CONTRACT = datetime(2019, 9, 1, tzinfo=UTC)
"""Binance had no futures before."""
LATEST = 10**17
"""Microseconds of the latest time: far more is nanoseconds, or no time at all."""
_NUMBER, _WHOLE = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII), re.compile(r"\d{1,18}", re.ASCII)


_PERIOD = re.compile(r".*-([0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)\.zip")


def period_text(key: str) -> str | None:
    """The period in the key of an archive file; None if it is none."""
    found = _PERIOD.fullmatch(key)
    return found[1] if found else None


def rest_call(market_type: MarketType, endpoint: str, weight: int, **params: str | int) -> RestCall:
    """A request to an endpoint of the API of a market type.

    Args:
        market_type: Whose API.
        endpoint: Its name as ccxt has it, in lower case.
        weight: What the request costs.
        params: The query.
    """
    return RestCall(f"{CCXT_URLS[market_type].lower()}_get_{endpoint}", params, weight)


def is_number(value: Any) -> bool:
    """Whether a value of an answer is a finite number."""
    return (
        type(value) in (int, float, str)
        and _NUMBER.fullmatch(str(value)) is not None
        and math.isfinite(float(str(value)))
    )


def is_whole(value: Any) -> bool:
    """Whether a value of an answer is a whole number that a time or a count may be."""
    return type(value) in (int, str) and _WHOLE.fullmatch(str(value)) is not None and int(value) < LATEST
