"""Candles recorded from exchanges at two intervals: good ones raise no doubt, halts are found where they
were, a mislabelled row does not win.
"""

import gzip
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import PRECEDENCE
from lakehouse.exchanges.binance.klines import parse_klines
from lakehouse.model.result import Asked, GapRun
from lakehouse.model.table import UTC_TIME
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.files.zips import extract_csv
from lakehouse.transform.doubt import days_in_doubt
from lakehouse.transform.gaps import find_gaps
from lakehouse.transform.reconcile import evidence
from lakehouse.transform.reconcile import reconcile as reconcile_by
from lakehouse.transform.resample import exact
from lakehouse.transform.witness import ROUNDING, TOTALS, judge, owners
from lakehouse_tests.making import MICRO, MINUTE, NOW, at, series

reconcile = partial(reconcile_by, precedence=PRECEDENCE)

DAY = timedelta(days=1)
KEY = ("open_time",)
OHLCV = ("open", "high", "low", "close", "volume")
STALE = at("2020-07-11")  # a daily candle that was still in progress when it was recorded
REST = (
    "open_time",
    *OHLCV,
    "close_time",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)


def body(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def frame(raw: pl.DataFrame, length: timedelta, micros: pl.Expr, last: pl.Expr | None = None) -> pl.DataFrame:
    """Text columns as candles; what the file does not have is null."""
    said = [
        pl.col(name).cast(pl.Int64 if name == "trade_count" else pl.Float64)
        if name in raw.columns
        else pl.lit(None, pl.Float64).alias(name)
        for name in (*OHLCV, *TOTALS[1:])
    ]
    opened = micros.cast(pl.Int64).cast(UTC_TIME)
    closes = last.cast(pl.Int64).cast(UTC_TIME) if last is not None else opened + length - MICRO
    return raw.select(opened.alias("open_time"), *said, closes.alias("close_time")).with_columns(
        pl.col("trade_count").cast(pl.Int64)
    )


def csv(path: Path, names: list[str] | None = None) -> pl.DataFrame:
    return pl.read_csv(body(path), has_header=names is None, new_columns=names, infer_schema=False)


def htm(folder: Path, length: timedelta) -> pl.DataFrame:
    raw = csv(
        folder / "hackingthemarkets_rest" / ("daily_2020.csv" if length == DAY else "2020_15minutes.csv.gz"),
        [*REST, "ignore"],
    )
    return frame(
        raw,
        length,
        pl.col("open_time").cast(pl.Float64) * 1e6,
        pl.col("close_time").cast(pl.Int64) * 1000 + 999,
    )


def novandra(folder: Path, name: str) -> pl.DataFrame:
    """In the order of the file, duplicates as they are."""
    raw = csv(folder / "novandra_rest_4h_1d" / f"BTCUSDT_{name}_2018-2021.csv.gz").rename(str.strip)
    raw = raw.rename(dict(zip(raw.columns[:11], REST, strict=True)))
    micros, last = (
        pl.col(column)
        .str.slice(0, 26)
        .str.strip_chars()
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.6f")
        .dt.epoch("us")
        for column in ("open_time", "close_time")
    )
    return frame(raw, timedelta(hours=4) if name == "4h" else DAY, micros, last + 999)


def recorded(folder: Path) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame, timedelta]]:
    """Every pair of a fine and a coarse recording of the same market: name, both, length of a coarse
    candle.
    """
    for fine, coarse in ((1, 3), (1, 5), (3, 15), (5, 15), (5, 30), (15, 30), (15, 60), (30, 60)):
        octobot = {
            n: frame(
                csv(folder / "octobot_ethbtc_multi_tf" / f"ETHBTC-{n}m.csv".replace("60m", "1h")),
                n * MINUTE,
                pl.col("open_time_s").cast(pl.Int64) * 1_000_000,
            )
            for n in (fine, coarse)
        }
        # the last one was still in progress
        yield f"octobot {fine} {coarse}", octobot[fine], octobot[coarse].head(-1), coarse * MINUTE
    for symbol in ("BTCUSDT", "DOGEUSDT"):
        opened = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%:z", time_unit="us").dt.epoch("us")
        bybit = {
            n: frame(csv(folder / "bybit_linear_rest" / f"{symbol}_{n}m.csv.gz"), n * MINUTE, opened)
            for n in (1, 5, 15, 30, 60, 240)
        }
        for fine, coarse in ((1, 5), (1, 15), (1, 30), (1, 60), (1, 240), (5, 15), (60, 240)):
            yield f"bybit {symbol} {fine} {coarse}", bybit[fine], bybit[coarse], coarse * MINUTE
    kraken = {
        n: frame(
            csv(folder / "iaqf_kraken_binanceus" / f"kraken_XBTUSD_{n}.csv.gz", ["s", *OHLCV, "trade_count"]),
            n * MINUTE,
            pl.col("s").cast(pl.Int64) * 1_000_000,
        )
        for n in (5, 15, 60, 720, 1440)
    }
    for fine, coarse in ((5, 15), (5, 60), (15, 60), (60, 720), (720, 1440), (5, 1440)):
        yield f"kraken {fine} {coarse}", kraken[fine], kraken[coarse], coarse * MINUTE
    spot = folder / "binance_archive/data/spot/daily/klines/BTCUSDT/1m"
    days = [
        parse_klines(path.name, extract_csv(path.name, path.read_bytes()), "spot")
        for path in sorted(spot.glob("*.zip"))
    ]
    minutes, quarters, whole = pl.concat(days), htm(folder, 15 * MINUTE), htm(folder, DAY)
    yield "archive 1 15", minutes, quarters, 15 * MINUTE
    yield "archive 1 1440", minutes, whole, DAY
    yield "rest 15 1440", quarters, whole, DAY
    yield "novandra 15 240", quarters, novandra(folder, "4h"), 240 * MINUTE
    # the genuine rows come last
    yield (
        "novandra 240 1440",
        novandra(folder, "4h").unique("open_time", keep="last"),
        novandra(folder, "1d"),
        DAY,
    )
    yield "rest 15 1440 of another recording", quarters, novandra(folder, "1d"), DAY


@pytest.fixture(scope="module")
def pairs(real_data: Path) -> list[tuple[str, pl.DataFrame, pl.DataFrame, timedelta]]:
    whole = []
    for name, fine, coarse, length in recorded(real_data):
        witness = coarse.filter(
            (pl.col("open_time") >= fine["open_time"].min())
            & (pl.col("open_time") + length <= fine["open_time"].max())
        )
        whole.append(
            (
                name,
                fine.filter(
                    owners(fine["open_time"], witness["open_time"], length).is_in(
                        witness["open_time"].implode()
                    )
                ),
                witness,
                length,
            )
        )
    return whole


def test_every_good_pair_agrees_in_every_candle(
    pairs: list[tuple[str, pl.DataFrame, pl.DataFrame, timedelta]],
) -> None:
    compared = 0
    for name, fine, witness, length in pairs:
        verdict = judge(fine, witness, length).filter(pl.col("open_time") != STALE)
        assert verdict["agrees"].eq_missing(True).all(), (name, verdict.filter(~pl.col("agrees")))
        compared += verdict.height
    assert compared > 50_000


def test_a_missing_row_is_seen_in_every_pair(
    pairs: list[tuple[str, pl.DataFrame, pl.DataFrame, timedelta]],
) -> None:
    """Also where nothing counts trades: the smallest traded row of each recording is more than what rounding
    hides.
    """
    for name, fine, witness, length in pairs:
        smallest = fine.filter(pl.col("volume") > 0).bottom_k(1, by="volume")
        (torn,) = (
            judge(fine.join(smallest, on="open_time", how="anti"), witness, length)
            .filter(~pl.col("agrees") & (pl.col("open_time") != STALE))
            .iter_rows(named=True)
        )
        assert torn["open_time"] <= smallest["open_time"][0] < torn["open_time"] + length, name
        assert "volume" in torn["differs"], name


def test_the_tolerance_is_needed_and_no_wider_than_it_must_be(
    pairs: list[tuple[str, pl.DataFrame, pl.DataFrame, timedelta]],
) -> None:
    """Coarse quote volumes have more digits than Float64 holds: some differ in their last bits, none by a
    sixteenth digit's worth more.
    """
    worst = 0.0
    for _, fine, witness, length in pairs:
        if witness["quote_volume"].null_count():
            continue
        groups = fine.sort("open_time").group_by(
            owners(fine.sort("open_time")["open_time"], witness["open_time"], length), maintain_order=True
        )
        both = (
            groups.agg(exact(pl.col("quote_volume")).sum().cast(pl.Float64).alias("ours"))
            .join(witness, left_on="owner", right_on="open_time")
            .filter(pl.col("owner") != STALE)
        )
        worst = max(
            worst,
            both.select(
                ((pl.col("ours") - pl.col("quote_volume")).abs() / pl.col("quote_volume")).max()
            ).item(),
        )
    assert ROUNDING / 2 < worst < ROUNDING


def test_days_of_good_recordings_are_not_in_doubt(
    pairs: list[tuple[str, pl.DataFrame, pl.DataFrame, timedelta]],
) -> None:
    step = {
        "bybit BTCUSDT 1 60": MINUTE,
        "bybit DOGEUSDT 1 60": MINUTE,
        "bybit DOGEUSDT 5 15": 5 * MINUTE,
        "archive 1 15": MINUTE,
    }
    assert step.keys() <= {name for name, *_ in pairs}
    for name, fine, witness, length in pairs:
        if name in step:
            days = (
                fine["open_time"]
                .dt.truncate("1d")
                .value_counts()
                .filter(pl.col("count") == DAY // step[name])["open_time"]
            )
            whole = fine.filter(pl.col("open_time").dt.truncate("1d").is_in(days.implode()))
            window = TimeRange(days.min(), days.max() + DAY)  # type: ignore[arg-type, operator]
            assert (
                days_in_doubt(
                    whole,
                    window,
                    step[name],
                    series([]),
                    witness=witness.filter(
                        pl.col("open_time").is_between(window.start, window.end, closed="left")
                    ),
                    length=length,
                )
                == {}
            )
            off = whole.with_columns(
                pl.when(pl.int_range(pl.len()) == 700)
                .then(pl.col("volume") + 0.001)
                .otherwise(pl.col("volume"))
                .alias("volume")
            )
            assert [
                doubt.kind
                for doubt in days_in_doubt(
                    off, window, step[name], series([]), witness=witness, length=length
                ).values()
                if doubt.kind == "witness"
            ] == ["witness"]


# --- halts ----------------------------------------------------------------------------------------


def halts(rows: pl.DataFrame, step: timedelta) -> list[tuple[datetime, datetime, int, datetime | None]]:
    """Halts in a recording that was asked for as a whole and confirmed hour by hour: start, end, candles,
    when trading stopped.
    """
    window = TimeRange(rows["open_time"].min(), rows["open_time"].max() + step)  # type: ignore[arg-type, operator]
    asked = Asked(window.start, window.end, NOW, "rows")
    truncated = rows.filter(pl.col("close_time") < pl.col("open_time") + step - MICRO)
    confirmed = pl.datetime_range(
        window.start, window.end, timedelta(hours=1), time_unit="us", eager=True
    ).cast(UTC_TIME)
    runs = find_gaps(
        rows["open_time"],
        window,
        step,
        window.end,
        asked=[asked],
        api_times=rows["open_time"],
        truncated=truncated,
        confirmed=confirmed,
    )
    assert {run.gap_class for run in runs} <= {"halt"}
    return [(run.start, run.end, run.slot_count, run.halted_at) for run in runs]


def test_the_halts_of_2020_are_found_at_their_instants(real_data: Path) -> None:
    rows = htm(real_data, 15 * MINUTE)
    assert halts(rows, 15 * MINUTE) == [
        (at("2020-02-09T02:00"), at("2020-02-09T03:00"), 4, None),
        (at("2020-02-19T11:45"), at("2020-02-19T17:30"), 23, at("2020-02-19T11:35:32.287")),
        (at("2020-03-04T09:30"), at("2020-03-04T11:30"), 8, at("2020-03-04T09:21:46.695")),
        (at("2020-04-25T02:00"), at("2020-04-25T04:30"), 10, None),
        (at("2020-06-28T02:00"), at("2020-06-28T05:30"), 14, None),
    ]
    window = TimeRange(at("2020-01-01"), at("2020-07-11"))
    doubted = days_in_doubt(rows, window, 15 * MINUTE, series([]), witness=htm(real_data, DAY), length=DAY)
    assert list(doubted) == ["2020-02-09", "2020-02-19", "2020-03-04", "2020-04-25", "2020-06-28"]
    assert {doubt.kind for doubt in doubted.values()} == {"short"}, (
        "no trade is missing, and still a halt is proven by asking only"
    )
    assert days_in_doubt(rows, window, 15 * MINUTE, series([])).keys() == doubted.keys()


def test_the_halt_of_2023_began_where_the_last_candle_was_cut(real_data: Path) -> None:
    rows = parse_klines("k", (real_data / "intabyu_spot_1h" / "BTCUSDT-1h-2023-03.csv").read_bytes(), "spot")
    assert halts(rows, 60 * MINUTE) == [
        (at("2023-03-24T13:00"), at("2023-03-24T14:00"), 1, at("2023-03-24T12:39:41.647"))
    ]
    unasked = find_gaps(
        rows["open_time"], TimeRange(at("2023-03-01"), at("2023-04-01")), 60 * MINUTE, at("2023-04-01")
    )
    assert unasked == (GapRun("absent", at("2023-03-24T13:00"), at("2023-03-24T14:00"), 1),)


# --- rows of 2025 filed under 2018 ----------------------------------------------------------------


def stated(rows: pl.DataFrame, source: str) -> pl.DataFrame:
    lineage = {"source": source, "source_file": f"{source}.csv", "source_sha256": "a", "is_removed": False}
    return rows.with_columns(
        pl.lit(NOW).cast(UTC_TIME).alias("fetched_at"),
        **{name: pl.lit(value) for name, value in lineage.items()},
    )


def test_mislabelled_rows_are_a_conflict_that_the_day_decides(real_data: Path) -> None:
    """Two candles of 2025-07-06 stand under 2018-07-06, beside the genuine ones and in the same file."""
    four_hours, days = novandra(real_data, "4h"), novandra(real_data, "1d")
    assert four_hours["open_time"].is_duplicated().sum() == 4
    held = {"daily": stated(four_hours, "daily")}
    settled = reconcile(held, KEY, days, DAY)
    wrong = [at("2018-07-06"), at("2018-07-06T04:00")]
    assert settled.conflicts.select("open_time", "open", "rule", "is_served", "is_settled").sort(
        "open_time", "open"
    ).rows() == [
        (wrong[0], 6529.2, "witness", True, True),
        (wrong[0], 108700.0, "witness", False, True),
        (wrong[1], 6530.0, "witness", True, True),
        (wrong[1], 108888.0, "witness", False, True),
    ]
    assert (settled.rows.height, settled.unserved.height, settled.unsettled_count) == (
        four_hours.height - 2,
        0,
        0,
    )
    assert (
        evidence(
            settled.rows,
            {"monthly": settled.rows.with_columns(source=pl.lit("monthly"))},
            KEY,
            settled.judged,
        )
        == "rows_daily"
    )
    assert evidence(settled.rows.with_columns(source=pl.lit("monthly")), {}, KEY, settled.judged) == "totals"
    unwitnessed = reconcile(held, KEY)
    assert unwitnessed.unserved["open_time"].to_list() == [wrong[0], wrong[0], wrong[1], wrong[1]]

    genuine, mislabelled = (
        four_hours.unique("open_time", keep="last"),
        four_hours.filter(pl.col("open_time").is_in(wrong) & (pl.col("open") > 100_000)),
    )
    monthly = reconcile(
        {"monthly": stated(genuine, "monthly"), "daily": stated(mislabelled, "daily")}, KEY, days, DAY
    )
    assert set(monthly.conflicts.filter("is_served").select("source", "rule").rows()) == {
        ("monthly", "witness")
    }
    assert monthly.rows.select(genuine.columns).equals(settled.rows.select(genuine.columns))
