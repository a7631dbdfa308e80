"""What Fargate does, on this machine: tasks that the local ECS endpoint has accepted run as processes, each
with the command, environment and role that its task names, and their ends are reported.

The endpoint itself only keeps what it is told: a task there never runs, and would end by being looked at.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ecs.models import ecs_backends
from moto.moto_api import state_manager

REGION = "ap-northeast-1"


@dataclass
class Machine:
    """One task.

    Attributes:
        arn: The task's.
        asked: What was asked for, as the endpoint keeps it.
        command: What runs.
        process: The process that runs it.
        said: The file with what it says.
    """

    arn: str
    asked: dict[str, Any]
    command: list[str]
    process: subprocess.Popen[bytes]
    said: Path

    @property
    def size(self) -> tuple[str, str]:
        """Its CPU and memory."""
        return self.asked["overrides"]["cpu"], self.asked["overrides"]["memory"]


@dataclass
class Fargate:
    """Runs what a cluster was given.

    Args:
        cluster: Its name.
        folder: Where the volumes of tasks are, and what they say.
        image: Variables that the image has of itself.
        secrets: The values of secrets, by what a task definition calls them.
        here: Variables whose declared values are addresses that this machine does not reach.
    """

    cluster: str
    folder: Path
    image: Mapping[str, str]
    secrets: Mapping[str, str]
    here: Mapping[str, str]
    machines: dict[str, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 1 << 30})

    def start(self) -> list[Machine]:
        """Start what was accepted since; the new tasks."""
        ecs = boto3.client("ecs", region_name=REGION)
        arns = [arn for arn in ecs.list_tasks(cluster=self.cluster)["taskArns"] if arn not in self.machines]
        asked = (
            ecs.describe_tasks(cluster=self.cluster, tasks=arns, include=["TAGS"])["tasks"] if arns else []
        )
        for task in asked:
            self.machines[task["taskArn"]] = self._start(task)
        return [self.machines[arn] for arn in arns]

    def wait(self, machine: Machine, seconds: float = 200) -> int:
        """Wait for a task, and report its end; its exit code."""
        code = machine.process.wait(seconds)
        task = ecs_backends[DEFAULT_ACCOUNT_ID][REGION].tasks[self.cluster][machine.arn]
        task.containers[0].exitCode = 128 - code if code < 0 else code  # a signal, as a container tells it
        task.last_status = task.desired_status = "STOPPED"
        task.stopped_reason = "Essential container in task exited"
        return code

    def end(self) -> None:
        """End whatever still runs."""
        for machine in self.machines.values():
            if machine.process.poll() is None:
                machine.process.send_signal(signal.SIGKILL)
                machine.process.wait(10)

    def _start(self, task: dict[str, Any]) -> Machine:
        declared = boto3.client("ecs", region_name=REGION).describe_task_definition(
            taskDefinition=task["taskDefinitionArn"]
        )["taskDefinition"]
        (container,) = declared["containerDefinitions"]
        (override,) = task["overrides"]["containerOverrides"]
        assert override["name"] == container["name"]
        role = boto3.client("sts", region_name=REGION).assume_role(
            RoleArn=declared["taskRoleArn"], RoleSessionName=task["taskArn"].rsplit("/", 1)[1]
        )["Credentials"]
        name = task["taskArn"].rsplit("/", 1)[1]
        home = self.folder / name  # a volume of the task's own, empty as the service makes it
        home.mkdir()
        environment = {
            **self.image,
            "AWS_ACCESS_KEY_ID": role["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": role["SecretAccessKey"],
            "AWS_SESSION_TOKEN": role["SessionToken"],
            **{each["name"]: each["value"] for each in container["environment"]},
            **{each["name"]: self.secrets[each["valueFrom"]] for each in container["secrets"]},
            **self.here,
            "DAGSTER_HOME": str(home),
        }
        command = [*container["entryPoint"], *override["command"]]
        said = self.folder / f"{name}.log"
        with said.open("wb") as sink:
            process = subprocess.Popen(
                command, env=environment, cwd="/", stdout=sink, stderr=sink, start_new_session=True
            )
        return Machine(task["taskArn"], task, command, process, said)


def image() -> dict[str, str]:
    """What the image would have of itself: where its programs and modules are."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
