"""What is printed in this process is as wide as in a log, also where tests run beside each other and are told
the width of a terminal.
"""

import pytest

from lakehouse.cli import console


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (console.out, console.err):
        monkeypatch.setattr(each, "_width", console._WIDE)
