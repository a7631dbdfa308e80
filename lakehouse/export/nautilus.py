"""Target `nautilus`: a `ParquetDataCatalog` of nautilus_trader: bars, instruments, funding rates."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.export.numbers import decimal_places, plain_digits
from lakehouse.export.target import File, Series, Target
from lakehouse.model.errors import BeyondTargetError

_STEPS = {
    "1m": "1-MINUTE",
    "5m": "5-MINUTE",
    "15m": "15-MINUTE",
    "1h": "1-HOUR",
    "4h": "4-HOUR",
    "1d": "1-DAY",
}
_PRICES = ("open", "high", "low", "close")
_PLACES = 16  # of its fixed-point numbers, which are whole numbers of 128 bits
_MOST = {"price": 17_014_118_346_046, "size": 34_028_236_692_093}
_FIXED = pa.binary(_PLACES)
_CLOCKS = [pa.field(name, pa.uint64(), nullable=False) for name in ("ts_event", "ts_init")]
_BAR = pa.schema([*(pa.field(name, _FIXED, nullable=False) for name in (*_PRICES, "volume")), *_CLOCKS])
_FUNDING = pa.schema(
    [
        pa.field("rate", pa.binary(), nullable=False),
        pa.field("interval", pa.uint16()),
        pa.field("next_funding_ns", pa.uint64()),
        *_CLOCKS,
    ]
)
_WORD = pa.dictionary(pa.int16(), pa.string())
_LIMITS = (
    "lot_size",
    "max_quantity",
    "min_quantity",
    "max_notional",
    "min_notional",
    "max_price",
    "min_price",
)
_RATES = ("margin_init", "margin_maint", "maker_fee", "taker_fee")
_ROW_GROUP = 5_000  # as its own catalog writes


class Nautilus(Target):
    """`data/bar/BTCUSDT.BINANCE-1-MINUTE-LAST-EXTERNAL/…parquet`, the market below `data/currency_pair` or
    `data/crypto_perpetual`, funding below `data/funding_rate_update`.

    A bar's `ts_event` and `ts_init` are the end of the candle, or of a minute in it that reaches beyond: from
    then on it could have been known. So is a settlement from its `ts_init` on, when it was published.
    Prices and sizes have as many places as their values need, the market's own steps included; sizes are in
    base units, of inverse markets in contracts.
    """

    name = "nautilus"
    release = "1.231.0"
    is_alone = True

    def symbol(self, series: Series) -> str:
        market = series.market
        if series.is_delivered:
            raise self.refuse(
                series, "what is written here are spot markets and perpetuals, and this contract is delivered"
            )
        if market.market_type == "inverse" and (series.listing is None or not series.listing.contract_size):
            raise self.refuse(
                series,
                "the size of its contract is not in silver/market: `lakehouse markets scan` asks for it",
            )
        return f"{_name(series)}.{market.exchange.upper()}"

    def remarks(self, series: Series) -> tuple[str, ...]:
        return (
            "Fees and margins are not in the lake: they are written as 0.",
            "nautilus_trader reads no bar where a candle is absent.",
        )

    def files(self, series: Series) -> Iterator[File]:
        own, is_inverse = self.symbol(series), series.market.market_type == "inverse"
        size = "contracts" if is_inverse else "volume"
        texts = {
            interval: {name: plain_digits(rows[name]) for name in (*_PRICES, size)}
            for interval, rows in series.candles.items()
        }
        listing = series.listing
        steps = (listing.terms.tick_size, listing.terms.step_size) if listing else (None, None)
        places = [
            _places(series, [each[name] for each in texts.values() for name in names], step)
            for names, step in zip((_PRICES, (size,)), steps, strict=True)
        ]
        for interval, rows in series.candles.items():
            kind = f"{own}-{_STEPS[interval.name]}-LAST-EXTERNAL"
            values = [
                _fixed(series, texts[interval][name], "size" if name == size else "price")
                for name in (*_PRICES, size)
            ]
            is_told = "knowable_at" in rows.columns
            ends = _nanoseconds(rows["knowable_at"] if is_told else rows["open_time"] + interval.delta)
            told = {
                "bar_type": kind,
                "instrument_id": own,
                "price_precision": str(places[0]),
                "size_precision": str(places[1]),
            }
            table = pa.Table.from_arrays([*values, ends, ends], schema=_BAR.with_metadata(told))
            yield File(f"data/bar/{kind}/{_range_name(ends)}", _parquet(table), rows.height)
        first = min(rows["open_time"][0] for rows in series.candles.values())
        yield _instrument(series, own, places, steps, first)
        if (paid := series.funding) is not None:
            event = _nanoseconds(paid["funding_time"])
            known = _nanoseconds(paid.select(pl.max_horizontal("funding_time", "published_time")).to_series())
            rates = pa.array([json.dumps(text).encode() for text in plain_digits(paid["rate"])], pa.binary())
            # what the settlement after it tells of the interval was not known yet
            hours = paid["interval_hours"].set(paid["interval_source"] == "after", None)
            minutes = (hours.cast(pl.UInt16) * 60).to_arrow()
            absent = pa.nulls(paid.height, pa.uint64())
            schema = _FUNDING.with_metadata({"instrument_id": own})
            table = pa.Table.from_arrays([rates, minutes, absent, event, known], schema=schema)
            yield File(f"data/funding_rate_update/{own}/{_range_name(known)}", _parquet(table), paid.height)


def _name(series: Series) -> str:
    """The symbol as nautilus_trader's own adapters have it: those of Binance's futures end with `-PERP`,
    elsewhere the type is behind it.
    """
    market = series.market
    if market.exchange != "binance":
        return f"{market.symbol}-{market.market_type.upper()}"
    return market.symbol if market.market_type == "spot" else f"{market.symbol.removesuffix('_PERP')}-PERP"


def _places(series: Series, texts: Iterable[pl.Series], step: float | None) -> int:
    """How many places values and their step need.

    Raises:
        BeyondTargetError: More than there are.
    """
    steps = plain_digits(pl.Series([step], dtype=pl.Float64).drop_nulls())
    found = max(map(decimal_places, [*texts, steps]))
    if found > _PLACES:
        raise BeyondTargetError(
            series.market.key, Nautilus.name, "a value", f"{_PLACES} digits behind the point"
        )
    return found


def _fixed(series: Series, texts: pl.Series, kind: str) -> pa.Array:
    """Decimal texts as its fixed-point numbers: little-endian whole numbers of 10^-16, which is how Arrow
    keeps a decimal of 16 places.

    Raises:
        BeyondTargetError: One is larger than it takes.
    """
    numbers = texts.cast(pl.Decimal(38, _PLACES))
    largest = numbers.max()
    if largest is not None and largest > _MOST[kind]:  # type: ignore[operator]
        raise BeyondTargetError(
            series.market.key, Nautilus.name, f"a {kind} of {largest!s}", f"{_MOST[kind]} at most"
        )
    held = pa.array(numbers.rechunk().to_arrow(), pa.decimal128(38, _PLACES))
    return pa.Array.from_buffers(_FIXED, len(held), [None, held.buffers()[1]], offset=held.offset)


def _nanoseconds(times: pl.Series) -> pa.Array:
    return (times.dt.epoch("us").cast(pl.UInt64) * 1000).to_arrow()


def _range_name(times: pa.Array) -> str:
    return f"{_in_name(times[0].as_py())}_{_in_name(times[-1].as_py())}.parquet"


def _in_name(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H-%M-%S}-{rest:09d}Z"


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=_ROW_GROUP)
    return sink.getvalue()


def _instrument(
    series: Series, own: str, places: list[int], steps: tuple[float | None, ...], first: datetime
) -> File:
    """The market as nautilus_trader describes it, from its first candle on.

    Args:
        series: What is exported.
        own: What it is called there.
        places: Of prices and of sizes.
        steps: As far as the lake knows them; else one of the last place.
        first: When its first candle opens.
    """
    market, money = series.market, series.currencies(Nautilus.name)
    is_spot, is_inverse = market.market_type == "spot", market.market_type == "inverse"
    kind = "CurrencyPair" if is_spot else "CryptoPerpetual"
    price, size = (
        format(Decimal(repr(step)) if step else Decimal(1).scaleb(-digits), f".{digits}f")
        for digits, step in zip(places, steps, strict=True)
    )
    since = int(first.timestamp()) * 1_000_000_000
    contract = series.listing.contract_size if is_inverse and series.listing else None
    said: dict[str, tuple[pa.DataType, object]] = {
        "id": (pa.dictionary(pa.int64(), pa.string()), own),
        "raw_symbol": (pa.string(), market.symbol),
        "base_currency": (_WORD, money.base),
        "quote_currency": (_WORD, money.quote),
    }
    if not is_spot:
        said |= {"settlement_currency": (_WORD, money.settle), "is_inverse": (pa.bool_(), is_inverse)}
    said |= {"price_precision": (pa.uint8(), places[0]), "size_precision": (pa.uint8(), places[1])}
    said |= {"price_increment": (_WORD, price), "size_increment": (_WORD, size)}
    said |= {"multiplier": (_WORD, plain_digits(pl.Series([contract or 1.0]))[0])}
    said |= dict.fromkeys(_LIMITS, (_WORD, None))
    said |= {name: (pa.string(), "0") for name in _RATES}
    said |= {
        "info": (pa.binary(), b"null"),
        "ts_event": (pa.uint64(), since),
        "ts_init": (pa.uint64(), since),
    }
    folder = f"data/{'currency_pair' if is_spot else 'crypto_perpetual'}/{own}"
    name = f"{_in_name(since)}_{_in_name(since)}.parquet"
    return File(f"{folder}/{name}", _parquet(_one_row(said, {"class": kind})), 1)


def _one_row(said: Mapping[str, tuple[pa.DataType, object]], told: dict[str, str]) -> pa.Table:
    schema = pa.schema([(name, kind) for name, (kind, _) in said.items()], metadata=told)
    return pa.Table.from_pylist([{name: value for name, (_, value) in said.items()}], schema=schema)
