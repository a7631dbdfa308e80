"""Binance's klines: the CSV of its archive and the answers of its REST APIs, as the columns of the bronze
tables of candles.
"""

import contextlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import polars.selectors as cs

from lakehouse.exchanges.api import PageRules, Pages, RestCall
from lakehouse.exchanges.binance.words import (
    FOLDERS,
    FREQUENCIES,
    LATEST,
    is_number,
    is_whole,
    period_text,
    rest_call,
)
from lakehouse.exchanges.exchange import Files
from lakehouse.model.errors import (
    ArchiveFileError,
    CsvEmptyError,
    CsvEncodingError,
    CsvHeaderError,
    CsvParseError,
    CsvTooLongError,
)
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market, MarketType
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.table import UTC_TIME

_FUTURES_SIZES = ((99, 1), (499, 2), (1000, 5), (1500, 10))
# The inverse API documents that it answers with the newest rows of a range, and that a start alone stands for
# the 200 days from it.
_PAGE_RULES: dict[MarketType, PageRules] = {
    "spot": PageRules(((1000, 2),)),
    "linear": PageRules(_FUTURES_SIZES),
    "inverse": PageRules(_FUTURES_SIZES, timedelta(days=200), finds_next=False),
}
_DAY, _MICRO = Interval.parse("1d"), timedelta(microseconds=1)
KLINE_COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
_KLINE_TYPES = {
    name: pl.Int64 if name in ("open_time", "close_time", "count") else pl.Float64 for name in KLINE_COLUMNS
}
_KLINE_NAMES: dict[str, str] = {"count": "trade_count"}
# what any column of a month sums to is far less; more is no number, or more than exact sums hold
_LARGEST = 1e24
MOST_LINES = 200_000
"""Lines of a kline file: a month of minutes has 44,640, each perhaps twice. As rows they are larger than as
text, so more are not even parsed.
"""
_BLANK_LINES = re.compile(rb"(?m)^[ \t\r]*(?:\n|\Z)")
# What the derivative margined in the base currency publishes under the same header (see `data_formats`:
# contracts, then base volume).
_INVERSE_NAMES = {
    "volume": "contracts",
    "quote_volume": "volume",
    "taker_buy_volume": "taker_buy_contracts",
    "taker_buy_quote_volume": "taker_buy_volume",
}


class KlineFiles(Files):
    """Candles as the archive publishes them.

    Args:
        interval: Length of the candles.
    """

    def __init__(self, interval: Interval) -> None:
        self._interval = interval.name
        self.until = pl.col("close_time") + _MICRO

    def prefix(self, market: Market, kind: PeriodKind) -> str:
        folder = FOLDERS[market.market_type]
        return f"data/{folder}/{FREQUENCIES[kind]}/klines/{market.symbol}/{self._interval}/"

    def key(self, market: Market, period: Period) -> str:
        return f"{self.prefix(market, period.kind)}{market.symbol}-{self._interval}-{period}.zip"

    def period_text(self, key: str) -> str | None:
        return period_text(key)

    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        return parse_klines(key, csv, market.market_type)


class KlinePages(Pages):
    """Candles as the REST APIs answer them.

    Args:
        interval: Length of the candles.
    """

    # a candle may open off its slot, and close later than the slot does
    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self.step = interval.delta
        self.coarser = KlinePages(_DAY) if interval != _DAY else None
        self.final = pl.max_horizontal(pl.col("open_time") + interval.delta, pl.col("close_time") + _MICRO)

    def rules(self, market_type: MarketType) -> PageRules:
        return _PAGE_RULES[market_type]

    def call(self, market: Market, start: datetime | None, end: datetime | None, limit: int) -> RestCall:
        bounds = {"startTime": _milliseconds(start)} if start else {}
        if end:
            bounds["endTime"] = _milliseconds(end) - 1  # inclusive
        return rest_call(
            market.market_type,
            "klines",
            self.rules(market.market_type).weight(limit),
            symbol=market.symbol,
            interval=self._interval.name,
            limit=limit,
            **bounds,
        )

    def read(self, market: Market, answer: Any) -> pl.DataFrame:
        rows = read_candles(market, answer)
        lasts = pl.col("close_time") - pl.col("open_time")
        is_absurd = (lasts < timedelta(0)) | (lasts > 2 * self._interval.delta)
        if not rows.select(is_absurd.any()).item():
            return rows
        return rows.with_columns(
            pl.when(~is_absurd).then(column) for column in rows.columns if column != "open_time"
        )


def read_candles(market: Market, answer: Any) -> pl.DataFrame:
    """The value columns of `bronze/candle_archive` from an answer, which may hold no row.

    Of a row that cannot be used, such as one with a value that is no finite number, all columns but
    `open_time` are null.

    Raises:
        ArchiveFileError, ValueError: The answer is no list of rows, or not even their times can be read.
    """
    if not isinstance(answer, list):
        raise ValueError(f"no list of candles but {answer!r:.100}")
    if not answer:
        return _EMPTY
    address = f"klines?symbol={market.symbol}"
    lines = _lines(answer)
    # else values shift
    if lines.count(",") == (len(KLINE_COLUMNS) - 1) * len(answer) and lines.count("\n") == len(answer) - 1:
        with contextlib.suppress(ArchiveFileError):
            rows = parse_klines(address, lines.encode(), market.market_type)
            if rows.select(pl.all_horizontal(cs.float().is_finite().all())).item():
                return rows
    return _usable_rows(address, answer, market.market_type)


def _milliseconds(instant: datetime) -> int:
    """Milliseconds since 1970, rounded up."""
    return -((datetime(1970, 1, 1, tzinfo=UTC) - instant) // timedelta(milliseconds=1))


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as REST gives them, as a CSV."""
    return "\n".join(",".join(map(str, row)) for row in rows)


def _usable_rows(url: str, answer: list[Any], market_type: MarketType) -> pl.DataFrame:
    """Candles of an answer in which some row cannot be used: of these the time alone.

    Raises:
        ArchiveFileError, ValueError: Not one row has the fields of a candle, or the time of one cannot be
            read.
    """
    if not any(isinstance(row, list) and len(row) == len(KLINE_COLUMNS) for row in answer):
        raise ValueError(f"no rows of {len(KLINE_COLUMNS)} values but {answer[0]!r:.100}")
    if timeless := [row for row in answer if not (isinstance(row, list) and row and is_whole(row[0]))]:
        raise ValueError(f"a candle without a time: {timeless[0]!r:.100}")
    good = [[*row[:-1], 0] for row in answer if _is_usable(row)]  # the last column may hold anything
    rows = parse_klines(url, _lines(good).encode(), market_type) if good else _EMPTY
    times = pl.Series("open_time", [int(row[0]) for row in answer if not _is_usable(row)], pl.Int64)
    return pl.concat([rows, _instant(times, False).to_frame()], how="diagonal").sort(
        "open_time", maintain_order=True
    )


def _is_usable(row: list[Any]) -> bool:
    """Whether every value of a candle is a finite number, and those that count are whole."""
    if len(row) != len(KLINE_COLUMNS):
        return False
    return all(
        is_whole(value) if _KLINE_TYPES[name] == pl.Int64 else is_number(value)
        for name, value in zip(KLINE_COLUMNS[:-1], row, strict=False)
    )


def parse_klines(key: str, csv: bytes, market_type: MarketType) -> pl.DataFrame:
    """Parse a kline CSV by position, whatever its header and time unit.

    Args:
        key: The file's key, for messages.
        csv: The file.
        market_type: Decides what the columns mean: for inverse markets the sixth is contracts and the eighth
            base volume.

    Returns:
        The value columns of `bronze/candle_archive`, in file order; blank lines are no rows, and a header
        alone makes no row. `close_time` is the last microsecond the candle covers: a file in milliseconds
        says `…999`, which stands for `…999999`.

    Raises:
        ArchiveFileError: The content cannot be trusted; the class says why.
    """
    if not csv or csv[:1].isspace():
        csv = _without_blank_lines(key, csv)
    if not csv:
        raise CsvEmptyError(key)
    first_line = csv[: csv.find(b"\n") if b"\n" in csv else len(csv)].decode(errors="replace").strip()
    has_header = not (first_line[:1].isdigit() or first_line[:1] == "-")
    if has_header and tuple(first_line.split(",")) != KLINE_COLUMNS:
        raise _encoding(key, csv) or CsvHeaderError(key, KLINE_COLUMNS, first_line)
    raw = _read_klines(key, csv, has_header)
    if not raw.height:
        return _EMPTY
    are_times, *sums = raw.select(_ARE_TIMES, pl.col(pl.Float64).sum()).row(0)
    if not are_times:
        raise CsvParseError(
            key, f"{_first_odd(raw, ~_IS_TIME)}, neither seconds, milliseconds nor microseconds since 1970"
        )
    # neither is NaN less than anything; to look at every value takes four times as long
    if not all(abs(total) < _LARGEST for total in sums):
        raise CsvParseError(
            key,
            f"{_first_odd(raw, ~(pl.col(pl.Float64).abs() < _LARGEST / raw.height))}, which no market has",
        )
    names = _KLINE_NAMES | (_INVERSE_NAMES if market_type == "inverse" else {})
    frame = (
        raw.drop("ignore")
        .rename(names)
        .with_columns(_instant(raw["open_time"], False), _instant(raw["close_time"], True))
    )
    return frame.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in _VALUES if name not in frame.columns
    ).select(_VALUES)


_IS_TIME = pl.col("open_time", "close_time").is_between(0, LATEST)
_ARE_TIMES = pl.all_horizontal(_IS_TIME).all().alias("are_times")


def _read_klines(key: str, csv: bytes, has_header: bool) -> pl.DataFrame:
    """The twelve values of every line. A blank line reads as one without values, or as no line at all: where
    there is one, all is read again without.
    """
    try:
        raw = pl.read_csv(
            csv,
            has_header=False,
            skip_rows=int(has_header),
            schema=_KLINE_TYPES,
            quote_char=None,
            n_rows=MOST_LINES + 1,
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=_KLINE_TYPES)
    except pl.exceptions.PolarsError as error:
        why = str(error).strip().split("\n", 1)[0]
    else:
        if raw.height > MOST_LINES:
            raise CsvTooLongError(key, MOST_LINES)
        # the last one too: a line cut within its eleventh value has none
        if not any(raw[name].null_count() for name in KLINE_COLUMNS):
            return raw
        why = _first_odd(raw, pl.all().is_null())
    solid = _without_blank_lines(key, csv)
    if len(solid) < len(csv):
        return _read_klines(key, solid, has_header)
    raise _encoding(key, csv) or CsvParseError(key, why)


def _without_blank_lines(key: str, csv: bytes) -> bytes:
    if csv.count(b"\n") > 2 * MOST_LINES:
        raise CsvTooLongError(key, MOST_LINES)
    return _BLANK_LINES.sub(b"", csv)


def _first_odd(raw: pl.DataFrame, is_odd: pl.Expr) -> str:
    """The first value that is odd, with its column and row, in words."""
    odd = raw.select(is_odd)
    row, name = min((odd[name].arg_true()[0], name) for name in odd.columns if odd[name].any())
    value = raw[name][row]
    return f"{name} of row {row + 1:,} is {'empty' if value is None else value}"


def _encoding(key: str, csv: bytes) -> CsvEncodingError | None:
    """Why a file does not parse, if it is no ASCII text."""
    return (
        None
        if csv.isascii()
        else CsvEncodingError(key, next(offset for offset, byte in enumerate(csv) if byte > 127))
    )


_VALUES = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "contracts",
    "taker_buy_contracts",
)

_EMPTY = pl.DataFrame(
    schema={
        name: UTC_TIME if name.endswith("_time") else pl.Int64 if name == "trade_count" else pl.Float64
        for name in _VALUES
    }
)


def _instant(column: pl.Series, is_end: bool) -> pl.Series:
    """Integers as instants, the unit read from each value's size: seconds, milliseconds or microseconds.

    Args:
        column: Integers since 1970.
        is_end: The value names the last instant of its unit, so it stands for that unit's last microsecond.
    """
    value = pl.col(column.name)
    per_unit = pl.when(value < 10**11).then(1_000_000).when(value < 10**14).then(1_000).otherwise(1)
    micros = value * per_unit + (per_unit - 1 if is_end else 0)
    return column.to_frame().select(micros.cast(UTC_TIME))[column.name]
