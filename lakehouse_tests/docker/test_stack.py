"""Every command of `infra/docker/compose.yaml`, started as a process and asked for its health; then a run,
from the UI to rows in S3, with everything Dagster keeps in a real Postgres.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from lakehouse.cli.instance import prepare_pools
from lakehouse.cli.instances import write_instance
from lakehouse.registry import REGISTRY
from lakehouse.simulator import Simulator
from lakehouse_tests.docker.asked import (
    addresses,
    bring_up,
    operator,
    refuses_who_brings_no_token,
    run_an_asset,
    stored,
    viewer,
)
from lakehouse_tests.docker.composed import services
from lakehouse_tests.docker.stack import (
    ONCE,
    STAYING,
    Processes,
    Stack,
    files_of,
    ports_of_services,
)
from lakehouse_tests.opened import LISTED, NOW
from lakehouse_tests.postgres import programs, running_postgres

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="no Postgres server: install Debian's package postgresql"),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, ports = tmp_path_factory.mktemp("stack"), ports_of_services()
    with Simulator(markets=LISTED, now=NOW) as exchange, running_postgres() as postgres:
        runner = Processes(folder, files_of(folder / "files", ports))
        stack = Stack(runner, addresses(exchange) | postgres.database(), ports)
        try:
            bring_up(stack)
            yield stack
        finally:
            stack.stop_all()


def test_every_command_of_compose_was_started_and_is_healthy(stack: Stack) -> None:
    assert {name for name, one in services().items() if "command" in one} == {"aws", *ONCE, *STAYING}
    assert {name: stack.ask(name) for name in ("aws", *STAYING)} == dict.fromkeys(("aws", *STAYING), 0)


def test_a_run_from_the_ui_stores_rows_and_what_it_said_in_s3(stack: Stack) -> None:
    assert run_an_asset(stack) == "SUCCESS", stack.runner.said("code")[-3000:]
    keys = stored(stack)
    assert [key for key in keys if key.startswith("lake/silver/market/") and key.endswith(".parquet")]
    assert [key for key in keys if key.startswith("logs/")]


def test_who_looks_changes_nothing_and_who_brings_no_token_sees_nothing(stack: Stack) -> None:
    assert refuses_who_brings_no_token(stack)
    assert viewer(stack).runs()
    query = 'mutation { setConcurrencyLimit(concurrencyKey: "x", limit: 9) }'
    with pytest.raises(AssertionError, match="UnauthorizedError"):
        viewer(stack).ask(query)
    assert operator(stack).ask(query) == {"setConcurrencyLimit": True}


def test_two_webservers_that_start_at_once_both_find_the_pools_that_limit_runs(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one looks before the first has made them, and makes them after it."""
    for name, value in stack.variables("webserver").items():
        monkeypatch.setenv(name, value)
    write_instance("postgres", tmp_path / "home")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        made = instance.event_log_storage.get_concurrency_keys()
        assert len(made) >= len(REGISTRY.tables)
        looks = iter([set[str]()])
        monkeypatch.setattr(
            instance.event_log_storage, "get_concurrency_keys", lambda: next(looks, made), raising=True
        )
        prepare_pools(instance)
        looks = iter([set[str](), set[str]()])
        with pytest.raises(SQLAlchemyError):
            prepare_pools(instance)


def test_a_service_that_ended_is_not_healthy(stack: Stack, tmp_path: Path) -> None:
    for name in ("code", "viewer"):
        stack.runner.stop(name)
        assert stack.ask(name) == 1
