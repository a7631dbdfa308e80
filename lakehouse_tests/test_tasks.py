"""A backfill as several tasks: the queue of an instance in Postgres, Dagster's own daemon and launcher, an
ECS endpoint on this machine, and a process for every task that it accepts, over a lake in S3.

One task is killed at a cell in its middle: it alone is missed, and what it had not stored is submitted again,
nothing else.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3
import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from lakehouse.cli.app import main
from lakehouse.cli.instance import open_instance
from lakehouse.cli.instances import write_instance
from lakehouse.cli.local_aws import local_aws
from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.pipeline.sizes import MIDDLE, SMALL
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.layout import cell_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.fargate import CLUSTER, FAMILY, REGION, Fargate, Machine, image
from lakehouse_tests.postgres import Postgres
from lakehouse_tests.storage.fault_proxy import Fault, FaultProxy

pytestmark = pytest.mark.slow

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
LIFE = (datetime(2024, 1, 30, tzinfo=UTC), datetime(2024, 4, 2, tzinfo=UTC))
NAMES = ("ADAUSDT", "BTCUSDT", "ETHUSDT")
LISTED = tuple(
    SimulatedMarket("spot", name, name[:3], "USDT", Decimal(100), 40, 2, 3, *LIFE) for name in NAMES
)
MARKETS = [Market("binance", "spot", name) for name in NAMES]
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
SPAN = ("--from", MONTHS[0], "--to", "2024-05-01")
LOST_AT = Cell(
    "2024-03", MARKETS[1]
)  # the first two months of this market are stored when its task is killed


class Watched(FaultProxy):
    """The S3 endpoint as tasks see it: tells of one object before it is written."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.written: list[str] = []
        self.awaited: tuple[str, Callable[[], object]] | None = None

    def answer(self, method: str, target: str, body: bytes) -> Fault | None:
        fault = super().answer(method, target, body)
        method, key = self.requests[-1]
        if method == "PUT":
            if self.awaited is not None and key == self.awaited[0]:
                (_, act), self.awaited = self.awaited, None
                act()
                return Fault(0, "")  # whoever asked is gone
            self.written.append(key.removeprefix("lake/"))
        return fault


class Deployment:
    """A deployment on this machine.

    Args:
        instance: Its Dagster instance.
        workspace: Of its daemon.
        fargate: What runs its tasks.
        store: The S3 endpoint of its tasks.
    """

    def __init__(
        self, instance: dg.DagsterInstance, workspace: Any, fargate: Fargate, store: Watched
    ) -> None:
        self.instance, self.fargate, self.store = instance, fargate, store
        self._workspace = workspace
        self._queue = QueuedRunCoordinatorDaemon(interval_seconds=1)

    def backfill(self, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        """`lakehouse backfill` of candles; what it says."""
        markets = ",".join(market.key for market in MARKETS)
        words = ("lakehouse", "backfill", "silver/candle", "--markets", markets, *SPAN, *words)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [*words])
            patch.setenv("DAGSTER_HOME", self.instance.root_directory)  # each test begins without one
            with pytest.raises(SystemExit) as ended:
                main()
        said = "".join(capsys.readouterr())
        assert not ended.value.code, said
        return said

    def launch(self) -> list[Machine]:
        """Let the daemon take what is queued, and start the tasks that come of it."""
        list(self._queue.run_iteration(self._workspace))
        return self.fargate.start()

    def monitor(self) -> None:
        """Let the daemon look at what became of its tasks."""
        list(execute_run_monitoring_iteration(self._workspace, self._queue._logger))

    def run_of(self, machine: Machine) -> dg.DagsterRun:
        tags = {tag["key"]: tag["value"] for tag in machine.asked["tags"]}
        run = self.instance.get_run_by_id(tags["dagster/run_id"])
        assert run is not None
        return run


@pytest.fixture(scope="module")
def deployment(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        sim = stack.enter_context(Simulator(markets=LISTED, now=NOW))
        store = stack.enter_context(Watched(stack.enter_context(local_aws("lake"))))
        cluster = declare(
            {
                "LAKEHOUSE_ROOT": "s3://lake/lake",
                "LAKEHOUSE_START": "2024-01",
                "LAKEHOUSE_BINANCE_ARCHIVE_URL": sim.url,
                "LAKEHOUSE_BINANCE_REST_URL": sim.url,
                "LAKEHOUSE_WORKERS": "1",
                "AWS_ENDPOINT_URL": store.url,
                "NO_PROXY": "*",
                "DAGSTER_HOME": str(folder / "home"),
                "DAGSTER_COMPUTE_LOGS_BUCKET": "lake",
                "DAGSTER_COMPUTE_LOGS_PREFIX": "logs",
                "DAGSTER_RUNS_AT_ONCE": "5",
                **postgres.database(),
            }
        )
        for name, value in cluster.items():
            if name != "AWS_ENDPOINT_URL":
                patch.setenv(name, value)
        write_instance("ecs", folder / "home")
        fargate = Fargate(folder, image())
        stack.callback(fargate.end)
        instance = stack.enter_context(open_instance(Settings()))
        workspace = stack.enter_context(
            create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance)
        )
        yield Deployment(instance, workspace, fargate, store)


def declare(environment: dict[str, str]) -> dict[str, str]:
    """What OpenTofu declares of runs, made on the endpoint; the whole environment of a run."""
    ec2, ecs = boto3.client("ec2", region_name=REGION), boto3.client("ecs", region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="runs", Description="runs")["GroupId"]
    whole = environment | {
        "DAGSTER_ECS_CLUSTER": CLUSTER,
        "DAGSTER_ECS_TASK_DEFINITION": FAMILY,
        "DAGSTER_ECS_SUBNETS": subnet,
        "DAGSTER_ECS_SECURITY_GROUPS": group,
    }
    ecs.create_cluster(clusterName=CLUSTER)
    ecs.register_task_definition(
        family=FAMILY,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="512",
        memory="2048",
        taskRoleArn="arn:aws:iam::123456789012:role/lake-run",
        executionRoleArn="arn:aws:iam::123456789012:role/lake-execution",
        containerDefinitions=[
            {
                "name": "run",
                "image": "lake@sha256:0",
                "essential": True,
                "memory": 2048,
                "environment": [{"name": name, "value": value} for name, value in whole.items()],
            }
        ],
    )
    return whole


def stored() -> set[Cell]:
    return set(ledger(LakeObjects("s3://lake/lake"), Candle))


def test_a_backfill_is_tasks_and_a_killed_one_costs_only_its_own_cells(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    said = deployment.backfill(capsys, "--cells", "4")
    assert "Submitted 3 runs of 12 cells" in said

    machines = deployment.launch()
    assert len(machines) == 3
    by_market = {
        deployment.run_of(one).tags["dagster/asset_partition_range_start"][8:]: one for one in machines
    }
    assert set(by_market) == {market.key for market in MARKETS}
    for machine in machines:
        check_declared(deployment, machine)

    victim = by_market[LOST_AT.own_market.key]
    path = f"lake/{cell_path(Candle, LOST_AT)}"
    deployment.store.awaited = (path, lambda: os.kill(victim.process.pid, signal.SIGKILL))
    codes = {one.arn: deployment.fargate.wait(one) for one in machines}
    assert codes.pop(victim.arn) == -signal.SIGKILL, victim.said.read_text()
    assert set(codes.values()) == {0}, [one.said.read_text() for one in machines]

    lost = {Cell(month, LOST_AT.own_market) for month in MONTHS[2:]}
    every = {Cell(month, market) for market in MARKETS for month in MONTHS}
    assert stored() == every - lost
    assert "12 cells" not in deployment.backfill(capsys), "nobody knows yet that the task is gone"

    deployment.monitor()
    statuses = {deployment.run_of(one).run_id: deployment.run_of(one).status for one in machines}
    assert statuses.pop(deployment.run_of(victim).run_id) == DagsterRunStatus.FAILURE
    assert set(statuses.values()) == {DagsterRunStatus.SUCCESS}

    before = len(deployment.store.written)
    said = deployment.backfill(capsys)
    assert "Submitted 1 run of 2 cells" in said
    (again,) = deployment.launch()
    assert again.size == (str(SMALL.cpu), str(SMALL.memory))
    assert deployment.fargate.wait(again) == 0, again.said.read_text()
    written = {key for key in deployment.store.written[before:] if key.endswith("data.parquet")}
    assert written == {cell_path(Candle, cell) for cell in lost}
    assert stored() == every
    deployment.monitor()
    assert deployment.run_of(again).status == DagsterRunStatus.SUCCESS
    said = deployment.backfill(capsys)
    assert "2024-01,2024-04,2,never built (4 cells)" in said, (
        "what is made of many runs comes when they have ended"
    )
    assert "Submitted 1 run of 4 cells" in said


def check_declared(deployment: Deployment, machine: Machine) -> None:
    """A task is of the declared definition, in the declared network, of the size that four cells need."""
    assert machine.asked["taskDefinitionArn"].endswith(f":task-definition/{FAMILY}:1")
    assert machine.asked["launchType"] == "FARGATE"
    details = {each["name"]: each["value"] for each in machine.asked["attachments"][0]["details"]}
    assert details["subnetId"] == os.environ["DAGSTER_ECS_SUBNETS"]
    assert machine.size == (str(SMALL.cpu), str(SMALL.memory))
    assert len(str(machine.asked["overrides"])) < 8192, "the service takes no longer ones"
    run = deployment.run_of(machine)
    assert run.tags["lakehouse/why"] == "never built (4 cells)"
    assert run.tags["ecs/task_arn"] == machine.arn
    for secret in ("AWS_SECRET", os.environ["DAGSTER_POSTGRES_PASSWORD"]):
        assert secret not in str(machine.asked["overrides"])


def test_a_larger_rectangle_gets_a_larger_machine(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same cells by force, as one run: not started, for what counts is what is asked for."""
    assert "Submitted 1 run of 12 cells" in deployment.backfill(capsys, "--force")
    ecs = boto3.client("ecs", region_name=REGION)
    before = set(ecs.list_tasks(cluster=CLUSTER)["taskArns"])
    list(deployment._queue.run_iteration(deployment._workspace))
    new = sorted(set(ecs.list_tasks(cluster=CLUSTER)["taskArns"]) - before)
    asked = ecs.describe_tasks(cluster=CLUSTER, tasks=new)["tasks"]
    sizes = {(int(one["overrides"]["cpu"]), int(one["overrides"]["memory"])) for one in asked}
    assert sizes == {(MIDDLE.cpu, MIDDLE.memory), (SMALL.cpu, SMALL.memory)}, (
        "the other one is of four gap cells"
    )
