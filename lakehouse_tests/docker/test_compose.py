"""What `infra/docker/compose.yaml` states."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from lakehouse.cli.instances import workspace
from lakehouse_tests.clone import ROOT
from lakehouse_tests.docker.composed import (
    COMPOSE,
    FOLDER,
    SECRETS,
    VariableMissingError,
    composed,
    environment,
    services,
)

OURS = {"bucket", "migrate", "code", "daemon", "webserver", "viewer"}


def schema_says(path: Path) -> str:
    """What the schema of compose files finds wrong in one; empty if nothing."""
    words = [
        str(Path(sys.executable).with_name("check-jsonschema")),
        "--builtin-schema",
        "vendor.compose-spec",
        str(path),
    ]
    ended = subprocess.run(words, capture_output=True, text=True)
    return "" if ended.returncode == 0 else ended.stdout


def test_it_is_a_compose_file_by_the_published_schema(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    whole = {name: part for name, part in composed().items() if not name.startswith("x-")}
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    assert schema_says(file) == ""
    whole["services"]["code"]["orders"] = ["sleep"]
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    assert "orders" in schema_says(file)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_stated_by_who_starts_it_or_nothing_starts(name: str) -> None:
    with pytest.raises(VariableMissingError, match=name):
        composed({**SECRETS, name: ""})


def test_every_variable_of_the_secrets_stands_empty_in_the_example() -> None:
    example = dotenv_values(FOLDER / ".env.example")
    assert example == dict.fromkeys(SECRETS, "")
    named = {
        name
        for line in (FOLDER / ".env.example").read_text("utf-8").splitlines()
        for name in re.findall(r"^(?:# )?([A-Z_]+)=", line)
    }
    assert named <= set(re.findall(r"\$\{(\w+)", COMPOSE.read_text("utf-8")))


def test_each_of_our_services_may_write_nothing_but_its_scratch_and_has_no_privilege() -> None:
    found = services()
    assert {name for name, one in found.items() if one["image"] == "lakehouse:local"} == OURS
    for name in OURS:
        one = found[name]
        assert (one["read_only"], one["cap_drop"], one["init"]) == (True, ["ALL"], True), name
        assert "user" not in one, "the image says it"
        assert all(mount.endswith(":ro") for mount in one.get("volumes", ())), name
        assert [mount.split(":")[0] for mount in one["tmpfs"]] == ["/tmp"]
    for name, one in found.items():
        assert "no-new-privileges:true" in one["security_opt"], name
        assert "privileged" not in one
        assert not re.search(r":latest$|^[^:]+$", one["image"]), name


def test_nothing_is_reached_from_other_machines_and_the_database_from_none() -> None:
    ports = {name: one.get("ports", []) for name, one in services().items()}
    assert {name for name, some in ports.items() if some} == {"webserver", "viewer", "trino"}
    assert all(port.startswith("127.0.0.1:") for some in ports.values() for port in some)


def test_only_the_webservers_know_a_token_each_its_own_and_the_viewers_change_nothing() -> None:
    found = services()
    tokens = {name: environment(one).get("LAKEHOUSE_UI_TOKEN") for name, one in found.items()}
    assert {name: token for name, token in tokens.items() if token} == {
        "webserver": SECRETS["LAKEHOUSE_UI_TOKEN"],
        "viewer": SECRETS["LAKEHOUSE_VIEWER_TOKEN"],
    }
    assert [name for name, one in found.items() if "--read-only" in one.get("command", ())] == ["viewer"]


def test_every_service_that_stays_says_how_its_health_is_asked() -> None:
    for name, one in services().items():
        asked = one.get("healthcheck", {})
        if one["restart"] == "no":
            assert asked == {"disable": True}, name
        else:
            assert asked.get("test") or name == "trino", "its image has a check of its own"


def test_what_ends_by_itself_is_waited_for_by_a_service_that_stays() -> None:
    """Else `docker compose up --wait` takes its end for a failure."""
    found = services()
    once = {name for name, one in found.items() if one["restart"] == "no"}
    waited = {
        name
        for one in found.values()
        if one["restart"] != "no"
        for name, how in one.get("depends_on", {}).items()
        if how == {"condition": "service_completed_successfully"}
    }
    assert once == waited == {"bucket", "migrate"}


def test_the_code_location_is_where_the_packages_own_template_says_it_is() -> None:
    image = yaml.safe_load((FOLDER / "workspace.yaml").read_text("utf-8"))
    assert image == workspace()


def test_the_folder_that_a_service_is_given_is_there() -> None:
    for name, one in services().items():
        for mount in one.get("volumes", ()):
            source = mount.split(":")[0]
            assert not source.startswith(".") or (FOLDER / source).exists(), f"{name}: {source}"


def test_trino_is_told_every_variable_that_its_files_name() -> None:
    files = [path for path in (ROOT / "infra" / "trino" / "etc").rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(r"\$\{ENV:(\w+)\}", path.read_text("utf-8"))}
    assert named
    assert named <= environment(services()["trino"]).keys()
    pinned = (ROOT / "infra" / "trino" / "Dockerfile").read_text("utf-8")
    assert f"FROM {services()['trino']['image']}\n" in pinned
