"""Commands of an installation of its own, run in the test's process: what each said, and how it ended."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli.app import main


class Answer:
    """What a command said and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.said = " ".join(f"{out} {err}".split())  # the terminal's line breaks undone

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]


def environment(folder: Path, url: str) -> dict[str, str]:
    """The settings of an installation in a folder, over an exchange at an address."""
    return {
        "LAKEHOUSE_ROOT": str(folder / "lake"),
        "DAGSTER_HOME": str(folder / "dagster"),
        "LAKEHOUSE_START": "2024-01",
        "LAKEHOUSE_BINANCE_ARCHIVE_URL": url,
        "LAKEHOUSE_BINANCE_REST_URL": url,
        "LAKEHOUSE_BYBIT_REST_URL": url,
    }


def in_process(
    folder: Path,
    settings: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """What runs a command, in a folder and with some settings, until the test's end."""
    monkeypatch.chdir(folder)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["lakehouse", *words])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Answer(code, *capsys.readouterr())

    return run
