"""LEAN: files held against recorded ones byte for byte, and read as its own reader reads."""

import io
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given

from lakehouse.export.lean import Lean
from lakehouse.export.target import File, Series
from lakehouse.model.errors import BeyondTargetError, NotOfTargetError
from lakehouse.model.interval import MINUTE, Interval
from lakehouse.model.market import Market
from lakehouse.model.terms import DELIVERY, Terms
from lakehouse_tests.export import lean_reader
from lakehouse_tests.export.series import LINEAR, drawn_rows, listing, rates, series
from lakehouse_tests.making import BTC, COIN, at, candles, minutes
from lakehouse_tests.making import MINUTE as A_MINUTE

RECORDED = {
    "crypto__bybit__minute__btcusdt__20221213_trade.zip": (Market("bybit", "spot", "BTCUSDT"), "1m"),
    "cryptofuture__binance__minute__adausdt__20221213_trade.zip": (
        Market("binance", "linear", "ADAUSDT"),
        "1m",
    ),
    "cryptofuture__bybit__minute__btcusdt__20221213_trade.zip": (Market("bybit", "linear", "BTCUSDT"), "1m"),
    "cryptofuture__binance__hour__adausdt_trade.zip": (Market("binance", "linear", "ADAUSDT"), "1h"),
    "cryptofuture__binance__daily__adausdt_trade.zip": (Market("binance", "linear", "ADAUSDT"), "1d"),
}
DAY = date(2022, 12, 13)


def member(body: bytes) -> tuple[str, bytes]:
    """The one member of a zip."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        (name,) = archive.namelist()
        return name, archive.read(name)


def read(files: list[File], day: date | None = None) -> list[tuple[object, ...]]:
    return [
        (at, *values)
        for file in files
        if file.path.endswith(".zip")
        for at, values in lean_reader.bars(
            member(file.body)[1], day and date.fromisoformat(file.path.rsplit("/", 1)[1][:8])
        )
    ]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_file_comes_out_as_it_is(real_data: Path, name: str) -> None:
    market, interval = RECORDED[name]
    length = {"1m": "minute", "1h": "hour", "1d": "daily"}[interval]
    recorded = real_data.joinpath("quantconnect_lean", name).read_bytes()
    inner, text = member(recorded)
    told = lean_reader.bars(text, DAY if interval == "1m" else None)
    columns = {
        column: [float(values[place]) for _, values in told]
        for place, column in enumerate(("open", "high", "low", "close", "volume"))
    }
    rows = candles([at for at, _ in told], **columns)
    base = market.symbol.removesuffix("USDT")
    (file,) = Lean().files(series(rows, market, Interval.parse(interval), listing(market, base=base)))
    path = name.replace("__", "/")
    own, written = member(file.body)
    assert (file.path, own) == (path, inner)
    assert written == text
    assert (file.path, own) == lean_reader.place_of(
        market.market_type == "spot",
        market.exchange,
        market.symbol.lower(),
        length,
        DAY if interval == "1m" else None,
    )


def test_recorded_funding_comes_out_as_it_is(real_data: Path) -> None:
    market = Market("bybit", "linear", "BTCUSDT")
    name = "cryptofuture__bybit__margin_interest__btcusdt.csv"
    text = real_data.joinpath("quantconnect_lean", name).read_bytes()
    told = lean_reader.interest(text)
    paid = rates([float(rate) for _, rate in told]).with_columns(
        pl.Series("funding_time", [when for when, _ in told], dtype=pl.Datetime("us", "UTC"))
    )
    *_, file = Lean().files(series(candles(minutes("2022-12-13", 1)), market, funding=paid))
    assert file.path == name.replace("__", "/")
    assert lean_reader.interest(file.body) == told
    assert file.body.splitlines()[0] == text.splitlines()[0]


@given(drawn_rows())
def test_its_reader_reads_the_very_values(rows: pl.DataFrame) -> None:
    files = list(Lean().files(series(rows)))
    told = [
        (row["open_time"], *(Decimal(repr(row[name])) for name in ("open", "high", "low", "close", "volume")))
        for row in rows.iter_rows(named=True)
    ]
    assert read(files, DAY) == told
    assert files == list(Lean().files(series(rows))), "the same bytes"
    assert [file.path for file in files] == sorted(
        {f"crypto/binance/minute/btcusdt/{when:%Y%m%d}_trade.zip" for when in rows["open_time"]}
    )


def test_an_inverse_market_has_the_size_of_its_contracts_and_no_suffix() -> None:
    rows = candles(minutes("2024-02-28", 3), volume=0.1, contracts=[4242.0, 17069.0, 0.0])
    (file,) = Lean().files(series(rows, COIN))
    assert file.path == "cryptofuture/binance/minute/btcusd/20240228_trade.zip"
    assert [values[-1] for _, values in lean_reader.bars(member(file.body)[1], date(2024, 2, 28))] == [
        4242,
        17069,
        0,
    ]


def test_spot_and_linear_of_one_symbol_have_files_of_their_own() -> None:
    rows = candles(minutes("2024-02-28", 3))
    spot, linear = ({file.path for file in Lean().files(series(rows, market))} for market in (BTC, LINEAR))
    assert not spot & linear


def test_the_longest_number_of_a_float_is_read_as_it_is() -> None:
    (file,) = Lean().files(series(candles(minutes("2024-02-28", 2), volume=12_345_678_901_234_567.0)))
    read_back = {values[-1] for _, values in lean_reader.bars(member(file.body)[1], date(2024, 2, 28))}
    assert read_back == {Decimal("12345678901234568")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"volume": 1e20}, "18 digits at most"), ({"open": 1e-29, "low": 1e-29}, "28 behind the point")],
)
def test_what_its_reader_would_misread_is_refused(changed: dict[str, float], said: str) -> None:
    with pytest.raises(BeyondTargetError, match=said):
        list(Lean().files(series(candles(minutes("2024-02-28", 2), **changed))))


def test_its_reader_misreads_what_is_refused() -> None:
    assert lean_reader.decimal_of("100000000000000000000") == Decimal(10**20 % 2**64)
    assert lean_reader.decimal_of("1e-8") != Decimal("1e-8")
    with pytest.raises(AssertionError, match="takes no more"):
        lean_reader.decimal_of(f"0.{'0' * 28}1")


def test_an_instant_that_it_cannot_say_is_refused_and_one_off_the_minute_is_kept() -> None:
    off = [at("2024-02-28T00:00") + A_MINUTE / 2, at("2024-02-28T00:02")]
    (file,) = Lean().files(series(candles(off)))
    assert [when for when, _ in lean_reader.bars(member(file.body)[1], date(2024, 2, 28))] == off
    fine = [at("2024-02-28T00:00:00.000001")]
    with pytest.raises(BeyondTargetError, match="whole milliseconds"):
        list(Lean().files(series(candles(fine))))


def test_a_contract_that_is_delivered_is_refused_and_one_of_unknown_kind_is_said_to_be() -> None:
    dated = listing(LINEAR, terms=Terms(contract_type=DELIVERY))
    with pytest.raises(NotOfTargetError, match="delivered"):
        Lean().symbol(series(candles(minutes("2024-02-28", 1)), LINEAR, MINUTE, dated))
    unknown = Series(LINEAR, None, None, {})
    assert Lean().symbol(unknown) == "BTCUSDT"
    assert not unknown.is_stated_perpetual
