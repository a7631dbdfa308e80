"""A cache between here and the archive: what is listed is not yet what is served. A receipt records what was
answered, so the cell stays due, and heals by itself.
"""

import http.client
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lakehouse.datasets.candle import CandleArchive
from lakehouse.model.errors import FetchError, NoSourceError, OtherVersionError
from lakehouse.simulator import Simulator
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.making import FEBRUARY, NOW, ArchiveFolder, klines, text, zipped

from .conftest import Reading, fetched, serve
from .test_ingest_faults import LISTED

DAY = "2024-02-05"
HOUR = timedelta(hours=1)
OLD, NEW, NEWER = 300.0, 500.0, 700.0
FILES = {"zip": r"\.zip$", "CHECKSUM": r"\.CHECKSUM$", "both": r"\.zip"}


class Cache:
    """Stands before an archive; of files that it holds it gives what it saw first, with the headers of that,
    as often as told.
    """

    def __init__(self) -> None:
        self.port, self.holds, self.times = 0, "", 10**9
        self._kept: dict[str, tuple[dict[str, str], bytes]] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # two selves
                path, headers, body = unquote(handler.path), *self._ask(handler.path)
                if self.holds and self.times > 0 and re.search(self.holds, path) and path in self._kept:
                    headers, body = self._kept[path]
                    self.times -= handler.command == "GET"
                handler.send_response(int(headers["status"]))
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(b"" if handler.command == "HEAD" else body)

            do_HEAD = do_GET

            def log_message(handler, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _ask(self, path: str) -> tuple[dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        answer = connection.getresponse()
        kept = ("content-length", "date", "server")
        found = (
            {name: value for name, value in answer.getheaders() if name.lower() not in kept}
            | {"status": str(answer.status)},
            answer.read(),
        )
        connection.close()
        return found

    def see(self, *keys: str) -> None:
        """Keep files as they are now."""
        for path in (f"/data.binance.vision/{key}{end}" for key in keys for end in ("", ".CHECKSUM")):
            self._kept[path] = self._ask(path)

    @contextmanager
    def before(self, folder: ArchiveFolder) -> Iterator[Simulator]:
        """An exchange that has the folder's files, and is asked through the cache."""
        with serve(folder) as sim:
            self.port = int(sim.url.rsplit(":", 1)[-1])
            yield Through(sim, self.url)  # type: ignore[misc]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Through:
    """An exchange under another address."""

    def __init__(self, sim: Simulator, url: str) -> None:
        self.url = url
        self.requests = sim.requests


@pytest.fixture
def cache() -> Iterator[Cache]:
    found = Cache()
    yield found
    found.stop()


def publish(folder: ArchiveFolder, price: float, hour: int, is_shorter: bool = False) -> str:
    """The day at a price, uploaded at an hour."""
    csv = text(klines(DAY, 1440, price)[: 1440 - is_shorter])
    key = folder.key(DAY)
    folder.put_bytes(key, zipped((f"BTCUSDT-1m-{DAY}.csv", csv), compression=zipfile.ZIP_STORED))
    for path in (folder.root / key, folder.root / f"{key}.CHECKSUM"):
        os.utime(path, ((NOW + hour * HOUR).timestamp(),) * 2)
    return key


def price_of(reading: Reading) -> float:
    return float(reading.refine().rows["open"][0])


def kinds(record: CellRecord | None) -> list[str]:
    assert record is not None
    return [problem.kind for problem in record.facts.problems]


def spared(root: Path, folder: ArchiveFolder, *steps: tuple[float, int, bool]) -> Reading:
    """A lake that never saw the cache: what it read, and when."""
    other = Reading(LakeObjects(root))
    for price, hour, is_shorter in steps:
        publish(folder, price, hour, is_shorter)
        with serve(folder) as sim:
            other.ingest(sim, at=NOW + hour * HOUR)
    return other


def bronze_version(reading: Reading) -> str:
    stored = reading.tables.get(CandleArchive, FEBRUARY)
    assert stored is not None
    return stored.record.version


FAST = {
    ("s5cmd", "zip", False, True),
    ("s5cmd", "CHECKSUM", True, False),
    ("http", "both", True, False),
    ("http", "zip", True, True),
    ("s5cmd", "both", False, True),
}
WAYS = [
    pytest.param(
        *way,
        id="-".join(
            [*way[:2], "other_size" if way[2] else "same_size", "known_before" if way[3] else "fresh_lake"]
        ),
        marks=() if way in FAST else pytest.mark.slow,
    )
    for way in product(("http", "s5cmd"), FILES, (False, True), (False, True))
]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "what", "is_shorter", "knew"), WAYS)
def test_what_a_cache_holds_back_stays_due_until_it_is_served(
    reading: Reading,
    folder: ArchiveFolder,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
    what: str,
    is_shorter: bool,
    knew: bool,
) -> None:
    if way == "s5cmd":
        monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    key = publish(folder, OLD, 0)
    with cache.before(folder) as sim:
        cache.see(key)
        if knew:
            reading.ingest(sim)
            assert not reading.is_due(sim)
    publish(folder, NEW, 1, is_shorter)
    with cache.before(folder) as sim:
        cache.holds = FILES[what]
        seen = []
        for minute in (1, 2):
            if knew or what == "both":
                record = reading.ingest(sim, at=NOW + HOUR * minute)
                assert (kinds(record), price_of(reading)) == (["stale"], OLD), (
                    "serving stays with what there was, and says so"
                )
            else:
                with pytest.raises(
                    NoSourceError, match=r"sha256 is .* \| .*listed is version .* the next build asks again"
                ):
                    reading.ingest(sim, at=NOW + HOUR * minute)
                assert reading.paths("bronze") == []
            assert reading.is_due(sim), "what was answered is not what is listed"
            seen.append(len(reading.receipts()))
        assert seen == [1, 1], "what says nothing new leaves no receipt"
        assert all(receipt.state != reading.listing(sim).state(DAY) for receipt in reading.receipts())

        cache.holds = ""
        healed = reading.ingest(sim, at=NOW + HOUR * 3)
        assert (kinds(healed), price_of(reading), reading.is_due(sim)) == ([], NEW, False)
    other = spared(tmp_path / "spared", folder, *[(OLD, 0, False)] * knew, (NEW, 3, is_shorter))
    assert reading.refine().record.version == other.refine().record.version
    assert (bronze_version(reading) == bronze_version(other)) == (knew or what != "both"), (
        "but for the old values that a fresh lake was given first"
    )


@pytest.mark.parametrize("times", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_cache_that_forgets_after_some_requests_is_outlived(
    reading: Reading, folder: ArchiveFolder, cache: Cache, times: int
) -> None:
    key = publish(folder, OLD, 0)
    with cache.before(folder) as sim:
        cache.see(key)
        reading.ingest(sim)
    publish(folder, NEW, 1)
    with cache.before(folder) as sim:
        cache.holds, cache.times = FILES["both"], times
        builds = 0
        while reading.is_due(sim):
            builds += 1
            reading.ingest(sim, at=NOW + HOUR * builds)
    assert (builds, price_of(reading), [receipt.outcome for receipt in reading.receipts()]) == (
        (times + 1) // 2 + 1,
        NEW,
        ["ok", "ok"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["http", "s5cmd"])
def test_a_version_older_than_what_is_served_already_changes_nothing(
    reading: Reading, folder: ArchiveFolder, cache: Cache, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Two uploads later, a cache gives the first version: the second one stays, and its rows are not called
    the older ones.
    """
    if way == "s5cmd":
        monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    key = publish(folder, OLD, 0)
    with cache.before(folder) as sim:
        cache.see(key)
        reading.ingest(sim)
    publish(folder, NEW, 1)
    with cache.before(folder) as sim:
        reading.ingest(sim, at=NOW + HOUR)
    publish(folder, NEWER, 2)
    with cache.before(folder) as sim:
        cache.holds = FILES["both"]
        assert (kinds(reading.ingest(sim, at=NOW + 2 * HOUR)), price_of(reading), reading.is_due(sim)) == (
            ["stale"],
            NEW,
            True,
        )
        kept = next(
            path for path in reading.paths("landing") if path.endswith(f"{reading.receipts()[-1].sha256}.zip")
        )
        reading.objects.delete(kept)
        with pytest.raises(
            OtherVersionError, match=r"lists version \S+ and still serves \S+, which is no news; a cache"
        ) as told:
            reading.ingest(sim, at=NOW + 3 * HOUR)
        assert isinstance(told.value, FetchError)
        assert price_of(reading) == NEW, "what is stored stays"
        cache.holds = ""
        assert (kinds(reading.ingest(sim, at=NOW + 4 * HOUR)), price_of(reading), reading.is_due(sim)) == (
            [],
            NEWER,
            False,
        )
    assert len(reading.receipts()) == 3


@pytest.mark.slow
def test_a_version_between_what_is_stored_and_what_is_listed_is_news(
    reading: Reading, folder: ArchiveFolder, cache: Cache
) -> None:
    publish(folder, OLD, 0)
    with cache.before(folder) as sim:
        reading.ingest(sim)
    key = publish(folder, NEW, 1)
    with cache.before(folder) as sim:
        cache.see(key)
    publish(folder, NEWER, 2)
    with cache.before(folder) as sim:
        cache.holds = FILES["both"]
        assert (kinds(reading.ingest(sim, at=NOW + HOUR)), price_of(reading), reading.is_due(sim)) == (
            ["stale"],
            NEW,
            True,
        )
        cache.holds = ""
        assert (kinds(reading.ingest(sim, at=NOW + 2 * HOUR)), price_of(reading), reading.is_due(sim)) == (
            [],
            NEWER,
            False,
        )


@pytest.mark.slow
def test_a_checksum_that_alone_was_corrected_is_waited_for(
    reading: Reading, folder: ArchiveFolder, cache: Cache
) -> None:
    key = publish(folder, OLD, 0)
    body = (folder.root / key).read_bytes()
    folder.put_bytes(key, body, f"{'0' * 64}  BTCUSDT-1m-{DAY}.zip\n")
    with cache.before(folder) as sim:
        cache.see(key)
        with pytest.raises(NoSourceError):
            reading.ingest(sim)
    folder.put_bytes(key, body)
    with cache.before(folder) as sim:
        cache.holds = FILES["CHECKSUM"]
        with pytest.raises(NoSourceError, match="the next build asks again"):
            reading.ingest(sim, at=NOW + HOUR)
        cache.holds = ""
        assert kinds(reading.ingest(sim, at=NOW + 2 * HOUR)) == []
    assert [receipt.outcome for receipt in reading.receipts()] == ["mismatch", "ok"]


# --- by the simulated exchange, whose ETags are no MD5 --------------------------------------------

DAILY = "*daily*2024-02-0?.zip"
DAILIES: Callable[[], Simulator] = lambda: Simulator(markets=(LISTED,), now=NOW, faults=("monthly_absent=*",))  # noqa: E731


@pytest.mark.slow
def test_a_large_batch_asks_for_nothing_twice_though_no_md5_proves_it(reading: Reading) -> None:
    with DAILIES() as sim:
        reading.ingest(sim)
        asked = [path for method, path in sim.requests if method == "GET" and ".zip" in path]
        assert (len(asked), len(set(asked)), len(fetched(sim))) == (58, 58, 58)


@pytest.mark.slow
@pytest.mark.parametrize(
    "files",
    [DAILY, *(pytest.param(f"{DAILY}{end}", marks=pytest.mark.slow) for end in (".CHECKSUM", "*"))],
    ids=FILES,
)
def test_days_of_a_large_batch_that_a_cache_holds_back_heal_alone(
    reading: Reading, tmp_path: Path, files: str
) -> None:
    spared = Reading(LakeObjects(tmp_path / "spared"))
    with DAILIES() as sim:
        for lake in (reading, spared):
            lake.ingest(sim)
        before = reading.refine().rows
        sim.add_fault(f"stale={files}")
        record = reading.ingest(sim, at=NOW + HOUR)
        assert (kinds(record), set(sim.faults_hit) - {"reupload"}) == (
            ["stale"] * 9,
            {"monthly_absent", "stale"},
        )
        assert reading.refine().rows.equals(before)
        assert reading.is_due(sim)
        sim.clear_faults()
        sim.add_fault("monthly_absent=*")
        sim.add_fault(f"reupload={DAILY}")
        for lake in (reading, spared):
            assert kinds(lake.ingest(sim, at=NOW + 2 * HOUR)) == []
            assert not lake.is_due(sim)
    assert bronze_version(reading) == bronze_version(spared)
    assert not reading.refine().rows.equals(before)
