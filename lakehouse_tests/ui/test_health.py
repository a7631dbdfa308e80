"""What the health check of a container asks: real servers that answer, refuse, or are not there."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import grpc
import pytest
from dagster._core.test_utils import instance_for_test
from dagster._daemon.types import DaemonHeartbeat
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from lakehouse.cli.app import app
from lakehouse.cli.local_trino import free_ports
from lakehouse.model.errors import UnhealthyError
from lakehouse.ui.health import check_code, check_daemon, check_webserver

TOKEN = "0123456789abcdef"


class Answers(BaseHTTPRequestHandler):
    """The webserver's guard, as far as a check meets it."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/server_info"
        self.send_response(200 if is_known else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def webserver() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def code_server(status: int) -> Iterator[int]:
    servicer = health.HealthServicer()
    servicer.set("DagsterApi", status)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_a_webserver_that_answers_who_has_the_token_is_healthy() -> None:
    with webserver() as port:
        check_webserver(port, TOKEN)
        with pytest.raises(UnhealthyError, match=r"expected status 200 of /server_info .* found status 401"):
            check_webserver(port, None)
    with pytest.raises(UnhealthyError, match="found Connection refused"):
        check_webserver(port, TOKEN)


def test_a_code_server_that_says_so_is_healthy() -> None:
    serving = health_pb2.HealthCheckResponse.ServingStatus.Value
    with code_server(serving("SERVING")) as port:
        check_code(port)
    with (
        code_server(serving("NOT_SERVING")) as port,
        pytest.raises(UnhealthyError, match="found NOT_SERVING"),
    ):
        check_code(port)
    with pytest.raises(UnhealthyError, match="found UNAVAILABLE"):
        check_code(*free_ports(1))


def test_the_command_ends_as_a_health_check_has_to(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n", encoding="utf-8")
    with webserver() as port:
        words = ["healthy", "webserver", "--port", str(port)]
        assert CliRunner().invoke(app, [*words, "--token-file", str(token)]).exit_code == 0
        assert CliRunner().invoke(app, words).exit_code == 1
        assert CliRunner().invoke(app, words, env={"LAKEHOUSE_UI_TOKEN": TOKEN}).exit_code == 0
    assert CliRunner().invoke(app, ["healthy", "kitchen"]).exit_code == 2


@pytest.mark.slow
def test_a_daemon_that_was_silent_for_five_minutes_is_not_healthy(tmp_path: Path) -> None:
    def beats(instance: dg.DagsterInstance, seconds_ago: float) -> None:
        for name in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - seconds_ago, name, "one", []))

    with instance_for_test(temp_dir=str(tmp_path), set_dagster_home=False) as instance:
        with pytest.raises(UnhealthyError, match=r"found none of .*SENSOR"):
            check_daemon(tmp_path)
        beats(instance, 250)
        check_daemon(tmp_path)
        beats(instance, 400)
        with pytest.raises(UnhealthyError, match=r"a sign of life within 300 s, found none of .*SENSOR"):
            check_daemon(tmp_path)
