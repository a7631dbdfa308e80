"""What the tests of targets export: rows by hand, and drawn ones."""

from typing import Any

import polars as pl
from hypothesis import strategies as st

from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.datasets.market import Listing, MarketFacts
from lakehouse.export.target import Series
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.market import Market
from lakehouse.model.terms import PERPETUAL, Terms
from lakehouse_tests.making import BTC, COIN, at, candles, minutes

LINEAR = Market("binance", "linear", "BTCUSDT")


def listing(market: Market = BTC, **changed: Any) -> Listing:
    """A market whose currencies and steps are stated."""
    is_spot, is_inverse = market.market_type == "spot", market.market_type == "inverse"
    quote = "USD" if is_inverse else "USDT"
    said: dict[str, Any] = {
        "base": "BTC",
        "quote": quote,
        "settle": None if is_spot else "BTC" if is_inverse else quote,
        "contract_size": 100.0 if is_inverse else None,
        "listed": at("2020-01-01"),
        "delisted": None,
        "origin": "exchange_info",
        "terms": Terms(
            contract_type=None if is_spot else PERPETUAL,
            tick_size=0.1 if is_inverse else 0.01,
            step_size=1.0 if is_inverse else 0.001,
        ),
    }
    return Listing.of(MarketFacts(market, **(said | changed)))


def series(
    rows: pl.DataFrame,
    market: Market = BTC,
    interval: Interval = MINUTE,
    known: Listing | None = None,
    given: str | None = None,
    funding: pl.DataFrame | None = None,
) -> Series:
    """A series of one interval."""
    own = rows if "is_filled" in rows.columns else rows.with_columns(is_filled=pl.lit(False))
    return Series(market, known or listing(market), given, {interval: own}, funding)


def rates(values: list[float], start: str = "2024-01-01", hours: int = 8) -> pl.DataFrame:
    """Rows of `silver/funding_rate`."""
    times = minutes(start, len(values), hours * 60)
    said = {
        "funding_time": times,
        "rate": values,
        "published_time": times,
        "mark_price": [None] * len(values),
    }
    said |= {"interval_hours": [hours] * len(values)}
    said |= {name: ["archive"] * len(values) for name in ("interval_source", "source")}
    return pl.DataFrame(said, schema_overrides=dict(FundingRate.polars_schema())).select(FundingRate.names())


def _sized(most: float, least: float = 0.0) -> st.SearchStrategy[float]:
    """Values as exchanges publish them, of up to eight places, and those whose digits have an exponent."""
    places = st.integers(0, 8)
    drawn = st.floats(least, most, allow_nan=False, allow_infinity=False)
    return st.builds(lambda value, digits: max(round(value, digits), least), drawn, places)


PRICES = _sized(1e6, 1e-8)
SIZES = _sized(1e9)


@st.composite
def drawn_rows(draw: st.DrawFn, market: Market = BTC) -> pl.DataFrame:
    """Candles of some minutes of three days, in order."""
    places = sorted(draw(st.sets(st.integers(0, 3 * 1440 - 1), min_size=1, max_size=12)))
    times = [minutes("2024-02-28", 1)[0] + place * MINUTE.delta for place in places]
    columns: dict[str, list[Any]] = {name: [] for name in ("open", "high", "low", "close", "volume")}
    for _ in times:
        low, opened, closed, high = sorted(draw(PRICES) for _ in range(4))
        for name, value in zip(columns, (opened, high, low, closed, draw(SIZES)), strict=True):
            columns[name].append(value)
    if market == COIN:
        columns["contracts"] = [float(draw(st.integers(0, 10**9))) for _ in times]
    return candles(times, **columns)
