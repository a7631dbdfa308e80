"""What roles may do, held against AWS's own reference: each action is one, and can be of what is named."""

import json
import subprocess
from typing import Any

import pytest

from lakehouse_tests.infra.checks import statements
from lakehouse_tests.infra.conftest import Applied
from lakehouse_tests.infra.terraform import PYTHON, STAND_IN

pytestmark = pytest.mark.slow
BUCKET = "arn:aws:s3:::lake"
WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"Action": ["glue:BatchGetPartitions"], "Resource": ["*"]},
        "there is no action glue:BatchGetPartitions",
    ),
    (
        {"Action": ["s3:GetObject"], "Resource": [BUCKET]},
        "s3:GetObject is of nothing that is named",
    ),
    (
        {"Action": ["s3:GetObject"], "Resource": [f"{BUCKET}/*", "arn:aws:sns:ap-northeast-1:1:x"]},
        "arn:aws:sns:ap-northeast-1:1:x is of no action",
    ),
    (
        {"Action": ["kms:Decrypt"], "Resource": ["*"]},
        "kms:Decrypt can be limited to arn:${Partition}:kms",
    ),
    (
        {"Action": ["ecs:StopTask"], "Resource": ["*"], "Condition": {"ArnEquals": {"ecs:clusters": "x"}}},
        "ecs tells nothing called ecs:clusters",
    ),
)


def findings(said: list[dict[str, Any]]) -> list[str]:
    """What the reference says of some statements."""
    ran = subprocess.run(
        [PYTHON, STAND_IN / "iam_reference.py"],
        input=json.dumps(said),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout))


def test_every_action_is_one_and_is_limited_as_far_as_it_can_be(
    applied: Applied, trino: dict[str, Any]
) -> None:
    roles = [one for one in applied("prod", trino=trino) if one.type == "aws_iam_role_policy"]
    assert len(roles) == 8  # execution, control, run, viewer, Trino's, flow logs', two of workflows
    told = [
        # who deploys makes things whose names AWS chooses: ADR 21
        said | {"Sid": f"{role.address} {said['Sid']}", "IsNarrow": not role.address.startswith("module.ci")}
        for role in roles
        for said in statements(role.values["policy"])
    ]
    assert len(told) > 40
    assert findings(told) == []


def test_what_is_wrong_with_a_statement_is_found() -> None:
    found = findings([{"Sid": "Wrong", "IsNarrow": True} | said for said, _ in WRONG])
    for said, finding in WRONG:
        assert any(line.startswith(f"Wrong: {finding}") for line in found), said
