"""A dated universe: many listings, of which some have ended, each with a life that is known."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from lakehouse.model.market import MarketType
from lakehouse.simulator.markets import SimulatedMarket, draw

_SPAN = timedelta(days=1000)
_ODD = ("1000SHIB", "1000000MOG", "币安人生", "1INCH", "0G")


def dated_universe(
    count: int = 200, ended: int = 60, since: datetime = datetime(2021, 1, 1, tzinfo=UTC)
) -> tuple[SimulatedMarket, ...]:
    """Listings of all types, listed within a thousand days of an instant. Among those that ended are
    contracts with a day of delivery, and symbols that stand still for months and then name another coin.

    Args:
        count: How many.
        ended: How many of them have ended, within as long again.
        since: When the first of them was listed.
    """
    return tuple(
        _market(number, number * ended // count < (number + 1) * ended // count, since)
        for number in range(count)
    )


def _market(number: int, has_ended: bool, since: datetime) -> SimulatedMarket:
    def minutes(word: str, most: timedelta) -> timedelta:
        return timedelta(minutes=draw("universe", word, str(number)) % (most // timedelta(minutes=1)))

    listed = since + minutes("listed", _SPAN)
    delisted = listed + timedelta(days=40) + minutes("life", _SPAN) if has_ended else None
    market_type: MarketType = ("spot", "linear", "linear", "inverse")[number % 4]  # type: ignore[assignment]
    base = _ODD[number // 4] if number % 4 < 2 and number // 4 < len(_ODD) else f"C{number:03d}"
    quote = "USD" if market_type == "inverse" else "USDT"
    symbol, kind = f"{base}{quote}{'_PERP' if market_type == 'inverse' else ''}", "PERPETUAL"
    if delisted and number % 4 == 2 and number % 8 == 2:
        delisted, kind = delisted.replace(hour=8, minute=0), "CURRENT_QUARTER"
        symbol = f"{base}{quote}_{delisted:%y%m%d}"
    elif number % 4 == 2 and number % 16 == 6:
        kind = "TRADIFI_PERPETUAL"
    quiet = listed + timedelta(days=60), listed + timedelta(days=160)
    is_reused = delisted is not None and number % 3 == 0 and delisted > quiet[1] + timedelta(days=40)
    return SimulatedMarket(
        market_type,
        symbol,
        base,
        quote,
        Decimal(100),
        100,
        2,
        0,
        listed,
        delisted,
        (quiet,) if is_reused else (),
        contract_type=kind,
    )
