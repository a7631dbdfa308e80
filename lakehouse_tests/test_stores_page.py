"""The page of stores: every test that a store without `If-Match` cannot pass stands on it, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "stores.md").read_text("utf-8")
_MARKED = re.compile(r"@pytest\.mark\.if_match\n(?:@.*\n)*def (test_\w+)")


def test_the_tests_that_need_if_match_are_those_of_the_page() -> None:
    marked = {
        f"{path.relative_to(ROOT / 'lakehouse_tests').as_posix()}::{name}"
        for path in (ROOT / "lakehouse_tests").rglob("test_*.py")
        for name in _MARKED.findall(path.read_text("utf-8"))
    }
    assert len(marked) > 3
    assert set(re.findall(r"^\| `(\S+::test_\w+)` \|", PAGE, re.MULTILINE)) == marked


def test_the_tests_that_need_a_catalog_are_those_of_the_page() -> None:
    folder = ROOT / "lakehouse_tests" / "storage"
    marked = {path.name for path in folder.glob("test_*.py") if "pytest.mark.glue" in path.read_text("utf-8")}
    (told,) = re.findall(r"needs a Glue catalog \((.+?)\)", PAGE, re.DOTALL)
    assert set(re.findall(r"`storage/(test_\w+\.py)`", told)) == marked


def test_all_marks_are_found_by_their_form() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "lakehouse_tests" / "storage").rglob("test_*.py")]
    assert sum(text.count("mark.if_match") for text in texts) == sum(
        len(_MARKED.findall(text)) for text in texts
    )
