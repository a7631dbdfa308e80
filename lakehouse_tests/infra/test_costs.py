"""What an environment costs is reckoned from what it declares, and the README says what is reckoned."""

import re
from collections import Counter

import pytest

from infra import costs
from lakehouse_tests.infra.terraform import Resource, Terraform, resources


def test_the_readme_says_what_is_reckoned() -> None:
    text = costs.README.read_text("utf-8")
    assert costs.written(text) == text
    assert len(re.findall(r"^\| \*\*USD a month\*\* \|( \*\*\d+\*\* \|){4}$", text, re.M)) == 1


@pytest.mark.parametrize("name", costs.ENVIRONMENTS)
def test_the_budget_is_what_is_reckoned_and_room_for_more(name: str) -> None:
    told, bill = costs.variables(name), costs.bills()[name]
    assert costs.total(bill) < told["monthly_budget_usd"] < 1.6 * costs.total(bill)


def test_every_price_is_used_and_has_its_source() -> None:
    used = {item.how for bill in costs.bills().values() for item in bill}
    for name, price in costs.PRICES.items():
        assert re.fullmatch(r"\w+ [\w:.-]+", price.source)
        assert any(f"{price.usd:g}" in how for how in used), name


@pytest.mark.slow
@pytest.mark.parametrize("name", costs.ENVIRONMENTS)
def test_what_is_reckoned_is_what_is_planned(terraform: Terraform, name: str) -> None:
    assert terraform.plan(name).code == 0
    found = resources(terraform.planned())
    counts = Counter(one.type for one in found)
    told = {item.what: item.how for item in costs.bills()[name]}
    assert told["NAT gateways"].startswith(f"{counts['aws_nat_gateway']} x")
    assert told["alarms"].startswith(f"{counts['aws_cloudwatch_metric_alarm']} x")
    assert told["keys"].startswith("lake, operations")
    assert counts["aws_kms_key"] == 2  # and the state's
    for service in ("webserver", "daemon", "code", "viewer"):
        assert told.get(service, "").split(" x ")[0] == _count(found, service)
        if service in told:
            task = _named(found, "aws_ecs_task_definition", service)
            vcpu, memory = int(task.values["cpu"]) / 1024, int(task.values["memory"]) / 1024
            assert f"({vcpu:g} vCPU" in told[service]
            assert f"{memory:g} GB" in told[service]
    database = _named(found, "aws_db_instance", "").values
    assert f"{1 + database['multi_az']} x {database['instance_class']}" in told["database"]
    assert told["its disk"].startswith(f"{1 + database['multi_az']} x {database['allocated_storage']} GB")


def _named(found: list[Resource], type_: str, key: str) -> Resource:
    return next(one for one in found if one.type == type_ and one.key == key)


def _count(found: list[Resource], service: str) -> str:
    running = [one for one in found if one.type == "aws_ecs_service" and one.key == service]
    return str(int(running[0].values["desired_count"])) if running else ""
