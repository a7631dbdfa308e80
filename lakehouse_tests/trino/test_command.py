"""`lakehouse sql --engine trino` beside `lakehouse sql`: the same words, the same answers, the same forms."""

import io
import json
import sys
from collections.abc import Callable

import polars as pl
import pytest

from lakehouse.cli.app import main
from lakehouse_tests.trino.conftest import Shown

pytestmark = pytest.mark.slow

Ask = Callable[..., tuple[bytes, str]]
ASKED = """
SELECT market_type, open_time, close_time, close, candle_count, contracts, symbol LIKE 'BTC%' AS is_btc,
       CAST(trade_count AS DECIMAL(12, 2)) AS trades, CAST(open_time AS DATE) AS day,
       open_time - TIMESTAMP '2024-12-01 00:00:00' AS since
FROM gold.candle_1d WHERE month = '2024-12' ORDER BY exchange, market_type, open_time
"""


@pytest.fixture
def ask(shown: Shown, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Ask:
    """Runs the command; what it wrote, and what it said."""
    for name in ("root", "glue_database", "trino_url"):
        monkeypatch.setenv(f"LAKEHOUSE_{name}".upper(), getattr(shown.settings, name))

    def run(*words: str, code: int = 0) -> tuple[bytes, str]:
        monkeypatch.setattr(sys, "argv", ["lakehouse", "sql", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
        out, err = capfdbinary.readouterr()
        return out, " ".join(err.decode().split())

    return run


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_both_engines_write_the_same(ask: Ask, form: str) -> None:
    here, there = (ask("--engine", engine, "--format", form, ASKED)[0] for engine in ("duckdb", "trino"))
    assert there == here
    assert b"2024-12-0" in here


def test_both_engines_give_columns_the_same_types(ask: Ask) -> None:
    here, there = (
        pl.read_parquet(io.BytesIO(ask("--engine", engine, "--format", "parquet", ASKED)[0]))
        for engine in ("duckdb", "trino")
    )
    assert there.schema == here.schema
    assert there.equals(here)


def test_several_statements_yield_the_rows_of_the_last_and_a_table_may_be_listed(ask: Ask) -> None:
    out, _ = ask("--engine", "trino", "--json", "SELECT 1 AS one; SHOW TABLES FROM lakehouse_demo_gold;")
    assert {"Table": "vwap"} in json.loads(out)


def test_what_is_refused_ends_as_wrong_use(ask: Ask) -> None:
    _, err = ask("--engine", "trino", "SELECT * FROM silver.candle", code=2)
    assert "error: The statement was refused: Filter required on lakehouse_demo_silver.candle" in err
    assert "Say which are meant, in the WHERE of each table: month >= '2024-01'" in err
    _, err = ask("--engine", "trino", "SELECT MAP(ARRAY[1], ARRAY[2]) AS pairs", code=2)
    assert "its column pairs (map(integer, integer)) holds a type that is not read" in err
    _, err = ask("--engine", "trino", "SELECT 1 AS a, 2 AS a", code=2)
    assert "its result has more than once: a." in err
