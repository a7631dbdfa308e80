"""All values of disputed candles, of all markets in one table."""

from dataclasses import replace

import polars as pl

from lakehouse.datasets.candle import CANDLE, CandleApi, CandleArchive, refine
from lakehouse.datasets.conflict import Conflict, conflict_frame, conflict_table
from lakehouse.datasets.dataset import BronzeCell, BronzeCells
from lakehouse.model.cell import Cell
from lakehouse.model.result import CellFacts
from lakehouse.model.table import UTC_TIME
from lakehouse.registry import REGISTRY
from lakehouse_tests.making import BTC, COIN, FEBRUARY, at, bronze, facts, minutes
from lakehouse_tests.test_extensibility import QUOTE

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


def test_another_datasets_conflict_table_is_made_from_what_its_archive_publishes() -> None:
    disputed = replace(QUOTE, conflicts=lambda bronze, cell, market: pl.DataFrame())
    table = conflict_table(disputed)
    assert conflict_table(CANDLE) is Conflict
    assert table is conflict_table(disputed), "one declaration, however often it is asked for"
    assert (table.name, table.time, table.spread) == ("silver/quote_conflict", "open_time", "all")
    assert list(table.input_names()) == ["silver/quote"]
    values = [name for name in table.names() if name not in Conflict.names()]
    assert values == ["bid", "ask"]
    assert table.names()[:7] == [*Conflict.names()[:4], "open_time", "bid", "ask"]
    assert table.names()[7:] == Conflict.names()[-8:]
    rows = pl.DataFrame(
        {
            "open_time": DAY[:2],
            "bid": [1.0, None],
            "ask": [2.0, None],
            "sources": ["daily", "api"],
            "source_file": ["a", ""],
            "fetched_at": DAY[:2],
            "rule": ["witness", "witness"],
            "is_served": [True, True],
            "is_settled": [True, True],
            "is_absent": [False, True],
        },
        schema_overrides={"open_time": UTC_TIME, "fetched_at": UTC_TIME},
    )
    frame = table.conform(conflict_frame([(BTC, "silver/quote", rows)], table), Cell("2024-02"))
    assert table.split(frame)[1].height == 0
    assert frame.select("table_name", "variant", "bid", "is_absent").rows() == [
        ("silver/quote", 1, 1.0, False),
        ("silver/quote", 1, None, True),
    ]
    registry = replace(REGISTRY, datasets=(*REGISTRY.datasets, disputed))
    assert registry.table("quote_conflict") is table
    assert list(registry.gap.input_names()) == list(REGISTRY.gap.input_names()), "quotes state no cadence"
    upstream = [found.name for found in registry.upstream([registry.table("silver/quote")])]
    assert upstream == ["bronze/quote_archive", "silver/quote", "silver/quote_conflict"]
