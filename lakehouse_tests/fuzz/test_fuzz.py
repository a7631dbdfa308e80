"""Whatever bytes come from an exchange, a mirror or a shared bucket: they are taken, or refused by an error
of ours; nothing else is raised.

`FUZZ=200000 pytest lakehouse_tests/fuzz -m slow` (`make test-long`) draws so many, and prints how often each
outcome came.
"""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from lakehouse_tests.fuzz.driving import KINDS, Served, driver

pytestmark = pytest.mark.slow

FAST = 30
SLOW = max(230, int(os.environ.get("FUZZ", "0")) // len(KINDS))
LONGEST = 20.0  # seconds that one example may take on a busy machine


def fuzz(kind: str, count: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The outcomes of so many examples."""
    outcomes: Counter[str] = Counter()
    monkeypatch.setattr("lakehouse.sources.rest.client._TRIES", 1)
    monkeypatch.setattr(
        "lakehouse.sources.files.reader.ArchiveReader._fetch",
        lambda self, parts, by_http=False: Served(),
    )
    with driver(kind, root) as driven:

        @settings(
            max_examples=count,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            deadline=None,
        )
        @given(driven.drawn())
        def drive(sent: object) -> None:
            began = time.monotonic()
            outcomes[driven.outcome(sent)] += 1
            assert time.monotonic() - began < LONGEST

        drive()
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_bytes_are_taken_or_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(fuzz(kind, FAST, tmp_path / "lake", monkeypatch)) >= 2, "both come"


@pytest.mark.parametrize("kind", KINDS)
def test_more_foreign_bytes_are_taken_or_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = fuzz(kind, SLOW, tmp_path / "lake", monkeypatch)
    if "FUZZ" in os.environ:
        with capsys.disabled():
            print(
                f"\n{kind}: {outcomes.total():,} examples, {len(outcomes)} outcomes: "
                + ", ".join(f"{what} {count:,}" for what, count in outcomes.most_common())
            )
    assert len(outcomes) >= 3, "both come, and more than one refusal"
