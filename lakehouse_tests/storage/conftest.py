"""An AWS on this machine."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from moto.server import ThreadedMotoServer

from lakehouse.storage.aws import aws_client
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.storage.fault_proxy import FaultProxy


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """The address of local AWS endpoints."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Empty AWS endpoints, named in AWS's own variables."""
    requests.post(f"{aws_endpoint}/moto-api/reset", timeout=10).raise_for_status()
    for name, value in {
        "AWS_ENDPOINT_URL": aws_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return aws_endpoint


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


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> LakeObjects:
    """The objects of an empty lake, in a folder and in a bucket: every test of storage holds for both."""
    if request.param == "local":
        return LakeObjects(tmp_path / "lake")
    request.getfixturevalue("aws")
    aws_client("s3").create_bucket(Bucket="lake")
    return LakeObjects("s3://lake/somewhere")
