"""Every folder of the package opens with its charter: what belongs there, what does not, and where that
is.
"""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lakehouse"
ROOMS = sorted({path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE})
NAMES = {room.name for room in ROOMS}
MOST = 5  # lines: who opens a folder reads them


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.relative_to(PACKAGE).as_posix())
def test_a_folder_opens_with_what_belongs_there_and_where_the_rest_is(room: Path) -> None:
    charter = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))
    assert charter, "it has no charter"
    first, belongs, elsewhere = re.fullmatch(
        r"(.+)\n\nBelongs here: (.+)\nDoes not: (.+)", charter, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert all((first, belongs, elsewhere))
    assert len(charter.splitlines()) <= MOST
    named = set(re.findall(r"`(\w+)`", elsewhere))
    assert named, "it says of nothing where it is"
    assert named <= NAMES - {room.name}, "it sends to a room that is not there"
