"""What is told of whole tables in columns is never more than what is told cell by cell."""

import random
from datetime import datetime, timedelta
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from lakehouse.datasets.candle import Candle, CandleApi, CandleArchive, CandleWitness
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.features.candle import CANDLES
from lakehouse.features.vwap import Vwap
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import NONE, Asked, AskedOutcome, CellFacts, CellResult
from lakehouse.model.table import Table
from lakehouse.opening import open_lake
from lakehouse.pipeline.derived import Derived
from lakehouse.pipeline.inventory import Inventory, span_of
from lakehouse.pipeline.recipes import recipes
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.storage.layout import cell_path
from lakehouse_tests.making import NOW, bronze, candles, facts, minutes

MARKETS = [Market("binance", "spot", f"{name}USDT") for name in ("BTC", "ETH", "币安")]
MONTHS = ["2023-11", "2023-12", "2024-01", "2024-02"]
CELLS = [Cell(month, market) for market in MARKETS for month in MONTHS]


@pytest.fixture
def lake(tmp_path: Path) -> LakeServices:
    lake = open_lake(Settings(root=str(tmp_path / "lake"), start="2023-11"))
    lake.clock = lambda: NOW
    known = [facts(market, "2023-12-10" if market is MARKETS[1] else "2020-01-01") for market in MARKETS]
    lake.tables.put(MarketTable, None, CellResult(market_frame(known), {}))
    return lake


def asked_of(draw: random.Random, cell: Cell) -> tuple[Asked, ...]:
    """One asking for all of a cell, or others."""
    start, end = cell.window.start, cell.window.end
    whole = [(start, end)]
    spans: list[list[tuple[datetime, datetime]]] = [
        whole, whole, whole, [], [(start, end - timedelta(days=3))], [(start + timedelta(days=2), end)],
        [(start, start + timedelta(days=9)), (start + timedelta(days=9), end)],
        [(start, start + timedelta(days=9)), (start + timedelta(days=11), end)],
    ]  # fmt: skip
    outcomes: list[AskedOutcome] = ["rows", "rows", "rows", "empty", "short", "unreachable", "unknown"]
    return tuple(
        Asked(
            *span,
            NOW - timedelta(days=draw.choice([1, 40])),
            draw.choice(outcomes),
            tries=draw.choice([0, 3]),
        )
        for span in draw.choice(spans)
    )


def put(
    lake: LakeServices, table: type[Table], cell: Cell, inputs: dict[str, str], known: CellFacts, day: int
) -> str:
    times = minutes(f"{cell.date}-{day:02}", 3)
    rows = candles(times) if table is Candle else bronze(times) if table is CandleArchive else table.empty()
    return lake.tables.put(table, cell, CellResult(rows, inputs, known)).version


def fill(lake: LakeServices, draw: random.Random) -> None:
    """Cells of all kinds: as they should be, absent, empty, in doubt, judged or made otherwise."""
    versions: dict[tuple[str, Cell], str] = {}

    def stored(table: type[Table], cell: Cell) -> str:
        return versions.get((table.name, cell), NONE)

    nothing = CellFacts()

    def store(table: type[Table], cell: Cell, inputs: dict[str, str], known: CellFacts = nothing) -> None:
        if draw.random() < 0.15:
            return
        if inputs and draw.random() < 0.15:
            inputs = inputs | {draw.choice(list(inputs)): "0" * 32}
        if inputs and draw.random() < 0.1:
            inputs = dict(list(inputs.items())[1:])
        last = (cell.window.end - timedelta(days=1)).day
        day = draw.choice([last, last, last, 5])
        versions[table.name, cell] = put(lake, table, cell, inputs, known, day)

    for cell in CELLS:
        store(CandleWitness, cell, {}, CellFacts(asked=asked_of(draw, cell), asked_until=cell.window.end))
        doubts = (f"{cell.date}-07",) if draw.random() < 0.2 else ()
        witness = f"{CandleWitness.name}@{cell.date}"
        store(
            CandleArchive,
            cell,
            {cell.date: "a", witness: stored(CandleWitness, cell)},
            CellFacts(doubts=doubts),
        )
        judges = {
            f"{table.name}@{cell.date}": stored(table, cell) for table in (CandleArchive, CandleWitness)
        }
        if draw.random() < 0.3:
            store(
                CandleApi,
                cell,
                judges,
                CellFacts(asked=asked_of(draw, cell), revised_at=draw.choice([None, NOW])),
            )
    for table in (Candle, *CANDLES, Vwap, REGISTRY.gap):
        recipe, has = recipes(REGISTRY)[table], Inventory(lake)
        assert isinstance(recipe, Derived)
        for cell in CELLS if table is not REGISTRY.gap else map(Cell, MONTHS):
            store(table, cell, dict(recipe.inputs(has, cell)))


@pytest.mark.parametrize("seed", range(4))
def test_no_cell_that_is_due_is_told_to_be_fresh_and_hardly_any_other_is_suspected(
    lake: LakeServices, seed: int
) -> None:
    fill(lake, random.Random(seed))
    spared = 0
    for table, recipe in recipes(REGISTRY).items():
        has = Inventory(lake)
        cells, standing = recipe.expected(has), recipe.standing(has)
        suspects, fresh = standing.suspects, standing.fresh
        assert sorted([*suspects, *fresh], key=str) == sorted(cells, key=str), table.name
        # one by one, so that nothing is told of all at once
        due = {cell for cell in cells if recipe.due(has, [cell]).reasons}
        assert due.isdisjoint(fresh), table.name
        if isinstance(recipe, Derived):
            # footers escape a symbol in other letters, which names the inputs of tables by month alone
            assert due == set(suspects) or table.spread == "all", table.name
            assert set(standing.strays) == has.ledger(table.name).keys() - set(cells)
        spared += len(fresh)
    assert spared > 40, "of about 140"


@pytest.mark.slow
@pytest.mark.parametrize(("markets", "seed"), [(None, 0), (MARKETS[:2], 1)])
def test_of_a_range_of_time_the_same_is_due_as_of_all_of_it(
    lake: LakeServices, markets: list[Market] | None, seed: int
) -> None:
    fill(lake, random.Random(seed))
    told = 0
    for first, last in combinations_with_replacement(MONTHS, 2):
        asked = [
            Cell(month, market) for market in markets or MARKETS for month in MONTHS if first <= month <= last
        ]
        for table, recipe in recipes(REGISTRY).items():
            whole, narrow = Inventory(lake, markets), Inventory(lake, markets, span=span_of(asked))
            covered = recipe.covered(whole, asked)
            assert recipe.covered(narrow, asked) == covered, (table.name, first, last)
            due = recipe.due(whole, covered)
            assert recipe.due(narrow, covered) == due, (table.name, first, last)
            told += len(due.reasons)
    assert told


def test_of_a_range_of_time_no_other_cell_is_looked_at(lake: LakeServices) -> None:
    fill(lake, random.Random(1))
    has = Inventory(lake, span=Cell("2024-01").window)
    assert {cell.date for cell in has.ledger(CandleArchive.name)} == {"2024-01"}
    assert {cell.date for cell in has.ledger(Candle.name)} == {"2023-12", "2024-01", "2024-02"}, "VWAP's day"
    assert {cell.date for cell in has.ledger("gold/candle_5m")} == {"2024-01"}
    assert {cell.date for cell in has.ledger("gold/candle_1d")} == set(MONTHS), "600 days of an indicator"


def test_of_a_few_markets_an_object_of_all_is_due_for_what_they_changed(
    lake: LakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cell in CELLS:
        put(lake, Candle, cell, {}, CellFacts(), 5)
    gap, recipe = REGISTRY.gap, recipes(REGISTRY)[REGISTRY.gap]
    assert isinstance(recipe, Derived)
    for month in map(Cell, MONTHS):
        lake.tables.put(gap, month, CellResult(gap.empty(), recipe.inputs(Inventory(lake), month)))
    put(lake, Candle, CELLS[1], {}, CellFacts(conflict_count=1), 5)  # of the first market
    listed: list[str] = []
    listing = lake.objects.list
    monkeypatch.setattr(lake.objects, "list", lambda prefix: listed.append(prefix) or listing(prefix))

    def due(market: Market, is_theirs_alone: bool) -> list[str]:
        has = Inventory(lake, [market], is_theirs_alone=is_theirs_alone)
        months = recipe.covered(has, [Cell(month, market) for month in MONTHS])
        assert [month.date for month in months] == MONTHS
        return [cell.date for cell in recipe.due(has, months).reasons]

    assert [due(market, True) for market in MARKETS] == [["2023-12"], [], []]
    assert Candle.name not in listed, "only folders of markets are listed"
    assert [due(market, False) for market in MARKETS] == [["2023-12"]] * 3
    lake.objects.delete(cell_path(Candle, CELLS[-1]))
    assert [due(market, True) for market in MARKETS[:2]] == [["2023-12"], []]
    assert recipe.due(
        Inventory(lake, [MARKETS[2]], is_theirs_alone=True), map(Cell, MONTHS)
    ).reasons.keys() == {Cell("2024-02")}
