"""Every gold table out of hostile histories: a month by itself is byte for byte what all of history makes of
it, and what stands in full windows is what plain formulas make of their candles.

The histories have gaps of all lengths, listing breaks, candles that open late, two in one minute, still and
silent stretches, and values that are not published.
"""

import math
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import fmean, variance

import polars as pl
import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.datasets.funding_rate import FundingRate
from lakehouse.features.candle import CANDLES, OF_INTERVAL
from lakehouse.features.indicator import INDICATORS
from lakehouse.features.microstructure import MICROSTRUCTURES
from lakehouse.features.price_return import Return
from lakehouse.features.volatility import Volatility
from lakehouse.model.cell import Cell
from lakehouse.model.feature import Feature
from lakehouse.model.interval import Interval
from lakehouse.model.timerange import TimeRange
from lakehouse.registry import REGISTRY
from lakehouse_tests.features.lookahead import funding
from lakehouse_tests.making import BTC, MICRO, MINUTE, as_given, candles, minutes

JANUARY, MARCH = Cell("2024-01", BTC), Cell("2024-03", BTC)
SPAN = TimeRange(JANUARY.window.start, MARCH.window.end)
LATE, AGAIN = timedelta(seconds=17, milliseconds=300), timedelta(seconds=40)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OF_CANDLES = [feature for feature in REGISTRY.features if feature.name != "gold/funding_carry"]

pytestmark = pytest.mark.slow  # two histories of three months of minutes


def hostile(seed: int) -> pl.DataFrame:
    """Candles of three months as no exchange would have them."""
    draw, times = random.Random(seed), minutes("2024-01-01", (SPAN.end - SPAN.start) // MINUTE)

    def stretches(count: int, longest: int) -> set[int]:
        begins = [draw.randrange(len(times)) for _ in range(count)]
        return {n for begin in begins for n in range(begin, begin + draw.randint(1, longest))}

    still, silent = stretches(6, 4000), stretches(200, 60)
    absent = stretches(8, 1) | stretches(4, 90) | stretches(2, 3000) | stretches(1, 9 * 1440)
    late = set[int]()
    for begin in (draw.randrange(len(times)) for _ in range(3)):
        absent |= set(range(begin - 37, begin))
        late |= set(range(begin, begin + 1000))
    columns: dict[str, list[float]] = {name: [] for name in ("open", "high", "low", "close", "volume")}
    price = 100.0
    for n in range(len(times)):
        is_still = n in still
        last = price if is_still else round(price * math.exp(draw.gauss(0, 1e-3)), 4)
        reach = 0.0 if is_still else round(draw.random() / 20, 4)
        size = 0.0 if is_still or n in silent else round(draw.expovariate(0.1), 5)
        row = price, max(price, last) + reach, min(price, last) - reach, last, size
        for values, value in zip(columns.values(), row, strict=True):
            values.append(value)
        price = last
    sizes = columns["volume"]
    opened = [time + LATE if n in late else time for n, time in enumerate(times)]
    rows = candles(
        opened,
        **columns,
        trade_count=[int(2 * size) for size in sizes],
        quote_volume=[round(size * last, 6) for size, last in zip(sizes, columns["close"], strict=True)],
        taker_buy_volume=[round(size * draw.random(), 5) for size in sizes],
        contracts=[round(100 * size) for size in sizes],
    )
    rows = rows.with_columns(
        taker_buy_quote_volume=pl.col("taker_buy_volume") * pl.col("low")
    ).with_row_index("n")
    for name in ("taker_buy_volume", "trade_count", "quote_volume"):
        rows = rows.with_columns(pl.when(~pl.col("n").is_in(stretches(4, 300))).then(name).alias(name))
    rows = rows.filter(~pl.col("n").is_in(absent)).drop("n")
    twice = rows.filter(pl.col("open_time").dt.second() == 0).sample(5, seed=seed)
    twice = twice.with_columns(pl.col("open_time", "close_time") + AGAIN)
    return pl.concat([rows, twice]).sort("open_time")


@pytest.fixture(scope="module", params=[1, 2])
def sources(request: pytest.FixtureRequest) -> Mapping[str, pl.DataFrame]:
    """A history of every table that gold is made of."""
    found = {Candle.name: hostile(request.param), FundingRate.name: funding().rows}
    for table in (*CANDLES, MICROSTRUCTURES[0]):
        found[table.name] = table.compute(found, SPAN)
    return found


def given(feature: type[Feature], sources: Mapping[str, pl.DataFrame], cell: Cell) -> dict[str, pl.DataFrame]:
    """The rows of the cells that a cell is made from."""
    found = {}
    for each in feature.inputs:
        cells, rows = each.cells(cell), as_given(feature, sources[each.name])
        begin, end = cells[0].window.start, cells[-1].window.end
        found[each.name] = rows.filter(pl.col(each.table.time).is_between(begin, end, closed="left"))
    return found


def made(feature: type[Feature], sources: Mapping[str, pl.DataFrame], cell: Cell = MARCH) -> pl.DataFrame:
    """The rows of a cell by itself."""
    return feature.compute(given(feature, sources, cell), cell.window)


@pytest.mark.parametrize("feature", REGISTRY.features, ids=lambda feature: feature.name)
def test_a_month_is_what_all_of_history_makes_of_it(
    sources: Mapping[str, pl.DataFrame], feature: type[Feature]
) -> None:
    alone, time = made(feature, sources), pl.col(feature.time)
    assert alone.height > 0
    assert feature.split(feature.conform(alone, MARCH))[1].height == 0
    whole = {name: as_given(feature, rows) for name, rows in sources.items()}
    of_march = time.is_between(MARCH.window.start, MARCH.window.end, closed="left")
    if feature in INDICATORS:  # what has a memory begins with its month's lookback, whatever lies before it
        shuffled = {name: rows.sample(fraction=1, shuffle=True, seed=7) for name, rows in whole.items()}
        assert alone.equals(feature.compute(shuffled, MARCH.window).filter(of_march))
    else:
        assert alone.equals(feature.compute(whole, SPAN).filter(of_march))


@pytest.mark.parametrize("feature", OF_CANDLES, ids=lambda feature: feature.name)
def test_no_row_could_be_known_before_the_last_minute_in_it_has_ended(
    sources: Mapping[str, pl.DataFrame], feature: type[Feature]
) -> None:
    of_name = {"gold/volatility": "1h", "gold/daily_panel": "1d", "gold/vwap": "1m", "gold/return": "1m"}
    length = Interval.parse(of_name.get(feature.name) or feature.name.rpartition("_")[2])
    opened = pl.col("open_time")
    own = opened if length.minutes == 1 else opened.dt.truncate(length.name)
    ends = sources[Candle.name].group_by(own.alias("open_time")).agg(end=pl.col("close_time").max() + MICRO)
    rows = pl.concat([made(feature, sources, JANUARY.shift(n)) for n in range(3)])
    both = rows.join(ends, on="open_time", how="left")
    assert both["end"].null_count() == 0
    assert both.filter(pl.col("knowable_at") < pl.col("end")).height == 0
    assert both.filter(pl.col("knowable_at") > pl.max_horizontal(opened + length.delta, "end")).height == 0


# --- by plain formulas ------------------------------------------------------------------------------


def whole_windows(rows: pl.DataFrame, step: timedelta, count: int) -> dict[datetime, list[tuple[float, ...]]]:
    """Prices of the last `count` candles, by the time of each one that has as many just `step` apart."""
    times, prices = rows["open_time"].to_list(), rows.select("open", "high", "low", "close").rows()
    found, length = {}, 0
    for n, time in enumerate(times):
        length = length + 1 if n and time - times[n - 1] == step else 1
        if length >= count:
            found[time] = prices[n - count + 1 : n + 1]
    return found


def volatilities(prices: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """The estimators over all but the first of some candles, as their authors have them."""
    n, log = len(prices) - 1, math.log
    steps = [log(after[0] / before[3]) for before, after in pairwise(prices)]
    moves = [log(after[3] / before[3]) for before, after in pairwise(prices)]
    ups = [log(high / opened) for opened, high, _, _ in prices[1:]]
    downs = [log(low / opened) for opened, _, low, _ in prices[1:]]
    bodies = [log(last / opened) for opened, _, _, last in prices[1:]]
    satchell = fmean(u * (u - b) + d * (d - b) for u, d, b in zip(ups, downs, bodies, strict=True))
    share = 0.34 / (1.34 + (n + 1) / (n - 1))
    ranges = [(u - d) ** 2 for u, d in zip(ups, downs, strict=True)]
    variances = {
        "close_to_close": variance(moves),
        "parkinson": fmean(ranges) / (4 * log(2)),
        "garman_klass": fmean(r / 2 - (2 * log(2) - 1) * b**2 for r, b in zip(ranges, bodies, strict=True)),
        "rogers_satchell": satchell,
        "yang_zhang": variance(steps) + share * variance(bodies) + (1 - share) * satchell,
        "realized": fmean(move**2 for move in moves),
    }
    return {name: math.sqrt(n * max(value, 0)) for name, value in variances.items()}


def test_volatility_is_what_its_authors_make_of_whole_windows(sources: Mapping[str, pl.DataFrame]) -> None:
    minute = whole_windows(sources[Candle.name], MINUTE, 61)
    hourly = sources[OF_INTERVAL[Interval.parse("1h")].name].filter(candle_count=60)
    day, met, lacking = whole_windows(hourly, HOUR, 25), 0, 0
    for row in made(Volatility, sources).iter_rows(named=True):
        for window, name, least in ((minute, "1h", "realized_1h"), (day, "1d", "yang_zhang_1d")):
            found = window.get(row["open_time"] + (59 * MINUTE if name == "1h" else timedelta()))
            if found is None:
                assert row[least] is None
                assert row[f"close_to_close_{name}"] is None
                lacking += 1
                continue
            for estimator, value in volatilities(found).items():
                if (estimator, name) != ("realized", "1d"):  # of minutes
                    told = row[f"{estimator}_{name}"]
                    assert told == pytest.approx(value, rel=1e-9, abs=1e-9), (
                        estimator,
                        name,
                        row["open_time"],
                    )
                    met += 1
    assert met > 1000
    assert lacking > 10


def test_a_return_stands_where_every_minute_between_has_a_candle(sources: Mapping[str, pl.DataFrame]) -> None:
    rows = sources[Candle.name]
    stretch = (rows["open_time"].diff() != MINUTE).fill_null(True).cum_sum()
    told = rows.select("open_time", "close", stretch=stretch)
    found = made(Return, sources)
    for name, span in (("1m", MINUTE), ("1h", HOUR), ("1d", DAY)):
        earlier = told.select(pl.col("open_time") + span, before="close", was="stretch")
        both = found.join(told, on="open_time").join(earlier, on="open_time", how="left")
        stands = (both["was"] == both["stretch"]).fill_null(False)
        assert (both[f"simple_return_{name}"].is_not_null() == stands).all()
        both = both.filter(stands)
        far = both[f"simple_return_{name}"] - (both["close"] / both["before"] - 1)
        assert 0 < both.height < found.height
        assert far.abs().max() < 1e-12  # type: ignore[operator]
