"""One template makes the files of every kind of instance, and holds no value of a deployment."""

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.cli.instances import TEMPLATE, instance_settings, write_instance
from lakehouse.model.errors import UnknownInstanceError

LOGS = {"DAGSTER_COMPUTE_LOGS_BUCKET", "DAGSTER_COMPUTE_LOGS_PREFIX"}
ECS = {f"DAGSTER_ECS_{name}" for name in ("CLUSTER", "TASK_DEFINITION", "SUBNETS", "SECURITY_GROUPS")}
CONFIG = TEMPLATE.with_name("dagster.yaml")


def variables(settings: Any) -> set[str]:
    """The variables that the settings of an instance name."""
    if isinstance(settings, dict):
        if set(settings) == {"env"}:
            return {settings["env"]}
        return {name for value in settings.values() for name in variables(value)}
    return {name for value in settings for name in variables(value)} if isinstance(settings, list) else set()


def test_the_file_of_one_machine_is_what_the_template_says() -> None:
    assert yaml.safe_load(CONFIG.read_text("utf-8")) == instance_settings("machine")


def test_every_value_of_a_deployment_is_read_from_its_environment() -> None:
    own = {f"DAGSTER_POSTGRES_{name}" for name in ("HOST", "DB", "USER", "PASSWORD")} | LOGS
    assert variables(instance_settings("machine")) == set()
    assert variables(instance_settings("postgres")) == own
    assert variables(instance_settings("ecs")) == own | ECS | {"DAGSTER_RUNS_AT_ONCE"}


def test_what_all_instances_share_stands_in_the_template_once() -> None:
    shared = yaml.safe_load(TEMPLATE.read_text("utf-8"))["every"]
    for name in ("machine", "postgres", "ecs"):
        settings = instance_settings(name)
        assert {key: settings[key] for key in shared} == shared
        assert settings["run_monitoring"]["enabled"]
        assert set(settings["retention"]) == {"schedule", "sensor", "auto_materialize"}


def test_an_instance_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownInstanceError, match="Expected one of machine, postgres, ecs"):
        write_instance("kubernetes", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_links_to_the_package_s_own_file_gets_one_of_its_own(tmp_path: Path) -> None:
    before = CONFIG.read_bytes()
    (tmp_path / "dagster.yaml").symlink_to(CONFIG)
    assert [path.name for path in write_instance("ecs", tmp_path)] == ["dagster.yaml", "workspace.yaml"]
    assert CONFIG.read_bytes() == before
    assert yaml.safe_load((tmp_path / "dagster.yaml").read_text("utf-8")) == instance_settings("ecs")
    assert stat.S_ISREG((tmp_path / "dagster.yaml").lstat().st_mode)


def test_the_workspace_names_the_code_location_as_lakehouse_ui_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.workspace.config_schema import process_workspace_config

    write_instance("postgres", tmp_path)
    monkeypatch.setenv("DAGSTER_CODE_HOST", "code.lake.internal")
    said = yaml.safe_load((tmp_path / "workspace.yaml").read_text("utf-8"))
    read = process_workspace_config(said)
    assert read.success, read.errors
    assert read.value["load_from"][0]["grpc_server"] == {
        "host": "code.lake.internal",
        "port": 4000,
        "location_name": "lakehouse",
    }
