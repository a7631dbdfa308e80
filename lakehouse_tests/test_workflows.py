"""What CI types works when it is typed: every `run:` line of every workflow, in a fresh clone.

Some kinds of line are not carried out whole. `make test` and `make test-slow` would run this test within
itself: they collect the tests of this file and run none, and `.ci/run` holds that all pass. What asks an
index of packages finds them already there. `tofu` is Terraform out of a package, or what `TOFU` names, with
the provider that stands in for AWS's. What needs an account, a registry of images, a container engine or
GitHub is named, with what it needs; `make deploy` says its steps and does none.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.query.lake import Lake
from lakehouse_tests.clone import ROOT, environment, make_clone
from lakehouse_tests.infra.terraform import TOOL, stand_in

WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
JOBS: dict[str, dict[str, Any]] = {
    f"{path.stem} {name}": job
    for path in WORKFLOWS
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
}
COLLECT = f"--co -qq lakehouse_tests/{Path(__file__).name}"
ASKS_AN_INDEX = ("make advisories", "make newest", "pip install --require-hashes")
MAY = {
    "release wheel": {"id-token": "write", "attestations": "write"},
    "release image": {"packages": "write", "id-token": "write", "attestations": "write"},
    "release publish": {"contents": "write"},
    "infra plan": {"id-token": "write"},
    "deploy deploy": {"id-token": "write"},
}
"""What jobs may do beside reading the repository: sign, push an image, make a release, prove who they are."""
NEEDS = {
    "make image": "a container engine and a registry: `make test-long` has stand-ins",
    "docker ": "a container engine, or a registry of images",
    "gh release": "GitHub",
    "aws ecs": "an account",
    "-backend-config": "an account, whose bucket has the state",
    "tflint ": "its binary, which is in no index of packages",
}
HAS_NONE = {"weekly advisories", "weekly newest", "release image", "release publish"}
"""Jobs of which no line is run here."""
STATED = {"ENVIRONMENT": "dev", "GITHUB_REF_NAME": "v0.1.0", "GITHUB_REPOSITORY": "example/lakehouse"}
"""What GitHub states in the environment of a line."""


def lines(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_action_is_pinned_by_a_commit_whose_version_is_said() -> None:
    used = [line for path in WORKFLOWS for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert len(used) >= len(JOBS)
    for line in used:
        assert re.fullmatch(r"\s+(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_job_may_do_more_than_read_but_for_a_reason_and_every_one_ends() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {}, path.name
    assert MAY.keys() <= JOBS.keys()
    for name, job in JOBS.items():
        reads = {} if name == "release publish" else {"contents": "read"}  # it checks nothing out
        assert job["permissions"] == reads | MAY.get(name, {}), name
        assert job["timeout-minutes"] <= 120, name


def test_what_changes_something_beyond_ci_waits_for_an_approval() -> None:
    """GitHub holds a job of an environment until who is named there approves."""
    assert JOBS["deploy deploy"]["environment"] == "${{ inputs.environment }}"
    assert JOBS["release publish"]["environment"] == "release"
    for name, job in JOBS.items():
        line = "\n".join(lines(job))
        if "OPTIONS=--yes" in line or "gh release create" in line:
            assert "environment" in job, name


def test_no_workflow_holds_a_key_and_a_plan_is_made_of_our_own_branches_alone() -> None:
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        assert "secrets." not in text, path.name
        assert "pull_request_target" not in text, path.name
    assert "head.repo.full_name == github.repository" in JOBS["infra plan"]["if"]
    for name in ("infra plan", "deploy deploy"):
        (login,) = [step["with"] for step in JOBS[name]["steps"] if "aws-actions" in step.get("uses", "")]
        assert login.keys() == {"role-to-assume", "aws-region"}, "by OIDC, and by nothing else"


def test_no_value_of_github_is_pasted_into_a_line() -> None:
    """It would be read as part of the command; in the environment it is only a value."""
    pasted = {name: [line for line in lines(job) if "${{" in line] for name, job in JOBS.items()}
    assert {name: found for name, found in pasted.items() if found} == {}


def test_every_line_that_is_not_run_here_is_there() -> None:
    every = [line for job in JOBS.values() for line in lines(job)]
    assert [words for words in (*NEEDS, *ASKS_AN_INDEX) if not any(words in line for line in every)] == []


def test_every_python_that_the_package_names_is_tested() -> None:
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert JOBS["tests fast"]["strategy"]["matrix"]["python"] == named


def test_what_collects_only_here_is_run_by_ci() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make test ", run, re.M)
    assert re.search(r"^make test-slow ", run, re.M)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A clone, and the environment of a runner in it."""
    clone, temp = make_clone(tmp_path), tmp_path / "temp"
    temp.mkdir()
    caches = {
        "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache"),
        "GOCACHE": str(Path.home() / ".cache" / "go-build"),
        "GOPATH": str(Path.home() / "go"),
    }
    as_released(clone / "CHANGELOG.md")
    committed = ["-c", "user.name=one", "-c", "user.email=one@example.org", "commit", "-q", "-am", "Release"]
    subprocess.run(["git", *committed], cwd=clone, check=True, env=environment(clone))
    tofu = temp / "tofu"
    tofu.write_text(f'#!/bin/sh\nexec {shlex.join(TOOL)} "$@"\n', encoding="utf-8")
    tofu.chmod(0o755)
    own = environment(clone)
    with stand_in() as provider:
        own |= provider | {"PATH": f"{temp}{os.pathsep}{own['PATH']}"}
        stated = STATED | {"GITHUB_OUTPUT": str(temp / "output")}
        yield clone, own | caches | stated | {"CI": "true", "RUNNER_TEMP": str(temp), "OPTIONS": COLLECT}
    shutil.rmtree(clone)


def as_released(changelog: Path) -> None:
    """Give what is unreleased a version and a day, as who tags a release does."""
    text = changelog.read_text("utf-8")
    changelog.write_text(
        text.replace("## Unreleased\n", "## Unreleased\n\n## 0.1.0 - 2026-12-01\n", 1), "utf-8"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_every_line_of_a_job_works_as_it_is_typed(name: str, runner: tuple[Path, dict[str, str]]) -> None:
    clone, env = runner
    temp, done = Path(env["RUNNER_TEMP"]), 0
    for line in lines(JOBS[name]):
        if any(words in line for words in ASKS_AN_INDEX) or not is_there(line, env):
            if (temp / "alone").exists():
                share_packages(temp / "alone")
            continue
        if any(words in line for words in NEEDS):
            continue
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", line.replace("OPTIONS=--yes", "OPTIONS=--dry-run")],
            cwd=clone,
            env=env if line.startswith(("make", "tofu")) else env | {"PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, f"{line}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        done += 1
    assert done or name in HAS_NONE
    if name in ("infra plan", "deploy deploy"):
        role = "plan" if name == "infra plan" else "apply"
        assert (temp / "output").read_text("utf-8").splitlines() == [
            "region=ap-northeast-1",
            f"role=arn:aws:iam::111122223333:role/lakehouse-dev-ci-{role}",
        ]
    if name == "wheel wheel":
        lake = Lake(temp / "demo" / "lake")
        assert lake.sql("SELECT count(*) FROM silver.candle").item() == 4 * 92 * 1440 - 37
        (installed,) = (temp / "alone").glob("lib/python3*/site-packages/lakehouse")
        assert {"dagster.yaml", "py.typed"} <= {path.name for path in installed.iterdir()}


def is_there(line: str, env: dict[str, str]) -> bool:
    """Whether the Go module that a line runs can be had here: not without Go, nor without its index."""
    words = line.split()
    if words[:2] != ["go", "run"]:
        return True
    module, _, version = words[2].partition("@")
    of = "/".join(module.split("/")[:3])
    fetch = ["go", "mod", "download", f"{of}@{version}"]
    return bool(shutil.which("go")) and not subprocess.run(fetch, env=env, capture_output=True).returncode


def share_packages(alone: Path) -> None:
    """Let a venv find the packages of this interpreter, behind its own."""
    (site,) = alone.glob("lib/python3*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_path("purelib", vars={"base": sys.prefix}), "utf-8")


@pytest.mark.slow
def test_what_a_commit_is_held_to_holds_for_every_file(runner: tuple[Path, dict[str, str]]) -> None:
    """All hooks but that of the types, which `make check` looks at."""
    clone, env = runner
    (clone / "large.bin").write_bytes(os.urandom(600_000))
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True, env=env)
    words = [".venv/bin/pre-commit", "run", "--all-files"]
    ended = subprocess.run(words, cwd=clone, env=env | {"SKIP": "mypy"}, capture_output=True, text=True)
    failed = re.findall(r"^(.+?)\.+Failed$", ended.stdout, re.M)
    assert failed == ["no file over 500 kB"], ended.stdout
    assert "large.bin (586 KB) exceeds 500 KB" in ended.stdout
