"""Every fault leaves what `docs/faults.md` says it leaves.

`GOLDEN=write pytest lakehouse_tests/faults` writes the page anew.
"""

import os
import re
from pathlib import Path

import pytest

from lakehouse.simulator import FAULTS
from lakehouse_tests.faults import bybit_cases, funding_cases, market_cases, proof_cases, rest_cases
from lakehouse_tests.faults.cases import CASES, Case
from lakehouse_tests.faults.lab import Found
from lakehouse_tests.faults.page import line, page

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
# the fast ones that between them use every source and rule of the page
ALWAYS = ("nothing", "stale CHECKSUM", "halt")
_SEEN: dict[str, Found] = {}

assert all(
    (market_cases.COIN, proof_cases.HOUR, rest_cases.MISALIGNED, funding_cases.PERP, bybit_cases.KEY)
)  # imported for the cases in them


def seen(case: Case, folder: Path) -> Found:
    """What a reader finds, observed once per process."""
    if case.name not in _SEEN:
        _SEEN[case.name] = case.show(folder / "lake")
    return _SEEN[case.name]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case.name in ALWAYS else pytest.mark.slow)
        for case in CASES
    ],
)
def test_a_fault_leaves_what_the_page_says(case: Case, tmp_path: Path) -> None:
    found = seen(case, tmp_path)
    if os.environ.get("GOLDEN") != "write":
        assert line(case, found) in PAGE.read_text(encoding="utf-8").splitlines(), (
            "docs/faults.md is stale: run this with GOLDEN=write"
        )


@pytest.mark.slow
def test_the_page_has_a_row_for_every_fault_and_no_other(tmp_path: Path) -> None:
    text = page((case, seen(case, tmp_path / str(number))) for number, case in enumerate(CASES))
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(text, encoding="utf-8")
    assert text == PAGE.read_text(encoding="utf-8"), "docs/faults.md is stale: run this with GOLDEN=write"
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_fault_that_the_simulated_exchange_knows_is_shown_or_accounted_for() -> None:
    sources = "".join(
        (Path(__file__).parent / name).read_text(encoding="utf-8")
        for name in (
            *("cases.py", "funding_cases.py", "market_cases.py", "proof_cases.py", "rest_cases.py"),
            "bybit_cases.py",
        )
    )
    alike = {"error_403", "slow"}  # as 451; no fault of data
    assert {name for name in FAULTS if not re.search(rf"\b{name}\b", sources)} == alike
