"""Exports of markets: rows out of a lake, files and a sidecar into a folder."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lakehouse.datasets.market import Listing, current_listings
from lakehouse.export.csv_files import Csv
from lakehouse.export.freqtrade import Freqtrade
from lakehouse.export.lean import Lean
from lakehouse.export.nautilus import Nautilus
from lakehouse.export.placing import Folder, Placed
from lakehouse.export.sidecar import Document, candle_rows, data_part, document
from lakehouse.export.target import Series, Target
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    ExportFolderError,
    IntervalNotOfTargetError,
    LakehouseError,
    MarkOfTargetError,
    NoMarketError,
    NotExportedError,
    NothingToExportError,
    ReplacedMeanwhileError,
    UnknownTargetError,
)
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.query.lake import Instant, Lake
from lakehouse.storage.tables import CellRecord

TARGETS: Mapping[str, Target] = {each.name: each for each in (Csv(), Freqtrade(), Lean(), Nautilus())}
"""Every target, by name."""

_CANDLE, _FUNDING = "silver/candle", "silver/funding_rate"
_MARK = Interval.parse("1h")
_READS = 2  # how often a market is read, where a build replaces its cells meanwhile

Cells = dict[Cell, CellRecord]


class Exported(NamedTuple):
    """One market, exported.

    Attributes:
        market: The market.
        document: What its sidecar says, but for the files.
        placed: What became of its files.
    """

    market: Market
    document: Document
    placed: Placed


class Request(NamedTuple):
    """What is asked for of each market.

    Attributes:
        target: The target.
        span: The range.
        intervals: The intervals of candles.
        fill: Whether a flat candle is added in every slot without one.
        mark_from_candles: Whether candles stand in for mark prices.
    """

    target: Target
    span: TimeRange
    intervals: tuple[Interval, ...]
    fill: bool
    mark_from_candles: bool

    @property
    def said(self) -> Document:
        """The request as a sidecar says it."""
        whole = TimeRange.parse(None, None)
        start, end = self.span.start, self.span.end
        return {
            "start": None if start == whole.start else start.isoformat().replace("+00:00", "Z"),
            "end": None if end == whole.end else end.isoformat().replace("+00:00", "Z"),
            "intervals": [each.name for each in self.intervals],
            "fill": self.fill,
            "mark_from_candles": self.mark_from_candles,
        }


def export(
    lake: Lake,
    target: str,
    markets: Iterable[str | Market] | str | Market,
    folder: str | Path,
    start: Instant | None = None,
    end: Instant | None = None,
    intervals: Sequence[str] = ("1m",),
    fill: bool = False,
    names: Mapping[str, str] | None = None,
    mark_from_candles: bool = False,
    overwrite: bool = False,
    tell: Callable[[Exported], None] = lambda exported: None,
) -> list[Exported]:
    """Write candles, and the funding rates of perpetuals, in the layout that a backtester reads.

    Each market has a sidecar, `lakehouse/<exchange>-<market_type>/<symbol>.json` in the folder: the
    `dataset_id`, evidence and gaps of the data, what was added, and each file with its hash. A market is
    exported whole or not at all, in place of its earlier export into the same folder. The same request of the
    same lake gives the same bytes.

    Args:
        lake: The lake.
        target: `csv`, `freqtrade`, `lean` or `nautilus`.
        markets: One or several, by key or as `Lake.named` takes them.
        folder: A local folder: for freqtrade `user_data/data`, for LEAN its data folder, for nautilus the
            catalog's.
        start: First instant; None for all there is before the end.
        end: End of the range, exclusive; None for all there is from the start on.
        intervals: Intervals of candles, all of them at once.
        fill: Add a flat candle (the last close, no volume) in every slot without one, as `Lake.candles` does
            with `fill="flat"`; the sidecar names each. Without it nothing is added.
        names: Unified symbols by market key, of markets whose currencies nobody stated:
            `{"binance-linear:LUNAUSDT": "LUNA/USDT:USDT"}`.
        mark_from_candles: For freqtrade, which backtests no perpetual without mark prices: let 1h candles of
            trades stand in for them. The sidecar says so.
        overwrite: Replace files at the paths of the export that no export left there.
        tell: Called with each market that is done.

    Returns:
        What was exported, in the order of the markets.

    Raises:
        UnknownTargetError, UnknownIntervalError, IntervalNotOfTargetError, MarkOfTargetError, MarketKeyError,
            NoSuchListingError, ManyMarketsError, TimeFormatError, RangeBackwardsError: As named; nothing was
            written.
        ExportFolderError: The folder is none that can be written, or lies in the lake.
        NotExportedError: Some markets could not be exported; each says why, and the others are done.
    """
    if target not in TARGETS:
        raise UnknownTargetError(target, TARGETS)
    chosen = TARGETS[target]
    lengths = tuple(sorted({Interval.parse(name) for name in intervals}, key=lambda each: each.minutes))
    if unread := [each.name for each in lengths if each.name not in chosen.intervals]:
        raise IntervalNotOfTargetError(target, unread, chosen.intervals)
    if mark_from_candles and not chosen.takes_mark:
        raise MarkOfTargetError(target)
    request = Request(chosen, TimeRange.parse(start, end), lengths, fill, mark_from_candles)
    if not lengths:
        raise IntervalNotOfTargetError(target, [], chosen.intervals)
    wanted = lake.named(markets, [lake.registry.table(_CANDLE)])
    if not wanted:
        raise NoMarketError
    given = {Market.parse(key).key: name for key, name in (names or {}).items()}
    place = _local(lake, folder)
    listings = current_listings(_listings(lake))
    done, failed = [], dict[str, LakehouseError]()
    with Folder(place) as opened:
        for market in wanted:
            try:
                series, said = _series(lake, request, market, listings.get(market), given.get(market.key))
                placed = opened.place(market, said, chosen.files(series), chosen.is_alone, overwrite)
            except LakehouseError as error:  # the others are exported all the same
                failed[market.key] = error
                continue
            done.append(Exported(market, said, placed))
            tell(done[-1])
    if len(wanted) == 1 and failed:
        raise next(iter(failed.values()))
    if failed:
        raise NotExportedError(failed, done)
    return done


def _local(lake: Lake, folder: str | Path) -> Path:
    """The folder, which is no part of the lake."""
    if "://" in str(folder):
        raise ExportFolderError(str(folder), "it is no local folder")
    place = Path(folder).absolute()
    if lake.objects.is_local and place.resolve().is_relative_to(Path(lake.objects.root).resolve()):
        raise ExportFolderError(str(folder), "it lies in the lake, where it would be taken for a part of it")
    return place


def _listings(lake: Lake) -> pl.DataFrame | None:
    rows = lake.markets()
    return rows if rows.height else None


def _series(
    lake: Lake, request: Request, market: Market, listing: Listing | None, given: str | None
) -> tuple[Series, Document]:
    """What a market has to export, and its sidecar, both of one state of the lake."""
    for _ in range(_READS):
        before = _cells(lake, market, request.span)
        if not before[_CANDLE]:  # most often mistyped: that is said first
            raise NothingToExportError(market.key, request.said["start"], request.said["end"])
        request.target.symbol(Series(market, listing, given, {}))  # who is refused waits for no rows
        found = _read(lake, request, market, listing, given, before)
        if _versions(before) == _versions(_cells(lake, market, request.span)):
            return found
    raise ReplacedMeanwhileError(f"{_CANDLE} of {market.key}")


def _read(
    lake: Lake,
    request: Request,
    market: Market,
    listing: Listing | None,
    given: str | None,
    cells: Mapping[str, Cells],
) -> tuple[Series, Document]:
    span = request.span
    start, end = request.said["start"], request.said["end"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        candles = {each: _candles(lake, market, span, each, request.fill) for each in request.intervals}
        is_marked = request.mark_from_candles and market.market_type != "spot"
        mark = _candles(lake, market, span, _MARK, request.fill) if is_marked else None
        funding = lake.funding_rates(market, start, end) if cells[_FUNDING] else None
        funding = funding if funding is not None and funding.height else None
    for one in told:
        warnings.warn(one.message, stacklevel=2)
    written = candles if mark is None else {**candles, _MARK: mark}
    if lacking := [each.name for each, rows in written.items() if rows.is_empty()]:
        raise NothingToExportError(market.key, start, end, lacking)
    series = Series(market, listing, given, candles, funding, mark)
    parts = {
        name: data_part(lake.registry.dataset(name), lake.dataset_id(name, market, start, end), held, span)
        for name, held in cells.items()
        if held
    }
    parts[_CANDLE]["intervals"] = {each.name: candle_rows(rows, each) for each, rows in candles.items()}
    paid = parts.get(_FUNDING) if funding is not None else None
    if paid is not None and funding is not None:
        paid["rows"] = funding.height
    said = document(request.target, series, request.said, parts[_CANDLE], paid)
    said["statements"] += [str(one.message) for one in told if isinstance(one.message, UserWarning)]
    return series, said


def _candles(lake: Lake, market: Market, span: TimeRange, interval: Interval, fill: bool) -> pl.DataFrame:
    """Candles with `is_filled`; slots that could not be filled, for want of a price, have none."""
    rows = lake.candles(market, span.start, span.end, interval.name, "flat" if fill else None)
    if not fill:
        return rows.with_columns(is_filled=pl.lit(False))
    return rows.filter(pl.col("close").is_not_null())


def _cells(lake: Lake, market: Market, span: TimeRange) -> dict[str, Cells]:
    """The stored cells of a market and range, in order of time, by table."""
    found = {}
    for name in (_CANDLE, _FUNDING):
        table, months = lake.registry.table(name), span.months()
        if market.market_type in table.market_types:
            stored = lake.survey(name, {market})[0]
            cells = sorted((cell for cell in stored if cell.month in months), key=lambda cell: cell.month)
            found[name] = {cell: stored[cell] for cell in cells}
        else:
            found[name] = {}
    return found


def _versions(cells: Mapping[str, Cells]) -> list[tuple[str, str, str]]:
    return [(name, record.version, record.news) for name, held in cells.items() for record in held.values()]
