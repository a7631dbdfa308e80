"""Target `csv`: plain files with a header, every column that the lake has."""

from collections.abc import Iterator

import polars as pl

from lakehouse.export.numbers import plain_digits
from lakehouse.export.target import File, Series, Target

_INSTANT = "%Y-%m-%dT%H:%M:%S%.6fZ"


class Csv(Target):
    """Files by market and interval: `binance-spot/BTCUSDT-1h.csv`, `binance-linear/BTCUSDT-funding_rate.csv`.

    Instants are ISO 8601 in UTC to the microsecond, candles are labelled by open time, what is null is empty.
    """

    name = "csv"

    def symbol(self, series: Series) -> str:
        return series.market.symbol

    def files(self, series: Series) -> Iterator[File]:
        market = series.market
        start = f"{market.exchange}-{market.market_type}/{market.symbol}-"
        for interval, rows in series.candles.items():
            yield File(f"{start}{interval}.csv", _csv(rows), rows.height)
        if series.funding is not None:
            yield File(f"{start}funding_rate.csv", _csv(series.funding), series.funding.height)


def _csv(rows: pl.DataFrame) -> bytes:
    texts = [
        plain_digits(column)
        if column.dtype.is_float()
        else column.dt.strftime(_INSTANT)
        if column.dtype.is_temporal()
        else column
        for column in rows
    ]
    return pl.DataFrame(texts).write_csv().encode()
