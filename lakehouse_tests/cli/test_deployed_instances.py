"""Each kind of instance is really opened from the file that is written for it: a Postgres server, an S3
endpoint for what runs say, and an ECS endpoint run beside the tests.
"""

from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import TickStatus
from dagster_aws.s3 import S3ComputeLogManager

from lakehouse.cli.instance import open_instance
from lakehouse.cli.instances import write_instance
from lakehouse.defs.fargate import FargateRunLauncher
from lakehouse.defs.postgres import KeptPostgresEventLogStorage
from lakehouse.model.errors import MarketKeyError
from lakehouse.model.secrets import HIDDEN, learn
from lakehouse.settings import Settings
from lakehouse_tests.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.slow

DEPLOYED = {
    "DAGSTER_COMPUTE_LOGS_BUCKET": "lake",
    "DAGSTER_COMPUTE_LOGS_PREFIX": "logs",
    "DAGSTER_ECS_CLUSTER": "lake",
    "DAGSTER_ECS_TASK_DEFINITION": "lake-run",
    "DAGSTER_ECS_SUBNETS": "subnet-1,subnet-2",
    "DAGSTER_ECS_SECURITY_GROUPS": "sg-1",
    "DAGSTER_RUNS_AT_ONCE": "7",
    "PGSSLMODE": "require",
}


@pytest.fixture(params=["postgres", "ecs"])
def instance(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    aws_lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dg.DagsterInstance]:
    own = {"AWS_DEFAULT_REGION": "us-east-1", "DAGSTER_HOME": str(tmp_path)}
    for name, value in (DEPLOYED | postgres.database() | own).items():
        monkeypatch.setenv(name, value)
    boto3.client("ecs").register_task_definition(
        family="lake-run", containerDefinitions=[{"name": "run", "image": "lake", "memory": 512}]
    )
    write_instance(request.param, tmp_path)
    with open_instance(Settings()) as opened:
        yield opened


def test_it_is_opened_from_its_file_with_everything_that_a_deployment_has(
    instance: dg.DagsterInstance,
) -> None:
    log = instance.event_log_storage
    assert isinstance(log, KeptPostgresEventLogStorage)
    with log.index_connection() as connection:
        asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.exec_driver_sql(asked).scalar(), "by PGSSLMODE"
    assert isinstance(instance.compute_log_manager, S3ComputeLogManager)
    assert instance.run_monitoring_enabled
    assert instance.run_retries_enabled
    kept = instance.get_tick_retention_settings(InstigatorType.SENSOR)
    assert (kept[TickStatus.SKIPPED], kept[TickStatus.SUCCESS]) == (2, 30)
    assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
    queue = instance.get_concurrency_config()
    assert queue.run_queue_config is not None
    at_once, of_a_table = queue.run_queue_config.max_concurrent_runs, queue.pool_config.default_pool_limit
    if isinstance(instance.run_launcher, FargateRunLauncher):
        assert (at_once, of_a_table) == (7, None)
        assert instance.run_launcher.run_task_kwargs["networkConfiguration"] == {
            "awsvpcConfiguration": {
                "subnets": ["subnet-1", "subnet-2"],
                "securityGroups": ["sg-1"],
                "assignPublicIp": "DISABLED",
            }
        }
    else:
        assert (at_once, of_a_table) == (2, 1)


def test_its_event_log_takes_the_care_that_ours_takes(instance: dg.DagsterInstance) -> None:
    learn([PASSWORD])
    with pytest.raises(MarketKeyError):
        instance.add_dynamic_partitions("market", ["binance-spot:BTCUSDT", "nonsense"])
    assert instance.get_dynamic_partitions("market") == []
    instance.add_dynamic_partitions("market", ["binance-spot:BTCUSDT"])
    noted = dg.AssetMaterialization("noted", partition="a", description=f"it said {PASSWORD}")
    instance.report_runless_asset_event(noted)
    found = instance.fetch_materializations(dg.AssetKey("noted"), limit=5).records
    assert [record.asset_materialization.description for record in found if record.asset_materialization] == [
        f"it said {HIDDEN}"
    ]


def test_what_a_run_says_is_kept_in_the_bucket(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def talks() -> None:
        print("said in the run")

    result = dg.materialize([talks], instance=instance)
    assert result.success
    logs = instance.compute_log_manager
    (key,) = [
        event.logs_captured_data.file_key
        for event in result.all_events
        if event.event_type_value == "LOGS_CAPTURED"
    ]
    data = logs.get_log_data([result.run_id, "compute_logs", key])
    assert b"said in the run" in (data.stdout or b"")
    assert boto3.client("s3").list_objects_v2(Bucket="lake", Prefix="logs/")["KeyCount"] >= 1
