"""Events on kept connections: what Dagster's own storage promises still holds."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.schema import AssetKeyTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import Connection, select

from lakehouse.cli.instance import open_instance
from lakehouse.defs.event_log import KeptSqliteEventLogStorage
from lakehouse.model.errors import MarketKeyError
from lakehouse.settings import Settings

pytestmark = pytest.mark.slow  # together, not one by one: the fast tests are to take two minutes

ASSET = dg.AssetKey("noted")
OTHER_PROCESS = """
import sys
from pathlib import Path
import dagster as dg
from lakehouse.cli.instance import open_instance
from lakehouse.model.errors import MarketKeyError
from lakehouse.settings import Settings
with open_instance(Settings(dagster_home=Path(sys.argv[1]))) as instance:
    for number in range(int(sys.argv[2])):
        instance.report_runless_asset_event(dg.AssetMaterialization("noted", partition=f"{sys.argv[3]}{number}"))
        print(number, flush=True)
    if sys.argv[3] == "killed":
        sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "dagster"


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(Settings(dagster_home=home)) as opened:
        yield opened


@dg.asset(
    partitions_def=dg.DynamicPartitionsDefinition(name="part"), backfill_policy=dg.BackfillPolicy.single_run()
)
def noted() -> None: ...


def materialize(instance: dg.DagsterInstance, part: str) -> str:
    instance.add_dynamic_partitions("part", [part])
    return dg.materialize([noted], partition_key=part, instance=instance).run_id


def partitions(instance: dg.DagsterInstance) -> set[str | None]:
    return {record.partition_key for record in instance.fetch_materializations(ASSET, limit=1000).records}


def test_the_instance_of_the_project_keeps_its_connections(instance: dg.DagsterInstance, home: Path) -> None:
    assert isinstance(instance.event_log_storage, KeptSqliteEventLogStorage)
    assert (home / "history" / "runs" / "index.db").exists()


def test_more_runs_than_connections_are_kept_can_be_read_and_deleted(instance: dg.DagsterInstance) -> None:
    runs = [materialize(instance, f"p{number}") for number in range(10)]
    storage = instance.event_log_storage
    assert isinstance(storage, KeptSqliteEventLogStorage)
    assert len(storage._engines) == 8
    lengths = [len(instance.all_logs(run)) for run in runs]
    assert min(lengths) == max(lengths) > 5
    assert partitions(instance) == {f"p{number}" for number in range(10)}
    for run in runs[:5]:
        instance.delete_run(run)
    assert instance.all_logs(runs[0]) == []
    assert len(instance.all_logs(runs[-1])) == lengths[-1]


def test_wiping_the_log_leaves_a_log_that_works(instance: dg.DagsterInstance) -> None:
    materialize(instance, "before")
    instance.wipe()
    assert partitions(instance) == set()
    materialize(instance, "after")
    assert partitions(instance) == {"after"}


def planned(instance: dg.DagsterInstance, run: str) -> list[str | None]:
    """The cells that a run says it plans, by its own log."""
    events = (entry.dagster_event for entry in instance.all_logs(run))
    return [event.partition for event in events if event and event.is_asset_materialization_planned]


def test_what_a_run_plans_is_stored_together(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, parts = instance.event_log_storage, [f"p{number}" for number in range(5)]
    assert isinstance(storage, KeptSqliteEventLogStorage)
    instance.add_dynamic_partitions("part", parts)
    together: list[int] = []
    store = storage.store_event_batch

    def counted(events: Sequence[dg.EventLogEntry]) -> None:
        together.append(len(events))
        store(events)

    monkeypatch.setattr(storage, "store_event_batch", counted)
    tags = {"dagster/asset_partition_range_start": "p0", "dagster/asset_partition_range_end": "p4"}
    run = dg.materialize([noted], instance=instance, tags=tags).run_id
    assert together == [5, 5], "what it plans, and what Dagster itself says was materialized"
    assert sorted(map(str, planned(instance, run))) == parts
    records = instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert len(records.records) == 5
    assert partitions(instance) == set(parts)


def test_of_events_that_are_stored_together_all_stand_or_none(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = materialize(instance, "p")
    storage = instance.event_log_storage
    assert isinstance(storage, KeptSqliteEventLogStorage)
    events = [
        entry for entry in instance.all_logs(run) if entry.dagster_event and entry.dagster_event.partition
    ]
    assert len(events) == 2, "planned, and materialized"
    stored, of_asset = len(instance.all_logs(run)), storage._store_asset_event

    def failing(connection: Connection, event: dg.EventLogEntry, number: int) -> None:
        of_asset(connection, event, number)
        if event == events[-1]:
            raise OSError("full")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "_store_asset_event", failing)
        with pytest.raises(OSError, match="full"):
            storage.store_event_batch(events)
    assert len(instance.all_logs(run)) == stored
    assert len(instance.fetch_materializations(ASSET, limit=9).records) == 1
    storage.store_event_batch(events)
    assert len(instance.all_logs(run)) == stored + 2
    assert len(instance.fetch_materializations(ASSET, limit=9).records) == 2


def test_the_last_event_of_an_asset_is_noted_as_dagsters_own_storage_notes_it(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    runs = [materialize(instance, part) for part in ("p", "q")]
    events = [entry for run in runs for entry in instance.all_logs(run)]
    rows = []
    for kind in SqliteEventLogStorage, KeptSqliteEventLogStorage:
        storage = kind(str(tmp_path / kind.__name__))
        for event in events:
            storage.store_event(event)
        with storage.index_connection() as connection:
            row = connection.execute(select(AssetKeyTable)).mappings().one()
        rows.append({name: value for name, value in row.items() if name != "create_timestamp"})
        storage.dispose()
    assert rows[0] == rows[1]
    assert rows[0]["last_run_id"] == runs[-1]


def test_two_processes_write_to_one_log_and_each_sees_all(instance: dg.DagsterInstance, home: Path) -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, str(home), "20", name], stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for number in range(20):
        instance.report_runless_asset_event(dg.AssetMaterialization(ASSET, partition=f"own{number}"))
    assert [other.wait(60) for other in others] == [0, 0]
    for other in others:
        other.communicate()
    assert partitions(instance) == {f"{name}{number}" for name in ("own", "a", "b") for number in range(20)}


def test_what_was_logged_before_a_kill_is_there(instance: dg.DagsterInstance, home: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(home), "5", "killed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert [child.stdout.readline().strip() for _ in range(5)] == ["0", "1", "2", "3", "4"]
    child.kill()
    child.communicate()
    assert partitions(instance) == {f"killed{number}" for number in range(5)}


@pytest.mark.parametrize(
    "key", ["nonsense", "", "binance-spot:BTC USDT", "binance-spot:", "binance-future:BTCUSDT"]
)
def test_a_key_that_names_no_market_does_not_become_a_partition(
    instance: dg.DagsterInstance, key: str
) -> None:
    """Whoever adds it, also in the UI: there it would lie within ranges, and reach every step."""
    with pytest.raises(MarketKeyError, match="is not a market key"):
        instance.add_dynamic_partitions("market", ["binance-spot:BTCUSDT", key])
    assert instance.get_dynamic_partitions("market") == []
    instance.add_dynamic_partitions("market", ["binance-spot:BTCUSDT"])
    instance.add_dynamic_partitions("other", ["nonsense"])
    assert instance.get_dynamic_partitions("market") == ["binance-spot:BTCUSDT"]
