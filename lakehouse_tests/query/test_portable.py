"""Statements as another engine is given them."""

import pytest

from lakehouse.model.errors import NotRegisteredError
from lakehouse.query.portable import statements
from lakehouse.registry import REGISTRY


def told(query: str) -> list[str]:
    return statements(query, "lake_dev", REGISTRY.tables)


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("SELECT * FROM silver.candle", 'SELECT * FROM "lake_dev_silver".candle'),
        ('select * from GOLD . "vwap" v', 'select * from "lake_dev_gold" . "vwap" v'),
        (
            "SELECT silver.candle.open FROM silver.candle",
            'SELECT "lake_dev_silver".candle.open FROM "lake_dev_silver".candle',
        ),
        (
            "SELECT 1 FROM silver /* of */ . -- all\n gap",
            'SELECT 1 FROM "lake_dev_silver" /* of */ . -- all\n gap',
        ),
    ],
)
def test_tables_get_the_names_that_the_catalog_has(query: str, meant: str) -> None:
    assert told(query) == [meant]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'silver.candle', \"silver.candle\" -- silver.candle",
        "SELECT 'it''s; silver.candle' /* ; silver.candle */",
        "SELECT * FROM lake.silver.candle",
        "SELECT silver.close FROM other.candle AS silver",
        "SELECT * FROM silver.nothing",
        "SELECT 'open",
    ],
)
def test_what_is_no_table_of_the_lake_stays(query: str) -> None:
    assert told(query) == [query]


def test_several_statements_come_one_by_one_and_empty_ones_not_at_all() -> None:
    assert told("SELECT ';' ;; SELECT 2 ; -- the end\n") == ["SELECT ';'", "SELECT 2"]
    assert told(" -- nothing\n") == []


def test_a_table_that_no_catalog_has_is_named() -> None:
    with pytest.raises(NotRegisteredError, match=r"bronze\.candle_archive is not registered in Glue"):
        told("SELECT * FROM bronze.candle_archive")
