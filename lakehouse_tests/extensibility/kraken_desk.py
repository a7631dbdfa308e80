"""What Kraken's public REST API answers, made of the minutes in which something was traded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread
from types import MappingProxyType
from typing import Any, ClassVar

from lakehouse.model.market import Market
from lakehouse.simulator.answering import Refused
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.server import ExchangeServer
from lakehouse_tests.extensibility.kraken import MOST, Kraken
from lakehouse_tests.faults.told import Shelf

MARKET, KEY = Market("kraken", "spot", "XBTUSD"), "XXBTZUSD"
WEEK = 7 * 1440


def price(minute: int) -> int:
    """The price of a minute, in dollars."""
    return 45_000 + minute % 17


class KrakenDesk:
    """Answers about one pair.

    Args:
        traded: The minutes in which something was traded, counted from the epoch.
        now: Its clock.

    Attributes:
        withheld: Minutes that its candles of a minute lack, though something was traded in them.
        asked: The queries for candles.
    """

    refusals: ClassVar[Mapping[str, Refused]] = MappingProxyType({})

    def __init__(self, traded: set[int], now: datetime) -> None:
        self.traded, self.now = traded, now
        self.withheld: set[int] = set()
        self.asked: list[Mapping[str, str]] = []

    def owns(self, path: str) -> bool:
        """Whether a path is one of this API's."""
        return path.startswith("/0/public/")

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], ahead: timedelta
    ) -> tuple[Any, Mapping[str, str]]:
        """As `Answers` has it: errors are told in bodies of status 200."""
        told: Callable[[Mapping[str, str]], Any] = {
            "Time": lambda _: {"unixtime": int(self.now.timestamp()), "rfc1123": f"{self.now:%c}"},
            "AssetPairs": lambda _: {
                KEY: {"altname": MARKET.symbol, "wsname": "XBT/USD", "base": "XXBT", "status": "online"}
            },
            "OHLC": self._candles,
        }[path.rpartition("/")[2]]
        found = told(query)
        return {"error": [found]} if isinstance(found, str) else {"error": [], "result": found}, {}

    def _candles(self, query: Mapping[str, str]) -> Any:
        if query["pair"] not in (MARKET.symbol, KEY):
            return "EQuery:Unknown asset pair"
        self.asked.append(query)
        length, now = int(query["interval"]), int(self.now.timestamp()) // 60
        current = now // length * length
        oldest = current - (MOST - 1) * length
        known = self.traded - self.withheld if length == 1 else self.traded
        slots: dict[int, list[int]] = {current: []}
        for minute in sorted(minute for minute in known if oldest <= minute <= now):
            slots.setdefault(minute // length * length, []).append(minute)
        rows = [self._row(slot, slots[slot]) for slot in sorted(slots)]
        since = int(query.get("since", 0))
        later = [row for row in rows if row[0] > since or row is rows[-1]]
        return {KEY: later, "last": (current - length) * 60}

    @staticmethod
    def _row(slot: int, minutes: list[int]) -> list[Any]:
        """A candle; the newest one is there also where nothing was traded yet."""
        prices = [price(minute) for minute in minutes] or [price(slot)]
        four = [prices[0], max(prices), min(prices), prices[-1]]
        vwap = sum(prices) / len(prices) if minutes else 0
        return [
            slot * 60,
            *(f"{value}.0" for value in four),
            f"{vwap:.1f}",
            f"{0.25 * len(minutes):.8f}",
            2 * len(minutes),
        ]


@contextmanager
def standing(desk: KrakenDesk) -> Iterator[Kraken]:
    """The exchange beside such an API."""
    server = ExchangeServer(0, Shelf(), (desk,), FaultPlan())
    Thread(target=server.serve_forever, args=(0.02,), name="kraken", daemon=True).start()
    try:
        yield Kraken(None, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        server.close_connections()


def every_minute(first: datetime, end: datetime) -> set[int]:
    """All minutes of a range, counted from the epoch."""
    return set(range(int(first.timestamp()) // 60, int(end.timestamp()) // 60))


def minute_of(time: str) -> int:
    """A minute, counted from the epoch."""
    return int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) // 60
