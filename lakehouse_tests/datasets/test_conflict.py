"""All values of disputed candles, of all markets in one table."""

import polars as pl

from lakehouse.datasets.candle import CANDLE, CandleApi, CandleArchive, refine
from lakehouse.datasets.conflict import Conflict, conflict_frame
from lakehouse.datasets.dataset import BronzeCell, BronzeCells
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellFacts
from lakehouse_tests.making import BTC, COIN, FEBRUARY, at, bronze, facts, minutes

DAY = minutes("2024-02-05", 1440)


def cells(archive: pl.DataFrame, api: pl.DataFrame | None = None) -> BronzeCells:
    known = CellFacts(asked_until=at("2024-02-06"))
    parts = {CandleArchive.name: archive} | ({CandleApi.name: api} if api is not None else {})
    return {name: BronzeCell(rows, "v1", known) for name, rows in parts.items()}


def frame_of(*found: tuple[Cell, BronzeCells]) -> pl.DataFrame:
    assert CANDLE.conflicts is not None
    rows = conflict_frame(
        (cell.own_market, "silver/candle", CANDLE.conflicts(parts, cell, facts(cell.own_market)))
        for cell, parts in found
    )
    frame = Conflict.conform(rows, Cell("2024-02"))
    assert Conflict.split(frame)[1].height == 0
    return frame


def test_every_value_of_a_disputed_candle_is_a_row_with_all_who_state_it() -> None:
    archive = pl.concat([bronze(DAY, "monthly"), bronze(DAY[:3], "daily", close=100.5)])
    found = frame_of((FEBRUARY, cells(archive, bronze(DAY[:1], "api", close=100.5))))
    shown = found.select(
        "symbol",
        "table_name",
        "open_time",
        "variant",
        "close",
        "sources",
        "decided_by",
        "is_served",
        "is_settled",
    )
    both, alone = ("both_families", True), ("precedence", False)
    expected = [(0, 1, 100.5, "api+daily", *both), (0, 2, 101.0, "monthly", *both)]
    for n in (1, 2):
        expected += [(n, 1, 100.5, "daily", *alone), (n, 2, 101.0, "monthly", *alone)]
    assert shown.rows() == [
        ("BTCUSDT", "silver/candle", DAY[n], variant, close, names, rule, close == 100.5, settled)
        for n, variant, close, names, rule, settled in expected
    ]
    assert set(found["source_file"]) == {"daily.zip", "monthly.zip"}


def test_of_two_values_in_one_source_none_is_served() -> None:
    found = frame_of((FEBRUARY, cells(pl.concat([bronze(DAY), bronze(DAY[7:8], close=100.5)]))))
    assert found.select("open_time", "variant", "close", "decided_by", "is_served", "is_settled").rows() == [
        (DAY[7], number, close, "two_values_in_one_source", False, False)
        for number, close in ((1, 100.5), (2, 101.0))
    ]


def test_markets_stand_side_by_side_in_the_order_of_the_key() -> None:
    disputed = cells(pl.concat([bronze(DAY, "monthly"), bronze(DAY[:1], close=100.5)]))
    found = frame_of(
        (FEBRUARY, disputed), (Cell("2024-02", COIN), disputed), (Cell("2024-02", BTC), cells(bronze(DAY)))
    )
    assert found.select("market_type", "symbol", "variant").rows() == [
        ("inverse", "BTCUSD_PERP", 1),
        ("inverse", "BTCUSD_PERP", 2),
        ("spot", "BTCUSDT", 1),
        ("spot", "BTCUSDT", 2),
    ]
    assert conflict_frame([]).schema == Conflict.polars_schema()


def test_another_value_that_is_not_served_is_news_in_the_cells_facts() -> None:
    """The served rows, and all that is counted, are the same: only who lists the values has to know."""

    def digest(loser: float) -> tuple[str, int]:
        result = refine(
            cells(pl.concat([bronze(DAY, "monthly", close=loser), bronze(DAY)])), FEBRUARY, facts()
        )
        return result.facts.digest(), result.facts.conflict_count

    assert digest(100.5) == digest(100.5) != digest(100.75)
    assert digest(100.5)[1] == digest(100.75)[1] == 1440
    assert digest(101.0)[1] == 0
    assert refine(cells(bronze(DAY)), FEBRUARY, facts()).facts.conflict_digest == ""
    assert (
        CellFacts.from_json(
            {name: value for name, value in CellFacts().to_json().items() if name != "conflict_digest"}
        )
        == CellFacts()
    )
