"""Files recorded from the exchange, byte for byte: parsed, refined and resampled they equal what its REST API
said.
"""

import gzip
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle, CandleArchive, doubt, refine
from lakehouse.datasets.dataset import BronzeCell
from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.klines import parse_klines
from lakehouse.model.cell import Cell
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.result import CellFacts
from lakehouse.model.table import UTC_TIME
from lakehouse.simulator import Simulator
from lakehouse.sources.files.proofs import check_period, verify_checksum
from lakehouse.sources.files.zips import extract_csv
from lakehouse.storage.objects import LakeObjects
from lakehouse.transform.resample import resample
from lakehouse_tests.making import BTC, MICRO, MINUTE, NOW, at, facts

from .conftest import Reading, fetched

JANUARY = Cell("2020-01", BTC)
SHARED = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
REST_COLUMNS = (
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
    "ignore",
)


@pytest.fixture
def archive(real_data: Path) -> Path:
    return real_data / "binance_archive"


def rest_candles(body: bytes) -> pl.DataFrame:
    """Recorded REST rows: `open_time` in seconds, written as a decimal, `close_time` in milliseconds."""
    raw = pl.read_csv(body, has_header=False, new_columns=list(REST_COLUMNS), infer_schema=False)
    return raw.select(
        (pl.col("open_time").cast(pl.Float64).cast(pl.Int64) * 1_000_000).cast(UTC_TIME),
        *(pl.col(name).cast(pl.Int64 if name == "trade_count" else pl.Float64) for name in SHARED),
        (pl.col("close_time").cast(pl.Int64) * 1_000 + 999).cast(UTC_TIME),
    )


def silver(rows: pl.DataFrame, cell: Cell) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Refine rows of one file; the served and the rejected ones."""
    lineage = {"source": "monthly", "source_file": "x", "source_sha256": "x", "is_removed": False}
    bronze = rows.with_columns(
        pl.lit(NOW).cast(UTC_TIME).alias("fetched_at"),
        **{name: pl.lit(value) for name, value in lineage.items()},
    )
    result = refine(
        {CandleArchive.name: BronzeCell(bronze, "v", CellFacts(asked_until=cell.window.end))},
        cell,
        facts(cell.own_market),
    )
    assert result.rejected is not None
    return Candle.conform(result.rows, cell), result.rejected


def test_two_recorded_days_make_the_coarse_candles_of_the_api(
    objects: LakeObjects, archive: Path, real_data: Path
) -> None:
    """From listing to resampling: zips as published, against what REST answered for the same days, in every
    column.
    """
    reading = Reading(objects)
    with Simulator(markets=(), now=NOW, files=archive) as sim:
        record = reading.ingest(sim, JANUARY)
        assert record is not None
        assert len(fetched(sim)) == 4
    assert (record.rows, record.facts.problems, record.reject_count) == (2880, (), 0)
    fine = reading.refine(JANUARY, facts(listed="2020-01-01")).rows
    assert (fine.height, fine["open_time"].min(), fine["open_time"].max()) == (
        2880,
        at("2020-01-01"),
        at("2020-01-02T23:59"),
    )

    folder = real_data / "hackingthemarkets_rest"
    recorded = {
        "15m": gzip.decompress((folder / "2020_15minutes.csv.gz").read_bytes()),
        "1d": (folder / "daily_2020.csv").read_bytes(),
    }
    for interval, body in recorded.items():
        theirs = rest_candles(body).filter(pl.col("open_time") < at("2020-01-03"))
        ours = resample(fine, Interval.parse(interval))
        assert ours.height == theirs.height == {"15m": 192, "1d": 2}[interval]
        assert ours.select(theirs.columns).equals(theirs), interval
        assert set(ours["candle_count"]) == {Interval.parse(interval).minutes}


@pytest.mark.parametrize(
    ("symbol", "month", "count", "quiet"),
    [
        ("LTCUSDT", "2026-02", 40320, None),
        ("NEARUSDT", "2024-02", 41760, None),
        ("NEARUSDT", "2025-02", 40320, None),
    ],
)
def test_recorded_futures_months_are_whole_and_break_no_rule(
    real_data: Path, symbol: str, month: str, count: int, quiet: int | None
) -> None:
    cell = Cell(month, Market("binance", "linear", symbol))
    key = Binance("http://x").files[CandleArchive.name].key(cell.own_market, Period.parse(month))
    rows = parse_klines(
        key,
        gzip.decompress((real_data / "isda_um_1m" / f"{symbol}-1m-{month}.csv.gz").read_bytes()),
        "linear",
    )
    check_period(key, Period.parse(month), rows, "open_time")
    assert doubt(rows, cell, facts(cell.own_market)) == {}
    served, rejected = silver(rows, cell)
    assert (served.height, rejected.height) == (count, 0)
    assert set(served.select("is_truncated", "is_misaligned").rows()) == {(False, False)}
    untraded = served.filter(trade_count=0)
    assert untraded.filter((pl.col("volume") != 0) | (pl.col("high") != pl.col("low"))).height == 0
    assert served.filter(pl.col("volume") == 0).height == untraded.height
    day = resample(served, Interval.parse("1d"))
    assert (day.height, day["candle_count"].unique().to_list(), day["trade_count"].sum()) == (
        count // 1440,
        [1440],
        served["trade_count"].sum(),
    )


def test_a_recorded_quiet_minute_is_served(real_data: Path) -> None:
    rows = parse_klines(
        "k", (real_data / "nautilus_trader" / "ADABTC-1m-2021-11-27.csv").read_bytes(), "spot"
    )
    served, rejected = silver(rows, Cell("2021-11", Market("binance", "spot", "ADABTC")))
    (quiet,) = served.filter(trade_count=0).iter_rows(named=True)
    assert (served.height, rejected.height) == (1440, 0)
    assert quiet["open"] == quiet["high"] == quiet["low"] == quiet["close"] > 0
    assert (quiet["volume"], quiet["quote_volume"], quiet["taker_buy_volume"]) == (0, 0, 0)


def test_a_recorded_halt_keeps_its_truncated_close(real_data: Path) -> None:
    """2023-03-24: trading stopped at 12:39:41.646, there is no candle for 13:00."""
    rows = parse_klines("k", (real_data / "intabyu_spot_1h" / "BTCUSDT-1h-2023-03.csv").read_bytes(), "spot")
    check_period("k", Period.parse("2023-03"), rows, "open_time")
    assert rows.height == 743
    hour = MINUTE * 60
    odd = rows.filter(pl.col("close_time") != pl.col("open_time") + hour - MICRO)
    assert odd.select("open_time", "close_time", "trade_count", "volume").rows() == [
        (at("2023-03-24T12:00"), at("2023-03-24T12:39:41.646999"), 0, 0.0)
    ]
    absent = [at("2023-03-01") + n * hour for n in range(744)]
    assert set(absent) - set(rows["open_time"]) == {at("2023-03-24T13:00")}


def test_a_recorded_file_in_microseconds(archive: Path) -> None:
    place = archive / "data/spot/daily/klines/BTCUSDT/1h"
    body, name = (place / "BTCUSDT-1h-2026-05-08.zip").read_bytes(), "BTCUSDT-1h-2026-05-08"
    csv = extract_csv(f"{name}.zip", body)
    assert len(csv.split(b",", 1)[0]) == 16
    rows = parse_klines(f"{name}.zip", csv, "spot")
    check_period(name, Period.parse("2026-05-08"), rows, "open_time")
    assert rows["open_time"].to_list() == [at("2026-05-08") + n * 60 * MINUTE for n in range(24)]
    assert set(rows.select(pl.col("close_time") - pl.col("open_time")).to_series()) == {60 * MINUTE - MICRO}


def test_every_recorded_checksum_verifies(archive: Path) -> None:
    import hashlib

    verified = 0
    for checksum in sorted(archive.rglob("*.CHECKSUM")):
        path = checksum.with_suffix("")
        if path.exists():
            verify_checksum(
                path.relative_to(archive).as_posix(),
                checksum.read_text(),
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            verified += 1
    assert verified == 5


def test_a_recorded_file_of_another_kind_is_not_mistaken_for_candles(archive: Path, real_data: Path) -> None:
    from lakehouse.model.errors import CsvHeaderError, CsvParseError

    place = archive / "data/futures/cm/daily/aggTrades/BTCUSD_PERP/BTCUSD_PERP-aggTrades-2026-05-08.zip"
    with pytest.raises(CsvHeaderError):
        parse_klines("k", extract_csv(place.name, place.read_bytes()), "inverse")
    with pytest.raises(CsvParseError):
        parse_klines(
            "k",
            (real_data / "archive_rows_transcribed" / "spot_trades_2026-07-24_noheader.csv").read_bytes(),
            "spot",
        )
    with pytest.raises(CsvParseError):
        parse_klines("k", (real_data / "hackingthemarkets_rest" / "daily_2020.csv").read_bytes(), "spot")


def test_files_and_generated_markets_live_side_by_side(objects: LakeObjects, archive: Path) -> None:
    reading = Reading(objects)
    with Simulator(now=at("2026-05-20"), files=archive) as sim:
        assert len(reading.listing(sim, JANUARY, at("2026-05-20")).files) == 2
        generated = reading.ingest(
            sim, Cell("2024-02", Market("binance", "spot", "ETHUSDT")), at("2026-05-20")
        )
    assert generated is not None
    assert generated.rows == 29 * 1440
