"""A webhook on this machine that keeps what it is sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """What was sent, and whether it is taken.

    Attributes:
        url: Its address, as apprise has it.
        got: The messages, oldest first.
        status: What it answers.
    """

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.url = ""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of a kind."""
        return [one for one in self.got if one["title"].startswith(f"lakehouse: {kind}")]


@contextmanager
def listening(path: str = "alerts") -> Iterator[Webhook]:
    """A webhook that listens."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if hook.status == 200:
                hook.got.append(json.loads(body))
            self.send_response(hook.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook.url = f"json://127.0.0.1:{server.server_address[1]}/{path}"
        yield hook
        server.shutdown()
