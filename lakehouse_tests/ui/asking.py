"""Asking an ASGI app in this process, as a browser or a program would."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

PORT = 3000
HOST = f"127.0.0.1:{PORT}"
JSON = ("Content-Type", "application/json")
FOREIGN = "http://evil.example"


@dataclass
class Answer:
    """What came back; the status of a WebSocket is 101 if it was accepted, else 403."""

    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


Headers = Iterable[tuple[str, str]]


def scope(
    method: str,
    address: str,
    headers: Headers = (),
    kind: str = "http",
    client: tuple[str, int] = ("127.0.0.1", 9),
) -> dict[str, Any]:
    """A request as ASGI describes it; it has the right Host unless another is stated."""
    (path, _, query), given = address.partition("?"), list(headers)
    if not any(name.lower() == "host" for name, _ in given):
        given = [("Host", HOST), *given]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in given if value != "(none)"]
    about = {
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "client": client,
        "server": ("127.0.0.1", PORT),
    }
    more = (
        {"method": method, "scheme": "http"}
        if kind == "http"
        else {"subprotocols": ["graphql-ws"], "scheme": "ws"}
    )
    return {"type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "headers": raw, **about, **more}


def ask(
    app: Any,
    method: str,
    address: str,
    headers: Headers = (),
    body: bytes = b"",
    kind: str = "http",
    client: tuple[str, int] = ("127.0.0.1", 9),
) -> Answer:
    """One request, answered."""
    said: list[Any] = []
    sent: Sequence[Any] = (
        [{"type": "http.request", "body": body, "more_body": False}]
        if kind == "http"
        else [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    )
    waiting = iter(sent)

    async def receive() -> Any:
        return next(waiting, {"type": f"{kind}.disconnect"})

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(app(scope(method, address, headers, kind, client), receive, send))
    if kind == "websocket":
        return Answer(101 if said[0]["type"] == "websocket.accept" else 403, [], "")
    start = next(message for message in said if message["type"] == "http.response.start")
    text = b"".join(
        message.get("body", b"") for message in said if message["type"] == "http.response.body"
    ).decode("utf-8", "replace")
    return Answer(
        start["status"], [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]], text
    )
