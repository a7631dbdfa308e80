"""What a cell is made from: the upstream cells that touch its window or its lookback, of any grain."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datasets.candle import CANDLE, Candle
from lakehouse.model.cell import Cell
from lakehouse.model.input import Input, touched_dates
from lakehouse.model.period import Period, PeriodKind
from lakehouse_tests.making import BTC, MICRO, at

DAY = timedelta(days=1)


class Daily(Candle):
    """Candles by day."""

    name = "silver/daily"
    grain = "day"


grains = st.sampled_from(["month", "day"])
windows = st.builds(Period.of, st.integers(0, 5000).map(lambda days: at("2017-08-01") + days * DAY), grains)
lookbacks = st.timedeltas(timedelta(), timedelta(days=100)) | st.integers(0, 100).map(lambda n: n * DAY)


@given(windows, grains, lookbacks)
def test_upstream_cells_cover_the_window_and_the_lookback_and_no_cell_is_spare(
    window: Period, grain: PeriodKind, lookback: timedelta
) -> None:
    cell = Cell(window.text, BTC)
    cells = Input(Daily if grain == "day" else Candle, lookback).cells(cell)
    periods = [each.period for each in cells]
    assert {each.market for each in cells} == {BTC}
    assert [one.shift(1) for one in periods[:-1]] == periods[1:]
    assert periods[0].contains(cell.window.start - lookback)
    assert periods[-1].contains(cell.window.end - MICRO)
    assert touched_dates(cell.date, grain, lookback) == tuple(period.text for period in periods)


@pytest.mark.parametrize(
    ("table", "date", "lookback", "made_from"),
    [
        (Candle, "2024-03", 0, ["2024-03"]),
        (Candle, "2024-03", 1, ["2024-02", "2024-03"]),
        (Candle, "2024-03", 29, ["2024-02", "2024-03"]),
        (Candle, "2024-03", 30, ["2024-01", "2024-02", "2024-03"]),
        (Candle, "2024-03-01", 0, ["2024-03"]),
        (Candle, "2024-03-01", 1, ["2024-02", "2024-03"]),
        (Daily, "2024-03-01", 1, ["2024-02-29", "2024-03-01"]),
        (Daily, "2024-02", 1, ["2024-01-31", *(f"2024-02-{day:02d}" for day in range(1, 30))]),
    ],
)
def test_a_lookback_counts_time_whatever_the_grains(
    table: type[Candle], date: str, lookback: int, made_from: list[str]
) -> None:
    cells = Input(table, lookback * DAY).cells(Cell(date, BTC))
    assert [cell.date for cell in cells] == made_from


def test_nothing_is_looked_back_on_before_the_calendar() -> None:
    assert [cell.date for cell in Input(Candle, 400 * DAY).cells(Cell("0001-02"))] == ["0001-01", "0001-02"]


def test_a_cell_is_made_by_what_its_role_or_its_being_required_says() -> None:
    made = {
        (each.role, each.required, rows): each.makes(rows)
        for each in (
            Input(Candle),
            Input(Candle, required=False),
            Input(Candle, role="archive"),
            Input(Candle, role="api"),
            Input(Candle, role="witness"),
        )
        for rows in (0, 1)
    }
    assert made == {
        (None, True, 0): True,
        (None, True, 1): True,
        (None, False, 0): False,
        (None, False, 1): False,
        ("archive", True, 0): True,
        ("archive", True, 1): True,
        ("api", True, 0): False,
        ("api", True, 1): True,
        ("witness", True, 0): False,
        ("witness", True, 1): False,
    }


def test_the_roles_of_bronze_tables_are_those_of_the_silver_tables_inputs() -> None:
    assert {each.name: each.role for each in Candle.inputs} == {
        "bronze/candle_witness": "witness",
        "bronze/candle_archive": "archive",
        "bronze/candle_api": "api",
    }
    assert (CANDLE.witness, CANDLE.archive, CANDLE.api) == CANDLE.bronze
    assert CANDLE.restated == (CANDLE.archive, CANDLE.api)
