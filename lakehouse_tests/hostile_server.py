"""A server that stands before an exchange and answers what a test wants it to, without manners and without an
end.
"""

import http.client
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Act = Callable[["Handler"], None]
HEAD = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>{}</IsTruncated>'
ENTRY = "<Contents><Key>{}</Key><LastModified>2024-03-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>9</Size></Contents>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Hostile"

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.asked.append(path)
        for pattern, act in self.server.acts:
            if re.search(pattern, path):
                self.close_connection = True
                try:
                    act(self)
                except OSError:  # whoever asked has had enough
                    self.server.left.append(path)
                return
        self.forward()

    do_HEAD = do_GET

    def forward(self) -> None:
        if not self.server.behind:
            self.send_error(404)
            return
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.server.behind).port)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        self.begin(
            {name: value for name, value in answer.getheaders() if name.lower() not in ("date", "server")},
            answer.status,
        )
        self.wfile.write(body)

    def begin(self, headers: dict[str, Any], status: int = 200) -> None:
        self.send_response(status)
        for name, value in (({"Connection": "close"} if self.close_connection else {}) | headers).items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Hostile(ThreadingHTTPServer):
    """The server.

    Attributes:
        acts: What is done with a request in whose path a pattern is found; the others are passed on.
        asked: Paths, in order.
        left: Paths of requests that were given up by who asked.
    """

    daemon_threads = True

    def __init__(self, behind: str = "", host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.behind, self.acts, self.asked, self.left = (
            behind,
            list[tuple[str, Act]](),
            list[str](),
            list[str](),
        )
        self.url = f"http://{host}:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing of who went away."""


@contextmanager
def hostile(behind: str = "", host: str = "127.0.0.1") -> Iterator[Hostile]:
    """One that listens."""
    server = Hostile(behind, host)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# --- what it does ---------------------------------------------------------------------------------


def says(body: bytes, status: int = 200, **headers: Any) -> Act:
    """One answer, whole."""

    def act(handler: Handler) -> None:
        handler.begin(
            {
                "Content-Length": len(body),
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
            status,
        )
        handler.wfile.write(body)

    return act


def goes_on(start: bytes, again: bytes, **headers: Any) -> Act:
    """An answer that never ends; 10 GB at most."""

    def act(handler: Handler) -> None:
        handler.begin(
            {"Connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
        )
        handler.wfile.write(start)
        block = again * (1 + 1_000_000 // len(again))
        for _ in range(10_000_000_000 // len(block)):
            handler.wfile.write(block)

    return act


def drips(start: bytes, seconds: float, count: int = 10_000, **headers: Any) -> Act:
    """A byte every so often."""

    def act(handler: Handler) -> None:
        handler.begin(
            {"Content-Length": 10**6, **{name.replace("_", "-"): value for name, value in headers.items()}}
        )
        handler.wfile.write(start)
        for _ in range(count):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(seconds)

    return act


def drips_headers(seconds: float) -> Act:
    """A header every so often, and no body ever."""

    def act(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            handler.wfile.write(f"X-{number % 50}: x".encode())
            handler.wfile.flush()
            time.sleep(seconds)

    return act


def sends_on(target: str, status: int = 302) -> Act:
    """A redirect; `{path}` in the target is what was asked for."""
    return lambda handler: handler.begin(
        {"Location": target.format(path=handler.path), "Content-Length": 0}, status
    )


def new_pages(key: str, count: int = 3) -> Act:
    """A listing of which every page has keys that no other had, and says that more follow."""
    numbers = iter(range(10**9))

    def act(handler: Handler) -> None:
        entries = "".join(ENTRY.format(key.format(next(numbers))) for _ in range(count))
        body = f"{HEAD.format('true')}<NextContinuationToken>{next(numbers)}</NextContinuationToken>{entries}</ListBucketResult>".encode()
        says(body)(handler)

    return act


def gzip_of(gigabytes: float, first: bytes = b"[", form: str = "gzip") -> bytes:
    """A body that inflates to so much, made out of one block again and again."""
    window = {"gzip": -15, "deflate": -15, "raw": -15}[form]
    press = zlib.compressobj(9, zlib.DEFLATED, window)
    start = press.compress(first) + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(b" " * 1_000_000) + press.flush(zlib.Z_FULL_FLUSH)
    end = press.flush()
    raw = start + block * int(gigabytes * 1000) + end
    return {
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3" + raw + struct.pack("<II", 0, 0),
        "deflate": b"\x78\x9c" + raw + bytes(4),
        "raw": raw,
    }[form]
