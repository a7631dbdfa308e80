"""The SDK: what was asked for, from the files that can hold it, by SDK and SQL alike."""

import warnings
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

import lakehouse
from lakehouse.datasets.candle import Candle
from lakehouse.datasets.gap import Gap, gap_frame
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.features.candle import CANDLES
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    DamagedObjectError,
    GoneMeanwhileError,
    MarketKeyError,
    NoLakeError,
    NoRootError,
    NotALakeObjectError,
    NotCollectedWarning,
    NothingStoredError,
    NothingStoredWarning,
    RangeBackwardsError,
    SqlError,
    StoreError,
    TimeFormatError,
    UnknownFillError,
    UnknownIntervalError,
    UnknownTableError,
)
from lakehouse.model.interval import COARSE, INTERVALS, Interval
from lakehouse.model.market import Market
from lakehouse.model.result import CellFacts, CellResult, GapRun
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.storage.layout import cell_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse.transform.fill import Fill
from lakehouse.transform.resample import resample
from lakehouse_tests.making import BTC, COIN, FEBRUARY, MINUTE, at, candles, facts, minutes

ETH = Market("binance", "spot", "ETHUSDT")
ODD = Market("binance", "linear", "币安人生USDT")
MARKETS = (BTC, ETH, COIN, ODD)
# The last day of January and the first of February, two hours of it absent: the price tells the minute.
TIMES = [time for time in minutes("2024-01-31", 2 * 1440) if not (time.day == 1 and 5 <= time.hour < 7)]
ROWS = candles(TIMES, close=[100 + n / 10_000 for n in range(len(TIMES))])


def fill(objects: LakeObjects, gold: bool = True) -> None:
    """Two months of candles of every market, and what is made of them."""
    store = TableStore(objects)
    for market in MARKETS:
        scaled = ROWS.with_columns(volume=pl.col("volume") + MARKETS.index(market))
        for month in ("2024-01", "2024-02"):
            cell = Cell(month, market)
            rows = scaled.filter(pl.col("open_time").dt.strftime("%Y-%m") == month)
            record = store.put(Candle, cell, CellResult(rows, {}))
            if gold:
                inputs = {f"silver/candle@{month}": record.version}
                for table in CANDLES:
                    store.put(
                        table, cell, CellResult(table.compute({"silver/candle": rows}, cell.window), inputs)
                    )
                store.put(
                    Vwap, cell, CellResult(Vwap.compute({"silver/candle": scaled}, cell.window), inputs)
                )
    run = GapRun("absent", at("2024-02-01T05:00"), at("2024-02-01T07:00"), 120)
    store.put(
        Gap,
        Cell("2024-02"),
        CellResult(gap_frame([(market, "silver/candle", run) for market in MARKETS]), {}),
    )
    store.put(MarketTable, None, CellResult(market_frame([facts(market) for market in MARKETS]), {}))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with gold; shared, so it must not be changed."""
    root = tmp_path_factory.mktemp("gold")
    fill(LakeObjects(root))
    return Lake(root)


@pytest.fixture
def unbuilt(objects: LakeObjects) -> Lake:
    """A lake without gold."""
    fill(objects, gold=False)
    return Lake(objects.root)


# --- candles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [
        ("2024-01-31T23:30", "2024-02-01T00:30", 60),
        ("2024-02-01T04:59", "2024-02-01T07:01", 2),
        ("2024-02-01T05:00", "2024-02-01T07:00", 0),
        ("2024-01", "2024-03", len(TIMES)),
        ("2030-01-01", "2030-02-01", 0),
        (date(2024, 1, 31), datetime(2024, 1, 31, 0, 1), 1),
        ("2024-01-31T01:00:00+02:00", "2024-01-31T00:00:30+00:00", 1),
    ],
)
def test_minutes_are_those_of_the_half_open_range(lake: Lake, start: str, end: str, count: int) -> None:
    found = lake.candles("binance-spot:BTCUSDT", start, end)
    assert found.height == count
    assert found.schema == Candle.polars_schema()
    assert found.equals(ROWS.filter(pl.col("open_time").is_in(found["open_time"].implode())))
    assert lake.candles(BTC, start, end).equals(found)


@pytest.mark.parametrize("interval", COARSE, ids=str)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-31", "2024-02-02"),
        ("2024-01-31T20:00", "2024-02-01T08:00"),
        ("2024-02-01T00:30", "2024-02-01T01:30"),
        ("2025-01", "2025-02"),
    ],
)
def test_coarse_candles_are_the_same_from_gold_and_resampled(
    lake: Lake, unbuilt: Lake, interval: object, start: str, end: str
) -> None:
    built, made = (one.candles(BTC, start, end, str(interval)) for one in (lake, unbuilt))
    assert made.equals(built)
    assert made.schema == built.schema == REGISTRY.table(f"gold/candle_{interval}").polars_schema()
    expected = resample(ROWS, interval).filter(
        pl.col("open_time").is_between(at_text(start), at_text(end), closed="left")
    )  # type: ignore[arg-type]
    assert built.select(expected.columns).equals(expected)


def at_text(text: str) -> datetime:
    return at(text if len(text) > 7 else f"{text}-01")


def test_a_bucket_is_whole_though_the_range_begins_within_it(unbuilt: Lake) -> None:
    found = unbuilt.candles(BTC, "2024-02-01T00:00", "2024-02-01T00:20", "1h")
    assert found.select("open_time", "candle_count").rows() == [(at("2024-02-01"), 60)]
    assert unbuilt.candles(BTC, "2024-02-01T00:10", "2024-02-01T00:20", "1h").height == 0, (
        "labelled by its start"
    )


def test_gold_that_was_made_from_other_minutes_is_not_served(objects: LakeObjects) -> None:
    fill(objects)
    before = Lake(objects.root).candles(BTC, "2024-02", "2024-03", "1d")
    TableStore(objects).put(
        Candle, FEBRUARY, CellResult(candles(minutes("2024-02-01", 1440), volume=30.0), {})
    )
    after = Lake(objects.root).candles(BTC, "2024-02", "2024-03", "1d")
    assert (before["candle_count"].to_list(), before["volume"].to_list()) == ([1320], [13200.0])
    assert (after["candle_count"].to_list(), after["volume"].to_list()) == ([1440], [43200.0])


def test_gold_of_some_months_only_is_completed_from_minutes(objects: LakeObjects) -> None:
    fill(objects)
    whole = Lake(objects.root).candles(BTC, "2024-01", "2024-03", "4h")
    TableStore(objects).delete(REGISTRY.table("gold/candle_4h"), FEBRUARY)
    assert Lake(objects.root).candles(BTC, "2024-01", "2024-03", "4h").equals(whole)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("BTCUSDT", "2024-01", "2024-02"), MarketKeyError),
        (("binance-spot:BTCUSDT", "soon", "2024-02"), TimeFormatError),
        (("binance-spot:BTCUSDT", "2024-02", "2024-02"), RangeBackwardsError),
        (("binance-spot:BTCUSDT", "2024-01", "2024-02", "2h"), UnknownIntervalError),
    ],
)
def test_what_cannot_be_meant_is_refused(
    lake: Lake, arguments: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        lake.candles(*arguments)


def test_a_market_that_the_lake_does_not_have_is_no_empty_answer(lake: Lake) -> None:
    for asked in ({}, {"interval": "1h"}, {"fill": "null"}, {"as_of": "2024-03-01"}):
        with pytest.raises(NothingStoredError, match=r"\(binance-spot:BTCUSTD\)"):
            lake.candles("binance-spot:BTCUSTD", "2024-01", "2024-03", **asked)  # type: ignore[arg-type]


# --- filled candles and gaps ----------------------------------------------------------------------


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
@pytest.mark.parametrize("how", ["flat", "null"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01", "2024-03"),
        ("2024-02-01T04:00", "2024-02-01T08:00"),
        ("2024-02-01T05:59", "2024-02-01T06:31"),
        ("2025-01", "2025-02"),
    ],
)
def test_filled_candles_are_the_real_ones_and_a_row_per_slot_without(
    lake: Lake, interval: Interval, how: str, start: str, end: str
) -> None:
    real, filled = (
        lake.candles(BTC, start, end, str(interval)),
        lake.candles(BTC, start, end, str(interval), fill=how),
    )  # type: ignore[arg-type]
    assert filled.filter(~pl.col("is_filled")).drop("is_filled").equals(real)
    slots = (
        pl.datetime_range(at("2024-01-31"), at("2024-02-02"), interval.delta, closed="left", eager=True)
    ).cast(filled.schema["open_time"])
    assert (
        filled["open_time"].to_list()
        == slots.filter((slots >= at_text(start)) & (slots < at_text(end))).to_list()
    ), "from the first candle to the newest one"
    added = filled.filter("is_filled")
    assert added.height == filled.height - real.height
    last = ROWS.filter(pl.col("open_time") == at("2024-02-01T04:59"))["close"].item()
    assert set(added["close"]) <= {last if how == "flat" else None}, (
        "also where the range begins within the gap"
    )


def put_until(objects: LakeObjects, rows: pl.DataFrame, asked_until: str) -> None:
    """A month whose sources were asked up to an instant."""
    cell = Cell(f"{rows['open_time'][0]:%Y-%m}", BTC)
    known = CellFacts(asked_until=at(asked_until))
    TableStore(objects).put(Candle, cell, CellResult(rows, {}, known))


def test_a_flat_fill_carries_the_price_out_of_an_earlier_month(objects: LakeObjects) -> None:
    put_until(objects, ROWS.filter(pl.col("open_time") >= at("2024-02-01")), "2024-03-01")
    put_until(objects, candles(minutes("2024-03-01T00:10", 5)), "2024-04-01")
    found = Lake(objects.root).candles(BTC, "2024-03-01", "2024-03-02", fill="flat")
    assert found.height == 15
    assert found.filter("is_filled").select("open_time", "close").rows() == [
        (time, ROWS["close"][-1]) for time in minutes("2024-03-01", 10)
    ]


def test_a_listing_break_is_not_filled(objects: LakeObjects) -> None:
    fill(objects, gold=False)
    gone = GapRun("not_listed", at("2024-02-02"), at("2024-02-20T12:00"), 26_640)
    rows = candles([*minutes("2024-02-01", 1440), *minutes("2024-02-20T12:05", 1)])
    TableStore(objects).put(Candle, FEBRUARY, CellResult(rows, {}, CellFacts(gaps=(gone,))))
    found = Lake(objects.root).candles(BTC, "2024-02-01", "2024-03-01", fill="flat")
    assert found["open_time"].to_list() == [*minutes("2024-02-01", 1440), *minutes("2024-02-20T12:00", 6)]
    assert found["close"].null_count() == 5, "no price is carried across it"


@pytest.mark.parametrize("how", ["flat", "null"])
def test_of_what_nobody_was_asked_nothing_is_filled(objects: LakeObjects, how: Fill) -> None:
    put_until(objects, candles(minutes("2024-01-10", 5)), "2024-01-10T00:20")  # built while it was open
    put_until(objects, candles(minutes("2024-03-01T00:10", 5)), "2024-04-01")  # and February never
    found = Lake(objects.root).candles(BTC, fill=how)
    assert found["open_time"].to_list() == [*minutes("2024-01-10", 20), *minutes("2024-03-01", 15)]
    added = found.filter("is_filled")
    assert added["close"].to_list() == [101.0 if how == "flat" else None] * 15 + [None] * 10, (
        "no price is carried over what is not known"
    )
    assert Lake(objects.root).candles(BTC, interval="1d", fill=how)["open_time"].to_list() == [
        at("2024-01-10"),
        at("2024-03-01"),
    ]


def test_a_way_to_fill_that_there_is_not_is_refused(lake: Lake) -> None:
    with pytest.raises(UnknownFillError, match=r"'linear' is no way .* known: flat, null"):
        lake.candles(BTC, "2024-01", "2024-02", fill="linear")  # type: ignore[arg-type]


def test_gaps_are_told_by_market_and_range_from_what_cells_say(objects: LakeObjects) -> None:
    store, absent = TableStore(objects), GapRun("absent", at("2024-02-03"), at("2024-02-05"), 2880)
    halt = GapRun("halt", at("2024-01-05T10:00"), at("2024-01-05T11:00"), 60, None, at("2024-01-05T09:59:30"))
    for market in (ETH, BTC):
        store.put(Candle, Cell("2024-01", market), CellResult(candles([]), {}, CellFacts(gaps=(halt,))))
    store.put(Candle, FEBRUARY, CellResult(candles([]), {}, CellFacts(gaps=(absent,))))
    lake = Lake(objects.root)
    told = lake.gaps(now="2024-02-11T13:00")
    assert told.select("symbol", "start_time", "slot_count", "gap_class").rows() == [
        ("BTCUSDT", halt.start, 60, "halt"),
        ("BTCUSDT", absent.start, 1440, "unproven"),
        ("BTCUSDT", at("2024-02-04"), 1440, "pending"),
        ("ETHUSDT", halt.start, 60, "halt"),
    ]
    assert lake.gaps([ETH])["halted_at"].to_list() == [halt.halted_at]
    assert lake.gaps()["gap_class"].to_list() == ["halt", "unproven", "halt"], "by the present clock"
    assert lake.gaps(BTC.key, "2024-01-05T10:30", "2024-02-03T00:10")["slot_count"].to_list() == [30, 10]
    for asked in (
        (BTC, "2023-01", "2024-01"),
        (None, "2030-01", "2030-02"),
        (COIN,),
        ([BTC, COIN], "2024-01", "2024-03"),
    ):
        with pytest.raises(
            NothingStoredError,
            match=r"Nothing is stored in silver/candle of what was asked for .*Build it first",
        ):
            lake.gaps(*asked)
    assert lake.gaps([ETH, BTC], "2024-02-01", "2024-02-02").is_empty(), (
        "one that was not built for some months is no mistake"
    )
    assert lake.gaps(BTC, "2024-02-01", now="2024-02-11T13:00")["slot_count"].to_list() == [1440, 1440]
    assert lake.gaps(BTC, end="2024-01-05T10:30", now="2024-02-11T13:00")["slot_count"].to_list() == [30]
    with pytest.raises(NothingStoredError):
        lake.gaps(BTC, "2024-03")


# --- scan -----------------------------------------------------------------------------------------


def test_a_scan_names_the_market_of_every_row(lake: Lake) -> None:
    found = lake.scan("candle").collect()
    assert found.columns == [*Candle.names(), "exchange", "market_type", "symbol", "month"]
    assert found.group_by("exchange", "market_type", "symbol", "month").len().height == 8
    assert found.filter(symbol="币安人生USDT", market_type="linear").height == len(TIMES)
    assert found.filter(pl.col("month") != pl.col("open_time").dt.strftime("%Y-%m")).height == 0


def test_a_scan_reads_the_files_that_can_hold_what_is_asked_for_and_no_others(objects: LakeObjects) -> None:
    fill(objects, gold=False)
    paths = {
        (cell.market, cell.date): Path(objects.uri(record.path))
        for cell, record in ledger(objects, Candle).items()
    }
    for (market, month), path in paths.items():
        if (market, month) != (ETH, "2024-02"):
            body = path.read_bytes()
            path.write_bytes(body[:4] + bytes(len(body) - 4000) + body[-3996:])
    reading = Lake(objects.root)
    found = reading.scan("silver/candle", "binance-spot:ETHUSDT", "2024-02-01", "2024-02-01T01:00").collect()
    assert set(found["symbol"]) == {"ETHUSDT"}
    assert found.height == 60
    with pytest.raises(
        DamagedObjectError, match=r"symbol=BTCUSDT/month=2024-02.* its rows are not those that were sealed"
    ):
        reading.scan(
            "silver/candle", ["binance-spot:ETHUSDT", BTC], "2024-02-01", "2024-02-01T01:00"
        ).collect()


@pytest.mark.parametrize(
    ("table", "markets", "start", "end", "count"),
    [
        ("silver/candle", None, None, None, 4 * len(TIMES)),
        ("silver.candle", "binance-spot:BTCUSDT", None, None, len(TIMES)),
        ("candle", [BTC, "binance-inverse:BTCUSD_PERP"], None, None, 2 * len(TIMES)),
        ("candle", [], None, None, 0),
        ("candle", None, "2024-01-31T23:59", "2024-02-01T00:01", 8),
        ("gold/candle_1d", ODD.key, None, None, 2),
        ("vwap", [ETH], "2024-02-01", "2024-02-02", 1320),
        ("gap", None, None, None, 4),
        ("gap", [BTC], None, None, 1),
        ("gap", [BTC, ODD], "2024-02-01", "2024-02-02", 2),
        ("gap", [BTC], "2024-02-01T06:00", "2024-02-02", 1),
        ("gap", [BTC], "2024-02-01T07:00", "2024-02-02", 0),
        ("silver/market", None, None, None, 4),
        ("market", [COIN], None, None, 1),
        ("bronze/candle_archive", None, None, None, 0),
    ],
)
def test_a_scan_is_narrowed_by_market_and_range(
    lake: Lake, table: str, markets: object, start: str | None, end: str | None, count: int
) -> None:
    found = lake.scan(table, markets, start, end).collect()  # type: ignore[arg-type]
    assert found.height == count
    declared = REGISTRY.table(table)
    assert found.columns[: len(declared.columns)] == declared.names()
    assert found.schema == lake.scan(table).collect_schema()


@pytest.mark.parametrize("markets", ["binance-spot:BTCUSTD", [BTC, "binance-linear:BTCUSDT"]])
def test_a_scan_of_a_market_that_is_not_stored_is_no_scan_without_rows(lake: Lake, markets: object) -> None:
    with pytest.raises(NothingStoredError, match=r"BTCUSTD|binance-linear:BTCUSDT"):
        lake.scan("candle", markets)  # type: ignore[arg-type]


def test_sql_says_so_where_it_names_what_is_not_stored(lake: Lake) -> None:
    count = "SELECT count(*) AS n FROM silver.candle"
    with pytest.raises(NothingStoredError, match=r"silver/candle.*BTCUSTD"):
        lake.sql(count, markets=(key for key in (BTC, "binance-spot:BTCUSTD")))
    with pytest.warns(
        NothingStoredWarning, match="silver/candle has nothing of month 2024-02, symbol BTCUSTD"
    ):
        assert lake.sql(f"{count} WHERE symbol = 'BTCUSTD' AND month = '2024-02'").item() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingStoredWarning)
        assert lake.sql(f"{count} WHERE symbol = 'BTCUSDT' AND open > 1e9", markets=BTC).item() == 0
        assert lake.sql(f"{count} JOIN gold.vwap USING (symbol) WHERE false", markets=BTC).item() == 0


def test_a_cell_that_is_taken_away_before_a_scan_is_collected_is_no_scan_with_fewer_rows(
    unbuilt: Lake,
) -> None:
    rows, cell = unbuilt.scan("candle", BTC), Cell("2024-01", BTC)
    unbuilt.objects.delete(cell_path(Candle, cell))
    with pytest.raises(GoneMeanwhileError, match="2024-01"):
        unbuilt.collect(rows)
    assert unbuilt.collect(unbuilt.scan("candle", BTC)).height < len(TIMES), "asked anew, it is not there"


def test_a_folder_without_a_lake_is_not_taken_for_an_empty_one(objects: LakeObjects) -> None:
    nowhere = Lake(objects.root)
    for read in (
        lambda: nowhere.candles(BTC, "2024-01", "2024-02"),
        lambda: nowhere.scan("candle"),
        lambda: nowhere.sql("SELECT * FROM silver.candle"),
        nowhere.markets,
    ):
        with pytest.raises(NoLakeError, match=r"There is no lake at .*lakehouse build"):
            read()


@pytest.mark.parametrize(
    ("start", "end", "meant"),
    [
        ("2024-02", None, ("2024-02", "2024-03")),
        (None, "2024-02", ("2024-01", "2024-02")),
        ("2024-02-01T12:00", "9999-12-31", ("2024-02-01T12:00", "2024-03")),
        (date.min, datetime(2024, 2, 1, 12), ("2024-01", "2024-02-01T12:00")),
        ("0001-01-01", date.max, ("2024-01", "2024-03")),
        (datetime.min, datetime.max, ("2024-01", "2024-03")),
        (None, None, ("2024-01", "2024-03")),
    ],
)
@pytest.mark.parametrize("interval", ["1m", "1h"])
def test_an_open_end_is_where_what_is_stored_ends(
    lake: Lake, unbuilt: Lake, interval: str, start: object, end: object, meant: tuple[str, str]
) -> None:
    for one in (lake, unbuilt):
        assert one.candles(BTC, start, end, interval).equals(one.candles(BTC, *meant, interval))  # type: ignore[arg-type]
        assert one.candles(BTC, start, end, interval, fill="flat").equals(
            one.candles(BTC, *meant, interval, fill="flat")
        )  # type: ignore[arg-type]
        for table in ("candle", "gap"):
            assert one.scan(table, BTC, start, end).collect().equals(one.scan(table, BTC, *meant).collect())  # type: ignore[arg-type]
        assert one.dataset_id("candle", BTC, start, end) == one.dataset_id("candle", BTC, *meant)  # type: ignore[arg-type]
        assert one.conflicts(BTC, start, end).is_empty()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "odd",
    [
        float("nan"),
        float("inf"),
        20240101,
        True,
        b"2024-01-01",
        "",
        " ",
        "NaT",
        "10000-01-01",
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_an_end_that_is_no_instant_is_refused_by_every_read(lake: Lake, odd: object) -> None:
    for read in (
        lambda **ends: lake.candles(BTC, **ends),
        lambda **ends: lake.candles(BTC, **ends, fill="null"),
        lambda **ends: lake.scan("candle", **ends),
        lake.gaps,
        lake.conflicts,
        lake.restatements,
        lambda **ends: lake.dataset_id("candle", **ends),
    ):
        for ends in ({"start": odd}, {"end": odd}):
            with pytest.raises(TimeFormatError, match=r"is not a date\. Expected"):
                read(**ends)  # type: ignore[arg-type]
    for asked in (lambda: lake.candles(BTC, as_of=odd), lambda: lake.gaps(now=odd)):  # type: ignore[arg-type]
        with pytest.raises(TimeFormatError):
            asked()


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "",
        " ",
        b"binance-spot:BTCUSDT",
        7,
        "binance-spot:",
        "binance-spot:BTC\u200bUSDT",
        "binance-spot:../x",
        "binance-spot:x.",
    ],
)
def test_a_market_that_is_none_is_refused_by_every_read(lake: Lake, odd: object) -> None:
    with pytest.raises(MarketKeyError):
        lake.candles(odd)  # type: ignore[arg-type]
    for read in (
        lambda keys: lake.scan("candle", keys),
        lake.gaps,
        lake.conflicts,
        lake.restatements,
        lambda keys: lake.dataset_id("candle", keys),
    ):
        with pytest.raises(MarketKeyError):
            read([odd])  # type: ignore[arg-type]


def test_all_of_time_costs_no_more_than_what_is_stored(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[int] = []
    monkeypatch.setattr(
        "lakehouse.model.timerange.month_text",
        lambda number: (named.append(number), f"{number // 12:04d}-{number % 12 + 1:02d}")[1],
    )
    lake.candles(BTC, fill="flat")
    lake.candles(BTC, "0001-01-01", "9999-12-31", "1h")
    lake.gaps(end="9999-12-31")
    lake.conflicts(BTC, "0001-01")
    lake.dataset_id("candle", BTC, "0001-01")
    lake.scan("candle", BTC, "0001-01").collect()
    assert len(named) < 50, "months of the range are compared, not counted out"


def test_a_folder_above_or_beside_a_lake_is_none(objects: LakeObjects) -> None:
    """Its answers would all be empty, as those of a lake without a flaw."""
    fill(objects, gold=False)
    objects.put("ledger/notes", b"")
    for place in (Path(objects.root).parent, Path(objects.root) / "silver", Path(objects.root) / "ledger"):
        with pytest.raises(NoLakeError, match=str(place)):
            Lake(place).gaps()
    for nowhere in ("", " ", "/"):
        with pytest.raises(NoRootError, match="is no place for a lake: expected a folder, or s3://"):
            Lake(nowhere)


def test_an_empty_lake_has_every_table_and_no_row(objects: LakeObjects) -> None:
    Path(objects.uri("landing")).mkdir(parents=True)
    empty = Lake(objects.root)
    for table in REGISTRY.tables:
        assert empty.scan(table.name).collect().is_empty()
        assert empty.records(table.name) == []
        assert empty.sql(f"SELECT * FROM {table.name.replace('/', '.')}").is_empty()
    assert empty.gaps().is_empty()
    assert empty.markets().schema == MarketTable.polars_schema()


@pytest.mark.parametrize("root", ["env=prod/lake", "spa ce", "x*y[1]", "pct%20", "naïve"])
def test_a_lake_may_lie_in_any_folder(tmp_path: Path, root: str) -> None:
    objects = LakeObjects(tmp_path / root)
    TableStore(objects).put(Candle, Cell("2024-01", ODD), CellResult(candles(minutes("2024-01-31", 5)), {}))
    found = Lake(tmp_path / root)
    assert found.scan("candle", [ODD]).collect().columns == [
        *Candle.names(),
        "exchange",
        "market_type",
        "symbol",
        "month",
    ]
    assert found.candles(ODD, "2024-01", "2024-02").height == 5
    assert found.sql("SELECT * FROM silver.candle").columns == [
        *Candle.names(),
        "exchange",
        "market_type",
        "symbol",
        "month",
    ]


def test_tables_are_found_by_name_with_or_without_their_zone(lake: Lake) -> None:
    assert {len(lake.records(name)) for name in ("silver/candle", "silver.candle", "candle")} == {8}
    with pytest.raises(UnknownTableError, match=r"no table 'candles'; known: silver/market"):
        lake.scan("candles")


def test_conflicts_of_what_is_not_stored_are_not_none(lake: Lake) -> None:
    assert lake.conflicts(BTC, "2024-01", "2024-02").is_empty()
    for asked in (
        ("binance-spot:BTCUSTD",),
        ([BTC, COIN, "binance-spot:BTCUSTD"], "2024-01", "2024-03"),
        (None, "2030-01", "2030-02"),
    ):
        with pytest.raises(NothingStoredError):
            lake.conflicts(*asked)  # type: ignore[arg-type]


# --- SQL ------------------------------------------------------------------------------------------


def test_sql_sees_what_the_sdk_sees(lake: Lake) -> None:
    mine = lake.sql("SELECT * FROM silver.candle WHERE symbol = '币安人生USDT' ORDER BY open_time").drop(
        "exchange", "market_type", "symbol", "month"
    )
    assert mine.with_columns(
        pl.col(pl.Datetime).dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    ).equals(lake.candles(ODD, "2024-01", "2024-03"))
    joined = lake.sql(
        """
        SELECT c.symbol, count(*) AS n, avg(v.vwap_1d) AS price FROM silver.candle c
        JOIN gold.vwap v USING (exchange, market_type, symbol, month, open_time) JOIN silver.market m USING (exchange, market_type, symbol)
        GROUP BY ALL ORDER BY 1
        """
    )
    assert dict(joined.select("symbol", "n").iter_rows()) == {market.symbol: len(TIMES) for market in MARKETS}
    assert joined["price"].null_count() == 0


def test_instants_in_sql_are_utc(lake: Lake) -> None:
    text = lake.sql(
        "SELECT CAST(min(open_time) AS VARCHAR) AS first, max(open_time) AS last FROM silver.candle"
    )
    assert text["first"].to_list() == ["2024-01-31 00:00:00+00"]
    assert text["last"].to_list() == [at("2024-02-01T23:59")]
    assert lake.sql("SELECT count(*) AS n FROM silver.candle WHERE open_time >= TIMESTAMPTZ '2024-02-01'")[
        "n"
    ].to_list() == [4 * 1320]


def test_the_difference_of_two_instants_is_a_duration(lake: Lake) -> None:
    found = lake.sql(
        "SELECT 1 AS one, max(open_time) - min(open_time) AS span, NULL::INTERVAL AS none FROM silver.candle"
    )
    assert found.rows() == [(1, timedelta(days=2, minutes=-1), None)]
    assert found.schema["span"] == pl.Duration("us")
    assert lake.sql("SELECT INTERVAL 1 DAY AS day WHERE false").schema["day"] == pl.Duration("us")
    assert lake.sql("SELECT to_seconds(-1.5) AS back")["back"].item() == timedelta(seconds=-1.5)


def test_an_interval_with_months_or_without_end_is_text(lake: Lake) -> None:
    found = lake.sql(
        "SELECT unnest([INTERVAL 1 YEAR, INTERVAL '1 day 1.5 seconds', NULL]) AS long, INTERVAL 2000000000 "
        "DAY AS endless"
    )
    assert found["long"].to_list() == [
        "12 months, 0 days, 0.000000 seconds",
        "0 months, 1 days, 1.500000 seconds",
        None,
    ]
    assert found["endless"][0] == "0 months, 2000000000 days, 0.000000 seconds"


def test_a_view_has_the_same_columns_with_and_without_objects(lake: Lake, objects: LakeObjects) -> None:
    Path(objects.uri("landing")).mkdir(parents=True)
    for table in ("silver.candle", "gold.vwap", "silver.gap", "silver.market"):
        full, empty = (one.sql(f"SELECT * FROM {table} LIMIT 1") for one in (lake, Lake(objects.root)))
        assert full.columns == empty.columns


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELEC 1", "Parser Error"),
        (
            "SELECT * FROM silver.nothing",
            r"Table with name nothing does not exist!\nKnown tables: silver\.market, .*funding_carry\.$",
        ),
        ("SELECT * FROM nowhere.candle", r'schema "nowhere" does not exist\.\nKnown tables: silver\.market'),
        ("SELECT nothing FROM silver.candle", "nothing"),
        ("SELECT CAST(symbol AS INTEGER) FROM silver.candle", "Could not convert"),
        (
            "SELECT union_value(a := 1) AS one",
            r"its column one \(UNION\(a INTEGER\)\) holds a type that is not read \(union\)\. .* CAST",
        ),
        ("SELECT open, open FROM silver.candle", r"more than once.* a name of its own"),
        ("", ""),
    ],
)
def test_a_statement_that_is_refused_says_why(lake: Lake, query: str, why: str) -> None:
    if not query:
        assert lake.sql(query).is_empty()
        return
    with pytest.raises(SqlError, match=f"(?s)The statement was refused: .*{why}"):
        lake.sql(query)


def test_disputes_that_are_not_collected_are_not_passed_over_in_silence(objects: LakeObjects) -> None:
    store, perpetual = TableStore(objects), Market("binance", "linear", "BTCUSDT")
    for month, market, count in (("2024-01", BTC, 0), ("2024-02", BTC, 2), ("2024-02", perpetual, 1)):
        disputed = CellResult(Candle.empty(), {}, CellFacts(conflict_count=count))
        store.put(Candle, Cell(month, market), disputed)
    lake = Lake(objects.root)
    with pytest.warns(NotCollectedWarning, match=r"silver/conflict has nothing of 2 cells .*linear.*spot"):
        assert lake.conflicts().is_empty()
    with pytest.warns(NotCollectedWarning, match="1 cell "):
        lake.conflicts(BTC, "2024-02-10", "2024-02-11")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lake.conflicts(BTC, "2024-01", "2024-02").is_empty()


def test_tables_are_shown_and_found_without_their_zone(lake: Lake) -> None:
    shown = lake.sql("SHOW TABLES")["name"].to_list()
    assert sorted(shown) == sorted(table.short_name() for table in lake.registry.tables)
    assert (
        lake.sql("SELECT count(*) FROM candle").item()
        == lake.sql("SELECT count(*) FROM silver.candle").item()
        > 0
    )
    assert lake.sql(
        "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables WHERE table_name = "
        "'vwap'"
    )["name"].to_list() == ["gold.vwap"]


def test_a_statement_without_rows_gives_none(lake: Lake) -> None:
    assert lake.sql("CREATE TABLE t AS SELECT 1", unrestricted=True).is_empty()
    assert lake.sql("SELECT 1 AS one; SELECT 2 AS two").to_dicts() == [{"two": 2}]


def test_sql_does_not_write_to_the_lake(lake: Lake) -> None:
    before = lake.sql("SELECT count(*) AS n FROM silver.market")
    with pytest.raises(SqlError):
        lake.sql("DELETE FROM silver.market")
    assert lake.sql("SELECT count(*) AS n FROM silver.market").equals(before)


def test_a_damaged_cell_is_an_error_to_who_asks_for_it_and_to_nobody_else(objects: LakeObjects) -> None:
    """Fewer rows without a word would be a wrong answer; other markets and months are read as ever."""
    fill(objects, gold=False)
    objects.put(cell_path(Candle, FEBRUARY), b"<html></html>")
    reading = Lake(objects.root)
    for ask in (
        lambda: reading.candles(BTC, "2024-02", "2024-03"),
        lambda: reading.candles(BTC, "2024-02", "2024-03", "1h"),
        lambda: reading.scan("candle"),
        lambda: reading.sql("SELECT * FROM silver.candle"),
    ):
        with pytest.raises(NotALakeObjectError, match="month=2024-02"):
            ask()
    assert not reading.candles(BTC, "2024-01", "2024-02").is_empty()
    assert (
        reading.scan("candle", markets=[market for market in MARKETS if market != BTC]).collect().height > 0
    )


def test_what_a_function_of_the_readers_own_raises_is_not_told_as_the_stores(lake: Lake) -> None:
    def odd(frame: pl.DataFrame) -> pl.DataFrame:
        raise ValueError("a mistake of mine")

    with pytest.raises((ValueError, pl.exceptions.PolarsError), match="a mistake of mine") as found:
        lake.collect(lake.scan("silver/candle").map_batches(odd))
    assert not isinstance(found.value, StoreError)


def test_markets_and_the_public_name(lake: Lake) -> None:
    assert lakehouse.Lake is Lake
    assert lake.markets()["symbol"].sort().to_list() == sorted(market.symbol for market in MARKETS)
    with pytest.raises(AttributeError, match="no attribute 'Ocean'"):
        lakehouse.Ocean  # noqa: B018
    assert timedelta(minutes=1) == MINUTE
