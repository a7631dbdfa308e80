"""The image, built, looked into and run by `make test-long`: it takes minutes, root and packages of Debian.

Prints what docs/long-tests.md records: sizes, what is in it, and how long it took to start.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.simulator import Simulator
from lakehouse_tests.docker.asked import (
    addresses,
    bring_up,
    operator,
    refuses_who_brings_no_token,
    run_a_month,
    stored,
    viewer,
)
from lakehouse_tests.docker.containers import (
    BASE,
    CONFINED,
    IMAGE,
    Containers,
    build_base,
    build_image,
    inspected,
    said,
)
from lakehouse_tests.docker.stack import STAYING, Stack, files_of, ports_of_services
from lakehouse_tests.opened import LISTED, NOW
from lakehouse_tests.postgres import running_postgres

WANTED = 600e6  # bytes beside the base
TOOLS = ("pip", "pip3", "gcc", "cc", "make", "ld", "strip", "git", "curl", "uv")


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both images."""
    begun = time.monotonic()
    build_base(tmp_path_factory.mktemp("base"))
    based = time.monotonic()
    build_image()
    print(f"\nbase in {based - begun:.0f} s, image in {time.monotonic() - based:.0f} s")


def inside(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in a confined container of the image, without a network."""
    how = ["podman", "run", "--rm", *CONFINED, "--network=none", IMAGE, *words]
    return subprocess.run(how, capture_output=True, text=True)


def test_it_is_small_beside_its_base_and_says_what_is_in_it() -> None:
    whole, base = inspected(IMAGE)["Size"], inspected(BASE)["Size"]
    print(f"{whole / 1e6:.0f} MB, of which the base is {base / 1e6:.0f}: {(whole - base) / 1e6:.0f} MB")
    listed = inside("sh", "-c", "du -sm /opt/lakehouse/lib/python3*/site-packages/* | sort -rn | head -14")
    print(", ".join(f"{Path(at).name} {size}" for size, at in map(str.split, listed.stdout.splitlines())))
    assert whole - base <= WANTED


def test_it_has_no_tool_that_builds_or_installs() -> None:
    found = inside("sh", "-c", f"command -v {' '.join(TOOLS)}")
    assert found.stdout == ""
    for module in ("pip", "ensurepip", "setuptools"):
        found = inside("python", "-c", f"import {module}")
        assert f"No module named '{module}'" in found.stderr


def test_it_says_of_itself_what_the_dockerfile_states() -> None:
    said_of_it = inspected(IMAGE)
    config = said_of_it["Config"]
    assert config["User"] == "10001:10001"
    assert set(config["Volumes"]) == {"/tmp", "/srv/dagster"}
    assert set(config["ExposedPorts"]) == {"3000/tcp", "4000/tcp"}
    assert said_of_it["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    assert len(said_of_it["Labels"]["org.opencontainers.image.revision"]) == 40
    assert BASE.endswith(said_of_it["Labels"]["org.opencontainers.image.base.name"])
    assert not [name for name in config["Env"] if "TOKEN" in name or "PASSWORD" in name or "PIP_" in name]


def test_it_writes_to_its_two_places_alone_and_has_no_privilege() -> None:
    found = inside(
        "sh",
        "-c",
        "id -u; touch /tmp/a /srv/dagster/a && echo written; touch /srv/lakehouse/a /opt/lakehouse/a"
        " /etc/a; grep -E '^Cap(Eff|Bnd)|^NoNewPrivs' /proc/self/status",
    )
    assert found.stdout.split() == [
        "10001", "written", "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1",
    ]  # fmt: skip
    assert found.stderr.count("Read-only file system") == 3


def test_what_it_runs_unless_told_otherwise_is_healthy_by_its_own_check() -> None:
    name, begun = "lakehouse-tried-alone", time.monotonic()
    said(
        "podman",
        "run",
        "--detach",
        "--name",
        name,
        *CONFINED,
        "--network=none",
        "--env=LAKEHOUSE_ROOT=/tmp/lake",
        IMAGE,
    )
    try:
        while subprocess.run(["podman", "healthcheck", "run", name], capture_output=True).returncode:
            assert time.monotonic() - begun < 60, said("podman", "logs", name)
            time.sleep(0.2)
        print(f"healthy after {time.monotonic() - begun:.1f} s")
    finally:
        said("podman", "rm", "--force", "--volumes", name)


@pytest.fixture(scope="module")
def stack(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, ports = tmp_path_factory.mktemp("stack"), ports_of_services()
    with Simulator(markets=LISTED, now=NOW) as exchange, running_postgres() as postgres:
        runner = Containers(folder, files_of(folder / "files", ports))
        stack = Stack(runner, addresses(exchange) | postgres.database(), ports)
        begun = time.monotonic()
        try:
            bring_up(stack)
            print(f"the stack is healthy after {time.monotonic() - begun:.0f} s")
            yield stack
        finally:
            stack.stop_all()


def test_every_service_of_compose_is_healthy_as_a_confined_container(stack: Stack) -> None:
    assert {name: stack.ask(name) for name in STAYING} == dict.fromkeys(STAYING, 0)


def test_a_month_is_built_from_its_source_to_gold_in_containers(stack: Stack) -> None:
    begun = time.monotonic()
    assert run_a_month(stack) == "SUCCESS", stack.runner.said("code")[-3000:]
    keys = stored(stack)
    print(f"a month after {time.monotonic() - begun:.0f} s, {len(keys)} objects")
    for zone in ("bronze", "silver", "gold"):
        assert [key for key in keys if key.startswith(f"lake/{zone}/") and key.endswith(".parquet")], zone
    assert [key for key in keys if key.startswith("logs/")]


def test_the_viewers_container_changes_nothing_and_neither_lets_in_who_brings_no_token(stack: Stack) -> None:
    assert refuses_who_brings_no_token(stack)
    query = 'mutation { setConcurrencyLimit(concurrencyKey: "x", limit: 9) }'
    with pytest.raises(AssertionError, match="UnauthorizedError"):
        viewer(stack).ask(query)
    assert operator(stack).ask(query) == {"setConcurrencyLimit": True}
