"""A feature, a dataset and an exchange, each declared here alone: everything that shows or stores tables
takes them up without another edit.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse.cli.building import Builder
from lakehouse.datasets.candle import Candle
from lakehouse.datasets.dataset import REFINED, ArchiveTable, BronzeCells, Dataset, input_versions
from lakehouse.datasets.market import MarketFacts
from lakehouse.definitions import build_definitions
from lakehouse.defs.describe import asset_key
from lakehouse.exchanges.exchange import Exchange, Files, MarketInfo
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.period import Period, PeriodKind
from lakehouse.model.result import CellFacts, CellResult
from lakehouse.model.table import UTC_TIME, Column, Rule, Table
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.docs import tables_page
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.transform.history import newest
from lakehouse_tests.extensibility.toys import tables_above

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
COINS = Market("kiosk", "spot", "COIN")
TABLES = ("bronze/quote_archive", "silver/quote", "gold/daily_range")

# --- a dataset ------------------------------------------------------------------------------------


class QuoteArchive(ArchiveTable):
    """Best bid and ask once a minute, as published."""

    name = "bronze/quote_archive"
    key = ("open_time", "source", "fetched_at", "source_sha256")
    time = "open_time"

    open_time = Column(UTC_TIME, "Minute of the quote", "UTC")
    bid = Column(pl.Float64, "Best bid", "quote", nullable=True)
    ask = Column(pl.Float64, "Best ask", "quote", nullable=True)


class Quote(Table):
    """Best bid and ask once a minute."""

    name = "silver/quote"
    key = ("open_time",)
    time = "open_time"
    inputs = (Input(QuoteArchive, role="archive"),)
    checks = REFINED
    row_rules = (Rule("not_crossed", pl.col("bid") < pl.col("ask"), "the bid is below the ask"),)

    open_time = Column(UTC_TIME, "Minute of the quote", "UTC")
    bid = Column(pl.Float64, "Best bid", "quote", above=0)
    ask = Column(pl.Float64, "Best ask", "quote", above=0)


def refine(bronze: BronzeCells, cell: Cell, market: MarketFacts) -> CellResult:
    archive = bronze[QuoteArchive.name]
    rows = newest(archive.rows, ("open_time",)).select(Quote.names())
    return CellResult(
        rows, input_versions(Quote, bronze, cell, market), CellFacts(asked_until=archive.facts.asked_until)
    )


QUOTE = Dataset(Quote, refine, lambda rows, cell, market, witness: {})

# --- a feature ------------------------------------------------------------------------------------


class DailyRange(Feature):
    """High less low of the day, and the mean spread."""

    name = "gold/daily_range"
    key = ("open_time",)
    time = "open_time"
    inputs = (Input(Candle, lookback=timedelta(days=1)), Input(Quote))

    open_time = Column(UTC_TIME, "The day", "UTC")
    range = Column(pl.Float64, "High less low", "quote", at_least=0)
    spread = Column(  # type: ignore[assignment]
        pl.Float64, "Mean of ask less bid", "quote", above=0
    )

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        day = pl.col("open_time").dt.truncate("1d")
        candles = inputs["silver/candle"].filter(pl.col("open_time") >= window.start)
        ranges = candles.group_by(day, maintain_order=True).agg(
            (pl.col("high").max() - pl.col("low").min()).alias("range")
        )
        spreads = (
            inputs["silver/quote"]
            .group_by(day, maintain_order=True)
            .agg((pl.col("ask") - pl.col("bid")).mean().alias("spread"))
        )
        return ranges.join(spreads, on="open_time").select(cls.names())


# --- an exchange ----------------------------------------------------------------------------------


class KioskFiles(Files):
    """Minutes of one price, or quotes around it."""

    def __init__(self, table: str) -> None:
        self.table = table

    def prefix(self, market: Market, kind: PeriodKind) -> str:
        return f"data/kiosk/{self.table.split('/')[1]}/{kind}/{market.symbol}/"

    def key(self, market: Market, period: Period) -> str:
        return f"{self.prefix(market, period.kind)}{market.symbol}-{period}.zip"

    def period_text(self, key: str) -> str | None:
        found = re.fullmatch(r".*-(\d{4}-\d{2}(?:-\d{2})?)\.zip", key)
        return found[1] if found else None

    def parse(self, market: Market, key: str, csv: bytes) -> pl.DataFrame:
        raw = pl.read_csv(
            csv, has_header=False, new_columns=["open_time", "price"], schema_overrides=[pl.Int64, pl.Float64]
        )
        raw = raw.with_columns((pl.col("open_time") * 1_000_000).cast(UTC_TIME))
        if self.table == "bronze/quote_archive":
            return raw.select("open_time", bid=pl.col("price") - 0.5, ask=pl.col("price") + 0.5)
        values = {
            name: pl.lit(None, pl.Float64)
            for name in (
                "quote_volume",
                "taker_buy_volume",
                "taker_buy_quote_volume",
                "contracts",
                "taker_buy_contracts",
            )
        }
        ends = pl.col("open_time") + timedelta(minutes=1) - timedelta(microseconds=1)
        return raw.select(
            "open_time",
            **dict.fromkeys(("open", "high", "low", "close"), pl.col("price")),
            volume=pl.lit(1.0),
            close_time=ends,
            trade_count=pl.lit(1, pl.Int64),
            **values,
        )


class Kiosk(Exchange):
    """Publishes both."""

    name = "kiosk"
    bucket = "data.binance.vision"  # the one that the simulator serves
    files = {name: KioskFiles(name) for name in ("bronze/candle_archive", "bronze/quote_archive")}

    def infer_info(self, market: Market) -> MarketInfo:
        return MarketInfo("COIN", "USD", None, None)


def publish(folder: Path, exchange: Exchange, table: str, month: str, first: datetime, minutes: int) -> None:
    key = exchange.files[table].key(COINS, Period.parse(month))
    body, path = io.BytesIO(), folder / key
    with zipfile.ZipFile(body, "w") as archive:
        start = int(first.timestamp())
        archive.writestr(
            path.stem + ".csv", "".join(f"{start + 60 * n},{100 + n % 1440 % 7}\n" for n in range(minutes))
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body.getvalue())
    Path(f"{path}.CHECKSUM").write_text(f"{hashlib.sha256(body.getvalue()).hexdigest()}  {path.name}\n")


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """A lake that knows all three, beside an archive with the last day of January and the first two of
    February.
    """
    for table in ("bronze/candle_archive", "bronze/quote_archive"):
        publish(tmp_path / "files", Kiosk("-"), table, "2024-01", datetime(2024, 1, 31, tzinfo=UTC), 1440)
        publish(tmp_path / "files", Kiosk("-"), table, "2024-02", datetime(2024, 2, 1, tzinfo=UTC), 2880)
    registry = replace(
        REGISTRY, datasets=(*REGISTRY.datasets, QUOTE), features=(*REGISTRY.features, DailyRange)
    )
    with Simulator(markets=(), now=NOW, files=tmp_path / "files") as sim:
        yield open_lake(
            Settings(root=str(tmp_path / "lake"), start="2024-01"),
            registry,
            {"kiosk": Kiosk(sim.url)},
            clock=lambda: NOW,
        )


@pytest.mark.parametrize("name", TABLES)
def test_a_table_appears_wherever_tables_are_shown(lake: LakeServices, name: str) -> None:
    table = lake.registry.table(name)
    graph = build_definitions(lake).resolve_asset_graph()
    node = graph.get(asset_key(name))
    above = tables_above(lake, node.parent_keys)
    assert above == {*table.input_names(), *(["silver/market"] if table.zone() == "silver" else [])}
    assert {column.name for column in node.metadata["dagster/column_schema"].columns} == set(table.names())
    assert dg.AssetCheckKey(asset_key(name), "schema") in graph.asset_check_keys
    assert (dg.AssetCheckKey(asset_key(name), "gaps") in graph.asset_check_keys) == (table.zone() == "silver")
    assert f"## {name}\n" in tables_page(lake.registry)
    assert [column["Name"] for column in table.glue_columns()] == table.names()
    Path(lake.objects.uri("landing")).mkdir(parents=True)  # an empty lake
    view = Lake(lake.objects.root, lake.registry).sql(f"SELECT * FROM {name.replace('/', '.')}")
    assert view.columns == [*table.names(), "exchange", "market_type", "symbol", "month"]
    assert view.height == 0


@pytest.mark.slow
def test_it_builds_end_to_end_and_again_with_nothing_to_do(lake: LakeServices) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        reports = {
            report.table: report
            for report in Builder(lake, instance).build(
                lake.registry.named("gold/daily_range"), [COINS], TimeRange.parse("2024-01", "2024-03")
            )
        }
        assert {name: report.failed for name, report in reports.items() if report.failed} == {}
        assert {name: len(reports[name].built) for name in TABLES} == dict.fromkeys(TABLES, 2)
        again = Builder(lake, instance).build(
            lake.registry.named("gold/daily_range"), [COINS], TimeRange.parse("2024-01", "2024-03")
        )
        assert not any(report.built for report in again)
        keys = [dg.AssetCheckKey(asset_key(name), "schema") for name in TABLES]
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        assert {latest[key].status.value for key in keys} == {"SUCCEEDED"}
    reader = Lake(lake.objects.root, lake.registry)
    rows = reader.sql(
        "SELECT open_time::DATE::VARCHAR AS day, range, spread FROM gold.daily_range WHERE exchange = "
        "'kiosk' ORDER BY open_time"
    ).rows()
    assert rows == [("2024-01-31", 6.0, 1.0), ("2024-02-01", 6.0, 1.0), ("2024-02-02", 6.0, 1.0)]
    assert reader.scan("quote", COINS.key, "2024-02-01", "2024-02-02").collect().height == 1440
    assert lake.ledger("gold/daily_range")[Cell("2024-02", COINS)].inputs.keys() == {
        "silver/candle@2024-01",
        "silver/candle@2024-02",
        "silver/quote@2024-02",
    }
