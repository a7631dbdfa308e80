"""What a first deployment needs: applied with the stand-in, with its own checks."""

import json

import pytest

from lakehouse_tests.infra.checks import findings
from lakehouse_tests.infra.terraform import INFRA, Resource, Terraform, resources

pytestmark = pytest.mark.slow
WORDS = ("-input=false", "-no-color", "-auto-approve")


@pytest.fixture(scope="module")
def copy(provider: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    made = Terraform(tmp_path_factory.mktemp("bootstrap"), provider, root="bootstrap")
    made.init()
    return made


def applied(copy: Terraform, environment: str, *more: str) -> list[Resource]:
    told = ("environment=" + environment, "account_id=111122223333", "region=ap-northeast-1", *more)
    state = f"-state={environment}.tfstate"
    copy.must("apply", *WORDS, state, *(f"-var={one}" for one in told))
    return resources(json.loads(copy.must("show", "-json", "-no-color", f"{environment}.tfstate")))


def test_every_check_holds_of_the_bootstrap(copy: Terraform) -> None:
    found = applied(copy, "dev")
    assert findings(found) == {}
    bucket = next(one.values["bucket"] for one in found if one.type == "aws_s3_bucket")
    assert f'bucket = "{bucket}"' in (INFRA / "envs" / "dev.backend.hcl").read_text("utf-8")
    secret = next(one.values["name"] for one in found if one.type == "aws_secretsmanager_secret")
    assert secret == "lakehouse-dev/ui"
    images = [one.values for one in found if one.type == "aws_ecr_repository"]
    assert {one["name"] for one in images} == {"lakehouse", "lakehouse-trino"}
    assert {one["image_tag_mutability"] for one in images} == {"IMMUTABLE"}


def test_a_second_environment_of_an_account_shares_what_there_is_one_of(copy: Terraform) -> None:
    found = applied(copy, "staging", "shared=false")
    kinds = {one.type for one in found}
    assert "aws_s3_bucket" in kinds
    assert kinds.isdisjoint({"aws_ecr_repository", "aws_iam_openid_connect_provider"})


def test_the_bucket_of_the_state_is_not_destroyed(copy: Terraform) -> None:
    applied(copy, "prod")
    told = ("-var=environment=prod", "-var=account_id=111122223333", "-var=region=ap-northeast-1")
    done = copy.run("destroy", *WORDS, "-state=prod.tfstate", *told)
    assert done.code == 1
    assert "prevent_destroy" in done.text
