"""What CI types works when it is typed: every `run:` line of every workflow, in a fresh clone.

Two kinds of line are not carried out whole. `make test` and `make test-slow` would run this test within
itself: they collect the tests of this file and run none, and `.ci/run` holds that all pass. What asks an
index of packages finds them already there.
"""

import os
import re
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

WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
JOBS: dict[str, dict[str, Any]] = {
    f"{path.stem} {name}": job
    for path in WORKFLOWS
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
}
COLLECT = f"--co -qq lakehouse_tests/{Path(__file__).name}"
ASKS_AN_INDEX = ("make advisories", "pip install --require-hashes")


def lines(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_action_is_pinned_by_a_commit_whose_version_is_said() -> None:
    used = [line for path in WORKFLOWS for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert len(used) >= len(JOBS)
    for line in used:
        assert re.fullmatch(r"\s+- uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_job_may_do_more_than_read_and_every_one_ends() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {}, path.name
    for name, job in JOBS.items():
        assert job["permissions"] == {"contents": "read"}, name
        assert job["timeout-minutes"] <= 120, name


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
    yield (
        clone,
        environment(clone) | caches | {"CI": "true", "RUNNER_TEMP": str(temp), "OPTIONS": COLLECT},
    )
    shutil.rmtree(clone)


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
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", line],
            cwd=clone,
            env=env if line.startswith("make") else env | {"PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, f"{line}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        done += 1
    assert done or name == "weekly advisories"
    if name == "wheel wheel":
        lake = Lake(temp / "demo" / "lake")
        assert lake.sql("SELECT count(*) FROM silver.candle").item() == 3 * 92 * 1440 - 37
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
