"""The asset graph, as text: whoever changes it sees in a diff what changed.

`GOLDEN=write pytest lakehouse_tests/test_asset_graph.py` writes the file anew.
"""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.definitions import Repository, build_definitions
from lakehouse.defs.describe import asset_key
from lakehouse.defs.partitions import LookBack
from lakehouse.model.errors import SettingError
from lakehouse.opening import open_lake
from lakehouse.settings import Settings

GOLDEN = Path(__file__).parent / "golden" / "asset_graph.txt"


def described(definitions: dg.Definitions) -> str:
    """A paragraph per asset, upstream first."""
    graph = definitions.resolve_asset_graph()
    return "\n".join(_asset(graph, key) for key in graph.toposorted_asset_keys)


def _asset(graph: Any, key: dg.AssetKey) -> str:
    node = graph.get(key)
    checks = sorted(
        graph.get(check).key.name + _label(graph.get(check).automation_condition, " (", ")")
        for check in graph.get_check_keys_for_assets({key})
    )
    lines = [
        key.to_user_string(),
        f"  group: {node.group_name}",
        f"  kinds: {', '.join(sorted(node.kinds))}",
        f"  partitions: {_partitions(node.partitions_def)}",
        f"  deps: {', '.join(_dep(graph, node, parent) for parent in sorted(node.parent_keys)) or 'none'}",
        f"  automation: {_label(node.automation_condition) or 'none'}",
        f"  code version: {node.code_version}",
        f"  checks: {', '.join(checks) or 'none'}",
    ]
    return "\n".join(lines) + "\n"


def _label(condition: dg.AutomationCondition | None, before: str = "", after: str = "") -> str:
    return f"{before}{condition.get_label() or condition}{after}" if condition else ""


def _partitions(partitions: dg.PartitionsDefinition | None) -> str:
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return " x ".join(
            f"{dimension.name}: {_partitions(dimension.partitions_def)}"
            for dimension in partitions.partitions_defs
        )
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        first = partitions.get_first_partition_window().start
        return f"{partitions.schedule_type.value.lower()} from {first:%Y-%m-%d} {first.tzname()}, end offset {partitions.end_offset}"
    return f"dynamic {partitions.name}" if isinstance(partitions, dg.DynamicPartitionsDefinition) else "none"


def _dep(graph: Any, node: Any, parent: dg.AssetKey) -> str:
    mapping = node.partition_mappings.get(parent)
    mapping = mapping.windows if isinstance(mapping, LookBack) else mapping
    if not isinstance(mapping, dg.MultiPartitionMapping):
        return parent.to_user_string() + (f" by {type(mapping).__name__}" if mapping else "")
    windows = mapping.downstream_mappings_by_upstream_dimension["date"].partition_mapping
    return f"{parent.to_user_string()} [{windows.start_offset:+d}, {windows.end_offset:+d}]"


def test_the_asset_graph_is_the_golden_one(tmp_path: Path) -> None:
    settings = Settings(
        root=str(tmp_path),
        start="2017-08",
        binance_archive_url="http://127.0.0.1:9",
        binance_rest_url="http://127.0.0.1:9",
    )
    text = described(build_definitions(open_lake(settings)))
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), (
        "the graph changed: look at the difference, then run this test with GOLDEN=write"
    )


def test_a_deployed_asset_links_to_its_declaration_in_the_repository(tmp_path: Path) -> None:
    lake = open_lake(Settings(root=str(tmp_path)))
    source = Repository("https://github.com/acme/lakehouse", "v1")
    graph = build_definitions(lake, source=source).resolve_asset_graph()
    for table in lake.registry.tables:
        (found,) = graph.get(asset_key(table)).metadata["dagster/code_references"].code_references
        assert isinstance(found, dg.UrlCodeReference)
        assert found.url.startswith("https://github.com/acme/lakehouse/tree/v1/lakehouse/"), found.url
        path = found.url.removeprefix("https://github.com/acme/lakehouse/tree/v1/").partition("#")[0]
        assert (Path(__file__).parents[1] / path).is_file()


@pytest.mark.parametrize("url", ["https://example.com/acme/lakehouse", "git@github.com:acme/lakehouse", "x"])
def test_a_repository_that_cannot_be_linked_to_is_refused(url: str) -> None:
    with pytest.raises((ValueError, SettingError), match="LAKEHOUSE_GIT_URL"):
        Settings(git_url=url)
