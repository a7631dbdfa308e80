"""What a target is: the program an export is for, and the files it reads."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import polars as pl

from lakehouse.datasets.market import Listing
from lakehouse.model.errors import ExportNameError, NotOfTargetError
from lakehouse.model.interval import Interval
from lakehouse.model.market import UNIFIED, Market
from lakehouse.model.terms import DELIVERY

_DATED = re.compile(r"-[0-9]{6}$")


class File(NamedTuple):
    """A file of an export.

    Attributes:
        path: Where it lies, from the export's folder on, with `/`.
        body: All of its bytes: the same rows give the same ones.
        rows: How many rows it has.
    """

    path: str
    body: bytes
    rows: int


class Currencies(NamedTuple):
    """What a market is traded in.

    Attributes:
        base: What sizes count.
        quote: What prices are in.
        settle: What profit is paid in; None for spot.
    """

    base: str
    quote: str
    settle: str | None = None

    @property
    def unified(self) -> str:
        """The unified symbol."""
        return f"{self.base}/{self.quote}" + (f":{self.settle}" if self.settle else "")


@dataclass(frozen=True)
class Series:
    """What one market has to export.

    Attributes:
        market: The market.
        listing: What the lake knows of it; None where `silver/market` does not have it.
        given: Its unified symbol, where the caller stated one.
        candles: By interval, rows of `silver/candle` or of the interval's gold table, in order, with
            `is_filled`; every price is there.
        funding: Rows of `silver/funding_rate`, in order; None where there are none.
        mark_from_candles: 1h candles that stand in for mark prices, where these were asked for; else None.
    """

    market: Market
    listing: Listing | None
    given: str | None
    candles: Mapping[Interval, pl.DataFrame]
    funding: pl.DataFrame | None = None
    mark_from_candles: pl.DataFrame | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether it is a contract with a day of delivery, as far as is stated."""
        stated = self.listing is not None and self.listing.terms.contract_type == DELIVERY
        return stated or bool(self.given and _DATED.search(self.given))

    @property
    def is_stated_perpetual(self) -> bool:
        """Whether it is a contract of which somebody stated what kind it is."""
        return self.given is not None or (
            self.listing is not None and self.listing.terms.contract_type is not None
        )

    def currencies(self, target: str) -> Currencies:
        """Its currencies, as the caller or the lake state them.

        Args:
            target: Who needs them.

        Raises:
            ExportNameError: Nobody states them, or what was given is no unified symbol of this market type.
        """
        key, is_spot = self.market.key, self.market.market_type == "spot"
        if self.given is not None:
            found = UNIFIED.fullmatch(self.given)
            if found is None or found["exchange"] or (":" in self.given) is is_spot:
                raise ExportNameError(key, target, is_spot, self.given)
            name, _, settle = _DATED.sub("", self.given).partition(":")
            base, _, quote = name.partition("/")
            return Currencies(base, quote, settle or None)
        known = self.listing
        if known is None or known.base is None or known.quote is None:
            raise ExportNameError(key, target, is_spot)
        if not is_spot and known.settle is None:
            raise ExportNameError(key, target, is_spot)
        return Currencies(known.base, known.quote, None if is_spot else known.settle)


class Target(ABC):
    """The program an export is for. Subclasses are pure: a series to files.

    Attributes:
        name: What it is called in commands and sidecars.
        release: The release of the program whose reader has read what is written here; empty for none.
        intervals: The names of the intervals that it reads.
        is_alone: Whether it reads every file of a folder, so that nothing else may lie beside ours.
        takes_mark: Whether it wants mark prices, so that candles may stand in for them.
    """

    name: ClassVar[str]
    release: ClassVar[str] = ""
    intervals: ClassVar[tuple[str, ...]] = ("1m", "5m", "15m", "1h", "4h", "1d")
    is_alone: ClassVar[bool] = False
    takes_mark: ClassVar[bool] = False

    @abstractmethod
    def symbol(self, series: Series) -> str:
        """What the program calls the market.

        Raises:
            NotOfTargetError: It has no such market.
            ExportNameError: It wants currencies, and nobody states them.
        """

    @abstractmethod
    def files(self, series: Series) -> Iterator[File]:
        """The files of a series, in a stable order.

        Raises:
            NotOfTargetError, ExportNameError: As `symbol`.
            BeyondTargetError: A value or an instant cannot be written so that the program reads it.
        """

    def remarks(self, series: Series) -> tuple[str, ...]:
        """What the program itself does with what is absent, and what it wants that is not in the lake: a
        sentence each, for the sidecar.
        """
        return ()

    def refuse(self, series: Series, why: str) -> NotOfTargetError:
        """The error of a market that the program does not have."""
        return NotOfTargetError(series.market.key, self.name, why)
