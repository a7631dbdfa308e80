"""What answers in the archive's place, a network's login page above all, says nothing of the archive: nothing
is kept of it, and once it is gone all is as if it had not been.
"""

import hashlib
import http.client
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from lakehouse.datasets.candle import CANDLE, CandleArchive
from lakehouse.exchanges.binance import Binance
from lakehouse.model.errors import FetchError, ListingUnreachableError, NotTheFileError
from lakehouse.simulator import Simulator
from lakehouse.sources.files.ingest import ingest
from lakehouse.sources.files.listing import list_market
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.markets import discover
from lakehouse.sources.rest.clients import RestClients
from lakehouse.storage.outcome import Change, Failed
from lakehouse.storage.tables import CellRecord
from lakehouse_tests.making import BTC, FEBRUARY, NOW, ArchiveFolder, facts, klines, text, zipped

from .conftest import BRONZE, Reading, serve

pytestmark = pytest.mark.slow

DAY = "2024-02-05"
# well-formed, as XHTML is: a page that is not is easier to tell from a listing
PAGE = b"<html><body>Welcome. Please log in.</body></html>"
LINES = klines(DAY, 1440)
ENTRY = "<Contents><Key>{}</Key><LastModified>2024-03-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>9</Size></Contents>"
LISTING = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>{}</IsTruncated>{}</ListBucketResult>'


class Portal:
    """Stands before an archive and answers in its place, with status 200, every request in whose path
    `page_for` is found.
    """

    def __init__(self, port: int) -> None:
        self.page, self.page_for, self.asked = PAGE, "", 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # two selves
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request(handler.command, handler.path, headers=dict(handler.headers))
                answer = connection.getresponse()
                body, sent = (
                    answer.read(),
                    {
                        name: value
                        for name, value in answer.getheaders()
                        if name.lower() not in ("content-length", "date", "server")
                    },
                )
                status, length = answer.status, answer.getheader("Content-Length") or "0"
                if self.page_for and re.search(self.page_for, unquote(handler.path)):
                    status, body, sent, length = (
                        200,
                        self.page,
                        {"Content-Type": "text/html"},
                        str(len(self.page)),
                    )
                    self.asked += 1
                handler.send_response(status)
                for name, value in {**sent, "Content-Length": length}.items():
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

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Behind:
    """A lake that reads an archive through a portal."""

    def __init__(self, reading: Reading, sim: Simulator) -> None:
        self.reading, self.portal = reading, Portal(urlsplit(sim.url).port or 0)

    def build(self) -> CellRecord:
        """Read the month of February and store it; errors are raised."""
        client = ArchiveClient(self.portal.url, Binance.bucket)
        exchange = Binance(self.portal.url, "http://127.0.0.1:9")
        listing = list_market(client, exchange, BRONZE, BTC, FEBRUARY.window, NOW)
        ((_, outcome),) = ingest(
            CANDLE, exchange, [FEBRUARY], {BTC: listing}, {}, {}, self.reading.objects, lambda: NOW
        )
        if isinstance(outcome, Failed):
            raise outcome.error
        assert isinstance(outcome, Change)
        return self.reading.tables.update(CandleArchive, FEBRUARY, outcome.apply)


@pytest.fixture
def behind(reading: Reading, folder: ArchiveFolder) -> Iterator[Behind]:
    """Behind a portal lies one day of February."""
    folder.put(DAY, text(LINES))
    with serve(folder) as sim:
        found = Behind(reading, sim)
        yield found
        found.portal.stop()


def padded(page: bytes, size: int) -> bytes:
    return page[:size].ljust(size)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["http", "s5cmd"])
@pytest.mark.parametrize(
    ("what", "expected"),
    [(r"\.zip$", "a zip of"), (r"\.CHECKSUM$", "a line of digest and name of"), (r"\.zip", "a zip of")],
)
def test_a_page_in_place_of_a_file_fails_its_cell_and_leaves_nothing(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, what: str, expected: str, way: str
) -> None:
    if way == "s5cmd":
        monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    behind.portal.page_for = what
    with pytest.raises(
        NotTheFileError,
        match=rf"expected {expected} [\d,]+ bytes, what came has 49 bytes, beginning '<html>.*run the same build again",
    ) as told:
        behind.build()
    assert isinstance(told.value, FetchError)
    assert behind.portal.asked
    assert (behind.reading.paths("landing"), behind.reading.paths("bronze")) == ([], [])
    behind.portal.page_for = ""
    record = behind.build()
    assert (record.rows, record.facts.problems) == (1440, ())
    assert [receipt.outcome for receipt in behind.reading.receipts()] == ["ok"]


@pytest.mark.parametrize("kind", ["zip", "CHECKSUM"])
def test_a_page_that_happens_to_have_the_listed_size_is_seen_for_what_it_is(
    behind: Behind, folder: ArchiveFolder, kind: str
) -> None:
    size = (folder.root / f"{folder.key(DAY)}{'' if kind == 'zip' else '.CHECKSUM'}").stat().st_size
    behind.portal.page, behind.portal.page_for = padded(PAGE, size), f"{kind}$"
    with pytest.raises(NotTheFileError, match=f"what came has {size:,} bytes, beginning '<html>"):
        behind.build()
    assert behind.reading.paths("landing") == []


@pytest.mark.parametrize(
    "page",
    [b"", b"\r\n", b'{"error":"login"}', zipped(("login.html", PAGE))],
    ids=["nothing", "newline", "json", "another_zip"],
)
def test_anything_of_another_size_is_not_the_file(behind: Behind, page: bytes) -> None:
    behind.portal.page, behind.portal.page_for = page, "zip$"
    with pytest.raises(NotTheFileError, match="an empty answer" if not page else "beginning"):
        behind.build()
    assert behind.reading.paths("landing") == []


def test_other_bytes_of_the_listed_size_that_are_a_zip_stay_a_mismatch(
    behind: Behind, folder: ArchiveFolder
) -> None:
    """A zip of just that size is what the archive has, replaced or damaged: no page looks like it."""
    size = (folder.root / folder.key(DAY)).stat().st_size
    behind.portal.page, behind.portal.page_for = padded(zipped(("other.csv", b"")), size), "zip$"
    with pytest.raises(Exception, match="sha256 is"):
        behind.build()
    assert [receipt.outcome for receipt in behind.reading.receipts()] == ["mismatch"]


def test_rubbish_that_is_published_is_told_apart_by_its_md5(reading: Reading, folder: ArchiveFolder) -> None:
    """It is what the archive has: to ask for it again at every build would be in vain, and daily files are
    tried instead.
    """
    market, month = facts(listed="2024-02-29"), klines("2024-02-29", 1440)
    folder.put("2024-02-29", text(month))
    folder.put_bytes(folder.key("2024-02"), PAGE, "0" * 64 + "  BTCUSDT-1m-2024-02.zip\n")
    with serve(folder) as sim:
        first = reading.ingest(sim, market=market)
    folder.put_bytes(folder.key("2024-02"), zipped(("BTCUSDT-1m-2024-02.csv", text(month))), PAGE.decode())
    with serve(folder) as sim:
        second = reading.ingest(sim, market=market)
    for record in (first, second):
        assert record is not None
        assert [(problem.kind, problem.healed_by) for problem in record.facts.problems] == [
            ("mismatch", "1 daily files")
        ]


# --- listings -------------------------------------------------------------------------------------

ANSWERS = {
    "html": (PAGE, "its root is html"),
    "html_that_is_no_xml": (
        b"<!DOCTYPE html><html><br><body>Log in</body></html>",
        "a document type of its own",
    ),
    "text": (b"Log in first", "syntax error"),
    "json": (b'{"contents":[]}', "not well-formed"),
    "nothing": (b"", "no element found"),
    "an_error_with_status_200": (b"<Error><Code>AccessDenied</Code></Error>", "its root is Error"),
    "a_listing_without_sizes": (
        LISTING.format("false", "<Contents><Key>a</Key></Contents>").encode(),
        "ETag",
    ),
}


@pytest.mark.parametrize(("page", "why"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("frequency", ["monthly", "daily"])
def test_what_is_no_listing_is_no_empty_archive(
    behind: Behind, page: bytes, why: str, frequency: str
) -> None:
    """The store takes well-formed XML of any kind for a listing without keys."""
    behind.portal.page, behind.portal.page_for = page, f"prefix=.*/{frequency}/"
    with pytest.raises(
        ListingUnreachableError, match=f"what it answered is no listing .*({why}).*, it begins '"
    ):
        behind.build()
    assert behind.reading.paths("") == []
    behind.portal.page_for = ""
    assert behind.build().rows == 1440


def test_a_market_is_not_unknown_because_a_page_answered(behind: Behind) -> None:
    behind.portal.page_for = "prefix="
    with pytest.raises(
        ListingUnreachableError,
        match=r"what it answered is no listing \(its root is html\), it begins '<html><body>Welcome",
    ):
        discover(
            Binance(behind.portal.url, "http://127.0.0.1:9"),
            [CANDLE],
            [BTC],
            behind.reading.objects,
            RestClients(Binance(behind.portal.url, "http://127.0.0.1:9")),
            lambda: NOW,
        )


def test_a_page_in_place_of_the_second_page_of_a_listing_does_not_end_it(
    reading: Reading, folder: ArchiveFolder
) -> None:
    place = folder.key("2024-02").rsplit("/", 1)[0]
    for number in range(1500):
        (folder.root / place).mkdir(parents=True, exist_ok=True)
        (folder.root / f"{place}/{number:04}.zip").write_bytes(b"x")
    with serve(folder) as sim:
        behind = Behind(reading, sim)
        client = ArchiveClient(behind.portal.url, Binance.bucket)
        assert len(list(client.objects(f"{place}/"))) == 1500
        behind.portal.page_for = "continuation-token="
        assert len(list(client.objects(f"{place}/"))) == 1500, "the rest is asked for plainly"
        behind.portal.page_for = "continuation-token=|start-after="
        with pytest.raises(ListingUnreachableError, match="its root is html"):
            list(client.objects(f"{place}/"))
        behind.portal.stop()


def test_an_archive_without_a_file_is_still_that(behind: Behind, folder: ArchiveFolder) -> None:
    client = ArchiveClient(behind.portal.url, Binance.bucket)
    assert list(client.objects("data/spot/monthly/klines/BTCUSDT/1m/")) == []
    assert [listed.key for listed in client.objects("data/spot/daily/klines/BTCUSDT/1m/")] == [
        folder.key(DAY),
        f"{folder.key(DAY)}.CHECKSUM",
    ]
    assert hashlib.md5((folder.root / folder.key(DAY)).read_bytes(), usedforsecurity=False).hexdigest() in {
        listed.etag for listed in client.objects("data/")
    }


@pytest.mark.parametrize(
    "odd", ["data//x.zip", "data/../x.zip", "data/./x.zip", "data/x&#10;.zip", "data/x%01.zip"]
)
def test_one_key_that_could_be_no_path_hides_no_other(behind: Behind, odd: str) -> None:
    encoded = "<EncodingType>url</EncodingType>" if "%" in odd else ""
    behind.portal.page = LISTING.format(
        "false", encoded + ENTRY.format("data/a.zip") + ENTRY.format(odd) + ENTRY.format("data/z.zip")
    ).encode()
    behind.portal.page_for = "list-type=2"
    keys = [listed.key for listed in ArchiveClient(behind.portal.url, Binance.bucket).objects("data/")]
    assert (keys[0], keys[-1], len(keys)) == ("data/a.zip", "data/z.zip", 3)
