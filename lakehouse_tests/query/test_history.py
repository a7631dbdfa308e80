"""What a lake had at an instant, and a name for what it has now."""

import tempfile
import threading
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import CANDLE, Candle, CandleApi, CandleArchive, CandleWitness
from lakehouse.datasets.dataset import BronzeCell
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    BeforeFirstReceiptError,
    FillAsOfError,
    MarketFactsMissingError,
    NoLakeError,
    NothingStoredError,
    UnknownTableError,
)
from lakehouse.model.interval import Interval
from lakehouse.model.result import Asked, CellFacts, CellResult
from lakehouse.query.lake import Lake
from lakehouse.sources.rest.asking import Answers
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import StoredCell, TableStore
from lakehouse.transform.history import append_news, restatements
from lakehouse.transform.resample import resample
from lakehouse_tests.making import BTC, COIN, FEBRUARY, MINUTE, NOW, at, bronze, candles, facts, minutes

pytestmark = pytest.mark.slow

START = at("2024-02-05")
Source = Literal["monthly", "daily", "api", "witness"]
# Who says what of three minutes: each in one of three variants, which the hour's totals tell apart. A witness
# has but the sums.
Event = tuple[Source, tuple[int, int, int]]
events = st.tuples(
    st.sampled_from(["monthly", "daily", "api", "witness"]), st.tuples(*[st.integers(0, 2)] * 3)
)
LIFE: list[Event] = [
    ("witness", (0, 0, 0)),
    ("monthly", (0, 1, 0)),
    ("api", (0, 0, 2)),
    ("api", (0, 0, 1)),
    ("witness", (0, 0, 0)),
    ("api", (2, 0, 1)),
    ("witness", (0, 0, 1)),
]


def told(source: Source, variants: tuple[int, int, int], fetched: datetime) -> pl.DataFrame:
    if source == "witness":
        total = sum(variants)
        return bronze(
            [START],
            "api",
            fetched,
            f"{fetched}",
            volume=30.0 - total,
            trade_count=21 + total,
            quote_volume=3015.0,
            taker_buy_volume=12.0,
            taker_buy_quote_volume=1206.0,
        )
    return bronze(
        minutes("2024-02-05", 3),
        source,
        fetched,
        f"{fetched}",
        volume=[10.0 - v for v in variants],
        trade_count=[7 + v for v in variants],
    )


def with_file(rows: pl.DataFrame, stored: StoredCell | None) -> CellResult:
    history = append_news(
        stored.rows if stored else CandleArchive.empty(), rows, Candle.key, Candle.time, FEBRUARY.window
    )
    return CellResult(
        history,
        {},
        CellFacts(
            asked_until=FEBRUARY.window.end, restatement_count=restatements(history, Candle.key).height
        ),
    )


class Living:
    """A lake that learns one thing after another, an hour apart, and remembers what it served after each."""

    def __init__(self, objects: LakeObjects) -> None:
        self.store = TableStore(objects)
        self.lake = Lake(objects.root)
        self.served: dict[datetime, pl.DataFrame] = {}
        self.store.put(MarketTable, None, CellResult(market_frame([facts()]), {}))

    def learn(self, number: int, source: Source, variants: tuple[int, int, int]) -> None:
        now = NOW + timedelta(hours=number)
        rows = told(source, variants, now)
        if source in ("monthly", "daily"):
            self.store.update(CandleArchive, FEBRUARY, partial(with_file, rows))
        else:
            table = CandleWitness if source == "witness" else CandleApi
            api = self.store.get(CandleApi, FEBRUARY)
            revised = api.record.facts.revised_at if api and table is CandleWitness else None
            answers = Answers(
                table,
                [(rows, Asked(FEBRUARY.window.start, FEBRUARY.window.end, now, "rows"))],
                [],
                [],
                revised,
                is_witness=table is CandleWitness,
            )
            self.store.update(table, FEBRUARY, answers.change)
        parts = {table.name: part for table in CANDLE.bronze if (part := self.store.get(table, FEBRUARY))}
        if set(parts) != {CandleWitness.name}:
            known = {
                name: BronzeCell(part.rows, part.record.version, part.record.facts)
                for name, part in parts.items()
            }
            self.store.put(Candle, FEBRUARY, CANDLE.refine(known, FEBRUARY, facts()))
            self.served[now] = self.lake.candles(BTC, "2024-02", "2024-03")

    def hold(self) -> None:
        """Every earlier state can be told, minute by minute and in hours."""
        for instant, rows in self.served.items():
            for later in (timedelta(), timedelta(minutes=59)):
                assert self.lake.candles(BTC, "2024-02", "2024-03", as_of=instant + later).equals(rows)
            coarse = self.lake.candles(BTC, "2024-02", "2024-03", "1h", as_of=instant)
            assert coarse.equals(resample(rows, Interval.parse("1h")).select(coarse.columns))
        first = min(self.served, default=None)
        if first is not None:
            assert self.lake.candles(BTC, "2024-02", "2024-03", as_of="2030-01-01").equals(
                self.lake.candles(BTC, "2024-02", "2024-03")
            )
            with pytest.raises(
                BeforeFirstReceiptError,
                match=f"nothing yet of 2024-02.binance-spot:BTCUSDT.* fetched at {first:%Y-%m-%dT%H}",
            ) as error:
                self.lake.candles(BTC, "2024-02", "2024-03", as_of=first - timedelta(seconds=1))
            assert error.value.first == first
            assert self.lake.candles(
                BTC, "2024-02", "2024-03", as_of=f"{first:%Y-%m-%dT%H:%M:%S.%fZ}"
            ).equals(self.served[first]), "the message can be followed"


# --- as of ----------------------------------------------------------------------------------------


@given(st.lists(events, min_size=1, max_size=6))
def test_what_a_lake_served_can_be_told_of_every_instant_of_its_life(life: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        living = Living(LakeObjects(folder))
        for number, (source, variants) in enumerate(life):
            living.learn(number, source, variants)
        living.hold()


def test_a_witness_that_was_asked_again_and_told_the_same_was_fresh_from_then_on(
    objects: LakeObjects,
) -> None:
    """No row shows it: REST's revision of a minute left the hour's sums as they were."""
    living = Living(objects)
    for number, (source, variants) in enumerate(LIFE):
        living.learn(number, source, variants)
    fresh, revised, asked_again = (NOW + timedelta(hours=hours) for hours in (2, 3, 4))
    served = {
        instant: living.lake.candles(BTC, "2024-02", "2024-03", as_of=instant)["trade_count"].to_list()
        for instant in (fresh, revised, asked_again)
    }
    assert served[fresh][1] == served[asked_again][1] == 7, "by the witness"
    assert living.store.get(CandleWitness, FEBRUARY).record.facts.answered_at == tuple(
        NOW + timedelta(hours=hours) for hours in (0, 4, 6)
    )  # type: ignore[union-attr]
    living.hold()


def test_a_read_that_is_given_up_leaves_no_thread_that_somebody_must_wait_for(objects: LakeObjects) -> None:
    """The error's traceback keeps the reading alive; whoever collects that garbage later may hold what an
    ending thread needs.
    """
    living = Living(objects)
    living.learn(0, "monthly", (0, 0, 0))
    with pytest.raises(BeforeFirstReceiptError) as error:
        living.lake.candles(BTC, "2024-02", "2024-03", as_of=NOW - timedelta(seconds=1))
    assert error.value.__traceback__ is not None
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("lakehouse-read")]


def test_months_of_which_nothing_is_stored_have_no_rows_at_any_instant(objects: LakeObjects) -> None:
    living = Living(objects)
    living.learn(0, "monthly", (0, 0, 0))
    assert living.lake.candles(BTC, "2023-01", "2025-01", as_of=NOW).equals(living.served[NOW])
    assert living.lake.candles(BTC, "2023-01", "2023-12", as_of=NOW - timedelta(days=400)).equals(
        Candle.empty()
    )
    assert living.lake.candles(BTC, START + MINUTE, START + 2 * MINUTE, as_of=NOW)["open_time"].to_list() == [
        START + MINUTE
    ]
    with pytest.raises(NothingStoredError, match="BTCUSD_PERP"):
        living.lake.candles(COIN, "2024-02", "2024-03", as_of=NOW)


def test_a_lake_that_is_not_there_or_knows_not_the_market_is_refused(objects: LakeObjects) -> None:
    with pytest.raises(NoLakeError):
        Lake(objects.root).candles(BTC, "2024-02", "2024-03", as_of=NOW)
    TableStore(objects).put(CandleArchive, FEBRUARY, with_file(told("monthly", (0, 0, 0), NOW), None))
    with pytest.raises(MarketFactsMissingError, match="binance-spot:BTCUSDT"):
        Lake(objects.root).candles(BTC, "2024-02", "2024-03", as_of=NOW)
    with pytest.raises(FillAsOfError, match="not both"):
        Lake(objects.root).candles(BTC, "2024-02", "2024-03", fill="flat", as_of=NOW)


# --- restatements ---------------------------------------------------------------------------------


def test_restatements_are_those_of_all_sources_but_the_witness(objects: LakeObjects) -> None:
    living = Living(objects)
    for number, (source, variants) in enumerate(
        [
            ("monthly", (0, 0, 0)),
            ("api", (1, 1, 1)),
            ("witness", (0, 0, 0)),
            ("monthly", (0, 2, 0)),
            ("api", (1, 1, 0)),
            ("witness", (1, 1, 1)),
        ]
    ):
        living.learn(number, source, variants)  # type: ignore[arg-type]
    found = living.lake.restatements(BTC.key)
    assert found.select(
        "market",
        "open_time",
        "source",
        "change",
        "trade_count_before",
        "trade_count_after",
        "fetched_at_after",
    ).rows() == [
        (BTC.key, START + MINUTE, "monthly", "changed", 7, 9, NOW + timedelta(hours=3)),
        (BTC.key, START + 2 * MINUTE, "api", "changed", 8, 7, NOW + timedelta(hours=4)),
    ]
    assert living.lake.restatements().equals(found)
    for nothing in (
        lambda: living.lake.restatements([COIN]),
        lambda: living.lake.restatements(BTC, "2024-03", "2024-04", table="candle"),
    ):
        with pytest.raises(
            NothingStoredError,
            match=r"bronze/candle_archive or bronze/candle_api of what was asked for \(binance-",
        ):
            nothing()
    assert living.lake.restatements(BTC, START, START + 2 * MINUTE)["source"].to_list() == ["monthly"]
    assert living.lake.restatements(BTC, START, START + MINUTE, table="candle").height == 0
    assert living.lake.restatements(start="2024-02").equals(found)
    assert living.lake.restatements(end=START + 2 * MINUTE)["source"].to_list() == ["monthly"]
    with pytest.raises(UnknownTableError, match="silver/candle"):
        living.lake.restatements(table="silver/gap")


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), ("2024-01", None), (None, "2024-03"), ("0001-01-01", "9999-12-31")]
)
def test_what_a_lake_had_is_read_of_the_months_that_are_stored(
    objects: LakeObjects, start: str | None, end: str | None
) -> None:
    living = Living(objects)
    for number, event in enumerate(LIFE[:3]):
        living.learn(number, *event)
    for instant, served in living.served.items():
        assert living.lake.candles(BTC, start, end, as_of=instant).equals(served)
        assert living.lake.candles(BTC, start, end, "1h", as_of=instant).equals(
            living.lake.candles(BTC, "2024-02", "2024-03", "1h", as_of=instant)
        )
    assert living.lake.candles(BTC, "2024-03", None, as_of=NOW).is_empty()


def test_only_cells_that_count_restatements_or_do_not_say_are_read(
    objects: LakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, read = Living(objects), []
    get = TableStore.get
    monkeypatch.setattr(
        TableStore, "get", lambda store, table, cell: (read.append(table.name), get(store, table, cell))[1]
    )
    for number, variants in enumerate([(0, 0, 0), (0, 0, 1)]):
        living.learn(number, "monthly", variants)
    living.learn(2, "api", (0, 0, 0))
    read.clear()
    assert living.lake.restatements().height == 1
    assert read == [CandleArchive.name]

    stored = get(living.store, CandleApi, FEBRUARY)
    assert stored is not None
    # as an earlier release wrote it
    living.store.put(CandleApi, FEBRUARY, CellResult(stored.rows, {}, CellFacts()))
    read.clear()
    assert living.lake.restatements().height == 1
    assert read == [CandleArchive.name, CandleApi.name]


# --- naming data ----------------------------------------------------------------------------------


def test_a_dataset_id_names_cells_and_their_versions_and_nothing_else(objects: LakeObjects) -> None:
    def fill(root: LakeObjects, volume: float = 10.0) -> Lake:
        for market in (BTC, COIN):
            for month in ("2024-01", "2024-02"):
                rows = candles(
                    minutes(f"{month}-05", 3), volume=volume if (market, month) == (COIN, "2024-02") else 10.0
                )
                TableStore(root).put(Candle, Cell(month, market), CellResult(rows, {}))
        return Lake(root.root)

    lake = fill(objects)
    name = lake.dataset_id("silver/candle", [BTC, COIN], "2024-01", "2024-03")
    assert len(name) == 32
    assert {name} == {
        lake.dataset_id("candle"),
        lake.dataset_id("silver.candle", [COIN.key, BTC.key]),
        lake.dataset_id("silver/candle", [BTC, COIN], "2024-01-31T23:59", "2024-02-01T00:01"),
        fill(LakeObjects(f"{objects.root}-moved")).dataset_id("silver/candle"),
    }
    parts = {
        lake.dataset_id("silver/candle", market, month, f"{month}-02")
        for market in (BTC, COIN)
        for month in ("2024-01", "2024-02")
    }
    assert len(parts | {name, lake.dataset_id("silver/candle", BTC)}) == 6
    january = lake.dataset_id("silver/candle", None, "2024-01", "2024-02")
    fill(objects, volume=11.0)
    assert lake.dataset_id("silver/candle") != name
    assert lake.dataset_id("silver/candle", None, "2024-01", "2024-02") == january
    assert lake.dataset_id("silver/candle", start="2024-01") == lake.dataset_id("silver/candle")
    assert lake.dataset_id("silver/candle", end="2024-02") == january


def test_nothing_has_no_dataset_id(objects: LakeObjects) -> None:
    """The hash of nothing would be one name for every mistake."""
    TableStore(objects).put(Candle, FEBRUARY, CellResult(candles(minutes("2024-02-05", 3)), {}))
    lake = Lake(objects.root)
    for asked in (
        ("gold/vwap", BTC),
        ("gold/vwap",),
        ("candle", COIN),
        ("candle", [BTC, COIN]),
        ("candle", BTC, "2024-03", "2024-04"),
        ("candle", []),
        ("market",),
        ("gap", BTC),
    ):
        with pytest.raises(NothingStoredError, match=r"Nothing is stored in \w+/\w+ of what was asked for"):
            lake.dataset_id(*asked)  # type: ignore[arg-type]
