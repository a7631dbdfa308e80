"""Edits that a person might make by mistake: each is caught, by Terraform or by a check with a name."""

import re
from typing import NamedTuple

import pytest

from lakehouse_tests.infra.checks import CHECKS, findings
from lakehouse_tests.infra.terraform import Terraform, resources

pytestmark = pytest.mark.slow


class Edit(NamedTuple):
    """A wrong one.

    Attributes:
        what: What is wrong with it.
        file: Where.
        old: What stands there.
        new: What is written instead.
        by: What catches it: a command, or a check's name.
        says: What is said then.
    """

    what: str
    file: str
    old: str
    new: str
    by: str
    says: str


REFUSED = (
    Edit(
        "a misspelt attribute",
        "modules/lake/main.tf",
        "force_destroy = var.allow_deletion",
        "forced_destroy = var.allow_deletion",
        "validate",
        'An argument named "forced_destroy" is not expected here. Did you mean "force_destroy"?',
    ),
    Edit(
        "a text for a number",
        "modules/network/main.tf",
        "retention_in_days = var.log_retention_days",
        'retention_in_days = "a fortnight"',
        "validate",
        'Inappropriate value for attribute "retention_in_days": a number is required.',
    ),
    Edit(
        "a required attribute left out",
        "modules/orchestration/database.tf",
        "  instance_class = var.database.class\n",
        "",
        "validate",
        'The argument "instance_class" is required, but no definition was found.',
    ),
    Edit(
        "a type that the provider does not have",
        "modules/lake/main.tf",
        'resource "aws_s3_bucket_logging" "this"',
        'resource "aws_s3_bucket_logs" "this"',
        "validate",
        'does not support resource type "aws_s3_bucket_logs"',
    ),
    Edit(
        "a value that another module does not give",
        "main.tf",
        "kms_key_arn           = module.lake.kms_key_arn",
        "kms_key_arn           = module.lake.key",
        "validate",
        'This object does not have an attribute named "key".',
    ),
    Edit(
        "a region from which REST answers 451",
        "variables.tf",
        'condition     = !startswith(var.region, "us-")',
        'condition     = startswith(var.region, "us-")',
        "plan",
        "take a region elsewhere",
    ),
)
LET_THROUGH = (
    Edit(
        "a bucket that may be made public",
        "modules/lake/main.tf",
        "block_public_policy     = true",
        "block_public_policy     = false",
        "buckets_are_closed",
        'aws_s3_bucket.this["lake"]: may be made public',
    ),
    Edit(
        "a role that may do all of S3",
        "modules/orchestration/roles.tf",
        'Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]',
        'Action   = ["s3:*"]',
        "privileges_are_named",
        'aws_iam_role_policy.this["run"]: WriteLake allows s3:*',
    ),
    Edit(
        "a database whose disk can be read",
        "modules/orchestration/database.tf",
        "storage_encrypted     = true",
        "storage_encrypted     = false",
        "rest_is_encrypted",
        "aws_db_instance.dagster: not encrypted with a key of ours",
    ),
    Edit(
        "a bucket that answers without TLS",
        "modules/lake/main.tf",
        'Condition = { Bool = { "aws:SecureTransport" = "false" } }',
        'Condition = { Bool = { "aws:SecureTransport" = "true" } }',
        "ways_are_encrypted",
        'aws_s3_bucket.this["work"]: answers without TLS',
    ),
    Edit(
        "a UI for the internet",
        "modules/orchestration/groups.tf",
        "  cidr_ipv4         = each.value\n",
        '  cidr_ipv4         = "0.0.0.0/0"\n',
        "groups_are_closed",
        'ingress_rule.people["10.0.0.0/8"]: open to the internet',
    ),
    Edit(
        "a token in a task's environment",
        "modules/orchestration/tasks.tf",
        'LAKEHOUSE_LOG_FORMAT        = "json"',
        'LAKEHOUSE_UI_TOKEN = "correct-horse-battery"',
        "secrets_are_injected",
        'aws_ecs_task_definition.this["daemon"]: LAKEHOUSE_UI_TOKEN is written down',
    ),
    Edit(
        "queries without a limit",
        "modules/catalog/main.tf",
        "    bytes_scanned_cutoff_per_query     = var.scanned_bytes_at_most\n",
        "",
        "scans_are_limited",
        "aws_athena_workgroup.lake: scans without limit",
    ),
    Edit(
        "replaced versions that are kept for ever",
        "modules/lake/main.tf",
        "    expiration {\n      days = each.value\n    }\n\n    noncurrent_version_expiration {\n"
        "      noncurrent_days = 1\n    }\n",
        "    expiration {\n      days = each.value\n    }\n",
        "nothing_piles_up",
        'aws_s3_bucket.this["work"]: replaced versions are kept without end',
    ),
    Edit(
        "a container that runs as root",
        "modules/orchestration/tasks.tf",
        'user                   = "10001"',
        'user                   = "0"',
        "tasks_are_confined",
        'aws_ecs_task_definition.this["code"]: runs as a user who may more than it needs',
    ),
    Edit(
        "a bucket that forgets",
        "modules/lake/main.tf",
        '  versioning_configuration {\n    status = "Enabled"',
        '  versioning_configuration {\n    status = "Suspended"',
        "what_is_lost_comes_back",
        'aws_s3_bucket.this["lake"]: what is replaced is gone',
    ),
    Edit(
        "logs of any account in a bucket of ours",
        "modules/lake/main.tf",
        'Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }',
        'Condition = { StringEquals = { "aws:SourceOrgID" = "o-example" } }',
        "buckets_trust_nobody",
        'aws_s3_bucket_policy.this["logs"]: AccessLogs lets others in',
    ),
    Edit(
        "costs of no environment",
        "main.tf",
        "      Environment = var.environment\n",
        "",
        "everything_is_labelled",
        "aws_vpc.this: has no label",
    ),
)


@pytest.fixture(scope="module")
def caught(provider: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What checks find where all edits that Terraform lets through were made: one application for all of
    them.
    """
    copy = Terraform(tmp_path_factory.mktemp("wrong"), provider)
    for edit in LET_THROUGH:
        copy.edit(*edit[1:4])
    copy.init()
    assert copy.plan("dev").code == 0
    return findings(resources(copy.apply("dev")))


@pytest.mark.parametrize("edit", REFUSED, ids=lambda edit: edit.what)
def test_a_wrong_edit_is_refused_by_terraform(terraform: Terraform, edit: Edit) -> None:
    terraform.edit(edit.file, edit.old, edit.new)
    try:
        done = terraform.plan("dev") if edit.by == "plan" else terraform.run("validate", "-no-color")
    finally:
        terraform.restore(edit.file)
    assert done.code == 1
    assert edit.says in re.sub(r"\s+", " ", done.text)


@pytest.mark.parametrize("edit", LET_THROUGH, ids=lambda edit: edit.what)
def test_a_wrong_edit_is_caught_by_its_check(caught: dict[str, list[str]], edit: Edit) -> None:
    assert [line for line in caught[edit.by] if edit.says in line]


def test_every_check_catches_an_edit() -> None:
    assert {edit.by for edit in LET_THROUGH} == set(CHECKS)
