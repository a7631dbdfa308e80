"""The stand-in, and what each environment comes to when it is applied with it: made once."""

from collections.abc import Iterator

import pytest

from lakehouse_tests.infra.terraform import Terraform, stand_in


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
