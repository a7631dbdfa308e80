"""Lines of 110 columns, so that two files fit side by side: what the formatter leaves longer is bounded."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = 110


@pytest.mark.parametrize(("folder", "most"), [("lakehouse", 20), ("lakehouse_tests", 155), ("benchmarks", 5)])
def test_few_lines_are_longer_than_two_files_side_by_side_have_room_for(folder: str, most: int) -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert len(long) <= most, "\n".join(long)
