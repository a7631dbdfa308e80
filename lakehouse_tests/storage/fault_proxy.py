"""A loopback S3 endpoint in front of another one: passes requests on, and on request delays them, refuses
them, or is not there at all.
"""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DROP, CUT = 0, 1
_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_OF_CONNECTION = {"connection", "transfer-encoding", "content-length", "expect"}
# headers of one connection, not of the answer
_ENDS_HERE = ("connection", "transfer-encoding", "content-length", "date", "server")


@dataclass
class Fault:
    """An answer in place of the endpoint's own.

    Attributes:
        status: HTTP status; 0 drops the connection without an answer, `CUT` sends half of the true one first.
        code: S3's error code.
        message: S3's words.
        methods: Which requests; all if empty.
        below: Which keys, by prefix; a listing counts by the prefix it asks for.
        times: How many requests are answered so; None for all.
        every: Of the requests it is about, every how many-th.
        headers: Further headers.
        fields: Further elements of the error document.
        after: Whether the endpoint behind does what it is asked, and only its answer is lost.
        within: The document around them.
        with_header: Only requests that have this header.
        spares: Requests that name this access key pass.
        as_json: Whether the error document is that of Glue.
        met: How many requests it was about.
        answered: How many were answered so.
    """

    status: int
    code: str
    message: str = "said by the fault proxy"
    methods: tuple[str, ...] = ()
    below: str = ""
    times: int | None = None
    every: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    after: bool = False
    within: str = "<Error>{}<RequestId>1</RequestId></Error>"
    with_header: str = ""
    spares: str = ""
    as_json: bool = False
    met: int = 0
    answered: int = 0

    def meets(self, method: str, key: str, headers: Mapping[str, str]) -> bool:
        """Whether a request is answered by this fault; counted."""
        if (
            (self.methods and method not in self.methods)
            or (self.with_header and self.with_header not in headers)
            or (self.spares and f"Credential={self.spares}/" in headers.get("Authorization", ""))
            or not key.startswith(self.below)
            or self.answered == self.times
        ):
            return False
        self.met += 1
        self.answered += self.met % self.every == 0
        return self.met % self.every == 0

    @property
    def body(self) -> bytes:
        if self.as_json:
            return json.dumps({"__type": self.code, "Message": self.message}).encode()
        more = "".join(f"<{name}>{value}</{name}>" for name, value in self.fields.items())
        said = self.within.format(f"<Code>{self.code}</Code><Message>{self.message}</Message>{more}")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{said}'.encode()


def slow_down(times: int | None = None, every: int = 1) -> Fault:
    return Fault(503, "SlowDown", "Please reduce your request rate.", times=times, every=every)


def dropped(*methods: str, times: int | None = None) -> Fault:
    return Fault(DROP, "", methods=methods, times=times)


def cut(times: int | None = None) -> Fault:
    """Answers that end in the middle."""
    return Fault(CUT, "", methods=("GET",), times=times)


def expired() -> Fault:
    return Fault(400, "ExpiredToken", "The provided token has expired.")


def unknown_key() -> Fault:
    return Fault(
        403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
    )


def denied(below: str = "", *methods: str) -> Fault:
    return Fault(403, "AccessDenied", "Access Denied", methods, below)


def no_bucket() -> Fault:
    return Fault(404, "NoSuchBucket", "The specified bucket does not exist", fields={"BucketName": "lake"})


def redirected(region: str) -> Fault:
    """What a bucket of another region answers where it is asked by its name in the path."""
    said = "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint."
    return Fault(
        301,
        "PermanentRedirect",
        said,
        headers={"x-amz-bucket-region": region},
        fields={"Endpoint": f"s3.{region}.amazonaws.com", "Bucket": "lake"},
    )


def signed_for(region: str, expected: str) -> Fault:
    """What a region answers to a signature made for another one."""
    said = f"The authorization header is malformed; the region '{region}' is wrong; expecting '{expected}'"
    return Fault(400, "AuthorizationHeaderMalformed", said, fields={"Region": expected})


class FaultProxy:
    """The endpoint; a context manager.

    Args:
        upstream: Address of the endpoint behind it.
        bucket: The bucket whose keys faults name.

    Attributes:
        faults: Answers that are given now, the first that meets a request.
        delay: Seconds that every request waits.
        loses: Headers of requests that the endpoint behind does not see, in lower case.
        requests: Method and key of every request that came in.
        beside: Pairs of such requests of which one came while the other had no answer yet.
    """

    def __init__(self, upstream: str, bucket: str = "lake") -> None:
        self.bucket = bucket
        self.faults: list[Fault] = []
        self.delay = 0.0
        self.loses: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.beside: set[frozenset[tuple[str, str]]] = set()
        self._under_way: list[tuple[str, str]] = []
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._awaited: tuple[str, str, Fault] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "FaultProxy":
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Listen, on the same port as ever."""
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Drop all connections and refuse new ones."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self._lock:
            dropped, self._open = self._open, set()
        for connection in dropped:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Be an ordinary endpoint again."""
        if self._server is None:
            self.up()
        self.faults, self.delay, self.loses, self._awaited = [], 0.0, set(), None
        self.requests.clear()
        self.beside.clear()

    @contextlib.contextmanager
    def saying(self, *faults: Fault) -> Iterator[None]:
        """Answer with faults for a while."""
        before, self.faults = self.faults, [*faults, *self.faults]
        try:
            yield
        finally:
            self.faults = before

    def once(self, method: str, below: str, fault: Fault) -> None:
        """Answer with a fault from the first such request on."""
        self._awaited = (method, below, fault)

    @contextlib.contextmanager
    def answering(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> Iterator[Fault | None]:
        """The fault that a request meets, counted; until it is answered, the request is under way."""
        parts = urlsplit(target)
        key = (
            unquote(parts.path).removeprefix(f"/{self.bucket}").lstrip("/")
            or parse_qs(parts.query).get("prefix", [""])[0]
        )
        of_many = _KEY.search(body) if parts.query == "delete" else None
        if of_many:
            method, key = "DELETE", of_many[1].decode()
        with self._lock:
            self.requests.append((method, key))
            self.beside.update(frozenset({(method, key), other}) for other in self._under_way)
            self._under_way.append((method, key))
            if self._awaited and method == self._awaited[0] and key.startswith(self._awaited[1]):
                self.faults.insert(0, self._awaited[2])
                self._awaited = None
            fault = next((fault for fault in self.faults if fault.meets(method, key, headers)), None)
        # what is refused of a deletion of many is said of each
        if fault is not None and of_many and fault.code == "AccessDenied":
            of_one = f"<DeleteResult><Error><Key>{key}</Key>{{}}</Error></DeleteResult>"
            fault = replace(fault, status=200, within=of_one)
        try:
            yield fault
        finally:
            with self._lock:
                self._under_way.remove((method, key))

    def connected(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def forward(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer of the endpoint behind."""
        client = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            client.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in _OF_CONNECTION | self.loses:
                    client.putheader(name, value)
            client.putheader("Content-Length", str(len(body)))
            client.endheaders(body)
            answer = client.getresponse()
            length = (
                [("Content-Length", answer.headers["Content-Length"])]
                if handler.command == "HEAD" and "Content-Length" in answer.headers
                else []
            )
            return (
                answer.status,
                [
                    *((name, value) for name, value in answer.getheaders() if name.lower() not in _ENDS_HERE),
                    *length,
                ],
                answer.read(),
            )
        finally:
            client.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that is killed, or a connection that is dropped, is what this is for."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            proxy.connected(self.connection)

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with proxy.answering(self.command, self.path, body, self.headers) as fault:
                time.sleep(proxy.delay)
                self.say(fault, body)

        def say(self, fault: Fault | None, body: bytes) -> None:
            self.close_connection = fault is not None and fault.status in (DROP, CUT)
            if fault is not None and fault.status == DROP:
                if fault.after:
                    proxy.forward(self, body)
                return
            if fault is not None and fault.status != CUT:
                status, headers, answer = (
                    fault.status,
                    [("Content-Type", "application/xml"), *fault.headers.items()],
                    fault.body,
                )
            else:
                status, headers, answer = proxy.forward(self, body)
            self.send_response(status)
            if not any(name.lower() == "content-length" for name, _ in headers):
                headers.append(("Content-Length", str(len(answer))))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer[: len(answer) // 2] if self.close_connection else answer)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = pass_on

        def log_message(self, *_: Any) -> None:
            """Requests are kept, not printed."""

    return Handler
