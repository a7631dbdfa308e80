"""The worked queries of docs/queries.md: each runs as it stands on DuckDB and on Trino, and they agree."""

import re
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from lakehouse_tests.trino.conftest import Shown

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
WORKED: dict[str, str] = dict(
    re.findall(r"^## (.+?)\n(?:(?!^## ).)*?```sql\n(.*?)```", PAGE.read_text("utf-8"), re.M | re.S)
)


def test_every_query_of_the_page_is_found() -> None:
    assert len(WORKED) == PAGE.read_text("utf-8").count("```sql") >= 10


@pytest.mark.slow
@pytest.mark.parametrize("title", WORKED)
def test_duckdb_and_trino_agree_on_a_worked_query(shown: Shown, title: str) -> None:
    here, there = shown.lake.sql(WORKED[title]), shown.trino.sql(WORKED[title])
    assert here.height > 0
    assert_frame_equal(there, here, check_exact=False, rel_tol=1e-12, abs_tol=0)
