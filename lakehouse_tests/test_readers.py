"""The statements of docs/readers.md, each by the reader that it is for, over a lake of three markets; and
what goes wrong without what the page says.

Trino's are in `lakehouse_tests/trino/`. Athena and Snowflake cannot be run without an account.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.datasets.candle import Candle
from lakehouse.model.cell import Cell
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.clone import ROOT
from lakehouse_tests.making import candles, minutes

PYTHON = Path(sys.prefix, "readers", "bin", "python")  # `make .venv/.readers`
PAGE = (ROOT / "docs" / "readers.md").read_text("utf-8")
SYMBOLS = ("1000SATSUSDT", "BTCUSDT", "币安人生USDT")
MONTHS = ("2024-01", "2024-02")
READ = [[symbol, 1440, "2024-01-01 00:00:00", "2024-01-01 23:59:59.999999"] for symbol in SYMBOLS]
ELSEWHERE = "America/New_York"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no other readers: make .venv/.readers"),
]


def fill(objects: LakeObjects) -> None:
    """The first day of two months of each market."""
    for symbol in SYMBOLS:
        for month in MONTHS:
            rows = candles(minutes(f"{month}-01", 1440))
            TableStore(objects).put(
                Candle, Cell(month, Market("binance", "spot", symbol)), CellResult(rows, {})
            )


def statements(reader: str) -> list[str]:
    """Those of a reader's part of the page."""
    (text,) = re.findall(rf"^## {reader}\n.*?```sql\n(.*?)```", PAGE, re.M | re.S)
    return [one for one in text.strip().removesuffix(";").split(";\n") if one]


def answers(script: str, asked: list[str]) -> list[list[list[Any]]]:
    """The rows of each statement, times as texts, by a script that reads statements and writes rows as JSON;
    its machine is elsewhere.
    """
    done = subprocess.run(
        [PYTHON, "-c", script],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=230,
        env=os.environ | {"TZ": ELSEWHERE, "SPARK_LOCAL_IP": "127.0.0.1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[list[Any]]] = json.loads(done.stdout.splitlines()[-1])
    return found


SPARK = """
import json, sys
from pyspark.sql import SparkSession
made = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
java = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
made = made.config("spark.sql.shuffle.partitions", 1).config("spark.driver.extraJavaOptions", java)
spark = made.getOrCreate()
rows = [[[str(value) if not isinstance(value, int) else value for value in row] for row in found.select(
    *[found[name].cast("string") if kind == "timestamp" else found[name] for name, kind in found.dtypes]
).collect()] for found in map(spark.sql, json.load(sys.stdin))]
print(json.dumps(rows))
"""


def test_spark_reads_what_the_lake_has_where_the_zone_is_said(tmp_path: Path) -> None:
    assert shutil.which("java"), "Spark runs on Java: Debian's package maven brings one"
    fill(LakeObjects(tmp_path / "lake"))
    zone, select = (one.replace("s3a://bucket/lake", str(tmp_path / "lake")) for one in statements("Spark"))
    mended = "decode(encode(symbol, 'ISO-8859-1'), 'UTF-8')"
    assert mended in PAGE
    day = select.replace("WHERE", "WHERE open_time < '2024-01-01 12:00:00' AND")
    there, _, here, symbols, half = answers(
        SPARK, [day, zone, select, select.replace("symbol,", f"{mended} AS symbol,", 1), day]
    )
    assert here[:2] == READ[:2]
    assert here[2][0] == SYMBOLS[2].encode().decode("latin-1"), "a character per byte"
    assert symbols == READ
    assert [row[1] for row in half] == [720] * 3
    assert [row[1] for row in there] == [1020] * 3, "until noon in New York: five hours later"


CLICKHOUSE = """
import json, sys
import chdb
found = [chdb.query(one, "JSONCompact").bytes() for one in json.load(sys.stdin)]
print(json.dumps([json.loads(one)["data"] for one in found]))
"""


def test_clickhouse_reads_what_the_lake_has_where_symbols_are_decoded(aws_lake: str) -> None:
    fill(LakeObjects(f"{aws_lake}/lake"))
    (select,) = statements("ClickHouse")
    on_aws = "'https://bucket.s3.amazonaws.com/lake/silver/"
    assert on_aws in select
    here = select.replace(on_aws, f"'{os.environ['AWS_ENDPOINT_URL']}/lake/lake/silver/").replace(
        "data.parquet'", "data.parquet', 'test', 'test'"
    )
    rows, as_they_stand = answers(
        CLICKHOUSE, [here, here.replace("decodeURLComponent(symbol) AS symbol", "symbol")]
    )
    expected = [[*row[:2], f"{row[2]}.000000", row[3]] for row in READ]
    assert sorted(rows) == expected
    assert "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT" in [row[0] for row in as_they_stand]
