"""Gold candles: one declaration per interval, cells that stand alone."""

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.features import FEATURES
from lakehouse.features.candle import CANDLES
from lakehouse.model.feature import Feature
from lakehouse.model.input import Input
from lakehouse.model.interval import COARSE
from lakehouse_tests.making import FEBRUARY, as_given, at, candles, minutes

MINUTES = candles(
    [time for time in minutes("2024-02-03", 3 * 1440) if not (time.day == 4 and 2 <= time.hour < 7)]
)


@pytest.mark.parametrize(
    ("table", "interval"),
    list(zip(CANDLES, COARSE, strict=True)),
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_cell_is_valid_and_a_short_bucket_says_so(table: type[Feature], interval: object) -> None:
    minutes_long = interval.minutes  # type: ignore[attr-defined]
    found = table.conform(table.compute({"silver/candle": MINUTES}, FEBRUARY.window), FEBRUARY)
    assert table.split(found)[1].height == 0
    assert found["candle_count"].sum() == MINUTES.height
    assert found["volume"].sum() == pytest.approx(10 * MINUTES.height)
    short = found.filter(pl.col("candle_count") < minutes_long)
    assert short.filter(~pl.col("open_time").dt.date().eq(at("2024-02-04").date())).height == 0
    assert (short.height > 0) == (minutes_long > 60)
    assert table.inputs == (Input(Candle),), "every interval is made from 1m, alone"


def test_every_feature_declares_what_it_looks_back_on() -> None:
    names = [feature.name for feature in FEATURES]
    assert names == [
        "gold/candle_5m",
        "gold/candle_15m",
        "gold/candle_1h",
        "gold/candle_4h",
        "gold/candle_1d",
        "gold/vwap",
        "gold/return",
        "gold/volatility",
        "gold/indicator_1h",
        "gold/indicator_1d",
        "gold/microstructure_1m",
        "gold/microstructure_1h",
        "gold/daily_panel",
        "gold/funding_carry",
    ]
    for feature in FEATURES:
        assert isinstance(feature.inputs, tuple)
        nothing = {each.name: as_given(feature, each.table.empty()) for each in feature.inputs}
        assert feature.compute(nothing, FEBRUARY.window).schema == feature.polars_schema()
        assert "knowable_at" in feature.columns
