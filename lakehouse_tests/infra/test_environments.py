"""Three environments, planned and applied as far as that goes without an account."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lakehouse_tests.infra.checks import CHECKS, findings
from lakehouse_tests.infra.terraform import ENVIRONMENTS, INFRA, Resource, Terraform, resources, variables_of

pytestmark = pytest.mark.slow


class Environment:
    """What one came to."""

    def __init__(self, name: str, copy: Terraform) -> None:
        self.name = name
        done = copy.plan(name)
        assert done.code == 0, done.text
        self.plan = copy.planned()
        self.state = copy.apply(name)
        self.again = copy.plan(name, "-detailed-exitcode")
        self.found: list[Resource] = resources(self.state)


@pytest.fixture(scope="module")
def environments(terraform: Terraform) -> dict[str, Environment]:
    """All three."""
    return {name: Environment(name, terraform) for name in ENVIRONMENTS}


def test_the_text_is_formatted(terraform: Terraform) -> None:
    assert terraform.run("fmt", "-check", "-recursive", "-no-color").text == ""


def test_the_declaration_is_valid(terraform: Terraform) -> None:
    assert "Success!" in terraform.must("validate", "-no-color")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_plans_applies_and_is_then_as_it_was_planned(
    environments: dict[str, Environment], name: str
) -> None:
    one = environments[name]
    wanted = {found.address for found in resources(one.plan)}
    assert {found.address for found in one.found} == wanted
    assert len(wanted) > 100
    assert one.again.code == 0, one.again.text  # 2: there would be changes


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("check", CHECKS)
def test_every_check_holds_of_every_environment(
    environments: dict[str, Environment], check: str, name: str
) -> None:
    assert list(CHECKS[check](environments[name].found)) == []


def test_no_source_asks_which_environment_it_is_of() -> None:
    """No source asks which environment it is of, and all decide the same things."""
    told = {
        name: json.loads((INFRA / "envs" / f"{name}.tfvars.json").read_text("utf-8")) for name in ENVIRONMENTS
    }
    assert len({frozenset(values) for values in told.values()}) == 1, "they decide different things"
    sources = [path for path in INFRA.rglob("*.tf") if "bootstrap" not in path.parts]
    asked = re.compile(r'"(dev|staging|prod)"')
    named = {path.relative_to(INFRA).as_posix(): asked.findall(path.read_text("utf-8")) for path in sources}
    assert {name: found for name, found in named.items() if found} == {"variables.tf": list(ENVIRONMENTS)}


def test_plans_differ_by_variables_alone(
    environments: dict[str, Environment], terraform: Terraform, tmp_path: Path
) -> None:
    """Prod with the values of dev is dev, but for its name."""
    values = json.loads((INFRA / "envs" / "dev.tfvars.json").read_text("utf-8"))
    as_prod = tmp_path / "as_prod.tfvars.json"
    as_prod.write_text(json.dumps(values | {"environment": "prod"}), "utf-8")
    assert terraform.plan("dev", f"-var-file={as_prod}", "-state=none.tfstate").code == 0
    assert _unnamed(terraform.planned()) == _unnamed(environments["dev"].plan)


def _unnamed(plan: dict[str, Any]) -> dict[str, Any]:
    """What is planned, without the names of environments, and what is made up out of them."""
    text = json.dumps({one.address: one.values for one in resources(plan)}, sort_keys=True)
    text = re.sub(r"(?<=:key/)[0-9a-f]{8}", "ID", text)
    return dict(json.loads(re.sub(r"(?<=[-_:\"$])(dev|staging|prod)(?![a-z])", "ENV", text)))


def test_the_tests_of_the_declaration_pass(terraform: Terraform) -> None:
    said = terraform.must("test", "-no-color")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", said), said


def test_what_differs_is_what_the_environments_say(environments: dict[str, Environment]) -> None:
    counts = {
        name: {
            type_: sum(found.type == type_ for found in one.found)
            for type_ in ("aws_nat_gateway", "aws_ecs_service", "aws_subnet", "aws_vpc_endpoint")
        }
        for name, one in environments.items()
    }
    for name, counted in counts.items():
        told = json.loads((INFRA / "envs" / f"{name}.tfvars.json").read_text("utf-8"))
        assert counted == {
            "aws_nat_gateway": told["nat_gateways"],
            "aws_ecs_service": 3 + bool(told["viewers"]) + 2 * told["trino"]["enabled"],
            "aws_subnet": 2 * len(told["availability_zones"]),
            "aws_vpc_endpoint": 1 + len(told["interface_endpoints"]),
        }


def test_with_trino_every_check_holds_too(
    environments: dict[str, Environment], terraform: Terraform, trino: dict[str, Any], tmp_path: Path
) -> None:
    """It is added to what stands, taken away again with all the rest."""
    with_trino = tmp_path / "trino.tfvars.json"
    with_trino.write_text(json.dumps({"trino": trino}), "utf-8")
    done = terraform.plan("prod", f"-var-file={with_trino}")
    assert re.search(r"Plan: \d+ to add, \d+ to change, 0 to destroy", done.text), done.text
    found = resources(terraform.apply("prod"))
    assert sum(one.type == "aws_ecs_service" for one in found) == 6
    assert findings(found) == {}
    words = ("-auto-approve", "-input=false", "-no-color", "-state=prod.tfstate")
    gone = terraform.must("destroy", *words, *variables_of("prod"), f"-var-file={with_trino}")
    assert f"{len(found)} destroyed" in gone
