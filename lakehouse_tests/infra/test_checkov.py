"""What checkov finds in `infra/opentofu`: each finding was looked at, and what stays has its reason beside
it.
"""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from lakehouse_tests.infra.terraform import INFRA, PYTHON

pytestmark = pytest.mark.slow
_SKIP = re.compile(r"#checkov:skip=(\w+):(.*)")
WRONG = 'resource "aws_s3_bucket" "wrong" {\n  acl = "public-read-write"\n}\n'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the declaration, and of a bucket beside it that anybody may write."""
    tree = tmp_path_factory.mktemp("checkov")
    shutil.copytree(INFRA, tree / "ours", ignore=shutil.ignore_patterns(".terraform*"))
    (tree / "wrong").mkdir()
    (tree / "wrong" / "main.tf").write_text(WRONG, "utf-8")
    words = ["--skip-download", "--compact", "--framework", "terraform", "--output", "json"]
    ran = subprocess.run(
        [PYTHON.with_name("checkov"), *words, "--directory", tree],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": str(PYTHON.parent), "HOME": str(tree)},
    )
    assert ran.stdout, ran.stderr
    return dict(json.loads(ran.stdout)["results"])


def _ours(found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Findings in the declaration: the file, the check, and what of."""
    return [
        (one["file_path"].removeprefix("/ours/"), one["check_id"], one["resource"])
        for one in found
        if one["file_path"].startswith("/ours/")
    ]


def test_nothing_is_found_that_was_not_looked_at(results: dict[str, Any]) -> None:
    assert len(_ours(results["passed_checks"])) > 200
    assert _ours(results["failed_checks"]) == []


def test_what_is_left_has_its_reason_and_is_still_found(results: dict[str, Any]) -> None:
    told = [
        (path.relative_to(INFRA).as_posix(), *found)
        for path in sorted(INFRA.rglob("*.tf"))
        for found in _SKIP.findall(path.read_text("utf-8"))
    ]
    assert len(told) > 10
    assert [reason for _, _, reason in told if len(reason.split()) < 5] == []
    assert {(file, check) for file, check, _ in told} == {
        (file, check) for file, check, _ in _ours(results["skipped_checks"])
    }


def test_a_public_bucket_is_found(results: dict[str, Any]) -> None:
    found = {one["check_id"] for one in results["failed_checks"] if one["file_path"].startswith("/wrong/")}
    assert "CKV_AWS_57" in found  # anybody may write
