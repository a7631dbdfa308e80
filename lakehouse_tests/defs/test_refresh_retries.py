"""What sensors do about what came to nothing, or could not be looked at: no month is out of sight, no try is
forgotten, no market is left to the last.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from lakehouse.cli.planning import meant
from lakehouse.model.cell import Cell
from lakehouse.model.errors import ListingUnreachableError
from lakehouse.model.market import Market
from lakehouse.model.result import Asked, CellFacts, CellResult
from lakehouse.model.timerange import TimeRange
from lakehouse.ops.attempts import Attempts
from lakehouse.pipeline import refresh
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.markets import refresh_markets
from lakehouse.pipeline.refresh import Busy, Round, Tick, archive_published, candles_closed, failed_cells
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator
from lakehouse.storage.objects import LakeObjects

from .conftest import API, BRONZE, BTC, ETH, SILVER, WITNESS, Shell, asked, lake_at, listed

pytestmark = pytest.mark.slow

list_files = Inventory.list_files
NOW = datetime(2024, 6, 15, 12, 5, tzinfo=UTC)
APRIL, MAY, JUNE = (Cell(month, BTC) for month in ("2024-04", "2024-05", "2024-06"))
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, Path]]:
    """A lake of one market whose first month the archive could not give: REST stands in for it. Left as it is
    by tests.
    """
    with (
        Simulator(markets=[listed(BTC, datetime(2024, 4, 29, tzinfo=UTC))], now=NOW) as sim,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("lakehouse.sources.files.transport._TRIES", 1)
        root = tmp_path_factory.mktemp("built") / "lake"
        sim.add_fault("stale_checksum=*monthly*BTCUSDT-1m-2024-04.zip")
        sim.add_fault("daily_absent=*daily*BTCUSDT-1m-2024-04*")
        with dg.DagsterInstance.ephemeral() as instance:
            Shell(lake_at(root, sim), instance).build(SILVER, [BTC], TimeRange.parse("2024-04", "2024-07"))
        sim.clear_faults()
        yield sim, root


@pytest.fixture
def lake(built: tuple[Simulator, Path], tmp_path: Path) -> LakeServices:
    """A copy of it, to be changed."""
    sim, root = built
    return lake_at(Path(shutil.copytree(root, tmp_path / "lake")), sim)


def later(lake: LakeServices, by: timedelta) -> LakeServices:
    """The same lake, its clock ahead of what the exchange has published."""
    return replace(lake, clock=lambda: NOW + by)


# --- months out of sight --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone",
    [{BRONZE: ()}, {BRONZE: (MAY, JUNE)}, {BRONZE: (MAY, JUNE), API: (APRIL, JUNE)}],
    ids=["first", "all", "all_but_a_witness"],
)
def test_months_that_the_archive_failed_at_are_asked_for_again(
    lake: LakeServices, gone: dict[str, tuple[Cell, ...]]
) -> None:
    for name, cells in gone.items():
        for cell in cells:
            lake.tables.delete(lake.registry.table(name), cell)
    assert APRIL not in lake.ledger(BRONZE)
    assert asked(archive_published(lake, [BTC], {}, Attempts(), Round()))[BRONZE] == {APRIL}
    attempts = Attempts()
    assert [asked(failed_cells(lake, [BTC], {}, attempts)).get(BRONZE) for _ in range(2)] == [None, {APRIL}]


def test_rest_that_was_out_of_reach_is_asked_again_where_the_archive_failed(lake: LakeServices) -> None:
    api, span = lake.registry.table(API), APRIL.window
    lake.tables.put(
        api,
        APRIL,
        CellResult(api.empty(), {}, CellFacts(asked=(Asked(span.start, span.end, NOW, "unreachable"),))),
    )
    attempts = Attempts()
    # what it is made from goes first, and holds it up no longer while it waits for its own next try
    instants = (timedelta(), HOUR / 4, HOUR / 4 + timedelta(minutes=2))
    ticks = [asked(failed_cells(later(lake, after), [BTC], {}, attempts)) for after in instants]
    assert [(BRONZE in tick, tick.get(API)) for tick in ticks] == [
        (False, None),
        (True, None),
        (False, {APRIL}),
    ]


def test_archive_cells_of_an_older_meaning_are_asked_for_after_those_with_another_reason(
    lake: LakeServices,
) -> None:
    table = lake.registry.table(BRONZE)
    older = type("Older", (table,), {"code_version": table.code_version - 1})
    for cell in (MAY, JUNE):
        stored = lake.tables.get(table, cell)
        assert stored is not None
        lake.tables.put(older, cell, CellResult(stored.rows, stored.record.inputs, stored.record.facts))
    attempts = Attempts()
    first, second = (failed_cells(lake, [BTC], {}, attempts) for _ in range(2))
    assert BRONZE not in asked(first)
    assert list(second.wanted[table]) == [APRIL, MAY, JUNE]
    # a build is of the same mind
    assert set(meant(Inventory(lake), table, [APRIL, MAY, JUNE])[1]) == {APRIL, MAY, JUNE}


def test_a_tick_reads_the_market_facts_once_however_many_markets_there_are(
    lake: LakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, get = Counter[str](), LakeObjects.get

    def counted(objects: LakeObjects, path: str) -> bytes | None:
        reads[path.rpartition("/")[0]] += 1
        return get(objects, path)

    monkeypatch.setattr(LakeObjects, "get", counted)
    for tick in (
        lambda: candles_closed(lake, [BTC, ETH], {}, Attempts()),
        lambda: archive_published(lake, [BTC, ETH], {}, Attempts(), Round()),
        lambda: failed_cells(lake, [BTC, ETH], {}, Attempts()),
    ):
        reads.clear()
        tick()
        assert reads["silver/market"] == 1


# --- tries that are not forgotten -----------------------------------------------------------------


@pytest.fixture
def replaced(built: tuple[Simulator, Path], lake: LakeServices) -> Iterator[LakeServices]:
    """Of the lake's open month a file was replaced, and runs that read it again come to nothing."""
    built[0].add_fault("reupload=*daily*BTCUSDT-1m-2024-06-13.zip")
    yield lake
    built[0].clear_faults()


def tries(tick: Tick) -> dict[str, int]:
    """How often a tick and those before have asked for the open month, by table."""
    return {table.name: cells[JUNE].tries for table, cells in tick.wanted.items() if JUNE in cells}


def tick_at(lake: LakeServices, minutes: int, attempts: Attempts, busy: Busy | None = None) -> dict[str, int]:
    return tries(candles_closed(later(lake, timedelta(minutes=minutes)), [BTC], busy or {}, attempts))


@pytest.mark.parametrize("under_way", [WITNESS, BRONZE, API])
def test_a_try_is_remembered_while_a_run_is_under_way(replaced: LakeServices, under_way: str) -> None:
    attempts = Attempts()
    assert tick_at(replaced, 0, attempts) == {BRONZE: 1}
    assert tick_at(replaced, 5, attempts, {under_way: {JUNE}}) == {}
    assert tick_at(replaced, 20, attempts) == {}
    # another number is another run key: Dagster starts none twice for the same
    assert tick_at(replaced, 35, attempts) == {BRONZE: 2}


def test_a_try_is_remembered_while_the_archive_is_out_of_reach(replaced: LakeServices) -> None:
    attempts, binance = Attempts(), replaced.exchanges["binance"]
    offline = replace(replaced, exchanges={"binance": type(binance)("http://127.0.0.1:9", binance.rest_url)})
    assert tick_at(replaced, 0, attempts) == {BRONZE: 1}
    assert tick_at(offline, 10, attempts) == {}
    assert tick_at(replaced, 35, attempts) == {BRONZE: 2}


def test_a_try_is_remembered_while_there_is_no_time_for_the_listing(
    replaced: LakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts()
    assert tick_at(replaced, 0, attempts) == {BRONZE: 1}
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.pipeline.refresh._SECONDS", -1.0)
        assert tick_at(replaced, 10, attempts) == {}
    assert tick_at(replaced, 35, attempts) == {BRONZE: 2}


def test_what_is_no_longer_due_or_of_no_open_month_is_forgotten(
    replaced: LakeServices, built: tuple[Simulator, Path]
) -> None:
    attempts = Attempts()
    assert tick_at(replaced, 0, attempts) == {BRONZE: 1}
    old = Attempts.from_json(attempts.to_json())
    built[0].clear_faults()
    assert tick_at(replaced, 10, attempts) == {}
    assert attempts.to_json() == {}
    candles_closed(later(replaced, timedelta(days=90)), [BTC], {BRONZE: {JUNE}}, old)
    assert f"{BRONZE} {JUNE}" not in old.to_json()


def test_the_repeater_remembers_a_try_while_a_run_is_under_way(lake: LakeServices) -> None:
    attempts = Attempts()

    def tick(minutes: int, busy: Busy | None = None) -> dict[Cell, int]:
        wanted = failed_cells(later(lake, timedelta(minutes=minutes)), [BTC], busy or {}, attempts).wanted
        return {cell: attempt.tries for cell, attempt in wanted.get(lake.registry.table(BRONZE), {}).items()}

    assert [tick(0), tick(15), tick(30, {BRONZE: {APRIL}}), tick(45)] == [{}, {APRIL: 1}, {}, {APRIL: 2}]


# --- markets that are never looked at -------------------------------------------------------------


def test_a_tick_without_time_for_all_markets_begins_with_others_every_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    markets = [Market("binance", "spot", f"C{n:02}USDT") for n in range(20)]
    with Simulator(
        markets=[listed(market, datetime(2024, 4, 29, tzinfo=UTC)) for market in markets], now=NOW
    ) as sim:
        lake = lake_at(tmp_path / "lake", sim)
        refresh_markets(lake, markets)

        def listed_at(hour: int) -> set[Market]:
            """Which markets a tick lists that has time for four of them."""
            found: set[Market] = set()

            def list_some(has: Inventory, table: str, cells: list[Cell], **how: bool) -> None:
                found.update(cell.own_market for cell in cells)
                list_files(has, table, cells, **how)

            with monkeypatch.context() as patch:
                patch.setattr(Inventory, "list_files", list_some)
                patch.setattr(refresh, "_AT_ONCE", 4)
                patch.setattr(refresh, "_SECONDS", 1)
                patch.setattr(refresh, "time", SimpleNamespace(monotonic=count().__next__))
                assert candles_closed(later(lake, hour * HOUR), markets, {}, Attempts()).notes == [
                    "16 markets are left for the next tick"
                ]
            return found

        ticks = [listed_at(hour) for hour in range(8)]
        assert [len(found) for found in ticks] == [4] * 8
        assert listed_at(3) == ticks[3]  # a tick that is evaluated again looks at the same
        assert set().union(*ticks) == set(markets)


def test_a_market_that_cannot_be_listed_holds_up_nobody_and_no_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    markets = [Market("binance", "spot", f"C{n:02}USDT") for n in range(6)]
    bad: list[Market] = []
    seen: set[Market] = set()

    def list_most(has: Inventory, table: str, cells: list[Cell], **how: bool) -> None:
        if any(cell.market in bad for cell in cells):
            raise ListingUnreachableError("http://archive", table, "403")
        seen.update(cell.own_market for cell in cells)
        list_files(has, table, cells, **how)

    with Simulator(
        markets=[listed(market, datetime(2024, 4, 29, tzinfo=UTC)) for market in markets], now=NOW
    ) as sim:
        lake = lake_at(tmp_path / "lake", sim)
        refresh_markets(lake, markets)
        witness = lake.registry.table(WITNESS)
        for market in markets:
            lake.tables.put(witness, Cell("2024-05", market), CellResult(witness.empty(), {}))
        monkeypatch.setattr(Inventory, "list_files", list_most)
        monkeypatch.setattr(refresh, "_AT_ONCE", 4)
        for bad[:] in ([markets[0]], [markets[-1]], [markets[1], markets[4]], [markets[0], markets[-1]]):
            progress = Round()
            for look in (
                lambda: candles_closed(lake, markets, {}, Attempts()),
                lambda progress=progress: archive_published(lake, markets, {}, Attempts(), progress),
            ):
                seen.clear()
                assert look().notes
                assert seen == set(markets) - set(bad)
            assert progress.after == "", "the round came to its end"
        bad[:], progress = markets, Round(after=markets[1].key)
        assert archive_published(lake, markets, {}, Attempts(), progress).notes
        assert progress.after == markets[1].key, "the archive is away: no market was passed over"


def test_a_universe_without_markets_asks_for_nothing(lake: LakeServices) -> None:
    attempts = Attempts()
    assert asked(candles_closed(lake, [], {}, attempts)) == {}
    assert asked(archive_published(lake, [], {}, attempts, Round())) == {}
    assert asked(failed_cells(lake, [], {}, attempts)) == {}
