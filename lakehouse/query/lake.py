"""`Lake`: the Python SDK. Longer than other modules: it is one class, whose methods are what users call."""

import contextlib
import hashlib
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from itertools import pairwise, product
from pathlib import Path

import duckdb
import polars as pl

from lakehouse.datasets.conflict import conflict_table
from lakehouse.datasets.market import Listing, MarketTable, read_listings
from lakehouse.features.funding_carry import known_until, summed_since
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    BehindInputsWarning,
    FillAsOfError,
    ForeignFolderError,
    ManyMarketsError,
    MarketKeyError,
    NotALakeObjectError,
    NotCollectedWarning,
    NothingStoredError,
    NothingStoredWarning,
    NotJoinableError,
    NotKnowableError,
    ReplacedMeanwhileError,
    UnknownColumnError,
    UnknownFillError,
)
from lakehouse.model.interval import INTERVALS, MINUTE, Interval
from lakehouse.model.market import MARKET_COLUMNS, MARKET_TYPES, Market, is_key, is_pattern
from lakehouse.model.table import Table
from lakehouse.model.timerange import FIRST, TimeRange, parse_instant
from lakehouse.query import attachable, joining, macros
from lakehouse.query.across import across
from lakehouse.query.behind import cells_behind
from lakehouse.query.engine import LakeFiles, connect
from lakehouse.query.history import restated, rows_as_of
from lakehouse.query.parsing import Parser
from lakehouse.query.pruning import Pruning, pruning
from lakehouse.query.reading import read_rows, scan_cells
from lakehouse.query.universe import alike, named, require_able, tradable
from lakehouse.query.views import create_macros, create_view, mentioned, run
from lakehouse.registry import REGISTRY, Registry
from lakehouse.storage.asked import scanned_at
from lakehouse.storage.layout import market_prefix, parse_cell_path, table_prefix
from lakehouse.storage.ledger import (
    NARROW,
    Ledger,
    Survey,
    cells_of_market,
    damaged_cells,
    records,
    require_stored,
    survey,
    survey_few,
    survey_market,
)
from lakehouse.storage.objects import ChangedMeanwhileError, LakeObjects
from lakehouse.storage.tables import CellRecord
from lakehouse.transform.fill import FILLS, Fill, fill_candles
from lakehouse.transform.gaps import told_frame
from lakehouse.transform.resample import resample

Instant = str | date | datetime
_SURVEYS = 2  # how often a statement surveys the lake, where a build replaces cells while it reads them

# from a row's time to when it could have been known: a day's last candle may open late
_LONGEST_ROW = timedelta(days=1, minutes=1)

_ALWAYS = TimeRange.parse(None, None)

MARKET_KEY = pl.format("{}-{}:{}", *MARKET_COLUMNS)
"""The key of the market in a row of a table that holds many."""


class Lake:
    """A lake, for reading.

    Args:
        root: A folder, or `s3://bucket/prefix`.
        registry: The declared tables.

    Example:
        >>> lake = Lake("lake")
        >>> lake.candles("binance-spot:BTCUSDT", "2024-01-01", "2024-01-02", interval="1h")
        >>> lake.sql("SELECT symbol, count(*) FROM silver.candle GROUP BY symbol")
    """

    def __init__(self, root: str | Path, registry: Registry = REGISTRY) -> None:
        self.objects = LakeObjects(root)
        self.registry = registry

    def candles(
        self,
        markets: Iterable[str | Market] | str | Market,
        start: Instant | None = None,
        end: Instant | None = None,
        interval: str = "1m",
        fill: Fill | None = None,
        as_of: Instant | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Candles of one market, or of several.

        Args:
            markets: A market key, `binance-spot:BTCUSDT`, or another name that means one market, as `named`
                has it: `binance:BTC/USDT`; or several, patterns among them: the rows then have the columns
                `exchange`, `market_type` and `symbol` before the others, one market after another.
            start: First instant; text without an offset is UTC. None for all there is before the end.
            end: End of the range, exclusive. None for all there is from the start on.
            interval: `1m`, `5m`, `15m`, `1h`, `4h` or `1d`. Where the gold table of that interval is not
                built, or not from today's 1m candles, they are resampled by the same function.
            fill: What to do about slots without a candle between the market's first and newest one: None
                leaves them out; `null` adds a row with its `open_time` only; `flat` one with the last close
                as its prices and zero volume. A slot in which the market was not listed gets none, nor does
                one of which nobody was asked (a month that was never built, the rest of one that was built
                while it was open), and no price is carried across either.
            as_of: What this lake had at that instant, made from bronze by today's rules, in place of what it
                has now.
            columns: Which columns, in which order; all if left out.

        Returns:
            Rows with `open_time` in `[start, end)`, in order, with the columns of `silver/candle` (1m) or of
            `gold/candle_<interval>`. Gaps have no row, unless `fill` is given: then `is_filled` tells the
            added rows from the real ones, which are as they were. Months of the range that were never built
            have no row, nor do `gaps` tell of them.

        Raises:
            MarketKeyError, NoSuchListingError, ManyMarketsError, TimeFormatError, RangeBackwardsError,
                UnknownIntervalError, UnknownFillError, UnknownColumnError: As named.
            NothingStoredError: Nothing at all is stored of a market.
            BeforeFirstReceiptError: At `as_of` there was nothing yet of a month of the range of which there
                is something now.
            FillAsOfError: Both `fill` and `as_of` are given.
            StoreError: The lake's store does not answer, or refuses.
        """
        candle = self.registry.table("silver/candle")
        span, length = TimeRange.parse(start, end), Interval.parse(interval)
        if fill is not None and as_of is not None:
            raise FillAsOfError
        if fill is not None and fill not in FILLS:
            raise UnknownFillError(fill, FILLS)
        then = parse_instant(as_of) if as_of is not None else None

        def read(market: Market) -> pl.DataFrame:
            if fill is not None:
                return self._filled(market, span, length, fill)
            found = _within(self._candles(market, span, length, then, columns), candle.time, span)
            if found.is_empty():
                self._require_market(market)
            return found

        return self._each(markets, candle, read, columns)

    def candles_across(
        self,
        symbol: str,
        start: Instant | None = None,
        end: Instant | None = None,
        interval: str = "1m",
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Candles of the same market on every exchange of the lake that has it, side by side.

        What is compared is stated by each exchange of itself: clocks, units of `contracts` and what is
        published differ, and so does what can be proven of it; `docs/comparing.md` says how.

        Args:
            symbol: A unified symbol without an exchange, `BTC/USDT:USDT`.
            start: First instant; text without an offset is UTC. None for all there is before the end.
            end: End of the range, exclusive. None for all there is from the start on.
            interval: As for `candles`.
            columns: Which columns of each exchange's candles, in which order; all if left out.

        Returns:
            A row per slot in which any of the exchanges has a candle, in order: `open_time` (the slot's
            start), `knowable_at`, and of each exchange the columns that `candles` has, behind its name:
            `binance_close`, `bybit_close`. All are null where it has no candle: nothing is filled, and
            `gaps` says why. Only exchanges have columns of which candles of the symbol are stored.

        Raises:
            NoSuchListingError: No market of the lake has the symbol, or it is no unified symbol.
            ManyMarketsError: An exchange has several such markets, as where a contract was listed anew.
            NothingStoredError: Of none of its markets candles are stored.
            TimeFormatError, RangeBackwardsError, UnknownIntervalError, UnknownColumnError: As named.
            StoreError: The lake's store does not answer, or refuses.
        """
        candle, length = self.registry.table("silver/candle"), Interval.parse(interval)
        found = [market for market in alike(symbol, self._listings()) if self._has_any(market, [candle])]
        if not found:
            raise NothingStoredError(candle.name, [symbol])
        read = [partial(self._beside, market, start, end, interval, columns) for market in found]
        rows = self.objects.together(*read)
        told = across({market.exchange: each for market, each in zip(found, rows, strict=True)}, length)
        if columns is None:
            return told
        chosen = [f"{market.exchange}_{name}" for market in found for name in _names(columns)]
        return told.select("open_time", "knowable_at", *chosen)

    def _beside(
        self,
        market: Market,
        start: Instant | None,
        end: Instant | None,
        interval: str,
        columns: Sequence[str] | None,
    ) -> pl.DataFrame:
        """Candles with what places them beside others."""
        if columns is None:
            return self.candles(market, start, end, interval)
        placed = ["open_time", *(["knowable_at"] if interval != MINUTE.name else [])]
        return self.candles(
            market, start, end, interval, columns=[*dict.fromkeys([*placed, *_names(columns)])]
        )

    def _filled(self, market: Market, span: TimeRange, interval: Interval, fill: Fill) -> pl.DataFrame:
        """Candles with a row for every slot."""
        candle = self.registry.table("silver/candle")
        self._require_market(market)
        stored = self._of_market(candle, market)
        gone = [
            TimeRange(run.start, run.end)
            for record in stored.values()
            for run in record.facts.gaps
            if run.gap_class == "not_listed"
        ]
        times = [
            (record.first_time, record.last_time)
            for record in stored.values()
            if record.first_time and record.last_time
        ]
        # the month with the price that is carried into the range
        before = max((first for first, _ in times if first < span.start), default=span.start)
        rows = self._candles(market, TimeRange(before, span.end), interval)
        known = (
            span.overlap(min(first for first, _ in times), max(last for _, last in times) + MINUTE.delta)
            if times
            else None
        )
        return _within(
            fill_candles(rows, interval, known, fill, [*gone, *_untold(stored)]), candle.time, span
        )

    def funding_rates(
        self,
        markets: Iterable[str | Market] | str | Market,
        start: Instant | None = None,
        end: Instant | None = None,
        as_of: Instant | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Funding rates of one perpetual, or of several.

        Args:
            markets: A market key, `binance-linear:BTCUSDT`, or another name that means one market, as `named`
                has it: `binance:BTC/USDT:USDT`; or several, patterns among them: the rows then have the
                columns `exchange`, `market_type` and `symbol` before the others, one market after another.
            start: First instant; text without an offset is UTC. None for all there is before the end.
            end: End of the range, exclusive. None for all there is from the start on.
            as_of: What this lake had at that instant, made from bronze by today's rules, in place of what it
                has now.
            columns: Which columns, in which order; all if left out.

        Returns:
            Rows with `funding_time` in `[start, end)`, in order, with the columns of `silver/funding_rate`.
            A settlement that is absent has no row, and stands in `gaps`.

        Raises:
            MarketKeyError, NoSuchListingError, ManyMarketsError, TimeFormatError, RangeBackwardsError,
                UnknownColumnError: As named.
            NothingStoredError: Nothing at all is stored of a market.
            BeforeFirstReceiptError: As for `candles`.
            StoreError: The lake's store does not answer, or refuses.
        """
        table, span = self.registry.table("silver/funding_rate"), TimeRange.parse(start, end)
        then = parse_instant(as_of) if as_of is not None else None

        def read(market: Market) -> pl.DataFrame:
            rows = (
                self._rows(table, market, span, columns)
                if then is None
                else self._rows_as_of(table, market, span, then)
            )
            if (found := _within(rows, table.time, span)).is_empty():
                self._require_market(market, table)
            return found

        return self._each(markets, table, read, columns)

    def funding_carry(
        self,
        markets: Iterable[str | Market] | str | Market,
        start: Instant | None = None,
        end: Instant | None = None,
        since: Instant | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """What a perpetual pays by funding, settlement by settlement, and in sum since an instant.

        Args:
            markets: A market key, `binance-linear:BTCUSDT`, or another name that means one market, as `named`
                has it: `binance:BTC/USDT:USDT`; or several, patterns among them: the rows then have the
                columns `exchange`, `market_type` and `symbol` before the others, one market after another.
            start: First instant; None for all there is before the end.
            end: End of the range, exclusive; None for all there is from the start on.
            since: Add up the rates of the settlements from this instant on; it may lie before `start`.
            columns: Which columns, in which order; all if left out.

        Returns:
            Rows of `gold/funding_carry` in order. With `since` also `rate_since` (the sum of the rates from
            then on, this settlement included; null before), `payment_count` (of how many) and
            `absent_count` (settlements since then that no source has, and that the sum therefore lacks; null
            where some of the time between is not stored, here or in `silver/funding_rate`, so that nobody
            can tell).

        Raises:
            MarketKeyError, NoSuchListingError, ManyMarketsError, TimeFormatError, RangeBackwardsError,
                UnknownColumnError: As named.
            NothingStoredError: Nothing at all is stored of a market.
            StoreError: The lake's store does not answer, or refuses.
        """
        table, span = self.registry.table("gold/funding_carry"), TimeRange.parse(start, end)
        begin = None if since is None else parse_instant(since)
        whole = span if begin is None else TimeRange.parse(min(span.start, begin), span.end)

        def read(market: Market) -> pl.DataFrame:
            rows = _within(self._rows(table, market, whole), table.time, whole)
            if rows.is_empty():
                self._require_market(market, table)
            if begin is not None:
                rates = self.registry.table("silver/funding_rate")
                facts = {cell: record.facts for cell, record in self._of_market(rates, market, whole).items()}
                end_of_rows = rows[table.time][-1] + MINUTE.delta if rows.height else begin
                until = known_until(begin, end_of_rows, facts, self._of_market(table, market, whole))
                runs = [run for each in facts.values() for run in each.gaps]
                rows = summed_since(rows, begin, runs, until)
            return _within(rows, table.time, span)

        return self._each(markets, table, read, columns)

    def gaps(
        self,
        markets: Iterable[str | Market] | str | Market | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        now: Instant | None = None,
        table: str = "silver/candle",
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Every expected row that is absent, such as a 1m candle, and why, as the cells themselves say.

        Args:
            markets: One or several, by key or as `named` takes them; all if left out.
            start: First instant; None for no bound.
            end: End of the range, exclusive; None for no bound. Runs are cut to the range.
            now: The instant that tells `pending` from `unproven`; the present if left out.
            table: The silver table whose rows are meant.
            columns: Which columns, in which order; all if left out.

        Returns:
            A row per run, in order of market and time: `exchange`, `market_type`, `symbol`, `start_time`,
            `end_time` (exclusive), `slot_count`, `gap_class`, `asked_at` (when a REST API was last asked for
            it), `halted_at` (when trading stopped). Classes: `not_listed`; `halt` (proven); `conflict`
            (sources disagree and none could be chosen); `pending` (absent, and still within the time files
            may take to appear); `unproven` (absent, and later than that).

        Raises:
            NoLakeError, NotALakeObjectError: As for `scan`.
            UnknownTableError: There is no such silver table.
            NothingStoredError: Of a market that is named, or in the whole range, nothing is stored;
                `NotOfThisTypeError` where it can have none of the table.
        """
        silver, span = self.registry.dataset(table).silver, _span(start, end)
        found = self._named([silver], self._markets(markets, silver), span)
        told = told_frame(
            ((record.key.own_market, record.facts.gaps) for _, record in found),
            parse_instant(now) if now is not None else datetime.now(UTC),
            span,
            silver.published,
        )
        return _chosen(told, columns)

    def scan(
        self,
        table: str,
        markets: Iterable[str | Market] | str | Market | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """A lazy scan of any table, over only the files that can hold what is asked for.

        Args:
            table: `silver/candle`, `silver.candle` or, where that is clear, `candle`.
            markets: One or several, by key or as `named` takes them; all if left out.
            start: First instant; None for no bound.
            end: End of the range, exclusive; None for no bound.
            columns: Which columns, in which order; all if left out.

        Raises:
            MarketKeyError, TimeFormatError, RangeBackwardsError: As named.
            NotOfThisTypeError: A market that is named can have none of the table.
            NothingStoredError: Nothing at all is stored in the table of a market that is named.
            NoLakeError: There is no lake at the root.
            NotALakeObjectError: An object that holds some of it is damaged, or was not written by this lake.

        Returns:
            The table's columns and those of its path (`exchange`, `market_type`, `symbol`, `month`). What the
            store refuses while it is collected, `collect` says plainly.
        """
        declared = self.registry.table(table)
        wanted, span = self._markets(markets, declared), _span(start, end)
        rows = self._cells(declared.name, wanted, span, with_path=True, is_named=True)
        return rows if columns is None else rows.select(_known(columns, rows.collect_schema().names()))

    def join_asof(
        self,
        left: pl.DataFrame | pl.LazyFrame,
        right: pl.DataFrame | pl.LazyFrame,
        prefix: str = "right_",
        within: timedelta | None = None,
        by: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Each row of a frame with the newest row of another one that could have been known by then.

        A day's candle so meets the minutes of the next day, and never those of its own.

        Args:
            left: Rows of any gold table, or your own with `knowable_at`.
            right: The rows to find, with `knowable_at`.
            prefix: What stands before the names of the right frame's columns.
            within: How long before the left row the right one may have become known; of any age if left out.
            by: Columns that have to be equal; `exchange`, `market_type` and `symbol` if left out, as far as
                both frames have them: a frame of one market without these meets every market.

        Returns:
            The left rows, in their order, with the right frame's columns (without `month`), null where no row
            could have been known.

        Raises:
            NotKnowableError: A frame has no `knowable_at`.
            NotJoinableError: It is no instant with a zone, both frames would have a column of one name, or
                `within` or `by` is off.
        """
        return joining.join_asof(left, right, prefix, within, by)

    def features(
        self,
        markets: Iterable[str | Market] | str | Market | None,
        tables: Sequence[str],
        start: Instant | None = None,
        end: Instant | None = None,
        within: timedelta = timedelta(days=1),
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Several gold tables of several markets as one frame that could have been known.

        Args:
            markets: One or several, by key or as `named` takes them; all if left out.
            tables: Names as `scan` takes them. The first gives the rows; each other one the newest of its
                rows that could have been known when the row of the first was.
            start: First instant of the first table's rows; None for no bound.
            end: End of their range, exclusive; None for no bound.
            within: How old a row of another table may be: beyond it stands null, so that nothing is carried
                over a gap or a listing break in silence.
            columns: Which columns, in which order; all if left out.

        Returns:
            The first table's rows in order of time and market, with the columns of the others, each behind
            its table's short name: `indicator_1d_rsi_14`.

        Raises:
            UnknownTableError, MarketKeyError, TimeFormatError, RangeBackwardsError, NoLakeError: As for
                `scan`.
            NotKnowableError: A table is none that says when its rows could have been known.
            NotJoinableError: No table is named.
            NothingStoredError: Nothing at all is stored in the first table of a market that is named.
        """
        if not tables:
            raise NotJoinableError("no table is named", "Name the one that gives the rows first.")
        declared, span = [self.registry.table(name) for name in tables], _span(start, end)
        for table in declared:
            if joining.KNOWN not in table.columns:
                raise NotKnowableError(table.name, table.columns)
        first, *others = declared
        wanted = self._markets(markets, *declared)
        rows = self.collect(self.scan(first.name, wanted, start, end))
        is_bounded = span is not None and within < span.start - FIRST - _LONGEST_ROW
        since = span.start - within - _LONGEST_ROW if span and is_bounded else None
        reached = _span(since, end)
        # of a market that cannot have another table, its columns are null
        found = {
            table.short_name(): self.collect(self._cells(table.name, wanted, reached, with_path=True))
            for table in others
        }
        together = joining.side_by_side(rows.sort(first.time, *MARKET_COLUMNS), found, within)
        return _chosen(together, columns)

    def sql(
        self,
        query: str,
        unrestricted: bool = False,
        markets: Iterable[str | Market] | str | Market | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> pl.DataFrame:
        """Run SQL over views named `zone.table`; times are UTC.

        A SELECT over one table that compares `symbol`, `month` or another column of the path with texts opens
        only the cells that can have such rows. Of other statements the arguments say which cells are opened.

        Args:
            query: A statement that reads, or several; the rows of the last one come out. It reaches the lake
                and nothing else: no file, no address, no setting.
            unrestricted: Let it do all that DuckDB can, such as join a CSV of one's own or write one. For
                statements that were written by who runs them.
            markets: The views have the cells of these markets alone; of all if left out.
            start: The views have whole months, from that of this instant on.
            end: The views have the months that begin before this instant.

        Raises:
            MarketKeyError, TimeFormatError, RangeBackwardsError: As named.
            NothingStoredError: The tables of the statement have nothing of a market that `markets` names.
            SqlBeyondLakeError: It does more than read the lake, and is not unrestricted.
            SqlError: The statement is refused.
            NotALakeObjectError: A cell that it reads is damaged, or an object in a table's folder is none of
                its cells.
            ReplacedMeanwhileError: A build replaced cells while they were read, each time it was tried.
            StoreError: The lake's store does not answer, or refuses.

        Warns:
            NothingStoredWarning: A SELECT over one table compares a column of the path with a text of which
                the table has nothing, such as a mistyped symbol.
            BehindInputsWarning: Of cells that are read.
        """
        if isinstance(markets, Iterable) and not isinstance(markets, str | Market):
            markets = list(markets)
        wanted, span = self._markets(markets), _span(start, end)
        given = [markets] if isinstance(markets, str | Market) else markets or []
        # a pattern stands for what there is
        plain = [one for one in given if not (isinstance(one, str) and is_pattern(one.strip()))]
        required = (wanted or []) if len(plain) == len(given) else self.named(plain)
        for attempt in range(_SURVEYS):
            try:
                return self._sql(query, unrestricted, wanted, required, span)
            except ChangedMeanwhileError as error:
                if attempt == _SURVEYS - 1:
                    raise ReplacedMeanwhileError(str(error)) from None
        raise AssertionError("the last attempt returns or raises")

    def _sql(
        self,
        query: str,
        unrestricted: bool,
        markets: list[Market] | None,
        required: list[Market],
        span: TimeRange | None,
    ) -> pl.DataFrame:
        zones = list(dict.fromkeys(table.zone() for table in self.registry.tables))
        with tempfile.TemporaryDirectory(prefix="lakehouse-sql-") as spill:  # nobody else's to read
            connection, files = connect(self.objects, zones, spill, unrestricted)
            with connection:
                parser, found = Parser(connection), list[CellRecord]()
                tables = mentioned(query, self.registry.tables)
                for table in tables:
                    asked = pruning(parser, query, table)
                    meant = markets if markets is not None else self._meant(table, asked)
                    records = self._readable(table, meant, span, asked.allows)
                    found += records
                    if table == tables[-1]:
                        self._require_any(required, tables, found)
                    if asked.equal and not records:
                        warnings.warn(NothingStoredWarning(table.name, asked.equal), stacklevel=3)
                    if asked.counts is not None:  # footers say it: of exactly these objects, under a seal
                        self._tell(table, records)
                        return pl.DataFrame({asked.counts: [sum(record.rows for record in records)]})
                    create_view(connection, files, table, records)
                if macros.are_called(query):
                    self._create_macros(connection, files, macros.calls_of(parser, query), markets, span)
                rows = run(connection, files, query, self.registry.tables, unrestricted, parser)
        for table, read in files.read():
            self._tell(table, read)
        return rows

    def to_duckdb(
        self,
        file: str | Path,
        markets: Iterable[str | Market] | str | Market | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        tables: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Write a DuckDB file with the views and macros of `sql`, for tools that do not know a lake.

        It is of the state in which the lake is now, for ever: its views read files in `<file>.cells` beside
        it, which are links to the lake's own where both lie on one file system, and copies elsewhere. Each is
        held against its seal now, and not again. The views name them by their full paths.

        Args:
            file: Where. A file that this wrote before is replaced, with what lay beside it.
            markets: One or several, by key or as `named` takes them; all if left out.
            start: Whole months, from that of this instant on.
            end: The months that begin before this instant.
            tables: Names as `scan` takes them; all of silver and gold if left out.

        Returns:
            A row per table of which anything is stored: `table`, `dataset_id` as the method has it, `cells`,
            `rows`.

        Raises:
            UnknownTableError, MarketKeyError, TimeFormatError, RangeBackwardsError, NoLakeError: As named.
            NothingStoredError: There is no cell of what is asked for, or none of a market that is named.
            AttachableFileError: No such file can be there, or something else is.
            NotALakeObjectError: A cell is damaged.
            ReplacedMeanwhileError: A build replaced cells meanwhile, each time it was tried.
            StoreError: The lake's store does not answer, or refuses.

        Warns:
            BehindInputsWarning: Of cells that are in it.
        """
        declared = (
            [table for table in self.registry.tables if table.zone() != "bronze"]
            if tables is None
            else list(dict.fromkeys(self.registry.table(name) for name in tables))
        )
        wanted, span = self._markets(markets, *declared), _span(start, end)
        is_by_market = any(table.spread == "market" for table in declared)
        asked = [
            ", ".join(market.key for market in wanted) if wanted else "all markets",
            str(span or "all time"),
        ]
        for attempt in range(_SURVEYS):
            held = [(table, self._readable(table, wanted, span)) for table in declared]
            stored = {record.key.market for _, cells in held for record in cells if record.cell}
            if absent := [market.key for market in wanted or () if is_by_market and market not in stored]:
                raise NothingStoredError(" or ".join(table.name for table in declared), absent)
            if not stored and any(table.spread != "one" for table in declared):
                raise NothingStoredError(" or ".join(table.name for table in declared), [])
            named = [(table, cells, _name_of(cells)) for table, cells in held]
            try:
                attachable.write(Path(file), self.objects, named, ", ".join(asked))
            except ChangedMeanwhileError as error:
                if attempt == _SURVEYS - 1:
                    raise ReplacedMeanwhileError(str(error)) from None
                continue
            for table, cells in held:
                self._tell(table, cells)
            return pl.DataFrame(
                [
                    (table.name, name, len(cells), sum(record.rows for record in cells))
                    for table, cells, name in named
                    if cells
                ],
                {"table": pl.String, "dataset_id": pl.String, "cells": pl.Int64, "rows": pl.Int64},
                orient="row",
            )
        raise AssertionError("the last attempt returns or raises")

    def _create_macros(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: LakeFiles,
        calls: Sequence[macros.Call],
        markets: list[Market] | None,
        span: TimeRange | None,
    ) -> None:
        """Create the macros, over the cells that some calls of them mean."""
        named = {call.market for call in calls}
        wanted = markets if None in named else [each for each in named if each and each in (markets or named)]
        candle, held = self.registry.table("silver/candle"), set[str]()
        cells: dict[Interval, tuple[Iterable[CellRecord], Iterable[CellRecord]]] = {}
        within = _asks(markets, span)
        for interval in INTERVALS:
            of_it = [
                _asks([call.market] if call.market else None, call.span)
                for call in calls
                if call.interval in (None, interval)
            ]
            if not of_it:
                continue

            def asked(cell: Cell, of_it: Sequence[Callable[[Cell], bool]] = tuple(of_it)) -> bool:
                return within(cell) and any(asks(cell) for asks in of_it)

            stored, foreign = self._surveyed(candle, wanted, within)
            _refuse(candle, foreign, asked)
            held |= {record.key.own_market.key for record in stored}
            fine = {record.key: record for record in stored if asked(record.key)}
            if interval == MINUTE:
                cells[interval] = fine.values(), ()
                continue
            coarse = self.registry.table(f"gold/candle_{interval}")
            own = {record.key: record for record in self._readable(coarse, wanted, allows=asked)}
            kept, rest = macros.current(interval, fine, own)
            cells[interval] = kept.values(), rest.values()
        create_macros(connection, files, cells, held)

    def _meant(self, table: type[Table], asked: Pruning) -> list[Market] | None:
        """The markets that a statement can mean that names symbols; None where they are not few."""
        symbols = asked.equal.get("symbol")
        if symbols is None or table.spread != "market":
            return None
        types = asked.equal.get("market_type", set(MARKET_TYPES))
        exchanges = asked.equal.get("exchange") or {
            folder.partition("=")[2] for folder in self.objects.folders(table_prefix(table))
        }
        found = []
        for exchange, market_type, symbol in product(exchanges, types, symbols):
            with contextlib.suppress(MarketKeyError):  # nothing is stored of what can be no market
                found.append(Market(exchange, market_type, symbol))  # type: ignore[arg-type]
        return found if len(found) <= NARROW else None

    def markets(self, as_of: Instant | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All known markets: `silver/market`, or those that could be traded at an instant.

        Args:
            as_of: An instant at the exchange. Markets that have ended since are among those that could be
                traded then: a backtest on these survives by no bias.
            columns: Which columns, in which order; all if left out.

        Returns:
            A row per market with what holds now, or held then; `scan("silver/market")` has what else held
            before. At an instant `is_certain` is false where what is known of a market's life leaves open
            whether the instant lies in it, such as the day of its listing, told by the name of a file, or
            what came after the last scan. Between two lives of one symbol a market is left out where its rows
            in this lake prove it (class `not_listed`); names of files tell of whole months alone.

        Raises:
            NotScannedError: Of an exchange only the markets of the lake are known: ask it for all first.
        """
        rows = self.collect(self.scan(MarketTable.name))
        if as_of is None:
            return _chosen(rows.filter(pl.col("valid_until").is_null()), columns)
        at, listings = parse_instant(as_of), read_listings(rows)
        found = tradable(listings, at, scanned_at(self.objects), self._in_break(listings, at))
        return _chosen(found, columns)

    def _in_break(self, listings: Iterable[Listing], at: datetime) -> set[Market]:
        """The markets of the lake whose candles prove that they were not listed at an instant."""
        held = {each.market for each in listings if each.life_source == "rows"}
        month = TimeRange(at, at + timedelta(microseconds=1)).months()
        return {
            cell.own_market
            for cell, record in (self.survey("silver/candle", held)[0].items() if held else ())
            if cell.month in month
            and any(run.gap_class == "not_listed" and run.start <= at < run.end for run in record.facts.gaps)
        }

    def named(
        self,
        names: Iterable[str | Market] | str | Market,
        tables: Collection[type[Table]] | None = None,
    ) -> list[Market]:
        """The markets that names mean.

        Args:
            names: Market keys, unified symbols with their exchange (`binance:BTC/USDT:USDT`), or without
                where one market alone can be meant, and patterns (`binance-linear:*USDT`), which stand for
                markets of the lake.
            tables: A pattern stands for those alone of which one of these tables has something; every silver
                table if left out. Where there are none, it stands for all.

        Raises:
            MarketKeyError, NoSuchListingError, ManyMarketsError: As named.
            NothingStoredError: A pattern matches markets of the lake, and nothing is stored of any.
        """
        listings, found = cache(self._listings), dict[Market, None]()
        having = [dataset.silver for dataset in self.registry.datasets] if tables is None else tables
        for given in [names] if isinstance(names, str | Market) else names:
            name = given.strip() if isinstance(given, str) else given
            if not isinstance(name, str) or is_key(name):
                found[_market(name)] = None
            elif not is_pattern(name):
                found |= dict.fromkeys(named(name, listings))
            else:
                held = [each for each in listings() if each.life_source == "rows"]
                meant = named(name, lambda held=held: held, "of the lake")  # type: ignore[misc]
                stored = [market for market in meant if not having or self._has_any(market, having)]
                if not stored:
                    require_able(having, meant, name)
                    raise NothingStoredError(" or ".join(table.name for table in having), [name])
                found |= dict.fromkeys(stored)
        return list(found)

    def among(self, rows: pl.DataFrame, names: Iterable[str]) -> list[Market]:
        """The markets of some rows of `silver/market` that names mean, as `named` takes them."""
        known = read_listings(rows)
        return [market for name in names for market in named(name.strip(), lambda: known)]

    def _listings(self) -> list[Listing]:
        return read_listings(self.markets())

    def _has_any(self, market: Market, tables: Iterable[type[Table]]) -> bool:
        return any(next(self.objects.list(market_prefix(table, market)), None) for table in tables)

    def _markets(
        self, markets: Iterable[str | Market] | str | Market | None, *tables: type[Table]
    ) -> list[Market] | None:
        """What is asked for of some tables; of a table with all markets in one object, of any silver one."""
        by_market = [table for table in tables if table.spread == "market"]
        if markets is None:
            return None
        found = self.named(markets, by_market or None)
        require_able(by_market, found)
        return found

    def _market(self, market: str | Market, table: type[Table]) -> Market:
        found = self.named([market], [table])
        require_able([table], found)
        if len(found) > 1:
            raise ManyMarketsError(str(market), [one.key for one in found])
        return found[0]

    def conflicts(
        self,
        markets: str | Market | Iterable[str | Market] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        table: str = "silver/candle",
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Every value of every row, such as a candle, on which sources disagreed, with the rule that chose
        one: `silver/conflict`, or another dataset's conflict table.

        Args:
            markets: One or several, by key or as `named` takes them; all if left out.
            start: First instant; None for no bound.
            end: End of the range, exclusive; None for no bound.
            table: The silver table whose rows are meant.
            columns: Which columns, in which order; all if left out.

        Returns:
            A row per value, in the order of the key.

        Raises:
            MarketKeyError, TimeFormatError, RangeBackwardsError: As named.
            UnknownTableError: There is no such silver table, or it has no conflict table.
            NothingStoredError: As for `gaps`.
            StoreError: The lake's store does not answer, or refuses.

        Warns:
            NotCollectedWarning: Cells tell of disputes whose values are not collected yet.
        """
        dataset, span = self.registry.dataset(table), _span(start, end)
        judged, disputes = dataset.silver, conflict_table(dataset)
        wanted = self._markets(markets, judged)
        stored, foreign = self.survey(judged.name, wanted)
        known = [*stored, *damaged_cells(judged, foreign)]
        require_stored(judged.name, known, wanted, span.months() if span else None)
        months = span.months() if span else []
        whole = TimeRange(Cell(months[0]).window.start, Cell(months[-1]).window.end) if months else None
        rows = self.collect(self._cells(disputes.name, wanted, whole))
        found = rows.select(disputes.names()).sort(disputes.key)
        month = pl.col(judged.time).dt.strftime("%Y-%m")
        collected = set(found.select(MARKET_KEY, month).unique().rows())
        asked = _asks(wanted, span)
        if left := [
            str(cell)
            for cell, record in stored.items()
            if asked(cell)
            and record.facts.conflict_count
            and (cell.own_market.key, cell.month) not in collected
        ]:
            warnings.warn(NotCollectedWarning(disputes.name, sorted(left)), stacklevel=2)
        if span is not None:
            found = found.filter(pl.col(judged.time).is_between(span.start, span.end, closed="left"))
        return _chosen(found, columns)

    def restatements(
        self,
        markets: Iterable[str | Market] | str | Market | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        table: str = "silver/candle",
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """What sources replaced of what they had published: two successive values of one key and source.

        Args:
            markets: One or several, by key or as `named` takes them; all if left out.
            start: First instant; None for no bound.
            end: End of the range, exclusive; None for no bound.
            table: The silver table whose sources are meant.
            columns: Which columns, in which order; all if left out.

        Raises:
            NoLakeError, NotALakeObjectError, UnknownTableError: As `scan`.
            NothingStoredError: Of a market that is named, or in the whole range, no source has told anything.

        Returns:
            A row per replaced value, by market, time and source: `market`, the key, `source` (`monthly`,
            `daily`, `api`), `change` (`changed`, `removed`: nothing stands in its place; `added`: it stands
            in the place of nothing), and each value, `source_file` and `fetched_at` as `<name>_before` and
            `<name>_after`.
        """
        dataset, span = self.registry.dataset(table), _span(start, end)
        wanted = self._markets(markets, *dataset.restated)
        found = restated(self.objects, dataset, self._named(dataset.restated, wanted, span))
        if span is not None:
            found = found.filter(pl.col(dataset.silver.time).is_between(span.start, span.end, closed="left"))
        return _chosen(found, columns)

    def dataset_id(
        self,
        table: str,
        markets: Iterable[str | Market] | str | Market | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> str:
        """A name for data as it is now: a hash over the versions of the cells that hold what is asked for.

        Two lakes with equal cells give one name, wherever they lie; whatever changes in any of the cells
        gives another. A range counts as the whole cells it touches.

        Args:
            table: As for `scan`.
            markets: As for `scan`, in any order.
            start: As for `scan`.
            end: As for `scan`.

        Raises:
            NoLakeError, NotALakeObjectError, UnknownTableError: As `scan`.
            NothingStoredError: There is no cell of what is asked for, or none of a market that is named: no
                two mistakes share a name.
        """
        declared, span = self.registry.table(table), _span(start, end)
        wanted = self._markets(markets, declared)
        by_market = declared.spread == "market"
        records = (
            [record for _, record in self._named([declared], wanted, span)]
            if by_market
            else self._readable(declared, wanted, span)
        )
        if not records:
            raise NothingStoredError(declared.name, [market.key for market in wanted or ()])
        return _name_of(records)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Collect a scan of this lake, with the lake's errors in place of those of the reader.

        Raises:
            StoreError: The lake's store does not answer, or refuses.
        """
        with self.objects.named("reading", ""):
            return rows.collect()

    def records(self, table: str) -> list[CellRecord]:
        """What is stored of a table, a record per object."""
        self.objects.require_lake()
        return records(self.objects, self.registry.table(table))

    def stored(self, table: str) -> dict[Cell, CellRecord]:
        """The stored cells of a table with cells."""
        return {record.key: record for record in self.records(table)}

    def survey(self, table: str, markets: Collection[Market] | None = None) -> Survey:
        """The stored cells of a table with cells, of some markets or all, and an error per object in its
        folder, or theirs, that is damaged or none of its cells.
        """
        if self.objects.is_local:
            self.objects.require_lake()  # before a folder is made of a mistyped root
        found = survey(self.objects, self.registry.table(table), markets)
        if not self.objects.is_local and not any(found):
            self.objects.require_lake()  # a request more, where there is nothing
        return found

    def _readable(
        self,
        table: type[Table],
        markets: Collection[Market] | None = None,
        span: TimeRange | None = None,
        allows: Callable[[Cell], bool] = lambda cell: True,
        is_named: bool = False,
    ) -> list[CellRecord]:
        """The objects that can hold rows of some markets and a range; a damaged one among them is an error,
        not fewer rows.

        Args:
            table: The table.
            markets: Which markets; None for all.
            span: The range; None for all of time.
            allows: Whether a cell can hold what is asked for otherwise.
            is_named: Whether each of the markets has to have something in a table by market.
        """
        if table.spread == "one":
            return self.records(table.name)
        of_them = _asks(markets, span)

        def asked(cell: Cell) -> bool:
            return of_them(cell) and allows(cell)

        is_named = is_named and table.spread == "market"
        found, foreign = self._surveyed(table, markets, (lambda cell: True) if is_named else asked)
        _refuse(table, foreign, asked)
        if is_named:
            known = [record.key for record in found] + damaged_cells(table, foreign)
            require_stored(table.name, known, markets, None)
        return [record for record in found if asked(record.key)]

    def _surveyed(
        self, table: type[Table], markets: Collection[Market] | None, asked: Callable[[Cell], bool]
    ) -> tuple[list[CellRecord], list[NotALakeObjectError]]:
        """As `survey`, of the cells that are asked for."""
        if markets is not None and table.spread == "market" and self.objects.is_local:
            self.objects.require_lake()
            if (found := survey_few(self.objects, table, markets, asked)) is not None:
                return found
        stored, foreign = self.survey(table.name, markets)
        return [record for cell, record in stored.items() if asked(cell)], foreign

    def _named(
        self, tables: Iterable[type[Table]], markets: list[Market] | None, span: TimeRange | None
    ) -> list[tuple[str, CellRecord]]:
        """As `_readable`, of tables with cells, with the table's name; what is named must be stored in one of
        them.
        """
        asked, names, known, found = _asks(markets, span), [], list[Cell](), list[tuple[str, CellRecord]]()
        for table in tables:
            stored, foreign = self.survey(table.name, markets)
            _refuse(table, foreign, asked)
            names.append(table.name)
            known += [*stored, *damaged_cells(table, foreign)]
            found += [(table.name, record) for cell, record in stored.items() if asked(cell)]
        require_stored(" or ".join(names), known, markets, span.months() if span else None)
        return found

    def _require_any(
        self, markets: Collection[Market], tables: Iterable[type[Table]], found: Iterable[CellRecord]
    ) -> None:
        """As `_require_market`, of markets that may be in any of several tables, of which something was
        found.
        """
        by_market = [table for table in tables if table.spread == "market"]
        held = {record.key.market for record in found if record.cell} if by_market else set(markets)
        absent = [each.key for each in markets if each not in held and not self._has_any(each, by_market)]
        if absent:
            raise NothingStoredError(" or ".join(table.name for table in by_market), absent)

    def _require_market(self, market: Market, table: type[Table] | None = None) -> None:
        """A market without a row is most often a mistyped one: that is no answer, as no row in a range would
        be.
        """
        table = table or self.registry.table("silver/candle")
        self.objects.require_lake()
        if next(self.objects.list(market_prefix(table, market)), None) is None:
            raise NothingStoredError(table.name, [market.key])

    def _each(
        self,
        markets: Iterable[str | Market] | str | Market,
        table: type[Table],
        read: Callable[[Market], pl.DataFrame],
        columns: Sequence[str] | None,
    ) -> pl.DataFrame:
        """What a read yields of one market, or of several, each behind the columns that name it."""
        if isinstance(markets, str | Market) or not isinstance(markets, Iterable):  # which is then refused
            return _chosen(read(self._market(markets, table)), columns)
        found = self.named(markets, [table])
        require_able([table], found)
        rows = self.objects.together(*(partial(read, market) for market in found))
        named = [
            frame.select(
                *(pl.lit(getattr(market, name)).alias(name) for name in MARKET_COLUMNS), *frame.columns
            )
            for market, frame in zip(found, rows, strict=True)
        ]
        if not named:
            raise NothingStoredError(table.name, [])
        return _chosen(pl.concat(named), columns)

    def _candles(
        self,
        market: Market,
        span: TimeRange,
        interval: Interval,
        as_of: datetime | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """The candles of all months that a range touches; of no less than some columns."""
        fine = self.registry.table("silver/candle")
        if as_of is not None:
            rows = self._rows_as_of(fine, market, span, as_of)
            return (
                rows
                if interval == MINUTE
                else resample(rows, interval).select(self.registry.table(f"gold/candle_{interval}").names())
            )
        if interval == MINUTE:
            return self._rows(fine, market, span, columns)
        coarse = self.registry.table(f"gold/candle_{interval}")
        kept, rest = macros.current(
            interval, self._of_market(fine, market, span), self._of_market(coarse, market, span)
        )
        rows = read_rows(self.objects, coarse, [record.path for record in kept.values()], self._tell)
        if not rest:
            return rows
        minutes = read_rows(self.objects, fine, [record.path for record in rest.values()], self._tell)
        return pl.concat([rows, resample(minutes, interval).select(coarse.names())]).sort(coarse.time)

    def _of_market(self, table: type[Table], market: Market, span: TimeRange | None = None) -> Ledger:
        """As `_readable`, of one market and the months of a range, or of all, in order of time."""
        self.objects.require_lake()
        stored, foreign = survey_market(self.objects, table, market, (span or _ALWAYS).months())
        _refuse(table, foreign, lambda cell: True)
        return stored

    def _rows_as_of(
        self, table: type[Table], market: Market, span: TimeRange, instant: datetime
    ) -> pl.DataFrame:
        """As `_rows`, of a silver table at an instant."""
        self.objects.require_lake()
        dataset = self.registry.dataset(table.name)
        found = {
            parse_cell_path(bronze, stored.path)
            for bronze in dataset.bronze
            for stored in cells_of_market(self.objects, bronze, market, span.months())
        }
        return rows_as_of(
            self.objects,
            dataset,
            sorted((cell for cell in found if cell), key=lambda cell: cell.sort_key),
            instant,
        )

    def _rows(
        self, table: type[Table], market: Market, span: TimeRange, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """All rows of one market's cells that touch a range, in order of time; of no less than some columns.

        Whole objects are read, several at once, and each is held against its seal.
        """
        known = {*table.columns, *MARKET_COLUMNS}
        wanted = None if columns is None or isinstance(columns, str) or set(columns) - known else columns
        return read_rows(
            self.objects,
            table,
            [stored.path for stored in cells_of_market(self.objects, table, market, span.months())],
            self._tell,
            wanted,
        )

    def _tell(self, table: type[Table], read: Collection[CellRecord]) -> None:
        """Warn of cells that are read and behind their inputs."""
        if behind := cells_behind(self.objects, self.registry, table, read):
            warnings.warn(BehindInputsWarning(table.name, map(str, behind)), stacklevel=3)

    def _cells(
        self,
        name: str,
        markets: list[Market] | None,
        span: TimeRange | None,
        with_path: bool = False,
        is_named: bool = False,
    ) -> pl.LazyFrame:
        table = self.registry.table(name)
        cells = self._readable(table, markets, span, is_named=is_named)
        rows = scan_cells(self.objects, table, cells, with_path, self._tell)
        if markets is not None and table.spread != "market" and "symbol" in table.columns:
            rows = rows.filter(MARKET_KEY.is_in([market.key for market in markets]))
        if span is None or not table.time:
            return rows
        if "end_time" in table.columns:  # a row that covers a range of its own is found by any part of it
            return rows.filter(pl.col(table.time) < span.end, pl.col("end_time") > span.start)
        return rows.filter(pl.col(table.time).is_between(span.start, span.end, closed="left"))


def _refuse(
    table: type[Table], foreign: Iterable[NotALakeObjectError], asked: Callable[[Cell], bool]
) -> None:
    """Raise for an object that may hold what is asked for and does not read."""
    for error in foreign:
        if isinstance(error, ForeignFolderError):
            continue
        cell = parse_cell_path(table, error.path)  # one in a place that is no cell's raises by itself
        if cell is None or asked(cell):
            raise error


def _chosen(rows: pl.DataFrame, columns: Sequence[str] | None) -> pl.DataFrame:
    """Some columns of rows, or all."""
    return rows if columns is None else rows.select(_known(columns, rows.columns))


def _names(columns: Sequence[str]) -> list[str]:
    """The names, each of them once: a frame has no two columns of one name."""
    return [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))


def _known(columns: Sequence[str], known: Sequence[str]) -> list[str]:
    chosen = _names(columns)
    if unknown := [name for name in chosen if name not in known]:
        raise UnknownColumnError(unknown, known)
    return chosen


def _name_of(records: Iterable[CellRecord]) -> str:
    """A hash over the versions of cells."""
    cells = [f"{record.path} {record.version}" for record in records]
    return hashlib.sha256("\n".join(sorted(cells)).encode()).hexdigest()[:32]


def _within(rows: pl.DataFrame, time: str, span: TimeRange) -> pl.DataFrame:
    """Rows whose time lies in a range; they are in order, and most often all of them do."""
    times = rows[time]
    if rows.height and times[0] >= span.start and times[-1] < span.end:
        return rows
    return rows.filter(pl.col(time).is_between(span.start, span.end, closed="left"))


def _asks(markets: Collection[Market] | None, span: TimeRange | None) -> Callable[[Cell], bool]:
    """Whether a cell can hold something of these markets in the months of a range."""
    months = span.months() if span else None
    return lambda cell: (
        (markets is None or cell.market is None or cell.market in markets)
        and (months is None or cell.month in months)
    )


def _span(start: Instant | None, end: Instant | None) -> TimeRange | None:
    return None if start is None and end is None else TimeRange.parse(start, end)


def _untold(stored: Ledger) -> list[TimeRange]:
    """Where between the stored months of a market nobody knows whether there was a candle, in order."""
    found = []
    for (cell, record), (following, _) in pairwise(stored.items()):
        rows_end = record.last_time and record.last_time + MINUTE.delta
        until = max(each for each in (cell.window.start, record.facts.asked_until, rows_end) if each)
        if until < following.window.start:
            found.append(TimeRange(until, following.window.start))
    return found


def _market(market: str | Market) -> Market:
    # one that was not parsed is not checked yet
    return Market.parse(market.key if isinstance(market, Market) else market)
