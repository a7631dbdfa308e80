"""`.env.example` says what it says it does."""

from pathlib import Path

import pytest

from lakehouse.settings import Settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"


def test_it_has_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings().environment():
        monkeypatch.delenv(name, raising=False)
    said = dict(
        line.split("=", 1)
        for line in EXAMPLE.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert said.keys() == Settings().environment().keys()
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None)
