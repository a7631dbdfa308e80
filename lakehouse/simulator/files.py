"""A folder of real files, arranged by archive key, served in place of generated ones."""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import md5
from pathlib import Path

from lakehouse.model.errors import UsageError
from lakehouse.model.market import MarketType, symbol_fault
from lakehouse.simulator.markets import ARCHIVE_PATHS, SimulatedMarket

_KEY = re.compile(
    r"data/(?P<market>spot|futures/um|futures/cm)/(daily|monthly)/(?P<type>[^/]+)/(?P<symbol>[^/]+)/.+"
)
_DATE = re.compile(r"-(\d{4})-(\d{2})(?:-(\d{2}))?\.zip")
_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY")
_MARKET_TYPES: dict[str, MarketType] = {path: market_type for market_type, path in ARCHIVE_PATHS.items()}


@dataclass(frozen=True, slots=True)
class RealFile:
    """One file of the folder.

    Attributes:
        key: Archive key.
        path: Where it lies.
        size: Bytes.
        modified: The file's mtime.
    """

    key: str
    path: Path
    size: int
    modified: datetime

    def read(self) -> bytes:
        """Its bytes, if it still lies where it did.

        Raises:
            LinkedFileError: A link stands in its place, or in that of a folder above.
        """
        if self.path.resolve() != self.path:
            raise LinkedFileError(self.path)
        return self.path.read_bytes()


class LinkedFileError(UsageError):
    """A link in a folder that is served: what it leads to is not in the folder, and whoever may write there
    would publish any file of this machine.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a link, and a folder of files is served without any. Put the file itself there, or "
            "leave it out."
        )


class RealFiles:
    """The folder as it was when the exchange was set up.

    Raises:
        LinkedFileError: It has a link.
    """

    def __init__(self, root: Path | None) -> None:
        found = {} if root is None else dict(_files(root.resolve()))
        self._files = {key: _real_file(key, found[key]) for key in sorted(found) if key.startswith("data/")}
        self._keys = list(self._files)
        self._etags: dict[str, str] = {}
        parts = [
            match.group("market", "type", "symbol") for match in map(_KEY.fullmatch, self._keys) if match
        ]
        self._covered = {
            (_MARKET_TYPES[market], data_type, symbol)
            for market, data_type, symbol in parts
            if not symbol_fault(symbol)
        }

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """Keys with the prefix that sort behind `after`, in order."""
        for key in self._keys[bisect_right(self._keys, after) :]:
            if key.startswith(prefix):
                yield key

    def get(self, key: str) -> RealFile | None:
        """The file of a key."""
        return self._files.get(key)

    def etag(self, file: RealFile) -> str:
        """md5 of the bytes, as of an object uploaded in one part; read once."""
        if file.key not in self._etags:
            self._etags[file.key] = md5(file.read(), usedforsecurity=False).hexdigest()
        return self._etags[file.key]

    def covers_klines(self, market_type: MarketType, symbol: str) -> bool:
        """Whether the folder has any kline file of the market, so that nothing of it is generated."""
        return (market_type, "klines", symbol) in self._covered

    def covers_funding(self, market_type: MarketType, symbol: str) -> bool:
        """Whether the folder has klines or any file of funding rates of the market, so that of these none is
        generated.
        """
        return (
            self.covers_klines(market_type, symbol) or (market_type, "fundingRate", symbol) in self._covered
        )

    def unknown_markets(self, markets: tuple[SimulatedMarket, ...]) -> list[SimulatedMarket]:
        """A listing for each market that only the folder knows; its base and quote are read off the
        symbol.
        """
        known = {(market.market_type, market.symbol) for market in markets}
        missing = sorted({(market_type, symbol) for market_type, _, symbol in self._covered} - known)
        return [self._market(market_type, symbol) for market_type, symbol in missing]

    def _market(self, market_type: MarketType, symbol: str) -> SimulatedMarket:
        pair = symbol.partition("_")[0]
        quote = next((quote for quote in _QUOTES if pair.endswith(quote) and pair != quote), "USDT")
        folder = f"data/{ARCHIVE_PATHS[market_type]}/"
        dates = [
            match.groups("1")
            for key in self._keys
            if key.startswith(folder) and f"/{symbol}/" in key and (match := _DATE.search(key))
        ]
        listed = min(
            (instant for date in dates if (instant := _instant(*map(int, date)))),
            default=datetime(2021, 1, 1, tzinfo=UTC),
        )
        return SimulatedMarket(
            market_type, symbol, pair.removesuffix(quote) or pair, quote, Decimal(1), 1, 4, 0, listed
        )


def _instant(year: int, month: int, day: int) -> datetime | None:
    """A date in a key; None for one that the calendar does not have, which a folder may show on purpose."""
    try:
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *names)):
            if path.is_symlink():
                raise LinkedFileError(path)
            if path.is_file():
                yield path.relative_to(root).as_posix(), path


def _real_file(key: str, path: Path) -> RealFile:
    stat = path.stat()
    return RealFile(key, path, stat.st_size, datetime.fromtimestamp(int(stat.st_mtime), UTC))
