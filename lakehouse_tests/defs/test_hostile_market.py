"""A market whose answers have no end fails alone: the others of the same build are built as if it were not
there.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse.model.cell import Cell
from lakehouse.opening import open_lake
from lakehouse.pipeline.services import LakeServices
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse.simulator import Simulator
from lakehouse_tests.hostile_server import (
    ENTRY,
    HEAD,
    Act,
    Handler,
    Hostile,
    goes_on,
    hostile,
    new_pages,
    says,
)
from lakehouse_tests.making import zipped

from .conftest import BRONZE, BTC, ETH, NOW, START, Shell, grid

pytestmark = pytest.mark.slow

FOLDER = "data/spot/monthly/klines/ETHUSDT/1m/"
ZIP = r"ETHUSDT-1m-2024-02\.zip$"
BAD = Cell("2024-02", ETH)


@pytest.fixture
def before(sim: Simulator) -> Iterator[Hostile]:
    with hostile(sim.url) as server:
        yield server


@pytest.fixture
def lake(before: Hostile, tmp_path: Path) -> LakeServices:
    settings = Settings(
        root=str(tmp_path / "lake"), start=START, binance_archive_url=before.url, binance_rest_url=before.url
    )
    return open_lake(settings, replace(REGISTRY, features=()), clock=lambda: NOW)


def gigabytes(handler: Handler) -> None:
    handler.begin(
        {"Content-Length": 10_000_000_000, "ETag": '"e"', "Last-Modified": "Wed, 01 May 2024 00:00:00 GMT"}
    )
    for _ in range(10_000 if handler.command == "GET" else 0):
        handler.wfile.write(b"x" * 1_000_000)


def endless_checksum(handler: Handler) -> None:
    handler.begin(
        {"Content-Length": 50_000_066, "ETag": '"e"', "Last-Modified": "Wed, 01 May 2024 00:00:00 GMT"}
    )
    handler.wfile.write(b"0" * 64 + b"  " + b"x" * (50_000_000 if handler.command == "GET" else 0))


def bomb(handler: Handler) -> None:
    """A month of zeros, far more than a month can be."""
    body = zipped(("ETHUSDT-1m-2024-02.csv", bytes(100_000_000)))
    if handler.path.endswith(".CHECKSUM"):
        body = f"{hashlib.sha256(body).hexdigest()}  ETHUSDT-1m-2024-02.zip\n".encode()
    says(
        body,
        ETag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
        Last_Modified="Wed, 01 May 2024 00:00:00 GMT",
    )(handler)


HOSTILE: dict[str, tuple[str, Act, set[Cell]]] = {
    "a_listing_without_end": (
        f"prefix={FOLDER}",
        goes_on(HEAD.format("true").encode(), ENTRY.format("x").encode()),
        grid([ETH]),
    ),
    "pages_for_ever": (f"prefix={FOLDER}", new_pages(f"{FOLDER}{{:09}}", 900), grid([ETH])),
    "a_body_without_end": (ZIP, gigabytes, {BAD}),
    "a_checksum_of_50_mb": (rf"{ZIP[:-1]}\.CHECKSUM", endless_checksum, {BAD}),
    "a_zip_of_zeros": (ZIP[:-1], bomb, set()),  # found to be corrupt, and made from its days
}


FAST = ("a_listing_without_end", "a_body_without_end")


@pytest.mark.parametrize(
    ("pattern", "act", "failed"),
    [
        pytest.param(*case, id=name, marks=() if name in FAST else pytest.mark.slow)
        for name, case in HOSTILE.items()
    ],
)
def test_a_market_without_bounds_fails_alone(
    shell: Shell, lake: LakeServices, before: Hostile, pattern: str, act: Act, failed: set[Cell]
) -> None:
    before.acts = [(pattern, act)]
    began = time.monotonic()
    report = shell.build(BRONZE, [BTC, ETH])[BRONZE]
    assert time.monotonic() - began < 30
    assert set(report.failed) == {str(cell) for cell in failed}
    assert all(why.isprintable() and len(why) < 1000 for why in report.failed.values())
    assert set(lake.ledger(BRONZE)) >= grid([BTC])
    if not failed:
        problem = lake.ledger(BRONZE)[BAD].facts.problems[0]
        assert (problem.kind, problem.detail, problem.healed_by) == (
            "corrupt",
            "its member inflates to more than the cap of 67,108,864 bytes.",
            "29 daily files",
        )
