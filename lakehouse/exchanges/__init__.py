"""The exchanges: one file each, and one line each below.

Belongs here: a dialect. Where its files and answers are, how they are written, what an error code means.
Does not: transport, paging, spending a budget, reading a file: `sources` does that for every exchange alike.
"""

from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.bybit import Bybit
from lakehouse.exchanges.exchange import Exchange

EXCHANGES: tuple[type[Exchange], ...] = (Binance, Bybit)
