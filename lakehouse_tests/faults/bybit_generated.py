"""Two or three faults of an exchange with REST alone, at random places: what `generated` is to files and REST.
The faults of rows are the same, the sources of minutes and of hours are all there is, and its answers go wrong
in Bybit's ways.

`python -m lakehouse_tests.faults.bybit_generated SEED …` runs some alone.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from lakehouse.model.market import Market
from lakehouse.simulator import SimulatedMarket
from lakehouse.simulator.answering import RestError
from lakehouse.simulator.bybit import Bybit, _body, _entry
from lakehouse_tests.faults import generated, told
from lakehouse_tests.faults.generated import KINDS as OF_BOTH
from lakehouse_tests.faults.generated import REST, Case, Fault, Kind, Scene, befall, described, in_force
from lakehouse_tests.faults.told import (
    CLOSE,
    DAILY,
    HIGH,
    HOURS,
    LOW,
    MINUTES,
    MONTHLY,
    OPEN,
    OPEN_TIME,
    QUOTE,
    VOLUME,
    Book,
    Desk,
    Row,
    Stand,
    Told,
    hour_of,
    traded,
)
from lakehouse_tests.making import at

_OF = ("BTC", "USDT", Decimal(45_000), 40, 2, 5)
LISTED = SimulatedMarket("linear", "BTCUSDT", *_OF, at("2024-02-27"), exchange="bybit")
EARLY = replace(LISTED, listed=at("2024-02-17"))
IN_SPOT = replace(LISTED, market_type="spot", price=Decimal(44_000))  # the same symbol in another category
FIELDS = (OPEN_TIME, OPEN, HIGH, LOW, CLOSE, VOLUME, QUOTE)
INTERVALS = {"1": "1m", "60": "1h", "D": "1d"}
UNKNOWN, REFUSED = "10001", "10005"
PASSING = ("busy", "throttled", "repeated")
"""What becomes of an answer and leaves nothing behind: it is asked for again at once, or says all."""


# --- what is told ---------------------------------------------------------------------------------


@dataclass
class RestTold(Told):
    """What an exchange without files tells.

    Attributes:
        known_for: After how many answers for minutes it knows the market no more; None if it always does.
    """

    known_for: int | None = None

    @classmethod
    def of(cls, market: SimulatedMarket, now: datetime) -> "RestTold":
        truth = Book(traded(market))
        told = cls(market, now, truth, {})
        told.copy_truth()
        return told

    def copy_truth(self) -> None:
        super().copy_truth()
        self.books |= {MONTHLY: Book(), DAILY: Book()}

    def periods(self) -> Iterator[str]:
        """No file appears."""
        return iter(())

    def tells_of(self, day: datetime) -> bool:
        """Whether REST answers, with all that it has."""
        return not self.rest and self.known_for is None and set(self.glitches.values()) <= set(PASSING)

    def answer_rows(self, interval: str) -> list[tuple[int, Row]]:
        if interval != "1d":
            return super().answer_rows(interval)
        return [(int(row[OPEN_TIME]), row) for row in self._days]

    @cached_property
    def _days(self) -> list[Row]:
        """Candles of days, which tell where minutes go on."""
        days: dict[int, list[Row]] = {}
        for minute, (row, *_) in self.truth.items():
            if minute * 60 <= self.now.timestamp():
                days.setdefault(minute // 1440, []).append(row)
        return [hour_of(24 * day, tuple(rows)) for day, rows in sorted(days.items())]


class BybitDesk(Desk):
    """A REST API of what is told, in Bybit's words."""

    refusals = Bybit.refusals

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], ahead: timedelta
    ) -> tuple[Any, dict[str, str]]:
        if any(told.rest == "down" for told in self.told):
            raise RestError(503, b"<html>503 Service Temporarily Unavailable</html>", {})
        at_now = int(self.now.timestamp() * 1000)
        category = query.get("category", "")
        if path.endswith("/time"):
            return _body(0, "OK", {"timeSecond": str(at_now // 1000)}, at_now), {}
        if path.endswith("/instruments-info"):
            known = [told.market for told in self.told if self._knows(told)]
            entries = [_entry(market, self.now) for market in known if market.market_type == category]
            found = {"category": category, "list": entries, "nextPageCursor": ""}
            return _body(0, "OK", found, at_now), {}
        asked = category, query.get("symbol")
        told = next((one for one in self.told if (one.market.market_type, one.market.symbol) == asked), None)
        if told is None or not self._knows(told):
            return _body(int(UNKNOWN), "params error: Symbol Is Invalid", None, at_now), {}
        if told.rest:
            return _body(int(told.rest), "Permission denied", None, at_now), {}
        return self._candles(told, query, at_now)

    def _knows(self, told: Told) -> bool:
        answered = self._answers.get(f"{told.market.market_type} 1m", 0)
        until = told.known_for if isinstance(told, RestTold) else None
        return told.rest != UNKNOWN and (until is None or answered < until)

    def _candles(self, told: Told, query: Mapping[str, str], at_now: int) -> tuple[Any, dict[str, str]]:
        interval = INTERVALS[query["interval"]]
        times, rows = self._known(told, interval)
        start, end = int(query.get("start", 0)), int(query.get("end", at_now))
        inside = [row for time, row in zip(times, rows, strict=True) if start <= time <= end]
        page = [[row[field] for field in FIELDS] for row in inside][-int(query["limit"]) :][::-1]
        glitch = None
        if "start" in query and "end" in query:
            key = f"{told.market.market_type} {interval}"
            self._answers[key] = self._answers.get(key, 0) + 1
            glitch = told.glitches.get((interval, self._answers[key]))
        if glitch == "busy":
            return _body(10016, "Server error.", None, at_now), {}
        if glitch == "refused":
            return _body(int(REFUSED), "Permission denied", None, at_now), {}
        if glitch == "throttled":
            limits = {"X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": str(at_now + 2000)}
            return _body(10006, "Too many visits!", None, at_now), limits
        changed: Mapping[str, Callable[[], Any]] = {
            "empty": list,
            "object": dict,
            "first row": lambda: page[:-1],
            "last row": lambda: page[1:],
            "repeated": lambda: page + page[-1:],
        }
        found = {
            "category": "option" if glitch == "category" else told.market.market_type,
            "symbol": told.market.symbol,
            "list": changed[glitch]() if glitch in changed else page,
        }
        return _body(0, "OK", found, at_now), {}


# --- faults ---------------------------------------------------------------------------------------

_FINE, _ANY = ((MINUTES,),), ((MINUTES,), (HOURS,), REST)
KINDS: dict[str, Kind] = {
    "halt": replace(OF_BOTH["halt"], texts=("",)),
    **{
        name: replace(OF_BOTH[name], where=_ANY)
        for name in ("lost", "other high", "other volume", "other market")
    },
    **{
        name: replace(OF_BOTH[name], where=_FINE)
        for name in (
            *("other close", "no trades", "all zero", "shifted", "swapped volumes", "row between"),
            *("twice equal", "twice different", "no number", "invented in a halt", "behind"),
        )
    },
    "hour withheld": OF_BOTH["hour withheld"],
    "answer": replace(
        OF_BOTH["answer"],
        counts=(1, 2, 4),
        texts=(
            *("empty", "object", "first row", "last row", "repeated"),
            *("busy", "refused", "throttled", "category"),
        ),
        weight=12,
    ),
    "REST": replace(OF_BOTH["REST"], texts=("down", UNKNOWN, REFUSED)),
}


def _delisted(told: Told, fault: Fault) -> None:
    """From some answer on the market is known no more."""
    assert isinstance(told, RestTold)
    told.known_for = fault.count


KINDS["delisted"] = Kind(_delisted, (REST,), (1, 2, 4, 6), weight=3)


def told_at(case: Case, now: datetime, is_last: bool) -> RestTold:
    """What is told at an instant."""
    told = RestTold.of(EARLY if case.is_early else LISTED, now)
    befall(told, KINDS, in_force(case, is_last))
    return told


SCENE = Scene(
    Market("bybit", "linear", LISTED.symbol),
    Market("bybit", "spot", LISTED.symbol),
    told_at,
    lambda now: RestTold.of(IN_SPOT, now),
    "silver/candle",
)


def stand() -> AbstractContextManager[Stand]:
    """An exchange that stands still."""
    return told.stand(BybitDesk())


def draw(seed: int) -> Case:
    """The case of a seed."""
    return generated.draw(seed, KINDS)


def run(case: Case, stand: Stand) -> list[str]:
    """The lies of one case, in a lake of its own."""
    return generated.run(case, stand, SCENE)


def main() -> None:
    """Run the seeds that are named."""
    with stand() as exchange:
        for seed in map(int, sys.argv[1:]):
            found = run(draw(seed), exchange)
            print(seed, described(draw(seed)))
            print("\n".join(f"    {lie}" for lie in found) or "    nothing is wrong", flush=True)


if __name__ == "__main__":
    main()
