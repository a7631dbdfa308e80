"""What `infra/docker/Dockerfile` states, without building it: `make test-long` does that."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

from lakehouse_tests.clone import ROOT
from lakehouse_tests.docker.composed import FOLDER, services

TEXT = (FOLDER / "Dockerfile").read_text("utf-8")
FIRST, LAST = TEXT.split("\nFROM ")[1:]


def hadolint(text: str) -> set[str]:
    """The rules that a Dockerfile breaks."""
    words = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "--format", "json", "-"]
    said = subprocess.run(words, input=text, capture_output=True, text=True).stdout
    return {found["code"] for found in json.loads(said)}


def test_hadolint_finds_nothing_and_would() -> None:
    assert hadolint(TEXT) == set()
    worse = TEXT.replace("${PYTHON_IMAGE}", "python:latest").replace("USER 10001:10001", "USER root")
    assert {"DL3007", "DL3002"} <= hadolint(worse)


def test_the_base_is_one_argument_for_both_stages_so_that_a_release_can_name_its_bytes() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim-\w+$", TEXT, re.M)
    assert re.findall(r"^FROM (\S+)", TEXT, re.M) == ["${PYTHON_IMAGE}"] * 2
    named = re.search(r'base\.name="\$\{PYTHON_IMAGE\}"', LAST)
    assert named


def test_packages_come_as_wheels_by_their_hashes_and_their_installer_stays_behind() -> None:
    installs = re.findall(r"pip --python \S+ install (.+?)(?:\n[A-Z]|\Z)", FIRST, re.S)
    assert len(installs) == 2
    assert "--require-hashes --only-binary :all: --requirement requirements-aws.txt" in installs[0]
    assert "--no-index --no-deps ./*.whl" in installs[1]
    assert "--without-pip" in FIRST
    assert "pip install" not in LAST
    assert "pip uninstall" in LAST
    assert "import ensurepip" in LAST, "which has another copy of it"


def test_it_runs_as_a_number_that_is_nobody_elses_and_writes_to_two_places() -> None:
    users = re.findall(r"^USER (.+)$", LAST, re.M)
    assert users == ["10001:10001"]
    assert re.findall(r"^VOLUME (.+)$", LAST, re.M) == ['["/tmp", "/srv/dagster"]']
    assert "--owner=10001 --group=10001 --mode=0750 /srv/dagster" in LAST


def test_what_is_copied_is_let_in_and_nothing_else_is() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert all(rule.startswith("!") for rule in rules[1:])
    copied = [path for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.M) for path in line.split()]
    assert sorted(rule[1:] for rule in rules[1:]) == sorted(copied)
    assert not any(
        fnmatch(path, rule[1:]) for path in (".env", "lake/x", ".git/config") for rule in rules[1:]
    )


def test_what_it_runs_unless_told_otherwise_is_the_code_location_as_compose_starts_it() -> None:
    (said,) = re.findall(r"^CMD (\[.+?\])$", LAST, re.S | re.M)
    code = services()["code"]
    assert json.loads(said.replace("\\\n", "")) == code["command"]
    (asked,) = re.findall(r"^HEALTHCHECK .+ CMD (\[.+\])$", LAST, re.M)
    assert ["CMD", *json.loads(asked)] == code["healthcheck"]["test"]
