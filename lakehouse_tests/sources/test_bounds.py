"""Answers that have no end, come drop by drop, grow when they are opened, or lead elsewhere: each is left
after what it may cost, and told for what it is.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.exchanges.binance import Binance
from lakehouse.exchanges.binance.klines import parse_klines
from lakehouse.model.errors import (
    CsvTooLongError,
    FetchError,
    ListedTooLargeError,
    ListingBoundsError,
    ListingUnreachableError,
    RestUnreachableError,
)
from lakehouse.model.interval import MINUTE
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.files import transport
from lakehouse.sources.files.batch import Batch
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.rest import bounded
from lakehouse.sources.rest.bounded import BoundError, Bounds, beyond_bounds, session
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.describing import describe
from lakehouse_tests.hostile_server import (
    ENTRY,
    HEAD,
    Act,
    Handler,
    Hostile,
    drips,
    drips_headers,
    goes_on,
    gzip_of,
    hostile,
    new_pages,
    says,
    sends_on,
)
from lakehouse_tests.making import BTC, HEADER, NOW, ArchiveFolder, klines, text, zipped
from lakehouse_tests.sources.canned import candles_by

from .conftest import Reading, serve

pytestmark = pytest.mark.slow

PREFIX = "data/spot/daily/klines/BTCUSDT/1m/"
SPAN = TimeRange.parse("2024-04-01", "2024-04-01T00:10")


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as listening:
        yield listening


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of time that a test can wait for; the real ones are tried by the slow tests."""
    monkeypatch.setattr(bounded, "_GRACE_SECONDS", 0.5)
    monkeypatch.setattr(transport, "_PAGE_SECONDS", 2.0)
    monkeypatch.setattr(transport, "_LISTING_SECONDS", 2.0)
    monkeypatch.setattr(transport, "_FILE_SECONDS", 2.0)
    monkeypatch.setattr(bounded, "_REST", Bounds(4 << 20, 2.0, 100_000))


# --- listings -------------------------------------------------------------------------------------

PAGES: dict[str, tuple[Act, str]] = {
    "one_page_without_end": (
        goes_on(HEAD.format("true").encode(), ENTRY.format("data/a").encode()),
        "more than 4,194,304 bytes",
    ),
    "white_space_without_end": (goes_on(HEAD.format("true").encode(), b" "), "more than 4,194,304 bytes"),
    "gigabytes_of_gzip": (
        says(gzip_of(1, HEAD.format("true").encode()), Content_Encoding="gzip"),
        "inflates to more than 4,194,304 bytes",
    ),
    "an_encoding_nobody_asked_for": (says(b"\x1b\x00", Content_Encoding="br"), "encoded as br"),
    "pages_for_ever": (new_pages(f"{PREFIX}{{:09}}"), "100 pages"),
    "large_pages_for_ever": (new_pages(f"{PREFIX}{{:09}}", 900), "50,000 keys"),
    "the_same_page_for_ever": (
        says(f"{HEAD.format('true')}{ENTRY.format(f'{PREFIX}a')}</ListBucketResult>".encode()),
        "does not go on",
    ),
    "an_empty_page_before_more": (
        says(f"{HEAD.format('true')}</ListBucketResult>".encode()),
        "more follows nothing",
    ),
    "a_byte_now_and_then": (drips(HEAD.format("true").encode(), 0.05), "slower than 1024 bytes a second"),
    "headers_now_and_then": (drips_headers(0.05), "slower than|longer than 2 s"),
    "silence": (lambda handler: time.sleep(4), "longer than 2 s"),
}


@pytest.mark.parametrize(("act", "why"), PAGES.values(), ids=PAGES)
def test_a_listing_beyond_its_bounds_is_an_error_of_its_folder(
    server: Hostile, hurried: None, act: Act, why: str
) -> None:
    server.acts = [("", act)]
    began = time.monotonic()
    with pytest.raises(ListingBoundsError, match=why) as told:
        list(ArchiveClient(server.url, "bucket").objects(PREFIX))
    assert isinstance(told.value, FetchError), "which is one market's, not the archive's"
    assert PREFIX in str(told.value)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    "page",
    [
        b"<a/>" * 500_000,
        b"<!DOCTYPE a [<!ENTITY a '"
        + b"x" * 1000
        + b"'>]><ListBucketResult>"
        + b"&a;" * 100_000
        + b"</ListBucketResult>",
        "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a []><ListBucketResult/>".encode("utf-16"),
        b"<ListBucketResult " + b" ".join(b"a%d=''" % n for n in range(100_000)) + b"/>",
        b"<a>" * 30_000,
        f"{HEAD.format('false')}{ENTRY.format('k').replace('<Size>9', f'<Size>{chr(57) * 10_000}')}</ListBucketResult>".encode(),
    ],
    ids=["elements", "entities", "utf16", "attributes", "depth", "digits"],
)
def test_a_page_that_would_be_large_in_memory_is_no_listing(server: Hostile, page: bytes) -> None:
    server.acts = [("", says(page))]
    with pytest.raises(ListingUnreachableError, match="no listing"):
        list(ArchiveClient(server.url, "bucket").objects(PREFIX))


def test_what_a_page_says_is_quoted_without_what_a_terminal_obeys(server: Hostile) -> None:
    server.acts = [("", says(b"\x1b[2J\x1b]0;owned\x07<x>\xc2\x9b31m", 404))]
    with pytest.raises(ListingUnreachableError) as told:
        list(ArchiveClient(server.url, "bucket").objects(PREFIX))
    assert str(told.value).isprintable()
    assert r"\x1b[2J" in str(told.value)


def test_folders_are_bounded_too(server: Hostile) -> None:
    folder = "<CommonPrefixes><Prefix>data/{}/</Prefix></CommonPrefixes>"
    server.acts = [
        (
            "",
            says(
                f"{HEAD.format('true')}<NextContinuationToken>t</NextContinuationToken>{folder.format('a')}</ListBucketResult>".encode()
            ),
        )
    ]
    with pytest.raises(ListingBoundsError, match="does not go on"):
        ArchiveClient(server.url, "bucket").folders("data/")


# --- files ----------------------------------------------------------------------------------------


def head(handler: Handler, size: int) -> None:
    handler.begin({"Content-Length": size, "ETag": '"e"', "Last-Modified": "Wed, 01 May 2024 00:00:00 GMT"})


def gigabytes(handler: Handler) -> None:
    head(handler, 10_000_000_000)
    for _ in range(10_000 if handler.command == "GET" else 0):
        handler.wfile.write(b"x" * 1_000_000)


def chunked(handler: Handler) -> None:
    handler.begin(
        {"Transfer-Encoding": "chunked", "ETag": '"e"', "Last-Modified": "Wed, 01 May 2024 00:00:00 GMT"}
    )
    for _ in range(10_000 if handler.command == "GET" else 0):
        handler.wfile.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")


def small(handler: Handler) -> None:
    head(handler, 100)
    if handler.command == "GET":
        handler.wfile.write(b"x" * 100)


def drop(handler: Handler) -> None:
    head(handler, 100_000)
    for _ in range(10_000 if handler.command == "GET" else 0):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


ENDLESS = {"ten_gigabytes": gigabytes, "chunks_without_end": chunked}
# of listed size, nothing but the disk holds it there
WAYS = [(name, way) for name in ENDLESS for way in ("s5cmd", "http")] + [
    ("chunks_without_end", "s5cmd_without_a_limit")
]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_body_far_beyond_what_was_listed_fills_no_disk_and_is_one_error(
    server: Hostile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, way: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(transport, "_TRIES", 1)
    if way == "s5cmd_without_a_limit":
        monkeypatch.delattr("lakehouse.sources.files.batch.resource.prlimit")
    if way != "http":
        monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    server.acts = [("hostile", ENDLESS[name]), ("sound", small)]
    keys = ["data/hostile.zip", "data/sound1.zip", "data/sound2.zip"]
    with Batch(ArchiveClient(server.url, "bucket"), keys, sizes=dict.fromkeys(keys, 100)) as batch:
        assert [batch.wait(key).body for key in keys[1:]] == [b"x" * 100] * 2
        with pytest.raises(FetchError, match=r"data/hostile\.zip could not be fetched"):
            batch.wait(keys[0])
        taken = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert taken < 1_000_000, "bytes on the disk"


def test_what_is_not_like_its_listing_is_not_taken_into_memory(server: Hostile) -> None:
    server.acts = [("", lambda handler: (head(handler, 300_000), handler.wfile.write(b"x" * 300_000))[0])]
    for sizes, why in (
        ({"a.zip": 100}, r"300,000 bytes, more than the 65,736"),
        ({"a.zip.CHECKSUM": 95}, r"300,000 bytes, more than the 4,096"),
    ):
        with (
            Batch(ArchiveClient(server.url, "bucket"), list(sizes), sizes=sizes) as batch,
            pytest.raises(FetchError, match=why),
        ):
            batch.wait(*sizes)


@pytest.mark.parametrize("way", ["s5cmd", "http"])
def test_a_file_that_comes_drop_by_drop_is_given_up(
    server: Hostile, hurried: None, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("lakehouse.sources.files.batch._STALLED_AFTER", 1.0)
    if way == "s5cmd":
        monkeypatch.setattr("lakehouse.sources.files.batch._FEW", 0)
    server.acts = [("hostile", drop), ("sound", small)]
    began = time.monotonic()
    with Batch(ArchiveClient(server.url, "bucket"), ["data/hostile.zip", "data/sound.zip"]) as batch:
        assert batch.wait("data/sound.zip").body == b"x" * 100
        with pytest.raises(FetchError):
            batch.wait("data/hostile.zip")
    assert time.monotonic() - began < 12


def test_a_file_that_is_listed_as_too_large_is_not_even_asked_for(
    folder: ArchiveFolder, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("2024-02", text(klines("2024-02-01", 1440)))
    folder.put("2024-02-01", text(klines("2024-02-01", 1440)))
    monkeypatch.setattr(
        "lakehouse.sources.files.reader.MOST_ZIPPED", (folder.root / folder.key("2024-02-01")).stat().st_size
    )
    (folder.root / folder.key("2024-02")).write_bytes(b"x" * 10_000_000)
    with serve(folder) as sim:
        listing = reading.listing(sim)
        with (
            reading.reader(sim) as reader,
            pytest.raises(
                ListedTooLargeError, match=r"BTCUSDT-1m-2024-02.zip is listed with 10,000,000 bytes"
            ),
        ):
            reader.read(listing.file("2024-02"))
        assert not [path for _, path in sim.requests if path.endswith("2024-02.zip")]
        record = reading.ingest(sim)
    assert record is not None
    assert (record.rows, [problem.kind for problem in record.facts.problems]) == (1440, ["corrupt"]), (
        "the day stands in for the month"
    )


LINE = klines("2024-02-01", 1)[0].encode()


@pytest.mark.parametrize(
    "csv",
    [
        LINE + b"\n" + b",,,,,,,,,,,\n" * 4_000_000,
        (LINE + b"\n") * 300_000,
        b"\n" * 40_000_000,
        LINE + b"\n" + b" \n" * 20_000_000,
        HEADER.encode() + b"\n" + b"0,0,0,0,0,0,0,0,0,0,0,0\n" * 2_000_000,
    ],
    ids=["commas", "lines", "newlines", "blanks", "zeros"],
)
def test_more_lines_than_a_month_has_are_no_rows(csv: bytes) -> None:
    began = time.process_time()
    with pytest.raises(CsvTooLongError, match="more than 200,000 lines"):
        parse_klines("k.zip", csv, "spot")
    assert time.process_time() - began < 3


@pytest.mark.parametrize("way", ["listing", "rest", "file"])
def test_a_byte_every_five_seconds_is_given_up_within_two_minutes(
    server: Hostile, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By the real bounds."""

    def slow(handler: Handler) -> None:
        head(handler, 100_000)
        for _ in range(60 if handler.command == "GET" else 0):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(5)

    server.acts = [("", slow)]
    began = time.monotonic()
    with pytest.raises((FetchError, RestUnreachableError)):
        WAYS[way](server.url)
    assert time.monotonic() - began < 125


# --- REST -----------------------------------------------------------------------------------------

JSON = {"Content_Type": "application/json"}
ANSWERS: dict[str, tuple[Act, str]] = {
    "gzip": (says(gzip_of(3), Content_Encoding="gzip", **JSON), "inflates to more than 4,194,304 bytes"),
    "deflate": (
        says(gzip_of(3, form="deflate"), Content_Encoding="deflate", **JSON),
        "inflates to more than",
    ),
    "raw_deflate": (
        says(gzip_of(3, form="raw"), Content_Encoding="deflate", **JSON),
        "inflates to more than",
    ),
    "gzip_within_gzip": (says(gzip_of(0.01), Content_Encoding="gzip, gzip", **JSON), "encoded as gzip, gzip"),
    "many_small_gzips": (
        says(gzip.compress(bytes(20_000)) * 300, Content_Encoding="gzip", **JSON),
        "inflates to more than",
    ),
    "brotli": (says(b"\x5b\xff\xff\x7f", Content_Encoding="br", **JSON), "encoded as br"),
    "zstd": (says(b"\x28\xb5\x2f\xfd", Content_Encoding="zstd", **JSON), "encoded as zstd"),
    "an_encoding_with_an_escape": (says(b"x", Content_Encoding="\x9b31m", **JSON), r"encoded as \\x9b31m"),
    "without_end": (goes_on(b"[", b"1,", **JSON), "more than 4,194,304 bytes"),
    "chunks_without_end": (chunked, "more than 4,194,304 bytes"),
    "gigabytes_by_its_length": (gigabytes, "more than 4,194,304 bytes"),
    "a_million_lists": (says(b"[" + b"[]," * 1_000_000 + b"[]]", **JSON), "more than 100,000 values"),
    "a_byte_now_and_then": (drips(b"[", 0.05, **JSON), "slower than 1024 bytes a second"),
    "headers_now_and_then": (drips_headers(0.05), "slower than|longer than"),
}


def asking(server: Hostile) -> RestClient:
    return RestClient(Binance(None, server.url).rest_api("spot"), sleep=lambda seconds: None)


def told_time(handler: Handler) -> None:
    says(json.dumps({"serverTime": int(NOW.timestamp()) * 1000}).encode(), **JSON)(handler)


@pytest.mark.parametrize(("act", "why"), ANSWERS.values(), ids=ANSWERS)
def test_a_rest_answer_beyond_its_bounds_is_left_and_told(
    server: Hostile, hurried: None, act: Act, why: str
) -> None:
    server.acts = [("/time", told_time), ("exchangeInfo", says(b'{"symbols":[]}', **JSON)), ("klines", act)]
    began, api = time.monotonic(), asking(server)
    with pytest.raises(RestUnreachableError, match=why) as told:
        candles_by(api, BTC, MINUTE, SPAN)
    assert time.monotonic() - began < 6
    assert str(told.value).isprintable()
    assert len([path for path in server.asked if "klines" in path]) == 1, (
        "four times as much would be no better"
    )


@pytest.mark.parametrize("name", ["gzip", "without_end", "chunks_without_end", "zstd"])
def test_a_description_of_all_markets_is_bounded_too(server: Hostile, name: str) -> None:
    server.acts = [("exchangeInfo", ANSWERS[name][0])]
    with pytest.raises(OSError, match=r"more than|encoded as") as told:
        describe(Binance(None, server.url).rest_api("spot"))
    assert beyond_bounds(told.value)


def test_what_stays_within_bounds_comes_through_whatever_way_it_is_sent(server: Hostile) -> None:
    body = json.dumps(list(range(10_000))).encode()
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    sent: list[tuple[bytes, dict[str, Any]]] = [
        (body, {}),
        (gzip.compress(body), {"Content_Encoding": "gzip"}),
        (gzip.compress(body[:100]) + gzip.compress(body[100:]), {"Content_Encoding": "GZip"}),
        (zlib.compress(body), {"Content_Encoding": "deflate"}),
        (raw.compress(body) + raw.flush(), {"Content_Encoding": "deflate"}),
        (body, {"Content_Encoding": "identity"}),
    ]
    asking = session(lambda url: Bounds(len(body), values=10_000))
    for content, headers in sent:
        server.acts = [("", says(content, **headers))]
        assert asking.get(server.url, timeout=5).json() == list(range(10_000))
    server.acts = [("", says(gzip.compress(body)[:-20], Content_Encoding="gzip"))]
    with pytest.raises(OSError, match="ends too early") as told:
        asking.get(server.url, timeout=5)
    assert not isinstance(told.value.__cause__, BoundError), "such an answer may be better the next time"


def test_a_web_page_of_megabytes_is_told_in_no_time(server: Hostile) -> None:
    server.acts = [("", says(b"<html>" + b"<script " * 400_000))]
    began = time.process_time()
    with pytest.raises(RestUnreachableError, match="a web page in place of JSON"):
        asking(server).ask_time()
    assert time.process_time() - began < 4


# --- other hosts ----------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Hostile]:
    """Another host, which must not be asked."""
    with hostile() as listening:
        listening.acts = [("", says(b"stolen"))]
        yield listening


def list_it(url: str) -> object:
    return list(ArchiveClient(url, "bucket").objects(PREFIX))


def fetch_it(url: str) -> object:
    with Batch(ArchiveClient(url, "bucket"), ["data/a.zip"]) as batch:
        return batch.wait("data/a.zip")


def ask_rest(url: str) -> object:
    return RestClient(Binance(None, url).rest_api("spot"), sleep=lambda seconds: None).ask_time()


WAYS: dict[str, Callable[[str], object]] = {
    "listing": list_it,
    "file": fetch_it,
    "rest": ask_rest,
    "info": lambda url: describe(Binance(None, url).rest_api("spot")),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("way", WAYS)
def test_no_redirect_leads_to_another_host(
    server: Hostile, elsewhere: Hostile, monkeypatch: pytest.MonkeyPatch, way: str, status: int
) -> None:
    monkeypatch.setattr(transport, "_TRIES", 1)
    # tests may not connect there from Python, where it takes another port alone
    with hostile(host="127.0.0.2") as neighbour:
        neighbour.acts = elsewhere.acts
        server.acts = [("", sends_on(f"{neighbour.url if way == 'file' else elsewhere.url}{{path}}", status))]
        with pytest.raises((FetchError, ListingUnreachableError, RestUnreachableError, OSError)):
            WAYS[way](server.url)
        assert (len(server.asked) > 0, elsewhere.asked, neighbour.asked) == (True, [], [])


@pytest.mark.parametrize(
    "target",
    [
        "//127.0.0.2:{port}/x",
        "http://127.0.0.1:{other}/x",
        "http://127.0.0.1@127.0.0.2:{port}/x",
        "https://127.0.0.2/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
    ],
)
def test_no_spelling_of_another_host_is_taken_for_the_same(
    server: Hostile, elsewhere: Hostile, target: str
) -> None:
    server.acts = [
        (
            "",
            sends_on(
                target.replace("{port}", str(server.server_port)).replace(
                    "{other}", str(elsewhere.server_port)
                )
            ),
        )
    ]
    with pytest.raises(OSError, match="another host than was asked"):
        session(lambda url: Bounds(1000)).get(server.url, timeout=5)
    assert (len(server.asked), elsewhere.asked) == (1, [])


def test_a_redirect_from_https_to_http_is_none() -> None:
    for here, there, follows in (
        ("https://host/a", "http://host/a", False),
        ("https://host/a", "http://host:443/a", False),
        ("http://host/a", "https://host/b", True),
        ("http://host/a", "/b", True),
        ("http://host:8080/a", "https://host/b", False),
    ):
        answer = bounded.requests.Response()
        answer.status_code, answer.url, answer.headers["Location"] = 302, here, there
        if follows:
            assert session(lambda url: Bounds(1)).get_redirect_target(answer) == there
        else:
            with pytest.raises(OSError, match="another host"):
                session(lambda url: Bounds(1)).get_redirect_target(answer)


def test_a_redirect_within_the_host_is_followed_and_not_for_ever(server: Hostile) -> None:
    server.acts = [("/end", says(b"here")), ("/begin", sends_on("/end")), ("/loop", sends_on("/loop"))]
    asking = session(lambda url: Bounds(1000))
    assert asking.get(f"{server.url}/begin", timeout=5).content == b"here"
    with pytest.raises(bounded.requests.TooManyRedirects):
        asking.get(f"{server.url}/loop", timeout=5)
    assert len(server.asked) == 6


def test_the_tool_is_kept_to_the_host_unless_a_proxy_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """s5cmd reaches this very machine without a proxy, so it is shown by what it is given."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    assert ArchiveClient("https://archive.example", "b").only_host == "archive.example"
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert ArchiveClient("https://archive.example", "b").only_host == ""
    monkeypatch.setenv("no_proxy", "archive.example")
    assert ArchiveClient("https://archive.example", "b").only_host == "archive.example"


# --- memory ---------------------------------------------------------------------------------------

MEASURED = """
import re, sys, time
from pathlib import Path
import polars
from lakehouse.sources.files.transport import ArchiveClient
from lakehouse.sources.files.batch import Batch
from lakehouse.exchanges.binance import Binance
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.describing import describe
from lakehouse.model.errors import LakehouseError
from lakehouse.sources.files.zips import extract_csv
from lakehouse.model.market import Market
from urllib.request import urlopen
url = sys.argv[1]
def fetch(key):
    with Batch(ArchiveClient(url, "bucket"), [key], sizes={key: 100}) as batch:
        batch.wait(key)
for name in sys.argv[2:]:
    base, began = f"{url}/{name}", time.monotonic()
    try:
        {"page": lambda: list(ArchiveClient(base, "bucket").objects("data/")),
         "file": lambda: fetch(f"{name}.zip"),
         "csv": lambda: Binance().files["bronze/candle_archive"].parse(Market.parse("binance-spot:BTCUSDT"), "k/a.zip", extract_csv("k/a.zip", urlopen(base).read())),
         "info": lambda: describe(Binance(None, base).rest_api("spot")),
         "rest": lambda: RestClient(Binance(None, base).rest_api("spot"), sleep=lambda s: None).ask_time()}[name.split("-")[0]]()
        said = "taken"
    except (LakehouseError, OSError) as error:
        said = str(error)[:100]
    finally:
        print(name, int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024, round(time.monotonic() - began, 1), said)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="the peak is read there: what getrusage tells includes the parent's",
)
def test_no_bomb_takes_more_than_400_mb(server: Hostile) -> None:
    full = b'{"symbols":[' + b'{"a":"bcdefgh"},' * 330_000
    acts: dict[str, Act] = {
        "page-endless": PAGES["one_page_without_end"][0],
        "page-gzip": PAGES["gigabytes_of_gzip"][0],
        "page-pages": PAGES["large_pages_for_ever"][0],
        "page-elements": says(b"<ListBucketResult>" + b"<a/>" * 39_000 + b"x" * 4_000_000),
        "file-gigabytes": gigabytes,
        "rest-gzip": ANSWERS["gzip"][0],
        "rest-chunks": chunked,
        "info-gzip": says(gzip_of(3), Content_Encoding="gzip", **JSON),
        "info-values": says(full + b"{}]}", **JSON),
        "csv-commas": says(zipped(("a.csv", LINE + b"\n" + b",,,,,,,,,,,\n" * 5_000_000))),
        "csv-wide": says(zipped(("a.csv", (LINE + b"\n") * 200_000 + b" " * 30_000_000))),
        "csv-zeros": says(zipped(("a.csv", bytes(60_000_000)))),
        "info-text": says(b'{"symbols":["' + b"x" * 24_000_000 + b'"]}', **JSON),
    }
    server.acts = [(f"/{name}", act) for name, act in acts.items()]
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, server.url, *acts],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "ALL_PROXY": ""},
        check=False,
    )
    told = [line.split(" ", 3) for line in ran.stdout.splitlines()]
    assert [line[0] for line in told] == list(acts), ran.stderr[-2000:]
    assert max(int(line[1]) for line in told) < 400, ran.stdout
    assert max(float(line[2]) for line in told) < 20, ran.stdout
