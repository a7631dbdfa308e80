"""The role that runs have: its policy, as it is applied, is enough for the pipeline and for nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.iam.access_control import IAMPolicy, PermissionResult

from lakehouse.simulator import Simulator
from lakehouse_tests.infra.checks import CHECKS, statements
from lakehouse_tests.infra.conftest import Applied
from lakehouse_tests.infra.enforced import ACCOUNT, Enforced, enforced, settings_of
from lakehouse_tests.infra.terraform import Resource
from lakehouse_tests.test_end_to_end import BTC, LISTED, NOW

pytestmark = pytest.mark.slow
LAKE, WORK, OTHER = (f"lakehouse-{name}-{ACCOUNT}" for name in ("dev-lake", "dev-work", "prod-lake"))
FEBRUARY = ("--from", "2024-02-01", "--to", "2024-03-01")
CATALOG = ("lakehouse_dev_silver", "lakehouse_dev_gold", "lakehouse_prod_silver")
# what the policy allows and a build does not do
UNUSED = {
    "s3:AbortMultipartUpload": "cells of 8 MB and more go in parts, and a broken upload is given up",
    "kms:Decrypt": "S3 asks the key on behalf of who reads, which moto does not",
    "kms:GenerateDataKey": "S3 asks the key on behalf of who writes, which moto does not",
    "glue:BatchDeletePartition": "the partition of a cell that was deleted goes",
    "glue:BatchUpdatePartition": "a lake that was moved, or columns that were added",
    "glue:UpdateTable": "columns that were added",
    "glue:BatchGetPartition": "readers within the tasks ask for partitions by name",
    "glue:GetPartition": "readers within the tasks ask for partitions by name",
}
WIDER: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "all of S3": lambda said: said | ({"Action": ["s3:*"]} if said["Sid"] == "WriteLake" else {}),
    "any object": lambda said: said | ({"Resource": ["*"]} if said["Sid"] == "WriteLake" else {}),
    "all of Glue": lambda said: said | ({"Action": ["glue:*"]} if said["Sid"] == "RegisterTables" else {}),
    "any table": lambda said: said | ({"Resource": ["*"]} if said["Sid"] == "RegisterTables" else {}),
    "everything": lambda said: said | {"Action": ["*"], "Resource": ["*"]},
}


@pytest.fixture(scope="module")
def found(applied: Applied) -> list[Resource]:
    """What is applied in the account that the local endpoints have."""
    return applied("dev", account_id=ACCOUNT)


@pytest.fixture(scope="module")
def policy(found: list[Resource]) -> str:
    """The run role's policy."""
    told = [one for one in found if one.type == "aws_iam_role_policy" and one.key == "run"]
    assert len(told) == 1
    return str(told[0].values["policy"])


@pytest.fixture(scope="module")
def here() -> Iterator[Enforced]:
    """Endpoints that ask who may."""
    with enforced((LAKE, WORK, OTHER), CATALOG) as running:
        yield running


@pytest.fixture
def role(here: Enforced, policy: str) -> Enforced:
    """With the role's policy."""
    here.take_role("lakehouse-dev-run", policy)
    return here


def forbidden(here: Enforced) -> dict[str, Callable[[], Any]]:
    """What a run has no business doing."""
    s3, glue = here.client("s3"), here.client("glue")
    landed = "lake/landing/exchange=binance/key/0.zip"
    return {
        "write beside the lake": lambda: s3.put_object(Bucket=LAKE, Key="lake.html", Body=b"x"),
        "write the lake of another environment": lambda: s3.put_object(Bucket=OTHER, Key="lake/x", Body=b"x"),
        "read the lake of another environment": lambda: s3.get_object(Bucket=OTHER, Key="lake/x"),
        "delete what was fetched": lambda: s3.delete_object(Bucket=LAKE, Key=landed),
        "forget what was replaced": lambda: s3.put_bucket_versioning(
            Bucket=LAKE, VersioningConfiguration={"Status": "Suspended"}
        ),
        "let others in": lambda: s3.put_bucket_policy(Bucket=LAKE, Policy=json.dumps({"Statement": []})),
        "make the bucket public": lambda: s3.put_bucket_acl(Bucket=LAKE, ACL="public-read"),
        "delete the bucket": lambda: s3.delete_bucket(Bucket=LAKE),
        "read results of others' queries": lambda: s3.get_object(Bucket=WORK, Key="athena/x.csv"),
        "drop a table": lambda: glue.delete_table(DatabaseName=CATALOG[0], Name="candle"),
        "make a database": lambda: glue.create_database(DatabaseInput={"Name": "lakehouse_dev_mine"}),
        "register in another environment": lambda: glue.create_table(
            DatabaseName=CATALOG[2], TableInput={"Name": "candle"}
        ),
        "widen its own policy": lambda: here.client("iam").put_role_policy(
            RoleName="lakehouse-dev-run", PolicyName="more", PolicyDocument=json.dumps({"Statement": []})
        ),
        "start tasks": lambda: here.client("ecs").run_task(taskDefinition="lakehouse-dev-run"),
        "change what tasks run": lambda: here.client("ecs").register_task_definition(
            family="lakehouse-dev-run", containerDefinitions=[]
        ),
        "read a secret": lambda: here.client("secretsmanager").get_secret_value(SecretId="lakehouse-dev/ui"),
        "take another role": lambda: here.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/lakehouse-dev-control", RoleSessionName="run"
        ),
        "delete the key": lambda: here.client("kms").schedule_key_deletion(KeyId="alias/lakehouse-dev-lake"),
    }


@pytest.fixture(scope="module")
def built(here: Enforced, policy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of a month, from the archive to Glue, by a process that has the role."""
    here.take_role("lakehouse-dev-run", policy)
    folder = tmp_path_factory.mktemp("run")
    here.asked.clear()
    with Simulator(markets=LISTED, now=NOW) as exchange:
        settings = settings_of(here) | {
            "LAKEHOUSE_ROOT": f"s3://{LAKE}/lake",
            "LAKEHOUSE_GLUE_DATABASE": "lakehouse_dev",
            "LAKEHOUSE_START": "2024-01",
            "LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url,
            "LAKEHOUSE_BINANCE_REST_URL": exchange.url,
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        for words in (
            ("build", "gold", "--markets", BTC, *FEBRUARY),
            ("sql", "SELECT count(*) FROM gold.vwap"),
        ):
            command = [sys.executable, "-m", "lakehouse", *words]
            ran = subprocess.run(
                command, env=settings, cwd=folder, capture_output=True, text=True, timeout=200, check=False
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            (folder / f"{words[0]}.txt").write_text(ran.stdout, "utf-8")
    return folder


def test_the_pipeline_runs_under_its_role(here: Enforced, built: Path) -> None:
    assert int((built / "sql.txt").read_text("utf-8").split()[-1]) > 20_000
    with here.looking("glue") as glue:
        tables = {
            (database, table["Name"]): len(
                glue.get_partitions(DatabaseName=database, TableName=table["Name"])["Partitions"]
            )
            for database in CATALOG
            for table in glue.get_tables(DatabaseName=database)["TableList"]
        }
    assert tables["lakehouse_dev_silver", "candle"] == 1
    assert tables["lakehouse_dev_gold", "vwap"] == 1
    assert "lakehouse_prod_silver" not in {database for database, _ in tables}


def test_the_role_has_no_action_that_is_not_used(here: Enforced, built: Path, policy: str) -> None:
    given = {action for said in json.loads(policy)["Statement"] for action in said["Action"]}
    assert here.asked <= given
    assert given - here.asked == set(UNUSED)


def test_what_roles_may_do_with_the_lake_passes_the_network_s_endpoint(found: list[Resource]) -> None:
    """Private subnets reach S3 through an endpoint with a policy of its own: both have to allow it."""
    endpoint = IAMPolicy(
        next(one for one in found if one.address.endswith("aws_vpc_endpoint.s3")).values["policy"]
    )
    wanted = {
        (action, resource.replace("*", "any"))
        for one in found
        if one.type == "aws_iam_role_policy" and ".orchestration." in one.address
        for said in statements(one.values["policy"])
        for action in said["Action"]
        for resource in said["Resource"]
        if action.startswith("s3:")
    }
    assert len(wanted) > 8
    refused = {
        pair for pair in wanted if endpoint.is_action_permitted(*pair) is not PermissionResult.PERMITTED
    }
    assert refused == set()
    archive = "arn:aws:s3:::data.binance.vision/data/spot/any.zip"
    assert endpoint.is_action_permitted("s3:GetObject", archive) is PermissionResult.PERMITTED
    foreign = f"arn:aws:s3:::{OTHER}/any"
    assert endpoint.is_action_permitted("s3:PutObject", foreign) is not PermissionResult.PERMITTED


def test_what_a_run_has_no_business_doing_is_refused(role: Enforced) -> None:
    deeds = forbidden(role)
    assert len(deeds) >= 10
    assert [what for what, deed in deeds.items() if not role.refused(deed)] == []


def test_a_run_keeps_what_it_printed(role: Enforced) -> None:
    assert not role.refused(
        lambda: role.client("s3").put_object(Bucket=WORK, Key="compute-logs/run/0.out", Body=b"said")
    )


@pytest.mark.parametrize("wider", WIDER)
def test_a_policy_that_was_widened_is_caught_twice(
    here: Enforced, policy: str, found: list[Resource], wider: str
) -> None:
    """By the check that reads policies, where an action is wide, and by what is then no longer refused."""
    told = json.loads(policy)
    wide = json.dumps(told | {"Statement": [WIDER[wider](said) for said in told["Statement"]]})
    roles = [one for one in found if one.type == "aws_iam_role_policy" and one.key == "run"]
    changed = [
        Resource(one.address, one.type, one.name, one.key, one.values | {"policy": wide}) for one in roles
    ]
    assert list(CHECKS["privileges_are_named"](changed))
    here.take_role("lakehouse-dev-run", wide)
    assert [what for what, deed in forbidden(here).items() if not here.refused(deed)]
