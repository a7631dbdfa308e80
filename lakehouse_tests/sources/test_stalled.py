"""A transfer that stands still is ended and taken up another way; what was believed of a market never hides
what is published.
"""

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lakehouse.datasets.candle import CANDLE, CandleArchive
from lakehouse.exchanges.binance import Binance
from lakehouse.model.cell import Cell
from lakehouse.ops.findings import check_gaps, holes
from lakehouse.simulator import Simulator
from lakehouse.sources.files.batch import Batch
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.storage.ledger import ledger
from lakehouse.storage.objects import LakeObjects
from lakehouse.storage.outcome import Change
from lakehouse.storage.tables import TableStore
from lakehouse_tests.making import BTC, FEBRUARY, NOW, facts

BODY = b"x" * 4096


class Sluggish(BaseHTTPRequestHandler):
    """Sends half of a file to s5cmd, and then nothing; whole files to the client that reads listings."""

    protocol_version = "HTTP/1.1"
    let_go = threading.Event()

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()
        if "object_store" in self.headers["User-Agent"]:
            self.wfile.write(BODY)
        else:
            self.wfile.write(BODY[:100])
            self.wfile.flush()
            self.let_go.wait(30)

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("Last-Modified", "Mon, 05 Feb 2024 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def sluggish() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sluggish)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Sluggish.let_go.set()
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_transfer_that_stands_still_is_ended_and_taken_up_by_plain_http(
    sluggish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    monkeypatch.setattr("lakehouse.sources.files.batch._STALLED_AFTER", 1.0)
    with Batch(ArchiveClient(sluggish, "bucket"), ["data/a.zip", "data/b.zip"]) as batch:
        assert [batch.wait(key).body for key in ("data/a.zip", "data/b.zip")] == [BODY, BODY]


def test_months_of_a_market_that_was_thought_ended_are_read_all_the_same(
    exchange: Simulator, objects: LakeObjects
) -> None:
    binance = Binance(exchange.url)
    listing = list_market(
        ArchiveClient(binance.archive_url, binance.bucket),
        binance,
        CandleArchive.name,
        BTC,
        FEBRUARY.window,
        NOW,
    )
    believed = {BTC: facts(delisted="2023-06-01")}
    ((cell, outcome),) = ingest(
        CANDLE, binance, [FEBRUARY], {BTC: listing}, believed, {}, objects, lambda: NOW
    )
    assert cell == FEBRUARY
    assert isinstance(outcome, Change)
    record = TableStore(objects).update(CandleArchive, cell, outcome.apply)
    assert record is not None
    assert record.rows == 29 * 1440


def test_a_month_between_others_of_which_nothing_is_stored_is_a_finding(
    exchange: Simulator, objects: LakeObjects
) -> None:
    binance, store = Binance(exchange.url), TableStore(objects)
    cells = [Cell(month, BTC) for month in ("2023-10", "2023-12")]
    for cell in cells:
        listing = list_market(
            ArchiveClient(binance.archive_url, binance.bucket),
            binance,
            CandleArchive.name,
            BTC,
            cell.window,
            NOW + timedelta(days=1),
        )
        ((_, outcome),) = ingest(CANDLE, binance, [cell], {BTC: listing}, {}, {}, objects, lambda: NOW)
        assert isinstance(outcome, Change)
        store.update(CandleArchive, cell, outcome.apply)
    stored = ledger(objects, CandleArchive)
    assert holes(stored) == [Cell("2023-11", BTC)]
    verdict = check_gaps(stored, NOW)
    assert (verdict.passed, verdict.severity, [finding.cell for finding in verdict.findings]) == (
        False,
        "error",
        ["2023-11|binance-spot:BTCUSDT"],
    )
