"""A feature with two inputs of two grains, one of them optional: quotes in days, and the month's candles
where there are any.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.period import Period
from lakehouse.model.table import UTC_TIME, Column
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse_tests.extensibility.test_days import (
    DAY_QUOTE,
    DAYS,
    MARKET,
    NOW,
    DayQuote,
    Stall,
    publish_days,
)
from lakehouse_tests.extensibility.toys import build, put, require_shown, seconds, toy_lake
from lakehouse_tests.making import at, minutes


class Spread(Feature):
    """Mean spread of a day and of the day before, and the day's last price where there are candles."""

    name = "gold/spread"
    key = ("day_time",)
    time = "day_time"
    grain = "day"
    inputs = (Input(DayQuote, lookback=timedelta(days=1)), Input(Candle, required=False))

    day_time = Column(UTC_TIME, "The day", "UTC")
    spread = Column(  # type: ignore[assignment]
        pl.Float64, "Mean of ask less bid", "quote", above=0
    )
    quotes_before = Column(pl.Int64, "Quotes of the day before", "count", at_least=0)
    price = Column(pl.Float64, "Last price of the day", "quote", nullable=True)

    @classmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        quotes, candles = inputs["silver/day_quote"], inputs["silver/candle"]
        of_day = quotes.filter(pl.col("quote_time") >= window.start)
        within = candles.filter(pl.col("open_time").is_between(window.start, window.end, closed="left"))
        row = {
            "day_time": window.start,
            "spread": (of_day["ask"] - of_day["bid"]).mean(),
            "quotes_before": quotes.height - of_day.height,
            "price": within["close"].last() if within.height else None,
        }
        return pl.DataFrame([row], schema=cls.polars_schema())


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeServices]:
    """A lake beside an archive with three days of quotes, and candles of February alone."""
    publish_days(tmp_path)
    candles = [f"{seconds(time)},{100 + n}" for n, time in enumerate(minutes("2024-02-01", 2880))]
    put(tmp_path, Stall.files["bronze/candle_archive"].key(MARKET, Period.parse("2024-02")), candles)
    with toy_lake(tmp_path, Stall, NOW, (DAY_QUOTE,), (Spread,)) as opened:
        yield opened


def test_a_feature_of_two_grains_appears_wherever_tables_are_shown(lake: LakeServices) -> None:
    require_shown(lake, "gold/spread", ["exchange", "market_type", "symbol", "date"])


@pytest.mark.slow
def test_it_builds_from_days_and_months_with_and_without_the_optional_input(lake: LakeServices) -> None:
    versions = build(lake, "gold/spread", [MARKET], "2024-01-31", "2024-02-03")
    stored = lake.ledger("gold/spread")
    assert versions["gold/spread"] == {str(cell): record.version for cell, record in stored.items()}
    assert set(versions["gold/spread"]) == {f"{day}|stall-spot:COIN" for day in DAYS}
    rows = Lake(lake.objects.root, lake.registry).sql(
        "SELECT day_time, spread, quotes_before, price FROM gold.spread ORDER BY 1"
    )
    assert rows.rows() == [
        (at("2024-01-31"), 1.0, 0, None),
        (at("2024-02-01"), 1.0, 1440, 1539.0),
        (at("2024-02-02"), 1.0, 1439, 2979.0),
    ]
    inputs = {cell.date: sorted(record.inputs) for cell, record in stored.items()}
    assert inputs["2024-02-01"] == [
        "silver/candle@2024-02",
        "silver/day_quote@2024-01-31",
        "silver/day_quote@2024-02-01",
    ]


@pytest.mark.slow
def test_a_month_of_the_optional_input_that_comes_later_makes_its_days_due(
    tmp_path: Path, lake: LakeServices
) -> None:
    before = build(lake, "gold/spread", [MARKET], "2024-01-31", "2024-02-03")["gold/spread"]
    candles = [f"{seconds(time)},{100 + n}" for n, time in enumerate(minutes("2024-01-31", 1440))]
    put(tmp_path, Stall.files["bronze/candle_archive"].key(MARKET, Period.parse("2024-01")), candles)
    with toy_lake(tmp_path, Stall, NOW, (DAY_QUOTE,), (Spread,)) as again:  # a simulator lists files once
        after = build(again, "gold/spread", [MARKET], "2024-01-31", "2024-02-03")["gold/spread"]
    assert {key for key, version in after.items() if before[key] != version} == {"2024-01-31|stall-spot:COIN"}
    prices = Lake(lake.objects.root, lake.registry).sql("SELECT price FROM gold.spread ORDER BY day_time")
    assert prices["price"].to_list() == [1539.0, 1539.0, 2979.0]
