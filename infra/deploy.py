"""Deploys an environment, step by step: build, push, plan, apply, migrate, test. `make deploy ENV=dev`.

Each step is a command of OpenTofu or Docker, or a few calls to AWS; `--dry-run` says them in their order
and does nothing. A step that fails ends it: what was done stands, and a second deployment goes over it.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import boto3
import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.errors import (
    ChangedCheckoutError,
    ExampleValueError,
    ProtectedError,
    StepFailedError,
    ToolMissingError,
    UnknownEnvironmentError,
)
from lakehouse.model.errors import LakehouseError

ROOT = Path(__file__).parents[1]
OPENTOFU = ROOT / "infra" / "opentofu"
EXAMPLES = ("111122223333", "example.org", "00000000-0000-0000-0000-000000000000", "example/lakehouse")
# RunTask to its end: a migration of a large database takes minutes
_SECONDS, _POLLS = 10, 180

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)


class Step(NamedTuple):
    """One of a deployment.

    Attributes:
        name: What it is called.
        says: What it does, as a person would do it.
        does: Does it.
    """

    name: str
    says: str
    does: Callable[[], object]


@dataclass
class Deployment:
    """An environment, and what is known of its image as the steps go on.

    Attributes:
        name: The environment.
        told: Its values.
        revision: The commit that is deployed: the tag of its image.
        is_agreed: Whether nobody is asked before anything changes.
        image: The image by digest, once it was pushed.
    """

    name: str
    told: Mapping[str, Any]
    revision: str
    is_agreed: bool = False
    image: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def tofu(self) -> str:
        """OpenTofu, or what stands in for it."""
        return os.environ.get("TOFU", "tofu")

    @property
    def repository(self) -> str:
        """Where images go."""
        return f"{self.told['account_id']}.dkr.ecr.{self.told['region']}.amazonaws.com/lakehouse"

    @property
    def tagged(self) -> str:
        """The image by the commit that it is built from."""
        return f"{self.repository}:{self.revision}"

    def client(self, service: str) -> Any:
        """A client in the environment's region."""
        return boto3.client(service, region_name=self.told["region"])

    # --- steps ----------------------------------------------------------------------------------------

    def deploying(self) -> list[Step]:
        """The steps of a deployment."""
        return [
            Step("build", " ".join(self._image), self.build),
            Step("push", f"docker push {self.tagged}, then ask for its digest", self.push),
            Step("init", f"{self.tofu} init with envs/{self.name}.backend.hcl", self.init),
            Step("plan", f"{self.tofu} plan with envs/{self.name}.tfvars.json and the digest", self.plan),
            Step("apply", f"{self.tofu} apply of that plan", self.apply),
            Step("migrate", "a task: dagster instance migrate", lambda: self.task("migrate", _MIGRATE)),
            Step("settle", "wait until every service is stable", self.settle),
            Step("smoke test", "a task: lakehouse doctor", lambda: self.task("smoke test", _DOCTOR)),
        ]

    def destroying(self) -> list[Step]:
        """The steps of a destruction."""
        return [
            Step("init", f"{self.tofu} init with envs/{self.name}.backend.hcl", self.init),
            Step("destroy", f"{self.tofu} destroy with envs/{self.name}.tfvars.json", self.destroy),
        ]

    def changing_password(self) -> list[Step]:
        """The steps by which Dagster's database gets another password."""
        return [
            Step("init", f"{self.tofu} init with envs/{self.name}.backend.hcl", self.init),
            Step("outputs", f"{self.tofu} output", self.read_outputs),
            Step(
                "change", "ask RDS for another password, and wait until it is the one that holds", self.change
            ),
            Step("restart", "start the tasks of every service anew, with it", self.restart),
            Step("settle", "wait until every service is stable", self.settle),
        ]

    def bootstrapping(self) -> list[Step]:
        """The steps before a first deployment."""
        return [
            Step("init", f"{self.tofu} -chdir=bootstrap init", lambda: self._bootstrap("init")),
            Step("apply", f"{self.tofu} -chdir=bootstrap apply", lambda: self._bootstrap("apply")),
            Step(
                "secrets",
                f"make up the tokens of lakehouse-{self.name}/ui, where it has none",
                self.fill_secret,
            ),
        ]

    def build(self) -> None:
        """Build the image, unless this commit's was pushed already: a tag is never moved."""
        if not self._digest():
            run("build", *self._image, DOCKER_DEFAULT_PLATFORM="linux/amd64")

    @property
    def _image(self) -> list[str]:
        """The command that builds the image, with where its source can be read: its labels are a release's."""
        named = self.told["github_repository"]
        source = [f"SOURCE=https://github.com/{named}"] if named else []
        return ["make", "image", f"IMAGE={self.tagged}", *source]

    def push(self) -> None:
        """Push the image where it is not there yet, and learn its digest."""
        if not self._digest():
            given = self.client("ecr").get_authorization_token()["authorizationData"][0]
            user, _, password = base64.b64decode(given["authorizationToken"]).decode().partition(":")
            words = ("docker", "login", "--username", user, "--password-stdin", self.repository.split("/")[0])
            run("push", *words, said=password)
            run("push", "docker", "push", self.tagged)
        self.image = f"{self.repository}@{self._digest()}"

    def _digest(self) -> str:
        """Of the commit's image in the registry; empty where there is none."""
        ecr = self.client("ecr")
        try:
            found = ecr.describe_images(repositoryName="lakehouse", imageIds=[{"imageTag": self.revision}])
        except ecr.exceptions.ImageNotFoundException:
            return ""
        return str(found["imageDetails"][0]["imageDigest"])

    def init(self) -> None:
        """Open the environment's state."""
        backend = f"-backend-config=envs/{self.name}.backend.hcl"
        self._tofu("init", "init", "-input=false", "-reconfigure", backend)

    def plan(self) -> None:
        """Say what would change."""
        self._tofu("plan", "plan", "-input=false", "-lock-timeout=5m", "-out=planned", *self._variables())

    def apply(self) -> None:
        """Change it, once somebody agreed."""
        if not self.is_agreed and not typer.confirm(f"Apply this to {self.name}?"):
            raise StepFailedError("apply", "nobody agreed")
        self._tofu("apply", "apply", "-input=false", "-lock-timeout=5m", "planned")
        self.read_outputs()

    def read_outputs(self) -> None:
        """Learn what the environment is called."""
        ran = self._tofu("outputs", "output", "-json", is_read=True)
        self.outputs = {name: one["value"] for name, one in json.loads(ran).items()}

    def change(self) -> None:
        """Have the database's password changed."""
        store, secret = self.client("secretsmanager"), self.outputs["database_secret"]
        wanted = store.rotate_secret(SecretId=secret)["VersionId"]
        for _ in range(_POLLS):
            stages = store.describe_secret(SecretId=secret)["VersionIdsToStages"]
            if "AWSCURRENT" in stages.get(wanted, ()):
                return
            time.sleep(_SECONDS)
        raise StepFailedError("change", f"version {wanted} of {secret} is not the current one yet")

    def restart(self) -> None:
        """Start every service's tasks anew."""
        for service in self.outputs["services"]:
            self.client("ecs").update_service(
                cluster=self.outputs["cluster"], service=service, forceNewDeployment=True
            )

    def destroy(self) -> None:
        """Take it all away again, once somebody agreed."""
        if not self.told["allow_deletion"]:
            raise ProtectedError(self.name)
        self.image = f"{self.repository}@sha256:{'0' * 64}"
        agreed = ("-auto-approve",) if self.is_agreed else ()
        self._tofu("destroy", "destroy", "-lock-timeout=5m", *agreed, *self._variables())

    def task(self, step: str, command: list[str]) -> None:
        """Run a command as a run would be run, to its end."""
        ecs, run = self.client("ecs"), self.outputs["run"]
        network = {
            "subnets": run["subnets"],
            "securityGroups": run["security_groups"],
            "assignPublicIp": "DISABLED",
        }
        started = ecs.run_task(
            cluster=self.outputs["cluster"],
            taskDefinition=run["task_definition"],
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": network},
            overrides={"containerOverrides": [{"name": "run", "command": command}]},
        )
        if not started["tasks"]:
            raise StepFailedError(step, f"no task was started: {started['failures']}")
        at = {"cluster": self.outputs["cluster"], "tasks": [started["tasks"][0]["taskArn"]]}
        ecs.get_waiter("tasks_stopped").wait(**at, WaiterConfig={"Delay": _SECONDS, "MaxAttempts": _POLLS})
        ended = ecs.describe_tasks(**at)["tasks"][0]
        code = ended["containers"][0].get("exitCode") if ended["containers"] else None
        if code != 0:
            why = ended.get("stoppedReason") or "it did not say why"
            raise StepFailedError(
                step, f"{' '.join(command)} ended with {code}, expected 0: {why}; see its log"
            )

    def settle(self) -> None:
        """Wait until services run what was applied."""
        at = {"cluster": self.outputs["cluster"], "services": self.outputs["services"]}
        self.client("ecs").get_waiter("services_stable").wait(**at)

    def fill_secret(self) -> None:
        """Make up tokens where there are none."""
        store, name = self.client("secretsmanager"), f"lakehouse-{self.name}/ui"
        if not store.list_secret_version_ids(SecretId=name)["Versions"]:
            made = {
                "ui_token": secrets.token_urlsafe(32),
                "viewer_token": secrets.token_urlsafe(32),
                "alert_urls": "",
            }
            store.put_secret_value(SecretId=name, SecretString=json.dumps(made))

    # --- commands -------------------------------------------------------------------------------------

    def _variables(self) -> list[str]:
        return [f"-var-file=envs/{self.name}.tfvars.json", f"-var=image={self.image}"]

    def _bootstrap(self, command: str) -> None:
        # its state stays beside it: there is no bucket for it yet
        told = [f"-var={name}={self.told[name]}" for name in ("environment", "account_id", "region")]
        agreed = ["-auto-approve"] if self.is_agreed else []
        more = [*agreed, f"-state={self.name}.tfstate", *told] if command == "apply" else ["-input=false"]
        run(command, self.tofu, "-chdir=infra/opentofu/bootstrap", command, *more)

    def _tofu(self, step: str, *words: str, is_read: bool = False) -> str:
        return run(step, self.tofu, "-chdir=infra/opentofu", *words, is_read=is_read)


_MIGRATE = ["dagster", "instance", "migrate"]
_DOCTOR = ["lakehouse", "doctor"]


def run(step: str, *words: str, said: str | None = None, is_read: bool = False, **variables: str) -> str:
    """Run a command of a step.

    Args:
        step: Whose it is.
        words: The command.
        said: What it reads from its input.
        is_read: Whether what it says is returned, in place of shown.
        variables: What it is told beside the environment.

    Raises:
        ToolMissingError: There is no such command.
        StepFailedError: It ended otherwise than well.
    """
    if shutil.which(words[0]) is None:
        raise ToolMissingError(words[0])
    output = subprocess.PIPE if is_read else None
    told = os.environ | variables
    ran = subprocess.run(words, cwd=ROOT, env=told, input=said, stdout=output, text=True, check=False)
    if ran.returncode != 0:
        raise StepFailedError(step, f"{words[0]} ended with {ran.returncode}, expected 0")
    return ran.stdout or ""


def deployment(name: str, is_agreed: bool = False) -> Deployment:
    """An environment that can be deployed.

    Raises:
        UnknownEnvironmentError: There is none of this name.
    """
    folder = OPENTOFU / "envs"
    file = folder / f"{name}.tfvars.json"
    if not file.is_file():
        raise UnknownEnvironmentError(
            name, sorted(one.name.split(".")[0] for one in folder.glob("*.tfvars.json"))
        )
    told = json.loads(file.read_text("utf-8"))
    revision = run("revision", "git", "rev-parse", "--short=12", "HEAD", is_read=True).strip()
    return Deployment(name, told, revision, is_agreed)


def require_own_values(name: str) -> None:
    """Refuse an environment that is still the example.

    Raises:
        ExampleValueError: As said.
    """
    for file in (f"{name}.tfvars.json", f"{name}.backend.hcl"):
        text = (OPENTOFU / "envs" / file).read_text("utf-8")
        if left := [example for example in EXAMPLES if example in text]:
            raise ExampleValueError(f"infra/opentofu/envs/{file}", left)


def require_commit() -> None:
    """Refuse to deploy what no commit has.

    Raises:
        ChangedCheckoutError: As said.
    """
    if changed := run("revision", "git", "status", "--porcelain", is_read=True).splitlines():
        raise ChangedCheckoutError([line[3:] for line in changed])


def carry_out(name: str, steps: list[Step], is_dry: bool) -> None:
    """Do steps in their order, or only say them.

    Raises:
        StepFailedError: One ended otherwise than well, or AWS refused it.
    """
    if not is_dry:
        require_own_values(name)
        require_commit()
    for number, step in enumerate(steps, 1):
        typer.echo(f"{number}/{len(steps)} {step.name}: {step.says}")
        if is_dry:
            continue
        try:
            step.does()
        except (BotoCoreError, ClientError) as error:  # AWS's, and of waiters that gave up
            raise StepFailedError(step.name, str(error)) from error


Env = Annotated[str, typer.Option("--env", help="Which environment.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say the steps, do none.")]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nobody before anything changes.")]


@app.command()
def deploy(env: Env, dry_run: Dry = False, yes: Yes = False) -> None:
    """Build this checkout, push it, and have the environment run it."""
    one = deployment(env, yes)
    carry_out(env, one.deploying(), dry_run)


@app.command()
def destroy(env: Env, dry_run: Dry = False, yes: Yes = False) -> None:
    """Take an environment away, with its lake."""
    one = deployment(env, yes)
    carry_out(env, one.destroying(), dry_run)


@app.command()
def password(env: Env, dry_run: Dry = False) -> None:
    """Change the password of Dagster's database. Runs that start in between fail, and are repeated."""
    carry_out(env, deployment(env).changing_password(), dry_run)


@app.command()
def bootstrap(env: Env, dry_run: Dry = False, yes: Yes = False) -> None:
    """Make what a first deployment needs."""
    one = deployment(env, yes)
    carry_out(env, one.bootstrapping(), dry_run)


if __name__ == "__main__":
    try:
        app(standalone_mode=False)
    except LakehouseError as error:
        sys.exit(f"error: {error}")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit("error: nobody agreed; nothing more was done")
