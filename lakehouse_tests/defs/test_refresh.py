"""What the sensors decide: the first of what is due, each cell once, nothing while it is under way, and no
crash where a source is out of reach.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.definitions import build_definitions
from lakehouse.defs.partitions import MARKETS, cells_between, range_tags, to_key
from lakehouse.defs.sensors import Refresh, refresh_sensors
from lakehouse.model.cell import Cell
from lakehouse.model.errors import RestUnreachableError
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.attempts import Attempts
from lakehouse.ops.memory import Memory
from lakehouse.pipeline.inventory import Inventory
from lakehouse.pipeline.refresh import Round, archive_published, candles_closed, failed_cells
from lakehouse.pipeline.services import LakeServices
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.sources.rest.clock import ExchangesClock

from .conftest import ADA, API, BRONZE, BTC, ETH, SILVER, SOL, WITNESS, Shell, asked, lake_at, listed

pytestmark = pytest.mark.slow  # together, not one by one: the fast tests are to take two minutes

NOW = datetime(2024, 6, 15, 12, 5, tzinfo=UTC)
MAY, JUNE = Cell("2024-05", BTC), Cell("2024-06", BTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, Path]]:
    """A lake of one market that was listed a few days ago, whose bronze is current; left as it is by
    tests.
    """
    with Simulator(
        markets=[
            listed(BTC, datetime(2024, 6, 13, tzinfo=UTC)),
            listed(ETH, datetime(2024, 6, 13, tzinfo=UTC)),
        ],
        now=NOW,
    ) as sim:
        root = tmp_path_factory.mktemp("built") / "lake"
        lake = lake_at(root, sim)
        with dg.DagsterInstance.ephemeral() as instance:
            Shell(lake, instance).build(SILVER, [BTC], TimeRange.parse("2024-06", "2024-07"))
        yield sim, root


@pytest.fixture
def lake(built: tuple[Simulator, Path]) -> LakeServices:
    return lake_at(built[1], built[0])


def later(built: tuple[Simulator, Path], by: timedelta) -> LakeServices:
    """The same lake, its clock ahead of what the exchange has published."""
    return lake_at(built[1], built[0], by)


def test_a_current_lake_asks_for_nothing(lake: LakeServices) -> None:
    assert asked(candles_closed(lake, [BTC], {}, Attempts())) == {}
    assert asked(archive_published(lake, [BTC], {}, Attempts(), Round())) == {}
    attempts = Attempts()
    assert [asked(failed_cells(lake, [BTC], {}, attempts)) for _ in range(2)] == [{}, {}]


def test_an_hour_asks_for_candles_and_a_day_for_the_witness_alone(built: tuple[Simulator, Path]) -> None:
    assert asked(candles_closed(later(built, HOUR), [BTC], {}, Attempts())) == {API: {JUNE}}
    assert asked(candles_closed(later(built, 13 * HOUR), [BTC], {}, Attempts())) == {WITNESS: {JUNE}}


def test_a_witness_that_was_asked_for_in_vain_holds_up_nobody(built: tuple[Simulator, Path]) -> None:
    attempts = Attempts()
    assert asked(candles_closed(later(built, 13 * HOUR), [BTC], {}, attempts)) == {WITNESS: {JUNE}}
    second = asked(candles_closed(later(built, 14 * HOUR), [BTC], {}, attempts))
    assert second == {WITNESS: {JUNE}, API: {JUNE}}


def test_a_tick_after_the_request_asks_for_nothing_again(built: tuple[Simulator, Path]) -> None:
    attempts, lake = Attempts(), later(built, HOUR)
    assert asked(candles_closed(lake, [BTC], {}, attempts)) == {API: {JUNE}}
    assert asked(candles_closed(lake, [BTC], {}, attempts)) == {}


@pytest.mark.parametrize("table", [WITNESS, BRONZE, API])
def test_a_cell_under_way_is_left_alone(built: tuple[Simulator, Path], table: str) -> None:
    assert asked(candles_closed(later(built, HOUR), [BTC], {table: {JUNE}}, Attempts())) == {}


def test_a_market_of_which_nothing_is_known_or_stored_is_no_error(
    built: tuple[Simulator, Path], lake: LakeServices
) -> None:
    other = Market("nowhere", "spot", "BTCUSDT")
    assert asked(candles_closed(later(built, HOUR), [BTC, ADA, other], {}, Attempts())) == {API: {JUNE}}
    assert asked(archive_published(lake, [ADA, other, SOL], {}, Attempts(), Round())) == {}


def test_a_week_of_absence_is_one_cell_of_one_table(built: tuple[Simulator, Path]) -> None:
    assert asked(candles_closed(later(built, timedelta(days=7)), [BTC], {}, Attempts())) == {WITNESS: {JUNE}}


def test_an_archive_out_of_reach_is_said_and_stops_no_rest(
    built: tuple[Simulator, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.files.transport._TRIES", 1)
    sim, root = built
    settings = Settings(
        root=str(root), start="2024-05", binance_archive_url="http://127.0.0.1:9", binance_rest_url=sim.url
    )
    lake = open_lake(settings, clock=lambda: sim.now + HOUR)
    tick = candles_closed(lake, [BTC], {}, Attempts())
    assert asked(tick) == {API: {JUNE}}
    assert tick.notes


def test_a_replaced_file_of_the_open_month_waits_for_a_second_look(
    built: tuple[Simulator, Path], lake: LakeServices
) -> None:
    sim, attempts = built[0], Attempts()
    sim.add_fault("reupload=*daily*BTCUSDT-1m-2024-06-13.zip")
    try:
        assert [asked(archive_published(lake, [BTC], {}, attempts, Round())) for _ in range(2)] == [
            {},
            {BRONZE: {JUNE}},
        ]
        assert asked(candles_closed(lake, [BTC], {}, Attempts())) == {BRONZE: {JUNE}}
    finally:
        sim.clear_faults()


def test_a_round_of_listings_goes_on_behind_the_market_it_reached_and_is_full_once_a_week(
    lake: LakeServices,
) -> None:
    progress = Round(after=BTC.key, full_at=NOW)
    archive_published(lake, [BTC, ETH], {}, Attempts(), progress)
    assert progress == Round("", False, NOW)
    archive_published(replace(lake, clock=lambda: NOW + timedelta(days=7)), [BTC], {}, Attempts(), progress)
    assert progress == Round("", True, NOW + timedelta(days=7))


def test_what_a_failed_run_left_is_asked_for_at_the_second_look_upstream_first(
    built: tuple[Simulator, Path], lake: LakeServices
) -> None:
    silver = lake.registry.table(SILVER)
    stored = lake.tables.get(silver, JUNE)
    assert stored is not None
    lake.tables.delete(silver, JUNE)
    try:
        attempts = Attempts()
        assert [asked(failed_cells(lake, [BTC], {}, attempts)).get(SILVER) for _ in range(3)] == [
            None,
            {JUNE},
            None,
        ]
        assert asked(failed_cells(lake, [BTC], {SILVER: {JUNE}}, Attempts())) == {}
    finally:
        lake.tables.put(silver, JUNE, CellResult(stored.rows, stored.record.inputs, stored.record.facts))


# --- the sensors ----------------------------------------------------------------------------------


def evaluate(
    lake: LakeServices,
    instance: dg.DagsterInstance,
    name: str,
    cursor: str | None = None,
    how: Refresh | None = None,
) -> dg.SensorResult:
    sensor = next(sensor for sensor in refresh_sensors(lake, how or Refresh()) if sensor.name == name)
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=build_definitions(lake).get_repository_def()
    )
    result = sensor._raw_fn(context)
    assert isinstance(result, dg.SensorResult)
    return result


def test_sensors_wait_to_be_switched_on_unless_told_otherwise(lake: LakeServices) -> None:
    for how, status in ((Refresh(), "STOPPED"), (Refresh(is_running=True), "RUNNING")):
        assert {sensor.default_status.value for sensor in refresh_sensors(lake, how)} == {status}


def test_the_same_tick_twice_makes_the_same_run_keys(
    built: tuple[Simulator, Path], instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    first, second = (
        evaluate(later(built, HOUR), instance, "candles_closed").run_requests or [] for _ in range(2)
    )
    assert [request.run_key for request in first] == [request.run_key for request in second]
    assert [request.tags["dagster/asset_partition_range_start"] for request in first] == [str(to_key(JUNE))]


def test_a_tick_says_what_it_asks_for_and_why_and_what_waits(
    built: tuple[Simulator, Path], instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    first = evaluate(later(built, HOUR), instance, "candles_closed")
    (request,) = first.run_requests or []
    assert request.tags["lakehouse/why"] == "new candles, or open questions"
    assert request.tags["dagster/priority"] == "10"
    assert first.cursor == "1"
    waits = evaluate(later(built, HOUR), instance, "candles_closed", first.cursor)
    assert not waits.run_requests
    assert waits.skip_reason is not None
    assert "1 cell of bronze/candle_api waits for the next attempt, the first until 2024-06-15 " in (
        waits.skip_reason.skip_message or ""
    )
    # the same reason at a later time is no repetition, which Dagster would swallow
    (again,) = evaluate(later(built, HOUR), instance, "candles_closed", "7").run_requests or []
    assert again.run_key != request.run_key
    assert again.tags == request.tags


def test_the_listing_is_asked_daily_and_a_new_market_at_once(
    lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    first = evaluate(lake, instance, "market_listing")
    assert len(first.run_requests or []) == 1
    assert not first.dynamic_partitions_requests
    assert not evaluate(lake, instance, "market_listing", first.cursor).run_requests
    instance.add_dynamic_partitions(str(MARKETS.name), [ETH.key])
    assert len(evaluate(lake, instance, "market_listing", first.cursor).run_requests or []) == 1


def test_listed_markets_join_only_where_a_glob_says_so(
    lake: LakeServices, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    result = evaluate(lake, instance, "market_listing", how=Refresh(add_markets=("binance-spot:E*",)))
    assert [request.partition_keys for request in result.dynamic_partitions_requests or []] == [[ETH.key]]
    state = Memory.of(lake.objects, "market_listing", result.cursor).state
    assert state["listed"]["binance-spot"] == [BTC.key, ETH.key]
    assert len(result.cursor or "") < 10


def test_an_exchange_out_of_reach_is_a_reason_to_skip(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    instance.add_dynamic_partitions(str(MARKETS.name), [BTC.key])
    lake = open_lake(
        Settings(
            root=str(tmp_path / "lake"),
            binance_archive_url="http://127.0.0.1:9",
            binance_rest_url="http://127.0.0.1:9",
            clock="exchange",
        )
    )
    for name in ("candles_closed", "archive_published", "market_listing", "failed_cells"):
        assert evaluate(lake, instance, name).skip_reason


def test_the_ends_of_a_rectangle_tell_its_cells() -> None:
    cells = [Cell(month, market) for month in ("2024-05", "2024-06") for market in (BTC, ETH)]
    order = [BTC.key, ETH.key, SOL.key]
    ((tags, covered),) = range_tags(cells, order)
    assert set(cells_between(*tags.values(), order)) == set(covered)
    assert cells_between("2024-05", "2024-06", order) == [Cell("2024-05"), Cell("2024-06")]
    assert cells_between(str(to_key(Cell("2024-05", ADA))), str(to_key(Cell("2024-05", ADA))), order) == []


# --- whose time -----------------------------------------------------------------------------------


def test_the_lake_can_live_in_its_exchanges_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.clock.KEPT_SECONDS", -1.0)
    with Simulator(markets=(), now=NOW) as sim:
        clock = open_lake(Settings(binance_rest_url=sim.url, clock="exchange")).clock
        assert isinstance(clock, ExchangesClock)
        assert NOW <= clock() < NOW + HOUR
        sim.advance(timedelta(days=400))
        assert NOW + timedelta(days=400) <= clock() < NOW + timedelta(days=400) + HOUR
        sim.add_fault("rest_unavailable")
        monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
        assert clock() >= NOW + timedelta(days=400)


def test_the_time_is_asked_of_the_exchanges_that_are_concerned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.clock.KEPT_SECONDS", -1.0)
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    with Simulator(markets=(), now=NOW) as sim, Simulator(markets=(), now=NOW + HOUR) as later:
        root = str(tmp_path / "lake")
        at = {"binance_rest_url": sim.url, "bybit_rest_url": later.url, "clock": "exchange"}
        lake = open_lake(Settings(root=root, **at))
        Inventory(lake, [Market("bybit", "linear", "BTCUSDT")])
        assert NOW + HOUR <= lake.clock() < NOW + 2 * HOUR
        assert sim.requests == []
        Inventory(lake, [BTC])
        assert NOW <= lake.clock() < NOW + HOUR, "of two times the earlier"
        sim.add_fault("rest_unavailable")
        lone = open_lake(Settings(root=root, **at))
        lone.clients.concern([BTC, Market("bybit", "linear", "BTCUSDT")])
        assert lone.clock() >= NOW + HOUR, "one out of reach holds up nobody"


def test_a_time_that_was_never_told_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    with pytest.raises(RestUnreachableError):
        open_lake(Settings(binance_rest_url="http://127.0.0.1:9", clock="exchange")).clock()
