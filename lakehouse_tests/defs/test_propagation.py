"""How news travels: no update is lost, identical bytes request nothing, and a change requests exactly what
depends on it.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import dagster as dg
import pytest
from dagster import AutomationCondition as When

from lakehouse.defs.automation import ON_CHANGE, ON_UPDATE
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import MARKETS
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator

from .conftest import ADA, API, BRONZE, BTC, CONFLICT, ETH, GAP, HOURS, SILVER, VWAP, Shell, Versions, grid

# T evaluates; b1, b2 write the upstream cell with version 1, 2; s1, s2 write the downstream cell.
SEQUENCES = {
    "a change between the request and the next tick": ("b1 T s1 b2 T T T", [1, 1, 0, 0]),
    "a change before the requested run has run": ("b1 T b2 T T T", [1, 1, 0, 0]),
    "a change and a run in one tick, in unknown order": ("b1 T s1 T b2 s2 T", [1, 0, 1]),
    "the same bytes again": ("b1 T s1 b1 T", [1, 0]),
}
USUAL = When.any_deps_updated().since_last_handled() & ~When.any_deps_in_progress() & ~When.in_progress()


def requests(condition: Any, sequence: str) -> list[int]:
    """How many cells each tick of a sequence requests."""
    cells = dg.StaticPartitionsDefinition(["x"])

    @dg.asset(partitions_def=cells)
    def b() -> None: ...

    @dg.asset(partitions_def=cells, deps=[b], automation_condition=condition)
    def s() -> None: ...

    definitions, found = dg.Definitions([b, s]), []
    with dg.DagsterInstance.ephemeral() as instance:
        tick = dg.evaluate_automation_conditions(definitions, instance)
        for word in sequence.split():
            if word == "T":
                tick = dg.evaluate_automation_conditions(definitions, instance, cursor=tick.cursor)
                found.append(tick.total_requested)
            else:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(word[0], partition="x", tags={"dagster/data_version": word[1]})
                )
    return found


@pytest.mark.parametrize(("sequence", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_no_update_is_lost(sequence: str, expected: list[int]) -> None:
    assert requests(ON_CHANGE, sequence) == expected


def test_the_usual_condition_loses_one() -> None:
    """Why the condition is not the one from the manual: if this fails, Dagster has mended it and
    `automation.py` can be simpler.
    """
    sequence, _ = SEQUENCES["a change between the request and the next tick"]
    assert requests(USUAL, sequence) == [1, 0, 0, 0]


def test_news_without_a_new_version_reaches_what_reads_footers() -> None:
    assert requests(ON_CHANGE, "b1 T s1 b1 T") == [1, 0]
    assert requests(ON_UPDATE, "b1 T s1 b1 T T") == [1, 1, 0]


class Ticks:
    """The propagation sensor, tick by tick."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.last = dg.evaluate_automation_conditions(shell.definitions, shell.instance)

    def __call__(self) -> dict[str, set[Cell]]:
        """The cells requested by the next tick, by table; checks are left out."""
        self.last = dg.evaluate_automation_conditions(
            self.shell.definitions, self.shell.instance, cursor=self.last.cursor
        )
        names = [table.name for table in self.shell.lake.registry.tables if table.shape != "single"]
        found = {
            name: set(map(cell_named, self.last.get_requested_partitions(asset_key(name)))) for name in names
        }
        return {name: cells for name, cells in found.items() if cells}

    def checks(self) -> set[str]:
        """The tables whose checks the last tick requested."""
        keys = [
            result.key
            for result in self.last.results
            if result.true_subset.size and isinstance(result.key, dg.AssetCheckKey)
        ]
        return {"/".join(key.asset_key.path) for key in keys}


def cell_named(text: str) -> Cell:
    month, _, market = text.partition("|")
    return Cell(month, Market.parse(market) if market else None)


@pytest.mark.slow
def test_a_file_that_changed_travels_to_exactly_the_cells_made_from_it(
    shell: Shell, lake: LakeServices, sim: Simulator
) -> None:
    shell.build("gold", [BTC, ETH])
    ticks = Ticks(shell)
    assert ticks() == {}

    shell.run(BRONZE, grid([BTC, ETH]))  # nothing new: the same versions again
    assert ticks() == {}
    assert ticks.checks() == {BRONZE}

    sim.add_fault("reupload=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    shell.run(BRONZE, grid([BTC, ETH]))
    changed = Cell("2024-02", ETH)
    assert ticks() == {API: {changed}}  # first who could still be asked, then the one truth
    shell.run(API, [changed])
    assert ticks() == {SILVER: {changed}}
    shell.run(SILVER, [changed])
    wanted = ticks()
    assert wanted == {table.name: {changed} for table in lake.registry.features if table.name != VWAP} | {
        VWAP: {changed, changed.shift(1)},
        GAP: {Cell("2024-02")},
        CONFLICT: {Cell("2024-02")},
    }
    assert ticks.checks() >= {SILVER}
    for name, cells in wanted.items():
        assert all(result.success for result in shell.run(name, cells))
    assert ticks() == {}


@pytest.mark.slow
def test_a_day_that_a_new_file_lacks_is_gone_down_to_gold(
    shell: Shell, lake: LakeServices, sim: Simulator, versions: Versions
) -> None:
    shell.build("gold", [BTC, ETH])
    before = {name: versions(name) for name in (SILVER, HOURS, VWAP)}
    ticks, changed = Ticks(shell), Cell("2024-02", ETH)
    sim.add_fault("day_absent=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    sim.add_fault("daily_absent=*ETHUSDT-1m-2024-02-*")
    shell.run(BRONZE, grid([BTC, ETH]))
    while wanted := ticks():
        for name, cells in wanted.items():
            shell.run(name, cells)
    for name in before:
        assert {cell for cell, version in versions(name).items() if version != before[name][cell]} == {
            changed
        }
    assert lake.ledger(SILVER)[changed].rows == 28 * 1440


@pytest.mark.slow
def test_a_changed_file_with_the_same_candles_stops_at_silver(
    shell: Shell, lake: LakeServices, sim: Simulator
) -> None:
    """Bronze keeps what the second file said; the one truth is the same, so nothing below it runs."""
    shell.build(HOURS, [BTC])
    ticks = Ticks(shell)
    sim.add_fault("duplicated_rows=*spot/monthly*BTCUSDT-1m-2024-02.zip")
    shell.run(BRONZE, grid([BTC]))
    passed = []
    while wanted := ticks():
        passed += wanted
        for name, cells in wanted.items():
            shell.run(name, cells)
    assert HOURS not in passed


# A diamond as bronze and silver form one: w above a and p, a above p, all of them above s. Every run makes
# the cell's next version.
@pytest.mark.parametrize(
    ("first", "made"),
    [("w", ["a", "p", "s"]), ("a", ["p", "s"]), ("p", ["s"])],
    ids=[
        "news of the witness passes all of them",
        "news of the archive does not go up",
        "news of the api goes straight to silver",
    ],
)
def test_news_passes_each_table_of_a_diamond_once_and_one_after_another(first: str, made: list[str]) -> None:
    above = {"w": (), "a": ("w",), "p": ("w", "a"), "s": ("w", "a", "p")}
    assert diamond(above, first) == [[name] for name in made]


def diamond(above: Mapping[str, Sequence[str]], first: str) -> list[list[str]]:
    """What ticks request after a write of one cell, each request being carried out before the next tick."""
    cells = dg.StaticPartitionsDefinition(["x", "y"])

    def declared(name: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            partitions_def=cells,
            deps=list(above[name]),
            automation_condition=ON_CHANGE if above[name] else None,
        )
        def made() -> None: ...

        return made

    definitions, found, version = dg.Definitions([declared(name) for name in above]), [], count()
    with dg.DagsterInstance.ephemeral() as instance:

        def write(name: str) -> None:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    name, partition="x", tags={"dagster/data_version": str(next(version))}
                )
            )

        tick = dg.evaluate_automation_conditions(definitions, instance)
        write(first)
        for _ in range(6):
            tick = dg.evaluate_automation_conditions(definitions, instance, cursor=tick.cursor)
            requested = [name for name in above if tick.get_requested_partitions(dg.AssetKey(name))]
            found += [requested] if requested else []
            for name in requested:
                write(name)
    return found


@pytest.mark.slow
def test_a_new_market_travels_from_bronze_to_gold(
    shell: Shell, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    shell.build("gold", [BTC])
    ticks = Ticks(shell)
    instance.add_dynamic_partitions(str(MARKETS.name), [ADA.key])
    cell = Cell("2024-01", ADA)
    shell.run(BRONZE, [cell])
    assert ticks() == {API: {cell}}
    shell.run(API, [cell])
    assert ticks() == {SILVER: {cell}}
    shell.run(SILVER, [cell])
    wanted = ticks()
    assert wanted[HOURS] == {cell}
    assert wanted[VWAP] == {cell, cell.shift(1)}
    # The month behind has no candles yet: that is no failure, and its turn comes with them.
    assert all(result.success for result in shell.run(VWAP, wanted[VWAP]))
    assert cell.shift(1) not in lake.ledger(VWAP)
    shell.run(BRONZE, [cell.shift(1)])
    shell.run(API, ticks()[API])
    assert ticks()[SILVER] == {cell.shift(1)}
    shell.run(SILVER, [cell.shift(1)])
    assert ticks()[VWAP] == {cell.shift(1), cell.shift(2)}
