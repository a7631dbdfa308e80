"""The exchanges: one file each, and one line each below."""

from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.exchange import Exchange

EXCHANGES: tuple[type[Exchange], ...] = (Binance,)
