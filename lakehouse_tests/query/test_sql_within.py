"""A statement reads the lake and nothing else, unless its author says otherwise: every way out that DuckDB
has, tried.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lakehouse.cli.app import main
from lakehouse.datasets.candle import Candle
from lakehouse.datasets.market import MarketTable, market_frame
from lakehouse.model.cell import Cell
from lakehouse.model.errors import (
    MarketKeyError,
    NotALakeObjectError,
    SqlBeyondLakeError,
    SqlError,
    UnknownTableError,
    UsageError,
)
from lakehouse.model.market import Market
from lakehouse.model.result import CellResult
from lakehouse.query.engine import connect, prepare
from lakehouse.query.lake import Lake
from lakehouse.query.parsing import Parser
from lakehouse.query.statements import BEYOND, WITHIN, check_reads
from lakehouse.query.views import run
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, candles, facts, minutes

pytestmark = pytest.mark.slow

SECRET, TOKEN = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdzEXAMPLETOKEN0123456789"
PASSWORD = "pr0xy-Pa55word"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """One cell and its market; shared, so it must not be changed."""
    root = tmp_path_factory.mktemp("within") / "lake"
    store = TableStore(LakeObjects(root))
    store.put(Candle, Cell("2024-01", BTC), CellResult(candles(minutes("2024-01-01", 10)), {}))
    store.put(MarketTable, None, CellResult(market_frame([facts(BTC)]), {}))
    return Lake(root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the user's own; shared, and nothing may come to them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.csv").write_text("symbol,weight\nBTCUSDT,2\n")
    (folder / "own.json").write_text('{"symbol": "BTCUSDT"}\n')
    (folder / "schema.sql").write_text("CREATE TABLE imported AS SELECT 1;\n")
    (folder / "load.sql").write_text("")
    (folder / ".tmp").mkdir()
    (folder / ".tmp" / "spilled.csv").write_text("of another query\n")
    duckdb.sql(f"COPY (SELECT 1 AS one) TO '{folder}/own.parquet'")
    with duckdb.connect(str(folder / "own.db")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS one")
    return folder


@pytest.fixture
def own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's files as the working folder, which is as it was after the test."""
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    yield folder
    assert sorted(path.name for path in folder.rglob("*")) == before


READS = [
    "SELECT content FROM read_text('/etc/passwd')",
    "SELECT content FROM Read_Blob('/etc/passwd')",
    "SELECT * FROM system.main.\"read_text\"('/etc/passwd')",
    "SELECT * FROM read_csv('own.csv')",
    "SELECT * FROM 'own.csv'",
    "FROM 'own.parquet'",
    'FROM "own.json"',
    "SELECT (SELECT content FROM read_text('/etc/passwd')) AS c FROM silver.candle",
    "SELECT * FROM silver.candle WHERE symbol IN (SELECT symbol FROM read_csv('own.csv'))",
    "WITH a AS MATERIALIZED (SELECT content FROM read_text('own.csv')) SELECT * FROM a",
    "WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT size FROM read_text('own.csv')) SELECT * FROM a",
    "SELECT 1 AS one ORDER BY (SELECT size FROM read_text('own.csv'))",
    "SELECT [x FOR x IN (SELECT content FROM read_text('own.csv'))] AS c",
    "PIVOT (SELECT content, size FROM read_text('own.csv')) ON content USING sum(size)",
    "PIVOT (SELECT content, size FROM read_text('own.csv')) ON content IN ('a', 'b') USING sum(size)",
    "SUMMARIZE FROM read_csv('own.csv')",
    "DESCRIBE FROM 'own.csv'",
    "EXPLAIN ANALYZE SELECT * FROM read_csv('own.csv')",
    "/* a */ EXPLAIN /* b */ SELECT * FROM read_csv('own.csv')",
    "SELECT * FROM read_json('own.json')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('own.csv')",
    "SELECT * FROM parquet_metadata('own.parquet')",
    "SELECT * FROM parquet_schema('own.parquet')",
    "SELECT * FROM query('SELECT content FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('own.csv')",
    "SELECT * FROM read_duckdb('own.db')",
    "SELECT * FROM '.tmp/spilled.csv'",
    "SELECT * FROM read_text('.tmp/spilled')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT content FROM "
    "read_text(''/etc/passwd'')'))",
    "SELECT json_serialize_plan('SELECT content FROM read_text(''/etc/passwd'')') AS plan FROM 'own.csv'",
    "IMPORT DATABASE '.'",
    "SELECT 1 AS one; SELECT content FROM read_text('/etc/passwd')",
    "FROM read_csv('own.csv'); SELECT 1 AS one",
]
REACHES = [
    "ATTACH 'own.db'",
    "ATTACH 'other.db' AS other (TYPE sqlite)",
    "COPY (SELECT 1) TO 'out.csv'",
    "COPY (SELECT * FROM silver.candle) TO 'out.parquet'",
    "COPY silver.candle TO 'out' (FORMAT csv, PARTITION_BY (symbol))",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'out.csv'",
    "EXPORT DATABASE 'out'",
    "COPY (PIVOT silver.candle ON symbol USING sum(close)) TO 'out.csv'",
    "CREATE TABLE t AS PIVOT silver.candle ON symbol USING sum(close)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL spatial FROM 'http://127.0.0.1:9'",
    "UPDATE EXTENSIONS",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "SET enable_external_access = true",
    "SET GLOBAL allowed_directories = ['/']",
    "SET VARIABLE a = 1",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA enable_external_access = true",
    "CALL enable_logging(storage := 'file', storage_path := 'out')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = 'out')",
    "/* a /* b */ EXPLAIN SELECT 1 AS a -- */ EXPLAIN ANALYZE SELECT * FROM enable_logging(storage='file', "
    "storage_path='out')",
    "-- \rEXPLAIN ANALYZE SELECT (SELECT count(*) FROM enable_logging(storage='file', storage_path='out')) "
    "AS\nEXPLAIN FROM silver.candle",
    "/* /* */ EXPLAIN SELECT 1 */ EXPLAIN ANALYZE SELECT * FROM enable_logging(storage='file', "
    "storage_path='out')",
    "SELECT * FROM enable_logging()",
    "SELECT write_log('a') AS said",
    "CREATE MACRO m(x) AS TABLE SELECT content FROM read_text(x)",
    "CREATE TEMP MACRO m(x) AS (SELECT content FROM read_text(x))",
    "CREATE VIEW silver.own AS SELECT * FROM 'own.csv'",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "EXPLAIN (ANALYZE, FORMAT json) PREPARE p AS SELECT 1",
    "USE system",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "DETACH memory",
    "SELECT * FROM 'http://127.0.0.1:9/a.csv'",
    "SELECT * FROM 'https://127.0.0.1:9/a.parquet'",
    "SELECT * FROM 's3://other/a.parquet'",
    "SELECT * FROM 'file:///etc/passwd.csv'",
    "SELECT * FROM read_text('file:/etc/passwd')",
    "SELECT * FROM read_parquet('s3://other/a.parquet')",
    "SELECT * FROM which_secret('s3://a', 's3')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM read_text('/dev/stdin')",
    "SELECT 1 AS one; COPY (SELECT 1) TO 'out.csv'; SELECT 2 AS two",
]
OWN_NAMES = [
    "lake://*",
    "lake://**",
    "lake://ledger/**",
    "lake://landing/*",
    "lake://../../etc/passwd",
    "lake:///etc/passwd",
    "lake://silver/../../../../../../../etc/passwd",
    "lake://%2e%2e/%2e%2e/etc/passwd",
    "lake://silver/market/data.parquet",
    "lake://ledger/silver/candle.parquet",
    "LAKE://etc/passwd",
]


@pytest.mark.parametrize("query", READS + REACHES)
def test_a_statement_that_does_more_than_read_the_lake_is_refused_and_leaves_nothing(
    lake: Lake, own: Path, query: str
) -> None:
    with pytest.raises(SqlBeyondLakeError, match=r"--unrestricted \(in Python: unrestricted=True\)"):
        lake.sql(query)


# the first fence alone holds it: the second ends the process
@pytest.mark.parametrize("query", [query for query in READS + REACHES if "enable_logging(stor" not in query])
def test_the_engine_refuses_by_itself_what_gets_past_the_look_at_the_statement(
    lake: Lake, own: Path, query: str
) -> None:
    """Two fences, each for itself: nothing of the user's files is read, written or opened where the first is
    gone.
    """
    connection, files = connect(lake.objects)
    with connection:
        found = None
        try:
            found = run(
                connection,
                files,
                query.replace("silver.candle", "(SELECT 'BTCUSDT' AS symbol, 1 AS close)"),
                unrestricted=True,
            )
        except (SqlError, RuntimeError) as error:
            assert "root:" not in str(error)  # noqa: PT017
        assert found is None or not any(
            word in str(found.rows()) for word in ("root:", "weight", "of another")
        )


@pytest.mark.parametrize("name", OWN_NAMES)
def test_names_of_the_lake_lead_to_its_cells_only(lake: Lake, own: Path, name: str) -> None:
    """Objects beside the cells that a statement is over, and whatever lies beyond the root, have no name."""
    for read in ("read_text", "read_blob", "read_parquet", "glob"):
        with pytest.raises(SqlBeyondLakeError):
            lake.sql(f"SELECT * FROM {read}('{name}') WHERE 'silver.candle' <> ''")
        connection, files = connect(lake.objects)  # past the look at the statement
        with connection:
            files.add(Candle, lake.records("silver/candle"))
            try:
                assert run(connection, files, f"SELECT * FROM {read}('{name}')", unrestricted=True).is_empty()
            except SqlError as error:
                assert "root:" not in str(error)  # noqa: PT017


def test_names_of_the_lake_take_no_write_even_unrestricted(lake: Lake, own: Path) -> None:
    cell = lake.records("silver/candle")[0]
    before = lake.objects.get(cell.path)
    for target in ("lake://new.parquet", f"lake://{cell.path}", f"lake://{cell.path}".replace("=", "=%")):
        with pytest.raises((SqlError, NotALakeObjectError)):
            lake.sql(
                f"COPY (SELECT 1 AS one FROM silver.candle) TO '{target}' (FORMAT parquet, USE_TMP_FILE "
                "false)",
                unrestricted=True,
            )
    assert lake.objects.get(cell.path) == before


def test_who_says_so_joins_files_of_his_own(lake: Lake, own: Path, tmp_path: Path) -> None:
    joined = "SELECT sum(weight)::BIGINT AS weight FROM silver.candle JOIN 'own.csv' USING (symbol)"
    assert lake.sql(joined, unrestricted=True)["weight"].to_list() == [20]
    assert lake.sql(
        f"COPY (SELECT close FROM silver.candle) TO '{tmp_path}/out.csv'; SELECT count(*) AS n FROM "
        f"'{tmp_path}/out.csv'",
        unrestricted=True,
    )["n"].to_list() == [10]
    with pytest.raises(SqlBeyondLakeError):
        lake.sql(joined)


READING = [
    "FROM silver.candle",
    "TABLE silver.candle",
    "VALUES (1)",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "DESCRIBE silver.candle",
    "DESCRIBE SELECT 1 AS one",
    "SUMMARIZE silver.candle",
    "PRAGMA table_info('silver.candle')",
    "PRAGMA version",
    "PRAGMA show_tables",
    "EXPLAIN SELECT * FROM silver.candle",
    "-- why\nEXPLAIN (FORMAT json) SELECT 1 AS one",
    "EXPLAIN ANALYZE (SELECT 1 AS one)",
    "PIVOT silver.candle ON symbol USING sum(close)",
    "PIVOT silver.candle ON symbol IN ('BTCUSDT') USING sum(close)",
    "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b INTO NAME n VALUE v",
    "WITH a AS (SELECT * FROM silver.candle) SELECT a.close FROM a ASOF JOIN a AS b USING (symbol, "
    "open_time)",
    "SELECT unnest([1, 2]) AS n; SELECT n FROM range(3) t(n)",
    "SELECT count(*) AS read_text, 'FROM read_csv(''x'')' AS glob FROM silver.candle WHERE symbol <> 'COPY x "
    "TO y'",
    "SELECT list_transform([1], lambda x: x + 1) AS l, COLUMNS('clo.*') FROM silver.candle QUALIFY "
    "row_number() OVER (ORDER BY open_time) < 3",
    "SELECT " + " + ".join(["1"] * 50) + " AS many",
    "SELECT * FROM information_schema.tables",
    "SELECT name, value FROM duckdb_settings()",
]


@pytest.mark.parametrize("query", READING, ids=lambda query: query[:50])
def test_whatever_reads_the_lake_is_let_through(lake: Lake, query: str) -> None:
    assert lake.sql(query).columns


def test_every_function_of_the_engine_that_yields_a_table_is_judged() -> None:
    """Another version of DuckDB brings others: each must be looked at."""
    found = duckdb.sql(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'pragma', "
        "'table_macro')"
    ).fetchall()
    assert {name for (name,) in found} | {"write_log"} == WITHIN | BEYOND
    assert not WITHIN & BEYOND


def test_every_function_that_yields_a_value_keeps_to_its_arguments() -> None:
    """None of them is of a kind that reads files or variables; the two that run a text as a statement only
    plan it, or write a log that nobody has switched on.
    """
    names = {
        name
        for (name,) in duckdb.sql(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type NOT IN ('table', "
            "'pragma', 'table_macro')"
        ).fetchall()
    }
    odd = {
        name
        for name in names
        if any(
            part in name
            for part in (
                "read_",
                "file",
                "env",
                "exec",
                "load",
                "write",
                "serialize_plan",
                "http",
                "attach",
                "secret",
            )
        )
    }
    assert odd == {"parse_filename", "pg_conf_load_time", "write_log", "json_serialize_plan"}


def test_sql_tells_no_secret_of_the_environment(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    }
    secrets |= dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), f"http://me:{PASSWORD}@127.0.0.1:9"
    )
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    df = secrets  # noqa: F841  # what a name in a statement would find, were Python's variables looked up
    for query in (
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_variables()",
        "SELECT getenv('AWS_SECRET_ACCESS_KEY') AS s",
        "SELECT current_setting('s3_secret_access_key') AS s",
        "SELECT current_setting('http_proxy') AS s",
        "SELECT getvariable('AWS_SECRET_ACCESS_KEY') AS s",
        "SELECT * FROM df",
        "SELECT * FROM secrets",
        "SELECT * FROM query",
    ):
        for unrestricted in (False, True):
            try:
                said = str(lake.sql(query, unrestricted).rows())
            except SqlError as error:
                said = str(error)
            assert not [secret for secret in (SECRET, TOKEN, PASSWORD) if secret in said]


def test_a_connection_that_dagster_hands_out_reads_the_lake_and_nothing_else(lake: Lake, own: Path) -> None:
    from dagster_duckdb import DuckDBResource

    with DuckDBResource(database=":memory:").get_connection() as connection:
        assert connection.sql("SELECT * FROM 'own.csv'").fetchall(), "the harm there was"
        prepare(connection, lake.objects)
        for query in (
            "SELECT * FROM 'own.csv'",
            "COPY (SELECT 1) TO 'out.csv'",
            "SET enable_external_access=true",
            "ATTACH 'own.db'",
            "LOAD httpfs",
        ):
            with pytest.raises(duckdb.Error, match=r"disabled|locked"):
                connection.execute(query)


def test_what_does_not_fit_into_memory_goes_to_a_folder_of_this_users_and_goes_again(
    lake: Lake, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(own))
    folder = Path(lake.sql("SELECT current_setting('temp_directory') AS folder")["folder"].item())
    assert folder.parent == own
    assert not folder.exists()
    connection, files = connect(lake.objects, spill=str(own / "spill"))
    with connection:
        assert run(
            connection,
            files,
            "SELECT current_setting('lock_configuration') AS l, current_setting('enable_external_access') AS "
            "e",
        ).rows() == [(True, False)]
        with pytest.raises(SqlBeyondLakeError):
            run(connection, files, f"SELECT * FROM read_text('{own}/spill/*')")


def test_a_statement_is_parsed_behind_the_locks(lake: Lake, own: Path) -> None:
    """To parse an IMPORT the engine opens its files."""
    connection, _ = connect(lake.objects)
    with connection, pytest.raises(duckdb.PermissionException):
        check_reads(Parser(connection), "IMPORT DATABASE '.'")


NOT_NAMES = [
    "/etc/passwd",
    "../../etc/passwd",
    "silver/../../landing",
    "lake://silver/candle",
    "silver/candle/../market",
    "silver.candle\0",
    "",
    "silver/candle/exchange=binance",
]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_table_or_market_that_is_a_path_is_none(lake: Lake, name: str) -> None:
    for ask in (
        lake.scan,
        lake.records,
        lake.stored,
        lake.survey,
        lake.dataset_id,
        lambda table: lake.restatements(table=table),
    ):
        with pytest.raises(UnknownTableError):
            ask(name)
    for parts in (("binance", "spot", name), (f"../{name}", "spot", "BTCUSDT"), ("binance", name, "BTCUSDT")):
        with pytest.raises(MarketKeyError):
            Market(*parts)  # type: ignore[arg-type]
    for market in (name, f"binance-spot:{name}"):
        for read in (
            lake.candles,
            lambda market: lake.scan("candle", market),
            lake.gaps,
            lake.conflicts,
            lake.restatements,
        ):
            with pytest.raises(UsageError) as refused:
                read(market)
            assert isinstance(refused.value, MarketKeyError) or "Nothing is stored" in str(refused.value)


def test_the_command_refuses_and_says_which_word_opens_it(
    lake: Lake, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_ROOT", lake.objects.root)
    monkeypatch.setattr(sys, "argv", ["lakehouse", "sql", "SELECT * FROM 'own.csv'"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--unrestricted" in capsys.readouterr().err
    monkeypatch.setattr(
        sys,
        "argv",
        ["lakehouse", "sql", "--json", "--unrestricted", "SELECT weight::INT AS weight FROM 'own.csv'"],
    )
    with pytest.raises(SystemExit, match="0"):
        main()
    assert json.loads(capsys.readouterr().out) == [{"weight": 2}]
