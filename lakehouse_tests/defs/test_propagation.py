"""How news travels: no update is lost, identical bytes request nothing, and a change requests exactly what
depends on it.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import dagster as dg
import pytest
from dagster import AutomationCondition as When

from lakehouse.defs.automation import ON_CHANGE, when_due
from lakehouse.defs.describe import asset_key
from lakehouse.defs.io_manager import cell_event
from lakehouse.defs.partitions import MARKETS
from lakehouse.model.cell import Cell
from lakehouse.model.errors import StoreUnreachableError
from lakehouse.model.market import Market
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator

from .conftest import ADA, BRONZE, BTC, ETH, HOURS, SILVER, VWAP, Shell, Versions, grid

# T evaluates; b1, b2 write the upstream cell with version 1, 2; s writes the downstream cell out of it.
# What a condition by versions alone requests, and one that asks the ledger.
pytestmark = pytest.mark.slow  # together, not one by one: the fast tests are to take two minutes

SEQUENCES = {
    "a change between the request and the next tick": ("b1 T s b2 T T T", [1, 1, 0, 0], [1, 1, 0, 0]),
    "a change before the requested run has run": ("b1 T b2 T T T", [1, 1, 0, 0], [1, 1, 0, 0]),
    "a change and a run in one tick, in unknown order": ("b1 T s T b2 s T", [1, 0, 1], [1, 0, 0]),
    "the same bytes again": ("b1 T s b1 T", [1, 0], [1, 0]),
    "made already by whoever wrote it": ("b1 s T b2 s T", [1, 1], [0, 0]),
    "to another version and back, with a run between": ("b1 T s T b2 s b1 T T", [1, 0, 0, 0], [1, 0, 1, 0]),
    "written again though nothing changed, and not made yet": ("b1 T b1 T T", [1, 0, 0], [1, 1, 0]),
}
USUAL = When.any_deps_updated().since_last_handled() & ~When.any_deps_in_progress() & ~When.in_progress()


class ToyLedger:
    """What the downstream cell was made from."""

    def __init__(self) -> None:
        self.above = self.made_from = "none"
        self.is_out_of_reach = False
        self.looks = 0

    def due(self, keys: Collection[str]) -> Collection[str]:
        self.looks += 1
        if self.is_out_of_reach:
            raise StoreUnreachableError("listed", "s3://lake", "it does not answer")
        return keys if self.made_from != self.above else ()


def requests(condition: Any, sequence: str, ledger: ToyLedger | None = None) -> list[int]:
    """How many cells each tick of a sequence requests; `-` and `+` take the lake out of reach and back."""
    cells, ledger, written = dg.StaticPartitionsDefinition(["x"]), ledger or ToyLedger(), count()

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
            elif word in "-+":
                ledger.is_out_of_reach = word == "-"
            else:
                if word == "s":
                    ledger.made_from = ledger.above
                else:
                    ledger.above = word[1]
                version = {"dagster/data_version": word[1:] or str(next(written))}
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(word[0], partition="x", tags=version)
                )
    return found


@pytest.mark.parametrize(("sequence", "by_version", "by_ledger"), SEQUENCES.values(), ids=SEQUENCES)
def test_no_update_is_lost_and_the_ledger_asks_for_nothing_that_is_made(
    sequence: str, by_version: list[int], by_ledger: list[int]
) -> None:
    ledger = ToyLedger()
    assert requests(ON_CHANGE, sequence) == by_version
    assert requests(when_due(ledger.due), sequence, ledger) == by_ledger


def test_the_usual_condition_loses_one() -> None:
    """Why the condition is not the one from the manual: if this fails, Dagster has mended it and
    `automation.py` can be simpler.
    """
    sequence, *_ = SEQUENCES["a change between the request and the next tick"]
    assert requests(USUAL, sequence) == [1, 0, 0, 0]


def test_ticks_without_news_do_not_ask_the_lake() -> None:
    ledger = ToyLedger()
    assert requests(when_due(ledger.due), "b1 T s T T T T T", ledger) == [1, 0, 0, 0, 0, 0]
    assert ledger.looks == 1


def test_a_lake_out_of_reach_loses_no_news() -> None:
    ledger = ToyLedger()
    assert requests(when_due(ledger.due), "- b1 T T T + T s T", ledger) == [0, 0, 0, 1, 0]


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
        names = [table.name for table in self.shell.lake.registry.tables if table.spread != "one"]
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


def test_a_file_that_changed_travels_to_exactly_the_cells_made_from_it(
    shell: Shell, lake: LakeServices, sim: Simulator
) -> None:
    shell.build("gold", [BTC, ETH])
    ticks = Ticks(shell)
    assert ticks() == {}

    shell.run(BRONZE, grid([BTC, ETH]))  # nothing new: the same versions again
    assert ticks() == {}
    assert ticks.checks() == set()  # the run has checked what it wrote
    verified = cell_event(lake, lake.registry.table(BRONZE), *next(iter(lake.ledger(BRONZE).items())))
    shell.instance.report_runless_asset_event(verified)
    assert ticks() == {}
    assert ticks.checks() == {BRONZE}
    shell.check(BRONZE)
    assert ticks() == {}
    assert ticks.checks() == set()

    sim.add_fault("reupload=*spot/monthly*ETHUSDT-1m-2024-02.zip")
    shell.run(BRONZE, grid([BTC, ETH]))
    changed = Cell("2024-02", ETH)
    assert ticks() == {SILVER: {changed}}  # nobody has still to be asked about what the archive leaves open
    shell.run(SILVER, [changed])
    wanted = ticks()
    assert wanted == {table.name: {changed} for table in lake.registry.features if table.name != VWAP} | {
        VWAP: {changed, changed.shift(1)},
    }  # nothing new is said of gaps and conflicts
    for name, cells in wanted.items():
        assert all(result.success for result in shell.run(name, cells))
    assert ticks() == {}


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


def test_a_new_market_travels_from_bronze_to_gold(
    shell: Shell, lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    shell.build("gold", [BTC])
    ticks = Ticks(shell)
    instance.add_dynamic_partitions(str(MARKETS.name), [ADA.key])
    cell = Cell("2024-01", ADA)
    shell.run(BRONZE, [cell])
    assert ticks() == {SILVER: {cell}}
    shell.run(SILVER, [cell])
    wanted = ticks()
    assert wanted[HOURS] == {cell}
    assert wanted[VWAP] == {cell}  # the month behind has no candles yet: its turn comes with them
    assert all(result.success for result in shell.run(VWAP, wanted[VWAP]))
    shell.run(BRONZE, [cell.shift(1)])
    assert ticks()[SILVER] == {cell.shift(1)}
    shell.run(SILVER, [cell.shift(1)])
    assert ticks()[VWAP] == {cell.shift(1)}
