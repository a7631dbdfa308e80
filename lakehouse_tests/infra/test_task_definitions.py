"""What tasks are told is what the image, the launcher and the settings expect."""

import json
import re
from typing import Any

import pytest
import yaml

from lakehouse.cli.instances import LOCATION, PORT, TEMPLATE, workspace
from lakehouse.defs.fargate import CONTAINER
from lakehouse.settings import Settings
from lakehouse_tests.infra.conftest import Applied
from lakehouse_tests.infra.terraform import Resource

pytestmark = pytest.mark.slow
# what Fargate has, in GB, by 1/1024 vCPU: sizes between are refused when a task is registered
FARGATE = {
    256: {0.5, 1, 2},
    512: {1, 2, 3, 4},
    1024: set(range(2, 9)),
    2048: set(range(4, 17)),
    4096: set(range(8, 31)),
    8192: set(range(16, 61, 4)),
    16384: set(range(32, 121, 8)),
}
# injected, or settings of AWS's own
NO_SETTINGS = {"LAKEHOUSE_UI_TOKEN", "LAKEHOUSE_ALERT_URLS"}


@pytest.fixture(scope="module")
def tasks(applied: Applied) -> dict[str, Resource]:
    """The task definitions of prod, where every service is."""
    return {one.key: one for one in applied("prod") if one.type == "aws_ecs_task_definition"}


def container(task: Resource) -> dict[str, Any]:
    found = json.loads(task.values["container_definitions"])
    assert len(found) == 1
    return dict(found[0])


def told(task: Resource) -> dict[str, str]:
    """What a task's environment holds, secrets by where they come from."""
    one = container(task)
    plain = {named["name"]: named["value"] for named in one["environment"]}
    return plain | {named["name"]: named["valueFrom"] for named in one["secrets"]}


def test_every_task_has_what_its_instance_reads(tasks: dict[str, Resource]) -> None:
    template = yaml.safe_load(TEMPLATE.read_text("utf-8"))
    read = set(re.findall(r"'env': '(\w+)'", str(template["ecs"]) + str(workspace())))
    assert len(read) >= 10
    assert set(tasks) == {"webserver", "viewer", "daemon", "code", "run"}
    for name, task in tasks.items():
        assert read <= set(told(task)), name


def test_runs_are_what_the_launcher_starts(tasks: dict[str, Resource]) -> None:
    assert container(tasks["run"])["name"] == CONTAINER
    for task in tasks.values():
        assert told(task)["DAGSTER_ECS_TASK_DEFINITION"] == tasks["run"].values["family"]


def test_every_setting_is_one_and_is_taken(
    tasks: dict[str, Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt setting would be ignored in silence."""
    for task in tasks.values():
        named = {name: value for name, value in told(task).items() if name.startswith("LAKEHOUSE_")}
        with monkeypatch.context() as patch:
            for name, value in named.items():
                patch.setenv(name, value if name not in NO_SETTINGS else "correct-horse-battery")
            taken = Settings()
        fields = {f"LAKEHOUSE_{name.upper()}" for name in Settings.model_fields}
        assert set(named) <= fields
        assert taken.root == "s3://lakehouse-prod-lake-111122223333/lake"
        assert taken.glue_database == "lakehouse_prod"
        assert taken.log_format == "json"


def test_a_secret_goes_to_who_needs_it(tasks: dict[str, Resource]) -> None:
    has = {
        name: {named["name"]: named["valueFrom"].split(":")[-3] for named in container(task)["secrets"]}
        for name, task in tasks.items()
    }
    alerts = {"DAGSTER_POSTGRES_PASSWORD": "password", "LAKEHOUSE_ALERT_URLS": "alert_urls"}
    assert has == {
        "webserver": {"DAGSTER_POSTGRES_PASSWORD": "password", "LAKEHOUSE_UI_TOKEN": "ui_token"},
        "viewer": {"DAGSTER_POSTGRES_PASSWORD": "password", "LAKEHOUSE_UI_TOKEN": "viewer_token"},
        **dict.fromkeys(("daemon", "code", "run"), alerts),
    }


def test_viewers_change_nothing(tasks: dict[str, Resource]) -> None:
    assert "--read-only" in container(tasks["viewer"])["command"]
    assert "--read-only" not in container(tasks["webserver"])["command"]
    by_role = {name: task.values["task_role_arn"].rpartition("-")[2] for name, task in tasks.items()}
    assert by_role == {
        "webserver": "control",
        "daemon": "control",
        "viewer": "viewer",
        "code": "run",
        "run": "run",
    }


def test_the_code_location_listens_where_it_is_looked_for(tasks: dict[str, Resource]) -> None:
    command = container(tasks["code"])["command"]
    assert command[command.index("--port") + 1] == str(PORT)
    assert command[command.index("--location-name") + 1] == LOCATION
    assert container(tasks["code"])["portMappings"] == [
        {"containerPort": PORT, "hostPort": PORT, "protocol": "tcp"}
    ]
    assert told(tasks["daemon"])["DAGSTER_CODE_HOST"] == "code.lakehouse-prod.internal"


def test_every_size_is_one_that_fargate_has(tasks: dict[str, Resource]) -> None:
    for name, task in tasks.items():
        cpu, memory = int(task.values["cpu"]), int(task.values["memory"])
        assert memory / 1024 in FARGATE[cpu], name
