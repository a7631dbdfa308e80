"""JSON that others wrote: what is sound is read, and what would take a parser's stack, or an afternoon, is
refused in no time.
"""

import json
import time

import pytest

from lakehouse.model.errors import ForeignJsonError
from lakehouse.model.foreign_json import read_json


@pytest.mark.parametrize(
    "text", ["[" * 5_000, "]{" * 3_000, '\\"[' * 400, "[" * 300 + '"' + "{" * 300, "\\" + "[" * 300]
)
def test_brackets_in_a_text_are_text(text: str) -> None:
    for value in ({"key": text}, [text, [text]], {text: 1}):
        assert read_json(json.dumps(value)) == value
        assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 200_000,
        "[" * 200_000 + "]" * 200_000,
        '{"a":' * 50_000,
        '["' + "[" * 9 + '",' + "[" * 100_000,
        '"' + "[" * 1_000_000,
    ],
)
def test_what_nests_without_end_is_refused_in_no_time(bomb: str) -> None:
    began = time.monotonic()
    with pytest.raises(ForeignJsonError):
        read_json(bomb)
    assert time.monotonic() - began < 5


def test_a_field_that_is_named_twice_is_found_in_one_pass() -> None:
    began = time.monotonic()
    with pytest.raises(ForeignJsonError, match="names 'k99999' twice"):
        read_json("{" + ",".join(f'"k{number}":1' for number in [*range(100_000), 99_999]) + "}")
    assert time.monotonic() - began < 5
