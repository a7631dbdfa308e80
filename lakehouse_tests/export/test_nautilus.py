"""nautilus_trader: the schemas that its source declares, and numbers as its reader decodes them.

Its own reader is asked in `test_backtesters.py`.
"""

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.export.nautilus import Nautilus
from lakehouse.export.target import File
from lakehouse.model.errors import BeyondTargetError, ExportNameError, NotOfTargetError
from lakehouse.model.interval import INTERVALS, MINUTE, Interval
from lakehouse.model.market import Market
from lakehouse.model.terms import DELIVERY, PERPETUAL, Terms
from lakehouse.transform.resample import resample
from lakehouse_tests.export.series import LINEAR, drawn_rows, listing, rates, series
from lakehouse_tests.making import BTC, COIN, at, candles, minutes

VALUES = ("open", "high", "low", "close", "volume")
SCALE = 10**16
FIVE = Interval.parse("5m")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def table_of(file: File) -> pa.Table:
    return pq.read_table(io.BytesIO(file.body))


def times(table: pa.Table, name: str) -> list[datetime]:
    return [EPOCH + timedelta(microseconds=each // 1000) for each in table[name].to_pylist()]


def decoded(table: pa.Table, name: str) -> list[Decimal]:
    """`decode_price`: a whole number of 128 bits, little-endian, of 10^-16."""
    return [Decimal(int.from_bytes(raw, "little", signed=True)) / SCALE for raw in table[name].to_pylist()]


@given(drawn_rows(), st.sampled_from(INTERVALS))
def test_numbers_and_times_are_the_very_ones(rows: pl.DataFrame, interval: object) -> None:
    files = list(Nautilus().files(series(rows)))
    table = table_of(files[0])
    for name in VALUES:
        assert decoded(table, name) == [Decimal(repr(value)) for value in rows[name]]
    ends = [
        (time + timedelta(minutes=1) - EPOCH) // timedelta(microseconds=1) * 1000
        for time in rows["open_time"]
    ]
    assert table["ts_event"].to_pylist() == table["ts_init"].to_pylist() == ends
    told = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    for names, which in ((VALUES[:4], "price"), (VALUES[4:], "size")):
        places = int(told[f"{which}_precision"])
        for name in names:
            for value in rows[name]:
                assert round(Decimal(repr(value)), places) == Decimal(repr(value)), "no digit is beyond it"
    assert files == list(Nautilus().files(series(rows))), "the same bytes"


def test_the_schema_of_bars_is_the_declared_one() -> None:
    bars, instrument = Nautilus().files(series(candles(minutes("2024-01-01", 3))))
    assert bars.path == (
        "data/bar/BTCUSDT.BINANCE-1-MINUTE-LAST-EXTERNAL/"
        "2024-01-01T00-01-00-000000000Z_2024-01-01T00-03-00-000000000Z.parquet"
    )
    schema = table_of(bars).schema
    fields = [(field.name, str(field.type), field.nullable) for field in schema]
    assert fields == [
        *((name, "fixed_size_binary[16]", False) for name in VALUES),
        *((name, "uint64", False) for name in ("ts_event", "ts_init")),
    ]
    assert schema.metadata == {
        b"bar_type": b"BTCUSDT.BINANCE-1-MINUTE-LAST-EXTERNAL",
        b"instrument_id": b"BTCUSDT.BINANCE",
        b"price_precision": b"2",
        b"size_precision": b"3",
    }
    assert instrument.path == (
        "data/currency_pair/BTCUSDT.BINANCE/"
        "2024-01-01T00-00-00-000000000Z_2024-01-01T00-00-00-000000000Z.parquet"
    )


def test_an_instrument_says_what_the_lake_knows_and_no_more() -> None:
    *_, file = Nautilus().files(series(candles(minutes("2024-01-01", 1), close=100.125, high=103.0)))
    (row,) = table_of(file).to_pylist()
    known = {
        "id": "BTCUSDT.BINANCE",
        "raw_symbol": "BTCUSDT",
        "base_currency": "BTC",
        "quote_currency": "USDT",
        "price_precision": 3,
        "size_precision": 3,
        "price_increment": "0.010",
        "size_increment": "0.001",
        "multiplier": "1",
        "info": b"null",
    }
    assert known.items() <= row.items(), "as many places as the values need, and the step that was stated"
    assert all(row[name] is None for name in row if name.startswith(("max_", "min_", "lot_")))
    assert {row[name] for name in ("margin_init", "margin_maint", "maker_fee", "taker_fee")} == {"0"}
    assert "Fees and margins are not in the lake" in Nautilus().remarks(series(candles([])))[0]


def test_an_inverse_market_counts_contracts() -> None:
    rows = candles(minutes("2024-01-01", 2), volume=0.1, contracts=[4242.0, 7.0])
    bars, instrument = Nautilus().files(series(rows, COIN))
    assert "/BTCUSD-PERP.BINANCE-1-MINUTE" in bars.path
    assert decoded(table_of(bars), "volume") == [4242, 7]
    (row,) = table_of(instrument).to_pylist()
    told = {"is_inverse": True, "multiplier": "100", "settlement_currency": "BTC", "size_precision": 0}
    assert told.items() <= row.items()
    with pytest.raises(NotOfTargetError, match="size of its contract"):
        Nautilus().symbol(series(rows, COIN, known=listing(COIN, contract_size=None)))


def test_funding_has_its_rate_as_json_and_its_interval_in_minutes() -> None:
    paid = rates([0.0001, -1e-8])
    *_, file = Nautilus().files(series(candles(minutes("2024-01-01", 1)), LINEAR, funding=paid))
    assert file.path == (
        "data/funding_rate_update/BTCUSDT-PERP.BINANCE/"
        "2024-01-01T00-00-00-000000000Z_2024-01-01T08-00-00-000000000Z.parquet"
    )
    table = table_of(file)
    assert [Decimal(json.loads(rate)) for rate in table["rate"].to_pylist()] == [
        Decimal("0.0001"),
        Decimal("-0.00000001"),
    ]
    assert table["interval"].to_pylist() == [480, 480]
    assert table["next_funding_ns"].to_pylist() == [None, None]
    unknown = paid.with_columns(interval_hours=pl.lit(None, pl.Int32))
    *_, file = Nautilus().files(series(candles(minutes("2024-01-01", 1)), LINEAR, funding=unknown))
    assert table_of(file)["interval"].to_pylist() == [None, None]


def test_nothing_is_told_before_it_could_have_been_known() -> None:
    rows = candles([*minutes("2024-01-01", 4), at("2024-01-01T00:04:30"), *minutes("2024-01-01T00:06", 4)])
    fives = resample(rows, FIVE)
    bars, *_ = Nautilus().files(series(fives, interval=FIVE))
    ends = fives["knowable_at"].to_list()
    assert ends == [at("2024-01-01T00:05:30"), at("2024-01-01T00:10")], "a minute opened late"
    assert times(table_of(bars), "ts_init") == times(table_of(bars), "ts_event") == ends
    late = timedelta(milliseconds=7)
    paid = rates([0.1, 0.2]).with_columns(
        pl.col("published_time") + late, interval_source=pl.Series(["after", "stated"])
    )
    *_, file = Nautilus().files(series(rows, LINEAR, funding=paid))
    settled = minutes("2024-01-01", 2, 480)
    assert times(table_of(file), "ts_event") == settled
    assert times(table_of(file), "ts_init") == [time + late for time in settled], "as published"
    assert table_of(file)["interval"].to_pylist() == [None, 480], "the first one's was told by the second"
    assert file.path.endswith("/2024-01-01T00-00-00-007000000Z_2024-01-01T08-00-00-007000000Z.parquet")


@pytest.mark.parametrize(
    ("market", "name"),
    [
        (BTC, "BTCUSDT.BINANCE"),
        (LINEAR, "BTCUSDT-PERP.BINANCE"),
        (COIN, "BTCUSD-PERP.BINANCE"),
        (Market("bybit", "spot", "BTCUSDT"), "BTCUSDT-SPOT.BYBIT"),
        (Market("bybit", "linear", "BTCUSDT"), "BTCUSDT-LINEAR.BYBIT"),
        (Market("bybit", "inverse", "BTCUSD"), "BTCUSD-INVERSE.BYBIT"),
    ],
    ids=str,
)
def test_symbols_are_those_of_its_adapters(market: Market, name: str) -> None:
    assert Nautilus().symbol(series(candles([]), market)) == name


def test_every_interval_is_one_that_it_knows() -> None:
    rows = candles(minutes("2024-01-01", 1))
    kinds = [next(Nautilus().files(series(rows, interval=each))).path.split("/")[2] for each in INTERVALS]
    assert [kind.split("-", 1)[1].removesuffix("-LAST-EXTERNAL") for kind in kinds] == [
        *("1-MINUTE", "5-MINUTE", "15-MINUTE", "1-HOUR", "4-HOUR", "1-DAY")
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"volume": 34_028_236_692_094.0}, "34028236692093 at most"),
        ({"high": 17_014_118_346_047.0}, "17014118346046 at most"),
        ({"low": 1e-17}, "16 digits behind the point"),
    ],
)
def test_a_value_that_its_numbers_do_not_hold_is_refused(changed: dict[str, float], said: str) -> None:
    with pytest.raises(BeyondTargetError, match=said):
        list(Nautilus().files(series(candles(minutes("2024-01-01", 1), **changed))))


def test_a_market_that_it_cannot_be_told_of_is_refused() -> None:
    rows = candles(minutes("2024-01-01", 1))
    with pytest.raises(ExportNameError):
        list(Nautilus().files(series(rows, known=listing(BTC, base=None))))
    dated = listing(LINEAR, terms=Terms(contract_type=DELIVERY))
    with pytest.raises(NotOfTargetError, match="delivered"):
        Nautilus().symbol(series(rows, LINEAR, known=dated))


def test_steps_that_nobody_stated_are_of_the_last_place() -> None:
    bare = listing(LINEAR, terms=Terms(contract_type=PERPETUAL))
    *_, file = Nautilus().files(series(candles(minutes("2024-01-01", 1), close=100.5), LINEAR, MINUTE, bare))
    (row,) = table_of(file).to_pylist()
    assert (row["price_increment"], row["size_increment"]) == ("0.1", "1")
