"""What cells say of themselves, in words."""

from typing import get_args

import pytest

from lakehouse.model.result import Evidence
from lakehouse.ops.saying import EVIDENCE, size_of


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (14_200_000, "14.2 MB"),
        (3_100_000_000_000_000, "3100.0 TB"),
    ],
)
def test_sizes_are_said_as_people_say_them(count: int, said: str) -> None:
    assert size_of(count) == said


def test_every_level_of_evidence_has_a_sentence_that_begins_with_its_name_worst_first() -> None:
    assert tuple(EVIDENCE) == get_args(Evidence)
    assert all(says.startswith(f"{level}: ") for level, says in EVIDENCE.items())
