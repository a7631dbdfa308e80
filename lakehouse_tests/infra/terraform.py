"""Terraform's command line over a copy of `infra/opentofu`, with the provider that stands in for AWS's;
`TOFU=…` names OpenTofu's own, which is in no index of packages for Python.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

INFRA = Path(__file__).parents[2] / "infra" / "opentofu"
STAND_IN = Path(__file__).parent / "stand_in"
# made by `make`, from requirements-infra.txt
PYTHON = Path(sys.prefix) / "infra" / "bin" / "python"
ENVIRONMENTS = ("dev", "staging", "prod")
DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"111122223333.dkr.ecr.ap-northeast-1.amazonaws.com/lakehouse@{DIGEST}"
TOOL = [os.environ["TOFU"]] if "TOFU" in os.environ else [str(PYTHON), str(STAND_IN / "cli.py")]
_REGISTRIES = ("registry.terraform.io", "registry.opentofu.org")
_LOCAL = 'terraform {\n  backend "local" {}\n}\n'


@dataclass(frozen=True)
class Done:
    """What a command came to.

    Attributes:
        code: Its exit code.
        text: What it said, good or bad.
    """

    code: int
    text: str


@contextmanager
def stand_in() -> Iterator[dict[str, str]]:
    """The provider, serving; yields the variables by which Terraform finds it."""
    with TemporaryDirectory(prefix="aws") as folder:  # the path of a socket has to be short
        socket = f"{folder}/p"
        (Path(folder) / "rc").touch()
        process = subprocess.Popen(
            [PYTHON, STAND_IN / "server.py", socket], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout
            assert process.stdout.readline() == "serving\n", "the stand-in did not start"
            attached = {
                "Protocol": "grpc",
                "ProtocolVersion": 6,
                "Pid": process.pid,
                "Test": True,
                "Addr": {"Network": "unix", "String": socket},
            }
            yield {
                "TF_REATTACH_PROVIDERS": json.dumps(
                    {f"{registry}/hashicorp/aws": attached for registry in _REGISTRIES}
                ),
                "TF_CLI_CONFIG_FILE": f"{folder}/rc",
                "CHECKPOINT_DISABLE": "1",
                "PATH": os.environ["PATH"],
            }
        finally:
            process.terminate()
            process.wait(timeout=10)


class Terraform:
    """A copy of the whole declaration that may be edited.

    Args:
        folder: Where the copy goes.
        variables: By which the provider is found.
        root: The folder in it that commands are for.
        backend: What is written over the declared place of the state; None to leave that.
    """

    def __init__(
        self, folder: Path, variables: Mapping[str, str], root: str = ".", backend: str | None = _LOCAL
    ) -> None:
        self.tree = folder / "opentofu"
        self.root = self.tree / root
        self._variables = dict(variables)
        shutil.copytree(INFRA, self.tree, ignore=shutil.ignore_patterns(".terraform*"))
        if backend is not None:
            (self.root / "backend_override.tf").write_text(backend, "utf-8")

    def run(self, *command: str) -> Done:
        """Run a command; `init`, `plan`, …, with its arguments."""
        ran = subprocess.run(
            [*TOOL, *command],
            cwd=self.root,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(ran.returncode, ran.stdout)

    def must(self, *command: str) -> str:
        """Run a command that has to succeed; returns what it said."""
        done = self.run(*command)
        assert done.code == 0, f"{command[0]}: {done.text}"
        return done.text

    def init(self) -> None:
        """Make the copy usable."""
        self.must("init", "-input=false", "-no-color")

    def plan(self, environment: str, *more: str) -> Done:
        """Plan an environment, with its variables, an image and a state of its own."""
        state = f"-state={environment}.tfstate"
        return self.run(
            "plan", "-input=false", "-no-color", "-out=planned", state, *variables_of(environment), *more
        )

    def planned(self) -> dict[str, Any]:
        """The plan."""
        return dict(json.loads(self.must("show", "-json", "-no-color", "planned")))

    def apply(self, environment: str) -> dict[str, Any]:
        """Apply the plan of an environment; returns its state."""
        state = f"{environment}.tfstate"
        self.must("apply", "-input=false", "-no-color", f"-state={state}", "planned")
        return dict(json.loads(self.must("show", "-json", "-no-color", state)))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that stands in a file once."""
        path = self.tree / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), "utf-8")

    def restore(self, file: str) -> None:
        """Undo what was edited in a file."""
        shutil.copyfile(INFRA / file, self.tree / file)


def variables_of(environment: str) -> tuple[str, str]:
    """The arguments that name an environment's variables and an image."""
    return f"-var-file={INFRA}/envs/{environment}.tfvars.json", f"-var=image={IMAGE}"


@dataclass(frozen=True)
class Resource:
    """Something declared, as a state has it."""

    address: str
    type: str
    name: str
    key: str
    values: dict[str, Any]


def resources(state: Mapping[str, Any]) -> list[Resource]:
    """What a state or a plan holds, data sources left out."""

    def below(module: Mapping[str, Any]) -> Iterator[Resource]:
        for found in module.get("resources", ()):
            if found["mode"] == "managed":
                yield Resource(
                    found["address"],
                    found["type"],
                    found["name"],
                    str(found.get("index", "")),
                    found.get("values", {}),  # all of it may be unknown yet
                )
        for child in module.get("child_modules", ()):
            yield from below(child)

    return list(below((state.get("planned_values") or state["values"])["root_module"]))
