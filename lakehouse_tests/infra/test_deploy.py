"""A deployment from the first step to the last: OpenTofu's part by Terraform with the stand-in and a state
in a local S3, AWS's part by local endpoints. Docker and the wheel's build write down what they were asked
for.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from moto.moto_api import state_manager
from typer.testing import CliRunner

from infra import deploy
from lakehouse.cli.local_aws import local_aws
from lakehouse_tests.infra.terraform import INFRA, TOOL

ACCOUNT, REGION = "123456789012", "ap-northeast-1"
NAME = "lakehouse-dev"
OWN = {
    "111122223333": ACCOUNT,
    "example.org": "lake.test",
    "00000000-0000-0000-0000-000000000000": "c0ffee00-0000-4000-8000-000000000000",
    "example/lakehouse": "acme/lakehouse",
}
LOCAL_S3 = """
use_path_style              = true
skip_credentials_validation = true
skip_region_validation      = true
skip_requesting_account_id  = true
skip_metadata_api_check     = true
"""
# what a registry is given by a push: a layer here would be too much
PUSHED = """
import sys, boto3
kind = "application/vnd.docker.distribution.manifest.v2+json"
boto3.client("ecr", region_name="ap-northeast-1").put_image(
    repositoryName="lakehouse", imageTag=sys.argv[1].rpartition(":")[2], imageManifestMediaType=kind,
    imageManifest='{"schemaVersion": 2, "mediaType": "%s", "config": {}, "layers": []}' % kind,
)
"""
STEPS = ("build", "push", "init", "plan", "apply", "migrate", "settle", "smoke test")


def script(folder: Path, name: str, *lines: str) -> Path:
    """A command of this test."""
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), "utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("words", [["deploy"], ["destroy"], ["bootstrap"], ["password"]])
def test_a_dry_run_says_the_steps_and_does_none(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("a dry run does nothing")

    one = deploy.Deployment("dev", deploy.deployment("dev").told, "0123456789ab")
    monkeypatch.setattr(deploy, "deployment", lambda *_: one)
    monkeypatch.setattr(subprocess, "run", never)
    monkeypatch.setattr(deploy.boto3, "client", never)
    said = CliRunner().invoke(deploy.app, [*words, "--env", "dev", "--dry-run"])
    assert said.exit_code == 0, said.output
    steps = {
        "deploy": one.deploying,
        "destroy": one.destroying,
        "bootstrap": one.bootstrapping,
        "password": one.changing_password,
    }[words[0]]()
    assert said.output.splitlines() == [
        f"{number}/{len(steps)} {step.name}: {step.says}" for number, step in enumerate(steps, 1)
    ]
    if words == ["deploy"]:
        assert tuple(step.name for step in steps) == STEPS


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_an_environment_that_is_still_the_example_is_refused(name: str) -> None:
    with pytest.raises(deploy.ExampleValueError, match="111122223333"):
        deploy.require_own_values(name)


def test_an_environment_that_is_not_there_is_refused() -> None:
    with pytest.raises(deploy.UnknownEnvironmentError, match="dev, prod, staging"):
        deploy.deployment("production")


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(deploy.ToolMissingError, match="tofu-of-tomorrow is not installed"):
        deploy.run("plan", "tofu-of-tomorrow", "plan")


def test_what_aws_refuses_is_told_as_the_step_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    for name in ("require_own_values", "require_commit"):
        monkeypatch.setattr(deploy, name, lambda *_: None)
    ask = boto3.Session(region_name=REGION).client("ecs").list_clusters
    step = deploy.Step("push", "ask AWS for something", ask)
    with pytest.raises(deploy.StepFailedError, match=r"push failed: Unable to locate credentials"):
        deploy.carry_out("dev", [step], False)


def test_a_protected_environment_is_not_destroyed() -> None:
    with pytest.raises(deploy.ProtectedError, match="allow_deletion"):
        deploy.deployment("prod", is_agreed=True).destroy()


class Ground:
    """A checkout with an environment of its own, and an account on this machine."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.log = folder / "checkout", folder / "bin", folder / "log"
        shutil.copytree(INFRA, self.root / "infra" / "opentofu", ignore=shutil.ignore_patterns(".terraform*"))
        envs = self.root / "infra" / "opentofu" / "envs"
        for file in envs.iterdir():
            text = file.read_text("utf-8")
            for example, own in OWN.items():
                text = text.replace(example, own)
            file.write_text(text + (LOCAL_S3 if file.suffix == ".hcl" else ""), "utf-8")
        self.bin.mkdir()
        (self.bin / "pushed.py").write_text(PUSHED, "utf-8")
        noted = f'echo "$(basename "$0")" "$@" >> {self.log}; cat > /dev/null'
        script(self.bin, "make", noted)
        self.docker = script(
            self.bin, "docker", noted, f'[ "$1" != push ] || exec {sys.executable} {self.bin}/pushed.py "$2"'
        )
        self.tofu = script(self.bin, "tofu", f'exec {" ".join(TOOL)} "$@"')
        who = ("-c", "user.name=a", "-c", "user.email=a@lake.test")
        for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "--message", "a")):
            subprocess.run(["git", *words], cwd=self.root, check=True)

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)

    def prepare(self) -> dict[str, list[str]]:
        """What stands in the account before, or is made by AWS alone: returns a network that it knows."""
        self.client("s3").create_bucket(
            Bucket=f"{NAME}-state-{ACCOUNT}",
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        self.client("ecr").create_repository(repositoryName="lakehouse")
        ecs, ec2 = self.client("ecs"), self.client("ec2")
        ecs.create_cluster(clusterName=NAME)
        container = {"name": "run", "image": "lakehouse", "memory": 512}
        ecs.register_task_definition(family=f"{NAME}-run", containerDefinitions=[container])
        for service in ("code", "daemon", "webserver"):
            ecs.create_service(
                cluster=NAME, serviceName=f"{NAME}-{service}", taskDefinition=f"{NAME}-run", desiredCount=0
            )
        network = ec2.describe_subnets()["Subnets"][0]
        group = ec2.create_security_group(GroupName="run", Description="run", VpcId=network["VpcId"])
        return {"subnets": [network["SubnetId"]], "security_groups": [group["GroupId"]]}


@pytest.fixture
def ground(provider: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """The checkout, the account, and the commands on PATH."""
    made = Ground(tmp_path)
    with local_aws("other") as url:
        requests.post(f"{url}/moto-api/reset", timeout=10).raise_for_status()  # what other tests left
        for name, value in provider.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("PATH", f"{made.bin}:{provider['PATH']}")
        monkeypatch.setattr(deploy, "ROOT", made.root)
        monkeypatch.setattr(deploy, "OPENTOFU", made.root / "infra" / "opentofu")
        monkeypatch.setattr(deploy, "_SECONDS", 0)
        # a task ends by being looked at
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 1})
        yield made
        state_manager.unset_transition("ecs::task")


@pytest.mark.slow
def test_a_deployment_goes_from_build_to_smoke_test_and_can_be_taken_away(ground: Ground) -> None:
    deploy.require_own_values("dev")
    one = deploy.deployment("dev", is_agreed=True)
    network = ground.prepare()
    for step in one.deploying():
        step.does()
        if step.name == "apply":
            one.outputs["run"] |= network  # the ids that AWS would have given: the stand-in's are nobody's
    asked = ground.log.read_text("utf-8").splitlines()
    assert [line.split()[:2] for line in asked] == [
        ["make", "image"],
        ["docker", "login"],
        ["docker", "push"],
    ]
    assert all(one.tagged in asked[place] for place in (0, 2))
    assert asked[0].split()[-1] == "SOURCE=https://github.com/acme/lakehouse", "as a release is labelled"
    digest = ground.client("ecr").describe_images(repositoryName="lakehouse")["imageDetails"][0][
        "imageDigest"
    ]
    assert one.image == f"{one.repository}@{digest}"
    assert digest in _state(ground)

    ecs = ground.client("ecs")
    tasks = ecs.describe_tasks(cluster=NAME, tasks=ecs.list_tasks(cluster=NAME)["taskArns"])["tasks"]
    commands = [task["overrides"]["containerOverrides"][0]["command"] for task in tasks]
    assert sorted(commands) == [["dagster", "instance", "migrate"], ["lakehouse", "doctor"]]

    again = deploy.deployment("dev", is_agreed=True)
    again.build()
    again.push()
    assert again.image == one.image
    assert ground.log.read_text("utf-8").splitlines() == asked, "a commit is built and pushed once"

    for step in one.destroying():
        step.does()
    assert digest not in _state(ground)


@pytest.mark.slow
def test_what_no_commit_has_is_not_deployed(ground: Ground) -> None:
    deploy.require_commit()
    (ground.root / "change.py").touch()
    with pytest.raises(deploy.ChangedCheckoutError, match=r"change\.py"):
        deploy.carry_out("dev", deploy.deployment("dev").deploying(), is_dry=False)


@pytest.mark.slow
def test_a_step_that_fails_ends_the_deployment(ground: Ground) -> None:
    script(ground.bin, "docker", "cat > /dev/null", '[ "$1" != push ]')
    one = deploy.deployment("dev", is_agreed=True)
    ground.prepare()
    with pytest.raises(
        deploy.StepFailedError, match=r"push failed: docker ended with 1, expected 0\. .* deploy again"
    ):
        deploy.carry_out("dev", one.deploying(), is_dry=False)
    assert _state(ground) == ""


@pytest.mark.slow
def test_a_task_that_ends_badly_is_told(ground: Ground) -> None:
    one = deploy.deployment("dev", is_agreed=True)
    network = ground.prepare()
    family = f"{NAME}-run"
    one.outputs = {"cluster": NAME, "services": [], "run": {"task_definition": family, **network}}
    from moto.ecs.models import Container

    begun = Container.__init__

    def failing(self: Any, *given: Any, **named: Any) -> None:
        begun(self, *given, **named)
        self.exitCode = 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Container, "__init__", failing)
        with pytest.raises(deploy.StepFailedError, match="lakehouse doctor ended with 3, expected 0"):
            one.task("smoke test", ["lakehouse", "doctor"])


@pytest.mark.slow
def test_two_deployments_at_once_do_not_write_one_state(ground: Ground) -> None:
    """The first holds the lock while it asks whether to go on."""
    one = deploy.deployment("dev", is_agreed=True)
    ground.prepare()
    one.image = f"{one.repository}@sha256:{'0' * 64}"
    one.init()
    words = ["apply", "-input=true", "-no-color", *one._variables()]
    first = subprocess.Popen(
        [ground.tofu, "-chdir=infra/opentofu", *words],
        cwd=ground.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(lambda: "lakehouse.tfstate.tflock" in _keys(ground))
        second = subprocess.run(
            [
                ground.tofu,
                "-chdir=infra/opentofu",
                "plan",
                "-no-color",
                "-lock-timeout=0s",
                *one._variables(),
            ],
            cwd=ground.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "Error acquiring the state lock" in second.stdout + second.stderr
    finally:
        first.communicate(b"no\n", timeout=60)
    assert "lakehouse.tfstate.tflock" not in _keys(ground)
    one.plan()


@pytest.mark.slow
def test_a_password_is_changed_and_services_start_anew(ground: Ground) -> None:
    """Of a secret that the local endpoint changes by itself, as RDS does one of its own."""
    ground.prepare()
    store, ecs = ground.client("secretsmanager"), ground.client("ecs")
    made = store.create_secret(Name="rds", SecretString="old")
    names = [f"{NAME}-{service}" for service in ("code", "daemon", "webserver")]
    one = deploy.deployment("dev")
    one.outputs = {"database_secret": made["ARN"], "cluster": NAME, "services": names}
    before = [service["deployments"][0]["id"] for service in _services(ecs, names)]
    for step in one.changing_password()[2:]:
        step.does()
    assert store.describe_secret(SecretId="rds")["VersionIdsToStages"][made["VersionId"]] != ["AWSCURRENT"]
    assert [service["deployments"][0]["id"] for service in _services(ecs, names)] != before


def _services(ecs: Any, names: list[str]) -> Any:
    return ecs.describe_services(cluster=NAME, services=names)["services"]


@pytest.mark.slow
def test_a_bootstrap_keeps_its_state_and_makes_up_tokens_once(ground: Ground) -> None:
    one, store = deploy.deployment("dev", is_agreed=True), ground.client("secretsmanager")
    store.create_secret(Name=f"{NAME}/ui")  # the stand-in's is nobody's
    for step in one.bootstrapping():
        step.does()
    state = (ground.root / "infra" / "opentofu" / "bootstrap" / "dev.tfstate").read_text("utf-8")
    first = store.get_secret_value(SecretId=f"{NAME}/ui")["SecretString"]
    told = json.loads(first)
    assert set(told) == {"ui_token", "viewer_token", "alert_urls"}
    assert told["ui_token"] != told["viewer_token"]
    assert min(len(told["ui_token"]), len(told["viewer_token"])) > 40
    assert f"{NAME}-state-{ACCOUNT}" in state
    assert told["ui_token"] not in state
    one.fill_secret()
    assert store.get_secret_value(SecretId=f"{NAME}/ui")["SecretString"] == first


def _keys(ground: Ground) -> list[str]:
    found = ground.client("s3").list_objects_v2(Bucket=f"{NAME}-state-{ACCOUNT}").get("Contents", [])
    return [one["Key"] for one in found]


def _state(ground: Ground) -> str:
    if "lakehouse.tfstate" not in _keys(ground):
        return ""
    found = ground.client("s3").get_object(Bucket=f"{NAME}-state-{ACCOUNT}", Key="lakehouse.tfstate")
    return str(found["Body"].read().decode())


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
