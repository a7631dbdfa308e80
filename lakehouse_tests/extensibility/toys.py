"""What all toys do: publish files, answer as a REST API, open a lake, build it, and look wherever tables are
shown.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dagster as dg

from lakehouse.cli.building import Builder
from lakehouse.datasets.dataset import Dataset
from lakehouse.definitions import build_definitions
from lakehouse.defs.describe import asset_key
from lakehouse.exchanges.exchange import Exchange
from lakehouse.model.feature import Feature
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.opening import open_lake
from lakehouse.ops.docs import tables_page
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse_tests.making import zipped

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Answer = Callable[[Mapping[str, str]], Any]
"""What an endpoint answers to a query."""


def seconds(instant: datetime) -> int:
    """An instant as the toys' files write it."""
    return int(instant.timestamp())


def milliseconds(instant: datetime) -> int:
    """An instant as REST APIs write it; between two milliseconds the later: the earlier would ask for a row
    again.
    """
    return -((EPOCH - instant) // timedelta(milliseconds=1))


def from_milliseconds(text: str) -> datetime:
    """The inverse of `milliseconds`."""
    return datetime.fromtimestamp(int(text) / 1000, UTC)


def put(folder: Path, key: str, lines: Iterable[str]) -> None:
    """Publish a file of an archive: a zip with one CSV, and its CHECKSUM beside it."""
    path = folder / "files" / key
    body = zipped((path.stem + ".csv", "".join(f"{line}\n" for line in lines).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    Path(f"{path}.CHECKSUM").write_text(f"{hashlib.sha256(body).hexdigest()}  {path.name}\n")


@contextmanager
def answering(endpoints: Mapping[str, Answer]) -> Iterator[str]:
    """A REST API on this machine: JSON with status 200 by the path's end, 404 for any other. Yields its
    address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            answer = next((endpoints[end] for end in endpoints if parts.path.endswith(end)), None)
            body = json.dumps(answer(dict(parse_qsl(parts.query))) if answer else {"gone": 404}).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def toy_lake(
    folder: Path,
    exchange: type[Exchange],
    now: datetime,
    datasets: tuple[Dataset, ...] = (),
    features: tuple[type[Feature], ...] = (),
    rest_url: str | None = None,
) -> Iterator[LakeServices]:
    """A lake that knows toys beside all that is declared, over what `put` published in the folder.

    Args:
        folder: Where the files are, and where the lake comes to lie.
        exchange: The only exchange it has.
        now: The exchange's and the lake's clock.
        datasets: Toys.
        features: Toys.
        rest_url: Address of the exchange's REST API, if it has one.
    """
    registry = replace(
        REGISTRY,
        datasets=(*REGISTRY.datasets, *datasets),
        features=(*REGISTRY.features, *features),
    )
    (folder / "files").mkdir(exist_ok=True)
    with Simulator(markets=(), now=now, files=folder / "files") as sim:
        yield open_lake(
            Settings(root=str(folder / "lake"), start="2024-01"),
            registry,
            {exchange.name: exchange(sim.url, rest_url)},
            clock=lambda: now,
        )


def build(
    lake: LakeServices, table: str, markets: list[Market], start: str, end: str
) -> dict[str, dict[str, str]]:
    """Build a table and all upstream of it, hold that nothing failed, that every cell is as declared by what
    the check of each table says, and that a second build finds nothing due.

    Returns:
        By table, the version of each cell that Dagster has, by partition key.
    """
    span = TimeRange.parse(start, end)
    with dg.DagsterInstance.ephemeral() as instance:
        reports = Builder(lake, instance).build(lake.registry.named(table), markets, span)
        assert {report.table: report.failed for report in reports if report.failed} == {}
        again = Builder(lake, instance).build(lake.registry.named(table), markets, span)
        assert {report.table: report.built for report in again if report.built} == {}
        keys = [dg.AssetCheckKey(asset_key(report.table), "schema") for report in reports if report.built]
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        assert {key.asset_key.to_user_string(): latest[key].status.value for key in keys} == {
            key.asset_key.to_user_string(): "SUCCEEDED" for key in keys
        }
        return {
            report.table: {
                str(cell): version
                for cell, version in _versions(instance, report.table).items()
                if version != "none"
            }
            for report in reports
        }


def _versions(instance: dg.DagsterInstance, table: str) -> dict[str, str]:
    """The data version of every partition of an asset that was materialized."""
    keys = sorted(instance.get_materialized_partitions(asset_key(table)))
    found = {}
    for key in keys:
        event = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key(table), asset_partitions=[key]), limit=1
        ).records[0]
        materialization = event.asset_materialization
        assert materialization is not None
        found[key] = (materialization.tags or {})["dagster/data_version"]
    return found


def tables_above(lake: LakeServices, parents: Iterable[dg.AssetKey]) -> set[str]:
    """The tables among the assets above one: above bronze are sources as well, above silver
    `silver/market`.
    """
    return {key.to_user_string() for key in parents} & {table.name for table in lake.registry.tables}


def require_shown(lake: LakeServices, name: str, partitions: list[str]) -> None:
    """Hold that a table is shown wherever tables are: as asset, in checks, column schema, docs, Glue and SQL,
    before anything of it is stored.

    Args:
        lake: An empty lake.
        name: Of the table.
        partitions: The columns that stand in its path.
    """
    table = lake.registry.table(name)
    graph = build_definitions(lake).resolve_asset_graph()
    node = graph.get(asset_key(name))
    assert tables_above(lake, node.parent_keys) >= set(table.input_names())
    assert tables_above(lake, node.parent_keys) - set(table.input_names()) <= {"silver/market"}
    assert {column.name for column in node.metadata["dagster/column_schema"].columns} == set(table.names())
    assert dg.AssetCheckKey(asset_key(name), "schema") in graph.asset_check_keys
    assert f"## {name}\n" in tables_page(lake.registry)
    assert [column["Name"] for column in table.glue_columns()] == table.names()
    Path(lake.objects.uri("landing")).mkdir(parents=True, exist_ok=True)  # an empty lake
    view = Lake(lake.objects.root, lake.registry).sql(f"SELECT * FROM {name.replace('/', '.')}")
    assert view.columns == [*table.names(), *partitions]
    assert view.height == 0
