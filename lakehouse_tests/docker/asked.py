"""A stack that is asked to do something: the same questions to processes and to containers."""

import time

import boto3
import requests

from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.simulator import Simulator
from lakehouse_tests.docker.composed import SECRETS, environment, services
from lakehouse_tests.docker.stack import ONCE, STAYING, Stack
from lakehouse_tests.opened import Dagster, universe

MARKET = Market("binance", "spot", "SOLUSDT")
_PATIENCE = 150.0  # seconds


def bring_up(stack: Stack) -> None:
    """Start everything in the order of compose, each as soon as what it depends on is healthy."""
    stack.start("aws")
    stack.await_health("aws")
    for name in ONCE:
        code, said = stack.run(name)
        assert code == 0, f"{name}: {said[-3000:]}"
    stack.start("code")
    stack.await_health("code")
    for name in STAYING[1:]:
        stack.start(name)
    stack.await_health(*STAYING[1:])


def operator(stack: Stack) -> Dagster:
    """The UI as who may do everything has it."""
    return Dagster(int(stack.ports["3000"]), SECRETS["LAKEHOUSE_UI_TOKEN"])


def viewer(stack: Stack) -> Dagster:
    """The UI as who may only look has it."""
    return Dagster(int(stack.ports["3001"]), SECRETS["LAKEHOUSE_VIEWER_TOKEN"])


def run_a_month(stack: Stack) -> str:
    """Have the stack build a month of a market from source to gold; the run's status."""
    dagster = _loaded(stack)
    cell = Cell("2024-02", MARKET)
    run = dagster.launch("market_month", **{"": str(cell), "/date": cell.date, "/symbol": MARKET.key})
    return _ended(stack, run)


def run_an_asset(stack: Stack) -> str:
    """Have the stack ask the exchange what it lists; the run's status."""
    return _ended(stack, _loaded(stack).launch("__ASSET_JOB", ["silver/market"]))


def _loaded(stack: Stack) -> Dagster:
    """The UI as soon as it has loaded the code, with a market."""
    dagster = operator(stack)
    deadline = time.monotonic() + _PATIENCE
    while not dagster.is_up():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    if not universe(dagster):
        dagster.add_market(MARKET)
    return dagster


def _ended(stack: Stack, run: str) -> str:
    """The status with which a run ends."""
    deadline = time.monotonic() + _PATIENCE
    while (found := _statuses(stack)[run]) not in ("SUCCESS", "FAILURE", "CANCELED"):
        assert time.monotonic() < deadline, f"{found}\n{stack.runner.said('code')[-3000:]}"
        time.sleep(0.5)
    return found


def _statuses(stack: Stack) -> dict[str, str]:
    return {run["runId"]: run["status"] for run in operator(stack).runs()}


def stored(stack: Stack) -> list[str]:
    """The keys of the bucket that the stack's lake and the output of its runs are in."""
    said = environment(services()["code"])
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stack.ports['5000']}",
        aws_access_key_id=said["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=said["AWS_SECRET_ACCESS_KEY"],
        region_name=said["AWS_REGION"],
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=said["DAGSTER_COMPUTE_LOGS_BUCKET"])
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def refuses_who_brings_no_token(stack: Stack) -> bool:
    """Whether both UIs refuse who brings no token, and who brings the other's."""
    statuses = {
        requests.get(
            f"http://127.0.0.1:{stack.ports[port]}/server_info", headers=headers, timeout=10
        ).status_code
        for port, other in (("3000", "LAKEHOUSE_VIEWER_TOKEN"), ("3001", "LAKEHOUSE_UI_TOKEN"))
        for headers in ({}, {"Authorization": f"Bearer {SECRETS[other]}"})
    }
    return statuses == {401}


def addresses(exchange: Simulator) -> dict[str, str]:
    """The variables that have a stack ask a simulated exchange, and its clock."""
    return {
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": exchange.url,
        "LAKEHOUSE_BINANCE_REST_URL": exchange.url,
        "LAKEHOUSE_CLOCK": "exchange",
        "LAKEHOUSE_START": "2024-01",
    }
