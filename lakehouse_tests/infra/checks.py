"""What holds of everything that is applied: each check says of what it does not hold.

A check reads a state, where policies and tasks are what AWS would be given, and not the text that they come
from.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lakehouse_tests.infra.terraform import Resource

Found = list[Resource]
Check = Callable[[Found], Iterator[str]]
CHECKS: dict[str, Check] = {}
_SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|ALERT_URLS|ACCESS_KEY")
# statements whose actions no resource can be named for, or that describe and change what AWS names by itself
_OF_ANY_RESOURCE = {"LogInToRegistry", "Look", "ReadWhatIsThere", "ChangeWhatIsThere"}


def check(made: Check) -> Check:
    """Add a check under its name."""
    CHECKS[made.__name__] = made
    return made


def of(found: Found, *types: str) -> list[Resource]:
    """Those of some types."""
    return [one for one in found if one.type in types]


def statements(policy: str | None) -> list[dict[str, Any]]:
    """Those of a policy."""
    told = json.loads(policy or "{}").get("Statement", [])
    return [told] if isinstance(told, dict) else list(told)


def listed(value: Any) -> list[str]:
    """Actions or resources, of which one may stand alone."""
    return [value] if isinstance(value, str) else list(value or ())


def of_bucket(found: Found, type_: str) -> Mapping[str, Resource]:
    """What is said of buckets by resources of a type, by the bucket's name."""
    return {one.values["bucket"]: one for one in of(found, type_)}


def _lacking(found: Found, type_: str, fine: Callable[[Resource], bool], what: str) -> Iterator[str]:
    """Buckets of which a resource of a type does not say what it should."""
    said = of_bucket(found, type_)
    for bucket in of(found, "aws_s3_bucket"):
        about = said.get(bucket.values["bucket"])
        if about is None or not fine(about):
            yield f"{bucket.address}: {what}"


@check
def buckets_are_closed(found: Found) -> Iterator[str]:
    """Nothing in a bucket can be made public."""
    blocks = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    yield from _lacking(
        found,
        "aws_s3_bucket_public_access_block",
        lambda about: all(about.values[name] is True for name in blocks),
        "may be made public",
    )
    yield from (f"{one.address}: an ACL" for one in of(found, "aws_s3_bucket_acl"))


@check
def rest_is_encrypted(found: Found) -> Iterator[str]:
    """Whatever keeps something encrypts it, with a key of ours where the service can."""
    yield from _lacking(
        found,
        "aws_s3_bucket_server_side_encryption_configuration",
        lambda about: all(
            rule["apply_server_side_encryption_by_default"][0]["sse_algorithm"] == "aws:kms"
            or about.key == "logs"
            for rule in about.values["rule"]
        ),
        "not encrypted with a key of ours",
    )
    keys = {
        "aws_db_instance": "kms_key_id",
        "aws_cloudwatch_log_group": "kms_key_id",
        "aws_sns_topic": "kms_master_key_id",
    }
    for one in of(found, *keys):
        if not one.values[keys[one.type]] or one.values.get("storage_encrypted") is False:
            yield f"{one.address}: not encrypted with a key of ours"
    for group in of(found, "aws_athena_workgroup"):
        if not group.values["configuration"][0]["result_configuration"][0]["encryption_configuration"]:
            yield f"{group.address}: results are not encrypted"
    for key in of(found, "aws_kms_key"):
        if not key.values["enable_key_rotation"]:
            yield f"{key.address}: the key is never changed"


@check
def ways_are_encrypted(found: Found) -> Iterator[str]:
    """Buckets, the UI and the database are reached by TLS alone."""
    yield from _lacking(
        found,
        "aws_s3_bucket_policy",
        lambda about: any(
            said["Effect"] == "Deny"
            and said["Principal"] == "*"
            and said.get("Condition", {}).get("Bool") == {"aws:SecureTransport": "false"}
            for said in statements(about.values["policy"])
        ),
        "answers without TLS",
    )
    for listener in of(found, "aws_lb_listener"):
        if listener.values["protocol"] != "HTTPS" or "TLS13" not in (listener.values["ssl_policy"] or ""):
            yield f"{listener.address}: no TLS of today"
    for group in of(found, "aws_db_parameter_group"):
        if {"name": "rds.force_ssl", "value": "1"} not in [
            {name: one[name] for name in ("name", "value")} for one in group.values["parameter"]
        ]:
            yield f"{group.address}: answers without TLS"


@check
def privileges_are_named(found: Found) -> Iterator[str]:
    """No role may do all of a service, and what it may do it may do to what is named."""
    for role in of(found, "aws_iam_role_policy", "aws_iam_policy"):
        for said in statements(role.values["policy"]):
            if said["Effect"] != "Allow":
                continue
            wide = [action for action in listed(said.get("Action")) if re.fullmatch(r"\*|\w+:\*", action)]
            if wide or "NotAction" in said:
                yield f"{role.address}: {said.get('Sid')} allows {', '.join(wide) or 'all but some'}"
            if "*" in listed(said.get("Resource")) and said.get("Sid") not in _OF_ANY_RESOURCE:
                yield f"{role.address}: {said.get('Sid')} is for any resource"
            if "iam:PassRole" in listed(said.get("Action")) and "Condition" not in said:
                yield f"{role.address}: {said.get('Sid')} gives roles to anybody"


@check
def buckets_trust_nobody(found: Found) -> Iterator[str]:
    """A bucket's or a topic's own policy allows services of this account, and no one else."""
    for one in of(found, "aws_s3_bucket_policy", "aws_sns_topic_policy"):
        for said in statements(one.values["policy"]):
            ours = "aws:SourceAccount" in json.dumps(said.get("Condition")) or all(
                re.search(r"/AWSLogs/[0-9]{12}/\*$", path) for path in listed(said.get("Resource"))
            )
            if said["Effect"] == "Allow" and ("Service" not in said["Principal"] or not ours):
                yield f"{one.address}: {said.get('Sid')} lets others in"


@check
def groups_are_closed(found: Found) -> Iterator[str]:
    """Nothing is reached from the internet."""
    for rule in of(found, "aws_vpc_security_group_ingress_rule"):
        if rule.values["cidr_ipv4"] == "0.0.0.0/0" or rule.values["cidr_ipv6"] == "::/0":
            yield f"{rule.address}: open to the internet"
    for one in of(found, "aws_lb"):
        if not one.values["internal"]:
            yield f"{one.address}: has a public address"
    for one in of(found, "aws_ecs_service"):
        if one.values["network_configuration"][0]["assign_public_ip"]:
            yield f"{one.address}: has a public address"
    for one in of(found, "aws_db_instance"):
        if one.values["publicly_accessible"]:
            yield f"{one.address}: has a public address"


@check
def secrets_are_injected(found: Found) -> Iterator[str]:
    """No secret is written down: not in a task's environment, not in the database's declaration."""
    for task in of(found, "aws_ecs_task_definition"):
        for container in json.loads(task.values["container_definitions"]):
            for named in container.get("environment", ()):
                if _SECRET.search(named["name"]):
                    yield f"{task.address}: {named['name']} is written down"
            for named in container.get("secrets", ()):
                if not named["valueFrom"].startswith("arn:aws:"):
                    yield f"{task.address}: {named['name']} is no secret's ARN"
    for one in of(found, "aws_db_instance"):
        if one.values["password"] or not one.values["manage_master_user_password"]:
            yield f"{one.address}: its password is written down"


@check
def scans_are_limited(found: Found) -> Iterator[str]:
    """No query scans without end, and nobody chooses another workgroup's settings."""
    for group in of(found, "aws_athena_workgroup"):
        told = group.values["configuration"][0]
        if not told["bytes_scanned_cutoff_per_query"] or told["enforce_workgroup_configuration"] is not True:
            yield f"{group.address}: scans without limit"


@check
def nothing_piles_up(found: Found) -> Iterator[str]:
    """Replaced versions, broken uploads and logs end."""
    for bucket in of(found, "aws_s3_bucket"):
        rules = [
            rule
            for one in of(found, "aws_s3_bucket_lifecycle_configuration")
            if one.values["bucket"] == bucket.values["bucket"]
            for rule in one.values["rule"]
            if rule["status"] == "Enabled"
        ]
        if not any(rule["noncurrent_version_expiration"] for rule in rules):
            yield f"{bucket.address}: replaced versions are kept without end"
        if not any(rule["abort_incomplete_multipart_upload"] for rule in rules):
            yield f"{bucket.address}: broken uploads are kept without end"
    for group in of(found, "aws_cloudwatch_log_group"):
        if not group.values["retention_in_days"]:
            yield f"{group.address}: kept without end"


@check
def what_is_lost_comes_back(found: Found) -> Iterator[str]:
    """A deleted object has an older version, the database a backup."""
    yield from _lacking(
        found,
        "aws_s3_bucket_versioning",
        lambda about: about.values["versioning_configuration"][0]["status"] == "Enabled",
        "what is replaced is gone",
    )
    for one in of(found, "aws_db_instance"):
        if not one.values["backup_retention_period"]:
            yield f"{one.address}: has no backup"


@check
def tasks_are_confined(found: Found) -> Iterator[str]:
    """Containers of ours run as nobody in particular, cannot write but where they should, and are what was
    built.
    """
    for task in of(found, "aws_ecs_task_definition"):
        for container in json.loads(task.values["container_definitions"]):
            if not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
                yield f"{task.address}: its image is not named by digest"
            if "/lakehouse@" not in container["image"]:
                continue
            if container.get("user") != "10001" or container.get("privileged"):
                yield f"{task.address}: runs as a user who may more than it needs"
            if container.get("readonlyRootFilesystem") is not True:
                yield f"{task.address}: may write its own image"
            writable = {mount["containerPath"] for mount in container["mountPoints"] if not mount["readOnly"]}
            if writable != {"/tmp", "/srv/dagster"}:
                yield f"{task.address}: may write {', '.join(sorted(writable))}"


@check
def everything_is_labelled(found: Found) -> Iterator[str]:
    """What costs tells which environment it belongs to."""
    for one in found:
        if "tags_all" in one.values and "Environment" not in (one.values["tags_all"] or {}):
            yield f"{one.address}: has no label"


def findings(found: Found) -> dict[str, list[str]]:
    """What each check that found something says."""
    said = {name: list(one(found)) for name, one in CHECKS.items()}
    return {name: list(lines) for name, lines in said.items() if lines}
