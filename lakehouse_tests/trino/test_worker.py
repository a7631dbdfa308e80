"""A worker of a larger deployment: a process of its own, with the files of the coordinator."""

from pathlib import Path

import pytest
import requests

from lakehouse.cli.local_trino import LocalTrino, missing_for_trino
from lakehouse_tests.conftest import CLOSED

pytestmark = pytest.mark.slow


def listening(port: int) -> set[str]:
    """The addresses on which this machine listens at a port, as the kernel writes them."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    found = (row[1].split(":") for row in rows if row[3] == "0A")
    return {address for address, at in found if int(at, 16) == port}


def test_a_worker_starts_with_the_same_files_and_is_reached_from_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trino refuses a property that it has no use for, as a worker has none for some of a coordinator's."""
    if why := missing_for_trino():
        pytest.skip(f"no Trino: {why}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    worker = LocalTrino(tmp_path, coordinator=CLOSED)
    try:
        worker.wait()
        told = requests.get(f"{worker.url}/v1/info", timeout=10).json()
        listens = listening(int(worker.url.rpartition(":")[2]))
    finally:
        worker.stop()
    assert told["coordinator"] is False
    assert listens <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listens, "on its loopback address"
