"""A REST API that answers what a test puts into its mouth: bodies that no simulated exchange would send."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lakehouse.datasets.candle import CandleApi
from lakehouse.exchanges.binance.klines import KlinePages
from lakehouse.model.interval import Interval
from lakehouse.model.market import Market
from lakehouse.model.timerange import TimeRange
from lakehouse.sources.rest.client import RestClient
from lakehouse.sources.rest.rows import RestAnswer, RowReader
from lakehouse_tests.making import NOW, kline


def candles_by(
    client: RestClient, market: Market, interval: Interval, span: TimeRange, bracket: bool = False
) -> RestAnswer:
    """Candles of any length by a client, with those on both sides of the range if `bracket`."""
    return RowReader(client, CandleApi, KlinePages(interval), market).read(span, bracket, bracket)


Answer = tuple[int, Any]
"""Status and body: bytes as they are, anything else as JSON."""
INFO = {
    "rateLimits": [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
    ],
    "symbols": [],
}
PORTAL = b"<html><head><title>Guest Wi-Fi</title><script>go()</script></head><body>Please <b>log in</b> to go on.</body></html>"


def milliseconds(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000


def row(time: datetime, *changed: tuple[int, Any], price: float = 100.0) -> list[Any]:
    """A candle as REST gives it, with some of its fields changed."""
    fields = kline(time, price).split(",")
    values: list[Any] = [int(value) if number in (0, 6, 8) else value for number, value in enumerate(fields)]
    for number, value in changed:
        values[number] = value
    return values


class Canned:
    """What the API answers, by endpoint, and what it was asked.

    Attributes:
        rows: Its candles, in the order in which it gives them; each request gets those of its range, up to
            its limit.
        answers: Called with the query in place of all this, by the endpoint's name.
        asked: Endpoints, in order.
        headers: Sent along with every answer.
    """

    def __init__(self) -> None:
        self.url = ""
        self.rows: list[Any] = []
        self.answers: dict[str, Callable[[Mapping[str, str]], Answer]] = {}
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}

    def says(self, endpoint: str, body: Any, status: int = 200) -> None:
        """Answer so from now on."""
        self.answers[endpoint] = lambda query: (status, body)

    def answer(self, path: str, query: Mapping[str, str]) -> Answer:
        endpoint = path.rsplit("/", 1)[-1]
        self.asked.append(endpoint)
        if endpoint in self.answers:
            return self.answers[endpoint](query)
        if endpoint == "time":
            return 200, {"serverTime": milliseconds(NOW)}
        if endpoint == "exchangeInfo":
            return 200, INFO
        start, end, limit = (
            int(query.get("startTime", 0)),
            int(query.get("endTime", 10**15)),
            int(query["limit"]),
        )
        found = [row for row in self.rows if not isinstance(row[0], int) or start <= row[0] <= end]
        return 200, found[:limit] if "startTime" in query else found[-limit:]


@contextmanager
def canned() -> Iterator[Canned]:
    """One that listens."""
    api = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            status, body = api.answer(url.path, dict(parse_qsl(url.query)))
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if sent.startswith(b"<") else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in api.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
