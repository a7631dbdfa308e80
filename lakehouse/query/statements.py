"""What a statement over a lake may be: one that reads, and that calls nothing which reaches beyond the lake.

The engine's own locks keep files, addresses and settings out of reach, see `engine.prepare`. This comes
before them: it names what is refused, and keeps statements from what those locks leave open, such as
functions that write logs or run other statements.
"""

import re

import duckdb

from lakehouse.model.errors import SqlBeyondLakeError
from lakehouse.query.parsing import Parser


def _names(text: str) -> list[str]:
    return text.split()


# Functions that yield tables, and reach for nothing but the catalog and their arguments. A test holds that
# every other one of the engine is in `BEYOND`.
WITHIN = frozenset(
    _names("""
    range generate_series unnest repeat repeat_row histogram histogram_values json_each json_tree summary
    collations functions icu_calendar_names pg_timezone_names test_all_types test_vector_types platform
    version user_agent database_list database_size show show_databases show_tables show_tables_expanded
    table_info pragma_collations pragma_database_size pragma_platform pragma_show pragma_table_info
    pragma_user_agent pragma_version duckdb_columns duckdb_constraints duckdb_coordinate_systems
    duckdb_databases duckdb_dependencies duckdb_functions duckdb_indexes duckdb_keywords duckdb_memory
    duckdb_optimizers duckdb_schemas duckdb_secret_types duckdb_sequences duckdb_settings duckdb_tables
    duckdb_types duckdb_variables duckdb_views
""")
)
# Those that read files, change how the engine works or what it writes, or run what a text says; beside them
# one that yields a value.
BEYOND = frozenset(
    _names("""
    add_parquet_key all_profiling_output arrow_scan arrow_scan_dumb checkpoint copy_database
    disable_checkpoint_on_shutdown disable_logging disable_object_cache disable_optimizer
    disable_print_progress_bar disable_profile disable_profiling disable_progress_bar disable_verification
    disable_verify_external disable_verify_fetch_row disable_verify_parallelism disable_verify_serializer
    duckdb_approx_database_count duckdb_connection_count duckdb_extensions duckdb_external_file_cache
    duckdb_log_contexts duckdb_logs duckdb_logs_parsed duckdb_prepared_statements
    duckdb_profiling_settings duckdb_secrets duckdb_table_sample duckdb_temporary_files
    enable_checkpoint_on_shutdown enable_logging enable_object_cache enable_optimizer
    enable_print_progress_bar enable_profile enable_profiling enable_progress_bar enable_verification
    extension_versions force_checkpoint glob import_database json_execute_serialized_sql metadata_info
    pandas_scan parquet_bloom_probe parquet_file_metadata parquet_full_metadata parquet_kv_metadata
    parquet_metadata parquet_scan parquet_schema pragma_metadata_info pragma_storage_info
    python_map_function query query_table read_blob read_csv read_csv_auto read_duckdb read_json
    read_json_auto read_json_objects read_json_objects_auto read_ndjson read_ndjson_auto
    read_ndjson_objects read_parquet read_text seq_scan sniff_csv storage_info truncate_duckdb_logs
    verify_external verify_fetch_row verify_parallelism verify_serializer which_secret write_log
""")
)
# Comments as the engine reads them: a line ends at a carriage return too, and what nests is left to be
# refused.
_EXPLAIN = re.compile(
    r"(?:\s|--[^\r\n]*[\r\n]|/\*(?:(?!/\*).)*?\*/)*EXPLAIN\b(?:\s+ANALYZE\b)?(?:\s*\(\s*(?:FORMAT|ANALYZE)\b[^)]*\))?",
    re.IGNORECASE | re.DOTALL,
)
# within a text of the statement every quote is escaped
_CALLED = re.compile(r'"function_name":"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"\w+")


def check_reads(parser: Parser, query: str) -> None:
    """Refuse what is no statement that reads the lake alone; of several in one text, each.

    Args:
        parser: Of the connection on which it is to be run.
        query: What is to be run.

    Raises:
        SqlBeyondLakeError: As said.
        duckdb.Error: It does not parse.
    """
    for statement in parser.statements(query):
        text, kind = statement.query, statement.type
        # PIVOT over values that are not listed: the engine makes two statements of it, without a text
        is_pivot = not text
        if kind == duckdb.StatementType.EXPLAIN and (found := _EXPLAIN.match(text)):
            text, kind = text[found.end() :], duckdb.StatementType.SELECT
            if not any(inner.type == kind for inner in parser.statements(text)):
                raise SqlBeyondLakeError("EXPLAIN is of statements that read")
        if kind != duckdb.StatementType.SELECT and not (is_pivot and kind == duckdb.StatementType.CREATE):
            raise SqlBeyondLakeError(f"{kind.name.replace('_', ' ')} is no statement that reads")
        called = _words(query) if is_pivot else _called(parser, text)
        if is_pivot and "create" in called:
            raise SqlBeyondLakeError("CREATE is no statement that reads")
        if beyond := sorted(called & BEYOND):
            raise SqlBeyondLakeError(f"{beyond[0]} reaches beyond the lake")


def _called(parser: Parser, text: str) -> set[str]:
    """The functions that a statement calls, as the engine parses it; its words, where it cannot say."""
    tree = parser.tree(text)
    return (
        {name.lower() for name in _CALLED.findall(tree)}
        if tree.startswith('{"error":false')
        else _words(text)
    )


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
