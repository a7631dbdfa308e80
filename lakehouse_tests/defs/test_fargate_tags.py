"""Who starts a run says which cells it makes and how large its task is: not its command, role or network."""

import inspect
import re

import boto3
import dagster as dg
import pytest
from dagster._core.launcher import LaunchRunContext
from dagster._core.launcher.base import ResumeRunContext
from dagster_aws.ecs import launcher as of_dagster

from lakehouse.defs.fargate import FIXED, FargateRunLauncher
from lakehouse.model.errors import TaskTagError

pytestmark = pytest.mark.slow
OF_SIZE = {"ecs/cpu", "ecs/memory", "ecs/ephemeral_storage"}
NOTED = {"ecs/task_arn", "ecs/cluster"}  # by the launcher, when a task was started


@pytest.fixture
def launcher(aws_lake: str, monkeypatch: pytest.MonkeyPatch) -> FargateRunLauncher:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("ecs").create_cluster(clusterName="lake")
    boto3.client("ecs").register_task_definition(
        family="lake-run", containerDefinitions=[{"name": "run", "image": "lake", "memory": 512}]
    )
    told = {
        "cluster": "lake",
        "task_definition": "lake-run",
        "subnets": "subnet-1",
        "security_groups": "sg-1",
    }
    return FargateRunLauncher.from_config_value(None, told)


@pytest.mark.parametrize("tag", FIXED)
def test_a_run_whose_tags_choose_what_its_task_does_is_not_started(
    launcher: FargateRunLauncher, tag: str
) -> None:
    run = dg.DagsterRun(job_name="market_month", run_id="one", tags={tag: "{}", "ecs/cpu": "256"})
    for start, context in (
        (launcher.launch_run, LaunchRunContext(run, None)),
        (launcher.resume_run, ResumeRunContext(run, None)),
    ):
        with pytest.raises(TaskTagError, match=f"Run one was not started: its tags {tag} would"):
            start(context)  # type: ignore[operator]
    assert boto3.client("ecs").list_tasks(cluster="lake")["taskArns"] == []


def test_every_tag_that_dagsters_launcher_reads_is_judged() -> None:
    """A release that reads another one fails here."""
    read = set(re.findall(r'tags\.get\(\s*"(ecs/\w+)"', inspect.getsource(of_dagster)))
    assert read == {*FIXED, *OF_SIZE, *NOTED}
