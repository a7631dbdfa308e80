"""The gold tables: one file each, and one line each below."""

from lakehouse.features.candle import CANDLES
from lakehouse.features.vwap import Vwap
from lakehouse.model.feature import Feature

FEATURES: tuple[type[Feature], ...] = (*CANDLES, Vwap)
