"""Target `freqtrade`: feather files below `user_data/data`."""

import io
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.feather

from lakehouse.export.target import File, Series, Target
from lakehouse.model.errors import BeyondTargetError

_CHANGED = "/ .@$+:"
"""What `freqtrade.misc.pair_to_filename` makes an underscore of."""
_VALUES = ("open", "high", "low", "close", "volume")
_SCHEMA = pa.schema([("date", pa.timestamp("ns", tz="UTC")), *((name, pa.float64()) for name in _VALUES)])
_SETTLEMENTS = "1h"
"""The interval under which freqtrade looks for funding and mark, whatever the market's own is."""


class Freqtrade(Target):
    """`binance/BTC_USDT-1h.feather`, and for perpetuals `binance/futures/BTC_USDT_USDT-1h-futures.feather`
    with `-1h-funding_rate` and, where candles may stand in for them, `-1h-mark`.

    Candles are labelled by open time. Funding has the columns that every release reads: the rate stands in
    `open`, the other values are zero.
    """

    name = "freqtrade"
    release = "2026.9"
    takes_mark = True

    def symbol(self, series: Series) -> str:
        if series.market.market_type == "inverse":
            raise self.refuse(series, "it trades spot markets and linear perpetuals alone")
        if series.is_delivered:
            raise self.refuse(series, "it trades perpetuals, and this contract is delivered")
        return series.currencies(self.name).unified

    def remarks(self, series: Series) -> tuple[str, ...]:
        loading = (
            "freqtrade adds a flat candle for each absent one when it loads a file, whatever stands here; "
            "what it adds is what `absent` lists."
        )
        if series.market.market_type == "spot" or series.mark_from_candles is not None:
            return (loading,)
        return (
            loading,
            "freqtrade backtests no perpetual without mark prices, which are not in the lake: "
            "--mark-from-candles lets candles stand in for them.",
        )

    def files(self, series: Series) -> Iterator[File]:
        is_spot = series.market.market_type == "spot"
        name = "".join("_" if char in _CHANGED else char for char in self.symbol(series))
        start = f"{series.market.exchange}/{'' if is_spot else 'futures/'}{name}-"
        for interval, rows in series.candles.items():
            path = f"{start}{interval}{'' if is_spot else '-futures'}.feather"
            yield File(path, _feather(_in_milliseconds(series, rows, "open_time")), rows.height)
        if (mark := series.mark_from_candles) is not None:
            body = _feather(_in_milliseconds(series, mark, "open_time"))
            yield File(f"{start}{_SETTLEMENTS}-mark.feather", body, mark.height)
        if (paid := series.funding) is not None:
            zeros = [pl.lit(0.0).alias(name) for name in _VALUES[1:]]
            rates = _in_milliseconds(series, paid, "funding_time").with_columns(
                pl.col("rate").alias("open"), *zeros
            )
            yield File(f"{start}{_SETTLEMENTS}-funding_rate.feather", _feather(rates), paid.height)


def _in_milliseconds(series: Series, rows: pl.DataFrame, time: str) -> pl.DataFrame:
    """Rows with their time as `date`.

    Raises:
        BeyondTargetError: A time is finer than freqtrade keeps.
    """
    fine = rows[time].filter(rows[time].dt.microsecond() % 1000 != 0)
    if fine.len():
        raise BeyondTargetError(
            series.market.key,
            Freqtrade.name,
            f"{time} {fine[0].isoformat()}",
            "instants of whole milliseconds",
        )
    return rows.with_columns(pl.col(time).alias("date"))


def _feather(rows: pl.DataFrame) -> bytes:
    table = rows.select(_SCHEMA.names).to_arrow().cast(_SCHEMA)
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink, compression="lz4", compression_level=9)
    return sink.getvalue()
