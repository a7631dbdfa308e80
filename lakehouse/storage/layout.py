"""Where every object of a lake lies: the only module that builds or parses a path.

<zone>/<table>/exchange=binance/market_type=linear/symbol=BTCUSDT/month=2024-01/data.parquet
silver/gap/month=2024-01/data.parquet · silver/market/data.parquet
landing/exchange=binance/<archive key>/<sha256>.zip, <sha256>.json
quarantine/<zone>/<table>/…/data.parquet
ledger/<zone>/<table>.parquet, ledger/<zone>/<table>.anomalies.json,
ledger/<zone>/<table>.<catalog>.registered.json, ledger/verification.json, ledger/alerts.json,
ledger/bans.json
damaged/<path of an object that was moved out of the way>
"""

import contextlib
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, unquote

import polars as pl

from lakehouse.model.cell import Cell
from lakehouse.model.errors import ForeignFolderError, MarketKeyError, NotALakeObjectError, TimeFormatError
from lakehouse.model.market import MARKET_COLUMNS, Market
from lakehouse.model.period import PeriodKind
from lakehouse.model.table import Table

FILE = "data.parquet"
_EXAMPLE = Market("example", "spot", "EXAMPLE")
# beside letters and digits; everything else is percent-encoded, so any symbol is one folder name
_SAFE = "_.-"


def table_prefix(table: type[Table]) -> str:
    """The folder of a table, without a trailing slash."""
    return table.name


def market_prefix(table: type[Table], market: Market) -> str:
    """The folder of a market's cells, without a trailing slash."""
    return "/".join([table.name, *_market_folders(market)])


def cell_path(table: type[Table], cell: Cell | None) -> str:
    """The object of a cell; `cell` is None for a table of a single object."""
    return "/".join([table.name, *_folders(cell), FILE])


def quarantine_path(table: type[Table], cell: Cell | None) -> str:
    """The object with the rows a cell rejected."""
    return f"quarantine/{cell_path(table, cell)}"


def _folders(cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    window = f"{'month' if cell.grain == 'month' else 'date'}={cell.date}"
    if cell.market is None:
        return [window]
    return [*_market_folders(cell.market), window]


def _market_folders(market: Market) -> list[str]:
    return [
        f"exchange={market.exchange}",
        f"market_type={market.market_type}",
        f"symbol={quote(market.symbol, safe=_SAFE)}",
    ]


def parse_cell_path(table: type[Table], path: str) -> Cell | None:
    """The cell an object belongs to; None for a table of a single object.

    Raises:
        NotALakeObjectError: The path is not one that `cell_path` makes.
    """
    of_market = table.spread == "market" and path.startswith(table.name)
    if of_market and (known := _plain_cell(path[len(table.name) :], table.grain)) is not None:
        return known
    parts = dict(part.split("=", 1) for part in path.split("/") if "=" in part)
    try:
        market = (
            Market(parts["exchange"], parts["market_type"], unquote(parts["symbol"]))  # type: ignore[arg-type]
            if table.spread == "market"
            else None
        )
        cell = (
            None
            if table.spread == "one"
            else Cell(parts["month" if table.grain == "month" else "date"], market)
        )
        if cell:
            _require_window(cell.date, table.grain)
    except KeyError as missing:
        raise NotALakeObjectError(path, f"its path has no {missing}") from None
    except (MarketKeyError, TimeFormatError) as error:
        raise ForeignFolderError(path, f"its path names no cell: {error}") from None
    if cell_path(table, cell) != path:
        raise NotALakeObjectError(path, f"expected {cell_path(table, cell)}")
    return cell


def parse_cell_paths(table: type[Table], paths: pl.Series) -> tuple[pl.DataFrame, list[NotALakeObjectError]]:
    """As `parse_cell_path`, of the paths of many cells: each folder of a market, and each window, is read
    once.

    Args:
        table: A table that has cells.
        paths: Each once.

    Returns:
        A row per cell with its `path`, its market's `key`, empty where one object holds all markets, and its
        `date`; and what is wrong with the other paths.
    """
    example = Cell(
        "2000-01" if table.grain == "month" else "2000-01-01", _EXAMPLE if table.spread == "market" else None
    )
    *folders, window, _ = cell_path(table, example).split("/")
    tail = rf"/([^/]*)/{re.escape(FILE)}$"
    parted = paths.to_frame("path").with_columns(
        folder=pl.col("path").str.extract(f"^(.*){tail}", 1), window=pl.col("path").str.extract(tail, 1)
    )

    def read(column: str, form: str, told: Callable[[Cell], str]) -> pl.Expr:
        found: dict[str, str] = {}
        for name in parted[column].drop_nulls().unique():
            with contextlib.suppress(NotALakeObjectError):
                if (cell := parse_cell_path(table, form % name)) is not None:
                    found[name] = told(cell)
        return pl.col(column).replace_strict(found, default=None, return_dtype=pl.String)

    cells = parted.select(
        "path",
        key=read("folder", f"%s/{window}/{FILE}", lambda cell: cell.market.key if cell.market else ""),
        date=read("window", f"{'/'.join(folders)}/%s/{FILE}", lambda cell: cell.date),
    )
    foreign = []
    for path in cells.filter(pl.any_horizontal(pl.all().is_null()))["path"]:
        try:
            parse_cell_path(table, path)
        except NotALakeObjectError as error:
            foreign.append(error)
    return cells.drop_nulls(), foreign


@lru_cache(maxsize=1 << 17)  # tables have the same cells
def _plain_cell(path: str, grain: PeriodKind) -> Cell | None:
    """The cell of a market that an object behind a table's name belongs to; None where that is to be looked
    at more closely.
    """
    try:
        _, exchange, market_type, symbol, window, _ = path.split("/")
        market = _market_of(exchange, market_type, symbol)
        cell = Cell(window.partition("=")[2], market)
        _require_window(cell.date, grain)
    except (ValueError, MarketKeyError, TimeFormatError):
        return None
    return cell if "/".join(["", *_folders(cell), FILE]) == path else None


@lru_cache(maxsize=1 << 13)
def _market_of(exchange: str, market_type: str, symbol: str) -> Market:
    """The market of three folders, which is one object for all its cells."""
    values = (folder.partition("=")[2] for folder in (exchange, market_type, symbol))
    return Market(*map(unquote, values))  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _require_window(date: str, grain: PeriodKind) -> None:
    if (cell := Cell(date)).grain != grain or not cell.window:
        raise TimeFormatError(date)


def partition_columns(table: type[Table]) -> list[str]:
    """The columns that stand in the path instead of in the file."""
    window = ["month" if table.grain == "month" else "date"]
    return {"market": [*MARKET_COLUMNS, *window], "all": window, "one": []}[table.spread]


def landing_prefix(exchange: str, key: str) -> str:
    """The folder with all versions of one archive key, or of all keys below a key prefix."""
    return f"landing/exchange={exchange}/{'/'.join(map(_folder, key.split('/')))}"


def _folder(name: str) -> str:
    """A part of an archive key as the name of one folder: also `.` and `..`, which would lead out of it."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe=_SAFE)


def landing_key(exchange: str, path: str) -> str:
    """The archive key whose landing folder an object lies in."""
    return unquote(path.removeprefix(f"landing/exchange={exchange}/").rsplit("/", 1)[0])


def ledger_path(table: type[Table]) -> str:
    """The object that caches the footers of a table."""
    return f"ledger/{table.name}.parquet"


def anomalies_path(table: type[Table]) -> str:
    """The object that remembers which cells of a table were searched for anomalies, and what was found."""
    return f"ledger/{table.name}.anomalies.json"


def registered_path(table: type[Table], prefix: str) -> str:
    """The object that remembers which partitions of a table are registered in a catalog."""
    return f"ledger/{table.name}.{prefix}.registered.json"


def set_aside_path(path: str) -> str:
    """Where a damaged object of landing, or one that nothing can be made of again, is kept out of the way."""
    return f"damaged/{path}"


VERIFICATION = "ledger/verification.json"
"""The object that says what the last verification of stored bytes found."""

MARKETS_ASKED = "ledger/markets_asked.json"
"""The object that remembers when exchanges were last asked about markets."""

BANS = "ledger/bans.json"
"""The object that says which REST APIs have banned this address, and until when."""

ALERTS = "ledger/alerts.json"
"""The object that remembers which incidents were told."""


def sensor_path(name: str) -> str:
    """The object in which a sensor keeps what it remembers between its ticks."""
    return f"ledger/sensors/{name}.json"
