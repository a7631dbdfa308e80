"""What a command cannot open or write is said in a line, before anything is started."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.cli.app import main


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of wrong use."""
    monkeypatch.setattr(sys, "argv", ["lakehouse", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    return " ".join(err.split())


@pytest.mark.parametrize("command", [["simulate"], ["ui"], ["ui", "--demo"]])
def test_a_port_that_is_taken_is_refused(
    command: list[str],
    taken: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lakehouse.cli.instance.run_ui", lambda *_: 0)
    said = refused([*command, "--port", str(taken)], monkeypatch, capsys)
    assert f"Port {taken} on 127.0.0.1 cannot be opened: Address already in use" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["simulate", "ui"])
def test_what_is_no_port_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lakehouse.cli.instance.run_ui", lambda *_: 0)
    assert "Invalid value for '--port'" in refused([command, "--port", "80000"], monkeypatch, capsys)


def test_the_page_of_tables_is_written_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "docs/tables.md cannot be written: No such file or directory. Run it in a checkout" in refused(
        ["docs"], monkeypatch, capsys
    )
