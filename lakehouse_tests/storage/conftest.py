"""An AWS on this machine; `STORE=swift` has its S3 be that of OpenStack Swift, which is another program."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from moto.server import ThreadedMotoServer

from lakehouse.storage import guarding
from lakehouse.storage.aws import aws_client
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.storage.fault_proxy import FaultProxy
from lakehouse_tests.storage.swift import IS_STORE, KEY, USER, swift

NOT_OF_SWIFT = ("if_match", "glue")
"""Marks of the tests that need what Swift does not have: docs/stores.md names them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the store does not have, before anything runs: a test that is skipped tells nothing."""
    left_out = [item for item in items if IS_STORE and any(map(item.get_closest_marker, NOT_OF_SWIFT))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=IS_STORE)
def _waiting_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads at one cell take their turns: none of them is to give up, however slow the store."""
    monkeypatch.setattr(guarding, "WAIT", timedelta(minutes=5))


@pytest.fixture(scope="session")
def aws_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of local AWS endpoints."""
    if IS_STORE:
        with swift(tmp_path_factory.mktemp("swift")) as url:
            yield url
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Empty AWS endpoints, named in AWS's own variables."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws_endpoint,
        "AWS_ACCESS_KEY_ID": USER if IS_STORE else "test",
        "AWS_SECRET_ACCESS_KEY": KEY if IS_STORE else "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    if IS_STORE:
        _empty()
    else:
        requests.post(f"{aws_endpoint}/moto-api/reset", timeout=10).raise_for_status()
    return aws_endpoint


def _empty() -> None:
    """Remove every bucket."""
    client = aws_client("s3")
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            if keys := [{"Key": found["Key"]} for found in page.get("Contents", ())]:
                client.delete_objects(Bucket=bucket["Name"], Delete={"Objects": keys})
        client.delete_bucket(Bucket=bucket["Name"])


@pytest.fixture(scope="session")
def one_proxy(aws_endpoint: str) -> Iterator[FaultProxy]:
    """One address for all tests: Polars keeps a client per address of a bucket, whatever the variables say
    later.
    """
    with FaultProxy(aws_endpoint) as running:
        yield running


@pytest.fixture
def proxy(aws: str, one_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """An endpoint with an empty bucket `lake`, which can be away, slow, or refuse."""
    aws_client("s3").create_bucket(Bucket="lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", one_proxy.url)
    yield one_proxy
    one_proxy.reset()


@pytest.fixture(params=["swift"] if IS_STORE else ["local", pytest.param("s3", marks=pytest.mark.slow)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> LakeObjects:
    """The objects of an empty lake, in a folder and in a bucket: every test of storage holds for both."""
    if request.param == "local":
        return LakeObjects(tmp_path / "lake")
    request.getfixturevalue("aws")
    aws_client("s3").create_bucket(Bucket="lake")
    return LakeObjects("s3://lake/somewhere")
