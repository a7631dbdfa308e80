"""Tables of indicators: full windows alone, a month the same in a range, nothing over a gap."""

from datetime import timedelta

import polars as pl
import pytest

from lakehouse.features.candle import CANDLES
from lakehouse.features.indicator import INDICATORS
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.transform.indicators import needed
from lakehouse_tests.making import BTC, at, walk

HOURLY, DAILY = INDICATORS
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MARCH, APRIL = Cell("2024-03", BTC), Cell("2024-04", BTC)


def coarse(table: type[Feature], start: str, count: int, **lacking: int) -> pl.DataFrame:
    """Rows of the candles that a table is made from; `lacking` are places of candles that lack a minute."""
    step, source = (HOUR, "gold/candle_1h") if table is HOURLY else (DAY, "gold/candle_1d")
    declared = next(each for each in CANDLES if each.name == source)
    rows = walk([at(start) + n * step for n in range(count)], step=1e-2)
    whole = step // timedelta(minutes=1)
    counts = [whole - (n in lacking.values()) for n in range(count)]
    return rows.with_columns(
        candle_count=pl.Series(counts, dtype=pl.Int32), knowable_at=pl.col("open_time") + step
    ).select(declared.names())


def computed(table: type[Feature], rows: pl.DataFrame, cell: Cell = MARCH) -> pl.DataFrame:
    (source,) = table.inputs
    found = table.conform(table.compute({source.name: rows}, cell.window), cell)
    assert table.split(found)[1].height == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("table", "flat", "step"), [(HOURLY, 1e-8, HOUR), (DAILY, 1e-5, DAY)])
def test_the_lookback_holds_what_every_column_needs(
    table: type[Feature], flat: float, step: timedelta
) -> None:
    counts = {name: count for name, count in needed(flat).items() if name in table.columns}
    assert set(table.names()) - counts.keys() == {"open_time", "knowable_at"}
    assert needed(flat).keys() - counts.keys() == (set() if table is HOURLY else {"ema_50"})
    (source,) = table.inputs
    assert max(counts.values()) <= source.lookback // step + 1
    first = MARCH.window.start
    for name, count in counts.items():
        told = f"; of {count} candles"
        assert table.columns[name].description.endswith(told)
        begin = first - (count - 1) * step
        found = computed(table, coarse(table, begin.strftime("%Y-%m-%dT%H:%M"), count + 1))
        assert found["open_time"][0] == first
        assert found[name].is_null().to_list() == [False, False], name
        found = computed(table, coarse(table, (begin + step).strftime("%Y-%m-%dT%H:%M"), count))
        assert found[name].is_null().to_list() == [True, False], name


def test_a_candle_that_lacks_a_minute_begins_every_window_anew() -> None:
    rows = coarse(HOURLY, "2024-01-29", 63 * 24, lacking=40 * 24)  # of 2024-03-09 00:00
    found = {row["open_time"]: row for row in computed(HOURLY, rows).iter_rows(named=True)}
    short = at("2024-03-09")
    names = needed(1e-8)
    before, at_it = found[short - HOUR], found[short]
    assert [before[name] is None for name in names] == [False] * len(names)
    assert [at_it[name] for name in names] == [None] * len(names)
    for name, count in names.items():
        full = short + count * HOUR
        if full in found:
            assert found[full - HOUR][name] is None
            assert found[full][name] is not None
    assert found[short + HOUR]["knowable_at"] == short + 2 * HOUR


@pytest.mark.parametrize("table", INDICATORS)
def test_a_month_is_the_same_whatever_else_is_stored_before_it(table: type[Feature]) -> None:
    rows = coarse(table, "2022-03-01", 780 if table is DAILY else 780 * 24)
    (source,) = table.inputs
    alone = computed(table, rows.filter(pl.col("open_time") >= MARCH.window.start - source.lookback))
    assert alone.equals(computed(table, rows.sample(fraction=1, shuffle=True, seed=1)))
    assert alone.height == (31 if table is DAILY else 744)
    assert alone.null_count().sum_horizontal().item() == 0


def test_an_inverse_market_counts_base_and_wants_no_quote_volume() -> None:
    rows = coarse(HOURLY, "2024-01-29", 63 * 24)
    inverse = rows.with_columns(
        quote_volume=pl.lit(None, pl.Float64), contracts=pl.col("volume") * 1000, volume=pl.col("volume") / 64
    )
    plain, found = computed(HOURLY, rows), computed(HOURLY, inverse)
    assert found["obv_20"].equals(plain["obv_20"] / 64)
    assert found["mfi_14"].equals(plain["mfi_14"])
