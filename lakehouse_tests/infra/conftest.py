"""The stand-in, and what each environment comes to when it is applied with it: made once."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lakehouse_tests.infra.terraform import INFRA, Resource, Terraform, resources, stand_in

Applied = Callable[..., list[Resource]]


@pytest.fixture(scope="session")
def provider() -> Iterator[dict[str, str]]:
    """Variables by which Terraform finds the provider that stands in for AWS's."""
    with stand_in() as variables:
        yield variables


@pytest.fixture(scope="module")
def terraform(provider: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """A copy of the declaration that is ready to be planned; who edits it puts it back."""
    copy = Terraform(tmp_path_factory.mktemp("infra"), provider)
    copy.init()
    return copy


@pytest.fixture(scope="session")
def applied(provider: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Applied:
    """What an environment holds once it is applied, with other values where some are given; made once."""
    copy = Terraform(tmp_path_factory.mktemp("applied"), provider)
    copy.init()
    made: dict[str, list[Resource]] = {}

    def of(environment: str, **variables: Any) -> list[Resource]:
        text = json.dumps(variables, sort_keys=True)
        if (key := f"{environment} {text}") not in made:
            told = copy.root / f"{len(made)}.tfvars.json"
            told.write_text(text, "utf-8")
            state = f"{len(made)}"
            done = copy.plan(environment, f"-var-file={told}", f"-state={state}.tfstate")
            assert done.code == 0, done.text
            made[key] = resources(copy.apply(state))
        return made[key]

    return of


@pytest.fixture(scope="session")
def trino() -> dict[str, Any]:
    """The value of `trino` that switches it on in prod."""
    told = json.loads((INFRA / "envs" / "prod.tfvars.json").read_text("utf-8"))["trino"]
    image = f"111122223333.dkr.ecr.ap-northeast-1.amazonaws.com/lakehouse-trino@sha256:{'0' * 64}"
    return dict(told) | {"enabled": True, "image": image}
