"""Target `lean`: zips of CSV lines below LEAN's data folder."""

import io
import zipfile
from collections.abc import Iterator
from datetime import datetime

import polars as pl

from lakehouse.export.numbers import decimal_places, digit_count, plain_digits
from lakehouse.export.target import File, Series, Target
from lakehouse.model.errors import BeyondTargetError
from lakehouse.model.interval import MINUTE, Interval

_NAMES = {"1m": "minute", "1h": "hour", "1d": "daily"}
_LONG, _SCALE = 18, 28  # digits that its reader's 64 bits surely hold; places that a .NET decimal has
_STAMP = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say


class Lean(Target):
    """`crypto/binance/minute/btcusdt/20240101_trade.zip`, `crypto/binance/hour/btcusdt_trade.zip`; perpetuals
    below `cryptofuture/`, with `cryptofuture/binance/margin_interest/btcusdt.csv` for funding.

    Candles are labelled by open time in UTC: milliseconds since midnight for minutes, else `yyyyMMdd HH:mm`.
    Sizes are in base units, of inverse markets in contracts, as LEAN's own files have them.
    """

    name = "lean"
    intervals = tuple(_NAMES)

    def symbol(self, series: Series) -> str:
        if series.is_delivered:
            raise self.refuse(
                series, "what is written here are spot markets and perpetuals, and this contract is delivered"
            )
        known = series.listing
        if known is not None and known.base and known.quote:
            return f"{known.base}{known.quote}".upper()
        return series.market.symbol.removesuffix("_PERP").upper()

    def remarks(self, series: Series) -> tuple[str, ...]:
        return (
            "LEAN repeats the last candle where one is absent, unless fillForward is off.",
            "LEAN knows the markets of its symbol-properties-database.csv: another one needs a line there.",
        )

    def files(self, series: Series) -> Iterator[File]:
        market, code = series.market, self.symbol(series).lower()
        is_spot = market.market_type == "spot"
        home = f"{'crypto' if is_spot else 'cryptofuture'}/{market.exchange}"
        tag = "" if is_spot else "_perp"
        size = "contracts" if market.market_type == "inverse" else "volume"
        for interval, rows in series.candles.items():
            length = _NAMES[interval.name]
            lines = _lines(series, interval, rows, size)
            if interval == MINUTE:
                days = lines.group_by("day", maintain_order=True)
                for (day,), part in days:
                    member = f"{day}_{code}_{length}_trade{tag}.csv"
                    body = _zipped(member, part["line"])
                    yield File(f"{home}/{length}/{code}/{day}_trade.zip", body, part.height)
            else:
                member = f"{code}.csv" if is_spot else f"{code}_trade{tag}.csv"
                yield File(f"{home}/{length}/{code}_trade.zip", _zipped(member, lines["line"]), rows.height)
        if (paid := series.funding) is not None:
            rates = paid["funding_time"].dt.strftime("%Y%m%d %H:%M:%S") + "," + _digits(series, paid["rate"])
            yield File(f"{home}/margin_interest/{code}.csv", _text(rates) + b"\n", paid.height)


def _lines(series: Series, interval: Interval, rows: pl.DataFrame, size: str) -> pl.DataFrame:
    """`day` and `line` of each candle."""
    times = rows["open_time"]
    finest = "ms" if interval == MINUTE else "1m"
    fine = times.filter(times != times.dt.truncate("1ms" if interval == MINUTE else "1m"))
    if fine.len():
        first: datetime = fine[0]
        allowed = "instants of whole milliseconds" if finest == "ms" else "instants of whole minutes"
        raise BeyondTargetError(series.market.key, Lean.name, f"open_time {first.isoformat()}", allowed)
    at = (
        (times - times.dt.truncate("1d")).dt.total_milliseconds().cast(pl.String)
        if interval == MINUTE
        else times.dt.strftime("%Y%m%d %H:%M")
    )
    values = [_digits(series, rows[name]) for name in ("open", "high", "low", "close", size)]
    parts = pl.DataFrame([at.alias("at"), *(one.alias(str(n)) for n, one in enumerate(values))])
    return pl.DataFrame([times.dt.strftime("%Y%m%d").alias("day")]).with_columns(
        parts.select(pl.concat_str(pl.all(), separator=",").alias("line"))["line"]
    )


def _digits(series: Series, values: pl.Series) -> pl.Series:
    """Numbers as its reader takes them.

    Raises:
        BeyondTargetError: One has more digits than it holds; it would read another number without a word.
    """
    texts = plain_digits(values)
    if digit_count(texts) > _LONG or decimal_places(texts) > _SCALE:
        raise BeyondTargetError(
            series.market.key,
            Lean.name,
            f"a value of {values.name}",
            f"{_LONG} digits at most, {_SCALE} behind the point",
        )
    return texts


def _text(lines: pl.Series) -> bytes:
    return "\n".join(lines).encode()


def _zipped(member: str, lines: pl.Series) -> bytes:
    """A zip with one member, without a time of day: the same lines give the same bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        entry = zipfile.ZipInfo(member, _STAMP)
        entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 0
        archive.writestr(entry, _text(lines))
    return sink.getvalue()
