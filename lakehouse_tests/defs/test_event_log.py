"""Events on kept connections: what Dagster's own storage promises still holds."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

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
