"""The role of webserver and daemon: it starts runs and ends them, looks at the lake, changes nothing else."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lakehouse_tests.infra.checks import statements
from lakehouse_tests.infra.conftest import Applied
from lakehouse_tests.infra.enforced import ACCOUNT, REGION, Enforced, enforced

pytestmark = pytest.mark.slow
LAKE, WORK = (f"lakehouse-{name}-{ACCOUNT}" for name in ("dev-lake", "dev-work"))
CLUSTER, RUNS = "lakehouse-dev", "lakehouse-dev-run"


@pytest.fixture(scope="module")
def policies(applied: Applied) -> dict[str, str]:
    """Of each role of tasks, by what it is for."""
    return {
        one.key: str(one.values["policy"])
        for one in applied("dev", account_id=ACCOUNT)
        if one.type == "aws_iam_role_policy" and ".orchestration." in one.address
    }


@pytest.fixture(scope="module")
def here() -> Iterator[Enforced]:
    """A cluster with task definitions, and a lake."""
    with enforced((LAKE, WORK), ()) as running:
        with running.looking("ecs") as ecs, running.looking("s3") as s3:
            ecs.create_cluster(clusterName=CLUSTER)
            for family in (RUNS, "lakehouse-dev-webserver"):
                ecs.register_task_definition(
                    family=family, containerDefinitions=[{"name": "run", "image": "lake", "memory": 512}]
                )
            s3.put_object(Bucket=LAKE, Key="lake/silver/x", Body=b"x")
            s3.put_object(Bucket=WORK, Key="compute-logs/x", Body=b"x")
        with running.looking("ec2") as ec2:
            network = ec2.describe_subnets()["Subnets"][0]
            running.subnet = network["SubnetId"]
            running.group = ec2.create_security_group(
                GroupName="run", Description="run", VpcId=network["VpcId"]
            )["GroupId"]
        yield running


def run(here: Enforced, family: str) -> Any:
    """Start a task as the launcher does."""
    network = {"subnets": [here.subnet], "securityGroups": [here.group]}
    return here.client("ecs").run_task(
        cluster=CLUSTER,
        taskDefinition=family,
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
    )


def test_control_starts_watches_and_ends_runs(here: Enforced, policies: dict[str, str]) -> None:
    here.take_role("lakehouse-dev-control", policies["control"])
    ecs = here.client("ecs")
    assert ecs.describe_task_definition(taskDefinition=RUNS)["taskDefinition"]["family"] == RUNS
    task = run(here, RUNS)["tasks"][0]["taskArn"]
    assert ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"][0]["taskArn"] == task
    ecs.stop_task(cluster=CLUSTER, task=task)
    s3 = here.client("s3")
    assert s3.get_object(Bucket=LAKE, Key="lake/silver/x")["Body"].read(2) == b"x"
    assert s3.get_object(Bucket=WORK, Key="compute-logs/x")["Body"].read(2) == b"x"


def looking_only(here: Enforced) -> dict[str, Callable[[], Any]]:
    """What neither control nor viewers have any business doing."""
    s3, ecs, foreign = here.client("s3"), here.client("ecs"), f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/other/1"
    return {
        "write the lake": lambda: s3.put_object(Bucket=LAKE, Key="lake/silver/x", Body=b"y"),
        "delete from the lake": lambda: s3.delete_object(Bucket=LAKE, Key="lake/silver/x"),
        "start another task": lambda: run(here, "lakehouse-dev-webserver"),
        "change what tasks run": lambda: ecs.register_task_definition(family=RUNS, containerDefinitions=[]),
        "end tasks of another cluster": lambda: ecs.stop_task(cluster="other", task=foreign),
        "change services": lambda: ecs.update_service(cluster=CLUSTER, service="x", desiredCount=0),
        "register a table": lambda: here.client("glue").create_table(
            DatabaseName="lakehouse_dev_silver", TableInput={"Name": "candle"}
        ),
        "read a secret": lambda: here.client("secretsmanager").get_secret_value(SecretId="lakehouse-dev/ui"),
        "widen its own policy": lambda: here.client("iam").put_role_policy(
            RoleName="lakehouse-dev-control", PolicyName="more", PolicyDocument=json.dumps({"Statement": []})
        ),
        "take another role": lambda: here.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/lakehouse-dev-run", RoleSessionName="control"
        ),
    }


@pytest.mark.parametrize("role", ["control", "viewer"])
def test_who_only_looks_or_starts_runs_changes_nothing(
    here: Enforced, policies: dict[str, str], role: str
) -> None:
    here.take_role(f"lakehouse-dev-{role}", policies[role])
    deeds = looking_only(here)
    assert [what for what, deed in deeds.items() if not here.refused(deed)] == []


def test_viewers_read_the_lake_and_start_nothing(here: Enforced, policies: dict[str, str]) -> None:
    here.take_role("lakehouse-dev-viewer", policies["viewer"])
    assert not here.refused(lambda: here.client("s3").get_object(Bucket=LAKE, Key="lake/silver/x"))
    assert here.refused(lambda: run(here, RUNS))


def test_execution_injects_two_secrets_and_reads_no_row(policies: dict[str, str]) -> None:
    """What it may read is named: the endpoints here know no resources of secrets."""
    told = {said["Sid"]: said for said in statements(policies["execution"])}
    assert len(told["InjectSecrets"]["Resource"]) == 2
    assert all(":secret:" in one for one in told["InjectSecrets"]["Resource"])
    assert not [action for said in told.values() for action in said["Action"] if action.startswith("s3:")]
