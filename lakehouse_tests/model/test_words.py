"""Numbers with their nouns."""

import pytest

from lakehouse.model.words import count_of


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 keys"), (1, "1 key"), (2, "2 keys"), (1440, "1,440 keys")]
)
def test_one_is_singular_and_all_else_plural(count: int, said: str) -> None:
    assert count_of(count, "key") == said
