"""HTTP: one port that answers both as the bucket of each archive and as every REST API."""

import json
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from lakehouse.simulator.answering import REFUSALS, Answers, RestError
from lakehouse.simulator.archive import Archive, ArchiveObject
from lakehouse.simulator.faults import FaultPlan
from lakehouse.simulator.listing import BUCKET, ListingArgumentError, error_xml, listing_xml, location_xml

_XML, _JSON, _ZIP = "application/xml", "application/json", "application/zip"
_RANGE = re.compile(r"bytes=(?=-?\d)(?P<first>\d*)-(?P<last>\d*)")
_SKEW = timedelta(hours=1)
_SLOW_SECONDS = 0.2


class ExchangeServer(ThreadingHTTPServer):
    """The listening socket, what it serves, and a log of what it was asked."""

    daemon_threads = True
    # A downloader opens hundreds of connections at once; one that overflows the queue waits a second for its
    # next try.
    request_queue_size = 512

    def __init__(self, port: int, archive: Archive, apis: Sequence[Answers], faults: FaultPlan) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.archive = archive
        self.apis = apis
        self.faults = faults
        self.lock = threading.Lock()
        self.log: list[tuple[str, str]] = []
        self.sent = 0
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that stopping can end it."""
        with self.lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        with self.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End every connection that clients keep alive."""
        with self.lock:
            for connection in self._open:
                # The client may have closed it already.
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; defects in here are answered with status 500."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes | memoryview = b""
    content_type: str = _XML
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """Content-Length where it is not the body's: of a HEAD, or of a body that is cut."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "AmazonS3"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    @property
    def _exchange(self) -> ExchangeServer:
        return cast(ExchangeServer, self.server)

    def do_GET(self) -> None:
        """Answer with headers and body."""
        with self._exchange.lock:
            self._exchange.log.append((self.command, self.path))
        try:
            reply = self._reply()
        except (
            Exception
        ) as error:  # a client must see a defect in here as the server's error, not as a cut connection
            reply = _Reply(500, error_xml("InternalError", repr(error), self.path))
        self._send(reply)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _reply(self) -> _Reply:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
        if bucket != BUCKET:
            return self._rest(url.path, query)
        return self._object(key) if key else self._bucket(query)

    def _rest(self, path: str, query: Mapping[str, str]) -> _Reply:
        faults, apis = self._exchange.faults, self._exchange.apis
        api = next((own for own in apis if own.owns(path)), apis[0])
        for name, refused in api.refusals.items():
            is_hit = (
                faults.hits(name, path)
                if refused.count is None
                else faults.first_requests(name, path, refused.count)
            )
            if is_hit:
                faults.show(name, path)
                return _Reply(refused.status, refused.body, _JSON, refused.headers)
        ahead = timedelta(0)
        if faults.hits("clock_skew", path):
            faults.show("clock_skew", path)
            ahead = _SKEW
        try:
            answer, headers = api.answer(path, query, cast(Mapping[str, str], self.headers), ahead)
        except RestError as error:
            body = error.body if isinstance(error.body, bytes) else json.dumps(error.body).encode()
            return _Reply(error.status, body, _JSON, error.headers)
        return _Reply(200, json.dumps(answer, separators=(",", ":")).encode(), _JSON, headers)

    def _bucket(self, query: Mapping[str, str]) -> _Reply:
        if "location" in query:
            return _Reply(200, location_xml())
        if self.command == "HEAD":
            return _Reply(200, headers={"x-amz-bucket-region": "ap-northeast-1"})
        try:
            return _Reply(200, listing_xml(self._exchange.archive, query))
        except ListingArgumentError as error:
            return _Reply(400, error_xml("InvalidArgument", f"Provided {error} is not valid", ""))

    def _object(self, key: str) -> _Reply:
        faults = self._exchange.faults
        if faults.hits("slow", key):
            faults.show("slow", key)
            time.sleep(_SLOW_SECONDS)
        for name, refused in (
            ("unavailable", faults.hits("unavailable", key)),
            ("error_503", faults.first_requests("error_503", key, REFUSALS)),
        ):
            if refused:
                faults.show(name, key)
                return _Reply(503, error_xml("SlowDown", "Please reduce your request rate.", key))
        item = self._exchange.archive.served(key, self.command == "GET")
        if item is None:
            return _Reply(404, error_xml("NoSuchKey", "The specified key does not exist.", key))
        span = _span(self.headers.get("Range"), item.size)
        if span is None:
            return _Reply(
                416,
                error_xml("InvalidRange", "The requested range is not satisfiable", key),
                headers={"Content-Range": f"bytes */{item.size}"},
            )
        return self._transfer(item, *span)

    def _transfer(self, item: ArchiveObject, first: int, end: int) -> _Reply:
        partial = _RANGE.fullmatch(self.headers.get("Range", "")) is not None
        headers = {
            "ETag": f'"{item.etag}"',
            "Last-Modified": format_datetime(item.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if partial:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{item.size}"
        body = memoryview(b"" if self.command == "HEAD" else self._exchange.archive.body(item))[first:end]
        if self.command == "GET" and self._exchange.faults.first_requests("cut_transfer", item.key, 1):
            self._exchange.faults.show("cut_transfer", item.key)
            self.close_connection = True
            body = body[: len(body) // 2]
        return _Reply(206 if partial else 200, body, _ZIP, headers, end - first)

    def _send(self, reply: _Reply) -> None:
        self.send_response(reply.status)
        length = len(reply.body) if reply.length is None else reply.length
        for name, value in {
            "Content-Type": reply.content_type,
            "Content-Length": str(length),
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with self._exchange.lock:
                self._exchange.sent += len(reply.body)
            self.wfile.write(reply.body)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte, and the byte after the last, that a Range header asks for: everything without one, None if
    it asks for nothing that exists.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return 0, size
    if not found["first"]:
        first, end = max(0, size - int(found["last"])), size
    else:
        first, end = int(found["first"]), min(size, int(found["last"]) + 1) if found["last"] else size
    return (first, end) if first < end else None
