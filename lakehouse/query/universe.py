"""Which markets could be traded at an instant, and which markets a name means."""

from calendar import monthrange
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import groupby

import polars as pl

from lakehouse.datasets.market import Listing, Precision, market_frame
from lakehouse.exchanges import EXCHANGES
from lakehouse.exchanges.exchange import can_have
from lakehouse.model.errors import (
    ManyMarketsError,
    NoSuchListingError,
    NotOfThisTypeError,
    NotScannedError,
)
from lakehouse.model.market import UNIFIED, Market, is_key, is_pattern
from lakehouse.model.table import Table

# --- at an instant --------------------------------------------------------------------------------


def tradable(
    listings: Sequence[Listing],
    at: datetime,
    scanned_at: Mapping[str, datetime],
    in_break: Collection[Market] = (),
) -> pl.DataFrame:
    """The markets that could be traded at an instant, delisted ones too, in order of their key.

    What is stated of each is what this lake knew to hold then, else the first that it learnt of it.

    Args:
        listings: The rows of `silver/market`.
        at: The instant.
        scanned_at: When exchanges were last asked for all they list: who traded then may have ended since.
        in_break: Markets whose rows prove that their symbol stood still at the instant, between two lives.

    Returns:
        The columns of `silver/market`, and `is_certain`: false where what is known of a life leaves open
        whether the instant lies in it. A market that nobody dates is left out.

    Raises:
        NotScannedError: Of an exchange only the markets of the lake are known, and not all it listed.
    """
    scanned = {
        each.market.exchange
        for each in listings
        if each.life_source != "rows" or each.unpublished is not None
    }
    known = {each.market.exchange for each in listings}
    if known - scanned:
        raise NotScannedError(sorted(known - scanned))
    of_market: dict[Market, list[Listing]] = {}
    for each in listings:
        of_market.setdefault(each.market, []).append(each)
    found = [
        (then, certain)
        for market, rows in sorted(of_market.items())
        if market not in in_break
        and (then := _held(rows, at)) is not None
        and (certain := _alive(next(one for one in rows if one.valid_until is None), then, at, scanned_at))
        is not None
    ]
    flags = pl.Series("is_certain", [certain for _, certain in found], pl.Boolean)
    return market_frame(then for then, _ in found).with_columns(flags)


def _held(rows: Iterable[Listing], at: datetime) -> Listing | None:
    """What was stated at an instant."""
    return next(
        (
            row
            for row in rows
            if (row.valid_from is None or row.valid_from <= at)
            and (row.valid_until is None or at < row.valid_until)
        ),
        None,
    )


def _alive(now: Listing, then: Listing, at: datetime, scanned_at: Mapping[str, datetime]) -> bool | None:
    """Whether a market surely could be traded at an instant; False where it may have been, None where it
    could not.

    Args:
        now: What is known of its life.
        then: What was stated of it then.
        at: The instant.
        scanned_at: When exchanges were last asked for all they list.
    """
    was_seen = then.valid_from is not None
    if was_seen and then.terms.is_trading is False:
        return None
    onboarded = now.terms.onboarded
    begin = min((instant for instant in (now.listed, onboarded) if instant), default=None)
    seen = scanned_at.get(now.market.exchange)
    is_known = seen is not None and at <= seen
    if begin is None:
        return is_known if was_seen and then.terms.is_trading else None
    if at < begin or (now.delisted and at >= now.delisted):
        return None
    has_begun = (onboarded is not None and onboarded <= at) or (
        now.listed is not None and at >= now.listed + _slack(now.listed_precision, now.listed)
    )
    if now.delisted is None:
        goes_on = is_known and now.terms.is_trading is True
    else:
        before = now.delisted - timedelta(microseconds=1)
        goes_on = at < now.delisted - _slack(now.delisted_precision, before)
    return has_begun and goes_on and f"{at:%Y-%m}" not in (now.unpublished or "").split(",")


def _slack(precision: Precision | None, within: datetime) -> timedelta:
    """How far an instant of a precision may be off; a month is that in which another instant lies."""
    days = {"day": 1, "month": monthrange(within.year, within.month)[1]}
    return timedelta(days=days.get(precision or "instant", 0))


# --- by name --------------------------------------------------------------------------------------


def named(
    name: str, listings: Callable[[], Iterable[Listing]], where: str = "that are known here"
) -> list[Market]:
    """The markets that a name means.

    Args:
        name: A market key (`binance-spot:BTCUSDT`), a pattern of keys or of unified symbols
            (`binance-linear:*USDT`, `binance:*/USDT:USDT`), or a unified symbol with its exchange
            (`binance:BTC/USDT:USDT`), or without where one market alone can be meant.
        listings: What is listed; only asked where the name is no key.
        where: Which listings these are, in words.

    Raises:
        MarketKeyError: It looks like a key and is none.
        NoSuchListingError: Nothing that is known has such a name.
        ManyMarketsError: Several markets can be meant.
    """
    if is_key(name):
        return [Market.parse(name)]
    known = [each for each in listings() if each.valid_until is None]
    if is_pattern(name):
        found = sorted(each.market for each in known if matches(name, each.market, each.unified))
    else:
        told = UNIFIED.fullmatch(name)
        found = sorted(
            each.market
            for each in known
            if told and each.unified == told["name"] and told["exchange"] in (None, each.market.exchange)
        )
        if len(found) > 1:
            raise ManyMarketsError(name, [market.key for market in found])
    if not found:
        raise NoSuchListingError(name, len(known), where)
    return found


def alike(symbol: str, listings: Iterable[Listing]) -> list[Market]:
    """The markets of the lake that have a unified symbol, one of each exchange, in order of their names.

    Args:
        symbol: The symbol, `BTC/USDT:USDT`.
        listings: The rows of `silver/market`.

    Raises:
        NoSuchListingError: None has it, or it is no unified symbol without an exchange.
        ManyMarketsError: An exchange has several.
    """
    told = UNIFIED.fullmatch(symbol)
    held = [each for each in listings if each.valid_until is None and each.life_source == "rows"]
    name = told["name"] if told and told["exchange"] is None else None
    found = sorted(each.market for each in held if name is not None and each.unified == name)
    if not found:
        raise NoSuchListingError(symbol, len(held), "of the lake")
    for _, group in groupby(found, key=lambda market: market.exchange):
        if len(members := list(group)) > 1:
            raise ManyMarketsError(f"{members[0].exchange}:{symbol}", [market.key for market in members])
    return found


def matches(pattern: str, market: Market, unified: str | None) -> bool:
    """Whether a market's key matches a pattern, or its unified symbol with its exchange does."""
    names = [market.key, *([f"{market.exchange}:{unified}"] if unified else [])]
    return any(fnmatchcase(name, pattern) for name in names)


def require_able(tables: Collection[type[Table]], markets: Iterable[Market], pattern: str = "") -> None:
    """Refuse a market that can have none of some tables, whatever is built.

    Args:
        tables: The tables.
        markets: Which markets.
        pattern: What they all match, if they were named by one: then one that can have a table is enough.

    Raises:
        NotOfThisTypeError: There is such a market.
    """
    known, asked = {exchange.name: exchange() for exchange in EXCHANGES}, list(markets)
    unable = [market for market in asked if not any(can_have(known, table, market) for table in tables)]
    if tables and unable and not (pattern and len(unable) < len(asked)):
        types = list(dict.fromkeys(kind for table in tables for kind in table.market_types))
        names = " or ".join(table.name for table in tables)
        raise NotOfThisTypeError(names, pattern or unable[0].key, types)
