"""The versions of every cell of the demo's lake and of recorded files, as text: whoever changes one sees in a
diff which.

A line names lake, table and cell; then the version, the digest of what the cell says beside its rows, and the
names of its inputs. `GOLDEN=write pytest lakehouse_tests/test_golden_versions.py` writes the file anew. A
changed line is argued for in the commit that changes it.
"""

import gzip
import hashlib
import os
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.building import Builder
from lakehouse.cli.demo import EXCHANGE_MARKETS, FAULTS, MARKETS, SPAN
from lakehouse.datasets.dataset import ApiTable
from lakehouse.model.market import Market
from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange
from lakehouse.pipeline.services import LakeServices
from lakehouse.simulator import Simulator
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.faults.lab import lake_at
from lakehouse_tests.making import ArchiveFolder, at

GOLDEN = Path(__file__).parent / "golden" / "versions.txt"
RECORDED = {"NEARUSDT": ("2024-02", "2025-02"), "LTCUSDT": ("2026-02",)}
AFTER_THE_DEMO, AFTER_THE_RECORDINGS = at("2025-02-20T12:30"), at("2026-03-20T12:30")


def described(name: str, lake: LakeServices) -> list[str]:
    """A line per stored cell."""
    tables = [table for table in lake.registry.tables if table.spread != "one"]
    return [
        _line(name, lake, table, record) for table in tables for record in lake.ledger(table.name).values()
    ]


def _line(name: str, lake: LakeServices, table: type[Table], record: CellRecord) -> str:
    version = record.version
    # its rows name the address of the API and the instant of the answer, which are others in every run
    if issubclass(table, ApiTable):
        stored = lake.tables.get(table, record.cell)
        assert stored is not None
        told = stored.rows.drop("source_file", "fetched_at").write_csv() + record.facts.answers()
        version = hashlib.sha256(told.encode()).hexdigest()
    return f"{name} {table.name} {record.cell} {version[:16]} {record.facts.digest()[:16]} {' '.join(sorted(record.inputs))}".rstrip()


def recorded_folder(root: Path, real_data: Path) -> ArchiveFolder:
    """Recorded files by archive key: spot days as published, futures months zipped anew."""
    folder = ArchiveFolder(root)
    for path in (real_data / "binance_archive").rglob("*BTCUSDT-1m-*.zip"):
        folder.put_bytes(path.relative_to(real_data / "binance_archive").as_posix(), path.read_bytes())
    for symbol, months in RECORDED.items():
        for month in months:
            csv = gzip.decompress((real_data / "isda_um_1m" / f"{symbol}-1m-{month}.csv.gz").read_bytes())
            folder.put(month, csv, Market("binance", "linear", symbol))
    return folder


@pytest.mark.slow
def test_the_versions_of_the_demo_and_of_recorded_files_are_the_golden_ones(
    tmp_path: Path, real_data: Path
) -> None:
    markets = [
        market
        for market in EXCHANGE_MARKETS
        if f"{market.exchange}-{market.market_type}:{market.symbol}" in MARKETS
    ]
    with (
        Simulator(markets=markets, now=AFTER_THE_DEMO, faults=tuple(FAULTS)) as sim,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        demo = lake_at(tmp_path / "demo", sim.url, lambda: AFTER_THE_DEMO)
        reports = Builder(demo, instance).build(
            demo.registry.named("gold"), [Market.parse(key) for key in MARKETS], TimeRange.parse(*SPAN)
        )
        assert not any(report.failed for report in reports)
        lines = described("demo", demo)
    files = recorded_folder(tmp_path / "files", real_data).root
    with (
        Simulator(markets=(), now=AFTER_THE_RECORDINGS, files=files) as sim,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        recorded = lake_at(tmp_path / "recorded", sim.url, lambda: AFTER_THE_RECORDINGS, start="2020-01")
        for market, months in [
            (Market("binance", "spot", "BTCUSDT"), ("2020-01",)),
            *((Market("binance", "linear", symbol), months) for symbol, months in RECORDED.items()),
        ]:
            for month in months:
                reports = Builder(recorded, instance).build(
                    recorded.registry.named("gold"), [market], TimeRange.parse(f"{month}-01", f"{month}-02")
                )
                assert not any(report.failed for report in reports)
        lines += described("recorded", recorded)
    text = "".join(f"{line}\n" for line in lines)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), (
        "versions changed: look at the difference, argue for it, then run this test with GOLDEN=write"
    )
