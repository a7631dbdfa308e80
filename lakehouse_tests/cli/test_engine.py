"""`lakehouse sql --engine trino` where there is no Trino."""

import socket
import sys
from collections.abc import Callable

import pytest

from lakehouse.cli.app import main
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator

Ask = Callable[..., str]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the command with settings; what it says, of a given exit code."""

    def run(*words: str, code: int, **settings: str) -> str:
        for name, value in settings.items():
            monkeypatch.setenv(f"LAKEHOUSE_{name}".upper(), value)
        monkeypatch.setattr(sys, "argv", ["lakehouse", "sql", "--engine", "trino", *words, "SELECT 1 AS one"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        return " ".join(capsys.readouterr().err.split())

    return run


def test_where_it_is_must_be_said(ask: Ask) -> None:
    assert "LAKEHOUSE_TRINO_URL is not set. --engine trino needs" in ask(code=2)
    said = ask(code=2, trino_url="http://127.0.0.1:8080")
    assert "LAKEHOUSE_GLUE_DATABASE is not set" in said
    assert "expected an address with http:// or https://" in ask(code=2, trino_url="127.0.0.1:8080")
    assert "holds a user, a password or a query" in ask(code=2, trino_url="http://me:secret@127.0.0.1:8080")


def test_an_option_of_duckdb_s_is_refused(ask: Ask) -> None:
    said = ask("--unrestricted", code=2, trino_url="http://127.0.0.1:8080", glue_database="lake")
    assert "--unrestricted is for DuckDB, which runs here; with --engine trino leave it out." in said


def test_nobody_at_the_address_is_said(ask: Ask) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        said = ask(code=1, trino_url=url, glue_database="lake")
    assert f"Trino at {url} does not answer:" in said
    assert "Check LAKEHOUSE_TRINO_URL, and that the server has started" in said


def test_somebody_else_at_the_address_is_said(ask: Ask, exchange: Simulator) -> None:
    said = ask(code=1, trino_url=exchange.url, glue_database="lake")
    assert f"Trino at {exchange.url} does not answer: error 501" in said


def test_its_address_is_told_to_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_TRINO_URL", "http://trino:8080/")
    assert Settings().environment()["LAKEHOUSE_TRINO_URL"] == "http://trino:8080"
