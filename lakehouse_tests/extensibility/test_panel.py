"""A panel: a gold table with one object a month in which all markets stand together."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.market import Market
from lakehouse.model.period import Period
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse_tests.extensibility.toys import build, put, require_shown, seconds, toy_lake
from lakehouse_tests.making import at, minutes
from lakehouse_tests.test_extensibility import COINS, Kiosk

NOW = at("2024-06-15T12:00")
TOKENS = Market("kiosk", "spot", "TOKEN")


class Breadth(Feature):
    """How many markets rose on a day, of all that have candles on it."""

    name = "gold/breadth"
    key = ("day_time",)
    time = "day_time"
    spread = "all"
    inputs = (Input(Candle),)

    day_time = Column(UTC_TIME, "The day", "UTC")
    markets = Column(pl.Int64, "Markets with candles", "count", above=0)
    rising = Column(pl.Int64, "Those that closed above their open", "count", at_least=0)

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        day = pl.col("open_time").dt.truncate("1d").alias("day_time")
        of_market = (
            inputs["silver/candle"]
            .group_by(day, "exchange", "market_type", "symbol", maintain_order=True)
            .agg(rises=pl.col("close").last() > pl.col("open").first())
        )
        return (
            of_market.group_by("day_time")
            .agg(markets=pl.len().cast(pl.Int64), rising=pl.col("rises").sum().cast(pl.Int64))
            .select(cls.names())
        )


def publish(folder: Path, market: Market, step: int) -> None:
    """Two days of candles whose price goes up or down by a step a minute."""
    lines = [f"{seconds(time)},{5000 + n * step}" for n, time in enumerate(minutes("2024-02-01", 2880))]
    put(folder, Kiosk.files["bronze/candle_archive"].key(market, Period.parse("2024-02")), lines)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """A lake beside an archive with one market that rises and one that falls."""
    publish(tmp_path, COINS, 1)
    publish(tmp_path, TOKENS, -1)
    with toy_lake(tmp_path, Kiosk, NOW, features=(Breadth,)) as opened:
        yield opened


def test_a_panel_appears_wherever_tables_are_shown(lake: LakeServices) -> None:
    require_shown(lake, "gold/breadth", ["month"])


@pytest.mark.slow
def test_a_panel_is_one_cell_a_month_over_all_markets(lake: LakeServices) -> None:
    first = build(lake, "gold/breadth", [COINS], "2024-02", "2024-03")["gold/breadth"]
    reader = Lake(lake.objects.root, lake.registry)
    assert reader.sql("SELECT markets, rising FROM gold.breadth ORDER BY day_time").rows() == [(1, 1), (1, 1)]
    both = build(lake, "gold/breadth", [COINS, TOKENS], "2024-02", "2024-03")["gold/breadth"]
    assert set(first) == set(both) == {"2024-02"}
    assert first != both  # another market is news
    stored = lake.ledger("gold/breadth")
    assert both == {str(cell): record.version for cell, record in stored.items()}
    assert stored[Cell("2024-02")].path == "gold/breadth/month=2024-02/data.parquet"
    assert reader.sql("SELECT day_time, markets, rising FROM gold.breadth ORDER BY day_time").rows() == [
        (at("2024-02-01"), 2, 1),
        (at("2024-02-02"), 2, 1),
    ]
    assert reader.scan("breadth", start="2024-02-02", end="2024-02-03").collect().height == 1
