"""freqtrade: files held against recorded ones field by field, and the names that its own patterns read."""

import io
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from hypothesis import given

from lakehouse.export.freqtrade import Freqtrade
from lakehouse.export.target import Series
from lakehouse.model.errors import BeyondTargetError, ExportNameError, NotOfTargetError
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.terms import DELIVERY, Terms
from lakehouse_tests.export.series import LINEAR, drawn_rows, listing, rates, series
from lakehouse_tests.making import BTC, COIN, at, candles, minutes

NAMED = re.compile(r"^([\w-]+)\-(\d+[a-zA-Z]{1,2})\-?([a-zA-Z_]*)?(?=\.)")
"""`IDataHandler._OHLCV_REGEX`."""


def table_of(body: bytes) -> pa.Table:
    return feather.read_table(io.BytesIO(body))


@pytest.mark.parametrize(
    ("name", "market", "interval"),
    [
        ("XRP_ETH-1m.feather", Market("binance", "spot", "XRPETH"), "1m"),
        ("XRP_ETH-5m.feather", Market("binance", "spot", "XRPETH"), "5m"),
        ("futures__XRP_USDT_USDT-5m-futures.feather", Market("binance", "linear", "XRPUSDT"), "5m"),
    ],
)
def test_recorded_candles_come_out_as_they_are(
    real_data: Path, name: str, market: Market, interval: str
) -> None:
    recorded = feather.read_table(real_data / "freqtrade" / name)
    frame = pl.DataFrame(recorded).with_columns(pl.col("date").cast(pl.Datetime("us", "UTC")))
    values = {column: frame[column].to_list() for column in ("open", "high", "low", "close", "volume")}
    rows = candles(frame["date"].to_list(), **values)
    quote = market.symbol.removeprefix("XRP")
    settle = None if market.market_type == "spot" else quote
    known = listing(market, base="XRP", quote=quote, settle=settle)
    (file,) = Freqtrade().files(series(rows, market, Interval.parse(interval), known))
    assert file.path == f"binance/{name.replace('__', '/')}"
    written = table_of(file.body)
    assert written.schema.equals(recorded.schema, check_metadata=False)
    assert written.equals(recorded)
    assert file.rows == recorded.num_rows


def test_recorded_funding_has_the_fields_of_ours(real_data: Path) -> None:
    recorded = feather.read_table(real_data / "freqtrade" / "futures__XRP_USDT_USDT-8h-funding_rate.feather")
    paid = rates(recorded["open"].to_pylist(), "2021-11-18")
    *_, file = Freqtrade().files(series(candles(minutes("2021-11-18", 1)), LINEAR, funding=paid))
    written = table_of(file.body)
    assert written.schema.equals(recorded.schema, check_metadata=False)
    assert written.drop(["date"]).equals(recorded.drop(["date"]))
    late = pl.DataFrame(recorded)["date"].cast(pl.Datetime("us", "UTC")).dt.round("1m")
    assert late.to_list() == paid["funding_time"].to_list(), "the settlement's minute, without its moments"


@given(drawn_rows())
def test_what_is_written_reads_as_what_was_there(rows: pl.DataFrame) -> None:
    (file,) = Freqtrade().files(series(rows))
    read = pl.DataFrame(table_of(file.body))
    assert read["date"].cast(pl.Datetime("us", "UTC")).to_list() == rows["open_time"].to_list()
    assert read.drop("date").equals(rows.select("open", "high", "low", "close", "volume"))
    assert file.body == next(Freqtrade().files(series(rows))).body, "the same bytes"


@pytest.mark.parametrize(
    ("market", "names"),
    [
        (BTC, ["binance/BTC_USDT-1h.feather"]),
        (
            LINEAR,
            [
                "binance/futures/BTC_USDT_USDT-1h-futures.feather",
                "binance/futures/BTC_USDT_USDT-1h-mark.feather",
                "binance/futures/BTC_USDT_USDT-1h-funding_rate.feather",
            ],
        ),
    ],
    ids=str,
)
def test_names_are_those_that_it_looks_for(market: Market, names: list[str]) -> None:
    hourly = candles(minutes("2024-01-01", 3, 60)).with_columns(is_filled=pl.lit(False))
    is_spot = market.market_type == "spot"
    whole = Series(
        market,
        listing(market),
        None,
        {Interval.parse("1h"): hourly},
        None if is_spot else rates([0.0001, -0.0002]),
        None if is_spot else hourly,
    )
    files = list(Freqtrade().files(whole))
    assert [file.path for file in files] == names
    for file in files:
        found = NAMED.match(file.path.rsplit("/", 1)[1])
        assert found
        pair = found[1].replace("_", "/", 1).replace("_", ":", 1)  # rebuild_pair_from_filename
        assert pair == whole.currencies("freqtrade").unified
    remarks = " ".join(Freqtrade().remarks(whole))
    assert "adds a flat candle" in remarks
    assert "mark prices" not in remarks
    assert is_spot or "mark prices" in " ".join(Freqtrade().remarks(series(hourly, market)))


def test_markets_that_it_does_not_trade_are_refused() -> None:
    rows = candles(minutes("2024-01-01", 1))
    with pytest.raises(NotOfTargetError, match="linear perpetuals alone"):
        Freqtrade().symbol(series(rows, COIN))
    dated = listing(LINEAR, terms=Terms(contract_type=DELIVERY))
    with pytest.raises(NotOfTargetError, match="delivered"):
        Freqtrade().symbol(series(rows, LINEAR, known=dated))
    with pytest.raises(NotOfTargetError, match="delivered"):
        Freqtrade().symbol(series(rows, LINEAR, given="BTC/USDT:USDT-240329"))


def test_a_market_without_currencies_wants_its_name() -> None:
    rows = candles(minutes("2024-01-01", 1))
    unknown = listing(BTC, base=None, quote=None)
    with pytest.raises(ExportNameError, match=r"--name binance-spot:BTCUSDT=LUNA/USDT"):
        Freqtrade().symbol(series(rows, known=unknown))
    (file,) = Freqtrade().files(series(rows, known=unknown, given="XBT/USDT"))
    assert file.path == "binance/XBT_USDT-1m.feather"
    for wrong in ("XBTUSDT", "XBT/USDT:USDT", "binance:XBT/USDT", ""):
        with pytest.raises(ExportNameError, match="no unified symbol of its type"):
            Freqtrade().symbol(series(rows, known=unknown, given=wrong))
    with pytest.raises(ExportNameError):
        Freqtrade().symbol(series(rows, LINEAR, given="XBT/USDT"))
    with pytest.raises(ExportNameError):
        Freqtrade().symbol(series(rows, LINEAR, known=listing(LINEAR, settle=None)))


def test_an_instant_finer_than_it_keeps_is_refused() -> None:
    kept = [at("2024-01-01T00:00:00.123"), at("2024-01-01T00:01")]
    (file,) = Freqtrade().files(series(candles(kept)))
    assert pl.DataFrame(table_of(file.body))["date"].dt.convert_time_zone("UTC").to_list() == kept
    with pytest.raises(BeyondTargetError, match="whole milliseconds"):
        list(Freqtrade().files(series(candles([at("2024-01-01T00:00:00.123456")]))))
