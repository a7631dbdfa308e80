"""A backfill as several tasks: the queue of an instance in Postgres, Dagster's own daemon and launcher, and,
for every task that an ECS endpoint on this machine accepts, a process with the command, environment, secrets
and role of the task definition that OpenTofu declares. The lake is in S3.

One task is killed at a cell in its middle: it alone is missed, and what it had not stored is submitted again,
nothing else. What a process is not: it runs as the tests' user, on their file system and network.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import boto3
import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_aws.ecs import EcsRunLauncher

from lakehouse.cli.app import main
from lakehouse.cli.instance import open_instance
from lakehouse.cli.instances import instance_settings, workspace, write_instance
from lakehouse.cli.local_aws import local_aws
from lakehouse.datasets.candle import Candle
from lakehouse.defs.fargate import CONTAINER
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.pipeline.sizes import MIDDLE, SMALL
from lakehouse.settings import Settings
from lakehouse.simulator import SimulatedMarket, Simulator
from lakehouse.storage.layout import cell_path
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.infra.fargate import REGION, Fargate, Machine, image
from lakehouse_tests.infra.terraform import Resource, Terraform, resources
from lakehouse_tests.postgres import Postgres
from lakehouse_tests.storage.fault_proxy import DROP, Fault, FaultProxy

pytestmark = pytest.mark.slow

ACCOUNT = "123456789012"  # moto's own
BUCKET = f"lakehouse-dev-lake-{ACCOUNT}"
NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
LIFE = (datetime(2024, 1, 30, tzinfo=UTC), datetime(2024, 4, 2, tzinfo=UTC))
NAMES = ("ADAUSDT", "BTCUSDT", "ETHUSDT")
LISTED = tuple(
    SimulatedMarket("spot", name, name[:3], "USDT", Decimal(100), 40, 2, 3, *LIFE) for name in NAMES
)
MARKETS = [Market("binance", "spot", name) for name in NAMES]
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
SPAN = ("--from", MONTHS[0], "--to", "2024-05-01")
# the first two months of this market are stored when its task is killed
LOST_AT = Cell("2024-03", MARKETS[1])


class Definition:
    """A task definition as it is declared.

    Args:
        values: Of the resource.
        container: Its container.
    """

    def __init__(self, values: Mapping[str, Any], container: Mapping[str, Any]) -> None:
        self.values, self.container = values, container
        self.environment: dict[str, str] = {each["name"]: each["value"] for each in container["environment"]}

    def register(self) -> None:
        """Make it, and its cluster, on the endpoint, which wants memory of a container as well."""
        ecs = boto3.client("ecs", region_name=REGION)
        ecs.create_cluster(clusterName=self.environment["DAGSTER_ECS_CLUSTER"])
        ecs.register_task_definition(
            family=self.values["family"],
            requiresCompatibilities=self.values["requires_compatibilities"],
            networkMode=self.values["network_mode"],
            cpu=self.values["cpu"],
            memory=self.values["memory"],
            taskRoleArn=self.values["task_role_arn"],
            executionRoleArn=self.values["execution_role_arn"],
            containerDefinitions=[{**self.container, "memory": int(self.values["memory"])}],
        )


@dataclass
class Lost(Fault):
    """A request that is never answered, for by then whoever asks is gone.

    Attributes:
        ends: Ends whoever asks.
    """

    ends: Callable[[], object] = print

    def meets(self, *request: Any) -> bool:
        is_it = super().meets(*request)
        if is_it:
            self.ends()
        return is_it


class Deployment:
    """A deployment on this machine.

    Args:
        instance: Its Dagster instance.
        workspace: Of its daemon.
        fargate: What runs its tasks.
        store: The S3 endpoint of its tasks.
    """

    def __init__(
        self, instance: dg.DagsterInstance, workspace: Any, fargate: Fargate, store: FaultProxy
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

    def kill(self, cell: Cell) -> None:
        """Kill the task that makes a cell's market, as a machine that is lost would end it."""
        (one,) = [
            one for one in self.fargate.machines.values() if self.range_of(one).endswith(str(cell.market))
        ]
        os.kill(one.process.pid, signal.SIGKILL)

    def range_of(self, machine: Machine) -> str:
        return self.run_of(machine).tags["dagster/asset_partition_range_end"]


@pytest.fixture(scope="module")
def declared(terraform: Terraform) -> list[Resource]:
    """The environment `dev`, as it is applied."""
    assert terraform.plan("dev", f"-var=account_id={ACCOUNT}").code == 0
    return resources(terraform.apply("dev"))


@pytest.fixture(scope="module")
def definition(declared: list[Resource]) -> Definition:
    """The task definition of runs."""
    (found,) = [one.values for one in declared if one.type == "aws_ecs_task_definition" and one.key == "run"]
    (container,) = json.loads(found["container_definitions"])
    return Definition(found, container)


@pytest.fixture(scope="module")
def deployment(
    definition: Definition, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    told = definition.environment
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        sim = stack.enter_context(Simulator(markets=LISTED, now=NOW))
        store = stack.enter_context(
            FaultProxy(stack.enter_context(local_aws(told["DAGSTER_COMPUTE_LOGS_BUCKET"])), BUCKET)
        )
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        here = postgres.database() | {
            "AWS_ENDPOINT_URL": store.url,
            "DAGSTER_ECS_SUBNETS": ",".join(subnets(len(told["DAGSTER_ECS_SUBNETS"].split(",")))),
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": sim.url,
            "LAKEHOUSE_BINANCE_REST_URL": sim.url,
            "LAKEHOUSE_WORKERS": "1",
            "NO_PROXY": "*",
        }
        secrets = {each["valueFrom"]: here.get(each["name"], "") for each in definition.container["secrets"]}
        for name, value in (told | here | {"DAGSTER_HOME": str(folder / "home")}).items():
            if name != "AWS_ENDPOINT_URL":  # of this process: not the watched one
                patch.setenv(name, value)
        definition.register()
        write_instance("ecs", folder / "home")
        fargate = Fargate(told["DAGSTER_ECS_CLUSTER"], folder, image(), secrets, here)
        stack.callback(fargate.end)
        instance = stack.enter_context(open_instance(Settings()))
        workspace = stack.enter_context(
            create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance)
        )
        yield Deployment(instance, workspace, fargate, store)


def subnets(count: int) -> list[str]:
    """So many subnets on the endpoint, in place of those that are declared."""
    ec2 = boto3.client("ec2", region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    made = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24") for number in range(count)]
    return [each["Subnet"]["SubnetId"] for each in made]


def logs_of(run: dg.DagsterRun) -> list[str]:
    """What is kept of what a run said."""
    bucket, prefix = (os.environ[f"DAGSTER_COMPUTE_LOGS_{name}"] for name in ("BUCKET", "PREFIX"))
    found = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/storage/{run.run_id}/")
    return [each["Key"] for each in found.get("Contents", ())]


def stored() -> set[Cell]:
    return set(ledger(LakeObjects(f"s3://{BUCKET}/lake"), Candle))


def test_a_backfill_is_tasks_and_a_killed_one_costs_only_its_own_cells(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    said = deployment.backfill(capsys, "--cells", "4")
    assert "Submitted 3 runs of 12 cells" in said

    assert os.environ["DAGSTER_RUNS_AT_ONCE"] == "2", "the third waits in the queue"
    # awaited before anything starts: what is slow here may be fast there
    at, kill = f"lake/{cell_path(Candle, LOST_AT)}", lambda: deployment.kill(LOST_AT)
    deployment.store.faults = [Lost(DROP, "", methods=("PUT",), below=at, times=1, ends=kill)]
    first, victim = sorted(deployment.launch(), key=lambda one: deployment.range_of(one))
    for machine, market in ((first, MARKETS[0]), (victim, LOST_AT.own_market)):
        check_declared(deployment, machine)
        assert deployment.range_of(machine) == f"{MONTHS[-1]}|{market.key}"

    codes = [deployment.fargate.wait(one) for one in (first, victim)]
    assert codes == [0, -signal.SIGKILL], [one.said.read_text() for one in (first, victim)]
    (last,) = deployment.launch()
    assert deployment.fargate.wait(last) == 0, last.said.read_text()

    lost = {Cell(month, LOST_AT.own_market) for month in MONTHS[2:]}
    every = {Cell(month, market) for market in MARKETS for month in MONTHS}
    assert stored() == every - lost
    assert "12 cells" not in deployment.backfill(capsys), "nobody knows yet that the task is gone"

    deployment.monitor()
    assert [deployment.run_of(one).status for one in (first, victim, last)] == [
        DagsterRunStatus.SUCCESS,
        DagsterRunStatus.FAILURE,
        DagsterRunStatus.SUCCESS,
    ]
    assert deployment.run_of(victim).tags["dagster/will_retry"] == "true"
    assert logs_of(deployment.run_of(first)), "what a task said does not go with it"

    before = len(deployment.store.requests)
    said = deployment.backfill(capsys)
    assert "Submitted 1 run of 2 cells" in said
    (again,) = deployment.launch()
    assert again.size == (str(SMALL.cpu), str(SMALL.memory))
    assert deployment.fargate.wait(again) == 0, again.said.read_text()
    asked = deployment.store.requests[before:]
    written = {key for method, key in asked if method == "PUT" and key.endswith("/data.parquet")}
    assert written == {f"lake/{cell_path(Candle, cell)}" for cell in lost}
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
    told = machine.asked
    family = os.environ["DAGSTER_ECS_TASK_DEFINITION"]
    assert told["taskDefinitionArn"].endswith(f":task-definition/{family}:1")
    assert told["launchType"] == "FARGATE"
    details = {each["name"]: each["value"] for each in told["attachments"][0]["details"]}
    assert details["subnetId"] == os.environ["DAGSTER_ECS_SUBNETS"].split(",")[0]
    assert machine.size == (str(SMALL.cpu), str(SMALL.memory))
    assert len(json.dumps(told["overrides"])) < 8192, "the service takes no longer ones"
    assert os.environ["DAGSTER_POSTGRES_PASSWORD"] not in json.dumps(told)
    run = deployment.run_of(machine)
    assert run.tags["lakehouse/why"] == "never built (4 cells)"
    assert run.tags["ecs/task_arn"] == machine.arn


def test_a_task_knows_all_that_its_instance_reads(definition: Definition) -> None:
    """What OpenTofu declares of runs, and of who launches them, is what `lakehouse instance ecs` asks for."""
    secrets = {each["name"] for each in definition.container["secrets"]}
    settings = [*walk(instance_settings("ecs")), *walk(workspace())]
    read = {each["env"] for each in settings if set(each) == {"env"}}
    assert read <= definition.environment.keys() | secrets
    assert "DAGSTER_POSTGRES_PASSWORD" in secrets - definition.environment.keys()
    assert definition.container["name"] == CONTAINER
    assert "lakehouse instance ecs --home" in " ".join(definition.container["entryPoint"])
    assert definition.environment["DAGSTER_ECS_TASK_DEFINITION"] == definition.values["family"]


def walk(settings: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in some settings."""
    if isinstance(settings, dict):
        yield settings
    for value in settings.values() if isinstance(settings, dict) else settings:
        if isinstance(value, (dict, list)):
            yield from walk(value)


def test_whoever_launches_says_who_pays_and_asks_for_no_public_address(deployment: Deployment) -> None:
    told = cast("EcsRunLauncher[Any]", deployment.instance.run_launcher).run_task_kwargs
    network = told["networkConfiguration"]["awsvpcConfiguration"]
    assert told["propagateTags"] == "TASK_DEFINITION"
    assert network["assignPublicIp"] == "DISABLED"
    assert network["subnets"] == os.environ["DAGSTER_ECS_SUBNETS"].split(",")
    assert network["securityGroups"] == os.environ["DAGSTER_ECS_SECURITY_GROUPS"].split(",")


def test_a_larger_rectangle_gets_a_larger_machine(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same cells by force, as one run: not started, for what counts is what is asked for."""
    assert "Submitted 1 run of 12 cells" in deployment.backfill(capsys, "--force")
    ecs = boto3.client("ecs", region_name=REGION)
    before = set(ecs.list_tasks(cluster=deployment.fargate.cluster)["taskArns"])
    list(deployment._queue.run_iteration(deployment._workspace))
    new = sorted(set(ecs.list_tasks(cluster=deployment.fargate.cluster)["taskArns"]) - before)
    asked = ecs.describe_tasks(cluster=deployment.fargate.cluster, tasks=new)["tasks"]
    sizes = {(int(one["overrides"]["cpu"]), int(one["overrides"]["memory"])) for one in asked}
    assert sizes == {(MIDDLE.cpu, MIDDLE.memory), (SMALL.cpu, SMALL.memory)}, (
        "the other one is of four gap cells"
    )
