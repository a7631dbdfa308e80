"""`lakehouse verify --stored`: what is damaged is named, made again from what is stored without the network,
or said to be lost.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.cli.report import status_rows
from lakehouse.cli.reporting import Report
from lakehouse.cli.stored import StoredReport, print_stored, repair, verify_stored
from lakehouse.model.errors import LakehouseError
from lakehouse.opening import open_lake
from lakehouse.ops.quality import DAMAGED, lake_quality
from lakehouse.pipeline.services import LakeServices
from lakehouse.query.lake import Lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse.storage.layout import ledger_path, parse_cell_path
from lakehouse.storage.verification import load_verification
from lakehouse_tests.conftest import CLOSED
from lakehouse_tests.defs.conftest import (
    API,
    BRONZE,
    BTC,
    ETH,
    GAP,
    HOURS,
    LISTED,
    NOW,
    SILVER,
    VWAP,
    WITNESS,
    Shell,
)

MARKET = "silver/market"
pytestmark = pytest.mark.slow


@dataclass
class Copy:
    """A lake of its own, whose exchange is gone."""

    lake: LakeServices
    instance: dg.DagsterInstance
    before: dict[str, str]

    def path(self, folder: str, ends: str = ".parquet", holds: str = "") -> str:
        """Some object below a folder."""
        return min(
            found.path
            for found in self.lake.objects.list(folder)
            if found.path.endswith(ends) and holds in found.path
        )

    def flip(self, path: str, place: float) -> None:
        """Change one bit at a share of the object's length."""
        body = bytearray(self.lake.objects.get(path) or b"")
        body[min(int(len(body) * place), len(body) - 1)] ^= 1 << random.Random(path).randrange(8)
        self.lake.objects.put(path, bytes(body))

    def verify(self) -> StoredReport:
        return verify_stored(self.lake, lambda cell: True, lambda what: None)

    def repair(self) -> StoredReport:
        report = self.verify()
        repair(self.lake, self.instance, report, lambda table, cells: None)
        return report

    def versions(self) -> dict[str, str]:
        return {
            f"{table.name} {cell}": record.version
            for table in self.lake.registry.tables
            if table.spread != "one"
            for cell, record in self.lake.ledger(table.name).items()
        }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with every zone: a hole that REST filled, a dispute that it settled; built by the product."""
    root = tmp_path_factory.mktemp("built") / "lake"
    with (
        Simulator(
            markets=LISTED,
            now=NOW,
            faults=["hole=*BTCUSDT-1m-2024-02*", "differing_row=*ETHUSDT-1m-2024-02*"],
        ) as sim,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        shell = Shell(lake_at(root, sim.url), instance)
        shell.build(VWAP, [BTC, ETH])
        shell.build(HOURS, [BTC, ETH])
    return root


def lake_at(root: Path, url: str) -> LakeServices:
    settings = Settings(root=str(root), start="2023-12", binance_archive_url=url, binance_rest_url=url)
    features = tuple(feature for feature in REGISTRY.features if feature.name in (HOURS, VWAP))
    return open_lake(settings, replace(REGISTRY, features=features), clock=lambda: NOW)


@pytest.fixture
def copy(built: Path, tmp_path: Path, instance: dg.DagsterInstance) -> Copy:
    shutil.copytree(built, tmp_path / "lake")
    lake = lake_at(tmp_path / "lake", CLOSED)
    made = Copy(lake, instance, {})
    made.before = made.versions()
    return made


def test_a_lake_as_it_was_written_is_sound(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    report = copy.verify()
    assert report.is_sound
    assert (report.inspection.damage, report.inspection.unsealed) == ([], 0)
    assert {BRONZE, SILVER, GAP, HOURS, VWAP, MARKET, "landing", "ledger"} <= report.inspection.checked.keys()
    print_stored(report, was_repaired=False, report=Report("table"))
    assert "Everything stored is as it was written." in capsys.readouterr().out


@pytest.mark.parametrize("place", [0.3, 0.97])
@pytest.mark.parametrize("table", [SILVER, GAP, HOURS, VWAP, BRONZE])
def test_what_is_damaged_is_made_again_without_the_network(copy: Copy, table: str, place: float) -> None:
    path = copy.path(table)
    copy.flip(path, place)
    found = copy.verify()
    assert [one.path for one in found.inspection.damage] == [path]
    assert not found.is_sound
    report = copy.repair()
    assert report.is_sound, report.left
    assert list(report.repaired) == [path]
    assert copy.versions() == copy.before
    assert copy.verify().inspection.damage == []


@pytest.mark.parametrize("table", [API, WITNESS])
def test_what_rest_answered_is_moved_aside_and_said_to_be_lost(copy: Copy, table: str) -> None:
    path = copy.path(table)
    copy.flip(path, 0.3)
    report = copy.repair()
    assert report.is_sound, report.left
    assert "kept nowhere else" in report.repaired[path]
    assert copy.lake.objects.get(path) is None
    assert copy.lake.objects.get(f"damaged/{path}") is not None
    again = copy.verify()
    assert again.is_sound
    rows = Lake(copy.lake.objects.root, copy.lake.registry)
    assert rows.candles(BTC, "2024-02", "2024-03").height > 0


@pytest.mark.parametrize(("ends", "why"), [(".zip", "its sha256 is"), (".json", "")])
def test_what_is_damaged_in_landing_is_moved_aside(copy: Copy, ends: str, why: str) -> None:
    path = copy.path("landing", ends)
    copy.flip(path, 0.5)
    found = copy.verify()
    assert path in [one.path for one in found.inspection.damage]
    assert why in next(one.why for one in found.inspection.damage if one.path == path)
    report = copy.repair()
    assert "the next build that needs the file fetches it again" in report.repaired[path]
    assert copy.versions() == copy.before, "cells do not need it"


def test_bronze_whose_files_are_damaged_too_cannot_be_made_again_and_says_why(copy: Copy) -> None:
    path = copy.path(BRONZE, holds="symbol=BTCUSDT")
    month = path.split("month=")[1][:7]
    for stored in list(copy.lake.objects.list("landing")):
        if f"BTCUSDT-1m-{month}" in stored.path and stored.path.endswith(".zip"):
            copy.flip(stored.path, 0.5)
    copy.flip(path, 0.3)
    report = copy.repair()
    assert not report.is_sound
    assert "cannot be read without the network" in next(one.left for one in report.left if one.path == path)
    table = copy.lake.registry.table(BRONZE)
    with pytest.raises(LakehouseError, match="is damaged"):
        copy.lake.tables.get(table, parse_cell_path(table, path))


def test_one_markets_cell_in_anothers_place_is_named_and_made_again(copy: Copy) -> None:
    ours, other = (
        copy.path(SILVER, holds=f"symbol={symbol}/month=2024-02") for symbol in ("BTCUSDT", "ETHUSDT")
    )
    copy.lake.objects.put(ours, copy.lake.objects.get(other) or b"")
    (one,) = copy.verify().inspection.damage
    assert (one.path, "it holds 2024-02|binance-spot:ETHUSDT of silver/candle" in one.why) == (ours, True)
    assert copy.repair().is_sound
    assert copy.versions() == copy.before


def test_a_damaged_ledger_is_removed_for_it_is_a_cache(copy: Copy) -> None:
    path = ledger_path(copy.lake.registry.table(SILVER))
    copy.flip(path, 0.5)
    assert [one.path for one in copy.verify().inspection.damage] == [path]
    assert copy.repair().is_sound
    assert copy.versions() == copy.before


def test_what_verify_finds_is_seen_by_status_quality_builds_and_a_check(copy: Copy) -> None:
    path = copy.path(SILVER, holds="symbol=BTCUSDT/month=2024-02")
    copy.flip(path, 0.3)
    reader = Lake(copy.lake.objects.root, copy.lake.registry)
    silver = copy.lake.registry.table(SILVER)

    def seen() -> list[object]:
        status = {row["table"]: row["damaged"] for row in status_rows(copy.lake)}[SILVER]
        unread = [found.unread for found in lake_quality(reader, silver, [BTC], NOW) if found.rows is None]
        check = Shell(copy.lake, copy.instance).check(SILVER)["schema"]
        return [status, unread, check.passed]

    assert seen() == [0, [], True], "nobody has looked at its rows"
    copy.verify()
    assert seen() == [1, [DAMAGED], False]
    known = load_verification(copy.lake.objects)
    assert known is not None
    assert [one.path for one in known.damage] == [path]
    copy.repair()
    assert seen() == [0, [], True]


def test_what_is_not_looked_at_stays_as_it_was_found(copy: Copy) -> None:
    copy.flip(copy.path(SILVER, holds="symbol=BTCUSDT"), 0.3)
    assert len(copy.verify().left) == 1
    of_eth: Callable[[object], bool] = lambda cell: cell is None or getattr(cell, "market", None) == ETH  # noqa: E731
    assert len(verify_stored(copy.lake, of_eth, lambda what: None).left) == 1
    assert copy.repair().left == []
