"""The gold tables: one file each, and one line each below.

Belongs here: declarations of gold tables, each with the pure function that computes its rows.
Does not: reading inputs (`pipeline`), arithmetic that several share (`transform`).
"""

from lakehouse.features.candle import CANDLES
from lakehouse.features.daily_panel import DailyPanel
from lakehouse.features.funding_carry import FundingCarry
from lakehouse.features.indicator import INDICATORS
from lakehouse.features.microstructure import MICROSTRUCTURES
from lakehouse.features.price_return import Return
from lakehouse.features.volatility import Volatility
from lakehouse.features.vwap import Vwap
from lakehouse.model.feature import Feature

FEATURES: tuple[type[Feature], ...] = (
    *CANDLES,
    Vwap,
    Return,
    Volatility,
    *INDICATORS,
    *MICROSTRUCTURES,
    DailyPanel,
    FundingCarry,
)
