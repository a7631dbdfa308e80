"""One client for each REST API and market type of a lake's exchanges, and what they and the archives told of
the time there.
"""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.exchanges.api import Pages
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.errors import RestBannedError, RestUnreachableError, UnknownExchangeError
from lakehouse.model.market import Market, MarketType

if TYPE_CHECKING:
    from lakehouse.sources.rest.client import RestClient
    from lakehouse.sources.rest.spending import Spending


class RestClients:
    """The REST clients of a lake, shared by all threads, so that they share budgets and bans too.

    Args:
        exchanges: Whose clients.
        on_ban: Told of every ban.
        home: The folder that processes of this machine share, to count their requests together.
        machines: How many of this address ask at once.
    """

    def __init__(
        self,
        *exchanges: Exchange,
        on_ban: Callable[[RestBannedError], object] = lambda ban: None,
        home: Path | None = None,
        machines: int = 1,
    ) -> None:
        self._home, self._machines = home, machines
        self._on_ban = on_ban
        self._exchanges = {exchange.name: exchange for exchange in exchanges}
        self._clients: dict[tuple[str, MarketType], RestClient] = {}
        self._spendings: dict[str, Spending] = {}
        self._newest_file: dict[str, datetime] = {}
        self._lock = threading.Lock()
        self.concerned = set[str]()
        """The exchanges whose markets something was asked about, whoever answers."""

    def concern(self, markets: Iterable[Market]) -> None:
        """Take note of which markets something is about to be asked of."""
        self.concerned |= {market.exchange for market in markets}

    def of(self, market: Market) -> "RestClient":
        """The client of a market's REST API.

        Raises:
            UnknownExchangeError: The exchange has no module.
            RestUnreachableError: The exchange has no REST API for this market type.
        """
        return self.of_api(market.exchange, market.market_type)

    def of_api(self, exchange: str, market_type: MarketType) -> "RestClient":
        """The client of an exchange's REST API for a market type.

        Raises:
            UnknownExchangeError, RestUnreachableError: As `of`.
        """
        from lakehouse.sources.rest.client import RestClient  # reading files needs none
        from lakehouse.sources.rest.spending import Spending
        from lakehouse.sources.rest.tally import Tally

        own = self._exchange(exchange)
        with self._lock:
            if (exchange, market_type) not in self._clients:
                api = own.rest_api(market_type)
                # one API may serve several market types: what it counts, and bans, are addresses
                if api.url not in self._spendings:
                    self._spendings[api.url] = Spending(
                        api.url, api.budget, tally=Tally(api.url, self._home), machines=self._machines
                    )
                client = RestClient(api, on_ban=self._on_ban, spending=self._spendings[api.url])
                self._clients[exchange, market_type] = client
            return self._clients[exchange, market_type]

    def pages_of(self, market: Market, table: str) -> Pages:
        """What a market's REST API answers of a bronze table.

        Raises:
            UnknownExchangeError: As `of`.
            RestUnreachableError: The exchange's API has nothing of the table.
        """
        exchange = self._exchange(market.exchange)
        if table not in exchange.pages:
            why, do = f"it has nothing of {table}", "The other sources of the table are all there are."
            raise RestUnreachableError(f"{exchange.name} ({market.market_type})", why, do)
        return exchange.pages[table]

    def _exchange(self, name: str) -> Exchange:
        if name not in self._exchanges:
            raise UnknownExchangeError(name, self._exchanges)
        return self._exchanges[name]

    def told_time(self, exchange: str) -> datetime | None:
        """An exchange's time, as far as it has told: reckoned from what its REST APIs last said, or that of
        its newest file, if later. Asks nothing.
        """
        with self._lock:
            told = [client.reckoned for (name, _), client in self._clients.items() if name == exchange]
            told.append(self._newest_file.get(exchange))
        return max((at for at in told if at), default=None)

    def note_files(self, exchange: str, modified: Iterable[datetime]) -> None:
        """Take note of when an exchange published files: then it was as late there."""
        with self._lock:
            known = self._newest_file.get(exchange)
            if newest := max((at for at in (known, *modified) if at), default=None):
                self._newest_file[exchange] = newest
