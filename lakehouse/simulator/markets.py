"""The markets the simulated exchange lists."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from types import MappingProxyType

from lakehouse.model.errors import UsageError
from lakehouse.model.market import MarketType

ARCHIVE_PATHS: Mapping[MarketType, str] = MappingProxyType(
    {"spot": "spot", "linear": "futures/um", "inverse": "futures/cm"}
)
"""How the archive's keys name each market type."""

BINANCE, BYBIT = "binance", "bybit"
SPOT_DECIMALS = 8
BASE_VOLUME_DECIMALS = 8


class SimulatedMarketError(UsageError):
    """A simulated market whose numbers cannot be written exactly, or whose breaks lie outside its life."""

    def __init__(self, symbol: str, why: str) -> None:
        super().__init__(f"The simulated market {symbol} is not possible: {why}.")


@dataclass(frozen=True, slots=True)
class SimulatedMarket:
    """One listing and the scale of its numbers.

    Attributes:
        market_type: `spot`, `linear` or `inverse`.
        symbol: The exchange's own id.
        base: Base asset; markets of one base follow one price path, apart from a small premium.
        quote: Quote asset.
        price: The price that the path swings around, in the quote asset.
        volume: A busy minute's volume, in whole base units (inverse: contracts).
        price_decimals: Decimals of a price: one tick is `10 ** -price_decimals`.
        volume_decimals: Decimals of a volume: one lot is `10 ** -volume_decimals`.
        listed: The minute of the first trade.
        delisted: The minute from which there is no trade, if any.
        breaks: Stretches `(start, end)` in which the symbol was not listed; what trades under it after each
            is another coin, at five times the price.
        coin: What the price path is drawn from; by default the base asset.
        contract_type: Of a contract, as exchangeInfo says it; one with a day of delivery is delivered when it
            is delisted.
        funding: Of a perpetual, instants with the hours between settlements from then on; eight before.
        exchange: Who lists it; each part of the simulator shows its own.

    Raises:
        SimulatedMarketError: Volumes or quote volumes would need more decimals than the archive prints, or
            breaks are not in order within its life.
    """

    market_type: MarketType
    symbol: str
    base: str
    quote: str
    price: Decimal
    volume: int
    price_decimals: int = 2
    volume_decimals: int = 3
    listed: datetime = datetime(2021, 1, 1, tzinfo=UTC)
    delisted: datetime | None = None
    breaks: tuple[tuple[datetime, datetime], ...] = ()
    coin: str = ""
    contract_type: str = "PERPETUAL"
    funding: tuple[tuple[datetime, int], ...] = ()
    exchange: str = BINANCE

    def __post_init__(self) -> None:
        if self.market_type == "spot" and self.price_decimals + self.volume_decimals > SPOT_DECIMALS:
            raise SimulatedMarketError(
                self.symbol,
                f"price_decimals + volume_decimals is above the {SPOT_DECIMALS} decimals of a spot file",
            )
        if self.market_type == "inverse" and self.volume_decimals:
            raise SimulatedMarketError(self.symbol, "contracts are whole numbers, volume_decimals must be 0")
        edges = [
            self.listed,
            *(edge for stretch in self.breaks for edge in stretch),
            *([] if self.delisted is None else [self.delisted]),
        ]
        if self.breaks and any(early >= late for early, late in pairwise(edges)):
            raise SimulatedMarketError(
                self.symbol, "its breaks must come in order, between listing and delisting"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """What everything that is drawn for it depends on."""
        own = (self.market_type, self.symbol)
        return own if self.exchange == BINANCE else (self.exchange, *own)

    @property
    def place(self) -> str:
        """The folder of its archive files; of an exchange without any, what faults name its months by."""
        own = ARCHIVE_PATHS[self.market_type]
        return own if self.exchange == BINANCE else f"{self.exchange}/{self.market_type}"

    @property
    def contract_size(self) -> int:
        """Quote units per contract of an inverse market."""
        if self.exchange == BYBIT:
            return 1
        return 100 if self.base == "BTC" else 10

    @property
    def first_minute(self) -> int:
        """Index of the first minute with a candle, counted from the epoch."""
        return minute_of(self.listed)

    @property
    def end_minute(self) -> int | None:
        """Index of the first minute without a candle; None while the market is listed."""
        return None if self.delisted is None else minute_of(self.delisted)

    @property
    def decimals(self) -> dict[str, tuple[int, int]]:
        """Per numeric column of a kline: the decimals its integers count in, and the decimals it is printed
        with.
        """
        price, volume = self.price_decimals, self.volume_decimals
        turnover = BASE_VOLUME_DECIMALS if self.market_type == "inverse" else price + volume
        counted = dict.fromkeys(("open", "high", "low", "close"), price)
        counted |= {
            "volume": volume,
            "quote_volume": turnover,
            "taker_buy_volume": volume,
            "taker_buy_quote_volume": turnover,
        }
        return {
            name: (scale, SPOT_DECIMALS if self.market_type == "spot" else scale)
            for name, scale in counted.items()
        }

    @property
    def lives(self) -> "tuple[SimulatedMarket, ...]":
        """The market without its breaks: one market per stretch in which it was listed, oldest first."""
        return _lives(self) if self.breaks else (self,)

    def life(self, now: datetime) -> "SimulatedMarket | None":
        """The stretch in which it trades at `now`, if it does."""
        return next(
            (
                life
                for life in self.lives
                if life.listed <= now and (life.delisted is None or now < life.delisted)
            ),
            None,
        )

    def traded(self, first: int, end: int) -> int:
        """How many minutes in `[first, end)` have a candle."""
        ends = (
            (life.first_minute, end if life.end_minute is None else life.end_minute) for life in self.lives
        )
        return sum(max(0, min(end, until) - max(first, since)) for since, until in ends)


@lru_cache(maxsize=1024)
def _lives(market: SimulatedMarket) -> tuple[SimulatedMarket, ...]:
    starts = (market.listed, *(end for _, end in market.breaks))
    ends = (*(start for start, _ in market.breaks), market.delisted)
    return tuple(
        replace(
            market,
            listed=start,
            delisted=end,
            breaks=(),
            price=market.price * 5**n,
            coin=f"{market.coin or market.base}{n or ''}",
        )
        for n, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def minute_of(instant: datetime) -> int:
    """Index of the minute that holds the instant, counted from the epoch."""
    return int(instant.timestamp()) // 60


def draw(*words: str) -> int:
    """A number below 2**63 that depends on the words alone, the same in every process."""
    return int.from_bytes(blake2b("\0".join(words).encode(), digest_size=8).digest()) >> 1


_BTC, _ETH, _SOL = Decimal(45_000), Decimal(2_600), Decimal(110)

DEFAULT_MARKETS: tuple[SimulatedMarket, ...] = (
    SimulatedMarket("spot", "BTCUSDT", "BTC", "USDT", _BTC, 40, 2, 5),
    SimulatedMarket("spot", "ETHUSDT", "ETH", "USDT", _ETH, 400, 2, 4),
    SimulatedMarket(
        "spot", "SOLUSDT", "SOL", "USDT", _SOL, 6_000, 2, 3, listed=datetime(2023, 5, 17, 9, 30, tzinfo=UTC)
    ),
    SimulatedMarket("spot", "ADABTC", "ADA", "BTC", Decimal("0.00002600"), 30_000, 8, 0),
    SimulatedMarket(
        "spot",
        "XYZUSDT",
        "XYZ",
        "USDT",
        Decimal("1.8"),
        20_000,
        4,
        1,
        datetime(2022, 1, 1, tzinfo=UTC),
        datetime(2023, 10, 20, 6, tzinfo=UTC),
    ),
    SimulatedMarket("linear", "BTCUSDT", "BTC", "USDT", _BTC, 150, 1, 3),
    SimulatedMarket("linear", "ETHUSDT", "ETH", "USDT", _ETH, 1_500, 2, 3),
    SimulatedMarket("linear", "SOLUSDT", "SOL", "USDT", _SOL, 30_000, 3, 0),
    SimulatedMarket("inverse", "BTCUSD_PERP", "BTC", "USD", _BTC, 6_000, 1, 0),
    SimulatedMarket("inverse", "ETHUSD_PERP", "ETH", "USD", _ETH, 20_000, 2, 0),
)
