"""The image, the compose file and what OpenTofu declares say the same: one image, one way to start each
service, one way to ask for its health.
"""

import json
import re
from typing import Any

import pytest

from lakehouse_tests.clone import ROOT
from lakehouse_tests.docker.composed import FOLDER, environment, services
from lakehouse_tests.infra.terraform import Resource, Terraform, resources

pytestmark = pytest.mark.slow
IMAGE = (FOLDER / "Dockerfile").read_text("utf-8").split("\nFROM ")[-1]
STAYING = ("code", "daemon", "webserver", "viewer")
Container = dict[str, Any]


@pytest.fixture(scope="module")
def applied(terraform: Terraform) -> list[Resource]:
    """Prod, as it was applied by the stand-in."""
    assert terraform.plan("prod").code == 0
    return resources(terraform.apply("prod"))


@pytest.fixture(scope="module")
def tasks(applied: list[Resource]) -> dict[str, Container]:
    """The containers of its task definitions, by name."""
    found = [
        one
        for task in applied
        if task.type == "aws_ecs_task_definition"
        for one in json.loads(task.values["container_definitions"])
    ]
    return {
        one["name"]: one for one in found if not one["name"].startswith(("trino", "coordinator", "worker"))
    }


def test_every_service_of_compose_is_a_task_and_runs_are_one_more(tasks: dict[str, Container]) -> None:
    assert set(tasks) == {*STAYING, "run"}


def test_tasks_run_as_the_user_of_the_image_and_write_to_its_volumes_alone(
    tasks: dict[str, Container],
) -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", IMAGE, re.M)
    (volumes,) = re.findall(r"^VOLUME (\[.+\])$", IMAGE, re.M)
    for name, task in tasks.items():
        assert (task["user"], task["readonlyRootFilesystem"]) == (user, True), name
        assert {mount["containerPath"] for mount in task["mountPoints"]} == set(json.loads(volumes)), name
        assert task["linuxParameters"]["initProcessEnabled"], name


def test_ports_and_files_that_tasks_name_are_those_of_the_image(tasks: dict[str, Container]) -> None:
    (ports,) = re.findall(r"^EXPOSE (.+)$", IMAGE, re.M)
    asked = {str(port["containerPort"]) for task in tasks.values() for port in task.get("portMappings", ())}
    assert asked == set(ports.split())
    named = {word for task in tasks.values() for word in task["command"] if word.startswith("/srv/")}
    assert named
    assert all(re.search(rf"^COPY .+ {re.escape(path)}$", IMAGE, re.M) for path in named)


@pytest.mark.parametrize("name", STAYING)
def test_a_service_is_started_and_asked_for_its_health_as_in_compose(
    tasks: dict[str, Container], name: str
) -> None:
    composed, task = services()[name], tasks[name]
    assert plain(task["command"]) == plain(composed["command"])
    assert plain(task["healthCheck"]["command"]) == plain(composed["healthcheck"]["test"])


def test_the_instance_is_written_at_every_start_out_of_the_same_template(tasks: dict[str, Container]) -> None:
    (*shell, line, _) = services()["code"]["entrypoint"]
    for name, task in tasks.items():
        *said, as_task, _ = task["entryPoint"]
        assert said == shell, name
        assert as_task == line.replace("instance postgres", "instance ecs"), name


def test_compose_states_nothing_of_dagster_that_a_task_is_not_told(tasks: dict[str, Container]) -> None:
    composed = {name for name in environment(services()["code"]) if name.startswith("DAGSTER_")}
    told = {entry["name"] for part in ("environment", "secrets") for entry in tasks["code"][part]}
    assert composed <= told


def test_the_roles_that_workflows_ask_for_are_there(applied: list[Resource]) -> None:
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    asked = {name.replace("$ENVIRONMENT", "prod") for name in re.findall(r":role/(lakehouse-[\w$-]+)", text)}
    assert len(asked) == 2
    assert asked <= {one.values["name"] for one in applied if one.type == "aws_iam_role"}


def plain(words: list[str]) -> list[str]:
    """A command without what differs by place: the name under which browsers come, the port of the viewers,
    the order of options.
    """
    line = re.sub(r" --name \S+", "", " ".join(words)).replace("3001", "3000")
    first, *options = re.split(r" (?=--)", line)
    return [first, *sorted(options)]
