"""What all tests share: isolation from the machine, an empty lake, recorded files, a simulated exchange that
stands still.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from lakehouse.simulator import Simulator
from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import NOW

if TYPE_CHECKING:
    from lakehouse_tests.postgres import Postgres

# nothing listens there: a test that forgets to say where to look is refused at once
CLOSED = "http://127.0.0.1:9"
_KEPT = ("LAKEHOUSE_REAL_DATA",)
_LONGEST = (
    "trino",  # a folder, whose tests share a server
    "test_ui.py",
    "test_builds_on_s3.py",
    "test_refresh.py",
    "test_generated.py",
    "test_faults.py",
    "test_determinism.py",
    "test_end_to_end.py",
)

settings.register_profile(
    "lakehouse",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lakehouse")


def pytest_configure() -> None:
    """Forget what the machine's environment says, before any fixture or child process can see it."""
    for name in list(os.environ):
        if name not in _KEPT and (
            name.startswith(("AWS_", "LAKEHOUSE_"))
            or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
        ):
            del os.environ[name]
    os.environ |= {
        "NO_PROXY": "*",
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": CLOSED,
        "LAKEHOUSE_BINANCE_REST_URL": CLOSED,
        "LAKEHOUSE_BYBIT_REST_URL": CLOSED,
        "AWS_ENDPOINT_URL": CLOSED,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        "POLARS_MAX_THREADS": "2",
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin: of two processes none is left with minutes of work when the other is
    done.
    """
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(
        key=lambda item: min(
            places.get(name, len(places)) for name in (item.path.name, item.path.parent.name)
        )
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where files are handed out whole, so are the folders whose tests share a server."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class WithFolders(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return file.rpartition("/")[0] if "/trino/" in file else file

    return WithFolders(config, log)


@pytest.fixture(autouse=True)
def _dagster_home_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an instance names its home in the environment: what one test opens is not the default of the
    next.
    """
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")


@pytest.fixture(scope="module", autouse=True)
def _dagster_home_of_a_file() -> Iterator[None]:
    """What the fixtures of a file opened is not the default of the next file: they stand for longer than one
    test, so the undoing above comes before theirs.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.delenv("DAGSTER_HOME")
        yield


@pytest.fixture(scope="module", autouse=True)
def _logs_of_a_file() -> Iterator[None]:
    """A file that has this process log as JSON, as a deployment does, does not have the next one do so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.StreamHandler, "format", logging.StreamHandler.format)
        for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
            patch.setattr(owner, name, getattr(owner, name))
        yield
        logging.captureWarnings(False)


@pytest.fixture
def objects(tmp_path: Path) -> LakeObjects:
    """The objects of an empty lake."""
    return LakeObjects(tmp_path / "lake")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of files recorded from exchanges, where there is one."""
    folder = Path(
        os.environ.get("LAKEHOUSE_REAL_DATA")
        or Path(__file__).resolve().parents[1].parent / "shared" / "real_data"
    )
    if not folder.is_dir():
        pytest.skip("no recorded files: set LAKEHOUSE_REAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def exchange() -> Iterator[Simulator]:
    """A simulated exchange without faults that stands still at `NOW`; shared, so it must not be changed."""
    with Simulator(now=NOW) as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A Postgres server; one for all tests that ask for it."""
    from lakehouse_tests.postgres import programs, running_postgres

    if programs() is None:
        pytest.skip("there is no Postgres server: install Debian's package postgresql")
    with running_postgres() as server:
        yield server


@pytest.fixture
def aws_lake() -> Iterator[str]:
    """The address of an empty bucket on this machine, named in AWS's own variables."""
    from lakehouse.cli.local_aws import local_aws

    # undone before what it is set over: else the variables of one test were those of all that follow
    with local_aws("lake") as url, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        yield "s3://lake"
